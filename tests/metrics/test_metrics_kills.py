"""kill -9 while a run logs: what flush() acknowledged is read, in whatever moment the process died.

Spec: spec/metrics.md section 4.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reference
from metrics_world import RUN, World

STORE_KILLS = 8
"""So many attempts a store: its files are read anew after each."""

KILLS = 200 if os.environ.get("TRACKER_STORM") else 8

CHILD = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from metrics_world import RUN, World
from tracker._store.measured import SeriesJournal

SeriesJournal.segment_bytes = 30_000
mine = World(Path(sys.argv[1])).recorders()
recorder = mine.recorder(RUN, sys.argv[2])
first = int(sys.argv[2].rpartition("-")[2]) * 1_000_000
number = 0
while True:
    for _ in range(1 + number % 37):
        recorder.log({"x": number * 0.1, "n": number}, first + number)
        number += 1
    if number % 5 == 0:
        recorder.log({"other": number}, first + number)
        number += 1
    recorder.flush()
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.storm
def test_no_acknowledged_flush_is_lost_by_kill_9(tmp_path: Path) -> None:
    here = Path(__file__)
    folders = [str(here.parent), str(here.resolve().parents[2] / "spec")]
    draw = random.Random(11)
    suffixes: set[str] = set()
    acknowledged: dict[int, int] = {}
    for kill in range(KILLS):
        world = World(tmp_path / f"store-{kill // STORE_KILLS}")
        command = [sys.executable, "-c", CHILD, str(world.root), f"w-{kill}", *folders]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(draw.random() * 0.15)
        process.kill()
        said = process.communicate()[0].split(b"\n")
        acknowledged[kill] = int(said[-2]) if len(said) > 1 else 0
        _judge(world, acknowledged, kill)
        suffixes |= {path.suffix for path in world.files()}
        world.close()
    assert ".open" in suffixes
    assert ".seg" in suffixes or KILLS < 50


def _judge(world: World, acknowledged: dict[int, int], kill: int) -> None:
    """Every row up to the last flush is there, by the reference, and what is behind it is whole."""
    series, findings = reference.read_series(world.root, RUN)
    assert {finding.code for finding in findings} <= {"torn"}
    attempt = f"w-{kill}"
    by_step = {row.step: row.value for row in reference.curve_of(series, "n", attempt=attempt)}
    others = {row.step for row in reference.curve_of(series, "other", attempt=attempt)}
    steps = {kill * 1_000_000 + number for number in range(acknowledged[kill])}
    assert steps <= by_step.keys() | others
    assert all(step == kill * 1_000_000 + value for step, value in by_step.items())
    if kill % 4 == 0:  # and the package reads the same, the attempts before it too
        told = reference.curve_of(series, "n")
        assert world.rows("n") == [(row.step, row.value) for row in told]
        assert len({row.step // 1_000_000 for row in told}) == kill % STORE_KILLS + 1


def test_two_processes_of_one_run_write_files_of_their_own(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    here = Path(__file__)
    folders = [str(here.parent), str(here.resolve().parents[2] / "spec")]
    command = [sys.executable, "-c", CHILD, str(world.root), "w-0", *folders]
    ranks = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "RANK": str(rank)})
        for rank in (1, 0)
    ]
    counts = []
    for process in ranks:
        assert process.stdout is not None
        for _ in range(5):  # 16 rows at least
            said = process.stdout.readline()
        counts.append(int(said))
    for process in ranks:
        process.kill()
        process.communicate()
    found = world.read()

    assert found.damage == []
    assert found.ranks("x") == [0, 1]
    assert len(found.curve("n").steps) > 10
    assert all(len(found.curve("n", rank=rank).steps) > 10 for rank in (0, 1))
    named = [path.name for path in world.files() if not path.name.startswith("tmp-")]
    assert len({name.split("-")[2] for name in named}) == 2
    assert min(counts) > 0
    world.close()
