"""A program beside this process is bounded, whatever it and this process do."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tracker.provenance.command import find_program, run

SH = find_program("sh", os.environ["PATH"])


def sh(script: str, **more):
    return run([SH, "-c", script], {"PATH": os.environ["PATH"]}, timeout_s=more.pop("timeout_s", 20), **more)


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_what_a_program_says_is_read_to_the_end():
    answer = sh("head -c 900000 /dev/zero; echo no >&2; exit 3")

    assert (answer.code, len(answer.out), answer.err, answer.cut) == (3, 900_000, b"no\n", "")


def test_it_has_no_input_and_its_own_variables(monkeypatch):
    monkeypatch.setenv("SEEN", "1")

    assert sh("cat; echo [$SEEN]").out == b"[]\n"


def test_signals_that_python_ignores_are_given_back():
    assert sh("kill -PIPE $$; echo alive").code == -signal.SIGPIPE


def test_what_says_too_much_or_takes_too_long_is_ended():
    assert sh("exec cat /dev/zero", limit=1000).cut == "size"
    before = time.monotonic()
    assert sh("exec sleep 60", timeout_s=0.2).cut == "time"
    assert sh("exec >&- 2>&-; exec sleep 60", timeout_s=0.2).cut == "time"
    assert sh("while :; do echo x; done", timeout_s=0.2, limit=1 << 40).cut == "time"
    assert time.monotonic() - before < 20


def test_a_grandchild_that_holds_the_pipes_holds_up_nobody():
    before = time.monotonic()
    answer = sh("sleep 30 & echo done")

    assert (answer.out, answer.code) == (b"done\n", 0)
    assert time.monotonic() - before < 10


def test_no_file_and_no_child_is_left():
    before = open_files()
    sh("echo")
    sh("exec sleep 60", timeout_s=0.1)
    with pytest.raises(OSError, match="No such file"):
        run(["/no/such/program"], {}, timeout_s=1)

    assert open_files() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_child_that_somebody_else_waited_for_is_over():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        answer = sh("echo said; exit 3")
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert (answer.out, answer.code, answer.cut) == (b"said\n", None, "")


def test_a_program_is_looked_for_in_absolute_folders_only(tmp_path, monkeypatch):
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "tool").mkdir()
    monkeypatch.chdir(tmp_path)

    assert find_program("tool", os.pathsep.join(["", ".", f"{tmp_path}/dir"])) is None
    assert find_program("tool", os.pathsep.join([f"{tmp_path}/dir", str(tmp_path)])) == str(tmp_path / "tool")
    assert sys.executable
