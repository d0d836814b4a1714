"""The stat cache: what did not change is not read again, and whatever is doubtful is. Spec: sealing.md 4."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from tracker._disk import hashing, host
from tracker._model.event import Attachment, File
from tracker._store import stat_cache
from tracker._store.index import index_path
from tracker._store.sealing import seal_files
from tracker._store.stat_cache import NAME

SIZE = 1_500_000
HOUR_NS = 3600 * 10**9


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the long files that were read."""
    found: list[int] = []
    real = hashing.hash_on

    def hash_on(fd: int, head: bytes, heed: Callable[[int], object]) -> tuple[int, bytes]:
        found.append(os.fstat(fd).st_size)
        return real(fd, head, heed)

    monkeypatch.setattr(hashing, "hash_on", hash_on)
    return found


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let so many seconds pass on the clock that the cache reads."""
    real = host.now_ms
    passed = [0.0]
    monkeypatch.setattr(stat_cache.host, "now_ms", lambda: real() + int(passed[0] * 1000))

    def wait(seconds: float) -> None:
        passed[0] += seconds

    return wait


def seal(root: Path) -> File:
    (file,) = seal_files(root, [Attachment("n", "f", external=False)])
    return file


def write(root: Path, fill: bytes = b"x") -> bytes:
    data = fill * SIZE
    (root / "f").write_bytes(data)
    return blake3(data).digest()


def cache_of(root: Path) -> Path:
    return Path(index_path(str(root))).parent / NAME


def test_an_unchanged_file_is_read_once(tmp_path, reads, later):
    digest = write(tmp_path)
    later(10)
    found = [seal(tmp_path) for _ in range(3)]

    assert [file.digest for file in found] == [digest] * 3
    assert [file.size for file in found] == [SIZE] * 3
    assert reads == [SIZE]


def test_what_was_just_written_is_read_each_time(tmp_path, reads):
    write(tmp_path)
    seal(tmp_path)
    seal(tmp_path)

    assert reads == [SIZE] * 2


def test_what_was_read_while_it_was_new_is_read_once_more_when_it_has_settled(tmp_path, reads, later):
    write(tmp_path)
    seal(tmp_path)
    later(10)
    seal(tmp_path)
    seal(tmp_path)

    assert reads == [SIZE] * 2


def test_short_files_are_not_kept(tmp_path, later):
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    later(10)
    seal(tmp_path)

    assert not cache_of(tmp_path).exists()


def other_bytes_same_times(root: Path) -> None:
    """Written anew within the grain of the clock but for the change time, which no user sets."""
    before = (root / "f").stat()
    write(root, b"y")
    os.utime(root / "f", ns=(before.st_atime_ns, before.st_mtime_ns))


def another_file_in_its_place(root: Path) -> None:
    before = (root / "f").stat()
    (root / "g").write_bytes(b"y" * SIZE)
    os.utime(root / "g", ns=(before.st_atime_ns, before.st_mtime_ns))
    (root / "g").rename(root / "f")


def one_byte_in_place(root: Path) -> None:
    with open(root / "f", "r+b") as file:
        file.seek(1000)
        file.write(b"y")


def longer(root: Path) -> None:
    with open(root / "f", "ab") as file:
        file.write(b"y")


@pytest.mark.parametrize(
    "change", [other_bytes_same_times, another_file_in_its_place, one_byte_in_place, longer]
)
def test_a_changed_file_is_read_again(tmp_path, reads, later, change):
    write(tmp_path)
    later(10)
    seal(tmp_path)
    change(tmp_path)
    later(10)
    file = seal(tmp_path)

    assert file.digest == blake3((tmp_path / "f").read_bytes()).digest()
    assert len(reads) == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, monkeypatch, later):
    write(tmp_path)
    later(10)
    real = hashing.hash_on

    def hash_on(*asked: object) -> tuple[int, bytes]:
        facts = real(*asked)
        one_byte_in_place(tmp_path)
        return facts

    with monkeypatch.context() as patch:
        patch.setattr(hashing, "hash_on", hash_on)
        seal(tmp_path)

    later(10)
    assert seal(tmp_path).digest == blake3((tmp_path / "f").read_bytes()).digest()


@pytest.mark.parametrize(("sub_second_ns", "age_s", "count"), [(1, 70, 1), (0, 70, 3), (1, 30, 3)])
def test_where_others_write_times_must_be_fine_and_old(
    tmp_path, monkeypatch, reads, later, sub_second_ns, age_s, count
):
    """The change time cannot be set, so it is as fine as the file system of this test has it."""
    monkeypatch.setattr(stat_cache.host, "is_network_fs", lambda path: True)
    write(tmp_path)
    if not (tmp_path / "f").stat().st_ctime_ns % 10**9:
        pytest.skip("times have no part below the second here")
    now_s = host.now_ms() // 1000
    os.utime(tmp_path / "f", ns=(0, (now_s - 1) * 10**9 + sub_second_ns))
    later(age_s)
    for _ in range(3):
        seal(tmp_path)

    assert len(reads) == count


def test_a_time_that_is_ahead_is_not_trusted(tmp_path, reads):
    write(tmp_path)
    ahead = (tmp_path / "f").stat().st_mtime_ns + HOUR_NS
    os.utime(tmp_path / "f", ns=(ahead, ahead))
    seal(tmp_path)
    seal(tmp_path)

    assert len(reads) == 2


def damage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def flip_digests(path: Path) -> None:
    db = sqlite3.connect(path)
    ((id_, value),) = db.execute("select id, digest from sealed").fetchall()
    db.execute("update sealed set digest = ? where id = ?", (bytes([value[0] ^ 1]) + value[1:], id_))
    db.commit()
    db.close()


def another_table(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("drop table sealed")
    db.execute("create table sealed(x)")
    db.commit()
    db.close()


@pytest.mark.parametrize("spoil", [damage, flip_digests, another_table, Path.unlink])
def test_a_cache_that_is_spoilt_costs_time_and_changes_no_answer(tmp_path, reads, later, spoil):
    digest = write(tmp_path)
    later(10)
    seal(tmp_path)
    spoil(cache_of(tmp_path))

    assert [seal(tmp_path).digest for _ in range(3)] == [digest] * 3
    assert len(reads) >= 2


def test_without_a_place_for_it_files_are_read(tmp_path, monkeypatch, reads, later):
    monkeypatch.setenv("TRACKER_CACHE", os.devnull)
    digest = write(tmp_path)
    later(10)

    assert [seal(tmp_path).digest for _ in range(2)] == [digest] * 2
    assert len(reads) == 2


def test_a_cache_that_another_process_writes_is_passed_by(tmp_path, monkeypatch, reads, later):
    digest = write(tmp_path)
    later(10)
    seal(tmp_path)
    monkeypatch.setattr(stat_cache, "_BUSY_S", 0.01)
    other = sqlite3.connect(cache_of(tmp_path), isolation_level=None)
    other.execute("begin exclusive")
    (tmp_path / "f").touch()
    later(10)
    found = seal(tmp_path)
    other.execute("commit")
    other.close()

    assert found.digest == digest


def test_it_keeps_so_many_and_the_newest(tmp_path, monkeypatch, later):
    monkeypatch.setattr(stat_cache, "KEPT_MAX", 3)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x" * SIZE)
    later(10)
    for number in range(5):
        seal_files(tmp_path, [Attachment("n", str(number), external=False)])
    db = sqlite3.connect(cache_of(tmp_path))
    kept = {file for (file,) in db.execute("select file from sealed")}
    db.close()

    assert kept == {stat_cache._file((tmp_path / str(number)).stat()) for number in (2, 3, 4)}


def test_threads_of_one_process_may_seal_at_once(tmp_path, later):
    for number in range(4):
        (tmp_path / str(number)).write_bytes(bytes([number]) * SIZE)
    later(10)
    found: dict[int, bytes | None] = {}

    def one(number: int) -> None:
        for _ in range(5):
            (file,) = seal_files(tmp_path, [Attachment("n", str(number), external=False)])
            found[number] = file.digest

    crowd = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert found == {number: blake3(bytes([number]) * SIZE).digest() for number in range(4)}
