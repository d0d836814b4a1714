"""Payload <-> frame, and a buffer <-> its good frames and the verdict on its tail.

Knows bytes: heads, CRCs, the prefix hash. Never opens a file, never reads a clock, and does not look
into payloads.

Spec: spec/log.md sections 3 and 4.
"""

import enum
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Self

from blake3 import blake3
from msgspec import Struct

MAGIC = bytes.fromhex("d85489544b4c310d0a1a0a00000000000000")
MAX_PAYLOAD_BYTES = 1 << 26
OVERHEAD_BYTES = 74
"""What a frame costs beside its payload."""

_HEAD = struct.Struct("<3s2sBBIQQIIs4s")  # array head, bin head, header, bin32 head and its big-endian length
_TRUSTED_HEAD = struct.Struct("<5sBBIQQ8xc4s")
_SUMMED = struct.Struct("<2sBBIQQ")
_CRC = struct.Struct("<I")
_ARRAY_AND_BIN = b"\x93\xc4\x20"
_BIN32 = b"\xc6"
_PREFIX_BIN = b"\xc4\x20"
_SYNC = b"\xc1\x54"
_END = 1 << 63
_SYNC_IN_FRAME = _ARRAY_AND_BIN + _SYNC


class FrameType(enum.IntEnum):
    """Types 4 to 127 must be understood; 128 to 255 may be skipped; 0 is never a frame.

    In files of metrics 4 is understood: their readers say so by `last_type`.
    """

    OPEN = 1
    EVENTS = 2
    SEAL = 3
    ROWS = 4


class Frame(NamedTuple):
    """One good frame; `payload` is a view of the scanned buffer, `prefix` names all bytes before it."""

    type: int
    seq: int
    clock: int
    payload: memoryview | bytes
    prefix: bytes
    offset: int

    @property
    def end(self) -> int:
        """The byte after this frame."""
        return self.offset + OVERHEAD_BYTES + len(self.payload)


class Verdict(enum.StrEnum):
    """What a scan says of a segment's bytes."""

    WHOLE = "whole"
    TORN = "torn"
    DAMAGED = "damaged"
    NEWER = "newer"


class Scan(Struct, frozen=True):
    """The good prefix of a segment, and what follows it.

    `frames` are good and in order; `end` is the length worth keeping; `why` says what stands at `end`
    when the verdict is not WHOLE; `salvaged` are frames after `end` with right CRCs, unproven.
    """

    frames: list[Frame]
    end: int
    verdict: Verdict
    sealed: bool
    why: str = ""
    salvaged: list[Frame] = []


class FrameEncoder:
    """The running prefix hash of one segment, and the next frame of it."""

    __slots__ = ("_hasher",)

    def __init__(self) -> None:
        self._hasher = blake3(MAGIC)

    def encode(self, type_: int, seq: int, clock: int, payload: bytes) -> bytes:
        """Return the whole frame; it must follow, in the file, all that was encoded before.

        Cost: about 3 µs for 400 bytes. Spec: spec/log.md section 3.
        """
        assert len(payload) <= MAX_PAYLOAD_BYTES, "the caller bounds payloads"
        summed = _SUMMED.pack(_SYNC, type_, 0, len(payload), seq, clock)
        header = summed + _CRC.pack(zlib.crc32(payload, zlib.crc32(summed)))
        header += _CRC.pack(zlib.crc32(header))
        body = b"".join(
            (_ARRAY_AND_BIN, header, _BIN32, len(payload).to_bytes(4, "big"), payload, _PREFIX_BIN)
        )
        self._hasher.update(body)
        prefix = self._hasher.digest()
        self._hasher.update(prefix)
        return body + prefix

    def rewound_to(self, good: bytes | bytearray | memoryview) -> Self:
        """Take back what was encoded after `good`, the bytes that stand in the file."""
        self._hasher = blake3(good)
        return self

    def file_hash(self) -> str:
        """The first 16 hex digits of BLAKE3 of all bytes so far: how a sealed name ends."""
        return self._hasher.hexdigest()[:16]


def file_hash(data: bytes | bytearray | memoryview) -> str:
    """The 16 hex digits that end the content name of `data`."""
    return blake3(data).hexdigest()[:16]


def read_trusted(buffer: bytes, last_type: int = FrameType.SEAL) -> Scan | None:
    """Read a file whose bytes have been proved by its name; None if they break the format anyway.

    Cost: 0.5 µs a frame; no hash is computed.
    """
    at, size = len(MAGIC), len(buffer)
    if buffer[:at] != MAGIC:
        return None
    view, new, unpack = memoryview(buffer), tuple.__new__, _TRUSTED_HEAD.unpack_from
    frames: list[Frame] = []
    due = -1
    while at + OVERHEAD_BYTES <= size:
        head, type_, flags, n, seq, clock, bin32, n_big = unpack(buffer, at)
        body = at + 40
        end = body + n + 34
        if head != _SYNC_IN_FRAME or flags or end > size or (due >= 0 and seq != due) or bin32 != _BIN32:
            return None
        if n.to_bytes(4, "big") != n_big or seq >= _END or clock >= _END:
            return None
        frames.append(new(Frame, (type_, seq, clock, view[body : body + n], buffer[end - 32 : end], at)))
        at, due = end, seq + 1
    return _in_their_places(frames, at, last_type) if at == size else None


def _in_their_places(frames: list[Frame], end: int, last_type: int) -> Scan | None:
    """The scan of a proved file, if OPEN stands first, and SEAL, if it is there, last."""
    if not frames or frames[0].type != FrameType.OPEN:
        return None
    inner = {frame.type for frame in frames[1:-1]}
    last = frames[-1].type if len(frames) > 1 else FrameType.EVENTS
    if any(type_ < 2 or type_ == FrameType.SEAL or last_type < type_ < 128 for type_ in inner):
        return None
    if last < 2 or last_type < last < 128:
        return None
    return Scan(frames, end, Verdict.WHOLE, last == FrameType.SEAL)


def scan(buffer: bytes, last_type: int = FrameType.SEAL) -> Scan:
    """Find the good frames of `buffer` and judge its tail.

    A short or broken tail with no good frame behind it is how a crash looks: TORN, and no error. A good
    frame behind the break is damage: the good prefix counts, later frames are salvaged by their CRCs.

    Cost: one pass, about 3 µs a frame; the search for later frames only where something is broken.
    Never raises. Spec: spec/log.md section 4.
    """
    if buffer[: len(MAGIC)] != MAGIC:
        if len(buffer) < len(MAGIC) or not any(buffer):
            why = "the file is shorter than a segment's first 18 bytes, or zeros"
            return _broken(buffer, [], 0, why, None, last_type)
        return _broken(buffer, [], 0, "not a segment: another magic", Verdict.DAMAGED, last_type)
    return _scan_from(buffer, len(MAGIC), blake3(MAGIC), None, first=True, last_type=last_type)


class Tail(Struct):
    """How far a growing segment has been scanned: the good length, its hash so far, the seq that is due."""

    end: int = 0
    hasher: blake3 | None = None
    next_seq: int | None = None


def scan_on(buffer: bytes, tail: Tail) -> Scan:
    """Scan `buffer`, the bytes of a growing segment from `tail.end` on, and move `tail` past its good frames.

    Offsets are within `buffer`. A tail that has read nothing takes a segment from its first byte. Where the
    verdict is DAMAGED, `tail` is worthless: begin again with a new one.

    Cost: about 3 µs a frame, whatever the size of the file. Spec: spec/log.md section 4.
    """
    if tail.hasher is None:
        if buffer[: len(MAGIC)] != MAGIC:
            return scan(buffer)
        tail.hasher = blake3(MAGIC)
        result = _scan_from(buffer, len(MAGIC), tail.hasher, None, first=True)
    else:
        result = _scan_from(buffer, 0, tail.hasher, tail.next_seq, first=tail.next_seq is None)
    tail.end += result.end
    if result.frames:
        tail.next_seq = result.frames[-1].seq + 1
    return result


def _scan_from(
    buffer: bytes,
    at: int,
    hasher: blake3,
    seq: int | None,
    *,
    first: bool,
    last_type: int = FrameType.SEAL,
) -> Scan:
    frames: list[Frame] = []
    size = len(buffer)
    while at < size:
        found = _checked(buffer, at)
        if isinstance(found, str):
            verdict = Verdict.NEWER if found.startswith("newer") else None
            return _broken(buffer, frames, at, found, verdict, last_type)
        why = _misplaced(found, frames, seq, first=first) or _prefix_breaks(buffer, found, hasher)
        if why:
            return _broken(buffer, frames, at, why, None, last_type)
        if last_type < found.type < 128:
            why = f"newer: frame type {found.type} must be understood"
            return _broken(buffer, frames, at, why, Verdict.NEWER, last_type)
        frames.append(found)
        at, seq = found.end, found.seq + 1
    sealed = bool(frames) and frames[-1].type == FrameType.SEAL
    return Scan(frames, at, Verdict.WHOLE, sealed)


def _checked(buffer: bytes, at: int) -> Frame | str:
    """The frame at `at` if its fixed bytes, length and CRCs are right, else what is wrong."""
    if at + OVERHEAD_BYTES > len(buffer):
        return "the file ends inside a frame"
    head, sync, type_, flags, n, seq, clock, crc, head_crc, bin32, n_big = _HEAD.unpack_from(buffer, at)
    if head != _ARRAY_AND_BIN or sync != _SYNC:
        return "no frame begins here"
    if zlib.crc32(memoryview(buffer)[at + 3 : at + 31]) != head_crc:
        return "the header's CRC is wrong"
    if bin32 != _BIN32 or int.from_bytes(n_big, "big") != n or n > MAX_PAYLOAD_BYTES:
        return "the payload's length is wrong"
    end = at + OVERHEAD_BYTES + n
    if end > len(buffer):
        return "the file ends inside a frame"
    payload = memoryview(buffer)[at + 40 : at + 40 + n]
    if zlib.crc32(payload, zlib.crc32(memoryview(buffer)[at + 3 : at + 27])) != crc:
        return "the payload's CRC is wrong"
    if buffer[end - 34 : end - 32] != _PREFIX_BIN:
        return "the prefix hash's head is wrong"
    if flags:
        return "newer: flags are set"
    if type_ == 0 or seq >= _END or clock >= _END:
        return "the type is 0, or seq or clock past 63 bits"
    return Frame(type_, seq, clock, payload, buffer[end - 32 : end], at)


def _misplaced(frame: Frame, before: list[Frame], seq: int | None, *, first: bool) -> str:
    if first and not before:
        return "" if frame.type == FrameType.OPEN else "the first frame is not OPEN"
    if frame.type == FrameType.OPEN:
        return "a second OPEN frame"
    if before and before[-1].type == FrameType.SEAL:
        return "a frame after SEAL"
    return "" if frame.seq == seq else f"seq {frame.seq} where {seq} is due"


def _prefix_breaks(buffer: bytes, frame: Frame, hasher: blake3) -> str:
    """Feed the frame to the file's hash; say so if its prefix is not the hash of what stands before it."""
    hasher.update(memoryview(buffer)[frame.offset : frame.end - 32])
    if hasher.digest() != frame.prefix:
        return "the prefix hash is wrong"
    hasher.update(frame.prefix)
    return ""


def _broken(
    buffer: bytes,
    frames: list[Frame],
    at: int,
    why: str,
    verdict: Verdict | None = None,
    last_type: int = FrameType.SEAL,
) -> Scan:
    """The scan of a file whose good prefix ends at `at`. A frame there with right CRCs is salvaged too."""
    found = list(_iter_lone_frames(buffer, at))
    if found and found[0].offset == at and not any(buffer[found[0].end - 1 :]):
        found = []  # zeros from within its prefix hash to the end of the file: a crash cut it short
    if any(last_type < frame.type < 128 for frame in found):
        verdict = Verdict.NEWER
    good = {frame.seq for frame in frames}
    salvaged = [frame for frame in found if frame.seq not in good]
    return Scan(frames, at, verdict or (Verdict.DAMAGED if found else Verdict.TORN), False, why, salvaged)


def _iter_lone_frames(buffer: bytes, at: int) -> Iterator[Frame]:
    while (at := buffer.find(_SYNC_IN_FRAME, at)) >= 0:
        found = _checked(buffer, at)
        if isinstance(found, Frame):
            yield found
            at = found.end
        else:
            at += 1
