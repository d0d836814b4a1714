"""Rows as a table for a terminal: by rich where it is installed, as plain columns elsewhere.

The cells must be printable text; nothing is escaped here.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

STATUS_STYLES = {
    "done": "green", "running": "cyan", "error": "red", "interrupted": "yellow", "lost": "magenta",
}  # fmt: skip
SEVERITY_STYLES = {"damage": "red", "incomplete": "yellow"}

RICH_ROWS_MAX = 2000
"""A longer table is set plainly: rich takes some 0.4 ms a row."""

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}
_GAP = 2
_LAST_MIN = 8
_REST_MIN = 16

Rows = Sequence[Sequence[str]]
Styles = Mapping[str, Mapping[str, str]]
"""Heading of a column -> first word of a cell -> its style."""


class Columns(NamedTuple):
    """A heading a column, and rows with a cell for each."""

    headings: Sequence[str]
    rows: Rows


def fit_columns(first: Columns, others: Columns, width: int) -> Columns:
    """Put those of the `others` beside the first for which a line of `width` has room.

    The cells of those that find no room stand in one last column, as `name=value`; it may be cut.
    """
    widths = [max(map(width_of, column)) + _GAP for column in _turned(others)]
    left = width - sum(max(map(width_of, column)) + _GAP for column in _turned(first)) + _GAP
    chosen = list(range(len(widths)))
    if sum(widths) > left:
        chosen = _that_fit(widths, left - _REST_MIN - _GAP)
    rest = [place for place in range(len(widths)) if place not in chosen]
    headings = [*first.headings, *(others.headings[place] for place in chosen)]
    rows = [[*a, *(b[place] for place in chosen)] for a, b in zip(first.rows, others.rows, strict=True)]
    if rest:
        headings.append("more" if chosen else "params")
        for row, cells in zip(rows, others.rows, strict=True):
            row.append(" ".join(f"{others.headings[place]}={cells[place]}" for place in rest if cells[place]))
    return Columns(headings, rows)


def _turned(columns: Columns) -> Iterable[tuple[str, ...]]:
    return zip(columns.headings, *columns.rows, strict=True)


def _that_fit(widths: Sequence[int], left: int) -> list[int]:
    """Places of columns from the first on, one that is too wide passed over."""
    chosen = []
    for place, width in enumerate(widths):
        if width <= left:
            chosen.append(place)
            left -= width
    return chosen


def format_table(headings: Sequence[str], rows: Rows, styles: Styles, *, width: int, colour: bool) -> str:
    """Set a table that is at most `width` wide: the last column is cut for it, then the widest ones."""
    if len(rows) > RICH_ROWS_MAX:
        return format_plainly(headings, rows, styles, width=width, colour=colour)
    try:
        return format_richly(headings, rows, styles, width=width, colour=colour)
    except ImportError:
        return format_plainly(headings, rows, styles, width=width, colour=colour)


def format_richly(headings: Sequence[str], rows: Rows, styles: Styles, *, width: int, colour: bool) -> str:
    """Set a table by rich. Raises: ImportError where it is not installed."""
    # third-party and slow: only a terminal pays for it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    widths = _widths(headings, rows, width)
    for heading, size in zip(headings, widths, strict=True):
        table.add_column(Text(heading, "bold", overflow="ellipsis"), no_wrap=True, width=size)
    for row in rows:
        cells = zip(headings, row, strict=True)
        table.add_row(*(Text(c, _style(styles, h, c), no_wrap=True, overflow="ellipsis") for h, c in cells))
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=True,
        color_system="standard" if colour else None,
        width=max(width, sum(widths) + _GAP * len(widths)),
    )
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def format_plainly(headings: Sequence[str], rows: Rows, styles: Styles, *, width: int, colour: bool) -> str:
    """Set a table in columns of the standard library's making."""
    widths = _widths(headings, rows, width)
    fitted = map(_fitted, headings, widths)
    lines = [[painted(heading, "bold", colour=colour) for heading in fitted]]
    for row in rows:
        cells = zip(headings, row, widths, strict=True)
        lines.append([painted(_fitted(c, size), _style(styles, h, c), colour=colour) for h, c, size in cells])
    return "".join(f"{(' ' * _GAP).join(line).rstrip()}\n" for line in lines)


def _widths(headings: Sequence[str], rows: Rows, width: int) -> list[int]:
    """The width of each column. The last one has what is left; the widest give way to its least."""
    widths = [max(map(width_of, column)) for column in zip(headings, *rows, strict=True)]
    room = width - _GAP * (len(widths) - 1)
    while (over := sum(widths[:-1]) + _LAST_MIN - room) > 0 and max(widths[:-1], default=0) > _LAST_MIN:
        widest = widths.index(max(widths[:-1]))
        widths[widest] = max(widths[widest] - over, _LAST_MIN)
    widths[-1] = max(room - sum(widths[:-1]), _LAST_MIN)
    return widths


def painted(text: str, style: str, *, colour: bool) -> str:
    """Give `text` in a style, or as it is."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and colour else text


def width_of(text: str) -> int:
    """Count the columns that a terminal takes for printable text."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _style(styles: Styles, heading: str, cell: str) -> str:
    return styles.get(heading, {}).get(cell.partition(" ")[0], "")


def _fitted(text: str, size: int) -> str:
    """Cut or pad `text` to `size` columns."""
    if width_of(text) > size:
        while width_of(text) >= size:
            text = text[: max(size - 1, 0)] if len(text) > size else text[:-1]
        text += "…"
    return text + " " * (size - width_of(text))
