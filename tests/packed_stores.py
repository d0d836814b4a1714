"""Stores that tests pack, and what lies in them: the judges are GNU tar and the reference."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reference

from tracker import Durability, Project
from tracker.check import Level, verify
from tracker.packing import pack


def write_runs(root: Path, numbers: range, seal_every: int = 3, *, logs: bool = False) -> None:
    """Finished runs in several segments, and one that failed.

    With `logs` each failed once before, so that its folder has two segments of metrics to pack.
    """
    project = Project(root, durability=Durability.OFF, provenance=False)
    for number in numbers:
        session = project.session("train", {"n": number}).start()
        if logs:
            session.log(loss=number, step=0)
            session.error()
            session.start()
            session.log(loss=number + 0.5, step=1)
        session.path("model").write_bytes(b"%d" % number)
        session.done() if number % 7 else session.error()
        if number % seal_every == 0:
            project.ledger.seal()
    project.ledger.close()


def logged(root: Path) -> dict[str, list[float]]:
    """The curve of each run that logged, by its ref, as the reference reads it."""
    curves = {}
    for run in reference.read_store(root)["runs"]:
        ref = "/".join(filter(None, (run["relpath"], run["identifier"], run["uid"])))
        found, findings = reference.metrics(root, ref)
        assert not findings, findings
        if found:
            curves[ref] = [value for _, _, value in found["loss"]["rows"]]
    return curves


def packs_of(root: Path) -> list[Path]:
    return sorted(root.glob(".tracker/**/*.pack"))


def loose_of(root: Path) -> dict[str, bytes]:
    """Sealed segments and manifests under their own names, by path below `.tracker`."""
    store = root / ".tracker"
    kinds = ("ledger/*/*.seg", "ledger/*/*.part", "metrics/*/*.seg", "metrics/*/*.part", "manifests/*/*.json")
    found = [path for kind in kinds for path in store.glob(kind)]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in found}


def extracted(root: Path, into: Path) -> dict[str, bytes]:
    """What GNU tar finds in all packs, and what lies loose."""
    into.mkdir()
    for path in packs_of(root):
        subprocess.run(["tar", "-xf", path, "-C", into], check=True)
    found = {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    shutil.rmtree(into)
    return found | loose_of(root)


def do(root: Path, verb: Callable[..., Any] = pack) -> Any:
    project = Project(root, provenance=False)
    try:
        return verb(project.ledger)
    finally:
        project.ledger.close()


def codes(root: Path, level: Level = Level.REPLAY) -> set[str]:
    project = Project(root, provenance=False)
    try:
        return {finding.code for finding in verify(project.ledger, level).findings}
    finally:
        project.ledger.close()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(data)
