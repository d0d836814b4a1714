"""flips: one bit of a store turned over, and what is said of it.

A real store: sealed segments, a part, manifests, objects, params.json, sealed files, both storage modes.
For each flip: `verify --full` names the file; and no command ends in a traceback, with an index that knows
the store and with none, `rebuild` on a copy. Then the bit is turned back. The mtime stays, as it does where
a disk rots.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import BrokenError, ask, begin, kill, use_cache
from tools.storm.workload import Pace, Writer, plain
from tracker import Project
from tracker.check import Level, Severity, verify
from tracker.cli import main
from tracker.ledger import Ledger

RUNS = 15
FORMAT = ".tracker/FORMAT"
KINDS = {
    "segment": ".tracker/ledger/*/*.seg",
    "part": ".tracker/ledger/*/*.part",
    "manifest": ".tracker/manifests/*/*.json",
    "object": ".tracker/objects/*/*",
    "format": FORMAT,
    "params": "**/*params.json",
}
COMMANDS = (
    *(
        "ls",
        "ls --json",
        "show RUN",
        "show RUN --json",
        "log",
        "log RUN",
        "log --json",
        "params RUN",
        "path RUN",
    ),
    *("verify", "verify --full", "verify --replay --json"),
)
AT_ONCE = 3
"""So many of them are tried of each flip with either index; over all flips every one meets every kind."""

SAID = ({0, 1, 2, 3}, {0, 1, 2, 4})
"""Exit codes that `verify`, and every other command, may end with on a store that is damaged somewhere."""


class Flip(NamedTuple):
    """One bit of one file, which is of a kind."""

    kind: str
    path: str
    byte: int
    bit: int

    def __str__(self) -> str:
        return f"{self.kind} {self.path}, bit {self.bit} of byte {self.byte}"


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Flip `count` bits one by one, and ask of each."""
    tally = Tally("flips", seed)
    luck = random.Random(seed)
    root, cache = folder / "root", folder / "cache"
    make_store(folder, root, cache)
    whole = judge.reference_state(root)
    code, findings = judge.verified(root, cache)
    tally.expect(code == 0, f"before any flip verify ends with {code}: {findings[:3]}")
    for flip in iter_flips(root, luck, count):
        with flipped(root, flip):
            for failure in _judge(folder, root, cache, flip, luck):
                tally.fail(f"{flip}: {failure}")
        tally.cases += 1
        tally.add(f"flips: {flip.kind}")
    tally.expect(judge.reference_state(root) == whole, "with every bit turned back the state is another")
    code, findings = judge.verified(root, cache)
    tally.expect(code == 0, f"with every bit turned back verify ends with {code}: {findings[:3]}")
    return tally


def make_store(folder: Path, root: Path, cache: Path) -> None:
    """Have some writers end by themselves, one be killed, and one publish what that left."""
    paces = (Pace("ledger", seal_again_s=0.0, segment_bytes=3_000), Pace("ledger"), Pace("full"))
    for number, pace in enumerate(paces):
        ask(_write, root, cache, folder / "acks", f"w{number}", pace)
    writer = begin(_write_on, root, cache, folder / "acks", "killed")
    while sum(b'"killed"' in line for line in (folder / "acks").read_bytes().splitlines()) < RUNS:
        assert writer.is_alive(), "the writer ended by itself"
    kill(writer)
    shutil.rmtree(folder / "acks", ignore_errors=True)
    ask(_write, root, cache, folder / "acks", "last", Pace("off"))
    ask(_rebuilt, root, cache)
    for scratch in judge.run_folders(root) - {
        judge.folder_of_run(r) for r in judge.reference_state(root)["runs"]
    }:
        shutil.rmtree(root / scratch)
    ask(_run_again, root, cache)
    for kind in ("segment", "part", "manifest", "object"):
        assert list(root.glob(KINDS[kind])), f"the store has no {kind}"


def _run_again(root: Path, cache: Path) -> None:
    """The killed writer's last run is run again, so that nothing is amiss before the first flip."""
    use_cache(cache)
    project = Project(root)
    for place in (project, project.sub("grid/a")):
        for session in place.find(status="lost"):
            session.start().done()
    project.ledger.close()


def _write(root: Path, cache: Path, acks: Path, name: str, pace: Pace) -> None:
    writer = Writer(root, cache, acks, name, pace)
    writer.write(RUNS)
    plain(writer)
    writer.project.ledger.close()


def _write_on(root: Path, cache: Path, acks: Path, name: str) -> None:
    Writer(root, cache, acks, name, Pace("off")).write()


def _rebuilt(root: Path, cache: Path) -> None:
    use_cache(cache)
    code, said = _run(root, ["rebuild"])
    assert code == 0, said


def iter_flips(root: Path, luck: random.Random, count: int) -> Iterator[Flip]:
    """Choose a kind, of it a file, of that a bit; each kind as often as any other."""
    files = {
        kind: sorted(p.relative_to(root).as_posix() for p in root.glob(glob)) for kind, glob in KINDS.items()
    }
    sealed = {
        f[1] for run in judge.reference_state(root)["runs"] for a in run["attempts"] for f in a["files"]
    }
    files["sealed file"] = sorted(path for path in sealed if (root / path).is_file())
    sizes = {path: (root / path).stat().st_size for paths in files.values() for path in paths}
    kinds = {kind: [path for path in paths if sizes[path]] for kind, paths in files.items()}
    for _ in range(count):
        kind = luck.choice(sorted(kinds))
        path = luck.choice(kinds[kind])
        yield Flip(kind, path, luck.randrange(sizes[path]), luck.randrange(8))


@contextlib.contextmanager
def flipped(root: Path, flip: Flip) -> Iterator[None]:
    """Turn the bit over for the length of a `with`; modes and times stay."""
    _turn(root, flip)
    try:
        yield
    finally:
        _turn(root, flip)


def _turn(root: Path, flip: Flip) -> None:
    path = root / flip.path
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(flip.byte)
        byte = file.read(1)[0]
        file.seek(flip.byte)
        file.write(bytes([byte ^ 1 << flip.bit]))
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _judge(folder: Path, root: Path, cache: Path, flip: Flip, luck: random.Random) -> Iterator[str]:
    fresh = folder / "fresh"
    try:
        yield from ask(_unnoticed, root, cache, flip, luck.sample(COMMANDS, AT_ONCE))
        yield from ask(_complaints, root, fresh, flip, luck.sample(COMMANDS, AT_ONCE))
        if luck.random() < 0.1:
            copy = folder / "copy"
            shutil.copytree(root, copy)
            yield from ask(_complaints_of_rebuild, copy, fresh)
            shutil.rmtree(copy)
    except BrokenError as broken:
        yield str(broken)
    shutil.rmtree(fresh, ignore_errors=True)


def _unnoticed(root: Path, cache: Path, flip: Flip, commands: list[str]) -> list[str]:
    """Whether `verify --full` names the file, and what `commands` end in."""
    use_cache(cache)
    return [*_unnamed(root, flip), *_complaints(root, cache, flip, commands)]


def _unnamed(root: Path, flip: Flip) -> list[str]:
    """Whether `verify --full` names the file; a store of another version is refused, which names it too."""
    if flip.path == FORMAT:
        code, said = _run(root, ["verify", "--full"])
        return [] if code in (1, 2) and FORMAT in said else [f"verify --full ends with {code}: {said}"]
    findings = verify(Ledger(root), Level.FULL).findings
    if any(finding.severity is Severity.DAMAGE and flip.path in finding.path for finding in findings):
        return []
    return [f"verify --full does not name it: {findings[:3]}"]


def _complaints(root: Path, cache: Path, flip: Flip, commands: list[str]) -> list[str]:
    """Which commands end in a traceback, or with an exit code that means nothing."""
    use_cache(cache)
    uid = re.search(r"[0-9a-f]{32}", flip.path) if flip.kind in ("params", "sealed file") else None
    run = uid[0] if uid else next(name for name in sorted(os.listdir(root)) if len(name) == 32)
    asked = [command.replace("RUN", run).split() for command in commands]
    return [complaint for command in asked for complaint in _complaint(root, command)]


def _complaints_of_rebuild(root: Path, cache: Path) -> list[str]:
    use_cache(cache)
    return [complaint for command in (["rebuild"], ["ls"]) for complaint in _complaint(root, command)]


def _complaint(root: Path, command: list[str]) -> Iterator[str]:
    try:
        code, said = _run(root, command)
    except BaseException:
        yield f"tracker {' '.join(command)}: {traceback.format_exc()}"
        return
    if code not in SAID[0 if "verify" in command else 1]:
        yield f"tracker {' '.join(command)} ended with {code}: {said[-300:]}"


def _run(root: Path, command: list[str]) -> tuple[int, str]:
    """Run `tracker` in this process; give its exit code and all that it printed."""
    said = io.BytesIO()
    stream = io.TextIOWrapper(said, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = main(["-C", str(root), *command])
    return code, said.getvalue().decode("utf-8", "replace")
