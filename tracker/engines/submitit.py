"""A submitit executor (Slurm, local processes), which the program makes, as one whose futures call back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

POLL_S = (0.1, 10.0)  # between two looks at the jobs: at first, and at most


class SubmititExecutor:
    """Calls functions as jobs, one each: `SubmititExecutor(submitit.AutoExecutor(folder="jobs"))`."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._jobs: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Call `fn(*args)` in a job. Cancelling the future cancels the job."""
        future: Future[Any] = Future()
        job = self._inner.submit(fn, *args)
        with self._lock:
            is_watched = bool(self._jobs)
            self._jobs[future] = job
        if not is_watched:
            threading.Thread(target=self._watch, name="tracker-submitit", daemon=True).start()
        return future

    def _watch(self) -> None:
        """Ask for the jobs until none is left, ever more seldom while nothing happens."""
        wait_s = POLL_S[0]
        while True:
            time.sleep(wait_s)
            ended = [future for future, job in list(self._jobs.items()) if _is_settled(future, job)]
            with self._lock:
                for future in ended:
                    del self._jobs[future]
                if not self._jobs:
                    return
            wait_s = POLL_S[0] if ended else min(1.5 * wait_s, POLL_S[1])


def _is_settled(future: Future[Any], job: Any) -> bool:
    """Bring an ended job's answer to its future; True if there is nothing more to ask for."""
    if future.cancelled():
        job.cancel()
    elif not job.done():
        return False
    elif future.set_running_or_notify_cancel():
        try:
            future.set_result(job.result())
        except Exception as error:  # whatever the function or the cluster raised is the future's
            future.set_exception(error)
    return True
