"""Where a command's answer goes, and its dress: a table on a terminal, tabs on a pipe, JSON when asked for.

On a pipe nothing is cut, coloured or relative to this moment, and there is no heading, so that `cut`, `sort`
and `while read` need not skip a line.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from tracker._disk import host
from tracker.cli.table import Rows, Styles, format_table, painted
from tracker.cli.words import age, iso_time, local_time, printable, size
from tracker.progress import Bar

_LABEL = 12


class Screen:
    """Standard output of one command, with the bar that stands on standard error meanwhile."""

    def __init__(
        self, out: TextIO, err: TextIO, *, as_json: bool = False, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.out = out
        self.as_json = as_json
        self.is_terminal = out.isatty()
        self.has_colour = self.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self.bar = Bar(err, is_on=err.isatty())
        self.now_ms = host.now_ms()

    # Writing

    def write(self, text: str) -> None:
        """Write text that is printable but for its line feeds; what the encoding lacks is escaped."""
        self.bar.clear()
        try:
            self.out.write(text)
        except UnicodeEncodeError:
            encoding = self.out.encoding
            self.out.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def write_bytes(self, data: bytes) -> None:
        """Write exactly these bytes, and nothing else."""
        self.bar.clear()
        self.out.flush()
        self.out.buffer.write(data)
        self.out.buffer.flush()

    def flush(self) -> None:
        """Let go of what is held back."""
        self.out.flush()

    def json(self, value: object) -> None:
        """Write one JSON document, in ASCII."""
        self.write(json.dumps(plain(value), allow_nan=False, indent=2 if self.is_terminal else None) + "\n")

    def json_line(self, value: object) -> None:
        """Write one JSON document in one line, now."""
        self.write(json.dumps(plain(value), allow_nan=False) + "\n")
        self.flush()

    def rows(self, headings: Sequence[str], rows: Iterable[Sequence[str]], styles: Styles = {}) -> None:  # noqa: B006
        """Write rows: a table, or lines of cells with tabs between them."""
        cells = [[printable(cell) for cell in row] for row in rows]
        if self.is_terminal and cells:
            self.write(self._table(headings, cells, styles))
        else:
            self.write("".join("\t".join(row) + "\n" for row in cells))

    def _table(self, headings: Sequence[str], rows: Rows, styles: Styles) -> str:
        width = shutil.get_terminal_size().columns
        return format_table(headings, rows, styles, width=width, colour=self.has_colour)

    def line(self, cells: Sequence[str]) -> None:
        """Write one row by itself, without waiting for those that follow."""
        self.write(("  " if self.is_terminal else "\t").join(map(printable, cells)) + "\n")

    def fact(self, label: str, *cells: str, style: str = "") -> None:
        """Write one thing that is known: its label, then its cells; a terminal gets several lines."""
        if not self.is_terminal:
            self.rows((), [(label, *cells)])
            return
        lines = [printable(line) for line in "  ".join(cells).splitlines()]
        head = painted(f"{label:<{_LABEL}}", "bold", colour=self.has_colour)
        body = [painted(line, style, colour=self.has_colour) for line in lines]
        self.write(f"\n{'':<{_LABEL}}".join([head + body[0], *body[1:]]) + "\n" if body else "")

    # Words that differ between a terminal and a pipe

    def when(self, ms: int) -> str:
        """A time in a list."""
        return age(ms, self.now_ms) if self.is_terminal else iso_time(ms)

    def moment(self, ms: int) -> str:
        """A time by itself."""
        return f"{local_time(ms)} ({age(ms, self.now_ms)})" if self.is_terminal else iso_time(ms)

    def size(self, size_bytes: int) -> str:
        """A number of bytes."""
        return size(size_bytes) if self.is_terminal else str(size_bytes)


def plain(value: Any) -> Any:
    """Give a value of an event as JSON carries it: bytes in hex, no-numbers as their words, keys as text.

    Spec: spec/events.md section 5.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else _NO_NUMBERS[str(value)]
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "__struct_fields__"):  # a file of an attempt
        return [plain(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
