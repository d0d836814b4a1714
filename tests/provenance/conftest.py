"""Real repositories, made and judged by git itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracker.provenance.git import Code, gather_code
from tracker.provenance.masking import Masker


class Repository:
    """A working tree, and the user's own git for it."""

    def __init__(self, top: Path, environment: dict[str, str]) -> None:
        self.top = top
        self.environment = environment

    def git(self, *words: str | bytes, stdin: bytes | None = None, folder: Path | None = None) -> bytes:
        command = ["git", "-C", folder or self.top, *words]
        return subprocess.run(
            command, input=stdin, env=self.environment, check=True, stdout=subprocess.PIPE
        ).stdout

    def write(self, name: str, data: bytes) -> Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def commit(self, **files: bytes) -> str:
        for name, data in files.items():
            self.write(name.replace("__", "/").replace("_py", ".py"), data)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a step")
        return self.git("rev-parse", "HEAD").decode().strip()

    def code(self, masker: Masker | None = None, **variables: str) -> Code:
        return gather_code(str(self.top), self.environment | variables, masker or Masker())


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[..., Repository]:
    def make(name: str = "lab", *options: str) -> Repository:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        (home / ".gitconfig").write_text(
            '[user]\nname = Ada\nemail = ada@lab\n[protocol "file"]\nallow = always\n'
        )
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
        made = Repository(tmp_path / name, environment)
        made.top.mkdir()
        made.git("init", "--quiet", "--initial-branch=main", *options)
        return made

    return make


@pytest.fixture
def repository(make_repository: Callable[..., Repository]) -> Repository:
    """One commit with one file, and nothing that differs."""
    made = make_repository()
    made.commit(train_py=b"print(1)\n")
    return made
