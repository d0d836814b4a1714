"""RUN by what it is called: a name that people gave, `@best:METRIC`, `@best:-METRIC`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call, remove

from tracker import Durability, Project

CURVES = {
    1: [3.0, 1.0, 2.0],
    2: [4.0, 2.0, 1.5],
    3: [math.nan, 9.0, 8.0],
    4: [1.0, 1.0],
    5: [math.nan, math.nan],
}
"""lr -> what is logged as loss."""


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """A store of runs that logged, one of which failed at the least loss of all."""
    root = tmp_path / "curves"
    project = Project(root, durability=Durability.OFF, provenance=False)
    for lr, losses in CURVES.items():
        with project.session("train", {"lr": lr}) as run:
            for loss in losses:
                run.log({"loss": loss, "val/acc": -loss, 'odd "one"': lr})
    with pytest.raises(ValueError), project.session("train", {"lr": 6}) as run:
        run.log(loss=-100.0)
        raise ValueError
    with project.session("eval", {"lr": 7}) as run:
        run.log(loss=50.0)
    project.ledger.close()
    return root


def lr_of(root: Path, call: Call, *words: str) -> int:
    shown = json.loads(call("-C", root, "params", *words).out)
    return int(shown["lr"])


def test_best_is_the_finished_run_whose_least_value_is_the_least_of_all(curves: Path, call: Call) -> None:
    least = min(CURVES, key=lambda lr: min((x for x in CURVES[lr] if x == x), default=math.inf))

    assert lr_of(curves, call, "@best:loss") == least == 1  # created before the other with 1.0
    assert lr_of(curves, call, "@best:loss", "--identifier", "eval") == 7


def test_with_a_minus_it_is_the_one_whose_greatest_is_the_greatest(curves: Path, call: Call) -> None:
    assert lr_of(curves, call, "@best:-loss") == 7
    assert lr_of(curves, call, "@best:-loss", "--identifier", "train") == 3
    assert lr_of(curves, call, "@best:-val/acc") == 1
    assert lr_of(curves, call, '@best:-odd "one"') == 5


def test_a_removed_run_is_no_best(curves: Path, call: Call) -> None:
    remove(curves, json.loads(call("-C", curves, "show", "@best:loss", "--json").out)["ref"])

    assert lr_of(curves, call, "@best:loss") == 4


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("@best:los", 1, "no run that is done has a number of it; `tracker schema` shows the metrics"),
        ("@best:", 2, "'@best:' names no metric; name one"),
        ("@best:-", 2, "'@best:-' names no metric"),
        ("@best:\udcff", 2, "names no metric"),
        ("@best", 2, "names no run"),
    ],
)
def test_what_is_best_by_nothing_is_one_line(
    text: str, code: int, said: str, curves: Path, call: Call
) -> None:
    told = call("-C", curves, "show", text)

    assert (told.code, told.out, told.err.count("\n")) == (code, "", 1)
    assert said in told.err


def test_a_run_answers_to_its_name(store: Path, call: Call) -> None:
    call("-C", store, "name", f"train/{TENTH}", "the baseline, café")

    for text in ("the baseline, café", "the baseline, cafe\u0301"):
        assert json.loads(call("-C", store, "show", text, "--json").out)["ref"] == f"train/{TENTH}"
    assert call("-C", store, "show", "The Baseline, café").code == 2


def test_a_name_of_several_runs_is_told_with_their_refs(store: Path, call: Call) -> None:
    for ref in (f"train/{TENTH}", f"eval/{TENTH}"):
        call("-C", store, "name", ref, "base")
    told = call("-C", store, "show", "base")

    assert (told.code, told.out) == (2, "")
    assert f"eval/{TENTH}" in told.err and f"train/{TENTH}" in told.err
    assert json.loads(call("-C", store, "show", "base", "--identifier", "eval", "--json").out)["ref"] == (
        f"eval/{TENTH}"
    )


def test_a_name_that_looks_like_digits_of_another_run_is_no_one_run(store: Path, call: Call) -> None:
    call("-C", store, "name", f"eval/{TENTH}", ONE[:4])
    call("-C", store, "name", f"train/{TENTH}", "beef")

    assert call("-C", store, "show", ONE[:4]).code == 2
    assert json.loads(call("-C", store, "show", ONE, "--json").out)["ref"] == f"grid/train/{ONE}"
    assert json.loads(call("-C", store, "show", "beef", "--json").out)["ref"] == f"train/{TENTH}"


def test_a_removed_run_keeps_its_name_unless_another_has_it(store: Path, call: Call) -> None:
    call("-C", store, "name", f"eval/{TENTH}", "base")
    remove(store, f"eval/{TENTH}")
    alone = json.loads(call("-C", store, "show", "base", "--json").out)["ref"]
    call("-C", store, "name", f"grid/train/{ONE}", "base")

    assert alone == f"eval/{TENTH}"
    assert json.loads(call("-C", store, "show", "base", "--json").out)["ref"] == f"grid/train/{ONE}"
