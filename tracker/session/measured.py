"""What a run measures: rows that are logged, and what the machine does, sampled beside it.

Spec: spec/metrics.md section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracker.errors import StateError
from tracker.ledger import Ledger, OpenRun
from tracker.session import attempt
from tracker.session.place import Place
from tracker.terms import Status

if TYPE_CHECKING:
    from tracker.metrics import Recorder

LEAST_S = 0.1


def begin_logging(ledger: Ledger, place: Place, held: OpenRun) -> Recorder:
    """What takes the rows of a run here: for the attempt of this process, or beside that of another.

    A rank above 0 begins nothing, though nobody executes the run yet: who does may come later.

    Raises: StateError for a finished run; ClaimedError; StorageError.
    """
    from tracker.metrics import rank_of

    with ledger.lock:
        id_ = held.attempt if held.is_running else attempt.running_elsewhere(ledger, place)
        if id_ is None and not rank_of():
            if attempt.is_done(ledger, place):
                cure = "log before done(), or start() it anew"
                raise StateError(place.ref, Status.DONE, "log() of a finished run", cure)
            attempt.claim_and_begin(ledger, place, held, attempt.no_more)
            id_ = held.attempt
        return ledger.recorder(place.ref, id_)


def begin_sampling(held: OpenRun, recorder: Recorder, period_s: float) -> None:
    """Log samples to `recorder` until the attempt ends; again: at another period. Raises: ValueError."""
    from tracker.metrics.sampling import Sampler

    if not isinstance(period_s, int | float) or not period_s >= LEAST_S:
        raise ValueError(f"period_s={period_s!r}: sample every {LEAST_S} s or more")
    end_sampling(held)
    held.sampler = Sampler(lambda values, step: recorder.log(values, step, is_aside=True), period_s)


def end_sampling(held: OpenRun) -> None:
    """Take no more samples."""
    sampler, held.sampler = held.sampler, None
    if sampler is not None:
        sampler.stop()
