"""Manifest files: derived, never synced, and absent where their bytes are not those of their name.

Spec: spec/manifest.md; spec/layout.md section 3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from tracker._disk import durable
from tracker._store.manifests import iter_manifests, put_manifest, read_manifest

DATA = b'{"format":1}\n'
UID = "a7f6c8b122de39b556aa975ba9567946"
PATH = f"manifests/{UID[:2]}/{UID[2:]}-{blake3(DATA).hexdigest()[:16]}.json"


@pytest.fixture
def store_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_manifest_lies_under_its_name(tmp_path, store_fd):
    put_manifest(store_fd, PATH, DATA)

    assert (tmp_path / PATH).read_bytes() == DATA == read_manifest(store_fd, PATH)
    assert [*iter_manifests(store_fd)] == [PATH]


def written(path: Path) -> tuple[int, ...]:
    """What a write would change of a file; the time of access changes when it is read."""
    status = path.stat()
    return status.st_ino, status.st_nlink, status.st_mode, status.st_mtime_ns, status.st_ctime_ns


def test_what_is_there_and_right_is_left_alone(tmp_path, store_fd):
    put_manifest(store_fd, PATH, DATA)
    before = written(tmp_path / PATH)
    put_manifest(store_fd, PATH, DATA)

    assert written(tmp_path / PATH) == before


@pytest.mark.parametrize(
    "found", [b"", DATA[:5], bytes(len(DATA)), bytes(4096), b"other bytes", DATA + b"\n"]
)
def test_bytes_that_are_not_those_of_the_name_count_as_absent_and_are_replaced(tmp_path, store_fd, found):
    put_manifest(store_fd, PATH, DATA)
    (tmp_path / PATH).unlink()
    (tmp_path / PATH).write_bytes(found)
    assert read_manifest(store_fd, PATH) is None

    put_manifest(store_fd, PATH, DATA)
    assert read_manifest(store_fd, PATH) == DATA
    assert os.listdir((tmp_path / PATH).parent) == [Path(PATH).name]


def test_a_manifest_that_is_not_here_is_absent(store_fd):
    assert read_manifest(store_fd, PATH) is None
    assert [*iter_manifests(store_fd)] == []


def test_a_name_of_another_shape_is_no_manifest(tmp_path, store_fd):
    (tmp_path / "manifests" / "a7").mkdir(parents=True)
    odd = ["manifests/a7/x.json", f"manifests/a7/{UID[2:]}-0123.json", f"manifests/a7/{UID[2:]}.json"]
    for path in odd:
        (tmp_path / path).write_bytes(DATA)

    assert [read_manifest(store_fd, path) for path in odd] == [None, None, None]
    assert [*iter_manifests(store_fd)] == []


def test_manifests_come_in_the_order_of_their_names(store_fd):
    paths = [f"manifests/{hex2}/{'0' * 30}-{n}{'0' * 15}.json" for hex2 in ("ff", "00") for n in "20"]
    for path in paths:
        put_manifest(store_fd, path, DATA)

    assert [*iter_manifests(store_fd)] == sorted(paths)


def test_putting_a_manifest_syncs_nothing(store_fd, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "_sync", synced.append)
    put_manifest(store_fd, PATH, DATA)

    assert synced == []
