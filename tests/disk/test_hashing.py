"""A file's digest is what b3sum prints, however long it is and whatever becomes of it. Spec: sealing.md 3."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from tracker._disk import hashing
from tracker._disk.hashing import HEAD_BYTES, hash_file, hash_on, read_head

LONG = 8 << 20
SIZES = (
    *(0, 1, 4096, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, (1 << 20) + HEAD_BYTES),
    *(LONG - 1, LONG, LONG + 1, LONG + HEAD_BYTES, 3 * LONG + 7),
)


def write(path: Path, size: int) -> bytes:
    data = (os.urandom(251) * (size // 251 + 1))[:size]
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("size", SIZES)
def test_size_and_digest_are_those_of_the_bytes(tmp_path, size):
    data = write(tmp_path / "f", size)

    assert hash_file(str(tmp_path / "f")) == (size, blake3(data).digest())


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
@pytest.mark.parametrize("size", [0, 4096, 3 * LONG + 7])
def test_b3sum_says_the_same(tmp_path, size):
    write(tmp_path / "f", size)
    said = subprocess.run(["b3sum", "--no-names", tmp_path / "f"], capture_output=True, text=True, check=True)

    assert hash_file(str(tmp_path / "f"))[1].hex() == said.stdout.strip()


def test_a_long_file_is_told_of_as_it_is_read(tmp_path):
    write(tmp_path / "f", 3 * LONG)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    told: list[int] = []
    head, is_whole = read_head(fd)
    hash_on(fd, head, told.append)
    os.close(fd)

    assert not is_whole
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == 3 * LONG


class Grudging:
    """`os` whose reads give little at a time, and fail where `fails_at` bytes were given."""

    def __init__(self, most: int, fails_at: int | None = None) -> None:
        self._most, self._fails_at, self._given = most, fails_at, 0

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def _count(self, got: int) -> None:
        self._given += got

    def read(self, fd: int, size: int) -> bytes:
        self._refuse()
        data = os.read(fd, min(size, self._most))
        self._count(len(data))
        return data

    def readv(self, fd: int, buffers: list[memoryview]) -> int:
        self._refuse()
        got = os.readv(fd, [memoryview(buffers[0])[: self._most]])
        self._count(got)
        return got

    def _refuse(self) -> None:
        if self._fails_at is not None and self._given >= self._fails_at:
            raise OSError(errno.EIO, "a bad sector")


@pytest.mark.parametrize("size", [100, HEAD_BYTES + 5, LONG + 12345])
def test_short_reads_are_gone_on_with(tmp_path, monkeypatch, size):
    data = write(tmp_path / "f", size)
    monkeypatch.setattr(hashing, "os", Grudging(7001 if size > LONG else 13))

    assert hash_file(str(tmp_path / "f")) == (size, blake3(data).digest())


@pytest.mark.parametrize(("size", "fails_at"), [(100, 50), (HEAD_BYTES * 3, 100_000), (LONG * 2, LONG + 7)])
def test_a_bad_sector_behind_a_short_read_is_told_and_nothing_is_left(tmp_path, monkeypatch, size, fails_at):
    write(tmp_path / "f", size)
    before, open_before = threading.active_count(), len(os.listdir("/dev/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "os", Grudging(50, fails_at) if size < LONG else Grudging(1 << 20, fails_at))
        with pytest.raises(OSError, match="a bad sector"):
            hash_file(str(tmp_path / "f"))

    assert threading.active_count() == before
    assert len(os.listdir("/dev/fd")) == open_before


def test_a_file_that_is_cut_short_while_it_is_read_kills_nobody(tmp_path):
    """A mapped one would: SIGBUS."""
    write(tmp_path / "f", 4 * LONG)
    fd = os.open(tmp_path / "f", os.O_RDWR)
    head, _ = read_head(fd)
    cut = []

    def heed(done: int) -> None:
        if not cut:
            cut.append(done)
            os.ftruncate(fd, LONG)

    size, _ = hash_on(fd, head, heed)
    os.close(fd)

    assert cut
    assert LONG <= size < 4 * LONG


def test_whoever_stops_it_stops_its_reader_too(tmp_path):
    write(tmp_path / "f", 4 * LONG)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    head, _ = read_head(fd)
    before = threading.active_count()

    def heed(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_on(fd, head, heed)
    os.close(fd)

    assert threading.active_count() == before


def test_a_forked_child_hashes_long_files_as_its_parent_did(tmp_path):
    """A pool of threads that outlives a file has none in a child, which would wait for ever."""
    data = write(tmp_path / "f", 2 * LONG)
    code = (
        "import os, signal, sys; from tracker._disk.hashing import hash_file; path = sys.argv[1]; "
        "hash_file(path); pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(20); print(hash_file(path)[1].hex(), flush=True); os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0, 'the child hung'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "f"], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == blake3(data).hexdigest()


def test_without_room_for_a_thread_it_reads_in_turn(tmp_path, monkeypatch):
    data = write(tmp_path / "f", 2 * LONG + 5)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(hashing.Thread, "start", refuse)

    assert hash_file(str(tmp_path / "f")) == (len(data), blake3(data).digest())


@pytest.mark.parametrize("name", ["folder", "pipe", "zero"])
def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    place = "/dev/zero" if name == "zero" else str(tmp_path / name)
    signal.alarm(20)
    try:
        with pytest.raises(OSError, match=r"directory|regular"):
            hash_file(place)
    finally:
        signal.alarm(0)
