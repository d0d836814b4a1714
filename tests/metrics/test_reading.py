"""Curves from all files of a run: attempts, ranks, torn, damaged, doubled; held against the reference.

Spec: spec/metrics.md section 5.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
import subprocess
import sys
from array import array
from pathlib import Path

import numpy
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_world import RUN, Rows, World, exact, iter_flips

from tracker.errors import NotFoundError, TrackerWarning, VersionError
from tracker.metrics import history_of, read_run, read_warned, series_of
from tracker.metrics import series as series_room
from tracker.metrics.curves import Curve
from tracker.metrics.summary import summary_of
from tracker.terms import AttemptId

ROOT = Path(__file__).resolve().parents[2]
VECTORS = sorted((ROOT / "spec" / "vectors" / "metrics").glob("*.txt"))


def sections(path: Path) -> tuple[dict[str, str], dict[str, bytes], dict[str, object]]:
    header, *others = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    facts = dict(line.split(": ", 1) for line in header.splitlines())
    files, metrics = {}, {}
    for other in others:
        head, _, rest = other.partition("\n")
        if head.startswith("file: "):
            files[head.removeprefix("file: ")] = bytes.fromhex(rest)
        else:
            metrics = json.loads(rest)
    return facts, files, metrics


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def test_there_are_vectors() -> None:
    assert len(VECTORS) > 20


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_a_run_reads_as_its_vector_says(path: Path, world: World) -> None:
    facts, files, want = sections(path)
    write(world.root, files)
    if facts["exit"] == "2":
        with pytest.raises(VersionError):
            read_run(world.fd, facts["run"])
        return
    found = read_run(world.fd, facts["run"])
    rows = {
        name: [list(row) for row in zip(curve.steps, curve.times, curve.values, strict=True)]
        for name in sorted(found.names)
        for curve in [found.curve(name)]
    }
    got = {name: {"rows": rows[name], "summary": summary_of(found.curve(name))} for name in rows}

    assert exact(reference.plain(got)) == exact(want)
    assert bool(found.damage) == (facts["exit"] == "1")


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_the_reference_prints_what_its_vector_says(path: Path, tmp_path: Path) -> None:
    facts, files, want = sections(path)
    write(tmp_path, files)
    command = [sys.executable, str(ROOT / "spec" / "reference.py"), str(tmp_path), "--metrics", facts["run"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == int(facts["exit"])
    assert done.returncode == 2 or json.loads(done.stdout) == want


# Against a list of rows


def going_on(attempts: list[Rows]) -> Rows:
    """By the page, naively."""
    curve: Rows = []
    for rows in attempts:
        if rows:
            least = min(step for step, _ in rows)
            curve = [row for row in curve if row[0] < least] + rows
    return curve


NAMES = st.sampled_from(["loss", "acc", "val/loss", "é"])
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(width=64), st.floats(width=32), st.integers(-3, 3)
)
LOGGED = st.tuples(st.dictionaries(NAMES, VALUES, min_size=1), st.none() | st.integers(-5, 40))
ATTEMPTS = st.lists(st.lists(LOGGED | st.just("flush"), max_size=25), min_size=1, max_size=3)


@settings(max_examples=60)
@given(attempts=ATTEMPTS, ranked=st.booleans())
def test_what_is_read_is_what_was_logged(tmp_path_factory: pytest.TempPathFactory, attempts, ranked) -> None:
    world = World(tmp_path_factory.mktemp("world") / "store")
    logged: dict[str, list[Rows]] = {}
    for number, calls in enumerate(attempts):
        mine = world.recorders()
        recorder = mine.recorder(RUN, AttemptId(f"w-{number}"), rank=0 if ranked else None)
        step = -1
        rows: dict[str, Rows] = {}
        for call in calls:
            if call == "flush":
                recorder.flush()
                continue
            values, at = call
            step = step + 1 if at is None else at
            recorder.log(values, at)
            for name, value in values.items():
                rows.setdefault(name, []).append((step, value))
        for name in rows:
            logged.setdefault(name, []).append(rows[name])
        summary = mine.finish(RUN)
    want = {name: going_on(several) for name, several in logged.items()}
    found = world.read()

    try:
        assert found.damage == []
        assert exact({name: world.rows(name) for name in found.names}) == exact(want | {})
        assert exact(world.told()) == exact(want)
        told, _ = reference.metrics(world.root, RUN)
        said = {name: one["summary"] for name, one in told.items()}
        assert exact(found.summaries()) == exact({name: said[name] for name in found.names})
        assert calls == [] or summary == {} or exact(summary) == exact({name: said[name] for name in summary})
    finally:
        world.close()


# Attempts and ranks


def test_a_rank_is_asked_for_and_an_attempt(world: World) -> None:
    for number, (attempt, rank) in enumerate(itertools.product(("w-1", "w-2"), (1, 0))):
        mine = world.recorders()
        recorder = mine.recorder(RUN, AttemptId(attempt), rank=rank)
        for step in range(3):
            recorder.log({"loss": float(number)}, step + (2 if attempt == "w-2" else 0))
        if rank == 1:
            recorder.log({"one": 1})
        mine.seal()
    found = world.read()

    assert found.ranks("loss") == [0, 1]
    assert found.ranks("one") == [1]
    assert world.rows() == [(0, 1.0), (1, 1.0), (2, 3.0), (3, 3.0), (4, 3.0)]
    assert world.rows(rank=1) == [(0, 0.0), (1, 0.0), (2, 2.0), (3, 2.0), (4, 2.0)]
    assert world.rows(attempt="w-1") == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert world.rows(attempt="w-1", rank=1) == [(0, 0.0), (1, 0.0), (2, 0.0)]
    series, _ = reference.read_series(world.root, RUN)
    for asked in ({}, {"rank": 1}, {"attempt": "w-1"}, {"attempt": "w-2", "rank": 1}):
        told = [(row.step, row.value) for row in reference.curve_of(series, "loss", **asked)]
        assert world.rows(**asked) == told


UNKNOWN = [
    ("los", {}, "metric 'los' not found in run {run}; it has 'loss'"),
    ("acc", {}, "metric 'acc' not found in run {run}; it has 'val/acc'"),
    ("zzz", {}, "metric 'zzz' not found in run {run}; it has 'loss', 'val/acc'"),
    ("loss", {"rank": 7}, "metric 'loss' of rank 7 not found in run {run}; it was logged by rank None"),
    (
        "loss",
        {"attempt": "x-1"},
        "metric 'loss' of attempt x-1 not found in run {run}; it was logged by rank None",
    ),
]


@pytest.mark.parametrize(("name", "asked", "message"), UNKNOWN)
def test_an_unknown_name_is_told_with_those_like_it(world: World, name, asked, message) -> None:
    recorder = world.recorder()
    recorder.log({"loss": 1, "val": {"acc": 2}})
    recorder.flush()
    with pytest.raises(NotFoundError) as error:
        world.read().curve(name, **asked)

    assert str(error.value) == message.format(run=RUN)


def test_a_run_of_no_metrics_says_so(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"metric 'loss' not found in run .*; it logged none"):
        world.read().curve("loss")
    assert world.read().summaries() == {}


# Files


@pytest.fixture
def segments(world: World, small_limits: None) -> World:
    """A run of three sealed files and a live journal."""
    recorder = world.recorder()
    for number in range(26):
        for at in range(100):
            recorder.log({"loss": (number * 100 + at) / 7})
        recorder.flush()
    assert [path.suffix for path in world.files()] == [".seg", ".open"]
    return world


def test_a_journal_cut_anywhere_gives_the_rows_of_its_whole_frames(segments: World) -> None:
    *_, journal = segments.files()
    data = journal.read_bytes()
    whole = segments.rows()
    ends = {frame.end for frame in reference.read_segment(data, False, journal.name, reference.ROWS).frames}
    sealed = len(whole) - (len(ends) - 1) * 100
    for cut in range(0, len(data), 97):
        journal.write_bytes(data[:cut])
        found = segments.read()
        frames = sum(end <= cut for end in ends) - 1

        assert found.damage == []
        assert segments.rows() == whole[: sealed + 100 * max(frames, 0)]
        assert segments.told()["loss"] == segments.rows()


def test_a_flipped_bit_anywhere_is_named_and_costs_its_frame_at_most(segments: World) -> None:
    path, journal = segments.files()
    whole = segments.told()["loss"]
    for file in (path, journal):
        data = file.read_bytes()
        for at, bad in iter_flips(data, 331):
            file.write_bytes(bad)
            found = segments.read()
            rows = segments.rows()

            assert found.damage or file is journal, f"byte {at} of {file.name}"
            assert set(rows) <= set(whole), f"byte {at} of {file.name}"
            assert len(rows) >= len(whole) - 100 or rows == whole[: len(rows)], f"byte {at} of {file.name}"
            assert segments.told().get("loss", []) == rows
        file.write_bytes(data)


def test_damage_is_warned_about_and_the_rest_is_read(segments: World) -> None:
    path, _ = segments.files()
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.warns(TrackerWarning, match=r"metrics of train/.*: .*\.seg: byte \d+: .*; `tracker verify`"):
        found = read_warned(segments.fd, RUN)

    assert 0 < len(found.curve("loss").steps) < 2600


def test_a_journal_that_comes_back_beside_its_segment_is_hidden(world: World) -> None:
    mine = world.recorders()
    recorder = mine.recorder(RUN, AttemptId("w-1"))
    recorder.log({"loss": 1.0})
    recorder.flush()
    (journal,) = world.files()
    copy = shutil.copy(journal, world.root / "copy")
    recorder.log({"loss": 2.0})
    mine.finish(RUN)
    shutil.copy(copy, journal)

    assert len(world.files()) == 2
    assert world.rows() == [(0, 1.0), (1, 2.0)]


def test_a_file_under_the_name_of_another_run_is_of_neither(world: World) -> None:
    mine = world.recorders()
    mine.recorder(RUN, AttemptId("w-1")).log({"loss": 1.0})
    other = RUN.replace("train", "eval")
    mine.finish(RUN)
    (path,) = world.files()
    path.rename(path.with_name(path.name.replace(ref16(RUN), ref16(other))))
    found = read_run(world.fd, other)

    assert found.names == []
    assert found.damage == [f".tracker/metrics/ab/{world.files()[0].name}: it is of run {RUN}"]


def ref16(ref: str) -> str:
    return reference.blake3(ref.encode()).hexdigest()[:16]


def test_a_million_points_are_written_and_read(world: World) -> None:
    mine = world.recorders()
    log = mine.recorder(RUN, AttemptId("w-1")).log
    for number in range(1_000_000):
        log({"x": number * 0.5})
    mine.finish(RUN)
    series = series_of(world.read().curve("x"))

    assert len(series) == 1_000_000
    assert (series.values == numpy.arange(1_000_000) * 0.5).all()
    assert (series.steps == numpy.arange(1_000_000)).all()
    assert sum(path.stat().st_size for path in world.files()) < 6_000_000  # singles hold halves exactly


# Series and tables


CURVE = Curve(range(5), array("d", [3.0, 1.0, math.nan, 5.0, 2.0]), array("q", [10, 11, 12, 13, 14]))


def test_a_series_is_of_numpy_where_it_is_there_and_of_the_standard_library_elsewhere(monkeypatch) -> None:
    with_numpy = series_of(CURVE)
    monkeypatch.setattr(series_room, "_numpy", lambda: None)
    without = series_of(CURVE)

    assert (with_numpy.steps.dtype, with_numpy.values.dtype) == (numpy.int64, numpy.float64)
    assert (without.steps.typecode, without.values.typecode) == ("q", "d")
    assert exact(list(without.values)) == exact(with_numpy.values.tolist())
    assert exact(list(without.thin(4).values)) == exact(with_numpy.thin(4).values.tolist())


def test_integers_stay_integers_and_mixed_ones_become_floats() -> None:
    assert series_of(Curve([0], array("q", [2**62]), [1])).values.tolist() == [2**62]
    assert exact(series_of(Curve([0, 1], [1, 0.5], [1, 1])).values.tolist()) == exact([1.0, 0.5])


def test_thinning_keeps_both_ends_and_every_extreme_of_a_stretch() -> None:
    draw = random.Random(7)
    values = [draw.gauss(0, 1) for _ in range(10_000)]
    values[1234], values[8765], values[5000] = 99.0, -99.0, math.nan
    thin = series_of(Curve(range(10_000), array("d", values), range(10_000))).thin(500)

    assert 400 < len(thin) <= 500
    assert (thin.steps[0], thin.steps[-1]) == (0, 9999)
    assert {1234, 8765} <= set(thin.steps.tolist())
    assert 5000 not in thin.steps
    assert thin.steps.tolist() == sorted(set(thin.steps.tolist()))
    assert all(values[step] == value for step, value in zip(thin.steps, thin.values, strict=True))


@given(st.lists(st.floats() | st.just(math.nan), max_size=60), st.integers(4, 40))
def test_a_thinned_series_is_at_most_as_long_as_asked_for(values: list[float], points: int) -> None:
    whole = series_of(Curve(range(len(values)), array("d", values), range(len(values))))
    thin = whole.thin(points)

    assert len(thin) <= points or len(thin) == len(values) <= points
    kept = [(step, values[step]) for step in thin.steps.tolist()]
    assert exact(kept) == exact(list(zip(thin.steps.tolist(), thin.values.tolist(), strict=True)))
    there = [value for value in values if value == value]
    if there and len(values) > points:
        numbers = [value for value in thin.values.tolist() if value == value]
        assert (min(numbers), max(numbers)) == (min(there), max(there))


def test_thinning_to_less_than_four_points_is_refused() -> None:
    with pytest.raises(ValueError, match=r"points=3: give 4 or more"):
        series_of(CURVE).thin(3)


def test_a_wide_table_has_a_row_a_step_and_a_long_one_a_row_a_number() -> None:
    curves = {
        "loss": Curve([0, 1, 1], array("d", [0.5, 0.25, 0.125]), [10, 20, 30]),
        "acc": Curve([1, 3], array("q", [7, 8]), [25, 40]),
    }
    wide = {name: list(column) for name, column in history_of(curves).items()}
    long = {name: list(column) for name, column in history_of(curves, "long").items()}

    assert exact(wide) == exact(
        {
            "step": [numpy.int64(n) for n in (0, 1, 3)],
            "time": [numpy.int64(n) for n in (10, 30, 40)],
            "loss": [numpy.float64(n) for n in (0.5, 0.125, math.nan)],
            "acc": [numpy.float64(n) for n in (math.nan, 7, 8)],
        }
    )
    assert long["metric"] == ["loss"] * 3 + ["acc"] * 2
    assert [int(step) for step in long["step"]] == [0, 1, 1, 1, 3]
    assert [float(value) for value in long["value"]] == [0.5, 0.25, 0.125, 7.0, 8.0]
