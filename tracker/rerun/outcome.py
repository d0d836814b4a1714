"""rerun: a run's recorded command executed again, as a repeat of it, and the two compared.

The repeat is recorded by the program itself, in the store of the run; here its identity is chosen, and what
became of it is looked up.

Spec: spec/rerun.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from tracker._model.event import Failed, Noted
from tracker._model.fold import Attempt, Run
from tracker._model.names import STORE, object_path
from tracker._store.objects import get_object
from tracker.errors import NotFoundError, StateError
from tracker.ledger import Ledger
from tracker.liveness import as_seen
from tracker.repeating import MEMBER, OF, ROOT, Repeat, repeat_of
from tracker.rerun.compare import Change, Compared, compare_environments, compare_files
from tracker.rerun.execute import Interpreter, ask_interpreter, environment_of, execute, iter_interpreters
from tracker.rerun.plan import Fetch, Plan, Recorded, plan_rerun, read_recorded
from tracker.rerun.shell import shell_lines
from tracker.rerun.worktree import PREFIX, Repository, find_repository, working_tree
from tracker.terms import Digest, Durability


class Prepared(Struct, frozen=True):
    """A rerun that has all it needs. `changes` is in what the environment is not that of the run."""

    run: Run
    attempt: Attempt
    plan: Plan
    repository: Repository | None
    interpreter: Interpreter
    changes: list[Change]
    repeat: Repeat
    variables: dict[str, str]
    """Those by which the program knows what it repeats."""
    warnings: list[str]

    def command(self, tree: str | None) -> list[str]:
        """The words of the command in this tree."""
        return self.plan.command(self.interpreter.path, tree)


class Outcome(Struct, frozen=True):
    """What became of a rerun; `compared` is None where nothing was to be compared."""

    repeat: Run
    exit_code: int
    why: str
    """In what the repeat ended otherwise than the run, or empty."""
    compared: Compared | None
    tree: str | None
    """The working tree, if it was kept."""

    @property
    def is_reproduced(self) -> bool:
        """True if it ended as the run did, with the same files."""
        return not self.why and self.compared is not None and self.compared.is_same

    @property
    def verdict(self) -> str:
        """In one line what came of it."""
        compared = self.compared
        if compared is None or self.is_reproduced:
            return self.why or ("done" if compared is None else "reproducible")
        names = [
            *(one.name for one in compared.differs),
            *compared.missing,
            *compared.extra,
            *compared.unknown,
        ]
        words = [self.why] if self.why else []
        words += [f"not reproduced: {', '.join(names)}"] if names else []
        return "; ".join(words) or "nothing was compared"


def prepare(
    ledger: Ledger, run: Run, *, here: str, to_print: bool = False, to_check: bool = False
) -> Prepared:
    """Find all that is needed to execute a run's command again. Executes nothing recorded; writes nothing.

    `here` is the current folder, whose repository is looked at first.

    Raises: StateError, with the reason, for a run that cannot be rerun; DamagedError.
    """
    attempt = run.attempt
    if attempt is None:
        raise StateError(run.ref, run.status, "cannot be rerun, as it was never begun", "run it by hand")
    if to_check and not any(file.digest for file in attempt.files):
        why = "cannot be checked: its attempt sealed no file by its digest"
        raise StateError(run.ref, run.status, why, "rerun it without --check")
    recorded = read_recorded(run.ref, run.status, attempt.id, attempt.facts, _fetch_of(ledger, run))
    plan = plan_rerun(recorded, str(ledger.root), to_print=to_print)
    repository = None
    if plan.code is not None:
        places = (here, *([plan.top] if plan.top else []), plan.folder, str(ledger.root))
        repository = find_repository(plan, run.status, places)
    elif not os.path.isdir(plan.folder):
        why = f"cannot be rerun: its working folder {plan.folder} is not here, and no commit is recorded"
        raise StateError(run.ref, run.status, why, "copy the code there")
    interpreter, why = _interpreter_of(plan, run)
    member = os.urandom(8).hex()
    return Prepared(
        run, attempt, plan, repository, interpreter, _changes(recorded, interpreter), repeat_of(run, member),
        {OF: run.ref, ROOT: str(ledger.root), MEMBER: member}, [*([why] if why else []), *plan.warnings],
    )  # fmt: skip


def _fetch_of(ledger: Ledger, run: Run) -> Fetch:
    """Gives objects of the store. One that is not here is a reason why the run cannot be rerun."""

    def fetch(digest: Digest) -> bytes:
        try:
            return get_object(ledger.lookup.store_fd, digest)
        except NotFoundError as error:
            raise StateError(
                run.ref, run.status, f"cannot be rerun: {error.what} is not here", error.cure
            ) from error

    return fetch


def _interpreter_of(plan: Plan, run: Run) -> tuple[Interpreter, str]:
    """The recorded interpreter, else the one that executes this, and why it is that one."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(plan.python_path)}
    script = os.path.dirname(os.path.join(plan.top or plan.folder, plan.script or ""))
    candidates = list(dict.fromkeys(iter_interpreters(plan, os.environ, sys.executable)))
    for path in candidates:
        found = ask_interpreter(path, script, environ)
        if found is not None:
            is_first = path == candidates[0]
            return found, "" if is_first else f"its interpreter {plan.python} does not serve: {path} is taken"
    why = f"cannot be rerun: no interpreter of {', '.join(candidates)} has this package"
    raise StateError(run.ref, run.status, why, "install tracker for it")


def _changes(recorded: Recorded, interpreter: Interpreter) -> list[Change]:
    if recorded.environment is None or interpreter.environment is None:
        return []
    return compare_environments(recorded.environment, interpreter.environment)


def print_lines(ledger: Ledger, prepared: Prepared, links: Sequence[str] = ()) -> list[str]:
    """The lines that do by hand what `rerun` does. Makes nothing."""
    plan, repository = prepared.plan, prepared.repository
    tree = os.path.join(tempfile.gettempdir(), f"{PREFIX}{prepared.repeat.uid}")
    top = None if repository is None else repository.top or repository.folder
    store = ledger.root / STORE
    added = _variables(prepared, None if repository is None else tree)
    return shell_lines(
        plan, repository=top, tree=tree, python=prepared.interpreter.path, variables=added, links=links,
        object_path=lambda digest: str(store / object_path(digest)),
    )  # fmt: skip


def _variables(prepared: Prepared, tree: str | None) -> dict[str, str]:
    """The variables that the command gets beside those of now, whose PYTHONPATH is none of its."""
    now = {"PYTHONPATH": ""} if os.environ.get("PYTHONPATH") else {}
    return environment_of(prepared.plan, prepared.interpreter, tree, now, prepared.variables)


def rerun(
    ledger: Ledger,
    prepared: Prepared,
    *,
    check: bool = False,
    ignore: Sequence[str] = (),
    links: Sequence[str] = (),
    keep: bool = False,
) -> Outcome:
    """Execute the command again, and say what became of the repeat, which keeps a note of it.

    Raises: StateError if the tree cannot be made, or the command never came to the run; StorageError.
    """
    run = prepared.run
    with _tree_of(ledger, prepared, links, keep=keep) as tree:
        folder = prepared.plan.working_folder(tree)
        if tree is not None and prepared.plan.inside is not None:
            os.makedirs(folder, exist_ok=True)  # git knows no empty folders
        code = _execute(prepared, tree, folder)
    found = ledger.run(prepared.repeat.ref)
    repeat = None if found is None else as_seen(ledger, found)
    if repeat is None or repeat.attempt is None:
        why = f"cannot be rerun: its command ended with {code} and did not come to this run"
        raise StateError(run.ref, run.status, why, "see what it said; --keep keeps its folder")
    first, kept = prepared.attempt, tree if keep else None
    if check:
        compared = compare_files(first.files, repeat.attempt.files, ignore)
        outcome = Outcome(repeat, code, _otherwise(first, repeat.attempt), compared, kept)
    else:
        outcome = Outcome(repeat, code, _otherwise(None, repeat.attempt), None, kept)
    _note(ledger, prepared, outcome, check=check)
    return outcome


@contextmanager
def _tree_of(ledger: Ledger, prepared: Prepared, links: Sequence[str], *, keep: bool) -> Iterator[str | None]:
    """The working tree; None where the command runs with the code as it lies there."""
    if prepared.repository is None:
        yield None
        return
    run = prepared.run
    fetch = _fetch_of(ledger, run)
    with working_tree(prepared.repository, prepared.plan, run.status, fetch, links, keep=keep) as tree:
        yield tree


def _execute(prepared: Prepared, tree: str | None, folder: str) -> int:
    environ: Mapping[str, str] = {**os.environ, **_variables(prepared, tree)}
    try:
        return execute(prepared.command(tree), folder, environ)
    except OSError as error:
        run = prepared.run
        why = f"cannot be rerun: its command does not start: {error.strerror}: {error.filename}"
        raise StateError(run.ref, run.status, why, "see what --print shows") from error


def _otherwise(first: Attempt | None, repeat: Attempt) -> str:
    """How the repeat ended, if not as the first, or, without one, if not well."""
    wanted = "done" if first is None else _ending(first)
    found = _ending(repeat)
    return "" if found == wanted else f"it ended as {found}" + ("" if first is None else f", not as {wanted}")


def _ending(attempt: Attempt) -> str:
    end = attempt.end
    named = f" ({end.type})" if isinstance(end, Failed) and end.type else ""
    return f"{attempt.status}{named}"


def _note(ledger: Ledger, prepared: Prepared, outcome: Outcome, *, check: bool) -> None:
    text = f"rerun of {prepared.run.ref}, attempt {prepared.attempt.id}"
    text += f": {outcome.verdict}" if check or outcome.why else ""
    ledger.append(lambda _: [Noted(prepared.repeat.ref, text)])
    ledger.commit(Durability.FULL)
