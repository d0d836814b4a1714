"""What the doctor says of real mounts, sound and flawed. Spec: spec/layout.md section 8.

The flawed ones are file systems in user space, written for these tests; the sound ones are the kernel's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import flawed_fs
import pytest

from tracker import Project, StorageError
from tracker._disk import durable
from tracker._model.names import check_identifier, check_name, file_path
from tracker.doctor import Diagnosis, Need, Result, Verdict, creating, examine, naming, rivals, times, writing
from tracker.doctor.examine import LOOKING, TRYING
from tracker.doctor.rivals import RivalError
from tracker.doctor.scratch import PREFIX, scratch_in
from tracker.terms import StorageMode, Uid

needs_mounts = pytest.mark.skipif(
    os.getuid() != 0 or sys.platform != "linux", reason="mounts file systems: Linux and root"
)
NAMES = [one.probe.name for one in LOOKING] + ["writable"] + [one.probe.name for one in TRYING]


def by_name(diagnosis: Diagnosis) -> dict[str, Result]:
    return {result.probe: result for result in diagnosis.results}


def verdicts(diagnosis: Diagnosis, *but: str) -> dict[str, str]:
    """The probes that are not ok, and how bad they are."""
    return {
        r.probe: str(r.verdict)
        for r in diagnosis.results
        if r.verdict is not Verdict.OK and r.probe not in but
    }


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for above, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(above, name))
            found[os.path.relpath(os.path.join(above, name), folder)] = (
                status.st_mode, status.st_size, status.st_mtime_ns,
            )  # fmt: skip
    return found


@contextlib.contextmanager
def mount(point: Path, *arguments: str | Path) -> Iterator[Path]:
    point.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, point], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@contextlib.contextmanager
def tmpfs(folder: Path, options: str = "size=8m") -> Iterator[Path]:
    with mount(folder / "tmpfs", "-t", "tmpfs", "-o", options, "none") as point:
        yield point


@contextlib.contextmanager
def ext4(folder: Path, options: str = "loop") -> Iterator[Path]:
    image = folder / "image"
    with image.open("xb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with mount(folder / "ext4", "-o", options, image) as point:
        yield point


@contextlib.contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    with tmpfs(folder, "size=64m") as parts:
        for name in ("lower", "upper", "work"):
            (parts / name).mkdir()
        where = f"lowerdir={parts}/lower,upperdir={parts}/upper,workdir={parts}/work"
        with mount(folder / "overlay", "-t", "overlay", "-o", where, "none") as point:
            yield point


@needs_mounts
@pytest.mark.parametrize("make", [tmpfs, ext4, overlay])
def test_a_local_file_system_of_the_kernel_is_fit_and_is_left_as_it_was(make, tmp_path):
    with make(tmp_path) as point:
        before = tree(point)
        diagnosis = examine(str(point))
        after = tree(point)

    assert [result.probe for result in diagnosis.results] == NAMES
    assert verdicts(diagnosis, "free space") == {}
    assert f"type {make.__name__}: local" in by_name(diagnosis)["mount"].measured
    assert after == before
    assert diagnosis.exit_code == 0


FOUND = {
    "none": {},
    "no-link": {"hard link": "degraded"},
    "broken-link": {"hard link": "unfit"},
    "copied-link": {"hard link": "unfit"},
    "folds-case": {"case of names": "degraded"},
    "composes": {"forms of Unicode": "degraded"},
    "ascii": {"forms of Unicode": "degraded"},
    "short-names": {"longest name": "degraded"},
    "tiny-names": {"longest name": "unfit"},
    "no-rename": {"rename over a name": "unfit", "rename of a folder": "degraded"},
    "fixed-folders": {"rename of a folder": "degraded"},
    "stale-listing": {"fresh listing": "unfit"},
    "frozen-times": {"heartbeat": "unfit"},
    "coarse-times": {"heartbeat": "degraded"},
    "fast-clock": {"heartbeat": "degraded"},
    "no-file-sync": {"sync of a file": "unfit"},
    "no-folder-sync": {"sync of a folder": "degraded"},
    "broken-folder-sync": {"sync of a folder": "unfit"},
    "late-bytes": {"append": "unfit"},
}
"""Flaw -> what must be found, and nothing else."""

ALSO = {
    "stale-listing": ("forms of Unicode",),
    "late-bytes": (
        "exclusive create",
        "hard link",
        "rename over a name",
        "rename of a folder",
        "append by two",
    ),
    "tiny-names": ("longest path",),
}
"""What else may be blamed, since it is read by the flawed way."""

BY_NATURE = ("mount", "rename over a name", "free space")
"""FUSE counts as a network, and libfuse 2 may not find a name for a moment while it is replaced."""


def test_each_flaw_is_tried():
    assert set(FOUND) == set(flawed_fs.FLAWS) - {"stale-journals"}  # which no mount shows by itself


@needs_mounts
@pytest.mark.parametrize("flaw", FOUND)
def test_a_flaw_is_found_and_nothing_else_is_blamed(flaw, tmp_path):
    with flawed_fs.mounted(flaw, tmp_path) as point:
        diagnosis = examine(str(point))
        left = os.listdir(tmp_path / "behind")

    expected = FOUND[flaw]
    natural = tuple(name for name in (*BY_NATURE, *ALSO.get(flaw, ())) if name not in expected)
    assert verdicts(diagnosis, *natural) == expected
    assert by_name(diagnosis)["mount"].verdict is Verdict.DEGRADED
    assert diagnosis.exit_code == int("unfit" in {str(r.verdict) for r in diagnosis.results})
    assert left == []


@needs_mounts
def test_a_package_that_meets_no_links_does_what_the_doctor_says(tmp_path):
    """The claim where links are refused: a file of its own."""
    with flawed_fs.mounted("no-link", tmp_path) as point:
        project = Project(point / "store")
        session = project.session("train", {"lr": 0.1})
        assert session.try_start()
        claims = list((point / "store" / ".tracker" / "claims").glob("*/*.1"))
        assert [path.stat().st_nlink for path in claims] == [1]
        session.done()
        project.ledger.close()
        assert Project(point / "store").session("train", {"lr": 0.1}).status == "done"
        Project(point / "store").ledger.close()


@needs_mounts
def test_where_nothing_can_be_written_it_says_what_can_be_said(tmp_path):
    with tmpfs(tmp_path) as point:
        subprocess.run(["mount", "-o", "remount,ro", point], check=True)
        diagnosis = examine(str(point))
        results = by_name(diagnosis)

    assert [result.probe for result in diagnosis.results] == NAMES
    assert results["mount"].figures["is_read_only"] is True
    assert results["writable"].verdict is Verdict.DEGRADED
    assert {results[one.probe.name].verdict for one in TRYING} == {Verdict.UNKNOWN}
    assert diagnosis.exit_code == 0


@needs_mounts
def test_a_full_disk_is_unfit(tmp_path):
    with tmpfs(tmp_path, "size=1m,nr_inodes=20") as point:
        with contextlib.suppress(OSError):
            for number in range(30):
                (point / str(number)).touch()
        results = by_name(examine(str(point)))

    assert results["writable"].verdict is Verdict.UNFIT
    assert results["free space"].verdict is Verdict.UNFIT
    assert results["free space"].figures["inodes"] == 0


@needs_mounts
def test_a_disk_that_fills_on_the_way_is_told_and_nothing_is_left(tmp_path):
    with tmpfs(tmp_path, "size=1m,nr_inodes=40") as point:
        diagnosis = examine(str(point))

        assert by_name(diagnosis)["exclusive create"].verdict is Verdict.UNFIT
        assert diagnosis.exit_code == 1
        assert os.listdir(point) == []


def test_a_store_that_is_there_is_not_touched(store):
    store.session("train", {"lr": 0.1}).start().done()
    before = tree(store.root)
    diagnosis = examine(str(store.root))

    assert tree(store.root) == before
    assert diagnosis.folder == str(store.root)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StorageError):
        examine(str(tmp_path / "nothing"))

    assert os.listdir(tmp_path) == []


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path):
    """A process of its own is interrupted at moments from its start to its end."""
    folder = tmp_path / "examined"
    folder.mkdir()
    script = "import sys; from tracker.doctor import examine; examine(sys.argv[1])"
    interrupted = 0
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", script, folder], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not os.listdir(folder) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(number * 0.05)
        process.send_signal(signal.SIGINT)
        interrupted += process.wait(timeout=60) != 0

        assert os.listdir(folder) == []
    assert interrupted > 2


def test_an_error_in_the_middle_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), scratch_in(str(tmp_path)) as scratch:
        with scratch.room("one") as room:
            durable.create("file", b"", room.fd)
        assert [name.startswith(PREFIX) for name in os.listdir(tmp_path)] == [True]
        raise ZeroDivisionError

    assert os.listdir(tmp_path) == []


def test_without_a_second_process_the_races_are_unknown_and_the_rest_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    results = by_name(examine(str(tmp_path)))

    unknown = {name for name, result in results.items() if result.verdict is Verdict.UNKNOWN}
    assert unknown == {"exclusive create", "hard link", "rename over a name", "append by two", "locks"}


@pytest.mark.parametrize(
    ("told", "want", "words"),
    [
        ([{"ours": [*range(150)]}, {"ours": [*range(150, 300)]}], Verdict.OK, "0 created twice, 0 by nobody"),
        ([{"ours": [*range(151)]}, {"ours": [*range(150, 300)]}], Verdict.UNFIT, "1 created twice"),
        ([{"ours": [*range(149)]}, {"ours": [*range(150, 300)]}], Verdict.UNFIT, "1 by nobody"),
        ([{"error": "EIO"}, {"ours": [*range(300)]}], Verdict.UNFIT, "EIO"),
    ],
)
def test_a_name_made_by_two_or_by_nobody_is_unfit(told, want, words):
    reading = creating._raced("create", "created", told)

    assert reading.verdict is want
    assert words in reading.measured


def test_lines_that_are_torn_are_counted(tmp_path, monkeypatch):
    def torn(task: str, folder: str, count: int) -> list[dict[str, int]]:
        whole = [f"{me} {number:05} {'x' * 100}\n" for me in "ab" for number in range(count)]
        Path(folder, "lines").write_text("".join(["a 00000 xx", *whole[1:]]))
        return [{"lines": count}] * 2

    monkeypatch.setattr(writing, "race", torn)
    with scratch_in(str(tmp_path)) as scratch:
        reading = writing.shared_append(scratch)

    assert reading.verdict is Verdict.DEGRADED
    assert (reading.figures["lost"], reading.figures["torn"]) == (2, 1)


def test_a_rival_that_tells_nothing_is_an_error(tmp_path):
    with rivals.rivals("no-such-task", str(tmp_path), "a", 1) as (rival,):
        rival.begin()
        with pytest.raises(RivalError):
            rival.end()


def test_no_rival_outlives_its_block(tmp_path):
    with rivals.rivals("read", str(tmp_path), "ab", 600_000) as both:
        both[0].begin()
        processes = [one._process for one in both]

    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


@pytest.mark.parametrize("verdict", Verdict)
def test_the_worst_verdict_decides_and_what_is_unknown_does_not(verdict):
    results = [Result("x", one, "", Need.NOTHING, "", {}) for one in (Verdict.OK, verdict)]
    diagnosis = Diagnosis("/", results)

    assert diagnosis.verdict is (Verdict.OK if verdict is Verdict.UNKNOWN else verdict)
    assert diagnosis.exit_code == (verdict is Verdict.UNFIT)


def test_the_names_that_are_asked_for_are_the_longest_that_tracker_makes():
    """By the printer of paths itself: identifier and name of the greatest length, in PREFIX mode."""
    identifier, name = check_identifier("i" * 100), check_name("n" * 100)
    path = file_path("", identifier, Uid("0" * 32), StorageMode.PREFIX, name, include_identifier=True)

    assert len(path) == naming.USERS_NAME_BYTES
    with pytest.raises(ValueError, match="bytes"):
        check_identifier("i" * 101)


def test_a_folder_that_cannot_be_synced_is_what_the_disk_room_takes_for_one():
    assert times.CANNOT_SYNC == durable._CANNOT_SYNC


def test_slow_syncs_are_told():
    assert times._costs("x", [0.2] * 3).verdict is Verdict.DEGRADED
    assert times._costs("x", [0.01, 0.02, 5.0]).verdict is Verdict.OK


def test_every_probe_says_what_follows_and_has_a_name_of_its_own():
    probes = [one.probe for one in (*LOOKING, *TRYING)]

    assert len({probe.name for probe in probes}) == len(probes) > 15
    assert all(probe.otherwise for probe in probes)
    assert len({one.attempt.__name__ for one in TRYING}) == len(TRYING)


def test_a_cache_that_cannot_be_written_is_degraded_and_says_where(tmp_path, monkeypatch):
    for place in (os.devnull, str(tmp_path / "file" / "below")):
        (tmp_path / "file").touch()
        monkeypatch.setenv("TRACKER_CACHE", place)
        cache = by_name(examine(str(tmp_path)))["cache"]

        assert cache.verdict is Verdict.DEGRADED
        assert place in cache.measured
    assert sorted(os.listdir(tmp_path)) == ["file"]


@needs_mounts
def test_a_journal_that_its_writer_sealed_while_it_was_opened_is_not_there(tmp_path):
    """On NFS a file that another client removes between open and read is a stale handle.

    Its writer sealed it, so whoever looks must list again, as for a file that is gone.
    """
    with flawed_fs.mounted("stale-journals", tmp_path) as point:
        (tmp_path / "behind" / "0.open").write_bytes(b"frames")
        fd = durable.open_root(str(point))
        try:
            with pytest.raises(FileNotFoundError):
                durable.read_from("0.open", fd, 0)
        finally:
            durable.close_read(fd)
