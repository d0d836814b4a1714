"""Lists of configs: products and pairings of values, as plain lists of plain dicts.

Pure: knows no store, and no rule of what a value may be; keys and values stay what they are. Concatenation
is `+`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracker.errors import ParamsError

Config = dict[str, Any]

_NOT_AXES = (str, bytes, bytearray, memoryview, Mapping, set, frozenset)
"""What can be gone through, and is not a list of values, or is one in no order."""


def grid(mapping: Mapping[str, Iterable[Any]] | None = None, /, **axes: Iterable[Any]) -> list[Config]:
    """Every combination of the axes' values; the last axis varies fastest.

    An axis is any iterable of values: a list, a range, a generator, an array. Names that are no identifiers,
    as "model.width", go into `mapping`; they stay one key.

    Raises: ParamsError, a ValueError, which names the axis that is no list of values, or is empty.
    """
    named = _named_axes("grid", mapping, axes)
    return [dict(zip(named, values, strict=True)) for values in itertools.product(*named.values())]


def zipped(mapping: Mapping[str, Iterable[Any]] | None = None, /, **axes: Iterable[Any]) -> list[Config]:
    """The axes side by side: the first values together, the second ones together, and so on.

    Raises: ParamsError as `grid`, and for axes of different lengths, which it names.
    """
    named = _named_axes("zipped", mapping, axes)
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ParamsError("zipped", f"the axes differ in length: {shown}; give each as many values")
    return [dict(zip(named, values, strict=True)) for values in zip(*named.values(), strict=True)]


def product(*lists: Iterable[Mapping[str, Any]]) -> list[Config]:
    """Every combination of one config of each list, merged into one; the last list varies fastest.

    Raises: ParamsError for a key that stands in two of the lists, and for what is no list of dicts.
    """
    if not lists:
        raise ParamsError("product", "there is no list; give lists of configs")
    checked = [_configs(f"product[{place}]", configs) for place, configs in enumerate(lists)]
    _refuse_shared_keys(checked)
    return [_merged(configs) for configs in itertools.product(*checked)]


def _named_axes(
    where: str, mapping: Mapping[str, Iterable[Any]] | None, axes: Mapping[str, Iterable[Any]]
) -> dict[str, list[Any]]:
    if mapping is not None and not isinstance(mapping, Mapping):
        raise ParamsError(where, f"axes are given by name; {type(mapping).__name__} has none: pass a dict")
    given = dict(mapping or {})
    twice = next((name for name in axes if name in given), None)
    if twice is not None:
        raise ParamsError(str(twice), "the axis is given twice; give it once")
    given |= axes
    if not given:
        raise ParamsError(where, "there is no axis; give at least one list of values")
    return {name: _axis(str(name), values) for name, values in given.items()}


def _axis(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, set | frozenset):
        raise ParamsError(name, "a set has no order; give sorted(x)")
    listed = None if isinstance(values, _NOT_AXES) else _listed(values)
    if listed is None:
        raise ParamsError(name, f"give a list of values, not {_shown(values)}")
    if not listed:
        raise ParamsError(name, "there is no value; give at least one")
    return listed


def _listed(values: Iterable[Any]) -> list[Any] | None:
    """The values in a list; None for what cannot be gone through. A generator's own error goes up."""
    try:
        iterator = iter(values)
    except TypeError:  # a number, or an array of no dimension
        return None
    return list(iterator)


def _configs(where: str, configs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    listed = None if isinstance(configs, _NOT_AXES) else _listed(configs)
    if listed is None:
        raise ParamsError(where, f"give a list of configs, not {_shown(configs)}")
    if not listed:
        raise ParamsError(where, "there is no config; give at least one")
    for place, config in enumerate(listed):
        if not isinstance(config, Mapping):
            raise ParamsError(f"{where}[{place}]", f"give a dict, not {_shown(config)}")
    return listed


def _refuse_shared_keys(lists: Sequence[list[Mapping[str, Any]]]) -> None:
    first: dict[str, int] = {}
    for place, configs in enumerate(lists):
        for key in dict.fromkeys(itertools.chain.from_iterable(configs)):
            if first.setdefault(key, place) != place:
                why = f"the key {key!r} stands in product[{first[key]}] too; keep one of them"
                raise ParamsError(f"product[{place}]", why)


def _merged(configs: Iterable[Mapping[str, Any]]) -> Config:
    return {key: value for config in configs for key, value in config.items()}


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:39] + '…'}"
