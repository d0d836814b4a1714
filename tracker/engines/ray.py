"""Ray as an executor. Knows nothing of runs.

Needs the extra `ray`. Workers must see the folder of the store under the same path.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray


class RayExecutor:
    """Calls functions as Ray tasks: `project.map(train, configs, executor=RayExecutor(num_gpus=1))`.

    The options are those of a Ray task. `ray.init()` is the program's; without it Ray starts one by itself.
    A task is not retried by Ray unless `max_retries` says so: the next `map` takes up what was lost.
    """

    def __init__(self, **options: Any) -> None:
        self._task = ray.remote(_call).options(**{"max_retries": 0, **options})

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Call `fn(*args)` somewhere, some time."""
        future: Future[Any] = self._task.remote(fn, *args).future()
        return future


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)
