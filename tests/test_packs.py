"""pack and unpack: fewer files, the same store, whatever happens meanwhile.

The judges are the reference's state, GNU tar, b3sum, rsync, and the plain bytes that were there before.

Spec: spec/packs.md.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3
from deaths import is_killed, kill_at
from packed_stores import codes, do, extracted, flip, logged, loose_of, packs_of, write_runs

from tracker import Durability, NotFoundError, Project, packing
from tracker._disk import durable
from tracker._store import segments
from tracker._store.index import Filter, Index
from tracker.check import Level, rebuild, repair, verify
from tracker.merge import merge
from tracker.packing import Packed, pack, unpack

SPEC = Path(__file__).resolve().parents[1] / "spec"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_runs(tmp_path / "s", range(1, 13))
    return tmp_path / "s"


# What it does


def test_packing_leaves_the_state_and_every_byte_as_they_were(
    root: Path, reference: ModuleType, tmp_path: Path
) -> None:
    before, files = reference.read_store(root), loose_of(root)
    done = do(root)

    assert isinstance(done, Packed)
    assert len(files) > 14
    assert [len(packs_of(root)), loose_of(root)] == [2, {}]
    assert sum(fold.loose for fold in done.folds) == len(files)
    assert extracted(root, tmp_path / "x") == files
    assert reference.read_store(root) == before
    assert codes(root) == set()


def test_a_pack_is_read_only_and_named_by_its_hash(root: Path) -> None:
    do(root)
    for path in packs_of(root):
        told = blake3(path.read_bytes()).hexdigest()
        if shutil.which("b3sum"):
            told = subprocess.run(
                ["b3sum", "--no-names", path], capture_output=True, text=True
            ).stdout.strip()
        assert path.stem == told[:16]
        assert path.stat().st_mode & 0o777 == 0o444


def test_a_finished_run_costs_one_file_beside_the_users(root: Path) -> None:
    do(root)
    store = [path for path in (root / ".tracker").rglob("*") if path.is_file()]
    params = [*root.glob("*/params.json")]

    assert len(store) == 3  # FORMAT and two packs
    assert len(params) == 12
    assert [*(root / ".tracker/manifests").iterdir()] == [p for p in packs_of(root) if "manifests" in str(p)]


def test_unpack_is_the_inverse(root: Path, reference: ModuleType) -> None:
    before, files = reference.read_store(root), loose_of(root)
    do(root)
    done = do(root, unpack)

    assert (done.files, done.left, len(done.packs)) == (len(files), {}, 2)
    assert (packs_of(root), loose_of(root)) == ([], files)
    assert reference.read_store(root) == before


def test_a_dry_run_tells_the_same_and_writes_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    plan = do(root, lambda ledger: pack(ledger, dry_run=True))

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert plan == do(root)


def test_to_pack_again_does_nothing(root: Path) -> None:
    do(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    assert do(root) == Packed([], 0)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_one_file_alone_stays_loose(tmp_path: Path) -> None:
    write_runs(tmp_path / "s", range(1, 2), seal_every=9)
    before = loose_of(tmp_path / "s")

    assert do(tmp_path / "s") == Packed([], 0)
    assert loose_of(tmp_path / "s") == before


def test_without_a_store_there_is_nothing_to_pack(tmp_path: Path) -> None:
    for verb in (pack, unpack):
        with pytest.raises(NotFoundError):
            verb(Project(tmp_path / "none").ledger)
    assert not (tmp_path / "none").exists()


def test_small_packs_are_folded_again_and_great_ones_stay(
    root: Path, reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(root)
    first = packs_of(root)
    write_runs(root, range(20, 30))
    files = extracted(root, tmp_path / "x")
    done = do(root)
    assert not set(first) & set(packs_of(root))
    assert sorted(p for fold in done.folds for p in fold.packs) == [
        p.relative_to(root / ".tracker").as_posix() for p in first
    ]
    monkeypatch.setattr(packing, "SMALL_BYTES", 1)
    second = packs_of(root)
    write_runs(root, range(40, 50))
    files |= loose_of(root)
    do(root)

    assert set(second) < set(packs_of(root))
    assert len(packs_of(root)) == 4
    assert (loose_of(root), extracted(root, tmp_path / "x")) == ({}, files)
    assert len(reference.read_store(root)["runs"]) == 32
    assert codes(root) == set()


def test_packs_are_cut_by_size(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = loose_of(root)
    monkeypatch.setattr(packing, "PACK_BYTES", 8000)
    do(root)

    assert len(packs_of(root)) > 3
    assert all(path.stat().st_size <= 8000 + 1024 for path in packs_of(root))
    assert extracted(root, tmp_path / "x") == files
    assert codes(root) == set()


def test_journals_and_what_a_sealed_file_hides_are_left(root: Path, reference: ModuleType) -> None:
    project = Project(root, durability=Durability.OFF, provenance=False)
    session = project.session("train", {"live": 1}).start()
    seg = next((root / ".tracker").glob("ledger/*/*-0-*.seg"))
    part = seg.with_name(f"{seg.name.rpartition('-')[0]}-{'0' * 16}.part")
    part.write_bytes(b"")
    before = reference.read_store(root)
    pack(project.ledger)

    assert len([*root.glob(".tracker/ledger/*/*.open")]) == 1
    assert part.exists()
    assert reference.read_store(root) == before
    session.done()
    part.unlink()


def test_a_hidden_part_in_a_pack_is_no_ghost_for_ever(tmp_path: Path, reference: ModuleType) -> None:
    """Packed while it counted; then the segment came from elsewhere."""
    root = tmp_path / "s"
    write_runs(root, range(1, 8))
    seg = min(root.glob(".tracker/ledger/*/*.seg"))
    data = seg.read_bytes()
    good = data[: reference.read_segment(data, True).frames[-1].offset]
    part = seg.with_name(f"{seg.name[: -len('-0123456789abcdef.seg')]}-{blake3(good).hexdigest()[:16]}.part")
    part.write_bytes(good)
    seg.rename(tmp_path / "kept")
    do(root)
    assert not part.exists()
    shutil.copy(tmp_path / "kept", seg)

    assert codes(root) == set()
    project = Project(root, provenance=False)
    assert repair(project.ledger).mended == []
    project.ledger.close()
    do(root)
    assert codes(root) == set()


# Readers see no difference


def test_an_index_still_covers_what_was_packed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(do(root, lambda ledger: ledger.find(Filter()))) == 12
    do(root)
    cleared: list[Index] = []
    monkeypatch.setattr(Index, "clear", cleared.append)
    monkeypatch.setattr(segments, "read_segment", None)  # nothing is read either
    for _ in range(2):
        assert len(do(root, lambda ledger: ledger.find(Filter()))) == 12

    assert cleared == []


def test_a_process_that_knows_the_loose_files_goes_on_through_pack_and_unpack(root: Path) -> None:
    reader = Project(root)
    assert len(reader.ledger.find(Filter())) == 12
    for verb in (pack, unpack, pack):
        if (pid := os.fork()) == 0:
            try:
                verb(Project(root).ledger)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert len(reader.ledger.find(Filter())) == 12
        assert verify(reader.ledger, Level.REPLAY).findings == []


@pytest.mark.parametrize("path", sorted(SPEC.glob("vectors/events/packed*.txt")), ids=lambda path: path.stem)
def test_the_package_reads_the_vectors(path: Path, tmp_path: Path, state_of: Callable[[Path], Any]) -> None:
    _, *sections = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    for head, _, rest in (section.partition("\n") for section in sections):
        if head.startswith("file: "):
            place = tmp_path / "v" / head.removeprefix("file: ")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes.fromhex(rest))
    (want,) = [json.loads(s.partition("\n")[2]) for s in sections if s.startswith("state:")]

    assert state_of(tmp_path / "v") == want


def test_there_are_vectors() -> None:
    assert len([*SPEC.glob("vectors/events/packed*.txt")]) >= 6


def test_a_listed_file_that_is_packed_before_it_is_read_is_read(root: Path) -> None:
    fd = os.open(root / ".tracker/ledger", os.O_RDONLY)
    listed = segments.list_segments(fd)
    want = {place.path: segments.read_bytes(fd, place) for place in listed}
    for verb in (pack, unpack):
        do(root, verb)
        found = {place.path: segments.read_segment(fd, place) for place in listed}
        assert all(one is not None and not one.damage for one in found.values())
        assert {place.path: segments.read_bytes(fd, place) for place in listed} == want
    os.close(fd)


# Copies


def test_rsync_and_merge_between_packed_and_loose_copies_is_their_union(
    root: Path, tmp_path: Path, reference: ModuleType
) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    do(root)
    write_runs(root, range(20, 26))
    write_runs(other, range(30, 36))
    for name, source, target in (("a", root, other), ("b", other, root)):
        copied, merged = tmp_path / f"rsync-{name}", tmp_path / f"merge-{name}"
        shutil.copytree(target, copied)
        shutil.copytree(target, merged)
        subprocess.run(["rsync", "-a", f"{source}/", f"{copied}/"], check=True)
        report = do(merged, lambda ledger, source=source: merge(ledger, source))
        assert report.damaged == []
        assert [line.path for line in report.skipped] == []
        assert reference.read_store(copied) == reference.read_store(merged)
        assert len(reference.read_store(merged)["runs"]) == 24
        for place in (copied, merged):
            assert codes(place) <= {"packed-twice"}
            do(place)
            assert (codes(place), loose_of(place)) == (set(), {})
    assert do(tmp_path / "merge-a", lambda ledger: merge(ledger, root)).copied == []


def test_a_second_merge_of_a_packed_store_takes_nothing(root: Path, tmp_path: Path) -> None:
    do(root)
    first = do(tmp_path / "t", lambda ledger: merge(ledger, root))
    second = do(tmp_path / "t", lambda ledger: merge(ledger, root))

    assert len(first.copied) > 16
    assert (second.copied, second.parts, second.repaired) == ([], [], [])


# Damage


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_damaged_member_costs_itself_and_merge_and_repair_mend_it(
    root: Path, tmp_path: Path, reference: ModuleType
) -> None:
    shutil.copytree(root, tmp_path / "copy")
    before = reference.read_store(root)
    do(root)
    ledger = next(path for path in packs_of(root) if "ledger" in str(path))
    flip(ledger, 700)
    assert len(do(root, lambda ledger: ledger.find(Filter(removed=None)))) > 6
    assert {"pack-damaged", "segment-damaged"} <= codes(root)
    project = Project(root)
    assert [mend for mend in repair(project.ledger).mended if mend.code == "pack"] == []
    project.ledger.close()
    assert ledger.exists()
    do(root, unpack)
    assert ledger.exists()

    report = do(root, lambda ledger: merge(ledger, tmp_path / "copy"))
    assert len(report.repaired) == 1
    assert reference.read_store(root) == before
    notes = {"packed-twice", "manifest-outdated"}  # repair wrote what the damaged segment implied
    assert codes(root) - notes == {"pack-damaged"}
    project = Project(root)
    assert [m.code for m in repair(project.ledger).mended] == ["pack"]
    project.ledger.close()
    assert not ledger.exists()
    do(root)
    assert (reference.read_store(root), codes(root) - notes) == (before, {"quarantined"})


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_damaged_pack_of_manifests_is_made_anew_from_the_ledger(root: Path) -> None:
    do(root)
    pack_ = next(path for path in packs_of(root) if "manifests" in str(path))
    flip(pack_, 700)
    assert {"pack-damaged", "manifest-damaged"} <= codes(root)
    project = Project(root)
    assert {m.code for m in repair(project.ledger).mended} == {"pack", "manifest"}
    assert repair(project.ledger).mended == []
    project.ledger.close()
    assert codes(root) == {"quarantined"}


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_pack_cut_anywhere_loses_only_what_is_behind_the_cut(
    root: Path, tmp_path: Path, reference: ModuleType, state_of: Callable[[Path], Any]
) -> None:
    do(root)
    (path,) = (p for p in packs_of(root) if "ledger" in str(p))
    whole = path.read_bytes()
    path.chmod(0o644)
    counts = set()
    for cut in range(0, len(whole), 1531):
        path.write_bytes(whole[:cut])
        want = reference.read_store(root)
        counts.add(len(want["runs"]))
        assert state_of(root) == want
    path.write_bytes(whole)

    assert len(counts) > 3
    assert len(state_of(root)["runs"]) == 12


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_damaged_loose_file_of_which_a_pack_has_the_bytes_is_told_and_set_aside(
    root: Path, reference: ModuleType
) -> None:
    files = loose_of(root)
    before = reference.read_store(root)
    do(root)
    for name in (min(files), max(files)):
        place = root / ".tracker" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"?" + files[name][1:])
    assert reference.read_store(root) == before
    assert codes(root) == {"packed-twice", "loose-damaged"}
    do(root)
    assert len(loose_of(root)) == 2
    project = Project(root)
    assert [m.code for m in repair(project.ledger).mended] == ["pack", "pack"]
    project.ledger.close()
    assert (codes(root), loose_of(root)) == ({"quarantined"}, {})


@pytest.mark.unchecked_store(reason="damaged on purpose")
def test_a_damaged_loose_file_is_not_packed(root: Path) -> None:
    path = next((root / ".tracker").glob("ledger/*/*.seg"))
    flip(path, 300)
    wrong = path.read_bytes()
    do(root)

    assert path.read_bytes() == wrong


def test_a_pack_that_goes_while_its_files_are_dropped_loses_nothing(
    root: Path, reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another host's unpack does at the worst moment."""
    before, files = reference.read_store(root), loose_of(root)
    real = durable.unlink_if_there

    def unlink(path: str, dir_fd: int) -> bool:
        for found in packs_of(root):
            found.unlink()
        return real(path, dir_fd)

    monkeypatch.setattr(durable, "unlink_if_there", unlink)
    do(root)
    monkeypatch.undo()

    assert (packs_of(root), loose_of(root)) == ([], files)
    assert reference.read_store(root) == before


def test_files_that_go_while_a_pack_is_unpacked_are_put_back(
    root: Path, reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another host's pack does at the worst moment."""
    before, files = reference.read_store(root), loose_of(root)
    do(root)
    real = durable.unlink_if_there

    def unlink(path: str, dir_fd: int) -> bool:
        for name in loose_of(root):
            (root / ".tracker" / name).unlink()
        return real(path, dir_fd)

    monkeypatch.setattr(durable, "unlink_if_there", unlink)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "iter_rooms", lambda fd: [m for m in _rooms(root) if m != "manifests"])
        do(root, unpack)
    monkeypatch.undo()

    segs = {name: data for name, data in files.items() if name.startswith("ledger")}
    assert loose_of(root) == segs
    assert reference.read_store(root) == before


def _rooms(root: Path) -> Iterator[str]:
    yield from (f"ledger/{path.name}" for path in (root / ".tracker/ledger").iterdir())


# Crashes

EACH = 1 if os.environ.get("TRACKER_STORM") else 2
"""Of so many steps one is that of a kill, beginning at any: each, if a longer storm is asked for."""

DEADLY = ("mkdir", "rmdir", "open", "write", "fsync", "close", "rename", "unlink", "stat")


def die(root: Path, verb: Callable[..., Any], number: int) -> bool:
    """Run a verb in a process that is killed at a step; True if it came to that."""

    def work() -> None:
        project = Project(root)
        kill_at(number, DEADLY)
        verb(project.ledger)

    return is_killed(work)


@pytest.mark.parametrize("name", ["pack", "pack again", "unpack"])
def test_killed_at_every_step_nothing_is_lost_and_again_completes(
    tmp_path: Path, reference: ModuleType, name: str
) -> None:
    made = tmp_path / "made"
    write_runs(made, range(1, 6), seal_every=2)
    write_runs(made, range(6, 7), logs=True)
    if name != "pack":
        do(made)
    if name == "pack again":
        write_runs(made, range(10, 13), seal_every=2)
    verb = unpack if name == "unpack" else pack
    state, files = reference.read_store(made), extracted(made, tmp_path / "x")
    kills = 0
    for number in itertools.count(random.randrange(EACH) + 1, EACH):
        root = tmp_path / str(number)
        shutil.copytree(made, root)
        was_killed = die(root, verb, number)
        assert reference.read_store(root) == state, f"{name} killed at step {number}"
        assert extracted(root, tmp_path / "x") == files, f"{name} killed at step {number}"
        if number // EACH % 8 == 0 or not was_killed:
            assert codes(root) <= {"packed-twice", "temporary"}, f"{name} killed at step {number}"
        do(root, verb)
        if verb is pack:
            assert (loose_of(root), len(packs_of(root))) == ({}, 3), f"{name} killed at step {number}"
        else:
            assert (packs_of(root), loose_of(root)) == ([], files), f"{name} killed at step {number}"
        assert extracted(root, tmp_path / "x") == files
        shutil.rmtree(root)
        if not was_killed:
            break
        kills += 1
    print(f"{name}: killed at {kills} steps")
    assert kills >= 100 // EACH


# Others at work


def fork_all(*works: Callable[[], object]) -> None:
    """Do all at once, each in a process of its own; every one must end well."""
    pids = []
    for work in works:
        if (pid := os.fork()) == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(works)


def test_packing_at_once_while_others_write_and_read_loses_nothing(
    tmp_path: Path, reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "s"
    write_runs(root, range(1, 20))
    monkeypatch.setattr(packing, "hold", _no_lock)  # as two hosts

    def work() -> None:
        for _ in range(6):
            do(root)

    def read() -> None:
        project = Project(root)
        for _ in range(30):
            refs = {run.params for run in project.ledger.find(Filter())}
            assert {f'{{"n":{n}}}' for n in range(1, 20)} <= refs

    fork_all(
        work, work, read, lambda: write_runs(root, range(20, 60)), lambda: write_runs(root, range(60, 99))
    )
    do(root)

    assert len(reference.read_store(root)["runs"]) == 98
    assert loose_of(root) == {}
    assert codes(root) == set()


class _no_lock:
    def __init__(self, path: str, *, wait_s: float) -> None: ...

    def __enter__(self) -> bool:
        return False

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_in_whatever_order_the_state_is_that_of_the_runs(
    tmp_path: Path, reference: ModuleType, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    luck = random.Random(seed)
    here, there = tmp_path / "a", tmp_path / "b"
    numbers = itertools.count(1)
    known: dict[Path, set[int]] = {here: set(), there: set()}
    monkeypatch.setattr(packing, "SMALL_BYTES", luck.choice([1, 6000, 1 << 24]))
    monkeypatch.setattr(packing, "PACK_BYTES", luck.choice([5000, 1 << 26]))

    def write(root: Path) -> None:
        some = [next(numbers) for _ in range(luck.randrange(1, 6))]
        write_runs(root, range(some[0], some[-1] + 1), seal_every=luck.choice([1, 2, 9]), logs=True)
        known[root].update(some)

    def copy(root: Path, by: str) -> None:
        other = there if root is here else here
        if by == "rsync":
            subprocess.run(["rsync", "-a", f"{other}/", f"{root}/"], check=True)
        else:
            do(root, lambda ledger: merge(ledger, other))
        known[root] |= known[other]

    def forget(root: Path) -> None:
        shutil.rmtree(os.environ["TRACKER_CACHE"], ignore_errors=True)

    acts: dict[str, Callable[[Path], object]] = {
        "write": write,
        "pack": lambda root: do(root),
        "unpack": lambda root: do(root, unpack),
        "rsync": lambda root: copy(root, "rsync"),
        "merge": lambda root: copy(root, "merge"),
        "rebuild": lambda root: do(root, rebuild),
        "repair": lambda root: do(root, repair),
        "forget": forget,
    }
    write(here)
    write(there)
    done = []
    for _ in range(30):
        root = luck.choice((here, there))
        done.append((luck.choice([*acts, "pack", "pack"]), root.name))
        acts[done[-1][0]](root)
        state = reference.read_store(root)
        assert {run["params"] for run in state["runs"]} == {f'{{"n":{n}}}' for n in known[root]}, done
        assert len(do(root, lambda ledger: ledger.find(Filter()))) == len(known[root]), done
        assert sorted(logged(root).values()) == [[n, n + 0.5] for n in sorted(known[root])], done
    for root in (here, there):
        assert codes(root) <= {"packed-twice"}, done
        assert reference.manifests(root).keys() == {
            name for name in extracted(root, tmp_path / "x") if name.startswith("manifests")
        }
