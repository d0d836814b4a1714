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
SHARD = "metrics/a7"
Files = dict[str, bytes]
W = "01a19b7ca6807000800000000000000a"


def named(number: int, data: bytes, kind: str = "seg") -> str:
    return f"{ROOM}/{W}-{number}-{blake3(data).hexdigest()[:16]}.{kind}"


def logged(number: int, data: bytes, kind: str = "seg") -> str:
    """A name of metrics: longer than a header holds."""
    return f"{SHARD}/{'a' * 30}-{'b' * 16}-{W}-{number}-{blake3(data).hexdigest()[:16]}.{kind}"


SIZES = [b"", b"a", b"b" * 511, b"c" * 512, b"d" * 5000]
MEMBERS = {named(n, data): data for n, data in enumerate(SIZES)}
LOGGED = {logged(n, data): data for n, data in enumerate(SIZES)}
of_both = pytest.mark.parametrize(("room", "members"), [(ROOM, MEMBERS), (SHARD, LOGGED)])


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


@pytest.mark.parametrize("members", [MEMBERS, LOGGED, MEMBERS | LOGGED])
@pytest.mark.parametrize("form", ["ustar", "pax"])
def test_gnu_tar_makes_the_same_bytes_and_unpacks_them(tmp_path: Path, members: Files, form: str) -> None:
    if (
        not (tar := shutil.which("tar"))
        or "GNU" not in subprocess.run([tar, "--version"], capture_output=True, text=True, check=True).stdout
    ):
        pytest.skip("needs GNU tar")
    if form == "ustar" and members is not MEMBERS:
        pytest.skip("ustar alone has no long names")
    for name, data in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    plain = [f"--format={form}", "-b1", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]
    if form == "pax":
        plain += ["--pax-option=exthdr.name=pax,delete=atime,delete=ctime"]
    subprocess.run(
        [tar, *plain, "--mode=0444", "-cf", "made.tar", *sorted(members)], cwd=tmp_path, check=True
    )
    (tmp_path / "out").mkdir()
    ours = packs.make_pack(members.items())
    (tmp_path / "ours.tar").write_bytes(ours)
    subprocess.run([tar, "-xf", "ours.tar", "-C", "out"], cwd=tmp_path, check=True)

    assert ours == (tmp_path / "made.tar").read_bytes()
    assert {name: (tmp_path / "out" / name).read_bytes() for name in members} == members


@of_both
def test_the_standard_library_lists_it(room: str, members: Files) -> None:
    with tarfile.open(fileobj=io.BytesIO(packs.make_pack(members.items()))) as tar:
        found = [(m.name, m.size, m.mode, m.uid, m.gid, m.mtime, m.isreg()) for m in tar]

    assert found == [(name, len(members[name]), 0o444, 0, 0, 0, True) for name in sorted(members)]


def test_a_pack_is_a_function_of_its_members() -> None:
    backwards = dict(reversed(MEMBERS.items()))

    assert packs.make_pack(backwards.items()) == packs.make_pack(MEMBERS.items())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 8**11 - 1])
@pytest.mark.parametrize("name", [named(0, b""), "a", "x" * 100, "x" * 101, logged(0, b""), "x" * 255])
def test_a_header_reads_as_it_was_written_and_not_with_one_wrong_bit(name: str, size: int) -> None:
    header = format_header(name, size)

    assert len(header) == (512 if len(name) <= 100 else 1536)
    assert parse_header(header) == (name, size)
    for bit in range(len(header) * 8):
        wrong = bytearray(header)
        wrong[bit // 8] ^= 1 << bit % 8
        read = parse_header(bytes(wrong))
        # no sum guards the record: what of a name is told there alone is the hash that proves the member
        assert read is None or (read[0] != name and read[0][:100] == name[:100])
        assert read is None or len(name) > 100


@given(st.binary(max_size=600))
def test_any_bytes_are_a_header_or_none(data: bytes) -> None:
    header = parse_header(data)

    assert header is None or format_header(*header) == data


@given(st.binary(max_size=4000), st.integers(0, 3000), st.integers(0, 3000))
@of_both
def test_any_bytes_are_read_without_an_error(
    room: str, members: Files, noise: bytes, start: int, cut: int
) -> None:
    whole = packs.make_pack(members.items())
    data = (whole[:start] + noise + whole[start + cut :])[: len(whole)]
    found = packs.members_of(data, room)

    assert found.keys() <= members.keys()
    sound = {name for name, own in found.items() if packs.is_sound(name, own)}
    assert all(found[name] == members[name] for name in sound)


@of_both
def test_a_pack_cut_anywhere_gives_every_member_before_the_cut(room: str, members: Files) -> None:
    whole = packs.make_pack(members.items())
    end, ends = 0, {}
    for name in sorted(members):
        ends[name] = end + len(format_header(name, 0)) + len(members[name])
        end += packs.size_of_member(name, len(members[name]))
    assert end + 1024 == len(whole)
    for cut in [*range(0, len(whole), 64), len(whole) - 1]:
        data = whole[:cut]
        found = packs.members_of(data, room)
        _, is_whole = packs.scan(lambda a, n, data=data: data[a : a + n], cut, room)  # type: ignore[misc]

        assert not is_whole
        assert {n for n, own in found.items() if own == members[n]} == {
            n for n, at in ends.items() if at <= cut
        }


@of_both
def test_a_damaged_header_costs_its_own_member(room: str, members: Files) -> None:
    whole = packs.make_pack(members.items())
    at = 0
    for name in sorted(members):
        rest = {n: own for n, own in members.items() if n != name}
        for block in range(0, len(format_header(name, 0)), 512):
            wrong = bytearray(whole)
            wrong[at + block + 30] ^= 1
            assert packs.members_of(bytes(wrong), room) == rest
        at += packs.size_of_member(name, len(members[name]))


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
        (logged(0, b"x"), SHARD, True),
        (logged(0, b"x", "part"), SHARD, True),
        (logged(0, b"x"), "metrics/a8", False),
        (logged(0, b"x"), ROOM, False),
        (logged(0, b"x"), "metrics", False),
        (named(0, b"x").replace(ROOM, SHARD), SHARD, False),
        (logged(0, b"x").replace(SHARD, ROOM), ROOM, False),
        (f"{SHARD}/{'a' * 30}-{'b' * 16}-{W}-0.open", SHARD, False),
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
