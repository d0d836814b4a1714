"""A store, and the three ways the command line is run: in this process, as a process, on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_sessions import Call, Result, command, fill, read_all

from tracker.check import Severity, verify
from tracker.cli import main


@pytest.fixture(autouse=True)
def own_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees how the terminal of its tester is set."""
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store of six runs; when the test ends it is as sound as when it began."""
    root = tmp_path / "results"
    project = fill(root)
    yield root
    findings = verify(project.ledger).findings
    assert [finding for finding in findings if finding.severity is not Severity.NOTE] == []
    project.ledger.close()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Result:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def spawn() -> Call:
    """Run a command as a process of its own, its output on pipes."""

    def run(*arguments: str | Path, **options: object) -> Result:
        done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def on_terminal() -> Call:
    """Run a command as a process on a terminal of 100 columns; give all that it shows."""

    def run(*arguments: str | Path, columns: int = 100, **environ: str) -> Result:
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", **environ}
        process = subprocess.Popen(command(*arguments), stdin=there, stdout=there, stderr=there, env=env)
        os.close(there)
        shown = read_all(here)
        os.close(here)
        return Result(process.wait(timeout=60), shown.decode().replace("\r\n", "\n"), "")

    return run


@pytest.fixture
def without_rich(tmp_path: Path) -> str:
    """A PYTHONPATH in which rich cannot be imported."""
    folder = tmp_path / "blocked" / "rich"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('blocked for a test')\n")
    return str(folder.parent)
