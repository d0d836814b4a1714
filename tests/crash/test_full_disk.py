"""A disk that refuses: one clear error, nothing acknowledged lost, and on it goes.

Spec: spec/log.md section 5.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.storm.bounded import run_storm
from tracker import Status


@pytest.mark.storm
def test_a_full_disk_is_told_and_gone_on_from_at_every_stage():
    run_storm("full", count=150)


@pytest.mark.storm
def test_an_fsync_that_fails_is_told_or_made_good_by_sealing():
    run_storm("syncs")


@pytest.mark.storm
def test_a_system_call_that_is_refused_or_never_returns_breaks_no_promise():
    run_storm("calls", count=45)


@pytest.mark.storm
def test_a_look_that_the_system_refuses_is_a_storage_error():
    tally = run_storm("looks", count=60)

    assert tally["figures"]["steps refused"] > 0


def test_a_sweep_on_a_full_disk_stops_at_the_first_refusal_and_says_the_cure(tmp_path, reference):
    code = """
import resource, sys
from tracker import Project, StorageError
project = Project(sys.argv[1])
project.session("t", {"n": 0}).done()
project.session("t", {"n": 1}).start()
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
project.session("t", {"n": 1}).done()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "StorageError: " in ended.stderr
    assert "ulimit -f" in ended.stderr
    assert [run["status"] for run in reference.read_store(tmp_path)["runs"]] == ["done", "running"]


INDEX_THAT_DOES_NOT_FIT = """
import resource, sys
from tracker import Project

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
project = Project(sys.argv[1])
print(project.has("t", {"n": 7}), len(project.find("t")))
"""


def test_an_index_for_which_there_is_no_room_leaves_the_answers_right(tmp_path):
    made = "import sys; from tracker import *; p = Project(sys.argv[1], durability=Durability.OFF)\n"
    made += "for n in range(1000): p.session('t', {'n': n}).done()"
    subprocess.run([sys.executable, "-c", made, str(tmp_path)], check=True)

    asked = subprocess.run(
        [sys.executable, "-c", INDEX_THAT_DOES_NOT_FIT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.split() == ["True", "1000"]


@pytest.mark.skipif(sys.platform != "linux", reason="what cannot be synced is another file elsewhere")
@pytest.mark.parametrize("path", ["/dev/full", "/proc/version"])
def test_an_attached_file_that_no_one_can_sync_does_not_keep_a_run_from_ending(store, path):
    session = store.session("t", {"a": 1}).start().attach_files({"special": path})
    session.done()

    assert session.status is Status.DONE


def test_a_run_with_an_attached_file_that_is_not_there_is_done_to_every_reader(store, reference):
    store.session("t", {"a": 1}).start().attach_files({"log": store.root / "never.log"}).done()

    assert [run["status"] for run in reference.read_store(store.root)["runs"]] == ["done"]
