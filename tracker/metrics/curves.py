"""Rows of a metric, one after another. Pure.

Spec: spec/metrics.md section 5.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

from tracker._model.rows import Block, Column, Number


class Curve(NamedTuple):
    """The rows of a metric, as they were logged; exact: a column of both kinds of numbers is a list."""

    steps: Sequence[int]
    values: Column
    times: Sequence[int]


def interleaved(having: list[tuple[Block, int]]) -> Curve:
    """The rows of several blocks of a frame in the order of their places."""
    rows = sorted(
        (
            row
            for block, at in having
            for row in zip(block.rows, block.steps, block.columns[at], block.times, strict=True)
        ),
        key=lambda row: row[0],
    )
    values: list[Number] = [row[2] for row in rows]
    kinds = set(map(type, values))
    column = values if len(kinds) > 1 else array("d" if float in kinds else "q", values)
    return Curve([row[1] for row in rows], column, [row[3] for row in rows])


def iter_going_on(attempts: list[Curve]) -> Iterator[Curve]:
    """Of each attempt what no later one took the place of."""
    until: list[float] = []
    bound: float = inf
    for curve in reversed(attempts):
        until.append(bound)
        bound = min(bound, min(curve.steps))
    for curve, end in zip(attempts, reversed(until), strict=True):
        yield curve if end == inf else _below(curve, end)


def _below(curve: Curve, end: float) -> Curve:
    steps = curve.steps
    if all(map(int.__le__, steps, steps[1:])):
        cut = bisect_left(steps, end)
        return Curve(steps[:cut], curve.values[:cut], curve.times[:cut])
    kept = [at for at, step in enumerate(steps) if step < end]
    values: list[Number] = [curve.values[at] for at in kept]
    column = array(curve.values.typecode, values) if isinstance(curve.values, array) else values
    return Curve([steps[at] for at in kept], column, [curve.times[at] for at in kept])


def joined(pieces: Iterable[Curve]) -> Curve:
    """One curve of several. Cost: 10 ns a row, and 40 where integers and floats are mixed."""
    pieces = list(pieces)
    if len(pieces) == 1:
        return pieces[0]
    steps, times = array("q"), array("q")
    for piece in pieces:
        _extend(steps, piece.steps)
        _extend(times, piece.times)
    return Curve(steps, _joined_columns([piece.values for piece in pieces]), times)


def _extend(whole: array[int], more: Sequence[int]) -> None:
    if isinstance(more, array):
        whole.extend(more)
    else:
        whole.extend(array("q", more))


def _joined_columns(columns: list[Column]) -> Column:
    kinds = {column.typecode if isinstance(column, array) else "" for column in columns if len(column)}
    if len(kinds) != 1 or kinds == {""}:
        return [value for column in columns for value in column]
    whole: array[Any] = array(kinds.pop())
    for column in columns:
        if len(column):
            whole.extend(column)
    return whole


def kept_of(values: Sequence[Number], points: int) -> Sequence[int]:
    """The places of at most `points` values, for a plot: least and greatest of each stretch, first and last.

    All, where there are no more. NaN is left out where a stretch has another value.

    Cost: 0.1 µs a value. Raises: ValueError for less than 4 points.
    """
    if points < 4:
        raise ValueError(f"points={points}: give 4 or more: the first, the last, and two between")
    count = len(values)
    if count <= points:
        return range(count)
    stretches = (points - 2) // 2
    inner = count - 2
    kept = [0]
    for number in range(stretches):
        start, end = 1 + inner * number // stretches, 1 + inner * (number + 1) // stretches
        kept += _extremes(values, start, end)
    return [*kept, count - 1]


def _extremes(values: Sequence[Number], start: int, end: int) -> list[int]:
    """Where the least and the greatest of [start, end) are, in order; one where they are the same."""
    stretch = values[start:end]
    least, greatest = min(stretch), max(stretch)
    if least != least or greatest != greatest or sum(stretch) != sum(stretch):  # a NaN hides what it meets
        there = [value for value in stretch if value == value]
        if not there:
            return [start]
        least, greatest = min(there), max(there)
    return sorted({start + stretch.index(least), start + stretch.index(greatest)})


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names, those most like `name` first: half their pairs of letters are the same."""
    wanted = _pairs(name)
    likeness = {other: 2 * len(wanted & _pairs(other)) / len([*wanted, *_pairs(other)]) for other in known}
    close = [other for other in likeness if likeness[other] >= 0.5 or name.casefold() in other.casefold()]
    return sorted(close, key=lambda other: -likeness[other])[:3]


def _pairs(name: str) -> set[str]:
    text = f"^{name.casefold()}$"
    return {text[at : at + 2] for at in range(len(text) - 1)}
