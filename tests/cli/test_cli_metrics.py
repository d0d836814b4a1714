"""`metrics`: what a run logged, on a pipe, on a terminal, as CSV and JSON; and how curves are drawn."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path

import pytest
from cli_sessions import TENTH, Call

from tracker import Project
from tracker._disk import host
from tracker.cli.plots import number, plot, sparkline
from tracker.metrics import Recorders
from tracker.metrics.curves import kept_of
from tracker.terms import AttemptId, RunRef, WriterId

RUN = RunRef(f"train/{TENTH}")
OF = ("--identifier", "train")


@pytest.fixture
def logged(store: Path) -> Path:
    """The store, in whose first run two ranks logged."""
    fd = os.open(store / ".tracker", os.O_RDONLY)
    for rank in (0, 1):
        writer = WriterId(host.new_writer_id(host.now_ms(), os.urandom(10)))
        mine = Recorders(fd, writer, host.this_process(), "0")
        recorder = mine.recorder(RUN, AttemptId("w-1"), rank=rank)
        for step in range(300):
            recorder.log({"loss": 1 / (1 + step) + rank}, step)
        recorder.log({"val": {"acc": math.nan}, "n": 3}, 300, 1_793_610_000.5)
        recorder.log({"n": 4}, 301, 1_793_610_001)
        mine.close()
    os.close(fd)
    return store


def test_a_pipe_gets_a_line_a_metric(logged: Path, call: Call) -> None:
    assert call("-C", logged, "metrics", RUN).rows == [
        ["loss", repr(1 / 300), repr(1 / 300), "1.0", "300"],
        ["val/acc", "nan", "nan", "nan", "1"],
        ["n", "4", "3", "4", "2"],
    ]


def test_a_named_metric_is_a_line_a_row(logged: Path, call: Call) -> None:
    assert call("-C", logged, "metrics", TENTH, "n", "val/acc", *OF).rows == [
        ["n", "300", "3", "1793610000500"],
        ["n", "301", "4", "1793610001000"],
        ["val/acc", "300", "nan", "1793610000500"],
    ]


def test_a_rank_may_be_chosen(logged: Path, call: Call) -> None:
    rows = call("-C", logged, "metrics", RUN, "loss", "--rank", "1").rows
    missing = call("-C", logged, "metrics", RUN, "loss", "--rank", "7")

    assert rows[0][:3] == ["loss", "0", "2.0"]
    assert missing.code == 1
    assert "metric 'loss' of rank 7 not found" in missing.err


def test_a_rank_that_logged_nothing_is_told_with_those_that_did(logged: Path, call: Call) -> None:
    told = call("-C", logged, "metrics", TENTH, "--rank", "5", *OF)

    assert (told.code, told.out) == (1, "")
    assert told.err == f"tracker: error: rank 5 not found in run {RUN}; of this run these logged: 0, 1\n"
    assert "'x' is no number" in call("-C", logged, "metrics", TENTH, "--rank", "x").err
    assert "required: RUN;" in call("-C", logged, "metrics").err


def test_csv_has_every_row_exactly(logged: Path, call: Call) -> None:
    text = call("-C", logged, "metrics", RUN, "--csv").out
    rows = list(csv.DictReader(io.StringIO(text)))

    assert len(rows) == 303
    assert [float(row["value"]) for row in rows if row["metric"] == "loss"] == [
        1 / (1 + n) for n in range(300)
    ]
    assert rows[-1] == {"metric": "n", "step": "301", "time": "1793610001000", "value": "4"}


def test_json_has_summaries_and_of_named_metrics_all(logged: Path, call: Call) -> None:
    short = json.loads(call("-C", logged, "--json", "metrics", RUN).out)
    whole = json.loads(call("-C", logged, "--json", "metrics", RUN, "n", "val/acc").out)

    assert list(short) == ["loss", "val/acc", "n"]
    assert list(short["n"]) == ["summary"]
    assert short["n"]["summary"] == {
        "last": 4, "last_step": 301, "min": 3, "min_step": 300, "max": 4, "max_step": 301, "count": 2,
    }  # fmt: skip
    assert whole["n"]["values"] == [3, 4]
    assert whole["val/acc"]["values"] == ["NaN"]


def test_an_unknown_metric_is_told_with_those_like_it(logged: Path, call: Call) -> None:
    result = call("-C", logged, "metrics", RUN, "los")

    assert result.out == ""
    assert "metric 'los' not found in run" in result.err
    assert "it has 'loss'" in result.err


def test_a_run_without_metrics_gives_nothing(store: Path, call: Call) -> None:
    assert call("-C", store, "metrics", RUN).out == ""
    assert call("-C", store, "--json", "metrics", RUN).out.strip() == "{}"
    Project(store)


def test_a_terminal_shows_the_course_of_each_and_a_plot_of_one(logged: Path, on_terminal: Call) -> None:
    table = on_terminal("-C", logged, "metrics", RUN, NO_COLOR="1").out
    drawn = on_terminal("-C", logged, "metrics", RUN, "loss", NO_COLOR="1").out.splitlines()

    assert "metric" in table
    assert "█▃▂▂▁▁▁" in table
    assert drawn[0] == "loss  last 0.00333333 at 299, min 0.00333333 at 299, max 1 at 0, 300 rows"
    assert drawn[1].lstrip().startswith("1 ┤⡇")
    assert drawn[12].lstrip().startswith("0.00333333 ┤")
    assert drawn[-1].split() == ["0", "299"]
    assert max(map(len, drawn)) <= 100


def test_a_sparkline_is_the_mean_of_each_stretch() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([5, 5, 5], 9) == "▅▅▅"
    assert sparkline([0, math.nan, 7], 3) == "▁ █"
    assert sparkline([math.nan, math.inf], 3) == "  "
    assert sparkline([], 3) == ""
    assert sparkline([-1e308, 1e308], 2) == "▁█"


PLOTS = [
    ([0, 1], [0.0, 1.0], "       1 ┤⠀⠀⠀⣀⠤⠒⠉"),
    ([5], [2.0], "2 ┤"),
    ([1, 2], [math.nan, math.inf], "no finite number"),
    ([-(2**53), 2**53], [-1e308, 1e308], "1e+308 ┤"),
]


@pytest.mark.parametrize(("steps", "values", "shown"), PLOTS)
def test_a_plot_of_any_numbers_is_as_wide_as_it_may_be(steps, values, shown) -> None:
    lines = plot(steps, values, width=40, height=4)

    assert shown.strip()[:6] in "\n".join(lines)
    assert all(len(line) <= 60 for line in lines)


def test_numbers_are_short() -> None:
    assert [number(value) for value in (1, 10**12, 0.1 + 0.2, 1e-12, math.nan)] == [
        "1", "1e+12", "0.3", "1e-12", "nan",
    ]  # fmt: skip


def test_a_plot_of_many_rows_shows_a_spike_of_one(tmp_path: Path) -> None:
    values = [0.0] * 100_000
    values[54_321] = 1.0
    kept = kept_of(values, 4000)

    assert len(kept) <= 4000
    assert (kept[0], kept[-1], 54_321 in kept) == (0, 99_999, True)
