"""The untracked source files of a working tree: which are kept, and why the others are not.

Reads them itself and executes nothing; knows nothing of git but that it named them.

Spec: spec/provenance.md section 4.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, NamedTuple

from tracker._codec.digest import digest
from tracker.provenance.masking import Masker
from tracker.provenance.telling import is_secret_file

MAX_FILE = 1 << 20
MAX_FILES = 200
MAX_TOTAL = 10 << 20


class Files(NamedTuple):
    """Entries and objects of what is kept, and what is not with the reason."""

    kept: list[list[Any]]
    left_out: list[tuple[bytes, str]]
    objects: list[tuple[bytes, bytes]]
    places: int


def read_untracked(top: str, paths: list[bytes], masker: Masker) -> Files:
    """Untracked source files: [path, mode, size, digest], and the places masked if there are any."""
    files = Files([], [], [], 0)
    places = total = 0
    for path in sorted(path for path in paths if is_source(path)):
        name = text_of(path)
        why = _why_not(path, name, masker, len(files.kept), total)
        data, mode = b"", 0
        if not why:
            try:
                data, mode = _read(os.path.join(os.fsencode(top), path))
            except OSError as error:
                why = (error.strerror or "unreadable").lower()
        if not why:
            why = _why_not_bytes(data, total)
        if why:
            files.left_out.append((path, why))
            continue
        kept = masker.content(data)
        entry = [name, f"{mode:o}", len(kept.data), digest(kept.data)]
        files.kept.append([*entry, kept.places] if kept.places else entry)
        files.objects.append(object_of(kept.data))
        places += kept.places
        total += len(kept.data)
    return files._replace(places=places)


def is_source(path: bytes) -> bool:
    """Tell whether an untracked file is taken for source by its name. What a store wrote is none."""
    *folders, name = path.split(b"/")
    if any(part == b".tracker" or _RUN.match(part) for part in (*folders, name)):
        return False
    name = name.lower()
    return name.rpartition(b".")[2] in _SUFFIXES or name in _WHOLE_NAMES or name.startswith(_STARTS)


_RUN = re.compile(rb"[0-9a-f]{32}(?:_.*)?\Z", re.DOTALL)

_STARTS = (b".env", b"requirements-", b"requirements_")
_SUFFIXES = frozenset(
    {
        *(b"py", b"pyi", b"pyx", b"pxd", b"ipynb", b"c", b"cc", b"cpp", b"cxx", b"cu", b"cuh", b"h", b"hh"),
        *(
            b"hpp",
            b"rs",
            b"go",
            b"java",
            b"jl",
            b"r",
            b"m",
            b"sh",
            b"bash",
            b"zsh",
            b"js",
            b"ts",
            b"lua",
            b"f",
        ),
        *(b"f90", b"sql", b"yaml", b"yml", b"toml", b"json", b"cfg", b"conf", b"ini", b"cmake", b"proto"),
        *(b"gin", b"sbatch", b"slurm", b"pbs", b"patch", b"env"),
    }
)
_WHOLE_NAMES = frozenset(
    {
        *(b"makefile", b"dockerfile", b"snakefile", b"justfile", b"cmakelists.txt", b"requirements.txt"),
        *(b"constraints.txt", b".python-version"),
    }
)


def _why_not(path: bytes, name: str, masker: Masker, count: int, total: int) -> str:
    if is_secret_file(name):
        return "secret by its name"
    if masker.text(name) != name:
        return "secret in its name"
    if name.encode() != path:
        return "its name is not UTF-8"
    if count >= MAX_FILES:
        return f"over {MAX_FILES} files"
    return f"over {MAX_TOTAL >> 20} MiB in all" if total >= MAX_TOTAL else ""


def _why_not_bytes(data: bytes, total: int) -> str:
    if len(data) > MAX_FILE:
        return f"over {MAX_FILE >> 20} MiB"
    if b"\0" in data:
        return "binary"
    return f"over {MAX_TOTAL >> 20} MiB in all" if total + len(data) > MAX_TOTAL else ""


def _read(path: bytes) -> tuple[bytes, int]:
    """The bytes of a file, up to one over the limit, or where a link leads; and git's mode of it."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(path), 0o120000
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "not a file")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.read(MAX_FILE + 1), 0o100755 if found.st_mode & 0o100 else 0o100644


def object_of(data: bytes) -> tuple[bytes, bytes]:
    """Bytes as an object: under their digest."""
    return bytes.fromhex(digest(data)), data


def text_of(path: bytes) -> str:
    """A path as text; what does not fit is replaced."""
    return path.decode("utf-8", "replace")
