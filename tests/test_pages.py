"""docs/metrics.md and its pictures: its examples run as they stand, its commands and links are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tracker.cli import main
from tracker.cli.program import make_parser

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "metrics.md"
TEXT = PAGE.read_text(encoding="utf-8")
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page's examples, run one after another in one folder."""
    folder = tmp_path_factory.mktemp("page")
    names: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TRACKER_CACHE", str(folder / "cache"))
        for block in blocks("python"):
            exec(block, names)
        names["project"].ledger.close()
    return names


def test_the_examples_record_what_they_say(world: dict[str, Any]) -> None:
    project, run = world["project"], world["run"]
    first, second, printing = (project.get("train", params=params) for params in (
        {"lr": 0.1, "seed": 7}, {"lr": 0.2}, {"lr": 0.3},
    ))  # fmt: skip

    assert list(first.metrics("loss").values) == [1 / n for n in range(1, 61)]
    assert list(second.metrics("val/acc").steps) == list(range(0, 1000, 100))
    assert printing.files["output.log"].read_text() == "epoch 1\n"
    assert run.inputs["split"].source == world["made"].ref
    assert world["made"].files["classes"].read_text() == '["setosa","virginica"]\n'
    assert (run.name, run.parent, run.tags) == ("baseline", world["made"].ref, ["figure-2", "paper"])
    assert {"argv", "environment"} <= set(run.provenance)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_is_one(line: str) -> None:
    words = shlex.split(re.sub(r" > .*", "", line))

    assert words[0] == "tracker"
    assert "run_command" in make_parser([words[1]]).parse_args(words[1:])


ASKING = [
    line for line in COMMANDS
    if not re.search("rerun|bundle|--follow|--traceback|c0ffee|tail| acc ", line)
]  # fmt: skip


@pytest.mark.parametrize("line", ASKING)
def test_what_only_asks_is_answered_by_the_store_of_the_examples(
    line: str, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKER_CACHE", str(world["folder"] / "cache"))
    words = shlex.split(re.sub(r" > .*", "", line))
    code = main(["-C", str(world["folder"] / "results"), *words[1:]])
    told = capsys.readouterr()

    assert (code, told.err) == (0, "")
    assert told.out or words[1] in ("drift", "note")


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md", ROOT / "docs" / "cli.md"], ids=lambda p: p.name)
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))

    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_picture_is_shown_and_one_is_in_the_readme() -> None:
    shown = set(re.findall(r"!\[[^]]+\]\(pictures/(\w+\.svg)\)", TEXT))

    assert {picture.name for picture in PICTURES} == shown
    assert len(shown) >= 2
    assert "](docs/pictures/metrics.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_is_sound_and_shows_commands_that_exist(picture: Path) -> None:
    tree = ElementTree.parse(picture).getroot()
    said = (tree.findtext(f"{SVG}desc") or "").splitlines()
    commands = [shlex.split(line.removeprefix("$ ")) for line in said if line.startswith("$ ")]

    assert commands
    for words in commands:
        assert words[0] == "tracker"
        assert "run_command" in make_parser([words[1]]).parse_args(words[1:])
    seen = " ".join(text.text or "" for text in tree.iter(f"{SVG}text"))
    assert all(" ".join(words) in seen.replace('"', "") for words in commands)
    assert "script" not in {element.tag.removeprefix(SVG) for element in tree.iter()}
    assert not re.search(r"href|url\(|/tmp|/home|/root", picture.read_text(encoding="utf-8"))
