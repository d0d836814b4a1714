"""What there is in many runs: each key with its types, how many runs have it, and what values it takes.

Streams: of a key its counts, its ends and a few values are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tracker.query import Space
from tracker.runs.columns import MISSING, Chunk, Flat, flat_columns
from tracker.runs.table import Table, json_of

FEW = 6
"""So many different values are told one by one; of more, the least and the greatest."""

HEADINGS = ("key", "types", "runs", "missing", "min", "max", "values")

_TYPES: dict[type, str] = {
    bool: "bool", int: "int", float: "float", str: "text", type(None): "null", list: "list", dict: "object",
}  # fmt: skip


class _Key:
    """What is known of one key."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.ends: list[Any] = []
        self.values: dict[str, Any] | None = {}
        self._of_ends: type | None = None

    def add(self, values: Iterable[Any]) -> None:
        for value in values:
            if value is MISSING:
                continue
            self.types[_TYPES[type(value)]] += 1
            if self.values is not None:
                self.values[json_of(value)] = value
                if len(self.values) > FEW:
                    self.values = None
            self._widen(value)

    def _widen(self, value: Any) -> None:
        """Take a number or a text into the ends; texts count where there is no number."""
        kind = str if type(value) is str else float if type(value) in (int, float) else None
        if kind is None or (kind is str and self._of_ends is float):
            return
        if self._of_ends is not kind:
            self._of_ends, self.ends = kind, [value, value]
        elif value < self.ends[0]:
            self.ends[0] = value
        elif value > self.ends[1]:
            self.ends[1] = value

    def row(self, name: str, total: int) -> tuple[Any, ...]:
        runs = self.types.total()
        low, high = self.ends or (None, None)
        values = None if self.values is None else [self.values[text] for text in sorted(self.values)]
        return name, ", ".join(sorted(self.types)), runs, total - runs, low, high, values


def schema_of(chunks: Iterable[Chunk]) -> Table:
    """One row a key, params first and then metrics, each by name."""
    keys: dict[str, _Key] = {}
    params, metrics = Flat(Space.PARAMS), Flat(Space.METRICS)
    total = 0
    for chunk in chunks:
        total += chunk.size
        for name, values in flat_columns(chunk, params, metrics).items():
            keys.setdefault(name, _Key()).add(values)
    ordered = sorted(keys, key=lambda name: (name.startswith(("metrics.", "metrics[")), name))
    return Table(HEADINGS, tuple(keys[name].row(name, total) for name in ordered))
