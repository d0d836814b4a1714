"""merge: another store of the same runs taken into this one.

SRC is only read. The target gains names and loses none; what it had is never overwritten. Every file is
proved before its name appears, so a merge may be killed anywhere and made again.

Spec: spec/merge.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tracker._disk import durable
from tracker._model.fold import run_of
from tracker._model.names import FORMAT, LEDGER, STORE
from tracker._store.root import make_store, refuse_another_format
from tracker.check.findings import no_progress as check_quietly
from tracker.check.reading import Reading, read_ledger
from tracker.errors import NameRefusedError, NotFoundError
from tracker.ledger import Ledger
from tracker.merge import measured, take
from tracker.merge.files import Files, shown
from tracker.merge.inventory import read_here, read_theirs
from tracker.merge.plan import plan_ledger
from tracker.merge.report import Draft, MergeReport, Progress, no_progress
from tracker.merge.seals import seals_of


def merge(
    ledger: Ledger, source: str | os.PathLike[str], *, dry_run: bool = False, progress: Progress = no_progress
) -> MergeReport:
    """Take the store below the folder `source` into the store of `ledger`, which is made if it is not there.

    With `dry_run` nothing is written, and the report tells what would be. Writers may live in both. Merging
    again takes only what is new.

    Raises: NotFoundError if `source` is no store; NameRefusedError if the two are one tree or one lies in
    the other; VersionError for a format of a newer release, DamagedError for a FORMAT that is none, all
    before anything is written; StorageError when a disk refuses: merge again.
    Cost: one read and one BLAKE3 pass over what both have, one copy and some fsyncs of what is new.
    """
    root = os.path.realpath(source)
    _refuse_one_tree(root, os.path.realpath(ledger.root))
    report = Draft(shown(root), shown(str(ledger.root)), dry_run)
    with _opened_store(root) as (source_fd, theirs_fd):
        theirs = read_theirs(theirs_fd, progress)
        histories = [read_ledger(theirs_fd, check_quietly)]
        if not dry_run:
            ledger.root_fd()  # refuses a root that was moved under this process
            make_store(ledger.root)  # a copy that is under way may lack FORMAT
        ours = _open_ours(ledger)
        if ours is not None:
            histories.append(read_ledger(ours.ledger_fd, check_quietly))
        here = read_here(None if ours is None else ours.ledger_fd, theirs.pieces, progress)
        store_fd = None if ours is None else ours.store_fd
        steps = plan_ledger(theirs.pieces, here)
        taken = take.take_ledger(steps, theirs, source_fd, store_fd, report, progress)
        take.take_named(source_fd, store_fd, report, progress)
        measured.take_metrics(source_fd, store_fd, report, progress)
        with _root_fd_of(ledger, dry_run=dry_run) as root_fd:
            Files(root, str(ledger.root), root_fd, seals_of(histories), report).take_all(progress)
    if ours is None or dry_run:
        return report.finished([], [])
    ledger.refresh()
    return report.finished(*_oddities(read_ledger(ours.ledger_fd, check_quietly) if taken else histories[-1]))


class _Ours(NamedTuple):
    """Descriptors of the target's `.tracker` and its ledger; they are the look-ups' own."""

    store_fd: int
    ledger_fd: int


def _open_ours(ledger: Ledger) -> _Ours | None:
    """The target's store; None where there is none yet. Raises: VersionError; DamagedError."""
    if not ledger.lookup.open_store():
        return None
    return _Ours(ledger.lookup.store_fd, ledger.lookup.ledger_fd)


def _refuse_one_tree(source: str, target: str) -> None:
    """Refuse a source that is the target, or lies in it or around it. Raises: NameRefusedError."""
    for inner, outer, why in (
        (source, target, "is the store that it is merged into, or lies inside it"),
        (target, source, "holds the store that it is merged into"),
    ):
        if os.path.isdir(outer) and any(
            os.path.isdir(above) and os.path.samefile(above, outer)
            for above in (inner, *map(str, Path(inner).parents))
        ):
            raise NameRefusedError("source", source, why, "merge another copy")


@contextmanager
def _opened_store(root: str) -> Iterator[tuple[int, int]]:
    """Descriptors of SRC's `.tracker` and its ledger. Raises: NotFoundError; VersionError; DamagedError."""
    refuse_another_format(root)
    if not os.path.isdir(os.path.join(root, STORE, LEDGER)):
        what = "its ledger is not here" if os.path.exists(os.path.join(root, STORE, FORMAT)) else "no store"
        raise NotFoundError(f"store ({what})", root, "name the folder that holds .tracker")
    root_fd = durable.open_root(root)
    try:
        store_fd = durable.open_folder_fd(STORE, root_fd)
    finally:
        durable.close_read(root_fd)
    try:
        ledger_fd = durable.open_folder_fd(LEDGER, store_fd)
        try:
            yield store_fd, ledger_fd
        finally:
            durable.close_read(ledger_fd)
    finally:
        durable.close_read(store_fd)


@contextmanager
def _root_fd_of(ledger: Ledger, *, dry_run: bool) -> Iterator[int | None]:
    """A descriptor of the target's root; None where a dry run finds none."""
    if not dry_run:
        yield ledger.root_fd()
    elif not os.path.isdir(ledger.root):
        yield None
    else:
        root_fd = durable.open_root(str(ledger.root))
        try:
            yield root_fd
        finally:
            durable.close_read(root_fd)


def _oddities(union: Reading) -> tuple[list[str], list[str]]:
    """Writers of which two histories are here, and runs that were done twice with other files."""
    forks = sorted(f"{f.path}: {f.what}" for f in union.findings if f.code == "fork")
    runs = (run_of(ref, history) for ref, history in union.state.runs.items())
    return forks, sorted(run.ref for run in runs if run.divergent)
