"""verify finds all that is wrong in one pass; rebuild makes derived files as they were.

Spec: spec/recovery.md.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tracker import Durability, NotFoundError, Project, StorageMode
from tracker.check import Level, Severity, rebuild, verify

PACKAGE = Path(__file__).parent.parent / "tracker" / "check"
PAGE = (Path(__file__).parent.parent / "spec" / "recovery.md").read_text()

pytestmark = pytest.mark.unchecked_store("it is broken on purpose")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A closed store with finished, failed and repeated runs in both modes."""
    project = Project(tmp_path / "s", durability=Durability.OFF)
    for lr in (0.1, 0.2):
        with project.session("train", params={"lr": lr}) as run:
            run.path("model.pt").write_bytes(b"weights %f" % lr)
    with pytest.raises(ZeroDivisionError), project.session("train", params={"lr": 0.0}):
        1 / 0  # noqa: B018 - it is meant to fail
    grid = project.sub("grid")
    with grid.session("eval", params={"lr": 0.1}, storage_mode=StorageMode.PREFIX) as run:
        run.path("out.csv").write_text("1\n")
    project.ledger.close()
    yield project
    project.ledger.close()


def codes(project: Project, level: Level = Level.REPLAY) -> set[str]:
    return {finding.code for finding in verify(project.ledger, level).findings}


def only(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path, at: int = -5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    write(path, bytes(data))


def cut(path: Path) -> None:
    write(path, path.read_bytes()[:-40])


BREAKS: dict[str, Callable[[Path], object]] = {
    "segment-damaged": lambda root: flip(only(root, ".tracker/ledger/*/*.seg"), 200),
    "manifest-damaged": lambda root: flip(only(root, ".tracker/manifests/*/*.json")),
    "manifest-missing": lambda root: only(root, ".tracker/manifests/*/*.json").unlink(),
    "object-damaged": lambda root: flip(only(root, ".tracker/objects/*/*")),
    "object-missing": lambda root: shutil.rmtree(root / ".tracker/objects"),
    "format-missing": lambda root: (root / ".tracker/FORMAT").unlink(),
    "format-damaged": lambda root: write(root / ".tracker/FORMAT", b"trucker 1\n"),
    "format-cut": lambda root: write(root / ".tracker/FORMAT", b"track"),
    "params-altered": lambda root: flip(only(root, "*/params.json")),
    "params-cut": lambda root: write(only(root, "*/params.json"), b'{"l'),
    "file-altered": lambda root: flip(only(root, "*/train_model.pt")),
    "file-missing": lambda root: only(root, "grid/*_eval_out.csv").unlink(),
    "foreign": lambda root: only(root, ".tracker/ledger/*/").joinpath("a (conflict).seg").touch(),
    "temporary": lambda root: only(root, ".tracker/ledger/*/").joinpath("tmp-00").touch(),
    "unrecorded": lambda root: (root / ("0" * 32)).mkdir(),
    "renamed": lambda root: only(root, ".tracker/ledger/*/*.seg").rename(
        only(root, ".tracker/ledger/*/") / re.sub("-0-", "-1-", only(root, ".tracker/ledger/*/*.seg").name)
    ),
}


def test_a_sound_store_has_no_findings(project: Project) -> None:
    for level in Level:
        report = verify(project.ledger, level)
        assert report.findings == []
        assert report.exit_code == 0
        assert report.checked["runs"] == 4


@pytest.mark.parametrize("code", BREAKS)
def test_each_thing_that_is_broken_is_found_and_nothing_is_changed(project: Project, code: str) -> None:
    BREAKS[code](project.root)
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}

    assert code in codes(project)
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before


def test_all_is_found_in_one_pass(project: Project) -> None:
    wanted = {
        "manifest-damaged",
        "object-damaged",
        "params-altered",
        "file-altered",
        "file-missing",
        "unrecorded",
    }
    for code in wanted:
        BREAKS[code](project.root)
    report = verify(project.ledger, Level.FULL)

    assert wanted <= {finding.code for finding in report.findings}
    assert report.exit_code == 1
    assert all(finding.path and finding.what and finding.cure for finding in report.findings)


def test_what_is_only_not_here_yet_is_exit_code_3(project: Project) -> None:
    BREAKS["file-missing"](project.root)

    assert verify(project.ledger, Level.FULL).exit_code == 3
    assert verify(project.ledger, Level.QUICK).exit_code == 0


def test_a_note_is_no_fault(project: Project) -> None:
    BREAKS["foreign"](project.root)
    report = verify(project.ledger)

    assert [finding.severity for finding in report.findings] == [Severity.NOTE]
    assert report.exit_code == 0


def test_rebuild_makes_manifests_byte_for_byte_as_they_were(project: Project) -> None:
    before = {path: path.read_bytes() for path in project.root.glob(".tracker/manifests/*/*.json")}
    shutil.rmtree(project.root / ".tracker/manifests")
    made = rebuild(project.ledger)

    assert len(before) == made.manifests_written == 4
    assert {p: p.read_bytes() for p in project.root.glob(".tracker/manifests/*/*.json")} == before
    assert rebuild(project.ledger).manifests_kept == 4


def test_rebuild_mends_a_manifest_and_touches_nothing_else(project: Project) -> None:
    BREAKS["manifest-damaged"](project.root)
    others = {p: p.stat().st_mtime_ns for p in project.root.rglob("*") if "manifests" not in p.parts}
    rebuild(project.ledger)

    assert verify(project.ledger, Level.REPLAY).findings == []
    assert {p: p.stat().st_mtime_ns for p in project.root.rglob("*") if "manifests" not in p.parts} == others


@pytest.mark.parametrize(("at", "bit"), [(-1, 1), (-2, 4), (0, 1), (-40, 64)])
def test_a_flipped_bit_of_a_manifest_is_damage_wherever_it_is(project: Project, at: int, bit: int) -> None:
    path = only(project.root, ".tracker/manifests/*/*.json")
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    write(path, bytes(data))

    assert verify(project.ledger).exit_code == 1


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_manifest_that_a_crash_cut_short_is_incomplete(project: Project, left: int) -> None:
    path = only(project.root, ".tracker/manifests/*/*.json")
    write(path, path.read_bytes()[:left])

    assert verify(project.ledger).exit_code == 3


def test_a_file_that_is_being_made_anew_is_not_held_against_its_old_seal(project: Project) -> None:
    run = project.session("train", params={"lr": 0.1}).start()
    run.path("model.pt").write_bytes(b"half")

    assert "file-altered" not in codes(project, Level.FULL)
    run.done()
    assert codes(project, Level.FULL) == set()


def test_a_writer_that_died_in_a_run_is_named(project: Project) -> None:
    child = os.fork()
    if child == 0:
        project.session("train", params={"lr": 0.3}).start()
        os._exit(0)
    os.waitpid(child, 0)

    assert "unfinished" in codes(project, Level.QUICK)


def test_where_there_is_no_store_that_is_said(tmp_path: Path) -> None:
    for ask in (verify, rebuild):
        with pytest.raises(NotFoundError):
            ask(Project(tmp_path / "none").ledger)


def test_the_page_lists_the_codes_that_the_code_gives() -> None:
    source = "".join(path.read_text() for path in PACKAGE.glob("*.py"))
    given = set(re.findall(r'(?:damage|incomplete|note|kind)\(\s*"([a-z-]+)"', source))
    table = PAGE[PAGE.index("| code |") : PAGE.index("## 3")]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    listed = {code for row in rows for code in re.findall("`([a-z-]+)`", row)}

    assert len(given) > 25
    assert given == listed
