"""Many processes on one store at once: all is there, and seen at once. Spec: spec/log.md sections 5 to 7."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tools.storm.bounded import run_storm
from tracker import Project
from tracker._store import segments, tails

OTHER = """
import sys
from tracker import Project

project = Project(sys.argv[1])
for line in sys.stdin:
    if line == "seal\\n":
        project.ledger.seal()
    else:
        project.session("t", {"n": int(line)}).done()
    print("so", flush=True)
"""


class Other:
    """Another process that does runs and seals when it is told to."""

    def __init__(self, root):
        command = [sys.executable, "-c", OTHER, str(root)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, word: object) -> None:
        print(word, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "so\n"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def other(tmp_path):
    """It has sealed the run 0; 1 lies in its journal, of which this process has taken no note yet."""
    process = Other(tmp_path / "root")
    try:
        process.tell(0)
        process.tell(1)
        yield process
    finally:
        process.close()


@pytest.mark.storm
def test_four_processes_with_threads_make_every_run_and_see_each_others_at_once():
    run_storm("writers", count=150)


def _seal_at_the_first_stat(monkeypatch, other, *, before: bool):
    """Have the journal go between two steps of a look at it, as it does when its writer seals."""
    real = tails._stat
    told = []

    def stat(ledger_fd, path):
        seen = None if before else real(ledger_fd, path)
        if not told:
            told.append(other.tell("seal"))
        return real(ledger_fd, path) if before else seen

    monkeypatch.setattr(tails, "_stat", stat)


def test_a_run_is_seen_though_its_journal_is_sealed_before_it_is_looked_at(other, tmp_path, monkeypatch):
    project = Project(tmp_path / "root")
    assert len(project.find("t")) == 2
    other.tell(2)
    _seal_at_the_first_stat(monkeypatch, other, before=True)

    assert project.has("t", {"n": 2})


def test_a_run_is_seen_though_its_journal_is_sealed_before_it_is_opened(other, tmp_path, monkeypatch):
    project = Project(tmp_path / "root")
    _seal_at_the_first_stat(monkeypatch, other, before=False)

    assert project.has("t", {"n": 1})


@pytest.mark.parametrize("rested_s", [0.0, 0.3])
def test_a_run_is_seen_though_its_journal_is_sealed_while_the_folder_is_listed(
    other, tmp_path, monkeypatch, rested_s
):
    """A listing need only give the names that were there all the time: neither the old one nor the new."""
    project = Project(tmp_path / "root")
    time.sleep(rested_s)
    real = segments.list_month
    told = []

    def list_month(ledger_fd, month):
        before = real(ledger_fd, month)
        if not told:
            told.append(other.tell("seal"))
        after = real(ledger_fd, month)
        return [file for file in before if file in after]

    monkeypatch.setattr(segments, "list_month", list_month)

    assert project.has("t", {"n": 1})
