"""From facts to a plan, and two lists of files: tables, and facts that somebody forged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from blake3 import blake3

from tracker._model.event import File
from tracker.errors import DamagedError, StateError
from tracker.rerun.compare import Change, compare_environments, compare_files
from tracker.rerun.execute import Interpreter, environment_of
from tracker.rerun.plan import Plan, plan_rerun, read_recorded
from tracker.terms import AttemptId, RunRef, Status

REF = RunRef("train/a7f6c8b122de39b556aa975ba9567946")
COMMIT = "b827b5bc53d8888a3791254152a1138940a12279"


def plan_of(facts: dict[str, Any], root: str = "/home/lab/results", **code: Any) -> Plan:
    """The plan of an attempt with these facts and this code object."""
    objects = {}
    if code:
        data = json.dumps({"vcs": "git", "commit": COMMIT, **code}).encode()
        objects[blake3(data).hexdigest()] = data
        facts = {"code": blake3(data).hexdigest(), "repository": "..", **facts}
    recorded = read_recorded(
        REF, Status.DONE, AttemptId("0" * 32 + "-1"), facts, lambda digest: objects[digest]
    )
    return plan_rerun(recorded, root)


HERE = "/home/lab"


@pytest.mark.parametrize(
    ("cwd", "script", "words", "folder", "command"),
    [
        ("..", "train.py", ["train.py"], "/new", ["train.py"]),
        (".", "train.py", ["../train.py"], "/new/results", ["../train.py"]),
        ("..", "train.py", [f"{HERE}/train.py"], "/new", ["/new/train.py"]),
        ("..", "a/t.py", ["/gone/lab/a/t.py"], "/new", ["/new/a/t.py"]),
        ("../..", "train.py", ["lab/train.py"], "/home", ["/new/train.py"]),
        ("..", "a/t.py", ["-m", "a.t", f"{HERE}/data"], "/new", ["-m", "a.t", f"{HERE}/data"]),
        ("../sub", "/bin/tool", ["/bin/tool", "x"], "/new/sub", ["/bin/tool", "x"]),
    ],
)
def test_the_folder_and_the_words_in_the_new_tree(
    cwd: str, script: str, words: list[str], folder: str, command: list[str]
) -> None:
    """The store is /home/lab/results, the top of the old tree /home/lab, that of the new one /new."""
    plan = plan_of({"argv": ["python", *words], "script": script, "cwd": cwd}, untracked=[])

    assert (plan.working_folder("/new"), plan.command("py", "/new")) == (folder, ["py", *command])


def test_a_store_that_was_moved_knows_the_folder_still() -> None:
    """What leads above the root of today is no matter: it is counted from the top of the tree."""
    facts = {"argv": ["python", "t.py"], "script": "t.py", "cwd": "../../../sub", "repository": "../../.."}
    plan = plan_of(facts, root="/r", untracked=[])

    assert plan.working_folder("/new") == "/new/sub"


def test_long_members_stand_in_objects() -> None:
    words = ["python", "train.py", *map(str, range(1000))]
    data = json.dumps({"argv": words}).encode()
    recorded = read_recorded(REF, Status.DONE, AttemptId("a-1"), {"argv": "0" * 64}, lambda _: data)

    assert recorded.argv == tuple(words)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, "its command is not recorded"),
        ({"argv": ["python"]}, "typed in or came through a pipe"),
        ({"argv": ["python", "-"]}, "typed in or came through a pipe"),
        ({"argv": ["python", "-m", "ipykernel_launcher", "-f", "x.json"]}, "it ran in a notebook"),
        ({"argv": ["python", "t.py", "--token=***"]}, "masked as a secret: python t.py '--token=\\*\\*\\*'"),
        ({"argv": ["python", "t.py"], "problems": ["argv: 2 of 9 words kept"]}, "2 of 9 words kept"),
        ({"argv": ["python", "t.py"], "problems": ["git diff: not kept, over 10 MiB"]}, "over 10 MiB"),
    ],
)
def test_a_command_that_cannot_be_executed_again_says_why(facts: dict[str, Any], why: str) -> None:
    with pytest.raises(StateError, match=why):
        plan_of(facts)


@pytest.mark.parametrize(
    "facts",
    [
        {"argv": 1},
        {"argv": [1]},
        {"argv": ["python", "t.py"], "cwd": 5},
        {"argv": ["a", "b"], "variables": [1]},
    ],
)
def test_facts_of_another_form_are_damage(facts: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match="provenance"):
        plan_of(facts)


FILE = ["100644", 1, "0" * 64]


@pytest.mark.parametrize(
    "code",
    [
        {"commit": "--upload-pack=x"},
        {"commit": "HEAD"},
        {"untracked": [["../x.py", *FILE]]},
        {"untracked": [["/etc/x.py", *FILE]]},
        {"untracked": [["a/./x.py", *FILE]]},
        {"untracked": [["a//x.py", *FILE]]},
        {"untracked": [[".git/hooks/post-checkout", *FILE]]},
        {"untracked": [["sub/.GIT/config", *FILE]]},
        {"untracked": [["a\0b", *FILE]]},
        {"untracked": [["x.py", "104755", 1, "0" * 64]]},
        {"untracked": "all"},
        {"submodules": [["../part", COMMIT, COMMIT, False]]},
        {"submodules": [["part", COMMIT, "main", False]]},
    ],
)
def test_a_code_object_leads_nowhere_else(code: dict[str, Any]) -> None:
    with pytest.raises(DamagedError):
        plan_of({"argv": ["python", "t.py"]}, **{"untracked": [], **code})


def test_what_is_not_as_it_was_is_told() -> None:
    code = {
        "masked": 2,
        "left_out": [["big.py", "over 1 MiB"]],
        "submodules": [["part", COMMIT, COMMIT, True]],
    }
    plan = plan_of(
        {
            "argv": ["python", "t.py"],
            "variables": {"WORLD_SIZE": "8", "RANK": "0", "A": "1", "C": "cut…", "B": "***"},
        },
        **code,
    )

    assert plan.variables == {"A": "1"}
    assert len(plan.warnings) == 4
    assert "2 places of the code were masked" in plan.warnings[0]
    assert "big.py (over 1 MiB)" in plan.warnings[1]
    assert "submodule part" in plan.warnings[2]
    assert "one of 8 processes" in plan.warnings[3]


# Comparing


def file(name: str, data: bytes | None = b"x", *, sealed: bool = True) -> File:
    digest = blake3(data).digest() if data is not None and sealed else None
    return File(name, f"u/{name}", None if data is None else len(data), digest, False)


def test_files_are_told_apart_by_name_size_and_digest() -> None:
    first = [
        file("same"),
        file("gone"),
        file("changed"),
        file("longer"),
        file("sizes", sealed=False),
        file("unsealed"),
    ]
    repeat = [
        *(file("same"), file("new"), file("changed", b"y"), file("longer", b"xx")),
        *(file("sizes", b"xx", sealed=False), file("unsealed", sealed=False), file("a.log")),
    ]  # fmt: skip
    found = compare_files(first, repeat, ["*.log"])

    assert (found.same, found.missing, found.extra) == (["same"], ["gone"], ["new"])
    assert [one.name for one in found.differs] == ["changed", "longer", "sizes"]
    assert (found.unknown, found.ignored) == (["unsealed"], ["a.log"])
    assert not found.is_same


@pytest.mark.parametrize(
    ("first", "repeat", "is_same"),
    [
        ([file("a")], [file("a")], True),
        ([file("a")], [file("a"), file("b")], False),
        ([file("a"), file("b")], [file("a")], False),
        ([file("a", sealed=False)], [file("a", sealed=False)], False),
        ([], [], False),
    ],
)
def test_only_what_was_compared_is_reproduced(first: list[File], repeat: list[File], is_same: bool) -> None:
    assert compare_files(first, repeat).is_same is is_same


def test_environments_differ_by_path_packages_first() -> None:
    recorded = (
        b'{"machine":{"gpus":["a"]},"packages":{"numpy":"1","torch":"2"},"python":{"version":"3.11.1"}}'
    )
    present = (
        recorded.replace(b'"a"', b'"b"').replace(b'"numpy"', b'"jax":"3","numpy"').replace(b'"2"', b'"2.1"')
    )

    assert compare_environments(recorded, present) == [
        Change("packages.jax", None, "3"),
        Change("packages.torch", "2", "2.1"),
        Change("machine.gpus", ["a"], ["b"]),
    ]


# Variables


def test_folders_of_modules_in_the_old_tree_are_those_of_the_new_one() -> None:
    """An editable install of the code, beside an interpreter that lies in the tree too."""
    facts = {
        "argv": ["python", "t.py"],
        "cwd": "..",
        "variables": {"PYTHONPATH": "lib:/home/lab/more:/opt/x"},
    }
    plan = plan_of(facts, untracked=[])
    search = ("/home/lab/.venv/lib/python3.11/site-packages", "/home/lab/src", "/usr/lib/python3.11")
    interpreter = Interpreter("py", None, ("/home/lab/.venv", "/usr"), search)

    here = environment_of(plan, interpreter, "/new", {"PYTHONPATH": "/now", "A": "1"}, {"B": "2"})
    assert here == {"PYTHONPATH": "lib:/new/more:/opt/x:/new/src", "A": "1", "B": "2"}
    assert environment_of(plan, interpreter, None, {}, {}) == {"PYTHONPATH": "lib:/home/lab/more:/opt/x"}
