"""`tracker demo`: the sweep is really killed, really resumed, and its hashes hold."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tracker
from tracker import Project
from tracker.cli.demo import KILLED_RUN, grid, iter_tree, list_runs, run_demo, run_pass
from tracker.cli.iris import TABLE, Network, load_flowers, split_flowers

# Means in cm as Fisher prints them (1936, table II), in the order of the columns.
FISHERS_MEANS = {
    0: [5.006, 3.428, 1.462, 0.246],
    1: [5.936, 2.770, 4.260, 1.326],
    2: [6.588, 2.974, 5.552, 2.026],
}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A demo's folder, and what `--json` told of it."""
    root = tmp_path_factory.mktemp("demo") / "tracker-demo"
    out = io.StringIO()
    assert run_demo(root, json=True, out=out) == 0
    return root, json.loads(out.getvalue())


@pytest.mark.parametrize("species", FISHERS_MEANS)
def test_the_table_has_the_means_that_fisher_printed(species: int) -> None:
    measures = [flower.measures for flower in load_flowers() if flower.species == species]

    assert len(measures) == 50
    means = [round(sum(column) / 50, 3) for column in zip(*measures, strict=True)]
    assert means == FISHERS_MEANS[species]


def test_the_two_rows_that_copies_differ_in_are_fishers() -> None:
    flowers = load_flowers()

    assert [flowers[34].measures, flowers[37].measures] == [[4.9, 3.1, 1.5, 0.2], [4.9, 3.6, 1.4, 0.1]]


def test_the_split_is_the_same_for_the_same_seed_and_loses_no_flower() -> None:
    flowers = load_flowers()
    train, test = split_flowers(flowers, seed=1936, test_size=50)

    assert (train, test) == split_flowers(flowers, seed=1936, test_size=50)
    assert (len(train), len(test)) == (100, 50)
    species = sorted(flower.species for flower in train + test)
    assert species == sorted(flower.species for flower in flowers)


def test_a_network_learns_the_flowers() -> None:
    train, test = split_flowers(load_flowers(), seed=1936, test_size=50)
    network = Network(units=3, seed=7)
    losses = list(network.fit(train, lr=0.1, l2=0.0, epochs=20))

    assert losses[-1] < losses[0] / 2
    assert network.accuracy(test) >= 0.9


def test_too_great_a_learning_rate_ends_in_an_error_that_says_so() -> None:
    train, _ = split_flowers(load_flowers(), seed=1936, test_size=50)

    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch \d+"):
        list(Network(units=3, seed=7).fit(train, lr=1000.0, l2=0.01, epochs=60))


def test_the_grid_has_no_config_twice() -> None:
    uids = {tracker.uid(config) for config in grid()}

    assert len(uids) == len(grid()) >= 13


def test_the_first_pass_is_killed_in_the_middle_of_a_run_and_the_second_does_the_rest(
    told: tuple[Path, dict[str, Any]],
) -> None:
    _, facts = told
    killed, resumed, again = facts["passes"]

    assert (killed["done"], killed["failed"]) == (KILLED_RUN - 1, 1)
    assert killed["killed_in"] == tracker.uid(grid()[KILLED_RUN])
    assert killed["killed_status"] in ("running", "lost")
    assert (resumed["skipped"], resumed["done"], resumed["failed"]) == (KILLED_RUN, 13 - KILLED_RUN, 0)
    assert (again["skipped"], again["done"], again["failed"]) == (13, 0, 0)


def test_every_config_is_done_with_its_files_but_the_one_that_must_fail(
    told: tuple[Path, dict[str, Any]],
) -> None:
    root, facts = told
    statuses = [run["status"] for run in facts["runs"]]

    assert (statuses.count("done"), statuses.count("error")) == (12, 1)
    for session in Project(root).find(status=tracker.Status.DONE):
        assert sorted(session.files) == ["loss.csv", "metrics.json", "model.json", "output.log"]
    accuracies = [run["accuracy"] for run in facts["runs"] if run["status"] == "done"]
    assert min(accuracies) > 0.7 and max(accuracies) >= 0.95


def test_what_was_logged_is_what_the_file_of_losses_says(told: tuple[Path, dict[str, Any]]) -> None:
    root, facts = told
    for session in Project(root).find(status=tracker.Status.DONE):
        written = [float(line.split(",")[1]) for line in session.files["loss.csv"].read_text().splitlines()]
        logged = session.metrics("loss")
        assert list(logged.values) == written
        assert list(logged.steps) == list(range(60))
        assert session.summary["loss"]["min"] == min(written)
        assert session.metrics("accuracy").values[-1] == loads(session.files["metrics.json"])["accuracy"]
    diverged = next(run for run in facts["runs"] if run["status"] == "error")
    assert Project(root).get(uid=diverged["uid"]).metrics("loss").steps[0] == 0


def loads(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_run_with_the_least_loss_alone_is_tagged(told: tuple[Path, dict[str, Any]]) -> None:
    root, facts = told
    done = [run for run in facts["runs"] if run["status"] == "done"]

    assert facts["best"] == min(done, key=lambda run: run["loss"])["uid"]
    assert [session.uid for session in Project(root).runs("'best' in tags")] == [facts["best"]]


def test_what_a_run_printed_is_kept_and_the_flowers_are_its_input(told: tuple[Path, dict[str, Any]]) -> None:
    root, facts = told
    best = Project(root).get(uid=facts["best"])
    lines = best.files["output.log"].read_text().splitlines()

    assert [line.partition(":")[0] for line in lines] == [f"epoch {n} of 60" for n in range(10, 61, 10)]
    assert best.inputs["iris.csv"].size == TABLE.stat().st_size


@pytest.mark.parametrize("which", ["best", "killed", "failed"])
def test_a_run_that_is_executed_again_leaves_the_same_bytes(
    which: str, told: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """As `tracker rerun --check` tells, and as the bytes themselves do. What the killed attempt printed is in
    the output of its run too."""
    root = shutil.copytree(told[0], tmp_path / "tracker-demo")
    uid = {
        "best": told[1]["best"],
        "killed": told[1]["passes"][0]["killed_in"],
        "failed": next(run["uid"] for run in told[1]["runs"] if run["status"] == "error"),
    }[which]
    line = [sys.executable, "-m", "tracker", "-C", str(root), "rerun", uid, "--check", "--json"]
    line += ["--ignore", "output.log"] if which == "killed" else []
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    outcome = json.loads(done.stdout)

    assert (done.returncode, outcome["reproducible"]) == (0, True), done.stderr
    files = set(Project(root).get(uid=uid).files) - set(outcome["files"]["ignored"])
    assert sorted(outcome["files"]["same"]) == sorted(files) and len(files) >= 2
    for name in files:
        here = Path(root, uid, f"train_{name}").read_bytes()
        again = Path(root, outcome["repeat"].rpartition("/")[2], f"train_{name}").read_bytes()
        assert again == here
    drift = subprocess.run([*line[:5], "drift"], capture_output=True, text=True, timeout=120)
    assert (drift.returncode, drift.stdout != "") == ((1, True) if which == "killed" else (0, False))
    assert run_demo(root, json=True, out=io.StringIO()) == 0  # a repeat is no stranger


def test_every_params_file_hashes_to_the_uid_of_its_run(told: tuple[Path, dict[str, Any]]) -> None:
    root, facts = told

    assert (facts["agreement"]["agree"], facts["agreement"]["of"]) == (13, 13)
    for run in facts["runs"]:
        assert Path(run["params_file"]).parent == root / run["uid"]


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_the_line_to_try_by_hand_prints_the_uid(told: tuple[Path, dict[str, Any]]) -> None:
    _, facts = told
    found = subprocess.run(facts["agreement"]["by_hand"], shell=True, capture_output=True, text=True)

    assert facts["agreement"]["by"] == "b3sum"
    assert found.stdout.strip() == facts["runs"][0]["uid"]


def test_without_b3sum_the_blake3_package_answers_and_says_so(
    told: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, _ = told
    monkeypatch.setenv("PATH", "")

    assert run_demo(root, json=False, out=sys.stdout) == 0
    text = capfd.readouterr().out
    assert "the blake3 package (b3sum is not installed) agrees on 13 of 13" in text


def test_a_demo_that_was_run_before_has_nothing_to_do(told: tuple[Path, dict[str, Any]]) -> None:
    root, _ = told
    before = sorted(root.rglob("*.json"))
    out = io.StringIO()

    assert run_demo(root, json=False, out=out) == 0
    assert "holds a demo already" in out.getvalue()
    assert "nothing to do: 13 configs" in out.getvalue()
    assert sorted(root.rglob("*.json")) == before


def test_the_text_shows_the_passes_the_tree_and_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()

    assert run_demo(None, json=False, out=out) == 0
    text = out.getvalue()
    assert (tmp_path / "tracker-demo" / ".tracker").is_dir()
    assert f"killed (SIGKILL) in the middle of run {tracker.uid(grid()[KILLED_RUN])[:8]}" in text
    assert all(f"│   ├── {name}/" in text for name in ("ledger", "manifests", "metrics"))
    assert "├── .tracker/" in text and "│   ├── FORMAT" in text
    assert "\n$ tracker -C tracker-demo metrics @best:loss\n" in text and "█" in text and "┤⡇" in text
    assert text.count("  done ") == 12 and text.count("  error") == 1
    assert str(tmp_path) not in text


def test_a_killed_demo_is_resumed_by_the_next_one(tmp_path: Path) -> None:
    root = tmp_path / "tracker-demo"
    killed = run_pass(root, pause_in=2)
    half = Path(root, str(killed.killed_in), "train_loss.csv").read_text().splitlines()
    out = io.StringIO()

    assert (killed.done, len(half)) == (2, 31)
    assert run_demo(root, json=True, out=out) == 0
    facts = json.loads(out.getvalue())
    assert facts["fresh"] is False
    assert facts["passes"][0]["skipped"] == 2
    assert [run.status for run in list_runs(root)].count("done") == 12


def test_a_folder_with_other_files_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    out = io.StringIO()

    assert run_demo(tmp_path, json=False, out=out) == 2
    said = capsys.readouterr().err
    assert said == (
        f"tracker demo: {tmp_path} is a folder with other files; "
        "move it away, or name a folder that does not exist yet\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").write_text("x")

    assert run_demo(tmp_path / "demo", json=False, out=io.StringIO()) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_a_store_with_other_runs_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "results"
    Project(root).session("train", params={"lr": 0.1}).start().done()

    assert run_demo(root, json=False, out=io.StringIO()) == 2
    assert "is a store of other runs (1)" in capsys.readouterr().err
    assert len(Project(root).find()) == 1


def test_a_long_folder_is_drawn_by_its_first_entries_and_a_count(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").touch()

    assert list(iter_tree(tmp_path)) == ["├── a/", "│   └── x", "├── b/", "├── c/", "└── … and 2 more"]
