"""Runs in groups of equal keys, and numbers over each group. Streams: a group keeps its numbers alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from tracker.errors import DamagedError
from tracker.runs.columns import CHUNK, MISSING, Chunk, Column, Stored, columns_of
from tracker.runs.table import Table, as_time, json_of

Key = tuple[tuple[int, Any], ...]
Reduce = Callable[[list[float]], float]


def _mean(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _median(numbers: list[float]) -> float:
    ordered, middle = sorted(numbers), len(numbers) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _deviation(numbers: list[float]) -> float:
    from tracker.runs.deviation import deviation_of

    return deviation_of(numbers)


REDUCERS: dict[str, Reduce] = {
    "mean": _mean,
    "min": min,
    "max": max,
    "median": _median,
    "std": _deviation,
}
"""`std` is that of a sample: of one number there is none."""


class Grouped(Protocol):
    """Runs that can be grouped."""

    def chunks(self) -> Iterable[Chunk]:
        """The runs in chunks, column by column."""

    def select_stored(self, stored: Sequence[Stored]) -> Iterator[tuple[Any, ...]] | None:
        """What SQLite gives of each run, in the same order; None if there is no such way."""


class Groups:
    """Runs that share values, as `runs.group_by("model.name").mean("metrics.loss")` tells them.

    `1` and `1.0` are one key; a run without the field and one with null are of one group. Lists and objects
    are keys by their canonical text. Groups come in the order of their keys. Numbers alone are reckoned
    with; a group without one has None.
    """

    def __init__(self, runs: Grouped, keys: Sequence[Column]) -> None:
        self._runs = runs
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
        groups = self._gather_stored(from_fields)
        if groups is None:
            groups = self._gather(from_fields)
        headings = [key.heading for key in self._keys]
        headings += ["runs", *(f"{name}({column.heading})"
                               for (name, _), column in zip(wanted, from_fields, strict=True))]  # fmt: skip
        rows = [self._row(mark, groups[mark], wanted, from_fields) for mark in sorted(groups)]
        return Table(tuple(headings), tuple(rows))

    def _gather(self, fields: Sequence[Column]) -> dict[Key, _Group]:
        groups: dict[Key, _Group] = {}
        for chunk in self._runs.chunks():
            marks = zip(*(map(_mark, column.values(chunk)) for column in self._keys), strict=True)
            numbers = [column.values(chunk) for column in fields]
            for place, mark in enumerate(marks):
                group = groups.get(mark)
                if group is None:
                    group = groups[mark] = _Group(len(fields))
                group.add(values[place] for values in numbers)
        return groups

    def _gather_stored(self, fields: Sequence[Column]) -> dict[Key, _Group] | None:
        """The same without reading params of which nothing is asked; None if there is no such way.

        A value that SQLite gives is read once, however many runs have it.
        """
        stored = [column.stored for column in (*self._keys, *fields) if column.stored is not None]
        if not self._keys or len(stored) < len(self._keys) + len(fields):
            return None
        rows = self._runs.select_stored(stored)
        if rows is None:
            return None
        found = _Found(stored[: len(self._keys)], stored[len(self._keys) :])
        try:
            while part := list(islice(rows, CHUNK)):
                found.add(list(zip(*part, strict=True)))
        except DamagedError:
            return None  # who reads whole rows can say which run it is
        return found.groups

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


class _Found:
    """Groups by what SQLite gives of their keys: several such may be one key, as 1 and 1.0."""

    def __init__(self, keys: Sequence[Stored], fields: Sequence[Stored]) -> None:
        self.groups: dict[Key, _Group] = {}
        self._keys = keys
        self._fields = fields
        self._known: dict[tuple[Any, ...], _Group] = {}

    def add(self, columns: Sequence[Sequence[Any]]) -> None:
        """Take in some runs, column by column, keys first."""
        given = list(zip(*columns[: len(self._keys)], strict=True))
        for each, count in Counter(given).items():
            self._group(each).count += count
        for number, (field, values) in enumerate(zip(self._fields, columns[len(self._keys) :], strict=True)):
            for each, value in zip(given, field.read(values), strict=True):
                if type(value) is float or type(value) is int:
                    self._known[each].numbers[number].append(value)

    def _group(self, given: tuple[Any, ...]) -> _Group:
        group = self._known.get(given)
        if group is None:
            values = (key.read([one])[0] for key, one in zip(self._keys, given, strict=True))
            mark = tuple(map(_mark, values))
            group = self._known[given] = self.groups.setdefault(mark, _Group(len(self._fields)))
        return group


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
