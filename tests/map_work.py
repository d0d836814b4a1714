"""A program as users write it: a function, a grid, an engine by name. Prints what became of each config.

    python tests/map_work.py ENGINE ROOT LOG

It maps twice: the second time there is nothing to do but what failed. `LOG` gets a line for each execution.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tracker import Project, Session
from tracker.grids import grid
from tracker.mapping import Outcome, run_all

FAILS = 5
CONFIGS = grid(n=range(12))


class DivergedError(Exception):
    """An exception whose `args` are not what its `__init__` takes, as is common."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"diverged at step {step}")
        self.step = step
        self.loss = loss


def train(log: str, session: Session) -> int:
    """Square n; tell the log; fail for one of them."""
    n: int = session.params["n"]
    line = f"{n} {os.getpid()}\n".encode()
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    assert os.write(fd, line) == len(line)
    os.close(fd)
    session.path("out.txt").write_text(str(n))
    time.sleep(0.01)
    if n == FAILS:
        raise DivergedError(n, 1.5)
    return n * n


@contextlib.contextmanager
def by_dask(*, as_executor: bool) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor() if as_executor else client


@contextlib.contextmanager
def by_ray() -> Iterator[Any]:
    import ray

    from tracker.engines.ray import RayExecutor

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield RayExecutor(num_cpus=1)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def by_submitit(cluster: str) -> Iterator[Any]:
    import submitit

    from tracker.engines.submitit import SubmititExecutor

    executor = submitit.AutoExecutor(folder=os.path.join(sys.argv[2] + "-jobs", "%j"), cluster=cluster)
    executor.update_parameters(timeout_min=2)
    yield SubmititExecutor(executor)


@contextlib.contextmanager
def by_loky() -> Iterator[Any]:
    import loky

    with loky.get_reusable_executor(max_workers=2) as executor:
        yield executor


@contextlib.contextmanager
def by_mpi() -> Iterator[Any]:
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(max_workers=2) as executor:
        yield executor


def pool(method: str) -> Any:
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method))


ENGINES: dict[str, Callable[[], Any]] = {
    "none": contextlib.nullcontext,
    "threads": lambda: concurrent.futures.ThreadPoolExecutor(2),
    "fork": lambda: pool("fork"),
    "spawn": lambda: pool("spawn"),
    "forkserver": lambda: pool("forkserver"),
    "loky": by_loky,
    "dask": lambda: by_dask(as_executor=False),
    "dask-executor": lambda: by_dask(as_executor=True),
    "ray": by_ray,
    "submitit-local": lambda: by_submitit("local"),
    "submitit-debug": lambda: by_submitit("debug"),
    "mpi": by_mpi,
}


def told(outcome: Outcome) -> list[Any]:
    """An outcome as JSON."""
    exception = outcome.exception
    fields = None if exception is None else [type(exception).__name__, str(exception), vars(exception)]
    return [
        outcome.params["n"], str(outcome.status), outcome.skipped, outcome.value, outcome.error, fields
    ]  # fmt: skip


def main(engine: str, root: str, log: str) -> None:
    """Map, map again, and once more what failed."""
    project = Project(root)
    session_of = partial(project.session, "train")
    with ENGINES[engine]() as executor:
        rounds = [
            run_all(session_of, partial(train, log), CONFIGS, executor=executor, retry=retry)
            for retry in ("lost", "lost", "failed")
        ]
    print(json.dumps([[told(outcome) for outcome in outcomes] for outcomes in rounds]))


if __name__ == "__main__":
    main(*sys.argv[1:])
