"""kill -9 at random moments: what was acknowledged is there, what was not is named.

Spec: spec/log.md section 8.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.storm.bounded import run_storm


def ended(code: str, *arguments: object) -> list[str]:
    """The words that a Python process prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


@pytest.mark.storm
def test_nothing_acknowledged_is_lost_when_writers_are_killed():
    run_storm("kill", count=200)


def test_a_process_that_ends_by_os_exit_leaves_its_runs_done(tmp_path):
    opened = "import os, sys; from tracker import Project; project = Project(sys.argv[1]); "
    ended(f"{opened} project.session('t', {{'a': 1}}).done(); os._exit(0)", tmp_path)

    assert ended(f"{opened} print(project.has('t', {{'a': 1}}))", tmp_path) == ["True"]


FORKED = """
import os, sys
from tracker import Project

project = Project(sys.argv[1])
project.session("t", {"n": 1}).done()  # sealed
project.session("t", {"n": 2}).done()  # in the journal, as the last seal was just now
if os.fork() == 0:
    print(project.has("t", {"n": 1}), project.has("t", {"n": 2}), len(project.find("t")), flush=True)
    os._exit(0)
os.wait()
"""


def test_a_forked_child_sees_what_its_parent_has_not_sealed(tmp_path):
    assert ended(FORKED, tmp_path) == ["True", "True", "2"]


CLOSED_IN_VAIN = """
import resource, sys
from tracker import Project, StorageError

project = Project(sys.argv[1])
project.session("t", {"n": 1}).done()
project.session("t", {"n": 2}).done()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
try:
    project.ledger.close()
except StorageError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(project.has("t", {"n": 1}), project.has("t", {"n": 2}))
"""


def test_what_a_failed_close_left_in_the_journal_is_seen_by_the_same_process(tmp_path):
    assert ended(CLOSED_IN_VAIN, tmp_path) == ["refused", "True", "True"]
