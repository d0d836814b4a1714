"""RUN on the command line, and what is told of one run: `show`, `params`, `path`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from cli_sessions import ONE, TENTH, Call, command, remove

from tracker import Durability, Project, StorageMode
from tracker._model.event import Created, Tagged
from tracker.terms import RunRef

EVAL = f"eval/{TENTH}"
TRAIN = f"train/{TENTH}"
BLAKE3_OF_NOTHING = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
GRID = f"grid/train/{ONE}"


def ref_of(told: str) -> str:
    return str(json.loads(told)["ref"])


# RUN


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (ONE, GRID),
        (ONE[:4], GRID),
        (ONE[:11], GRID),
        (GRID, GRID),
        (EVAL, EVAL),
        (TRAIN, TRAIN),
        (f"grid/{ONE}_params.json", GRID),
        (f"grid/{ONE}_train_ckpt.pt", GRID),
        (f"./grid/sub/{ONE}_train_ckpt.pt", GRID),
    ],
)
def test_a_run_is_named_by_uid_prefix_ref_or_path(
    text: str, ref: str, store: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store)

    assert ref_of(call("show", text, "--json").out) == ref


def test_the_identifier_tells_apart_runs_that_share_a_uid(
    store: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store / TENTH)
    for text in (
        TENTH,
        TENTH[:5],
        ".",
        "params.json",
        "../" + TENTH,
        str(store / TENTH),
        f"{store / TENTH}/",
    ):
        told = call("show", text)

        assert (told.code, told.out) == (2, "")
        assert told.err.count("\n") == 1
        assert {TRAIN, EVAL} <= set(told.err.replace(",", " ").replace(";", " ").split())
        assert "--identifier" in told.err
        assert ref_of(call("show", text, "--identifier", "eval", "--json").out) == EVAL


@pytest.mark.parametrize("text", ["0000", "f" * 32, f"train/{'0' * 32}", f"grid/{'0' * 32}/x", "@latest"])
def test_a_run_that_is_not_there_is_exit_code_1(
    text: str, store: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store)
    told = call("show", text, "--identifier", "nobody")

    assert (told.code, told.out) == (1, "")
    assert told.err.endswith("; `tracker ls` shows the runs\n")


@pytest.mark.parametrize(
    "text", ["abc", "ABCD", "0" * 33, "@last", "lr=0.1", "grid/sub", "/", "..", ".tracker"]
)
def test_a_text_that_can_name_no_run_is_exit_code_2(
    text: str, store: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store)
    told = call("show", text)

    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    "line", [["show", "\udcff"], ["show", "\udcff/x"], ["ls", "--identifier", "\udcff"]], ids=repr
)
def test_an_argument_that_is_no_utf_8_is_one_line(line: list[str], store: Path, call: Call) -> None:
    told = call("-C", store, *line)

    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1
    assert told.err.isascii()


def test_a_link_to_a_run_is_its_path(store: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(store / TENTH)

    assert (
        ref_of(call("-C", store, "show", tmp_path / "best", "--identifier", "train", "--json").out) == TRAIN
    )


def test_latest_is_the_run_at_the_head_of_the_log(store: Path, call: Call) -> None:
    head = call("-C", store, "log", "--limit", "1").rows[0]

    assert ref_of(call("-C", store, "show", "@latest", "--json").out) == f"{head[3]}/{head[2]}"
    assert ref_of(call("-C", store, "show", "@latest", "--identifier", "eval", "--json").out) == EVAL


def test_a_removed_run_is_still_found_by_its_uid_and_says_that_it_is_removed(store: Path, call: Call) -> None:
    remove(store, GRID)

    assert ["warning", "removed: `ls` leaves it out"] in call("-C", store, "show", ONE).rows
    assert ref_of(call("-C", store, "show", "@latest", "--json").out) != GRID


# show


def test_show_tells_one_fact_a_line(store: Path, call: Call) -> None:
    rows = call("-C", store, "show", GRID).rows

    assert rows[:3] == [["run", GRID], ["status", "done"], ["uid", ONE]]
    assert ["folder", "grid"] in rows
    assert ["params", '{"lr":1}'] in rows
    files = [row for row in rows if row[0] == "file"]
    assert files == [["file", "ckpt.pt", f"grid/{ONE}_train_ckpt.pt", "0", BLAKE3_OF_NOTHING]]


def test_show_tells_an_error_with_its_traceback(store: Path, call: Call) -> None:
    uid = call("-C", store, "ls", "--status", "error").rows[0][0]
    rows = {row[0]: row[1] for row in call("-C", store, "show", uid).rows}

    assert rows["error"] == "ValueError: too great\\u001b[31m"
    assert rows["traceback"].startswith("Traceback (most recent call last):\\n")


def test_show_tells_tags_notes_key_and_a_session_without_params(tmp_path: Path, call: Call) -> None:
    project = Project(tmp_path, durability=Durability.OFF)
    run = project.session("train").start().done()
    project.ledger.append(lambda _: [Tagged(run.ref, ["best", "a\tb"], [])])
    project.ledger.close()
    rows = call("-C", tmp_path, "show", run.uid).rows

    assert ["key", "none: a session without params"] in rows
    assert [row for row in rows if row[0] == "tag"] == [["tag", "a\\tb"], ["tag", "best"]]


def test_show_as_json_is_the_run_as_the_reference_tells_it(
    store: Path, call: Call, reference: ModuleType
) -> None:
    runs = {run["ref"]: run for run in reference.read_store(store)["runs"]}

    assert len(runs) == 6
    for ref, run in runs.items():
        assert json.loads(call("-C", store, "show", ref, "--json").out) == run


# params


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_b3sum_of_the_params_is_the_uid(store: Path, spawn: Call) -> None:
    refs = [(row[0], row[1], row[2]) for row in spawn("-C", store, "ls").rows]

    assert len(refs) == 6
    for uid, identifier, namespace in refs:
        ref = f"{identifier}/{uid}" if namespace == "." else f"{namespace}/{identifier}/{uid}"
        text = subprocess.run(command("-C", store, "params", ref), capture_output=True, check=True).stdout
        judged = subprocess.run(
            ["b3sum", "-l", "16", "--no-names"], input=text, capture_output=True, check=True
        )
        assert judged.stdout.decode().strip() == uid


def test_params_are_the_bytes_of_the_file_whatever_the_encoding(tmp_path: Path) -> None:
    project = Project(tmp_path, durability=Durability.OFF)
    with project.session("train", {"name": "Grüße \u202e\x7f\n", "x": 1.0}) as run:
        folder = run.folder
    project.ledger.close()
    line = command("-C", tmp_path, "params", run.uid)
    told = subprocess.run(
        line, capture_output=True, check=True, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    )

    assert told.stdout == (folder / "params.json").read_bytes()


def test_params_as_json_keep_their_spelling_and_are_ascii(tmp_path: Path, call: Call) -> None:
    project = Project(tmp_path, durability=Durability.OFF)
    run = project.session("train", {"name": "Grüße 🎈\u202e\x7f", "x": 1.0}).start().done()
    project.ledger.close()
    told = call("-C", tmp_path, "params", run.uid, "--json").out

    assert told.isascii()
    assert '"x":1.0' in told
    assert json.loads(told) == {"ref": run.ref, "uid": run.uid, "key": run.key, "params": run.params}


def test_params_that_are_not_here_are_exit_code_1(tmp_path: Path, call: Call) -> None:
    ledger = Project(tmp_path).ledger
    ledger.append(lambda _: [Tagged(RunRef(TRAIN), ["best"], [])])
    ledger.close()

    for line in (["params", TENTH], ["params", TENTH, "--json"]):
        told = call("-C", tmp_path, *line)
        assert (told.code, told.out) == (1, "")
        assert "the segment that creates it is not here" in told.err
    assert ["params", "unknown: the segment that creates this run is not here"] in call(
        "-C", tmp_path, "show", TENTH
    ).rows


@pytest.mark.unchecked_store(reason="a hostile store")
def test_recorded_params_that_are_not_canonical_are_no_json_of_ours(tmp_path: Path, call: Call) -> None:
    ledger = Project(tmp_path).ledger
    ledger.append(lambda _: [Created(RunRef(TRAIN), "{\x1b", TENTH, "subfolder")])
    ledger.close()
    told = call("-C", tmp_path, "params", TENTH, "--json")

    assert (told.code, told.out) == (1, "")
    assert "not canonical" in told.err


# path


def test_path_is_what_the_session_gives_and_makes_nothing(store: Path, call: Call) -> None:
    names = ["model.pt", "sub/log.txt", "new.txt", "sub/dir/new.txt"]
    told = [call("-C", store, "path", TRAIN, name).out for name in names]

    assert not (store / TENTH / "sub" / "dir").exists()
    session = Project(store).session("train", {"lr": 0.1})
    assert told == [f"{session.path(name)}\n" for name in names]
    assert call("-C", store, "path", TRAIN).out == f"{session.folder}\n"


def test_path_keeps_the_spelling_of_the_root(store: Path, call: Call, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(store)

    assert call("-C", link, "path", GRID).out == f"{link}/grid\n"
    assert call("-C", link, "show", link / TENTH, "--identifier", "eval").code == 0


def test_path_in_prefix_mode(store: Path, call: Call) -> None:
    assert call("-C", store, "path", GRID).out == f"{store}/grid\n"
    assert call("-C", store, "path", GRID, "new").out == f"{store}/grid/{ONE}_train_new\n"
    assert call("-C", store, "path", GRID, "params.json").out == f"{store}/grid/{ONE}_params.json\n"


def test_path_of_an_attached_file_is_where_it_lies(tmp_path: Path, call: Call) -> None:
    outside, inside = tmp_path / "outside.csv", tmp_path / "results" / "any name.csv"
    project = Project(tmp_path / "results", storage_mode=StorageMode.PREFIX, durability=Durability.OFF)
    with project.session("train", {"lr": 1}) as run:
        for path in (outside, inside):
            path.write_text("1")
        run.attach_files({"data: 1": outside, "in": inside})
    project.ledger.close()

    assert call("-C", project.root, "path", ONE, "data: 1").out == f"{outside}\n"
    assert call("-C", project.root, "path", ONE, "in").out == f"{inside}\n"
    told = json.loads(call("-C", project.root, "path", ONE, "in", "--json").out)
    assert told == {"path": str(inside), "recorded": True, "exists": True}


@pytest.mark.parametrize("name", ["", "../x", "/etc/passwd", "a\x1bb", "nul", "sub/params.json"])
def test_path_refuses_a_name_that_no_file_of_a_run_can_have(name: str, store: Path, call: Call) -> None:
    told = call("-C", store, "path", TRAIN, name)

    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1
