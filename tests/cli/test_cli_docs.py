"""docs/cli.md: every command with its example, and every option."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from tracker.cli.program import COMMANDS, command_of, make_parser

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PARSERS: dict[str, argparse.ArgumentParser] = next(
    action.choices for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)
)
COMMON = {"help", "directory", "as_json"}


def test_each_command_has_a_section_and_each_section_a_command() -> None:
    assert len(COMMANDS) > 20
    assert list(SECTIONS) == list(COMMANDS)


@pytest.mark.parametrize("name", PARSERS)
def test_a_section_tells_each_option_of_its_command_and_no_other(name: str) -> None:
    told = set(re.findall(r"^\| `([^`]+)` \|", SECTIONS.get(name, ""), re.MULTILINE))
    words = {word.strip(",") for row in told for word in row.split() if word.startswith("-")}
    actions = [action for action in PARSERS[name]._actions if action.dest not in COMMON]
    options = {word for action in actions for word in action.option_strings}
    positionals = {str(action.metavar or action.dest) for action in actions if not action.option_strings}

    assert words == options
    assert {row for row in told if not row.startswith("-")} == positionals


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_the_example_of_the_help(name: str) -> None:
    details = command_of(name).details
    block = re.search(r"```sh\n(.*?)```", SECTIONS[name], re.DOTALL)

    assert block is not None
    shown = [line for line in block[1].splitlines() if line]
    assert shown
    assert all(f"  {line}" in details for line in shown)
