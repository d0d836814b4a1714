"""Metrics as files of a store: verify, repair, merge, rsync, removal and purge.

Spec: spec/metrics.md section 7; spec/recovery.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import reference
from metrics_world import iter_flips

from tracker import Project
from tracker._disk import host
from tracker.check import Level, Severity, repair, verify
from tracker.merge.union import merge
from tracker.metrics import Recorders, read_run
from tracker.terms import AttemptId, RunRef, WriterId
from tracker.trash.moves import remove, restore
from tracker.trash.purge import gc, plan_gc

HERE = Path(__file__)


class Logged:
    """A store with one finished run, and the metrics of it that one writer after another logs."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        session = self.project.session("train", {"lr": 0.1})
        session.start()
        session.done()
        self.ref = RunRef(session.ref)
        self.root = root
        self.number = 0

    def log(self, *values: float, is_sealed: bool = True) -> Recorders:
        writer = WriterId(host.new_writer_id(host.now_ms(), os.urandom(10)))
        mine = Recorders(self.project.ledger.lookup.store_fd, writer, host.this_process(), "0")
        recorder = mine.recorder(self.ref, AttemptId(f"w-{self.number}"))
        for value in values:
            recorder.log({"x": value}, self.number)
            self.number += 1
        mine.seal() if is_sealed else mine.flush()
        return mine

    def rows(self) -> list[tuple[int, float]]:
        curve = read_run(self.project.ledger.lookup.store_fd, self.ref).curve("x")
        return list(zip(curve.steps, curve.values, strict=True))

    def told(self) -> list[tuple[int, float]]:
        found, _ = reference.metrics(self.root, self.ref)
        return [(row[0], row[2]) for row in found["x"]["rows"]] if found else []

    def files(self) -> list[Path]:
        return sorted(path for path in (self.root / ".tracker" / "metrics").rglob("*") if path.is_file())

    def findings(self) -> dict[str, Severity]:
        found = verify(self.project.ledger, Level.FULL).findings
        return {one.code: one.severity for one in found if "/metrics" in one.path}


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    return Logged(tmp_path / "a")


DEAD = """
import os, sys
sys.path[:0] = sys.argv[3:]
from test_metrics_store import Logged
one = Logged.__new__(Logged)
from tracker import Project
one.project = Project(sys.argv[1])
one.project.ledger.refresh()
one.ref, one.root, one.number = sys.argv[2], sys.argv[1], 100
one.log(1.0, 2.0, is_sealed=False)
os._exit(0)
"""


def log_and_die(logged: Logged) -> None:
    folders = [str(HERE.parent), str(HERE.resolve().parents[2] / "spec")]
    command = [sys.executable, "-c", DEAD, str(logged.root), logged.ref, *folders]
    subprocess.run(command, check=True, timeout=60)


# verify and repair


def test_sound_metrics_have_no_findings(logged: Logged) -> None:
    logged.log(1.0, 2.0)
    living = logged.log(3.0, is_sealed=False)

    assert len(logged.files()) == 2
    assert logged.findings() == {}
    living.close()


def test_every_flipped_bit_is_found(logged: Logged) -> None:
    logged.log(1.0, 2.0)
    (path,) = logged.files()
    data = path.read_bytes()
    path.chmod(0o644)
    for at, bad in iter_flips(data, 61):
        path.write_bytes(bad)
        assert logged.findings().get("segment-damaged") is Severity.DAMAGE, f"byte {at}"
    path.write_bytes(data)

    assert logged.findings() == {}


def test_verify_names_what_lies_among_metrics(logged: Logged) -> None:
    logged.log(1.0)
    logged.log(2.0)
    first, second = logged.files()
    shutil.copy(second, second.with_name(second.name.replace("-0-", "-2-")))
    second.rename(second.with_name(f"{second.name[:30]}-{'0' * 16}{second.name[47:]}"))
    (first.parent / "notes.txt").write_text("mine")
    (first.parent / "tmp-00ff").write_bytes(b"")
    (first.parent.parent / "what").mkdir()

    assert logged.findings() == {
        "renamed": Severity.DAMAGE, "foreign": Severity.NOTE, "temporary": Severity.NOTE,
    }  # fmt: skip


def test_a_segment_that_is_not_here_is_a_gap(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker._store.measured.SeriesJournal.segment_bytes", 1000)
    mine = logged.log(1.0)
    recorder = mine.recorder(logged.ref, AttemptId("w-0"))
    recorder.log({"x": 2.0})
    mine.seal()
    logged.files()[0].unlink()

    assert logged.findings() == {"gap": Severity.INCOMPLETE}


def test_repair_publishes_what_a_dead_writer_left_and_drops_ghosts(logged: Logged) -> None:
    log_and_die(logged)
    (journal,) = logged.files()
    journal.write_bytes(journal.read_bytes() + b"\x93\xc4")
    assert logged.findings() == {"torn": Severity.INCOMPLETE}
    living = logged.log(3.0, is_sealed=False)
    plan = repair(logged.project.ledger, dry_run=True)
    done = repair(logged.project.ledger)

    assert [mend.code for mend in done.mended] == ["journal"] == [mend.code for mend in plan.mended]
    assert sorted(path.suffix for path in logged.files()) == [".open", ".part"]
    assert logged.rows() == logged.told()
    living.close()
    sealed = next(path for path in logged.files() if path.suffix == ".seg")
    ghost = sealed.with_name(sealed.name.rpartition("-")[0] + ".open")
    ghost.write_bytes(sealed.read_bytes()[:400])
    assert logged.findings() == {"ghost": Severity.NOTE}
    assert [mend.code for mend in repair(logged.project.ledger).mended] == ["ghost"]
    assert logged.findings() == {}


# Copies


def test_merge_takes_sealed_files_and_good_prefixes(tmp_path: Path, logged: Logged) -> None:
    logged.log(1.0, 2.0)
    living = logged.log(3.0, is_sealed=False)
    other = Logged(tmp_path / "b")
    other.number = 10
    other.log(7.0)
    report = merge(other.project.ledger, logged.root)
    again = merge(other.project.ledger, logged.root)

    taken = [line.path for line in report.copied if "/metrics/" in line.path]
    assert len(taken) == 1
    assert [line.path for line in report.parts if "/metrics/" in line.path] == [
        f".tracker/metrics/{path.parent.name}/{path.name}"
        for path in logged.files()
        if path.suffix == ".open"
    ]
    assert again.changes == 0
    assert sorted(path.suffix for path in other.files()) == [".part", ".seg", ".seg"]
    assert other.findings() == {}
    assert other.rows() == other.told()
    assert {value for _, value in other.rows()} <= {1.0, 2.0, 3.0, 7.0}
    living.close()
    merge(other.project.ledger, logged.root)
    assert merge(other.project.ledger, logged.root).changes == 0
    assert merge(logged.project.ledger, other.root).exit_code == 0
    assert logged.rows() == other.rows()


def test_merge_mends_a_damaged_file_and_does_not_copy_one(tmp_path: Path, logged: Logged) -> None:
    logged.log(1.0, 2.0)
    other = Logged(tmp_path / "b")
    merge(other.project.ledger, logged.root)
    (mine,), (theirs,) = logged.files(), other.files()
    good = mine.read_bytes()
    theirs.chmod(0o644)
    theirs.write_bytes(good[:-3] + b"???")
    assert other.findings() == {"segment-damaged": Severity.DAMAGE}
    report = merge(other.project.ledger, logged.root)

    assert [line.path for line in report.repaired] == [f".tracker/metrics/{mine.parent.name}/{mine.name}"]
    assert theirs.read_bytes() == good
    mine.chmod(0o644)
    mine.write_bytes(good[:-3] + b"???")
    third = Logged(tmp_path / "c")
    report = merge(third.project.ledger, logged.root)
    assert any("/metrics/" in line.path for line in report.damaged)
    assert [path.suffix for path in third.files()] == [".part"]
    assert third.rows() == [(0, 1.0), (1, 2.0)]


def test_a_conflict_copy_of_metrics_is_taken_by_its_bytes(tmp_path: Path, logged: Logged) -> None:
    logged.log(1.0)
    (path,) = logged.files()
    path.rename(path.with_name(f"{path.stem}.sync-conflict-20260101-120000-ABCDEFG.seg"))
    other = Logged(tmp_path / "b")
    merge(other.project.ledger, logged.root)

    assert [file.name for file in other.files()] == [path.name]


@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync")
def test_rsync_makes_the_union(tmp_path: Path, logged: Logged) -> None:
    logged.log(1.0)
    other = Logged(tmp_path / "b")
    other.number = 5
    other.log(2.0)
    for source, target in ((logged.root, other.root), (other.root, logged.root)):
        subprocess.run(["rsync", "-a", f"{source}/.tracker/metrics", f"{target}/.tracker/"], check=True)

    assert logged.rows() == other.rows() == [(0, 1.0), (5, 2.0)]


# Removal


def test_a_removed_run_keeps_its_metrics_until_it_is_purged(logged: Logged) -> None:
    logged.log(1.0)
    ledger = logged.project.ledger
    copy = shutil.copytree(logged.root / ".tracker" / "metrics", logged.root.parent / "copy")
    remove(ledger, logged.ref)
    restore(ledger, logged.ref)
    assert gc(ledger, older_than_s=0.0).purged == []
    assert logged.rows() == [(0, 1.0)]

    remove(ledger, logged.ref)
    assert plan_gc(ledger).purged == []
    plan = plan_gc(ledger, older_than_s=0.0)
    assert logged.told() == [(0, 1.0)]
    done = gc(ledger, older_than_s=0.0)
    assert plan.purged == done.purged
    assert [len(purge.metrics) for purge in done.purged] == [1]
    assert logged.files() == []
    assert [event.__class__.__name__ for _, event in ledger.events()][-1:] == ["Purged"]

    shutil.copytree(copy, logged.root / ".tracker" / "metrics", dirs_exist_ok=True)
    events = len(ledger.events())
    assert [purge.ref for purge in gc(ledger, older_than_s=0.0).purged] == [logged.ref]
    assert logged.files() == []
    assert len(ledger.events()) == events


def test_a_run_that_was_started_anew_keeps_its_metrics(logged: Logged) -> None:
    logged.log(1.0)
    remove(logged.project.ledger, logged.ref)
    session = logged.project.session("train", {"lr": 0.1})
    session.start()
    session.done()
    gc(logged.project.ledger, older_than_s=0.0)

    assert logged.rows() == [(0, 1.0)]


def test_a_process_goes_on_with_the_series_of_a_run_that_was_purged(logged: Logged) -> None:
    session = logged.project.session("train", {"lr": 0.1}).start()
    session.log(x=1.0)
    session.done()
    remove(logged.project.ledger, logged.ref)
    gc(logged.project.ledger, older_than_s=0.0)
    for step in range(3):
        session.start().log(x=2.0, step=step)
        session.done()
    _, second, _ = logged.files()

    assert logged.rows() == [(0, 2.0), (1, 2.0), (2, 2.0)]
    assert logged.findings() == {}
    second.unlink()
    assert logged.findings() == {"gap": Severity.INCOMPLETE}
