"""A bare `.tracker` in which several writers log, read by the package and by the reference."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reference

from tracker._disk import host
from tracker.metrics import Recorder, Recorders, RunMetrics, read_run
from tracker.metrics.curves import Curve
from tracker.terms import AttemptId, RunRef, WriterId

UID = "ab" * 16
RUN = RunRef(f"train/{UID}")

Rows = list[tuple[int, int | float]]
"""Steps and values."""


class World:
    """A store, and writers in it as if each were a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".tracker").mkdir(parents=True, exist_ok=True)
        self.fd = os.open(root / ".tracker", os.O_RDONLY)
        self._made: list[Recorders] = []

    def recorders(self) -> Recorders:
        """Those of another process."""
        writer = WriterId(host.new_writer_id(host.now_ms(), os.urandom(10)))
        made = Recorders(self.fd, writer, host.this_process(), "0")
        self._made.append(made)
        return made

    def recorder(self, attempt: str | None = "w-1", rank: int | None = None, **options: Any) -> Recorder:
        of = None if attempt is None else AttemptId(attempt)
        return self.recorders().recorder(RUN, of, rank=rank, **options)

    def read(self) -> RunMetrics:
        return read_run(self.fd, RUN)

    def rows(self, name: str = "loss", **asked: Any) -> Rows:
        """By the package."""
        return rows_of(self.read().curve(name, **asked))

    def told(self) -> dict[str, Rows]:
        """By the reference: every curve."""
        found, _ = reference.metrics(self.root, RUN)
        return {name: [(row[0], row[2]) for row in one["rows"]] for name, one in found.items()}

    def files(self) -> list[Path]:
        return sorted(path for path in (self.root / ".tracker" / "metrics").rglob("*") if path.is_file())

    def close(self) -> None:
        for one in self._made:
            one.forget_after_fork()
        os.close(self.fd)


def rows_of(curve: Curve) -> Rows:
    return list(zip(curve.steps, curve.values, strict=True))


def exact(value: Any) -> Any:
    """Something equal only for the same number of the same type, bit for bit."""
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, tuple | list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return type(value).__name__, value


def iter_flips(data: bytes, stride: int) -> Iterator[tuple[int, bytes]]:
    """Copies with one bit changed, and where."""
    for at in range(0, len(data), stride):
        yield at, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
