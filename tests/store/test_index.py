"""The index against a dict of histories: the naive model of what it keeps. Spec: spec/layout.md section 7."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from typing import Any

import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker._model.event import (
    Created,
    Done,
    Event,
    Noted,
    Removed,
    Rule,
    Started,
    decode_events,
    encode_events,
)
from tracker._model.fold import History, State, absorb, attempt_id, run_of
from tracker._model.names import fold_name, run_ref, split_ref
from tracker._store import index as room
from tracker._store.bulk import twin_of
from tracker._store.index import Cover, Filter, Index, remove_files
from tracker.terms import RunRef, Status, WriterId

WRITERS = [WriterId(f"01a19b7ca680700080000000000000{number:02x}") for number in range(2)]
PARAMS = ['{"lr":1}', '{"lr":1.0}', '{"lr":2}', '{"@repeat":"0123456789abcdef","lr":1}']
RELPATHS = ["", "a", "a/b"]
IDENTIFIERS = ["train", "eval"]


@st.composite
def frames(draw: st.DrawFn) -> list[tuple[int, WriterId, int, list[Event], bool]]:
    """Frames of (clock, writer, seq, events, proven)."""
    made = []
    for seq in range(1, draw(st.integers(1, 10)) + 1):
        writer = draw(st.sampled_from(WRITERS))
        text = draw(st.sampled_from(PARAMS))
        ref = run_ref(
            draw(st.sampled_from(RELPATHS)), draw(st.sampled_from(IDENTIFIERS)), reference.uid(text)
        )
        kinds = {
            "created": Created(
                ref, text, reference.uid('{"lr":1}') if "1" in text else reference.uid(text), "prefix"
            ),
            "started": Started(ref, 1, [], 0, "prefix", None),
            "done": Done(ref, attempt_id(writer, draw(st.integers(1, seq))), 2, []),
            "removed": Removed(ref, ""),
            "noted": Noted(ref, "x"),
            "rule": Rule("ignore", f"{seq}", None),
        }
        events = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=4, unique=True))
        made.append((seq, writer, seq, [kinds[kind] for kind in events], draw(st.booleans())))
    return made


def state_of(made: list[tuple[int, WriterId, int, list[Event], bool]]) -> State:
    state = State()
    for clock, writer, seq, events, proven in made:
        absorb(state, events, clock, writer, seq, proven=proven)
    return state


def fill(index: Index, *states: State) -> None:
    for number, state in enumerate(states):
        with index.transaction():
            index.absorb(state, number)


def everything(index: Index) -> dict[RunRef, History]:
    return {ref: history for ref, history, _ in index.histories(Filter(removed=None))}


@settings(max_examples=60)
@given(frames(), st.randoms(use_true_random=False))
def test_the_index_is_the_union_of_what_it_took_in_any_order(made, shuffler):
    parts = [state_of([frame for frame in made if shuffler.random() < 0.6]) for _ in range(3)]
    whole = State()
    for part in parts:
        for ref, history in part.runs.items():
            whole.runs[ref] = whole.runs.get(ref, {}) | history
        whole.rules |= part.rules
    for order in itertools.permutations(parts):
        index = Index(None)
        fill(index, *order)

        assert everything(index) == whole.runs
        assert index.rules() == whole.rules
        index.close()


@settings(max_examples=60)
@given(frames())
def test_filters_find_what_going_through_all_finds(made):
    state = state_of(made)
    index = Index(None)
    fill(index, state)
    runs = {ref: run_of(ref, history) for ref, history in state.runs.items()}
    uids = [reference.uid(text) for text in PARAMS]
    wanted = [
        Filter(relpath, identifier, uid, key, status, removed)
        for relpath in (None, "", "a")
        for identifier in (None, "train")
        for uid in (None, uids[0][:5], uids[3])
        for key in (None, uids[0], uids[2])
        for status in (None, Status.DONE, Status.PENDING)
        for removed in (None, False, True)
    ]
    for one in wanted:
        found = {ref for ref, _, _ in index.histories(one)}
        naive = {ref for ref, run in runs.items() if one.matches(run)}
        by_hand = {
            ref
            for ref, run in runs.items()
            if all(
                getattr(one, name) in (None, getattr(run, name))
                for name in ("relpath", "identifier", "key", "status", "removed")
            )
            and run.uid.startswith(one.uid or "")
        }
        assert naive == by_hand
        # A key is looked for with the plain run of it, recorded or not: its uid is the key.
        plain = {ref for ref in runs if one.key is not None and split_ref(ref).uid == one.key}
        assert by_hand <= found <= by_hand | plain
        assert all(one.may_match(ref) for ref in found)
    index.close()


@settings(max_examples=60)
@given(frames())
def test_rows_and_names_are_those_of_the_runs(made):
    state = state_of(made)
    index = Index(None)
    fill(index, state)
    runs = [run_of(ref, history) for ref, history in state.runs.items()]
    for run in runs:
        status = "pending" if run.removed else run.status
        assert index.row(run.uid, run.identifier, run.relpath) == (status, run.mode, run.params)
        assert index.status(run.uid, run.identifier, run.relpath) == status
        found = index.history(run.ref)
        assert found == (state.runs[run.ref], state.unproven.get(run.ref) or set())
        assert sorted(index.with_uid(run.uid, run.relpath)) == sorted(
            other.ref for other in runs if (other.uid, other.relpath) == (run.uid, run.relpath)
        )
        if run.key is not None:
            assert sorted(index.repeats(run.key, run.identifier, run.relpath)) == sorted(
                other.ref
                for other in runs
                if (other.key, other.identifier, other.relpath) == (run.key, run.identifier, run.relpath)
                and other.uid != other.key
            )
    assert index.row("0" * 32, "train", "") is None
    assert index.status("0" * 32, "train", "") is None
    assert index.history(RunRef(f"train/{'0' * 32}")) is None
    assert sorted(index.relpaths()) == sorted({run.relpath for run in runs})
    assert sorted(index.spellings("identifier", "train")) == (
        ["train"] if any(r.identifier == "train" for r in runs) else []
    )
    index.close()


def test_a_status_is_found_without_a_row():
    plan = (
        Index(None).connection.execute(f"explain query plan {room._SELECT_STATUS}", ("", "", "")).fetchall()
    )

    assert [step for *_, step in plan if "COVERING INDEX runs_uid" in step]


def recorded(*texts: str, relpath: str = "", identifier: str = "train") -> State:
    state = State()
    for seq, text in enumerate(texts):
        ref = run_ref(relpath, identifier, reference.uid(text))
        absorb(state, [Created(ref, text, None, "prefix")], seq + 1, WRITERS[0], seq)
    return state


def test_other_spellings_of_a_name_are_found():
    index = Index(None)
    fill(index, recorded('{"a":1}', identifier="Étude"), recorded('{"a":2}', identifier="Straße"))

    for asked, known in (("e\u0301tude", "Étude"), ("ÉTUDE", "Étude"), ("STRASSE", "Straße")):
        assert index.spellings("identifier", fold_name(asked)) == [known]


def test_numeric_twins_are_found():
    index = Index(None)
    fill(index, recorded('{"lr":1}', '{"lr":1.0}', '{"lr":0.5}', '{"n":18446744073709551617}'))

    assert twin_of('{"lr":0.5}') is None
    assert twin_of('{"lr":1}') is None
    assert twin_of('{"lr":1.0}') == reference.uid('{"lr":1}')
    assert sorted(index.twins(reference.uid('{"lr":1}'), "train", "")) == ['{"lr":1.0}', '{"lr":1}']
    assert index.twins(reference.uid('{"lr":1}'), "eval", "") == []


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[1]", '{"a":', '{"a":1e999}', '"x"', "[" * 2000, '{"a":NaN}']
)
def test_params_that_are_none_are_kept_as_recorded(text):
    """The ledger may hold a broken `created`: it is a finding, and no reason to know nothing."""
    index = Index(None)
    fill(index, recorded(text))

    assert index.row(reference.uid(text), "train", "") == ("pending", "prefix", text)


@pytest.mark.parametrize(("clock", "seq"), [(2**63 - 1, 1), (1, 2**63 - 1), (2**63 - 1, 2**63 - 1)])
def test_clock_and_seq_have_63_bits(clock, seq):
    state = State()
    absorb(state, [Noted(RunRef(f"t/{'0' * 32}"), "x")], clock, WRITERS[0], seq)
    index = Index(None)
    fill(index, state)

    assert everything(index) == state.runs


def test_covers_and_clock_are_kept():
    index = Index(None)
    covers = [Cover(f"2026-11/{n}", n, n * 10, damaged=bool(n % 2)) for n in range(4)]
    with index.transaction():
        index.set_covers(covers)
        index.absorb(State(), 50)
        index.absorb(State(), 20)
    with index.transaction():
        index.set_covers([covers[0]._replace(size=9)])

    assert index.covers() == {c.path: c for c in [covers[0]._replace(size=9), *covers[1:]]}
    assert index.clock() == 50
    with index.transaction():
        index.clear()
    assert (index.covers(), index.clock(), everything(index), index.rules()) == ({}, 0, {}, {})


def test_a_run_is_proven_once_a_proven_copy_of_its_frame_came():
    ref = RunRef(f"t/{'0' * 32}")
    index = Index(None)
    for proven in (False, True):
        state = State()
        absorb(state, [Noted(ref, "x")], 1, WRITERS[0], 1, proven=proven)
        fill(index, state)

    assert index.history(ref) == (state.runs[ref], set())


# The file


def test_a_file_keeps_what_it_took(tmp_path):
    state = recorded('{"a":1}', '{"a":2}')
    first = Index(str(tmp_path / "i"))
    fill(first, state)
    first.close()
    again = Index(str(tmp_path / "i"))

    assert everything(again) == state.runs
    again.close()
    remove_files(str(tmp_path / "i"))
    assert os.listdir(tmp_path) == []
    remove_files(str(tmp_path / "i"))


def test_a_transaction_that_fails_leaves_nothing(tmp_path):
    index = Index(str(tmp_path / "i"))
    with pytest.raises(KeyError), index.transaction():
        index.absorb(recorded('{"a":1}'), 7)
        index.set_covers([Cover("x", 1, 1, damaged=False)])
        raise KeyError

    assert (everything(index), index.covers(), index.clock()) == ({}, {}, 0)
    index.close()


@pytest.mark.parametrize("change", [1, -1, 1000])
def test_an_index_of_another_version_is_made_anew(tmp_path, change, monkeypatch):
    other = Index(str(tmp_path / "i"))
    fill(other, recorded('{"a":1}'))
    other.close()
    monkeypatch.setattr(room, "VERSION", room.VERSION + change)
    index = Index(str(tmp_path / "i"))

    assert everything(index) == {}
    fill(index, recorded('{"a":2}'))
    assert len(everything(index)) == 1
    index.close()


@pytest.mark.parametrize(
    "data", [b"not a database, certainly", os.urandom(8192), b"SQLite format 3\0" + bytes(5000)]
)
def test_a_file_that_is_no_index_is_refused(tmp_path, data):
    (tmp_path / "i").write_bytes(data)
    with pytest.raises(sqlite3.Error):
        Index(str(tmp_path / "i")).covers()


def test_two_connections_take_turns(tmp_path):
    """Each process has its own; writers wait for one another and none loses a row."""
    path = str(tmp_path / "i")
    Index(path).close()
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            index = Index(path)
            for n in range(10):
                fill(index, recorded(f'{{"a":{number * 100 + n}}}'))
            index.close()
        except BaseException as error:
            failures.append(error)

    crowd = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    index = Index(path)

    assert failures == []
    assert len(everything(index)) == 40
    index.close()


def test_events_come_back_from_the_index_as_they_were():
    """Every kind, floats and unknown text included; what was nested comes back nested."""
    values: dict[str, Any] = {"x": [1, 2.5, None, {"é": True}], "n": 2**63}
    ref = f"t/{'0' * 32}"
    plain = [["summary", ref, "a-1", values], ["done", ref, "a-1", 5, [["f", "p", 1, bytes(32), True]]]]
    events = decode_events(reference.pack(plain))
    state = State()
    absorb(state, events, 1, WRITERS[0], 1, fork="00ff")
    index = Index(None)
    fill(index, state)
    (history,) = everything(index).values()

    assert [*history] == [(1, WRITERS[0], 1, 0, "00ff"), (1, WRITERS[0], 1, 1, "00ff")]
    assert encode_events([*history.values()]) == reference.pack(plain)
