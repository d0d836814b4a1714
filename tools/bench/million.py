"""A long history, searched: its index built, then questions in fresh processes that find the index warm.

The store is made by the log writer alone, so it has segments and no folder of any run. Its size on disk is
known from a small one before it is made.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tools.bench.bench import MILLI, Bench, inner_cpu, median
from tools.bench.child import Sample, call, run_command
from tools.bench.queries import QUERY, matching
from tools.bench.report import Row
from tools.bench.workload import EVENTS_PER_RUN

SAMPLE_RUNS = 2000
RSS_LIMIT = 300 << 20
NONE_MATCH = 'lr < 1e-3 and model.name == "b"'
"""True of no config, so that even `--limit` looks through all."""


class DiskLowError(SystemExit):
    """The disk has less than twice what the store and its index take."""


def million(bench: Bench) -> list[Row]:
    """Build the index of a long history, look one run up at three sizes, and ask of all."""
    (runs,) = bench.sizes(1_000_000)
    rows = [_room(bench, runs)]
    root = ""
    for size in [*(size for size in (1000, 100_000) if size < runs), runs]:
        bench.say(f"million, making {size:,} runs")
        root = bench.fresh()
        call("history", "make", root, size * EVENTS_PER_RUN)
        bench.say(f"million, building the index of {size:,} runs")
        built = call("ours", "is_done", root, size // 2)
        assert built.answer["answer"] is True, "a run of the history is not done"
        if size == runs:
            rows += _build_rows(root, built, runs)
        rows += _look_up_rows(bench, root, size)
    return rows + _asked_rows(bench, root, runs)


def _room(bench: Bench, runs: int) -> Row:
    """What a run takes on disk. Raises: DiskLowError if there is less than twice that for all."""
    root = bench.fresh()
    size = min(runs, SAMPLE_RUNS)
    call("history", "make", root, size * EVENTS_PER_RUN)
    call("ours", "is_done", root, 0)
    each = (_bytes_below(root) + sum(_index_files(root).values())) / size
    free = shutil.disk_usage(root).free
    if free < 2 * each * runs:  # while it is built, the index lies there twice
        need = f"{runs:,} runs of {each:,.0f} bytes, twice, need {2 * each * runs / 1e9:.1f} GB"
        raise DiskLowError(f"{need}; {free / 1e9:.1f} GB are free: give --dir, or fewer --runs")
    return Row("million", "on disk, index included", each, "bytes/run", note=f"of {size:,} runs")


def _bytes_below(root: str) -> int:
    return sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file())


def _index_files(root: str) -> dict[str, int]:
    files: dict[str, int] = call("upkeep", "index_files", root).answer
    return files


def _build_rows(root: str, built: Sample, runs: int) -> list[Row]:
    rate, wall_rate = runs / inner_cpu(built), runs / built.answer["wall_s"]
    size = sum(_index_files(root).values())
    return [
        Row("million", f"index build, {runs:,} runs", rate, "runs/s", wall_rate, goal="≥ 100,000",
            met=rate >= 100_000, note=f"{inner_cpu(built):.1f} s CPU; {_peak(built)}"),
        Row("million", "index build", rate * EVENTS_PER_RUN, "events/s", wall_rate * EVENTS_PER_RUN),
        Row("million", "index size", size / 1e6, "MB", note=f"{size / runs:,.0f} bytes/run"),
        Row("million", "log size", _bytes_below(root) / 1e6, "MB"),
    ]  # fmt: skip


def _look_up_rows(bench: Bench, root: str, runs: int) -> list[Row]:
    """W3: is this config done, and where is its file?"""
    bench.say(f"million, look-ups in {runs:,} runs")
    places = range(runs // 3, runs // 3 + max(bench.repeats, 5))
    sample = median([call("ours", "look_up", root, number % runs) for number in places])
    assert sample.answer["answer"], "a run of the history is not found"
    note = f"{inner_cpu(sample) * MILLI:.1f} after import; {_peak(sample)}"
    return [
        Row("million", f"look-up among {runs:,}", sample.cpu_s * MILLI, "ms", sample.wall_s * MILLI,
            goal="≤ 80 ms", met=sample.cpu_s <= 0.080 and sample.peak_bytes <= RSS_LIMIT, note=note)
    ]  # fmt: skip


def _asked_rows(bench: Bench, root: str, runs: int) -> list[Row]:
    wanted = matching(runs)
    listed = _list(bench, root, QUERY)
    assert len(listed.answer.splitlines()) == min(wanted, 20), "`ls` does not list what matches"
    empty = _list(bench, root, NONE_MATCH)
    assert empty.answer == "", f"`ls` lists runs of which {NONE_MATCH} is not true"
    counted = _ask(bench, "count", root, QUERY)
    assert counted.answer["answer"] == wanted, f"{counted.answer['answer']} of {wanted} are counted"
    every = _ask(bench, "count", root, None)
    assert every.answer["answer"] == runs, f"{every.answer['answer']} of {runs} are counted"
    grouped = _ask(bench, "groups", root, "model.name")
    assert sum(row[-1] for row in grouped.answer["answer"]) == runs, "the groups lack runs"
    seconds = max(runs / 1e6, 0.12)
    return [
        _row(f"ls '{QUERY}' --limit 20", listed, seconds),
        _row(f"ls '{NONE_MATCH}' --limit 20", empty, seconds, "none matches"),
        _row(f"len(runs('{QUERY}'))", counted, seconds, f"{wanted:,} match"),
        _row("len(runs())", every, seconds),
        _row("runs().group_by('model.name').count()", grouped, None),
    ]


def _list(bench: Bench, root: str, query: str) -> Sample:
    bench.say(f"million, ls {query}")
    command = [sys.executable, "-m", "tracker", "ls", query, "--limit", "20", "-C", root]
    return median([run_command(command) for _ in range(bench.repeats)])


def _ask(bench: Bench, question: str, root: str, asked: str | None) -> Sample:
    bench.say(f"million, {question} {asked or ''}")
    return median([call("ours", question, root, asked) for _ in range(bench.repeats)])


def _row(what: str, sample: Sample, seconds: float | None, note: str = "") -> Row:
    """CPU seconds from process start; a peak of memory above the limit misses the goal too."""
    goal, met = "", None
    if seconds is not None:
        goal = f"≤ {seconds:.2g} s"
        met = sample.cpu_s <= seconds
    fits = sample.peak_bytes <= RSS_LIMIT
    notes = [text for text in (note, _peak(sample)) if text]
    goal = f"{goal}, " if goal else ""
    return Row("million", what, sample.cpu_s, "s", sample.wall_s, goal=f"{goal}≤ 300 MiB",
               met=fits and met is not False, note="; ".join(notes))  # fmt: skip


def _peak(sample: Sample) -> str:
    return f"peak {sample.peak_bytes / (1 << 20):.0f} MiB"
