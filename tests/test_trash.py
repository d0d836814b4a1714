"""rm, restore and gc: a run out of sight and back, and gone for good only once the ledger says so.

The judges are plain files, the reference's state, and a model that keeps two dicts.

Spec: spec/events.md section 6; spec/layout.md section 9.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3
from deaths import is_killed, kill_at

from tracker import (
    Durability,
    ExistingRun,
    NotFoundError,
    Project,
    Session,
    StateError,
    Status,
    StorageError,
    StorageMode,
)
from tracker._disk import host
from tracker._model.event import Attached, Created, Done, Event, File, Purged, Removed, Restored, Started
from tracker._model.fold import run_of
from tracker._model.removal import removal_of
from tracker._store import trash as store_trash
from tracker._store.index import Filter
from tracker.check import Level, verify
from tracker.terms import AttemptId, RunRef
from tracker.trash import gc, plan_gc, remove, restore

MODES = list(StorageMode)
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "s", durability=Durability.OFF, provenance=False)


def run(
    project: Project,
    identifier: str = "train",
    lr: float = 0.1,
    mode: StorageMode = StorageMode.SUBFOLDER,
    **files: bytes,
) -> Session:
    """A finished run with these files, `sub/…` for a name that begins with sub_."""
    with project.session(identifier, {"lr": lr}, storage_mode=mode) as session:
        for name, data in (files or {"model": b"weights", "sub_log": b"ok"}).items():
            session.path(name.replace("sub_", "sub/")).write_bytes(data)
    return session


def users_files(root: Path) -> dict[str, bytes]:
    """Path to bytes of all outside `.tracker`."""
    paths = (path for path in root.rglob("*") if path.is_file() and ".tracker" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def trashed(root: Path) -> dict[str, bytes]:
    """Path below `.tracker/trash` to bytes."""
    top = root / ".tracker" / "trash"
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def folder_in_trash(ref: str) -> str:
    """By the page, not by the code."""
    uid = ref[-32:]
    return f"{uid[:2]}/{uid[2:]}-{blake3(ref.encode()).hexdigest()[:16]}"


def kinds(project: Project, ref: str) -> list[str]:
    found = project.ledger.events(Filter(uid=ref[-32:], removed=None))
    return [str(event.__struct_config__.tag) for _, event in found if event.run == ref]


def record(project: Project, *events: Event) -> None:
    project.ledger.append(lambda _: [*events])


def start_anew(project: Project, ref: str, data: bytes) -> None:
    """Do a removed run again, with another file."""
    run = project.ledger.run(RunRef(ref))
    assert run is not None
    assert run.removed
    params = json.loads(run.params or "")
    with project.session(run.identifier, params, storage_mode=StorageMode(run.mode or "")) as session:
        session.path("model").write_bytes(data)


def findings(project: Project) -> set[str]:
    return {finding.code for finding in verify(project.ledger, Level.REPLAY).findings}


# rm and restore


@pytest.mark.parametrize("mode", MODES)
def test_a_removed_run_has_its_files_in_the_trash_and_restore_brings_back_every_byte(
    project: Project, mode: StorageMode
) -> None:
    session = run(project, mode=mode)
    before = users_files(project.root)
    moved = remove(project.ledger, session.ref, "wrong data")

    assert len(before) == 3
    assert users_files(project.root) == {}
    assert trashed(project.root) == {
        f"{folder_in_trash(session.ref)}/{p}": data for p, data in before.items()
    }
    assert (sorted(moved.files), moved.kept, moved.is_recorded) == (sorted(before), [], True)

    back = restore(project.ledger, session.ref, "right after all")

    assert users_files(project.root) == before
    assert trashed(project.root) == {}
    assert not (project.root / ".tracker" / "trash" / session.uid[:2]).exists()
    assert sorted(back.files) == sorted(before)
    assert kinds(project, session.ref)[-2:] == ["removed", "restored"]


def test_mode_and_time_of_a_file_are_kept(project: Project) -> None:
    session = run(project)
    path = project.root / session.uid / "train_model"
    path.chmod(0o640)
    os.utime(path, (1e9, 1e9))
    remove(project.ledger, session.ref)
    restore(project.ledger, session.ref)

    assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o640, 1e9)


def test_the_folder_of_a_removed_run_is_gone_and_its_namespace_stays(project: Project) -> None:
    grid = project.sub("grid").ensure_folder()
    session = run(grid)
    (grid.path / session.uid / "empty" / "folders").mkdir(parents=True)
    remove(project.ledger, session.ref)

    assert list(grid.path.iterdir()) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_run_takes_what_bears_its_name_and_leaves_what_others_share(
    project: Project, mode: StorageMode
) -> None:
    train = run(project, "train", mode=mode, model=b"1")
    big = run(project, "train_big", mode=mode, model=b"2")
    start = "" if mode is StorageMode.SUBFOLDER else f"{train.uid}_"
    folder = project.root / train.uid if mode is StorageMode.SUBFOLDER else project.root
    (folder / f"{start}train_unrecorded.txt").write_bytes(b"3")
    (folder / f"{start}shared.txt").write_bytes(b"4")
    remove(project.ledger, train.ref)
    left = {path.removeprefix(f"{train.uid}/") for path in users_files(project.root)}

    assert left == {f"{start}train_big_model", f"{start}shared.txt", f"{start}params.json"}

    remove(project.ledger, big.ref)

    assert users_files(project.root) == {}
    assert len(trashed(project.root)) == 5


def test_attached_files_go_with_the_run_and_external_ones_stay(project: Project, tmp_path: Path) -> None:
    outside, inside, folder = tmp_path / "out.bin", project.root / "data" / "in.bin", project.root / "plots"
    folder.mkdir(parents=True)
    inside.parent.mkdir()
    for path in (outside, inside, folder / "a.png", folder / "b.png"):
        path.write_bytes(path.name.encode())
    session = project.session("train", {"lr": 0.1}).start()
    session.attach_files({"out": outside, "in": inside, "plots": folder}).done()
    before = users_files(project.root)
    moved = remove(project.ledger, session.ref)

    assert sorted(moved.files) == ["data/in.bin", "plots/a.png", "plots/b.png"]
    assert outside.read_bytes() == b"out.bin"
    restore(project.ledger, session.ref)
    assert users_files(project.root) == before


def test_a_file_that_another_run_recorded_stays_until_that_is_removed_too(project: Project) -> None:
    train = run(project, lr=0.1, model=b"weights")
    path = project.root / train.uid / "train_model"
    other = project.session("eval", {"of": 1}).start().attach_files({"model": path}).done()
    moved = remove(project.ledger, train.ref)

    assert moved.kept == [f"{train.uid}/train_model"]
    assert path.read_bytes() == b"weights"
    assert findings(project) == set()
    remove(project.ledger, other.ref)
    assert not path.exists()
    assert findings(project) == set()


def test_a_recorded_path_that_leads_elsewhere_moves_nothing_there(project: Project, tmp_path: Path) -> None:
    other = run(project, lr=0.2)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    params = '{"lr":7}'
    uid = blake3(params.encode()).hexdigest()[:32]
    ref = RunRef(f"train/{uid}")
    paths = ["../victim", ".tracker/FORMAT", str(victim), other.uid, f"{other.uid}/params.json", "", "."]
    files = [File(str(n), path, 4, None, external=False) for n, path in enumerate(paths)]
    project.ledger.append(
        lambda attempt: [Created(ref, params, uid, "subfolder"), Done(ref, attempt, 1, files)]  # type: ignore[arg-type]
    )
    before = users_files(project.root)
    moved = remove(project.ledger, ref)

    assert moved.files == []
    assert users_files(project.root) == before
    assert victim.read_bytes() == b"mine"


def test_a_link_is_moved_and_not_what_it_leads_to(project: Project, tmp_path: Path) -> None:
    session = run(project)
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_bytes(b"far")
    link = project.root / session.uid / "train_link"
    link.symlink_to(target)
    remove(project.ledger, session.ref)

    assert not link.is_symlink()
    assert (target / "file").read_bytes() == b"far"
    restore(project.ledger, session.ref)
    assert os.readlink(link) == str(target)


def test_a_store_inside_a_run_folder_is_left_alone(project: Project) -> None:
    session = run(project)
    inner = project.root / session.uid / "inner" / ".tracker"
    inner.mkdir(parents=True)
    (inner / "FORMAT").write_bytes(b"tracker 1\n")
    remove(project.ledger, session.ref)

    assert (inner / "FORMAT").read_bytes() == b"tracker 1\n"


def test_a_run_that_a_process_executes_is_refused_and_nothing_is_changed(project: Project) -> None:
    session = project.session("train", {"lr": 0.1}).start()
    session.path("model").write_bytes(b"half")
    with pytest.raises(StateError, match="a process executes it"):
        remove(project.ledger, session.ref)

    assert "removed" not in kinds(project, session.ref)
    session.done()
    remove(project.ledger, session.ref)
    assert kinds(project, session.ref)[-1] == "removed"


def test_a_run_whose_process_is_gone_is_removed(project: Project) -> None:
    ref = project.session("train", {"lr": 0.1}).ref
    if (pid := os.fork()) == 0:
        project.session("train", {"lr": 0.1}).start().path("model").write_bytes(b"half")
        os._exit(0)
    os.waitpid(pid, 0)

    assert len(remove(project.ledger, ref).files) == 2
    assert users_files(project.root) == {}


def test_a_run_that_is_not_known_is_not_found(project: Project) -> None:
    run(project)
    for verb in (remove, restore):
        with pytest.raises(NotFoundError):
            verb(project.ledger, RunRef("train/" + "0" * 32))


def test_restore_of_what_is_not_removed_is_refused(project: Project) -> None:
    session = run(project)
    with pytest.raises(StateError, match="it is not removed"):
        restore(project.ledger, session.ref)


def test_restore_overwrites_nothing_and_names_the_path_before_anything_is_changed(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    path = project.root / session.uid / "train_model"
    path.parent.mkdir()
    path.write_bytes(b"other")
    before = (users_files(project.root), trashed(project.root), kinds(project, session.ref))
    with pytest.raises(StateError, match=f"{session.uid}/train_model is taken again"):
        restore(project.ledger, session.ref)

    assert (users_files(project.root), trashed(project.root), kinds(project, session.ref)) == before


def test_params_that_another_identifier_made_anew_are_no_obstacle(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    run(project, "eval", model=b"e")
    restore(project.ledger, session.ref)

    assert set(users_files(project.root)) == {
        f"{session.uid}/{name}" for name in ("params.json", "train_model", "sub/train_log", "eval_model")
    }
    assert trashed(project.root) == {}


def test_a_removal_that_was_copied_over_files_in_place_is_completed(project: Project) -> None:
    """As rsync leaves it: the trash is there, and so are the files."""
    session = run(project)
    place = project.root / session.uid
    shutil.copytree(place, project.root.parent / "kept")
    remove(project.ledger, session.ref)
    shutil.copytree(project.root.parent / "kept", place)
    moved = remove(project.ledger, session.ref)

    assert not moved.is_recorded
    assert users_files(project.root) == {}
    assert len(trashed(project.root)) == 3
    assert kinds(project, session.ref).count("removed") == 1


def test_where_the_trash_holds_another_file_nothing_is_changed(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    path = project.root / session.uid / "train_model"
    path.parent.mkdir()
    path.write_bytes(b"other")
    before = trashed(project.root)
    with pytest.raises(StateError, match="the trash holds another"):
        remove(project.ledger, session.ref)

    assert path.read_bytes() == b"other"
    assert trashed(project.root) == before


def test_each_generation_of_a_run_that_is_removed_again_is_kept(project: Project) -> None:
    session = run(project, model=b"first")
    for data in (b"second", b"third"):
        remove(project.ledger, session.ref)
        start_anew(project, session.ref, data)
        assert users_files(project.root)[f"{session.uid}/train_model"] == data
    remove(project.ledger, session.ref)
    folder = folder_in_trash(session.ref)
    models = {path: data for path, data in trashed(project.root).items() if path.endswith("_model")}

    assert models == {
        f"{folder}.1/{session.uid}/train_model": b"first",
        f"{folder}.2/{session.uid}/train_model": b"second",
        f"{folder}/{session.uid}/train_model": b"third",
    }
    restore(project.ledger, session.ref)
    assert users_files(project.root)[f"{session.uid}/train_model"] == b"third"
    assert findings(project) == set()


def test_a_file_on_another_file_system_is_refused_before_anything_is_recorded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = run(project)
    real = os.stat

    def far(path: Any, *args: Any, **options: Any) -> os.stat_result:
        found = real(path, *args, **options)
        if str(path).endswith("train_model"):
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))
        return found

    monkeypatch.setattr(os, "stat", far)
    with pytest.raises(StorageError, match="another file system"):
        remove(project.ledger, session.ref)
    monkeypatch.undo()

    assert "removed" not in kinds(project, session.ref)
    assert len(users_files(project.root)) == 3


def test_without_hard_links_a_rename_does_the_same(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    session = run(project)
    before = users_files(project.root)
    remove(project.ledger, session.ref)
    assert users_files(project.root) == {}
    restore(project.ledger, session.ref)

    assert users_files(project.root) == before


# What removal means for look-ups


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_removed_run_counts_as_not_run(project: Project, is_sealed: bool) -> None:
    session = run(project)
    other = run(project, lr=0.2)
    remove(project.ledger, session.ref)
    if is_sealed:
        project.ledger.close()

    assert not project.has("train", {"lr": 0.1})
    assert project.has("train", {"lr": 0.2})
    assert project.session("train", {"lr": 0.1}).status is Status.PENDING
    assert not project.session("train", {"lr": 0.1}).is_done()
    assert [found.ref for found in project.find("train")] == [other.ref]
    with pytest.raises(NotFoundError):
        project.get("train", {"lr": 0.1})
    restore(project.ledger, session.ref)
    assert project.has("train", {"lr": 0.1})
    assert project.session("train", {"lr": 0.1}).is_done()


def test_another_process_sees_it_so_too(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    project.ledger.close()
    if (pid := os.fork()) == 0:
        mine = Project(project.root)
        is_right = (
            not mine.has("train", {"lr": 0.1}) and mine.session("train", {"lr": 0.1}).status == "pending"
        )
        os._exit(0 if is_right else 1)

    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_removed_repeat_is_not_resumed(project: Project, is_sealed: bool) -> None:
    repeats = [
        project.session("train", {"lr": 0.1}, existing_run_strategy=ExistingRun.NEW).start().done()
        for _ in range(2)
    ]
    assert project.session("train", {"lr": 0.1}).ref == repeats[0].ref
    remove(project.ledger, repeats[0].ref)
    if is_sealed:
        project.ledger.close()
    assert project.session("train", {"lr": 0.1}).ref == repeats[1].ref
    remove(project.ledger, repeats[1].ref)

    plain = project.session("train", {"lr": 0.1})
    assert plain.uid == plain.key
    assert not project.has("train", {"lr": 0.1})


def test_state_and_manifest_stay_as_they_are(project: Project, reference: ModuleType) -> None:
    session = run(project)
    before = reference.read_store(project.root)["runs"][0]
    manifests = {path: path.read_bytes() for path in project.root.glob(".tracker/manifests/*/*")}
    remove(project.ledger, session.ref)
    after = reference.read_store(project.root)["runs"][0]

    assert after == before | {"removed": True}
    assert {path: path.read_bytes() for path in project.root.glob(".tracker/manifests/*/*")} == manifests
    assert len(manifests) == 1


def test_start_of_a_removed_run_begins_it_anew(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    project.session("train", {"lr": 0.1}).start()

    assert kinds(project, session.ref)[-3:] == ["removed", "restored", "started"]
    known = project.ledger.run(session.ref)
    assert known is not None
    assert (known.removed, [attempt.head for attempt in known.attempts]) == (False, [False, True])


@pytest.mark.parametrize("is_same", [False, True])
def test_what_is_done_anew_counts_and_old_files_stay_in_the_trash(project: Project, is_same: bool) -> None:
    session = run(project, model=b"old")
    remove(project.ledger, session.ref)
    again = session if is_same else project.session("train", {"lr": 0.1})
    again.path("model").write_bytes(b"new")
    again.done()

    assert project.has("train", {"lr": 0.1})
    assert users_files(project.root)[f"{session.uid}/train_model"] == b"new"
    assert findings(project) == set()
    assert b"old" in trashed(project.root).values()


def test_a_sweep_does_a_removed_run_again(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)

    assert project.session("train", {"lr": 0.1}).try_start()


def test_what_is_attached_to_a_removed_run_begins_it_anew(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    project.session("train", {"lr": 0.1}).attach_files({"me": __file__})
    known = project.ledger.run(session.ref)

    assert known is not None
    assert (known.removed, len(known.attempts)) == (False, 2)


def test_a_start_anew_supersedes_every_head_of_a_removed_run(project: Project) -> None:
    """An attempt of which nobody heard for long is no reason to refuse rm, and no head beside a new one."""
    session = run(project)
    silent = AttemptId(f"{'0' * 32}-1")
    record(project, Attached(session.ref, silent, []), Removed(session.ref, ""))
    project.session("train", {"lr": 0.1}).start()
    known = project.ledger.run(session.ref)

    assert known is not None
    assert [attempt.id for attempt in known.attempts if not attempt.head] == [known.attempts[0].id, silent]


# gc


def test_gc_deletes_what_was_removed_longer_ago_than_the_grace(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = run(project, lr=0.1), run(project, lr=0.2)
    remove(project.ledger, old.ref)
    later = host.now_ms() + 13 * DAY_MS
    monkeypatch.setattr(project.ledger, "_clock", lambda: later)
    remove(project.ledger, new.ref)
    monkeypatch.setattr(host, "now_ms", lambda: later + 2 * DAY_MS)
    before = trashed(project.root)
    plan = plan_gc(project.ledger)

    assert [purge.ref for purge in plan.purged] == [old.ref]
    assert trashed(project.root) == before
    assert gc(project.ledger).purged == plan.purged
    assert set(trashed(project.root)) == {p for p in before if p.startswith(folder_in_trash(new.ref))}
    assert (len(before), len(trashed(project.root))) == (6, 3)


def test_a_purge_names_the_digests_before_a_byte_goes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = run(project, model=b"weights", more=b"weights")
    (project.root / session.uid / "notes.txt").write_bytes(b"unsealed")
    remove(project.ledger, session.ref)
    unlinked: list[bool] = []
    real = os.unlink

    def unlink(path: str, **options: Any) -> None:
        if "trash" in str(path):
            unlinked.append("purged" in kinds(Project(project.root), session.ref))
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    gc(project.ledger, older_than_s=0.0)
    monkeypatch.undo()
    purges = [event for _, event in project.ledger.events() if isinstance(event, Purged)]

    assert unlinked == [True] * 4
    assert [event.digests for event in purges] == [[None, blake3(b"weights").digest()]]
    assert trashed(project.root) == {}
    assert findings(project) == set()
    assert gc(project.ledger, older_than_s=0.0).purged == []


def test_a_purged_run_is_not_restored(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    gc(project.ledger, older_than_s=0.0)
    with pytest.raises(StateError, match="purged"):
        restore(project.ledger, session.ref)


def test_gc_leaves_what_is_back_in_place(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    restore(project.ledger, session.ref)
    before = users_files(project.root)

    assert gc(project.ledger, older_than_s=0.0).purged == []
    assert users_files(project.root) == before


def test_gc_leaves_a_restoring_that_was_cut_off(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    record(project, Restored(session.ref, ""))

    assert gc(project.ledger, older_than_s=0.0).purged == []
    assert len(trashed(project.root)) == 3
    assert len(restore(project.ledger, session.ref).files) == 3


def test_gc_leaves_the_trash_of_a_run_that_is_not_recorded_here(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    strange = project.root / ".tracker" / "trash" / "ab" / f"{'0' * 30}-{'1' * 16}"
    strange.mkdir(parents=True)
    (strange / "file").write_bytes(b"whose")
    gc(project.ledger, older_than_s=0.0)

    assert (strange / "file").read_bytes() == b"whose"
    assert "trash-unrecorded" in findings(project)


def test_gc_empties_what_a_start_anew_left_behind(project: Project) -> None:
    session = run(project, model=b"first")
    remove(project.ledger, session.ref)
    start_anew(project, session.ref, b"anew")
    gc(project.ledger, older_than_s=0.0)

    assert trashed(project.root) == {}
    assert users_files(project.root)[f"{session.uid}/train_model"] == b"anew"
    assert findings(project) == set()
    (project.root / session.uid / "train_model").unlink()
    assert "file-missing" in findings(project)


def test_gc_drops_files_that_nobody_finishes_and_hidden_journals(project: Project) -> None:
    run(project)
    project.ledger.seal()
    month = next(project.root.glob(".tracker/ledger/*"))
    segment = next(month.glob("*.seg"))
    ghost = month / f"{segment.name.rsplit('-', 1)[0]}.open"
    ghost.write_bytes(segment.read_bytes()[:-10])
    old, young, users = month / "tmp-00ff", month / "tmp-11ff", project.root / "tmp-22ff"
    kept = project.root / ".tracker" / "quarantine" / "tmp-33ff"
    kept.parent.mkdir()
    for path in (old, young, users, kept):
        path.write_bytes(b"x")
    for path in (old, users, kept):
        os.utime(path, (1e9, 1e9))
    plan = plan_gc(project.ledger)

    assert gc(project.ledger) == plan
    assert plan.temporary == [old.relative_to(project.root / ".tracker").as_posix()]
    assert plan.ghosts == [ghost.relative_to(project.root / ".tracker").as_posix()]
    assert [path.exists() for path in (old, ghost, young, users, kept)] == [False, False, True, True, True]


# What verify says of it


def test_verify_looks_for_removed_files_in_the_trash(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    assert findings(project) == set()
    place = project.root / ".tracker" / "trash" / folder_in_trash(session.ref) / session.uid / "train_model"
    place.write_bytes(b"WEIGHTS")
    assert findings(project) == {"file-altered"}
    place.unlink()
    assert findings(project) == {"file-missing"}


def test_verify_names_a_restoring_that_was_cut_off(project: Project) -> None:
    session = run(project)
    remove(project.ledger, session.ref)
    record(project, Restored(session.ref, ""))
    assert findings(project) == {"in-trash"}
    restore(project.ledger, session.ref)

    assert findings(project) == set()
    assert kinds(project, session.ref).count("restored") == 1


# The words of a history


R = RunRef("train/" + "0" * 32)
WORDS: dict[str, Event] = {
    "removed": Removed(R, ""),
    "restored": Restored(R, ""),
    "purged": Purged(R, []),
    "started": Started(R, 1, [], 0, "subfolder", None),
}


@pytest.mark.parametrize(
    ("frames", "is_removed", "given_up"),
    [
        ("started", False, None),
        ("started removed", True, None),
        ("started removed restored", False, None),
        ("started removed removed", True, None),
        ("started removed purged", True, 1),
        ("started purged", False, None),
        ("started removed restored purged", False, None),
        ("started removed restored+started", False, 1),
        ("started removed restored started", False, None),
        ("started removed restored+started removed", True, 1),
        ("started removed restored+started removed purged", True, 3),
        ("started removed restored+started purged removed restored", False, 1),
    ],
)
def test_what_is_given_up(frames: str, is_removed: bool, given_up: int | None) -> None:
    history = {
        (seq, "w", seq, position, ""): WORDS[word]
        for seq, frame in enumerate(frames.split())
        for position, word in enumerate(frame.split("+"))
    }
    removal = removal_of(history)  # type: ignore[arg-type]

    assert removal.is_removed is is_removed is run_of(R, history).removed  # type: ignore[arg-type]
    assert (removal.given_up and removal.given_up[2]) == given_up


def test_names_of_the_trash_are_read_as_they_are_printed() -> None:
    ref = RunRef("grid/train/" + "0123456789abcdef" * 2)
    for number in (0, 1, 12):
        name = store_trash.parse_trash_folder(store_trash.trash_folder(ref, number))
        assert name == (ref[-32:], blake3(ref.encode()).hexdigest()[:16], number)
    for text in ("trash/01/x", "trash/01/" + "0" * 30 + "-" + "0" * 16 + ".0", "objects/01/" + "0" * 30):
        assert store_trash.parse_trash_folder(text) is None


# A model of two dicts


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_removals_and_restorings_is_what_a_model_of_two_dicts_says(
    tmp_path: Path, seed: int
) -> None:
    luck = random.Random(seed)
    project = Project(tmp_path / "s", durability=Durability.OFF)
    mine: dict[str, dict[str, bytes]] = {}
    for mode, identifier, lr in itertools.product(MODES, ("a", "a_b"), (1, 2)):
        there = users_files(project.root) if project.root.exists() else {}
        where = project.sub("ns") if mode is StorageMode.PREFIX else project
        session = run(
            where, identifier, lr, mode, **{f"f{n}": luck.randbytes(9) for n in range(luck.randrange(3))}
        )
        made = {p: d for p, d in users_files(project.root).items() if p not in there}
        mine[session.ref] = {p: d for p, d in made.items() if not p.endswith("params.json")}
    removed: set[str] = set()
    for _ in range(25):
        ref = RunRef(luck.choice(sorted(mine)))
        if ref in removed:
            restore(project.ledger, ref)
            removed.remove(ref)
        else:
            remove(project.ledger, ref)
            removed.add(ref)
        want = {p: d for r, files in mine.items() if r not in removed for p, d in files.items()}
        have = {p: d for p, d in users_files(project.root).items() if not p.endswith("params.json")}
        aside = {p: d for p, d in trashed(project.root).items() if not p.endswith("params.json")}

        assert have == want
        assert aside == {f"{folder_in_trash(r)}/{p}": d for r in removed for p, d in mine[r].items()}
    assert findings(project) == set()


# Two at once


Verb = Callable[[Project, RunRef], object]


def _at_once(root: Path, verb: Verb, refs: list[RunRef]) -> list[int]:
    """Two processes that do the same to the same runs; how they ended."""
    pids = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            try:
                project = Project(root)
                for ref in refs:
                    with suppress(StateError):  # the other has restored it
                        verb(project, ref)
                project.ledger.close()
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    return [os.waitpid(pid, 0)[1] for pid in pids]


def test_two_processes_that_remove_and_restore_the_same_runs_end_as_one_would(project: Project) -> None:
    refs = [run(project, lr=lr).ref for lr in range(12)]
    before = users_files(project.root)
    project.ledger.close()

    assert _at_once(project.root, lambda project, ref: remove(project.ledger, ref), refs) == [0, 0]
    assert users_files(project.root) == {}
    assert sorted(trashed(project.root).values()) == sorted(before.values())
    assert _at_once(project.root, lambda project, ref: restore(project.ledger, ref), refs) == [0, 0]
    assert users_files(project.root) == before
    assert trashed(project.root) == {}
    assert findings(project) <= {"torn", "ghost"}


# Killed at every step


DEADLY = ("link", "unlink", "rename", "mkdir", "rmdir", "fsync", "fdatasync", "write")


def _before_rm(project: Project, ref: RunRef) -> None:
    """A run as it is."""


def _before_restore(project: Project, ref: RunRef) -> None:
    remove(project.ledger, ref)


def _before_second_rm(project: Project, ref: RunRef) -> None:
    remove(project.ledger, ref)
    start_anew(project, ref, b"anew")


VERBS: dict[str, tuple[Verb, Verb]] = {
    "rm again": (_before_second_rm, lambda project, ref: remove(project.ledger, ref)),
    "rm": (_before_rm, lambda project, ref: remove(project.ledger, ref)),
    "restore": (_before_restore, lambda project, ref: restore(project.ledger, ref)),
    "gc": (_before_restore, lambda project, ref: gc(project.ledger, older_than_s=0.0)),
}


def outcome(project: Project, reference: ModuleType) -> dict[str, Any]:
    """What a verb is for: files, trash, and the state by the reference."""
    state = reference.read_store(project.root)
    told = [(run["ref"], run["status"], run["removed"]) for run in state["runs"]]
    events = [kind for run in state["runs"] for kind in kinds(project, run["ref"])]
    return {
        "files": users_files(project.root),
        "trash": trashed(project.root),
        "runs": told,
        "events": events,
    }


def no_links(*args: Any, **options: Any) -> None:
    raise PermissionError(1, "no hard links here")


def die(root: Path, verb: Verb, ref: RunRef, number: int, *, has_links: bool) -> bool:
    """Run a verb in a process that is killed at a step; True if it came to that."""

    def work() -> None:
        project = Project(root)
        if not has_links:
            os.link = no_links
        kill_at(number, DEADLY)
        verb(project, ref)

    return is_killed(work)


WORLDS = [(StorageMode.SUBFOLDER, True), (StorageMode.PREFIX, True), (StorageMode.SUBFOLDER, False)]
ONE_WORLD = () if os.environ.get("TRACKER_STORM") else ("rm again", "gc")
"""Verbs that are tried in one layout only, unless a longer storm is asked for."""
SCENES = [(name, *world) for name in VERBS for world in WORLDS[: 1 if name in ONE_WORLD else 3]]


@pytest.mark.storm
@pytest.mark.parametrize(("name", "mode", "has_links"), SCENES)
def test_killed_at_every_step_the_same_verb_again_ends_the_same_and_nothing_is_lost(
    tmp_path: Path, reference: ModuleType, name: str, mode: StorageMode, has_links: bool
) -> None:
    before, verb = VERBS[name]
    made = Project(tmp_path / "made", durability=Durability.OFF)
    ref = run(made, mode=mode).ref
    run(made, "eval", lr=0.5, mode=mode)
    before(made, ref)
    made.ledger.close()
    all_bytes = {**users_files(made.root), **trashed(made.root)}.values()
    want: dict[str, Any] = {}
    for number in itertools.count(0):  # at 0 nothing happens: that is what is wanted
        root = tmp_path / str(number)
        shutil.copytree(made.root, root)
        was_killed = die(root, verb, ref, number, has_links=has_links)
        left = {**users_files(root), **trashed(root)}.values()
        for claim in root.glob(".tracker/claims/*/*"):
            os.utime(claim, (1, 1))  # one that was cut short for want of links holds for a lease
        project = Project(root)
        if name != "gc" or "purged" not in kinds(project, ref):
            assert set(left) == set(all_bytes), f"{name} killed at step {number} lost bytes"
        if was_killed:
            _again(verb, project, ref)
        want = want or outcome(project, reference)
        assert outcome(project, reference) == want, f"{name} killed at step {number}"
        assert findings(project) <= {"torn", "temporary", "ghost"}, f"{name} killed at step {number}"
        project.ledger.close()
        if not was_killed and number > 0:
            break
        shutil.rmtree(root)
    print(f"{name}: killed at each of {number - 1} steps")
    assert number > 12, f"{number} steps: there were steps to be killed at"


def _again(verb: Verb, project: Project, ref: RunRef) -> None:
    try:
        verb(project, ref)
    except StateError as error:  # killed behind the last step of a restoring
        assert "it is not removed" in str(error)
