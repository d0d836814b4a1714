"""Runs that match a query: the same as Python finds in the reference's state, whoever wrote them and when.

Spec: docs/queries.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import reference

from tracker import Project, Status, grid
from tracker.errors import QueryError
from tracker.project import Project as AnyProject

CONFIGS = [
    *grid(lr=[0.1, 0.01, 0.001], model=[{"name": "a"}, {"name": "b", "layers": [1, 2]}]),
    {"lr": "high"},
    {"lr": None, "näme": "ü"},
    {"lr": 1},
    {"lr": 1.0},
]
Test = Callable[[dict[str, Any], dict[str, Any]], bool]

QUERIES: dict[str, Test] = {
    "lr < 0.05": lambda run, p: type(p["lr"]) in (int, float) and p["lr"] < 0.05,
    "lr == 1": lambda run, p: type(p["lr"]) in (int, float) and p["lr"] == 1,
    "not lr < 0.05": lambda run, p: not (type(p["lr"]) in (int, float) and p["lr"] < 0.05),
    "model.name == 'b' and lr >= 0.01": lambda run, p: (
        p.get("model", {}).get("name") == "b" and p["lr"] >= 0.01
    ),
    "2 in model.layers": lambda run, p: 2 in p.get("model", {}).get("layers", []),
    "params['näme'] == 'ü'": lambda run, p: p.get("näme") == "ü",
    "lr == None or status == 'error'": lambda run, p: p["lr"] is None or run["status"] == "error",
    "status in ('running', 'done')": lambda run, p: run["status"] in ("running", "done"),
    "exists(model)": lambda run, p: "model" in p,
    "namespace == 'deep/er'": lambda run, p: run["relpath"] == "deep/er",
    "attempts > 1": lambda run, p: len(run["attempts"]) > 1,
}


@pytest.fixture
def filled(store: Project) -> Project:
    """Runs in each state and of two namespaces, a part of them sealed, a part in a live journal."""
    for number, config in enumerate(CONFIGS):
        project = store.sub("deep/er") if number % 3 == 2 else store
        session = project.session("train", config).start()
        if number == 5:
            store.ledger.seal()
        if number % 4 == 1:
            session.error()
            session.start()
        if number % 4 != 2:
            session.done()
    return store


def naive(project: AnyProject, test: Test) -> list[str]:
    runs = reference.read_store(project.root)["runs"]
    return [run["ref"] for run in runs if test(run, json.loads(run["params"]))]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("when", ["live", "sealed", "asked by another"])
def test_a_query_finds_what_python_finds(filled: Project, query: str, when: str) -> None:
    want = naive(filled, QUERIES[query])
    if when == "sealed":
        filled.ledger.seal()
    if when == "asked by another":
        code = (
            "import sys; from tracker import Project;"
            "print(*[run.ref for run in Project(sys.argv[1]).runs(sys.argv[2])], sep='\\n')"
        )
        found = subprocess.run(
            [sys.executable, "-c", code, filled.root, query], capture_output=True, text=True, check=True
        ).stdout.split()
    else:
        found = [run.ref for run in filled.runs(query)]

    assert want
    assert found == want
    assert len(filled.runs(query)) == len(want)
    assert bool(filled.runs(query)) is True


def test_a_namespace_asks_for_its_own_and_those_below(filled: Project) -> None:
    assert len(filled.runs()) == len(CONFIGS)
    assert [run.ref for run in filled.sub("deep").runs()] == naive(filled, QUERIES["namespace == 'deep/er'"])
    assert len(filled.sub("dee").runs()) == 0


def test_runs_are_taken_by_number_and_by_slice(filled: Project) -> None:
    runs = filled.runs()
    every = [run.ref for run in runs]

    assert [runs[n].ref for n in (0, 3, -1)] == [every[0], every[3], every[-1]]
    for start, stop in ((2, 5), (None, 3), (4, None), (-3, None), (1, -1), (5, 2), (90, 99)):
        part = runs[start:stop]
        assert [run.ref for run in part] == every[start:stop]
        assert len(part) == len(every[start:stop])
    assert [run.ref for run in runs[2:][1:3]] == every[3:5]
    for wrong in (len(every), -len(every) - 1):
        with pytest.raises(IndexError):
            runs[wrong]
    with pytest.raises(ValueError, match="step"):
        runs[::2]


def test_sorting_puts_what_is_missing_last_and_keeps_the_order_of_creation(filled: Project) -> None:
    def refs(sort: str) -> list[str]:
        return [run.ref for run in filled.runs("exists(model) or lr == 1", sort=sort)]

    runs = [(r["ref"], json.loads(r["params"])) for r in reference.read_store(filled.root)["runs"]]
    mine = [(ref, p) for ref, p in runs if "model" in p or p["lr"] == 1]
    name = sorted(mine, key=lambda one: ("model" not in one[1], one[1].get("model", {}).get("name", "")))
    assert refs("model.name") == [ref for ref, _ in name]
    assert refs("-lr") == [ref for ref, _ in sorted(mine, key=lambda one: -one[1]["lr"])]
    assert filled.runs(sort=["lr"], limit=2).params == [
        {"lr": 0.001, "model": m["model"]} for m in CONFIGS[4:6]
    ]


def test_each_use_sees_the_store_as_it_is(filled: Project) -> None:
    runs = filled.runs("lr == 7")
    assert (len(runs), list(runs)) == (0, [])
    filled.session("train", {"lr": 7}).done()

    assert (len(runs), runs.params) == (1, [{"lr": 7}])


def test_what_is_lost_is_told_from_what_runs(store: Project) -> None:
    code = (
        "import os, sys; from tracker import Project;"
        "Project(sys.argv[1]).session('train', {'lr': 1}).start(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, store.root], check=False)
    store.session("train", {"lr": 2}).start()

    assert store.runs("status == 'lost'").params == [{"lr": 1}]
    assert store.runs("status == 'running'").params == [{"lr": 2}]
    assert [run.status for run in store.runs()] == [Status.LOST, Status.RUNNING]


def test_asking_writes_nothing_below_the_root(store: Project) -> None:
    assert list(store.runs("lr < 1")) == []
    assert not store.root.exists()


def test_a_bad_query_is_refused_before_anything_is_read(store: Project) -> None:
    with pytest.raises(QueryError, match="'==' to compare"):
        store.runs("lr = 1")
    with pytest.raises(QueryError):
        store.runs(sort="lr <")
    with pytest.raises(ValueError, match="limit -1"):
        store.runs(limit=-1)


def test_an_index_that_is_deleted_under_a_reader_changes_no_answer(filled: Project) -> None:
    filled.ledger.seal()
    want = [run.ref for run in filled.runs()]
    for folder, _, names in os.walk(os.environ["TRACKER_CACHE"]):
        for name in names:
            os.unlink(os.path.join(folder, name))

    assert [run.ref for run in filled.runs()] == want
    filled.session("train", {"lr": 5}).done()
    filled.ledger.seal()
    assert len(filled.runs()) == len(want) + 1
