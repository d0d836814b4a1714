"""What is sealed of a run's files, under each policy. Spec: spec/sealing.md sections 1 to 3.

The judge is a walk over the folder by pathlib, with the blake3 package.
"""

from __future__ import annotations

import errno
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from tracker._disk import hashing
from tracker._model.event import Attachment, File
from tracker._store import sealing
from tracker._store.objects import put_object
from tracker._store.sealing import SealPolicy, seal_files
from tracker.errors import NameRefusedError, StorageError
from tracker.terms import Seal


def seal(root: Path, path: str, policy: SealPolicy = sealing.WHOLE, *, name: str = "n") -> list[File]:
    return seal_files(root, [Attachment(name, path, external=False)], policy)


def sealed(path: Path, name: str, root: Path) -> File:
    data = path.read_bytes()
    return File(name, path.relative_to(root).as_posix(), len(data), blake3(data).digest(), external=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of many kinds of names and of long and short files."""
    folder = tmp_path / "out"
    for name, size in {
        "b": 0, "a": 10, "z.bin": 70_000, "sub/deep/c": 5, "sub/d": 2_000_000, "empty/": 0, "ä/ö é": 3,
        "sub.txt": 1, "A": 2, "10": 1, "9": 1, "long": 9 << 20,
    }.items():  # fmt: skip
        place = folder / name
        if name.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(os.urandom(size))
    return tmp_path


def by_the_book(folder: Path, name: str, root: Path) -> list[File]:
    """Files of a folder by name, then its folders by name."""
    inner = sorted(folder.iterdir(), key=lambda path: path.name)
    files = [sealed(path, f"{name}/{path.name}", root) for path in inner if path.is_file()]
    folders = [path for path in inner if path.is_dir() and not path.is_symlink()]
    return files + [one for path in folders for one in by_the_book(path, f"{name}/{path.name}", root)]


def test_a_folder_is_sealed_file_by_file_in_the_order_of_names(tree):
    want = by_the_book(tree / "out", "n", tree)

    assert len(want) == 11
    assert seal(tree, "out") == want


def test_an_external_file_keeps_its_absolute_path(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    (file,) = seal_files(tmp_path / "root", [Attachment("n", str(tmp_path / "f"), external=True)])

    assert file == File("n", str(tmp_path / "f"), 1, blake3(b"x").digest(), external=True)


def test_links_to_files_are_files_and_links_to_folders_are_passed_over(tree):
    (tree / "out" / "to-a").symlink_to("a")
    (tree / "out" / "to-sub").symlink_to("sub")
    (tree / "out" / "to-nothing").symlink_to("gone")
    (tree / "top").symlink_to("out")
    found = {file.name: file for file in seal(tree, "top")}

    assert found["n/to-a"].digest == found["n/a"].digest
    assert (found["n/to-nothing"].size, found["n/to-nothing"].digest) == (None, None)
    assert not [name for name in found if name.startswith("n/to-sub")]
    assert len(found) == 11 + 2


def test_pipes_are_named_and_not_read(tmp_path):
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "pipe")

    assert seal(tmp_path, "out") == [File("n/pipe", "out/pipe", None, None, external=False)]
    assert seal(tmp_path, "out/pipe") == [File("n", "out/pipe", None, None, external=False)]


def test_what_is_not_there_has_neither(tmp_path):
    assert seal(tmp_path, "gone") == [File("n", "gone", None, None, external=False)]
    (tmp_path / "empty").mkdir()
    assert seal(tmp_path, "empty") == []


@pytest.mark.parametrize(
    ("policy", "digests", "sizes"),
    [
        (SealPolicy(), {"a", "b", "z.bin", "sub/d", "long"}, True),
        (SealPolicy(max_bytes=70_000), {"a", "b", "z.bin"}, True),
        (SealPolicy(max_bytes=69_999), {"a", "b"}, True),
        (SealPolicy(max_bytes=0), {"b"}, True),
        (SealPolicy(Seal.SIZE), set(), True),
        (SealPolicy(Seal.SIZE, max_bytes=10**9), set(), True),
    ],
)
def test_a_policy_says_what_is_hashed(tree, policy, digests, sizes):
    asked = {"a", "b", "z.bin", "sub/d", "long"}
    found = {file.name.removeprefix("n/"): file for file in seal(tree, "out", policy)}

    assert {name for name in asked if found[name].digest is not None} == digests
    assert {name: found[name].size for name in asked} == {n: (tree / "out" / n).stat().st_size for n in asked}
    assert len(found) == 11


def test_none_names_what_was_asked_for_and_tells_nothing_of_it(tree):
    found = seal_files(
        tree, [Attachment("n", "out", False), Attachment("g", "gone", False)], SealPolicy(Seal.NONE)
    )

    assert found == [
        File("n", "out", None, None, external=False),
        File("g", "gone", None, None, external=False),
    ]


@pytest.mark.parametrize("how", Seal)
def test_an_object_is_sealed_by_its_name_and_not_read(tmp_path, monkeypatch, how):
    (tmp_path / ".tracker").mkdir()
    fd = os.open(tmp_path / ".tracker", os.O_RDONLY)
    digest = put_object(fd, b"kept" * 40_000)
    os.close(fd)
    path = f".tracker/objects/{digest[:2]}/{digest[2:]}"
    monkeypatch.setattr(sealing, "read_head", None)

    assert seal(tmp_path, path, SealPolicy(how)) == [
        File("n", path, 160_000, bytes.fromhex(digest), external=False)
    ]
    (tmp_path / path).unlink()
    assert seal(tmp_path, path, SealPolicy(how)) == [File("n", path, None, None, external=False)]


def test_a_name_that_is_not_utf_8_is_refused_by_name(tmp_path):
    (tmp_path / "out").mkdir()
    try:
        with open(os.fsencode(tmp_path) + b"/out/\xff", "w"):
            pass
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    with pytest.raises(NameRefusedError, match="in out is not UTF-8; rename it"):
        seal(tmp_path, "out")


@pytest.mark.parametrize("path", ["out", "out/sub/d"])
def test_a_file_that_cannot_be_read_is_told_with_its_place(tree, monkeypatch, path):
    real = hashing.hash_on

    def refuse(fd: int, head: bytes, heed: object) -> object:
        if os.fstat(fd).st_size == 2_000_000:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, head)

    monkeypatch.setattr(hashing, "hash_on", refuse)
    with pytest.raises(StorageError, match=r"seal .*out/sub/d: Input/output error; the disk failed"):
        seal(tree, path)


def test_no_descriptor_is_left_open(tree):
    before = len(os.listdir("/dev/fd"))
    seal(tree, "out")

    assert len(os.listdir("/dev/fd")) == before


def test_a_bar_is_shown_on_a_terminal_alone_and_rises(tree, monkeypatch):
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr(sealing.Bar, "__call__", lambda bar, *told: shown.append(told))
    (tree / "out" / "huge").write_bytes(bytes(20 << 20))
    seal_files(
        tree,
        [Attachment("a", "out/a", False), Attachment("n", "out", False), Attachment("l", "out/huge", False)],
    )
    parts = [done / total for _, done, total in shown]

    assert len(parts) > 5
    assert parts == sorted(parts)
    assert 0 <= parts[0] < 0.4
    assert 0.9 < parts[-1] <= 1


def test_nothing_is_written_to_a_pipe(tree, monkeypatch):
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr("tracker.progress.QUIET_S", 0.0)
    seal(tree, "out")

    assert err.getvalue() == ""


class Gone(io.StringIO):
    """A terminal whose other end went away."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def closed() -> io.StringIO:
    err = io.StringIO()
    err.close()
    return err


@pytest.mark.parametrize("err", [None, Gone(), object(), closed()], ids=["none", "gone", "odd", "closed"])
def test_whatever_standard_error_is_files_are_sealed(tree, monkeypatch, err):
    (tree / "out" / "huge").write_bytes(bytes(20 << 20))
    want = seal(tree, "out")
    monkeypatch.setattr("tracker.progress.QUIET_S", 0.0)
    monkeypatch.setattr(sys, "stderr", err)

    assert seal(tree, "out") == want


def test_a_person_at_a_terminal_sees_how_far_it_is_and_the_line_goes(tree, tmp_path):
    (tree / "out" / "huge").write_bytes(bytes(60 << 20))
    code = (
        "import sys, tracker.progress; tracker.progress.QUIET_S = 0.0; from pathlib import Path;"
        "from tracker._store.sealing import seal_files; from tracker._model.event import Attachment;"
        "seal_files(Path(sys.argv[1]), [Attachment('n', 'out', False)])"
    )
    here, there = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code, tree], stderr=there, stdout=there)
    os.close(there)
    parts = []
    try:
        while part := os.read(here, 65536):
            parts.append(part)
    except OSError:  # the last process has let go
        pass
    os.close(here)
    text = b"".join(parts).decode()

    assert process.wait(timeout=60) == 0
    assert "sealing: " in text
    assert text.endswith(" \r")
