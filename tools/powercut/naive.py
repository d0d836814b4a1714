"""Naive writers: no part of tracker, they keep objects with a known fault or with none.

They show what the tester finds, and that it blames no one who is sound.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from tools.powercut.oracle import OracleWriter, PromisedFile

SIZES = (1, 900, 4096, 5000, 70_000)


@dataclass(frozen=True, slots=True)
class Manner:
    """What a writer does around its rename, and whether it promises that the object stays."""

    syncs_file: bool
    syncs_folder: bool
    promises: bool


NAIVE = {
    "sound": Manner(syncs_file=True, syncs_folder=True, promises=True),
    "unsynced": Manner(syncs_file=False, syncs_folder=False, promises=True),
    "unsynced-name": Manner(syncs_file=True, syncs_folder=False, promises=True),
    "unsynced-bytes": Manner(syncs_file=False, syncs_folder=True, promises=False),
}


def keep_objects(root: Path, oracle: OracleWriter, name: str, count: int, manner: Manner) -> None:
    """Put random objects under their digests, as tracker's layout has them.

    Every fourth time an unrelated file is synced, as another program would: that takes names to the disk
    whose bytes are not there yet.
    """
    rng = random.Random(name)
    for n in range(count):
        data = rng.randbytes(rng.choice(SIZES))
        digest = blake3(data).hexdigest()
        target = root / ".tracker" / "objects" / digest[:2] / digest[2:]
        put_object(target, data, manner)
        if manner.promises:
            oracle.promise([PromisedFile(target.relative_to(root).as_posix(), digest)])
        if n % 4 == 3:
            write(root / f"other-{name}", b"unrelated", sync=True)


def put_object(target: Path, data: bytes, manner: Manner) -> None:
    """Publish `data` as `target` by rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"tmp-{os.getpid():x}")
    write(temporary, data, sync=manner.syncs_file)
    temporary.rename(target)
    if manner.syncs_folder:
        sync_folder(target.parent)
        sync_folder(target.parent.parent)


def write(path: Path, data: bytes, *, sync: bool) -> None:
    """Write a file."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
