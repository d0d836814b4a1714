"""Which Python values are params, and the plain tree each of them means.

A plain tree holds dicts with string keys, lists, strings, integers, floats, booleans and None, of
exactly these types. Every other value is turned into one by the rule for its type, or refused with its
path; never with `str`, `repr`, pickle or null. Types of other libraries are known by name: nothing is
imported to recognise them. This room never writes text.

Spec: spec/canonical.md, "Rule for each type", "Classes with fields", "Limits".
"""

from __future__ import annotations

import datetime
import enum
import functools
import math
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tracker._codec import declared
from tracker._codec.declared import UNDECLARED, Declared
from tracker._codec.refusals import (
    ANYTHING,
    BIG_ARRAY,
    PLAIN_ITEMS,
    REFUSALS,
    TENSOR,
    is_of_tensor_package,
    iter_base_names,
)
from tracker.errors import ParamsError

MAX_DEPTH = 32
"""Nested containers, the root among them."""

MAX_VALUES = 100_000
"""Values counted as written: a value met twice counts twice; containers and the root count too."""

MAX_INT_BITS = 4096

_Rule = Callable[["_Walk", Any, Declared], Any]


def plain(params: object) -> dict[str, Any]:
    """Give the plain tree that `params` mean; a caller may change it freely.

    Raises: ParamsError at the path of the first value that no rule accepts.
    Spec: spec/canonical.md, "Rule for each type".
    """
    walk = _Walk()
    kind: Any = type(params)
    if not (issubclass(kind, Mapping) or declared.has_fields(kind)):
        walk.refuse(f"{_a(kind)} is not a mapping; pass a dict, or an object with fields")
    tree = walk.plain(params, UNDECLARED)
    if type(tree) is not dict:
        walk.refuse(f"{_a(kind)} that holds no mapping; pass a dict, or an object with fields")
    return tree


def is_plain(params: object) -> bool:
    """Tell whether `params` are a plain tree already, within the limits of depth and values.

    Tuples pass as lists. Lone surrogates, reserved keys and the size of integers are not looked at.

    Cost: some 1 µs for a dozen params; at most MAX_VALUES values are looked at.
    """
    if type(params) is not dict:
        return False
    level: list[Any] = [params]
    left = MAX_VALUES - 1
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for box in level:
            left -= len(box)
            if left < 0:
                return False
            if type(box) is dict:
                for key, item in box.items():
                    if type(key) is not str:
                        return False
                    if (kind := type(item)) in _SCALARS:
                        continue
                    if kind not in _CONTAINERS:
                        return False
                    inner.append(item)
            elif not _SCALARS.issuperset(map(type, box)):
                if not _PLAIN.issuperset(map(type, box)):
                    return False
                inner += [item for item in box if type(item) in _CONTAINERS]
        if not inner:
            return True
        level = inner
    return False


_SCALARS = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})
_PLAIN = _SCALARS | _CONTAINERS


class _Walk:
    """One pass over params: where it is, and how many values it may still meet."""

    def __init__(self) -> None:
        self.keys: list[object] = []
        self.left = MAX_VALUES

    def refuse(self, why: str) -> NoReturn:
        raise ParamsError("params" + "".join(f"[{_shown(key)}]" for key in self.keys), why)

    def plain(self, value: Any, hint: Declared) -> Any:
        """Count `value` and give its plain form."""
        self.left -= 1
        if self.left < 0:
            self.refuse(f"more than {MAX_VALUES:,} values; put big data in a file and its hash in params")
        return self.follow(value, hint)

    def follow(self, value: Any, hint: Declared) -> Any:
        """Give the plain form of a value that is counted already."""
        kind: Any = type(value)
        return (_COMMON.get(kind) or _rule_for(kind))(self, value, hint)

    def below(self, key: object, value: Any, hint: Declared) -> Any:
        """Give the plain form of the value under `key` of the container in hand."""
        self.keys.append(key)
        tree = self.plain(value, hint)
        self.keys.pop()
        return tree

    def enter(self) -> None:
        if len(self.keys) >= MAX_DEPTH:
            self.refuse(f"more than {MAX_DEPTH} nested containers; is there a cycle?")

    def key_text(self, key: object) -> str:
        """Give the text of a key: a string as it is, an integer as its digits."""
        if isinstance(key, str):
            return (_enum_member if isinstance(key, enum.Enum) else _string)(self, key, UNDECLARED)
        if not _is_integer(type(key)):
            self.refuse(
                f"a key of type {type(key).__name__} ({_shown(key)}); "
                "keys are strings (or integers, written as strings)"
            )
        return str(_integer(self, int(key), UNDECLARED))  # type: ignore[call-overload]


def _itself(walk: _Walk, value: Any, hint: Declared) -> Any:
    return value


def _string(walk: _Walk, value: Any, hint: Declared) -> str:
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            walk.refuse(f"{_shown(text)} holds a lone surrogate, which UTF-8 cannot carry")
    return text


def _integer(walk: _Walk, value: Any, hint: Declared) -> int | float:
    number = int.__index__(value)
    if number.bit_length() > MAX_INT_BITS:
        walk.refuse(f"an integer of more than {MAX_INT_BITS} bits; pass a string, or a hash of it")
    for alternative in hint:
        if isinstance(alternative, declared.Unresolved):
            walk.refuse(
                f"its declared type {str(alternative)!r} cannot be found at run time; "
                "import it outside TYPE_CHECKING"
            )
    return _as_float(walk, number) if declared.wants_float(hint, number) else number


def _as_float(walk: _Walk, number: int) -> float:
    try:
        converted = float(number)
    except OverflowError:
        converted = 0.0
    if converted != number:
        walk.refuse("an integer that no float equals, where the declared type is float; pass float(x)")
    return converted


def _float(walk: _Walk, value: Any, hint: Declared) -> float:
    return float.__add__(value, 0.0)


def _mapping(walk: _Walk, value: Any, hint: Declared) -> dict[str, Any]:
    walk.enter()
    tree: dict[str, Any] = {}
    for key, item in value.items():
        name = walk.key_text(key)
        if name in tree:
            walk.refuse(f"two keys are both written {_shown(name)}")
        tree[name] = walk.below(key, item, declared.of_member(hint, key) if hint else hint)
    return tree


def _array(walk: _Walk, value: Any, hint: Declared) -> list[Any]:
    if hasattr(type(value), "_fields"):
        walk.refuse(f"{_a(type(value))} has no canonical form; pass x._asdict() or list(x)")
    walk.enter()
    return [
        walk.below(index, item, declared.of_item(hint, index) if hint else hint)
        for index, item in enumerate(value)
    ]


def _object(walk: _Walk, value: Any, hint: Declared) -> dict[str, Any]:
    kind = type(value)
    tag = declared.tag_of(kind)
    if walk.keys and tag is None and not declared.settles(hint, value):
        _refuse_unsettled(walk, kind, hint)
    walk.enter()
    tree = {} if tag is None else {tag[0]: walk.below(*tag, UNDECLARED)}
    for name, item, item_hint in declared.iter_fields(value):
        if item is declared.MISSING:
            walk.refuse(f"the field {name!r} has no value")
        tree[walk.key_text(name)] = walk.below(name, item, item_hint)
    return tree


def _refuse_unsettled(walk: _Walk, kind: type, hint: Declared) -> NoReturn:
    if hint:
        where = f"where its class is not settled by the declared type ({declared.format_declared(hint)})"
        cure = "Add a field that names it"
    else:
        where = "where no declared type settles its class"
        cure = "Pass a dict with a field that names it"
    walk.refuse(f"{_a(kind)} {where}: another class with the same fields would share the uid. {cure}")


def _enum_member(walk: _Walk, value: Any, hint: Declared) -> str:
    word = value.value
    if issubclass(type(value), str) and type(word) is str and word == str.__str__(value):
        return _string(walk, word, hint)
    return walk.refuse(f"{_shown(value)} is an enum member; pass its .name (a word) or its .value")


def _path(walk: _Walk, value: pathlib.PurePath, hint: Declared) -> str:
    return _string(walk, value.as_posix(), hint)


def _date(walk: _Walk, value: datetime.date, hint: Declared) -> str:
    return datetime.date.isoformat(value)


def _numpy_scalar(walk: _Walk, value: Any, hint: Declared) -> bool | int | float:
    if not _is_plain_dtype(value.dtype):
        walk.refuse(f"{_a(type(value))} has no canonical form; {ANYTHING}")
    if value.dtype.kind == "b":
        return bool(value)
    return float(value) if value.dtype.kind == "f" else _integer(walk, int(value), hint)


def _numpy_array(walk: _Walk, value: Any, hint: Declared) -> Any:
    if not _is_plain_dtype(value.dtype) or hasattr(value, "mask"):
        walk.refuse(f"{_a(type(value))} of {value.dtype} has no canonical form; {PLAIN_ITEMS}")
    # An axis of length 0 hides how many empty lists the others would make.
    items = math.prod(max(length, 1) for length in value.shape)
    if items > MAX_VALUES:
        walk.refuse(f"{_a(type(value))} of {items:,} items; {BIG_ARRAY}")
    return walk.follow(value.tolist(), hint)


def _is_plain_dtype(dtype: Any) -> bool:
    """Tell whether items of a NumPy type have a double, an integer or a boolean of equal value."""
    return dtype.kind in "biu" or (dtype.kind == "f" and dtype.char != "g")


def _omegaconf(walk: _Walk, value: Any, hint: Declared) -> Any:
    library = sys.modules["omegaconf"]
    try:
        box = library.OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except library.errors.OmegaConfBaseException as error:
        walk.refuse(str(error).partition("\n")[0])
    return walk.follow(box, hint)


def _refuse_with(why: str) -> _Rule:
    def rule(walk: _Walk, value: Any, hint: Declared) -> NoReturn:
        is_only_cure = why.startswith("pass ")
        walk.refuse(f"{_a(type(value))} has no canonical form; {why}" if is_only_cure else why)

    return rule


_COMMON: dict[type, _Rule] = {
    type(None): _itself,
    bool: _itself,
    float: _itself,
    str: _string,
    int: _integer,
    dict: _mapping,
    list: _array,
    tuple: _array,
}

_RULES: dict[str, _Rule] = {
    "builtins.str": _string,
    "builtins.int": _integer,
    "builtins.float": _float,
    "builtins.dict": _mapping,
    "builtins.list": _array,
    "builtins.tuple": _array,
    "datetime.date": _date,
    "numpy.generic": _numpy_scalar,
    "numpy.ndarray": _numpy_array,
    "omegaconf.dictconfig.DictConfig": _omegaconf,
    "omegaconf.listconfig.ListConfig": _omegaconf,
}
"""The rule of a type and of its subclasses, by name; the nearest base class decides."""


@functools.lru_cache(maxsize=1024)
def _rule_for(kind: type) -> _Rule:
    if issubclass(kind, enum.Enum):
        return _enum_member
    if declared.has_fields(kind):
        return _object
    for name in iter_base_names(kind):
        if name in _RULES:
            return _RULES[name]
        if name in REFUSALS:
            return _refuse_with(REFUSALS[name])
    if issubclass(kind, pathlib.PurePath):
        return _path
    if is_of_tensor_package(kind):
        return _refuse_with(TENSOR)
    return _mapping if issubclass(kind, Mapping) else _refuse_with(ANYTHING)


def _is_integer(kind: type) -> bool:
    """Tell whether a key of this type is an integer. np.timedelta64 is one only by descent."""
    if issubclass(kind, int):
        return not issubclass(kind, bool | enum.Enum)
    names = set(iter_base_names(kind))
    return "numpy.integer" in names and "numpy.timedelta64" not in names


def _a(kind: type) -> str:
    name = kind.__name__
    return f"an {name}" if name[:1].lower() in "aeio" else f"a {name}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
