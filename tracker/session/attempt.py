"""An attempt's beginning and end: which events, in which order, and what is on disk before them.

The ledger orders what is written below; here stands what a session's verbs mean as events.

Spec: spec/events.md section 4; spec/log.md section 8; spec/claims.md section 6.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping

from tracker import liveness
from tracker._codec.caution import warn_about
from tracker._disk import host
from tracker._model.event import Attachment, Created, End, Event, File, Restored, Started, Summary
from tracker._model.fold import Run
from tracker._store import sealing
from tracker._store.journal import Appended
from tracker.claiming import Rival
from tracker.errors import ClaimedError, StorageError, TrackerWarning
from tracker.ledger import Ledger, OpenRun
from tracker.session import files
from tracker.session.facts import Pending, captured
from tracker.session.output import begin_capture, end_capture
from tracker.session.place import Place
from tracker.terms import AttemptId, Capture, Durability, Status

STARTED_ANEW = "started anew"
"""The reason that a start gives for bringing a removed run back."""

EventsOf = Callable[[AttemptId], list[Event]]
EndOf = Callable[[AttemptId, int, list[File]], End]
"""Makes the end of an attempt from its id, the time in ms and the sealed files."""

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def no_more(attempt: AttemptId) -> list[Event]:
    """Nothing else is recorded in the frame that begins the attempt."""
    return []


def claim_and_begin(
    ledger: Ledger,
    place: Place,
    held: OpenRun,
    more: EventsOf,
    *,
    seeds: Mapping[str, int] | None = None,
    capture: Capture = Capture.NONE,
) -> None:
    """Take the run's claim, if it is not held, and begin an attempt. Raises: ClaimedError, StorageError."""
    if held.claim is None:
        rival = ledger.take_claim(place.ref, held, unless_done=False)
        if isinstance(rival, Rival):
            since_ms = liveness.claimed_since_ms(ledger, place.ref, rival)
            cure = "wait for its end, or use try_start()"
            raise ClaimedError(place.ref, str(rival), since_ms, cure)
    try:
        if place.settings.provenance:
            held.pending = Pending(place, seeds)
        if capture is Capture.TEE:
            begin_capture(ledger, place, held)
        begin(ledger, place, held, more)
    except BaseException:
        held.pending = None
        end_capture(held)
        ledger.release_claim(held)
        raise


def go_on(
    ledger: Ledger, place: Place, held: OpenRun, *, seeds: Mapping[str, int] | None, capture: Capture
) -> None:
    """What a start says of an attempt that a file, a row or an input began. Raises: StorageError."""
    pending = Pending(place, seeds) if seeds is not None and place.settings.provenance else None
    if capture is Capture.TEE and held.tee is None:
        begin_capture(ledger, place, held)
    if pending is not None:
        held.pending = pending
        pending.record_when_known(ledger, held)


def begin(ledger: Ledger, place: Place, held: OpenRun, more: EventsOf, *, running: bool = True) -> Appended:
    """Append created (if the run is not recorded), started and what `more` makes for the attempt's id."""
    run = ledger.run(place.ref)
    before = _before_a_start(ledger, place, held, run)
    facts = held.pending.now(ledger) if running and held.pending is not None else None
    supersedes = [] if run is None else liveness.superseded_by_a_start(ledger, run, held)
    number = 0 if held.claim is None else held.claim.number
    started = Started(place.ref, host.now_ms(), supersedes, number, place.mode, None)

    appended = ledger.append(
        lambda attempt: [*before, started, *captured(place, attempt, facts), *more(attempt)]
    )
    # what an earlier attempt had, be it of a removed run, is not this one's, now that this one is begun
    held.attached, held.facts, held.summary, held.inputs = {}, {}, {}, {}
    held.attempt = AttemptId(f"{ledger.writer}-{appended.seq}")
    held.started = started
    held.created = place.created()
    if facts is not None:
        held.facts, held.pending = facts, None
    ledger.settle_claim(held)
    if running:
        ledger.set_running(place.ref, held, is_running=True)
        if held.pending is not None:
            held.pending.record_when_known(ledger, held)
    return appended


def record(ledger: Ledger, place: Place, event: Event) -> None:
    """Append an event of the run that is of no attempt, and the run itself if nothing records it yet.

    Raises: NameRefusedError for another spelling of a recorded namespace; StorageError.
    """
    with ledger.lock:
        before = _recording(ledger, place, ledger.run(place.ref))
        ledger.append(lambda _: [*before, event])


def _recording(ledger: Ledger, place: Place, run: Run | None) -> list[Event]:
    """The events that record the run, and the store's rules with it; none if it is recorded."""
    created = created_if_new(ledger, place, run)
    if created is None:
        return []
    known = set(ledger.lookup.rules()) if place.founding else set()
    return [*(rule for rule in place.founding if rule not in known), created]


def _before_a_start(ledger: Ledger, place: Place, held: OpenRun, run: Run | None) -> list[Event]:
    events = _recording(ledger, place, run)
    if run is not None and run.removed:
        events.append(Restored(place.ref, STARTED_ANEW))
    if run is not None:
        events += liveness.taken_over(ledger, run, held)
    return events


def created_if_new(ledger: Ledger, place: Place, run: Run | None) -> Created | None:
    """The event that records the run, if nothing records it yet. Raises: NameRefusedError."""
    if run is not None and run.params is not None:
        return None
    ledger.refuse_spellings(place.relpath, place.identifier)
    _warn_about_params(ledger, place)
    return place.created()


def _warn_about_params(ledger: Ledger, place: Place) -> None:
    """Say what in the params may not mean what its author meant. Spec: spec/canonical.md, "Warnings"."""
    others = ledger.lookup.twins(place.text.decode(), place.uid, place.identifier, place.relpath)
    twins = tuple(other.encode() for other in sorted(others)[:1])
    warn_about(place.text, twins=twins, stacklevel=_caller_level())


def running_elsewhere(ledger: Ledger, place: Place) -> AttemptId | None:
    """The attempt that another process executes now, if one does."""
    run = ledger.run(place.ref)
    if run is None or run.removed or liveness.as_seen(ledger, run).status is not Status.RUNNING:
        return None
    return run.canonical


def adopt_ended(ledger: Ledger, place: Place, held: OpenRun) -> bool:
    """True if the run is finished: what is attached then belongs to the attempt that counts."""
    run = ledger.run(place.ref)
    attempt = None if run is None else run.attempt
    if run is None or run.removed or attempt is None or attempt.status is not Status.DONE:
        return False
    held.attempt, held.started, held.created = attempt.id, attempt.started, place.created()
    held.facts, held.summary = attempt.facts, attempt.summary
    held.inputs = {one.name: one for one in attempt.inputs}
    held.attached = {f.name: Attachment(f.name, f.path, f.external) for f in attempt.files}
    return True


def end(ledger: Ledger, place: Place, held: OpenRun, end_of: EndOf) -> None:
    """Seal the files, record the end, commit, write the manifest: in this order. Raises: StorageError.

    What is told of the attempt by its end (facts, the summary of its metrics) stands in the end's frame.
    """
    end_capture(held)  # its file is one of those that are sealed
    if held.handed or held.attached:
        ledger.root_fd()  # raises if the tree was moved: its files would be missed
    # large files take long: other threads may record meanwhile
    sealed = sealing.seal_files(place.root, files.sealable(place.root, held), place.settings.seal)
    if place.settings.durability is Durability.FULL:
        files.sync_files(ledger, place, held, sealed)
    if held.attempt is None and place.settings.provenance:
        held.pending = Pending(place, None)
    facts = None if held.pending is None else held.pending.wait(ledger)
    held.untold |= ledger.finish_metrics(place.ref)
    now = host.now_ms()
    with ledger.lock:
        if held.pending is None:  # they were recorded meanwhile
            facts = None

        def events_of(attempt: AttemptId) -> list[Event]:
            told: list[Event] = [Summary(place.ref, attempt, held.untold)] if held.untold else []
            return [*captured(place, attempt, facts), *told, end_of(attempt, now, sealed)]

        if held.attempt is None or (not held.is_running and _is_removed(ledger, place)):
            appended = begin(ledger, place, held, events_of, running=False)
        else:
            attempt = held.attempt
            appended = ledger.append(lambda _: events_of(attempt))
        held.facts, held.pending = held.facts | (facts or {}), None
        held.summary, held.untold = held.summary | held.untold, {}
        ledger.commit(place.settings.durability)
        # committed: the run has ended, whatever happens from here on
        _warn_if_lost(ledger, place, held)
        ledger.set_running(place.ref, held, is_running=False)
        last = appended.events[-1]
        assert isinstance(last, End), "the end stands last in its frame"
        ledger.put_manifest(held, last, appended)


def is_done(ledger: Ledger, place: Place) -> bool:
    """True if the run is finished."""
    row = ledger.row(place.uid, place.identifier, place.relpath)
    return row is not None and row.status == Status.DONE


def _is_removed(ledger: Ledger, place: Place) -> bool:
    run = ledger.run(place.ref)
    return run is not None and run.removed


def _warn_if_lost(ledger: Ledger, place: Place, held: OpenRun) -> None:
    """Say that the run was taken over. It has ended: a look that the system refuses changes nothing."""
    try:
        is_lost = ledger.is_claim_lost(held)
    except StorageError:
        return
    if is_lost:
        warnings.warn(
            f"run {place.ref} was taken over by another worker while this process gave no sign of life;"
            " both attempts are kept",
            TrackerWarning,
            stacklevel=_caller_level(),
        )


def _caller_level() -> int:
    """How far up, counted from whoever asks, the first line outside this package stands."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
