"""Stores that are damaged or written in malice: one line or an answer, never a traceback or an escape."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_sessions import TENTH, Call, fill

from tracker import Project
from tracker._model.event import Attached, Attachment, Created, Event, Failed, Noted, Started, Summary, Tagged
from tracker.lookup import index_path
from tracker.terms import AttemptId, RunRef

pytestmark = pytest.mark.unchecked_store(reason="damaged on purpose")

COMMANDS = [
    ["ls"],
    ["ls", "--json"],
    ["show", "@latest"],
    ["show", f"train/{TENTH}", "--json"],
    ["log"],
    ["log", "--json"],
    ["params", f"train/{TENTH}"],
    ["params", f"train/{TENTH}", "--json"],
    ["path", f"train/{TENTH}", "model.pt"],
    ["verify"],
    ["verify", "--full", "--json"],
    ["verify", "--replay"],
    ["rebuild"],
    ["ls"],
]


def check_every_command(root: Path, call: Call) -> None:
    for line in COMMANDS:
        told = call("-C", root, *line)
        assert told.code in (0, 1, 2, 3, 4), line
        assert told.err.count("\n") <= 1, told.err
        assert "Traceback (most" not in told.err
        assert (told.code in (0, 1, 3)) or told.out == ""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_CACHE", str(root.parent / "cache"))
        fill(root)
    return root


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 5)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.unlink()
    path.write_bytes(data)


def cut(path: Path, dice: random.Random) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: dice.randrange(len(data))])


def noise(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.write_bytes(dice.randbytes(300))


def folder(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def fifo(path: Path, dice: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def gone(path: Path, dice: random.Random) -> None:
    path.unlink()


Harm = Callable[[Path, random.Random], None]


CASES = [
    (what, harm)
    for what in ("ledger/*/*", "manifests/*/*", "objects/*/*", "FORMAT")
    for harm in (flip, cut, noise, folder, link, fifo, gone)
]


@pytest.mark.parametrize(("what", "harm"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_harm_gives_a_traceback(
    seed: int, what: str, harm: Harm, sound: Path, call: Call, tmp_path: Path
) -> None:
    root = tmp_path / "s"
    shutil.copytree(sound, root)
    dice = random.Random(seed)
    files = sorted((root / ".tracker").glob(what))
    assert files
    harm(dice.choice(files), dice)

    check_every_command(root, call)


@pytest.mark.parametrize("name", ["ledger", "manifests", "objects"])
def test_a_file_where_a_folder_belongs_gives_no_traceback(
    name: str, sound: Path, call: Call, tmp_path: Path
) -> None:
    root = tmp_path / "s"
    shutil.copytree(sound, root)
    shutil.rmtree(root / ".tracker" / name)
    (root / ".tracker" / name).write_text("")

    check_every_command(root, call)


def test_a_damaged_index_gives_no_traceback_and_rebuild_mends_it(
    sound: Path, spawn: Call, tmp_path: Path
) -> None:
    root = tmp_path / "s"
    shutil.copytree(sound, root)
    want = spawn("-C", root, "ls")
    index = Path(index_path(str(root)))
    with sqlite3.connect(index) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    data = index.read_bytes()
    pages = range(4096, len(data), 4096)
    assert len(pages) > 5
    for start in pages:
        index.write_bytes(data[:start] + b"\x55" * 4096 + data[start + 4096 :])
        told = spawn("-C", root, "ls")
        assert told == want or (told.code, told.out, told.err.count("\n")) == (4, "", 1)
        if told != want:
            assert spawn("-C", root, "rebuild").code == 0
            assert spawn("-C", root, "ls") == want
        for suffix in ("-wal", "-shm"):
            index.with_name(index.name + suffix).unlink(missing_ok=True)


EVIL = "\x1b]0;owned\x07\x9b31m\u202e\n\r\t\x7f"


def evil_events(attempt: AttemptId) -> list[Event]:
    run = RunRef(f"sp{EVIL}ace/id{EVIL}/{TENTH}")
    deep: object = 1.0
    for _ in range(31):
        deep = [deep]
    return [
        Created(run, f'{{"lr":0.1}}{EVIL}', EVIL, EVIL),
        Started(run, 2**62, [AttemptId(EVIL)], 0, EVIL, None),
        Summary(run, attempt, {EVIL: float("nan"), "deep": deep}),
        Failed(run, attempt, -(2**62), [], EVIL, EVIL, bytes(32)),
        Attached(run, attempt, [Attachment(f"f{EVIL}", f"../..{EVIL}", False)]),
        Tagged(run, [EVIL], []),
        Noted(run, EVIL),
    ]


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    root = tmp_path / "evil"
    ledger = Project(root).ledger
    ledger.append(evil_events)
    ledger.close()
    return root


EVIL_COMMANDS = [
    ["ls"],
    ["ls", "--json"],
    ["show", TENTH],
    ["show", TENTH, "--json"],
    ["log"],
    ["log", "--json"],
    ["log", TENTH],
    ["params", TENTH, "--json"],
    ["path", TENTH, "--json"],
    ["path", TENTH, f"f{EVIL}", "--json"],
    ["verify"],
    ["verify", "--replay", "--json"],
    ["show", "0000"],
    ["show", EVIL],
    ["path", TENTH, EVIL],
]


@pytest.mark.parametrize("line", EVIL_COMMANDS, ids=str)
def test_text_from_a_store_sends_no_control_character(line: list[str], evil: Path, call: Call) -> None:
    told = call("-C", evil, *line)

    for text in (told.out, told.err):
        assert all(char.isprintable() or char in "\n\t" for char in text)
    assert told.err.count("\n") <= 1
    assert not told.out or "--json" in line or all(len(row) > 1 for row in told.rows)


@pytest.mark.parametrize("line", [line for line in EVIL_COMMANDS if "--json" not in line], ids=str)
def test_nor_to_a_terminal(line: list[str], evil: Path, on_terminal: Call, without_rich: str) -> None:
    for environ in ({}, {"PYTHONPATH": without_rich}):
        told = on_terminal("-C", evil, *line, NO_COLOR="1", **environ)
        assert all(char.isprintable() or char == "\n" for char in told.out)
        assert "Traceback" not in told.out


def test_a_path_goes_to_a_terminal_escaped(evil: Path, on_terminal: Call) -> None:
    for line in (["path", TENTH], ["params", TENTH], ["path", TENTH, f"f{EVIL}"]):
        told = on_terminal("-C", evil, *line)
        assert told.code == 0
        assert all(char.isprintable() for char in told.out[:-1])
