"""lineage: what made some bytes, and what used them, by digest, from run to run.

Spec: spec/sealing.md section 7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator

from msgspec import Struct

from tracker._codec.digest import digest
from tracker._model.event import Done, Failed, Interrupted
from tracker._model.fold import Run
from tracker._store.holdings import NEEDLES_MAX, USED, refs_holding
from tracker._store.index import Filter
from tracker.ledger import Ledger
from tracker.liveness import as_seen
from tracker.terms import RunRef, Status

EMPTY = bytes.fromhex(digest(b""))
"""Of no bytes at all. That two files are empty says nothing, so such a file is known by its path alone."""


class Link(Struct, frozen=True):
    """A file between two runs. Of what a run came from, `near` used it and `far` made it; of what it came to,
    `near` made it and `far` used it. The first links of a file's own lineage have no `near`.
    """

    depth: int
    """How many runs away `far` is."""
    near: RunRef | None
    name: str
    path: str
    size: int | None
    digest: str | None
    external: bool
    far: RunRef | None
    """None where nobody here made it."""
    source: RunRef | None = None
    """The run that `use` found to have made it, though its record may not be here."""


class Lineage(Struct, frozen=True):
    """`made_by` leads to where something comes from, `used_by` to what came of it; the nearest first."""

    made_by: list[Link]
    used_by: list[Link]
    statuses: dict[RunRef, Status]
    """Of the runs that are met."""


class _Key(Struct, frozen=True):
    """What two files must share to be one: the bytes; where a digest is not known, the path."""

    digest: bytes | None
    path: str
    external: bool

    def matches(self, other: _Key) -> bool:
        if None not in (self.digest, other.digest) and (self.digest != other.digest or self.digest != EMPTY):
            return self.digest == other.digest
        return (self.path, self.external) == (other.path, other.external)

    @property
    def needles(self) -> Iterator[bytes]:
        """What stands in the history of every run that has such a file: its digest, or else its path."""
        if self.digest is not None and self.digest != EMPTY:
            yield self.digest
        if self.path:
            yield self.path.encode("utf-8", "surrogateescape")


def lineage_of_run(ledger: Ledger, run: Run, depth: int | None = None) -> Lineage:
    """Where the inputs of `run` come from and what its outputs came to, at most `depth` runs far.

    Cost: for each step away one look at the histories of all runs, see `refs_holding`.
    Raises: StorageError.
    """
    up, down = _Walk(ledger, _inputs, _outputs), _Walk(ledger, _outputs, _inputs)
    up.go_on([run], depth)
    down.go_on([run], depth)
    return _told(ledger, up, down, {run.ref: run})


def lineage_of_file(
    ledger: Ledger, path: str, digest_: bytes | None, *, external: bool, depth: int | None = None
) -> Lineage:
    """What made these bytes and what used them; the path counts where a digest is not known."""
    up, down = _Walk(ledger, _inputs, _outputs), _Walk(ledger, _outputs, _inputs)
    for walk in (up, down):
        walk.begin(_Key(digest_, path, external), depth)
    return _told(ledger, up, down, {})


def _told(ledger: Ledger, up: _Walk, down: _Walk, met: dict[RunRef, Run]) -> Lineage:
    runs = met | up.met | down.met
    statuses = {ref: as_seen(ledger, run).status for ref, run in runs.items()}
    used = [link for link in down.links if link.far is not None]
    return Lineage(up.links, used, statuses)


class _File(Struct, frozen=True):
    """A file of an attempt, made or used."""

    key: _Key
    name: str
    size: int | None
    source: RunRef | None = None


_Side = Callable[[Run], Iterable[_File]]


def _outputs(run: Run) -> Iterator[_File]:
    """What attempts of the run sealed, each once."""
    ends = (a.end for a in run.attempts if isinstance(a.end, (Done, Failed, Interrupted)))
    files = {(f.path, f.digest): f for end in ends for f in end.files if f.size is not None}
    for file in files.values():
        yield _File(_Key(file.digest, file.path, file.external), file.name, file.size)


def _inputs(run: Run) -> Iterator[_File]:
    files = {(f.path, f.digest): f for attempt in run.attempts for f in attempt.inputs}
    for file in files.values():
        yield _File(_Key(file.digest, file.path, file.external), file.name, file.size, file.source)


class _Walk:
    """From run to run in one direction: by the files of `near` to runs that have them as `far`."""

    def __init__(self, ledger: Ledger, near: _Side, far: _Side) -> None:
        self.links: list[Link] = []
        self.met: dict[RunRef, Run] = {}
        self._ledger = ledger
        self._near = near
        self._far = far

    def begin(self, key: _Key, depth: int | None) -> None:
        """Begin at a file that no run is known of."""
        found = _Found(self._ledger, [key], self._far)
        for run, file in found.having(key):
            self.links.append(_link(1, None, file, run.ref, None))
            self.met[run.ref] = run
        self.go_on(list(self.met.values()), depth, first=2)

    def go_on(self, runs: list[Run], depth: int | None, *, first: int = 1) -> None:
        """Go on from these runs, breadth first. A run that was met is not gone on from again."""
        told = {run.ref for run in runs}
        at = first
        while runs and (depth is None or at <= depth):
            files = [(run, file) for run in runs for file in self._near(run)]
            found = _Found(self._ledger, [file.key for _, file in files], self._far)
            beyond: dict[RunRef, Run] = {}
            for run, file in files:
                there = {other.ref: other for other, _ in found.having(file.key) if other.ref != run.ref}
                beyond |= there
                self.links += (_link(at, run.ref, file, ref, file.source) for ref in there or (None,))
            self.met |= beyond
            runs = [run for ref, run in beyond.items() if ref not in told]
            told |= beyond.keys()
            at += 1


def _link(depth: int, near: RunRef | None, file: _File, far: RunRef | None, source: RunRef | None) -> Link:
    key = file.key
    hexed = None if key.digest is None else key.digest.hex()
    return Link(depth, near, file.name, key.path, file.size, hexed, key.external, far, source)


class _Found:
    """The runs that have a file of some keys as `far`, in the order of their first events."""

    def __init__(self, ledger: Ledger, keys: Collection[_Key], far: _Side) -> None:
        self._by_digest: dict[bytes, list[tuple[Run, _File]]] = {}
        self._by_path: dict[str, list[tuple[Run, _File]]] = {}
        digests = {key.digest for key in keys}
        paths = {key.path for key in keys}
        for run in _candidates(ledger, keys, far):
            for file in far(run):
                if file.key.digest is not None and file.key.digest in digests:
                    self._by_digest.setdefault(file.key.digest, []).append((run, file))
                if file.key.path in paths:
                    self._by_path.setdefault(file.key.path, []).append((run, file))

    def having(self, key: _Key) -> Iterator[tuple[Run, _File]]:
        """The runs with such a file, each once."""
        told: set[RunRef] = set()
        alike = [] if key.digest is None else self._by_digest.get(key.digest, [])
        for run, file in (*alike, *self._by_path.get(key.path, [])):
            if run.ref not in told and key.matches(file.key):
                told.add(run.ref)
                yield run, file


def _candidates(ledger: Ledger, keys: Collection[_Key], far: _Side) -> list[Run]:
    """Runs among which all are that have a file of one of `keys` as `far`, in the order of first events."""
    needles = {needle for key in keys for needle in key.needles}
    if len(needles) > NEEDLES_MAX and far is _inputs:
        needles = {USED}
    if not needles:
        return []
    with ledger.lock:
        ledger.refresh()
        if len(needles) > NEEDLES_MAX:
            return ledger.find(Filter(removed=None))
        try:
            refs = {*refs_holding(ledger.lookup.relation(), needles), *ledger.lookup.otherwise()}
        except sqlite3.Error:  # the look-ups make another index
            return ledger.find(Filter(removed=None))
        runs = [run for run in map(ledger.run, refs) if run is not None]
        return sorted(runs, key=lambda run: run.first)
