"""Processes of a storm: forked, watched, killed; and what they acknowledge, outside the store.

The process that forks has no threads and never opens a store itself, so each child is as a fresh process. A
child ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")
ANSWER_S = 300.0


class BrokenError(Exception):
    """A question ended in a traceback, a crash or a hang; the text tells which."""


def begin(work: Callable[..., object], *args: object) -> ForkProcess:
    """Start `work` in a process of its own."""
    process = FORK.Process(target=_work, args=(work, args))
    process.start()
    return process


def kill(process: ForkProcess) -> bool:
    """Kill a process by SIGKILL and wait for its end; False if it had ended by itself."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def ask(question: Callable[..., Any], *args: object, timeout_s: float = ANSWER_S) -> Any:
    """Give the answer of `question`, asked in a process of its own. Raises: BrokenError."""
    here, there = FORK.Pipe(duplex=False)
    process = begin(_answer, there, question, args)
    there.close()
    try:
        if not here.poll(timeout_s):
            raise BrokenError(f"{question.__name__}: no answer within {timeout_s:.0f} s")
        answer, error = here.recv()
    except EOFError:
        process.join()
        raise BrokenError(f"{question.__name__}: the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        here.close()
    if error:
        raise BrokenError(f"{question.__name__}: {error}")
    return answer


def use_cache(folder: Path) -> None:
    """Have this process keep its index in `folder`."""
    os.environ["TRACKER_CACHE"] = str(folder)


class Acks:
    """Lines that a process has acknowledged: whole, in order, and beyond the death of any process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def say(self, word: str, **fields: object) -> None:
        """Append one line with one write, after a line feed, as a kill may have cut the one before short."""
        line = b"\n" + json.dumps({"word": word, **fields}).encode() + b"\n"
        assert os.write(self._fd, line) == len(line), "the file takes whole lines"


def read_acks(path: Path) -> list[dict[str, Any]]:
    """Give what was acknowledged so far."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return parse_acks(data)


def parse_acks(data: bytes) -> list[dict[str, Any]]:
    """Give the acknowledgements in some bytes, without lines that a death cut short."""
    whole = (line for line in data.split(b"\n") if line)
    return [json.loads(line) for line in whole if _is_whole(line)]


def _is_whole(line: bytes) -> bool:
    """False for a line that its writer's death cut short: SIGKILL can end a write(2) at a page's end."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def _work(work: Callable[..., object], args: tuple[object, ...]) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end is theirs
    work(*args)


def _answer(pipe: Any, question: Callable[..., Any], args: tuple[object, ...]) -> None:
    try:
        pipe.send((question(*args), None))
    except BaseException:
        with contextlib.suppress(OSError):
            pipe.send((None, traceback.format_exc()))
