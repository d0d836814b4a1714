"""Runs in groups of equal keys, and numbers over each group. Streams: a group keeps its numbers alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracker.runs.columns import MISSING, Chunk, Column, columns_of
from tracker.runs.table import Table, as_time, json_of

Key = tuple[tuple[int, Any], ...]
Reduce = Callable[[list[float]], float]

REDUCERS: dict[str, Reduce] = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "median": statistics.median,
    "std": lambda numbers: statistics.stdev(numbers) if len(numbers) > 1 else math.nan,
}
"""`std` is that of a sample: of one number there is none."""


class Groups:
    """Runs that share values, as `runs.group_by("model.name").mean("metrics.loss")` tells them.

    `1` and `1.0` are one key; a run without the field and one with null are of one group. Lists and objects
    are keys by their canonical text. Groups come in the order of their keys. Numbers alone are reckoned
    with; a group without one has None.
    """

    def __init__(self, chunks: Callable[[], Iterable[Chunk]], keys: Sequence[Column]) -> None:
        self._chunks = chunks
        self._keys = keys

    def count(self) -> Table:
        """How many runs each group has."""
        return self.table([])

    def mean(self, *fields: str) -> Table:
        """The mean of each field."""
        return self._each("mean", fields)

    def min(self, *fields: str) -> Table:
        """The least of each field."""
        return self._each("min", fields)

    def max(self, *fields: str) -> Table:
        """The greatest of each field."""
        return self._each("max", fields)

    def median(self, *fields: str) -> Table:
        """The median of each field."""
        return self._each("median", fields)

    def std(self, *fields: str) -> Table:
        """The standard deviation of each field, that of a sample."""
        return self._each("std", fields)

    def _each(self, name: str, fields: Sequence[str]) -> Table:
        if not fields:
            raise ValueError(f"{name}(): name the fields to reckon with, as {name}('metrics.loss')")
        return self.table([(name, field) for field in fields])

    def table(self, wanted: Sequence[tuple[str, str]]) -> Table:
        """One row a group: its keys, the number of its runs, and each (name of REDUCERS, field)."""
        from_fields = columns_of([field for _, field in wanted])
        groups: dict[Key, _Group] = {}
        for chunk in self._chunks():
            marks = zip(*(map(_mark, column.values(chunk)) for column in self._keys), strict=True)
            numbers = [column.values(chunk) for column in from_fields]
            for place, mark in enumerate(marks):
                group = groups.get(mark)
                if group is None:
                    group = groups[mark] = _Group(len(from_fields))
                group.add(values[place] for values in numbers)
        headings = [key.heading for key in self._keys]
        headings += ["runs", *(f"{name}({column.heading})"
                               for (name, _), column in zip(wanted, from_fields, strict=True))]  # fmt: skip
        rows = [self._row(mark, groups[mark], wanted, from_fields) for mark in sorted(groups)]
        return Table(tuple(headings), tuple(rows))

    def _row(
        self, mark: Key, group: _Group, wanted: Sequence[tuple[str, str]], fields: Sequence[Column]
    ) -> tuple[Any, ...]:
        keys = [_unmark(one, is_time=column.is_time) for one, column in zip(mark, self._keys, strict=True)]
        reduced = [
            _reduced(name, numbers, is_time=column.is_time)
            for (name, _), numbers, column in zip(wanted, group.numbers, fields, strict=True)
        ]
        return (*keys, group.count, *reduced)


class _Group:
    def __init__(self, fields: int) -> None:
        self.count = 0
        self.numbers: list[list[float]] = [[] for _ in range(fields)]

    def add(self, values: Iterable[Any]) -> None:
        self.count += 1
        for numbers, value in zip(self.numbers, values, strict=True):
            if type(value) is float or type(value) is int:
                numbers.append(value)


def _reduced(name: str, numbers: list[float], *, is_time: bool) -> Any:
    if not numbers:
        return None
    value = REDUCERS[name](numbers)
    if math.isnan(value):
        return None
    return as_time(round(value)) if is_time and name != "std" else value


def _mark(value: Any) -> tuple[int, Any]:
    """A value as a key, in the order of SQLite: nothing, numbers (false and true before them), texts."""
    if value is None or value is MISSING:
        return 0, 0
    if type(value) is bool:
        return 1, value
    if isinstance(value, int | float):
        return 2, value
    return (3, value) if isinstance(value, str) else (4, json_of(value))


def _unmark(mark: tuple[int, Any], *, is_time: bool) -> Any:
    kind, value = mark
    if kind == 0:
        return None
    return as_time(value) if is_time else value
