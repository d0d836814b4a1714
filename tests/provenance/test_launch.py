"""How a process was launched. Spec: spec/provenance.md sections 2 and 5."""

from __future__ import annotations

import os

import pytest

from tracker._codec.canonical import canonical
from tracker.provenance.launch import (
    MAX_BYTES,
    MAX_VALUE,
    command_line,
    cut_argv,
    find_jobs,
    find_seeds,
    masker_for,
    pick_variables,
    relative,
    this_launch,
)
from tracker.provenance.masking import Masker

PLAIN = Masker()


def test_only_listed_variables_are_picked():
    environment = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_DEBUG": "INFO",
        "TOKENIZERS_PARALLELISM": "false",
        "HOME": "/home/ada",
        "LAB": "1",
    }
    assert pick_variables(environment, PLAIN) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_DEBUG": "INFO",
        "TOKENIZERS_PARALLELISM": "false",
    }


def test_more_variables_are_picked_by_name_and_by_beginning_and_secrets_are_masked():
    environment = {
        "TRACKER_VARIABLES": "LAB, DATA_*,MY_TOKEN,,*",
        "LAB": "1",
        "DATA_ROOT": "/d",
        "DATA_KEY": "k",
    }
    environment |= {"MY_TOKEN": "t", "OTHER": "2"}

    assert pick_variables(environment, PLAIN) == {
        "TRACKER_VARIABLES": "LAB, DATA_*,MY_TOKEN,,*",
        "LAB": "1",
        "DATA_ROOT": "/d",
        "DATA_KEY": "***",
        "MY_TOKEN": "***",
    }


def test_a_long_value_is_cut():
    assert pick_variables({"XLA_FLAGS": "x" * 5000}, PLAIN)["XLA_FLAGS"] == "x" * MAX_VALUE + "…"


def test_all_variables_have_a_limit_too():
    environment = {"TRACKER_VARIABLES": "X*"} | {f"X{i:03}": "\0" * 4000 for i in range(100)}
    picked = pick_variables(environment, PLAIN)

    assert len(picked) == 101
    assert picked["X099"] == "…"
    assert len(canonical(picked)) < 1 << 20


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({"SLURM_JOB_ID": "7"}, []),
        (
            {"PBS_JOBID": "12[].srv", "PBS_ARRAY_INDEX": "3"},
            [{"system": "pbs", "job": "12[].srv", "task": "3"}],
        ),
        ({"LSB_JOBID": "9", "LSB_JOBINDEX": "0"}, [{"system": "lsf", "job": "9", "task": "0"}]),
        ({"JOB_ID": "5"}, []),
        (
            {"JOB_ID": "5", "SGE_ROOT": "/sge", "SGE_TASK_ID": "undefined"},
            [{"system": "sge", "job": "5"}],
        ),
        ({"RAY_JOB_ID": "01000000"}, [{"system": "ray", "job": "01000000"}]),
        (
            {"DASK_SCHEDULER_ADDRESS": "tls://u:pw@h:8786", "PBS_JOBID": "1"},
            [{"system": "pbs", "job": "1"}, {"system": "dask", "job": "tls://***@h:8786"}],
        ),
        ({"PBS_JOBID": ""}, []),
    ],
)
def test_jobs_of_schedulers_and_engines(environment, want):
    assert find_jobs(environment, PLAIN) == want


def test_seeds_are_found_by_their_names():
    params = {
        "seed": 1,
        "random_seed": 2,
        "data": {"split_seed": 3, "seed": True, "SEED": 4},
        "seeds": 5,
        "reseed": 6,
        "x": [{"seed": 7}],
        "torch_seed": 8.0,
    }
    assert find_seeds(params) == {"data.SEED": 4, "data.split_seed": 3, "random_seed": 2, "seed": 1}
    assert find_seeds(None) == {}


def test_params_that_hold_themselves_have_an_end():
    params: dict[str, object] = {"seed": 1}
    params["again"] = params

    assert find_seeds(params)["again.again.seed"] == 1


@pytest.mark.parametrize(
    ("original", "given", "want"),
    [
        (
            ["python", "-X", "dev", "-m", "lab", "a"],
            ["/x/lab.py", "a"],
            ["python", "-X", "dev", "-m", "lab", "a"],
        ),
        (
            ["/p", "-c", "from multiprocessing…", "--multiprocessing-fork"],
            ["t.py", "a"],
            ["/usr/py", "t.py", "a"],
        ),
        (["/p", "-m", "joblib.externals.loky.backend.popen_loky_posix"], ["t.py"], ["/usr/py", "t.py"]),
        ([], ["t.py"], ["/usr/py", "t.py"]),
    ],
)
def test_the_command_line_is_the_programs(original, given, want):
    assert command_line(original, given, "/usr/py") == want


def test_a_command_line_without_end_is_cut():
    problems: list[str] = []

    assert cut_argv(["a", "b" * MAX_BYTES, "c"], problems) == ["a"]
    assert problems == ["argv: 1 of 3 words kept"]


def test_a_secret_variable_that_names_a_file_masks_nothing(tmp_path):
    masker = masker_for({"KEY_FILE": str(tmp_path), "TOKEN": "in-the-clear"})

    assert masker.text(f"{tmp_path}/x in-the-clear") == f"{tmp_path}/x ***"


def test_a_working_directory_that_is_gone_is_a_word(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    launch = this_launch({}, PLAIN)

    assert launch.cwd is None
    assert launch.problems == ["working directory: no such file or directory"]


def test_bytes_that_are_no_text_give_text():
    odd = os.fsdecode(b"caf\xe9")

    assert pick_variables({"PYTHONPATH": odd}, PLAIN) == {"PYTHONPATH": "caf?"}
    assert relative("/a/" + odd, "/a/b") == "../caf?"
