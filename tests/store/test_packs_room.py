"""Packs as bytes: what they hold, what damage costs, and when a table is read again.

The judges are GNU tar, which makes the same bytes, and the standard library's tarfile.

Spec: spec/packs.md sections 3 and 4.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tracker._codec.ustar import format_header, parse_header
from tracker._store import packs
from tracker.errors import StorageError

MONTH = "2026-11"
ROOM = f"ledger/{MONTH}"
W = "01a19b7ca6807000800000000000000a"


def named(number: int, data: bytes, kind: str = "seg") -> str:
    return f"{ROOM}/{W}-{number}-{blake3(data).hexdigest()[:16]}.{kind}"


MEMBERS = {named(n, data): data for n, data in enumerate([b"", b"a", b"b" * 511, b"c" * 512, b"d" * 5000])}


@pytest.fixture
def store_fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / ROOM).mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def put(root: Path, members: dict[str, bytes], data: bytes | None = None) -> str:
    """A pack of these members, or other bytes under its name; give its file name."""
    whole = packs.make_pack(members.items())
    file = packs.pack_name(whole)
    (root / ROOM / file).write_bytes(whole if data is None else data)
    return file


def test_gnu_tar_makes_the_same_bytes_and_unpacks_them(tmp_path: Path) -> None:
    if (
        not (tar := shutil.which("tar"))
        or "GNU" not in subprocess.run([tar, "--version"], capture_output=True, text=True, check=True).stdout
    ):
        pytest.skip("needs GNU tar")
    for name, data in MEMBERS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    plain = ["--format=ustar", "-b1", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]
    subprocess.run(
        [tar, *plain, "--mode=0444", "-cf", "made.tar", *sorted(MEMBERS)], cwd=tmp_path, check=True
    )
    (tmp_path / "out").mkdir()
    ours = packs.make_pack(MEMBERS.items())
    (tmp_path / "ours.tar").write_bytes(ours)
    subprocess.run([tar, "-xf", "ours.tar", "-C", "out"], cwd=tmp_path, check=True)

    assert ours == (tmp_path / "made.tar").read_bytes()
    assert {name: (tmp_path / "out" / name).read_bytes() for name in MEMBERS} == MEMBERS


def test_the_standard_library_lists_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(packs.make_pack(MEMBERS.items()))) as tar:
        found = [(m.name, m.size, m.mode, m.uid, m.gid, m.mtime, m.isreg()) for m in tar]

    assert found == [(name, len(MEMBERS[name]), 0o444, 0, 0, 0, True) for name in sorted(MEMBERS)]


def test_a_pack_is_a_function_of_its_members() -> None:
    backwards = dict(reversed(MEMBERS.items()))

    assert packs.make_pack(backwards.items()) == packs.make_pack(MEMBERS.items())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 8**11 - 1])
@pytest.mark.parametrize("name", [named(0, b""), "a", "x" * 100])
def test_a_header_reads_as_it_was_written_and_not_with_one_wrong_bit(name: str, size: int) -> None:
    header = format_header(name, size)

    assert len(header) == 512
    assert parse_header(header) == (name, size)
    for bit in range(512 * 8):
        wrong = bytearray(header)
        wrong[bit // 8] ^= 1 << bit % 8
        assert parse_header(bytes(wrong)) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_a_header_or_none(data: bytes) -> None:
    header = parse_header(data)

    assert header is None or format_header(*header) == data


@given(st.binary(max_size=4000), st.integers(0, 3000), st.integers(0, 3000))
def test_any_bytes_are_read_without_an_error(noise: bytes, start: int, cut: int) -> None:
    whole = packs.make_pack(MEMBERS.items())
    data = (whole[:start] + noise + whole[start + cut :])[: len(whole)]
    found = packs.members_of(data, ROOM)

    assert found.keys() <= MEMBERS.keys()
    sound = {name for name, own in found.items() if packs.is_sound(name, own)}
    assert all(found[name] == MEMBERS[name] for name in sound)


def test_a_pack_cut_anywhere_gives_every_member_before_the_cut() -> None:
    whole = packs.make_pack(MEMBERS.items())
    end, ends = 0, {}
    for name in sorted(MEMBERS):
        ends[name] = end + 512 + len(MEMBERS[name])
        end += packs.size_of_member(len(MEMBERS[name]))
    assert end + 1024 == len(whole)
    for cut in [*range(0, len(whole), 64), len(whole) - 1]:
        data = whole[:cut]
        found = packs.members_of(data, ROOM)
        _, is_whole = packs.scan(lambda a, n, data=data: data[a : a + n], cut, ROOM)  # type: ignore[misc]

        assert not is_whole
        assert {n for n, own in found.items() if own == MEMBERS[n]} == {
            n for n, at in ends.items() if at <= cut
        }


def test_a_damaged_header_costs_its_own_member() -> None:
    whole = packs.make_pack(MEMBERS.items())
    at = 0
    for name in sorted(MEMBERS):
        wrong = bytearray(whole)
        wrong[at + 130] ^= 1
        assert packs.members_of(bytes(wrong), ROOM) == {n: own for n, own in MEMBERS.items() if n != name}
        at += packs.size_of_member(len(MEMBERS[name]))


@pytest.mark.parametrize(
    ("name", "room", "wanted"),
    [
        (named(0, b"x"), ROOM, True),
        (named(0, b"x", "part"), ROOM, True),
        (named(0, b"x"), "ledger/2026-10", False),
        (named(0, b"x"), "manifests", False),
        (f"{ROOM}/{W}-0.open", ROOM, False),
        (f"../{named(0, b'x')}", ROOM, False),
        (f"{ROOM}/../{ROOM}/{W}-0-{'0' * 16}.seg", ROOM, False),
        ("FORMAT", ROOM, False),
        (f"manifests/a7/{'0' * 30}-{'0' * 16}.json", "manifests", True),
        (f"manifests/a7/{'0' * 30}-{'0' * 16}.json", ROOM, False),
    ],
)
def test_a_member_counts_by_its_name_and_room(name: str, room: str, wanted: bool) -> None:
    assert packs.counts(name, room) is wanted


def test_other_members_make_a_pack_that_is_not_whole() -> None:
    good = named(0, b"x")
    for other in ({"FORMAT": b"tracker 2\n"}, {f"{ROOM}/{W}-0.open": b"x"}):
        data = packs.make_pack({good: b"x", **other}.items())
        found, is_whole = packs.scan(lambda a, n, data=data: data[a : a + n], len(data), ROOM)  # type: ignore[misc]
        assert (found.keys(), is_whole) == ({good}, False)


def test_a_table_is_read_once_and_again_when_the_file_is_another(
    tmp_path: Path, store_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path, MEMBERS)
    real, opened = packs.open_ranges, []

    def open_ranges(path: str, dir_fd: int) -> object:
        opened.append(path)
        return real(path, dir_fd)

    monkeypatch.setattr(packs, "open_ranges", open_ranges)
    for _ in range(3):
        assert packs.look(ROOM, store_fd)[file].members.keys() == MEMBERS.keys()
    assert opened == [f"{ROOM}/{file}"]
    (tmp_path / ROOM / file).write_bytes(packs.make_pack(MEMBERS.items())[:1000])
    assert not packs.look(ROOM, store_fd)[file].is_whole
    assert len(opened) == 2


def test_a_pack_that_is_still_being_copied_is_seen_whole_in_the_end(tmp_path: Path, store_fd: int) -> None:
    whole = packs.make_pack(MEMBERS.items())
    file = put(tmp_path, MEMBERS, whole[:700])
    assert not packs.look(ROOM, store_fd)[file].is_whole
    put(tmp_path, MEMBERS)

    table = packs.look(ROOM, store_fd)[file]
    assert (table.is_whole, table.members.keys()) == (True, MEMBERS.keys())


def test_of_several_packs_the_sound_copy_is_given(tmp_path: Path, store_fd: int) -> None:
    name, data = max(MEMBERS.items(), key=lambda item: len(item[1]))
    whole = packs.make_pack(MEMBERS.items())
    at = whole.index(data)
    put(tmp_path, MEMBERS, whole[:at] + b"?" + whole[at + 1 :])
    assert packs.read_sound(ROOM, store_fd, name) is None
    put(tmp_path, {name: data})

    assert packs.read_sound(ROOM, store_fd, name) == data
    assert len([*packs.iter_copies(ROOM, store_fd, name)]) == 2
    assert packs.read_sound(ROOM, store_fd, named(99, b"")) is None


def test_a_member_whose_pack_was_folded_meanwhile_is_found_in_the_other(
    tmp_path: Path, store_fd: int
) -> None:
    name = max(MEMBERS)
    first = put(tmp_path, {name: MEMBERS[name]})
    packs.look(ROOM, store_fd)
    put(tmp_path, MEMBERS)
    (tmp_path / ROOM / first).unlink()

    assert packs.read_sound(ROOM, store_fd, name) == MEMBERS[name]


def test_a_pack_that_is_a_link_or_a_folder_is_none(tmp_path: Path, store_fd: int) -> None:
    (tmp_path / "far").write_bytes(packs.make_pack(MEMBERS.items()))
    (tmp_path / ROOM / f"{'0' * 16}.pack").symlink_to(tmp_path / "far")
    (tmp_path / ROOM / f"{'1' * 16}.pack").mkdir()

    assert packs.look(ROOM, store_fd) == {}


def test_a_pack_that_the_system_refuses_says_so(
    tmp_path: Path, store_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path, MEMBERS)

    def refuse(path: str, dir_fd: int) -> object:
        raise StorageError(5, path, "read", "Input/output error", "look at the disk")

    with monkeypatch.context() as patch:
        patch.setattr(packs, "open_ranges", refuse)
        table = packs.look(ROOM, store_fd)[file]
    assert (table.members, table.is_whole) == ({}, False)
    assert isinstance(table.refused, StorageError)
    assert packs.look(ROOM, store_fd)[file].refused is None


def test_a_pack_that_another_client_removed_under_our_read_is_not_there(
    tmp_path: Path, store_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS answers ESTALE then."""
    name = max(MEMBERS)
    put(tmp_path, MEMBERS)
    packs.look(ROOM, store_fd)

    def stale(fd: int, size: int, at: int) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", stale)
        assert [*packs.iter_copies(ROOM, store_fd, name)] == []
    assert packs.read_sound(ROOM, store_fd, name) == MEMBERS[name]
