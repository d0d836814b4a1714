"""The file: bounded, continued, and given up on a disk that refuses, without a word to the one who prints."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_redraw import typed

from tracker.tee.pump import MARK, KeptFile
from tracker.tee.reading import Follower, read_kept, tail_of

LIMIT = 8192


@pytest.fixture
def folder_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last))


def test_what_fits_is_kept_whole(folder_fd: int, tmp_path: Path) -> None:
    kept = KeptFile(folder_fd, "f", LIMIT)
    kept.write(lines(0, 500))

    assert kept.finish() == f"{len(lines(0, 500))} 0 "
    assert (tmp_path / "f").read_bytes() == lines(0, 500)


@pytest.mark.parametrize("count", [950, 2_000, 30_000])
@pytest.mark.parametrize("seed", range(3))
def test_of_more_the_first_and_the_last_half_are_kept(
    count: int, seed: int, folder_fd: int, tmp_path: Path
) -> None:
    text, rng = lines(0, count), random.Random(seed)
    kept, at, largest = KeptFile(folder_fd, "f", LIMIT), 0, 0
    while at < len(text):
        size = rng.choice((1, 50, 3000))
        kept.write(text[at : at + size])
        at += size
        largest = max(largest, (tmp_path / "f").stat().st_size)
    size, dropped, _ = kept.finish().split(" ")
    data = (tmp_path / "f").read_bytes()
    mark = MARK.search(data)
    assert mark is not None
    before, after = data[: mark.start()], data[mark.end() :]

    assert text.startswith(before)
    assert text.endswith(after)
    assert len(before) + int(mark[1]) + len(after) == len(text)
    assert (int(size), dropped) == (len(data), mark[1].decode())
    assert len(data) <= LIMIT
    assert min(len(before), len(after)) > LIMIT // 2 - 200
    assert before.endswith(b"\n")
    assert after.startswith(b"line")
    assert largest <= 1.5 * LIMIT + 3000
    assert os.listdir(tmp_path) == ["f"]


def test_a_bar_over_the_bound_keeps_its_last_state(folder_fd: int, tmp_path: Path) -> None:
    kept = KeptFile(folder_fd, "f", LIMIT)
    bar = b"".join(b"\r%d of 5000" % step for step in range(5001))
    for text in (lines(0, 3_000), bar, b"\n", bar):
        for at in range(0, len(text), 777):
            kept.write(text[at : at + 777])
    kept.finish()

    assert (tmp_path / "f").read_bytes().endswith(b"line 2999\n5000 of 5000\n5000 of 5000")


def test_a_second_attempt_continues_the_file(folder_fd: int, tmp_path: Path) -> None:
    for attempt in range(3):
        kept = KeptFile(folder_fd, "f", LIMIT)
        kept.write(lines(attempt * 2_000, attempt * 2_000 + 2_000) + b"end")
        kept.finish()
    data = (tmp_path / "f").read_bytes()

    assert data.startswith(lines(0, 100))
    assert data.endswith(b"line 5999\nend")
    assert len(MARK.findall(data)) == 1
    assert len(data) <= LIMIT
    whole = (
        len(lines(0, 6_000)) + 3 * len(b"end") + 2 * len(b"\n[tracker: begun again 2026-01-01T00:00:00Z]\n")
    )
    mark = MARK.search(data)
    assert mark is not None
    assert len(data) - len(mark[0]) + int(mark[1]) == whole


def test_what_an_attempt_left_without_a_line_feed_gets_one(folder_fd: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"died he")
    kept = KeptFile(folder_fd, "f", LIMIT)
    kept.write(b"\rnew\n")
    kept.finish()
    first, again, *rest = (tmp_path / "f").read_bytes().split(b"\n")

    assert first == b"died he"
    assert again.startswith(b"[tracker: begun again 2")
    assert rest == [b"new", b""]


def test_a_disk_that_refuses_ends_keeping_and_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").symlink_to("/dev/full")
    fd = os.open(tmp_path, os.O_RDONLY)
    kept = KeptFile(fd, "f", LIMIT)  # a link is not followed
    os.close(fd)
    kept.write(b"one\n")
    kept.write(b"two\n")
    size, dropped, fault = kept.finish().split(" ", 2)

    assert (size, dropped) == ("0", "8")
    assert fault
    err = capfd.readouterr().err
    assert err == f"tracker: warning: output is no longer kept in f: {fault}\n"


def test_whoever_follows_reads_each_line_once_or_the_mark_of_what_it_missed(
    folder_fd: int, tmp_path: Path
) -> None:
    kept, follower = KeptFile(folder_fd, "f", LIMIT), Follower(str(tmp_path / "f"))
    read, text = b"", lines(0, 4_000)
    for at in range(0, len(text), 500):
        kept.write(text[at : at + 500])
        read += follower.news()
    kept.finish()
    read += follower.news(is_last=True)

    assert read == text


def test_whoever_follows_slowly_is_told_what_is_left_out(folder_fd: int, tmp_path: Path) -> None:
    kept, follower = KeptFile(folder_fd, "f", LIMIT), Follower(str(tmp_path / "f"))
    kept.write(lines(0, 10))
    read = follower.news()
    for number in range(10, 6_000):
        kept.write(b"line %d\n" % number)
    read += follower.news()
    for number in range(6_000, 6_100):
        kept.write(b"line %d\n" % number)
    kept.finish()
    read += follower.news(is_last=True)

    mark = MARK.search(read)
    assert mark is not None
    assert read.startswith(lines(0, 100))
    assert read.endswith(lines(5_900, 6_100))
    assert len(read) - len(mark[0]) + int(mark[1]) == len(lines(0, 6_100))


def test_a_follower_waits_for_the_end_of_a_line(folder_fd: int, tmp_path: Path) -> None:
    follower = Follower(str(tmp_path / "f"))
    assert follower.news() == b""
    kept = KeptFile(folder_fd, "f", LIMIT)
    kept.write(b"a\n10%")
    first = follower.news()
    kept.write(b"\r100%\n")

    assert (first, follower.news()) == (b"a\n", b"100%\n")
    kept.write(b"rest")
    assert follower.news(is_last=True) == b"rest"
    kept.finish()


@pytest.mark.parametrize("seed", range(20))
def test_the_file_is_what_a_typewriter_would_leave(seed: int, folder_fd: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    kept, text = KeptFile(folder_fd, "f", 1 << 20), b""
    for _ in range(200):
        chunk = bytes(rng.choice(b"abc\r\n") for _ in range(rng.randrange(12)))
        kept.write(chunk)
        text += chunk
        found = read_kept(str(tmp_path / "f"))
        assert found is not None
        assert found.data == typed(text)
    kept.finish()


def test_the_last_lines() -> None:
    text = b"a\nb\nc\n"

    assert [tail_of(text, count) for count in (0, 1, 2, 3, 9)] == [b"", b"c\n", b"b\nc\n", text, text]
    assert tail_of(b"a\nb", 1) == b"b"
    assert tail_of(b"", 3) == b""


def test_there_is_nothing_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_kept(str(tmp_path / "none")) is None
    assert Follower(str(tmp_path / "none")).news(is_last=True) == b""
