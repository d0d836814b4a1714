"""Objects are whole under their digest or not there. Spec: spec/layout.md sections 2 and 3."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tracker._disk import durable
from tracker._model.names import is_temporary
from tracker._store.objects import get_object, iter_objects, put_object
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
    before = path_of(tmp_path, DATA).stat()
    put_object(store_fd, DATA)

    assert path_of(tmp_path, DATA).stat() == before


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
