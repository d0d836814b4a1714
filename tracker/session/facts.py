"""What an attempt ran in, recorded with it: with its start if it is known by then, else as soon as it is.

Facts are gathered beside the program. Nothing here waits but the end of an attempt, and that for a bounded
time; nothing of it ends a run.

Spec: spec/provenance.md section 6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tracker._codec.canonical import parse
from tracker._model.event import Captured, Event
from tracker.errors import ParamsError, StorageError
from tracker.ledger import Ledger, OpenRun
from tracker.session.place import Place
from tracker.terms import AttemptId

if TYPE_CHECKING:
    from tracker.provenance.capture import Facts, Gathering

WAIT_S = 15.0
"""So long the end of an attempt waits for facts; what is not known by then is a word among them."""


def gathering() -> Gathering:
    """The gathering of facts in this process, begun by the first call. Cost: 1 ms, then 0.5 µs."""
    from tracker.provenance.capture import begin

    return begin()


def seeds_among(params: dict[str, Any]) -> dict[str, int]:
    """The seeds that params name as such. Cost: 5 µs."""
    from tracker.provenance.launch import find_seeds

    return find_seeds(params)


class Pending:
    """The facts of one attempt, on their way. Held by its `OpenRun` until they are recorded."""

    __slots__ = ("_gathering", "_place", "_seeds")

    def __init__(self, place: Place, seeds: Mapping[str, int] | None) -> None:
        """Raises: ParamsError for seeds that are not integers under names."""
        self._gathering = gathering()
        self._place = place
        self._seeds = None if seeds is None else checked_seeds(seeds)

    def now(self, ledger: Ledger) -> dict[str, Any] | None:
        """The facts, with their objects on disk, if they are known. Cost: 5 µs."""
        facts = self._gathering.ready
        return None if facts is None else self._kept(ledger, facts)

    def wait(self, ledger: Ledger) -> dict[str, Any]:
        """The facts, or what is known of them in time."""
        return self._kept(ledger, self._gathering.wait(WAIT_S))

    def record_when_known(self, ledger: Ledger, held: OpenRun) -> None:
        """Append them to the attempt that runs now, from whatever thread, once they are known."""
        assert held.attempt is not None, "the attempt was begun"
        self._gathering.when_ready(partial(self._record, ledger, held, held.attempt))

    def _record(self, ledger: Ledger, held: OpenRun, attempt: AttemptId, facts: Facts) -> None:
        # what the disk refuses the end of the attempt meets again, and tells
        with contextlib.suppress(StorageError), ledger.lock:
            is_ours = held.pending is self and held.attempt == attempt
            is_open = ledger.writer is not None and attempt.startswith(ledger.writer)
            if is_ours and is_open and ledger.is_running(self._place.ref):  # not once the ledger is closed
                found = self._kept(ledger, facts)
                ledger.append(lambda _: [Captured(self._place.ref, attempt, found)])
                held.facts, held.pending = held.facts | found, None

    def _kept(self, ledger: Ledger, facts: Facts) -> dict[str, Any]:
        try:
            ledger.keep_objects(facts.objects)
        except StorageError as error:  # facts are an extra: the run goes on without what they would name
            return _without_objects(self._of_run(ledger, facts), str(error))
        return self._of_run(ledger, facts)

    def _of_run(self, ledger: Ledger, facts: Facts) -> dict[str, Any]:
        known = ledger.facts_of_process
        if known is None or known[0] is not facts:
            known = ledger.facts_of_process = facts, facts.for_run(str(self._place.root))
        seeds = self._seeds
        if seeds is None and b"seed" in self._place.text.lower():
            seeds = seeds_among(parse(self._place.text))
        return known[1] | {"seeds": seeds} if seeds else dict(known[1])


def checked_seeds(seeds: Mapping[str, int]) -> dict[str, int]:
    """Seeds as they are recorded. Raises: ParamsError."""
    if not isinstance(seeds, Mapping):
        raise ParamsError("seeds", f"{seeds!r} is no map; give names and integers, as {{'torch': 1}}")
    for name, seed in seeds.items():
        if not isinstance(name, str) or type(seed) is not int or not -(1 << 63) <= seed < 1 << 64:
            raise ParamsError(
                f"seeds[{name!r}]", f"{seed!r} is no integer of 64 bits under a name; give int(seed)"
            )
    return dict(seeds)


def _without_objects(facts: dict[str, Any], why: str) -> dict[str, Any]:
    kept = {name: facts[name] for name in facts if name not in _DIGESTS}
    kept = {name: kept[name] for name in kept if name not in _PERHAPS_DIGESTS or type(kept[name]) is not str}
    return kept | {"problems": [*facts.get("problems", []), f"objects: not kept: {why}"]}


_DIGESTS = ("environment", "code")
_PERHAPS_DIGESTS = ("argv", "variables")


def captured(place: Place, attempt: AttemptId, facts: dict[str, Any] | None) -> list[Event]:
    """The event that records facts, if there are any."""
    return [Captured(place.ref, attempt, facts)] if facts else []
