"""What is given of metrics: arrays, thinned for plots, and tables.

Arrays are NumPy's where it is installed, else those of the standard library. Knows nothing of files.

Spec: spec/metrics.md section 5.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from math import nan
from typing import Any, Literal

from msgspec import Struct

from tracker._model.rows import Column, Number
from tracker.metrics.curves import Curve, kept_of

Array = Any
"""A NumPy array of one dimension, or an `array.array`."""

Table = dict[str, Any]
"""Name to column, all as long: what `pandas.DataFrame` and `polars.DataFrame` take."""


class Series(Struct, frozen=True, eq=False):
    """A metric: `steps` and `times` (Unix ms) int64, `values` int64 if all are integers, else float64.

    In the order in which it was logged. An integer among floats is the nearest float.
    """

    steps: Array
    values: Array
    times: Array

    def __len__(self) -> int:
        return len(self.steps)

    def thin(self, points: int) -> Series:
        """At most `points` rows, for a plot: least and greatest of each stretch, the first and the last.

        Where there are no more rows than that, all. NaN is left out where a stretch has another value.

        Cost: 0.1 µs a row. Raises: ValueError for less than 4 points.
        """
        kept = kept_of(self.values.tolist(), points)
        if len(kept) == len(self):
            return self
        return Series(*(_picked(column, list(kept)) for column in (self.steps, self.values, self.times)))


def _picked(column: Array, kept: list[int]) -> Array:
    if isinstance(column, array):
        return array(column.typecode, [column[at] for at in kept])
    return column[kept]


def series_of(curve: Curve) -> Series:
    """A curve as arrays. Cost: 1 ns a row, or 40 where it is a list."""
    return Series(_array("q", curve.steps), _values(curve.values), _array("q", curve.times))


def _values(values: Column) -> Array:
    is_integers = isinstance(values, array) and values.typecode == "q"
    return _array("q" if is_integers else "d", values)


def _array(kind: str, column: Iterable[Any]) -> Array:
    whole = column if isinstance(column, array) and column.typecode == kind else array(kind, column)
    numpy = _numpy()
    return whole if numpy is None else numpy.array(whole, dtype="int64" if kind == "q" else "float64")


def _numpy() -> Any:
    try:
        import numpy  # 70 ms, and need not be installed
    except ImportError:
        return None
    return numpy


def history_of(metrics: Mapping[str, Curve], form: Literal["wide", "long"] = "wide") -> Table:
    """All rows of some curves as one table, by name of column.

    Wide: `step`, rising, the latest `time` at the step, and a column for each metric, with NaN where it was
    not logged; of several rows of one step the last counts. Long: `metric`, `step`, `time`, `value`, a row
    for each number.

    Cost: 0.3 µs a number.
    """
    return _wide(metrics) if form == "wide" else _long(metrics)


def _wide(metrics: Mapping[str, Curve]) -> Table:
    times: dict[int, int] = {}
    for curve in metrics.values():
        for step, time in zip(curve.steps, curve.times, strict=True):
            times[step] = max(time, times.get(step, 0))
    steps = sorted(times)
    place = {step: at for at, step in enumerate(steps)}
    table: Table = {"step": _array("q", steps), "time": _array("q", [times[step] for step in steps])}
    for name, curve in metrics.items():
        table[name] = _array("d", _spread(curve, place))
    return table


def _spread(curve: Curve, place: Mapping[int, int]) -> list[Number]:
    values: list[Number] = [nan] * len(place)
    for step, value in zip(curve.steps, curve.values, strict=True):
        values[place[step]] = value
    return values


def _long(metrics: Mapping[str, Curve]) -> Table:
    names = [name for name, curve in metrics.items() for _ in curve.steps]
    columns = {
        "step": [step for curve in metrics.values() for step in curve.steps],
        "time": [time for curve in metrics.values() for time in curve.times],
    }
    values = [value for curve in metrics.values() for value in curve.values]
    table: Table = {"metric": names} | {name: _array("q", column) for name, column in columns.items()}
    return table | {"value": _array("d", values)}
