"""The ledger orders writes: files, event, manifest; across threads, forks, kills and a tree that moves.

Spec: spec/log.md sections 5, 6 and 8.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reference

import tracker.ledger as room
import tracker.watch as watch
from tracker import (
    ClockWarning,
    DamagedError,
    Durability,
    NameRefusedError,
    NotFoundError,
    Project,
    Status,
    StorageError,
    TrackerWarning,
    VersionError,
)
from tracker._disk import durable, host
from tracker._model.event import Created, Event, Noted
from tracker._store import journal as journals
from tracker._store.index import Filter
from tracker.ledger import Ledger, open_ledger
from tracker.terms import AttemptId, RunRef

RUN = RunRef(f"t/{reference.uid('{}')}")
T = 1_793_610_000_000


def note(text: str) -> Callable[[AttemptId], list[Event]]:
    return lambda _: [Noted(RUN, text)]


def notes(root: Path) -> list[str]:
    return [text for run in reference.read_store(root)["runs"] for text in run["notes"]]


def findings(root: Path) -> list[str]:
    ledger = reference.read_ledger(root)
    reference.read_events(ledger)
    return [finding.code for finding in ledger.findings]


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def segments(root: Path) -> list[str]:
    return sorted(path.suffix for path in (root / ".tracker").glob("ledger/*/*"))


def run_script(
    script: str, *arguments: Any, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=check, text=True, capture_output=True, **options)


# One a root and process


def test_there_is_one_ledger_a_root_and_process(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    ledgers = [
        Project(tmp_path / "root").ledger,
        Project(str(tmp_path / "root")).sub("a/b").ledger,
        Project(tmp_path / "link").ledger,
        open_ledger(tmp_path / "root" / ".." / "root"),
    ]

    assert {id(ledger) for ledger in ledgers} == {id(ledgers[0])}
    assert Project(tmp_path / "other").ledger is not ledgers[0]


def test_nothing_is_made_before_the_first_event(tmp_path):
    ledger = open_ledger(tmp_path / "a" / "store")
    ledger.find()
    ledger.refresh()
    ledger.seal()
    ledger.close()

    assert not (tmp_path / "a").exists()
    assert ledger.writer is None


def test_the_first_event_makes_the_store(tmp_path):
    ledger = open_ledger(tmp_path / "a" / "b")
    ledger.append(note("x"))

    (journal,) = (tmp_path / "a" / "b" / ".tracker").glob("ledger/*/*")
    assert journal.name == f"{ledger.writer}-0.open"
    assert (tmp_path / "a" / "b" / ".tracker" / "FORMAT").read_bytes() == b"tracker 1\n"
    assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", ledger.writer)


CRASHES: dict[str, Callable[[Path], object]] = {
    "the root alone": lambda root: None,
    "no FORMAT": lambda root: (root / ".tracker").mkdir(),
    "an empty FORMAT": lambda root: (
        (root / ".tracker").mkdir() or (root / ".tracker/FORMAT").write_bytes(b"")
    ),
    "FORMAT cut short": lambda root: (
        (root / ".tracker").mkdir() or (root / ".tracker/FORMAT").write_bytes(b"track")
    ),
    "FORMAT of zeros": lambda root: (
        (root / ".tracker").mkdir() or (root / ".tracker/FORMAT").write_bytes(bytes(10))
    ),
    "no ledger": lambda root: (
        (root / ".tracker").mkdir() or (root / ".tracker/FORMAT").write_bytes(b"tracker 1\n")
    ),
    "a temporary file": lambda root: (
        (root / ".tracker").mkdir() or (root / ".tracker/tmp-00").write_bytes(b"tr")
    ),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_store_that_was_half_made_is_taken_up(tmp_path, name):
    CRASHES[name](tmp_path)
    ledger = open_ledger(tmp_path)
    assert ledger.find() == []
    ledger.append(note("x"))

    assert (tmp_path / ".tracker" / "FORMAT").read_bytes() == b"tracker 1\n"
    assert notes(tmp_path) == ["x"]


@pytest.mark.parametrize("at", ["root", "above"])
def test_a_root_at_or_below_a_file_is_refused(tmp_path, at):
    (tmp_path / "file").write_bytes(b"")
    root = tmp_path / "file" if at == "root" else tmp_path / "file" / "below"
    ledger = open_ledger(root)
    with pytest.raises(NameRefusedError, match="choose a folder"):
        ledger.append(note("x"))
    assert files(tmp_path) == ["file"]


def test_a_folder_that_is_made_is_synced_with_those_above_it(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    open_ledger(tmp_path / "a" / "b").append(note("x"))

    made = [
        tmp_path,
        tmp_path / "a",
        tmp_path / "a/b",
        tmp_path / "a/b/.tracker",
        tmp_path / "a/b/.tracker/ledger",
    ]
    assert {str(folder) for folder in made} <= set(synced)
    assert str(tmp_path / "a/b/.tracker/FORMAT") in synced


# A newer store


@pytest.mark.parametrize(("text", "error"), [(b"tracker 2\n", VersionError), (b"something\n", DamagedError)])
@pytest.mark.parametrize("has_ledger", [True, False])
def test_a_store_of_another_format_is_refused_before_anything_is_written(tmp_path, text, error, has_ledger):
    (tmp_path / ".tracker").mkdir()
    (tmp_path / ".tracker" / "FORMAT").write_bytes(text)
    if has_ledger:
        (tmp_path / ".tracker" / "ledger").mkdir()
    before = sorted(tmp_path.rglob("*"))
    ledger = open_ledger(tmp_path)
    with pytest.raises(error):
        ledger.append(note("x"))
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(error) as caught:
        ledger.find()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.unchecked_store("it is of a newer format in part")
def test_a_segment_of_a_newer_format_stops_reading_and_writing(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("x"))
    ledger.close()
    data = reference.MAGIC + reference.make_frame(reference.MAGIC, 50, 0, 1, b"\x90")
    (next((tmp_path / ".tracker" / "ledger").iterdir()) / f"{'0' * 32}-0.open").write_bytes(data)
    before = files(tmp_path)
    for action in (ledger.find, lambda: ledger.run(RUN), lambda: Ledger(tmp_path).append(note("y"))):
        with pytest.raises(VersionError, match="newer release"):
            action()
    assert files(tmp_path) == before


# Clocks


def test_the_clock_rises_with_each_frame_though_the_hosts_stands_or_goes_back(tmp_path):
    times = iter([T + 5000, T + 5000, T + 5000, T - 99_000] + [T] * 100)
    ledger = Ledger(tmp_path, clock=lambda: next(times))
    clocks = [ledger.append(note(f"{number}")).clock for number in range(5)]
    ledger.close()

    assert clocks == sorted(set(clocks))
    assert clocks[0] >> 16 == T + 5000
    assert findings(tmp_path) == []


@pytest.mark.parametrize(
    ("ahead_ms", "adopted_ms"),
    [(0, 0), (1000, 1000), (59_000, 59_000), (61_000, 61_000), (3_600_000, 600_000)],
)
def test_a_clock_that_is_ahead_is_adopted_by_ten_minutes_at_most(tmp_path, ahead_ms, adopted_ms):
    other = Ledger(tmp_path, clock=lambda: T + ahead_ms)
    theirs = other.append(note("a")).clock
    other.close()
    ledger = Ledger(tmp_path, clock=lambda: T)
    if ahead_ms > 60_000:
        with pytest.warns(ClockWarning, match=f"{ahead_ms // 1000} s ahead"):
            ours = ledger.append(note("b")).clock
    else:
        ours = ledger.append(note("b")).clock
    again = ledger.append(note("c")).clock
    ledger.close()

    assert (ours >> 16) - T == adopted_ms
    assert again > ours
    assert (ours > theirs) is (ahead_ms <= 600_000)


def test_what_another_process_wrote_before_comes_before(tmp_path):
    for number in range(3):
        ledger = Ledger(tmp_path, clock=lambda number=number: T - number)
        ledger.append(note(f"{number}"))
        ledger.close()

    assert notes(tmp_path) == ["0", "1", "2"]


# Durable points


def test_a_first_commit_seals_and_one_soon_after_does_not(tmp_path, monkeypatch):
    ledger = open_ledger(tmp_path)
    for number in range(3):
        ledger.append(note(f"{number}"))
        ledger.commit(Durability.LEDGER)
    assert segments(tmp_path) == [".open", ".seg"]
    monkeypatch.setattr(room, "SEAL_AGAIN_S", 0.0)
    ledger.commit(Durability.LEDGER)

    assert segments(tmp_path) == [".seg", ".seg"]
    assert notes(tmp_path) == ["0", "1", "2"]


def test_a_commit_notices_a_journal_that_was_replaced(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    ledger.commit(Durability.OFF)
    ledger.append(note("b"))
    (live,) = (tmp_path / ".tracker").glob("ledger/*/*.open")
    stale = live.read_bytes()
    ledger.append(note("c"))
    live.unlink()
    live.write_bytes(stale)
    ledger.commit(Durability.OFF)

    assert notes(tmp_path) == ["a", "b", "c"]
    assert segments(tmp_path) == [".seg", ".seg"]


def test_a_timer_seals_what_has_lain_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "SEAL_S", (0.02,))
    ledger = open_ledger(tmp_path)
    for text in "ab":
        ledger.append(note(text))
        deadline = time.monotonic() + 5
        while ".open" in segments(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
    ledger.close()

    assert segments(tmp_path) == [".seg", ".seg"]


def test_the_timer_backs_off_to_six_hours():
    assert [s / 60 for s in watch.SEAL_S] == [5, 10, 20, 40, 80, 160, 320, 360]


def test_closing_seals_and_gives_back_every_descriptor(tmp_path):
    ledger = open_ledger(tmp_path)
    for number in range(3):
        ledger.append(note(f"{number}"))
        ledger.root_fd()
        ledger.find()
        ledger.close()
        ledger.close()

        assert segments(tmp_path) == [".seg"] * (number + 1)
        assert open_below(tmp_path) == []


def open_below(folder: Path) -> list[str]:
    """What this process holds open below a folder; other tests' sockets come and go."""
    links = (Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    return [
        str(link.readlink())
        for link in links
        if link.is_symlink() and str(link.readlink()).startswith(str(folder))
    ]


def test_an_event_after_closing_begins_another_writer(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    first = ledger.writer
    ledger.close()
    assert ledger.writer is None
    ledger.append(note("b"))

    assert ledger.writer != first
    assert [text for run in ledger.find() for text in run.notes] == ["a", "b"]


def test_leaving_the_interpreter_seals(tmp_path):
    run_script(
        "import sys; from tracker import Project; Project(sys.argv[1]).session('t', {'a': 1}).start()",
        tmp_path,
    )

    assert segments(tmp_path) == [".seg"]
    (run,) = reference.read_store(tmp_path)["runs"]
    assert run["status"] == "lost", "no end was recorded, and the process is known to have ended"


@pytest.mark.parametrize("durability", Durability)
def test_what_done_acknowledged_survives_a_kill(tmp_path, durability):
    script = """
import os, signal, sys
from tracker import Durability, Project
project = Project(sys.argv[1], durability=Durability(sys.argv[2]))
for number in range(int(sys.argv[3])):
    project.session("t", {"a": number}).done()
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    said = run_script(script, tmp_path, durability, 7, check=False)
    assert said.returncode == -signal.SIGKILL

    runs = reference.read_store(tmp_path)["runs"]
    assert [run["params"] for run in runs if run["status"] == "done"] == [f'{{"a":{n}}}' for n in range(7)]
    assert Project(tmp_path).ledger.find(Filter(status=Status.DONE)) != []


STRACED = """
import os, sys
from tracker import Durability, Project

def mark(text):
    try:
        os.stat(f"/mark/{text}")
    except OSError:
        pass

project = Project(sys.argv[1], durability=Durability(sys.argv[2]))
for number in range(3):
    session = project.session("t", {"a": number})
    mark(f"start {number}")
    session.start()
    session.path("f").write_text("x")
    session.attach_files({"g": project.root / "g"})
    mark(f"done {number}")
    session.done()
    mark(f"end {number}")
os._exit(0)
"""


def traced(root: Path, durability: Durability) -> dict[str, list[str]]:
    """The syncs, writes and renames of the third run, between the marks."""
    out = root.with_name("trace")
    calls = "fsync,fdatasync,write,rename,renameat,renameat2,openat,stat,newfstatat,statx"
    command = [
        "strace",
        "-f",
        "-y",
        "-e",
        f"trace={calls}",
        "-o",
        out,
        sys.executable,
        "-c",
        STRACED,
        root,
        durability,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        if b"ptrace" in error.stderr:
            pytest.skip("this system does not let processes be traced")
        raise
    found: dict[str, list[str]] = {}
    where = ""
    for line in out.read_text(encoding="utf-8", errors="replace").splitlines():
        mark = re.search(r'"/mark/(\w+ \d)"', line)
        where = mark[1] if mark else where
        call = re.search(r"(fsync|fdatasync|write|rename\w*)\(\d*<?([^>]*)", line)
        if call and not mark:
            found.setdefault(where, []).append(f"{call[1]} {call[2]}")
    return found


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_done_makes_the_system_calls_that_its_durability_says(tmp_path):
    syncs: dict[Durability, dict[str, list[str]]] = {}
    for durability in Durability:
        root = tmp_path / durability
        (root / "x").mkdir(parents=True)
        (root / "g").write_text("g")
        syncs[durability] = traced(root, durability)

    def of(durability: Durability, where: str, *kinds: str) -> list[str]:
        return [call for call in syncs[durability].get(where, []) if call.split()[0] in kinds]

    for durability in Durability:
        assert of(durability, "start 2", "fsync", "fdatasync") == [], "start, path and attach never sync"
        assert any("rename" in call for call in syncs[durability]["done 0"]), "the first done seals"
    assert of(Durability.OFF, "done 2", "fsync", "fdatasync") == []
    (journal_sync,) = of(Durability.LEDGER, "done 2", "fsync", "fdatasync")
    assert journal_sync.startswith("fdatasync")
    assert journal_sync.endswith(".open")

    calls = of(Durability.FULL, "done 2", "fsync", "fdatasync", "write")
    root = tmp_path / "full"
    uid = reference.uid('{"a":2}')
    before = {
        f"fsync {path}"
        for path in (root / uid / "t_f", root / "g", root / uid / "params.json", root / uid, root)
    }
    event = next(
        number for number, call in enumerate(calls) if call.startswith("write") and call.endswith(".open")
    )
    assert set(calls[:event]) == before
    assert [call.split()[0] for call in calls[event:]] == ["write", "fdatasync", "write"]
    assert "/manifests/" in calls[-1]


# Refused


class Refusing:
    """`os`, but the calls named are refused while `is_on`."""

    def __init__(self, *calls: str) -> None:
        self.calls, self.is_on = calls, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.calls:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_on:
                del args  # the traceback keeps this frame: it must not hold a view of the journal's memory
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        return call


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    system = Refusing("write", "fsync", "fdatasync")
    monkeypatch.setattr(durable, "os", system)
    monkeypatch.setattr(journals, "os", system)
    return system


def test_a_full_disk_is_told_and_what_was_acknowledged_stands(tmp_path, full_disk):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    full_disk.is_on = True
    for _ in range(2):
        with pytest.raises(StorageError, match="No space left on device; free space or inodes") as caught:
            ledger.append(note("b"))
        assert caught.value.errno == errno.ENOSPC
    assert [text for run in ledger.find() for text in run.notes] == ["a"]
    full_disk.is_on = False
    ledger.append(note("c"))

    assert [text for run in ledger.find() for text in run.notes] == ["a", "c"]
    assert notes(tmp_path) == ["a", "c"]


def test_a_sync_that_is_refused_is_told_and_the_next_commit_tries_anew(tmp_path, full_disk):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    ledger.commit(Durability.LEDGER)
    ledger.append(note("b"))
    full_disk.is_on = True
    with pytest.raises(StorageError):
        ledger.commit(Durability.LEDGER)
    assert notes(tmp_path) == ["a", "b"]
    full_disk.is_on = False
    ledger.commit(Durability.LEDGER)

    assert notes(tmp_path) == ["a", "b"]
    assert segments(tmp_path) == [".seg", ".seg"], "the failed descriptor was not used again"


def test_a_manifest_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise durable.as_storage_error(OSError(errno.ENOSPC, "No space left on device"), "m", "write")

    monkeypatch.setattr(room, "put_manifest", refuse)
    session = Project(tmp_path).session("t", {"a": 1})
    with pytest.warns(TrackerWarning, match="the run is recorded, `tracker rebuild` makes its manifest"):
        session.done()
    assert session.is_done()


def test_a_seal_refused_at_exit_is_a_warning_and_the_journal_stands(tmp_path):
    script = """
import errno, os, sys
from tracker import Project
from tracker._disk import durable
Project(sys.argv[1]).session("t", {"a": 1}).start()
def refuse(*_, **__):
    raise durable.as_storage_error(OSError(errno.EROFS, "read-only"), "x", "publish")
durable.publish = refuse
"""
    said = run_script(script, tmp_path)

    assert "not sealed at exit" in said.stderr
    assert segments(tmp_path) == [".open"]
    assert len(reference.read_store(tmp_path)["runs"]) == 1


@pytest.mark.parametrize("call", ["open_root", "open_folder_fd", "list_files", "stat_path"])
def test_what_the_system_refuses_a_reader_is_a_storage_error(tmp_path, monkeypatch, call):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    ledger.close()
    if not hasattr(durable, call):
        pytest.skip("the disk has no such verb")

    class Denying(Refusing):
        def __getattr__(self, name: str) -> Any:
            if name not in ("open", "stat", "listdir", "scandir"):
                return getattr(os, name)

            def call(*_: Any, **__: Any) -> Any:
                raise PermissionError(errno.EACCES, "Permission denied")

            return call

    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", Denying())
        with pytest.raises(StorageError, match="Permission denied"):
            ledger.find()
    assert len(ledger.find()) == 1


# Threads


def test_eight_threads_of_fifty_runs_lose_none(tmp_path):
    project = Project(tmp_path, durability=Durability.OFF)
    failures: list[BaseException] = []
    gate = threading.Barrier(8)

    def work(worker: int) -> None:
        try:
            gate.wait()
            for number in range(50):
                session = project.session("t", {"worker": worker, "n": number}).start()
                session.path("f").write_text(f"{worker} {number}")
                assert session.status is Status.RUNNING
                session.done()
                assert session.is_done()
                assert project.session("t", {"worker": worker, "n": number}).is_done()
        except BaseException as error:
            failures.append(error)

    crowd = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert failures == []
    runs = reference.read_store(tmp_path)["runs"]
    assert len(runs) == 400
    assert {run["status"] for run in runs} == {"done"}
    assert {len(run["attempts"]) for run in runs} == {1}
    assert findings(tmp_path) == []
    project.ledger.close()
    assert len(project.find()) == 400


def test_threads_that_start_one_run_begin_it_once(tmp_path):
    project = Project(tmp_path)
    gate, refused, started = threading.Barrier(8), [], []

    def work() -> None:
        session = project.session("t", {"a": 1})
        gate.wait()
        try:
            started.append(session.start())
        except RuntimeError as error:
            refused.append(error)

    crowd = [threading.Thread(target=work) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert (len(started), len(refused)) == (1, 7)
    assert len(project.session("t", {"a": 1}).run.attempts) == 1


# Forks


def in_child(work: Callable[[], None]) -> None:
    """Run in a forked child, which leaves without its parent's exit handlers but for ours."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            room._close_all()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_is_another_writer_and_nothing_of_either_is_lost(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("parent 0"))
    parent = ledger.writer

    def child() -> None:
        assert ledger.writer is None
        assert [text for run in ledger.find() for text in run.notes] == ["parent 0"]
        ledger.append(note("child 0"))
        assert ledger.writer not in (None, parent)
        assert [text for run in ledger.find() for text in run.notes] == ["parent 0", "child 0"]
        ledger.append(note("child 1"))

    in_child(child)
    ledger.append(note("parent 1"))

    assert ledger.writer == parent
    assert notes(tmp_path) == ["parent 0", "child 0", "child 1", "parent 1"]
    assert findings(tmp_path) == []


def test_children_of_one_parent_write_at_once(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("parent"))
    pids = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for number in range(25):
                    ledger.append(note(f"{child} {number}"))
                room._close_all()
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)

    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert sorted(notes(tmp_path)) == sorted(["parent", *(f"{c} {n}" for c in range(4) for n in range(25))])
    assert findings(tmp_path) == []
    assert len(segments(tmp_path)) == 5


def test_a_child_forked_while_another_thread_writes_does_not_hang(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("first"))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            ledger.append(note("busy"))
            time.sleep(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(10):
            in_child(lambda number=number: ledger.append(note(f"child {number}")))
    finally:
        stop.set()
        thread.join()

    assert {f"child {number}" for number in range(10)} <= set(notes(tmp_path))
    assert "fork" not in findings(tmp_path)


# The dead


def killed_writer(root: Path, *texts: str) -> None:
    script = f"""
import os, signal, sys
from tracker._model.event import Noted
from tracker.ledger import open_ledger
from pathlib import Path
ledger = open_ledger(Path(sys.argv[1]))
for text in sys.argv[2:]:
    ledger.append(lambda _: [Noted({RUN!r}, text)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    run_script(script, root, *texts, check=False)


def test_the_first_event_publishes_what_dead_writers_left_and_drops_ghosts(tmp_path):
    killed_writer(tmp_path, "a", "b")
    other = Ledger(tmp_path)
    other.append(note("c"))
    (live,) = [path for path in (tmp_path / ".tracker").glob("ledger/*/*.open") if other.writer in path.name]
    ghost = live.read_bytes()
    other.close()
    live.write_bytes(ghost)
    assert segments(tmp_path) == [".open", ".part", ".seg"]
    ledger = open_ledger(tmp_path)
    assert [text for run in ledger.find() for text in run.notes] == ["a", "b", "c"]
    assert segments(tmp_path) == [".open", ".part", ".seg"], "reading writes nothing"
    ledger.append(note("d"))

    assert [path.name for path in (tmp_path / ".tracker").glob("ledger/*/*.open")] == [
        f"{ledger.writer}-0.open"
    ]
    assert notes(tmp_path) == ["a", "b", "c", "d"]


def test_a_start_supersedes_what_a_dead_writer_ran_and_not_what_a_living_one_runs(tmp_path):
    script = """
import os, signal, sys
from tracker import Project
Project(sys.argv[1]).session("t", {"a": 1}).start()
print("started", flush=True)
sys.stdin.read()
"""
    living = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert living.stdout.readline() == "started\n"
    (first,) = Project(tmp_path).session("t", {"a": 1}).run.attempts
    shutil.rmtree(tmp_path / ".tracker/claims")
    session = Project(tmp_path).session("t", {"a": 1}).start()
    assert [attempt.supersedes for attempt in session.run.attempts] == [[], []]
    session.error()
    living.kill()
    living.communicate()
    session.start()

    assert [attempt.head for attempt in session.run.attempts] == [False, False, True]
    assert set(session.run.attempts[2].supersedes) == {first.id, session.run.attempts[1].id}


def test_a_writer_that_wrongly_was_taken_for_dead_loses_nothing(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    (live,) = (tmp_path / ".tracker").glob("ledger/*/*.open")
    data = live.read_bytes()
    live.with_name(f"{ledger.writer}-0-{reference.blake3(data).hexdigest()[:16]}.part").write_bytes(data)
    live.unlink()
    ledger.append(note("b"))
    ledger.commit(Durability.OFF)
    ledger.append(note("c"))
    ledger.close()

    assert notes(tmp_path) == ["a", "b", "c"]
    assert findings(tmp_path) == []


# The tree moves


@pytest.mark.unchecked_store("its root moves")
def test_a_tree_renamed_under_a_living_process_loses_nothing_and_no_ghost_of_it_appears(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    ledger = open_ledger(old)
    ledger.append(note("a"))
    ledger.commit(Durability.FULL)
    ledger.append(note("b"))
    old.rename(new)
    ledger.append(note("c"))
    ledger.commit(Durability.FULL)
    ledger.put_object(b"x")
    ledger.append(note("d"))

    assert notes(new) == ["a", "b", "c", "d"]
    assert [text for run in ledger.find() for text in run.notes] == ["a", "b", "c", "d"]
    ledger.close()
    assert notes(new) == ["a", "b", "c", "d"]
    assert segments(new) == [".seg", ".seg"]
    assert not old.exists()
    assert findings(new) == []


@pytest.mark.unchecked_store("its root moves")
def test_the_root_of_a_tree_that_moved_is_not_found_and_not_made_again(tmp_path):
    ledger = open_ledger(tmp_path / "old")
    ledger.append(note("a"))
    ledger.root_fd()
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(NotFoundError, match="it was moved or removed: open a Project on its new place"):
        ledger.root_fd()
    assert not (tmp_path / "old").exists()


@pytest.mark.unchecked_store("its root moves")
def test_another_tree_in_the_place_of_one_that_moved_is_not_written_to(tmp_path):
    old = tmp_path / "old"
    ledger = open_ledger(old)
    ledger.append(note("a"))
    old.rename(tmp_path / "new")
    other = Ledger(old)
    other.append(note("other"))
    other.close()
    ledger.append(note("b"))
    ledger.close()

    assert notes(tmp_path / "new") == ["a", "b"]
    assert notes(old) == ["other"]


@pytest.mark.unchecked_store("it is removed")
def test_a_tree_removed_under_a_living_process_is_an_error_and_no_ghost_of_it_appears(tmp_path):
    ledger = open_ledger(tmp_path / "old")
    ledger.append(note("a"))
    ledger.commit(Durability.OFF)
    ledger.append(note("b"))
    shutil.rmtree(tmp_path / "old")
    with pytest.raises(StorageError):
        ledger.commit(Durability.LEDGER)
    with pytest.raises(StorageError):
        ledger.close()
    assert not (tmp_path / "old").exists()
    ledger.append(note("c"))
    assert notes(tmp_path / "old") == ["c"]


@pytest.mark.unchecked_store("a part of it is gone")
def test_a_store_rolled_back_under_the_process_that_wrote_it_is_read_as_it_lies(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.append(note("a"))
    ledger.commit(Durability.FULL)
    (sealed,) = (tmp_path / ".tracker").glob("ledger/*/*.seg")
    sealed.unlink()

    assert [text for run in ledger.find() for text in run.notes] == notes(tmp_path)


# Look-ups


def test_events_come_in_order_and_of_the_runs_asked_for(tmp_path):
    ledger = open_ledger(tmp_path)
    other = RunRef(f"u/{'1' * 32}")
    ledger.append(lambda _: [Created(RUN, "{}", None, "prefix"), Noted(other, "1")])
    ledger.append(note("2"))

    assert [event for _, event in ledger.events()] == [
        Created(RUN, "{}", None, "prefix"),
        Noted(other, "1"),
        Noted(RUN, "2"),
    ]
    assert [event for _, event in ledger.events(Filter(identifier="u"))] == [Noted(other, "1")]


def test_the_number_that_a_refresh_gives_moves_when_an_answer_may_have_changed(tmp_path):
    ledger = open_ledger(tmp_path)
    before = ledger.refresh()
    ledger.append(note("a"))
    after = ledger.refresh()
    assert after != before
    assert ledger.refresh() == after
    other = Ledger(tmp_path)
    other.append(note("b"))
    assert ledger.refresh() != after
    other.close()


def test_a_miss_is_of_this_moment_and_a_hit_may_be_a_tenth_of_a_second_old(tmp_path):
    project = Project(tmp_path)
    script = "import sys; from tracker import Project; Project(sys.argv[1]).session('t', {'a': 1}).done()"
    session = project.session("t", {"a": 1})
    assert not session.is_done()
    run_script(script, tmp_path)

    assert session.is_done()
    assert session.is_done()


@pytest.mark.parametrize("kind", ["identifier", "namespace"])
def test_a_second_spelling_of_a_recorded_name_is_refused_with_the_first(tmp_path, kind):
    project = Project(tmp_path)
    if kind == "identifier":
        project.session("Étude", {"a": 1}).start()
        session = project.session("E\u0301TUDE", {"a": 1})
    else:
        project.sub("grid/Étude").session("t", {"a": 1}).start()
        session = project.sub("Grid/Étude").session("t", {"a": 1})
    for refused in (session.start, session.done, lambda: session.attach_files({"x": "y"})):
        with pytest.raises(NameRefusedError, match="is one name with") as caught:
            refused()
        assert caught.value.what == kind
    assert len(project.ledger.find()) == 1


def test_this_process_is_the_owner_that_its_segments_name(tmp_path):
    ledger = open_ledger(tmp_path)
    appended = ledger.append(note("a"))
    me = host.this_process()

    assert (appended.opened.pid, appended.opened.host, appended.opened.boot) == (
        os.getpid(),
        me.host,
        me.boot,
    )
