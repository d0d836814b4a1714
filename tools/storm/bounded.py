"""A storm as a test runs it: small, in a process of its own, and as much longer as TRACKER_STORM says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run_storm(kind: str, *, count: int | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Run `python -m tools.storm KIND`, print its tally, and give it; the test fails if it is not clean.

    `count` and `seconds` are multiplied by TRACKER_STORM. Skips where the tool says that it cannot be tried.
    """
    longer = float(os.environ.get("TRACKER_STORM", "1"))
    command = [sys.executable, "-m", "tools.storm", kind, "--json"]
    command += [] if count is None else ["--count", str(int(count * longer))]
    command += [] if seconds is None else ["--seconds", str(seconds * longer)]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300 + 300 * longer
    )
    assert ended.stdout, f"the storm told nothing:\n{ended.stderr}"
    tally: dict[str, Any] = json.loads(ended.stdout)
    failures = tally.pop("failures")
    print(json.dumps(tally))
    if "skipped" in tally["figures"] and not tally["cases"]:
        pytest.skip(tally["figures"]["skipped"])
    assert tally["cases"] > 0, "nothing was tried"
    assert not failures, f"{len(failures)} failed, the first: {failures[0]}"
    assert ended.returncode == 0
    return tally
