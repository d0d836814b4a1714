"""Which sessions of a program are the repeat that it was started for, and what becomes of the others."""

from __future__ import annotations

import pytest
from laboratory import Laboratory

from tracker import repeating
from tracker.repeating import MEMBER, OF, ROOT

UID = "a7f6c8b122de39b556aa975ba9567946"


def script(*lines: str) -> str:
    return "\n".join(("from tracker import *", "project = Project('results')", *lines, ""))


WRITE = """\
    with run:
        run.path('out.txt').write_text(str(run.params))
        print('ran', run.params, flush=True)"""


def ran(errors: str) -> list[str]:
    """What the script said that it executed; its output is on standard error."""
    return [line for line in errors.splitlines() if line.startswith("ran ")]


def test_of_a_sweep_the_run_alone_is_executed(lab: Laboratory) -> None:
    lab.commit(train=script("for run in project.sweep('train', [{'lr': n} for n in range(4)]):", WRITE))
    lab.run("train.py")
    (chosen,) = [run for run in lab.runs() if run["params"] == '{"lr":2}']

    code, _told, errors = lab.rerun("--check", run=chosen["ref"])

    assert (code, ran(errors)) == (0, ["ran {'lr': 2}"])
    assert (len(lab.runs()), lab.runs()[-1]["key"]) == (5, chosen["uid"])


def test_of_a_map_in_processes_too(lab: Laboratory) -> None:
    lines = (
        "from concurrent.futures import ProcessPoolExecutor",
        "def work(run):",
        "    run.path('out.txt').write_text(str(run.params)); print('ran', run.params, flush=True)",
        "if __name__ == '__main__':",
        "    with ProcessPoolExecutor(2) as pool:",
        "        project.map(work, [{'lr': n} for n in range(3)], executor=pool)",
    )
    lab.commit(train=script(*lines))
    lab.run("train.py")
    (chosen,) = [run for run in lab.runs() if run["params"] == '{"lr":1}']

    code, _, errors = lab.rerun("--check", run=chosen["ref"])

    assert (code, ran(errors)) == (0, ["ran {'lr': 1}"])
    assert len(lab.runs()) == 4


def test_what_the_run_needs_is_made_anew_and_what_comes_after_is_not(lab: Laboratory) -> None:
    """Three stages, a run of the second repeated: the first is made in the new tree, the third is not."""
    lab.commit(
        train=script(
            "for run in project.sweep('first', [{'a': 1}]):", WRITE,
            "before = project.get('first', {'a': 1}).path('out.txt').read_text()",
            "for run in project.sweep('second', [{'b': 1}, {'b': 2}]):",
            "    assert before", WRITE,
            "for run in project.sweep('third', [{'c': 1}]):", WRITE,
        )
    )  # fmt: skip
    lab.run("train.py")
    (chosen,) = [run for run in lab.runs() if run["params"] == '{"b":2}']

    code, _, errors = lab.rerun("--check", run=chosen["ref"])

    assert (code, ran(errors)) == (0, ["ran {'a': 1}", "ran {'b': 2}"])
    assert [run["identifier"] for run in lab.runs()] == ["first", "second", "second", "third", "second"]


def test_a_program_that_asks_first_executes_it_and_then_finds_it(lab: Laboratory) -> None:
    """With the store itself as an absolute root, in which the run is done."""
    lines = (
        "if not project.has('train', {'lr': 1}):",
        "    with project.session('train', {'lr': 1}) as run:",
        "        run.path('out.txt').write_text('x')",
        "assert project.has('train', {'lr': 1})",
        "assert project.get('train', {'lr': 1}).path('out.txt').read_text() == 'x'",
        "assert project.session('train', {'lr': 1}).is_done()",
        "print('ran', project.get('train', {'lr': 1}).uid)",
    )
    lab.commit(train=script(*lines).replace("'results'", repr(str(lab.store))))
    lab.run("train.py")

    code, told, errors = lab.rerun("--check")

    assert (code, ran(errors)) == (0, [f"ran {told['repeat'].rpartition('/')[2]}"])


@pytest.mark.parametrize("call", ["{'lr': 1}, ExistingRun.NEW", ""])
def test_where_each_call_is_a_new_run_the_first_is_the_repeat(lab: Laboratory, call: str) -> None:
    lines = (
        "for turn in range(3):",
        f"    with project.session('train', {call}) as run:",
        "        run.path('out.txt').write_text('x'); run.path(f'{turn}.txt').write_text('')",
    )
    lab.commit(train=script(*lines))
    lab.run("train.py")
    third = lab.runs()[2]

    code, told, _ = lab.rerun("--check", "--ignore", "?.txt", run=third["ref"])

    assert code == 0
    assert len(lab.runs()) == 4
    assert (lab.runs()[3]["ref"], lab.runs()[3]["key"]) == (told["repeat"], third["key"])
    assert told["files"]["ignored"] == ["0.txt", "2.txt"]


def test_params_that_the_rules_of_its_store_make_the_same_are(lab: Laboratory) -> None:
    lines = (
        "import sys",
        "with project.session('train', {'lr': 1, 'workers': len(sys.argv)}) as run:",
        "    run.path('out.txt').write_text('x')",
    )
    lab.commit(train=script(*lines))
    lab.run("train.py", "more")
    assert lab.tracker("rule", "add", "ignore", "workers").returncode == 0

    code, _told, _ = lab.rerun("--check")

    assert code == 0
    assert [run["key"] for run in lab.runs()] == [lab.runs()[0]["uid"]] * 2
    assert lab.runs()[1]["params"].endswith('"lr":1,"workers":2}')


def test_namespace_and_mode_are_those_of_the_run(lab: Laboratory) -> None:
    lines = (
        "grid = Project('results', 'grid', StorageMode.PREFIX)",
        "with grid.session('train', {'lr': 1}) as run: run.path('out.txt').write_text('x')",
        "with project.session('train', {'lr': 1}) as run: run.path('out.txt').write_text('y')",
    )
    lab.commit(train=script(*lines))
    lab.run("train.py")

    code, told, _ = lab.rerun("--check")

    assert (code, told["repeat"].rpartition("/")[0]) == (0, "grid/train")
    assert len(lab.runs()) == 3
    (path,) = (lab.store / "grid").glob(f"{told['repeat'].rpartition('/')[2]}_train_out.txt")
    assert path.read_text() == "x"


def test_a_repeat_is_rerun_as_the_run_is(lab: Laboratory) -> None:
    lines = ("with project.session('train', {'lr': 1}) as run:", "    run.path('o').write_text('x')")
    lab.commit(train=script(*lines))
    lab.run("train.py")
    _, first, _ = lab.rerun()

    code, _second, _ = lab.rerun("--check", run=first["repeat"])

    assert code == 0
    assert {run["key"] for run in lab.runs()} == {lab.runs()[0]["uid"]}
    assert len(lab.runs()) == 3


# The variables


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({OF: "nothing"}, "not a run's ref"),
        ({OF: f"train/{UID}"}, "is no absolute path"),
        ({OF: f"train/{UID}", ROOT: "results"}, "is no absolute path"),
        ({OF: f"train/{UID}", ROOT: "/results"}, "is not 16 lower-case hex digits"),
        ({OF: f"train/{UID}", ROOT: "/results", MEMBER: "0123456789ABCDEF"}, "is not 16 lower-case hex"),
    ],
)
def test_variables_that_do_not_say_it_in_full_are_refused(environ: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        repeating.asked_by(environ)


@pytest.mark.parametrize("environ", [{}, {OF: ""}, {ROOT: "/results", MEMBER: "0" * 16}])
def test_without_the_first_nothing_is_asked_for(environ: dict[str, str]) -> None:
    assert repeating.asked_by(environ) is None


def test_a_run_that_is_not_there_is_an_error_of_its_program(lab: Laboratory) -> None:
    lines = ("try:", "    project.session('train', {})", "except NotFoundError as error:")
    lab.commit(train=script(*lines, "    open('said', 'w').write(str(error))"))
    lab.run("train.py", **{OF: f"train/{UID}", ROOT: str(lab.folder / "none"), MEMBER: "0" * 16})

    assert f"run train/{UID}, which is to be repeated, not found" in (lab.folder / "said").read_text()
    assert not (lab.folder / "none").exists()
