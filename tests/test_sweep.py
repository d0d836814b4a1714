"""A sweep: which configs are run, in which order, by how many, and what is given back.

Spec: spec/claims.md section 7.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reference

from tools.storm.bounded import run_storm
from tracker import Durability, ParamsError, Project, Session, Status, interrupts, sweep
from tracker.grids import grid
from tracker.sweep import Retry, Ring, Sweep, worker_place

CONFIGS = grid(n=list(range(20)))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "store", durability=Durability.OFF)


def sweep_of(project: Project, configs: Any = CONFIGS, **options: Any) -> Sweep:
    return Sweep(partial(project.session, "train"), configs, **options)


def run_all(sweep: Sweep) -> list[int]:
    """Go through a sweep and do each run; the numbers in the order they came."""
    order = []
    for session in sweep:
        with session:
            order.append(session.params["n"])
    return order


def statuses(project: Project) -> dict[int, str]:
    """Number to status, as the reference reads the store."""
    runs = reference.read_store(project.root)["runs"]
    return {params_of(run)["n"]: run["status"] for run in runs}


def params_of(run: dict[str, Any]) -> dict[str, Any]:

    return json.loads(run["params"])


@contextmanager
def other_process(project: Project, code: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs code with `project` at hand, and is ready; its input ends with this."""
    head = f"from tracker import *; import os, sys, time; project = Project({str(project.root)!r}); "
    command = [sys.executable, "-c", head + code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


EXECUTE_5 = """
run = project.session('train', {'n': 5}).start()
print('ready', flush=True)
sys.stdin.read()
run.done()
"""


# What is run


def test_each_config_is_run_once_and_a_second_sweep_has_nothing_to_do(project):
    assert sorted(run_all(sweep_of(project))) == list(range(20))
    assert statuses(project) == dict.fromkeys(range(20), "done")
    assert run_all(sweep_of(project)) == []
    assert all(len(run["attempts"]) == 1 for run in reference.read_store(project.root)["runs"])


def test_the_order_is_the_given_one_going_round_from_a_random_place(project):
    orders = [run_all(sweep_of(project.sub(f"round-{number}"))) for number in range(12)]

    for order in orders:
        assert order == [(order[0] + step) % 20 for step in range(20)]
    assert len({order[0] for order in orders}) > 2  # by chance once in 10**13


def test_the_programs_own_random_numbers_neither_decide_nor_change(project):
    begins = set()
    for number in range(12):
        random.seed(7)
        begins.add(run_all(sweep_of(project.sub(f"round-{number}")))[0])
        assert random.random() == random.Random(7).random()

    assert len(begins) > 2


def test_a_task_of_a_slurm_array_begins_at_its_share(project, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "4")

    assert run_all(sweep_of(project)) == [*range(15, 20), *range(15)]


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, 0),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, 75),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, 75),
        (
            {
                "SLURM_ARRAY_TASK_ID": "16",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            75,
        ),
        ({"SLURM_ARRAY_TASK_ID": "900", "SLURM_ARRAY_TASK_COUNT": "4"}, 0),
        ({"SLURM_ARRAY_TASK_ID": "3"}, None),
        ({"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "4"}, None),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}, None),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 50),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1", "PMI_RANK": "1", "PMI_SIZE": "2"}, 50),
        ({"OMPI_COMM_WORLD_RANK": "9", "OMPI_COMM_WORLD_SIZE": "10"}, 90),
    ],
)
def test_where_a_worker_begins_is_told_by_its_batch_system(environ, place):
    assert worker_place(100, environ) == place


def test_workers_of_an_array_share_the_places_evenly():
    begins = [
        worker_place(10, {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "5"})
        for task in range(5)
    ]

    assert begins == [0, 2, 4, 6, 8]
    assert worker_place(0, {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "5"}) == 0


@pytest.mark.filterwarnings("ignore:.*as params they are two:tracker.ParamsWarning")
def test_a_config_that_stands_twice_is_run_once(project):
    sweep = sweep_of(project, [{"n": 1}, {"n": 2}, {"n": 1}, {"n": 1.0}])

    assert len(sweep) == 3
    assert sorted(map(str, run_all(sweep))) == ["1", "1.0", "2"]


def test_any_iterable_of_configs_will_do_and_none_is_no_error(project):
    assert sorted(run_all(sweep_of(project, ({"n": n} for n in range(3))))) == [0, 1, 2]
    assert run_all(sweep_of(project, [])) == []


def test_a_repeat_that_is_done_counts(project):
    project.session("train", {"n": 3}, "new").done()

    assert sorted(run_all(sweep_of(project))) == sorted(set(range(20)) - {3})


def begin_in_every_way(project: Project) -> None:
    """0 done, 1 error, 2 interrupted, 3 lost (its process died), 4 never begun."""
    project.session("train", {"n": 0}).done()
    project.session("train", {"n": 1}).start().error()
    project.session("train", {"n": 2}).start().interrupt("SIGUSR1")
    code = "project.session('train', {'n': 3}).start(); print('ready', flush=True); os._exit(1)"
    with other_process(project, code):
        pass


@pytest.mark.parametrize(
    ("retry", "want"), [("none", [4]), ("lost", [2, 3, 4]), ("failed", [1, 2, 3, 4]), (Retry.LOST, [2, 3, 4])]
)
def test_retry_says_which_runs_are_begun_anew(project, retry, want):
    begin_in_every_way(project)
    sweep = sweep_of(project, grid(n=range(5)), retry=retry)

    assert sweep.retry == retry
    assert [config["n"] for config in sweep.left()] == want
    assert sorted(run_all(sweep)) == want
    assert [n for n, status in sorted(statuses(project).items()) if status == "done"] == [0, *want]


def test_what_fails_again_is_not_tried_again_by_the_same_sweep(project):
    sweep = sweep_of(project, grid(n=range(3)), retry="failed")
    tried = []
    for session in itertools.chain(sweep, sweep):
        tried.append(session.params["n"])
        session.start().error()

    assert sorted(tried) == [0, 1, 2]
    assert len(sweep.left()) == 3
    assert len(run_all(sweep_of(project, grid(n=range(3)), retry="failed"))) == 3


def test_left_names_places_and_statuses_and_claims_nothing(project):
    begin_in_every_way(project)
    before = sorted(project.root.rglob("claims/*/*"))
    left = list(sweep_of(project, [{"n": 0}, {"n": 4}, {"n": 4}, {"n": 2}]).iter_left())

    assert [(one.place, one.session.params["n"], one.status) for one in left] == [
        (1, 4, Status.PENDING),
        (3, 2, Status.INTERRUPTED),
    ]
    assert sorted(project.root.rglob("claims/*/*")) == before


# What is refused


def test_a_bad_config_is_refused_at_its_place_before_anything_is_made(project):
    configs = [{"n": n} for n in range(17)] + [{"opt": {"lr": object()}}]
    with pytest.raises(ParamsError) as caught:
        sweep_of(project, configs)

    assert caught.value.path == "configs[17]['opt']['lr']"
    assert not project.root.exists()


@pytest.mark.parametrize(
    ("configs", "text"),
    [
        ({"lr": [1]}, "configs: give a list of configs, not dict"),
        ("abc", "configs: give a list of configs, not str"),
        (7, "configs: give a list of configs, not int"),
        ([{"a": 1}, None], r"configs\[1\]"),
        ([{"a": 1}, {"@repeat": "x"}], r"configs\[1\]: the key '@repeat' is reserved"),
    ],
)
def test_what_is_no_list_of_configs_is_refused(project, configs, text):
    with pytest.raises(ParamsError, match=f"^{text}"):
        sweep_of(project, configs)


def test_a_word_for_retry_that_is_none_is_refused(project):
    with pytest.raises(ValueError, match=r"^retry 'all': give 'none', 'lost', 'failed'$"):
        sweep_of(project, retry="all")


# Claims


def claims(project: Project) -> list[str]:
    return [path.name for path in project.root.glob(".tracker/claims/??/*")]


def test_a_session_that_was_not_used_is_given_back_and_not_tried_again(project):
    sweep = sweep_of(project)
    seen = 0
    for session in sweep:
        assert len(claims(project)) == 1
        if session.params["n"] == 7:
            continue
        seen += 1
        session.done()

    assert seen == 19
    assert claims(project) == []
    assert [config["n"] for config in sweep.left()] == [7]
    assert list(sweep) == []
    assert 7 not in statuses(project)


def test_break_and_an_exception_give_the_claim_back(project):
    for _ in sweep_of(project):
        break
    assert claims(project) == []
    with pytest.raises(ValueError, match="stop here"):
        for _ in sweep_of(project):
            raise ValueError("stop here")
    assert claims(project) == []


def test_an_exception_within_with_records_the_error_and_ends_the_loop(project):
    with pytest.raises(ArithmeticError):
        for session in sweep_of(project):
            with session:
                raise ArithmeticError("diverged")

    assert list(statuses(project).values()) == ["error"]
    assert claims(project) == []


def test_a_run_that_goes_on_after_the_loop_keeps_its_claim(project):
    session = next(iter(sweep_of(project, [{"n": 1}])))
    session.start()

    assert len(claims(project)) == 1
    assert sweep_of(project, [{"n": 1}]).left() == []
    session.done()


def test_a_handle_gives_back_no_claim_but_its_own(project):
    mine, other = project.session("train", {"n": 1}), project.session("train", {"n": 1})
    assert mine.claim()
    mine.error()
    assert other.claim()
    mine.release()

    assert len(claims(project)) == 1


class Stub:
    """A run as a sweep sees it, whose state a test turns as it likes."""

    def __init__(self, number: int, busy_for: int = 0, then: Status = Status.DONE) -> None:
        self.number = number
        self.busy_for = busy_for
        self.then = then
        self.looks = 0
        self.released = 0

    @property
    def status(self) -> Status:
        self.looks += 1
        return Status.RUNNING if self.looks <= self.busy_for else self.then

    def is_done(self) -> bool:
        return self.looks >= self.busy_for and self.then is Status.DONE

    def claim(self) -> bool:
        return True

    def release(self) -> None:
        self.released += 1


def stubbed(stubs: list[Stub], **options: Any) -> Sweep:
    return Sweep(lambda config: stubs[config["n"]], [{"n": stub.number} for stub in stubs], **options)


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No time passes; gives the waits that were asked for."""
    waits: list[float] = []

    def wait(self: Sweep, wait_s: float) -> bool:
        waits.append(wait_s)
        return len(waits) < 100

    monkeypatch.setattr(Sweep, "_sleep", wait)
    return waits


def test_what_others_execute_is_looked_at_once_more_at_the_end(quick_polls):
    stubs = [Stub(0, busy_for=1, then=Status.LOST), Stub(1, busy_for=9), Stub(2, then=Status.PENDING)]
    order = [stub.number for stub in stubbed(stubs)]

    assert order == [2, 0]
    assert stubs[1].looks == 2
    assert quick_polls == []


def test_wait_goes_on_until_others_have_ended_and_takes_over_what_is_lost(quick_polls):
    stubs = [
        Stub(0, busy_for=4, then=Status.LOST),
        Stub(1, busy_for=9),
        Stub(2, busy_for=6, then=Status.ERROR),
    ]
    order = [stub.number for stub in stubbed(stubs, wait=True)]

    assert order == [0]
    assert [stub.released for stub in stubs] == [1, 0, 0]
    assert stubs[1].looks == 9


def test_the_waits_grow_and_begin_anew_when_something_has_moved(quick_polls):
    stubs = [Stub(0, busy_for=20), Stub(1, busy_for=13)]
    assert list(stubbed(stubs, wait=True)) == []

    first, longest = sweep.POLL_S
    assert quick_polls[0] == first
    assert max(quick_polls) == longest
    assert quick_polls.count(first) == 2
    assert all(one <= two or two == first for one, two in itertools.pairwise(quick_polls))


def test_a_run_that_ended_between_look_and_claim_is_not_run_again():
    class Late(Stub):
        def claim(self) -> bool:
            self.then = Status.ERROR
            return True

    late = Late(0, then=Status.PENDING)

    assert list(stubbed([late])) == []
    assert late.released == 1


def test_a_worker_that_meets_another_goes_on_elsewhere(project):
    """Of 400 configs the first half is executed by others: one collision leads away from them."""
    stubs = [Stub(n, busy_for=99 if n < 200 else 0, then=Status.PENDING) for n in range(400)]
    met = []
    for _ in range(30):
        for stub in stubs:
            stub.looks = 0
        one = stubbed(stubs)
        next(iter(one))
        met.append(sum(stub.looks > 0 for stub in stubs[:200]))

    assert sum(met) / len(met) < 5  # it is 1 on average; going on in order it is 50


def test_a_run_of_another_process_is_put_off_until_it_is_done(project):
    order = []
    with other_process(project, EXECUTE_5) as other:
        sweep = sweep_of(project, wait=True)
        assert {"n": 5} not in sweep.left()
        for session in sweep:
            with session:
                order.append(session.params["n"])
            if len(order) == 19:
                threading.Timer(0.5, other.stdin.close).start()

    assert sorted(order) == sorted(set(range(20)) - {5})
    assert statuses(project) == dict.fromkeys(range(20), "done")


def test_a_run_whose_process_is_killed_is_taken_over(project):
    with other_process(project, EXECUTE_5) as other:
        threading.Timer(1.5, other.kill).start()
        order = run_all(sweep_of(project, wait=True))

    assert sorted(order) == list(range(20))
    assert order[-1] == 5


def test_without_wait_what_others_execute_is_left_to_them(project):
    with other_process(project, EXECUTE_5):
        assert sorted(run_all(sweep_of(project))) == sorted(set(range(20)) - {5})


def test_threads_of_one_process_share_a_list(project):
    executed: list[int] = []
    threads = [threading.Thread(target=lambda: executed.extend(run_all(sweep_of(project)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(executed) == list(range(20))
    assert statuses(project) == dict.fromkeys(range(20), "done")


@pytest.mark.storm
def test_four_workers_run_nothing_twice_and_end_though_they_are_killed():
    run_storm("sweeps", count=60)


# Signals


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=str)
def test_a_signal_ends_the_loop_at_the_next_config(project, number):
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        done = 0
        for session in sweep_of(project):
            with session:
                done += 1
            if done == 3:
                os.kill(os.getpid(), number)
        assert interrupts.signal_name() == number.name
    finally:
        interrupts.forget()
        signal.signal(signal.SIGTERM, previous)

    assert done == 3
    assert claims(project) == []


def test_a_signal_ends_the_wait(project):
    with other_process(project, EXECUTE_5):
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        began = time.monotonic()
        assert run_all(sweep_of(project, [{"n": 5}], wait=True)) == []
        assert 0.4 < time.monotonic() - began < 5


# The circle


def test_a_ring_is_a_list_from_which_one_removes():
    """Against a plain list, with the places that are there in order."""
    for seed in range(200):
        luck = random.Random(seed)
        count = luck.randrange(1, 12)
        ring, model = Ring(count), list(range(count))
        while model:
            assert len(ring) == len(model)
            place = luck.randrange(count + 1)
            want = next((one for one in model if one >= place), model[0])
            assert ring.at_or_after(place) == want
            assert ring.anywhere(luck) in model
            gone = luck.choice(model)
            ring.remove(gone)
            model.remove(gone)
        assert not ring


def test_any_place_of_a_ring_is_as_likely():
    ring = Ring(10)
    for place in range(1, 9):
        ring.remove(place)
    luck = random.Random(1)
    drawn = [ring.anywhere(luck) for _ in range(1000)]

    assert 400 < drawn.count(9) < 600


def test_a_hundred_thousand_configs_that_are_done_are_passed_in_seconds():
    """The package's own share, with runs that cost nothing: nothing grows with the square of the number."""

    class Done(Stub):
        def is_done(self) -> bool:
            return True

    one = Done(0)
    took = []
    for count in (10_000, 100_000):
        began = time.process_time()
        assert list(Sweep(lambda _: one, ({"n": n} for n in range(count)))) == []
        took.append(time.process_time() - began)

    assert took[1] < 3
    assert took[1] < 25 * took[0]


def test_to_pass_what_is_done_costs_what_asking_for_it_costs(project):
    configs = grid(n=range(1000), lr=[0.1], name=["adam"])
    for session in sweep_of(project, configs):
        session.done()
    project.ledger.close()
    run_all(sweep_of(project, configs))  # the index is made

    def cost_of(call: Callable[[], object]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    asked = [cost_of(lambda: [project.session("train", c).is_done() for c in configs]) for _ in range(5)]
    swept = [cost_of(lambda: list(sweep_of(project, configs))) for _ in range(5)]

    assert min(swept) < 3 * min(asked)  # it is 1.5: the configs are checked first


def test_a_session_is_what_the_loop_gives(project):
    assert isinstance(next(iter(sweep_of(project))), Session)
    assert repr(sweep_of(project)) == "<Sweep of 20 configs, retry 'lost'>"
