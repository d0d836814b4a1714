"""What a class declares about its fields: their names, their values, the types they may have.

Knows dataclasses, attrs classes, pydantic models, msgspec Structs and argparse namespaces. All but the
Structs are recognised by their marks, so no library is imported here; nothing is written here either.
A declared type is the tuple of its alternatives: `float | None` is `(float, NoneType)`.

Spec: spec/canonical.md, "Classes with fields".
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Declared = tuple[Any, ...]
"""The alternatives of a declared type; empty where nothing is declared."""

UNDECLARED: Declared = ()

MISSING = object()
"""Stands for the value of a field that was never set."""


class Unresolved(str):
    """The text of a declared type whose names cannot be found at run time."""

    __slots__ = ()


def has_fields(kind: type) -> bool:
    """Tell whether the instances of `kind` are written as their fields."""
    return (
        issubclass(kind, msgspec.Struct)
        or _is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or _is_model(kind)
        or _is_namespace(kind)
    )


def iter_fields(value: object) -> Iterator[tuple[str, object, Declared]]:
    """Yield name, value and declared type of each field; the value is MISSING if it was never set."""
    kind: Any = type(value)
    declared = _declared_by(kind)
    for name in _field_names(value):
        yield name, getattr(value, name, MISSING), declared.get(name, UNDECLARED)


def tag_of(kind: type) -> tuple[str, str | int] | None:
    """Give the tag field and the tag of a tagged Struct class, None for any other class."""
    if not issubclass(kind, msgspec.Struct):
        return None
    config = kind.__struct_config__
    return None if config.tag is None else (str(config.tag_field), config.tag)


def settles(declared: Declared, value: object) -> bool:
    """Tell whether the declared type leaves no doubt which class the object `value` is of.

    True for the class itself, for Optional of it, and for a union in which some field common to all
    its classes is a Literal of words that no two of them share.
    """
    kinds = [_origin(alternative) or alternative for alternative in declared]
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    if type(value) not in kinds:
        return False
    return len(kinds) == 1 or _is_told_apart(value, kinds)


def wants_float(declared: Declared, value: int) -> bool:
    """Tell whether the declared type takes the integer `value` as a float, and as nothing else."""
    return float in declared and not any(
        _admits_int(alternative, value) for alternative in declared if alternative is not float
    )


def of_item(declared: Declared, index: int) -> Declared:
    """Give the declared type of the array element at `index`."""
    found: list[Any] = []
    for alternative in declared:
        kind = _origin(alternative) or alternative
        arguments = typing.get_args(alternative)
        if alternative is Any or isinstance(alternative, Unresolved):
            found.append(alternative)
        elif not (_is_subclass(list, kind) or _is_subclass(tuple, kind)):
            continue
        elif kind is tuple and arguments and arguments[-1] is not Ellipsis:
            found += _alternatives(arguments[index]) if index < len(arguments) else (Any,)
        else:
            found += _alternatives(arguments[0]) if arguments else (Any,)
    return tuple(found)


def of_member(declared: Declared, key: object) -> Declared:
    """Give the declared type of the object member under `key`."""
    found: list[Any] = []
    for alternative in declared:
        kind = _origin(alternative) or alternative
        arguments = typing.get_args(alternative)
        if alternative is Any or isinstance(alternative, Unresolved):
            found.append(alternative)
        elif typing.is_typeddict(kind):
            found += _declared_by(kind).get(str(key), (Any,))
        elif _is_subclass(kind, Mapping) or _is_subclass(dict, kind):
            found += _alternatives(arguments[1]) if len(arguments) == 2 else (Any,)
    return tuple(found)


def format_declared(declared: Declared) -> str:
    """Give the declared type as its author would write it."""
    return " | ".join(
        "None" if alternative is types.NoneType else getattr(alternative, "__name__", str(alternative))
        for alternative in declared
    )


def _field_names(value: object) -> list[str]:
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    if _is_model(kind):
        # A field declared with exclude=True is one its author keeps out of every written form.
        own = [name for name, field in kind.model_fields.items() if field.exclude is not True]  # type: ignore[attr-defined]
        return own + list(getattr(value, "__pydantic_extra__", None) or ())
    if _is_dataclass(kind):
        return [field.name for field in sys.modules["dataclasses"].fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    return list(vars(value))


@functools.lru_cache(maxsize=512)
def _declared_by(kind: type) -> dict[str, Declared]:
    if _is_model(kind):
        hints = {name: field.annotation for name, field in kind.model_fields.items()}  # type: ignore[attr-defined]
    else:
        hints = _hints_of(kind)
    return {name: _alternatives(hint) for name, hint in hints.items()}


def _hints_of(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:
        # One name that exists only for type checkers must not hide the types of the other fields.
        return {
            name: _resolved(hint, base)
            for base in reversed(kind.__mro__)
            for name, hint in inspect.get_annotations(base).items()
        }


def _resolved(hint: Any, owner: type) -> Any:
    alone = type("_", (), {"__annotations__": {"hint": hint}, "__module__": owner.__module__})
    try:
        return typing.get_type_hints(alone, include_extras=True)["hint"]
    except Exception:  # annotations are code: evaluating them may raise anything
        return Unresolved(hint if isinstance(hint, str) else repr(hint))


def _alternatives(hint: Any) -> Declared:
    origin = _origin(hint)
    if origin in (typing.Union, types.UnionType):
        return tuple(found for part in typing.get_args(hint) for found in _alternatives(part))
    if origin in (typing.Annotated, typing.Final, typing.Required, typing.NotRequired):
        return _alternatives(typing.get_args(hint)[0])
    if isinstance(hint, typing.NewType):
        return _alternatives(hint.__supertype__)
    if type(hint).__name__ == "TypeAliasType":
        return _alternatives(hint.__value__)
    return (Any,) if isinstance(hint, typing.TypeVar) else (hint,)


def _origin(hint: Any) -> Any:
    return typing.get_origin(hint)


def _admits_int(alternative: Any, value: int) -> bool:
    if _origin(alternative) is typing.Literal:
        return any(type(word) is int and word == value for word in typing.get_args(alternative))
    return alternative is Any or _is_subclass(int, alternative)


def _is_told_apart(value: object, kinds: list[Any]) -> bool:
    if not all(isinstance(kind, type) and has_fields(kind) for kind in kinds):
        return False
    common = set.intersection(*(set(_declared_by(kind)) for kind in kinds))
    for name in common:
        words = [_words(_declared_by(kind)[name]) for kind in kinds]
        is_disjoint = len(frozenset[Any]().union(*words)) == sum(map(len, words))
        own = words[kinds.index(type(value))]
        if all(words) and is_disjoint and getattr(value, name, None) in own:
            return True
    return False


def _words(declared: Declared) -> frozenset[str]:
    """Give the words of a Literal of strings; none for any other declared type."""
    if len(declared) != 1 or _origin(declared[0]) is not typing.Literal:
        return frozenset()
    words = typing.get_args(declared[0])
    return frozenset(words) if all(type(word) is str for word in words) else frozenset()


def _is_subclass(kind: Any, parent: Any) -> bool:
    try:
        return issubclass(kind, parent)
    except TypeError:  # not classes, or a protocol that cannot be asked
        return False


def _is_dataclass(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__")


def _is_model(kind: type) -> bool:
    return (
        hasattr(kind, "model_fields")
        and _descends_from(kind, "pydantic.main", "BaseModel")
        and not _descends_from(kind, "pydantic.root_model", "RootModel")
    )


def _is_namespace(kind: type) -> bool:
    return _descends_from(kind, "argparse", "Namespace")


def _descends_from(kind: type, module: str, name: str) -> bool:
    return any(base.__module__ == module and base.__name__ == name for base in kind.__mro__)
