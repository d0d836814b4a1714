"""Columns, sequences and blocks: what is written is read again bit for bit, by us and by the reference.

Spec: spec/metrics.md section 3.
"""

from __future__ import annotations

import math
from array import array

import msgpack
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from metrics_world import exact

from tracker._model.rows import (
    CELLS_MAX,
    LARGEST,
    Block,
    column_of,
    decode_blocks,
    decode_column,
    encode_blocks,
    encode_column,
    encode_sequence,
)

T = 1_793_610_000_000
INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.one_of(
    INT64, st.floats(), st.floats(width=32), st.integers(-200, 200), st.sampled_from([0.0, -0.0, math.nan])
)
STEPS = st.integers(-LARGEST, LARGEST)


def block_of(names: list[str], rows: list[tuple[int, int, list[int | float]]]) -> Block:
    columns = [column_of([row[2][at] for row in rows]) for at in range(len(names))]
    return Block(names, list(range(len(rows))), [row[0] for row in rows], [row[1] for row in rows], columns)


WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9)
BLOCKS = st.integers(1, 3).flatmap(
    lambda width: st.builds(
        block_of,
        st.lists(WORDS, min_size=width, max_size=width, unique=True),
        st.lists(
            st.tuples(STEPS, st.integers(0, LARGEST), st.lists(NUMBERS, min_size=width, max_size=width)),
            min_size=1, max_size=12,
        ),
    )
)  # fmt: skip


def rows_in(block: Block) -> list[tuple[int, int, list[int | float]]]:
    return [
        (step, time, [column[at] for column in block.columns])
        for at, (step, time) in enumerate(zip(block.steps, block.times, strict=True))
    ]


@given(st.lists(BLOCKS, min_size=1, max_size=3))
def test_blocks_are_read_as_they_were_written(blocks: list[Block]) -> None:
    payload = encode_blocks(blocks)
    found, wrong = decode_blocks(payload)

    assert wrong == []
    assert [(*block.names,) for block in found] == [(*block.names,) for block in blocks]
    assert exact([rows_in(block) for block in found]) == exact([rows_in(block) for block in blocks])


@given(BLOCKS)
def test_the_reference_and_another_library_read_the_same(block: Block) -> None:
    payload = encode_blocks([block])
    rows, wrong = reference.frame_rows(payload)
    (plain,) = msgpack.unpackb(payload)

    assert wrong == []
    assert plain["names"] == list(block.names)
    for at, name in enumerate(block.names):
        told = [(row.step, row.time, row.value) for row in rows[name]]
        assert exact(told) == exact([(step, time, values[at]) for step, time, values in rows_in(block)])


COLUMNS = {
    "one number for all": ([7, 7, 7], 7),
    "one double for all": ([1.0, 1.0], 1.0),
    "bits are compared, not numbers": ([0.0, -0.0], ("f4", bytes(4) + b"\x00\x00\x00\x80")),
    "NaN for all": ([math.nan] * 3, math.nan),
    "1 byte": ([-128, 127], ("i1", b"\x80\x7f")),
    "2 bytes": ([-129, 0], ("i2", b"\x7f\xff\x00\x00")),
    "4 bytes": ([32768, 0], ("i4", b"\x00\x80\x00\x00\x00\x00\x00\x00")),
    "8 bytes": ([-(2**63), 0], ("i8", b"\x00" * 7 + b"\x80" + bytes(8))),
    "singles": ([0.5, 0.25], ("f4", b"\x00\x00\x00\x3f\x00\x00\x80\x3e")),
    "doubles": ([0.1, 0.0], ("f8", b"\x9a\x99\x99\x99\x99\x99\xb9\x3f" + bytes(8))),
    "too great for a single": ([1e300, 0.0], ("f8", b"\x9c\x75\x00\x88\x3c\xe4\x37\x7e" + bytes(8))),
    "mixed": ([1, 1.0], [1, 1.0]),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_takes_its_shortest_form(case: str) -> None:
    values, want = COLUMNS[case]
    written = encode_column(column_of(values))

    assert exact(written) == exact(want)
    read = decode_column(msgpack.unpackb(msgpack.packb(written)), len(values))
    assert exact(list(read)) == exact(values)


def test_other_values_become_the_number_that_the_page_says() -> None:
    given_ = [True, False, 2**63, -(2**63) - 1, 10**400, -(10**400), 2**63 - 1]
    want = [1, 0, float(2**63), -float(2**63), math.inf, -math.inf, 2**63 - 1]

    assert exact(list(column_of(given_))) == exact(want)


def test_an_even_sequence_is_two_integers() -> None:
    assert encode_sequence(range(5, 500, 3)) == (5, 3)
    assert encode_sequence([4, 4, 4]) == (4, 0)
    assert encode_sequence([9]) == (9, 0)
    assert encode_sequence([3, 2, 1, 0]) == (3, -1)
    assert encode_sequence([0, 1, 3]) == (0, ("i1", b"\x01\x02"))


@given(st.binary(max_size=60))
def test_any_bytes_give_blocks_or_words(payload: bytes) -> None:
    blocks, wrong = decode_blocks(payload)
    rows, ill = reference.frame_rows(payload)

    assert blocks or wrong
    assert (len(blocks) == 0) == (rows == {})
    assert len(wrong) == len(ill)


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=9)
ODD = st.recursive(
    LEAVES | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.sampled_from(["i1", "f8", "f4"]),
    max_leaves=5,
)  # fmt: skip
ODD_BLOCKS = st.fixed_dictionaries(
    {
        "n": st.integers(-1, 3) | ODD,
        "names": st.lists(st.sampled_from(["a", "b", "", "x\n"]), max_size=2) | ODD,
        "rows": st.tuples(st.integers(-1, 2), ODD) | st.just([0, 1]) | ODD,
        "steps": st.tuples(STEPS, ODD) | ODD,
        "times": st.tuples(st.integers(-1, 2**53), st.just(0)) | ODD,
        "columns": st.lists(ODD, max_size=2) | ODD,
    }
)


@given(st.lists(ODD_BLOCKS, min_size=1, max_size=3))
def test_the_reference_refuses_the_same_blocks(blocks: list[object]) -> None:
    payload = msgpack.packb(blocks)
    found, wrong = decode_blocks(payload)
    rows, ill = reference.frame_rows(payload)

    assert [text.partition(":")[0] for text in wrong] == [text.partition(":")[0] for text in ill]
    assert {name for block in found for name in block.names} == set(rows)


def test_a_block_that_says_it_is_huge_is_refused_before_anything_is_made() -> None:
    huge = {"n": 1 << 60, "names": ["x"], "rows": [0, 1], "steps": [0, 1], "times": [T, 0], "columns": [1]}
    most = huge | {"n": CELLS_MAX // 4}
    found, wrong = decode_blocks(msgpack.packb([huge, most, most]))

    assert len(found) == 1
    assert [text.partition(":")[0] for text in wrong] == ["block 0", "block 2"]


def test_a_frame_of_three_rows_is_as_the_page_shows() -> None:
    block = Block(["loss"], [0, 1, 2], [10, 11, 12], [T, T + 5, T + 5], [array("d", [0.5, 0.25, math.nan])])
    shown = (
        "91 86 A1 6E 03 A5 6E616D6573 91 A4 6C6F7373 A4 726F7773 92 00 01 A5 7374657073 92 0A 01"
        " A5 74696D6573 92 CF 000001A19B7CA680 92 A2 6931 C4 02 05 00"
        " A7 636F6C756D6E73 91 92 A2 6634 C4 0C 0000003F 0000803E 0000C07F"
    )

    assert encode_blocks([block]) == bytes.fromhex(shown)
