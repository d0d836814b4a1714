"""What the machine does while a run runs, sampled beside it.

Spec: spec/metrics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracker.ledger import OpenRun

if TYPE_CHECKING:
    from tracker.metrics import Recorder

LEAST_S = 0.1


def begin_sampling(held: OpenRun, recorder: Recorder, period_s: float) -> None:
    """Log samples to `recorder` until the attempt ends; again: at another period. Raises: ValueError."""
    from tracker.metrics.sampling import Sampler

    if not period_s >= LEAST_S:
        raise ValueError(f"period_s={period_s!r}: sample every {LEAST_S} s or more")
    end_sampling(held)
    held.sampler = Sampler(lambda values, step: recorder.log(values, step, is_aside=True), period_s)


def end_sampling(held: OpenRun) -> None:
    """Take no more samples."""
    sampler, held.sampler = held.sampler, None
    if sampler is not None:
        sampler.stop()
