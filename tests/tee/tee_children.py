"""Programs that are captured in a process of their own, and what came of them."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

HEAD = """
import os, subprocess, sys, time
from tracker.tee import start
"""


@dataclass(frozen=True)
class Ended:
    """What a program left: its exit code, what was shown, and what was kept."""

    code: int
    out: bytes
    err: bytes
    kept: bytes


def run_program(
    body: str, place: Path, *, merged: bool = False, name: str = "tee", **options: object
) -> Ended:
    """Run `body` between start and stop; its standard output and error on pipes, or on one pipe."""
    code = f"{HEAD}\ntee = start({str(place)!r}, run={name!r})\n{body}\n"
    err = subprocess.STDOUT if merged else subprocess.PIPE
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=err, timeout=60, **options
    )  # type: ignore[call-overload]
    return Ended(done.returncode, done.stdout, done.stderr or b"", place.read_bytes())


def run_on_terminal(body: str, place: Path, *, columns: int = 77) -> Ended:
    """The same on a terminal, in raw bytes as a person would get them."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    code = f"{HEAD}\ntee = start({str(place)!r})\n{body}\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=there, stdout=there, stderr=there)
    os.close(there)
    shown = b""
    try:
        while part := os.read(here, 65536):
            shown += part
    except OSError:  # EIO: the last process has let go
        pass
    os.close(here)
    return Ended(process.wait(timeout=60), shown, b"", place.read_bytes())
