"""What the machine does while a run runs, logged off the main thread when asked for.

Names: `system/cpu` (percent of one core, of this process), `system/rss_bytes`, and, where `nvidia-smi` is
there, `system/gpu<n>/percent` and `system/gpu<n>/memory_bytes`. The step counts the samples.

LIMIT: children are not counted, and GPUs are those of the host, whoever uses them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tracker.errors import StateError, StorageError

PERIOD_S = 10.0
_SMI_S = 5.0
_SMI = ("--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

Log = Callable[[Mapping[str, Any], int], None]
"""Takes one sample and its step."""


class Sampler:
    """A thread that logs what this process uses, every `period_s` seconds until `stop`.

    It takes one sample at once. What the disk refuses is met again by the run's own next row.
    """

    def __init__(self, log: Log, period_s: float = PERIOD_S) -> None:
        self._log = log
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="tracker-sampler", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        smi = shutil.which("nvidia-smi")
        wall, used = time.monotonic(), _cpu_s()
        step = 0
        while True:
            ended = self._ended.wait(self._period_s if step else 0)
            if ended:
                return
            then, before = wall, used
            wall, used = time.monotonic(), _cpu_s()
            values = _memory() | ({} if smi is None else read_gpus(smi))
            if step:
                values["system/cpu"] = 100 * (used - before) / max(wall - then, 1e-9)
            if values:
                try:
                    with suppress(StorageError):  # the rows stay, and the run's own next row tells
                        self._log(values, step)
                except StateError:
                    return  # the attempt ended
            step += 1

    def stop(self) -> None:
        """Take no more samples. Waits for one that is under way, at most 5 s where a GPU does not answer."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _memory() -> dict[str, float]:
    """What this process holds in memory, where /proc tells."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return {"system/rss_bytes": int(file.read().split()[1]) * _PAGE_BYTES}
    except (OSError, IndexError, ValueError):
        return {}


def read_gpus(smi: str) -> dict[str, float]:
    """What `nvidia-smi` says of each GPU; nothing where it fails or does not answer in 5 s."""
    try:
        done = subprocess.run([smi, *_SMI], capture_output=True, timeout=_SMI_S, check=True, text=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> dict[str, float]:
    """Lines `index, percent, MiB`; one with something else in it is passed over."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        try:
            index, percent, mebibytes = (int(part) for part in line.split(","))
        except ValueError:
            continue
        found[f"system/gpu{index}/percent"] = percent
        found[f"system/gpu{index}/memory_bytes"] = mebibytes << 20
    return found
