"""W9: sealing a long file beside b3sum, and many short ones beside a loop that opens and reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from tools.bench.bench import MICRO, MILLI, Bench
from tools.bench.report import Row
from tools.bench.workload import Figures, timed
from tracker._model.event import Attachment
from tracker._store.sealing import seal_files

LONG_BYTES = 2 << 30
SHORT_BYTES = 4 << 10
SHORT_FILES = 20_000
_PIECE = 16 << 20

_Answer = TypeVar("_Answer")


def w9(bench: Bench) -> list[Row]:
    """In this process, file and folder in page cache; floor and tracker in turn, the best of each stands.

    The best, since both are bound by memory and cores that others may use meanwhile.
    """
    (files,) = bench.sizes(SHORT_FILES)
    size = LONG_BYTES if bench.runs is None else bench.runs * SHORT_BYTES * 100
    return [*_long_rows(bench, size), *_short_rows(bench, files)]


def _long_rows(bench: Bench, size: int) -> list[Row]:
    folder = Path(bench.fresh())
    _make_long(folder, size)
    if shutil.which("b3sum") is None:
        return [Row("W9", "b3sum is not installed", size, "bytes")]
    command = ["b3sum", "--no-names", str(folder / "long")]
    floor, ours = [], []
    for turn in range(bench.repeats):
        bench.say(f"W9, turn {turn + 1} of {bench.repeats}")
        floor.append(_wall(lambda: subprocess.run(command, check=True, capture_output=True).stdout))
        (folder / "long").touch()  # what has just changed is read, whatever a cache knows
        ours.append(_wall(lambda: _digest_of(folder, "long")))
        assert ours[-1][1] == floor[-1][1].decode().strip(), "W9: b3sum says otherwise"
    time.sleep(2.1)  # from here on the file has settled
    _digest_of(folder, "long")
    again = [_wall(lambda: _digest_of(folder, "long")) for _ in range(bench.repeats)]
    best, unchanged = min(floor)[0], min(again)[0]
    mine = min(ours)[0]
    rate = best / mine
    label = f"{size / 2**30:.3g} GiB"
    return [
        Row("W9", f"b3sum, {label}", best * MILLI, "ms wall", note=f"{size / best / 1e9:.1f} GB/s"),
        Row("W9", f"tracker seals, {label}", mine * MILLI, "ms wall", ratio=rate, against="the rate of b3sum",
            goal="≥ 0.9", met=rate >= 0.9, note=f"{size / mine / 1e9:.1f} GB/s"),
        Row("W9", f"tracker seals again, {label}", unchanged * MILLI, "ms wall", note="unchanged: not read"),
    ]  # fmt: skip


def _short_rows(bench: Bench, files: int) -> list[Row]:
    folder = Path(bench.fresh())
    paths = _make_short(folder, files)
    hashing, floor, ours = [], [], []
    for _ in range(bench.repeats):
        floor.append(_cpu(timed(lambda: _read_all(paths))))
        hashing.append(_cpu(timed(lambda: _hash_all(paths))))
        ours.append(
            _cpu(timed(lambda: len(seal_files(folder, [Attachment("many", "many", external=False)]))))
        )
    best, hashed, mine = min(floor), min(hashing), min(ours)
    return [
        Row("W9", f"open and read, {files:,} × 4 KiB", best / files * MICRO, "µs/file"),
        Row("W9", f"open, read and hash, {files:,} × 4 KiB", hashed / files * MICRO, "µs/file",
            ratio=best / hashed, against="the rate of reading", note="the least that any sealing costs"),
        Row("W9", f"tracker seals, {files:,} × 4 KiB", mine / files * MICRO, "µs/file", ratio=best / mine,
            against="the rate of reading", goal="≥ 0.8", met=best / mine >= 0.8,
            note=f"{hashed / mine:.2f} × the rate of reading and hashing"),
    ]  # fmt: skip


def _make_long(folder: Path, size: int) -> None:
    folder.mkdir()
    piece = os.urandom(min(_PIECE, size))
    with open(folder / "long", "wb") as file:
        while size:
            size -= file.write(piece[:size])


def _make_short(folder: Path, files: int) -> list[str]:
    paths = []
    for number in range(files):
        inner = folder / "many" / f"{number // 1000:03}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"file_{number:06}.bin").write_bytes(os.urandom(SHORT_BYTES))
        paths.append(str(inner / f"file_{number:06}.bin"))
    return paths


def _digest_of(folder: Path, name: str) -> str:
    (file,) = seal_files(folder, [Attachment(name, name, external=False)])
    assert file.digest is not None, "it is there"
    return file.digest.hex()


def _read_all(paths: list[str]) -> int:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, SHORT_BYTES + 1)
        os.close(fd)
    return len(paths)


def _hash_all(paths: list[str]) -> int:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        blake3(os.read(fd, SHORT_BYTES + 1)).digest()
        os.close(fd)
    return len(paths)


def _cpu(figures: Figures) -> float:
    assert figures["answer"], "no file was read"
    cpu_s: float = figures["cpu_s"]
    return cpu_s


def _wall(work: Callable[[], _Answer]) -> tuple[float, _Answer]:
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer
