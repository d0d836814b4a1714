"""`tracker merge` and plain `rsync -a` make the same history of two stores. Spec: spec/merge.md 2 and 3."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tracker import Durability, ExistingRun, Project, StorageMode
from tracker.merge import merge

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not here")


def rsync(source: Path, target: Path, *options: str) -> None:
    subprocess.run(["rsync", "-a", *options, f"{source}/", f"{target}/"], check=True)


def write_runs(root: Path, luck: random.Random) -> None:
    """Runs of both modes, of some params that other copies have too; some end, some do not."""
    project = Project(root, durability=Durability.OFF)
    for _ in range(luck.randrange(4, 9)):
        mode = luck.choice(list(StorageMode))
        strategy = luck.choice(list(ExistingRun))
        place = luck.choice((project, project.sub("grid/a")))
        session = place.session("train", {"n": luck.randrange(6)}, strategy, mode)
        if session.status == "running":
            continue
        session.start()
        session.path("model.bin").write_bytes(luck.choice((b"alike", luck.randbytes(20))))
        if luck.random() < 0.8:
            luck.choice((session.done, session.done, session.error))()
        if luck.random() < 0.2:
            project.ledger.seal()
    project.ledger.close()


@pytest.fixture(params=range(5))
def trees(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """Two stores that went apart after a common beginning, and a copy of each for rsync."""
    luck = random.Random(request.param)
    a, b, by_a, by_b = (tmp_path / name for name in ("a", "b", "rsync-a", "rsync-b"))
    write_runs(a, luck)
    if request.param % 2:
        shutil.copytree(a, b)
    for root in (a, b, a):
        write_runs(root, luck)
    shutil.copytree(a, by_a)
    shutil.copytree(b, by_b)
    return a, b, by_a, by_b


def ledger_files(root: Path) -> dict[str, bytes]:
    store = root / ".tracker"
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for room in ("ledger", "manifests", "objects")
        for path in (store / room).rglob("*")
        if path.is_file()
    }


def test_both_give_the_same_state_and_the_same_files_of_the_store(trees, reference):
    a, b, by_a, by_b = trees
    rsync(b, by_a)
    rsync(a, by_b)
    merge(Project(a).ledger, b)
    merge(Project(b).ledger, a)

    states = [reference.read_store(root) for root in (a, b, by_a, by_b)]
    assert len(states[0]["runs"]) > 4
    assert states == [states[0]] * 4
    assert ledger_files(a) == ledger_files(b) == ledger_files(by_a) == ledger_files(by_b)


def test_rsync_has_nothing_to_add_to_the_history_after_a_merge_and_the_other_way_round(trees):
    a, b, by_a, by_b = trees
    merge(Project(a).ledger, b)
    before = ledger_files(a)
    rsync(b, a)
    assert ledger_files(a) == before

    rsync(by_b, by_a)
    report = merge(Project(by_a).ledger, by_b)
    assert [line for line in (*report.copied, *report.parts) if line.kind != "file"] == []


def test_a_copy_without_claims_and_without_the_rest_of_the_store_s_rooms_is_merged(
    trees, tmp_path, reference
):
    a, b, *_ = trees
    partial = tmp_path / "partial"
    rsync(b, partial, "--exclude", ".tracker/claims/", "--exclude", ".tracker/manifests/")
    merge(Project(a).ledger, partial)
    without = reference.read_store(a)
    merge(Project(a).ledger, b)

    assert reference.read_store(a) == without


def test_append_verify_completes_the_journal_of_a_dead_writer_and_a_merge_then_finds_it_here(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    project = Project(b, durability=Durability.OFF)
    project.session("train", {"n": 0}).start().done()
    project.session("train", {"n": 1}).start()
    shutil.copytree(b, a)
    project.session("train", {"n": 2}).start()
    dead = tmp_path / "dead"
    shutil.copytree(b, dead)
    options = ("--append-verify", "--include", "*/", "--include", "*.open", "--exclude", "*")
    rsync(dead, a, *options)
    (one,) = a.glob(".tracker/ledger/*/*.open")
    (other,) = dead.glob(".tracker/ledger/*/*.open")

    assert one.read_bytes() == other.read_bytes()
    assert merge(Project(a).ledger, dead).parts == []
    project.ledger.close()
