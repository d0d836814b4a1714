"""A run that is captured: its output is one of its files, sealed when it ends, whatever ends it.

The judges are `b3sum` and the command line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracker import Project, Status

HEAD = """
import os, sys, time
from tracker import Project
project = Project(sys.argv[1], capture="tee")
run = project.session("train", {"lr": 1})
"""


def program(root: Path, body: str, *, code: int = 0) -> str:
    """What a program that records a run prints."""
    line = [sys.executable, "-c", HEAD + body, str(root)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout


def sealed_output(root: Path) -> tuple[bytes, str]:
    """What is kept, after `b3sum` has agreed with the seal; and the run's status."""
    line = [sys.executable, "-m", "tracker", "-C", str(root), "show", "@latest", "--json"]
    shown = json.loads(subprocess.run(line, capture_output=True, check=True, timeout=60).stdout)
    (file,) = [file for file in shown["attempts"][-1]["files"] if file[0] == "output.log"]
    path = root / file[1]
    judged = subprocess.run(["b3sum", "--no-names", path], capture_output=True, text=True, check=True)
    assert judged.stdout.strip() == file[3]
    assert path.stat().st_size == file[2]
    return path.read_bytes(), shown["status"]


def test_what_a_run_prints_is_one_of_its_files(tmp_path: Path) -> None:
    out = program(tmp_path, "with run:\n    print('in')\n    os.system('echo shell')\nprint('out')")

    assert out == "in\nshell\nout\n"
    assert sealed_output(tmp_path) == (b"in\nshell\n", "done")


def test_a_run_that_fails_keeps_what_it_printed_before(tmp_path: Path) -> None:
    program(tmp_path, "with run:\n    print('in')\n    raise ValueError('no')", code=1)

    assert sealed_output(tmp_path) == (b"in\n", "error")


def test_a_second_attempt_goes_on_in_the_same_file(tmp_path: Path) -> None:
    program(tmp_path, "run.start(); print('first'); run.error(); run.start(); print('second'); run.done()")
    lines = sealed_output(tmp_path)[0].splitlines()

    assert (lines[0], lines[2]) == (b"first", b"second")
    assert lines[1].startswith(b"[tracker: begun again 20")


def test_runs_one_after_the_other_have_an_output_each(tmp_path: Path) -> None:
    body = "for n in range(3):\n    with project.session('train', {'n': n}):\n        print('run', n)\n"
    program(tmp_path, body)
    project = Project(tmp_path)

    for number in range(3):
        path = project.session("train", {"n": number}).files["output.log"]
        assert path.read_text() == f"run {number}\n"


def test_a_run_that_is_killed_keeps_its_output_and_is_lost(tmp_path: Path) -> None:
    body = "run.start(); print('ready', flush=True); os.write(1, b'x' * 10000); os.kill(os.getpid(), 9)"
    program(tmp_path, body, code=-signal.SIGKILL)
    path = next(tmp_path.glob("*/train_output.log"))
    by = time.monotonic() + 20
    while path.stat().st_size < 10_006 and time.monotonic() < by:
        time.sleep(0.01)

    assert path.read_bytes() == b"ready\n" + b"x" * 10_000
    assert Project(tmp_path).session("train", {"lr": 1}).status is Status.LOST
    line = [sys.executable, "-m", "tracker", "-C", str(tmp_path), "logs", "@latest", "--tail", "2"]
    assert subprocess.run(line, capture_output=True, timeout=60).stdout == path.read_bytes()


def test_a_start_that_is_refused_captures_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = os.fstat(1), os.fstat(2)
    run = Project(tmp_path).session("train", {"lr": 1}).start()
    with pytest.raises(RuntimeError, match="while this process executes it"):
        run.start(capture="tee")
    run.done()

    assert (os.fstat(1), os.fstat(2)) == before
    assert list(tmp_path.glob("*/train_output.log")) == []
