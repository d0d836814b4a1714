"""The block log: what a disk was told, in order, and the disks a power cut could have left.

It knows bytes and plans. It mounts nothing and knows nothing of stores.

| record | bytes |
|---|---|
| write | `W`, u64 offset, u32 size (little-endian), data |
| flush | `F` |
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WRITE_HEAD = struct.Struct("<QI")


@dataclass(frozen=True, slots=True)
class Write:
    """`size` bytes for disk offset `offset`; they lie in the log from byte `start` on."""

    offset: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment: the log had `position` bytes, `written` writes, `durable` of them before its last flush."""

    position: int
    written: int
    durable: int


@dataclass(frozen=True, slots=True)
class BlockLog:
    """A whole log in memory: `cuts[i]` is the moment after record i."""

    data: memoryview
    writes: list[Write]
    cuts: list[Cut]


def format_write(offset: int, data: bytes) -> bytes:
    """Give the record of one write."""
    return b"W" + _WRITE_HEAD.pack(offset, len(data)) + data


FLUSH = b"F"


def parse_log(data: bytes) -> BlockLog:
    """Find the records of a log; a short last record is ignored.

    Raises: ValueError at a byte that begins no record.
    """
    view = memoryview(data)
    writes: list[Write] = []
    cuts: list[Cut] = []
    position = durable = 0
    while position < len(view):
        kind = view[position]
        if kind == ord("W"):
            start = position + 1 + _WRITE_HEAD.size
            if start > len(view):
                break
            offset, size = _WRITE_HEAD.unpack_from(view, position + 1)
            if start + size > len(view):
                break
            writes.append(Write(offset, start, size))
            position = start + size
        elif kind == ord("F"):
            durable = len(writes)
            position += 1
        else:
            raise ValueError(f"byte {position} of the block log begins no record: {kind:#04x}")
        cuts.append(Cut(position, len(writes), durable))
    return BlockLog(view, writes, cuts)


def plan_survivors(log: BlockLog, cut: Cut, rng: random.Random, sectors: Sequence[int]) -> list[Write]:
    """Choose which unflushed writes reached the disk before the power went, in the order they were told.

    All writes before the last flush are durable and not in the plan. Of the later ones a random share is
    whole; of the rest some are torn: a random subset of their sectors (of one of the sizes in `sectors`)
    is there.
    """
    share_whole = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    share_torn = rng.choice((0.0, 0.3)) if sectors else 0.0
    survivors: list[Write] = []
    for write in log.writes[cut.durable : cut.written]:
        if rng.random() < share_whole:
            survivors.append(write)
        elif rng.random() < share_torn:
            survivors += tear(write, rng.choice(sectors), rng)
    return survivors


def tear(write: Write, sector: int, rng: random.Random) -> list[Write]:
    """Give a random subset of the sectors of `write`, each as a write of its own."""
    share = rng.random()
    return [
        Write(write.offset + at, write.start + at, min(sector, write.size - at))
        for at in range(0, write.size, sector)
        if rng.random() < share
    ]


class Platter:
    """A disk image that moves forward through a log, and of which crashed copies are made."""

    def __init__(self, path: Path, base: Path, log: BlockLog) -> None:
        copy_sparse(base, path)
        self._path = path
        self._log = log
        self._applied = 0

    def crash(self, cut: Cut, survivors: Sequence[Write], target: Path) -> None:
        """Make `target` the disk with all writes durable at `cut` and the `survivors`.

        Cuts must come in order: what was applied is not taken back.
        """
        assert cut.durable >= self._applied, "cuts must come in order"
        self._apply(self._path, self._log.writes[self._applied : cut.durable])
        self._applied = cut.durable
        copy_sparse(self._path, target)
        self._apply(target, survivors)

    def _apply(self, image: Path, writes: Sequence[Write]) -> None:
        descriptor = os.open(image, os.O_WRONLY)
        try:
            for write in writes:
                os.pwrite(descriptor, self._log.data[write.start : write.start + write.size], write.offset)
        finally:
            os.close(descriptor)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file and keep its holes."""
    target.unlink(missing_ok=True)
    subprocess.run(["cp", "--sparse=auto", "--reflink=auto", source, target], check=True)
