"""Processes that are killed as they enter a call of `os`: the crash of that moment, of each in turn."""

from __future__ import annotations

import itertools
import os
import signal
import traceback
from collections.abc import Callable, Iterable
from typing import Any


def kill_at(number: int, calls: Iterable[str]) -> None:
    """Have this process killed as it enters the call of that number, counted from 1, of those named."""
    count = itertools.count(1)

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in calls:
        setattr(os, name, deadly(getattr(os, name)))


def is_killed(work: Callable[[], object]) -> bool:
    """Do `work` in a process of its own; True if that was killed, False if it came to its end."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), f"it ended with {os.waitstatus_to_exitcode(status)}"
    return status != 0
