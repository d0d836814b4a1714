"""The vectors, read from their text: the reference agrees with each, and the tool makes the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
sys.path.insert(0, str(SPEC))

import reference  # noqa: E402  (its folder must be on the path first)

LOG = sorted((SPEC / "vectors" / "log").glob("*.txt"))
EVENTS = sorted((SPEC / "vectors" / "events").glob("*.txt"))


@dataclass(frozen=True)
class Vector:
    """A vector's header and its other sections, each of a first line and the rest."""

    header: dict[str, str]
    sections: list[tuple[str, str]]

    def files(self) -> dict[str, bytes]:
        return {
            head.removeprefix("file: "): bytes.fromhex(rest)
            for head, rest in self.sections
            if head.startswith("file: ")
        }

    def manifests(self) -> dict[str, bytes]:
        return {
            head.removeprefix("manifest: "): f"{rest}\n".encode()
            for head, rest in self.sections
            if head.startswith("manifest: ")
        }

    def state(self) -> object:
        return next((json.loads(rest) for head, rest in self.sections if head == "state:"), None)


def read_header(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


def read_vector(path: Path) -> Vector:
    header, *sections = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    return Vector(read_header(header), [section.partition("\n")[::2] for section in sections])


def write_store(root: Path, vector: Vector) -> None:
    for path, data in vector.files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_there_are_vectors() -> None:
    assert len(LOG) > 40
    assert len(EVENTS) > 40


@pytest.mark.parametrize("path", LOG, ids=names(LOG))
def test_a_segment_reads_as_its_vector_says(path: Path) -> None:
    header, _, body = path.read_text(encoding="utf-8").partition("\n\n")
    want = read_header(header)
    data = bytes.fromhex(body)
    segment = reference.read_segment(data, not want["file"].endswith(".open"), want["file"])

    assert want["name"] == path.stem
    assert len(data) == int(want["bytes"])
    assert segment.verdict == want["verdict"]
    assert segment.good_end == int(want["good end"])
    assert len(segment.frames) == int(want["good frames"])
    assert " ".join(str(frame.seq) for frame in segment.salvaged) == want["salvaged seqs"].replace("none", "")


@pytest.mark.parametrize("path", EVENTS, ids=names(EVENTS))
def test_a_store_means_what_its_vector_says(path: Path, tmp_path: Path) -> None:
    vector = read_vector(path)
    write_store(tmp_path, vector)
    command = [sys.executable, str(SPEC / "reference.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    assert vector.header["name"] == path.stem
    assert done.returncode == int(vector.header["exit"])
    if vector.header["exit"] == "2":
        assert (done.stdout, vector.state()) == ("", None)
        return
    codes = sorted(line.partition(":")[0] for line in done.stderr.splitlines())
    assert " ".join(codes) == vector.header["findings"].replace("none", "")
    assert json.loads(done.stdout) == vector.state()
    assert reference.manifests(tmp_path) == vector.manifests()


def test_every_kind_of_event_is_in_a_vector() -> None:
    used = set(read_vector(SPEC / "vectors" / "log" / "every-kind.txt").header["events"].split())
    assert used == set(reference.KINDS)


def test_every_verdict_has_a_vector() -> None:
    verdicts = {read_vector(path).header["verdict"] for path in LOG}
    assert verdicts == {"whole", "torn", "damaged", "newer"}


def test_the_tool_makes_the_same_vectors() -> None:
    command = [sys.executable, str(ROOT / "tools" / "make_vectors.py"), "--check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout


# The annotated store

LINE = re.compile(r"^([0-9a-f]{4})  ((?:[0-9a-f]{8} ?)*(?:[0-9a-f]{2,6})?)(?: .*)?$", re.MULTILINE)


def test_the_annotated_page_names_every_byte_of_its_segment() -> None:
    files = read_vector(SPEC / "vectors" / "events" / "one-run.txt").files()
    segment = next(data for path, data in files.items() if path.endswith(".seg"))
    page = (SPEC / "annotated.md").read_text(encoding="utf-8")
    rows = [(int(offset, 16), bytes.fromhex(text)) for offset, text in LINE.findall(page)]

    assert len(rows) > 80
    assert b"".join(data for _, data in rows) == segment
    assert [offset for offset, _ in rows] == [
        sum(len(data) for _, data in rows[:number]) for number in range(len(rows))
    ]


def test_the_annotated_page_shows_every_file_of_its_store() -> None:
    page = (SPEC / "annotated.md").read_text(encoding="utf-8")
    files = read_vector(SPEC / "vectors" / "events" / "one-run.txt").files()
    assert len(files) == 5
    for path, data in files.items():
        assert f"| `{path}` | {len(data)} |" in page


# By hand


def test_the_manifests_of_the_store_are_those_implied() -> None:
    vector = read_vector(SPEC / "vectors" / "events" / "one-run.txt")
    stored = {f".tracker/{path}": data for path, data in vector.manifests().items()}
    assert stored.items() <= vector.files().items()


def test_the_shell_lines_of_the_readme_find_nothing_wrong(tmp_path: Path) -> None:
    if not (shutil.which("b3sum") and shutil.which("jq") and shutil.which("bash")):
        pytest.skip("needs bash, b3sum and jq")
    write_store(tmp_path, read_vector(SPEC / "vectors" / "events" / "one-run.txt"))
    page = (SPEC / "README.md").read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "SPEC": str(SPEC)},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    uid = "a7f6c8b122de39b556aa975ba9567946"
    assert f"{uid}  {uid}/params.json" in done.stdout
    assert "0.1" in done.stdout.splitlines()
    assert "done" in done.stdout
    assert "damaged" not in done.stdout


def test_the_shell_lines_of_the_readme_name_damage(tmp_path: Path) -> None:
    if not (shutil.which("b3sum") and shutil.which("jq") and shutil.which("bash")):
        pytest.skip("needs bash, b3sum and jq")
    write_store(tmp_path, read_vector(SPEC / "vectors" / "events" / "one-run.txt"))
    page = (SPEC / "README.md").read_text(encoding="utf-8")
    loops = re.findall(r"^for f in .*?^done$", page, re.MULTILINE | re.DOTALL)
    assert len(loops) == 2, "one for loose names, one for packs"
    ledger = list((tmp_path / ".tracker").glob("ledger/*/*.seg"))
    assert len(ledger) == 1
    ledger[0].write_bytes(ledger[0].read_bytes()[:-1] + b"?")
    done = subprocess.run(
        ["bash", "-c", "\n".join(loops)], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )

    assert done.stdout == f"damaged: {ledger[0].relative_to(tmp_path)}\n"
