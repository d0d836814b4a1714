"""W6: one run that logs 100,000 rows of three numbers, and its curves read; rates, and bytes of a row."""

from __future__ import annotations

from tools.bench.bench import MICRO, Bench, inner_cpu, median
from tools.bench.child import Sample, call
from tools.bench.report import Row

ROWS = 100_000
ROWS_GOAL, VALUES_GOAL, LOG_GOAL_US = 500_000, 2_000_000, 2.0


def w6(bench: Bench) -> list[Row]:
    """Rows written a second, numbers read a second, bytes a row; trackers of the field stand in the notes."""
    (rows,) = bench.sizes(ROWS)
    rates: dict[str, float] = {}
    found: list[Row] = []
    roots: dict[str, str] = {}
    for kind, how in (("append to a log", "packed"), ("JSON lines", "lines"), ("tracker", "ours")):
        bench.say(f"W6 {kind}")
        sample, roots[how] = _logged(bench, how, rows)
        rates[how] = rows / inner_cpu(sample)
        found += _written(kind, how, rows, sample, rates)
    lines = median([call("rows", "read_lines", roots["lines"]) for _ in range(bench.repeats)], inner_cpu)
    ours = median([call("rows", "read_ours", roots["ours"]) for _ in range(bench.repeats)], inner_cpu)
    assert ours.answer["answer"] == rows * 3 == lines.answer["answer"], "all numbers are read"
    floor, rate = (rows * 3 / inner_cpu(sample) for sample in (lines, ours))
    return [
        *found,
        Row("W6", "JSON lines, read", floor, "values/s"),
        Row(
            "W6", "tracker, read as arrays", rate, "values/s", ratio=rate / floor, against="JSON lines",
            goal=f"≥ {VALUES_GOAL:,}", met=rate >= VALUES_GOAL,
        ),
    ]  # fmt: skip


def _logged(bench: Bench, how: str, rows: int) -> tuple[Sample, str]:
    samples = []
    for _ in range(bench.repeats):
        root = bench.fresh()
        samples.append(call("rows", f"log_{how}", root, rows))
    return median(samples, inner_cpu), root


def _written(kind: str, how: str, rows: int, sample: Sample, rates: dict[str, float]) -> list[Row]:
    size = Row("W6", f"{kind}, size", sample.answer["answer"] / rows, "bytes/row")
    if how != "ours":
        return [Row("W6", f"{kind}, {rows:,} rows", rates[how], "rows/s"), size]
    each_us = MICRO / rates[how]
    return [
        Row(
            "W6", f"{kind}, {rows:,} rows, sealed", rates[how], "rows/s",
            ratio=rates[how] / rates["packed"], against="append to a log",
            goal=f"≥ {ROWS_GOAL:,}", met=rates[how] >= ROWS_GOAL,
            note="published elsewhere: wandb 2,300, MLflow batched 2,200",
        ),
        Row(
            "W6", f"{kind}, log() of 3 numbers with its share of the end", each_us, "µs",
            ratio=rates["lines"] / rates[how], against="JSON lines",
            goal=f"≤ {LOG_GOAL_US:g}", met=each_us <= LOG_GOAL_US,
        ),
        size,
    ]  # fmt: skip
