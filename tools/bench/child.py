"""Fresh processes: start one, wait for it, know what it cost.

The child imports nothing but what it measures, so CPU from process start means that and no more.
"""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""What the system counts resident sizes in, in bytes."""


@dataclass(frozen=True)
class Sample:
    """One process from start to end: its cost, what it answered, and its greatest resident size."""

    cpu_s: float
    wall_s: float
    answer: Any
    peak_bytes: int = 0


class ChildFailedError(RuntimeError):
    """A measured process ended with an error; its message went to stderr."""


def call(module: str, function: str, *arguments: object, python: str = sys.executable) -> Sample:
    """Call `tools.bench.<module>.<function>` in a fresh process; arguments and answer are plain literals."""
    code = f"from tools.bench.{module} import {function} as work; print(work(*{arguments!r}))"
    sample = run_python(code, python)
    return replace(sample, answer=ast.literal_eval(sample.answer))


def run_python(code: str, python: str = sys.executable) -> Sample:
    """Run `code` in a fresh interpreter; the answer is its standard output."""
    return run_command([python, "-c", code])


def run_command(command: list[str]) -> Sample:
    """Run a command to its end and take its cost from wait4.

    Its own children, once waited for, are in the CPU time; the resident size is that of the largest.
    """
    begin = time.perf_counter()
    process = start(command)
    assert process.stdout is not None, "started with a pipe"
    output = process.stdout.read()
    usage = reap(process)
    wall = time.perf_counter() - begin
    if process.returncode != 0:
        raise ChildFailedError(f"{command[0]} ended with {process.returncode}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Sample(cpu_s, wall, output, usage.ru_maxrss * RSS_UNIT)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a command with a pipe at its output, in an environment where `tools` and `tracker` import."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
    )


def reap(process: subprocess.Popen[str]) -> resource.struct_rusage:
    """Wait for the process to end and give what it used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout is not None:
        process.stdout.close()
    return usage
