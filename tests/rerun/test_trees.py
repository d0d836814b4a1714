"""Working trees that cannot be made, or must not be: nothing outside is written, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from laboratory import TRAIN, Laboratory

from tracker import Project
from tracker._codec.canonical import canonical
from tracker._model.event import Captured
from tracker._model.names import object_path


def told(lab: Laboratory) -> dict[str, Any]:
    """The facts of the first run, as the reference reads them."""
    facts: dict[str, Any] = lab.runs()[0]["attempts"][0]["facts"]
    return facts


def forge(lab: Laboratory, **code: Any) -> None:
    """Say otherwise of the code of the first run, as whoever gives a store away could."""
    run = lab.runs()[0]
    project = Project(lab.store)
    facts = told(lab)
    data = canonical({"vcs": "git", "commit": facts["commit"], "diff": None, "untracked": [], **code})
    digest = project.ledger.put_object(data)
    project.ledger.append(lambda _: [Captured(run["ref"], run["canonical"], {"code": digest})])
    project.ledger.close()


def put(lab: Laboratory, data: bytes) -> str:
    project = Project(lab.store)
    digest = project.ledger.put_object(data)
    project.ledger.close()
    return digest


def assert_refused(lab: Laboratory, why: str, want: int = 2) -> None:
    code, _, errors = lab.rerun("--check")

    assert (code, why in errors) == (want, True), errors
    assert (lab.trees(), os.listdir(lab.scratch), len(lab.runs())) == ([str(lab.folder)], [], 1)


def test_a_diff_that_does_not_apply(done: Laboratory) -> None:
    forge(done, diff=put(done, b"--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-other\n+text\n"))

    assert_refused(done, "the recorded diff does not apply")


def test_a_diff_that_leads_out_of_the_tree(done: Laboratory) -> None:
    forge(done, diff=put(done, b"--- /dev/null\n+++ b/../../outside.txt\n@@ -0,0 +1 @@\n+text\n"))

    assert_refused(done, "the recorded diff does not apply")
    assert not list(done.folder.parent.rglob("outside.txt"))


def test_an_untracked_file_behind_a_link(done: Laboratory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link, file = put(done, os.fsencode(outside)), put(done, b"x")
    forge(done, untracked=[["sub", "120000", 1, link], ["sub/inner/x.py", "100644", 1, file]])

    assert_refused(done, "sub/inner/x.py lies behind a symbolic link")
    assert os.listdir(outside) == []


def test_an_untracked_file_where_the_commit_has_one(done: Laboratory) -> None:
    forge(done, untracked=[["train.py", "100644", 1, put(done, b"x")]])

    assert_refused(done, "File exists")


def test_an_untracked_file_in_a_repository_s_own_folder(done: Laboratory) -> None:
    forge(done, untracked=[[".git/hooks/post-checkout", "100755", 1, put(done, b"x")]])

    assert_refused(done, "'.git/hooks/post-checkout' cannot stand there", want=1)


def test_an_object_that_is_not_here(done: Laboratory) -> None:
    os.remove(done.store / ".tracker" / object_path(told(done)["code"]))

    assert_refused(done, f"object {told(done)['code']} is not here")


def test_an_object_that_is_damaged(done: Laboratory) -> None:
    path = done.store / ".tracker" / object_path(told(done)["code"])
    path.chmod(0o644)
    path.write_bytes(b"{}")

    assert_refused(done, "its bytes are not those its name says", want=1)


def test_hooks_are_not_executed(done: Laboratory) -> None:
    hook = done.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    done.git("checkout", "--quiet", "--detach")
    assert (done.folder / "hooked").exists(), "it is one"

    code, got, _ = done.rerun("--check", "--keep")

    assert code == 0
    assert not (Path(got["tree"]) / "hooked").exists()


def test_a_submodule_that_is_not_here_is_left_empty(done: Laboratory) -> None:
    commit = "b827b5bc53d8888a3791254152a1138940a12279"
    forge(done, submodules=[["part", commit, commit, False]])

    code, _, errors = done.rerun("--check")

    assert code == 0
    assert f"the submodule part is left empty: its commit {commit} is not here" in errors


def test_without_git_it_is_said(done: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, _, errors = done.rerun("--check")

    assert (code, "git is not installed" in errors) == (2, True)


def test_an_outer_git_does_not_lead_astray(done: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a hook, where GIT_DIR speaks of another repository."""
    monkeypatch.setenv("GIT_DIR", str(done.folder / "elsewhere"))
    code, _, errors = done.rerun("--check")

    assert code == 0, errors


def test_modules_of_now_are_none_of_its(lab: Laboratory, tmp_path: Path) -> None:
    """The command had no PYTHONPATH, and whoever calls rerun has one."""
    lab.commit(train="import colorsys\n" + TRAIN)
    lab.run("train.py")
    (tmp_path / "now").mkdir()
    (tmp_path / "now" / "colorsys.py").write_text("raise SystemExit('a module of now')\n")
    command = [sys.executable, "-m", "tracker", "-C", str(lab.store), "rerun", "@latest", "--check"]
    environ = lab.environ(PYTHONPATH=str(tmp_path / "now"))
    done = subprocess.run(command, cwd=lab.folder, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_an_interpreter_that_is_gone_is_replaced_and_that_is_told(done: Laboratory) -> None:
    run = done.runs()[0]
    project = Project(done.store)
    facts = {"argv": ["/gone/bin/python3", "train.py"]}
    project.ledger.append(lambda _: [Captured(run["ref"], run["canonical"], facts)])
    project.ledger.close()

    code, got, errors = done.rerun("--check")

    assert (code, got["command"]) == (0, [sys.executable, "train.py"])
    assert f"its interpreter /gone/bin/python3 does not serve: {sys.executable} is taken" in errors


def test_an_environment_object_that_is_none_is_damage(done: Laboratory) -> None:
    run, digest = done.runs()[0], put(done, b"not JSON")
    project = Project(done.store)
    project.ledger.append(lambda _: [Captured(run["ref"], run["canonical"], {"environment": digest})])
    project.ledger.close()

    assert_refused(done, "environment object: ", want=1)
