"""Claims: one worker at a time, whoever is killed, stopped, copied or on another host.

The judge is `spec/reference.py --claims`, which asks no process and no clock, and other processes.

Spec: spec/claims.md.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import reference

from tracker import (
    ClaimedError,
    Durability,
    Project,
    StateError,
    Status,
    StorageError,
    TrackerWarning,
    claiming,
    interrupts,
)
from tracker import watch as watches
from tracker._disk import durable, host
from tracker._model.claim import FoundClaim, Holder, Standing, decode_holder, encode_holder, judge
from tracker._model.event import Batch
from tracker._model.names import claim_path, parse_claim_path, parse_holder_path
from tracker._store import claims as rooms
from tracker.errors import DamagedError
from tracker.ledger import Ledger
from tracker.project import Project as AnyProject
from tracker.terms import RunRef

PARAMS = {"lr": 0.1}


def state(project: AnyProject) -> dict[str, Any]:
    (run,) = reference.read_store(project.root)["runs"]
    return run


def words(project: AnyProject) -> list[tuple[int, str]]:
    return [(claim["number"], claim["word"]) for claim in reference.claims(project.root)]


PREAMBLE = """
import os, signal, sys, time
from msgspec.structs import replace
import tracker
from tracker import Project, claiming, watch
from tracker._disk import host
def elsewhere(name):
    here = host.this_process()
    host.this_process = lambda: replace(here, host=name, boot=name)
root = sys.argv[1]
session = Project(root).session("train", {"lr": 0.1})
def tell(*words):
    print(*words, flush=True)
def hear():
    return sys.stdin.readline()
"""


@contextmanager
def worker(project: AnyProject, code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(project.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def elsewhere(monkeypatch: pytest.MonkeyPatch, name: str = "node9") -> None:
    """Make this process one of another host, which no pid check reaches."""
    from msgspec.structs import replace

    here = host.this_process()
    monkeypatch.setattr(host, "this_process", lambda: replace(here, host=name, boot=name))


HOLDS = """
session.start(); tell("started"); hear()
session.done(); tell("done"); hear()
"""

HOLDS_ELSEWHERE = """
claiming.LEASE_S, claiming.RENEW_S = 0.6, 0.1
elsewhere("node7"); session.start(); tell("started"); hear()
tell(session.lost, session.should_stop); hear()
session.done(); tell("done")
"""


# Taking and giving back


def test_a_run_that_is_executed_is_claimed_under_the_number_of_its_attempt(store: Project) -> None:
    session = store.session("train", PARAMS).start()

    assert words(store) == [(1, "held")]
    assert state(store)["attempts"][0]["claim"] == 1
    (claim,) = reference.claims(store.root)
    assert (claim["run"], claim["holder"]["pid"], claim["holder"]["lease_s"]) == (
        session.ref,
        os.getpid(),
        300.0,
    )
    assert session.lost is False


def test_a_claim_is_a_link_to_the_holder_s_file(store: Project) -> None:
    store.session("train", {"a": 1}).start()
    store.session("train", {"a": 2}).start()
    folder = store.root / ".tracker/claims"
    (holder,) = folder.glob("*.holder")

    assert {path.stat().st_ino for path in folder.glob("*/*")} == {holder.stat().st_ino}
    assert holder.stat().st_nlink == 3
    assert holder.name == f"{store.ledger.writer}.holder"


@pytest.mark.parametrize("end", ["done", "error", "interrupt"])
def test_an_end_gives_the_claim_back(store: Project, end: str) -> None:
    session = store.session("train", PARAMS).start()
    getattr(session, end)()

    assert words(store) == []
    session.start()
    assert words(store) == [(2, "held")]


def test_leaving_a_block_gives_the_claim_back_however_it_is_left(store: Project) -> None:
    with store.session("train", PARAMS):
        assert words(store) == [(1, "held")]
    with pytest.raises(KeyError), store.session("train", {"lr": 1}):
        raise KeyError

    assert words(store) == []


def test_closing_gives_every_claim_back_and_the_holder_s_file(store: Project) -> None:
    store.session("train", {"a": 1}).start()
    store.session("train", {"a": 2}).claim()
    store.ledger.close()

    assert [path for path in (store.root / ".tracker/claims").rglob("*") if path.is_file()] == []


def test_a_look_up_and_a_session_make_no_claims(store: Project) -> None:
    store.session("train", PARAMS)
    store.has("train", PARAMS)
    store.session("train", {"a": 1}).done()

    assert not (store.root / ".tracker/claims").exists()
    assert state(store)["attempts"][0]["claim"] == 0


def test_a_claim_that_is_taken_and_given_back_records_nothing(store: Project) -> None:
    session = store.session("train", PARAMS)
    assert session.claim() is True
    assert words(store) == [(1, "held")]
    assert session.claim() is False
    session.release()

    assert words(store) == []
    assert session.status is Status.PENDING
    assert reference.read_store(store.root)["runs"] == []


@pytest.mark.parametrize("use", ["start", "done", "with"])
def test_a_claim_that_was_taken_before_is_used(store: Project, use: str) -> None:
    session = store.session("train", PARAMS)
    session.claim()
    if use == "start":
        session.start().done()
    elif use == "done":
        session.done()
    else:
        with session:
            session.release()  # a run that was started keeps its claim
            assert words(store) == [(1, "held")]

    assert (state(store)["status"], state(store)["attempts"][0]["claim"]) == ("done", 1)
    assert words(store) == []


def test_a_done_run_is_not_started_by_try_start_and_is_by_start(store: Project) -> None:
    session = store.session("train", PARAMS).done()
    assert session.try_start() is False
    assert words(store) == []
    session.start()

    assert [attempt["claim"] for attempt in state(store)["attempts"]] == [0, 1]


def test_this_process_does_not_start_a_run_twice(store: Project) -> None:
    session = store.session("train", PARAMS)
    assert session.try_start() is True
    assert session.try_start() is False
    assert store.session("train", PARAMS).try_start() is False
    with pytest.raises(StateError):
        store.session("train", PARAMS).start()


def test_a_started_run_may_be_entered_and_a_block_not_twice(store: Project) -> None:
    session = store.session("train", PARAMS)
    if session.try_start():
        with session:
            assert session.status is Status.RUNNING
            with pytest.raises(StateError):
                session.__enter__()
    assert session.is_done()
    with session.start(), pytest.raises(StateError):
        store.session("train", PARAMS).__enter__()

    assert [attempt["status"] for attempt in state(store)["attempts"]] == ["done", "done"]


def test_an_interruption_says_which_signal_was_heard(store: Project) -> None:
    told = listening(store, "session.start(); os.kill(os.getpid(), signal.SIGUSR1); session.interrupt()")

    assert told.returncode == 0, told.stderr
    assert state(store)["attempts"][0]["interrupt"]["signal"] == "SIGUSR1"


def test_attaching_claims_the_attempt_that_it_begins(store: Project) -> None:
    session = store.session("train", PARAMS).attach_files({"log": store.root / "log"})
    assert words(store) == [(1, "held")]
    assert session.try_start() is True
    session.done()

    assert [attempt["claim"] for attempt in state(store)["attempts"]] == [1]
    assert words(store) == []


def test_a_refused_start_gives_the_claim_back(store: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    session = store.session("train", PARAMS)

    def refuse(*_: object) -> None:
        raise StorageError(28, "x", "write", "No space left on device", "free space")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", refuse)
        with pytest.raises(StorageError):
            session.start()

    assert words(store) == []
    assert session.status is Status.PENDING
    session.start().done()


def test_threads_of_one_process_start_a_run_once(store: Project) -> None:
    started: list[bool] = []
    gate = threading.Barrier(8)

    def start() -> None:
        session = store.session("train", PARAMS)
        gate.wait()
        started.append(session.try_start())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(started) == [False] * 7 + [True]


# Others


def test_another_process_is_told_who_executes_the_run(store: Project) -> None:
    with worker(store, HOLDS) as holder:
        assert hear(holder) == "started"
        session = store.session("train", PARAMS)
        assert session.status is Status.RUNNING
        assert session.try_start() is False
        with pytest.raises(ClaimedError, match=f"pid {holder.pid} since 20.*; wait for its end") as caught:
            session.start()
        assert caught.value.run == session.ref
        assert abs(caught.value.since_ms - time.time() * 1000) < 60_000  # type: ignore[operator]
        with pytest.raises(ClaimedError):
            session.attach_files({"log": store.root / "log"})
        tell(holder)
        assert hear(holder) == "done"
        assert session.try_start() is False, "it is done"
        assert session.is_done()
    assert len(state(store)["attempts"]) == 1


def test_a_killed_holder_s_run_is_lost_and_taken_over_at_once(store: Project) -> None:
    with worker(store, HOLDS) as holder:
        assert hear(holder) == "started"
        holder.kill()
        holder.wait()
        session = store.session("train", PARAMS)
        assert session.status is Status.LOST
        assert [found.status for found in store.find(status="lost")] == [Status.LOST]
        assert store.find(status="running") == []
        assert session.try_start() is True
    first, second = state(store)["attempts"]

    assert (first["status"], first["claim"], second["claim"]) == ("lost", 1, 2)
    assert second["supersedes"] == [first["id"]]
    assert words(store) == [(2, "held")]
    assert session.status is Status.RUNNING


def test_a_holder_elsewhere_is_left_alone_within_its_lease(
    store: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(store, HOLDS_ELSEWHERE.replace("0.6, 0.1", "300.0, 0.1")) as holder:
        assert hear(holder) == "started"
        holder.kill()
        holder.wait()
        session = store.session("train", PARAMS)

        assert session.status is Status.RUNNING
        assert session.try_start() is False


def test_a_heartbeat_keeps_a_run_beyond_the_lease(store: Project) -> None:
    with worker(store, HOLDS_ELSEWHERE) as holder:
        assert hear(holder) == "started"
        time.sleep(1.5)
        session = store.session("train", PARAMS)

        assert session.status is Status.RUNNING
        assert session.try_start() is False


def test_a_holder_that_is_stopped_beyond_its_lease_loses_the_run_and_is_told(store: Project) -> None:
    with worker(store, HOLDS_ELSEWHERE) as holder:
        assert hear(holder) == "started"
        holder.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        session = store.session("train", PARAMS)
        assert session.status is Status.LOST
        assert session.try_start() is True
        holder.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        tell(holder)
        assert hear(holder) == "True True"
        assert words(store) == [(2, "held")]
        tell(holder)
        assert hear(holder) == "done"
        # its end is kept, and counts: it was there first
        assert session.is_done()
        session.done()
    first, second = state(store)["attempts"]

    assert (first["status"], second["status"], first["head"], second["head"]) == ("done", "done", True, True)
    assert state(store)["canonical"] == first["id"]


def test_two_that_take_over_at_once_get_it_once(store: Project) -> None:
    code = """
    tell("ready"); hear()
    tell(session.try_start()); hear()
    """
    with worker(store, HOLDS) as holder:
        assert hear(holder) == "started"
        holder.kill()
        holder.wait()
    with worker(store, code) as one, worker(store, code) as two, worker(store, code) as three:
        rivals = (one, two, three)
        assert [hear(rival) for rival in rivals] == ["ready"] * 3
        for rival in rivals:
            tell(rival)

        assert sorted(hear(rival) for rival in rivals) == ["False", "False", "True"]


def test_a_forked_child_holds_none_of_its_parent_s_claims(store: Project) -> None:
    session = store.session("train", PARAMS).start()
    pid = os.fork()
    if pid == 0:
        mine = store.session("train", PARAMS)
        code = int(mine.try_start()) + 2 * int(bool(store.ledger._claims.held))
        store.ledger.end()
        os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert words(store) == [(1, "held")]
    assert session.lost is False
    assert state(store)["status"] == "running"


# Copies


def test_a_copied_tree_s_claims_hold_nobody_up(store: Project, tmp_path: Path) -> None:
    store.session("train", PARAMS).start()
    subprocess.run(["rsync", "-aH", f"{store.root}/", f"{tmp_path}/copy/"], check=True)
    copy = Project(tmp_path / "copy")

    assert words(copy) == [(1, "copied")]
    assert copy.session("train", PARAMS).status is Status.RUNNING, "it does run, elsewhere"
    assert copy.session("train", PARAMS).try_start() is True
    assert words(copy) == [(2, "held")]


def test_a_released_claim_that_a_copy_brings_back_is_spent(store: Project, tmp_path: Path) -> None:
    session = store.session("train", PARAMS).start()
    subprocess.run(["rsync", "-a", f"{store.root}/", f"{tmp_path}/copy/"], check=True)
    session.error()
    subprocess.run(["rsync", "-a", f"{tmp_path}/copy/", f"{store.root}/"], check=True)

    assert words(store) == [(1, "spent")]
    assert store.session("train", PARAMS).try_start() is True
    assert words(store) == [(2, "held")]


def test_a_copy_pushed_over_the_holder_s_file_takes_no_claim_away(store: Project, tmp_path: Path) -> None:
    store.session("train", {"a": 1}).start()
    subprocess.run(["rsync", "-a", f"{store.root}/", f"{tmp_path}/copy/"], check=True)
    store.ledger._claims.renew()
    subprocess.run(["rsync", "-a", f"{tmp_path}/copy/", f"{store.root}/"], check=True)
    session = store.session("train", {"a": 2}).start()

    assert session.lost is False
    assert [claim["word"] for claim in reference.claims(store.root)] == ["held", "held"]


def test_a_higher_claim_that_a_copy_brings_takes_nothing_away(store: Project, tmp_path: Path) -> None:
    session = store.session("train", PARAMS).start()
    subprocess.run(["rsync", "-a", f"{store.root}/", f"{tmp_path}/copy/"], check=True)
    with worker(Project(tmp_path / "copy"), HOLDS) as other:
        assert hear(other) == "started"
        subprocess.run(["rsync", "-a", f"{tmp_path}/copy/", f"{store.root}/"], check=True)
        assert [number for number, _ in words(store)] == [1, 2]

        assert session.lost is False
    session.done()


def test_a_claims_folder_that_is_deleted_is_made_anew(store: Project) -> None:
    one = store.session("train", {"a": 1}).start()
    shutil.rmtree(store.root / ".tracker/claims")
    two = store.session("train", {"a": 2}).start()

    assert one.lost is True
    assert two.lost is False
    with pytest.warns(TrackerWarning, match="taken over by another worker"):
        one.done()
    two.done()
    assert [run["status"] for run in reference.read_store(store.root)["runs"]] == ["done", "done"]


# A file system without hard links


def test_without_hard_links_a_claim_is_an_exclusive_file(
    store: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    session = store.session("train", PARAMS).start()
    (claim,) = (store.root / ".tracker/claims").glob("*/*")
    assert (claim.stat().st_nlink, words(store)) == (1, [(1, "held")])
    os.utime(claim, (1, 1))
    store.ledger.renew_claims()
    assert claim.stat().st_mtime > 1, "each is touched"
    with worker(store, "tell(session.try_start())") as other:
        assert hear(other) == "False"
    session.done()

    assert words(store) == []


# A network file system


def test_on_a_network_file_system_the_end_is_synced_before_the_claim_is_given_back(
    store: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "is_network_fs", lambda _: True)
    fast = Project(store.root, durability=Durability.OFF)
    fast.session("train", {"a": 1}).start().done()  # seals; the next is within ten seconds
    calls: list[str] = []
    sync_data, unlink = durable.sync_data, durable.unlink_if_there
    monkeypatch.setattr(durable, "sync_data", lambda fd: (calls.append("sync"), sync_data(fd))[1])
    monkeypatch.setattr(
        durable, "unlink_if_there", lambda path, fd: (calls.append(path), unlink(path, fd))[1]
    )
    fast.session("train", {"a": 2}).start().done()

    (released,) = [
        number for number, call in enumerate(calls) if call.startswith("claims/") and call[-2:] == ".1"
    ]
    assert calls[:released] == ["sync"]


def test_on_a_network_file_system_a_reader_waits_for_a_later_heartbeat_or_a_day(
    store: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(store, HOLDS_ELSEWHERE) as holder:
        assert hear(holder) == "started"
        holder.kill()
        holder.wait()
    time.sleep(0.8)
    seen = store.session("train", PARAMS)
    assert seen.status is Status.LOST, "on a local one this host's clock is the server's"
    monkeypatch.setattr(host, "is_network_fs", lambda _: True)
    assert seen.status is Status.RUNNING
    folder = store.root / ".tracker/claims"
    (folder / f"{'f' * 32}.holder").write_bytes(b"")  # somebody else gives a sign of life

    assert seen.status is Status.LOST


# Signals


def listening(store: Project, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(store.root)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_sigusr1_is_absorbed_and_recorded_at_once_by_the_thread_beside(store: Project) -> None:
    told = listening(
        store,
        """
        session.start()
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while session.status != "interrupted" and time.monotonic() < deadline:
            time.sleep(0.01)
        tell(session.should_stop, session.status)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )

    assert (told.stdout, told.returncode) == ("True interrupted\n", -signal.SIGKILL)
    (attempt,) = state(store)["attempts"]
    assert attempt["interrupt"] == {"signal": "SIGUSR1", "restarts": 0}


def test_a_run_that_goes_on_after_sigusr1_is_done_in_the_end(store: Project) -> None:
    told = listening(
        store,
        """
        watch.GRACE_S = 0.0
        with session:
            os.kill(os.getpid(), signal.SIGUSR1)
            while session.status != "interrupted":
                time.sleep(0.01)
        """,
    )

    assert told.returncode == 0, told.stderr
    assert state(store)["status"] == "done"


def test_sigterm_ends_the_block_and_is_recorded_once(store: Project) -> None:
    told = listening(
        store,
        """
        with session:
            session.path("out").write_text("x")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        """,
    )

    assert told.returncode == 143
    (attempt,) = state(store)["attempts"]
    assert (attempt["status"], attempt["interrupt"]["signal"]) == ("interrupted", "SIGTERM")
    assert [file[0] for file in attempt["files"]] == ["out"]
    assert words(store) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_handler_that_the_program_had_set_is_called_too(store: Project, name: str) -> None:
    told = listening(
        store,
        f"""
        signal.signal(signal.{name}, lambda *_: tell("heard"))
        session.start()
        os.kill(os.getpid(), signal.{name})
        tell(session.should_stop)
        session.interrupt("{name}")
        """,
    )

    assert (told.stdout, told.returncode) == ("heard\nTrue\n", 0)


def test_a_process_that_ends_without_an_end_declares_its_run_lost(store: Project) -> None:
    told = listening(store, "session.start(); raise KeyError('gone')")

    assert told.returncode == 1
    assert state(store)["status"] == "lost"
    assert words(store) == []
    assert store.session("train", PARAMS).try_start() is True


# Batch jobs


def slurm(job: str, restarts: int) -> dict[str, str]:
    return {"SLURM_JOB_ID": job, "SLURM_RESTART_COUNT": str(restarts), "SLURM_ARRAY_TASK_ID": "4"}


def test_slurm_s_ids_are_those_of_the_job() -> None:
    assert host.batch_of(slurm("17", 2) | {"SLURM_ARRAY_JOB_ID": "9"}) == Batch("slurm", "17", "9", "4", 2)
    assert host.batch_of({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "x"}) == Batch(
        "slurm", "17", None, None, 0
    )
    assert host.batch_of({}) is None


@pytest.mark.parametrize(
    ("job", "restarts", "goes_on"), [("17", 1, True), ("17", 0, False), ("18", 1, False)]
)
def test_a_requeued_job_goes_on_at_once(store: Project, job: str, restarts: int, goes_on: bool) -> None:
    def start(environment: dict[str, str], name: str) -> str:
        code = f'elsewhere("{name}"); tell(session.try_start()); os.kill(os.getpid(), signal.SIGKILL)'
        told = subprocess.run(
            [sys.executable, "-c", PREAMBLE + code, str(store.root)],
            env=os.environ | environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return told.stdout.strip()

    assert start(slurm("17", 0), "node1") == "True"
    assert start(slurm(job, restarts), "node2") == str(goes_on)
    if goes_on:
        first, second = state(store)["attempts"]
        assert (first["status"], second["supersedes"]) == ("lost", [first["id"]])


# LOST, for a reader


def test_a_run_of_another_host_without_a_claim_is_lost_after_a_day_without_a_sign(
    store: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.session("train", PARAMS).start()
    store.ledger.seal()
    copy = shutil.copytree(store.root, tmp_path / "copy", ignore=shutil.ignore_patterns("claims"))
    elsewhere(monkeypatch)
    seen = Project(copy)
    assert seen.session("train", PARAMS).status is Status.RUNNING
    now = host.now_ms()
    monkeypatch.setattr(host, "now_ms", lambda: now + 25 * 3600 * 1000)

    assert seen.session("train", PARAMS).status is Status.LOST


def test_reading_lost_writes_nothing(store: Project) -> None:
    with worker(store, HOLDS) as holder:
        assert hear(holder) == "started"
        holder.kill()
        holder.wait()
    before = sorted(path.relative_to(store.root) for path in store.root.rglob("*"))
    assert Project(store.root).session("train", PARAMS).status is Status.LOST

    assert sorted(path.relative_to(store.root) for path in store.root.rglob("*")) == before


# What a claim is worth, by the table


HOLDER = Holder(1, "a" * 32, "node1", "ada", "boot", 1, 7, 1, None, 0, 300.0, 5)  # type: ignore[arg-type]
JOB = Batch("slurm", "1", None, None, 0)


@pytest.mark.parametrize(
    ("holder", "folder", "batch", "is_gone", "age_s", "want"),
    [
        (HOLDER, 5, None, False, 9e9, Standing.LIVE),
        (HOLDER, 5, None, True, 0, Standing.GONE),
        (HOLDER, 6, None, False, 0, Standing.COPIED),
        (HOLDER, 5, None, None, 299, Standing.LIVE),
        (HOLDER, 5, None, None, 301, Standing.SILENT),
        (HOLDER, 5, None, None, None, Standing.LIVE),
        (HOLDER, 5, None, None, -1e6, Standing.LIVE),
        (None, 5, None, None, 299, Standing.LIVE),
        (None, 5, None, None, 301, Standing.SILENT),
    ],
)
def test_the_standing_of_a_claim(
    holder: Holder | None,
    folder: int,
    batch: Batch | None,
    is_gone: bool | None,
    age_s: float | None,
    want: Standing,
) -> None:
    now_ns = None if age_s is None else int((1e6 + age_s) * 1e9)
    claim = FoundClaim(1, 1, int(1e15), holder)

    assert judge(claim, folder=folder, batch=batch, is_gone=is_gone, now_ns=now_ns) is want


def test_names_of_claims_are_read_back() -> None:
    ref = RunRef("grid/train/" + "ab" * 16)
    path = claim_path(ref, 12)
    name = parse_claim_path(path)

    assert name is not None
    assert (name.uid, name.number) == ("ab" * 16, 12)
    assert name.ref16 == reference.blake3(ref.encode()).hexdigest()[:16]
    assert path.removeprefix("claims/") == f"{reference.claim_stem(ref)}.12"
    for other in (f"{path}x", path.replace(".12", ".012"), path.replace(".12", ".0"), f"/{path}"):
        assert parse_claim_path(other) is None
    assert parse_holder_path(f"claims/{'a' * 32}.holder") == "a" * 32
    assert parse_holder_path(f"claims/{'A' * 32}.holder") is None


def test_a_holder_is_one_line_of_json_that_anyone_reads(store: Project) -> None:
    store.session("train", PARAMS).start()
    (path,) = (store.root / ".tracker/claims").glob("*.holder")
    data = path.read_bytes()

    assert data.count(b"\n") == 1
    assert encode_holder(decode_holder(data)) == data
    assert json.loads(data)["folder"] == (store.root / ".tracker/claims").stat().st_ino
    newer = json.dumps(json.loads(data) | {"newer": 1}).encode()
    assert decode_holder(newer) == decode_holder(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff", b'{"format":"x"}', b"[" * 10_000])
def test_other_bytes_are_no_holder(store: Project, data: bytes) -> None:
    with pytest.raises(DamagedError, match=r"spec/claims\.md section 4"):
        decode_holder(data)
    path = store.root / ".tracker" / claim_path(store.session("train", PARAMS).ref, 1)
    store.session("x", {}).done()
    path.parent.mkdir(parents=True)
    path.write_bytes(data)

    assert store.session("train", PARAMS).try_start() is False, "its heartbeat is young"
    os.utime(path, (1, 1))
    assert store.session("train", PARAMS).try_start() is True


# The thread beside


def test_the_thread_renews_and_costs_nothing_between(store: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "RENEW_S", 0.05)
    touched: list[float] = []
    real = durable.touch
    monkeypatch.setattr(durable, "touch", lambda fd: (touched.append(time.monotonic()), real(fd))[1])
    store.session("train", PARAMS).start()
    time.sleep(0.6)

    assert 5 <= len(touched) <= 14


def test_no_thread_outlives_its_ledger(store: Project) -> None:
    store.session("train", PARAMS).start()
    store.ledger.close()
    deadline = time.monotonic() + 5
    while (
        any(thread.name == "tracker-watch" for thread in threading.enumerate())
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)

    assert [thread for thread in threading.enumerate() if thread.name == "tracker-watch"] == []
    assert watches.GRACE_S > 0
    assert interrupts.signal_name() is None


def test_a_dead_process_s_holder_file_is_dropped_by_the_next(store: Project) -> None:
    with worker(store, HOLDS) as holder:
        assert hear(holder) == "started"
        holder.kill()
        holder.wait()
    store.session("train", {"other": 1}).start()

    assert [path.name for path in (store.root / ".tracker/claims").glob("*.holder")] == [
        f"{store.ledger.writer}.holder"
    ]
    assert rooms.claim_numbers(store.ledger.lookup.store_fd, store.session("train", PARAMS).ref) == [1]
    assert store.session("train", PARAMS).status is Status.LOST
