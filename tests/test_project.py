"""A namespace: which run a session is, what is found, and what is refused before anything is made.

Spec: spec/layout.md sections 4 to 6; spec/events.md section 3, last paragraph; spec/canonical.md section 8.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import reference
from blake3 import blake3

import tracker
from tracker import (
    AmbiguousError,
    DamagedError,
    Durability,
    ExistingRun,
    NameRefusedError,
    NotFoundError,
    ParamsError,
    Project,
    Session,
    StateError,
    Status,
    StorageMode,
)
from tracker import ledger as ledgers
from tracker.ledger import iter_ledgers

PARAMS = {"lr": 0.1}
UID = reference.uid('{"lr":0.1}')
W = "01a19b7ca6807000800000000000000a"


def listing(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def recorded(project: Project) -> list[str]:
    """The refs of all runs, as the reference reads them."""
    return [run["ref"] for run in reference.read_store(project.root)["runs"]]


# What it is


def test_a_project_makes_nothing_and_names_its_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Project("results", storage_mode=StorageMode.PREFIX)
    below = project.sub("grid").sub(PurePosixPath("a/b"))

    assert (project.root, project.relpath, project.path) == (
        tmp_path / "results",
        Path(),
        tmp_path / "results",
    )
    assert (below.root, below.relpath) == (project.root, Path("grid/a/b"))
    assert below.path == tmp_path / "results/grid/a/b"
    assert below.storage_mode is StorageMode.PREFIX
    assert below.ledger is project.ledger
    assert repr(below) == f"Project({str(project.root)!r}, 'grid/a/b')"
    assert listing(tmp_path) == []


def test_a_root_stays_where_it_was_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Project("results")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    project.session("train", PARAMS).done()

    assert (tmp_path / "results" / ".tracker").is_dir()
    assert listing(tmp_path / "elsewhere") == []


def test_ensure_folder_makes_the_namespaces_folder_and_gives_the_project(store):
    below = store.sub("a/b")
    assert below.ensure_folder() is below
    assert listing(store.root) == ["a", "a/b"]
    below.ensure_folder()


def test_settings_go_down_to_namespaces_and_sessions(tmp_path):
    project = Project(tmp_path, "", StorageMode.PREFIX, ExistingRun.NEW, durability=Durability.OFF).sub("a")
    one, two = project.session("t", PARAMS), project.session("t", PARAMS)

    assert one.uid != two.uid
    assert one.storage_mode is StorageMode.PREFIX
    assert project._settings.durability is Durability.OFF
    assert project.session("t", PARAMS, ExistingRun.RESUME).uid == UID
    assert (
        project.session("t", PARAMS, storage_mode=StorageMode.SUBFOLDER).storage_mode is StorageMode.SUBFOLDER
    )


@pytest.mark.parametrize("enum", ["prefix", StorageMode.PREFIX])
def test_choices_may_be_given_as_words(tmp_path, enum):
    assert Project(tmp_path, storage_mode=enum).storage_mode is StorageMode.PREFIX
    assert Project(tmp_path).session("t", PARAMS, "new").uid != UID


def test_the_uid_is_the_one_without_a_store(store):
    assert store.uid(PARAMS) == tracker.uid(PARAMS) == UID == store.session("train", PARAMS).uid
    assert blake3(b'{"lr":0.1}').hexdigest()[:32] == UID


# Which run a session is


def test_resume_gives_the_run_of_the_same_params(store):
    store.session("train", PARAMS).done()
    session = store.session("train", {"lr": 0.1})

    assert session.is_done()
    assert (session.uid, session.key) == (UID, UID)
    assert not store.session("train", {"lr": 0.2}).is_done()
    assert not store.session("eval", PARAMS).is_done()
    assert not store.sub("grid").session("train", PARAMS).is_done()


def test_train_and_eval_share_folder_and_uid_and_nothing_else(store):
    train, evaluation = store.session("train", PARAMS).done(), store.session("eval", PARAMS).start()

    assert train.folder == evaluation.folder
    assert (train.status, evaluation.status) == (Status.DONE, Status.RUNNING)
    assert recorded(store) == [f"train/{UID}", f"eval/{UID}"]


def test_new_gives_a_repeat_whose_key_is_the_uid_of_the_params(store):
    repeats = [store.session("train", PARAMS, ExistingRun.NEW) for _ in range(20)]

    assert len({session.uid for session in repeats}) == 20
    assert {session.key for session in repeats} == {UID}
    text = (repeats[0].folder / "params.json").read_text()
    assert text.startswith('{"@repeat":"') and text.endswith('","lr":0.1}')
    assert reference.uid(text) == repeats[0].uid


def test_a_session_without_params_is_always_another_run_and_has_no_key(store):
    one, two = store.session("note"), store.session("note")
    one.done()
    two.done()

    assert one.uid != two.uid
    assert (one.key, one.params) == (None, {})
    assert [run["key"] for run in reference.read_store(store.root)["runs"]] == [None, None]
    assert store.session("note", {}).key == reference.uid("{}")
    assert store.session("note", {}).status is Status.PENDING


def test_resume_takes_the_plain_run_then_the_first_repeat_that_is_done(store):
    repeats = [store.session("train", PARAMS, ExistingRun.NEW) for _ in range(4)]
    repeats[3].start()
    repeats[1].error()
    assert store.session("train", PARAMS).uid == UID
    repeats[2].done()
    assert store.session("train", PARAMS).uid == repeats[2].uid
    repeats[0].done()
    assert store.session("train", PARAMS).uid == repeats[2].uid, "its first event is first"
    repeats[3].done()
    assert store.session("train", PARAMS).uid == repeats[3].uid
    plain = store.session("train", PARAMS)
    assert plain.uid == repeats[3].uid
    store._handle("train", UID, UID, b'{"lr":0.1}', StorageMode.SUBFOLDER).done()
    assert store.session("train", PARAMS).uid == UID


def test_a_repeat_of_another_identifier_or_namespace_is_not_resumed(store):
    store.session("eval", PARAMS, ExistingRun.NEW).done()
    store.sub("a").session("train", PARAMS, ExistingRun.NEW).done()

    assert store.session("train", PARAMS).uid == UID
    assert not store.has("train", PARAMS)


@pytest.mark.parametrize("first", StorageMode)
def test_the_mode_that_was_recorded_wins(store, first):
    second = next(mode for mode in StorageMode if mode is not first)
    path = store.session("train", PARAMS, storage_mode=first).start().path("f")
    path.write_text("x")
    again = store.session("train", PARAMS, storage_mode=second)

    assert again.storage_mode is first
    assert again.path("f") == path
    again.done()
    assert Project(store.root, storage_mode=second).session("train", PARAMS).files == {"f": path}


def test_other_params_under_one_uid_are_an_error_and_never_a_merge(store):
    """A collision, made by hand: the run is recorded with the text of another."""
    ref = f"train/{UID}"
    opened = {"format": 1, "writer": W, "segment": 0, "host": "h", "boot": "b", "pidns": 1, "pid": 1}
    opened |= {"pid_start": 1, "user": "u", "version": "0", "time": 1, "previous": None}
    data = reference.MAGIC + reference.make_frame(
        reference.MAGIC, reference.OPEN, 0, 1, reference.pack(opened)
    )
    created = ["created", ref, '{"lr":0.2}', UID, "subfolder"]
    data += reference.make_frame(data, reference.EVENTS, 1, 2, reference.pack([created]))
    month = store.root / ".tracker/ledger/2026-11"
    month.mkdir(parents=True)
    (month / f"{W}-0.open").write_bytes(data)
    with pytest.raises(DamagedError, match="other params are recorded under uid"):
        store.session("train", PARAMS)


def test_a_recorded_mode_that_is_none_is_no_reason_to_know_nothing(store):
    store.session("train", PARAMS).done()
    (sealed,) = (store.root / ".tracker").glob("ledger/*/*.seg")
    frames = reference.read_segment(sealed.read_bytes(), True).frames
    store.ledger.close()
    data = reference.MAGIC
    for frame in frames:
        payload = frame.payload.replace(b"\xa9subfolder", b"\xa9elsewhere")
        data += reference.make_frame(data, frame.type, frame.seq, frame.clock, payload)
    sealed.with_name(f"{sealed.name[:35]}{blake3(data).hexdigest()[:16]}.seg").write_bytes(data)
    sealed.unlink()
    shutil.rmtree(store.root / ".tracker/manifests")

    assert [session.uid for session in store.find()] == [UID]
    assert store.session("train", PARAMS).is_done()


# Looking for runs


@pytest.fixture
def grid(store: Project) -> Project:
    """Runs of two identifiers in two namespaces, one with a repeat."""
    for number in range(3):
        store.session("train", {"n": number}).done()
    store.session("train", {"n": 0}, ExistingRun.NEW).error()
    store.session("eval", {"n": 1}).start()
    store.sub("below").session("train", {"n": 9}).done()
    return store


def test_find_gives_what_matches_in_the_order_of_first_events(grid):
    def found(**wanted: Any) -> list[tuple[str, Any]]:
        return [(session.identifier, session.params["n"]) for session in grid.find(**wanted)]

    trained = [("train", 0), ("train", 1), ("train", 2), ("train", 0)]
    assert found() == [*trained, ("eval", 1)]
    assert found(identifier="train") == trained
    assert found(params={"n": 0}) == [("train", 0), ("train", 0)]
    assert found(params={"n": 1}) == [("train", 1), ("eval", 1)]
    assert found(status=Status.DONE) == trained[:3]
    assert found(status="error", identifier="train") == [("train", 0)]
    assert found(uid=reference.uid('{"n":2}')[:6]) == [("train", 2)]
    assert found(identifier="none") == []
    assert [session.relpath for session in grid.sub("below").find()] == [Path("below")]


def test_find_gives_the_same_from_another_process(grid):
    script = "import sys; from tracker import Project; [print(s.ref) for s in Project(sys.argv[1]).find()]"
    said = subprocess.run(
        [sys.executable, "-c", script, grid.root], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [session.ref for session in grid.find()]


def test_has_tells_whether_exactly_this_was_run_to_the_end(grid):
    assert grid.has("train", {"n": 0})
    assert not grid.has("eval", {"n": 1}), "it runs"
    assert not grid.has("train", {"n": 9}), "it is in another namespace"
    assert grid.sub("below").has("train", {"n": 9})
    grid.session("eval", {"n": 5}, ExistingRun.NEW).done()
    assert grid.has("eval", {"n": 5}), "a repeat"
    assert not Project(grid.root.parent / "none").has("train", {"n": 0})


def test_get_gives_the_one_run_or_says_which_there_are(grid):
    assert grid.get("train", {"n": 1}).uid == reference.uid('{"n":1}')
    assert grid.get("train", {"n": 0}).uid == reference.uid('{"n":0}'), "the plain one of two"
    assert grid.get(uid=reference.uid('{"n":2}')[:8]).params == {"n": 2}
    with pytest.raises(NotFoundError, match="tracker ls") as missing:
        grid.get("train", {"n": 7})
    assert reference.uid('{"n":7}') in str(missing.value)
    with pytest.raises(AmbiguousError) as several:
        grid.get("train")
    assert len(several.value.candidates) == 4
    with pytest.raises(AmbiguousError):
        grid.get(uid=reference.uid('{"n":1}'))


def test_get_prefers_of_a_run_and_its_repeats_the_one_that_resume_takes(store):
    plain = store.session("train", PARAMS).error()
    repeats = [store.session("train", PARAMS, ExistingRun.NEW) for _ in range(2)]
    assert store.get("train", PARAMS).uid == plain.uid
    repeats[1].done()
    repeats[0].done()

    assert store.get("train", PARAMS).uid == store.session("train", PARAMS).uid == repeats[1].uid


@pytest.mark.parametrize("uid", ["", "abc", "A" * 8, "g" * 8, "a" * 33, "a%"])
def test_a_uid_to_look_for_has_four_to_32_lower_case_digits(store, uid):
    with pytest.raises(ValueError, match="give 4 to 32 lower-case hex digits"):
        store.find(uid=uid)


def test_what_cannot_be_looked_for_is_refused(store):
    with pytest.raises(NameRefusedError):
        store.find("a/b")
    with pytest.raises(NameRefusedError):
        store.has("", PARAMS)
    with pytest.raises(ParamsError):
        store.find(params={"x": {1, 2}})
    with pytest.raises(ValueError, match="never"):
        store.find(status="never")


def test_a_run_that_was_looked_up_can_be_gone_on_with(grid):
    session = grid.get("eval", {"n": 1})
    assert session.status is Status.RUNNING
    session.done()
    assert grid.has("eval", {"n": 1})


# Refused before anything is made

BAD_PARTS = [
    "",
    ".",
    "..",
    " a",
    "a ",
    "a.",
    "a\\b",
    "a:b",
    "a\n",
    "\0",
    "con",
    "aux.txt",
    "LPT9",
    "x" * 101,
    "\ud800",
]
BAD_PARTS += [".tracker", ".TRACKER", ".trackerx", 'a"', "a|b", "a?", "a*", "a<", "a>"]


def refused(action: Any, what: str) -> None:
    with pytest.raises(NameRefusedError) as caught:
        action()
    assert caught.value.what == what
    assert isinstance(caught.value, ValueError)
    assert caught.value.why
    str(caught.value).encode("utf-8", "backslashreplace")


@pytest.mark.parametrize("text", [*BAD_PARTS, "a/b", "/", 5, None, b"t"])
def test_a_bad_identifier_is_refused(store, text):
    refused(lambda: store.session(text, PARAMS), "identifier")
    assert not store.root.exists()


@pytest.mark.parametrize(
    "text",
    [
        *(part for part in BAD_PARTS if part != "."),
        *("/abs", "a/../b", "a//b", "a/", "./a", "a" * 32, "0" * 32, f"a/{'F' * 32}", 5, None, b"t"),
    ],
)
def test_a_bad_namespace_is_refused(store, text):
    refused(lambda: store.sub(text), "namespace")
    if text not in ("",):
        refused(lambda: Project(store.root, text), "namespace")
    assert not store.root.exists()


BAD_PARAMS: list[Any] = [
    *({"x": {1}}, {"x": b"b"}, {"x": object()}, {"@x": 1}, {1: 1, "1": 2}, {None: 1}, {(1,): 1}),
    *([1], "text", 5, {"x": "\ud800"}, {"x": 2**5000}, {"x": print}, {"x": complex(1)}, {"x": ...}),
]


@pytest.mark.parametrize("params", BAD_PARAMS, ids=lambda params: repr(params).partition(" at 0x")[0])
def test_bad_params_are_refused_with_their_path(store, params):
    for action in (
        lambda: store.session("t", params),
        lambda: store.uid(params),
        lambda: store.has("t", params),
    ):
        with pytest.raises(ParamsError) as caught:
            action()
        assert isinstance(caught.value, ValueError)
        assert caught.value.path.startswith("params")
    assert not store.root.exists()


def test_params_that_hold_themselves_are_refused(store):
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(ParamsError, match="is there a cycle"):
        store.session("t", loop)


@pytest.mark.parametrize("choice", [{"storage_mode": "flat"}, {"existing_run_strategy": "maybe"}])
def test_a_choice_that_is_none_is_refused(store, choice):
    with pytest.raises(ValueError, match="give one of"):
        Project(store.root, **choice)
    with pytest.raises(ValueError, match="give one of"):
        store.session("t", PARAMS, **choice)
    assert not store.root.exists()


# Roots


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(lambda: Project(tmp_path / "file"), "root")
    assert listing(tmp_path) == ["file"]


def test_a_root_below_a_file_is_refused_with_the_first_run(tmp_path):
    (tmp_path / "file").write_text("x")
    session = Project(tmp_path / "file" / "below").session("t", PARAMS)
    refused(session.start, "root")
    assert listing(tmp_path) == ["file"]


def test_a_root_whose_name_is_not_utf_8_is_refused(tmp_path):
    refused(lambda: Project(tmp_path / "\udcff"), "root")


def test_a_namespace_through_another_store_is_refused_with_the_call_to_use(store):
    inner = Project(store.root / "a" / "inner")
    inner.session("t", PARAMS).done()
    for action in (
        lambda: store.sub("a/inner"),
        lambda: store.sub("a").sub("inner"),
        lambda: Project(store.root, "a/inner"),
    ):
        with pytest.raises(NameRefusedError, match="is a store of its own") as caught:
            action()
        assert caught.value.cure == f"use Project({str(inner.root)!r})"
    with pytest.raises(NameRefusedError) as deeper:
        store.sub("a/inner/b/c")
    assert deeper.value.cure == f"use Project({str(inner.root)!r}).sub('b/c')"
    assert store.sub("a").session("t", PARAMS).status is Status.PENDING


def test_a_root_that_an_enclosing_store_uses_as_a_namespace_is_refused_with_the_call_to_use(store):
    store.sub("a/b").session("t", PARAMS).done()
    for inner, call in (("a/b", "a/b"), ("a", "a")):
        with pytest.raises(NameRefusedError, match="is a namespace of the store in") as caught:
            Project(store.root / inner)
        assert caught.value.cure == f"use Project({str(store.root)!r}).sub({call!r})"
    Project(store.root / "a" / "b" / "c")
    Project(store.root / "other")
    assert Project(store.root).sub("a/b").has("t", PARAMS)


def test_a_store_in_a_runs_folder_is_a_store_of_its_own(store):
    session = store.session("t", PARAMS).start()
    inner = Project(session.folder / "inner")
    inner.session("t", PARAMS).done()

    assert inner.has("t", PARAMS)
    assert not store.has("t", PARAMS)


def test_looking_at_a_root_leaves_the_stores_above_alone(store):
    store.session("t", PARAMS).done()
    store.ledger.close()
    before = listing(store.root)
    Project(store.root / "x" / "y")

    assert listing(store.root) == before


def test_a_tree_that_was_copied_or_moved_answers_the_same(grid, tmp_path):
    want = [(session.ref, session.status, session.params) for session in grid.find()]
    grid.get("train", {"n": 1}).path("f")
    grid.ledger.close()
    os.rename(grid.root, tmp_path / "moved")
    subprocess.run(["cp", "-r", tmp_path / "moved", tmp_path / "copy"], check=True)
    for place in ("moved", "copy"):
        again = Project(tmp_path / place)
        assert [(session.ref, session.status, session.params) for session in again.find()] == want
        assert again.session("train", {"n": 2}).is_done()
    for ledger in iter_ledgers():
        ledger.close()
    assert not grid.root.exists()


def test_a_session_is_made_by_a_project_alone(store):
    assert isinstance(store.session("t", PARAMS), Session)
    assert tracker.Session is Session


# Against a dict


class Model:
    """What a person would write down: a line for each run, its status the last thing said of it."""

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        self.order: list[str] = []
        self.repeats: dict[tuple[str, str, str], list[str]] = {}

    def say(self, ref: str, status: str) -> None:
        if ref not in self.status:
            self.order.append(ref)
        self.status[ref] = status

    def resumed(self, relpath: str, identifier: str, uid: str) -> str:
        plain = names_of(relpath, identifier, uid)
        done = [
            ref for ref in self.repeats.get((relpath, identifier, uid), []) if self.status.get(ref) == "done"
        ]
        return plain if self.status.get(plain) == "done" or not done else min(done, key=self.order.index)


def names_of(relpath: str, identifier: str, uid: str) -> str:
    return "/".join(filter(None, [relpath, identifier, uid]))


@pytest.mark.parametrize("seed", range(25))
def test_a_random_history_is_what_a_dict_says(tmp_path, seed):
    chance, model = random.Random(seed), Model()
    root = tmp_path / "root"
    handles: list[Session] = []
    for _ in range(60):
        relpath, identifier = chance.choice(["", "a", "a/b"]), chance.choice(["train", "eval"])
        project = Project(root, relpath, chance.choice([*StorageMode]), durability=Durability.OFF)
        params = {"n": chance.randrange(3)}
        uid = reference.uid(f'{{"n":{params["n"]}}}')
        if chance.random() < 0.15:
            session = project.session(identifier, params, ExistingRun.NEW)
            model.repeats.setdefault((relpath, identifier, uid), []).append(session.ref)
        else:
            session = project.session(identifier, params)
            assert session.ref == model.resumed(relpath, identifier, uid)
        handles.append(session)
        session = chance.choice(handles)
        assert session.status == model.status.get(session.ref, "pending")
        action = chance.choice(
            ["start", "start", "done", "done", "error", "interrupt", "attach_files", "forget"]
        )
        if action == "forget":
            handles.clear()
            for ledger in iter_ledgers():
                ledger.close()
            ledgers._ledgers.clear()
        elif action == "attach_files":
            if model.status.get(session.ref) != "done":
                session.attach_files({"f": root / "f"})
                if session.ref in session._ledger._running:
                    model.say(session.ref, "running")
        elif action == "start" and (held := session._ledger._running.get(session.ref)) and held.was_started:
            with pytest.raises(StateError):
                session.start()
        else:
            getattr(session, action)()
            model.say(session.ref, {"start": "running", "interrupt": "interrupted"}.get(action, action))

    for relpath in ("", "a", "a/b"):
        found = Project(root, relpath).find()
        assert {session.ref: session.status for session in found}.items() <= model.status.items()
    assert [(run.ref, run.status) for run in Project(root).ledger.find()] == [
        (ref, model.status[ref]) for ref in model.order
    ]
