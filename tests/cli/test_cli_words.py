"""Words for people, and tables: pure functions."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.cli.screen import plain
from tracker.cli.table import format_plainly, format_richly, format_table, width_of
from tracker.cli.words import age, duration, in_ascii, iso_time, local_time, printable, size

NOW = 1_800_000_000_000
S = 1000
H = 3600 * S
DAY = 24 * H


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("plain", "plain"),
        ("日本\u3000語 é", "日本\u3000語 é"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\x9b31m", "\\u009b31m"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028\u200b\x7f", "\\u2028\\u200b\\u007f"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\udb40\\udc41"),
    ],
)
def test_what_is_not_printed_is_escaped(text: str, want: str) -> None:
    assert printable(text) == want


@given(st.text())
def test_printable_json_is_the_same_json(text: str) -> None:
    document = json.dumps(text, ensure_ascii=False)

    for form in (printable(document), in_ascii(document)):
        assert json.loads(form) == text
        assert all(char.isprintable() or char in "\u00a0\u3000" or char.isspace() for char in form)
    assert in_ascii(document).isascii()


@pytest.mark.parametrize(
    ("ago_ms", "want"),
    [
        (-30 * S, "now"),
        (0, "now"),
        (1 * S, "1 s ago"),
        (59 * S, "59 s ago"),
        (60 * S, "1 min ago"),
        (H - 1, "59 min ago"),
        (H, "1 h ago"),
        (23 * H, "23 h ago"),
        (DAY, "1 days ago"),
        (59 * DAY, "59 days ago"),
        (60 * DAY, "2026-11-16"),
        (-DAY, "2027-01-16"),
    ],
)
def test_ages(ago_ms: int, want: str) -> None:
    assert age(NOW - ago_ms, NOW) == want


@pytest.mark.parametrize("ms", [2**63, -(2**63), 2**48 - 1, -1, 0])
def test_a_time_past_the_calendar_is_still_told(ms: int) -> None:
    for text in (iso_time(ms), local_time(ms), age(ms, NOW), age(NOW, ms)):
        assert text


def test_times_are_utc_with_milliseconds() -> None:
    assert iso_time(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert iso_time(-1) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("ms", "want"), [(0, "0.0 s"), (59_940, "59.9 s"), (60_000, "1 min 00 s"), (7_625_000, "2 h 07 min")]
)
def test_durations(ms: int, want: str) -> None:
    assert duration(ms) == want


@pytest.mark.parametrize(
    ("size_bytes", "want"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1462, "1.46 kB"), (999_600, "1 MB"), (3 * 10**9, "3 GB"),
     (10**25, "1e+07 EB")],
)  # fmt: skip
def test_sizes(size_bytes: int, want: str) -> None:
    assert size(size_bytes) == want


def test_values_that_json_lacks_have_a_form() -> None:
    got = plain({"x": [float("nan"), float("-inf"), 1.5, b"\xff", None, True], 1: {b"\x00": ()}, "t": object})

    assert json.loads(json.dumps(got, allow_nan=False)) == {
        "x": ["NaN", "-Infinity", 1.5, "ff", None, True], "1": {"00": []}, "t": "<class 'object'>",
    }  # fmt: skip


HEADINGS = ["run", "status", "params"]
ROWS = [["a7f6c8b1", "done", '{"lr":0.1}'], ["日本", "error (divergent)", "x" * 100]]
STYLES = {"status": {"error": "red"}}


@pytest.mark.parametrize("colour", [False, True])
def test_rich_and_plain_tables_are_the_same_to_the_eye(colour: bool) -> None:
    richly = format_richly(HEADINGS, ROWS, STYLES, width=60, colour=colour)
    plainly = format_plainly(HEADINGS, ROWS, STYLES, width=60, colour=colour)
    bare = [
        [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in text.splitlines()]
        for text in (richly, plainly)
    ]

    assert bare[0] == bare[1]
    assert ("\x1b[31merror" in richly, "\x1b[31merror" in plainly) == (colour, colour)


def test_markup_in_a_cell_is_text() -> None:
    told = format_table(["params"], [["[red]x[/red] :smile: https://a.b"]], {}, width=60, colour=True)

    assert "[red]x[/red] :smile: https://a.b" in told


def test_a_long_table_is_set_plainly_and_fast() -> None:
    told = format_table(HEADINGS, [["a", "done", "b"]] * 50_000, STYLES, width=60, colour=False)

    assert told.count("\n") == 50_001


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S"]), max_size=30), st.integers(12, 40))
def test_no_line_is_wider_than_the_terminal(text: str, width: int) -> None:
    told = format_plainly(["a", "b"], [["x", text]], {}, width=width, colour=False)

    assert all(width_of(line) <= width for line in told.splitlines())
