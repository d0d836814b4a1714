"""tracker beside signac, asked in turn in one run. signac lives in an environment made for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tools.bench.bench import MICRO, MILLI, Bench, inner_cpu, median
from tools.bench.child import Sample, call
from tools.bench.queries import BELOW, MODEL, QUERY, matching
from tools.bench.report import Row

PACKAGES = ("signac", "pandas")
INSTALL_S = 300.0
FASTER = 3
TURNS = 3
"""Both are asked so many times as often as other rows: noise moves a ratio of two medians most."""


@dataclass(frozen=True)
class Question:
    """One workload asked of both; `cost` says which CPU time is compared, `scale` makes it `unit`s."""

    workload: str
    what: str
    function: str
    theirs: tuple[object, ...]
    ours: tuple[object, ...]
    cost: Callable[[Sample], float]
    scale: float
    unit: str


def signac(bench: Bench) -> list[Row]:
    """W2 to W5 against signac; one row that says why where it cannot be installed."""
    bench.say("installing signac")
    python, version = _install(bench)
    if not python:
        return [Row("signac", "skipped", 0, "runs", note=version)]
    (runs,) = bench.sizes(10_000)
    peer = bench.fresh()
    bench.say(f"making signac with {runs} runs")
    made = call("signac_store", "create", peer, runs, python=python)
    ours = bench.store("tracker", runs)
    call("ours", "count", ours, None)
    each = inner_cpu(made) / runs * MICRO
    rows = [Row("signac", f"{version}, {runs:,} runs made", each, "µs/run", note="cache of state points too")]
    for question in _questions(peer, ours, runs):
        rows += _compared(bench, question, python, runs)
    return rows


def _install(bench: Bench) -> tuple[str, str]:
    """Make the environment: its interpreter and what is in it; or nothing and why not."""
    folder = bench.fresh()
    python = f"{folder}/bin/python"
    steps = (
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
        [python, "-c", "import signac; print('signac', signac.__version__)"],
    )
    said = ""
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return "", f"{' '.join(PACKAGES)} could not be installed: {_last_line(error)}"
        said = done.stdout.strip()
    return python, said


def _last_line(error: Exception) -> str:
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__


def _questions(peer: str, ours: str, runs: int) -> list[Question]:
    middle = runs // 2
    return [
        Question("W2", "scan", "scan", (peer, runs), (ours, runs), _whole, MICRO / runs, "µs/config"),
        Question("W3", "one look-up", "look_up", (peer, middle), (ours, middle), _whole, MILLI, "ms"),
        Question("W4", QUERY, "select", (peer, BELOW, MODEL), (ours, QUERY), _whole, MILLI, "ms"),
        Question("W5", "DataFrame, pandas imported", "frame", (peer,), (ours,), inner_cpu, MILLI, "ms"),
    ]


def _whole(sample: Sample) -> float:
    return sample.cpu_s


def _compared(bench: Bench, question: Question, python: str, runs: int) -> list[Row]:
    taken: list[tuple[Sample, Sample]] = []
    turns = bench.repeats * TURNS
    for turn in range(turns):
        bench.say(f"{question.workload} beside signac, turn {turn + 1} of {turns}")
        asked = (
            call("signac_store", question.function, *question.theirs, python=python),
            call("ours", question.function, *question.ours),
        )
        for sample in asked:
            _check(question.workload, sample.answer["answer"], runs)
        taken.append(asked)
    theirs, ours = (median(samples, question.cost) for samples in zip(*taken, strict=True))
    least = [min(map(question.cost, samples)) for samples in zip(*taken, strict=True)]
    return _rows(question, theirs, ours, least[0] / least[1])


def _check(workload: str, answer: object, runs: int) -> None:
    """Both must have answered, and rightly."""
    match workload, answer:
        case ("W2", _):
            right = answer == (runs, runs)
        case ("W3", path):
            right = bool(path)
        case ("W4", number):
            right = number == matching(runs)
        case (_, shape):
            right = isinstance(shape, tuple) and shape[0] == runs
    assert right, f"{workload} is answered by {answer!r}"


def _rows(question: Question, theirs: Sample, ours: Sample, least: float) -> list[Row]:
    faster = question.cost(theirs) / question.cost(ours)
    inner = inner_cpu(theirs) / inner_cpu(ours)
    whole = theirs.cpu_s / ours.cpu_s
    times = f"{faster:.1f} times as fast, of the least {least:.1f}"
    note = f"{times}; {inner:.1f} after import, {whole:.1f} from process start"
    value, peer = (question.cost(sample) * question.scale for sample in (ours, theirs))
    wall, peer_wall = (sample.wall_s * question.scale for sample in (ours, theirs))
    what = f"{question.workload} {question.what}"
    return [
        Row("signac", f"{what}: signac", peer, question.unit, peer_wall),
        Row("signac", f"{what}: tracker", value, question.unit, wall, 1 / faster, "signac",
            f"≥ {FASTER} times as fast", faster >= FASTER, note),
    ]  # fmt: skip
