"""signac under the same workload, by its cheapest idiom: a file in the job's folder means done.

Runs in an environment of its own, where tracker is not installed. After the runs are made its cache of state
points is written, as its documentation advises for large projects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import signac  # type: ignore[import-not-found]  # in its own environment alone

from tools.bench.workload import OUTPUT_NAME, Config, Figures, ask_all, config, create_runs, timed


class Signac:
    """A project as the workload's four verbs."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._project = signac.init_project(str(root))

    def start(self, params: Config) -> Any:
        return self._project.open_job(params).init()

    def file(self, run: Any) -> Path:
        return Path(run.fn(OUTPUT_NAME))

    def done(self, run: Any) -> None:
        """Its file says it."""

    def close(self) -> None:
        self._project.update_cache()


def create(root: str, count: int) -> Figures:
    """Make `count` jobs, each with its file."""

    def work() -> int:
        store = Signac(Path(root))
        created = create_runs(store, range(count), write_file=True)
        store.close()
        return created

    return timed(work)


def scan(root: str, count: int) -> Figures:
    """W2: has each config's job its file?"""

    def work() -> tuple[int, int]:
        project = signac.get_project(root)
        return ask_all(lambda number: project.open_job(config(number)).isfile(OUTPUT_NAME), count)

    return timed(work)


def look_up(root: str, number: int) -> Figures:
    """W3: is this config done, and where is its file?"""

    def work() -> str | None:
        job = signac.get_project(root).open_job(config(number))
        return str(job.fn(OUTPUT_NAME)) if job.isfile(OUTPUT_NAME) else None

    return timed(work)


def select(root: str, lr: float, model: str) -> Figures:
    """W4: how many jobs have `lr` below this and this model."""

    def work() -> int:
        return len(signac.get_project(root).find_jobs({"lr": {"$lt": lr}, "model.name": model}))

    return timed(work)


def frame(root: str) -> Figures:
    """W5: every job and every param as a DataFrame; pandas is imported before the clock starts."""
    import pandas  # noqa: F401

    return timed(lambda: signac.get_project(root).to_dataframe(flatten=True).shape)
