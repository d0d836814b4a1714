"""Rows as the lines of a CSV file. Pure.

Spec: docs/queries.md section 7.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tracker.runs.table import text_of

_PIECE = 1 << 16


def iter_csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The lines of a CSV file, quoted where it is needed; lines end in a line feed."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow(map(text_of, row))
        if line.tell() > _PIECE:
            yield line.getvalue()
            line.seek(0)
            line.truncate()
    yield line.getvalue()
