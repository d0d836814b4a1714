"""What users log -> names and numbers. Pure; types of other libraries are known by what they can do.

Spec: spec/metrics.md section 3.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from tracker._model.rows import LARGEST, Number, why_no_name
from tracker.errors import MetricError

PLAIN = frozenset({float, int, bool})
_DEPTH_MAX = 32
STEP_MAX = LARGEST >> 1


def numbers_of(values: Mapping[str, Any]) -> dict[str, Number]:
    """The metrics of one row: maps in maps flattened with `/`, what has `item()` asked for its number.

    Raises: MetricError naming the metric and its value. Cost: 1 µs a value.
    """
    found: dict[str, Number] = {}
    _gather(found, "", values, 1)
    if not found:
        raise MetricError("", values, "nothing to log", 'give one number or more, as log({"loss": 0.3})')
    return found


def _gather(found: dict[str, Number], above: str, values: Mapping[str, Any], depth: int) -> None:
    for key, value in values.items():
        name = f"{above}/{key}" if above else key
        if not isinstance(key, str):
            raise MetricError(str(name), value, f"the name {key!r} is no text", "name metrics by texts")
        if isinstance(value, Mapping):
            if depth == _DEPTH_MAX:
                raise MetricError(name, value, f"maps in maps, more than {_DEPTH_MAX} deep", "log it flat")
            _gather(found, name, value, depth + 1)
            continue
        why = why_no_name(name)
        if why:
            raise MetricError(name, value, f"the name {why}", "name it otherwise")
        if name in found:
            raise MetricError(name, value, "two values have this name in one row", "log one of them")
        found[str.__str__(name)] = number_of(name, value)


def number_of(name: str, value: Any) -> Number:
    """The number that a value is: of Python, a scalar of numpy, an array or tensor that holds one."""
    if type(value) in PLAIN:
        return value  # type: ignore[no-any-return]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    item = getattr(value, "item", None)
    if not callable(item):
        raise MetricError(name, value, _why(value), "log a number")
    try:
        inner = item()
    except (ValueError, RuntimeError, TypeError) as error:
        why = f"it holds not one number ({type(value).__name__})"
        raise MetricError(name, value, why, "log one, its mean() for instance") from error
    if type(inner) not in PLAIN:
        raise MetricError(name, value, f"its item() is of type {type(inner).__name__}", "log a number")
    return inner  # type: ignore[no-any-return]


def _why(value: object) -> str:
    if value is None:
        return "it is None"
    return "it is a text" if isinstance(value, str | bytes) else f"it is of type {type(value).__name__}"


def step_of(step: Any) -> int:
    """A step as an integer. It leaves room for as many again, counted on from it. Raises: MetricError."""
    if type(step) is not int:
        try:
            step = operator.index(step)
        except TypeError as error:
            why, cure = "it is no integer", "count steps by integers, and log an epoch's part as a metric"
            raise MetricError("step", step, why, cure) from error
        step = int(step)
    if not -STEP_MAX <= step <= STEP_MAX:
        raise MetricError("step", step, "it is not in −2^52 to 2^52", "count from 0")
    return step  # type: ignore[no-any-return]


def time_of(time_s: Any) -> int:
    """Unix seconds as milliseconds. Raises: MetricError."""
    try:
        ms = int(time_s * 1000)
    except (TypeError, ValueError, OverflowError) as error:
        why = "it is no number of seconds"
        raise MetricError("time", time_s, why, "give what time.time() gives") from error
    if not 0 <= ms <= LARGEST:
        raise MetricError("time", time_s, "it is not in 1970 to 287396", "give what time.time() gives")
    return ms
