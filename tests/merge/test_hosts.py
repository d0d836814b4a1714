"""Random schedules of copies on hosts of their own lose nothing sealed. Spec: spec/merge.md 2, 3, 6."""

from __future__ import annotations

import shutil

import pytest

from tools.storm.bounded import run_storm
from tools.storm.model import Attempt, Model


@pytest.mark.storm
@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not here")
def test_copies_that_were_pushed_and_merged_at_random_say_what_the_model_says():
    tally = run_storm("hosts", count=200)

    assert tally["figures"]["attempts acknowledged as sealed"] > 100
    assert tally["figures"]["merges"] > 100
    assert tally["figures"]["rsyncs"] > 100


DIGEST = "ab" * 32


def state(**attempt: object) -> dict[str, object]:
    told = {"id": "w-1", "status": "done", "files": [["out.bin", "out.bin", 1, DIGEST, False]]} | attempt
    run = {"ref": "train/r", "status": told["status"], "canonical": told["id"], "divergent": False}
    return {"runs": [run | {"attempts": [told]}]}


@pytest.fixture
def model() -> Model:
    done = Attempt("train/r", "w", [], ["running", "done"], sealed=2, digest=DIGEST)
    return Model({"w-1": done})


def test_the_model_is_content_with_what_was_acknowledged(model):
    assert list(model.iter_failures(state())) == []


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"runs": []}, "LOST"),
        (state(status="running"), "not one of"),
        (state(files=[["out.bin", "out.bin", 1, "cd" * 32, False]]), "has files"),
        (state(id="w-2"), "made by nobody"),
    ],
)
def test_the_model_names_what_was_lost_or_invented(model, said, complaint):
    assert complaint in " ".join(model.iter_failures(said))


def test_the_model_forgives_what_a_killed_writer_had_not_sealed(model):
    model.attempts["w-1"].sealed = 1
    model.kill("w")

    assert list(model.iter_failures(state(status="running"))) == []
    assert list(model.iter_failures(state(status="error"))) != []


def test_the_model_finds_bytes_that_are_gone(model):
    model.write("a", "out.bin", b"x")
    here = {"out.bin": model.written["a", "out.bin"]}
    beside = {"out.bin": "other", "out.bin.from-a-01234567-01234567": here["out.bin"]}

    assert list(model.iter_lost_bytes({"a": here, "b": beside})) == []
    assert len(list(model.iter_lost_bytes({"a": here, "b": {"out.bin": "other"}}))) == 1
