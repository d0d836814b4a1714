"""Rows of figures, the environment they hold in, and both as text or JSON. No clock, no process."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure. `value` is CPU time unless `unit` says otherwise; `ratio` is to the floor `against`."""

    workload: str
    what: str
    value: float
    unit: str
    wall: float | None = None
    ratio: float | None = None
    against: str = ""
    goal: str = ""
    met: bool | None = None
    note: str = ""


def environment(folder: Path) -> dict[str, Any]:
    """Say where the figures were taken, without naming the machine or a path on it."""
    return {
        "cpus": os.cpu_count(),
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def file_system(folder: Path) -> str:
    """Give the type of the file system that holds `folder`; `unknown` where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    inside = str(folder.resolve())
    best = ("", "unknown")
    for line in mounts:
        _, where, kind = line.split(" ")[:3]
        if (inside == where or inside.startswith(where.rstrip("/") + "/")) and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]


def as_json(facts: dict[str, Any], rows: Sequence[Row]) -> str:
    return json.dumps({"environment": facts, "rows": [asdict(row) for row in rows]}, indent=1)


def as_table(facts: dict[str, Any], rows: Sequence[Row]) -> str:
    """Lay the rows out in columns as wide as their widest cell."""
    head = ("", "what", "CPU or count", "wall", "ratio", "goal", "note")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [
        "  ".join(
            _pad(cell, width, column) for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    where = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    return "\n".join([where, "", *(line.rstrip() for line in lines)])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.workload,
        row.what,
        f"{_number(row.value)} {row.unit}",
        "" if row.wall is None else _number(row.wall),
        "" if row.ratio is None else f"{row.ratio:.2f} × {row.against}",
        row.goal + {None: "", True: " ok", False: " MISSED"}[row.met],
        row.note,
    )


def _pad(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column in (2, 3) else cell.ljust(width)


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
