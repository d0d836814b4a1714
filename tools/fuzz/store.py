"""A small real store as bytes in memory, and the ways in which one of its files is made another.

The store has sealed segments, a part and a live journal, manifests, params, a claim with its holder; it is
made once and written out anew, with one file changed, for each case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

from tools.storm.judge import reference


class Files(dict[str, bytes]):
    """Paths below the root, with bytes."""

    def __repr__(self) -> str:
        return f"Files({len(self)})"


KINDS = {
    "seg": ".tracker/ledger/*/*.seg",
    "part": ".tracker/ledger/*/*.part",
    "open": ".tracker/ledger/*/*.open",
    "manifest": ".tracker/manifests/*/*.json",
    "params": "**/*params.json",
    "format": ".tracker/FORMAT",
    "claim": ".tracker/claims/*/*",
    "holder": ".tracker/claims/*.holder",
}
"""Kind of file -> where those of a store lie."""

_MAKE = """
import os, sys
from tracker import Durability, Project, StorageMode
from tracker.ledger import open_ledger
root, what = sys.argv[1:]
project = Project(root, durability=Durability.OFF)
if what == "ended":
    with project.session("train", {"lr": 0.1, "tag": "a"}) as run:
        run.path("model.pt").write_bytes(b"weights")
    grid = Project(root, "grid", StorageMode.PREFIX, durability=Durability.OFF)
    with grid.session("train", {"lr": 1}) as run:
        run.path("ckpt.pt").write_bytes(b"x")
    try:
        with project.session("train", {"lr": 2.0}):
            raise ValueError("too great")
    except ValueError:
        pass
    project.ledger.close()
else:
    project.session("train", {"lr": 3.0}).start()
    if what == "left":
        project.session("eval", {"lr": 0.1, "tag": "a"}).start().done()
        project.session("train", {"lr": 4.0}).start()
    os.kill(os.getpid(), 9)
"""


def make_store(folder: Path) -> Files:
    """Make the store below `folder` by processes of their own, of which two are killed; give its files.

    The second of those publishes what the first left.
    """
    root = folder / "made"
    for what in ("ended", "left", "killed"):
        made = subprocess.run([sys.executable, "-c", _MAKE, root, what], capture_output=True, text=True)
        assert made.returncode == (0 if what == "ended" else -9), made.stderr
    found = [path for path in root.rglob("*") if path.is_file()]
    files = Files({path.relative_to(root).as_posix(): path.read_bytes() for path in found})
    for kind in KINDS:
        assert names_of(files, kind), f"the store has no {kind}"
    return files


def names_of(files: Mapping[str, bytes], kind: str) -> list[str]:
    """The files of a kind, in order."""
    return sorted(name for name in files if Path(name).match(KINDS[kind].removeprefix("**/")))


def _hash16(data: bytes) -> str:
    return blake3(data).hexdigest()[:16]


def named_by_content(name: str, data: bytes) -> str:
    """The name that `data` has in the place of the file `name`, where names hold a hash."""
    stem, dot, suffix = name.rpartition(".")
    is_hashed = suffix in ("seg", "part") or "/manifests/" in name
    return f"{stem.rpartition('-')[0]}-{_hash16(data)}{dot}{suffix}" if is_hashed else name


def with_file(files: Files, name: str, data: bytes, *, is_renamed: bool) -> Files:
    """The store with other bytes under a name; or, if it is renamed, under the name that they have."""
    others = {other: bytes_ for other, bytes_ in files.items() if other != name}
    return Files(others | {named_by_content(name, data) if is_renamed else name: data})


def write_out(files: Files, root: Path) -> None:
    """Write a store to an empty place."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def payloads_of(data: bytes) -> list[bytes]:
    """The payloads of a segment's frames."""
    return [frame.payload for frame in reference.read_segment(data, sealed=False).frames]


def with_payload(data: bytes, index: int, payload: bytes, *, type_: int | None = None) -> bytes:
    """A segment in which one frame holds another payload, and every checksum is right."""
    made: bytes = reference.MAGIC
    for number, frame in enumerate(reference.read_segment(data, sealed=False).frames):
        is_it = number == index
        kind = frame.type if type_ is None or not is_it else type_
        made += reference.make_frame(
            made, kind, frame.seq, frame.clock, payload if is_it else frame.payload, frame.flags
        )
    return made


def seeds_of(files: Files, kind: str) -> list[bytes]:
    """Real bytes of a kind to begin with."""
    return [files[name] for name in names_of(files, kind)]


def holder_with(files: Files, members: Mapping[str, object]) -> bytes:
    """A holder's file with other members: alive in form, whatever they hold."""
    holder = json.loads(files[names_of(files, "holder")[0]])
    return json.dumps(holder | dict(members)).encode() + os.linesep.encode()
