"""The command line as a whole: help, errors in one line, exit codes, streams that close."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from cli_sessions import Call, command

import tracker
from tracker import TrackerWarning
from tracker.cli import main
from tracker.cli.complaints import EXIT_CODES, Exit, complain, exit_code, text_of, warnings_as_lines
from tracker.cli.program import COMMANDS, GROUPS, command_of, make_parser
from tracker.errors import DamagedError, NotFoundError, StorageError, VersionError

NAMES = list(COMMANDS)


def subparsers() -> dict[str, argparse.ArgumentParser]:
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the parser has commands")


def test_these_are_the_commands() -> None:
    assert set(subparsers()) == {
        "find", "diff", "schema", "export", "groupby", "sql", "view", "status",
        "ls", "show", "log", "params", "path", "hash", "todo", "rm", "restore", "gc",
        "verify", "repair", "rebuild", "merge", "pack", "unpack", "bundle", "doctor", "demo", "rule", "why",
        "metrics", "logs", "files", "get", "lineage", "tag", "untag", "note", "name", "parent", "rerun",
        "drift",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_command_stands_in_its_room_by_its_own_name(name: str) -> None:
    assert command_of(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_command_says_the_same_with_the_others_beside_it_and_without(name: str) -> None:
    (alone,) = (
        action.choices.values()
        for action in make_parser([name])._actions
        if isinstance(action, argparse._SubParsersAction)
    )

    assert [parser.format_help() for parser in alone] == [subparsers()[name].format_help()]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_json_and_a_store_and_its_help_has_an_example(name: str, call: Call) -> None:
    shown = call(name, "--help")

    assert (shown.code, shown.err) == (0, "")
    assert {"--json", "-C"} <= subparsers()[name]._option_string_actions.keys()
    assert "example" in shown.out
    assert f"\n  tracker {name}" in shown.out or f"tracker {name} " in shown.out


@pytest.mark.parametrize("name", [*NAMES, ""])
def test_help_fits_in_eighty_columns(name: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = [line for line in call(*name.split(), "--help").out.splitlines() if len(line) > 80]

    assert long == []


SHELL = ("|", "||", "&&", "<(", ")", ">", "<", "&")


def words_of(line: str) -> list[str]:
    """As a shell splits a line; signs of its own stand alone. An example may end inside quotes."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="()<>|&")
    lexer.whitespace_split, lexer.commenters = True, ""
    words = []
    try:
        words += lexer
    except ValueError:  # a quote of the words around the example
        return line.replace(")", " ").replace('"', " ").split()
    return words


@pytest.mark.parametrize("name", NAMES)
def test_every_example_in_a_help_is_parsed(name: str) -> None:
    """Up to the first sign of the shell: the words behind `tracker` are a command line."""
    details = command_of(name).details.splitlines()
    lines = [line.strip() for line in details if "tracker " in line and line.startswith("  ")]

    assert lines
    for line in lines:
        words = words_of(line.partition("tracker ")[2])
        stop = next((i for i, word in enumerate(words) if word in SHELL), len(words))
        assert make_parser().parse_args(words[:stop]).run_command


def test_the_help_lists_commands_and_exit_codes(call: Call) -> None:
    shown = call("--help").out

    assert all(f"    {name} " in shown for name in NAMES)
    assert all(f"  {int(code):<5}" in EXIT_CODES for code in Exit)
    assert EXIT_CODES in shown


def test_the_help_has_the_commands_in_their_groups(call: Call) -> None:
    lines = call("--help").out.partition("\ncommands:\n")[2].partition("\nexit codes:")[0].splitlines()
    shown: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("  ") and line.endswith(":"):
            names = shown[line.strip(" :")] = []
        elif line.startswith("    ") and line[4] != " ":
            names.append(line.split()[0])

    assert shown == {heading: list(group) for heading, group in GROUPS.items()}


def test_without_a_command_the_help_is_an_error(call: Call) -> None:
    shown = call()

    assert (shown.code, shown.out) == (2, "")
    assert "commands:" in shown.err


def test_the_version_is_the_packages(call: Call) -> None:
    assert call("--version").out == f"tracker {tracker.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["frob"],
        ["ls", "--frob"],
        ["ls", "--status", "dead"],
        ["ls", "extra"],
        ["ls", "--stat", "done"],
        ["show"],
        ["log", "--limit", "-1"],
        ["log", "--limit", "many"],
        ["verify", "--full", "--replay"],
        ["ls", "-C"],
        ["hash"],
        ["path", "a7f6", "x", "y"],
        ["ls", "-C", "nowhere"],
        ["hash", "nothing.json"],
        ["hash", "."],
        ["show", "a\nb\x1b[31m"],
    ],
    ids=" ".join,
)
def test_a_wrong_question_is_one_line_and_exit_code_2(
    arguments: list[str], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = call(*arguments)

    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("tracker: error: ")
    assert told.err.count("\n") == 1
    assert "; " in told.err
    assert told.err[:-1].isprintable()


def test_without_a_store_every_command_that_needs_one_says_how_to_name_it(
    spawn: Call, tmp_path: Path
) -> None:
    for line in (
        ["ls"],
        ["show", "abcd"],
        ["log"],
        ["params", "abcd"],
        ["path", "abcd"],
        ["verify"],
        ["rebuild"],
    ):
        told = spawn(*line, cwd=tmp_path)

        assert (told.code, told.out) == (2, "")
        assert told.err.startswith("tracker: error: store not found in ")
        assert "-C" in told.err
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_store_at_or_above_the_current_folder_is_meant(store: Path, spawn: Call) -> None:
    below = store / "grid" / "deeper"
    below.mkdir()

    assert spawn("ls", cwd=below).out == spawn("ls", cwd=store).out == spawn("-C", store, "ls").out
    below.rmdir()


def test_the_store_and_json_may_be_asked_for_before_or_after_the_command(store: Path, call: Call) -> None:
    first = call("-C", store, "--json", "ls")
    last = call("ls", "--json", "-C", store)

    assert first.out == last.out
    assert first.out.startswith("[")


def test_a_named_folder_without_a_store_is_never_answered_from_one_above(store: Path, call: Call) -> None:
    told = call("-C", store / "grid", "ls")

    assert (told.code, told.out) == (2, "")
    assert f"-C {store}" in told.err


def test_python_m_tracker_and_the_installed_script_are_the_same(store: Path, spawn: Call) -> None:
    script = Path(sys.executable).with_name("tracker")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([script, "-C", str(store), "ls"], capture_output=True, text=True, check=True)

    assert done.stdout == spawn("-C", store, "ls").out


def test_a_command_on_a_pipe_imports_neither_rich_nor_numpy(store: Path) -> None:
    code = (
        "import sys; from tracker.cli import main; main(sys.argv[1:]); "
        "print(sorted({'rich', 'numpy', 'portalocker', 'asyncio'} & sys.modules.keys()))"
    )
    line = [sys.executable, "-c", code, "-C", str(store), "ls"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("before", [[], ["--json"], ["-C", "{store}"], ["--json", "-C{store}"]], ids=" ".join)
def test_a_call_loads_the_room_of_its_command_and_no_other(before: list[str], store: Path) -> None:
    code = (
        "import sys; from tracker.cli import main; code = main(sys.argv[1:]); "
        "print(code, sorted(name for name in sys.modules if name.startswith('tracker.cli.')))"
    )
    words = [word.format(store=store) for word in before]
    line = [sys.executable, "-c", code, *words, "hash", str(next(store.rglob("params.json")))]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    loaded = {"command", "complaints", "hashing", "program", "screen", "selection", "table", "words"}

    assert done.stdout.splitlines()[-1] == f"0 {sorted(f'tracker.cli.{name}' for name in loaded)}"


# Errors


def test_each_error_has_its_exit_code() -> None:
    got = [
        exit_code(error)
        for error in (
            NotFoundError("run", "here"),
            DamagedError("a.seg", "torn"),
            RecursionError(),
            StorageError(5, "a", "read", "I/O error", "copy it"),
            PermissionError(13, "Permission denied", "a"),
            VersionError("a", "2", "1", "newer"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        )
    ]

    assert got == [1, 1, 1, 4, 4, 2, 2]


def test_an_error_of_the_system_is_told_with_what_can_be_done() -> None:
    told = text_of(PermissionError(13, "Permission denied", "/srv/x"))

    assert told == "use /srv/x: Permission denied; give this user the right to it"


def test_a_closed_standard_error_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as err:
        assert complain(NotFoundError("run", "here"), err) == 1
        with pytest.raises(BrokenPipeError):
            err.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_a_tracker_warning_is_one_line_and_others_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(DeprecationWarning), warnings_as_lines():
        warnings.warn("the clock\nis ahead", TrackerWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert capsys.readouterr().err == "tracker: warning: the clock\\nis ahead\n"


def test_standard_error_of_another_encoding_gets_escapes(store: Path, spawn: Call) -> None:
    told = spawn("-C", store, "show", "日本", env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert told.code == 2
    assert "\\u65e5\\u672c" in told.err


def test_main_gives_an_int_and_leaves_warning_filters_as_they_were(store: Path) -> None:
    before = (warnings.showwarning, list(warnings.filters))

    assert type(main(["-C", str(store), "path", "a7f6"])) is int
    assert (warnings.showwarning, list(warnings.filters)) == before


# Streams that close


def test_a_reader_that_leaves_is_no_error(store: Path) -> None:
    with subprocess.Popen(
        command("-C", store, "log", "--follow", "--limit", "99"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        with tracker.Project(store).session("train", {"late": 1}):
            pass
        assert process.stderr.read() == b""
    tracker.Project(store).ledger.close()

    assert process.returncode == Exit.PIPE_CLOSED


def test_output_into_a_closed_pipe_at_the_end_is_no_error(store: Path) -> None:
    line = f"{sys.executable} -m tracker -C {store} ls | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert done.stdout in ("0\n", f"{Exit.PIPE_CLOSED:d}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_output_is_told_once(store: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("-C", store, "ls"), stdout=full, stderr=subprocess.PIPE, text=True)

    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_without_standard_output_a_command_still_ends_well(store: Path) -> None:
    line = f"exec {sys.executable} -m tracker -C {store} ls >&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_quietly_with_130(store: Path) -> None:
    with subprocess.Popen(
        command("-C", store, "log", "--follow", "--limit", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, "", "")


# demo


def test_the_demo_tells_as_json_and_refuses_a_folder_of_other_things(store: Path, call: Call) -> None:
    told = call("demo", store)

    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("tracker: error: ")
    assert told.err.count("\n") == 1


def test_the_demo_refuses_a_folder_below_a_file(tmp_path: Path, call: Call) -> None:
    (tmp_path / "file").write_text("")
    told = call("demo", tmp_path / "file" / "demo")

    assert told.code in (2, 4)
    assert told.err.count("\n") == 1
