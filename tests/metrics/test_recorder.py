"""What log() takes and refuses, when rows are in the file, and what happens where the disk refuses.

Spec: spec/metrics.md sections 3 and 4.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from metrics_world import RUN, World, exact

from tracker._disk import durable, host
from tracker.errors import MetricError, StateError, StorageError
from tracker.metrics import Recorder, rank_of
from tracker.metrics import recorder as recorders
from tracker.metrics.sampling import Sampler, parse_gpus
from tracker.terms import AttemptId


class Tensor:
    """As torch's: a number behind `item()`, and what it holds may change later."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def item(self) -> float:
        if len(self.values) != 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.values[0]


def test_a_row_has_its_numbers_and_the_next_step(world: World) -> None:
    recorder = world.recorder()
    recorder.log({"loss": 0.5, "n": 1})
    recorder.log({"loss": 0.25})
    recorder.log({"loss": math.nan}, step=10)
    recorder.log({"loss": -0.0, "n": 3})
    recorder.log({"loss": 1}, 4)
    recorder.log({"loss": 2})
    recorder.flush()
    want = {"loss": [(0, 0.5), (1, 0.25), (10, math.nan), (11, -0.0), (4, 1), (5, 2)], "n": [(0, 1), (11, 3)]}

    assert exact(world.told()) == exact(want)
    assert exact({name: world.rows(name) for name in want}) == exact(want)
    assert world.read().names == ["loss", "n"]


def test_numbers_of_other_libraries_are_taken_when_they_are_logged(world: World) -> None:
    recorder = world.recorder()
    tensor = Tensor(0.5)
    values: dict[str, Any] = {
        "f32": numpy.float32(0.1),
        "f64": numpy.float64(0.1),
        "i": numpy.int64(3),
        "b": numpy.bool_(True),
        "a": numpy.array(2.5),
        "t": tensor,
        "true": True,
        "big": 2**70,
    }
    recorder.log(values)
    tensor.values = [9.0]
    recorder.log(values)
    recorder.flush()
    first = {name: rows[0][1] for name, rows in world.told().items()}

    assert exact(first) == exact(
        {
            "a": 2.5, "b": 1, "big": float(2**70), "f32": float(numpy.float32(0.1)), "f64": 0.1, "i": 3,
            "t": 0.5, "true": 1,
        }
    )  # fmt: skip
    assert world.told()["t"] == [(0, 0.5), (1, 9.0)]


def test_maps_in_maps_are_written_flat(world: World) -> None:
    recorder = world.recorder()
    recorder.log({"val": {"acc": 0.5, "by": {"class": 1}}, "loss": 1.0})
    recorder.flush()

    assert world.told() == {"loss": [(0, 1.0)], "val/acc": [(0, 0.5)], "val/by/class": [(0, 1)]}


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "None": ({"loss": None}, {}, "metric 'loss' = None: it is None; log a number"),
    "text": ({"loss": "0.3"}, {}, "metric 'loss' = '0.3': it is a text; log a number"),
    "list": ({"a": {"b": [1]}}, {}, "metric 'a/b' = [1]: it is of type list; log a number"),
    "complex": ({"loss": 1j}, {}, "metric 'loss' = 1j: it is of type complex; log a number"),
    "array": (
        {"x": numpy.array([1, 2])},
        {},
        "metric 'x' = array([1, 2]): it holds not one number (ndarray); log one, its mean() for instance",
    ),
    "no name": ({"": 1}, {}, "metric '' = 1: the name is empty; name it otherwise"),
    "control": ({"a\nb": 1}, {}, "metric 'a\\nb' = 1: the name holds a control character; name it otherwise"),
    "surrogate": ({"\ud800": 1}, {}, "metric '\\ud800' = 1: the name has no UTF-8 form; name it otherwise"),
    "number as name": ({1: 2}, {}, "metric '1' = 2: the name 1 is no text; name metrics by texts"),
    "twice": (
        {"a": {"b": 1}, "a/b": 2},
        {},
        "metric 'a/b' = 2: two values have this name in one row; log one of them",
    ),
    "nothing": ({}, {}, "metric '' = {}: nothing to log; give one number or more, as log({\"loss\": 0.3})"),
    "no map": (0.5, {}, "metric '' = 0.5: it is no map; give names and numbers, as log({\"loss\": 0.3})"),
    "step": (
        {"x": 1},
        {"step": 0.5},
        "metric 'step' = 0.5: it is no integer; count steps by integers, and log an epoch's part as a metric",
    ),
    "far step": (
        {"x": 1},
        {"step": 2**60},
        f"metric 'step' = {2**60}: it is not in −2^52 to 2^52; count from 0",
    ),
    "time": (
        {"x": 1},
        {"time_s": -1.0},
        "metric 'time' = -1.0: it is not in 1970 to 287396; give what time.time() gives",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_row_is_refused_in_one_line_and_leaves_nothing(world: World, case: str) -> None:
    values, options, message = REFUSED[case]
    recorder = world.recorder()
    recorder.log({"x": 7, "loss": 1.0})
    with pytest.raises(MetricError) as refused:
        recorder.log(values, **options)
    recorder.log({"x": 8})
    recorder.flush()

    assert str(refused.value) == message
    assert world.told() == {"x": [(0, 7), (1, 8)], "loss": [(0, 1.0)]}


def test_a_name_that_was_a_number_before_is_looked_at_again(world: World) -> None:
    recorder = world.recorder()
    recorder.log({"x": 1})
    with pytest.raises(MetricError, match="it is None"):
        recorder.log({"x": None})
    recorder.log({"x": 0.5})
    recorder.flush()

    assert exact(world.told()) == exact({"x": [(0, 1), (1, 0.5)]})


def test_rows_are_in_the_file_at_their_number_or_their_age(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_793_610_000_000]
    monkeypatch.setattr(recorders, "_now_ns", lambda: now[0] * 1_000_000)
    recorder = world.recorder()
    for _ in range(recorders.FLUSH_ROWS - 1):
        recorder.log({"x": 1})
    assert world.files() == []
    recorder.log({"x": 1})
    assert len(world.told()["x"]) == recorders.FLUSH_ROWS

    recorder.log({"x": 2})
    now[0] += 4999
    recorder.log({"x": 2})
    recorder.flush_due(now[0])
    assert len(world.told()["x"]) == recorders.FLUSH_ROWS
    now[0] += 1
    recorder.flush_due(now[0])
    assert len(world.told()["x"]) == recorders.FLUSH_ROWS + 2

    recorder.log({"x": 3})
    now[0] += 5000
    recorder.log({"x": 3})
    assert len(world.told()["x"]) == recorders.FLUSH_ROWS + 4


def test_rows_of_many_names_are_written_before_they_are_too_many_for_a_frame(world: World) -> None:
    recorder = world.recorder()
    for number in range(5):
        recorder.log({f"{'n' * 480}{at}": number for at in range(2000)})
    recorder.flush()
    told = world.told()

    assert all(len(rows) == 5 for rows in told.values())
    assert len(told) == 2000


def test_names_that_come_once_are_all_kept(world: World) -> None:
    recorder = world.recorder()
    for number in range(5000):
        recorder.log({f"n{number}": number})
    recorder.flush()

    assert world.told() == {f"n{number}": [(number, number)] for number in range(5000)}


def test_the_end_seals_and_gives_the_summary(world: World) -> None:
    mine = world.recorders()
    recorder = mine.recorder(RUN, AttemptId("w-1"))
    for value in (3, 1.5, math.nan, 7.0, 1.5):
        recorder.log({"loss": value, "n": 0})
    summary = mine.finish(RUN)

    assert [path.suffix for path in world.files()] == [".seg"]
    assert summary == world.read().summaries()
    assert summary["loss"] == {
        "last": 1.5, "last_step": 4, "min": 1.5, "min_step": 1, "max": 7.0, "max_step": 3, "count": 5,
    }  # fmt: skip
    assert list(summary) == ["loss", "n"]
    with pytest.raises(StateError, match="its metrics are sealed; log before done"):
        recorder.log({"loss": 1})
    assert mine.finish(RUN) == {}


def test_a_run_that_logged_nothing_leaves_no_file(world: World) -> None:
    mine = world.recorders()
    mine.recorder(RUN, AttemptId("w-1"))

    assert mine.finish(RUN) == {}
    assert world.files() == []


def test_segments_are_sealed_at_their_size(world: World, small_limits: None) -> None:
    mine = world.recorders()
    recorder = mine.recorder(RUN, AttemptId("w-1"))
    want = []
    for number in range(40):
        for at in range(100):
            want.append((number * 100 + at, (number * 100 + at) / 7))
            recorder.log({"loss": want[-1][1]})
        recorder.flush()
    mine.finish(RUN)

    assert len(world.files()) >= 2
    assert all(path.stat().st_size <= 20_000 and path.suffix == ".seg" for path in world.files())
    assert world.told()["loss"] == want
    assert world.rows() == want


def test_a_second_attempt_of_one_process_goes_on_with_the_series(world: World) -> None:
    mine = world.recorders()
    for attempt in ("w-1", "w-9"):
        recorder = mine.recorder(RUN, AttemptId(attempt))
        recorder.log({"loss": 1.0}, step=5 if attempt == "w-9" else 0)
        summary = mine.finish(RUN)

    assert [path.name.rsplit("-", 2)[1] for path in world.files()] == ["0", "1"]
    assert world.rows() == [(0, 1.0), (5, 1.0)]
    assert summary["loss"]["count"] == 2
    assert world.read().attempts == ["w-1", "w-9"]


def test_threads_log_at_once_and_no_row_is_lost(world: World) -> None:
    recorder = world.recorder()

    def work(name: str) -> None:
        for number in range(6000):
            recorder.log({name: number})

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.flush()
    told = world.told()

    assert {name: [value for _, value in rows] for name, rows in told.items()} == {
        f"t{number}": list(range(6000)) for number in range(4)
    }
    assert sorted(step for rows in told.values() for step, _ in rows) == list(range(24_000))


class FullDisk:
    """`os` as the writing half sees it: writes fail while `is_full`, after half of the bytes where `half`."""

    def __init__(self) -> None:
        self.is_full = False
        self.half = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: Any) -> int:
        data = bytes(data)  # the traceback of a failure keeps this frame: it must not hold a view of memory
        if self.is_full:
            if self.half and len(data) > 1:
                os.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "no space left")
        return os.write(fd, data)


@pytest.mark.parametrize("half", [False, True])
def test_where_the_disk_is_full_the_rows_stay_and_come_later(
    world: World, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    disk = FullDisk()
    disk.half = half
    monkeypatch.setattr(durable, "os", disk)
    mine = world.recorders()
    recorder = mine.recorder(RUN, AttemptId("w-1"))
    want = []
    for number in range(12):
        disk.is_full = number in (0, 3, 4, 8)
        recorder.log({"x": number})
        want.append((number, number))
        if disk.is_full:
            with pytest.raises(StorageError, match="no space left"):
                recorder.flush()
        else:
            recorder.flush()
            assert world.told()["x"] == want
    summary = mine.finish(RUN)

    assert world.told()["x"] == want
    assert summary["x"]["count"] == 12
    assert {path.suffix for path in world.files()} == {".seg"}


def test_a_full_disk_is_told_once_in_so_many_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    monkeypatch.setattr(durable, "os", disk)
    recorder = world.recorder()
    disk.is_full = True
    told = 0
    for number in range(3 * recorders.FLUSH_ROWS):
        try:
            recorder.log({"x": number})
        except StorageError:
            told += 1
    assert told == 3
    disk.is_full = False
    recorder.flush()

    assert world.told()["x"] == [(number, number) for number in range(3 * recorders.FLUSH_ROWS)]


@pytest.mark.parametrize("way", ["gone", "shortened", "another"])
def test_a_journal_that_was_tampered_with_loses_nothing(world: World, way: str) -> None:
    recorder = world.recorder()
    recorder.log({"x": 1})
    recorder.flush()
    (path,) = world.files()
    if way == "gone":
        path.unlink()
    elif way == "shortened":
        os.truncate(path, 30)
    else:
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes()[:100])
        copy.rename(path)
    recorder.log({"x": 2})
    recorder.flush()

    assert world.told() == {"x": [(0, 1), (1, 2)]}


RANKS = [
    ({}, None),
    ({"RANK": "3"}, 3),
    ({"SLURM_PROCID": "2", "RANK": ""}, 2),
    ({"RANK": "x", "OMPI_COMM_WORLD_RANK": "1"}, 1),
    ({"PMI_RANK": "0"}, 0),
    ({"RANK": "-1"}, None),
    ({"RANK": "²"}, None),
]


@pytest.mark.parametrize(("environ", "rank"), RANKS)
def test_the_rank_is_that_of_the_environment(environ: dict[str, str], rank: int | None) -> None:
    assert rank_of(environ) == rank


FORKED = """
import os, sys
sys.path[:0] = sys.argv[2:]
from metrics_world import RUN, World
from pathlib import Path

world = World(Path(sys.argv[1]))
mine = world.recorders()
recorder = mine.recorder(RUN, "w-1")
recorder.log({"x": 1})
if os.fork() == 0:
    mine.forget_after_fork()
    other = world.recorders()
    other.recorder(RUN, "w-1").log({"y": 2})
    other.finish(RUN)
    os._exit(0)
os.wait()
mine.finish(RUN)
"""


def test_a_forked_child_writes_its_own_rows_alone(tmp_path: Path) -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2] / "spec")]
    subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "s"), *folders], check=True, timeout=60)
    files = [*(tmp_path / "s").rglob("*.seg")]

    assert len(files) == 2
    assert sum(b"\xa1x" in path.read_bytes() for path in files) == 1


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_a_row_that_was_taken_as_all_are_closed_is_written(world: World, restless: None) -> None:
    taken = 0
    for number in range(100):
        mine = world.recorders()
        recorder = mine.recorder(RUN, AttemptId(f"w-{number}"))
        counts: list[int] = []

        def log(recorder: Recorder, first: int, counts: list[int]) -> None:
            with contextlib.suppress(StateError):
                for count in itertools.count(1):
                    recorder.log({"loss": 1.0}, step=first + count)
                    counts[:] = [count]

        thread = threading.Thread(target=log, args=(recorder, number * 10**6, counts))
        thread.start()
        while not counts:
            pass
        mine.close()
        thread.join(20)
        taken += counts[0]

    assert len(world.rows()) == taken


def test_samples_are_logged_beside_and_leave_the_steps_alone(world: World) -> None:
    recorder = world.recorder()
    recorder.log({"loss": 1.0})
    taken = threading.Event()

    def log(values: Any, step: int) -> None:
        recorder.log(values, step, is_aside=True)
        if step == 2:
            taken.set()

    sampler = Sampler(log, 0.01)
    assert taken.wait(20)
    sampler.stop()
    recorder.log({"loss": 2.0})
    recorder.flush()

    assert world.rows() == [(0, 1.0), (1, 2.0)]
    assert world.rows("system/rss_bytes")[0][1] > 1 << 20
    assert [step for step, _ in world.rows("system/cpu")][:2] == [1, 2]


def test_what_a_gpu_says_is_read_line_by_line() -> None:
    assert parse_gpus("0, 37, 1024\n1, [N/A], 5\nfailed\n2, 0, 1\n") == {
        "system/gpu0/percent": 37,
        "system/gpu0/memory_bytes": 1 << 30,
        "system/gpu2/percent": 0,
        "system/gpu2/memory_bytes": 1 << 20,
    }


def test_the_clock_of_a_series_is_later_than_the_attempt_that_it_is_of(world: World) -> None:
    ahead = (host.now_ms() + 3_600_000) << 16
    world.recorder("w-1", began=ahead).log({"x": 1})
    world.recorder("w-2").log({"x": 2})
    for mine in world._made:
        mine.seal()

    assert world.read().attempts == ["w-2", "w-1"]
