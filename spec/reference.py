"""Read a store from its specification alone: slow, plain, and the judge of everything faster.

Knows: canonical.md (form 1), layout.md, log.md, packs.md, events.md, manifest.md, metrics.md. Imports nothing
of the package, writes nothing, follows no symbolic link, and answers damage with a verdict, never with an
exception.

    python spec/reference.py ROOT              the state of the store as JSON (events.md section 5)
    python spec/reference.py ROOT --manifests  the names of the manifests that its ledger implies
    python spec/reference.py ROOT --metrics REF   the curves of a run and their summaries as JSON (metrics.md)
    python spec/reference.py --frames FILE     one line for each frame: offset, type, seq, clock, prefix

Exit code 0; 1 if something is damaged (findings go to stderr); 2 for wrong usage, a newer format, no store.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import stat
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from blake3 import blake3

FORMAT_TEXT = b"tracker 1\n"
MAGIC = bytes.fromhex("D854 89544B4C310D0A1A0A00000000000000")
OPEN, EVENTS, SEAL, ROWS = 1, 2, 3, 4
FRAME_OVERHEAD = 74
PAYLOAD_LIMIT = 67_108_864
NESTING_LIMIT = 100  # of msgpack values here; a frame nested deeper is malformed


class Malformed(ValueError):
    """The bytes are not what the page says."""


class NewerFormat(Exception):
    """The store is of a later format than 1 and is refused."""


# Form 1: canonical.md


def float_text(value: float) -> str:
    """Write a double as ECMAScript does, `.0` added where that has neither `.` nor `e` (rules 4 and 5)."""
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    if value == 0:
        return "0.0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS times ten to the `point`.
    point = len(whole) + int(exponent or "0") - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        if len(digits) <= point:
            text = digits.ljust(point, "0") + ".0"
        else:
            text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if digits[1:] else "")
        text += f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + text


ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def string_text(value: str) -> str:
    """Write a string with the seven short escapes and `\\u00xx`, everything else as itself (rule 6)."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{value!r} holds a lone surrogate")
    written = [
        ESCAPES.get(character, f"\\u{ord(character):04x}" if character < " " else character)
        for character in value
    ]
    return '"' + "".join(written) + '"'


def scalar_text(value: bool | int | float | str | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return string_text(str(value))
    if isinstance(value, int):
        if abs(value).bit_length() > 4096:
            raise ValueError("an integer of more than 4096 bits")
        return int.__repr__(value)
    if isinstance(value, float):
        return float_text(float(value))
    raise ValueError(f"a {type(value).__name__} has no form")


def utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


def key_text(key: object) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ValueError(f"a key of type {type(key).__name__}")
    return str(key)


def canonical_bytes(value: dict[Any, Any], repeat: str | None = None) -> bytes:
    """Write params, plain JSON-like Python values, in form 1; with `repeat`, as the repeat of that name."""
    if not isinstance(value, dict):
        raise ValueError("params are one object")
    if any(key_text(key).startswith("@") for key in value):
        raise ValueError("a key that begins with @ is reserved")
    return form_1(value if repeat is None else {**value, "@repeat": repeat})


def form_1(root: object) -> bytes:
    values = 0

    def text(value: object, depth: int) -> str:
        nonlocal values
        values += 1
        if values > 100_000:
            raise ValueError("more than 100,000 values")
        if isinstance(value, dict | list | tuple) and depth > 32:
            raise ValueError("more than 32 nested containers")
        if isinstance(value, dict):
            members = {}
            for key, member in value.items():
                if key_text(key) in members:
                    raise ValueError(f"two keys are both written {key_text(key)!r}")
                members[key_text(key)] = text(member, depth + 1)
            in_order = sorted(members, key=utf16)
            return "{" + ",".join(f"{string_text(key)}:{members[key]}" for key in in_order) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join([text(item, depth + 1) for item in value]) + "]"
        return scalar_text(value)  # type: ignore[arg-type]

    written = text(root, 1).encode()
    if len(written) > 1_048_576:
        raise ValueError("more than 1,048,576 bytes")
    return written


def is_canonical(written: bytes) -> bool:
    """Tell whether bytes are in form 1: parsing and writing them again gives the same bytes (rule 11)."""

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("two members with one key")
        return dict(pairs)

    def no_constant(token: str) -> object:
        raise ValueError(f"{token} is no JSON")

    try:
        value = json.loads(written.decode(), object_pairs_hook=members, parse_constant=no_constant)
        return isinstance(value, dict) and form_1(value) == written
    except (ValueError, RecursionError):
        return False


def uid(text: str | bytes) -> str:
    """Hash a canonical text (rule 10): `printf %s TEXT | b3sum -l 16 --no-names`."""
    return blake3(text.encode() if isinstance(text, str) else text).hexdigest()[:32]


# msgpack, as far as any msgpack library reads it


UNSIGNED = {0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q"}
SIGNED = {0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q"}
FLOATS = {0xCA: "f", 0xCB: "d"}
LENGTHS = {
    0xD9: ("str", "B"), 0xDA: ("str", "H"), 0xDB: ("str", "I"),
    0xC4: ("bin", "B"), 0xC5: ("bin", "H"), 0xC6: ("bin", "I"),
    0xC7: ("ext", "B"), 0xC8: ("ext", "H"), 0xC9: ("ext", "I"),
    0xDC: ("array", "H"), 0xDD: ("array", "I"), 0xDE: ("map", "H"), 0xDF: ("map", "I"),
}  # fmt: skip


class Ext(NamedTuple):
    code: int
    data: bytes


class NoText(NamedTuple):
    """A msgpack text that is not UTF-8: a value, but no text."""

    data: bytes


def pack(value: object) -> bytes:
    """Encode one msgpack value in its narrowest form; floats are doubles, maps keep their order."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return pack_integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return pack_head(len(data), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, bytes):
        return pack_head(len(value), 0, -1, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, list | tuple):
        return pack_head(len(value), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    if isinstance(value, dict):
        pairs = b"".join(pack(key) + pack(member) for key, member in value.items())
        return pack_head(len(value), 0x80, 15, (None, 0xDE, 0xDF)) + pairs
    raise TypeError(f"cannot pack {value!r}")


def pack_integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b" if value < 0 else ">B", value)
    for code, letter in SIGNED.items() if value < 0 else UNSIGNED.items():
        try:
            return bytes([code]) + struct.pack(f">{letter}", value)
        except struct.error:
            continue
    raise TypeError(f"{value} has more than 64 bits")


def pack_head(count: int, fixed: int, fixed_limit: int, codes: tuple[int | None, int, int]) -> bytes:
    if count <= fixed_limit:
        return bytes([fixed | count])
    for code, letter, limit in zip(codes, "BHI", (0xFF, 0xFFFF, 0xFFFFFFFF), strict=True):
        if code is not None and count <= limit:
            return bytes([code]) + struct.pack(f">{letter}", count)
    raise TypeError(f"a length of {count} has more than 32 bits")


def unpack(data: bytes) -> Any:
    """Decode exactly one msgpack value that fills `data`; raise Malformed otherwise."""
    value, end = unpack_from(data, 0, 0)
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes after the value")
    return value


def unpack_from(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > NESTING_LIMIT:
        raise Malformed("nested too deeply")

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(data):
            raise Malformed("the value is cut short")
        at += count
        return data[at - count : at]

    def number(letter: str) -> Any:
        return struct.unpack(f">{letter}", take(struct.calcsize(f">{letter}")))[0]

    code = take(1)[0]
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 0x100, at
    if code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[code], at
    for letters in (UNSIGNED, SIGNED, FLOATS):
        if code in letters:
            return number(letters[code]), at

    if code < 0x90:
        kind, count = "map", code & 0x0F
    elif code < 0xA0:
        kind, count = "array", code & 0x0F
    elif code < 0xC0:
        kind, count = "str", code & 0x1F
    elif 0xD4 <= code <= 0xD8:
        kind, count = "ext", 1 << (code - 0xD4)
    elif code in LENGTHS:
        kind, letter = LENGTHS[code]
        count = number(letter)
    else:
        raise Malformed("C1 is no msgpack value")

    if kind == "bin":
        return take(count), at
    if kind == "ext":
        type_code = number("b")
        return Ext(type_code, take(count)), at
    if kind == "str":
        text = take(count)
        try:
            return text.decode(), at
        except UnicodeDecodeError:
            return NoText(text), at
    if count > len(data) - at:
        raise Malformed("the value is cut short")
    if kind == "array":
        items = []
        for _ in range(count):
            item, at = unpack_from(data, at, depth + 1)
            items.append(item)
        return items, at
    members = {}
    for _ in range(count):
        key, at = unpack_from(data, at, depth + 1)
        member, at = unpack_from(data, at, depth + 1)
        members[as_key(key)] = member
    return members, at


def as_key(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(as_key, value))
    if isinstance(value, dict):
        return tuple((key, as_key(member)) for key, member in value.items())
    return value


# Segments: log.md sections 3 and 4


@dataclass(frozen=True)
class Frame:
    offset: int
    type: int
    flags: int
    seq: int
    clock: int
    payload: bytes
    prefix: bytes
    raw: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.raw)


@dataclass(frozen=True)
class Segment:
    """What a segment file holds.

    `verdict` is "whole", "torn" or "damaged"; or "newer", and then `why` names what format 1 does not have.
    `good_end` is the length of the good prefix; unless the verdict is whole, `why` says what is wrong there.
    """

    name: str
    frames: list[Frame]
    good_end: int
    verdict: str
    why: str = ""
    salvaged: list[Frame] = field(default_factory=list)


def make_frame(before: bytes, type_: int, seq: int, clock: int, payload: bytes, flags: int = 0) -> bytes:
    """Make the frame that follows the bytes `before` of its file."""
    head = struct.pack("<2sBBIQQ", b"\xc1\x54", type_, flags, len(payload), seq, clock)
    head += struct.pack("<I", zlib.crc32(head + payload))
    head += struct.pack("<I", zlib.crc32(head))
    body = b"\x93\xc4\x20" + head + b"\xc6" + struct.pack(">I", len(payload)) + payload + b"\xc4\x20"
    return body + blake3(before + body).digest()


def parse_frame(data: bytes, at: int) -> tuple[Frame | None, str]:
    """Read the frame at `at` if it is complete, its fixed bytes and both CRCs right; else say why not."""
    if data[at : at + 3] != b"\x93\xc4\x20":
        return None, "no frame begins here"
    header = data[at + 3 : at + 35]
    if len(header) < 32:
        return None, "the header is cut short"
    sync, type_, flags, n, seq, clock, crc, header_crc = struct.unpack("<2sBBIQQII", header)
    if sync != b"\xc1\x54":
        return None, "no sync pattern"
    if zlib.crc32(header[:28]) != header_crc:
        return None, "the CRC of the header is wrong"
    if type_ == 0 or n > PAYLOAD_LIMIT or max(seq, clock) >= 1 << 63:
        return None, f"type {type_} with {n} bytes of payload, seq {seq}, clock {clock}"
    if at + FRAME_OVERHEAD + n > len(data):
        return None, "the frame is cut short"
    if data[at + 35 : at + 40] != b"\xc6" + struct.pack(">I", n):
        return None, "the head of the payload is wrong"
    payload = data[at + 40 : at + 40 + n]
    if zlib.crc32(header[:24] + payload) != crc:
        return None, "the CRC of the payload is wrong"
    if data[at + 40 + n : at + 42 + n] != b"\xc4\x20":
        return None, "the head of the prefix hash is wrong"
    raw = data[at : at + FRAME_OVERHEAD + n]
    return Frame(at, type_, flags, seq, clock, payload, raw[-32:], raw), ""


def why_not_good(frame: Frame, prefix: bytes, good: list[Frame]) -> str:
    """Judge a frame with right CRCs by prefix hash, seq and place; "" if it is good."""
    if frame.prefix != prefix:
        return "the prefix hash is wrong"
    if good and frame.seq != good[-1].seq + 1:
        return f"seq {frame.seq} follows seq {good[-1].seq}"
    if (frame.type == OPEN) != (not good):
        return "OPEN is not the first frame" if frame.type == OPEN else "the first frame is not OPEN"
    if good and good[-1].type == SEAL:
        return "a frame follows SEAL"
    return ""


def salvage(data: bytes, start: int) -> list[Frame]:
    """Find the complete frames with right CRCs that begin at `start` or later and lie in no such frame."""
    found = []
    at = start
    while (sync := data.find(b"\xc1\x54", at + 3)) >= 0:
        frame, _ = parse_frame(data, sync - 3)
        if frame:
            found.append(frame)
        at = frame.end if frame else sync - 2
    return found


def not_of_format_1(frame: Frame, last_type: int = SEAL) -> str:
    if frame.flags:
        return f"flags {frame.flags} in the frame at {frame.offset}"
    if last_type < frame.type <= 127:
        return f"type {frame.type} in the frame at {frame.offset}"
    if frame.type == OPEN:
        version = open_map(frame).get("format")
        if isinstance(version, int) and version > 1:
            return f"format {version} in the OPEN frame"
    return ""


def read_segment(data: bytes, sealed: bool, name: str = "", last_type: int = SEAL) -> Segment:
    """Scan a segment, and salvage behind what is not good.

    With `sealed` every byte must be of a good frame, and a `name` of a sealed file must end in its hash.
    Types up to `last_type` are understood: ROWS in files of metrics.
    """
    frames: list[Frame] = []
    at, why = 0, ""
    if len(data) < len(MAGIC) or not any(data):
        why = "no bytes but zeros" if len(data) >= len(MAGIC) else "shorter than 18 bytes"
    elif data[: len(MAGIC)] != MAGIC:
        why = "another magic"
    else:
        at = len(MAGIC)
        before = blake3(MAGIC)
        while at < len(data):
            frame, why = parse_frame(data, at)
            if frame is None:
                break
            why = why_not_good(frame, before.update(frame.raw[:-32]).digest(), frames)
            if why:
                break
            frames.append(frame)
            before.update(frame.prefix)
            at = frame.end

    # The frame at `at` is not good; if its own CRCs are right it is salvaged too.
    found = salvage(data, at) if why else []
    if found and found[0].offset == at and not any(data[found[0].end - 1 :]):
        found = []  # its prefix hash ends in zeros that go on to the end: a crash cut it short
    salvaged = [frame for frame in found if frame.seq not in {good.seq for good in frames}]
    for frame in frames + salvaged:
        if newer := not_of_format_1(frame, last_type):
            return Segment(name, frames, at, "newer", newer, salvaged)

    match = SEGMENT_NAME.fullmatch(name) or SERIES_NAME.fullmatch(name)
    if sealed and not why and match and match["hash"] and match["hash"] != blake3(data).hexdigest()[:16]:
        why = "the hash in the name is of other bytes"
    if sealed and not why and name.endswith(".seg") and (not frames or frames[-1].type != SEAL):
        why = "a sealed segment without SEAL"
    if not why:
        return Segment(name, frames, at, "whole")
    torn = not sealed and not found and why != "another magic"
    return Segment(name, frames, at, "torn" if torn else "damaged", why, salvaged)


def open_map(frame: Frame | None) -> dict[Any, Any]:
    """Give the payload of an OPEN frame, empty where it is no map."""
    try:
        payload = unpack(frame.payload) if frame else {}
    except Malformed:
        return {}
    return payload if isinstance(payload, dict) else {}


def read_open(segment: Segment) -> dict[Any, Any]:
    """Give the OPEN payload of a segment, empty where it does not read: log.md section 4."""
    opened = open_map(segment.frames[0] if segment.frames else None)
    members = {name: check(opened[name]) if name in opened else False for name, check in OPEN_MEMBERS.items()}
    return opened if all(members.values()) and is_batch(opened.get("batch")) else {}


def is_batch(value: object) -> bool:
    if value is None:
        return True
    checks = {"system": is_text, "job": is_text, "array": nil_or(is_text), "task": nil_or(is_text)}
    checks["restarts"] = is_integer
    return isinstance(value, dict) and all(name in value and checks[name](value[name]) for name in checks)


def breaches(segment: Segment) -> Iterator[str]:
    """Name what is wrong in frames that are good by section 4: payloads and clocks."""
    opened = read_open(segment)
    match = SEGMENT_NAME.fullmatch(segment.name) or SERIES_NAME.fullmatch(segment.name)
    if segment.frames:
        if not opened:
            yield "the OPEN frame lacks a member, or one has another type"
        elif match and (opened["writer"], opened["segment"]) != (match["writer"], int(match["number"])):
            yield "the OPEN frame names another writer or segment than the file's name"
    for before, after in zip(segment.frames, segment.frames[1:], strict=False):
        if after.clock <= before.clock:
            yield f"the clock does not rise at {after.offset}"
    for frame in segment.frames:
        if frame.type == SEAL:
            try:
                sealed = unpack(frame.payload)
            except Malformed:
                sealed = None
            if not isinstance(sealed, dict) or sealed.get("frames") != len(segment.frames):
                yield f"SEAL does not count {len(segment.frames)} frames"


# Files of a store: layout.md section 2, log.md section 4

MONTH_NAME = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
SEGMENT_NAME = re.compile(
    r"(?P<writer>[0-9a-f]{32})-(?P<number>0|[1-9][0-9]*)(?:\.open|-(?P<hash>[0-9a-f]{16})\.(?:seg|part))"
)
SERIES_NAME = re.compile(rf"(?P<uid30>[0-9a-f]{{30}})-(?P<ref16>[0-9a-f]{{16}})-{SEGMENT_NAME.pattern}")


class Finding(NamedTuple):
    """`code`: "damaged" is an error; "torn", "gap", "fork", "name" and "unknown" are not."""

    code: str
    path: str
    text: str


def entries(folder: str, is_kind: Callable[[int], bool]) -> Iterator[str]:
    """List the names of one kind in a folder (never a symbolic link), sorted; none if it is not there."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        try:
            mode = os.lstat(os.path.join(folder, name)).st_mode
        except OSError:
            continue
        if is_kind(mode):
            yield name


def list_ledger(root: str | os.PathLike[str], is_wanted: re.Pattern[str] = SEGMENT_NAME) -> list[str]:
    """List the segment files of a store by path relative to `.tracker`, in order; other names are ignored."""
    tracker = os.path.join(root, ".tracker")
    if "ledger" not in entries(tracker, stat.S_ISDIR):
        return []
    return [
        f"ledger/{month}/{name}"
        for month in entries(os.path.join(tracker, "ledger"), stat.S_ISDIR)
        if MONTH_NAME.fullmatch(month)
        for name in entries(os.path.join(tracker, "ledger", month), stat.S_ISREG)
        if is_wanted.fullmatch(name)
    ]


# Packs: packs.md

PACK_NAME = re.compile(r"[0-9a-f]{16}\.pack")
BLOCK = 512
LONG_NAME = re.compile(rb"[0-9]+ path=(.{101,255})\n\0*", re.DOTALL)


def tar_block(name: bytes, mode: bytes, size: int, kind: bytes, device: bytes) -> bytes:
    fields = [(name, 100), (mode, 8), (b"0000000", 8), (b"0000000", 8)]
    fields += [(f"{size:011o}".encode(), 12), (b"0" * 11, 12), (b" " * 8, 8), (kind, 1), (b"", 100)]
    fields += [(b"ustar", 6), (b"00", 2), (b"", 64), (device, 8), (device, 8), (b"", 167)]
    header = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return header[:148] + f"{sum(header):06o}\0 ".encode() + header[156:]


def tar_header(name: str, size: int) -> bytes:
    """Write the header of a member, of one block or of three; there is no other way to write it."""
    whole = name.encode("ascii")
    if not 1 <= len(whole) <= 255:
        raise ValueError(f"{name!r} is no name of a member")
    own = tar_block(whole[:100], b"0000444", size, b"0", b"0000000")
    if len(whole) <= 100:
        return own
    rest = b" path=" + whole + b"\n"
    length = next(n for n in range(len(rest), BLOCK) if len(str(n)) + len(rest) == n)
    record = str(length).encode() + rest
    return tar_block(b"pax", b"0000644", length, b"x", b"") + record.ljust(BLOCK, b"\0") + own


def tar_file(members: dict[str, bytes]) -> bytes:
    """Write a pack."""
    blocks = [tar_header(name, len(members[name])) + members[name] for name in sorted(members)]
    padded = [block.ljust(-(-len(block) // BLOCK) * BLOCK, b"\0") for block in blocks]
    return b"".join(padded) + bytes(2 * BLOCK)


def parse_tar_header(data: bytes, at: int) -> tuple[str, int, int] | None:
    """Read the header at `at`: name, size, and where it ends. None where none begins there."""
    first, record, third = (data[start : start + BLOCK] for start in range(at, at + 3 * BLOCK, BLOCK))
    long = LONG_NAME.fullmatch(record)
    for name, own in ((first[:100].rstrip(b"\0"), first), (long[1] if long else b"", third)):
        size = own[124:135]
        if not name or not name.isascii() or not re.fullmatch(rb"[0-7]{11}", size):
            continue
        header = tar_header(name.decode("ascii"), int(size, 8))
        if data.startswith(header, at):
            return name.decode("ascii"), int(size, 8), at + len(header)
    return None


def tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Read names and bytes; where no header begins at a block, go on with the next one."""
    at = 0
    while at < len(data):
        header = parse_tar_header(data, at)
        if header is None:
            at += BLOCK
            continue
        name, size, start = header
        yield name, data[start : start + size]
        at = start + -(-size // BLOCK) * BLOCK


def packed_files(
    root: str | os.PathLike[str], packs: Iterable[str], is_wanted: re.Pattern[str], findings: list[Finding]
) -> Iterator[tuple[str, bytes]]:
    """Give path and bytes of each sealed segment that lies in a pack of its folder, in the order of packs."""
    for pack in packs:
        room = pack.rpartition("/")[0]
        try:
            with open(os.path.join(root, ".tracker", pack), "rb") as file:
                data = file.read()
        except OSError as error:
            findings.append(Finding("damaged", pack, f"cannot be read: {error.strerror}"))
            continue
        members = dict(reversed([*tar_members(data)]))  # of two of one name the first counts
        for path, data in members.items():
            folder, _, name = path.rpartition("/")
            if folder == room and is_wanted.fullmatch(name) and not name.endswith(".open"):
                yield path, data


def one_of(copies: list[bytes], name: str) -> bytes:
    """Choose among the copies of one name: the first that has the hash in it, else the first."""
    match = SEGMENT_NAME.fullmatch(name) or SERIES_NAME.fullmatch(name)
    assert match
    return next((data for data in copies if blake3(data).hexdigest()[:16] == match["hash"]), copies[0])


def loose_and_packed(
    root: str | os.PathLike[str],
    loose: list[str],
    packed: Iterable[tuple[str, bytes]],
    findings: list[Finding],
) -> Iterator[tuple[str, bytes]]:
    """Give path and bytes of each segment, in order, all copies of one name being one: packs.md section 4."""
    copies: dict[str, list[bytes]] = {}
    for path in loose:
        try:
            with open(os.path.join(root, ".tracker", path), "rb") as file:
                copies[path] = [file.read()]
        except OSError as error:
            findings.append(Finding("damaged", path, f"cannot be read: {error.strerror}"))
    for path, data in packed:
        copies.setdefault(path, []).append(data)
    for path in sorted(copies):
        yield path, one_of(copies[path], path.rpartition("/")[2])


def check_format(root: str | os.PathLike[str]) -> None:
    """Refuse another version. A proper prefix of the right bytes, or zeros, is how a crash looks: absent."""
    if "FORMAT" not in entries(os.path.join(root, ".tracker"), stat.S_ISREG):
        return
    with open(os.path.join(root, ".tracker", "FORMAT"), "rb") as file:
        data = file.read(1000)
    if any(data) and not FORMAT_TEXT.startswith(data):
        raise NewerFormat(f"FORMAT is {data[:40]!r}; this reads {FORMAT_TEXT!r}")


@dataclass(frozen=True)
class Held:
    """A frame of the ledger with its writer, whether it is proven, and the OPEN payload of its file."""

    writer: str
    frame: Frame
    proven: bool
    opened: dict[Any, Any]


@dataclass
class Ledger:
    frames: list[Held]
    findings: list[Finding]


def read_ledger(root: str | os.PathLike[str]) -> Ledger:
    """Read every file that counts and give its frames, each once."""
    check_format(root)
    findings: list[Finding] = []
    groups: dict[tuple[str, int], list[tuple[str, Segment]]] = {}
    packed = packed_files(root, list_ledger(root, PACK_NAME), SEGMENT_NAME, findings)
    for path, data in loose_and_packed(root, list_ledger(root), packed, findings):
        name = path.rpartition("/")[2]
        match = SEGMENT_NAME.fullmatch(name)
        assert match
        segment = read_segment(data, not name.endswith(".open"), name)
        groups.setdefault((match["writer"], int(match["number"])), []).append((path, segment))

    held: list[Held] = []
    for (named_writer, _), files in sorted(groups.items()):
        for path, segment in counting(files):
            if segment.verdict == "newer":
                raise NewerFormat(f"{path}: {segment.why}; this reads format 1")
            if segment.verdict != "whole":
                findings.append(Finding(segment.verdict, path, f"at {segment.good_end}: {segment.why}"))
            findings += [Finding("damaged", path, text) for text in breaches(segment)]
            opened = read_open(segment)
            writer = opened["writer"] if is_writer(opened.get("writer")) else named_writer
            held += [Held(writer, frame, True, opened) for frame in segment.frames]
            held += [Held(writer, frame, False, opened) for frame in segment.salvaged]
    frames = each_once(held)
    return Ledger(frames, findings + list(gaps_and_forks(frames)))


def counting(files: list[tuple[str, Segment]]) -> list[tuple[str, Segment]]:
    """Choose among the files of one writer and number: a sealed one that is not damaged hides the others."""
    sealed = [(path, segment) for path, segment in files if path.endswith(".seg")]
    return sealed if any(segment.verdict != "damaged" for _, segment in sealed) else files


def each_once(held: list[Held]) -> list[Held]:
    """Keep one of frames with the same writer, seq and bytes: a proven one if there is one.

    An unproven frame is the same as another if they agree up to the prefix hash: that may be what is damaged.
    """
    proven = {(one.writer, one.frame.seq, one.frame.raw): one for one in held if one.proven}
    kept = {(writer, seq, raw[:-32]) for writer, seq, raw in proven}
    result = list(proven.values())
    for one in held:
        key = (one.writer, one.frame.seq, one.frame.raw[:-32])
        if key not in kept:
            kept.add(key)
            result.append(one)
    return result


def gaps_and_forks(held: Iterable[Held]) -> Iterator[Finding]:
    counts: dict[str, dict[int, int]] = {}
    for one in held:
        seqs = counts.setdefault(one.writer, {})
        seqs[one.frame.seq] = seqs.get(one.frame.seq, 0) + 1
    for writer, seqs in sorted(counts.items()):
        expected = 0
        for seq in sorted(seqs):
            if seq != expected:
                yield Finding("gap", writer, f"seq {expected} to {seq - 1} are not here")
            if seqs[seq] > 1:
                yield Finding("fork", writer, f"{seqs[seq]} frames of seq {seq}")
            expected = seq + 1


# Events: events.md sections 1 and 2


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_digest(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def is_writer(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None


def is_ref(value: object) -> bool:
    if not isinstance(value, str):
        return False
    *parts, last = value.split("/")
    names = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    return bool(parts) and names and re.fullmatch(r"[0-9a-f]{32}", last) is not None


def is_json(value: object, depth: int = 1) -> bool:
    if isinstance(value, dict | list) and depth > 32:
        return False
    if isinstance(value, dict):
        return all(is_text(key) and is_json(member, depth + 1) for key, member in value.items())
    if isinstance(value, list):
        return all(is_json(member, depth + 1) for member in value)
    return value is None or isinstance(value, bool | int | float | str)


def is_map(value: object) -> bool:
    return isinstance(value, dict) and is_json(value)


def nil_or(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


OPEN_MEMBERS: dict[str, Callable[[object], bool]] = {
    "format": is_integer,
    "writer": is_writer,
    "segment": is_integer,
    "host": is_text,
    "boot": nil_or(is_text),
    "pidns": nil_or(is_integer),
    "pid": is_integer,
    "pid_start": nil_or(is_integer),
    "user": is_text,
    "version": is_text,
    "time": is_integer,
    "previous": nil_or(is_text),
}
"""Members of an OPEN payload: log.md section 3."""


def list_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def array_of(*checks: Callable[[object], bool]) -> Callable[[object], bool]:
    """Check fields by position; fields beyond those known are skipped."""
    return lambda value: (
        isinstance(value, list)
        and len(value) >= len(checks)
        and all(check(item) for check, item in zip(checks, value, strict=False))
    )


def is_boolean(value: object) -> bool:
    return isinstance(value, bool)


is_attached = array_of(is_text, is_text, is_boolean)
is_sealed_file = array_of(is_text, is_text, nil_or(is_integer), nil_or(is_digest), is_boolean)
is_input = array_of(is_text, is_text, nil_or(is_integer), nil_or(is_digest), is_boolean, nil_or(is_text))

KINDS: dict[str, Callable[[object], bool]] = {
    "created": array_of(is_ref, is_text, nil_or(is_text), is_text),
    "started": array_of(is_ref, is_integer, list_of(is_text), is_integer, is_text, nil_or(is_digest)),
    "attached": array_of(is_ref, is_text, list_of(is_attached)),
    "summary": array_of(is_ref, is_text, is_map),
    "captured": array_of(is_ref, is_text, is_map),
    "used": array_of(is_ref, is_text, list_of(is_input)),
    "done": array_of(is_ref, is_text, is_integer, list_of(is_sealed_file)),
    "failed": array_of(
        is_ref, is_text, is_integer, list_of(is_sealed_file), is_text, is_text, nil_or(is_digest)
    ),
    "interrupted": array_of(
        is_ref, is_text, is_integer, list_of(is_sealed_file), nil_or(is_text), is_integer
    ),
    "lost": array_of(is_ref, is_text, is_integer, is_text),
    "tagged": array_of(is_ref, list_of(is_text), list_of(is_text)),
    "noted": array_of(is_ref, is_text),
    "named": array_of(is_ref, nil_or(is_text)),
    "parented": array_of(is_ref, nil_or(is_text)),
    "removed": array_of(is_ref, is_text),
    "restored": array_of(is_ref, is_text),
    "purged": array_of(is_ref, list_of(nil_or(is_digest))),
    "rule": array_of(is_text, is_text, nil_or(is_text)),
}
OF_AN_ATTEMPT = {"attached", "summary", "captured", "used", "done", "failed", "interrupted", "lost"}


@dataclass(frozen=True)
class Event:
    """One event under its place in the order; `fields` are those after the tag."""

    order: tuple[int, str, int, int, bytes]
    tag: str
    fields: list[Any]
    held: Held

    @property
    def attempt(self) -> str | None:
        """Give the id of the attempt that the event is about, if it is about one."""
        if self.tag == "started":
            return f"{self.held.writer}-{self.held.frame.seq}"
        return self.fields[1] if self.tag in OF_AN_ATTEMPT else None


def read_events(ledger: Ledger) -> list[Event]:
    """Decode the events of all frames in order. What cannot be decoded is damage, and left out."""
    events = []

    def finding(code: str, text: str) -> None:
        ledger.findings.append(Finding(code, where, text))

    for held in ledger.frames:
        frame = held.frame
        where = f"{held.writer}-{frame.seq}"
        if frame.type != EVENTS:
            continue
        try:
            payload = unpack(frame.payload)
            if not isinstance(payload, list) or not payload:
                raise Malformed("no array of events")
        except Malformed as malformed:
            finding("damaged", f"payload: {malformed}")
            continue
        for position, event in enumerate(payload):
            if not isinstance(event, list) or not event or not isinstance(event[0], str):
                finding("damaged", f"event {position} is no array with a tag")
            elif event[0] not in KINDS:
                finding("unknown", f"event {position} is of the kind {event[0]!r}")
            elif not KINDS[event[0]](event[1:]):
                finding("damaged", f"event {position}: fields of {event[0]!r}")
            else:
                order = (frame.clock, held.writer, frame.seq, position, frame.prefix)
                events.append(Event(order, event[0], event[1:], held))
    return sorted(events, key=lambda event: event.order)


# State: events.md sections 3 and 5

Json = dict[str, Any]
ENDS = {"done": "done", "failed": "error", "interrupted": "interrupted"}


def hex_or_none(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def plain(value: Any) -> Any:
    """Give a summary value as JSON has it: not-a-numbers are the words of form 1."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.loads(float_text(value))
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value, key=utf16)}
    return value


@dataclass
class Attempt:
    id: str
    events: list[Event]

    @property
    def start(self) -> Event | None:
        return next((event for event in self.events if event.tag == "started"), None)

    @property
    def place(self) -> tuple[int, str, int, int, bytes]:
        return (self.start or self.events[0]).order

    @property
    def supersedes(self) -> list[str]:
        return self.start.fields[2] if self.start else []

    def status_and_end(self) -> tuple[str, Event | None]:
        status, end = "running", None
        for event in self.events:
            if event.tag in ENDS:
                status, end = ENDS[event.tag], event
            elif event.tag == "lost" and status in ("running", "lost"):
                status, end = "lost", event
        return status, end

    def sealed(self) -> dict[str, tuple[int, str | None]]:
        """Map each name sealed by the end to size and digest."""
        end = self.status_and_end()[1]
        if end is None or end.tag not in ENDS:
            return {}
        return {name: (size, hex_or_none(digest)) for name, _, size, digest, *_ in end.fields[3]}

    def files(self) -> dict[str, list[Any]]:
        end = self.status_and_end()[1]
        shown: dict[str, list[Any]] = {}
        sealing = end if end and end.tag in ENDS else None
        if sealing:
            shown |= sealed_files(sealing)
        for event in self.events:
            if event.tag == "attached" and (sealing is None or event.order > sealing.order):
                for name, path, external, *_ in event.fields[2]:
                    shown[name] = [name, path, None, None, external]
        return shown

    def told(self, tag: str, before: Event | None) -> Iterator[Event]:
        return (
            event
            for event in self.events
            if event.tag == tag and (before is None or event.order < before.order)
        )

    def merged(self, tag: str, before: Event | None) -> dict[str, Any]:
        """Give the maps of these events as one: for each name the last value."""
        values: dict[str, Any] = {}
        for event in self.told(tag, before):
            values |= event.fields[2]
        return {name: plain(values[name]) for name in sorted(values, key=utf16)}

    def summary(self, before: Event | None = None) -> dict[str, Any]:
        return self.merged("summary", before)

    def facts(self, before: Event | None = None) -> dict[str, Any]:
        return self.merged("captured", before)

    def inputs(self, before: Event | None = None) -> list[list[Any]]:
        found: dict[str, list[Any]] = {}
        for event in self.told("used", before):
            for name, path, size, digest, external, source, *_ in event.fields[2]:
                found[name] = [name, path, size, hex_or_none(digest), external, source]
        return [found[name] for name in sorted(found)]

    def environment(self, before: Event | None = None) -> str | None:
        recorded = hex_or_none(self.start.fields[5]) if self.start else None
        fact = self.facts(before).get("environment")
        return recorded or (fact if isinstance(fact, str) and re.fullmatch("[0-9a-f]{64}", fact) else None)


def sealed_files(end: Event) -> dict[str, list[Any]]:
    return {
        name: [name, path, size, hex_or_none(digest), external]
        for name, path, size, digest, external, *_ in end.fields[3]
    }


def error_of(end: Event | None) -> Json | None:
    if end is None or end.tag != "failed":
        return None
    _, _, _, _, type_, message, traceback, *_ = end.fields
    return {"type": type_, "message": message, "traceback": hex_or_none(traceback)}


def interrupt_of(end: Event | None) -> Json | None:
    if end is None or end.tag != "interrupted":
        return None
    _, _, _, _, signal, restarts, *_ = end.fields
    return {"signal": signal, "restarts": restarts}


@dataclass
class Run:
    ref: str
    events: list[Event]

    def record(self) -> tuple[str | None, str | None, str | None]:
        """Give params text, key and mode by the first `created`, else unknown."""
        for event in self.events:
            if event.tag == "created":
                return event.fields[1], event.fields[2], event.fields[3]
        return None, None, None

    def attempts(self) -> list[Attempt]:
        found: dict[str, Attempt] = {}
        for event in self.events:
            if event.attempt is not None:
                found.setdefault(event.attempt, Attempt(event.attempt, [])).events.append(event)
        return sorted(found.values(), key=lambda attempt: attempt.place)

    def heads(self) -> list[Attempt]:
        attempts = self.attempts()
        superseded = {id_ for attempt in attempts for id_ in attempt.supersedes}
        return [attempt for attempt in attempts if attempt.id not in superseded] or attempts

    def canonical(self) -> Attempt | None:
        heads = self.heads()
        done = [attempt for attempt in heads if attempt.status_and_end()[0] == "done"]
        if done:
            return min(done, key=lambda attempt: attempt.status_and_end()[1].order)  # type: ignore[union-attr]
        return max(heads, key=lambda attempt: attempt.place, default=None)

    def divergent(self) -> bool:
        done = [attempt.sealed() for attempt in self.heads() if attempt.status_and_end()[0] == "done"]
        return any(
            one.keys() != other.keys()
            or any(
                mine != theirs
                for name in one
                for mine, theirs in zip(one[name], other[name], strict=True)
                if mine is not None and theirs is not None
            )
            for one in done
            for other in done
        )

    def tags(self) -> list[str]:
        tags: set[str] = set()
        for event in self.events:
            if event.tag == "tagged":
                tags = (tags | set(event.fields[1])) - set(event.fields[2])
        return sorted(tags)

    def last_word(self, tag: str) -> str | None:
        words = [event.fields[1] for event in self.events if event.tag == tag]
        return words[-1] if words else None

    def removed(self) -> bool:
        words = [event.tag for event in self.events if event.tag in ("removed", "restored")]
        return words[-1:] == ["removed"]


def split_ref(ref: str) -> tuple[str, str, str]:
    """Split a ref into relpath, identifier and uid."""
    *relpath, identifier, uid_ = ref.split("/")
    return "/".join(relpath), identifier, uid_


def runs_of(events: list[Event]) -> list[Run]:
    runs: dict[str, Run] = {}
    for event in events:
        if event.tag != "rule":
            runs.setdefault(event.fields[0], Run(event.fields[0], [])).events.append(event)
    return list(runs.values())


def attempt_json(attempt: Attempt, is_head: bool) -> Json:
    status, end = attempt.status_and_end()
    start = attempt.start
    files = attempt.files()
    return {
        "id": attempt.id,
        "status": status,
        "head": is_head,
        "started": start.fields[1] if start else None,
        "ended": end.fields[2] if end else None,
        "supersedes": attempt.supersedes,
        "claim": start.fields[3] if start else None,
        "mode": start.fields[4] if start else None,
        "environment": attempt.environment(),
        "error": error_of(end),
        "interrupt": interrupt_of(end),
        "files": [files[name] for name in sorted(files)],
        "summary": attempt.summary(),
        **where_told(facts=attempt.facts(), inputs=attempt.inputs()),
    }


def where_told(**members: Any) -> Json:
    """Leave out the members of which nothing is recorded."""
    return {name: value for name, value in members.items() if value not in (None, {}, [])}


def run_json(run: Run) -> Json:
    relpath, identifier, uid_ = split_ref(run.ref)
    params, key, mode = run.record()
    canonical = run.canonical()
    heads = {attempt.id for attempt in run.heads()}
    return {
        "ref": run.ref,
        "relpath": relpath,
        "identifier": identifier,
        "uid": uid_,
        "key": key,
        "params": params,
        "mode": mode,
        "status": canonical.status_and_end()[0] if canonical else "pending",
        "removed": run.removed(),
        "divergent": run.divergent(),
        "unproven": any(not event.held.proven for event in run.events),
        "canonical": canonical.id if canonical else None,
        "first": list(run.events[0].order[:4]),
        "tags": run.tags(),
        "notes": [event.fields[1] for event in run.events if event.tag == "noted"],
        **where_told(name=run.last_word("named"), parent=run.last_word("parented")),
        "summary": canonical.summary() if canonical else {},
        "attempts": [attempt_json(attempt, attempt.id in heads) for attempt in run.attempts()],
    }


def state_of(events: list[Event]) -> Json:
    return {
        "format": 1,
        "runs": [run_json(run) for run in runs_of(events)],
        "rules": [event.fields[:3] for event in events if event.tag == "rule"],
    }


def check_params(run: Run) -> Iterator[Finding]:
    for event in run.events:
        if event.tag == "created":
            text = event.fields[1]
            if uid(text) != split_ref(run.ref)[2]:
                yield Finding("damaged", run.ref, "the params recorded have another uid")
            elif not is_canonical(text.encode()):
                yield Finding("damaged", run.ref, "the params recorded are not in form 1")


def read_store(root: str | os.PathLike[str]) -> Json:
    """Give the state of a store; a folder without one has an empty state. Raises only NewerFormat."""
    return state_of(read_events(read_ledger(root)))


# Manifests: manifest.md


class Verbatim(str):
    """JSON text to be written as it is."""


def json_text(value: Any) -> str:
    """Write JSON without white space, members as they stand, strings and numbers as in form 1."""
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        members = [f"{string_text(key)}:{json_text(member)}" for key, member in value.items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    return scalar_text(value)


def manifest_bytes(run: Run, attempt: Attempt, end: Event) -> bytes:
    """Write the manifest of one end event. The run's params must be known."""
    relpath, identifier, uid_ = split_ref(run.ref)
    params, key, _ = run.record()
    assert params is not None
    start = attempt.start
    files = sealed_files(end)
    content = {
        "format": 1,
        "uid": uid_,
        "key": key,
        "relpath": relpath,
        "identifier": identifier,
        "mode": start.fields[4] if start else None,
        "status": ENDS[end.tag],
        "params": Verbatim(params),
        "attempt": {
            "id": attempt.id,
            "writer": end.held.writer,
            "host": text_or_none(end.held.opened.get("host")),
            "user": text_or_none(end.held.opened.get("user")),
            "started": start.fields[1] if start else None,
            "ended": end.fields[2],
            "claim": start.fields[3] if start else None,
            "supersedes": attempt.supersedes,
        },
        "error": error_of(end),
        "interrupt": interrupt_of(end),
        "files": {
            name: {"path": path, "size": size, "digest": digest, "external": external}
            for name, path, size, digest, external in (files[name] for name in sorted(files))
        },
        "environment": attempt.environment(before=end),
        "summary": attempt.summary(before=end),
        "through": {
            "writer": end.held.writer,
            "seq": end.held.frame.seq,
            "prefix": end.held.frame.prefix.hex(),
        },
        **where_told(facts=attempt.facts(before=end), inputs=attempt.inputs(before=end)),
    }
    return (json_text(content) + "\n").encode()


def text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def manifest_name(uid_: str, content: bytes) -> str:
    return f"manifests/{uid_[:2]}/{uid_[2:]}-{blake3(content).hexdigest()[:16]}.json"


def manifests_of(events: list[Event]) -> dict[str, bytes]:
    result = {}
    for run in runs_of(events):
        if run.record()[0] is None:
            continue
        for attempt in run.attempts():
            for end in attempt.events:
                if end.tag in ENDS:
                    content = manifest_bytes(run, attempt, end)
                    result[manifest_name(split_ref(run.ref)[2], content)] = content
    return dict(sorted(result.items()))


def manifests(root: str | os.PathLike[str]) -> dict[str, bytes]:
    """Give the manifests that the ledger implies, by path relative to `.tracker`."""
    return manifests_of(read_events(read_ledger(root)))


# Claims (claims.md)

CLAIM = re.compile(r"([0-9a-f]{2})/([0-9a-f]{30})-([0-9a-f]{16})\.([1-9][0-9]{0,17})")
SPENT = ("done", "error", "lost")


def claims_of(root: str | os.PathLike[str], events: list[Event]) -> list[Json]:
    """Give every claim that is here, and what can be said of it without asking its process or any clock."""
    folder = os.path.join(root, ".tracker", "claims")
    runs = {claim_stem(run.ref): run for run in runs_of(events)}
    found = [match for path in claim_paths(folder) if (match := CLAIM.fullmatch(path))]
    newest: dict[str, int] = {}
    for match in found:
        stem = match[0].rpartition(".")[0]
        newest[stem] = max(newest.get(stem, 0), int(match[4]))
    return [claim_json(folder, match, runs, newest) for match in found]


def claim_stem(ref: str) -> str:
    uid_ = split_ref(ref)[2]
    return f"{uid_[:2]}/{uid_[2:]}-{blake3(ref.encode()).hexdigest()[:16]}"


def claim_paths(folder: str) -> list[str]:
    inner = entries(folder, stat.S_ISDIR)
    return sorted(f"{name}/{last}" for name in inner for last in entries(f"{folder}/{name}", stat.S_ISREG))


def claim_json(folder: str, match: re.Match[str], runs: dict[str, Run], newest: dict[str, int]) -> Json:
    stem, number = match[0].rpartition(".")[0], int(match[4])
    run = runs.get(stem)
    attempts = [] if run is None else run.attempts()
    numbers = {attempt.id: attempt.start.fields[3] for attempt in attempts if attempt.start}
    mine = [attempt.status_and_end()[0] for attempt in attempts if numbers.get(attempt.id) == number]
    greatest = max([newest[stem], *numbers.values()])
    with open(os.path.join(folder, match[0]), "rb") as file:
        holder = holder_of(file.read())
    word = "held"
    if any(status in SPENT for status in mine):
        word = "spent"
    elif number < greatest:
        word = "superseded"
    elif holder and holder.get("folder") not in (None, os.stat(folder).st_ino):
        word = "copied"
    ref = None if run is None else run.ref
    return {"path": match[0], "run": ref, "number": number, "word": word, "holder": holder}


def holder_of(data: bytes) -> Json | None:
    """Give what a holder's file says; None if it says nothing."""
    try:
        holder = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return holder if isinstance(holder, dict) and is_integer(holder.get("pid")) else None


def claims(root: str | os.PathLike[str]) -> list[Json]:
    """Give the claims of a store: path, run, number, held or spent or superseded or copied, holder."""
    return claims_of(root, read_events(read_ledger(root)))


# Rules: rules.md


Place = tuple[str, ...]


class Refused(ValueError):
    """The rules cannot be applied to these params."""


def place_of(text: str) -> Place:
    """Read a path in the form of section 3."""
    keys = []
    while text:
        if text.startswith("["):
            key, size = json.JSONDecoder().raw_decode(text[1:])
            text = text[size + 2 :]
        else:
            match = re.match(r"\.?([A-Za-z0-9_-]+)", text)
            if match is None:
                raise ValueError(f"no path: {text}")
            key, text = match[1], text[match.end() :]
        keys.append(key)
    return tuple(keys)


def leaves_of(tree: dict[str, Any]) -> dict[Place, Any]:
    """Give the values that are no object, and the empty objects, by their places."""
    found: dict[Place, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found.update({(key, *place): leaf for place, leaf in leaves_of(value).items()})
        else:
            found[(key,)] = value
    return found


def tree_of(leaves: dict[Place, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for place, leaf in leaves.items():
        holder = tree
        for key in place[:-1]:
            holder = holder.setdefault(key, {})
        holder[place[-1]] = leaf
    return tree


def below(place: Place, outer: Place) -> bool:
    return place[: len(outer)] == outer


def renames_of(rules: list[list[Any]]) -> list[tuple[Place, Place]]:
    """Give the renames as (old, new), none before one that leads to where it begins."""
    left = {(place_of(path), place_of(json.loads(value))) for kind, path, value in rules if kind == "rename"}
    ordered = []
    while left:
        free = [
            one for one in sorted(left)
            if not any(below(new, one[0]) or below(one[0], new) for old, new in left if (old, new) != one)
        ]  # fmt: skip
        ordered.append(free[0])
        left.remove(free[0])
    return ordered


def renamed(leaves: dict[Place, Any], old: Place, new: Place) -> dict[Place, Any]:
    moved = {new + place[len(old) :]: leaf for place, leaf in leaves.items() if below(place, old)}
    rest = {place: leaf for place, leaf in leaves.items() if not below(place, old)}
    if moved:
        for place, leaf in list(rest.items()):
            if below(place, new) or (below(new, place) and leaf != {}):
                raise Refused(f"{old} leads to {new}, which is taken")
            if below(new, place):
                del rest[place]
    return without_empty({**rest, **moved}, [old])


def without_empty(leaves: dict[Place, Any], on_the_way: list[Place]) -> dict[Place, Any]:
    def goes(place: Place, leaf: Any) -> bool:
        return leaf == {} and any(below(way, place) and way != place for way in on_the_way)

    return {place: leaf for place, leaf in leaves.items() if not goes(place, leaf)}


def written_form(rules: list[list[Any]], params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the written form of params under rules that do not contradict each other, and what is ignored."""
    renames = renames_of(rules)

    def today(path: str) -> Place:
        place = place_of(path)
        for old, new in renames:
            place = new + place[len(old) :] if below(place, old) else place
        return place

    ignored_places = [today(path) for kind, path, _ in rules if kind == "ignore"]
    absent = {today(path): json.loads(value) for kind, path, value in rules if kind == "absent"}

    def dropped(leaves: dict[Place, Any], deeper_than: int) -> dict[Place, Any]:
        kept = {p: leaf for p, leaf in leaves.items() if not any(below(p, outer) for outer in ignored_places)}
        kept = without_empty(kept, [*ignored_places, *(p for p in absent if len(p) > deeper_than)])
        for place in sorted(absent, key=len, reverse=True):
            if len(place) > deeper_than:
                meant = dropped(leaves_of(tree_of({place: absent[place]})), len(place))
                inner = {p[len(place) :]: leaf for p, leaf in kept.items() if below(p, place)}
                if inner and text_at(inner) == text_at({p[len(place) :]: leaf for p, leaf in meant.items()}):
                    kept = {p: leaf for p, leaf in kept.items() if not below(p, place)}
                kept = without_empty(kept, [place])
        return kept

    leaves = leaves_of(params)
    for old, new in renames:
        leaves = renamed(leaves, old, new)
    ignored = {p: leaf for p, leaf in leaves.items() if any(below(p, outer) for outer in ignored_places)}
    return tree_of(dropped(leaves, 0)), tree_of(ignored)


def text_at(inner: dict[Place, Any]) -> bytes:
    """Give the text of one value by its leaves; that of an empty object if it has none."""
    if () in inner:
        return form_1([inner[()]])
    return form_1([tree_of(inner)])


def alias(rules: list[list[Any]], params_text: str) -> str | None:
    """Give the uid that recorded params would have under these rules; None for a session without params."""
    tree = json.loads(params_text)
    if tree.pop("@repeat", None) is not None and not tree:
        return None
    try:
        return uid(form_1(written_form(rules, tree)[0]))
    except ValueError:
        return uid(form_1(tree))


def ignored_of(event: Event) -> str | None:
    """Give the ignored text of a `created` event: its last field, if it is there and a text."""
    return event.fields[4] if len(event.fields) > 4 and is_text(event.fields[4]) else None


# Metrics: metrics.md

FORMS = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "f4": "f", "f8": "d"}
LARGEST = 1 << 53


class Row(NamedTuple):
    """A number of a metric, its place among the rows of its frame first."""

    place: int
    step: int
    time: int
    value: int | float


def is_number(value: object) -> bool:
    is_small = is_integer(value) and -(1 << 63) <= value < 1 << 63  # type: ignore[operator]
    return isinstance(value, float) or is_small


def column_of(written: Any, count: int) -> list[int | float]:
    """Give the numbers of a column. Raise Malformed."""
    if is_number(written):
        return [written] * count
    if (
        isinstance(written, list)
        and len(written) == 2
        and written[0] in FORMS
        and isinstance(written[1], bytes)
    ):
        letters = f"<{count}{FORMS[written[0]]}"
        if struct.calcsize(letters) != len(written[1]):
            raise Malformed(f"{len(written[1])} bytes for {count} numbers of {written[0]}")
        return list(struct.unpack(letters, written[1]))
    if isinstance(written, list) and len(written) == count and all(map(is_number, written)):
        return written
    raise Malformed("a column that is none")


def sequence_of(written: Any, count: int, least: int) -> list[int]:
    """Give the integers of a sequence. Raise Malformed."""
    if not isinstance(written, list) or len(written) != 2 or not is_integer(written[0]):
        raise Malformed("a sequence that is none")
    first, between = written
    is_of_floats = isinstance(between, float) or (
        isinstance(between, list) and between[:1] in (["f4"], ["f8"])
    )
    differences = column_of(between, count - 1)
    if is_of_floats or not all(map(is_integer, differences)):
        raise Malformed("a difference that is no integer")
    found = [first]
    for difference in differences:
        found.append(found[-1] + int(difference))
    if any(not least <= one <= LARGEST for one in found):
        raise Malformed(f"an integer that is not in {least} to {LARGEST}")
    return found


def is_name(value: object) -> bool:
    if not is_text(value) or not 1 <= len(value.encode()) <= 512:  # type: ignore[attr-defined]
        return False
    return all(character >= " " and character != "\x7f" for character in value)  # type: ignore[attr-defined]


def block_rows(block: Any, room: int) -> tuple[int, dict[str, list[Row]]]:
    """Give how much of `room` a block takes, and its rows by metric. Raise Malformed."""
    if not isinstance(block, dict):
        raise Malformed("no map")
    count, names, columns = block.get("n"), block.get("names"), block.get("columns")
    if not isinstance(names, list) or not isinstance(columns, list) or not 0 < len(names) == len(columns):
        raise Malformed("not as many names as columns")
    if not all(map(is_name, names)) or len(set(names)) != len(names):
        raise Malformed("a name that is none, or one twice")
    if not isinstance(count, int) or not is_integer(count) or count < 1 or count * (len(names) + 3) > room:
        raise Malformed(f"{count} rows")
    places = sequence_of(block.get("rows"), count, 0)
    if places != sorted(set(places)):
        raise Malformed("places of rows that do not rise")
    steps = sequence_of(block.get("steps"), count, -LARGEST)
    times = sequence_of(block.get("times"), count, 0)
    found = {}
    for name, column in zip(names, columns, strict=True):
        found[name] = [Row(*row) for row in zip(places, steps, times, column_of(column, count), strict=True)]
    return count * (len(names) + 3), found


def frame_rows(payload: bytes) -> tuple[dict[str, list[Row]], list[str]]:
    """Give the rows of a ROWS frame by metric, in order, and what is wrong with blocks that are none."""
    try:
        blocks = unpack(payload)
    except Malformed as error:
        return {}, [str(error)]
    if not isinstance(blocks, list) or not blocks:
        return {}, ["no array of blocks"]
    rows: dict[str, list[Row]] = {}
    wrong = []
    room = 1 << 24
    for number, block in enumerate(blocks):
        try:
            taken, found = block_rows(block, room)
        except Malformed as error:
            wrong.append(f"block {number}: {error}")
            continue
        room -= taken
        for name, more in found.items():
            rows[name] = sorted(rows.get(name, []) + more, key=lambda row: row.place)
    return rows, wrong


@dataclass
class Logged:
    """What one writer logged for one attempt with one rank."""

    attempt: str | None
    rank: int | None
    first: tuple[int, str]
    frames: list[tuple[Frame, bool]]
    rows: dict[str, list[Row]] = field(default_factory=dict)


def read_series(root: str | os.PathLike[str], ref: str) -> tuple[list[Logged], list[Finding]]:
    """Read the files of a run's metrics that count."""
    check_format(root)
    _, _, uid_ = split_ref(ref)
    stem = f"{uid_[2:]}-{blake3(ref.encode()).hexdigest()[:16]}-"
    folder = f"metrics/{uid_[:2]}"
    findings: list[Finding] = []
    groups: dict[tuple[str, int], list[tuple[str, Segment]]] = {}
    tracker = os.path.join(root, ".tracker")
    is_there = "metrics" in entries(tracker, stat.S_ISDIR)
    is_there = is_there and uid_[:2] in entries(os.path.join(tracker, "metrics"), stat.S_ISDIR)
    names = list(entries(os.path.join(tracker, folder), stat.S_ISREG)) if is_there else []
    loose = [f"{folder}/{name}" for name in names if name.startswith(stem) and SERIES_NAME.fullmatch(name)]
    packs = [f"{folder}/{name}" for name in names if PACK_NAME.fullmatch(name)]
    in_packs = packed_files(root, packs, SERIES_NAME, findings)
    mine = (one for one in in_packs if one[0].startswith(f"{folder}/{stem}"))
    for path, data in loose_and_packed(root, loose, mine, findings):
        name = path.rpartition("/")[2]
        match = SERIES_NAME.fullmatch(name)
        assert match
        segment = read_segment(data, not name.endswith(".open"), name, ROWS)
        groups.setdefault((match["writer"], int(match["number"])), []).append((path, segment))

    held: list[Held] = []
    found: dict[tuple[str, str | None, int | None], Logged] = {}
    for (writer, _), files in sorted(groups.items()):
        for path, segment in counting(files):
            if segment.verdict == "newer":
                raise NewerFormat(f"{path}: {segment.why}; this reads format 1")
            if segment.verdict != "whole":
                findings.append(Finding(segment.verdict, path, f"at {segment.good_end}: {segment.why}"))
            findings += [Finding("damaged", path, text) for text in breaches(segment)]
            opened = read_open(segment)
            about = [opened.get("run"), opened.get("attempt"), opened.get("rank")]
            is_read = is_text(about[0]) and nil_or(is_text)(about[1]) and nil_or(is_integer)(about[2])
            if not is_read or "attempt" not in opened or "rank" not in opened or (about[2] or 0) < 0:
                if opened:
                    findings.append(Finding("damaged", path, "the OPEN frame lacks what metrics have"))
                about = [ref, None, None]
            if about[0] != ref:
                findings.append(Finding("damaged", path, f"it is of run {about[0]!r}"))
                continue
            frames = [(frame, True) for frame in segment.frames] + [
                (frame, False) for frame in segment.salvaged
            ]
            if frames:
                first = (frames[0][0].clock, writer)
                key = (writer, about[1], about[2])
                logged = found.setdefault(key, Logged(about[1], about[2], first, []))
                logged.first = min(logged.first, first)
                logged.frames += frames
                held += [Held(writer, frame, proven, opened) for frame, proven in frames]
    for logged in found.values():
        for frame in once(logged.frames):
            rows, wrong = frame_rows(frame.payload) if frame.type == ROWS else ({}, [])
            if frame.type == EVENTS:
                wrong = ["a frame of events among metrics"]
            findings += [Finding("damaged", folder, f"seq {frame.seq}: {text}") for text in wrong]
            for name, more in rows.items():
                logged.rows.setdefault(name, []).extend(more)
    return list(found.values()), findings + list(gaps_and_forks(each_once(held)))


def once(frames: list[tuple[Frame, bool]]) -> list[Frame]:
    """Keep one of frames with the same bytes, a proven one if there is one, in order."""
    held = [Held("", frame, proven, {}) for frame, proven in frames]
    return sorted((one.frame for one in each_once(held)), key=lambda frame: (frame.seq, frame.prefix))


def curve_of(
    series: list[Logged], name: str, rank: int | None = None, attempt: str | None = None
) -> list[Row]:
    """Give the rows of a metric's curve: metrics.md section 5."""
    attempts: dict[str | None, list[Logged]] = {}
    for one in series:
        attempts.setdefault(one.attempt, []).append(one)
    in_order = sorted(attempts.values(), key=lambda group: min(one.first for one in group))
    having: list[list[tuple[int | None, list[Row]]]] = []
    for group in in_order:
        if attempt is not None and group[0].attempt != attempt:
            continue
        in_turn = sorted(group, key=lambda one: one.first)
        having.append([(one.rank, one.rows[name]) for one in in_turn if name in one.rows])
    ranks = {of for pieces in having for of, _ in pieces}
    chosen = rank if rank is not None else min(ranks, key=lambda of: -1 if of is None else of, default=None)
    curve: list[Row] = []
    for pieces in having:
        mine = [row for of, rows in pieces if of == chosen for row in rows]
        if mine:
            least = min(row.step for row in mine)
            curve = [row for row in curve if row.step < least] + mine
    return curve


def summary_of(curve: list[Row]) -> Json:
    numbers = [row for row in curve if row.value == row.value] or curve[:1]
    least = min(numbers, key=lambda row: row.value)
    greatest = max(numbers, key=lambda row: row.value)
    return {
        "last": curve[-1].value, "last_step": curve[-1].step,
        "min": least.value, "min_step": least.step,
        "max": greatest.value, "max_step": greatest.step,
        "count": len(curve),
    }  # fmt: skip


def metrics(root: str | os.PathLike[str], ref: str) -> tuple[Json, list[Finding]]:
    """Give the curves of a run by metric, in the order of names, each row as step, time, value."""
    series, findings = read_series(root, ref)
    found = {}
    for name in sorted({name for one in series for name in one.rows}):
        curve = curve_of(series, name)
        steps = [[row.step, row.time, row.value] for row in curve]
        found[name] = {"rows": steps, "summary": summary_of(curve)}
    return found, findings


def print_metrics(root: str, ref: str) -> int:
    found, findings = metrics(root, ref)
    print(json.dumps(plain(found), ensure_ascii=False, indent=2))
    for finding in findings:
        print(f"{finding.code}: {finding.path}: {finding.text}", file=sys.stderr)
    return int(any(finding.code == "damaged" for finding in findings))


# Sealed files: sealing.md


def state_of_file(root: str | os.PathLike[str], file: list[Any]) -> str:
    """Tell how what lies at the path of a `file` of events.md 5 compares with what was sealed."""
    _, path, size, digest, external = file
    place = path if external else os.path.join(root, path)
    if not os.path.lexists(place):
        return "missing"
    if size is None:
        return "unsealed"
    if not os.path.isfile(place):
        return "changed"
    hasher, found = blake3(), 0
    with open(place, "rb") as opened:
        while data := opened.read(1 << 20):
            hasher.update(data)
            found += len(data)
    return "same" if found == size and digest in (None, hasher.hexdigest()) else "changed"


def files(root: str | os.PathLike[str], ref: str) -> list[Json]:
    """Give the files of the canonical attempt of a run, each with its state on the disk."""
    for run in read_store(root)["runs"]:
        if run["ref"] == ref:
            mine = [attempt for attempt in run["attempts"] if attempt["id"] == run["canonical"]]
            found = [file for attempt in mine for file in attempt["files"]]
            names = ("name", "path", "size", "digest", "external")
            return [
                {**dict(zip(names, file, strict=True)), "state": state_of_file(root, file)} for file in found
            ]
    raise FileNotFoundError(f"no run {ref} at {root}")


def print_files(root: str, ref: str) -> int:
    found = files(root, ref)
    print(json.dumps(found, ensure_ascii=False, indent=1))
    return int(any(file["state"] == "changed" for file in found))


# Command line


def print_frames(path: str) -> int:
    with open(path, "rb") as file:
        data = file.read()
    name = os.path.basename(path)
    last_type = ROWS if SERIES_NAME.fullmatch(name) else SEAL
    segment = read_segment(data, path.endswith((".seg", ".part")), name, last_type)
    for mark, frames in (("", segment.frames), (" salvaged", segment.salvaged)):
        for frame in frames:
            print(f"{frame.offset} {frame.type} {frame.seq} {frame.clock} {frame.prefix.hex()}{mark}")
    print(f"{segment.verdict}: good to {segment.good_end} of {len(data)}", segment.why, file=sys.stderr)
    return {"damaged": 1, "newer": 2}.get(segment.verdict, 0)


def print_store(root: str, only_manifests: bool) -> int:
    if not os.path.isdir(os.path.join(root, ".tracker")):
        print(f"no store at {root}", file=sys.stderr)
        return 2
    ledger = read_ledger(root)
    events = read_events(ledger)
    if only_manifests:
        print("".join(f"{path}\n" for path in manifests_of(events)), end="")
    else:
        print(json.dumps(state_of(events), ensure_ascii=False, indent=1, allow_nan=False))
    findings = ledger.findings + [finding for run in runs_of(events) for finding in check_params(run)]
    for finding in findings:
        print(f"{finding.code}: {finding.path}: {finding.text}", file=sys.stderr)
    return int(any(finding.code == "damaged" for finding in findings))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("root", nargs="?", metavar="ROOT")
    parser.add_argument("--manifests", action="store_true", help="print the names of the manifests")
    parser.add_argument("--claims", action="store_true", help="print who executes what, without asking them")
    parser.add_argument("--metrics", metavar="REF", help="print what was logged of a run")
    parser.add_argument("--files", metavar="REF", help="print the files of a run, held against the disk")
    parser.add_argument("--frames", metavar="FILE", help="list the frames of one segment")
    options = parser.parse_args(arguments)
    if (options.root is None) == (options.frames is None):
        parser.error("give ROOT or --frames FILE")
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    try:
        if options.frames is not None:
            return print_frames(options.frames)
        if options.claims:
            print(json.dumps(claims(options.root), ensure_ascii=False, indent=1))
            return 0
        if options.metrics is not None:
            return print_metrics(options.root, options.metrics)
        if options.files is not None:
            return print_files(options.root, options.files)
        return print_store(options.root, options.manifests)
    except (NewerFormat, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
