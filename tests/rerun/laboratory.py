"""A laboratory: a real repository with a real script and a store, and the command line beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import reference

TRAIN = """\
from tracker import Project

with Project("results").session("train", {"lr": 0.1}) as run:
    run.path("model.txt").write_text("weights")
    run.path("sub/log.txt").write_text("log")
"""


class Laboratory:
    """A repository in `folder`; its store is `results`, which git ignores."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = folder
        self.store = folder / "results"
        self.scratch = scratch
        scratch.mkdir()
        folder.mkdir()

    def git(self, *words: str, folder: Path | None = None) -> str:
        command = [
            "git",
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "-c",
            "protocol.file.allow=always",
        ]
        done = subprocess.run(
            [*command, *words], cwd=folder or self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, **files: str) -> str:
        """Write files, `name__py` for `name.py` and `a__b` never, and commit all; give the commit."""
        if not (self.folder / ".git").exists():
            self.git("init", "--quiet", "--initial-branch=main")
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=one")
        return self.git("rev-parse", "HEAD").strip()

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / ("." + name[4:] if name.startswith("dot_") else f"{name}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def environ(self, **more: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")
        }
        return {**kept, "TMPDIR": str(self.scratch), **more}

    def run(self, *words: str, folder: Path | None = None, **variables: str) -> None:
        """Run a script, as a person would."""
        done = subprocess.run(
            [sys.executable, *words], cwd=folder or self.folder, env=self.environ(**variables),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def tracker(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Call the command line as a process."""
        command = [sys.executable, "-m", "tracker", "-C", str(self.store), *words]
        return subprocess.run(
            command,
            cwd=folder or self.folder,
            env=self.environ(),
            capture_output=True,
            text=True,
            check=False,
        )

    def rerun(self, *words: str, run: str = "", **options: Any) -> tuple[int, dict[str, Any], str]:
        """Exit code, the JSON object, standard error. `run` is the first run unless given."""
        done = self.tracker("rerun", run or self.runs()[0]["ref"], "--json", *words, **options)
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def runs(self) -> list[dict[str, Any]]:
        """The runs of the store, as the reference reads them."""
        found: list[dict[str, Any]] = reference.read_store(self.store)["runs"]
        return found

    def files(self, ref: str) -> dict[str, tuple[int, str]]:
        """Size and digest of the files of a run's last attempt."""
        (run,) = [run for run in self.runs() if run["ref"] == ref]
        return {name: (size, digest) for name, _, size, digest, _ in run["attempts"][-1]["files"]}

    def trees(self) -> list[str]:
        """The folders of the repository's working trees."""
        lines = self.git("worktree", "list", "--porcelain").splitlines()
        return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")]
