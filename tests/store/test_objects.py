"""Objects are whole under their digest or not there. Spec: spec/layout.md sections 2 and 3."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tracker._disk import cloning, durable
from tracker._model.names import is_temporary
from tracker._store.objects import get_object, iter_objects, put_file, put_object
from tracker.errors import DamagedError, NotFoundError, StorageError
from tracker.terms import Digest

DATA = bytes(range(256)) * 300


@pytest.fixture
def store_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def path_of(root: Path, data: bytes) -> Path:
    name = blake3(data).hexdigest()
    return root / "objects" / name[:2] / name[2:]


def written(path: Path) -> tuple[int, ...]:
    """What a write would change of a file; the time of access changes when it is read."""
    status = path.stat()
    return status.st_ino, status.st_nlink, status.st_mode, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_an_object_lies_under_its_digest_read_only(tmp_path, store_fd, data):
    name = put_object(store_fd, data)
    path = path_of(tmp_path, data)

    assert name == blake3(data).hexdigest()
    assert path.read_bytes() == data == get_object(store_fd, name)
    assert path.stat().st_mode & 0o222 == 0
    assert [*iter_objects(store_fd)] == [path.relative_to(tmp_path).as_posix()]
    if shutil.which("b3sum"):
        said = subprocess.run(["b3sum", "--no-names", path], capture_output=True, check=True, text=True)
        assert said.stdout.strip() == name


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_objects_are_a_set(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("objects")
    fd = os.open(root, os.O_RDONLY)
    names = [put_object(fd, data) for data in contents]

    assert dict(zip(names, contents, strict=True)) == {name: get_object(fd, name) for name in names}
    assert [*iter_objects(fd)] == sorted({f"objects/{name[:2]}/{name[2:]}" for name in names})
    os.close(fd)


def test_what_is_there_is_left_alone(tmp_path, store_fd):
    put_object(store_fd, DATA)
    before = written(path_of(tmp_path, DATA))
    put_object(store_fd, DATA)

    assert written(path_of(tmp_path, DATA)) == before


def test_bytes_that_are_not_those_of_the_name_are_damage(tmp_path, store_fd):
    name = put_object(store_fd, DATA)
    path = path_of(tmp_path, DATA)
    for other in (DATA[:-1], b"", DATA[:5] + b"!" + DATA[6:]):
        path.unlink()
        path.write_bytes(other)
        with pytest.raises(DamagedError, match="not those its name says") as caught:
            get_object(store_fd, name)
        assert caught.value.path == path.relative_to(tmp_path).as_posix()


def test_an_object_that_is_not_here_is_named(store_fd):
    name = Digest("ab" * 32)
    with pytest.raises(NotFoundError, match=f"object {name} not found in objects/") as caught:
        get_object(store_fd, name)
    assert caught.value.cure


def test_a_link_in_an_objects_place_is_not_followed(tmp_path, store_fd):
    name = put_object(store_fd, DATA)
    path = path_of(tmp_path, DATA)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        get_object(store_fd, name)


def test_other_names_are_no_objects(tmp_path, store_fd):
    put_object(store_fd, DATA)
    folder = path_of(tmp_path, DATA).parent
    for name in ("tmp-0123", "README", "a" * 61, "A" * 62):
        (folder / name).write_bytes(b"")
    (tmp_path / "objects" / "notes").mkdir()
    (tmp_path / "objects" / "notes" / ("a" * 62)).write_bytes(b"")

    assert len([*iter_objects(store_fd)]) == 1


def test_many_that_put_the_same_at_once_leave_one(tmp_path, store_fd):
    gate = threading.Barrier(8)

    def one() -> None:
        gate.wait()
        put_object(store_fd, DATA)

    crowd = [threading.Thread(target=one) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [path_of(tmp_path, DATA)]


class Refusing:
    """`os`, but the call of number `at` among those named `call` is refused."""

    def __init__(self, call: str, at: int) -> None:
        self._call, self._left = call, at

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return functools.partial(self._refuse, real) if name == self._call else real

    def _refuse(self, real: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == -1:
            raise OSError(errno.EIO, "no")
        return real(*args, **kwargs)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "rename", "mkdir"])
def test_a_refused_call_leaves_no_object_with_other_bytes(tmp_path, store_fd, monkeypatch, call, at):
    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", Refusing(call, at))
        with contextlib.suppress(StorageError):
            put_object(store_fd, DATA)
    path = path_of(tmp_path, DATA)

    assert not path.exists() or path.read_bytes() == DATA
    assert get_object(store_fd, put_object(store_fd, DATA)) == DATA
    assert [left for left in tmp_path.rglob("*") if is_temporary(left.name)] == []


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "rename", "mkdir"])
def test_a_refusal_is_told(store_fd, monkeypatch, call):
    monkeypatch.setattr(durable, "os", Refusing(call, 0))
    with pytest.raises(StorageError) as caught:
        put_object(store_fd, DATA)
    assert caught.value.errno == errno.EIO


# Files


@pytest.mark.parametrize("size", [0, 1, 70_000, 9_000_000])
def test_a_file_is_kept_under_its_digest_read_only_and_is_no_link_to_its_source(tmp_path, store_fd, size):
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    name, told = put_file(store_fd, str(source))
    path = path_of(tmp_path, data)

    assert (name, told) == (blake3(data).hexdigest(), size)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o222 == 0
    assert path.stat().st_ino != source.stat().st_ino
    assert path.stat().st_nlink == source.stat().st_nlink == 1
    source.write_bytes(b"changed afterwards")
    assert path.read_bytes() == data


def test_a_file_and_the_same_bytes_are_one_object_written_once(tmp_path, store_fd):
    (tmp_path / "source").write_bytes(DATA)
    put_object(store_fd, DATA)
    before = written(path_of(tmp_path, DATA))
    put_file(store_fd, str(tmp_path / "source"))
    put_file(store_fd, str(tmp_path / "source"))

    assert written(path_of(tmp_path, DATA)) == before
    assert len([*iter_objects(store_fd)]) == 1


def test_a_damaged_object_makes_room_for_a_file_too(tmp_path, store_fd):
    (tmp_path / "source").write_bytes(DATA)
    put_file(store_fd, str(tmp_path / "source"))
    path = path_of(tmp_path, DATA)
    path.chmod(0o644)
    path.write_bytes(b"!" + DATA[1:])
    put_file(store_fd, str(tmp_path / "source"))

    assert path.read_bytes() == DATA
    (kept,) = (one for one in (tmp_path / "quarantine").rglob("*") if one.is_file())
    assert kept.read_bytes() == b"!" + DATA[1:]


def test_a_file_that_changes_while_it_is_taken_has_the_name_of_what_was_taken(
    tmp_path, store_fd, monkeypatch
):
    source = tmp_path / "source"
    source.write_bytes(DATA)
    real = cloning.clone_or_copy

    def clone_or_copy(source_fd: int, fd: int) -> bool:
        source.write_bytes(DATA + b"more")
        return real(source_fd, fd)

    monkeypatch.setattr(cloning, "clone_or_copy", clone_or_copy)
    name, size = put_file(store_fd, str(source))

    assert (name, size) == (blake3(DATA + b"more").hexdigest(), len(DATA) + 4)
    assert get_object(store_fd, name) == DATA + b"more"


@pytest.mark.parametrize("what", ["folder", "pipe", "gone"])
def test_what_is_no_file_is_refused_before_anything_is_made(tmp_path, store_fd, what):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match=rf"read .*{what}"):
        put_file(store_fd, str(tmp_path / what))

    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize("module", [durable, cloning])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("call", ["open", "write", "fsync", "link", "lseek", "read", "readv", "mkdir"])
def test_a_refused_call_leaves_no_object_of_a_file_with_other_bytes(
    tmp_path, store_fd, monkeypatch, module, call, at
):
    (tmp_path / "source").write_bytes(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(module, "os", Refusing(call, at))
        with contextlib.suppress(StorageError):
            put_file(store_fd, str(tmp_path / "source"))
    path = path_of(tmp_path, DATA)

    assert not path.exists() or path.read_bytes() == DATA
    assert [left for left in tmp_path.rglob("*") if is_temporary(left.name)] == []
    put_file(store_fd, str(tmp_path / "source"))
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("call", ["open", "fsync", "close", "readv"])
def test_a_refusal_while_a_file_is_taken_is_told(tmp_path, store_fd, monkeypatch, call):
    (tmp_path / "source").write_bytes(DATA)
    monkeypatch.setattr(cloning, "os", Refusing(call, 0))
    with pytest.raises(StorageError) as caught:
        put_file(store_fd, str(tmp_path / "source"))
    assert caught.value.errno == errno.EIO


def test_many_that_put_one_file_at_once_leave_one(tmp_path, store_fd):
    source = tmp_path / "source"
    source.write_bytes(DATA)
    gate = threading.Barrier(8)
    refused: list[BaseException] = []

    def one() -> None:
        gate.wait()
        try:
            put_file(store_fd, str(source))
        except BaseException as error:
            refused.append(error)

    crowd = [threading.Thread(target=one) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert refused == []
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {path_of(tmp_path, DATA), source}


PUTTING = """
import os, sys
from tracker._store.objects import put_file
store = os.open(sys.argv[1], os.O_RDONLY)
for number in range(10_000):
    with open(sys.argv[2], "wb") as file:
        file.write(os.urandom(16) * 100_000)
    print(put_file(store, sys.argv[2])[0], flush=True)
"""


@pytest.mark.storm
def test_kill_9_leaves_whole_objects_and_what_was_told_is_there(tmp_path):
    (tmp_path / "store").mkdir()
    told: list[str] = []
    for wait_s in (0.01, 0.03, 0.05, 0.02, 0.04, 0.01):
        command = [sys.executable, "-c", PUTTING, tmp_path / "store", tmp_path / "source"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told.append(process.stdout.readline().strip())
        time.sleep(wait_s)
        process.kill()
        told += process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    whole = {path.parent.name + path.name: path for path in files if not is_temporary(path.name)}

    assert len(told) >= 6
    assert set(told) <= whole.keys()
    assert {name for name, path in whole.items() if blake3(path.read_bytes()).hexdigest() != name} == set()
    assert {path.parent.name for path in files if is_temporary(path.name)} <= {"objects"}
