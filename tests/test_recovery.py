"""A ledger that lost segments is supplemented from manifests, says so, and twice adds nothing.

The judge is the reference's state before the loss: status, files and params of every run are what they were.

Spec: spec/manifest.md section 3; spec/recovery.md section 5.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3

from tracker import Durability, ExistingRun, Project, StorageMode
from tracker.check import Level, rebuild, verify

pytestmark = pytest.mark.unchecked_store("segments are lost on purpose")

Json = dict[str, Any]


def fresh(root: Path) -> Project:
    return Project(root, durability=Durability.OFF)


def finish(project: Project, name: str, how: str = "done", **options: Any) -> None:
    session = project.session("train", {"name": name}, **options).start()
    session.path("out.bin").write_bytes(random.Random(name).randbytes(20))
    if how == "done":
        session.done()
    elif how == "error":
        session.error(ValueError(f"{name} diverged"))
    else:
        session.interrupt("SIGTERM")


def sealed(project: Project) -> set[Path]:
    """Seal what was recorded, by a writer that ends, and give all segments."""
    project.ledger.close()
    return set(project.root.glob(".tracker/ledger/*/*.seg"))


def told(reference: ModuleType, root: Path) -> dict[str, Json]:
    """Of each run what a manifest keeps: status, params, and how the attempt that counts ended."""
    runs = {}
    for run in reference.read_store(root)["runs"]:
        attempt = next(a for a in run["attempts"] if a["id"] == run["canonical"])
        kept = ("id", "status", "ended", "error", "interrupt", "files")
        runs[run["ref"]] = {
            **{name: run[name] for name in ("status", "params", "key", "uid", "mode", "divergent")},
            **{name: attempt[name] for name in kept},
        }
    return runs


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A store whose runs end in every way, each in a segment of its own."""
    project = fresh(tmp_path / "s")
    for name, how in (("a", "done"), ("b", "error"), ("c", "interrupted")):
        finish(project, name, how)
        sealed(project)
    finish(project, "r", existing_run_strategy=ExistingRun.NEW)
    finish(project.sub("grid"), "p", storage_mode=StorageMode.PREFIX)
    sealed(project)
    return project


def test_all_runs_are_as_they_were_after_every_segment_is_lost(
    project: Project, reference: ModuleType
) -> None:
    before = told(reference, project.root)
    for path in sealed(project):
        path.unlink()
    made = rebuild(project.ledger, lost_log=True)

    assert len(before) == len(made.recovered) == 5
    assert told(reference, project.root) == before
    assert made.unmatched == []


def test_any_segment_may_be_the_one_that_is_lost(
    project: Project, reference: ModuleType, tmp_path: Path
) -> None:
    before = told(reference, project.root)
    names = sorted(path.name for path in sealed(project))
    assert len(names) == 4
    for name in names:
        root = tmp_path / name
        shutil.copytree(project.root, root)
        next(root.glob(f".tracker/ledger/*/{name}")).unlink()
        rebuild(Project(root).ledger, lost_log=True)

        assert told(reference, root) == before


def test_without_being_asked_rebuild_only_names_them(project: Project, reference: ModuleType) -> None:
    for path in sealed(project):
        path.unlink()
    manifests = {
        p.relative_to(project.root / ".tracker").as_posix()
        for p in project.root.glob(".tracker/manifests/*/*")
    }
    made = rebuild(project.ledger)
    found = [f for f in verify(project.ledger, Level.REPLAY).findings if f.code == "manifest-unmatched"]

    assert set(made.unmatched) == manifests
    assert made.recovered == []
    assert reference.read_store(project.root)["runs"] == []
    assert {finding.path for finding in found} == {f".tracker/{path}" for path in manifests}
    assert all("tracker rebuild --lost-log" in finding.cure for finding in found)


def test_twice_adds_nothing(project: Project) -> None:
    for path in sealed(project):
        path.unlink()
    rebuild(project.ledger, lost_log=True)
    project.ledger.close()
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    made = rebuild(project.ledger, lost_log=True)
    project.ledger.close()

    assert (made.recovered, made.unmatched, made.manifests_written) == ([], [], 0)
    assert {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()} == before


def test_a_note_says_where_a_run_was_taken_from(project: Project, reference: ModuleType) -> None:
    for path in sealed(project):
        path.unlink()
    manifests = {p: json.loads(p.read_bytes()) for p in project.root.glob(".tracker/manifests/*/*")}
    rebuild(project.ledger, lost_log=True)
    want = {
        f"recovered from manifest {path.relative_to(project.root / '.tracker')};"
        f" frame {m['through']['seq']} of writer {m['through']['writer']} is not here"
        for path, m in manifests.items()
    }
    runs = reference.read_store(project.root)["runs"]

    assert {note for run in runs for note in run["notes"]} == want
    assert len(want) == 5
    assert {f.code for f in verify(project.ledger, Level.REPLAY).findings} == {"manifest-recovered"}


def test_a_segment_that_comes_back_changes_nothing_but_the_note(
    project: Project, reference: ModuleType
) -> None:
    before = told(reference, project.root)
    segments = {path: path.read_bytes() for path in sealed(project)}
    for path in segments:
        path.unlink()
    rebuild(project.ledger, lost_log=True)
    project.ledger.close()
    for path, data in segments.items():
        path.write_bytes(data)
    made = rebuild(project.ledger, lost_log=True)

    assert (made.recovered, made.unmatched) == ([], [])
    assert told(reference, project.root) == before
    assert {f.code for f in verify(project.ledger, Level.REPLAY).findings} == {"manifest-outdated"}
    assert all(len(run["notes"]) == 1 for run in reference.read_store(project.root)["runs"])


@pytest.mark.parametrize(
    "ways", ["error done", "interrupted error done", "done done", "done error", "error error"]
)
def test_of_attempts_that_supersede_each_other_the_last_one_counts(
    tmp_path: Path, reference: ModuleType, ways: str
) -> None:
    project = fresh(tmp_path / "s")
    for way in ways.split():
        finish(project, "x", way)
    segments = sealed(project)
    before = told(reference, project.root)
    for path in segments:
        path.unlink()
    made = rebuild(project.ledger, lost_log=True)

    assert told(reference, project.root) == before
    assert len(made.recovered) == len(ways.split())
    assert rebuild(project.ledger, lost_log=True).recovered == []


def test_an_attempt_that_ended_twice_is_as_its_last_end_says(tmp_path: Path, reference: ModuleType) -> None:
    project = fresh(tmp_path / "s")
    session = project.session("train", {"name": "x"}).start()
    session.done()
    session.error(ValueError("after all"))
    for path in sealed(project):
        path.unlink()
    rebuild(project.ledger, lost_log=True)

    assert [run["status"] for run in reference.read_store(project.root)["runs"]] == ["error"]


def test_the_ledger_wins_where_it_knows_a_later_end(tmp_path: Path, reference: ModuleType) -> None:
    project = fresh(tmp_path / "s")
    session = project.session("train", {"name": "x"}).start()
    session.done()
    project.ledger.seal()
    lost = set(project.root.glob(".tracker/ledger/*/*.seg"))
    session.error(ValueError("after all"))
    sealed(project)
    for path in lost:
        path.unlink()
    rebuild(project.ledger, lost_log=True)
    (run,) = reference.read_store(project.root)["runs"]

    assert len(lost) == 1
    assert run["status"] == "error"
    assert run["params"] == '{"name":"x"}'
    assert any(note.startswith("not recovered from manifest") for note in run["notes"])


def test_a_run_whose_creation_alone_was_lost_gets_its_params_back(
    tmp_path: Path, reference: ModuleType
) -> None:
    project = fresh(tmp_path / "s")
    session = project.session("train", {"name": "x"}).start()
    project.ledger.seal()
    lost = set(project.root.glob(".tracker/ledger/*/*.seg"))
    session.done()
    sealed(project)
    before = told(reference, project.root)
    for path in lost:
        path.unlink()
    made = rebuild(project.ledger, lost_log=True)

    assert len(made.recovered) == 1
    after = told(reference, project.root)
    assert after == before
    assert rebuild(project.ledger, lost_log=True).recovered == []


def test_a_lost_attempt_that_superseded_a_recorded_one_is_a_head_beside_it(
    tmp_path: Path, reference: ModuleType
) -> None:
    """The limit of spec/manifest.md section 3: only a start says what it supersedes."""
    project = fresh(tmp_path / "s")
    finish(project, "x", "done")
    kept = sealed(project)
    finish(project, "x", "error")
    for path in sealed(project) - kept:
        path.unlink()
    rebuild(project.ledger, lost_log=True)
    (run,) = reference.read_store(project.root)["runs"]

    assert [(attempt["status"], attempt["head"]) for attempt in run["attempts"]] == [
        ("done", True),
        ("error", True),
    ]
    assert run["status"] == "done"


def forge(root: Path, change: Json) -> Path:
    """A manifest under a right name that says something else."""
    path = next(root.glob(".tracker/manifests/*/*.json"))
    data = json.dumps({**json.loads(path.read_bytes()), **change}).encode()
    forged = path.with_name(f"{path.name[:30]}-{blake3(data).hexdigest()[:16]}.json")
    forged.write_bytes(data)
    return forged


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"params": {"name": "other"}},
        {"identifier": ".."},
        {"relpath": "../elsewhere"},
        {"status": "error", "error": None},
        {"status": "pending"},
        {"files": {"f": {"path": "f", "size": 1, "digest": "ab", "external": False}}},
        {"files": {"f": {"path": "f", "size": 1, "digest": "no hex", "external": False}}},
        {"files": 7},
    ],
    ids=str,
)
def test_a_manifest_that_says_what_no_event_can_is_named_and_not_taken(
    tmp_path: Path, reference: ModuleType, change: Json
) -> None:
    project = fresh(tmp_path / "s")
    finish(project, "x")
    sealed(project)
    before = reference.read_store(project.root)
    forged = forge(project.root, change)
    made = rebuild(project.ledger, lost_log=True)
    project.ledger.close()

    assert made.recovered == []
    assert made.unmatched == [forged.relative_to(project.root / ".tracker").as_posix()]
    assert reference.read_store(project.root) == before


@pytest.mark.parametrize("seed", range(10))
def test_of_a_random_store_every_run_is_as_it_was(tmp_path: Path, reference: ModuleType, seed: int) -> None:
    """Segments are lost at random; runs are not begun anew across two of them (the limit above)."""
    luck = random.Random(seed)
    project = fresh(tmp_path / "s")
    for number in range(12):
        for way in luck.choices(["done", "error", "interrupted"], k=luck.choice((1, 1, 2, 3))):
            finish(project, f"run {number}", way)
        if luck.random() < 0.4:
            sealed(project)
    segments = sorted(sealed(project))
    before = told(reference, project.root)
    for path in luck.sample(segments, luck.randrange(1, len(segments) + 1)):
        path.unlink()
    rebuild(project.ledger, lost_log=True)

    assert len(before) == 12
    assert told(reference, project.root) == before
    codes = {finding.code for finding in verify(project.ledger, Level.REPLAY).findings}
    assert codes <= {"manifest-recovered", "gap"}
