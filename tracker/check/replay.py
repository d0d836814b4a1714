"""The fold of the ledger's files, held against what was derived from it; and derived files made anew (I11).

Spec: spec/manifest.md; spec/recovery.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracker._model.fold import run_as_json, run_of
from tracker._model.names import STORE
from tracker._store import manifests
from tracker._store.index import Filter
from tracker.check import recovery
from tracker.check.findings import (
    CURE_LOST_LOG,
    CURE_REBUILD,
    Finding,
    Progress,
    Rebuilt,
    damage,
    incomplete,
    no_progress,
    note,
)
from tracker.check.reading import Reading, implied_manifests, read_ledger
from tracker.check.recovery import Standing
from tracker.errors import DamagedError, NotFoundError
from tracker.ledger import Ledger
from tracker.terms import RunRef


def iter_manifests(store_fd: int, reading: Reading) -> Iterator[Finding]:
    """Manifests that the ledger implies and that are not here, and those it does not imply."""
    implied = implied_manifests(reading)
    there = {path for path in manifests.iter_manifests(store_fd) if manifests.read_manifest(store_fd, path)}
    for path in sorted(implied.keys() - there):
        yield incomplete(
            "manifest-missing", f"{STORE}/{path}", "the ledger implies it, and it is not here", CURE_REBUILD
        )
    for path in sorted(there - implied.keys()):
        yield _judge_unimplied(store_fd, reading, path)


def _judge_unimplied(store_fd: int, reading: Reading, path: str) -> Finding:
    standing = recovery.standing_of(store_fd, reading, path)
    if standing is Standing.SETTLED:
        return note("manifest-recovered", f"{STORE}/{path}", "the ledger says what was taken from it")
    if standing is Standing.OUTDATED:
        what = "its end is here: it was made while another segment was not"
        return note("manifest-outdated", f"{STORE}/{path}", what)
    what = "no event here implies it: the segment it was made from is not here"
    return incomplete("manifest-unmatched", f"{STORE}/{path}", what, CURE_LOST_LOG)


def iter_index(ledger: Ledger, reading: Reading) -> Iterator[Finding]:
    """Runs that look-ups tell otherwise than the files do. A run that was written meanwhile is read again."""
    try:
        found = {run.ref: run_as_json(run) for run in ledger.find(Filter(removed=None))}
    except DamagedError:
        return  # FORMAT is damaged: that is a finding, and no look-up is to be had
    differing = _differing(reading, found)
    if differing:  # events may have come between the two readings
        reading = read_ledger(ledger.lookup.ledger_fd, no_progress)
        found = {run.ref: run_as_json(run) for run in ledger.find(Filter(removed=None))}
        differing &= _differing(reading, found)
    for ref in sorted(differing):
        what = "the index tells it otherwise than the ledger's files"
        yield damage("index-differs", ref, what, "run `tracker rebuild`, which makes the index anew")


def _differing(reading: Reading, found: dict[RunRef, dict[str, Any]]) -> set[RunRef]:
    folded = {
        ref: run_as_json(run_of(ref, history, unproven=bool(reading.state.unproven.get(ref))))
        for ref, history in reading.state.runs.items()
    }
    return {ref for ref in folded.keys() | found.keys() if folded.get(ref) != found.get(ref)}


def rebuild(ledger: Ledger, progress: Progress = no_progress, *, lost_log: bool = False) -> Rebuilt:
    """Make the manifests and the index anew from the ledger. Nothing else is touched.

    With `lost_log` the runs of manifests whose frames are not here are taken into the ledger first, as new
    events of this writer. Twice adds nothing.

    Raises: NotFoundError where there is no store; StorageError.
    Cost: 10 µs a run for the index, 20 µs a manifest.
    """
    if not ledger.lookup.open_store():
        raise NotFoundError("store", str(ledger.root), "the first run makes it")
    with ledger.lock:
        ledger.lookup.drop_index()
        store_fd = ledger.lookup.store_fd
        reading = read_ledger(ledger.lookup.ledger_fd, progress)
        unmatched = recovery.list_unmatched(store_fd, reading)
        recovered: list[str] = []
        if lost_log and unmatched:
            recovered = recovery.recover(ledger, reading, unmatched)
            reading = read_ledger(ledger.lookup.ledger_fd, progress)
        implied = implied_manifests(reading)
        written = _write_manifests(store_fd, implied, progress)
        ledger.refresh()
    left = [path for path in unmatched if path not in recovered]
    return Rebuilt(len(reading.state.runs), written, len(implied) - written, left, recovered)


def _write_manifests(store_fd: int, implied: dict[str, bytes], progress: Progress) -> int:
    """Write those that are not here, or whose bytes are wrong; return how many."""
    written = 0
    for done, (path, data) in enumerate(implied.items()):
        progress("manifests", done, len(implied))
        if manifests.read_manifest(store_fd, path) is None:
            manifests.put_manifest(store_fd, path, data)
            written += 1
    return written
