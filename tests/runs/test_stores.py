"""Several stores as one, a store as it was, one that is written, one whose index goes while it is asked."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import reference
from collections_world import CONFIGS

from tracker import Durability, Project
from tracker._model.event import Removed, Restored
from tracker.runs import batches
from tracker.runs.times import parse_time

STORM = int(os.environ.get("TRACKER_STORM", "200"))


def refs(project: Project) -> list[str]:
    return [run["ref"] for run in reference.read_store(project.root)["runs"] if not run["removed"]]


@pytest.fixture
def two(filled: Project, tmp_path: Path) -> list[Project]:
    other = Project(tmp_path / "other")
    for config in ({"lr": 0.1, "n": 9}, {"lr": "high"}, {"lr": None}, {"n": 1}, CONFIGS[1]):
        other.session("train", config).done()
    return [filled, other]


def merged(projects: list[Project]) -> list[tuple[str, dict[str, Any]]]:
    runs = [(str(p.root), run) for p in projects for run in reference.read_store(p.root)["runs"]]
    return sorted(runs, key=lambda one: one[1]["first"])


def test_stores_as_one_are_all_runs_in_the_order_of_creation(two: list[Project]) -> None:
    want = merged(two)
    union = Project.union(two)

    assert [(run.root, run.ref) for run in union.runs()] == [(root, run["ref"]) for root, run in want]
    assert len(union.runs()) == len(want) == 10
    assert [run.ref for run in union.runs(limit=3)] == [run["ref"] for _, run in want[:3]]
    assert [run.params for run in union.runs("lr == 0.01")] == [CONFIGS[1], CONFIGS[1]]
    assert len({run.root for run in union.find("train", params=CONFIGS[1])}) == 2
    assert union.runs().table().headings[0] == "root"
    assert [row[0] for row in union.runs().table(["uid"]).rows] == [root for root, _ in want]
    assert Project.union([two[0].sub("deep")]).runs().table(["n"]).rows == ((str(two[0].root), 3),)


@pytest.mark.filterwarnings("ignore::tracker.ParamsWarning")
@pytest.mark.parametrize("sort", ["lr", "-lr", ["-n", "lr"]])
def test_a_sorted_union_is_as_one_store_would_be_sorted(
    sort: Any, two: list[Project], tmp_path: Path
) -> None:
    """The judge is one store with all of them, in the same order of creation."""
    one = Project(tmp_path / "one")
    for _, run in merged(two):
        one.session(f"{len(refs(one)) if one.root.exists() else 0}", json.loads(run["params"])).done()

    assert [run.params for run in Project.union(two).runs(sort=sort)] == one.runs(sort=sort).params


def test_a_union_cannot_be_read_with_a_query_that_is_none(two: list[Project]) -> None:
    with pytest.raises(ValueError, match="'==' to compare"):
        Project.union(two).runs("lr = 1")


def test_the_past_is_what_the_events_up_to_then_mean(filled: Project) -> None:
    ref = refs(filled)[0]
    for event in (Removed(ref, "a"), Restored(ref, "b"), Removed(ref, "c")):
        filled.ledger.append(lambda _, event=event: [event])
    events = reference.read_events(reference.read_ledger(filled.root))
    times = sorted({event.order[0] >> 16 for event in events})
    assert len(times) > 3
    for ms in [times[0] - 1, *times]:
        want = reference.state_of([event for event in events if event.order[0] >> 16 <= ms])["runs"]
        past = filled.at((ms + 0.5) / 1000)
        for removed in (False, True):
            got = [(run.ref, str(run.status)) for run in past.runs(removed=removed)]
            assert got == [(run["ref"], run["status"]) for run in want if run["removed"] is removed]
        assert past.runs("lr < 1").params == [
            p for p in (json.loads(r["params"]) for r in want if not r["removed"]) if p["lr"] < 1
        ]


def test_a_time_is_read_as_queries_read_it() -> None:
    want = 1_793_491_200_000
    for text in ("1793491200", 1793491200, 1793491200.0, "2026-11-01", "2026-11-01T01:00:00+01:00"):
        assert parse_time(text) == want
    for wrong in ("soon", "", float("nan"), True, None):
        with pytest.raises(ValueError, match="is no time"):
            parse_time(wrong)  # type: ignore[arg-type]


def test_batches_are_all_rows_once_in_order(store: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 7)
    for number in range(50):
        store.session("train", {"n": number}).done()
        if number == 30:
            store.ledger.seal()

    assert [json.loads(row.params)["n"] for row in store.runs().iter_rows()] == list(range(50))
    assert store.runs("n >= 20", limit=12).params == [{"n": n} for n in range(20, 32)]
    assert store.runs(limit=0).params == []


@pytest.mark.parametrize("batch", [1, 3, 5000])
@pytest.mark.parametrize("live", [True, False])
def test_the_first_few_are_the_first_of_all(
    store: Project, monkeypatch: pytest.MonkeyPatch, batch: int, live: bool
) -> None:
    """However many windows are gone through, or none: with runs beside the index, and without."""
    monkeypatch.setattr(batches, "BATCH", batch)
    for number in range(60):
        store.session("train", {"n": number, "rare": number % 19 == 7}).done()
    store.ledger.close()
    if live:
        store.session("train", {"n": 60, "rare": True}).start()
    tests = {
        None: lambda n: True,
        "rare == True": lambda n: n % 19 == 7 or n == 60,
        "n > 99": lambda n: False,
    }
    for where, test in tests.items():
        want = [n for n in range(60 + live) if test(n)]
        for limit in (1, 2, 3, 4, 59, 70):
            runs = store.runs(where, limit=limit)

            assert [one["n"] for one in runs.params] == want[:limit]
            assert len(runs) == len(want[:limit])


def test_a_store_that_is_written_while_it_is_asked(store: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there when it began is told once each, and in order; what comes is told or not."""
    monkeypatch.setattr(batches, "BATCH", 5)
    code = (
        "import sys; from tracker import Project, Durability;"
        "p = Project(sys.argv[1], durability=Durability.OFF);"
        "[p.session('train', {'late': n}).done() for n in range(200)]"
    )
    for number in range(40):
        store.session("train", {"n": number}).done()
    store.ledger.close()
    with subprocess.Popen([sys.executable, "-c", code, str(store.root)]) as writer:
        while writer.poll() is None:
            told = [p["n"] for p in store.runs().params if "n" in p]
            assert told == list(range(40))
    assert writer.returncode == 0
    rows = [run.ref for run in store.runs()]

    assert rows == refs(store)
    assert len(rows) == 240


def test_runs_that_another_process_puts_into_the_index_are_told_once(store: Project) -> None:
    """Ours, sealed and kept in memory, are live rows; a reader elsewhere then fills the index we share."""
    for number in range(3):
        store.session("train", {"n": number}).done()
    store.ledger.seal()
    assert len(store.runs()) == 3
    code = "import sys; from tracker import Project; print(len(Project(sys.argv[1]).runs()))"
    told = subprocess.run([sys.executable, "-c", code, str(store.root)], capture_output=True, text=True)
    assert told.stdout == "3\n"

    assert len(store.runs()) == 3


def drop_index_files(chance: random.Random) -> None:
    for folder, _, files in os.walk(os.environ["TRACKER_CACHE"]):
        for name in files:
            if chance.random() < 0.7 and not name.endswith(".lock"):
                try:
                    os.unlink(os.path.join(folder, name))
                except FileNotFoundError:
                    continue


@pytest.mark.storm
def test_deleting_the_index_at_any_moment_changes_no_answer(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under a running reader: some of its files, or all, between batches and within them."""
    monkeypatch.setattr(batches, "BATCH", 2)
    filled.ledger.seal()
    wants = (refs(filled), filled.runs().to_csv(), filled.runs().schema())
    chance = random.Random(7)
    stop = threading.Event()

    def delete() -> None:
        while not stop.wait(chance.random() * 0.004):
            drop_index_files(chance)

    deleter = threading.Thread(target=delete)
    deleter.start()
    try:
        for round_ in range(STORM):
            if round_ % 4 == 0:
                filled.ledger.lookup.drop_index()
            got = ([run.ref for run in filled.runs()], filled.runs().to_csv(), filled.runs().schema())
            assert got == wants, f"round {round_}"
    finally:
        stop.set()
        deleter.join()


def test_durability_is_no_matter_here(tmp_path: Path) -> None:
    project = Project(tmp_path / "s", durability=Durability.OFF)
    project.session("a", {"n": 1}).done()

    assert project.at("2999-01-01").runs().params == project.runs().params == [{"n": 1}]
