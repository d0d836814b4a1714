"""W4 and W5: asking for runs by their params, and all of them as a DataFrame."""

from __future__ import annotations

from tools.bench.bench import MILLI, Bench, inner_cpu, median
from tools.bench.child import Sample, call
from tools.bench.report import Row
from tools.bench.workload import config

BELOW, MODEL = 0.003, "b"
QUERY = f'lr < {BELOW} and model.name == "{MODEL}"'


def matching(runs: int) -> int:
    """How many of the first configs the query is true of."""
    configs = map(config, range(runs))
    return sum(one["lr"] < BELOW and one["model"]["name"] == MODEL for one in configs)


def w4(bench: Bench) -> list[Row]:
    """A query in a fresh process, from process start; the index is warm."""
    (runs,) = bench.sizes(10_000)
    ours, floor = bench.store("tracker", runs), bench.store("sqlite", runs)
    call("ours", "count", ours, None)
    taken: list[tuple[Sample, Sample]] = []
    for turn in range(bench.repeats):
        bench.say(f"W4, turn {turn + 1} of {bench.repeats}")
        asked = call("floors", "select", floor, BELOW, MODEL), call("ours", "select", ours, QUERY)
        assert all(sample.answer["answer"] == matching(runs) for sample in asked), "W4 answers differ"
        taken.append(asked)
    sqlite, tracker = (median(samples) for samples in zip(*taken, strict=True))
    ratio = tracker.cpu_s / sqlite.cpu_s
    return [
        Row("W4", f"sqlite, {runs:,} runs", sqlite.cpu_s * MILLI, "ms", sqlite.wall_s * MILLI),
        Row("W4", f"tracker, {runs:,} runs", tracker.cpu_s * MILLI, "ms", tracker.wall_s * MILLI, ratio,
            "sqlite", "≤ 120 ms", tracker.cpu_s <= 0.120, f"{inner_cpu(tracker) * MILLI:.0f} after import"),
    ]  # fmt: skip


def w5(bench: Bench) -> list[Row]:
    """Everything into a DataFrame, counted from after the import of pandas; nothing without pandas."""
    (runs,) = bench.sizes(10_000)
    ours, floor = bench.store("tracker", runs), bench.store("sqlite", runs)
    call("ours", "count", ours, None)
    taken: list[tuple[Sample, Sample]] = []
    for turn in range(bench.repeats):
        bench.say(f"W5, turn {turn + 1} of {bench.repeats}")
        asked = call("floors", "frame", floor), call("ours", "frame", ours)
        assert all(sample.answer["answer"][0] == runs for sample in asked), "W5 frames lack runs"
        taken.append(asked)
    sqlite, tracker = (median(samples, inner_cpu) for samples in zip(*taken, strict=True))
    ratio = inner_cpu(tracker) / inner_cpu(sqlite)
    return [
        _w5_row(f"sqlite, {runs:,} runs", sqlite),
        _w5_row(f"tracker, {runs:,} runs", tracker, ratio),
    ]


def _w5_row(what: str, sample: Sample, ratio: float | None = None) -> Row:
    ours = ratio is not None
    note = f"{sample.answer['answer'][1]} columns; {sample.cpu_s * MILLI:.0f} with imports"
    return Row(
        "W5",
        what,
        inner_cpu(sample) * MILLI,
        "ms",
        sample.answer["wall_s"] * MILLI,
        ratio,
        "sqlite" if ours else "",
        "≤ 1.2 × sqlite" if ours else "",
        ratio <= 1.2 if ratio is not None else None,
        note,
    )
