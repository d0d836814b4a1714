"""repair makes derived files what the ledger says, sets damaged pieces aside, and deletes nothing.

The judges are the bytes as they were before, and b3sum's hash by another door.

Spec: spec/recovery.md section 4; spec/layout.md section 9.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tracker import DamagedError, Durability, NotFoundError, Project, StorageError, StorageMode
from tracker._disk import durable
from tracker._store.objects import put_object
from tracker._store.quarantine import quarantine, quarantine_outside
from tracker.check import Level, rebuild, repair, verify
from tracker.trash import remove

pytestmark = pytest.mark.unchecked_store("it is broken on purpose")

Bytes = dict[str, bytes]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A closed store with finished and failed runs in both modes."""
    return fill(tmp_path / "s")


def fill(root: Path) -> Project:
    project = Project(root, durability=Durability.OFF, provenance=False)
    for lr in (0.1, 0.2):
        with project.session("train", params={"lr": lr}) as run:
            run.path("model.pt").write_bytes(b"weights %f" % lr)
    with pytest.raises(ZeroDivisionError), project.session("train", params={"lr": 0.0}):
        1 / 0  # noqa: B018 - it is meant to fail
    grid = project.sub("grid")
    with grid.session("eval", params={"lr": 0.1}, storage_mode=StorageMode.PREFIX) as run:
        run.path("out.csv").write_text("1\n")
    project.ledger.close()
    return project


def contents(root: Path) -> Bytes:
    """Every file but the ledger's journals and what was set aside."""
    paths = (path for path in root.rglob("*") if path.is_file() and "quarantine" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.suffix != ".open"}


def aside(root: Path) -> Bytes:
    top = root / ".tracker" / "quarantine"
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def only(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    write(path, bytes(data))


def codes(project: Project) -> set[str]:
    return {finding.code for finding in verify(project.ledger, Level.REPLAY).findings}


PIECES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "params altered": ("*/params.json", flip),
    "prefixed params altered": ("grid/*_params.json", flip),
    "params with a newline": ("*/params.json", lambda path: write(path, path.read_bytes() + b"\n")),
    "manifest altered": (".tracker/manifests/*/*.json", flip),
    "manifest of other bytes": (".tracker/manifests/*/*.json", lambda path: write(path, b"{}")),
}
"""Damage that is set aside, and made good."""

LACKS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "params missing": ("*/params.json", Path.unlink),
    "prefixed params missing": ("grid/*_params.json", Path.unlink),
    "params cut short": ("*/params.json", lambda path: write(path, b'{"l')),
    "params of zeros": ("*/params.json", lambda path: write(path, bytes(5))),
    "manifest missing": (".tracker/manifests/*/*.json", Path.unlink),
    "FORMAT missing": (".tracker/FORMAT", Path.unlink),
    "FORMAT cut short": (".tracker/FORMAT", lambda path: write(path, b"track")),
}
"""What is made anew, with nothing to set aside."""


@pytest.mark.parametrize("name", [*PIECES, *LACKS])
def test_a_derived_file_is_as_it_was_and_what_was_there_is_kept(project: Project, name: str) -> None:
    pattern, break_it = {**PIECES, **LACKS}[name]
    before = contents(project.root)
    path = only(project.root, pattern)
    break_it(path)
    broken = path.read_bytes() if path.exists() else b""
    done = repair(project.ledger)

    assert contents(project.root) == before
    assert done.refused == []
    assert {mend.path for mend in done.mended} == {path.relative_to(project.root).as_posix()}
    assert list(aside(project.root).values()) == ([broken] if name in PIECES else [])
    assert codes(project) <= {"quarantined"}
    assert repair(project.ledger).mended == []


def test_the_name_in_the_quarantine_is_the_path_and_the_hash_of_the_bytes(project: Project) -> None:
    inner, outer = only(project.root, ".tracker/manifests/*/*.json"), only(project.root, "grid/*_params.json")
    for path in (inner, outer):
        flip(path)
    want = {
        f"{place}.{blake3(path.read_bytes()).hexdigest()[:16]}": path.read_bytes()
        for place, path in (
            (inner.relative_to(project.root / ".tracker").as_posix(), inner),
            (f"outside/{outer.relative_to(project.root).as_posix()}", outer),
        )
    }
    repair(project.ledger)

    assert aside(project.root) == want


def test_a_damaged_object_is_set_aside_and_may_be_put_again(project: Project) -> None:
    path = only(project.root, ".tracker/objects/*/*")
    whole = path.read_bytes()
    flip(path)
    broken = path.read_bytes()
    repair(project.ledger)

    assert not path.exists()
    assert [*aside(project.root).values()] == [broken]
    assert codes(project) == {"object-missing", "quarantined"}
    project.ledger.put_object(whole)
    assert path.read_bytes() == whole
    assert codes(project) == {"quarantined"}


def test_to_put_an_object_over_a_damaged_one_keeps_the_bytes_that_were_put(project: Project) -> None:
    path = only(project.root, ".tracker/objects/*/*")
    whole = path.read_bytes()
    flip(path)
    broken = path.read_bytes()

    assert project.ledger.put_object(whole) == blake3(whole).hexdigest()
    assert path.read_bytes() == whole
    assert [*aside(project.root).values()] == [broken]


def test_a_damaged_segment_is_not_moved_and_its_cure_is_a_copy(project: Project) -> None:
    path = only(project.root, ".tracker/ledger/*/*.seg")
    data = bytearray(path.read_bytes())
    data[200] ^= 4
    write(path, bytes(data))
    repair(project.ledger)
    found = [f for f in verify(project.ledger).findings if f.code == "segment-damaged"]

    assert path.read_bytes() == bytes(data)
    assert ["tracker merge COPY" in finding.cure for finding in found] == [True]


def test_a_dead_writers_journal_is_published_and_a_ghost_is_dropped(project: Project) -> None:
    if (pid := os.fork()) == 0:
        project.session("train", params={"lr": 0.3}).start()
        os._exit(0)
    os.waitpid(pid, 0)
    journal = only(project.root, ".tracker/ledger/*/*.open")
    segment = only(project.root, ".tracker/ledger/*/*.seg")
    ghost = segment.with_name(f"{segment.name.rsplit('-', 1)[0]}.open")
    ghost.write_bytes(segment.read_bytes()[:-20])
    before = journal.read_bytes()
    done = repair(project.ledger)
    parts = [path.read_bytes() for path in project.root.glob(".tracker/ledger/*/*.part")]

    assert {mend.code for mend in done.mended} == {"journal", "ghost"}
    assert (journal.exists(), ghost.exists(), parts) == (False, False, [before])


def test_a_living_writers_journal_stays(project: Project) -> None:
    session = project.session("train", params={"lr": 0.3}).start()
    assert repair(project.ledger).mended == []
    session.done()


def test_a_dry_run_says_the_same_and_changes_nothing(project: Project) -> None:
    for pattern, break_it in [*PIECES.values(), *LACKS.values()]:
        for path in sorted(project.root.glob(pattern))[-1:]:
            break_it(path)
    before = contents(project.root)
    plan = repair(project.ledger, dry_run=True)

    assert contents(project.root) == before
    assert aside(project.root) == {}
    assert len(plan.mended) > 4
    assert repair(project.ledger) == plan


def test_params_of_a_removed_run_are_left_alone(project: Project) -> None:
    remove(project.ledger, project.get("train", {"lr": 0.1}).ref)

    assert repair(project.ledger).mended == []


def test_params_are_not_made_where_the_run_has_no_files(project: Project) -> None:
    session = project.session("train", params={"lr": 9}).done()
    repair(project.ledger)

    assert not (project.root / session.uid).exists()


def test_what_the_system_refuses_is_told_and_the_rest_is_mended(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = only(project.root, ".tracker/manifests/*/*.json"), only(project.root, "*/params.json")
    for path in (bad, good):
        flip(path)
    real = os.link

    def refuse(source: str, target: str, **options: Any) -> None:
        if "manifests" in source:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    done = repair(project.ledger)

    assert [mend.code for mend in done.refused] == ["manifest"]
    assert "disk failed" in done.refused[0].what
    assert {mend.code for mend in done.mended} == {"manifest", "params"}
    assert (
        set(aside(project.root))
        == {key for key in aside(project.root) if key.startswith("outside/")}
        != set()
    )


def test_a_format_that_is_none_is_refused(project: Project) -> None:
    write(project.root / ".tracker" / "FORMAT", b"trucker 1\n")
    with pytest.raises(DamagedError):
        repair(project.ledger)


def test_where_there_is_no_store_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        repair(Project(tmp_path / "none").ledger)


# The quarantine


def test_the_same_damage_is_kept_once_and_other_damage_beside_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        made = []
        for data in (b"one", b"one", b"two"):
            (tmp_path / "objects" / "ab").mkdir(parents=True, exist_ok=True)
            (tmp_path / "objects" / "ab" / "cd").write_bytes(data)
            made.append(quarantine(fd, "objects/ab/cd"))
    finally:
        os.close(fd)

    names = [f"quarantine/objects/ab/cd.{blake3(data).hexdigest()[:16]}" for data in (b"one", b"one", b"two")]
    assert made == names
    assert {path: (tmp_path / path).read_bytes() for path in names} == {names[0]: b"one", names[2]: b"two"}
    assert not (tmp_path / "objects" / "ab" / "cd").exists()


def test_what_is_not_there_cannot_be_set_aside(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for verb in (quarantine, quarantine_outside):
            with pytest.raises(FileNotFoundError):
                verb(fd, "objects/ab/cd")
    finally:
        os.close(fd)

    assert list(tmp_path.iterdir()) == []


def test_a_name_in_the_quarantine_that_holds_other_bytes_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "quarantine").mkdir()
    place = tmp_path / "quarantine" / f"piece.{blake3(b'one').hexdigest()[:16]}"
    place.write_bytes(b"other")
    (tmp_path / "piece").write_bytes(b"one")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(StorageError, match="taken"):
            quarantine(fd, "piece")
    finally:
        os.close(fd)

    assert (place.read_bytes(), (tmp_path / "piece").read_bytes()) == (b"other", b"one")


# Killed at every step


def test_killed_at_every_step_a_repair_done_again_ends_the_same_and_keeps_every_byte(tmp_path: Path) -> None:
    made = fill(tmp_path / "made")
    for pattern in (
        "*/params.json",
        "grid/*_params.json",
        ".tracker/manifests/*/*.json",
        ".tracker/objects/*/*",
    ):
        flip(only(made.root, pattern))
    (made.root / ".tracker" / "FORMAT").unlink()
    pieces = sorted(contents(made.root).values())
    want: list[Bytes] = []
    for number in itertools.count(0):  # at 0 nothing happens: that is what is wanted
        root = tmp_path / str(number)
        shutil.copytree(made.root, root)
        is_killed = _die(root, number)
        left = {**contents(root), **aside(root)}.values()
        assert set(pieces) <= set(left), f"killed at step {number} it lost bytes"
        project = Project(root)
        if is_killed:
            assert repair(project.ledger).refused == []
        want = want or [_finished(root), aside(root)]
        assert sorted(aside(root)) == sorted(want[1]), f"killed at step {number}"
        assert [_finished(root), aside(root)] == want, f"killed at step {number}"
        project.ledger.close()
        shutil.rmtree(root)
        if not is_killed and number > 0:
            break
    print(f"killed at each of {number - 1} steps")
    assert number > 20, "there were steps to be killed at"


def _finished(root: Path) -> Bytes:
    """All but files that were never finished, which `gc` drops."""
    return {path: data for path, data in contents(root).items() if "/tmp-" not in path}


def _die(root: Path, number: int) -> bool:
    """Repair in a process that is killed at a step; True if it came to that."""
    if (pid := os.fork()) == 0:
        try:
            project = Project(root)
            count = itertools.count(1)
            for name in ("link", "unlink", "rename", "mkdir", "rmdir", "fsync", "fdatasync", "write"):
                setattr(os, name, _deadly(getattr(os, name), count, number))
            repair(project.ledger)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def _deadly(real: Callable[..., Any], count: itertools.count[int], number: int) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    return call


def test_rebuild_and_repair_make_the_same_manifests(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.root / ".tracker" / "manifests")
    shutil.copytree(project.root, tmp_path / "other")
    rebuild(project.ledger)
    repair(Project(tmp_path / "other").ledger)

    assert contents(project.root) == contents(tmp_path / "other")
    assert len([*project.root.glob(".tracker/manifests/*/*.json")]) == 4


def test_an_object_of_another_name_is_not_taken_for_damage(project: Project) -> None:
    fd = durable.open_root(str(project.root / ".tracker"))
    try:
        put_object(fd, b"a further object")
    finally:
        durable.close_read(fd)

    assert repair(project.ledger).mended == []
