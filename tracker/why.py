"""Why params are found or not: what became of them, which runs are nearest, and in which fields they differ.

Reads the ledger and its index; writes nothing, and adds no rule that it proposes.

Spec: spec/rules.md section 7; spec/canonical.md section 9.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from tracker._codec.canonical import parse, twin_key
from tracker._codec.digest import uid_of
from tracker._model.event import Failed, Lost, Removed
from tracker._model.fold import Run
from tracker._model.rules import Path, Rule, RuleError, Rules, format_path, format_value, parse_value
from tracker._store.index import Filter
from tracker.errors import ParamsError
from tracker.ledger import Ledger
from tracker.liveness import as_seen
from tracker.ruling import ruling_of
from tracker.seen import relation_of
from tracker.terms import RunRef, Status, Uid

COMPARED_MAX = 20_000
"""So many runs are compared at most, the newest of the identifier."""

NEAREST_MAX = 5

_WHERE = "removed = 0 and relpath = ? and params is not null"


class Difference(Struct, frozen=True):
    """A field that is not the same: its path, its canonical text on either side, None where it is not."""

    path: str
    asked: str | None
    recorded: str | None
    note: str


class Near(Struct, frozen=True):
    """A run near to what was asked for. `rule` would make the two the same run, where one alone can."""

    ref: RunRef
    status: str
    differences: list[Difference]
    rule: str | None


class Attempted(Struct, frozen=True):
    """A run that these params answer to, or the same params elsewhere, and what became of it.

    `at_ms` is when it ended, or began if it has not; Unix ms.
    """

    ref: RunRef
    status: str
    how: str
    at_ms: int | None
    what: str


class Why(Struct, frozen=True):
    """The answer. `is_hit` says that a finished run is found; `attempts` are what the params answer to,
    `elsewhere` runs of the same params under another identifier or in another namespace, `nearest` the runs
    with the fewest fields that differ, of the `compared` that were looked at of `total`."""

    uid: Uid
    text: str
    ignored: str | None
    is_hit: bool
    attempts: list[Attempted]
    elsewhere: list[Attempted]
    nearest: list[Near]
    compared: int
    total: int


def explain(ledger: Ledger, relpath: str, identifier: str | None, text: bytes, rules: Rules) -> Why:
    """Say what is recorded of params, given by their canonical text, and what is near them.

    Cost: 20 µs for each of at most `COMPARED_MAX` runs. Raises: ParamsError.
    """
    written = rules.written(text)
    uid = uid_of(written.text)
    with ledger.lock:
        ledger.refresh()
        mine, others = _answering(ledger, relpath, identifier, uid)
        attempts = [_attempted(ledger, run, _how(run, uid)) for run in mine]
        elsewhere = [_attempted(ledger, run, "the same params") for run in others]
        nearest, compared, total = _nearest(ledger, relpath, identifier, written.text, rules)
    is_hit = any(one.status == Status.DONE for one in attempts)
    return Why(
        uid, written.text.decode(), written.ignored, is_hit, attempts, elsewhere, nearest, compared, total
    )


def differences(asked: bytes, recorded: bytes) -> list[Difference]:
    """The fields in which two canonical texts differ, by path. The member of a repeat is none.

    Raises: ParamsError for a text that is not canonical.
    """
    a, b = _fields(asked), _fields(recorded)
    return [
        Difference(format_path(path), a.get(path), b.get(path), _note(a.get(path), b.get(path)))
        for path in sorted(a.keys() | b.keys())
        if a.get(path) != b.get(path)
    ]


def _fields(text: bytes) -> dict[Path, str]:
    """Path -> canonical text of each value that is no object, and of each empty object."""
    tree = {key: value for key, value in parse(text).items() if not key.startswith("@")}
    return {path: _text_of(value) for path, value in _iter_fields((), tree)}


def _iter_fields(path: Path, tree: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    for key, value in tree.items():
        if type(value) is dict and value:
            yield from _iter_fields((*path, key), value)
        else:
            yield (*path, key), value


def _text_of(value: Any) -> str:
    kind = type(value)
    if kind is bool or value is None:
        return _LITERALS[value]
    return str(value) if kind is int else format_value(value)


_LITERALS = {None: "null", True: "true", False: "false"}


def _note(asked: str | None, recorded: str | None) -> str:
    if asked is None:
        return "not asked for"
    if recorded is None:
        return "not recorded"
    if _twin(asked) == _twin(recorded):
        return "numeric twin: the same number, written as integer and as float"
    kinds = _kind(asked), _kind(recorded)
    return "" if kinds[0] == kinds[1] else f"{kinds[0]} beside {kinds[1]}"


def _twin(text: str) -> bytes:
    return twin_key(b'{"value":%b}' % text.encode())


def _kind(text: str) -> str:
    return _KINDS.get(text[0], "number")


_KINDS = {'"': "text", "t": "bool", "f": "bool", "n": "null", "[": "list", "{": "object"}


def _answering(ledger: Ledger, relpath: str, identifier: str | None, uid: Uid) -> tuple[list[Run], list[Run]]:
    """The runs that params of this uid answer to, and those of the same params that are not looked for."""
    same = ledger.lookup.find(Filter(key=uid, removed=None))
    mine = [run for run in same if run.relpath == relpath and identifier in (None, run.identifier)]
    refs = {run.ref for run in mine}
    aliased = ruling_of(ledger).aliased(uid, relpath, identifier)
    answering = sorted([*mine, *aliased], key=lambda run: (run.uid != uid, run.first))
    return answering, [run for run in same if run.ref not in refs]


def _how(run: Run, uid: Uid) -> str:
    if run.uid == uid:
        return "these params"
    return "a repeat of these params" if run.key == uid else "by its alias under the rules of today"


def _attempted(ledger: Ledger, run: Run, how: str) -> Attempted:
    seen = as_seen(ledger, run)
    if seen.removed:
        return Attempted(run.ref, "removed", how, *_removal(ledger, run))
    attempt = seen.attempt
    end = None if attempt is None else attempt.end
    at_ms = None if attempt is None else attempt.ended_ms or attempt.started_ms
    what = ""
    if isinstance(end, Failed):
        what = f"{end.type}: {end.message}" if end.type or end.message else ""
    elif isinstance(end, Lost):
        what = end.reason
    return Attempted(run.ref, str(seen.status), how, at_ms, what)


def _removal(ledger: Ledger, run: Run) -> tuple[int, str]:
    found = ledger.lookup.history(run.ref)
    assert found is not None, "a removed run has a history"
    stamp, event = max((stamp, e) for stamp, e in found[0].items() if isinstance(e, Removed))
    return stamp[0] >> 16, event.reason


def _nearest(
    ledger: Ledger, relpath: str, identifier: str | None, text: bytes, rules: Rules
) -> tuple[list[Near], int, int]:
    """The runs with the fewest differing fields, how many were compared, and of how many."""
    where, bound = _WHERE, [relpath]
    if identifier is not None:
        where, bound = f"{_WHERE} and identifier = ?", [relpath, identifier]
    relation = relation_of(ledger)
    (total,) = next(relation.select(["count(*)"], where, bound))
    columns = ("relpath", "identifier", "uid", "status", "params")
    rows = list(relation.select(columns, where, bound, order="clock desc", limit=COMPARED_MAX))
    asked = _fields(text)
    scored = ((_distance(asked, row[4], rules), n) for n, row in enumerate(rows))
    best = heapq.nsmallest(NEAREST_MAX, ((score, n) for score, n in scored if score))
    return [_near(rows[n], text, rules) for _, n in best], len(rows), total


def _distance(asked: dict[Path, str], params: str, rules: Rules) -> int:
    """How many fields differ; 0 for what is the same, and for what cannot be read."""
    try:
        recorded = _fields(_as_of_today(params.encode(), rules))
    except ParamsError:
        return 0
    same = len(asked.items() & recorded.items())
    common = len(asked.keys() & recorded.keys())
    return len(asked) + len(recorded) - common - same


def _as_of_today(text: bytes, rules: Rules) -> bytes:
    """The written form of recorded params; as they are where the rules refuse them."""
    if b'"@repeat"' in text or not rules.may_touch(text):
        return text
    try:
        return rules.written(text).text
    except ParamsError:
        return text


def _near(row: Sequence[Any], text: bytes, rules: Rules) -> Near:
    relpath, identifier, uid, status, params = row
    found = differences(text, _as_of_today(params.encode(), rules))
    ref = RunRef("/".join(filter(None, (relpath, identifier, uid))))
    return Near(ref, status, found, _rule_for(found, text, params.encode(), rules))


def _rule_for(found: list[Difference], asked: bytes, recorded: bytes, rules: Rules) -> str | None:
    """The one rule that would make the two the same run, if there is one."""
    for rule in _candidates(found):
        try:
            after = Rules([*rules, rule])
            if uid_of(after.written(asked).text) == after.alias_of(recorded):
                return str(rule)
        except (RuleError, ParamsError):
            continue
    return None


def _candidates(found: list[Difference]) -> Iterator[Rule]:
    if len(found) == 2:
        one, other = sorted(found, key=lambda difference: difference.asked is not None)
        if one.asked is None and other.recorded is None and one.recorded == other.asked:
            yield Rule.rename(one.path, other.path)
    if len(found) == 1:
        (one,) = found
        value = one.asked if one.recorded is None else one.recorded if one.asked is None else None
        if value is not None:
            yield Rule.absent(one.path, parse_value(value))
