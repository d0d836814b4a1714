"""verify: everything that is wrong with a store, found in one pass. Changes nothing.

Spec: spec/recovery.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tracker._disk import durable
from tracker._model.names import FORMAT, LEDGER, STORE
from tracker._store.root import FORMAT_BYTES, check_format
from tracker.check import files, measured, packed, replay, set_aside
from tracker.check.findings import (
    CURE_REPAIR,
    Finding,
    Level,
    Progress,
    Report,
    damage,
    incomplete,
    no_progress,
)
from tracker.check.reading import Reading, read_ledger, read_names
from tracker.errors import DamagedError, NotFoundError
from tracker.ledger import Ledger


def verify(ledger: Ledger, level: Level = Level.QUICK, progress: Progress = no_progress) -> Report:
    """Check a store and report all findings.

    QUICK: framing, hashes and names of the ledger, references, names. FULL: also every manifest, object,
    params.json and sealed file. REPLAY: also that manifests and index equal the fold of the ledger.

    Raises: NotFoundError where there is no store; VersionError where a newer release wrote.
    Cost: QUICK 2 µs an event; FULL reads every sealed file.
    """
    store = os.path.join(ledger.root, STORE)
    if not os.path.isdir(os.path.join(store, LEDGER)):
        raise NotFoundError(
            "store", str(ledger.root), "the first run makes it; `-C DIR` names another folder"
        )
    findings = list(_iter_format(ledger))
    root_fd = durable.open_root(str(ledger.root))
    try:
        store_fd = durable.open_folder_fd(STORE, root_fd)
        ledger_fd = durable.open_folder_fd(LEDGER, store_fd)
    finally:
        durable.close_read(root_fd)
    try:
        reading = read_ledger(ledger_fd, progress)
        findings += [*reading.findings, *read_names(ledger_fd)]
        findings += _iter_disk(ledger, store_fd, reading, level, progress)
        if level is Level.REPLAY:
            findings += replay.iter_manifests(store_fd, reading)
            findings += replay.iter_index(ledger, reading)
    finally:
        durable.close_read(ledger_fd)
        durable.close_read(store_fd)
    return Report(level, findings, reading.counts())


def _iter_format(ledger: Ledger) -> Iterator[Finding]:
    """FORMAT is there and ours. Raises: VersionError."""
    path = f"{STORE}/{FORMAT}"
    if not os.path.isdir(os.path.join(ledger.root, STORE)):
        return
    root_fd = durable.open_root(str(ledger.root))
    try:
        data = durable.read_file(path, root_fd)
        check_format(data, os.path.join(ledger.root, path))
        if data != FORMAT_BYTES:
            yield incomplete("format-cut", path, "a crash cut it short", CURE_REPAIR)
    except FileNotFoundError:
        yield incomplete("format-missing", path, "it is not here", CURE_REPAIR)
    except DamagedError as error:
        yield damage("format-damaged", path, error.why, error.cure)
    finally:
        durable.close_read(root_fd)


def _iter_disk(
    ledger: Ledger, store_fd: int, reading: Reading, level: Level, progress: Progress
) -> Iterator[Finding]:
    full = level is not Level.QUICK
    yield from files.iter_objects(store_fd, reading, full=full)
    yield from files.iter_manifests(store_fd, reading)
    yield from packed.iter_packs(store_fd)
    yield from measured.iter_metrics(store_fd, reading.state.runs, progress)
    yield from files.iter_unrecorded(ledger.root, reading)
    yield from set_aside.iter_quarantined(store_fd)
    trashed = set_aside.read_trash(store_fd, reading)
    yield from set_aside.iter_trash(trashed)
    if not full:
        return
    runs = files.runs_of(reading)
    root_fd = durable.open_root(str(ledger.root))
    try:
        yield from files.iter_params(root_fd, runs, progress)
        yield from files.iter_sealed(ledger.root, reading, runs, trashed, progress)
    finally:
        durable.close_read(root_fd)
