"""Frames in, state out: the history of each run, and what a history means.

A history is the set of a run's events, each under its stamp, its place in the order over all writers.
Adding a frame twice, or in another order, gives the same set; what it means is a pure function of the set.
So state is commutative, idempotent and associative over copies (I9). Opens no file, reads no clock.

Spec: spec/events.md sections 3 and 5; spec/log.md sections 6 and 7.
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

from msgspec import Struct

from tracker._codec.canonical import format_tree, parse
from tracker._codec.digest import is_hex
from tracker._model.event import (
    Attached,
    Attachment,
    Captured,
    Created,
    Done,
    Event,
    Failed,
    File,
    Input,
    Interrupted,
    Lost,
    Named,
    Noted,
    Parented,
    Removed,
    Restored,
    Rule,
    RunEvent,
    Started,
    Summary,
    Tagged,
    Used,
)
from tracker._model.lifecycle import MOVES, next_status
from tracker._model.names import is_ref
from tracker.terms import AttemptId, RunRef, Status, Uid, WriterId

Stamp = tuple[int, WriterId, int, int, str]
"""(clock, writer, seq, position in the frame, prefix hash of a forked frame or ""): the order of events."""

History = dict[Stamp, RunEvent]
"""The set of one run's events."""


class State(Struct):
    """All histories and rules of some frames.

    `unproven` leads from a run to the stamps of its events from salvaged frames; `repeats` from a key to runs
    created under it whose uid is another; `strays` are refs that name no run, whose events are left out.
    """

    runs: dict[RunRef, History] = {}
    rules: dict[Stamp, Rule] = {}
    unproven: dict[RunRef, set[Stamp]] = {}
    repeats: dict[str, set[RunRef]] = {}
    strays: set[str] = set()


class Attempt(Struct, frozen=True):
    """One execution of a run, as its events tell. Times are Unix milliseconds."""

    id: AttemptId
    status: Status
    head: bool
    started_ms: int | None
    ended_ms: int | None
    supersedes: list[AttemptId]
    claim: int | None
    mode: str | None
    environment: bytes | None
    started: Started | None
    end: RunEvent | None
    end_stamp: Stamp | None
    files: list[File]
    summary: dict[str, Any]
    facts: dict[str, Any] = {}
    inputs: list[Input] = []

    @property
    def writer(self) -> WriterId:
        """The process that began it."""
        return WriterId(self.id.rpartition("-")[0])


class Run(Struct, frozen=True):
    """What the history of a run means."""

    ref: RunRef
    relpath: str
    identifier: str
    uid: Uid
    key: Uid | None
    params: str | None
    mode: str | None
    status: Status
    removed: bool
    divergent: bool
    unproven: bool
    canonical: AttemptId | None
    first: Stamp
    attempts: list[Attempt]
    tags: list[str]
    notes: list[str]
    summary: dict[str, Any]
    name: str | None = None
    parent: RunRef | None = None

    @property
    def attempt(self) -> Attempt | None:
        """The canonical attempt, or None if none was begun."""
        return next((a for a in self.attempts if a.id == self.canonical), None)


def attempt_id(writer: str, seq: int) -> AttemptId:
    """The id of the attempt begun in frame `seq` of `writer`."""
    return AttemptId(f"{writer}-{seq}")


def absorb(
    state: State,
    events: Iterable[Event | None],
    clock: int,
    writer: WriterId,
    seq: int,
    *,
    fork: str = "",
    proven: bool = True,
) -> None:
    """Add the events of one frame to `state`. Cost: 0.3 µs an event."""
    runs = state.runs
    is_doubtful = not proven or bool(state.unproven)
    position = -1
    for event in events:
        position += 1
        kind = type(event)
        if kind in _OF_NO_RUN:
            if kind is Rule:
                state.rules[clock, writer, seq, position, fork] = event  # type: ignore[assignment]
            continue
        run = event.run  # type: ignore[union-attr]
        history = runs.get(run)
        if history is None:
            if not is_ref(run):
                state.strays.add(run)
                continue
            history = runs[run] = {}
        stamp = (clock, writer, seq, position, fork)
        if is_doubtful:
            _mark_proof(state, run, stamp, history, proven=proven)
        history[stamp] = event  # type: ignore[assignment]
        if kind is Created and not run.endswith(event.key or run):  # type: ignore[union-attr]
            state.repeats.setdefault(event.key, set()).add(run)  # type: ignore[union-attr,arg-type]


_OF_NO_RUN = frozenset({Rule, type(None)})
"""A rule, and an event that is left out in its place."""


def _mark_proof(state: State, run: RunRef, stamp: Stamp, history: History, *, proven: bool) -> None:
    """An event is unproven if no proven copy of its frame is here, in whatever order they come."""
    if proven:
        if run in state.unproven:
            state.unproven[run].discard(stamp)
    elif stamp not in history:
        state.unproven.setdefault(run, set()).add(stamp)


def join(a: History, b: History) -> History:
    """The union of two sets of one run's events."""
    return a | b


def still_unproven(parts: Iterable[tuple[History, set[Stamp]]]) -> set[Stamp]:
    """The stamps that no part of a history holds proven; each part names those it does not."""
    doubtful: set[Stamp] = set()
    proven: set[Stamp] = set()
    for history, unproven in parts:
        doubtful |= unproven
        proven |= history.keys() - unproven
    return doubtful - proven


@contextmanager
def collector_paused() -> Iterator[None]:
    """Read many events without the garbage collector: it looks through all of them and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Draft:
    """An attempt while its events are read in order."""

    __slots__ = (
        *("attached", "end", "end_stamp", "facts", "id", "inputs", "place", "started", "status", "summary"),
    )

    def __init__(self, id_: AttemptId, place: Stamp) -> None:
        self.id = id_
        self.place = place
        self.started: Started | None = None
        self.status = _RUNNING
        self.end: RunEvent | None = None
        self.end_stamp: Stamp | None = None
        self.attached: dict[str, tuple[Stamp, Attachment]] | None = None
        self.summary: dict[str, Any] | None = None
        self.facts: dict[str, Any] | None = None
        self.inputs: dict[str, Input] | None = None


class _Marks:
    """What is said of the run itself."""

    __slots__ = ("name", "notes", "parent", "removed", "tags")

    def __init__(self) -> None:
        self.tags: dict[str, bool] = {}
        self.notes: list[str] = []
        self.removed = False
        self.name: str | None = None
        self.parent: RunRef | None = None

    def add(self, event: RunEvent) -> None:
        if isinstance(event, Tagged):
            self.tags.update(dict.fromkeys(event.added, True) | dict.fromkeys(event.removed, False))
        elif isinstance(event, Noted):
            self.notes.append(event.text)
        elif isinstance(event, Named):
            self.name = event.name
        elif isinstance(event, Parented):
            self.parent = event.parent
        elif isinstance(event, (Removed, Restored)):
            self.removed = isinstance(event, Removed)


_RUNNING, _DONE, _PENDING = Status.RUNNING, Status.DONE, Status.PENDING
_NO_MARKS = _Marks()


def run_of(ref: RunRef, history: History, *, unproven: bool = False) -> Run:
    """What `history` means: the run's record, attempts and status.

    Cost: 3 µs for a run of one attempt. Spec: spec/events.md section 3.
    """
    order = sorted(history)
    created: Created | None = None
    drafts: dict[AttemptId, _Draft] = {}
    marks = _NO_MARKS
    for stamp in order:
        event = history[stamp]
        kind = type(event)
        if kind is Created:
            created = created or event  # type: ignore[assignment]
        elif kind is Started:
            _begin(drafts, stamp, event)  # type: ignore[arg-type]
        elif kind in _OF_ATTEMPTS:
            _advance(drafts, stamp, event, kind)
        else:
            marks = _Marks() if marks is _NO_MARKS else marks
            marks.add(event)
    attempts = _finished(drafts)
    canonical = _canonical(attempts)
    head, _, uid = ref.rpartition("/")
    relpath, _, identifier = head.rpartition("/")
    return Run(
        ref,
        relpath,
        identifier,
        uid,  # type: ignore[arg-type]
        None if created is None else created.key,  # type: ignore[arg-type]
        None if created is None else created.params,
        None if created is None else created.mode,
        _PENDING if canonical is None else canonical.status,
        marks.removed,
        len(attempts) > 1 and _is_divergent(attempts),
        unproven,
        None if canonical is None else canonical.id,
        order[0],
        attempts,
        sorted(tag for tag, there in marks.tags.items() if there) if marks.tags else [],
        marks.notes,
        {} if canonical is None else canonical.summary,
        marks.name,
        marks.parent,
    )


_OF_ATTEMPTS = frozenset({Done, Attached, Captured, Failed, Interrupted, Lost, Summary, Used})


def _begin(drafts: dict[AttemptId, _Draft], stamp: Stamp, event: Started) -> None:
    id_ = attempt_id(stamp[1], stamp[2])
    draft = drafts.get(id_)
    if draft is None:
        draft = drafts[id_] = _Draft(id_, stamp)
    if draft.started is None:
        draft.started, draft.place = event, stamp


def _advance(drafts: dict[AttemptId, _Draft], stamp: Stamp, event: Any, kind: type) -> None:
    draft = drafts.get(event.attempt)
    if draft is None:
        draft = drafts[event.attempt] = _Draft(event.attempt, stamp)
    if kind is Attached:
        attached = draft.attached = draft.attached or {}
        for file in event.files:
            attached[file.name] = (stamp, file)
    elif kind is Summary:
        draft.summary = (draft.summary or {}) | event.values
    elif kind is Captured:
        draft.facts = (draft.facts or {}) | event.facts
    elif kind is Used:
        draft.inputs = (draft.inputs or {}) | {one.name: one for one in event.inputs}
    elif MOVES[kind] is (after := next_status(draft.status, kind)):
        draft.status, draft.end, draft.end_stamp = after, event, stamp


def _finished(drafts: dict[AttemptId, _Draft]) -> list[Attempt]:
    """The attempts in the order of their places."""
    if len(drafts) < 2:
        return [_attempt(draft, head=True) for draft in drafts.values()]
    superseded = {id_ for d in drafts.values() if d.started for id_ in d.started.supersedes}
    if superseded.issuperset(drafts):
        superseded = set()
    ordered = sorted(drafts.values(), key=lambda d: d.place)
    return [_attempt(draft, head=draft.id not in superseded) for draft in ordered]


def _attempt(draft: _Draft, *, head: bool) -> Attempt:
    started, end = draft.started, draft.end
    return Attempt(
        draft.id,
        draft.status,
        head,
        None if started is None else started.time_ms,
        None if end is None else end.time_ms,  # type: ignore[union-attr]
        [] if started is None else started.supersedes,
        None if started is None else started.claim,
        None if started is None else started.mode,
        environment_of(started, draft.facts),
        started,
        end,
        draft.end_stamp,
        _files(draft),
        draft.summary or {},
        draft.facts or {},
        [] if draft.inputs is None else [draft.inputs[name] for name in sorted(draft.inputs)],
    )


def environment_of(started: Started | None, facts: dict[str, Any] | None) -> bytes | None:
    """The digest of the environment object: that of the start, else that of the facts."""
    if started is not None and started.environment is not None:
        return started.environment
    text = None if facts is None else facts.get("environment")
    if type(text) is not str or not is_hex(text, 64):
        return None
    return bytes.fromhex(text)


def _files(draft: _Draft) -> list[File]:
    """Those sealed by the end, and those attached where no end has sealed them since."""
    end = draft.end
    sealed = end.files if isinstance(end, (Done, Failed, Interrupted)) else None
    later = [
        file
        for stamp, file in (draft.attached or {}).values()
        if sealed is None or (draft.end_stamp is not None and stamp > draft.end_stamp)
    ]
    if not later and (sealed is None or len(sealed) < 2):
        return sealed or []
    files = {file.name: file for file in sealed or []}
    files.update((f.name, File(f.name, f.path, None, None, f.external)) for f in later)
    return [files[name] for name in sorted(files)]


def _canonical(attempts: list[Attempt]) -> Attempt | None:
    if len(attempts) < 2:
        return attempts[0] if attempts else None
    heads = [a for a in attempts if a.head]
    done = [a for a in heads if a.status is _DONE]
    return min(done, key=lambda a: a.end_stamp or ()) if done else heads[-1]


def _is_divergent(attempts: list[Attempt]) -> bool:
    sealed = [
        {f.name: (f.size, f.digest) for f in a.end.files}  # type: ignore[union-attr]
        for a in attempts
        if a.head and a.status is _DONE
    ]
    return any(_differ(one, other) for one, other in combinations(sealed, 2))


_Sealed = dict[str, tuple[int | None, bytes | None]]


def _differ(one: _Sealed, other: _Sealed) -> bool:
    """True if names differ, or what both know of a file: what was not sealed is no difference."""
    if one == other:
        return False
    return one.keys() != other.keys() or any(
        None not in (mine, theirs) and mine != theirs
        for name in one
        for mine, theirs in zip(one[name], other[name], strict=True)
    )


def state_as_json(state: State) -> dict[str, Any]:
    """The whole state as one object of plain values. Spec: spec/events.md section 5."""
    runs = [
        run_of(ref, history, unproven=bool(state.unproven.get(ref))) for ref, history in state.runs.items()
    ]
    rules = [state.rules[stamp] for stamp in sorted(state.rules)]
    return {
        "format": 1,
        "runs": [run_as_json(run) for run in sorted(runs, key=lambda run: run.first)],
        "rules": [[rule.kind, rule.path, rule.value] for rule in rules],
    }


def run_as_json(run: Run) -> dict[str, Any]:
    """One run of the state object. Spec: spec/events.md section 5."""
    marks = {"name": run.name, "parent": run.parent}
    return {
        "ref": run.ref,
        "relpath": run.relpath,
        "identifier": run.identifier,
        "uid": run.uid,
        "key": run.key,
        "params": run.params,
        "mode": run.mode,
        "status": str(run.status),
        "removed": run.removed,
        "divergent": run.divergent,
        "unproven": run.unproven,
        "canonical": run.canonical,
        "first": list(run.first[:4]),
        "tags": run.tags,
        "notes": run.notes,
        **{mark: text for mark, text in marks.items() if text is not None},
        "summary": _as_words(run.summary),
        "attempts": [_attempt_as_json(attempt) for attempt in run.attempts],
    }


def _attempt_as_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "status": str(attempt.status),
        "head": attempt.head,
        "started": attempt.started_ms,
        "ended": attempt.ended_ms,
        "supersedes": attempt.supersedes,
        "claim": attempt.claim,
        "mode": attempt.mode,
        "environment": hex_or_none(attempt.environment),
        "error": error_as_json(attempt.end),
        "interrupt": interrupt_as_json(attempt.end),
        "files": [[f.name, f.path, f.size, hex_or_none(f.digest), f.external] for f in attempt.files],
        "summary": _as_words(attempt.summary),
        **({"facts": _as_words(attempt.facts)} if attempt.facts else {}),
        **({"inputs": [input_as_json(one) for one in attempt.inputs]} if attempt.inputs else {}),
    }


def input_as_json(one: Input) -> list[Any]:
    """An input as the state object and a manifest list it."""
    return [one.name, one.path, one.size, hex_or_none(one.digest), one.external, one.source]


def _as_words(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary as JSON has it: NaN and the infinities are words."""
    return parse(format_tree(summary)) if summary else {}


def hex_or_none(digest: bytes | None) -> str | None:
    """A digest as people write it."""
    return None if digest is None else digest.hex()


def error_as_json(end: RunEvent | None) -> dict[str, str | None] | None:
    """The `error` member of an attempt that ended so."""
    if not isinstance(end, Failed):
        return None
    return {"type": end.type, "message": end.message, "traceback": hex_or_none(end.traceback)}


def interrupt_as_json(end: RunEvent | None) -> dict[str, str | int | None] | None:
    """The `interrupt` member of an attempt that ended so."""
    if not isinstance(end, Interrupted):
        return None
    return {"signal": end.signal, "restarts": end.restarts}
