"""W1, W2, W3 and the start: creating runs, asking for all of them, asking for one."""

from __future__ import annotations

import statistics

from tools.bench.bench import MICRO, MILLI, Bench, ask, create, inner_cpu, median
from tools.bench.child import Sample, call, run_python
from tools.bench.report import Row
from tools.bench.workload import Figures

SLOW_ENTRY_US = 150
"""A new file or folder that costs more CPU than this tells of the file system's mood, not of any store."""
SETTLING_TURNS, ENTRIES = 20, 1000
SLOW_NOTE = "slow: was much deleted near here minutes ago? then W1's limit in µs means little"


# The floor each durability is held against: what the same promise costs at the least.
W1_SUBJECTS = (
    "log",
    "log+sync",
    "folders",
    "sqlite",
    "sqlite-full",
    "tracker off unclaimed",
    "tracker off",
    "tracker ledger",
    "tracker full",
)
W1_AGAINST = {
    "tracker off unclaimed": "folders",
    "tracker off": "folders",
    "tracker ledger": "log+sync",
    "tracker full": "sqlite-full",
}

W1_LIMIT_US = {"tracker off unclaimed": 200, "tracker off": 300}
"""A claim may add 100."""


def system(bench: Bench) -> list[Row]:
    """What one folder and one small file cost here, now: the scale of all other figures.

    Where they are slow, entries are made until they are not, so that the first store measured does not pay
    for what was deleted before it.
    """
    for _ in range(SETTLING_TURNS):
        answer = call("floors", "make_entries", bench.fresh(), ENTRIES).answer
        rows = [_entry_row(f"make one {what}", figures) for what, figures in answer.items()]
        if all(row.value <= SLOW_ENTRY_US for row in rows):
            break
        bench.say("waiting for the file system to settle")
    return rows


def _entry_row(what: str, figures: Figures) -> Row:
    value = figures["cpu_s"] / ENTRIES * MICRO
    note = SLOW_NOTE if value > SLOW_ENTRY_US else ""
    return Row("system", what, value, "µs", figures["wall_s"] / ENTRIES * MICRO, note=note)


def w1(bench: Bench) -> list[Row]:
    """Create runs: without an output file written, and with a small one."""
    (runs,) = bench.sizes(2000)
    rows: list[Row] = []
    for write_file in (False, True):
        medians = _w1_samples(bench, runs, write_file=write_file)
        rows += [_w1_row(subject, medians, runs, write_file=write_file) for subject in W1_SUBJECTS]
    return rows


def _w1_samples(bench: Bench, runs: int, *, write_file: bool) -> dict[str, Sample]:
    samples: dict[str, list[Sample]] = {subject: [] for subject in W1_SUBJECTS}
    for turn in range(bench.repeats):
        for subject in W1_SUBJECTS:
            bench.say(f"W1 {subject}, turn {turn + 1} of {bench.repeats}")
            samples[subject].append(create(subject, bench.fresh(), 0, runs, write_file=write_file))
    return {subject: median(taken, inner_cpu) for subject, taken in samples.items()}


def _w1_row(subject: str, medians: dict[str, Sample], runs: int, *, write_file: bool) -> Row:
    sample = medians[subject]
    value = inner_cpu(sample) / runs * MICRO
    against = W1_AGAINST.get(subject, "")
    ratio = inner_cpu(sample) / inner_cpu(medians[against]) if against else None
    goal, met = "", None
    limit = W1_LIMIT_US.get(subject)
    if limit is not None and not write_file:
        goal, met = f"≤ {limit} µs", value <= limit
    if subject == "tracker ledger" and ratio is not None:
        goal, met = "≤ 2 × log+sync", ratio <= 2
    what = subject + (", small file" if write_file else "")
    wall = sample.answer["wall_s"] / runs * MICRO
    return Row("W1", what, value, "µs/run", wall, ratio, against, goal, met)


CLAIM_BLOCKS, CLAIM_RUNS = 15, 100


def claim(bench: Bench) -> list[Row]:
    """What a claim adds to a run: take it, read the state again, give it back. Blocks of runs in turn."""
    bench.say("claim")
    seconds = call("ours", "claim_cost", bench.fresh(), CLAIM_BLOCKS, CLAIM_RUNS).answer
    us = {how: statistics.median(taken) / CLAIM_RUNS * MICRO for how, taken in seconds.items()}
    pairs = zip(seconds["with"], seconds["without"], strict=True)
    added = statistics.median(one - other for one, other in pairs) / CLAIM_RUNS * MICRO
    return [
        Row("claim", "start() and done(), claimed", us["with"], "µs/run", ratio=us["with"] / us["without"],
            against="without"),
        Row("claim", "start() and done(), no claims", us["without"], "µs/run"),
        Row("claim", "a claim: take, read again, give back", added, "µs/run",
            goal="≤ 100 µs", met=added <= 100),
    ]  # fmt: skip


SCANNED = ("log", "folders", "sqlite", "tracker")


def w2(bench: Bench) -> list[Row]:
    """Resume scan: every config of the sweep is done; whole process, start included."""
    rows: list[Row] = []
    for runs in bench.sizes(10_000, 100_000):
        for kind in SCANNED:
            root = bench.store(kind, runs)
            ask(kind, "scan", root, runs)
        medians = {kind: _scan(bench, kind, "scan", runs) for kind in SCANNED}
        medians["tracker, session().is_done()"] = _scan(bench, "tracker", "scan_sessions", runs)
        rows += [_w2_row(what, sample, medians["folders"], runs) for what, sample in medians.items()]
    return rows


def _scan(bench: Bench, kind: str, question: str, runs: int) -> Sample:
    bench.say(f"W2 {kind}, {runs} runs")
    samples = [ask(kind, question, bench.store(kind, runs), runs) for _ in range(bench.repeats)]
    for sample in samples:
        asked, done = sample.answer["answer"]
        assert done == asked > 0, f"{kind} says {done} of {asked} are done"
    return median(samples)


def _w2_row(what: str, sample: Sample, floor: Sample, runs: int) -> Row:
    ours = what.startswith("tracker")
    asked, _ = sample.answer["answer"]
    value = sample.cpu_s / asked * MICRO
    has_goal = ours and runs >= 10_000  # below, the start of Python is all
    note = f"{inner_cpu(sample) / asked * MICRO:.1f} after import"
    return Row(
        "W2",
        f"{what}, {runs:,} runs",
        value,
        "µs/config",
        sample.wall_s / asked * MICRO,
        value / (floor.cpu_s / runs * MICRO) if ours else None,
        "folders" if ours else "",
        "≤ 15 µs" if has_goal else "",
        value <= 15 if has_goal else None,
        note if asked == runs else f"{note}; cut off after {asked:,}",
    )


def w3(bench: Bench) -> list[Row]:
    """One look-up in a fresh process, from process start; the index is warm but for the first."""
    rows: list[Row] = []
    bare = median([run_python("pass") for _ in range(5)])
    rows.append(Row("W3", "bare Python", bare.cpu_s * MILLI, "ms", bare.wall_s * MILLI))
    for runs in bench.sizes(1000, 100_000):
        medians: dict[str, Sample] = {}
        for kind in SCANNED:
            root = bench.store(kind, runs)
            bench.say(f"W3 {kind}, {runs} runs")
            first, *warm = [ask(kind, "look_up", root, runs // 2 + turn) for turn in range(6)]
            medians[kind] = median(warm)
            rows.append(_w3_row(kind, first, medians, runs))
    return rows


def _w3_row(kind: str, first: Sample, medians: dict[str, Sample], runs: int) -> Row:
    sample = medians[kind]
    assert sample.answer["answer"], f"{kind} does not find a run of the sweep"
    ours = kind == "tracker"
    return Row(
        "W3",
        f"{kind}, {runs:,} runs",
        sample.cpu_s * MILLI,
        "ms",
        sample.wall_s * MILLI,
        sample.cpu_s / medians["folders"].cpu_s if ours else None,
        "folders" if ours else "",
        "≤ 80 ms" if ours else "",
        sample.cpu_s <= 0.080 if ours else None,
        f"first {first.cpu_s * MILLI:.0f} ms",
    )


def import_time(bench: Bench) -> list[Row]:
    """`import tracker` over bare Python, each in a fresh process, in turn."""
    bench.say("import")
    codes = {
        "bare Python": "pass",
        "import msgspec, blake3": "import msgspec, blake3",
        "import tracker": "import tracker",
    }
    samples: dict[str, list[Sample]] = {name: [] for name in codes}
    for _ in range(11):
        for name, code in codes.items():
            samples[name].append(run_python(code))
    medians = {name: statistics.median(s.cpu_s for s in taken) * MILLI for name, taken in samples.items()}
    over = medians["import tracker"] - medians["bare Python"]
    return [
        *(Row("import", name, value, "ms") for name, value in medians.items()),
        Row("import", "tracker over bare Python", over, "ms", goal="≤ 60 ms", met=over <= 60),
    ]
