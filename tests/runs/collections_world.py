"""What the tests of collections share: runs with many kinds of values, and how a summary is recorded."""

from __future__ import annotations

from typing import Any

from tracker import Project
from tracker._model.event import Summary

CONFIGS: list[dict[str, Any]] = [
    {"lr": 0.1, "n": 1, "model": {"name": "a", "width": 64}, "flag": True, "same": "x", "list": [1, "b"]},
    {"lr": 0.01, "n": 2, "model": {"name": "b", "width": 128}, "flag": False, "same": "x", "list": []},
    {"lr": 1, "n": 3, "model": {"name": "b"}, "flag": True, "same": "x", "text": 'a "q",\nü'},
    {"lr": 2.5, "n": 2**70, "model": "none", "flag": None, "same": "x", "mixed": 1},
    {"lr": 0.25, "n": 5, "model": {"name": "a"}, "same": "x", "mixed": "one", "a.b": 1, "empty": {}},
]
LOSSES: list[dict[str, Any]] = [
    {"loss": 0.5},
    {"loss": {"last": 0.25, "min": 0.125}},
    {"loss": "NaN"},
    {},
    {"loss": 4.0, "acc": 1},
]


def summarize(project: Project, ref: Any, values: dict[str, Any]) -> None:
    """Record a summary of a run's attempt."""
    run = project.ledger.run(ref)
    assert run is not None and run.canonical is not None
    attempt = run.canonical
    project.ledger.append(lambda _: [Summary(ref, attempt, values)])
