"""Runs that finished with other files, held against a naive reading of the reference's state."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import reference

from tracker import ExistingRun, Project
from tracker._model.event import Captured, Removed
from tracker.drift import Content, Drift, find_drift


def drifts(project: Project) -> list[Drift]:
    return list(find_drift(project.ledger, project.runs().iter_rows()))


def once(project: Project, text: str, strategy: ExistingRun = ExistingRun.RESUME, **params: Any) -> Any:
    """One finished attempt whose file holds `text`."""
    run = project.session("train", params, strategy).start()
    run.path("out.txt").write_text(text)
    return run.done()


def test_what_agrees_does_not_drift(store: Project) -> None:
    for text, lr in (("a", 1), ("b", 2)):
        once(store, text, lr=lr)
        once(store, text, ExistingRun.NEW, lr=lr)

    assert drifts(store) == []


def test_a_repeat_with_another_file_does(store: Project) -> None:
    first = once(store, "a", lr=1)
    repeat = once(store, "b", ExistingRun.NEW, lr=1)
    third = once(store, "a", ExistingRun.NEW, lr=1)

    (found,) = drifts(store)
    assert found.ref == first.ref
    assert [side.run for side in found.sides] == [first.ref, repeat.ref, third.ref]
    digests = [run.run.attempt.files[0].digest.hex() for run in (first, repeat)]
    assert found.files == {"out.txt": [Content(1, digests[0], [0, 2]), Content(1, digests[1], [1])]}


def test_an_attempt_that_was_set_aside_does(store: Project) -> None:
    run = once(store, "a", lr=1)
    run.start()
    run.path("out.txt").write_text("b")
    run.path("more.txt").write_text("")
    run.done()

    (found,) = drifts(store)
    assert [side.attempt for side in found.sides] == [attempt.id for attempt in run.run.attempts]
    assert sorted(found.files) == ["more.txt", "out.txt"]
    assert found.files["more.txt"][0] == Content(None, None, [0])


def test_failed_and_removed_ones_are_not_compared(store: Project) -> None:
    once(store, "a", lr=1)
    failed = store.session("train", {"lr": 1}, ExistingRun.NEW).start()
    failed.path("out.txt").write_text("b")
    failed.error()
    removed = once(store, "c", ExistingRun.NEW, lr=1)
    store.ledger.append(lambda _: [Removed(removed.ref, "wrong")])

    assert drifts(store) == []


def test_code_and_environment_that_differ_are_named(tmp_path: Path) -> None:
    project = Project(tmp_path / "store", provenance=False)
    for text, commit, numpy in (("a", "1" * 40, "1.0"), ("b", "2" * 40, "2.0"), ("c", "1" * 40, "1.0")):
        run = once(project, text, ExistingRun.NEW, lr=1)
        data = json.dumps({"packages": {"numpy": numpy, "torch": "2"}, "python": {"version": "3.11.1"}})
        digest = project.ledger.put_object(data.encode())
        facts = {"commit": commit, "environment": digest}
        project.ledger.append(lambda _, run=run, facts=facts: [Captured(run.ref, run.run.canonical, facts)])

    (found,) = drifts(project)
    assert found.differences == {
        "commit": ["1" * 40, "2" * 40, "1" * 40],
        "environment.packages.numpy": ["1.0", "2.0", "1.0"],
    }


def test_an_environment_that_is_not_here_is_told_by_its_digest(tmp_path: Path) -> None:
    project = Project(tmp_path / "store", provenance=False)
    for text, digest in (("a", "1" * 64), ("b", "2" * 64)):
        run = once(project, text, ExistingRun.NEW, lr=1)
        facts = {"environment": digest}
        project.ledger.append(lambda _, run=run, facts=facts: [Captured(run.ref, run.run.canonical, facts)])

    (found,) = drifts(project)
    assert found.differences == {"environment.digest": ["1" * 64, "2" * 64]}


def by_the_reference(root: Path) -> dict[str, set[str]]:
    """Ref of the params to the names of files that are not the same in all finished attempts."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in reference.read_store(root)["runs"]:
        if not run["removed"]:
            key = (run["relpath"], run["identifier"], run["key"] or run["uid"])
            groups.setdefault(key, []).extend(a for a in run["attempts"] if a["status"] == "done")
    found = {}
    for key, attempts in groups.items():
        sides = [{name: (size, digest) for name, _, size, digest, _ in a["files"]} for a in attempts]
        names = {name for side in sides for name in side if len({side.get(name) for side in sides}) > 1}
        if names:
            found["/".join(part for part in key if part)] = names
    return found


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_drift_as_a_naive_reading_says(tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    root = tmp_path / "store"
    projects = [Project(root, relpath, provenance=False) for relpath in ("", "grid")]
    for _ in range(60):
        params = {"lr": luck.randrange(4)} if luck.random() < 0.9 else None
        identifier = luck.choice(["train", "eval"])
        run = luck.choice(projects).session(identifier, params, luck.choice([*ExistingRun]))
        run.start()
        for name in luck.sample(["a.txt", "b.txt", "c.txt"], luck.randrange(3)):
            run.path(name).write_text(luck.choice("xxxy"))
        if luck.random() < 0.8:
            run.done()
        else:
            run.error(ValueError("so"))
        if luck.random() < 0.1:
            projects[0].ledger.append(lambda _, run=run: [Removed(run.ref, "wrong")])
    projects[0].ledger.seal()

    want = by_the_reference(root)
    assert want
    assert {one.ref: set(one.files) for one in drifts(projects[0])} == want
