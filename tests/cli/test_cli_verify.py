"""`verify` and `rebuild`: exit codes, findings on a pipe and as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_sessions import TENTH, Call, fill

pytestmark = pytest.mark.unchecked_store(reason="damaged on purpose")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A store that a test may damage."""
    root = tmp_path / "broken"
    fill(root)
    return root


@pytest.mark.parametrize("level", ["quick", "full", "replay"])
def test_a_sound_store_is_exit_code_0(level: str, store: Path, call: Call) -> None:
    options = [] if level == "quick" else [f"--{level}"]
    told = json.loads(call("-C", store, "verify", *options, "--json").out)
    line = call("-C", store, "verify", *options)

    assert (line.code, line.out, line.err) == (0, "", "")
    assert (told["level"], told["exit_code"], told["findings"]) == (level, 0, [])
    assert told["checked"]["runs"] == 6


def test_an_altered_file_is_exit_code_1_and_one_line(broken: Path, call: Call) -> None:
    (broken / TENTH / "train_model.pt").write_bytes(b"weighty")
    told = call("-C", broken, "verify", "--full")

    assert told.code == 1
    assert [row[:3] for row in told.rows] == [["damage", "file-altered", f"{TENTH}/train_model.pt"]]
    assert {len(row) for row in told.rows} == {5}
    assert call("-C", broken, "verify").code == 0


def test_a_missing_file_is_exit_code_3(broken: Path, call: Call) -> None:
    (broken / TENTH / "train_model.pt").unlink()
    told = call("-C", broken, "verify", "--full", "--json")

    assert told.code == json.loads(told.out)["exit_code"] == 3
    assert [finding["code"] for finding in json.loads(told.out)["findings"]] == ["file-missing"]


def test_a_flipped_bit_in_a_segment_is_exit_code_1(broken: Path, call: Call) -> None:
    segment = next((broken / ".tracker" / "ledger").glob("*/*.seg"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.chmod(0o644)
    segment.write_bytes(data)

    assert call("-C", broken, "verify").code == 1


def test_a_store_of_a_newer_release_is_refused_and_not_called_damaged(broken: Path, call: Call) -> None:
    path = broken / ".tracker" / "FORMAT"
    path.chmod(0o644)
    path.write_text("tracker 2\n")

    for line in (["verify"], ["ls"], ["rebuild"], ["show", TENTH]):
        told = call("-C", broken, *line)
        assert (told.code, told.out) == (2, "")
        assert "newer release" in told.err


def test_rebuild_makes_the_manifests_that_are_not_here(broken: Path, call: Call) -> None:
    manifests = broken / ".tracker" / "manifests"
    before = {path.relative_to(broken): path.read_bytes() for path in manifests.rglob("*.json")}
    shutil.rmtree(manifests)
    told = call("-C", broken, "rebuild", "--json")

    assert len(before) == 5
    assert json.loads(told.out) == {
        "runs": 6, "manifests_written": 5, "manifests_kept": 0, "unmatched": [], "recovered": [],
    }  # fmt: skip
    assert {path.relative_to(broken): path.read_bytes() for path in manifests.rglob("*.json")} == before
    assert call("-C", broken, "rebuild").rows == [
        ["runs", "6"], ["manifests_written", "0"], ["manifests_kept", "5"],
    ]  # fmt: skip
