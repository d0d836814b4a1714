"""Each system call of a commit is refused once: what was acknowledged stands, and the next try succeeds.

For every step that writes, every call it makes fails in every way of `disk.WAYS`, each in a store of its own.
What must hold: the step succeeds or raises StorageError; the reference, which knows nothing of the process,
reads all that was acknowledged, at once, as after kill -9; the same step, taken again when the disk is well,
succeeds; no file holds other bytes than its name says.

Spec: spec/log.md sections 5 and 8.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from disk import WAYS, Disk, Way
from scenes import SCENES, Scene, Step

from tools.storm.judge import iter_differences, iter_wrong_bytes, reference_damage
from tracker import StorageError, TrackerWarning
from tracker import ledger as ledgers
from tracker._disk import durable
from tracker._store import journal as journals

CASES_MIN = {"EIO": 700, "ENOSPC": 700, "EINTR": 700, "EIO from here on": 700}
UNTOLD = ("short", "EEXIST, though it was done", "no hard links")
"""Ways that nobody need hear of."""


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(durable, "os", disk)
    monkeypatch.setattr(journals, "os", disk)
    monkeypatch.setenv("TRACKER_CACHE", os.devnull)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrackerWarning)  # a manifest that was not written
        yield disk


@pytest.mark.storm
@pytest.mark.parametrize("way", [pytest.param(way, id=way.name) for way in WAYS])
def test_whichever_call_fails_what_was_acknowledged_stands_and_the_next_try_succeeds(
    tmp_path, disk, state_of, way
):
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    broken: list[str] = []
    dead: list[Path] = []
    for name in SCENES:
        for at in itertools.count():
            case = Case(tmp_path / f"{name} {at}", disk, name, state_of, dead)
            broken += [f"{name}, call {at}, {disk.struck}: {what}" for what in case.failures(way, at)]
            if disk.struck is None:
                break
            tried[disk.struck.call] += 1
            refused[disk.struck.call] += case.was_refused

    print(f"{way.name}: {tried.total()} cases, {refused.total()} told; {dict(tried)}, told {dict(refused)}")
    assert broken == []
    assert tried.total() >= CASES_MIN.get(way.name, 8)
    assert (refused.total() == 0) is (way.name in UNTOLD)


class Case:
    """One fault in one scene."""

    def __init__(
        self, folder: Path, disk: Disk, name: str, state_of: Callable[[Path], Any], dead: list[Path]
    ) -> None:
        folder.mkdir()
        scene, durability = SCENES[name]
        self.root = folder / "root"
        self.disk = disk
        self.state_of = state_of
        self.scene = Scene(self.root, disk, durability, dead)
        self.was_refused = False
        scene(self.scene)

    def failures(self, way: Way, at: int) -> list[str]:
        """What does not hold when the `at`-th call fails this way."""
        try:
            self.disk.arm(way, at)
            found = [failure for step in self.scene.steps for failure in self._take(step)]
            self.disk.heal()
            self.scene.project.ledger.close()
            return [*found, *self._unsynced(), *self._unkept(), *self._unlike()]
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        finally:
            self.disk.heal()
            self.scene.project.ledger.close()
            ledgers._ledgers.clear()

    def _take(self, step: Step) -> Iterator[str]:
        """Take a step; where it is refused, once more when the disk is well."""
        was_struck, before = self.disk.struck, self._ledger_bytes()
        try:
            step.take()
        except StorageError as error:
            self.was_refused = True
            self.disk.heal()
            if not (error.errno and error.path and error.cure and str(error).count("\n") == 0):
                yield f"a StorageError does not say what, where and what to do: {error}"
            yield from self._unkept()
            if self.disk.struck and "/claims" in self.disk.struck.path and self._ledger_bytes() != before:
                yield f"refused for its claim, yet something was recorded: {error}"
            step.take()
        self.scene.promises[step.about] = step.promise
        if self.disk.struck != was_struck:
            yield from self._unkept()

    def _ledger_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.root.glob(".tracker/ledger/*/*"))

    def _unsynced(self) -> Iterator[str]:
        struck = self.disk.struck
        if struck and struck.call == "fsync" and ".tracker" not in struck.path and not self.was_refused:
            yield "the sync of a run's file, or of a folder that leads to it, failed and was not told"

    def _unkept(self) -> Iterator[str]:
        """Promises that do not hold to a reader who knows only the files."""
        if not (self.root / ".tracker" / "ledger").is_dir():
            if self.scene.promises:
                yield "there is no store"
            return
        runs = {run["ref"]: run for run in reference.read_store(self.root)["runs"]}
        for about, promise in self.scene.promises.items():
            if not promise(runs):
                yield f"what was promised of {about} does not hold: {runs.get(about, {}).get('status')}"
        yield from (f"other bytes than the name says: {path}" for path in iter_wrong_bytes(self.root))

    def _unlike(self) -> Iterator[str]:
        """In what the closed store is read otherwise by a fresh ledger than by the reference."""
        yield from (f"damaged: {damage}" for damage in reference_damage(self.root))
        yield from iter_differences(reference.read_store(self.root), self.state_of(self.root))
        implied = reference.manifests(self.root)
        for path in (self.root / ".tracker").glob("manifests/*/*.json"):
            whole = implied.get(path.relative_to(self.root / ".tracker").as_posix())
            if whole is None or not whole.startswith(path.read_bytes()):  # one cut short counts as absent
                yield f"{path.name} is not implied by the ledger"
