"""The judge: does one mounted crash state keep what was promised?

Each question runs in a process of its own, so that a crash or a hang is an answer like any other and no
state is left over for the next.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import multiprocessing
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from tools.powercut.oracle import Promise
from tools.powercut.recorder import REPOSITORY, die_with_parent

FORK = multiprocessing.get_context("fork")
QUESTION_TIMEOUT_S = 120
TAKEN_UP_MAX = 3


class Failure(NamedTuple):
    """A promise that a crash state does not keep; `kind` is one word of the table in README.md."""

    kind: str
    what: str


class Verdict(msgspec.Struct):
    """What one crash state was asked, and what it failed."""

    promises: int = 0
    names: int = 0
    verify_exit: int | None = None
    taken_up: int = 0
    failures: list[Failure] = []


def judge_files(root: Path, promises: Sequence[Promise]) -> Verdict:
    """Hold a tree to its promised files and its content names, with nothing but a hash function."""
    names = list(iter_content_names(root))
    failures = [Failure("wrong-bytes", path) for path, is_right in names if not is_right]
    failures += iter_lost_files(root, promises)
    return Verdict(promises=len(promises), names=len(names), failures=failures)


def judge_store(root: Path, promises: Sequence[Promise], durability: str) -> Verdict:
    """Hold a store to what `durability` promises, and see that it opens, verifies and goes on.

    The reference reader answers for the runs before the package has touched the store.
    """
    due = [] if durability == "off" else promises
    names = list(iter_content_names(root))
    verdict = Verdict(promises=len(due), names=len(names))
    verdict.failures = [Failure("wrong-bytes", path) for path, is_right in names if not is_right]
    if durability == "full":
        verdict.failures += iter_lost_files(root, due)
    state = _ask(verdict, "reference", read_with_reference, root)
    verdict.verify_exit = _ask(verdict, "verify", verify_fully, root)
    if state is not None:
        verdict.failures += iter_lost_runs(state, due)
        _ask(verdict, "open", open_with_package, root, state)
        _ask(verdict, "go-on", go_on, root, state)
        verdict.taken_up = _ask(verdict, "take-up", take_up, root) or 0
    return verdict


def iter_content_names(root: Path) -> Iterator[tuple[str, bool]]:
    """Give each file of the store that is named by its content, and whether it holds that content.

    Spec: spec/layout.md section 2.
    """
    for path in sorted((root / ".tracker").rglob("*")):
        named = re.search(
            r"/ledger/[^/]+/[0-9a-f]{32}-\d+-([0-9a-f]{16})\.(?:seg|part)$|/objects/([0-9a-f]{2}/[0-9a-f]{62})$",
            path.as_posix(),
        )
        if named:
            digest = (named[1] or named[2]).replace("/", "")
            yield path.relative_to(root).as_posix(), _digest(path).startswith(digest)


def iter_lost_files(root: Path, promises: Sequence[Promise]) -> Iterator[Failure]:
    """Find the promised files that are missing or hold other bytes."""
    for file in (file for promise in promises for file in promise.files):
        path = root / file.path
        if not path.is_file():
            yield Failure("lost-file", file.path)
        elif _digest(path) != file.digest:
            yield Failure("changed-file", f"{file.path}: {path.stat().st_size} bytes")


def iter_lost_runs(state: dict[str, Any], promises: Sequence[Promise]) -> Iterator[Failure]:
    """Find the promised runs whose attempt, status or sealed files are not in the state of the store."""
    runs = {run["ref"]: run for run in state["runs"]}
    last = {promise.ref: promise for promise in promises}
    for promise in promises:
        run = runs.get(promise.ref)
        if run is None:
            yield Failure("lost-run", f"{promise.ref}")
        elif not any(_has_kept(attempt, promise) for attempt in run["attempts"]):
            yield Failure("lost-status", f"{promise.ref}: no attempt is {promise.status} with its files")
        elif promise.is_last and last[promise.ref] is promise and run["status"].lower() != promise.status:
            yield Failure("lost-status", f"{promise.ref}: {run['status']}, promised {promise.status}")


def _has_kept(attempt: dict[str, Any], promise: Promise) -> bool:
    sealed = {(path, digest) for _name, path, _size, digest, _external in attempt["files"]}
    return attempt["status"].lower() == promise.status and sealed >= set(promise.files)


def load_package() -> None:
    """Import the package once, so that the processes forked for the questions need not."""
    importlib.import_module("tracker.cli")


def read_with_reference(root: Path) -> dict[str, Any]:
    """Read the store with spec/reference.py, which shares no code with the package."""
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "spec" / "reference.py")
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = reference  # dataclasses look their module up
    spec.loader.exec_module(reference)
    return reference.read_store(root)


def verify_fully(root: Path) -> int:
    """Run `tracker verify --full` and give its exit code.

    Raises: RuntimeError if it printed a traceback; whatever it let through.
    """
    from tracker.cli import main

    sys.argv = ["tracker", "-C", str(root), "verify", "--full"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    if "Traceback (most recent call last)" in printed.getvalue():
        raise RuntimeError(printed.getvalue())
    return int(code or 0)


def open_with_package(root: Path, expected: dict[str, Any]) -> None:
    """See that the package finds the same runs as the reference, with the same status.

    Raises: RuntimeError if not. A RUNNING run may be shown as LOST: its process is gone.
    """
    from tracker import Project

    known = [run for run in expected["runs"] if run["params"] is not None]
    seen: dict[str, str] = {}
    for relpath in sorted({run["relpath"] for run in known}):
        project = Project(root).sub(relpath) if relpath else Project(root)
        seen.update((session.ref, session.status.lower()) for session in project.find())
    wrong = [
        f"{run['ref']} is {seen.get(run['ref'])}, not {run['status']}"
        for run in known
        if seen.get(run["ref"]) not in _ALIKE.get(run["status"].lower(), {run["status"].lower()})
    ]
    _refuse(wrong, "runs are seen otherwise by the package than by the reference")


_ALIKE = {"running": {"running", "lost"}}


def go_on(root: Path, before: dict[str, Any]) -> None:
    """Record a run after the crash, and see that it is there and that no other run changed.

    Raises: RuntimeError if not; whatever recording it raises.
    """
    from tracker import Project

    with Project(root).session("after", params={"after": "the power cut"}) as session:
        session.path("out.bin").write_bytes(b"light again")
    after = {run["ref"]: run for run in read_with_reference(root)["runs"]}
    if after.get(session.ref, {}).get("status", "lost").lower() != "done":
        raise RuntimeError(f"the new run {session.ref} is not done")
    changed = [run["ref"] for run in before["runs"] if after.get(run["ref"]) != run]
    _refuse(changed, "runs changed when another was recorded")


def take_up(root: Path) -> int:
    """Execute a few of the runs that were left RUNNING, as if a lease had passed; give how many there were.

    Raises: RuntimeError if one is not done then, or another changed; whatever executing raises.
    """
    from tracker import Project
    from tracker._model import claim

    claim.LEASE_S = -1.0  # of a claim whose bytes the power took: it says nothing of its holder, who is dead
    before = read_with_reference(root)["runs"]
    left = [run for run in before if run["status"].lower() == "running" and run["params"] is not None]
    chosen = {run["ref"]: run for run in left[:TAKEN_UP_MAX]}
    for run in chosen.values():
        session = Project(root, run["relpath"]).get(run["identifier"], uid=run["uid"])
        if session.try_start():
            session.done()
    after = {run["ref"]: run for run in read_with_reference(root)["runs"]}
    _refuse([ref for ref in chosen if after[ref]["status"].lower() != "done"], "runs could not be taken up")
    others = [run["ref"] for run in before if run["ref"] not in chosen and after.get(run["ref"]) != run]
    _refuse(others, "runs changed when others were taken up")
    return len(chosen)


def _refuse(wrong: Sequence[str], what: str) -> None:
    if wrong:
        raise RuntimeError(f"{len(wrong)} {what}: {wrong[0]}")


def _ask(verdict: Verdict, kind: str, question: Callable[..., Any], *args: object) -> Any:
    """Give the answer of `question`; an exception, a crash or a hang becomes a failure and None."""
    answer, error = isolated(question, *args)
    if error:
        verdict.failures.append(Failure(kind, error))
    return answer


def isolated(question: Callable[..., Any], *args: object) -> tuple[Any, str | None]:
    """Call in a forked process; give the answer, or None and the text of what went wrong."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_answer, args=(there, question, args))
    process.start()
    there.close()
    try:
        if not here.poll(QUESTION_TIMEOUT_S):
            return None, f"no answer within {QUESTION_TIMEOUT_S} s"
        return here.recv()
    except EOFError:
        process.join()
        return None, f"the process ended with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _answer(pipe: Any, question: Callable[..., Any], args: tuple[object, ...]) -> None:
    die_with_parent()
    try:
        pipe.send((question(*args), None))
    except Exception:
        pipe.send((None, traceback.format_exc()))


def _digest(path: Path) -> str:
    return blake3(path.read_bytes()).hexdigest()
