"""The tagged union of events, and payload bytes <-> events.

Knows what is recorded; never when or where it is stored.

Spec: spec/events.md sections 1 and 2; the OPEN and SEAL payloads are spec/log.md section 3.
"""

from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from tracker._codec.digest import is_hex
from tracker.errors import DamagedError
from tracker.terms import AttemptId, RunRef, WriterId

FORMAT = 1


Digest32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""32 bytes of BLAKE3."""


class File(Struct, frozen=True, array_like=True, gc=False, order=True):
    """A file of an attempt: `path` is POSIX below the root, or absolute if external; digest is BLAKE3."""

    name: str
    path: str
    size: int | None
    digest: Digest32 | None
    external: bool


class Attachment(Struct, frozen=True, array_like=True, gc=False, order=True):
    """A file named as the attempt's before it is sealed."""

    name: str
    path: str
    external: bool


class Input(Struct, frozen=True, array_like=True, gc=False, order=True):
    """A file that an attempt read: as it was then. `source` is the run that made it, where that is known."""

    name: str
    path: str
    size: int | None
    digest: Digest32 | None
    external: bool
    source: RunRef | None


class _Event(Struct, frozen=True, array_like=True, gc=False, tag_field="tag"):
    pass


class Created(_Event, frozen=True, tag="created"):
    run: RunRef
    params: str
    key: str | None
    mode: str
    ignored: Any = None
    """Canonical text, of what rules took out of the params; None for anything else that stands there."""

    def __post_init__(self) -> None:
        if self.ignored is not None and type(self.ignored) is not str:
            force_setattr(self, "ignored", None)


class _CreatedWhole(_Event, frozen=True, tag="created"):
    """As it is written where nothing was ignored: without the last field. Spec: spec/rules.md section 6."""

    run: RunRef
    params: str
    key: str | None
    mode: str


class Started(_Event, frozen=True, tag="started"):
    run: RunRef
    time_ms: int
    supersedes: list[AttemptId]
    claim: int
    mode: str
    environment: Digest32 | None


class Attached(_Event, frozen=True, tag="attached"):
    run: RunRef
    attempt: AttemptId
    files: list[Attachment]


class Summary(_Event, frozen=True, tag="summary"):
    run: RunRef
    attempt: AttemptId
    values: dict[str, Any]

    def __post_init__(self) -> None:
        _refuse_what_json_lacks("a summary holds", self.values)


class Captured(_Event, frozen=True, tag="captured"):
    """What the attempt ran in. Spec: spec/provenance.md."""

    run: RunRef
    attempt: AttemptId
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        _refuse_what_json_lacks("facts are", self.facts)


class Used(_Event, frozen=True, tag="used"):
    run: RunRef
    attempt: AttemptId
    inputs: list[Input]


class Done(_Event, frozen=True, tag="done"):
    run: RunRef
    attempt: AttemptId
    time_ms: int
    files: list[File]


class Failed(_Event, frozen=True, tag="failed"):
    run: RunRef
    attempt: AttemptId
    time_ms: int
    files: list[File]
    type: str
    message: str
    traceback: Digest32 | None


class Interrupted(_Event, frozen=True, tag="interrupted"):
    run: RunRef
    attempt: AttemptId
    time_ms: int
    files: list[File]
    signal: str | None
    restarts: int


class Lost(_Event, frozen=True, tag="lost"):
    run: RunRef
    attempt: AttemptId
    time_ms: int
    reason: str


class Tagged(_Event, frozen=True, tag="tagged"):
    run: RunRef
    added: list[str]
    removed: list[str]


class Noted(_Event, frozen=True, tag="noted"):
    run: RunRef
    text: str


class Named(_Event, frozen=True, tag="named"):
    """The name that people call the run by; None takes it away."""

    run: RunRef
    name: str | None


class Parented(_Event, frozen=True, tag="parented"):
    """The run that this one belongs to; None sets it free."""

    run: RunRef
    parent: RunRef | None


class Removed(_Event, frozen=True, tag="removed"):
    run: RunRef
    reason: str


class Restored(_Event, frozen=True, tag="restored"):
    run: RunRef
    reason: str


class Purged(_Event, frozen=True, tag="purged"):
    run: RunRef
    digests: list[Digest32 | None]


class Rule(_Event, frozen=True, tag="rule"):
    kind: str
    path: str
    value: str | None


RunEvent = (
    Created
    | Started
    | Attached
    | Summary
    | Captured
    | Used
    | Done
    | Failed
    | Interrupted
    | Lost
    | Tagged
    | Noted
    | Named
    | Parented
    | Removed
    | Restored
    | Purged
)
Event = RunEvent | Rule
End = Done | Failed | Interrupted
"""The events that seal an attempt's files."""


class Batch(Struct, frozen=True):
    """What a batch system calls the job that this process is; `restarts` counts its requeues."""

    system: str
    job: str
    array: str | None
    task: str | None
    restarts: int


class Opened(Struct, frozen=True, omit_defaults=True):
    """The OPEN payload: who writes this segment. `batch` stands there where there is one."""

    format: int
    writer: WriterId
    segment: int
    host: str
    boot: str | None
    pidns: int | None
    pid: int
    pid_start: int | None
    user: str
    version: str
    time: int
    previous: str | None
    batch: Batch | None = None


class _Format(Struct, frozen=True):
    format: int


class Sealed(Struct, frozen=True):
    """The SEAL payload."""

    frames: int


_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)
"""What a decoder raises on bytes that are none of its own; text that is not UTF-8 is a ValueError."""

_DEPTH_MAX = 32
"""Nested maps and lists in a summary, the summary itself included."""

_encoder = msgspec.msgpack.Encoder()
_events_decoder = msgspec.msgpack.Decoder(list[Event])
_event_decoder = msgspec.msgpack.Decoder(Event)
_raws_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
KINDS = frozenset(str(kind.__struct_config__.tag) for kind in (*RunEvent.__args__, Rule))


# Decoders that no look-up needs are made when they are first asked for.


@cache
def _sealed_decoder() -> msgspec.msgpack.Decoder[Sealed]:
    return msgspec.msgpack.Decoder(Sealed)


@cache
def _opened_decoder() -> msgspec.msgpack.Decoder[Opened]:
    return msgspec.msgpack.Decoder(Opened)


@cache
def _format_decoder() -> msgspec.msgpack.Decoder[_Format]:
    return msgspec.msgpack.Decoder(_Format)


def _refuse_what_json_lacks(what: str, values: dict[str, Any]) -> None:
    if not _is_json(values):
        raise ValueError(
            f"{what} what JSON holds, at most 32 deep: texts, numbers, lists, maps with text keys"
        )


def _is_json(value: Any, depth: int = 1) -> bool:
    if isinstance(value, (dict, list)) and depth > _DEPTH_MAX:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list):
        return all(_is_json(inner, depth + 1) for inner in value)
    return value is None or isinstance(value, (str, int, float))


def encode_events(events: list[Event]) -> bytes:
    """The payload of an EVENTS frame. Cost: 0.5 µs an event."""
    return _encoder.encode([_as_written(event) if type(event) is Created else event for event in events])


def _as_written(event: Created) -> _Event:
    if event.ignored is not None:
        return event
    return _CreatedWhole(event.run, event.params, event.key, event.mode)


def encode_opened(opened: Opened) -> bytes:
    """The payload of an OPEN frame."""
    return _encoder.encode(opened)


def encode_sealed(frames: int) -> bytes:
    """The payload of a SEAL frame in a file of `frames` frames, itself included."""
    return _encoder.encode(Sealed(frames))


def decode_events(payload: memoryview | bytes) -> list[Event | None]:
    """The events of a payload, each in its place; None for an unknown kind and for a broken one.

    Cost: 0.4 to 1 µs an event.
    """
    try:
        return _events_decoder.decode(payload)  # type: ignore[return-value]
    except _BROKEN:
        return [event if isinstance(event, _Event) else None for event in decode_singly(payload)]


def decode_singly(payload: memoryview | bytes) -> list[Event | str | None]:
    """The same one by one: an event, None for an unknown kind, or what is wrong with the bytes.

    Spec: spec/events.md section 2.
    """
    try:
        raws = _raws_decoder.decode(payload)
    except _BROKEN as error:
        return [f"not an array of events: {error}"]
    return [_decode_known(raw) for raw in raws] or ["an array without events"]


def _decode_known(raw: msgspec.Raw) -> Event | str | None:
    try:
        event: Event = _event_decoder.decode(raw)
    except _BROKEN as error:
        return None if _is_unknown(raw) else f"a broken event: {error}"
    return event


def _is_unknown(raw: msgspec.Raw) -> bool:
    """True for an array that begins with a tag this release does not know."""
    try:
        fields = msgspec.msgpack.decode(raw)
    except _BROKEN:
        return False
    return isinstance(fields, list) and bool(fields) and isinstance(fields[0], str) and fields[0] not in KINDS


def decode_opened(payload: memoryview | bytes, where: str = "an OPEN frame") -> Opened:
    """Who writes the segment. Raises: DamagedError."""
    try:
        opened = _opened_decoder().decode(payload)
    except _BROKEN as error:
        raise DamagedError(where, f"not an OPEN payload: {error}", spec="spec/log.md section 3") from error
    if not is_hex(opened.writer, 32):
        why = f"not an OPEN payload: the writer {opened.writer[:40]!r} is not 32 hex digits"
        raise DamagedError(where, why, spec="spec/log.md section 3")
    return opened


def format_of_opened(payload: memoryview | bytes) -> int:
    """The format that an OPEN payload names, whatever else it holds; 0 if it names none."""
    try:
        return _format_decoder().decode(payload).format
    except _BROKEN:
        return 0


def decode_sealed(payload: memoryview | bytes) -> Sealed:
    """What SEAL says of its file. Raises: DamagedError."""
    try:
        return _sealed_decoder().decode(payload)
    except _BROKEN as error:
        raise DamagedError(
            "a SEAL frame", f"not a SEAL payload: {error}", spec="spec/log.md section 3"
        ) from error
