"""The bench's rows run at a tiny size and print figures, and its stores answer rightly while they do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.bench import __main__ as program
from tools.bench import metrics, million, peers, queries, sealing
from tools.bench.bench import Bench
from tools.bench.report import Row
from tools.bench.workload import config
from tracker import Project

RUNS = 40


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TRACKER_CACHE", str(tmp_path / "cache"))
    return Bench(tmp_path, runs=RUNS, repeats=1)


def by_name(rows: list[Row]) -> dict[str, Row]:
    assert rows, "no row is printed"
    assert all(row.value > 0 for row in rows)
    return {row.what: row for row in rows}


def test_the_million_tells_its_size_rate_and_memory(bench: Bench) -> None:
    rows = by_name(million.million(bench))

    assert rows["on disk, index included"].unit == "bytes/run"
    built = rows[f"index build, {RUNS} runs"]
    assert built.unit == "runs/s"
    assert "peak" in built.note
    assert {row.unit for row in rows.values()} >= {"events/s", "MB", "ms", "s"}
    assert sum(row.met is not None for row in rows.values()) >= 6, "goals are judged"


def test_the_million_is_refused_where_the_disk_is_too_small(bench: Bench) -> None:
    bench.runs = 10**12

    with pytest.raises(million.DiskLowError, match=r"GB are free"):
        million.million(bench)


def test_a_query_is_measured_beside_the_floor(bench: Bench) -> None:
    sqlite, tracker = queries.w4(bench)

    assert tracker.ratio == pytest.approx(tracker.value / sqlite.value)


def test_frames_are_measured_where_pandas_is(bench: Bench) -> None:
    pytest.importorskip("pandas")

    sqlite, tracker = queries.w5(bench)

    assert tracker.ratio == pytest.approx(tracker.value / sqlite.value)


def test_the_query_of_the_bench_is_true_of_the_configs_that_it_counts(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for number in range(RUNS):
        project.session("train", params=config(number)).start().done()

    assert 0 < len(project.runs(queries.QUERY)) == queries.matching(RUNS) < RUNS


def test_sealing_is_measured_beside_b3sum_and_a_loop_that_reads(bench: Bench) -> None:
    rows = by_name(sealing.w9(bench))
    reading, mine = rows[f"open and read, {RUNS} × 4 KiB"], rows[f"tracker seals, {RUNS} × 4 KiB"]

    assert mine.ratio == pytest.approx(reading.value / mine.value)
    assert sum(row.met is not None for row in rows.values()) >= 1, "goals are judged"


def test_metrics_are_measured_beside_a_log_and_json_lines(bench: Bench) -> None:
    rows = by_name(metrics.w6(bench))
    packed, mine = rows[f"append to a log, {RUNS} rows"], rows[f"tracker, {RUNS} rows, sealed"]

    assert mine.ratio == pytest.approx(mine.value / packed.value)
    assert rows["append to a log, size"].value == 40
    assert rows["tracker, read as arrays"].unit == "values/s"


def test_a_peer_that_cannot_be_installed_is_skipped_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PACKAGES", ("./no-such-package",))

    (row,) = peers.signac(bench)

    assert row.what == "skipped"
    assert "no-such-package" in row.note


def test_the_table_is_printed_and_the_folder_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKER_CACHE", "set back after the test")
    monkeypatch.setattr(program, "system", lambda bench: [])

    code = program.main(
        ["--only", "W4", "--runs", str(RUNS), "--repeats", "1", "--dir", str(tmp_path), "--json"]
    )

    assert code == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    assert not list(tmp_path.iterdir())
