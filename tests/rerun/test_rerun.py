"""`tracker rerun` with real scripts in real repositories: what is reproduced, what is not, what cannot be.

What the store holds afterwards is read by the reference; trees and commits by git.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from laboratory import TRAIN, Laboratory

RANDOM = """\
import os
from tracker import Project

with Project("results").session("train", {"lr": 0.1}) as run:
    run.path("model.bin").write_bytes(os.urandom(32))
    run.path("config.txt").write_text("same")
"""


def test_a_deterministic_run_is_reproduced_and_nothing_else_is_left(done: Laboratory) -> None:
    (first,) = done.runs()

    code, told, _ = done.rerun("--check")

    assert (code, told["reproducible"], told["verdict"]) == (0, True, "reproducible")
    assert told["files"]["same"] == ["model.txt", "sub/log.txt"]
    _, repeat = done.runs()
    assert (repeat["ref"], repeat["key"], repeat["status"]) == (told["repeat"], first["uid"], "done")
    assert repeat["notes"] == [f"rerun of {first['ref']}, attempt {first['canonical']}: reproducible"]
    assert done.files(repeat["ref"]) == done.files(first["ref"])
    assert (done.store / repeat["uid"] / "train_model.txt").read_text() == "weights"
    assert (done.trees(), os.listdir(done.scratch)) == ([str(done.folder)], [])
    assert done.git("status", "--porcelain") == ""


def test_what_is_executed_is_shown_before_and_the_verdict_after(done: Laboratory) -> None:
    commit = done.git("rev-parse", "HEAD").strip()
    shown = done.tracker("rerun", "@latest", "--check")
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    labels = [row[0] for row in rows]

    assert shown.returncode == 0
    assert ["commit", commit] in rows
    assert ["command", f"{sys.executable} train.py"] in rows
    assert labels.index("command") < labels.index("same") < labels.index("verdict")
    assert rows[-1] == ["verdict", "reproducible"]


def test_files_that_differ_are_named_with_their_digests(lab: Laboratory) -> None:
    lab.commit(train=RANDOM)
    lab.run("train.py")

    code, told, _ = lab.rerun("--check")

    (first, repeat) = lab.runs()
    digests = [
        blake3((lab.store / run["uid"] / "train_model.bin").read_bytes()).hexdigest()
        for run in (first, repeat)
    ]
    assert (code, told["reproducible"]) == (1, False)
    assert told["files"]["differs"] == [
        {
            "name": "model.bin",
            "size": 32,
            "digest": digests[0],
            "repeat_size": 32,
            "repeat_digest": digests[1],
        }
    ]
    assert told["files"]["same"] == ["config.txt"]
    assert repeat["notes"][0].endswith(": not reproduced: model.bin")
    assert lab.rerun("--check", "--ignore", "*.bin")[0] == 0
    assert lab.rerun()[0] == 0  # without --check it only has to end well


def test_changes_and_untracked_modules_are_there_again(lab: Laboratory) -> None:
    """The tree of today is otherwise: what ran is made of the commit, the diff and the untracked files."""
    script = TRAIN.replace("from tracker", "import helper, extra\nfrom tracker").replace(
        '"weights"', "helper.VALUE + extra.VALUE"
    )
    lab.commit(train=script, helper="VALUE = 'committed'\n", gone="")
    (lab.folder / "table.bin").write_bytes(bytes(range(256)))
    lab.git("add", "table.bin")
    lab.write(helper="VALUE = open('table.bin', 'rb').read().hex() + 'ü'\n")
    (lab.folder / "gone.py").unlink()
    lab.write(extra="VALUE = 'untracked'\n")
    (lab.folder / "run.sh").write_text("#!/bin/sh\n")
    (lab.folder / "run.sh").chmod(0o755)
    (lab.folder / "link.py").symlink_to("extra.py")
    lab.run("train.py")
    lab.git("reset", "--quiet", "--hard")
    for name in ("extra.py", "run.sh", "link.py"):
        (lab.folder / name).unlink()

    code, told, errors = lab.rerun("--check", "--keep")

    assert (code, told["verdict"]) == (0, "reproducible"), errors
    tree = Path(told["tree"])
    assert not (tree / "gone.py").exists()
    assert os.access(tree / "run.sh", os.X_OK)
    assert os.readlink(tree / "link.py") == "extra.py"
    assert lab.git("rev-parse", "HEAD", folder=tree) == lab.git("rev-parse", "HEAD")
    assert lab.git("status", "--porcelain") == ""
    lab.git("worktree", "remove", "--force", str(tree))


def test_without_a_repository_the_code_is_as_it_lies_there(lab: Laboratory, tmp_path: Path) -> None:
    lab.write(train=TRAIN)
    lab.run("train.py")

    code, told, errors = lab.rerun("--check", folder=tmp_path)

    assert (code, told["commit"], told["folder"]) == (0, None, str(lab.folder))
    assert "no commit is recorded: it runs with the code as it lies there now" in errors
    assert [run["status"] for run in lab.runs()] == ["done", "done"]


def test_a_commit_that_is_not_here_is_named(done: Laboratory) -> None:
    commit = done.git("rev-parse", "HEAD").strip()
    shutil.rmtree(done.folder / ".git")
    done.commit(other="")

    code, told, errors = done.rerun("--check")

    assert (code, told) == (2, {})
    assert f"no repository here has its commit {commit}" in errors
    assert len(done.runs()) == 1


def test_a_repository_is_looked_for_where_one_stands_first(done: Laboratory, tmp_path: Path) -> None:
    """The store was copied to where no repository is; a clone of it is elsewhere."""
    done.git("clone", "--quiet", str(done.folder), str(tmp_path / "clone"))
    shutil.move(done.store, tmp_path / "moved")
    done.store = tmp_path / "moved"
    shutil.rmtree(done.folder)

    code, told, errors = done.rerun("--check", folder=tmp_path / "clone")

    assert (code, told["repository"]) == (0, str(tmp_path / "clone")), errors
    assert len(done.runs()) == 2


def test_a_masked_command_cannot_be_rerun_and_can_be_printed(lab: Laboratory) -> None:
    lab.commit(train=TRAIN)
    lab.run("train.py", "--api-key", "hunter2hunter2")

    code, _, errors = lab.rerun()
    printed = lab.tracker("rerun", "@latest", "--print")

    assert code == 2
    assert "a part of its command was masked as a secret" in errors
    assert "--api-key '***'" in errors
    assert printed.returncode == 0
    assert "train.py --api-key '***'" in printed.stdout
    assert "hunter2" not in printed.stdout + errors


def test_a_run_without_facts_cannot_be_rerun(lab: Laboratory) -> None:
    lab.commit(train=TRAIN.replace('Project("results")', 'Project("results", provenance=False)'))
    lab.run("train.py")

    code, _, errors = lab.rerun()

    assert (code, "its command is not recorded" in errors) == (2, True)


def test_code_that_was_piped_in_cannot_be_rerun(lab: Laboratory) -> None:
    lab.commit()
    subprocess.run(
        [sys.executable, "-"], cwd=lab.folder, env=lab.environ(), input=TRAIN, text=True, check=True
    )

    code, _, errors = lab.rerun()

    assert (code, "its code was typed in or came through a pipe" in errors) == (2, True)


def test_code_on_the_command_line_can(lab: Laboratory) -> None:
    lab.commit()
    lab.run("-c", TRAIN)

    assert lab.rerun("--check")[0] == 0


def test_the_lines_that_are_printed_do_the_same(lab: Laboratory) -> None:
    """The judge is sh."""
    lab.commit(train="import helper\n" + TRAIN, helper="raise SystemExit('too old')\n")
    lab.write(helper="import extra\n", extra="")
    lab.run("train.py")
    first = lab.runs()[0]["ref"]
    lab.git("stash", "--quiet", "--include-untracked")

    printed = lab.tracker("rerun", first, "--print")
    assert (printed.returncode, len(lab.runs())) == (0, 1)
    done = subprocess.run(
        ["sh", "-e"], input=printed.stdout, env=lab.environ(), text=True, capture_output=True
    )

    assert done.returncode == 0, done.stderr
    (_, repeat) = lab.runs()
    assert lab.files(repeat["ref"]) == lab.files(first)
    assert lab.trees() == [str(lab.folder)]


@pytest.mark.parametrize("is_committed", [True, False])
def test_submodules_are_those_of_then(lab: Laboratory, tmp_path: Path, is_committed: bool) -> None:
    """One that moved on since the commit, and one that the commit has not, but the index."""
    other = Laboratory(tmp_path / "other", tmp_path / "other-scratch")
    other.commit(values="VALUE = 'first'\n")
    lab.commit(train="from part.values import VALUE\n" + TRAIN.replace('"weights"', "VALUE"))
    lab.git("submodule", "--quiet", "add", str(other.folder), "part")
    if is_committed:
        lab.commit()
    second = other.commit(values="VALUE = 'second'\n")
    lab.git("pull", "--quiet", folder=lab.folder / "part")  # moved on, and not committed here
    lab.run("train.py")
    other.commit(values="VALUE = 'third'\n")
    lab.git("pull", "--quiet", folder=lab.folder / "part")

    code, told, errors = lab.rerun("--check", "--keep")

    assert (code, told["verdict"]) == (0, "reproducible"), errors
    assert lab.git("rev-parse", "HEAD", folder=Path(told["tree"]) / "part").strip() == second
    before = os.listdir(lab.scratch)
    assert lab.rerun("--check")[0] == 0
    assert os.listdir(lab.scratch) == before
    assert len(lab.git("worktree", "list", folder=lab.folder / "part").splitlines()) == 2


def test_a_module_in_a_folder_below(lab: Laboratory) -> None:
    """`python -m`, from a folder of the repository that git does not keep, into a store beside."""
    (lab.folder / "package").mkdir()
    (lab.folder / "work").mkdir()
    (lab.folder / "package" / "train.py").write_text(TRAIN.replace('"results"', '"../results"'))
    lab.commit()
    lab.run("-m", "package.train", folder=lab.folder / "work", PYTHONPATH=str(lab.folder))
    (lab.folder / "package" / "train.py").write_text("raise SystemExit('the tree of today')\n")

    code, told, errors = lab.rerun("--check")

    assert (code, told["folder"]) == (0, "work"), errors


@pytest.mark.parametrize("where", ["lab", "elsewhere"])
def test_an_absolute_script_is_that_of_the_new_tree(lab: Laboratory, tmp_path: Path, where: str) -> None:
    lab.commit(train=TRAIN.replace('"results"', repr(str(lab.store))))
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    lab.run(str(lab.folder / "train.py"), folder=folder)
    lab.write(train="raise SystemExit('the tree of today')\n")

    code, told, errors = lab.rerun("--check")

    assert (code, told["verdict"]) == (0, "reproducible"), errors
    assert len(lab.runs()) == 2


def test_data_that_git_does_not_know_is_linked_when_asked_for(lab: Laboratory) -> None:
    lab.commit(train=TRAIN.replace('"weights"', "open('data/x.txt').read()"))
    (lab.folder / "data").mkdir()
    (lab.folder / "data" / "x.txt").write_text("numbers")
    lab.run("train.py")

    code, told, errors = lab.rerun("--check")
    assert (code, told["status"]) == (1, "error")
    assert told["verdict"].startswith("it ended as error (FileNotFoundError), not as done")
    assert "data/x.txt" in errors

    assert lab.rerun("--check", "--link", "data")[0] == 0
    assert (lab.folder / "data" / "x.txt").read_text() == "numbers"
    code, _, errors = lab.rerun("--link", "../lab")
    assert (code, "nothing below" in errors) == (2, True)
    assert len(os.listdir(lab.scratch)) == 0


def test_a_failure_is_reproduced_too(lab: Laboratory) -> None:
    lab.commit(train=TRAIN + "    raise KeyError('so')\n")
    subprocess.run([sys.executable, "train.py"], cwd=lab.folder, env=lab.environ(), capture_output=True)

    code, told, _ = lab.rerun("--check")

    assert (code, told["status"], told["exit_code"], told["verdict"]) == (0, "error", 1, "reproducible")


def test_nothing_to_compare_is_said_before_anything_runs(lab: Laboratory) -> None:
    lab.commit(train="from tracker import Project\nProject('results').session('train', {}).start().done()\n")
    lab.run("train.py")

    code, _, errors = lab.rerun("--check")

    assert (code, "sealed no file by its digest" in errors, len(lab.runs())) == (2, True, 1)


def test_a_command_that_does_not_come_to_the_run(lab: Laboratory) -> None:
    """Its way depends on a file that git does not know."""
    lab.commit(train="import os, sys\nos.path.exists('data/go') or sys.exit(7)\n" + TRAIN)
    (lab.folder / "data").mkdir()
    (lab.folder / "data" / "go").touch()
    lab.run("train.py")

    code, told, errors = lab.rerun("--check")

    assert (code, told) == (2, {})
    assert "its command ended with 7 and did not come to this run" in errors
    assert (len(lab.runs()), os.listdir(lab.scratch)) == (1, [])


def test_patterns_without_a_comparison_are_a_wrong_question(done: Laboratory) -> None:
    code, _, errors = done.rerun("--ignore", "*.log")

    assert (code, "--ignore says what is not compared" in errors) == (2, True)


def test_the_environment_that_differs_is_told(lab: Laboratory) -> None:
    """A package that was there, is another or is none now: of a folder on the recorded PYTHONPATH."""
    site = lab.folder.parent / "site"
    for name in ("left-1.0", "kept-2.0"):
        (site / f"{name}.dist-info").mkdir(parents=True)
        (site / f"{name}.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name[:4]}\nVersion: {name[5:]}\n"
        )
    lab.commit(train=TRAIN)
    lab.run("train.py", PYTHONPATH=str(site))
    shutil.rmtree(site / "left-1.0.dist-info")
    (site / "kept-2.0.dist-info").rename(site / "kept-2.1.dist-info")

    code, told, errors = lab.rerun("--check")

    assert code == 0
    assert told["environment"] == [["packages.kept", "2.0", "2.1"], ["packages.left", "1.0", None]]
    assert "the packages are not those of the run: kept 2.0 is now 2.1, left 1.0 is now none" in errors


def test_ctrl_c_ends_the_command_and_takes_the_tree_away(lab: Laboratory) -> None:
    """As a terminal sends it: to all processes of the group. The command takes its time to end."""
    waits = """\
    import os, time
    if 'WAIT' in os.environ:
        try:
            os.write(2, b'@waiting@')
            for _ in range(600):
                time.sleep(0.1)  # of a signal just before a sleep Python hears after it
        finally:
            time.sleep(1.5)
            with open(os.environ['WAIT'], 'w') as file:
                file.write(str(os.path.exists(__file__)))
"""
    lab.commit(train=TRAIN + waits)
    lab.run("train.py")
    command = [sys.executable, "-m", "tracker", "-C", str(lab.store), "rerun", "@latest"]
    environ = lab.environ(WAIT=str(lab.store / "told"))
    rerun = subprocess.Popen(
        command, cwd=lab.folder, env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert rerun.stderr is not None
    said = b""
    while b"@waiting@" not in said:
        said += (part := os.read(rerun.stderr.fileno(), 65536))
        assert part, f"it ended early: {said!r}"
    os.killpg(rerun.pid, signal.SIGINT)
    rerun.communicate(timeout=60)

    assert rerun.returncode == 130
    assert (lab.store / "told").read_text() == "True", "the tree is there as long as the command"
    assert (lab.trees(), os.listdir(lab.scratch)) == ([str(lab.folder)], [])
    assert [run["status"] for run in lab.runs()] == ["done", "interrupted"]
