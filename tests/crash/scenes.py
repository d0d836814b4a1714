"""Scenes for a faulty disk: a store, what was acknowledged in it, and the steps that a fault may befall.

It knows the front door and what each step promises, not how the disk fails.

Spec: spec/log.md section 8; spec/claims.md section 6.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import reference
from blake3 import blake3
from disk import Disk

from tracker import Durability, Project, Session
from tracker.provenance import capture

OUTPUT = b"bytes of the run"
DEAD_AT_ONCE = 50

Promise = Callable[[dict[str, Any]], bool]
"""Tells whether it holds of the runs that the reference reads, by their refs."""


class Step(NamedTuple):
    """A call. Once it has returned its promise holds, until a later one `about` the same takes its place."""

    take: Callable[[], object]
    about: str = ""
    promise: Promise = lambda runs: True


class Scene:
    """A store, what was acknowledged in it, and the steps that a fault may befall."""

    def __init__(self, root: Path, disk: Disk, durability: Durability, dead: list[Path]) -> None:
        self.root = root
        self.dead = dead
        self.disk = disk
        self.project = Project(root, durability=durability, provenance=False)
        self.steps: list[Step] = []
        self.promises: dict[str, Promise] = {}

    def before(self) -> None:
        """Record a run before anything fails."""
        session = self.project.session("train", params={"name": "before"}).start()
        session.done()
        self.promises[session.ref] = _is(session, "done")

    def run(self, name: str = "now") -> Session:
        """A run that was begun and wrote a file."""
        session = self.project.session("train", params={"name": name}).start()
        session.path("sub/out.bin").write_bytes(OUTPUT)
        return session

    def then(self, take: Callable[[], object], about: str = "", promise: Promise = lambda runs: True) -> None:
        self.steps.append(Step(take, about, promise))

    def then_is_known(self, take: Callable[[], object], session: Session) -> None:
        """Take a step after which the run is recorded; an end of it that was refused may yet stand."""
        self.then(take, session.ref, lambda runs: session.ref in runs)

    def then_is(self, take: Callable[[], object], session: Session, status: str) -> None:
        """Take a step after which the run has this status."""
        self.then(take, session.ref, _is(session, status))

    def then_has_file(self, take: Callable[[], object], session: Session, status: str) -> None:
        """Take a step after which the run has this status, by an attempt that sealed its file."""
        self.then(take, session.ref, _is_with_file(session, status))


def _is(session: Session, status: str) -> Promise:
    return lambda runs: session.ref in runs and runs[session.ref]["status"] == status


def _is_with_file(session: Session, status: str) -> Promise:
    sealed = (len(OUTPUT), blake3(OUTPUT).hexdigest())

    def holds(runs: dict[str, Any]) -> bool:
        attempts = runs.get(session.ref, {"attempts": []})["attempts"]
        files = [file for attempt in attempts if attempt["status"] == status for file in attempt["files"]]
        return _is(session, status)(runs) and sealed in [(size, digest) for _, _, size, digest, _ in files]

    return holds


# Scenes


def first(scene: Scene) -> None:
    """The first run of a store that is not there."""
    session = scene.project.session("train", params={"name": "first"})
    scene.then_is_known(session.start, session)
    scene.then(lambda: session.path("sub/out.bin").write_bytes(OUTPUT))
    scene.then_has_file(session.done, session, "done")


def _die_while_executing(scene: Scene) -> None:
    """Have the scene begin in a store whose only writer died while it executed a run."""
    if not scene.dead:
        scene.dead += _stores_of_the_dead(scene.root.parent.parent / f"dead {os.urandom(4).hex()}")
    scene.dead.pop().rename(scene.root)


DYING = """
import os, sys
from tracker import Durability, Project

for root in sys.argv[1:]:
    project = Project(root, durability=Durability.OFF, provenance=False)
    project.session("train", params={"name": "dead"}).start()
os._exit(0)
"""


def _stores_of_the_dead(folder: Path) -> list[Path]:
    """Stores in which one process began a run and died: many at once, as starting it is what takes time."""
    roots = [folder / str(number) for number in range(DEAD_AT_ONCE)]
    subprocess.run([sys.executable, "-c", DYING, *map(str, roots)], check=True, timeout=60)
    return roots


def after_a_death(scene: Scene) -> None:
    """The first run of a process in a store where another died with its journal open."""
    _die_while_executing(scene)
    session = scene.project.session("train", params={"name": "now"})
    scene.promises["dead"] = lambda runs: any('"dead"' in run["params"] for run in runs.values())
    scene.then_is_known(session.start, session)
    scene.then_is(session.done, session, "done")


def claim(scene: Scene) -> None:
    """A claim that is given back, then one that is renewed and used."""
    scene.before()
    session = scene.project.session("train", params={"name": "now"})
    scene.then(lambda: _must(session.claim()))
    scene.then(session.release)
    scene.then_is_known(lambda: _must(session.try_start()), session)
    scene.then(scene.project.ledger.renew_claims)
    scene.then_is(session.done, session, "done")


def take_over(scene: Scene) -> None:
    """The run that a dead process was executing."""
    _die_while_executing(scene)
    session = scene.project.session("train", params={"name": "dead"})
    scene.then_is_known(lambda: _must(session.try_start()), session)
    scene.then_is(session.done, session, "done")


def _must(could: bool) -> None:
    assert could, "nobody else wants this run, and it was not to be had"


def done(scene: Scene) -> None:
    """The end of a run in a journal that goes on."""
    scene.before()
    session = scene.run()
    scene.then_has_file(session.done, session, "done")


def done_without_start(scene: Scene) -> None:
    scene.before()
    session = scene.project.session("train", params={"name": "now"})
    scene.then_is(session.done, session, "done")


def done_that_seals(scene: Scene) -> None:
    scene.before()
    session = scene.run()
    scene.project.ledger._sealed_at_s = -1e9
    scene.then_has_file(session.done, session, "done")
    after = scene.project.session("train", params={"name": "after"})
    scene.then_is_known(after.start, after)
    scene.then_is(after.done, after, "done")


def seal(scene: Scene) -> None:
    scene.before()
    scene.run()
    scene.then(scene.project.ledger.seal)


def put_object(scene: Scene) -> None:
    scene.before()
    place = blake3(OUTPUT).hexdigest()
    path = scene.root / ".tracker" / "objects" / place[:2] / place[2:]
    scene.then(lambda: scene.project.ledger.put_object(OUTPUT), place, lambda _: path.read_bytes() == OUTPUT)


def error(scene: Scene) -> None:
    scene.before()
    session = scene.run()
    scene.then_has_file(lambda: session.error(ValueError("diverged")), session, "error")


def interrupt(scene: Scene) -> None:
    scene.before()
    session = scene.run()
    scene.then_has_file(lambda: session.interrupt("SIGTERM"), session, "interrupted")


def attach(scene: Scene) -> None:
    scene.before()
    outside = scene.root.parent / "input.bin"
    outside.write_bytes(OUTPUT)
    session = scene.project.session("train", params={"name": "now"})
    scene.then(
        lambda: session.attach_files({"input": outside}), session.ref, lambda runs: session.ref in runs
    )
    scene.then_has_file(session.done, session, "done")


def facts(scene: Scene) -> None:
    """A run whose facts name objects that are not there yet; they are an extra, and refuse nothing."""
    capture.begin().wait(60)
    scene.before()
    scene.project = Project(scene.root, durability=Durability.FULL)
    session = scene.project.session("train", params={"name": "now", "seed": 1})
    scene.then_is_known(session.start, session)
    scene.then_is(session.done, session, "done")


def metrics(scene: Scene) -> None:
    """Rows that were flushed are there for whoever reads the files, and the summary of all with the end."""
    scene.before()
    session = scene.run()
    session.log(loss=0.5)
    scene.then(session.flush, "rows", lambda _: _rows_of(scene.root, session) >= 1)
    scene.then(lambda: session.log(loss=0.25))
    scene.then_has_file(session.done, session, "done")
    scene.then(lambda: None, "rows", lambda _: _rows_of(scene.root, session) == 2)
    scene.then(lambda: None, "summary", lambda runs: runs[session.ref]["summary"]["loss"]["count"] == 2)


def _rows_of(root: Path, session: Session) -> int:
    curves, _ = reference.metrics(root, session.ref)
    return sum(len(curve["rows"]) for curve in curves.values())


def save_and_use(scene: Scene) -> None:
    scene.before()
    outside = scene.root.parent / "input.bin"
    outside.write_bytes(OUTPUT)
    session = scene.run()
    scene.then(lambda: session.save("kept", OUTPUT))
    scene.then(lambda: session.use(outside))
    scene.then_has_file(session.done, session, "done")


def marks(scene: Scene) -> None:
    scene.before()
    session = scene.project.session("train", params={"name": "now"})
    scene.then(lambda: session.tag("paper"), session.ref, lambda runs: runs[session.ref]["tags"] == ["paper"])
    scene.then(lambda: session.note("odd"), "note", lambda runs: "odd" in runs[session.ref]["notes"])


def close(scene: Scene) -> None:
    scene.before()
    scene.run().done()
    scene.then(scene.project.ledger.close)


SCENES: dict[str, tuple[Callable[[Scene], None], Durability]] = {
    "first": (first, Durability.FULL),
    **{f"done, {level}": (done, level) for level in Durability},
    **{scene.__name__: (scene, Durability.FULL) for scene in (after_a_death, done_without_start)},
    **{scene.__name__: (scene, Durability.FULL) for scene in (done_that_seals, error, interrupt, attach)},
    **{scene.__name__: (scene, Durability.OFF) for scene in (claim, take_over)},
    **{scene.__name__: (scene, Durability.OFF) for scene in (seal, put_object, close, metrics)},
    **{scene.__name__: (scene, Durability.FULL) for scene in (facts, save_and_use, marks)},
}
