"""Metrics in packs: the same curves, whatever is packed, and nothing of a purged run in any of them.

The judges are the reference's curves, GNU tar, and the plain bytes that were there before.

Spec: spec/packs.md; spec/metrics.md sections 2, 5 and 7.
"""

from __future__ import annotations

import itertools
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from blake3 import blake3
from deaths import is_killed, kill_at
from packed_stores import codes, do, extracted, flip, logged, loose_of, packs_of, write_runs
from reference import tar_file, tar_members

from tracker import Durability, Project, StorageError, TrackerWarning
from tracker._disk import durable
from tracker.check import repair
from tracker.merge import merge
from tracker.packing import drop_members, pack, unpack
from tracker.trash.moves import remove
from tracker.trash.purge import gc

REF = "train/{}".format


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """Two numbers whose runs have one folder of metrics."""
    project = Project(tmp_path_factory.mktemp("none"))
    by_shard: defaultdict[str, list[int]] = defaultdict(list)
    for number in itertools.count(1):
        shard = by_shard[project.uid({"n": number})[:2]]
        shard.append(number)
        if len(shard) == 2:
            return shard[0], shard[1]
    raise AssertionError("there are 256 folders")


@pytest.fixture
def root(tmp_path: Path, neighbours: tuple[int, int]) -> Path:
    """Both, and another one."""
    write_runs(tmp_path / "s", range(1, 2), logs=True)
    for number in neighbours:
        write_runs(tmp_path / "s", range(number, number + 1), logs=True)
    return tmp_path / "s"


def ref_of(root: Path, number: int) -> str:
    return f"train/{Project(root).uid({'n': number})}"


def curve(root: Path, ref: str) -> list[float]:
    """As a user reads it, in a process's own words."""
    project = Project(root, provenance=False)
    try:
        return [float(value) for value in project.get(uid=ref[-32:]).metrics("loss").values]
    finally:
        project.ledger.close()


def metrics_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".tracker/metrics").glob("*/*"))


def test_a_curve_is_the_same_packed_and_unpacked(root: Path, tmp_path: Path) -> None:
    before, files = logged(root), loose_of(root)
    done = do(root)

    assert len(before) == 3
    assert {fold.pack.partition("/")[0] for fold in done.folds} == {"ledger", "metrics", "manifests"}
    assert loose_of(root) == {}
    assert len(list((root / ".tracker/metrics").glob("*/*.pack"))) == 2
    assert extracted(root, tmp_path / "x") == files
    assert (logged(root), codes(root)) == (before, set())
    for ref, values in before.items():
        assert curve(root, ref) == values
    do(root, unpack)
    assert (logged(root), loose_of(root), packs_of(root)) == (before, files, [])


def test_a_finished_run_that_logged_costs_its_params_alone(root: Path) -> None:
    do(root)
    store = [path for path in (root / ".tracker").rglob("*") if path.is_file()]

    assert len(store) == 1 + len(packs_of(root))  # FORMAT
    assert len([*root.glob("*/params.json")]) == 3


def test_a_process_goes_on_logging_while_others_pack(root: Path) -> None:
    project = Project(root, durability=Durability.OFF, provenance=False)
    session = project.session("train", {"n": 0}).start()
    for step in range(6):
        session.log(loss=100 + step, step=step)
        session.flush()
        verb = (pack, unpack, pack)[step % 3]
        assert not is_killed(lambda verb=verb: do(root, verb))  # type: ignore[misc]
        if step < 5:
            session.error()
            session.start()
    session.done()

    assert list(session.metrics("loss").values) == [100 + step for step in range(6)]
    assert session.summary["loss"]["count"] == 6
    project.ledger.close()
    assert len(logged(root)) == 4


def test_merge_takes_curves_from_packs_and_into_packed_stores(root: Path, tmp_path: Path) -> None:
    before = logged(root)
    do(root)
    do(tmp_path / "new", lambda ledger: merge(ledger, root))
    again = do(root, lambda ledger: merge(ledger, tmp_path / "new"))

    assert logged(tmp_path / "new") == before
    assert packs_of(tmp_path / "new") == []
    assert again.changes == 0
    assert loose_of(root) == {}
    assert codes(tmp_path / "new") == set()


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_damaged_pack_of_metrics_is_told_and_mended(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    before = logged(root)
    do(root)
    damaged = max((root / ".tracker/metrics").glob("*/*.pack"), key=lambda path: path.stat().st_size)
    flip(damaged, 1700)

    assert {"pack-damaged", "segment-damaged"} <= codes(root)
    with pytest.warns(TrackerWarning, match="metrics of"):
        assert {ref: curve(root, ref) for ref in before} == before  # what frames prove counts
    assert do(root, lambda ledger: merge(ledger, tmp_path / "copy")).changes == 1
    assert {ref: curve(root, ref) for ref in before} == before
    project = Project(root, provenance=False)
    assert [mend.code for mend in repair(project.ledger).mended] == ["pack"]
    project.ledger.close()
    do(root)
    assert (logged(root), codes(root)) == (before, {"quarantined"})


def test_a_pack_that_the_system_refuses_is_not_read_past(
    root: Path, neighbours: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    do(root)
    real = durable.open_file_fd

    def refuse(path: str, dir_fd: int) -> int:
        if path.endswith(".pack") and not path.startswith(("2", "manifests")):
            raise StorageError(5, path, "open", "Input/output error", "check the disk")
        return real(path, dir_fd)

    monkeypatch.setattr(durable, "open_file_fd", refuse)
    with pytest.raises(StorageError, match="Input/output error"):
        curve(root, ref_of(root, neighbours[0]))


# Purge


def forget(root: Path, number: int) -> None:
    """Remove a run and give it up."""
    project = Project(root, provenance=False)
    ref = ref_of(root, number)
    if not project.ledger.run(ref).removed:  # type: ignore[arg-type, union-attr]
        remove(project.ledger, ref)  # type: ignore[arg-type]
    gc(project.ledger, older_than_s=0.0)
    project.ledger.close()


def test_a_purge_leaves_nothing_in_any_pack_and_all_of_the_others(
    root: Path, neighbours: tuple[int, int], tmp_path: Path
) -> None:
    before = logged(root)
    gone = ref_of(root, neighbours[0])
    stem = gone[-30:]
    do(root)
    assert any(stem in name for name in extracted(root, tmp_path / "x"))
    forget(root, neighbours[0])

    left = extracted(root, tmp_path / "x")
    assert not any(stem in name for name in left if name.startswith("metrics"))
    assert logged(root) == {ref: values for ref, values in before.items() if ref != gone}
    assert codes(root) == set()
    forget(root, 1)
    assert list(logged(root)) == [ref_of(root, neighbours[1])]
    assert len(list((root / ".tracker/metrics").glob("*/*.pack"))) == 1


def test_what_a_copy_brings_back_goes_with_the_next_purge(
    root: Path, neighbours: tuple[int, int], tmp_path: Path
) -> None:
    do(root)
    shutil.copytree(root, tmp_path / "copy")
    gone = ref_of(root, neighbours[0])
    forget(root, neighbours[0])
    shutil.copytree(tmp_path / "copy/.tracker/metrics", root / ".tracker/metrics", dirs_exist_ok=True)
    assert gone in logged(root)
    project = Project(root, provenance=False)
    (purge,) = gc(project.ledger, older_than_s=0.0).purged
    project.ledger.close()

    assert purge.size_bytes > 100
    assert gone not in logged(root)
    assert ref_of(root, neighbours[1]) in logged(root)


@pytest.mark.unchecked_store(reason="damaged on purpose")
@pytest.mark.parametrize("what", ["damaged", "foreign"])
def test_a_pack_that_is_not_the_stores_alone_is_not_made_anew(
    root: Path, neighbours: tuple[int, int], what: str
) -> None:
    do(root)
    pack = max((root / ".tracker/metrics").glob("*/*.pack"), key=lambda path: path.stat().st_size)
    if what == "damaged":
        flip(pack, 1700)
    else:
        more = dict(tar_members(pack.read_bytes())) | {"metrics/mine.txt": b"mine"}
        pack.unlink()
        pack = pack.with_name(f"{blake3(tar_file(more)).hexdigest()[:16]}.pack")
        pack.write_bytes(tar_file(more))
    before = pack.read_bytes()
    forget(root, neighbours[0])

    assert pack.read_bytes() == before


def test_a_pack_made_anew_that_another_host_folds_meanwhile_loses_nothing(
    root: Path, neighbours: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logged(root)
    do(root)
    real = durable.unlink_if_there

    def unlink(path: str, dir_fd: int) -> bool:
        """With the old pack the new one goes: as where who folds has seen the old one only."""
        if path.endswith(".pack"):
            for other in (root / ".tracker").joinpath(path).parent.glob("*.pack"):
                real(f"{path.rpartition('/')[0]}/{other.name}", dir_fd)
        return real(path, dir_fd)

    monkeypatch.setattr(durable, "unlink_if_there", unlink)
    forget(root, neighbours[0])

    assert logged(root) == {r: v for r, v in before.items() if r != ref_of(root, neighbours[0])}


def test_nothing_is_dropped_where_nothing_is_asked_for(root: Path) -> None:
    do(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    do(root, lambda ledger: drop_members(ledger, []))
    do(root, lambda ledger: drop_members(ledger, ["metrics/a7/none"]))

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


DEADLY = ("open", "write", "fsync", "close", "rename", "unlink")


def test_a_purge_killed_at_every_step_costs_no_other_run_and_again_completes(
    root: Path, neighbours: tuple[int, int], tmp_path: Path
) -> None:
    do(root)
    kept = {ref: values for ref, values in logged(root).items() if ref != ref_of(root, neighbours[0])}
    do(root, lambda ledger: remove(ledger, ref_of(root, neighbours[0])))  # type: ignore[arg-type]
    for kills in itertools.count():
        copy = tmp_path / f"c{kills}"
        shutil.copytree(root, copy)

        def work(copy: Path = copy, number: int = kills + 1) -> None:
            project = Project(copy, provenance=False)
            kill_at(number, DEADLY)
            gc(project.ledger, older_than_s=0.0)

        was_killed = is_killed(work)
        there = logged(copy)
        assert {ref: there[ref] for ref in kept} == kept, f"killed at step {kills + 1}"
        do(copy, lambda ledger: gc(ledger, older_than_s=0.0))
        assert logged(copy) == kept, f"killed at step {kills + 1}"
        assert codes(copy) <= {"temporary", "torn"}
        shutil.rmtree(copy)
        if not was_killed:
            break
    print(f"killed at each of {kills} steps")
    assert kills >= 20
