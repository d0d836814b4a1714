"""Random queries over random runs: SQLite finds what a naive evaluator over plain dicts finds.

The queries are trees of this module, printed by it and evaluated by it; the package sees only their text.
"""

from __future__ import annotations

import json
import operator
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import reference
import seen

from tracker.query import compile_query, parse_query

STORES = 40
QUERIES = 50
RUNS = 60

Run = dict[str, Any]
Tree = tuple[Any, ...]
"""A word and its parts: and, or, not, chain, in, has, exists, match; literal; params, metrics, column."""

MISSING = object()
OPS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

NUMBERS = [
    *(0, 1, 1.0, -1, -1.0, 0.1, 1e-7, 1.5, 2, 64, 1e300, -0.0, 2**53, float(2**53), 2**53 + 1),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**70, -(2**70), float(2**70), 10**400),
]
TEXTS = [
    *("", "a", "A", "ab", "b", "é", "É", "日本", "😀", "\uffff", "1", "1.0", "true", "null", "NaN"),
    *(
        "res_net",
        "res%",
        "resnet",
        "RESNET",
        "it's",
        'q"t',
        "back\\slash",
        "line\nline",
        "tab\t",
        "[1]",
        '{"a":1}',
    ),
]
SCALARS = [*NUMBERS, *TEXTS, True, False, None, True, False, None]
KEYS = [
    *(
        "a",
        "b",
        "lr",
        "x1",
        "status",
        "params",
        "metrics",
        "last",
        "like",
        "None",
        "é",
        "日本",
        "",
        "a.b",
        "0",
    ),
    *('q"t', "back\\slash", "tab\t", "it's", "$", "[0]", "a b", "\u2028", "#-1", '"', "\\", "\x01"),
]
TIMES = {
    "2026-11-01": 1793491200,
    "2026-11-01T00:00:00.001": 1793491200.001,
    "2026-11-01T12:30": 1793536200,
    "2026-11-01T01:00:00+02:00": 1793487600,
    "2026-11-02T00:00:00Z": 1793577600,
    "2026-11-01 00:00:00.0005": 1793491200.0005,
}
STAMPS = [1793491200000, 1793491200001, 1793536200000, 1793487600000, 1793577600000, 1793491199999]
COLUMN_TEXTS = {
    "status": ["done", "error", "running", "lost", "interrupted", "pending"],
    "identifier": ["train", "eval", "a", "é"],
    "namespace": [".", "", "grid", "grid/sub"],
    "uid": ["00", "01", "0a"],
    "key": ["00", "k1"],
    "mode": ["prefix", "subfolder"],
    "host": ["node1", "node2", "a"],
    "user": ["ann", "bob", "A"],
    "name": ["best", "it's", "", "é"],
    "parent": ["train/00", "train/01"],
    "commit": ["c0ffee", "c0", "dead"],
}


def any_value(rng: random.Random, depth: int) -> Any:
    kind = rng.random()
    if depth and kind < 0.2:
        return {key: any_value(rng, depth - 1) for key in rng.sample(KEYS, rng.randint(0, 5))}
    if depth and kind < 0.4:
        return [any_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return rng.choice(SCALARS)


def make_run(rng: random.Random, number: int) -> Run:
    params = {key: any_value(rng, 3) for key in rng.sample(KEYS, rng.randint(4, 18))}
    summary = {key: any_value(rng, 2) for key in rng.sample(KEYS, rng.randint(0, 12))}
    for key in rng.sample(KEYS, 5):
        summary[key] = {"last": rng.choice([*SCALARS, [1, "a"]]), "min": rng.choice(NUMBERS)}
    facts = {"commit": rng.choice(COLUMN_TEXTS["commit"]), "dirty": rng.choice([True, False])}
    attempt = {
        "started": rng.choice([*STAMPS, None]),
        "ended": rng.choice([*STAMPS, None]),
        "facts": {name: facts[name] for name in facts if rng.random() < 0.7},
    }
    return {
        "uid": f"{number:02x}",
        "identifier": rng.choice(COLUMN_TEXTS["identifier"]),
        "relpath": rng.choice(["", "grid", "grid/sub"]),
        "key": rng.choice(["00", "k1", None]),
        "status": rng.choice(COLUMN_TEXTS["status"]),
        "mode": rng.choice(["prefix", "subfolder", None]),
        "params": reference.canonical_bytes(params).decode() if rng.random() < 0.97 else None,
        "first": [rng.choice(STAMPS) << 16, "w", 0, 0],
        "host": rng.choice(["node1", "node2", "a", None]),
        "user": rng.choice(["ann", "bob", "A", None]),
        "tags": sorted(set(rng.choices(["paper", "a", "é", "1"], k=rng.randint(0, 3)))),
        "summary": summary,
        "name": rng.choice([*COLUMN_TEXTS["name"], None]),
        "parent": rng.choice([*COLUMN_TEXTS["parent"], None]),
        "attempts": [attempt] * rng.randint(0, 2),
    }


def any_tree(rng: random.Random, depth: int) -> Tree:
    kind = rng.random()
    if depth and kind < 0.35:
        word = rng.choice(["and", "or"])
        return (word, [any_tree(rng, depth - 1) for _ in range(rng.randint(2, 3))])
    if depth and kind < 0.5:
        return ("not", any_tree(rng, depth - 1))
    return any_atom(rng)


def any_atom(rng: random.Random) -> Tree:
    kind = rng.random()
    field = any_field(rng)
    if kind < 0.4:
        op, literal = rng.choice(list(OPS)), any_literal(rng, field)
        return ("chain", [literal, TURNED.get(op, op), field] if rng.random() < 0.2 else [field, op, literal])
    if kind < 0.5:
        low, high = any_literal(rng, field), any_literal(rng, field)
        return ("chain", [low, rng.choice(["<", "<=", "=="]), field, rng.choice(["<", "!=", ">="]), high])
    if kind < 0.6:
        other = any_field(rng, tags=False) if field != ("column", ["tags"]) else field
        return ("exists", field) if field == other else ("chain", [field, rng.choice(list(OPS)), other])
    if kind < 0.72:
        literals = [any_literal(rng, field) for _ in range(rng.randint(1, 4))]
        return ("in", field, literals, rng.random() < 0.4)
    if kind < 0.84:
        free = any_field(rng, columns=False) if rng.random() < 0.8 else ("column", ["tags"])
        member = rng.choice(["paper", "a", "é"]) if free[0] == "column" else rng.choice(SCALARS)
        return ("has", ("literal", member, member), free, rng.random() < 0.4)
    if kind < 0.9:
        return ("exists", field)
    name = rng.choice(["status", "identifier", "host", "user", "uid"])
    subject = any_field(rng, columns=False) if rng.random() < 0.8 else ("column", [name])
    return ("match", rng.choice(["like", "startswith", "endswith", "contains"]), subject, any_part(rng))


def any_part(rng: random.Random) -> str:
    text = rng.choice([*TEXTS, "node1", "train", "done"])
    start = rng.randint(0, len(text))
    return rng.choice(
        [text, text[:start], text[start:], "%" + text[start:], text[:start] + "%", "_" + text[1:]]
    )


def any_field(rng: random.Random, *, columns: bool = True, tags: bool = True) -> Tree:
    kind = rng.random()
    if columns and kind < 0.25:
        names = [*COLUMN_TEXTS, "attempts", "created", "started", "ended", "duration", "dirty"]
        return ("column", [rng.choice(names)])
    if tags and kind < 0.3:
        return ("column", ["tags", rng.choice([0, 1, -1, -2])])
    space = "metrics" if kind < 0.5 else "params"
    path: list[Any] = [rng.choice(KEYS)]
    while rng.random() < 0.4 and len(path) < 4:
        path.append(rng.choice([*KEYS, 0, 1, -1, -3, 2, "last", "min", 2**32]))
    return (space, path)


def any_literal(rng: random.Random, field: Tree) -> Tree:
    """("literal", as printed, value as it is compared)."""
    name = field[1][0] if field[0] == "column" and len(field[1]) == 1 else None
    if name in ("created", "started", "ended"):
        text = rng.choice(list(TIMES))
        number = rng.choice([*TIMES.values(), *(stamp / 1000 for stamp in STAMPS), 1793491200])
        return rng.choice([("literal", text, TIMES[text]), ("literal", number, number)])
    if name == "dirty":
        return rng.choice([("literal", True, True), ("literal", False, False)])
    if name in ("duration", "attempts"):
        number = rng.choice([0, 1, 2, 1.0, 0.001, -45000.0, 86400, -1])
        return ("literal", number, number)
    if name in COLUMN_TEXTS:
        text = rng.choice(COLUMN_TEXTS[name])
        return ("literal", text, "" if (name, text) == ("namespace", ".") else text)
    value = rng.choice(SCALARS)
    return ("literal", value, value)


def printed(rng: random.Random, tree: Tree) -> str:
    word, *rest = tree
    if word in ("and", "or"):
        return "(" + f" {word} ".join(printed(rng, part) for part in rest[0]) + ")"
    if word == "not":
        return f"(not {printed(rng, rest[0])})"
    if word == "chain":
        return "(" + " ".join(part if isinstance(part, str) else printed(rng, part) for part in rest[0]) + ")"
    if word == "in":
        literals = [printed(rng, literal) for literal in rest[1]]
        listed = "[" + ", ".join(literals) + "]" if rng.random() < 0.5 else "(" + ", ".join(literals) + ",)"
        return f"({printed(rng, rest[0])} {'not in' if rest[2] else 'in'} {listed})"
    if word == "has":
        return f"({printed(rng, rest[0])} {'not in' if rest[2] else 'in'} {printed(rng, rest[1])})"
    if word == "exists":
        return f"exists({printed(rng, rest[0])})"
    if word == "match":
        kind, field, text = rest
        subject = printed(rng, field)
        return f"like({subject}, {text!r})" if kind == "like" else f"{subject}.{kind}({text!r})"
    if word == "literal":
        return rng.choice([repr, spaced])(rest[0])
    return printed_field(rng, word, rest[0])


def spaced(value: Any) -> str:
    """Another spelling of a literal."""
    return json.dumps(value) if isinstance(value, str) and value.isalnum() else f"({value!r})"


def printed_field(rng: random.Random, space: str, path: list[Any]) -> str:
    first, *rest = path
    reserved = {
        *COLUMN_TEXTS,
        *("tags", "attempts", "created", "started", "ended", "duration", "dirty", "params", "metrics"),
    }
    is_bare = is_name(first) and first not in reserved
    if space == "column" or (space == "params" and is_bare and rng.random() < 0.8):
        return first + "".join(printed_part(rng, part) for part in rest)
    return space + "".join(printed_part(rng, part) for part in path)


def printed_part(rng: random.Random, part: Any) -> str:
    return f".{part}" if is_name(part) and rng.random() < 0.8 else f"[{part!r}]"


def is_name(part: Any) -> bool:
    return isinstance(part, str) and re.fullmatch("[a-z_][a-z_0-9]*", part) is not None


def holds(tree: Tree, run: Run) -> bool:
    word, *rest = tree
    if word == "and":
        return all(holds(part, run) for part in rest[0])
    if word == "or":
        return any(holds(part, run) for part in rest[0])
    if word == "not":
        return not holds(rest[0], run)
    if word == "chain":
        parts = rest[0]
        return all(
            compared(value_of(parts[at], run), parts[at + 1], value_of(parts[at + 2], run))
            for at in range(0, len(parts) - 2, 2)
        )
    if word == "in":
        value = value_of(rest[0], run)
        among = any(compared(value, "==", literal[2]) for literal in rest[1])
        return value is not MISSING and among is not rest[2]
    if word == "has":
        value = value_of(rest[1], run)
        among = isinstance(value, list) and any(compared(item, "==", rest[0][2]) for item in value)
        return value is not MISSING and among is not rest[2]
    if word == "exists":
        return value_of(rest[0], run) is not MISSING
    return matches(rest[0], value_of(rest[1], run), rest[2])


def class_of(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "bool"
    return {int: "number", float: "number", str: "text"}.get(type(value), "other")


def as_stored(value: Any) -> Any:
    """Integers beyond 64 bits are doubles."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1024 else float("inf")
    return value


def compared(left: Any, op: str, right: Any) -> bool:
    if left is MISSING or right is MISSING:
        return False
    kinds = class_of(left), class_of(right)
    same = kinds[0] == kinds[1] != "other"
    if op in ("==", "!="):
        return (same and as_stored(left) == as_stored(right)) is (op == "==")
    return same and kinds[0] in ("number", "text") and OPS[op](as_stored(left), as_stored(right))


def matches(kind: str, value: Any, text: str) -> bool:
    if not isinstance(value, str):
        return False
    if kind == "like":
        pattern = "".join({"%": ".*", "_": "."}.get(c, re.escape(ascii_lower(c))) for c in text)
        return re.fullmatch(pattern, ascii_lower(value), re.DOTALL) is not None
    found = {"startswith": value.startswith, "endswith": value.endswith, "contains": value.__contains__}
    return found[kind](text)


def ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def value_of(tree: Tree, run: Run) -> Any:
    word, *rest = tree
    if word == "literal":
        return rest[1]
    path = rest[0]
    if word == "column":
        return walked(column_of(path[0], run), path[1:])
    if word == "metrics":
        value = walked(run["summary"], path)
        is_whole = len(path) == 1 and isinstance(value, dict) and "last" in value
        return value["last"] if is_whole else value
    return MISSING if run["params"] is None else walked(json.loads(run["params"]), path)


def walked(value: Any, path: list[Any]) -> Any:
    for part in path:
        is_member = isinstance(part, str) and isinstance(value, dict) and part in value
        is_item = isinstance(part, int) and isinstance(value, list) and -len(value) <= part < len(value)
        if not is_member and not is_item:
            return MISSING
        value = value[part]
    return value


def column_of(name: str, run: Run) -> Any:
    attempt = run["attempts"][-1] if run["attempts"] else {"started": None, "ended": None}
    started, ended = attempt["started"], attempt["ended"]
    values = {
        "namespace": run["relpath"],
        "attempts": len(run["attempts"]),
        "created": (run["first"][0] >> 16) / 1000,
        "commit": attempt.get("facts", {}).get("commit"),
        "dirty": attempt.get("facts", {}).get("dirty"),
        "started": started and started / 1000,
        "ended": ended and ended / 1000,
        "duration": None if started is None or ended is None else (ended - started) / 1000,
    }
    value = values[name] if name in values else run[name]
    return MISSING if value is None else value


@pytest.mark.parametrize("seed", range(STORES))
def test_sqlite_finds_what_python_finds(seed):
    rng = random.Random(seed)
    runs = [make_run(rng, number) for number in range(RUNS)]
    database = seen.make_seen(runs)
    tell_apart = 0
    for _ in range(QUERIES):
        tree = any_tree(rng, 3)
        text = printed(rng, tree)
        compiled = compile_query(parse_query(text))

        want = {run["uid"] for run in runs if holds(tree, run)}
        assert seen.uids_where(database, compiled) == want, text
        assert seen.unknown_words(compiled) == [], text
        tell_apart += 0 < len(want) < RUNS
    assert tell_apart > QUERIES / 4


ATOMS = ["chain", "in", "has", "exists", "match"]


@pytest.mark.parametrize("kind", ATOMS)
def test_atoms_alone_find_what_python_finds(kind):
    """Deep trees hide an atom that is wrong for few runs."""
    rng = random.Random(kind)
    runs = [make_run(rng, number) for number in range(200)]
    database = seen.make_seen(runs)
    found = 0
    for _ in range(400):
        tree = next(tree for tree in iter(lambda: any_atom(rng), None) if tree[0] == kind)
        text = printed(rng, tree)

        want = {run["uid"] for run in runs if holds(tree, run)}
        assert seen.uids_where(database, compile_query(parse_query(text))) == want, text
        found += bool(want)
    assert found > 60
