"""A laboratory for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from laboratory import TRAIN, Laboratory


def _made(folder: Path) -> Laboratory:
    laboratory = Laboratory(folder / "lab", folder / "scratch")
    laboratory.write(dot_gitignore="results/\n__pycache__/\ndata/\n")
    return laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return _made(tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a laboratory with a run that is done, of a clean commit. Work in copies."""
    laboratory = _made(tmp_path_factory.mktemp("model"))
    laboratory.commit(train=TRAIN)
    laboratory.run("train.py")
    return laboratory.folder


@pytest.fixture
def done(lab: Laboratory, model: Path) -> Laboratory:
    """A laboratory with a run that is done, of a clean commit."""
    shutil.copytree(model, lab.folder, symlinks=True, dirs_exist_ok=True)
    return lab
