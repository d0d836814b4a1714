"""Fresh processes: start one, wait for it, know what it cost.

The child imports nothing but what it measures, so CPU from process start means that and no more.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sample:
    """One process from start to end: its cost, and what it answered."""

    cpu_s: float
    wall_s: float
    answer: Any


class ChildFailedError(RuntimeError):
    """A measured process ended with an error; its message went to stderr."""


def call(module: str, function: str, *arguments: object) -> Sample:
    """Call `tools.bench.<module>.<function>` in a fresh process; arguments and answer are plain literals."""
    code = f"from tools.bench.{module} import {function} as work; print(work(*{arguments!r}))"
    sample = run_python(code)
    return Sample(sample.cpu_s, sample.wall_s, ast.literal_eval(sample.answer))


def run_python(code: str) -> Sample:
    """Run `code` in a fresh interpreter; the answer is its standard output."""
    return run_command([sys.executable, "-c", code])


def run_command(command: list[str]) -> Sample:
    """Run a command to its end and take its CPU from wait4 (its own children, once waited for, included)."""
    begin = time.perf_counter()
    process = start(command)
    assert process.stdout is not None, "started with a pipe"
    output = process.stdout.read()
    usage = reap(process)
    wall = time.perf_counter() - begin
    if process.returncode != 0:
        raise ChildFailedError(f"{command[0]} ended with {process.returncode}")
    return Sample(usage, wall, output)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a command with a pipe at its output, in an environment where `tools` and `tracker` import."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
    )


def reap(process: subprocess.Popen[str]) -> float:
    """Wait for the process to end and give its CPU seconds, user + system."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout is not None:
        process.stdout.close()
    return usage.ru_utime + usage.ru_stime
