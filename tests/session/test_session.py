"""One run while it is written: paths, files, ends, and what another handle, process or disk makes of it.

Spec: spec/layout.md section 4; spec/events.md sections 3 and 4; spec/log.md section 8.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3

from tracker import (
    DamagedError,
    Durability,
    ExistingRun,
    NameRefusedError,
    NotFoundError,
    Project,
    Session,
    StateError,
    Status,
    StorageError,
    StorageMode,
    interrupts,
)
from tracker import ledger as ledgers
from tracker._disk import durable
from tracker._store import journal, sealing
from tracker._store.objects import get_object

PARAMS = {"lr": 0.1}
UID = reference.uid('{"lr":0.1}')
MODES = [*StorageMode]


def state(session: Session) -> dict[str, Any]:
    """The run as the reference reads it."""
    runs = reference.read_store(session._place.root)["runs"]
    return next(run for run in runs if run["ref"] == session.ref)


def tree(root: Path) -> list[str]:
    """All files and folders below the root but the store's own."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return sorted(path for path in found if not path.startswith(".tracker"))


def manifests(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((root / ".tracker").glob("manifests/*/*.json"))]


# A handle writes nothing


def test_a_handle_writes_nothing_and_is_pending(store):
    session = store.session("train", PARAMS)
    assert (session.status, session.is_done(), session.run, session.files) == (
        Status.PENDING,
        False,
        None,
        {},
    )
    assert (session.identifier, session.uid, session.key) == ("train", UID, UID)
    assert (session.ref, session.relpath, session.storage_mode) == (
        f"train/{UID}",
        Path(),
        StorageMode.SUBFOLDER,
    )
    assert repr(session) == f"<Session train/{UID} in {str(store.root)!r}>"

    assert not store.root.exists()


def test_params_read_back_as_they_were_written_and_anew_each_time(store):
    given = {"b": [1, 2.0, None, True], "a": {"x": "é"}, "n": 2**70, "f": 1.0}
    session = store.session("train", given)
    session.params["b"].append(5)

    assert session.params == given
    assert isinstance(session.params["f"], float)
    assert store.session("train", given, ExistingRun.NEW).params == given
    assert store.session("train").params == {}


# Paths


@pytest.mark.parametrize(
    ("mode", "folder", "want"),
    [
        (
            StorageMode.SUBFOLDER,
            UID,
            [f"{UID}/train_f.pt", f"{UID}/f.pt", f"{UID}/sub/dir/train_f.pt", f"{UID}/params.json"],
        ),
        (
            StorageMode.PREFIX,
            "",
            [f"{UID}_train_f.pt", f"{UID}_f.pt", f"sub/dir/{UID}_train_f.pt", f"{UID}_params.json"],
        ),
    ],
)
@pytest.mark.parametrize("relpath", ["", "grid/a"])
def test_files_lie_where_the_page_says(tmp_path, mode, folder, want, relpath):
    project = Project(tmp_path / "root", relpath, mode)
    session = project.session("train", PARAMS)
    got = [
        session.path("f.pt"),
        session.path(Path("f.pt"), include_identifier=False),
        session.path("sub/dir/f.pt"),
    ]
    base = tmp_path / "root" / relpath

    assert session.folder == base / folder
    assert got == [base / path for path in want[:3]]
    assert all(path.parent.is_dir() for path in got)
    assert (base / want[3]).read_bytes() == b'{"lr":0.1}'
    assert (base / want[3]).stat().st_mode & 0o777 == 0o444 & ~current_umask()
    assert session.status is Status.PENDING


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
@pytest.mark.parametrize("mode", MODES)
def test_b3sum_of_params_json_prints_the_uid_for_repeats_and_without_params_too(tmp_path, mode):
    project = Project(tmp_path, storage_mode=mode)
    sessions = [
        project.session("train", PARAMS),
        project.session("train", PARAMS, ExistingRun.NEW),
        project.session("train", {"é": [1e-7, -0.0]}),
        project.session("train"),
    ]
    for session in sessions:
        path = session.folder / (
            "params.json" if mode == StorageMode.SUBFOLDER else f"{session.uid}_params.json"
        )
        said = subprocess.run(
            ["b3sum", "-l", "16", "--no-names", path], capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == session.uid


BAD_NAMES = [
    *("", ".", "..", "a/..", "../a", "/abs", "a//b", "a/", "/", "a\\b", "a:b", "a?", "a*", 'a"', "a<", "a|"),
    *(
        "a\0",
        "a\n",
        "a\x7f",
        " a",
        "a ",
        "a.",
        ".tracker",
        ".Tracker/x",
        "x/.trackers",
        "con",
        "NUL.txt",
        "com1.x",
    ),
    *("lpt¹", "params.json", "sub/PARAMS.json", "x" * 101, "é" * 51, "\ud800"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_portable_is_refused_and_nothing_is_made(store, name):
    session = store.session("train", PARAMS)
    with pytest.raises(NameRefusedError) as caught:
        session.path(name)

    assert caught.value.what == "file name"
    assert isinstance(caught.value, ValueError)
    assert not store.root.exists()


@pytest.mark.parametrize("name", [5, None, b"f"])
def test_a_name_that_is_no_text_is_refused(store, name):
    with pytest.raises((NameRefusedError, TypeError)):
        store.session("train", PARAMS).path(name)
    assert not store.root.exists()


def test_two_spellings_of_one_name_are_refused_in_one_run(store):
    session = store.session("train", PARAMS)
    session.path("Étude.pt")
    for other in ("étude.pt", "E\u0301tude.pt", "ÉTUDE.PT"):
        with pytest.raises(NameRefusedError, match=r"is one name with 'Étude\.pt'"):
            session.path(other)
    assert session.path("Étude.pt") == session.path("Étude.pt")


def test_a_path_recorded_for_another_identifiers_run_is_refused(store):
    train = store.session("train", PARAMS).start()
    train.path("shared", include_identifier=False).write_text("x")
    train.path("own").write_text("x")
    train.done()
    other = store.session("eval", PARAMS)

    assert other.folder == train.folder
    assert other.path("own").name == "eval_own"
    with pytest.raises(NameRefusedError, match=f"is a file of run train/{UID}"):
        other.path("shared", include_identifier=False)


CUT = [b"", b"{", b'{"lr":0.', bytes(3), bytes(10), bytes(4096)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("found", CUT)
def test_params_json_that_a_crash_cut_short_is_replaced(tmp_path, mode, found):
    session = Project(tmp_path, storage_mode=mode).session("train", PARAMS)
    path = tmp_path / (f"{UID}/params.json" if mode == StorageMode.SUBFOLDER else f"{UID}_params.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(found)
    session.path("f")

    assert path.read_bytes() == b'{"lr":0.1}'
    assert path.stat().st_mode & 0o222 == 0


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (b'{"lr":0.1}\n', "ends in a newline that an editor added"),
        (b'{"lr":0.1}\r\n', "ends in a newline that an editor added"),
        (b'{"lr":0.2}', "holds other bytes"),
        (b'{ "lr": 0.1 }', "holds other bytes"),
        (b'{"lr":0.1}\0', "holds other bytes"),
    ],
)
def test_params_json_with_other_bytes_is_damage_and_never_overwritten(store, found, why):
    path = store.root / UID / "params.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(found)
    session = store.session("train", PARAMS)
    for action in (lambda: session.path("f"), lambda: session.folder):
        with pytest.raises(DamagedError, match=why) as caught:
            action()
        assert caught.value.path == f"{UID}/params.json"
        assert "remove it: it is made anew" in caught.value.cure

    assert path.read_bytes() == found


# Starting and ending


def test_a_start_is_recorded_and_an_end_with_its_files(store):
    session = store.session("train", PARAMS)
    assert session.start() is session
    assert session.status is Status.RUNNING
    session.path("model.pt").write_text("weights")
    session.path("never made")
    assert session.done() is session

    run = state(session)
    (attempt,) = run["attempts"]
    assert (run["status"], run["params"], run["key"], run["mode"]) == ("done", '{"lr":0.1}', UID, "subfolder")
    assert attempt["files"] == [
        ["model.pt", f"{UID}/train_model.pt", 7, blake3(b"weights").hexdigest(), False]
    ]
    assert attempt["started"] <= attempt["ended"]
    assert (attempt["claim"], attempt["mode"], attempt["supersedes"]) == (1, "subfolder", [])
    assert session.files == {"model.pt": session.path("model.pt")}
    (manifest,) = manifests(store.root)
    assert (manifest["status"], manifest["attempt"]["id"]) == ("done", attempt["id"])


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Session.done, Status.DONE),
        (Session.error, Status.ERROR),
        (Session.interrupt, Status.INTERRUPTED),
    ],
)
@pytest.mark.parametrize("is_started", [True, False])
def test_an_end_without_a_start_begins_an_attempt_and_ends_it(store, end, status, is_started):
    session = store.session("train", PARAMS)
    if is_started:
        session.start()
    end(session)

    assert session.status is status
    assert len(state(session)["attempts"]) == 1
    assert manifests(store.root)[0]["status"] == status


def test_the_last_end_of_an_attempt_counts(store):
    session = store.session("train", PARAMS).start()
    for end, status in ((session.done, "done"), (session.error, "error"), (session.done, "done")):
        end()
        assert state(session)["status"] == status
    assert len(state(session)["attempts"]) == 1
    assert sorted(manifest["status"] for manifest in manifests(store.root)) == ["done", "done", "error"]


def test_a_run_that_this_process_executes_cannot_be_started_again(store):
    session = store.session("train", PARAMS).start()
    for other in (session, store.session("train", PARAMS), Project(store.root).session("train", PARAMS)):
        with pytest.raises(StateError, match="call done\\(\\) or error\\(\\) first") as caught:
            other.start()
        assert (caught.value.run, caught.value.status) == (session.ref, Status.RUNNING)
    session.done()
    session.start()
    with pytest.raises(StateError):
        store.session("train", PARAMS).start()
    store.session("train", PARAMS, ExistingRun.NEW).start()


def test_a_run_stays_running_though_its_handle_is_dropped(store):
    store.session("train", PARAMS).start()
    gc.collect()
    other = store.session("train", PARAMS)
    with pytest.raises(StateError):
        other.start()
    other.done()
    assert len(state(other)["attempts"]) == 1


@pytest.mark.parametrize("end", [Session.done, Session.error, Session.interrupt])
def test_a_start_of_an_ended_run_is_a_new_attempt_that_supersedes(store, end):
    end(store.session("train", PARAMS).start())
    session = store.session("train", PARAMS).start()
    assert session.status is Status.RUNNING
    session.done()

    first, second = state(session)["attempts"]
    assert second["supersedes"] == [first["id"]]
    assert (first["head"], second["head"]) == (False, True)
    assert state(session)["canonical"] == second["id"]


def test_two_handles_of_one_run_share_what_they_did(store):
    one, two = store.session("train", PARAMS), store.session("train", PARAMS)
    one.start()
    one.path("a").write_text("a")
    two.path("b").write_text("b")
    two.attach_files({"c": one.path("c")})
    one.path("c").write_text("c")
    with pytest.raises(NameRefusedError):
        two.path("A")
    two.done()

    assert {name: path.read_text() for name, path in one.files.items()} == {"a": "a", "b": "b", "c": "c"}
    assert len(state(one)["attempts"]) == 1


# Files


def test_attached_files_are_recorded_relative_to_the_root_or_as_external(store, tmp_path):
    session = store.session("train", PARAMS)
    outside = tmp_path / "elsewhere.bin"
    outside.write_bytes(b"12345")
    inside = store.root / "plots" / "p.png"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"1")
    assert session.attach_files({"out": str(outside), "in": inside, "later": store.root / "later"}) is session
    assert session.status is Status.RUNNING
    (store.root / "later").write_text("xyz")
    session.done()

    files = {file[0]: file[1:] for file in state(session)["attempts"][0]["files"]}
    assert files == {
        "in": ["plots/p.png", 1, blake3(b"1").hexdigest(), False],
        "later": ["later", 3, blake3(b"xyz").hexdigest(), False],
        "out": [str(outside), 5, blake3(b"12345").hexdigest(), True],
    }
    assert session.files["out"] == outside
    assert session.files["in"] == inside


def test_a_path_relative_to_the_working_folder_is_attached_where_it_leads(store, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("f").write_text("x")
    session = store.session("train", PARAMS).attach_files({"f": "f", "g": "../store/g"}).done()

    assert [file[1] for file in state(session)["attempts"][0]["files"]] == [str(tmp_path / "here/f"), "g"]


def test_a_root_behind_a_link_is_the_same_root_for_attached_files(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    session = Project(tmp_path / "link").session("train", PARAMS)
    session.attach_files({"a": tmp_path / "real" / "a", "b": tmp_path / "link" / "b"})
    assert session.path("f") == tmp_path / "link" / UID / "train_f"
    session.done()

    assert [file[1] for file in state(session)["attempts"][0]["files"]] == ["a", "b"]


def test_a_folder_is_sealed_file_by_file(store, tmp_path):
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    for name in ("b", "a", "sub/c"):
        (folder / name).write_text(name)
    session = store.session("train", PARAMS).attach_files({"out": folder}).done()

    files = state(session)["attempts"][0]["files"]
    assert [(file[0], file[2]) for file in files] == [("out/a", 1), ("out/b", 1), ("out/sub/c", 5)]


@pytest.mark.unchecked_store("the end is not recorded")
def test_a_folder_that_holds_a_name_that_is_not_utf_8_is_refused_by_name(store, tmp_path):
    folder = os.fsencode(tmp_path) + b"/out"
    os.mkdir(folder)
    with open(folder + b"/\xff", "w"):
        pass
    session = store.session("train", PARAMS).attach_files({"out": tmp_path / "out"})
    with pytest.raises((NameRefusedError, StorageError)):
        session.done()


def test_what_was_attached_and_is_not_there_is_recorded_without_size(store):
    session = store.session("train", PARAMS).attach_files({"gone": store.root / "gone"}).done()

    assert session.status is Status.DONE
    assert state(session)["attempts"][0]["files"] == [["gone", "gone", None, None, False]]


def test_files_attached_to_a_finished_run_belong_to_the_attempt_that_counts(store):
    store.session("train", PARAMS).done()
    session = store.session("train", PARAMS)
    session.attach_files({"report": store.root / "report"})

    assert session.status is Status.DONE
    (attempt,) = state(session)["attempts"]
    assert attempt["files"] == [["report", "report", None, None, False]]


def begun_and_ended_elsewhere(store: Project) -> Session:
    """A handle of another process on a run that is done, with a file attached since."""
    session = store.session("train", PARAMS).start()
    session.path("model").write_text("x")
    session.done()
    store.ledger.close()
    ledgers._ledgers.clear()
    again = Project(store.root).session("train", PARAMS)
    return again.attach_files({"report": store.root / "report"})


@pytest.mark.unchecked_store("its manifest is not the one that the ledger implies")
def test_the_manifest_of_an_attempt_that_another_process_began_tells_its_start(store):
    begun_and_ended_elsewhere(store).done()

    stored = {path.name for path in (store.root / ".tracker").glob("manifests/*/*.json")}
    assert stored == {Path(name).name for name in reference.manifests(store.root)}


@pytest.mark.unchecked_store("its manifest is not the one that the ledger implies")
def test_ending_an_attempt_again_keeps_the_files_that_were_sealed(store):
    session = begun_and_ended_elsewhere(store).done()
    assert set(session.files) == {"model", "report"}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("", "f"),
        ("a\nb", "f"),
        ("x" * 256, "f"),
        ("é" * 128, "f"),
        (5, "f"),
        ("\ud800", "f"),
        ("ok", "\ud800"),
    ],
)
def test_what_cannot_be_kept_of_an_attached_file_is_refused_before_anything_is_recorded(store, name, path):
    session = store.session("train", PARAMS)
    with pytest.raises(NameRefusedError):
        session.attach_files({"fine": "f", name: path})
    assert not store.root.exists()


def test_an_attached_file_that_cannot_be_read_is_told_and_done_may_be_called_again(store, monkeypatch):
    session = store.session("train", PARAMS).start()
    session.path("f").write_text("x")

    def refuse(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "digest_of", refuse)
        with pytest.raises(StorageError, match=r"seal .*train_f: Input/output error"):
            session.done()
        assert state(session)["status"] == "running"
    session.done()
    assert state(session)["status"] == "done"


def test_a_file_with_and_one_without_identifier_are_both_recorded(store):
    session = store.session("train", PARAMS).start()
    paths = [session.path("f"), session.path("f", include_identifier=False)]
    for path in paths:
        path.write_text("x")
    session.done()

    assert {file[1] for file in state(session)["attempts"][0]["files"]} == {
        path.relative_to(store.root).as_posix() for path in paths
    }


def test_start_goes_on_with_an_attempt_that_attaching_began(store):
    session = store.session("train", PARAMS).attach_files({"log": store.root / "log"})
    session.start()

    assert len(state(session)["attempts"]) == 1
    with pytest.raises(StateError):
        session.start()


def test_a_later_attempt_does_not_seal_what_was_attached_to_an_earlier(store):
    (store.ensure_folder().root / "log").write_text("1")
    session = store.session("train", PARAMS).start()
    session.attach_files({"log": store.root / "log"}).done()
    session.start().done()

    assert [[file[0] for file in attempt["files"]] for attempt in state(session)["attempts"]] == [["log"], []]


def test_sigterm_is_heard_though_attaching_began_the_attempt(store):
    store.session("train", PARAMS).attach_files({"log": store.root / "log"}).start()

    assert signal.getsignal(signal.SIGTERM) is interrupts._heard
    assert signal.getsignal(signal.SIGUSR1) is interrupts._heard


def test_other_threads_record_while_files_are_sealed(store, monkeypatch):
    real = sealing.seal_files
    others = [store.session("train", {"n": 2})]

    def seal_files(root, files, policy):
        while others:
            thread = threading.Thread(target=others.pop().start)
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), "the ledger is locked while a file is hashed"
        return real(root, files, policy)

    monkeypatch.setattr(sealing, "seal_files", seal_files)
    store.session("train", PARAMS).done()

    assert sorted(session.status for session in store.find()) == [Status.DONE, Status.RUNNING]


# Ends of a with block


def test_leaving_a_with_block_records_done(store):
    with store.session("train", PARAMS) as session:
        assert session.status is Status.RUNNING
    assert session.status is Status.DONE


def test_what_was_said_within_the_block_stands(store):
    with store.session("train", PARAMS) as session:
        session.error()
    assert session.status is Status.ERROR


class OddError(Exception):
    """Of this module, with a message that UTF-8 cannot carry."""

    def __str__(self) -> str:
        return "odd \ud800"


@pytest.mark.parametrize(
    ("raised", "type_", "message"),
    [
        (ValueError("no"), "ValueError", "no"),
        (SystemExit(3), "SystemExit", "3"),
        (GeneratorExit(), "GeneratorExit", ""),
        (OddError(), f"{OddError.__module__}.OddError", "odd \\ud800"),
    ],
)
def test_an_exception_records_error_with_its_traceback_and_goes_on_up(store, raised, type_, message):
    session = store.session("train", PARAMS)
    with pytest.raises(type(raised)) as caught, session:
        session.path("partial").write_text("x")
        raise raised
    assert caught.value is raised

    (attempt,) = state(session)["attempts"]
    error = attempt["error"]
    assert (attempt["status"], error["type"], error["message"]) == ("error", type_, message)
    assert [file[0] for file in attempt["files"]] == ["partial"]
    kept = get_object(store.ledger.lookup.store_fd, error["traceback"]).decode()
    assert kept == "".join(traceback.format_exception(raised)).encode("utf-8", "backslashreplace").decode()
    assert "in test_an_exception_records_error" in kept


def test_ctrl_c_records_interrupted(store):
    session = store.session("train", PARAMS)
    with pytest.raises(KeyboardInterrupt), session:
        raise KeyboardInterrupt
    assert state(session)["attempts"][0]["interrupt"] == {"signal": "SIGINT", "restarts": 0}
    assert session.status is Status.INTERRUPTED


def test_an_error_without_an_exception_has_no_words(store):
    session = store.session("train", PARAMS).start().error()
    assert state(session)["attempts"][0]["error"] == {"type": "", "message": "", "traceback": None}


def run_script(script: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


LONG_RUN = """
import sys, time
from tracker import Project
{before}
with Project(sys.argv[1]).session("train", {{"lr": 0.1}}) as session:
    session.path("partial").write_text("x")
    print("running", flush=True)
    {loop}
"""


NAPS = "[time.sleep(0.1) for _ in range(600)]"
"""Of a signal just before a sleep Python hears after it."""


def terminated(root: Path, before: str = "", loop: str = NAPS) -> tuple[int, str, dict[str, Any]]:
    process = run_script(LONG_RUN.format(before=before, loop=loop), root)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    return process.returncode, out, reference.read_store(root)["runs"][0]["attempts"][0]


def test_sigterm_records_interrupted_and_exits_with_143(tmp_path):
    code, _, attempt = terminated(tmp_path)

    assert code == 143
    assert (attempt["status"], attempt["interrupt"]) == ("interrupted", {"signal": "SIGTERM", "restarts": 0})
    assert [file[0] for file in attempt["files"]] == ["partial"]
    assert [path.suffix for path in (tmp_path / ".tracker").glob("ledger/*/*")] == [".seg"]


def test_sigterm_is_passed_on_to_what_the_program_had_set(tmp_path):
    before = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True))"
    loop = "[time.sleep(0.01) for _ in iter(lambda: session.should_stop, True)]"
    code, out, attempt = terminated(tmp_path, before, loop)

    assert (code, out) == (0, "heard\n")
    assert attempt["status"] == "done"


def test_a_program_that_ignores_sigterm_still_may_ask(tmp_path):
    before = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    loop = "[time.sleep(0.01) for _ in iter(lambda: session.should_stop, True)]"
    code, _, attempt = terminated(tmp_path, before, loop)

    assert code == 0
    assert attempt["status"] == "done"


def test_a_handler_is_set_once_and_given_back(store):
    before = signal.getsignal(signal.SIGTERM)
    session = store.session("train", PARAMS).start()
    store.session("train", {"lr": 2}).start()
    assert signal.getsignal(signal.SIGTERM) == interrupts._heard
    assert not session.should_stop
    interrupts.forget()

    assert signal.getsignal(signal.SIGTERM) == before


# Durability, disks and trees


@pytest.mark.parametrize(
    "is_other",
    [
        pytest.param(False, id="the handle that made them"),
        pytest.param(True, id="another handle"),
    ],
)
def test_done_syncs_params_json_and_each_folder_up_to_the_root(store, monkeypatch, is_other):
    session = store.sub("grid/a").session("train", PARAMS).start()
    session.path("sub/f").write_text("x")
    ending = store.sub("grid/a").session("train", PARAMS) if is_other else session
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    ending.done()

    base = store.root / "grid" / "a" / UID
    wanted = [base / "sub/train_f", base / "params.json", base / "sub", base, base.parent, base.parent.parent]
    assert {str(path) for path in [*wanted, store.root]} <= set(synced)


@pytest.mark.parametrize("durability", [Durability.LEDGER, Durability.OFF])
def test_lower_durability_syncs_no_file_of_the_user(tmp_path, monkeypatch, durability):
    session = Project(tmp_path, durability=durability).session("train", PARAMS).start()
    session.path("f").write_text("x")
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    session.done()

    assert [path for path in synced if ".tracker" not in path] == []


class ReadOnly:
    """`os` of a file system that is mounted read-only."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("mkdir", "open", "rename", "unlink"):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(errno.EROFS, "Read-only file system")
            return real(*args, **kwargs)

        return call


def test_a_store_on_a_read_only_mount_can_be_read(store, monkeypatch):
    session = store.session("train", PARAMS).start()
    session.path("f").write_text("x")
    session.done()
    store.session("eval", PARAMS).done()
    store.ledger.close()
    shutil.rmtree(store.root / UID)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", ReadOnly())
        patch.setattr(journal, "os", ReadOnly())
        again = Project(store.root).session("train", PARAMS)
        assert again.is_done()
        assert again.files == {"f": store.root / UID / "train_f"}
        assert again.path("f") == store.root / UID / "train_f"
        assert again.folder == store.root / UID
        with pytest.raises(StorageError, match="Read-only file system; mount the file system for writing"):
            store.session("train", {"lr": 5}).path("f")
        with pytest.raises(StorageError):
            again.start()

    assert tree(store.root) == []


@pytest.mark.unchecked_store("its root moves")
@pytest.mark.parametrize("durability", Durability)
def test_no_run_is_done_without_its_files_because_the_tree_moved(tmp_path, durability):
    session = Project(tmp_path / "old", durability=durability).session("train", PARAMS).start()
    session.path("f").write_text("x")
    (tmp_path / "old").rename(tmp_path / "new")
    try:
        session.done()
    except NotFoundError as error:
        assert "open a Project on its new place" in str(error)

    assert not (tmp_path / "old").exists()
    (run,) = reference.read_store(tmp_path / "new")["runs"]
    assert run["status"] == "running" or [file[0] for file in run["attempts"][0]["files"]] == ["f"]


def test_a_forked_child_may_end_what_its_parent_began(store):
    session = store.session("train", PARAMS).start()
    session.path("f").write_text("x")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            session.done()
            ledgers._close_all()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0

    assert session.status is Status.DONE
    (manifest,) = manifests(store.root)
    assert manifest["attempt"]["writer"] != store.ledger.writer
    assert manifest["attempt"]["id"].startswith(store.ledger.writer)


def test_workers_of_a_pool_record_their_own_runs(store):
    script = """
import sys
from concurrent.futures import ProcessPoolExecutor
from tracker import Project

def work(number):
    session = Project(sys.argv[1]).session("train", {"n": number}).start()
    session.path("f").write_text(str(number))
    session.done()
    return number

if __name__ == "__main__":
    with Project(sys.argv[1]).session("sweep", {"all": True}) as sweep:
        with ProcessPoolExecutor(4) as pool:
            assert sorted(pool.map(work, range(20))) == list(range(20))
"""
    path = store.root.parent / "pool.py"
    path.write_text(script)
    subprocess.run([sys.executable, path, store.root], check=True)

    runs = reference.read_store(store.root)["runs"]
    assert {run["status"] for run in runs} == {"done"}
    assert len(runs) == 21
    assert len(store.find("train", status="done")) == 20
