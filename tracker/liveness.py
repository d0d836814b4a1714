"""Whose attempts still live: which are shown as LOST, which a start takes over, which it sets aside.

Reads the ledger and the claims; writes nothing.

Spec: spec/claims.md sections 6 and 8; spec/events.md section 4.
"""

from __future__ import annotations

from msgspec.structs import replace

from tracker._disk import host
from tracker._model.claim import Standing
from tracker._model.event import Event, Lost
from tracker._model.fold import Attempt, Run
from tracker._store.index import Filter
from tracker.claiming import SIGN_OF_LIFE_S, Rival, standing_of
from tracker.ledger import Ledger, OpenRun
from tracker.terms import AttemptId, RunRef, Status, WriterId


def as_seen(ledger: Ledger, run: Run) -> Run:
    """The run with LOST for each attempt that is recorded as RUNNING and whose process is gone.

    Cost: none for a run that is not RUNNING, else 50 µs. Spec: spec/claims.md section 8.
    """
    lost = {a.id for a in run.attempts if a.status is Status.RUNNING and _is_lost(ledger, run.ref, a)}
    if not lost:
        return run
    attempts = [replace(a, status=Status.LOST) if a.id in lost else a for a in run.attempts]
    return replace(run, attempts=attempts, status=Status.LOST if run.canonical in lost else run.status)


def find_as_seen(ledger: Ledger, wanted: Filter) -> list[Run]:
    """The runs that match, with LOST told from RUNNING, in the order of their first events."""
    if wanted.status not in _TOLD_APART:
        return [as_seen(ledger, run) for run in ledger.find(wanted)]
    both = [run for status in _TOLD_APART for run in ledger.find(replace(wanted, status=status))]
    seen = [run for run in (as_seen(ledger, run) for run in both) if run.status is wanted.status]
    return sorted(seen, key=lambda run: run.first)


_TOLD_APART = (Status.RUNNING, Status.LOST)


def is_live(ledger: Ledger, run: Run) -> bool:
    """True while a process, here or elsewhere, executes the run, as far as can be told from here."""
    return any(attempt.status is Status.RUNNING for attempt in as_seen(ledger, run).attempts)


def _is_lost(ledger: Ledger, ref: RunRef, attempt: Attempt) -> bool:
    if attempt.writer == ledger.writer or ledger.is_running(ref):
        return False
    is_gone = _is_gone(ledger, attempt.writer)
    if is_gone is not None:
        return is_gone
    number, root = attempt.claim, str(ledger.root)
    claim = standing_of(ledger.lookup.store_fd, root, ref, number) if number else None
    if claim is not None and claim[0] is not Standing.COPIED:
        return not claim[0].is_live
    written_ms = ledger.lookup.last_write_ms(attempt.writer)
    signs = (attempt.started_ms or 0, 0 if claim is None else claim[1], written_ms)
    return host.now_ms() - max(signs) > SIGN_OF_LIFE_S * 1000


def _is_gone(ledger: Ledger, writer: WriterId) -> bool | None:
    """What the system says of a writer's process; None if it cannot tell."""
    opened = ledger.lookup.opened_by(writer)
    return None if opened is None else host.is_dead(opened, host.this_process())


def superseded_by_a_start(ledger: Ledger, run: Run, held: OpenRun) -> list[AttemptId]:
    """The heads that a start sets aside: those not RUNNING, and those whose process is provably gone.

    Of a removed run all: it is begun anew.

    Spec: spec/events.md section 4.
    """
    heads = [attempt for attempt in run.attempts if attempt.head]
    if run.removed:
        return [attempt.id for attempt in heads]
    return [a.id for a in heads if a.status is not Status.RUNNING or _is_over(ledger, a, held)]


def _is_over(ledger: Ledger, attempt: Attempt, held: OpenRun) -> bool:
    """True for an attempt of this process, which has given it up, and for one of a process that is gone."""
    if attempt.writer == ledger.writer or attempt.id == held.attempt:
        return True
    standing = _taken(held, attempt)
    return (standing is not None and standing.is_proven) or _is_gone(ledger, attempt.writer) is True


def _taken(held: OpenRun, attempt: Attempt) -> Standing | None:
    """What the claim of an attempt was worth when ours was taken over it."""
    return None if held.claim is None else held.claim.below.get(attempt.claim or 0)


def taken_over(ledger: Ledger, run: Run, held: OpenRun) -> list[Event]:
    """What a start says of the RUNNING heads that it takes over. Spec: spec/claims.md section 6, step 5."""
    now = host.now_ms()
    reasons = {
        a.id: _reason(ledger, a, held)
        for a in run.attempts
        if a.head and a.status is Status.RUNNING and a.writer != ledger.writer and a.id != held.attempt
    }
    return [Lost(run.ref, attempt, now, reason) for attempt, reason in reasons.items() if reason]


def _reason(ledger: Ledger, attempt: Attempt, held: OpenRun) -> str | None:
    standing = _taken(held, attempt)
    if standing is None or standing in (Standing.COPIED, Standing.SPENT):
        return Standing.GONE.value if _is_gone(ledger, attempt.writer) is True else None
    return str(standing.value)


def claimed_since_ms(ledger: Ledger, ref: RunRef, rival: Rival) -> int | None:
    """When the holder of a claim began its attempt, else when it said who it is; Unix ms."""
    run = ledger.run(ref)
    attempts = [] if run is None else run.attempts
    started = next((a.started_ms for a in attempts if a.claim == rival.number), None)
    return started or (None if rival.holder is None else rival.holder.since)
