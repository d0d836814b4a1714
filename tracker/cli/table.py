"""Rows as a table for a terminal: by rich where it is installed, as plain columns elsewhere.

The cells must be printable text; nothing is escaped here.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence

STATUS_STYLES = {
    "done": "green", "running": "cyan", "error": "red", "interrupted": "yellow", "lost": "magenta",
}  # fmt: skip
SEVERITY_STYLES = {"damage": "red", "incomplete": "yellow"}

RICH_ROWS_MAX = 2000
"""A longer table is set plainly: rich takes some 0.4 ms a row."""

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}
_GAP = 2
_LAST_MIN = 8

Rows = Sequence[Sequence[str]]
Styles = Mapping[str, Mapping[str, str]]
"""Heading of a column -> first word of a cell -> its style."""


def format_table(headings: Sequence[str], rows: Rows, styles: Styles, *, width: int, colour: bool) -> str:
    """Set a table that is at most `width` wide where only the last column has to be cut for it."""
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
    for heading in headings:
        table.add_column(Text(heading, "bold"), no_wrap=heading != headings[-1])
    for row in rows:
        cells = zip(headings, row, strict=True)
        table.add_row(*(Text(c, _style(styles, h, c), no_wrap=True, overflow="ellipsis") for h, c in cells))
    text = io.StringIO()
    console = Console(
        file=text, force_terminal=True, color_system="standard" if colour else None, width=width
    )
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def format_plainly(headings: Sequence[str], rows: Rows, styles: Styles, *, width: int, colour: bool) -> str:
    """Set a table in columns of the standard library's making."""
    widths = [max(map(width_of, column)) for column in zip(headings, *rows, strict=True)]
    widths[-1] = max(width - sum(widths[:-1]) - _GAP * (len(widths) - 1), _LAST_MIN)
    fitted = map(_fitted, headings, widths)
    lines = [[painted(heading, "bold", colour=colour) for heading in fitted]]
    for row in rows:
        cells = zip(headings, row, widths, strict=True)
        lines.append([painted(_fitted(c, size), _style(styles, h, c), colour=colour) for h, c, size in cells])
    return "".join(f"{(' ' * _GAP).join(line).rstrip()}\n" for line in lines)


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
