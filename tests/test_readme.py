"""The README's examples run as they stand, and what it shows of a store is true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tracker
from tracker import Project, Status

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


def block_with(word: str) -> str:
    (found,) = [block for block in blocks("python") if word in block]
    return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder to stand in, and the names that the examples take as given."""
    monkeypatch.chdir(tmp_path)
    trained: list[dict[str, Any]] = []

    def train(cfg: dict[str, Any], checkpoint: Path) -> None:
        trained.append(cfg)
        checkpoint.write_bytes(b"weights")

    sweep = [{"lr": lr, "bs": bs} for lr in (0.1, 0.01, 0.001) for bs in (16, 32)]
    names = {"Project": Project, "sweep": sweep, "train": train, "trained": trained}
    return {**names, "save_model": lambda path: path.write_bytes(b"weights")}


def test_the_first_six_lines_make_one_finished_run(world: dict[str, Any]) -> None:
    exec(block_with("save_model"), world)

    run = world["run"]
    assert run.status is Status.DONE
    assert run.path("model.pt") == Path.cwd() / "results" / run.uid / "train_model.pt"
    assert world["proj"].has("train", {"lr": 1e-3})
    assert run.uid in README


def test_the_tree_is_what_they_make(world: dict[str, Any]) -> None:
    """But for digests and times all that is shown is there, and nothing else."""
    exec(block_with("save_model"), world)
    world["proj"].ledger.close()
    tree = README.partition("## What lies on disk")[2].split("```")[1]
    shown = [line[4:].lstrip("─ ").split()[0] for line in re.findall(r"[├└]──.*", tree)]
    store = Path("results/.tracker")

    run_folder, *files = shown[:3]
    assert sorted(path.name for path in Path("results", run_folder).iterdir()) == files
    assert sorted(path.name for path in Path("results").iterdir()) == [".tracker", run_folder.rstrip("/")]
    assert shown[3] == ".tracker/"
    assert [line.partition("/")[0] for line in shown[4:]] == sorted(path.name for path in store.iterdir())
    assert (store / "FORMAT").read_text() == "tracker 1\n"
    assert len(list(store.glob("ledger/*/*-0-*.seg"))) == len(list(store.glob("manifests/b6/bc654e*"))) == 1
    assert not list(store.glob("claims/*/*"))
    digest = world["run"].provenance["environment"]
    assert (store / "objects" / digest[:2] / digest[2:]).is_file()


def test_what_ran_and_what_came_out_is_recorded(world: dict[str, Any]) -> None:
    exec(block_with("save_model"), world)
    world["evaluate"] = lambda weights: [1 / (n + 1) for n in range(len(weights.read_bytes()))]
    exec(block_with("ev.log("), world)
    ev = world["ev"]

    assert ev.summary["loss"] == {
        "last": 1 / 7, "last_step": 6, "min": 1 / 7, "min_step": 6, "max": 1.0, "max_step": 0, "count": 7,
    }  # fmt: skip
    assert [one.source for one in ev.inputs.values()] == [world["run"].ref]
    assert (ev.tags, ev.notes) == (["paper"], ["figure 2"])
    assert ev.files["report"].read_text() == '{"steps":7}\n'


def test_example_1_resumes_a_grid_search(world: dict[str, Any]) -> None:
    exec(block_with("for cfg in sweep"), world)
    exec(block_with("for cfg in sweep"), world)

    assert world["trained"] == world["sweep"]
    ckpts = sorted(path.name for path in Path("results/grid").glob("*_train_ckpt.pt"))
    assert ckpts == sorted(f"{tracker.uid(cfg)}_train_ckpt.pt" for cfg in world["sweep"])


def test_example_2_nests_namespaces(world: dict[str, Any]) -> None:
    exec(block_with("randaug"), world)

    assert world["imagenet"].path == Path.cwd() / "results/imagenet"
    assert world["rnd_aug"].path == Path.cwd() / "results/imagenet/randaug"
    assert world["rnd_aug"].ledger is world["root"].ledger
    assert not Path("results").exists()


def test_example_3_attaches_a_file(world: dict[str, Any]) -> None:
    world["s"] = s = Project("results").session("train", params={"lr": 0.1})
    exec(block_with("attach_files({"), world)
    (s.folder / "train.log").write_text("epoch 1\n")
    s.done()

    assert s.files == {"log": Path.cwd() / "results" / s.uid / "train.log"}


def test_a_session_is_a_context_manager(world: dict[str, Any]) -> None:
    world["proj"] = Project("results")
    exec(block_with('with proj.session("train"'), world)

    assert world["run"].is_done()


def test_the_sweep_runs_each_config_once(world: dict[str, Any]) -> None:
    ran: list[dict[str, Any]] = []
    names = {"tracker": tracker, "project": Project("results"), "train": lambda run: ran.append(run.params)}
    exec(block_with("project.sweep"), names)
    exec(block_with("project.sweep"), names)

    assert sorted(ran, key=str) == sorted(names["configs"], key=str)
    assert len(ran) == 10


def test_the_dask_lines_run_as_a_program(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    script = "import tracker\nproject = tracker.Project('results')\nconfigs = tracker.grid(n=range(3))\n"
    script += "def train(run):\n    return run.params['n'] ** 2\n" + block_with("from distributed")
    (tmp_path / "program.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stdout.count("done") == 3
    assert [value in done.stdout for value in (", 0)", ", 1)", ", 4)")] == [True] * 3


def test_the_shell_lines_are_true_of_the_store(world: dict[str, Any]) -> None:
    tools = [tool for tool in ("b3sum", "jq", "rsync") if shutil.which(tool) is None]
    if tools:
        pytest.skip(f"not installed: {', '.join(tools)}")
    exec(block_with("save_model"), world)
    lines = blocks("console")[0].splitlines()
    claims = {
        line[2:]: lines[at + 1] for at, line in enumerate(lines[:-1]) if line.startswith(("$ b3", "$ jq"))
    }

    assert len(claims) == 2
    for command, said in claims.items():
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said
