"""`metrics`: what a run logged, as a table with sparklines, as plots, as CSV or JSON."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from tracker._model.names import STORE
from tracker.cli.command import Command, add_run, count
from tracker.cli.plots import number, plot, sparkline
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.table import painted
from tracker.cli.words import printable
from tracker.errors import NotFoundError
from tracker.metrics.curves import Curve, kept_of
from tracker.metrics.reading import RunMetrics, read_warned
from tracker.metrics.summary import Summary, summary_of
from tracker.runs.lines import iter_csv

_SPARK = 32
_HEIGHT = 12
_POINTS = 4000
"""More than a plot has columns of dots, less than it takes time for."""


def _arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("names", metavar="NAME", nargs="*", default=[], help="a metric; all unless given")
    parser.add_argument("--csv", action="store_true", help="every row, as metric,step,time,value")
    parser.add_argument("--rank", metavar="N", type=count, help="what that rank logged, not the lowest")


def metrics(options: Namespace, screen: Screen) -> int:
    """Print what a run logged: every metric in short, or the rows of those that are named."""
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    assert ledger.lookup.open_store(), f"a run is recorded in {STORE}"
    found = read_warned(ledger.lookup.store_fd, run.ref)
    curves = dict(_iter_chosen(found, options))
    if found.names and not curves:
        ranks = sorted({str(rank) for name in found.names for rank in found.ranks(name)})
        cure = f"of this run these logged: {', '.join(ranks)}"
        raise NotFoundError(f"rank {options.rank}", f"run {run.ref}", cure)
    if screen.as_json:
        screen.json({name: _as_json(curve, is_whole=bool(options.names)) for name, curve in curves.items()})
    elif options.csv:
        screen.write("".join(_iter_csv(curves)))
    elif options.names and screen.is_terminal:
        for name, curve in curves.items():
            _draw(name, curve, screen)
    elif options.names:
        screen.rows((), _iter_rows(curves))
    else:
        _tell(curves, screen)
    return 0


def _iter_chosen(found: RunMetrics, options: Namespace) -> Iterator[tuple[str, Curve]]:
    """The curves that are asked for. Without names a rank has those that it logged."""
    for name in options.names or found.names:
        if options.names or options.rank is None or options.rank in found.ranks(name):
            yield name, found.curve(name, rank=options.rank)


def _tell(curves: dict[str, Curve], screen: Screen) -> None:
    headings = ["metric", "last", "min", "max", "count"]
    rows = []
    for name, curve in curves.items():
        said = summary_of(curve)
        show = number if screen.is_terminal else repr
        row = [name, *(show(said[key]) for key in ("last", "min", "max")), str(said["count"])]
        rows.append([*row, sparkline(curve.values, _SPARK)] if screen.is_terminal else row)
    if screen.is_terminal and not rows:
        screen.write("nothing was logged\n")
    else:
        screen.rows([*headings, ""] if screen.is_terminal else (), rows)


def _iter_rows(curves: dict[str, Curve]) -> Iterator[list[str]]:
    for name, curve in curves.items():
        for step, value, time in zip(curve.steps, curve.values, curve.times, strict=True):
            yield [name, str(step), repr(value), str(time)]


def _iter_csv(curves: dict[str, Curve]) -> Iterator[str]:
    rows = (
        (printable(name), str(step), str(time), repr(value))
        for name, curve in curves.items()
        for step, value, time in zip(curve.steps, curve.values, curve.times, strict=True)
    )
    return iter_csv(("metric", "step", "time", "value"), rows)


def _as_json(curve: Curve, *, is_whole: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"summary": summary_of(curve)}
    if is_whole:
        said |= {"steps": list(curve.steps), "values": list(curve.values), "times": list(curve.times)}
    return said


def _draw(name: str, curve: Curve, screen: Screen) -> None:
    said = summary_of(curve)
    kept = kept_of(curve.values, _POINTS)
    steps, values = [curve.steps[at] for at in kept], [curve.values[at] for at in kept]
    head = painted(printable(name), "bold", colour=screen.has_colour)
    screen.write(f"{head}  {_in_words(said)}\n")
    width = min(shutil.get_terminal_size().columns, 120)
    for line in plot(steps, values, width=width, height=_HEIGHT):
        screen.write(f"{line}\n")


def _in_words(said: Summary) -> str:
    shown = {key: number(value) for key, value in said.items()}
    return (
        f"last {shown['last']} at {shown['last_step']}, min {shown['min']} at {shown['min_step']}, "
        f"max {shown['max']} at {shown['max_step']}, {shown['count']} rows"
    )


METRICS = Command(
    "metrics",
    "what a run logged: its metrics with their course, or one as a plot",
    """\
A terminal shows each metric with its last, least and greatest value and its
course, or, where metrics are named, a plot of each. A pipe gets lines of cells
with tabs: metric, last, min, max, count; for named metrics metric, step, value,
time, a line a row. What a later attempt logged again takes the place of what
earlier ones logged from there on; of several ranks the lowest is shown. Times
are Unix milliseconds. With --json: by metric, its summary, and for named ones
steps, values and times.

examples:
  tracker metrics @latest
  tracker metrics a7f6c8 loss val/acc
  tracker metrics a7f6c8 loss --csv > loss.csv
  tracker metrics a7f6c8 --json | jq '.loss.summary.min'""",
    _arguments,
    metrics,
)
