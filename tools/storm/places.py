"""places: one store copied, moved, behind a link, without rights to write, and read by another user.

The judges: everywhere the same answers, and reading has written nothing: every name with its mode, size,
mtime and ctime is as it was.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import portalocker  # noqa: F401 - nobody may not be able to read where it lies
from blake3 import blake3

from tools.storm import judge
from tools.storm.flips import make_store
from tools.storm.tally import Tally
from tools.storm.ward import BrokenError, ask, use_cache
from tracker import Project
from tracker._model.fold import run_as_json
from tracker._store.index import Filter
from tracker.check import Level, verify
from tracker.ledger import Ledger

NAMESPACES = ("", "grid/a")
NOBODY = "nobody"


def storm(folder: Path, seed: int) -> Tally:
    """Ask the same of one store at each place."""
    tally = Tally("places", seed)
    root, cache = folder / "root", folder / "cache"
    make_store(folder, root, cache)
    expected = ask(answers, root, cache)
    copy = folder / "copy"
    shutil.copytree(root, copy, symlinks=True)
    _compare(tally, "copied", copy, cache, expected)
    _compare(tally, "copied, without an index", copy, folder / "fresh", expected)
    link = folder / "link"
    link.symlink_to(copy)
    _compare(tally, "behind a link", link, folder / "fresh-link", expected)
    moved = folder / "elsewhere" / "moved"
    moved.parent.mkdir()
    copy.rename(moved)
    _compare(tally, "moved", moved, cache, expected)
    for path in [moved, *moved.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    _compare(tally, "without rights to write", moved, folder / "fresh-locked", expected)
    if os.geteuid() == 0:
        _compare(tally, "read by nobody", moved, folder / "not-there", expected, _as_nobody)
    else:
        tally.figures["skipped"] = "only root can become another user"
    for path in [moved, *moved.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    return tally


def _compare(
    tally: Tally,
    where: str,
    root: Path,
    cache: Path,
    expected: object,
    asker: Callable[..., Any] | None = None,
) -> None:
    tally.cases += 1
    before = judge.listing(root)
    try:
        told = ask(asker or answers, root, cache)
        tally.expect(told == expected, f"{where}: the answers differ: {_first_difference(told, expected)}")
    except BrokenError as broken:
        tally.fail(f"{where}: {broken}")
    after = judge.listing(root)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    tally.expect(not changed, f"{where}: reading wrote {changed[:5]}")


def _first_difference(told: dict[str, Any], expected: Any) -> str:
    return next(
        (
            f"{key}: {told[key]!r:.200} for {expected[key]!r:.200}"
            for key in told
            if told[key] != expected[key]
        ),
        "",
    )


def _as_nobody(root: Path, cache: Path) -> dict[str, Any]:
    user = pwd.getpwnam(NOBODY)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = "/"
    return answers(root, cache)


def answers(root: Path, cache: Path) -> dict[str, Any]:
    """All that can be asked of a store, with every path relative to the root."""
    use_cache(cache)
    ledger = Ledger(root)
    told: dict[str, Any] = {"runs": [run_as_json(run) for run in ledger.find(Filter(removed=None))]}
    for level in Level:
        report = verify(ledger, level)
        told[f"verify {level}"] = [(f.code, str(f.severity), f.path) for f in report.findings]
    for relpath in NAMESPACES:
        project = Project(root, relpath)
        for session in project.find():
            told[session.ref] = _answers_of(project, session)
    return told


def _answers_of(project: Project, session: Any) -> list[Any]:
    """Of one run: its status, and each file with its bytes, by the found handle and by a new one."""
    root = project.root
    told: list[Any] = [str(session.status), session.folder.relative_to(root).as_posix()]
    again = project.session(session.identifier, params=session.params) if session.uid == session.key else None
    for name, path in sorted(session.files.items()):
        data = path.read_bytes()
        told.append((name, path.relative_to(root).as_posix(), blake3(data).hexdigest()))
        if again is not None and again.uid == session.uid:
            told.append(again.path(name).relative_to(root).as_posix())
    told.append(
        None if again is None else (project.has(session.identifier, session.params), str(again.status))
    )
    return told
