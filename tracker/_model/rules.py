"""The rules of a store: params -> their written form, and the uid that recorded params would have today.

Rules say which changes of params are no change of identity. Knows trees and texts; which rules a store has is
told by its ledger.

Spec: spec/rules.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from tracker._codec.canonical import REPEAT, canonical, parse
from tracker._codec.digest import uid_of
from tracker._model.event import Rule as RuleEvent
from tracker.errors import ParamsError, TrackerError
from tracker.terms import Uid

Path = tuple[str, ...]
"""Keys from the root through objects."""

Tree = dict[str, Any]

KINDS = ("ignore", "absent", "rename")

_KEYS_MAX = 31
_BARE = r"[A-Za-z0-9_-]+"
_STEP = (
    r"""(?P<dot>\.?)(?P<bare>[A-Za-z0-9_-]+)"""
    r"""|\[(?P<double>"(?:[^"\\]|\\.)*")\]|\['(?P<single>[^'\\]*)'\]"""
)
_NESTED = "write the rename from the path that the first one leads to"
_IN_THE_LEDGER = (
    "no params are looked up here; keep the copies apart whose union it is, or use the release that made it"
)


class RuleError(TrackerError, ValueError):
    """A rule that means nothing, or rules that contradict each other; `rules` names them.

    Spec: spec/rules.md section 5.
    """

    def __init__(self, rules: Sequence[object], why: str, cure: str) -> None:
        self.rules = [str(rule) for rule in rules]
        super().__init__(f"{' and '.join(f'rule `{rule}`' for rule in self.rules)}: {why}; {cure}")
        self.why = why
        self.cure = cure


class Rule(Struct, frozen=True, order=True):
    """One rule: make it with `Rule.ignore("device")`, `.absent("ema", False)` or `.rename("lr", "optim.lr")`.

    `value` is canonical text, of `absent`; `new` the new path, of `rename`.
    """

    kind: str
    path: Path
    value: str | None = None
    new: Path = ()

    @staticmethod
    def ignore(path: str) -> Rule:
        """The member at `path` is no part of what identifies a run. Raises: RuleError."""
        return Rule("ignore", parse_path(path))

    @staticmethod
    def absent(path: str, value: Any) -> Rule:
        """Params without the member at `path` mean this value. Raises: RuleError; ParamsError."""
        return Rule("absent", parse_path(path), format_value(value))

    @staticmethod
    def rename(old: str, new: str) -> Rule:
        """The member at `old` means one at `new`. Raises: RuleError."""
        rule = Rule("rename", parse_path(old), None, parse_path(new))
        _refuse_folded(rule)
        return rule

    def __str__(self) -> str:
        """The rule as `tracker rule add` takes it."""
        more = [self.value] if self.value is not None else [format_path(self.new)] if self.new else []
        return " ".join([self.kind, format_path(self.path), *more])

    @property
    def event(self) -> RuleEvent:
        """The rule as the ledger has it. Spec: spec/rules.md section 3."""
        value = format_value(format_path(self.new)) if self.new else self.value
        return RuleEvent(self.kind, format_path(self.path), value)


def rule_of(event: RuleEvent) -> Rule:
    """The rule of an event. Raises: RuleError for a kind, path or value that this release cannot read."""
    if event.kind not in KINDS:
        raise RuleError([_as_words(event)], "its kind is not known to this release", _IN_THE_LEDGER)
    try:
        path = parse_path(event.path)
        if event.kind == "absent":
            return Rule("absent", path, format_value(parse_value(event.value or "")))
        if event.kind == "rename":
            return Rule("rename", path, None, parse_path(_text_in(event.value or "")))
    except (ParamsError, RuleError) as error:
        raise RuleError([_as_words(event)], error.why, _IN_THE_LEDGER) from error
    return Rule("ignore", path)


def _text_in(value: str) -> str:
    text = parse_value(value)
    if not isinstance(text, str):
        raise ParamsError("value", "the new path is a JSON string")
    return text


def _as_words(event: RuleEvent) -> str:
    return " ".join(filter(None, (event.kind, event.path, event.value)))


def format_path(path: Path) -> str:
    """A path as it is written: `loader.num_workers`, `["a.b"].c`. Spec: spec/rules.md section 3."""
    steps = (f".{key}" if re.fullmatch(_BARE, key) else f"[{format_value(key)}]" for key in path)
    return "".join(steps).removeprefix(".")


def parse_path(text: str) -> Path:
    """The path that a text means. Raises: RuleError for one that means none."""
    keys: list[str] = []
    step = re.compile(_STEP)
    at = 0
    while at < len(text):
        match = step.match(text, at)
        if match is None or (match["bare"] is not None and bool(match["dot"]) is not bool(keys)):
            raise RuleError([text], f"cannot be read as a path from character {at + 1} on", _PATH_CURE)
        keys.append(_key_of(match, text))
        at = match.end()
    if not 0 < len(keys) <= _KEYS_MAX or keys[0].startswith("@"):
        why = f"a path has 1 to {_KEYS_MAX} keys, and the first does not begin with '@'"
        raise RuleError([text], why, _PATH_CURE)
    return tuple(keys)


_PATH_CURE = """write it as loader.num_workers, a key that is no plain word as ["a.b"]"""


def _key_of(match: re.Match[str], text: str) -> str:
    if match["bare"] is not None:
        return match["bare"]
    try:
        key: str = match["single"] if match["double"] is None else msgspec.json.decode(match["double"])
        key.encode()
    except (msgspec.DecodeError, ValueError) as error:
        raise RuleError([text], "its key in brackets is no text that JSON has", _PATH_CURE) from error
    return key


def format_value(value: Any) -> str:
    """The canonical text of one value. Raises: ParamsError."""
    return canonical({"value": value})[len(b'{"value":') : -1].decode()


def parse_value(text: str) -> Any:
    """The value of a canonical text. Raises: ParamsError."""
    tree = parse(b'{"value":%b}' % text.encode("utf-8", "surrogatepass"))
    if len(tree) > 1:
        raise ParamsError("value", "it is not one JSON value")
    return tree["value"]


class Written(Struct, frozen=True):
    """What rules make of params: the canonical text of their written form, and that of what was ignored."""

    text: bytes
    ignored: str | None


class Rules:
    """A set of rules without contradiction, ready for use. Two of the same rules are equal.

    Raises: RuleError for a contradiction, naming both rules.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._set = frozenset(rules)
        self._renames = _in_order([rule for rule in sorted(self._set) if rule.kind == "rename"])
        self._ignored = sorted({self._today(r.path) for r in self._set if r.kind == "ignore"})
        self._absent: list[tuple[Path, Any, str]] = []
        self._settle_absent([rule for rule in sorted(self._set) if rule.kind == "absent"])
        roots = {path[0] for path in (*self._named(), *(rule.path for rule in self._renames))}
        self._marks = [format_value(root).encode() + b":" for root in roots]

    def __len__(self) -> int:
        return len(self._set)

    def __iter__(self) -> Iterator[Rule]:
        return iter(sorted(self._set))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and self._set == other._set

    def __hash__(self) -> int:
        return hash(self._set)

    @property
    def digest(self) -> str:
        """A text that two sets share if, and only if, they are the same: for what is derived from them."""
        return uid_of("\n".join(map(str, self)).encode())

    def _named(self) -> list[Path]:
        return [*self._ignored, *(path for path, _, _ in self._absent)]

    def _today(self, path: Path) -> Path:
        """Where a path leads after the renames."""
        for rename in self._renames:
            if _is_within(path, rename.path):
                path = rename.new + path[len(rename.path) :]
        return path

    def _settle_absent(self, rules: Sequence[Rule]) -> None:
        """The absent values by path, the deepest first, each in its written form."""
        by_path: dict[Path, Rule] = {}
        for rule in rules:
            other = by_path.setdefault(self._today(rule.path), rule)
            if other.value != rule.value:
                raise RuleError(
                    [other, rule],
                    "one path has two absent values",
                    "the first is never changed; leave out the other",
                )
        for path in sorted(by_path, key=lambda path: (-len(path), path)):
            tree: Tree = {}
            _put(tree, path, parse_value(by_path[path].value or ""))
            self._drop(tree)
            value, is_there = _find(tree, path)
            self._absent.append((path, value if is_there else {}, format_value(value if is_there else {})))

    def may_touch(self, text: bytes) -> bool:
        """False if no rule can change params of this text. Cost: 0.1 µs a rule."""
        return any(mark in text for mark in self._marks)

    def written(self, text: bytes) -> Written:
        """The written form of params without reserved members, given by their canonical text.

        Cost: 0.3 µs if no rule is about them, else some 10 µs.
        Raises: ParamsError where a rename leads to a path that is taken. Spec: spec/rules.md section 4.
        """
        if not self.may_touch(text):
            return Written(text, None)
        tree = parse(text)
        ignored = self.apply(tree)
        return Written(canonical(tree), canonical(ignored).decode() if ignored else None)

    def apply(self, tree: Tree) -> Tree:
        """Bring a plain tree into its written form, in place; return the ignored members.

        Raises: ParamsError.
        """
        for rename in self._renames:
            _move(tree, rename)
        return self._drop(tree)

    def _drop(self, tree: Tree) -> Tree:
        ignored: Tree = {}
        for path in self._ignored:
            value, is_there = _find(tree, path)
            if is_there:
                _take_out(tree, path)
                _put(ignored, path, value)
        for path in self._named():
            _drop_empty(tree, path[:-1])
        for path, absent, text in self._absent:
            value, is_there = _find(tree, path)
            if is_there and type(value) is type(absent) and format_value(value) == text:
                _take_out(tree, path)
            _drop_empty(tree, path[:-1])
        return ignored

    def alias_of(self, text: bytes) -> Uid | None:
        """The uid that the bare params of a recorded text would have today; None without params.

        A text that the rules refuse, or that is not canonical, keeps the uid of what it is.

        Cost: 3 µs, some 15 if a rule is about it. Spec: spec/rules.md section 7.
        """
        if b'"' + REPEAT.encode() + b'"' not in text and not self.may_touch(text):
            return uid_of(text)
        try:
            tree = parse(text)
        except ParamsError:
            return uid_of(text)
        is_repeat = tree.pop(REPEAT, None) is not None
        if is_repeat and not tree:
            return None
        bare = canonical(tree) if is_repeat else text
        try:
            return uid_of(self.written(bare).text)
        except ParamsError:
            return uid_of(bare)


@lru_cache(maxsize=64)
def _compiled(events: frozenset[RuleEvent]) -> Rules:
    return Rules(rule_of(event) for event in sorted(events, key=_as_words))


def rules_of(events: Iterable[RuleEvent]) -> Rules:
    """The rules of a store, by its events. Raises: RuleError. Cost: 1 µs, for rules met before."""
    known = frozenset(events)
    try:
        return _compiled(known) if known else NO_RULES
    except RuleError as error:
        raise RuleError(error.rules, error.why, _IN_THE_LEDGER) from error


def apply_rules(rules: Rules, tree: Tree) -> tuple[Tree, Tree]:
    """The written form of a plain tree, and the ignored members. The tree given is left as it is.

    Raises: ParamsError. Spec: spec/rules.md section 4.
    """
    written = parse(canonical(tree))
    ignored = rules.apply(written)
    return written, ignored


def alias_of(rules: Rules, text: bytes) -> Uid | None:
    """The uid that recorded params would have today. Spec: spec/rules.md section 7."""
    return rules.alias_of(text)


def _is_within(path: Path, outer: Path) -> bool:
    return path[: len(outer)] == outer


def _overlap(a: Path, b: Path) -> bool:
    return _is_within(a, b) or _is_within(b, a)


def _refuse_folded(rule: Rule) -> None:
    if _overlap(rule.path, rule.new):
        why = "the old path and the new one are the same, or one lies inside the other"
        raise RuleError([rule], why, "choose a new path that lies elsewhere")


def _in_order(renames: list[Rule]) -> list[Rule]:
    """Renames, those first that lead to where another begins. Raises: RuleError."""
    for n, rule in enumerate(renames):
        _refuse_folded(rule)
        for other in renames[:n]:
            if _overlap(rule.path, other.path):
                raise RuleError(
                    [other, rule], "their old paths are one, or lie one inside the other", _NESTED
                )
    ordered: list[Rule] = []
    left = list(renames)
    while left:
        first = next((r for r in left if not any(_overlap(o.new, r.path) for o in left if o is not r)), None)
        if first is None:
            raise _circle(left)
        left.remove(first)
        ordered.append(first)
    return ordered


def _circle(left: list[Rule]) -> RuleError:
    """Two neighbours of a circle: from any rule of `left` one comes into one by going back."""
    rule, seen = left[0], set[Rule]()
    while rule not in seen:
        seen.add(rule)
        before = next(other for other in left if other is not rule and _overlap(other.new, rule.path))
        rule, after = before, rule
    return RuleError(
        [rule, after], "these renames lead round in a circle", "a path keeps its meaning for ever"
    )


def _find(tree: Any, path: Path) -> tuple[Any, bool]:
    """The value at a path, and whether there is one."""
    for key in path:
        if type(tree) is not dict or key not in tree:
            return None, False
        tree = tree[key]
    return tree, True


def _put(tree: Tree, path: Path, value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _take_out(tree: Tree, path: Path) -> None:
    holder, _ = _find(tree, path[:-1])
    del holder[path[-1]]


def _drop_empty(tree: Tree, path: Path) -> None:
    """Take out the objects on the way of `path`, itself included, that hold nothing."""
    while path:
        value, is_there = _find(tree, path)
        if is_there and value != {}:
            return
        if is_there:
            _take_out(tree, path)
        path = path[:-1]


def _move(tree: Tree, rename: Rule) -> None:
    value, is_there = _find(tree, rename.path)
    if is_there:
        _take_out(tree, rename.path)
        _refuse_taken(tree, rename)
        _put(tree, rename.new, value)
    _drop_empty(tree, rename.path[:-1])


def _refuse_taken(tree: Tree, rename: Rule) -> None:
    for depth in range(1, len(rename.new) + 1):
        value, is_there = _find(tree, rename.new[:depth])
        if not is_there:
            return
        if depth == len(rename.new) or type(value) is not dict:
            old, taken = format_path(rename.path), format_path(rename.new[:depth])
            why = f"means another member by the rule `{rename}`, and {taken} is there; pass one of them"
            raise ParamsError(f"params at {old}", why)


NO_RULES = Rules(())
