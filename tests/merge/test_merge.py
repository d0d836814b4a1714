"""Two stores become one. The judges: spec/reference.py on a plain copy of both, plain files, `b3sum`.

Spec: spec/merge.md.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tracker import DamagedError, Durability, NameRefusedError, NotFoundError, Project, VersionError
from tracker.ledger import Ledger
from tracker.merge import MergeReport, merge
from tracker.merge.conflicts import original_name
from tracker.merge.inventory import Here, Piece
from tracker.merge.names import aside_path, parse_aside_path
from tracker.merge.plan import Do, Facts, Wanted, plan_file, plan_ledger, plan_new_file
from tracker.trash import gc, remove

damaged = pytest.mark.unchecked_store(reason="damaged on purpose")


def write_run(root: Path, params: dict[str, Any], data: bytes, identifier: str = "train") -> Path:
    """Record a run with one file, and let the ledger go, so that the next run has another writer."""
    project = Project(root, durability=Durability.OFF)
    with project.session(identifier, params) as run:
        path = run.path("model.bin")
        path.write_bytes(data)
    project.ledger.close()
    return path


def merged(target: Path, source: Path, **options: Any) -> MergeReport:
    return merge(Project(target).ledger, source, **options)


def union_of(reference: ModuleType, folder: Path, *roots: Path) -> Any:
    """The state of all files of some stores laid into one folder, by nothing but copying."""
    both = folder / "both"
    for root in roots:
        shutil.copytree(root / ".tracker", both / ".tracker", dirs_exist_ok=True)
    state = reference.read_store(both)
    shutil.rmtree(both)
    return state


def files_of(root: Path) -> dict[str, bytes]:
    """Every file below a root but claims, with its bytes."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "claims" not in path.parts
    }


def segments_of(root: Path, kind: str = "seg") -> list[Path]:
    return sorted(root.glob(f".tracker/ledger/*/*.{kind}"))


def b3sum(path: Path) -> str:
    return subprocess.run(
        ["b3sum", "--no-names", str(path)], capture_output=True, text=True, check=True
    ).stdout.strip()


def flip(path: Path, at: int = -60) -> bytes:
    """Turn one bit over; give the bytes that were there."""
    good = path.read_bytes()
    data = bytearray(good)
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    return good


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two stores: one run each of their own, one that both did alike, one with other files."""
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(a, {"only": "a"}, b"of a")
    write_run(b, {"only": "b"}, b"of b")
    for root in (a, b):
        write_run(root, {"same": 1}, b"alike")
    write_run(a, {"other": 1}, b"as a has it")
    write_run(b, {"other": 1}, b"as b has it")
    return a, b


# The union


def test_a_merge_gives_the_union_of_both_histories(pair, tmp_path, reference):
    a, b = pair
    want = union_of(reference, tmp_path, a, b)
    report = merged(a, b)

    assert reference.read_store(a) == want
    assert len(want["runs"]) == 4
    assert report.exit_code == 0
    assert report.divergent == [run["ref"] for run in want["runs"] if run["divergent"]] != []


def test_it_is_the_same_whichever_is_merged_into_the_other(pair, reference):
    a, b = pair
    merged(a, b)
    merged(b, a)

    assert reference.read_store(a) == reference.read_store(b)
    assert files_of(a) == files_of(b)


def test_a_second_merge_does_nothing(pair):
    a, b = pair
    merged(a, b)
    before = files_of(a)
    report = merged(a, b)

    assert report.changes == 0
    assert report.present > 10
    assert files_of(a) == before


def test_a_dry_run_writes_nothing_and_tells_what_the_merge_then_does(pair, tmp_path):
    a, b = pair
    before = files_of(a), files_of(b)
    told = merged(a, b, dry_run=True)

    assert (files_of(a), files_of(b)) == before
    done = merged(a, b)
    for name in ("copied", "set_aside", "parts", "skipped", "damaged"):
        assert getattr(told, name) == getattr(done, name), name
    assert files_of(b) == before[1], "SRC is only read"


def test_a_target_that_is_not_there_is_made(pair, tmp_path, reference):
    a, _ = pair
    new = tmp_path / "deep" / "new"
    assert merged(new, a, dry_run=True).changes > 0
    assert not new.exists()

    merged(new, a)

    assert reference.read_store(new) == reference.read_store(a)
    assert files_of(new) == files_of(a)


def test_a_target_without_format_gets_one(pair):
    a, b = pair
    (a / ".tracker/FORMAT").unlink()
    merged(a, b)

    assert (a / ".tracker/FORMAT").read_bytes() == b"tracker 1\n"


def test_what_b3sum_says_of_every_name_is_in_it(pair):
    a, b = pair
    merged(a, b)
    paths = segments_of(a)

    assert len(paths) == 6
    for path in paths:
        assert b3sum(path).startswith(path.stem.rpartition("-")[2])


def test_mode_and_mtime_of_users_files_are_kept(pair):
    a, b = pair
    source = next(b.glob("*/train_model.bin"))
    source.chmod(0o640)
    os.utime(source, ns=(1_600_000_000_000_000_000, 1_500_000_000_123_456_789))
    merged(a, b)
    status = (a / source.relative_to(b)).stat()
    if status.st_size and (a / source.relative_to(b)).read_bytes() == source.read_bytes():
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_500_000_000_123_456_789)
    else:
        pytest.fail("the file did not come")


# Journals


def test_the_journal_of_a_living_writer_is_taken_as_a_part(pair, reference):
    a, b = pair
    project = Project(b, durability=Durability.OFF)
    project.session("train", {"first": 1}).start().done()  # seals
    project.session("train", {"live": 1}).start()
    (journal,) = segments_of(b, "open")
    report = merged(a, b)
    (part,) = segments_of(a, "part")

    assert [line.as_path for line in report.parts] == [part.relative_to(a).as_posix()]
    assert b3sum(part).startswith(part.stem.rpartition("-")[2])
    assert journal.read_bytes() == part.read_bytes()
    assert not segments_of(a, "open")
    assert merged(a, b).changes == 0
    project.session("train", {"live": 2}).start()
    assert len(merged(a, b).parts) == 1
    project.ledger.close()
    assert merged(a, b).parts == []
    refs = {run["ref"] for run in reference.read_store(a)["runs"]}
    assert {project.session("train", {"live": n}).ref for n in (1, 2)} <= refs


def test_the_torn_tail_of_a_journal_stays_where_it_is(pair, reference):
    a, b = pair
    project = Project(b, durability=Durability.OFF)
    project.session("train", {"first": 1}).start().done()
    project.session("train", {"live": 1}).start()
    (journal,) = segments_of(b, "open")
    copy = b.parent / "copy"
    shutil.copytree(b, copy)
    torn = copy / journal.relative_to(b)
    torn.write_bytes(torn.read_bytes()[:-7])
    report = merged(a, copy)

    assert report.damaged == []
    (part,) = segments_of(a, "part")
    assert torn.read_bytes().startswith(part.read_bytes())
    assert reference.read_segment(part.read_bytes(), True, part.name).verdict == "whole"


def test_a_good_prefix_that_is_here_in_any_file_is_not_taken_again(pair):
    a, b = pair
    project = Project(b, durability=Durability.OFF)
    project.session("train", {"first": 1}).start().done()
    project.session("train", {"live": 1}).start()
    subprocess.run(["cp", "-a", f"{b}/.tracker", str(a / "copied")], check=True)
    (journal,) = segments_of(b, "open")
    shutil.rmtree(a / "copied")
    target = a / journal.relative_to(b)
    target.parent.mkdir(exist_ok=True)
    shutil.copy2(journal, target)

    assert merged(a, b).parts == []
    project.ledger.close()


# Damage


@damaged
def test_a_segment_that_is_damaged_here_is_mended_and_kept_in_quarantine(pair, reference):
    a, b = pair
    merged(a, b)
    merged(b, a)
    path = segments_of(a)[0]
    good = flip(path)
    bad = path.read_bytes()
    report = merged(a, b)

    assert path.read_bytes() == good
    (line,) = report.repaired
    (kept,) = (p for p in (a / ".tracker/quarantine").rglob("*") if p.is_file())
    assert kept.read_bytes() == bad
    assert kept.relative_to(a).as_posix() in line.what
    assert kept.name == f"{path.name}.{b3sum(kept)[:16]}"
    assert reference.read_store(a) == reference.read_store(b)
    assert report.exit_code == 0


@damaged
def test_a_segment_that_is_damaged_in_src_is_not_copied_and_its_good_prefix_is(pair, tmp_path, reference):
    a, b = pair
    path = segments_of(b)[0]
    good = flip(path)
    report = merged(a, b)

    assert report.exit_code == 1
    assert [line.path for line in report.damaged] == [path.relative_to(b).as_posix()]
    assert not (a / path.relative_to(b)).exists()
    (part,) = segments_of(a, "part")
    assert good.startswith(part.read_bytes())
    assert b3sum(part).startswith(part.stem.rpartition("-")[2])
    assert merged(a, b).changes == 0
    path.write_bytes(good)
    assert [line.path for line in merged(a, b).copied] == [path.relative_to(b).as_posix()]
    assert reference.read_store(a) == union_of(reference, tmp_path, a, b)


@damaged
def test_damage_on_both_sides_leaves_the_longer_good_prefix_everywhere(pair, reference):
    a, b = pair
    merged(a, b)
    merged(b, a)
    one, two = (segments_of(root)[0] for root in pair)
    frames = [frame.offset for frame in reference.read_segment(one.read_bytes(), True, one.name).frames]
    assert len(frames) > 2
    flip(one, frames[1] + 50)
    flip(two, frames[2] + 50)
    merged(a, b)
    merged(b, a)
    (part,) = segments_of(a, "part")

    assert len(part.read_bytes()) == frames[2]
    assert [path.read_bytes() for path in segments_of(b, "part")] == [part.read_bytes()]
    held = [reference.read_ledger(root).frames for root in pair]
    writer = one.name[:32]
    seqs = [{h.frame.seq for h in frames_ if h.writer == writer} for frames_ in held]
    assert seqs[0] >= {0, 1}
    assert seqs[1] >= {0, 1}


@damaged
@pytest.mark.parametrize("glob", ["manifests/*/*.json", "objects/*/*"])
def test_a_manifest_or_object_that_is_damaged_here_is_mended_and_kept(glob, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    project = Project(b, provenance=False)
    with pytest.raises(ValueError, match="wrong"), project.session("train", {"n": 1}):
        raise ValueError("wrong")
    project.ledger.close()
    merged(a, b)
    (path,) = (a / ".tracker").glob(glob)
    good = flip(path, 5)
    bad = path.read_bytes()
    report = merged(a, b)

    assert path.read_bytes() == good
    assert [line.path for line in report.repaired] == [path.relative_to(a).as_posix()]
    assert [p.read_bytes() for p in (a / ".tracker/quarantine").rglob("*") if p.is_file()] == [bad]


@damaged
@pytest.mark.parametrize("glob", ["manifests/*/*.json", "objects/*/*"])
def test_a_manifest_or_object_that_is_damaged_in_src_is_reported_and_not_taken(glob, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    project = Project(b, provenance=False)
    with pytest.raises(ValueError, match="wrong"), project.session("train", {"n": 1}):
        raise ValueError("wrong")
    project.ledger.close()
    (path,) = (b / ".tracker").glob(glob)
    flip(path, 5)
    report = merged(a, b)

    assert [line.path for line in report.damaged] == [path.relative_to(b).as_posix()]
    assert not (a / path.relative_to(b)).exists()


@damaged
def test_a_segment_of_a_newer_format_is_refused_before_anything_is_written(pair, reference):
    a, b = pair
    before = files_of(a)
    path = segments_of(b)[0]
    data = path.read_bytes()
    opened = reference.unpack(reference.read_segment(data, True).frames[0].payload) | {"format": 2}
    frame = reference.make_frame(data[:18], 1, 0, 1, reference.pack(opened))
    path.with_name(f"{'f' * 32}-0.open").write_bytes(data[:18] + frame)

    with pytest.raises(VersionError):
        merged(a, b)
    assert files_of(a) == before


# Conflict copies


NAMES = [
    ("{stem}.sync-conflict-20260101-120000-ABCDEFG{suffix}", "Syncthing"),
    ("{stem} (conflicted copy 2026-01-01){suffix}", "Dropbox"),
    ("{stem} (Alice's conflicted copy 2026-01-01){suffix}", "Dropbox, named"),
]


@damaged
@pytest.mark.parametrize("form", [form for form, _ in NAMES], ids=[name for _, name in NAMES])
@pytest.mark.parametrize("glob", ["ledger/*/*.seg", "manifests/*/*.json"])
def test_a_conflict_copy_is_taken_under_the_name_that_its_bytes_prove(form, glob, pair):
    a, b = pair
    path = sorted((b / ".tracker").glob(glob))[0]
    path.rename(path.with_name(form.format(stem=path.stem, suffix=path.suffix)))
    report = merged(a, b)

    taken = [line for line in report.copied if line.as_path]
    assert [line.as_path for line in taken] == [path.relative_to(b).as_posix()]
    assert (a / path.relative_to(b)).is_file()
    assert not [name for name in files_of(a / ".tracker") if "conflict" in name]
    assert merged(a, b).changes == 0


@damaged
def test_a_conflict_copy_that_proves_nothing_is_skipped(pair):
    a, b = pair
    path = segments_of(b)[0]
    copy = path.with_name(f"{path.stem} (conflicted copy 2026-01-01).seg")
    shutil.copy2(path, copy)
    flip(copy)
    (b / ".tracker/ledger/2026-01/notes.txt").parent.mkdir(exist_ok=True)
    (b / ".tracker/ledger/2026-01/notes.txt").write_text("mine")
    report = merged(a, b)

    assert {line.path for line in report.skipped} == {
        copy.relative_to(b).as_posix(), ".tracker/ledger/2026-01/notes.txt",
    }  # fmt: skip
    assert report.exit_code == 0
    assert segments_of(a, "part") == []


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("x.sync-conflict-20260101-120000-ABCDEFG.seg", "x.seg"),
        ("x (conflicted copy 2026-01-01).seg", "x.seg"),
        ("x (Alice's conflicted copy 2026-01-01).seg", "x.seg"),
        ("x (Alice's MacBook's conflicted copy 2026-01-01 (1)).seg", None),
        ("x (conflicted copy 2026-01-01 1).seg", "x.seg"),
        ("x.seg", None),
        ("x (copy).seg", None),
        (".sync-conflict-20260101-120000-ABCDEFG", None),
    ],
)
def test_original_names(name, want):
    assert original_name(name) == want


# Users' files


def test_of_two_contents_the_one_sealed_last_has_the_name_and_the_other_lies_beside(pair):
    a, b = pair
    (mine,) = (p for p in a.glob("*/train_model.bin") if p.read_bytes() == b"as a has it")
    theirs = b / mine.relative_to(a)
    digest = b3sum(mine)
    writer = next(s.name for s in segments_of(a) if str(mine.parent.name).encode() in s.read_bytes())
    report = merged(a, b)
    (aside,) = mine.parent.glob("*.from-*")

    assert mine.read_bytes() == b"as b has it" == theirs.read_bytes()
    assert aside.read_bytes() == b"as a has it"
    assert aside.name == f"train_model.bin.from-{os.uname().nodename}-{writer[:8]}-{digest[:8]}"
    assert [line.as_path for line in report.set_aside] == [aside.relative_to(a).as_posix()]


def test_what_is_here_keeps_the_name_where_it_was_sealed_last(pair):
    a, b = pair
    (theirs,) = (p for p in a.glob("*/train_model.bin") if p.read_bytes() == b"as a has it")
    mine = b / theirs.relative_to(a)
    inode = mine.stat().st_ino
    merged(b, a)
    (aside,) = mine.parent.glob("*.from-*")

    assert (mine.read_bytes(), mine.stat().st_ino) == (b"as b has it", inode)
    assert aside.read_bytes() == b"as a has it"


def test_an_unsealed_file_that_differs_is_set_aside_as_of_nobody(pair):
    a, b = pair
    (a / "notes.txt").write_text("a's")
    (b / "notes.txt").write_text("b's")
    digest = b3sum(b / "notes.txt")
    merged(a, b)

    assert (a / "notes.txt").read_text() == "a's"
    assert (a / f"notes.txt.from-unknown-{digest[:8]}").read_text() == "b's"
    assert merged(a, b).changes == 0


def test_a_file_that_is_not_as_sealed_does_not_get_the_free_name(pair):
    a, b = pair
    (theirs,) = (p for p in b.glob("*/train_model.bin") if p.read_bytes() == b"of b")
    theirs.write_bytes(b"altered")
    report = merged(a, b)

    path = theirs.relative_to(b).as_posix()
    assert [line.path for line in report.damaged] == [path]
    assert report.exit_code == 1
    assert not (a / path).exists()
    assert [p.read_bytes() for p in (a / path).parent.glob("*.from-unknown-*")] == [b"altered"]
    theirs.write_bytes(b"of b")
    assert [line.path for line in merged(a, b).copied] == [path]


def test_a_file_of_an_older_attempt_is_set_aside_and_not_called_damaged(pair):
    a, b = pair
    (theirs,) = (p for p in a.glob("*/train_model.bin") if p.read_bytes() == b"as a has it")
    (b / theirs.relative_to(a)).unlink()  # sealed last by b, and not there
    report = merged(b, a)

    assert (report.damaged, report.exit_code) == ([], 0)
    assert not (b / theirs.relative_to(a)).exists()
    (aside,) = (b / theirs.relative_to(a)).parent.glob("*.from-*")
    assert aside.read_bytes() == b"as a has it"
    assert "unknown" not in aside.name
    assert merged(b, a).changes == 0


@damaged
def test_a_file_altered_here_gives_way_to_the_sealed_one_and_lies_beside_it(pair):
    a, b = pair
    merged(a, b)
    merged(b, a)
    (mine,) = (p for p in a.glob("*/train_model.bin") if p.read_bytes() == b"of b")
    mine.write_bytes(b"spoiled here")
    merged(a, b)

    assert mine.read_bytes() == b"of b"
    assert [p.read_bytes() for p in mine.parent.glob("*.from-unknown-*")] == [b"spoiled here"]


@damaged
@pytest.mark.parametrize("left", [b"", b'{"only', b"\0\0\0"])
def test_params_cut_short_here_are_replaced_and_in_src_skipped(left, pair):
    a, b = pair
    merged(a, b)
    uid = Project(a).uid({"only": "b"})
    path = a / uid / "params.json"
    right = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(left)
    report = merged(a, b)

    assert path.read_bytes() == right
    assert [line.path for line in report.repaired] == [f"{uid}/params.json"]
    path.chmod(0o644)
    path.write_bytes(left)
    assert [line.path for line in merged(b, a).skipped] == [f"{uid}/params.json"]
    assert (b / uid / "params.json").read_bytes() == right
    assert not list(b.rglob("*.from-*-????????")) or all("params" not in p.name for p in b.rglob("*.from-*"))


@damaged
def test_altered_params_never_get_the_name(pair):
    a, b = pair
    uid = Project(a).uid({"only": "b"})
    path = b / uid / "params.json"
    path.chmod(0o644)
    path.write_bytes(b'{"only":"c"}')
    report = merged(a, b)

    assert report.exit_code == 1
    assert not (a / uid / "params.json").exists()
    assert [p.read_bytes() for p in (a / uid).glob("params.json.from-*")] == [b'{"only":"c"}']


def test_files_of_a_run_that_goes_on_are_held_against_no_seal(pair):
    a, b = pair
    project = Project(b, durability=Durability.OFF)
    session = project.session("train", {"only": "b"}).start()
    path = session.path("model.bin")
    path.write_bytes(b"half of it")
    report = merged(a, b)

    assert (a / path.relative_to(b)).read_bytes() == b"half of it"
    assert report.damaged == []
    session.done()


def test_links_pipes_and_other_stores_are_skipped_and_told(pair):
    a, b = pair
    (b / "link").symlink_to("/etc/hostname")
    (b / "folder-link").symlink_to(b.parent)
    os.mkfifo(b / "pipe")
    write_run(b / "inner", {"n": 1}, b"inner")
    (b / "tmp-0123456789abcdef").write_bytes(b"unfinished")
    report = merged(a, b)

    assert {line.path for line in report.skipped} == {"link", "folder-link", "pipe", "inner"}
    assert not any((a / name).exists() for name in ("link", "pipe", "inner", "tmp-0123456789abcdef"))


def test_the_trash_and_names_of_later_releases_are_taken_and_claims_and_quarantine_are_not(pair):
    a, b = pair
    for path in ("trash/ab/cd/model.bin", "later/x.bin", "claims/ab/x.1", "quarantine/ledger/x.seg.0123"):
        (b / ".tracker" / path).parent.mkdir(parents=True, exist_ok=True)
        (b / ".tracker" / path).write_bytes(b"x")
    merged(a, b)

    there = files_of(a / ".tracker")
    assert {"trash/ab/cd/model.bin", "later/x.bin"} <= there.keys()
    assert not (a / ".tracker/claims/ab").exists()
    assert not (a / ".tracker/quarantine").exists()


def test_a_folder_where_src_has_a_file_is_left_alone(pair):
    a, b = pair
    (a / "thing").mkdir()
    (b / "thing").write_text("file")
    (a / "other").write_text("file")
    (b / "other").mkdir()
    (b / "other/x").write_text("in a folder")
    report = merged(a, b)

    assert {line.path for line in report.skipped} == {"thing", "other/x"}
    assert (a / "thing").is_dir()
    assert (a / "other").read_text() == "file"


def test_names_aside_parse_and_fit():
    digest = bytes(range(32))
    path = aside_path("grid/" + "n" * 250, "host-01234567", digest)

    assert aside_path("a/b.pt", "h-01234567", digest) == "a/b.pt.from-h-01234567-00010203"
    assert parse_aside_path("a/b.pt.from-h-01234567-00010203") == ("a/b.pt", "00010203")
    assert parse_aside_path("a/b.pt") is None
    assert len(path.rpartition("/")[2]) == 255
    assert path.endswith("-00010203")


# What is refused


@pytest.mark.parametrize("source", ["a", "a/.", "a/inner", ".", "link"])
def test_one_tree_is_not_merged_with_itself(source, pair, tmp_path):
    a, _ = pair
    write_run(a / "inner", {"n": 1}, b"inner")
    (tmp_path / "link").symlink_to(a)
    (tmp_path / ".tracker/ledger").mkdir(parents=True)
    with pytest.raises(NameRefusedError, match="merge"):
        merged(a, tmp_path / source)


def test_a_folder_that_is_no_store_is_refused(pair, tmp_path):
    a, _ = pair
    before = files_of(a)
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(NotFoundError, match="no store"):
            merged(a, tmp_path / name)
    assert files_of(a) == before


@damaged
@pytest.mark.parametrize(("text", "error"), [("tracker 2\n", VersionError), ("rubbish", DamagedError)])
def test_a_store_of_another_format_is_refused(text, error, pair):
    a, b = pair
    before = files_of(a)
    (b / ".tracker/FORMAT").chmod(0o644)
    (b / ".tracker/FORMAT").write_text(text)
    with pytest.raises(error):
        merged(a, b)
    assert files_of(a) == before


# The plan, as tables


GOOD = Facts(3, b"g" * 32, "g" * 32)
BAD = Facts(3, b"b" * 32, "b" * 32)
SEAL = Wanted(3, b"g" * 32)
PARAMS = Wanted(uid="g" * 32)


@pytest.mark.parametrize(
    ("theirs", "ours", "wanted", "is_cut", "want"),
    [
        (GOOD, GOOD, SEAL, False, Do.NOTHING),
        (BAD, BAD, SEAL, False, Do.NOTHING),
        (GOOD, BAD, SEAL, False, Do.SWAP),
        (BAD, GOOD, SEAL, False, Do.ASIDE),
        (GOOD, BAD, None, False, Do.ASIDE),
        (BAD, Facts(4, b"c" * 32, ""), SEAL, False, Do.ASIDE),
        (GOOD, BAD, PARAMS, True, Do.MEND),
        (GOOD, BAD, PARAMS, False, Do.SWAP),
        (BAD, GOOD, PARAMS, True, Do.ASIDE),
        (GOOD, BAD, SEAL, True, Do.SWAP),
        (GOOD, Facts(5, b"b" * 32, ""), Wanted(3, None), False, Do.SWAP),
    ],
)
def test_what_becomes_of_a_file_that_both_have(theirs, ours, wanted, is_cut, want):
    assert plan_file(theirs, ours, wanted, is_cut=is_cut) is want


@pytest.mark.parametrize(
    ("theirs", "wanted", "want"),
    [(GOOD, None, Do.COPY), (GOOD, SEAL, Do.COPY), (BAD, SEAL, Do.ASIDE), (BAD, PARAMS, Do.ASIDE)],
)
def test_what_becomes_of_a_file_that_is_new(theirs, wanted, want):
    assert plan_new_file(theirs, wanted) is want


def test_an_empty_plan_is_empty():
    assert plan_ledger([], Here(frozenset(), frozenset(), frozenset(), {})) == []
    assert Piece._fields[0] == "file"


# Kills


def _counted(ledger: Ledger, source: Path, monkeypatch: pytest.MonkeyPatch, stop: int | None) -> int:
    """Merge, and die at the `stop`th system call that gives a name; give how many there are."""
    calls = 0

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise KeyboardInterrupt
            return call(*args, **options)

        return guard

    with monkeypatch.context() as patch:
        for name in ("rename", "link", "unlink", "mkdir", "fsync"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        merge(ledger, source)
    return calls


@damaged
def test_a_merge_stopped_at_any_call_and_made_again_ends_the_same(pair, tmp_path, monkeypatch, reference):
    a, b = pair
    merged(b, a)
    write_run(b, {"later": 1}, b"later")
    flip(segments_of(a)[0])
    for root, text in ((a, "a's"), (b, "b's")):
        (root / "notes.txt").write_text(text)
    shutil.copytree(a, tmp_path / "whole")
    calls = _counted(Ledger(tmp_path / "whole"), b, monkeypatch, None)
    want = files_of(tmp_path / "whole")
    assert calls > 40
    assert len(list((tmp_path / "whole/.tracker/quarantine").rglob("*.seg.*"))) == 1

    for stop in range(1, calls + 1):
        root = tmp_path / f"try-{stop}"
        shutil.copytree(a, root)
        ledger = Ledger(root)
        with pytest.raises(KeyboardInterrupt):
            _counted(ledger, b, monkeypatch, stop)
        merge(ledger, b)
        got = {name: data for name, data in files_of(root).items() if "/tmp-" not in name}
        assert got == want, f"stopped at call {stop}"
        shutil.rmtree(root)
        ledger.close()


_KILLED = """
import sys
from tracker.ledger import Ledger
from pathlib import Path
from tracker.merge import merge
print("ready", flush=True)
sys.stdin.readline()
merge(Ledger(Path(sys.argv[1])), sys.argv[2])
"""


@pytest.mark.storm
def test_a_merge_killed_at_random_moments_and_made_again_ends_the_same(tmp_path, reference):
    a, b = tmp_path / "a", tmp_path / "b"
    project = Project(b, durability=Durability.OFF)
    for number in range(40):
        with project.session("train", {"n": number}) as run:
            run.path("model.bin").write_bytes(random.Random(number).randbytes(20_000))
    project.ledger.close()
    write_run(a, {"n": 3}, b"another")
    merged_whole = tmp_path / "whole"
    shutil.copytree(a, merged_whole)
    merged(merged_whole, b)
    want = files_of(merged_whole)
    luck = random.Random(7)
    killed = 0
    rounds = int(12 * float(os.environ.get("TRACKER_STORM", "1")))
    for number in range(rounds):
        root = tmp_path / f"try-{number}"
        shutil.copytree(a, root)
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(root), str(b)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.flush()
        try:
            process.wait(luck.uniform(0.005, 0.25))
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate()
        merged(root, b)
        got = {
            name: data
            for name, data in files_of(root).items()
            if not name.rpartition("/")[2].startswith("tmp-")
        }
        assert got == want, f"round {number}"
        shutil.rmtree(root)
    print(f"{killed} of {rounds} merges killed")
    assert killed > 0


# Removed runs


@pytest.fixture
def removed_in_a(tmp_path: Path) -> tuple[Path, Path]:
    """A store and its copy; then the first removes its run."""
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(a, {"n": 1}, b"gone")
    write_run(a, {"n": 2}, b"stays")
    shutil.copytree(a, b)
    project = Project(a)
    remove(project.ledger, project.session("train", {"n": 1}).ref, "a mistake")
    project.ledger.close()
    return a, b


def test_the_files_of_a_run_that_was_removed_here_do_not_come_back(removed_in_a):
    a, b = removed_in_a
    before = files_of(a)
    assert merged(a, b).changes == 0
    assert files_of(a) == before
    merged(b, a)
    assert not Project(b).has("train", {"n": 1})
    assert any("trash" in name and data == b"gone" for name, data in files_of(b).items())


def test_purged_bytes_do_not_come_back(removed_in_a):
    a, b = removed_in_a
    gc(Project(a).ledger, older_than_s=0.0)
    assert b"gone" not in files_of(a).values()
    report = merged(a, b)

    assert b"gone" not in files_of(a).values()
    assert len(report.skipped) == 2, "the file and params.json"
    assert report.changes == 0
