"""Whatever is done with sessions of one store, in whatever order, by two writers and on a disk that refuses:
what is read, the manifests and the metrics are what the reference makes of the files.

Spec: spec/events.md sections 3 and 4; spec/manifest.md section 1; spec/metrics.md sections 4 to 6.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tracker import Project, Session, StorageError, TrackerError, filling
from tracker import ledger as ledgers
from tracker._disk import durable
from tracker._model.fold import run_as_json
from tracker._store import journal as journals
from tracker._store.index import Filter, index_path, remove_files
from tracker.check import Level, Severity, rebuild, verify
from tracker.metrics import recorder
from tracker.provenance import capture
from tracker.trash import moves

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))

from disk import COUNTED, Disk, Way

RUNS = st.integers(0, 1)
WRITERS = st.integers(0, 1)
BROKEN = Way("EIO", tuple({*COUNTED} - {"stat", "fstat"}), 5)
REFUSALS = (TrackerError, OSError)
ENDS = {"done": "done", "error": "error", "interrupt": "interrupted"}


def reference_runs(root: Path) -> dict[str, Any]:
    return {run["ref"]: run for run in reference.read_store(root)["runs"]}


class Sessions(RuleBasedStateMachine):
    """Two runs in one store. Of each the first ledger has two handles, and another writer has one."""

    disk: Disk

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.ledgers = [ledgers.open_ledger(self.root), ledgers.Ledger(self.root)]
        places = [Project(self.root).session("train", {"n": n})._place for n in (0, 1)]
        self.places = places
        self.handles = {
            (w, n, h): Session(self.ledgers[w], places[n]) for w in (0, 1) for n in (0, 1) for h in (0, 1)
        }
        self.count = 0
        self.logged: dict[str, list[float]] = {place.ref: [] for place in places}
        self.tags: dict[str, set[str]] = {place.ref: set() for place in places}
        self.was_refused = False

    def handle(self, writer: int, run: int, which: int) -> Session:
        return self.handles[writer, run, which]

    def number(self) -> int:
        self.count += 1
        return self.count

    @contextlib.contextmanager
    def refusable(self) -> Iterator[None]:
        """What a session refuses changes nothing that was acknowledged."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except REFUSALS as error:
                if isinstance(error, StorageError):
                    assert self.disk.struck is not None, "the disk refused nothing"
            finally:
                if self.disk.struck is not None:
                    self.was_refused = True
                self.disk.heal()

    # Verbs

    @rule(at=st.integers(0, 12))
    def a_call_will_fail(self, at: int) -> None:
        self.disk.arm(BROKEN, at)

    @rule(w=WRITERS, n=RUNS, h=WRITERS)
    def start(self, w: int, n: int, h: int) -> None:
        with self.refusable():
            self.handle(w, n, h).start()

    @rule(w=WRITERS, n=RUNS, seed=st.integers(0, 9))
    def start_with_seeds(self, w: int, n: int, seed: int) -> None:
        with self.refusable():
            self.handle(w, n, 0).start(seeds={"torch": seed})

    @rule(w=WRITERS, n=RUNS, h=WRITERS)
    def try_start(self, w: int, n: int, h: int) -> None:
        with self.refusable():
            self.handle(w, n, h).try_start()

    @rule(w=WRITERS, n=RUNS, name=st.sampled_from(["a", "b/c"]))
    def write(self, w: int, n: int, name: str) -> None:
        with self.refusable():
            self.handle(w, n, 0).path(name).write_text(str(self.number()))

    @rule(w=WRITERS, n=RUNS, name=st.sampled_from(["a", "log"]))
    def attach(self, w: int, n: int, name: str) -> None:
        with self.refusable():
            session = self.handle(w, n, 1)
            session.attach_files({name: session.path("a", include_identifier=name == "a")})

    @rule(w=WRITERS, n=RUNS, what=st.sampled_from([b"", b"x", {"a": 1}]))
    def save(self, w: int, n: int, what: Any) -> None:
        with self.refusable():
            self.handle(w, n, 0).save("saved", what)

    @rule(w=WRITERS, n=RUNS, of=RUNS)
    def use(self, w: int, n: int, of: int) -> None:
        source = self.root / self.places[of].file_path("a", include_identifier=True)
        with self.refusable():
            self.handle(w, n, 0).use(source)

    @rule(w=WRITERS, n=RUNS, h=WRITERS, rows=st.integers(1, 3), step=st.none() | st.integers(0, 5))
    def log(self, w: int, n: int, h: int, rows: int, step: int | None) -> None:
        for _ in range(rows):
            number = self.number()
            session = self.handle(w, n, h)
            with self.refusable():
                try:
                    session.log({"loss": number / 4, "n": number}, step=step)
                except StorageError:  # a row that was taken stays, though it could not be written yet
                    if session._recorder is None or session._recorder.is_finished:
                        raise
                    self.logged[self.places[n].ref].append(number)
                    raise
                self.logged[self.places[n].ref].append(number)

    @rule(w=WRITERS, n=RUNS, h=WRITERS)
    def flush(self, w: int, n: int, h: int) -> None:
        with self.refusable():
            self.handle(w, n, h).flush()

    @rule(w=WRITERS, n=RUNS, tag=st.sampled_from(["x", "y"]))
    def tag(self, w: int, n: int, tag: str) -> None:
        with self.refusable():
            self.handle(w, n, 0).tag(tag).note("…")
            self.tags[self.places[n].ref].add(tag)

    @rule(w=WRITERS, n=RUNS, h=WRITERS)
    def name(self, w: int, n: int, h: int) -> None:
        with self.refusable():
            self.handle(w, n, h).name = f"run {self.number()}"

    @rule(w=WRITERS, n=RUNS, h=WRITERS, end=st.sampled_from([*ENDS]), at=st.none() | st.integers(0, 30))
    def end(self, w: int, n: int, h: int, end: str, at: int | None = None) -> None:
        session = self.handle(w, n, h)
        self.disk.heal()
        for ledger in self.ledgers:  # what a rank has not written nobody else can tell
            if ledger._recorders is not None:
                ledger._recorders.flush()
        before = self.summary_of_files(session.ref)
        if at is not None:
            self.disk.arm(BROKEN, at)
        with self.refusable():
            logs = session._ledger._recorders is not None and (
                session.ref in session._ledger._recorders._open
                or session.ref in session._ledger._recorders._owed
            )
            getattr(session, end)()
            attempts = reference_runs(self.root)[session.ref]["attempts"]
            (one,) = (each for each in attempts if each["id"] == session._opened().attempt)
            assert one["status"] == ENDS[end]
            if logs:
                assert one["summary"] == before

    @rule(w=WRITERS, n=RUNS, end=st.sampled_from([*ENDS]), at=st.none() | st.integers(0, 30))
    def run_through(self, w: int, n: int, end: str, at: int | None) -> None:
        self.start(w, n, 0)
        self.log(w, n, 0, 2, None)
        self.write(w, n, "a")
        self.end(w, n, 0, end, at)

    @rule(w=WRITERS)
    def hear_a_signal(self, w: int) -> None:
        with self.refusable():
            self.ledgers[w].record_signal()

    @rule(w=WRITERS, loses_index=st.booleans())
    def close(self, w: int, loses_index: bool) -> None:
        self.disk.heal()
        self.ledgers[w].close()
        if loses_index:
            remove_files(index_path(str(self.root)))

    @rule(w=WRITERS)
    def seal(self, w: int) -> None:
        with self.refusable():
            self.ledgers[w].seal()

    @rule(w=WRITERS, n=RUNS, verb=st.sampled_from([moves.remove, moves.restore]))
    def move(self, w: int, n: int, verb: Callable[..., object]) -> None:
        self.disk.heal()
        ref = self.places[n].ref
        for other, ledger in enumerate(self.ledgers):
            if ledger.is_running(ref):
                self.end(other, n, 0, "interrupt")
        with self.refusable():
            verb(self.ledgers[w], ref)

    # What holds

    def summary_of_files(self, ref: str) -> dict[str, Any]:
        if not (self.root / ".tracker").is_dir():
            return {}
        found, _ = reference.metrics(self.root, ref)
        return {name: one["summary"] for name, one in found.items()}

    @invariant()
    def what_is_read_is_what_the_reference_reads(self) -> None:
        if self.disk._way is not None or not (self.root / ".tracker").is_dir():
            return
        want = list(reference.read_store(self.root)["runs"])
        for ledger in self.ledgers:
            assert [run_as_json(run) for run in ledger.find(Filter(removed=None))] == want

    @invariant()
    def every_tag_is_there(self) -> None:
        if self.disk._way is None:
            for ref, tags in self.tags.items():
                run = self.ledgers[0].run(ref)
                assert tags <= set([] if run is None else run.tags)

    def teardown(self) -> None:
        self.disk.heal()
        try:
            self.check_all()
        finally:
            for ledger in self.ledgers:
                ledger.close()
            ledgers._ledgers.pop(str(self.root.resolve()), None)
            shutil.rmtree(self.root)

    def check_all(self) -> None:
        for ledger in self.ledgers:
            if ledger._recorders is not None:
                ledger._recorders.flush()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ledger.close()
        if not (self.root / ".tracker" / "ledger").is_dir():
            return
        for place in self.places:
            series, findings = reference.read_series(self.root, place.ref)
            rows = sorted(row.value for one in series for row in one.rows.get("n", ()))
            assert (rows, findings) == (self.logged[place.ref], [])
        implied = reference.manifests(self.root)
        if self.was_refused:
            rebuild(self.ledgers[0])
        lie = {
            path.relative_to(self.root / ".tracker").as_posix(): path.read_bytes()
            for path in self.root.glob(".tracker/manifests/*/*.json")
        }
        assert lie == implied
        report = verify(self.ledgers[0], Level.REPLAY)
        allowed = {"file-altered", "file-missing", "temporary", "unrecorded"}
        wrong = [f for f in report.findings if f.severity is not Severity.NOTE and f.code not in allowed]
        assert wrong == []


@pytest.mark.unchecked_store("each store is checked as its sequence ends")
def test_sessions_in_any_order_are_what_the_reference_makes_of_them(monkeypatch):
    Sessions.disk = disk = Disk()
    monkeypatch.setattr(durable, "os", disk)
    monkeypatch.setattr(journals, "os", disk)
    monkeypatch.setattr(recorder, "FLUSH_ROWS", 3)
    monkeypatch.setattr(filling, "BULK_BYTES", 1)
    capture.begin().wait(20)  # whether facts are known by the start is not left to chance
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[*HealthCheck]
        ),
    )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(durable, "os", disk)
    monkeypatch.setattr(journals, "os", disk)
    return disk


def test_a_start_that_is_refused_takes_nothing_from_the_attempt_that_is_done(tmp_path, disk):
    full = Way("ENOSPC from here on", ("open", "write"), errno.ENOSPC, lasts=True)
    refused = 0
    for at in range(20):
        session = Project(tmp_path / f"{at}").session("train", {"n": 1}).start(seeds={"torch": 1})
        session.attach_files({"later": session.path("later")}).use(__file__)
        session.log(loss=1)
        session.done()
        known = session.provenance, session.files, session.inputs, session.summary
        disk.arm(full, at)
        try:
            session.start(seeds={"torch": 2})
        except StorageError:
            refused += 1
            disk.heal()
            session.done()
            assert (session.provenance, session.files, session.inputs, session.summary) == known
            assert verify(session._ledger, Level.REPLAY).exit_code == 0
        disk.heal()

    assert 5 < refused < 20
