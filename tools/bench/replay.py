"""Replay: a long history written and read, beside a log of JSON lines."""

from __future__ import annotations

from tools.bench.bench import Bench, inner_cpu, median
from tools.bench.child import Sample, call
from tools.bench.report import Row
from tools.bench.workload import EVENTS_PER_RUN


def replay(bench: Bench) -> list[Row]:
    """Read a long history: events per second of CPU time, beside one JSON line per event."""
    lines, store = bench.fresh(), bench.fresh()
    bench.say(f"replay, making {bench.events:,} events twice")
    made: int = call("floors", "make_lines", lines, bench.events).answer["answer"]
    written = call("history", "make", store, bench.events)
    events: int = written.answer["answer"]
    asked: dict[str, tuple[str, str, *tuple[object, ...]]] = {
        "log of JSON lines": ("floors", "replay_lines", lines),
        "tracker, verified": ("history", "replay", store, True),
        "tracker, unverified": ("history", "replay", store, False),
        "tracker, verified and folded": ("history", "replay_and_fold", store),
    }
    samples: dict[str, list[Sample]] = {what: [] for what in asked}
    for turn in range(bench.repeats):
        for what, call_of in asked.items():
            bench.say(f"replay {what}, turn {turn + 1} of {bench.repeats}")
            samples[what].append(call(*call_of))
    costs = {what: inner_cpu(median(taken, inner_cpu)) for what, taken in samples.items()}
    rates = {what: (made if what.startswith("log") else events) / cost for what, cost in costs.items()}
    write = Row(
        "replay", "tracker, written", events / inner_cpu(written), "events/s", note=f"{events:,} events"
    )
    return [write, *(_replay_row(what, rates) for what in rates), _first_look(bench, store, events)]


def _replay_row(what: str, rates: dict[str, float]) -> Row:
    against = {"tracker, verified": "log of JSON lines", "tracker, unverified": "tracker, verified"}.get(
        what, ""
    )
    ratio = rates[what] / rates[against] if against else None
    goal, met = "", None
    if what == "tracker, verified":
        goal, met = "≥ 500,000", rates[what] >= 500_000
    if what == "tracker, unverified" and ratio is not None:
        goal, met = "≤ 1.2 × verified", ratio <= 1.2
    return Row("replay", what, rates[what], "events/s", None, ratio, against, goal, met)


def _first_look(bench: Bench, store: str, events: int) -> Row:
    """The first look-up in a store that no index knows: it reads all, and leaves an index."""
    bench.say("replay, first look-up")
    first = call("ours", "is_done", store, 0)
    assert first.answer["answer"] is True, "the first config of the history is not done"
    rate = events / inner_cpu(first)
    note = f"{rate / EVENTS_PER_RUN:,.0f} runs/s; the index is built on the way"
    return Row("replay", "tracker, first look-up", rate, "events/s", note=note)
