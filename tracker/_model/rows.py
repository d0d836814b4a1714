"""Rows of metrics as columns, and the payload of a ROWS frame <-> blocks of them.

Knows numbers and how they are packed; never who logged them, nor where they are stored. OPEN's payload in
files of metrics is here too.

Spec: spec/metrics.md sections 2 and 3.
"""

import re
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from operator import sub
from typing import Any

import msgspec
from msgspec import Struct

from tracker._model.event import Opened
from tracker.errors import DamagedError
from tracker.terms import AttemptId, RunRef

LARGEST = 1 << 53
"""Of steps and times: what every language's numbers hold."""

CELLS_MAX = 1 << 24
NAME_MAX_BYTES = 512

Number = int | float
Column = Sequence[Number]
"""An array of doubles ("d"), one of 64-bit integers ("q"), or, where both occur, a list."""


class SeriesOpened(Opened, frozen=True, omit_defaults=True, kw_only=True):
    """The OPEN payload of a file of metrics: `segment` and `previous` are within the series."""

    run: RunRef
    attempt: AttemptId | None
    rank: int | None


class Block(Struct, frozen=True):
    """Rows that have the same names. `rows` are the places of the rows among those of their frame."""

    names: Sequence[str]
    rows: Sequence[int]
    steps: Sequence[int]
    times: Sequence[int]
    columns: Sequence[Column]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_opened_decoder = msgspec.msgpack.Decoder(SeriesOpened)
_BROKEN = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
_WRITER = re.compile(r"[0-9a-f]{32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IS_BIG = sys.byteorder == "big"
_INTEGERS = {"i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_FLOATS = {"f4": "f", "f8": "d"}
_PROBED = 8


def why_no_name(name: str) -> str:
    """Say why a text cannot name a metric; "" if it can. Spec: spec/metrics.md section 3."""
    if name == "":
        return "is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "has no UTF-8 form"
    if size > NAME_MAX_BYTES:
        return f"has {size} bytes of UTF-8, allowed are {NAME_MAX_BYTES}"
    return "holds a control character" if _CONTROL.search(name) else ""


# Columns


def column_of(values: Sequence[Number]) -> Column:
    """The numbers that stand for `values`, as an array where they are of one type.

    True is 1, and an integer beyond 64 bits the nearest double, or an infinity. Cost: 20 ns a value.
    """
    kinds = set(map(type, values))
    if kinds == {float}:
        return array("d", values)
    if float not in kinds:
        try:
            return array("q", values)
        except OverflowError:
            pass  # some are doubles, then
    return _whole([_held(value) for value in values])


def _held(value: Number) -> Number:
    if isinstance(value, float):
        return value
    if -(1 << 63) <= value < 1 << 63:
        return int(value)
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _whole(values: list[Number]) -> Column:
    kinds = set(map(type, values))
    return values if len(kinds) > 1 else column_of(values)


def encode_column(values: Column) -> Any:
    """The shortest form of a column. Cost: 10 to 50 ns a value."""
    if not isinstance(values, array):
        return list(values)
    if not values:
        return 0
    data = values.tobytes()
    width = values.itemsize
    if data[:width] == data[-width:] and data == data[:width] * len(values):
        return values[0]
    return _narrow_floats(values, data) if values.typecode == "d" else _narrow_integers(values)


def _narrow_floats(values: "array[float]", data: bytes) -> tuple[str, bytes]:
    """As singles where that loses no bit."""
    head = values[:_PROBED]
    if array("d", array("f", head)).tobytes() == head.tobytes():
        narrow = array("f", values)
        if array("d", narrow).tobytes() == data:
            return "f4", _little(narrow)
    return "f8", _little(values)


def _narrow_integers(values: "array[int]") -> tuple[str, bytes]:
    reach = max(max(values), ~min(values))
    name = "i1" if reach < 1 << 7 else "i2" if reach < 1 << 15 else "i4" if reach < 1 << 31 else "i8"
    return name, _little(array(_INTEGERS[name], values))


def _little(values: "array[Any]") -> bytes:
    if _IS_BIG:
        values = values[:]
        values.byteswap()
    return values.tobytes()


def decode_column(written: Any, count: int) -> Column:
    """The inverse of `encode_column`, whatever form was taken. Cost: 5 to 30 ns a value.

    Raises: ValueError where it is no column of `count` numbers.
    """
    if _is_number(written):
        return array("d" if type(written) is float else "q", (written,)) * count
    if type(written) is list and len(written) == 2 and type(written[0]) is str:
        return _decode_packed(written[0], written[1], count)
    if type(written) is not list or len(written) != count or not all(map(_is_number, written)):
        raise ValueError("a column that is none")
    return _whole(written)


def _decode_packed(name: Any, data: Any, count: int) -> Column:
    letter = _INTEGERS.get(name) or _FLOATS.get(name)
    if letter is None or type(data) is not bytes:
        raise ValueError(f"a column of {name!r}")
    packed = array(letter)
    if len(data) != count * packed.itemsize:
        raise ValueError(f"{len(data)} bytes for {count} numbers of {name}")
    packed.frombytes(data)
    if _IS_BIG:
        packed.byteswap()
    wide = "q" if name in _INTEGERS else "d"
    return packed if letter == wide else array(wide, packed)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and -(1 << 63) <= value < 1 << 63)


# Sequences of integers


def encode_sequence(values: Sequence[int]) -> tuple[int, Any]:
    """The first integer, and a column of the differences. Cost: 30 ns a value."""
    count = len(values)
    first = values[0]
    if isinstance(values, range):
        return first, values.step if count > 1 else 0
    if count == 1:
        return first, 0
    stride = values[1] - first
    if values[-1] == first + stride * (count - 1) and _is_even(values, first, stride):
        return first, stride
    return first, encode_column(array("q", map(sub, values[1:], values)))


def _is_even(values: Sequence[int], first: int, stride: int) -> bool:
    if stride == 0:
        return list(values) == [first] * len(values)
    return list(values) == list(range(first, first + stride * len(values), stride))


def decode_sequence(written: Any, count: int, least: int, greatest: int) -> Sequence[int]:
    """The inverse of `encode_sequence`: a range where it is even, else an array.

    Raises: ValueError where it is no sequence of `count` integers from `least` to `greatest`.
    """
    if type(written) is not list or len(written) != 2 or type(written[0]) is not int:
        raise ValueError("a sequence that is none")
    first, between = written
    if type(between) is int:
        return _even(first, between, count, least, greatest)
    found = decode_column(between, count - 1)
    if not isinstance(found, array) or found.typecode != "q":
        raise ValueError("differences that are no integers")
    values = list(accumulate(found, initial=first))
    if min(values) < least or max(values) > greatest:
        raise ValueError(f"an integer that is not in {least} to {greatest}")
    return array("q", values)


def _even(first: int, stride: int, count: int, least: int, greatest: int) -> Sequence[int]:
    last = first + stride * (count - 1)
    if min(first, last) < least or max(first, last) > greatest:
        raise ValueError(f"an integer that is not in {least} to {greatest}")
    if stride == 0 or count == 1:
        return array("q", (first,)) * count
    return range(first, last + (1 if stride > 0 else -1), stride)


# Payloads


def encode_blocks(blocks: Sequence[Block]) -> bytes:
    """The payload of a ROWS frame. Cost: 0.1 µs a row, and 30 ns a number."""
    return _encoder.encode(
        [
            {
                "n": len(block.rows),
                "names": block.names,
                "rows": encode_sequence(block.rows),
                "steps": encode_sequence(block.steps),
                "times": encode_sequence(block.times),
                "columns": [encode_column(column) for column in block.columns],
            }
            for block in blocks
        ]
    )


def decode_blocks(payload: memoryview | bytes) -> tuple[list[Block], list[str]]:
    """The blocks of a payload, and what is wrong with those that are none.

    Cost: 10 to 40 ns a number. Never raises. Spec: spec/metrics.md section 3.
    """
    try:
        written = _decoder.decode(payload)
    except _BROKEN as error:
        return [], [f"no msgpack: {error}"]
    if type(written) is not list or not written:
        return [], ["no array of blocks"]
    blocks: list[Block] = []
    wrong: list[str] = []
    left = CELLS_MAX
    for number, one in enumerate(written):
        try:
            block = _decode_block(one, left)
        except (ValueError, OverflowError) as error:
            wrong.append(f"block {number}: {error}")
            continue
        left -= len(block.rows) * (len(block.names) + 3)
        blocks.append(block)
    return blocks, wrong


def _decode_block(written: Any, cells_left: int) -> Block:
    if type(written) is not dict:
        raise ValueError("no map")
    count, names, columns = written.get("n"), written.get("names"), written.get("columns")
    if type(names) is not list or type(columns) is not list or not names or len(names) != len(columns):
        raise ValueError("not as many names as columns")
    if not all(type(name) is str and not why_no_name(name) for name in names) or len(set(names)) < len(names):
        raise ValueError("names that are none, or one twice")
    if type(count) is not int or not 1 <= count <= cells_left // (len(names) + 3):
        raise ValueError(f"{count!r} rows of {len(names)} metrics")
    rows = decode_sequence(written.get("rows"), count, 0, LARGEST)
    if any(map(int.__ge__, rows, rows[1:])):
        raise ValueError("places of rows that do not rise")
    return Block(
        names,
        rows,
        decode_sequence(written.get("steps"), count, -LARGEST, LARGEST),
        decode_sequence(written.get("times"), count, 0, LARGEST),
        [decode_column(column, count) for column in columns],
    )


def encode_series_opened(opened: SeriesOpened) -> bytes:
    """The payload of OPEN."""
    return _encoder.encode(opened)


def decode_series_opened(payload: memoryview | bytes, path: str = "OPEN frame") -> SeriesOpened:
    """The payload of OPEN. Raises: DamagedError."""
    try:
        opened = _opened_decoder.decode(payload)
    except _BROKEN as error:
        raise DamagedError(path, f"not an OPEN payload: {error}", spec="spec/metrics.md section 2") from error
    if _WRITER.fullmatch(opened.writer) is None:
        raise DamagedError(path, f"writer {opened.writer!r} is none", spec="spec/log.md section 3")
    if opened.rank is not None and opened.rank < 0:
        raise DamagedError(path, f"rank {opened.rank} is none", spec="spec/metrics.md section 2")
    return opened
