"""A store with runs of every kind, bundled and unpacked, and what the book says that a bundle must tell."""

from __future__ import annotations

import copy
import json
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from blake3 import blake3

from tracker import Durability, ExistingRun, Project, StorageMode
from tracker._codec.canonical import canonical
from tracker._model.event import (
    Captured,
    Event,
    Input,
    Lost,
    Named,
    Noted,
    Parented,
    Started,
    Summary,
    Tagged,
    Used,
)
from tracker._store.objects import put_object
from tracker.bundle import Bundled, bundle
from tracker.terms import AttemptId, RunRef

Json = dict[str, Any]
FACTS = "facts"


def fresh(root: Path, relpath: str = "", mode: StorageMode = StorageMode.SUBFOLDER) -> Project:
    return Project(root, relpath, mode, durability=Durability.OFF, provenance=False)


def finish(project: Project, params: Json, how: str = "done", **options: Any) -> RunRef:
    """One attempt of a run, with a file that differs from one attempt to the next."""
    session = project.session("train", params, **options).start()
    with session.path("out.bin").open("ab") as file:
        file.write(f"{params} {how}".encode())
    if how == "done":
        session.done()
    elif how == "error":
        session.error(ValueError(f"{params} diverged"))
    elif how == "interrupted":
        session.interrupt("SIGTERM")
    return session.ref


def tell(project: Project, *events: Event) -> None:
    project.ledger.append(lambda _: [*events])


def canonical_attempt(project: Project, ref: RunRef) -> AttemptId:
    run = project.ledger.run(ref)
    assert run is not None and run.canonical is not None
    return run.canonical


def describe(project: Project, ref: RunRef) -> None:
    """What is said of a run beside its end; facts name an object, which names another."""
    attempt = canonical_attempt(project, ref)
    store_fd = project.ledger.lookup.store_fd
    diff = put_object(store_fd, b"--- a\n+++ b\n")
    code = put_object(store_fd, canonical({"commit": "1" * 40, "diff": diff}))
    environment = put_object(store_fd, canonical({"python": "3.11"}))
    facts = {"script": "train.py", "commit": "1" * 40, "code": code, "environment": environment}
    tell(
        project,
        Captured(ref, attempt, facts),
        Summary(ref, attempt, {"loss": {"last": 0.5, "min": 0.25, "count": 3}}),
        Used(ref, attempt, [Input("data", "/data/x.csv", 3, blake3(b"abc").digest(), True, None)]),
        Tagged(ref, ["paper", "old"], []),
        Tagged(ref, ["new"], ["old"]),
        Noted(ref, "looks good"),
        Named(ref, "the first"),
        Parented(ref, RunRef("group/" + "0" * 32)),
    )


def fill(root: Path) -> dict[str, RunRef]:
    """One process that does many runs, as a sweep does: word to run."""
    project = fresh(root)
    grid = fresh(root, "grid", StorageMode.PREFIX)
    refs = {how: finish(project, {"lr": how}, how) for how in ("done", "error", "interrupted")}
    refs["running"] = finish(project, {"lr": "running"}, "running")
    for name in ("error done", "done error", "done done", "done running"):
        for how in name.split():
            refs[name] = finish(project, {"lr": name}, how)
    session = project.session("train", {"lr": "both"}).start()
    session.done()
    session.error(ValueError("after all"))
    refs["both"] = session.ref
    refs["prefix"] = finish(grid, {"lr": "prefix"})
    refs["repeat"] = finish(project, {"lr": "done"}, existing_run_strategy=ExistingRun.NEW)
    refs["ümläut"] = finish(project, {"lr": "ü"})
    fresh(root).session("eval", {"lr": "done"}).start().done()
    refs["lost"] = finish(project, {"lr": "lost"}, "running")
    tell(project, Lost(refs["lost"], canonical_attempt(project, refs["lost"]), 1_790_000_000_000, "gone"))
    refs[FACTS] = finish(project, {"lr": FACTS})
    describe(project, refs[FACTS])
    return refs


def diverge(project: Project, params: Json) -> RunRef:
    """Two attempts that did not know each other, as two hosts make them."""
    ref = finish(project, params)
    run = project.ledger.run(ref)
    assert run is not None
    started = run.attempts[0].started
    assert started is not None
    begun: list[AttemptId] = []

    def events(attempt: AttemptId) -> list[Event]:
        begun.append(attempt)
        return [Started(ref, started.time_ms, [], 0, started.mode, None)]

    project.ledger.append(events)
    tell(project, Lost(ref, begun[0], started.time_ms + 1, "gone"))
    return ref


def make(root: Path, archive: Path, refs: Iterable[RunRef], **options: Any) -> Bundled:
    return bundle(fresh(root).ledger, list(refs), str(archive), **options)


def unpacked(archive: Path, into: Path) -> Path:
    """The root of a bundle, unpacked by tar or by the standard library's zip."""
    into.mkdir()
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            assert file.testzip() is None
            file.extractall(into)
        return into
    subprocess.run(["tar", "-xf", str(archive), "-C", str(into)], check=True)
    (root,) = into.iterdir()
    return root


def runs_of(reference: ModuleType, root: Path) -> dict[str, Json]:
    """Ref to run, as the reference reads a store."""
    return {run["ref"]: run for run in reference.read_store(root)["runs"]}


def as_written_anew(run: Json) -> Json:
    """What a run is in a ledger that was written anew: without starts, and without the superseded."""
    run = copy.deepcopy(run)
    run["first"] = None
    run["attempts"] = [attempt for attempt in run["attempts"] if attempt["head"]]
    for attempt in run["attempts"]:
        attempt |= {"started": None, "claim": None, "mode": None, "supersedes": []}
        attempt["environment"] = attempt.get("facts", {}).get("environment")
    run["notes"] = [note for note in run["notes"] if "recovered from manifest" not in note]
    return run


def files_below(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def crate_of(root: Path) -> dict[str, Json]:
    """The description's entities under their ids."""
    crate = json.loads((root / "ro-crate-metadata.json").read_bytes())
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    return entities


Check = Callable[[Path], None]
