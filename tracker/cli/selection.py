"""Which store and which run a command line means. Reads, and makes nothing."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from pathlib import Path, PurePosixPath

from tracker._codec.digest import SHORTEST_ACCEPTED, UID_DIGITS, shorten
from tracker._model.fold import Run
from tracker._model.names import FORMAT, LEDGER, STORE, split_ref
from tracker._store.index import Filter
from tracker.cli.complaints import NoStoreError, UsageError
from tracker.cli.screen import Screen
from tracker.errors import AmbiguousError, NotFoundError
from tracker.ledger import Ledger, open_ledger
from tracker.terms import RunRef

LATEST = "@latest"
BEST = "@best:"

_PREFIX = re.compile(f"[0-9a-f]{{{SHORTEST_ACCEPTED},{UID_DIGITS}}}")
_RUN_PART = re.compile(f"([0-9a-f]{{{UID_DIGITS}}})(?:_.*)?", re.DOTALL)


def open_store(options: Namespace, screen: Screen) -> Ledger:
    """The ledger of the store that `-C` names, else of the nearest one at or above the current folder."""
    ledger = open_ledger(find_root(options))
    ledger.lookup.progress = screen.bar.of("reading the ledger")
    return ledger


def find_root(options: Namespace) -> Path:
    """The root as it was named: links in it are left as they are."""
    return _named_root(options.directory) if options.directory else _nearest_root()


def _named_root(folder: str) -> Path:
    root = Path(os.path.abspath(folder))
    if _has_store(root):
        return root
    above = next((parent for parent in root.parents if _has_store(parent)), None)
    cure = "`-C` takes the folder that holds .tracker" + (f": -C {above}" if above else "")
    raise NoStoreError("store", str(root), cure)


def _nearest_root() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _has_store(folder):
            return folder
    raise NoStoreError("store", f"{here} or above", "name its folder with -C, or make one: `tracker demo`")


def _has_store(root: Path) -> bool:
    return (root / STORE / LEDGER).is_dir() or (root / STORE / FORMAT).is_file()


def choose_run(ledger: Ledger, text: str, identifier: str | None) -> Run:
    """The one run that `text` means; `identifier` tells apart those that share a uid.

    Raises: UsageError for a text that names no run anywhere; NotFoundError; AmbiguousError.
    """
    if text == LATEST:
        return _latest(ledger, identifier)
    if text.startswith(BEST):
        return _best(ledger, text, identifier)
    found = [run for run in _candidates(ledger, text) if identifier in (None, run.identifier)]
    what = f"run {text!r}" + (f" of identifier {identifier!r}" if identifier else "")
    if not found:
        raise NotFoundError(what, str(ledger.root), "`tracker ls` shows the runs")
    if len(found) > 1:
        raise AmbiguousError(what, str(ledger.root), [run.ref for run in found])
    return found[0]


def _latest(ledger: Ledger, identifier: str | None) -> Run:
    """The run of the newest event: what `tracker log` shows first of runs that are not removed."""
    events = ledger.events(Filter(identifier=identifier))
    run = ledger.run(events[-1][1].run) if events else None
    if run is None:
        raise NotFoundError(f"run {LATEST!r}", str(ledger.root), "`tracker ls` shows the runs")
    return run


def _best(ledger: Ledger, text: str, identifier: str | None) -> Run:
    """The run that is best by a metric. What cannot be written as UTF-8 names no metric."""
    from tracker.cli.called import best_run

    metric = text.removeprefix(BEST)
    if not metric.removeprefix("-") or not metric.isprintable():
        cure = f"name one, as {BEST}loss for the least, {BEST}-acc for the greatest"
        raise UsageError(f"{text!r} names no metric", cure)
    run = best_run(ledger, metric, identifier)
    if run is None:
        cure = "no run that is done has a number of it; `tracker schema` shows the metrics"
        raise NotFoundError(f"run {text!r}", str(ledger.root), cure)
    return run


def _candidates(ledger: Ledger, text: str) -> list[Run]:
    run = ledger.run(RunRef(text)) if _is_ref(text) else None
    if run is not None:
        return [run]
    called = [] if _RUN_PART.fullmatch(text) else _named(ledger, text)
    if _PREFIX.fullmatch(text):
        by_uid = ledger.find(Filter(uid=text, removed=None))
        return list({run.ref: run for run in (*by_uid, *called)}.values())
    if called:
        return called
    if "/" in text or os.path.lexists(text):
        return _at_path(ledger, text)
    digits = f"{SHORTEST_ACCEPTED} to {UID_DIGITS} lower-case hex digits of its uid"
    cure = f"give {digits}, its name, folder or ref, {LATEST}, or {BEST}METRIC"
    raise UsageError(f"{text!r} names no run", cure)


def _named(ledger: Ledger, text: str) -> list[Run]:
    from tracker.cli.called import runs_named

    return runs_named(ledger, text)


def _is_ref(text: str) -> bool:
    try:
        split_ref(text)
    except ValueError:
        return False
    return True


def _at_path(ledger: Ledger, text: str) -> list[Run]:
    """The runs to which a folder or file below the root belongs: those of the namespace nearest above it."""
    place = os.path.relpath(os.path.realpath(text), os.path.realpath(ledger.root))
    parts = PurePosixPath(place).parts
    if parts[:1] == ("..",):
        raise UsageError(f"{text!r} lies outside the store {ledger.root}", "name its store with -C")
    for depth, part in enumerate(parts):
        match = _RUN_PART.fullmatch(part)
        if match:
            return _nearest(ledger.find(Filter(uid=match[1], removed=None)), parts[:depth])
    raise UsageError(f"{text!r} is not the folder of a run", "give one whose name is or begins with a uid")


def _nearest(runs: list[Run], folders: tuple[str, ...]) -> list[Run]:
    for depth in range(len(folders), -1, -1):
        here = [run for run in runs if run.relpath == "/".join(folders[:depth])]
        if here:
            return here
    return []


def short_names(ledger: Ledger) -> dict[str, str]:
    """For every uid of the store the prefix that people are shown. Cost: 20 µs a run."""
    uids = sorted({run.uid for run in ledger.find(Filter(removed=None))})
    around = zip(uids, ["", *uids], [*uids[1:], ""], strict=False)
    return {uid: shorten(uid, (before, after)) for uid, before, after in around}
