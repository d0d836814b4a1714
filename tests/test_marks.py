"""What may be said of a run, and what becomes of it in two processes and two copies.

The judges are the reference's state, which every test is held against, and Python's sets.

Spec: spec/events.md section 2.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tracker import Durability, NameRefusedError, NotFoundError, Project, Session, StateError
from tracker._model.event import Event, Named, Noted, Parented, Tagged
from tracker.marks import (
    append_marks,
    author_of,
    change_of,
    check_tag,
    named,
    noted,
    parented,
    tagged,
)
from tracker.terms import RunRef

REF = RunRef("train/" + "0" * 32)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "s", durability=Durability.OFF)


def done(project: Project, lr: float) -> Session:
    return project.session("train", {"lr": lr}).start().done()


@pytest.mark.parametrize("tag", ["a", "x" * 64, "two words", "é", "v1.0/best", "-draft", "+1", "日本"])
def test_a_tag_is_a_short_line(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("", "has 0 characters"),
        ("x" * 65, "has 65 characters"),
        (" a", "begins or ends with a space"),
        ("a\u00a0", "begins or ends with a space"),
        ("a,b", "holds a comma"),
        ("a\nb", r"holds '\\n'"),
        ("a\x1bb", r"holds '\\x1b'"),
        ("a\u202eb", "is not printed"),
        ("\udcff", "has no UTF-8 form"),
        (7, "is of type int"),
        (None, "is of type NoneType"),
    ],
)
def test_what_is_no_tag_is_refused_with_its_reason(tag: object, why: str) -> None:
    with pytest.raises(NameRefusedError, match=why):
        check_tag(tag)  # type: ignore[arg-type]


def test_two_spellings_of_a_tag_are_one() -> None:
    assert check_tag("e\u0301") == check_tag("\u00e9") == "\u00e9"


def test_a_text_is_one_tag_and_a_tag_is_said_once() -> None:
    assert tagged(REF, "paper") == Tagged(REF, ["paper"], [])
    assert tagged(REF, ["b", "a", "b"], {"c"}) == Tagged(REF, ["b", "a"], ["c"])
    with pytest.raises(NameRefusedError, match="put on and taken off"):
        tagged(REF, ["a"], ["a"])


@pytest.mark.parametrize("text", ["a", "many\nlines\n", "x" * 65_536, "ü" * 32_768])
def test_a_note_is_any_text(text: str) -> None:
    assert noted(REF, text) == Noted(REF, text)


@pytest.mark.parametrize("text", ["", " \n", "x" * 65_537, "ü" * 32_769, b"bytes", "\ud800"])
def test_a_note_has_something_in_it_and_a_bound(text: object) -> None:
    with pytest.raises(NameRefusedError, match="note"):
        noted(REF, text)  # type: ignore[arg-type]


def test_a_name_is_a_line_of_up_to_255_bytes() -> None:
    assert named(REF, "ü" * 127) == Named(REF, "ü" * 127)
    assert named(REF, None) == Named(REF, None)
    for wrong in ("", "ü" * 128, "a\tb", " a"):
        with pytest.raises(NameRefusedError, match="name"):
            named(REF, wrong)


def test_a_parent_is_a_recorded_run_or_a_session(project: Project) -> None:
    above, below = done(project, 1.0), done(project, 2.0)

    assert parented(project.ledger, below.ref, above) == Parented(below.ref, above.ref)
    assert parented(project.ledger, below.ref, above.ref) == Parented(below.ref, above.ref)
    assert parented(project.ledger, below.ref, above.run) == Parented(below.ref, above.ref)
    assert parented(project.ledger, below.ref, None) == Parented(below.ref, None)
    for wrong in ("", "train", "train/" + "0" * 32, project.session("train", {"lr": 7.0})):
        with pytest.raises(NotFoundError, match="parent"):
            parented(project.ledger, below.ref, wrong)


def test_no_run_is_above_itself(project: Project) -> None:
    chain = [done(project, float(number)) for number in range(4)]
    events: list[Event] = [parented(project.ledger, low.ref, high) for high, low in itertools.pairwise(chain)]
    append_marks(project.ledger, events)

    for low in chain:
        with pytest.raises(StateError, match="cannot be its parent"):
            parented(project.ledger, chain[0].ref, low)
    assert parented(project.ledger, chain[3].ref, chain[1]) == Parented(chain[3].ref, chain[1].ref)


def test_only_what_is_not_so_yet_is_recorded(project: Project) -> None:
    run = done(project, 1.0)
    append_marks(project.ledger, [tagged(run.ref, ["a", "b"])])
    recorded = run.run
    assert recorded is not None

    assert change_of(recorded, tagged(REF, ["b", "c"], ["a", "z"])) == Tagged(run.ref, ["c"], ["a"])


def test_thousands_are_recorded_in_frames_of_a_thousand(project: Project) -> None:
    run = done(project, 1.0)
    append_marks(project.ledger, [noted(run.ref, f"note {number}") for number in range(2_500)])
    stamps = [stamp for stamp, event in project.ledger.events() if isinstance(event, Noted)]

    assert run.run is not None
    assert run.run.notes == [f"note {number}" for number in range(2_500)]
    assert len({stamp[2] for stamp in stamps}) == 3


def test_the_author_is_told_by_the_writer_of_the_event(project: Project, tmp_path: Path) -> None:
    run = done(project, 1.0)
    append_marks(project.ledger, [noted(run.ref, "mine")])
    ((stamp, _),) = [entry for entry in project.ledger.events() if isinstance(entry[1], Noted)]
    live = author_of(project.ledger, stamp)
    project.ledger.close()
    ledger = Project(tmp_path / "s").ledger
    ledger.refresh()
    later = author_of(ledger, stamp)

    assert live is not None
    assert live == later
    assert str(live) == f"{live.user}@{live.host}"
    assert live.user
    assert live.host


TAGGING = """
import sys
from tracker import Project
from tracker.marks import append_marks, tagged
ledger = Project(sys.argv[1]).ledger
sys.stdin.readline()
for number in range(50):
    append_marks(ledger, [tagged(sys.argv[2], [f"{sys.argv[3]}{number}", "both"])])
"""


def test_two_processes_tag_one_run_at_once(project: Project) -> None:
    run = done(project, 1.0)
    project.ledger.close()
    line = [sys.executable, "-c", TAGGING, str(project.root), run.ref]
    workers = [subprocess.Popen([*line, name], stdin=subprocess.PIPE) for name in ("a", "b")]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()

    assert run.run is not None
    assert set(run.run.tags) == {f"{name}{number}" for name in "ab" for number in range(50)} | {"both"}


def test_what_was_said_on_a_copy_comes_back_with_it(project: Project, tmp_path: Path) -> None:
    run, above = done(project, 1.0), done(project, 2.0)
    append_marks(project.ledger, [tagged(run.ref, ["old", "kept"])])
    project.ledger.close()
    subprocess.run(["cp", "-a", str(project.root), str(tmp_path / "copy")], check=True)
    copy = Project(tmp_path / "copy", durability=Durability.OFF)
    append_marks(project.ledger, [tagged(run.ref, ["here"]), noted(run.ref, "here")])
    append_marks(
        copy.ledger,
        [
            tagged(run.ref, ["there"], ["old"]),
            noted(run.ref, "there"),
            named(run.ref, "baseline"),
            parented(copy.ledger, run.ref, above.ref),
        ],
    )
    copy.ledger.close()
    project.merge(copy.root)
    recorded = run.run

    assert recorded is not None
    assert recorded.tags == ["here", "kept", "there"]
    assert (sorted(recorded.notes), recorded.name, recorded.parent) == (
        ["here", "there"],
        "baseline",
        above.ref,
    )
