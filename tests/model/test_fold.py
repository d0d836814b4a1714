"""State is a pure function of a set of frames, and the one that the reference computes (I9).

Spec: spec/events.md section 3; spec/log.md sections 6 and 7.
"""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import reference
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker._model.event import Done, Failed, Interrupted, Lost, Noted, decode_events
from tracker._model.fold import History, State, absorb, attempt_id, join, run_of, state_as_json
from tracker._model.lifecycle import MOVES, next_status
from tracker.terms import RunRef, Status, WriterId

PAGE = Path(__file__).resolve().parents[2] / "spec" / "events.md"
WRITERS = [f"01a19b7ca680700080000000000000{number:02x}" for number in range(3)]
UIDS = [character * 32 for character in "0a"]
RUNS = [f"train/{UIDS[0]}", f"eval/{UIDS[0]}", f"a/b/train/{UIDS[1]}"]
STRANGER = f"{'f' * 32}-9"
DIGESTS = [b"\1" * 32, b"\2" * 32, None]


class Written(NamedTuple):
    """A frame of events, in the reference's plain form."""

    writer: str
    seq: int
    clock: int
    events: tuple[Any, ...]
    proven: bool = True

    @property
    def payload(self) -> bytes:
        return reference.pack(list(self.events))

    @property
    def raw(self) -> bytes:
        return reference.make_frame(b"", reference.EVENTS, self.seq, self.clock, self.payload)

    @property
    def prefix(self) -> bytes:
        return blake3(self.raw).digest()


# Generated histories


@st.composite
def files(draw: st.DrawFn) -> list[Any]:
    names = draw(st.lists(st.sampled_from(["f", "g", "é/ü"]), unique=True, max_size=2))
    return [
        [name, f"x/{name}", draw(st.integers(0, 1)), draw(st.sampled_from(DIGESTS)), False] for name in names
    ]


scalars = st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=2) | st.booleans() | st.none()
summaries = st.dictionaries(st.sampled_from(["loss", "acc", "é"]), scalars, max_size=2)
short = st.text(max_size=3)


@st.composite
def events_of(draw: st.DrawFn, attempts: list[str]) -> list[Any]:
    """One event; attempts are those that some frame began, of whatever run."""
    run = draw(st.sampled_from(RUNS))
    attempt = draw(st.sampled_from([*attempts, STRANGER]))
    ms = draw(st.integers(0, 5))
    tag = draw(st.sampled_from([*sorted(reference.KINDS), "started", "done", "done", "lost", "attached"]))
    match tag:
        case "created":
            return [
                tag,
                run,
                f'{{"x":{ms}}}',
                draw(st.sampled_from([None, *UIDS])),
                draw(st.sampled_from("sp")),
            ]
        case "started":
            known = draw(st.lists(st.sampled_from([*attempts, STRANGER]), max_size=2))
            return [tag, run, ms, known, 0, draw(st.sampled_from("sp")), draw(st.sampled_from(DIGESTS))]
        case "attached":
            names = draw(st.lists(st.sampled_from(["f", "h"]), max_size=2))
            return [tag, run, attempt, [[name, f"y{ms}/{name}", bool(ms % 2)] for name in names]]
        case "summary":
            return [tag, run, attempt, draw(summaries)]
        case "captured":
            environment = draw(st.sampled_from([{}, {"environment": "ab" * 32}, {"environment": ms}]))
            return [tag, run, attempt, draw(summaries) | environment]
        case "used":
            sources = draw(st.sampled_from([None, *RUNS]))
            return [tag, run, attempt, [[*file, sources] for file in draw(files())]]
        case "named" | "parented":
            return [tag, run, draw(st.none() | short)]
        case "done":
            return [tag, run, attempt, ms, draw(files())]
        case "failed":
            return [tag, run, attempt, ms, draw(files()), "E", draw(short), draw(st.sampled_from(DIGESTS))]
        case "interrupted":
            return [tag, run, attempt, ms, draw(files()), draw(st.sampled_from([None, "SIGTERM"])), ms]
        case "lost":
            return [tag, run, attempt, ms, "gone"]
        case "tagged":
            tags = st.lists(st.sampled_from("abc"), max_size=2)
            return [tag, run, draw(tags), draw(tags)]
        case "purged":
            return [tag, run, [DIGESTS[0]]]
        case "rule":
            return [tag, "ignore", draw(short), draw(st.none() | short)]
    return [tag, run, draw(short)]  # noted, removed, restored


@st.composite
def histories(draw: st.DrawFn) -> list[Written]:
    """Frames of several writers, whose clocks may be equal, in the order of their making."""
    frames: list[Written] = []
    attempts: list[str] = []
    seqs, clocks = [0, 0, 0], [1, 1, 1]
    for _ in range(draw(st.integers(1, 12))):
        who = draw(st.integers(0, 2))
        seqs[who] += 1
        clocks[who] += draw(st.integers(1, 3))
        drawn = draw(st.lists(events_of(attempts), min_size=1, max_size=3))
        starts = [event for event in drawn if event[0] == "started"]
        events = [event for event in drawn if event[0] != "started" or event is starts[0]]
        if starts:
            attempts.append(f"{WRITERS[who]}-{seqs[who]}")
        frames.append(Written(WRITERS[who], seqs[who], clocks[who] << 16, tuple(events)))
    return frames


def by_reference(frames: list[Written]) -> dict[str, Any]:
    held = [
        reference.Held(
            f.writer,
            reference.Frame(
                0, reference.EVENTS, 0, f.seq, f.clock, f.payload, f.prefix, f.raw[:-32] + f.prefix
            ),
            f.proven,
            {},
        )
        for f in frames
    ]
    ledger = reference.Ledger(reference.each_once(held), [])
    state = reference.state_of(reference.read_events(ledger))
    assert ledger.findings == []
    return state


def fold(frames: list[Written], forks: frozenset[bytes] = frozenset()) -> State:
    state = State()
    for f in frames:
        fork = f.prefix[:8].hex() if f.prefix in forks else ""
        absorb(
            state, decode_events(f.payload), f.clock, WriterId(f.writer), f.seq, fork=fork, proven=f.proven
        )
    return state


def by_package(frames: list[Written]) -> dict[str, Any]:
    return state_as_json(fold(frames))


def joined(*states: State) -> dict[str, Any]:
    """The state of the union, by joining the histories of each run."""
    union = State()
    for state in states:
        for ref, history in state.runs.items():
            union.runs[ref] = join(union.runs.get(ref, {}), history)
        union.rules |= state.rules
    return state_as_json(union)


@settings(max_examples=150)
@given(histories())
def test_the_state_is_the_one_of_the_reference(frames):
    assert by_package(frames) == by_reference(frames)


@settings(max_examples=100)
@given(histories(), st.randoms(use_true_random=False))
def test_order_and_repetition_of_frames_change_nothing(frames, shuffler):
    want = by_package(frames)
    again = frames + shuffler.sample(frames, shuffler.randint(0, len(frames)))
    shuffler.shuffle(again)

    assert by_package(again) == want


@settings(max_examples=100)
@given(histories(), st.randoms(use_true_random=False))
def test_joining_parts_gives_the_state_of_the_whole(frames, shuffler):
    a, b, c = ([f for f in frames if shuffler.random() < 0.7] for _ in range(3))
    want = by_package([*a, *b, *c])
    parts = [fold(a), fold(b), fold(c)]

    for order in itertools.permutations(parts):
        assert joined(*order) == want
    assert joined(parts[0], parts[0]) == joined(parts[0])


@settings(max_examples=100)
@given(histories(), st.randoms(use_true_random=False))
def test_a_run_is_unproven_while_one_of_its_frames_is_salvaged_alone(frames, shuffler):
    salvaged = [f._replace(proven=False) for f in frames if shuffler.random() < 0.5]
    proven = [f for f in frames if shuffler.random() < 0.7]
    mixed = salvaged + proven
    want = by_reference(mixed)
    shuffler.shuffle(mixed)

    assert by_package(mixed) == want


@settings(max_examples=100)
@given(histories(), histories(), st.randoms(use_true_random=False))
def test_forked_frames_both_count_in_the_order_of_their_hashes(frames, others, shuffler):
    """The fork has the same writers, seqs and clocks, as a restored machine image would."""
    taken = {(f.writer, f.seq): f for f in frames}
    twins = [f._replace(clock=taken[f.writer, f.seq].clock) for f in others if (f.writer, f.seq) in taken]
    forked = [f for f in twins if f != taken[f.writer, f.seq]]
    forks = frozenset(f.prefix for g in forked for f in (g, taken[g.writer, g.seq]))
    both = frames + forked
    want = by_reference(both)
    shuffler.shuffle(both)

    assert state_as_json(fold(both, forks)) == want


def test_an_event_that_is_left_out_keeps_its_position():
    noted = ("noted", RUNS[0], "x")
    for odd in (("new", RUNS[0]), ("noted", 5)):
        frame = Written(WRITERS[0], 1, 1 << 16, (odd, noted))
        want = reference.state_of(
            [reference.Event((1 << 16, WRITERS[0], 1, 1, b""), "noted", list(noted[1:]), HELD)]
        )
        assert by_package([frame]) == want


HELD = reference.Held(WRITERS[0], reference.Frame(0, 2, 0, 1, 1 << 16, b"", b"", b""), proven=True, opened={})


def test_not_a_number_in_a_summary_is_a_word_in_the_state():
    started = ("started", RUNS[0], 1, (), 0, "s", None)
    values = ("summary", RUNS[0], f"{WRITERS[0]}-1", {"loss": float("nan"), "x": [float("inf")]})
    frames = [Written(WRITERS[0], 1, 1 << 16, (started, values))]

    assert by_package(frames) == by_reference(frames)


def test_of_two_sealed_files_with_one_name_the_later_counts():
    started = ("started", RUNS[0], 1, (), 0, "s", None)
    sealed = (("f", "x/2", 1, None, False), ("f", "x/1", 2, None, False))
    done = ("done", RUNS[0], f"{WRITERS[0]}-1", 5, sealed)
    frames = [Written(WRITERS[0], 1, 1 << 16, (started, done))]

    assert by_package(frames) == by_reference(frames)


def test_events_of_what_is_no_run_are_left_out_and_named():
    state = State()
    for seq, ref in enumerate(["", "x", f"../t/{UIDS[0]}", f"t/{UIDS[0]}\n"]):
        absorb(state, [Noted(RunRef(ref), "x")], 1, WriterId(WRITERS[0]), seq)

    assert state.runs == {}
    assert state.strays == {"", "x", f"../t/{UIDS[0]}", f"t/{UIDS[0]}\n"}


# The table


def page_table() -> dict[str, tuple[str, str]]:
    """The table of rule 3: event -> status from RUNNING or LOST, status from an end."""
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("from RUNNING, LOST") : text.index("The event that set the status last")]
    return {row[0]: (row[1], row[2]) for row in re.findall(r"\| `(\w+)` \| (\w+) \| (\w+) \|", table)}


KIND_OF = {"done": Done, "failed": Failed, "interrupted": Interrupted, "lost": Lost}


def test_the_table_has_a_row_for_each_move():
    assert set(page_table()) == set(KIND_OF)
    assert set(MOVES) == set(KIND_OF.values())


@pytest.mark.parametrize("tag", KIND_OF)
@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PENDING])
def test_a_move_is_the_one_of_the_page(status, tag):
    live, ended = page_table()[tag]
    want = live if status in (Status.RUNNING, Status.LOST) else ended

    assert next_status(status, KIND_OF[tag]) == (status if want == "unchanged" else want.lower())


@pytest.mark.parametrize("status", Status)
def test_other_events_leave_the_status_alone(status):
    assert next_status(status, Noted) is status


def history(*frames: tuple[int, list[Any]]) -> History:
    """Frames of one run given as (clock, events); writer 0 has the even clocks, writer 1 the odd ones."""
    state = State()
    for clock, events in frames:
        plain = [[event[0], RUNS[0], *event[1:]] for event in events]
        absorb(state, decode_events(reference.pack(plain)), clock, WriterId(WRITERS[clock % 2]), clock)
    return state.runs[RunRef(RUNS[0])]


def id_at(clock: int) -> str:
    return attempt_id(WRITERS[clock % 2], clock)


def started(*supersedes: int) -> list[Any]:
    return ["started", 0, [id_at(clock) for clock in supersedes], 0, "s", None]


def end(tag: str, clock: int, *digests: bytes) -> list[Any]:
    sealed = [["f", "x/f", 1, digest, False] for digest in digests]
    rest = {
        "done": [sealed],
        "failed": [sealed, "E", "", None],
        "interrupted": [sealed, None, 0],
        "lost": [""],
    }
    return [tag, id_at(clock), 0, *rest[tag]]


D1, D2 = DIGESTS[:2]

CANONICAL = {
    "none was begun": ([(0, [["noted", "x"]])], Status.PENDING, None, False),
    "one runs": ([(0, [started()])], Status.RUNNING, 0, False),
    "done, then error of the same attempt": (
        [(0, [started()]), (2, [end("done", 0)]), (4, [end("failed", 0)])],
        Status.ERROR,
        0,
        False,
    ),
    "error, then done of the same attempt": (
        [(0, [started()]), (2, [end("failed", 0)]), (4, [end("done", 0)])],
        Status.DONE,
        0,
        False,
    ),
    "a knowing restart of a done run counts": (
        [(0, [started()]), (2, [end("done", 0)]), (4, [started(0)])],
        Status.RUNNING,
        4,
        False,
    ),
    "two that did not know each other: the first end counts": (
        [(0, [started()]), (1, [started()]), (3, [end("done", 1)]), (4, [end("done", 0)])],
        Status.DONE,
        1,
        False,
    ),
    "two that did not know each other and differ": (
        [(0, [started()]), (1, [started()]), (3, [end("done", 1, D1)]), (4, [end("done", 0, D2)])],
        Status.DONE,
        1,
        True,
    ),
    "the one that is done counts, though the other began later": (
        [(0, [started()]), (1, [started()]), (2, [end("done", 0)])],
        Status.DONE,
        0,
        False,
    ),
    "none done: the one begun last counts": (
        [(0, [started()]), (1, [started()]), (3, [end("failed", 1)])],
        Status.ERROR,
        1,
        False,
    ),
    "each supersedes the other: all are heads": (
        [(0, [started(1)]), (1, [started(0)]), (3, [end("done", 1)])],
        Status.DONE,
        1,
        False,
    ),
    "a superseded attempt that differs does not diverge": (
        [(0, [started()]), (2, [end("done", 0, D1)]), (4, [started(0)]), (6, [end("done", 4, D2)])],
        Status.DONE,
        4,
        False,
    ),
    "declared lost, and then it ends": (
        [(0, [started()]), (1, [end("lost", 0)]), (2, [end("done", 0)])],
        Status.DONE,
        0,
        False,
    ),
    "ended, and then declared lost": (
        [(0, [started()]), (2, [end("interrupted", 0)]), (3, [end("lost", 0)])],
        Status.INTERRUPTED,
        0,
        False,
    ),
    "lost twice": ([(0, [started()]), (1, [end("lost", 0)]), (3, [end("lost", 0)])], Status.LOST, 0, False),
}


@pytest.mark.parametrize("name", CANONICAL)
def test_the_attempt_that_counts(name):
    frames, status, canonical, divergent = CANONICAL[name]
    for order in (frames, frames[::-1], random.Random(5).sample(frames, len(frames))):
        run = run_of(RunRef(RUNS[0]), history(*order))

        assert run.status is status
        assert run.canonical == (None if canonical is None else id_at(canonical))
        assert run.divergent is divergent
        assert (run.attempt is None) == (canonical is None)


def test_files_are_those_sealed_and_those_attached_since():
    names = [["a", "x/a", False], ["f", "x/other", True]]
    attached = ["attached", id_at(0), names]
    before = run_of(RunRef(RUNS[0]), history((0, [started(), attached]), (2, [end("done", 0, D1)])))
    after = run_of(RunRef(RUNS[0]), history((0, [started()]), (2, [end("done", 0, D1)]), (4, [attached])))

    assert [(f.name, f.path, f.size, f.digest) for f in before.attempts[0].files] == [("f", "x/f", 1, D1)]
    assert [(f.name, f.path, f.size, f.digest) for f in after.attempts[0].files] == [
        ("a", "x/a", None, None),
        ("f", "x/other", None, None),
    ]


def test_the_last_word_on_a_tag_counts_and_removal_wins_within_an_event():
    said = [(0, [["tagged", ["a", "b", "c"], ["c"]]]), (2, [["tagged", ["d"], ["a"]]])]
    assert run_of(RunRef(RUNS[0]), history(*said)).tags == ["b", "d"]


def test_the_last_word_on_removal_counts():
    words = [(0, [["removed", ""]]), (2, [["restored", ""]]), (4, [["removed", ""]])]
    got = [run_of(RunRef(RUNS[0]), history(*words[: n + 1])).removed for n in range(3)]
    assert got == [True, False, True]


def test_the_first_record_counts_whichever_came_first():
    first = ["created", '{"a":1}', "1" * 32, "s"]
    second = ["created", '{"a":2}', "2" * 32, "p"]
    run = run_of(RunRef(RUNS[0]), history((3, [second]), (0, [first])))

    assert (run.params, run.key, run.mode) == ('{"a":1}', "1" * 32, "s")
    assert (run.relpath, run.identifier, run.uid) == ("", "train", UIDS[0])
    assert run.first[:2] == (0, WRITERS[0])


def test_repeats_are_found_by_their_key():
    state = State()
    plain = [["created", f"t/{uid}", "{}", UIDS[0], "s"] for uid in UIDS]
    absorb(
        state,
        decode_events(reference.pack([*plain, ["created", f"u/{UIDS[1]}", "{}", None, "s"]])),
        1,
        WriterId(WRITERS[0]),
        1,
    )

    assert state.repeats == {UIDS[0]: {f"t/{UIDS[1]}"}}
