"""A bulk of rows for an empty index: runs whose whole history is plain become rows without being folded.

A plain history is `created` and `started` in one frame, with `captured` or without, and `done` alone in a
later frame of the same writer, all of it proved, and nothing else: as a run has it that ends well and tells
no more. Its row is what folding gives, and a few bytes beside it hold what no column does. Whatever is not
plain is left to the fold. Opens no file.

Spec: spec/layout.md section 7; spec/events.md section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from tracker._codec.canonical import twin_key
from tracker._codec.digest import UID_DIGITS, uid_of
from tracker._codec.frame import Frame, FrameType
from tracker._model.event import Captured, Created, Digest32, Done, Event, File, Started
from tracker._model.fold import History, State, absorb, attempt_id
from tracker._model.names import is_ref, split_ref
from tracker.terms import RunRef, WriterId

_SEEN_MAX = 2_000_000
_LATER_MAX = 50_000
_BEGUN_MAX = 50_000
_TIMES = 1 << 63  # what SQLite holds
_TWINS_AT_ONCE = 64


class PlainRow(NamedTuple):
    """A run of a plain history as it is written; columns that are the same for all of them are not here."""

    uid: str
    identifier: str
    relpath: str
    key: str | None
    mode: str
    params: str
    clock: int
    writer: str
    seq: int
    started_ms: int
    ended_ms: int
    plain: bytes
    commit_id: str | None
    dirty: bool | None
    twin: str | None


BARE = PlainRow._fields[:-3]
"""The columns of a run without commit, dirty and twin: sqlite3 takes 0.3 µs for each None."""

_PARAMS = BARE.index("params")


class _Created(Struct, frozen=True, array_like=True, gc=False, tag_field="tag", tag="created"):
    """A `created` without `ignored`. Spec: spec/rules.md section 6."""

    run: RunRef
    params: str
    key: str | None
    mode: str


_Begun = tuple[int, WriterId, int, _Created, Started, Captured | None]
"""Clock, writer and seq of a run's first frame, and what it holds: the run may turn out to be plain."""

_Rest = tuple[int, int, list[str], int, str, Digest32 | None, list[File], dict[str, Any] | None]
"""What of a plain history no column holds: clock and seq of `done`; of `started` what it supersedes, its
claim, mode and environment; the files of `done`; the facts of `captured`, None if it is not there."""

_BEGUN = b"\x92\x95\xa7c"
_CAPTURED = b"\x93\x95\xa7c"
"""How two and three events begin of which the first is a `created` of four fields: no other kind has seven
letters of which a c is the first."""

_BEGINNINGS = _BEGUN, _CAPTURED

_DONE = b"\x91\x95\xa4d"
"""How one event begins that is a `done` of four fields."""

_decode_begun = msgspec.msgpack.Decoder(tuple[_Created, Started]).decode
_decode_captured = msgspec.msgpack.Decoder(tuple[_Created, Started, Captured]).decode
_decode_done = msgspec.msgpack.Decoder(tuple[Done]).decode
_decode_rest = msgspec.msgpack.Decoder(_Rest).decode
_encode_rest = msgspec.msgpack.Encoder().encode
_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)


class Bulk:
    """What a bulk remembers: which runs were written, what came of them again, runs that are but begun."""

    def __init__(self) -> None:
        self.clock = 0
        self._seen: set[int] = set()
        self._later: list[State] = []
        self._begun: dict[RunRef, _Begun] = {}
        self._bare: list[tuple[object, ...]] = []
        self._coded: list[tuple[object, ...]] = []
        self._names: dict[str, tuple[str, str]] = {}

    @property
    def is_full(self) -> bool:
        """True if it should end, or memory would be filled."""
        return len(self._seen) > _SEEN_MAX or sum(len(state.runs) for state in self._later) > _LATER_MAX

    def iter_others(self, frames: Iterable[Frame], writer: WriterId, state: State) -> Iterator[Frame]:
        """Take what is plain of the proved frames of one writer, and give the others: those `state` must
        absorb, each before the next is looked at.

        Cost: 4 µs a plain run.
        """
        events_type = int(FrameType.EVENTS)  # looked up once: this is every build's loop
        for frame in frames:
            if frame.type != events_type:
                continue
            start = frame.payload[:4]
            if start in _BEGINNINGS:
                is_taken = self._begin(frame, writer, state)
            else:
                is_taken = start == _DONE and self._end(frame, writer, state)
            if not is_taken:
                yield frame

    def _begin(self, frame: Frame, writer: WriterId, state: State) -> bool:
        """Keep a run that begins here in mind; False if it is not plain."""
        captured: Captured | None = None
        try:
            if frame.payload[:1] == _CAPTURED[:1]:
                created, started, captured = _decode_captured(frame.payload)
            else:
                created, started = _decode_begun(frame.payload)
        except _BROKEN:  # the fold knows what counts of such a frame
            return False
        ref = created.run
        if captured is not None and (captured.run, captured.attempt) != (ref, attempt_id(writer, frame.seq)):
            return False
        if started.run != ref or ref in self._begun or ref in state.runs or hash(ref) in self._seen:
            return False
        head, _, uid = ref.rpartition("/")
        if not (head in self._names or self._knows(head, ref)) or not _is_uid(uid):
            return False
        self._begun[ref] = frame.clock, writer, frame.seq, created, started, captured
        return True

    def _knows(self, head: str, ref: RunRef) -> bool:
        """Take relpath and identifier from the first ref that has them; False if they name no run."""
        if is_ref(ref):
            self._names[head] = split_ref(ref)[:2]
        return head in self._names

    def _end(self, frame: Frame, writer: WriterId, state: State) -> bool:
        """Make the row of a run that ends here; False if it is not plain."""
        try:
            (done,) = _decode_done(frame.payload)
        except _BROKEN:
            return False
        ref, clock, seq = done.run, frame.clock, frame.seq
        begun = self._begun.get(ref)
        if begun is None or ref in state.runs:
            return False
        began_clock, began_by, began_seq, _, started, _ = begun
        if began_by != writer or began_clock > clock or began_seq >= seq:
            return False
        if done.attempt != f"{writer}-{began_seq}" or started.time_ms >= _TIMES or done.time_ms >= _TIMES:
            return False
        del self._begun[ref]
        self._seen.add(hash(ref))
        self._add(begun, done, frame)
        return True

    def _add(self, begun: _Begun, done: Done, end: Frame) -> None:
        """Make the row, but for the twin, which is found of many at once."""
        clock, writer, seq, created, started, captured = begun
        head, _, uid = created.run.rpartition("/")
        relpath, identifier = self._names[head]
        facts = None if captured is None else captured.facts
        plain = _encode_rest((
            end.clock, end.seq, started.supersedes, started.claim, started.mode, started.environment,
            done.files, facts,
        ))  # fmt: skip
        row = (
            uid, identifier, relpath, created.key, created.mode, created.params, clock, writer, seq,
            started.time_ms, done.time_ms, plain,
        )  # fmt: skip
        if facts is None:
            self._bare.append(row)
        else:
            self._coded.append((*row, *code_of(facts)))

    def take_rows(self) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        """The plain rows since the last time: those of the columns `BARE`, and whole ones."""
        bare, whole = [], []
        for part, twins in _iter_with_twins(self._bare):
            if not any(twins):
                bare += part
            else:
                whole += [(*row, None, None, twin) for row, twin in zip(part, twins, strict=True)]
        for part, twins in _iter_with_twins(self._coded):
            whole += [(*row, twin) for row, twin in zip(part, twins, strict=True)]
        self._bare, self._coded = [], []
        return bare, whole

    def names(self) -> set[tuple[str, str]]:
        """Relpath and identifier of every plain run so far, and of runs that may be."""
        return set(self._names.values())

    def first_seen(self, state: State, clock: int) -> State:
        """The part of a state whose runs were not written yet; the rest is kept for later."""
        self.clock = max(self.clock, clock)
        is_crowded = len(self._begun) > _BEGUN_MAX
        self._give_back(state, self._begun if is_crowded else self._begun.keys() & state.runs)
        before = len(self._seen)
        marks = {hash(ref): ref for ref in state.runs}  # of two with one hash the first is looked up later
        again = self._seen.intersection(marks)
        self._seen.update(marks)
        if len(self._seen) - before == len(state.runs):
            return state
        first, later = State(rules=state.rules), State()
        wanted = {marks[mark] for mark in marks if mark not in again}
        for ref, history in state.runs.items():
            part = first if ref in wanted else later
            part.runs[ref] = history
            if ref in state.unproven:
                part.unproven[ref] = state.unproven[ref]
        self._later.append(later)
        return first

    def iter_left(self) -> Iterator[State]:
        """What was not written: runs that came again, and runs that are but begun. Once, when it ends."""
        yield from self._later
        left = State()
        self._give_back(left, self._begun)
        yield left

    def _give_back(self, state: State, refs: Iterable[RunRef]) -> None:
        """Have runs that are not plain after all folded as any other."""
        for ref in list(refs):
            clock, writer, seq, created, started, captured = self._begun.pop(ref)
            whole = Created(ref, created.params, created.key, created.mode)
            events: list[Event | None] = [whole, started]
            absorb(state, events if captured is None else [*events, captured], clock, writer, seq)


def _is_uid(text: str) -> bool:
    try:
        return bytes.fromhex(text).hex() == text and len(text) == UID_DIGITS
    except ValueError:
        return False


def plain_history(ref: RunRef, row: PlainRow) -> History:
    """The history of a plain run. Cost: 3 µs."""
    clock, seq, supersedes, claim, mode, environment, files, facts = _decode_rest(row.plain)
    writer, attempt = WriterId(row.writer), attempt_id(row.writer, row.seq)
    started = Started(ref, row.started_ms, supersedes, claim, mode, environment)
    history: History = {
        (row.clock, writer, row.seq, 0, ""): Created(ref, row.params, row.key, row.mode),
        (row.clock, writer, row.seq, 1, ""): started,
    }
    if facts is not None:
        history[row.clock, writer, row.seq, 2, ""] = Captured(ref, attempt, facts)
    history[clock, writer, seq, 0, ""] = Done(ref, attempt, row.ended_ms, files)
    return history


def code_of(facts: dict[str, Any]) -> tuple[str | None, bool | None]:
    """The commit that the code was at, and whether it was changed since, where the facts tell them."""
    commit, dirty = facts.get("commit"), facts.get("dirty")
    return commit if type(commit) is str else None, dirty if type(dirty) is bool else None


def twin_of(params: str | None) -> str | None:
    """The uid that params would have with every number a double; None if that is their own."""
    if params is None:
        return None
    text = params.encode()
    key = twin_key(text)
    return None if key == text else uid_of(key)


def _iter_with_twins(
    rows: list[tuple[Any, ...]],
) -> Iterator[tuple[list[tuple[Any, ...]], list[str | None]]]:
    """Some rows at a time with their twins: most have none, and of many at once this is seen by one look."""
    for start in range(0, len(rows), _TWINS_AT_ONCE):
        part = rows[start : start + _TWINS_AT_ONCE]
        texts = [row[_PARAMS] for row in part]
        whole = "\n".join(texts).encode()
        yield part, [None] * len(part) if twin_key(whole) == whole else [twin_of(text) for text in texts]
