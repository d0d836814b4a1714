"""A sweep as a file of JSON or YAML -> its configs.

Pure: bytes in, plain dicts out. What two readers take for different values is refused rather than guessed.

    {"identifier": "train", "namespace": "grid", "grid": {"lr": [0.1, 0.01], "seed": [1, 2, 3]}}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from tracker.errors import ParamsError
from tracker.grids import Config, grid, product, zipped

YAML_SUFFIXES = (".yaml", ".yml")

_SETTINGS = ("identifier", "namespace")
_DEPTH_MAX = 32
_INT_DIGITS_MAX = 1300


class SweepFile(NamedTuple):
    """What a sweep file says; None for what it does not say."""

    configs: list[Config]
    identifier: str | None = None
    namespace: str | None = None


def parse_sweep(data: bytes, name: str) -> SweepFile:
    """The configs of a sweep file, in order. It is YAML if its name ends so, else JSON.

    At the root stands a list of configs, or an object with one of `configs`, `grid`, `zip`, `product` and
    `concat`, and perhaps `identifier` and `namespace`. `product` and `concat` have lists of such objects.

    Raises: ParamsError with file and place; ImportError for YAML where PyYAML is not installed.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParamsError(name, f"not UTF-8 at byte {error.start}; write the file as UTF-8") from error
    tree = _parse_yaml(text, name) if name.endswith(YAML_SUFFIXES) else _parse_json(text, name)
    if not isinstance(tree, dict):
        return SweepFile(_configs_of(tree, name, 0))
    settings = {key: _setting(tree.pop(key), f"{name}: {key}") for key in _SETTINGS if key in tree}
    return SweepFile(_configs_of(tree, name, 0), **settings)


def _setting(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ParamsError(where, f"give a text, not {_shown(value)}")
    return value


def _configs_of(tree: Any, where: str, depth: int) -> list[Config]:
    """The configs of a list, or of an object with one of the words."""
    if depth > _DEPTH_MAX:
        raise ParamsError(where, f"nested too deep; at most {_DEPTH_MAX} are allowed")
    if isinstance(tree, list):
        return _listed(tree, where)
    if not isinstance(tree, dict):
        raise ParamsError(where, f"give a list of configs or an object with {_WORDS}, not {_shown(tree)}")
    unknown = next((key for key in tree if key not in _MAKERS), None)
    if unknown is not None:
        known = _WORDS if depth else f"{_WORDS}, and perhaps {' and '.join(_SETTINGS)}"
        raise ParamsError(f"{where}: {unknown}", f"is no word of a sweep file; give {known}")
    if len(tree) != 1:
        raise ParamsError(where, f"{' and '.join(tree) or 'nothing'} is given; give {_WORDS}")
    [(word, value)] = tree.items()
    return _MAKERS[word](value, f"{where}: {word}", depth)


def _listed(value: Any, where: str, depth: int = 0) -> list[Config]:
    if not isinstance(value, list):
        raise ParamsError(where, f"give a list of configs, not {_shown(value)}")
    for place, config in enumerate(value):
        if not isinstance(config, dict):
            raise ParamsError(f"{where}[{place}]", f"give an object, not {_shown(config)}")
    return value


def _axes_by(make: Callable[[dict[str, Any]], list[Config]]) -> Callable[[Any, str, int], list[Config]]:
    def configs(value: Any, where: str, depth: int) -> list[Config]:
        if not isinstance(value, dict):
            raise ParamsError(where, f"give an object of lists of values, not {_shown(value)}")
        try:
            return make(value)
        except ParamsError as error:
            raise ParamsError(f"{where}: {error.path}", error.why) from error

    return configs


def _parts(value: Any, where: str, depth: int) -> list[list[Config]]:
    if not isinstance(value, list) or not value:
        raise ParamsError(where, f"give a list of objects or of lists of configs, not {_shown(value)}")
    return [_configs_of(part, f"{where}[{place}]", depth + 1) for place, part in enumerate(value)]


def _product(value: Any, where: str, depth: int) -> list[Config]:
    try:
        return product(*_parts(value, where, depth))
    except ParamsError as error:
        inner = error.path.removeprefix("product")
        raise ParamsError(error.path if inner == error.path else f"{where}{inner}", error.why) from error


def _concat(value: Any, where: str, depth: int) -> list[Config]:
    return [config for part in _parts(value, where, depth) for config in part]


_MAKERS: dict[str, Callable[[Any, str, int], list[Config]]] = {
    "configs": _listed,
    "grid": _axes_by(grid),
    "zip": _axes_by(zipped),
    "product": _product,
    "concat": _concat,
}
_WORDS = "one of " + ", ".join(_MAKERS)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list" if value else "an empty list"
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:39] + "…"


# JSON


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=_float,
            parse_int=_int,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ParamsError(name, f"not JSON at {where}: {error.msg}; check it with `jq .`") from error
    except RecursionError as error:
        raise ParamsError(name, "nested too deep; params have at most 32 containers") from error
    except _RefusedError as error:
        raise ParamsError(name, str(error)) from error


class _RefusedError(Exception):
    """A value that JSON's grammar allows, or Python's reader."""


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _RefusedError(f'no double is as great as {text[:40]}; write "Infinity" if that is meant')
    return number


def _int(text: str) -> int:
    if len(text) > _INT_DIGITS_MAX:
        raise _RefusedError(f"an integer of {len(text)} digits; params have at most 4096 bits")
    return int(text)


def _refuse_constant(word: str) -> NoReturn:
    raise _RefusedError(f'{word} is not JSON; params have it as the word "{word}", in quotes')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedError(f"the key {twice!r} occurs twice in one object; keep one of them")
    return members


# YAML

_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+[eE][-+]?\d+")
"""What people take for a number, and YAML 1.1 for a text: 1e-3."""

_CORE_BOOLS = ("true", "false", "True", "False", "TRUE", "FALSE")


def _parse_yaml(text: str, name: str) -> Any:
    # third-party, and need not be installed
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _check_node(node, name, yaml.nodes)
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" at {_place(error.problem_mark)}"
        raise ParamsError(name, f"not YAML{where}: {error.problem}; check it with a YAML reader") from error
    except yaml.YAMLError as error:
        raise ParamsError(name, f"not YAML: {error}; check it with a YAML reader") from error
    except RecursionError as error:
        raise ParamsError(name, "nested too deep; params have at most 32 containers") from error


def _check_node(node: Any, name: str, kinds: Any) -> None:
    """Refuse what YAML 1.1 reads otherwise than its writer meant; keys that are no texts, or occur twice."""
    seen = {id(node)}
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, kinds.ScalarNode):
            _check_scalar(node, name)
            continue
        if isinstance(node, kinds.MappingNode):
            _check_keys(node, name)
        items = [] if node is None else node.value
        nodes = items if isinstance(node, kinds.SequenceNode) else [one for pair in items for one in pair]
        # an alias is the node that it names: each is looked at once
        waiting += [one for one in reversed(nodes) if id(one) not in seen]
        seen.update(map(id, nodes))


def _check_scalar(node: Any, name: str) -> None:
    why = _why_ambiguous(node)
    if why:
        raise ParamsError(f"{name}: {_place(node.start_mark)}", f"{node.value}: {why}")


def _check_keys(node: Any, name: str) -> None:
    seen = set()
    for key, _ in node.value:
        where = f"{name}: {_place(key.start_mark)}"
        if not key.tag.endswith((":str", ":merge")):
            raise ParamsError(where, "a key is no text; put it in quotes")
        if key.value in seen:
            raise ParamsError(where, f"the key {key.value!r} occurs twice in one object; keep one of them")
        seen.add(key.value)


def _why_ambiguous(node: Any) -> str:
    """Of a scalar without quotes: why it is not what it looks like."""
    if node.style is not None:
        return ""
    if node.tag.endswith(":str") and _NUMBER.fullmatch(node.value):
        return "is a text in YAML; write a number with point and sign, as 1.0e-3, or put it in quotes"
    if node.tag.endswith(":bool") and node.value not in _CORE_BOOLS:
        return "is true or false in YAML; write that, or put it in quotes"
    if node.tag.endswith(":int") and re.fullmatch(r"[-+]?0[0-9_]+|.*:.*", node.value):
        return "is in base 8 or 60 in YAML; write it in base 10, or put it in quotes"
    if node.tag.endswith((":timestamp", ":binary")) or (node.tag.endswith(":float") and ":" in node.value):
        return "is no plain value in YAML; put it in quotes"
    return ""


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
