"""What is known of a run: its identity, and what the ledger tells of it. Writes nothing.

Spec: spec/events.md section 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tracker import liveness
from tracker._codec.canonical import parse
from tracker._model.event import Input
from tracker._model.fold import Attempt, Run
from tracker._store.index import Row
from tracker.ledger import Ledger, OpenRun
from tracker.session.place import Place
from tracker.terms import AttemptId, RunRef, Status, StorageMode, Uid

if TYPE_CHECKING:
    from tracker.metrics import RunMetrics, Series

_REPEAT = "@repeat"


class KnownRun:
    """One run, `(identifier, uid)` in a namespace, to read."""

    __slots__ = ("__weakref__", "_ledger", "_open", "_place")

    def __init__(self, ledger: Ledger, place: Place) -> None:
        self._ledger = ledger
        self._place = place
        self._open: OpenRun | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref} in {str(self._place.root)!r}>"

    # What it is

    @property
    def ref(self) -> RunRef:
        """`relpath/identifier/uid`: the run's name in its store."""
        return self._place.ref

    @property
    def identifier(self) -> str:
        """The kind of run."""
        return self._place.identifier

    @property
    def uid(self) -> Uid:
        """BLAKE3 of `params.json`, 32 hex digits. Spec: spec/canonical.md."""
        return self._place.uid

    @property
    def key(self) -> Uid | None:
        """The uid of the bare params: the same for a run and its repeats. None without params."""
        return self._place.key

    @property
    def relpath(self) -> Path:
        """The namespace, relative to the root."""
        return Path(self._place.relpath)

    @property
    def storage_mode(self) -> StorageMode:
        """Where the run's files lie."""
        return self._place.mode

    @property
    def params(self) -> dict[str, Any]:
        """The params as they read back: 1.0 is a float. A new dict at each call.

        LIMIT: NaN and the infinities read back as their words, tuples as lists.
        """
        tree = parse(self._place.text)
        tree.pop(_REPEAT, None)
        return tree

    @property
    def ignored(self) -> dict[str, Any]:
        """The params given here that the store's rules ignore: no part of `params`. A new dict at each call.

        Empty for a handle that was not asked for by its params. Spec: spec/rules.md section 4.
        """
        ignored = self._place.ignored
        return {} if ignored is None else parse(ignored.encode())

    # What is known of it

    @property
    def status(self) -> Status:
        """The run's status at this moment, of all its attempts in any process. Cost: 5 to 10 µs."""
        row = self._row()
        status = Status.PENDING if row is None else Status(row.status)
        run = self.run if status is Status.RUNNING else None
        return status if run is None else liveness.as_seen(self._ledger, run).status

    def is_done(self) -> bool:
        """True if the run is finished. A True may be 0.1 s old, a False 0.1 ms."""
        row = self._row()
        return row is not None and row.status == Status.DONE

    def _row(self) -> Row | None:
        place = self._place
        return self._ledger.row(place.uid, place.identifier, place.relpath)

    @property
    def run(self) -> Run | None:
        """All that is recorded of the run, with its attempts; None if nothing is."""
        return self._ledger.run(self.ref)

    @property
    def files(self) -> dict[str, Path]:
        """The run's recorded files: name to path."""
        attempt = self._attempt()
        return {} if attempt is None else {file.name: self._place.root / file.path for file in attempt.files}

    @property
    def inputs(self) -> dict[str, Input]:
        """The files that the run read, by name: as they were then."""
        attempt = self._attempt()
        return {} if attempt is None else {one.name: one for one in attempt.inputs}

    @property
    def provenance(self) -> dict[str, Any]:
        """What the run ran in: commit, command, digests of environment and code. Spec: spec/provenance.md."""
        attempt = self._attempt()
        return {} if attempt is None else dict(attempt.facts)

    @property
    def summary(self) -> dict[str, Any]:
        """Of each metric its last, least and greatest value, with their steps. Spec: spec/metrics.md."""
        attempt = self._attempt()
        return {} if attempt is None else dict(attempt.summary)

    def metrics(self, name: str, *, rank: int | None = None, attempt: AttemptId | None = None) -> Series:
        """What was logged under `name`: steps, values and times as arrays, in the order of logging.

        Of the lowest rank that logged it, through all attempts, unless one is named.

        Raises: NotFoundError, which names what is like it; StorageError.
        Cost: one read of the run's metrics, and 40 ns a value. Spec: spec/metrics.md section 5.
        """
        from tracker.metrics import series_of

        return series_of(self._logged().curve(name, rank=rank, attempt=attempt))

    def history(self, *names: str, form: Literal["wide", "long"] = "wide") -> dict[str, Any]:
        """All that was logged as one table, by name of column: what data frames are made of.

        Of the metrics that are named, else of all. Raises: NotFoundError; StorageError.
        """
        from tracker.metrics import history_of

        if form not in ("wide", "long"):
            raise ValueError(f"form={form!r}: give 'wide' or 'long'")
        logged = self._logged()
        return history_of({name: logged.curve(name) for name in names or logged.names}, form)

    @property
    def metric_names(self) -> list[str]:
        """The metrics that were logged, in the order of first appearance."""
        return self._logged().names

    def _logged(self) -> RunMetrics:
        return self._ledger.read_metrics(self.ref)

    def _attempt(self) -> Attempt | None:
        """The attempt of this process, else the one that counts."""
        run = self.run
        if run is None:
            return None
        mine = None if self._open is None else self._open.attempt
        return next((a for a in run.attempts if a.id == mine), None) or run.attempt

    @property
    def tags(self) -> list[str]:
        """The run's tags, sorted."""
        run = self.run
        return [] if run is None else list(run.tags)

    @property
    def notes(self) -> list[str]:
        """What people remarked of the run, oldest first."""
        run = self.run
        return [] if run is None else list(run.notes)
