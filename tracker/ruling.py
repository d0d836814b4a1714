"""The rules of a store as they are now, the runs that params answer to by alias, and rules added.

What rules mean is the model's; here is which of them a ledger holds, and what they make of its runs.

Spec: spec/rules.md sections 5 to 8.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import islice
from weakref import WeakKeyDictionary, proxy

from msgspec import Struct

from tracker._model.event import Created
from tracker._model.event import Rule as RuleEvent
from tracker._model.fold import Run, State
from tracker._model.names import split_ref
from tracker._model.rules import NO_RULES, Rule, RuleError, Rules, rules_of
from tracker.ledger import Ledger
from tracker.lookup import HIT_AGE_S, Lookup
from tracker.terms import Durability, RunRef, Uid


class Ruling:
    """The rules of one ledger, current. Get it from `ruling_of`: there is one a ledger and process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = proxy(ledger)  # which outlives this: whoever has a Project has it
        self._lookup = ledger.lookup
        self._generation = -1
        self._rules = NO_RULES
        self._aliases = _Aliases(NO_RULES)

    def current(self) -> Rules:
        """The store's rules, of the last 0.1 s.

        Raises: RuleError if they contradict each other or cannot be read.
        Cost: 0.3 µs while nothing changes, 5 µs after an event.
        """
        lookup = self._lookup
        if self._generation == lookup.generation and not lookup.is_stale(HIT_AGE_S):
            return self._rules
        with self._ledger.lock:
            if lookup.is_stale(HIT_AGE_S):
                self._ledger.refresh()
            generation = lookup.generation
            if generation != self._generation:
                self._rules = rules_of(lookup.rules())
                self._generation = generation
            return self._rules

    def agreed(self, stated: Rules) -> Rules:
        """The store's rules, which are those that a program states, or are to be.

        Raises: RuleError that names what is not the same. Spec: spec/rules.md section 8.
        """
        current = self.current()
        if current == stated:
            return current
        lacking, unstated = sorted(set(stated) - set(current)), sorted(set(current) - set(stated))
        if not unstated and not self._ledger.relpaths():
            return stated  # the store has no run yet: they are recorded with the first
        raise _disagreement(str(self._ledger.root), lacking, unstated)

    def lacking(self, stated: Rules) -> tuple[RuleEvent, ...]:
        """What is to be recorded with the first run of a store. Raises: RuleError, as `agreed`."""
        self.agreed(stated)
        current = self.current()
        return () if current == stated else tuple(r.event for r in sorted(set(stated) - set(current)))

    def aliased(self, uid: Uid, relpath: str, identifier: str | None = None) -> list[Run]:
        """The runs of a namespace that params of this uid answer to by their alias alone, in order; no
        removed ones.

        Cost: 10 µs while nothing changes; with a new rule, once a host, 1 µs a run of the store and 15 µs a
        run that a rule is about.
        """
        rules = self.current()
        if not rules:
            return []
        with self._ledger.lock:
            if self._aliases.rules != rules:
                self._aliases = _Aliases(rules)
            self._aliases.follow(self._lookup)
            refs = dict.fromkeys([*self._lookup.indexed_aliases(uid), *self._aliases.refs(uid)])
            runs = (self._lookup.run(ref) for ref in refs)
            found = [
                run
                for run in runs
                if run is not None
                and not run.removed
                and uid not in (run.uid, run.key)
                and run.relpath == relpath
                and identifier in (None, run.identifier)
            ]
        return sorted(found, key=lambda run: run.first)


def _disagreement(root: str, lacking: list[Rule], unstated: list[Rule]) -> RuleError:
    command = f"`tracker -C {shlex.quote(root)} rule add {_as_arguments(lacking[0])}`" if lacking else ""
    state = "state it in the program too" if unstated else ""
    if lacking and unstated:
        why = f"the program states the first and the store {root} has the second instead"
        return RuleError([lacking[0], unstated[0]], why, f"{state}, or leave it to the store: rules=None")
    if lacking:
        return RuleError(
            lacking[:1], f"the program states it, the store {root} has it not", f"add it: {command}"
        )
    why = f"the store {root} has it and the program states rules without it"
    return RuleError(unstated[:1], why, state)


def _as_arguments(rule: Rule) -> str:
    event = rule.event
    new = str(rule).split(" ")[-1] if rule.kind == "rename" else None
    words = [event.kind, event.path, *([new] if new else [event.value] if event.value is not None else [])]
    return shlex.join(words)


class _Aliases:
    """Which runs have which alias, where it is not their uid. Grows with the store; answers are checked."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._refs: dict[Uid, list[RunRef]] = {}
        self._known: set[RunRef] = set()
        self._generation = -1
        self._live: dict[int, tuple[State, int]] = {}

    def refs(self, alias: Uid) -> list[RunRef]:
        return self._refs.get(alias, [])

    def follow(self, lookup: Lookup) -> None:
        """Take in the runs that have come since the last time."""
        lookup.settle_aliases(self.rules)  # whoever else uses the index may have other rules
        if self._generation == lookup.generation:
            return
        before, self._live = self._live, {}
        for part in lookup.live_states():
            _, seen = before.get(id(part), (part, 0))
            for ref, text in _texts_of(part, seen):
                self._take(ref, text)
            self._live[id(part)] = part, len(part.runs)  # held, so that no other has its id
        self._generation = lookup.generation

    def _take(self, ref: RunRef, text: str) -> None:
        params = text.encode()
        if not self.rules.may_touch(params) or ref in self._known:
            return
        self._known.add(ref)
        alias = self.rules.alias_of(params)
        if alias is not None and not ref.endswith(alias):
            self._refs.setdefault(alias, []).append(ref)


def _texts_of(state: State, start: int = 0) -> Iterator[tuple[RunRef, str]]:
    """The params of the runs of a state, but the first `start`."""
    for ref, history in islice(state.runs.items(), start, None):
        created = next((event for event in history.values() if type(event) is Created), None)
        if created is not None:
            yield ref, created.params


_RULINGS: WeakKeyDictionary[Ledger, Ruling] = WeakKeyDictionary()


def ruling_of(ledger: Ledger) -> Ruling:
    """The ruling of a ledger. Reads nothing."""
    return _RULINGS.setdefault(ledger, Ruling(ledger))


class Added(Struct, frozen=True):
    """What a rule does to a store: whether it is new, how many runs get another alias by it, and how many
    runs then share their alias with one of other params."""

    rule: str
    is_new: bool
    changed: int
    sharing: int


def plan_rule(ledger: Ledger, rule: Rule) -> Added:
    """Say what a rule would do. Changes nothing.

    Raises: RuleError if it contradicts a rule of the store. Cost: some 40 µs a run of the store.
    """
    with ledger.lock:
        ledger.refresh()
        current = ruling_of(ledger).current()
        after = Rules([*current, rule])
        return Added(str(rule), rule not in set(current), *_count(ledger.lookup, current, after))


def add_rule(ledger: Ledger, rule: Rule) -> Added:
    """Record a rule, on disk when this returns. One that is there already is not recorded again.

    What a crash leaves is a ledger with the rule or without it: it is one event of one frame.

    Raises: RuleError if it contradicts a rule of the store; StorageError.
    """
    with ledger.lock:
        added = plan_rule(ledger, rule)
        if added.is_new:
            ledger.append(lambda _: [rule.event])
            ledger.commit(Durability.FULL)
    return added


def _count(lookup: Lookup, before: Rules, after: Rules) -> tuple[int, int]:
    texts = dict(lookup.indexed_texts())
    for part in lookup.live_states():
        texts.update(_texts_of(part))
    changed = 0
    groups: dict[tuple[str, str, Uid], list[Uid | None]] = {}
    for ref, text in texts.items():
        params = text.encode()
        alias = after.alias_of(params)
        changed += alias != before.alias_of(params)
        if alias is not None:
            relpath, identifier, _ = split_ref(ref)
            groups.setdefault((relpath, identifier, alias), []).append(NO_RULES.alias_of(params))
    return changed, sum(len(keys) for keys in groups.values() if len(set(keys)) > 1)
