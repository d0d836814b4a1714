"""A function over configs: by every engine, with what fails, dies or cannot be sent.

Spec: spec/claims.md section 7.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import map_work
import pytest
import reference

import tracker
from tracker import Durability, ParamsError, Project, Session, Status, StorageError, interrupts
from tracker.engines.submitit import SubmititExecutor
from tracker.grids import grid
from tracker.mapping import Carried, Outcome, run_all

CONFIGS = grid(n=range(6))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "store", durability=Durability.OFF)


def map_over(project: Project, fn: Any, configs: Any = CONFIGS, **options: Any) -> list[Outcome]:
    return run_all(partial(project.session, "train"), fn, configs, **options)


def runs(project: Project) -> dict[int, dict[str, Any]]:
    """Number to run, as the reference reads the store."""
    found = reference.read_store(project.root)["runs"]
    return {json.loads(run["params"])["n"]: run for run in found}


def square(session: Session) -> int:
    return int(session.params["n"] ** 2)


# By every engine

NEEDS = {"loky": "loky", "dask": "distributed", "ray": "ray", "submitit": "submitit", "mpi": "mpi4py"}


@pytest.mark.parametrize("engine", map_work.ENGINES)
def test_a_program_maps_by_any_engine(engine, tmp_path):
    """Once over all, again with nothing to do, and once more over what failed."""
    needed = NEEDS.get(engine.partition("-")[0])
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    root, log = tmp_path / "store", tmp_path / "log"
    command = [*program(engine), map_work.__file__, engine, str(root), str(log)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    first, second, third = json.loads(ended.stdout)

    count, fails = len(map_work.CONFIGS), map_work.FAILS
    good = [n for n in range(count) if n != fails]
    assert [row[0] for row in first] == list(range(count))
    assert [row for row in first if row[0] != fails] == [[n, "done", False, n * n, "", None] for n in good]
    assert second == [
        [n, "error", True, None, "", None] if n == fails else [n, "done", True, None, "", None]
        for n in range(count)
    ]
    for status, skipped, value, error, exception in (first[fails][1:], third[fails][1:]):
        assert (status, skipped, value) == ("error", False, None)
        assert error.endswith(f"DivergedError: diverged at step {fails}")
        assert exception == ["DivergedError", f"diverged at step {fails}", {"step": fails, "loss": 1.5}]
    executed = sorted(int(line.split()[0]) for line in log.read_text().splitlines())
    assert executed == sorted([*range(count), fails])
    assert_store(root, count, fails)


def program(engine: str) -> list[str]:
    """How a script is run: MPI has a launcher of its own."""
    if engine != "mpi":
        return [sys.executable]
    beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    launcher = shutil.which("mpiexec", path=beside)
    if launcher is None:
        pytest.skip("mpiexec is not installed")
    return [launcher, "-n", "3", sys.executable, "-m", "mpi4py.futures"]


def assert_store(root: Path, count: int, fails: int) -> None:
    state = reference.read_store(root)["runs"]
    by_number = {json.loads(run["params"])["n"]: run for run in state}
    assert len(state) == count
    assert {n: run["status"] for n, run in by_number.items()} == {
        n: "error" if n == fails else "done" for n in range(count)
    }
    assert {n: len(run["attempts"]) for n, run in by_number.items()} == {
        n: 2 if n == fails else 1 for n in range(count)
    }
    assert all((root / run["uid"] / "train_out.txt").read_text() == str(n) for n, run in by_number.items())


# What comes back


def test_outcomes_stand_in_the_order_of_the_configs_and_twins_have_one(project):
    outcomes = map_over(project, square, [{"n": 2}, {"n": 0}, {"n": 2}])

    assert [outcome.value for outcome in outcomes] == [4, 0, 4]
    assert outcomes[0] is outcomes[2]
    assert outcomes[1] == Outcome({"n": 0}, tracker.uid({"n": 0}), Status.DONE, skipped=False, value=0)
    assert len(runs(project)) == 2


def test_what_is_done_is_not_called_again(project):
    map_over(project, square, CONFIGS[:3])
    called = []
    outcomes = map_over(project, lambda session: called.append(session.params["n"]))

    assert called == [3, 4, 5]
    assert [(outcome.skipped, outcome.value) for outcome in outcomes[:3]] == [(True, None)] * 3


def test_what_is_done_is_not_submitted(project):
    map_over(project, square)

    class Refusing:
        def submit(self, *_: Any) -> Future[Any]:
            raise AssertionError("nothing is to be submitted")

    assert all(outcome.skipped for outcome in map_over(project, square, executor=Refusing()))


def test_an_exception_is_its_runs_and_does_not_stop_the_others(project):
    def fail_at_1(session: Session) -> int:
        if session.params["n"] == 1:
            raise ArithmeticError("diverged")
        return 7

    outcomes = map_over(project, fail_at_1)

    assert [outcome.status for outcome in outcomes] == ["done", "error", *["done"] * 4]
    assert (outcomes[1].error, type(outcomes[1].exception)) == ("ArithmeticError: diverged", ArithmeticError)
    error = runs(project)[1]["attempts"][0]["error"]
    assert (error["type"], error["message"]) == ("ArithmeticError", "diverged")


@pytest.mark.parametrize(("retry", "called"), [("none", []), ("lost", []), ("failed", [1])])
def test_retry_says_whether_failed_runs_are_called_again(project, retry, called):
    project.session("train", {"n": 1}).start().error()
    seen: list[int] = []
    map_over(project, lambda session: seen.append(session.params["n"]), [{"n": 1}], retry=retry)

    assert seen == called


def test_a_run_that_somebody_executes_is_skipped_and_says_so(project):
    running = project.session("train", {"n": 1}).start()
    outcomes = map_over(project, square)
    running.done()

    assert (outcomes[1].skipped, outcomes[1].status, outcomes[1].error) == (True, Status.RUNNING, "")
    assert [outcome.value for outcome in outcomes] == [0, None, 4, 9, 16, 25]


def test_a_run_may_end_itself(project):
    def give_up(session: Session) -> str:
        session.error()
        return "gave up"

    [outcome] = map_over(project, give_up, [{"n": 1}])

    assert (outcome.status, outcome.value, outcome.error) == (Status.ERROR, "gave up", "")


def test_two_maps_at_one_moment_share_the_configs(project):
    called: list[int] = []

    def slow(session: Session) -> None:
        called.append(session.params["n"])
        time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        maps = [
            threading.Thread(target=map_over, args=(project, slow), kwargs={"executor": pool})
            for _ in range(2)
        ]
        for one in maps:
            one.start()
        for one in maps:
            one.join()

    assert sorted(called) == [0, 1, 2, 3, 4, 5]


# What is refused


def test_a_bad_config_is_refused_before_anything_is_made(project):
    with pytest.raises(ParamsError, match=r"^configs\[1\]\['n'\]"):
        map_over(project, square, [{"n": 1}, {"n": object()}])
    with pytest.raises(ValueError, match=r"^retry 'x'"):
        map_over(project, square, retry="x")

    assert not project.root.exists()


# What fails on the way


def square_or_die(session: Session) -> int:
    if session.params["n"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return square(session)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_killed_worker_breaks_its_pool_and_the_next_map_takes_over(project, method):
    context = multiprocessing.get_context(method)
    configs = grid(n=range(20))
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        outcomes = map_over(project, square_or_die, configs, executor=pool)
    broken = [outcome for outcome in outcomes if outcome.error]

    assert project.session("train", {"n": 2}).status is Status.LOST
    assert outcomes[2] in broken
    assert len(broken) > 1
    for outcome in broken:
        assert outcome.error.startswith("no answer from the executor: ")
        assert "BrokenProcessPool: " in outcome.error
        # the pool ends its other workers by SIGTERM, in a moment
        assert outcome.status is not Status.ERROR
        assert (outcome.skipped, outcome.value) == (False, None)
    again = map_over(project, square, configs)
    assert {run["status"] for run in runs(project).values()} == {"done"}
    assert {outcome.status for outcome in again} == {Status.DONE}
    assert {n: outcome.value for n, outcome in enumerate(again) if not outcome.skipped}[2] == 4


def test_a_pool_that_takes_nothing_more_is_told_of_in_each_outcome(project):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    outcomes = map_over(project, square, executor=pool)

    assert {(outcome.status, outcome.skipped) for outcome in outcomes} == {(Status.PENDING, False)}
    assert all("cannot schedule new futures after shutdown" in outcome.error for outcome in outcomes)
    assert runs(project) == {}


def with_lock(session: Session) -> Any:
    return threading.Lock()


def exit_there(session: Session) -> None:
    raise SystemExit(f"no more, {session.params['n']}")


@pytest.mark.parametrize(
    ("fn", "status", "text"),
    [(with_lock, "done", "TypeError: cannot pickle"), (exit_there, "error", "SystemExit: no more, 0")],
)
def test_what_cannot_come_back_costs_its_own_answer_alone(project, fn, status, text):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcomes = map_over(project, fn, CONFIGS[:2], executor=pool)

    assert [outcome.status for outcome in outcomes] == [status] * 2
    assert text in outcomes[0].error
    assert [runs(project)[n]["status"] for n in (0, 1)] == [status] * 2


class HeldError(Exception):
    def __init__(self, session: Session) -> None:
        super().__init__(threading.Lock())


def raise_held(session: Session) -> None:
    raise HeldError(session)


def test_an_exception_that_cannot_be_sent_comes_back_as_text(project):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcomes = map_over(project, raise_held, CONFIGS[:2], executor=pool)

    assert [outcome.exception for outcome in outcomes] == [None, None]
    assert all("HeldError: <unlocked _thread.lock" in outcome.error for outcome in outcomes)
    assert [outcome.status for outcome in outcomes] == ["error", "error"]


def raised(call: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("too great"),
        KeyError("lr"),
        SystemExit(3),
        raised(lambda: os.stat("/nowhere/at/all")),
        raised(lambda: b"\xff".decode()),
        raised(lambda: json.loads("{")),
        raised(lambda: tracker.uid({"lr": object()})),
        map_work.DivergedError(3, 0.5),
        StorageError(28, "a/b", "write", "No space left on device", "make room"),
        tracker.DamagedError("a/b", "is short", offset=7, spec="spec/log.md"),
        tracker.StateError("train/00", Status.RUNNING, "start()"),
        tracker.ClaimedError("train/00", "me@here, pid 1", 17, "wait"),
        ArithmeticError("nested", ("a", [1, {"b": None}])),
    ],
    ids=lambda exception: type(exception).__name__,
)
def test_an_exception_travels_with_its_text_and_fields(exception):
    there = pickle.loads(pickle.dumps(Carried(exception))).exception

    assert type(there) is type(exception)
    assert str(there) == str(exception)
    assert (there.args, vars(there)) == (exception.args, vars(exception))
    assert getattr(there, "errno", None) == getattr(exception, "errno", None)
    assert there.__traceback__ is None


def local_exception() -> BaseException:
    class LocalError(Exception):
        pass

    return LocalError("x")


@pytest.mark.parametrize(
    "exception",
    [None, local_exception(), ValueError(object()), ExceptionGroup("two", [ValueError(), KeyError()])],
    ids=lambda exception: type(exception).__name__,
)
def test_an_exception_that_is_not_plain_is_none_on_the_other_side(exception):
    assert pickle.loads(pickle.dumps(Carried(exception))).exception is None


# Stopping


def test_ctrl_c_goes_up_and_what_waits_is_cancelled(project):
    futures: list[Future[Any]] = []

    class Pool:
        """Answers the first, and is interrupted by the second."""

        def submit(self, fn: Any, *args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            futures.append(future)
            if len(futures) == 1:
                future.set_result(fn(*args))
            elif len(futures) == 2:
                future.set_exception(KeyboardInterrupt())
            return future

    with pytest.raises(KeyboardInterrupt):
        map_over(project, square, executor=Pool())

    assert [future.cancelled() for future in futures] == [False, False, True, True, True, True]
    assert {n: run["status"] for n, run in runs(project).items()} == {0: "done"}


def test_ctrl_c_here_interrupts_its_run(project):
    def interrupt(session: Session) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_over(project, interrupt)

    assert {n: run["status"] for n, run in runs(project).items()} == {0: "interrupted"}


def test_after_a_signal_no_run_is_begun(project):
    def stop_at_1(session: Session) -> None:
        if session.params["n"] == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    try:
        outcomes = map_over(project, stop_at_1)
        assert interrupts.signal_name() == "SIGUSR1"
    finally:
        interrupts.forget()

    assert [outcome.status for outcome in outcomes] == ["done", *[outcomes[1].status], *["pending"] * 4]
    assert outcomes[2].skipped
    assert outcomes[2].error == "not run: this process was told to stop by SIGUSR1"


# Progress


def test_progress_is_told_of_what_is_left(project):
    map_over(project, square, CONFIGS[:2])
    told: list[tuple[int, int]] = []
    map_over(project, square, progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("err", "shows"), [(Terminal(), True), (io.StringIO(), False), (None, False)])
def test_a_terminal_gets_a_line_that_is_taken_away_again(project, monkeypatch, err, shows):
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(tracker.progress, "QUIET_S", 0.0)
    monkeypatch.setattr(tracker.progress, "_EVERY_S", 0.0)
    map_over(project, square)
    shown = "" if err is None else err.getvalue()

    assert ("square: 50 %" in shown) == shows
    assert shown.rpartition("\r")[2] == ""


# submitit, without a cluster


class Job:
    """A job as submitit has it, whose state a test turns."""

    def __init__(self, call: Any, looks: int) -> None:
        self.call = call
        self.looks = looks
        self.was_cancelled = False

    def done(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def result(self) -> Any:
        return self.call()

    def cancel(self) -> None:
        self.was_cancelled = True


class Jobs:
    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.jobs: list[Job] = []

    def submit(self, fn: Any, *args: Any) -> Job:
        self.jobs.append(Job(partial(fn, *args), self.looks))
        return self.jobs[-1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tracker.engines.submitit.POLL_S", (0.001, 0.01))
    yield
    deadline = time.monotonic() + 5
    while any(thread.name == "tracker-submitit" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the thread ends when no job is left"
        time.sleep(0.005)


@pytest.mark.usefixtures("quick")
def test_jobs_answer_fail_and_are_cancelled_as_futures():
    jobs = Jobs(looks=3)
    executor = SubmititExecutor(jobs)
    good, bad = executor.submit(int, "7"), executor.submit(int, "x")
    assert good.result(5) == 7
    assert isinstance(bad.exception(5), ValueError)
    jobs.looks = 10**9
    never = executor.submit(int, "7")
    assert never.cancel()
    again = executor.submit(int, "8")
    jobs.jobs[-1].looks = 0

    assert again.result(5) == 8
    assert jobs.jobs[2].was_cancelled
