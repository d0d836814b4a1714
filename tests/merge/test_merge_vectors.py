"""The store vectors, split in two at every file and merged: the state is the one that the vector gives.

Spec: spec/merge.md section 3; spec/vectors.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracker import Project
from tracker.merge import merge

VECTORS = sorted((Path(__file__).resolve().parents[2] / "spec/vectors/events").glob("*.txt"))

pytestmark = pytest.mark.unchecked_store(reason="stores of vectors, some of them damaged")


def read_vector(path: Path) -> tuple[dict[str, str], dict[str, bytes], str]:
    """The header, the files and the state of a store vector."""
    head, *sections = path.read_text(encoding="utf-8").split("\n\n")
    header = dict(line.split(": ", 1) for line in head.splitlines())
    files: dict[str, bytes] = {}
    state = ""
    for section in sections:
        name, _, body = section.partition("\n")
        if name.startswith("file: "):
            files[name.removeprefix("file: ")] = bytes.fromhex("".join(body.split()))
        elif name.startswith("state:"):
            state = body or name.removeprefix("state:")
    return header, files, state


def lay(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in {".tracker/FORMAT": b"tracker 1\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / ".tracker/ledger").mkdir(parents=True, exist_ok=True)
    return root


def is_sound(reference: object, files: dict[str, bytes]) -> bool:
    """True if no file is damaged or of a newer format: a merge leaves unproven frames where they are."""
    verdicts = {
        reference.read_segment(data, not name.endswith(".open"), name.rpartition("/")[2]).verdict  # type: ignore[attr-defined]
        for name, data in files.items()
        if "/ledger/" in name and name.endswith((".seg", ".part", ".open"))
    }
    return verdicts <= {"whole", "torn"} and files.get(".tracker/FORMAT", b"tracker 1\n") == b"tracker 1\n"


def test_there_are_vectors_to_merge(reference):
    sound = [path for path in VECTORS if is_sound(reference, read_vector(path)[1])]

    assert len(sound) > 30


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_store_split_in_two_and_merged_is_the_vector_s(path, tmp_path, reference):
    _, files, text = read_vector(path)
    if not is_sound(reference, files):
        pytest.skip("damaged or newer: what is unproven stays in SRC")
    names = sorted(name for name in files if "/ledger/" in name)
    for cut in range(len(names) + 1):
        place = tmp_path / str(cut)
        one = lay(place / "one", {name: files[name] for name in names[:cut]})
        other = lay(place / "other", {name: files[name] for name in names[cut:]})
        merge(Project(one).ledger, other)
        merge(Project(other).ledger, one)
        want = json.loads(text)

        assert reference.read_store(one) == want, f"cut at {cut}"
        assert reference.read_store(other) == want, f"cut at {cut}, the other way round"


def test_the_report_names_forks(tmp_path):
    _, files, _ = read_vector(next(path for path in VECTORS if path.stem == "fork"))
    (first, one), (second, other) = ((n, d) for n, d in files.items() if n.endswith(".seg"))
    a, b = lay(tmp_path / "a", {first: one}), lay(tmp_path / "b", {second: other})
    report = merge(Project(a).ledger, b)

    assert len(report.forks) == 1
    assert first.rpartition("/")[2][:32] in report.forks[0]
    assert {path.name for path in a.glob(".tracker/ledger/*/*.seg")} == {
        name.rpartition("/")[2] for name in (first, second)
    }
