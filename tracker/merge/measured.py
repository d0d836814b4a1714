"""The metrics of another store taken into this one, as its ledger is: proved, published, or a good prefix.

Spec: spec/metrics.md section 7; spec/merge.md section 3.
"""

from __future__ import annotations

from tracker._disk import durable
from tracker._store.measured import open_metrics
from tracker.merge.inventory import IN_METRICS, read_here, read_theirs
from tracker.merge.plan import plan_ledger
from tracker.merge.report import Draft, Progress
from tracker.merge.take import take_ledger


def take_metrics(source_fd: int, store_fd: int | None, report: Draft, progress: Progress) -> int:
    """Take what is not here; return how many files were. `store_fd` is None where there is no store yet.

    Raises: VersionError; StorageError when the target's disk refuses.
    Cost: one read and one BLAKE3 pass over what both have.
    """
    theirs_fd = open_metrics(source_fd)
    if theirs_fd is None:
        return 0
    try:
        theirs = read_theirs(theirs_fd, progress, IN_METRICS)
    finally:
        durable.close_read(theirs_fd)
    here_fd = None if store_fd is None else open_metrics(store_fd)
    try:
        here = read_here(here_fd, theirs.pieces, progress, IN_METRICS)
    finally:
        if here_fd is not None:
            durable.close_read(here_fd)
    steps = plan_ledger(theirs.pieces, here)
    return take_ledger(steps, theirs, source_fd, store_fd, report, progress, IN_METRICS)
