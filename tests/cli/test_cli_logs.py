"""`logs`: the kept output of a run, whole, in part, as it comes, and the traceback of one that failed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_sessions import TENTH, Call, command

from tracker import Durability, Project, Session, StorageMode

TEXT = b"one\n\xfftwo\r\nthree\x1b[31m red\x1b[0m\n\tfour\x07\n"

CAPTURED = """
import sys, time
from tracker import Project
from tracker.tee import start
run = Project(sys.argv[1]).session("train", {"lr": 9}).start()
tee = start(run.path("output.log"), run=run.ref)
print("begun", flush=True)
sys.stdin.readline()
for step in range(100):
    print(f"\\r{step}", end="", flush=True)
print("\\nlast words", end="")
tee.stop()
getattr(run, sys.argv[2])()
"""


def finished(root: Path, lr: float, data: bytes, mode: StorageMode = StorageMode.SUBFOLDER) -> Session:
    """A run with this output, as a capture leaves it."""
    project = Project(root, storage_mode=mode, durability=Durability.OFF)
    with project.session("train", {"lr": lr}) as run:
        run.path("output.log").write_bytes(data)
    project.ledger.close()
    return run


@pytest.mark.parametrize("mode", StorageMode)
def test_on_a_pipe_the_bytes_are_those_that_were_kept(mode: StorageMode, store: Path) -> None:
    run = finished(store, 9.0, TEXT, mode)
    done = subprocess.run(command("-C", store, "logs", run.uid), capture_output=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, b"")


@pytest.mark.parametrize("count", [0, 1, 3, 99])
def test_the_last_lines_alone(count: int, store: Path) -> None:
    run = finished(store, 9.0, TEXT)
    line = command("-C", store, "logs", run.uid, "--tail", str(count))
    want = b"".join(TEXT.splitlines(keepends=True)[-count:] if count else [])

    assert subprocess.run(line, capture_output=True, timeout=60).stdout == want


def test_json_tells_what_was_left_out(store: Path, call: Call) -> None:
    run = finished(store, 9.0, b"a\n[tracker: 1234 bytes left out here]\nz\xff\n")
    told = json.loads(call("-C", store, "logs", run.uid, "--json").out)

    assert told == {
        "ref": run.ref,
        "path": str(store / run.uid / "train_output.log"),
        "left_out": 1234,
        "text": "a\n[tracker: 1234 bytes left out here]\nz\\xff\n",
    }


def test_on_a_terminal_nothing_commands_it(store: Path, on_terminal: Call) -> None:
    run = finished(store, 9.0, TEXT)
    told = on_terminal("-C", store, "logs", run.uid)

    assert told.out == "one\n\ufffdtwo\nthree red\n\tfour\\u0007\n"


def test_a_run_that_was_not_captured_is_told_how_to_be(store: Path, call: Call) -> None:
    told = call("-C", store, "logs", TENTH, "--identifier", "train")

    assert (told.code, told.out) == (1, "")
    assert "start the run with capture='tee' to keep it" in told.err


def test_of_a_run_that_failed_the_traceback_is_told_of_and_printed(store: Path, call: Call) -> None:
    project = Project(store, durability=Durability.OFF)
    with pytest.raises(ValueError, match="too great"), project.session("train", {"lr": 9.0}) as run:
        run.path("output.log").write_bytes(b"before\n")
        raise ValueError("too great\x1b[31m")
    project.ledger.close()
    told = call("-C", store, "logs", run.uid)
    trace = call("-C", store, "logs", run.uid, "--traceback")
    as_json = json.loads(call("-C", store, "logs", run.uid, "--traceback", "--json").out)

    assert (told.code, told.out) == (0, "before\n")
    assert told.err == (
        f"tracker: run {run.ref} failed: ValueError: too great\\u001b[31m; "
        f"`tracker logs {run.uid[:8]} --traceback` prints its traceback\n"
    )
    assert trace.out.startswith("Traceback (most recent call last):\n")
    assert trace.out.endswith("ValueError: too great\x1b[31m\n")
    assert as_json["traceback"] == trace.out
    assert call("-C", store, "logs", TENTH, "--identifier", "train", "--traceback").code == 1


def test_a_removed_run_has_its_output_in_the_trash(store: Path, call: Call) -> None:
    run = finished(store, 9.0, b"gone\n")
    call("-C", store, "rm", run.uid)

    assert call("-C", store, "logs", run.uid).out == "gone\n"


@pytest.mark.parametrize(("end", "options"), [("done", []), ("error", []), ("done", ["--tail", "1"])])
def test_follow_prints_lines_as_they_come_and_ends_with_the_run(
    end: str, options: list[str], store: Path
) -> None:
    program = [sys.executable, "-c", CAPTURED, str(store), end]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        line = command("-C", store, "logs", "@latest", "--follow", *options)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
            patience = threading.Timer(60, follower.kill)
            patience.start()
            assert follower.stdout is not None
            assert follower.stderr is not None
            first = follower.stdout.readline()
            run.stdin.write("go on\n")
            run.stdin.flush()
            rest, err = follower.stdout.read(), follower.stderr.read()
            code = follower.wait()
            patience.cancel()

    assert (code, first, rest) == (0, "begun\n", "99\nlast words")
    assert ("failed" in err) is (end == "error")


def test_follow_ends_with_ctrl_c(store: Path) -> None:
    project = Project(store, durability=Durability.OFF)
    run = project.session("train", {"lr": 9.0}).start()
    run.path("output.log").write_bytes(b"begun\n")
    line = command("-C", store, "logs", run.uid, "--follow", "--json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline()) == {"line": "begun"}
        follower.send_signal(signal.SIGINT)
        rest, err = follower.communicate(timeout=60)
    run.done()
    project.ledger.close()

    assert (follower.returncode, rest, err) == (130, "", "")
