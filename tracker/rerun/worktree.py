"""A working tree of a recorded commit, with what differed from it then, made beside the repository's own.

Asks `git`, with hooks and file system monitors off, and fetches nothing by itself. The repository gains an
entry below `.git/worktrees`, which goes with the tree; its own working tree and index are not touched.

A crash leaves the folder, named `tracker-rerun-…`, below the folder for temporary files;
`git worktree remove --force` takes it away.

Spec: spec/rerun.md section 2.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tracker.errors import StateError, TrackerWarning
from tracker.provenance.command import Answer, find_program, run
from tracker.rerun.plan import Fetch, Kept, Plan, Submodule
from tracker.rerun.shell import APPLY
from tracker.terms import Status

TIMEOUT_S = 3600.0
"""A large tree takes long to write."""

PREFIX = "tracker-rerun-"

OPTIONS = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false"),
    *("-c", "submodule.recurse=false", "-c", "apply.ignoreWhitespace=no"),
)


class Repository(NamedTuple):
    """A repository that holds the commit: a folder in it, and the top of its working tree, None if bare."""

    folder: str
    top: str | None


class Refusal(Exception):
    """Git, or the file system, did not do it; the text says what and why."""


def find_repository(plan: Plan, status: Status, folders: Iterable[str]) -> Repository:
    """The first of the repositories that hold these folders which has the plan's commit.

    Raises: StateError where none has it.
    """
    assert plan.code is not None and plan.code.commit is not None, (
        "a plan without a commit needs no repository"
    )
    commit, tried = plan.code.commit, []
    try:
        for folder in dict.fromkeys(folders):
            if os.path.isdir(folder) and _holds(folder, commit):
                return Repository(folder, _top_of(folder))
            tried.append(folder)
    except Refusal as error:
        cure = "install it, or do by hand what --print shows"
        raise StateError(plan.ref, status, f"cannot be rerun: {error}", cure) from error
    why = f"cannot be rerun: no repository here has its commit {commit}; looked in {', '.join(tried)}"
    cure = "fetch it (`git fetch`), and call this from inside the repository that has it"
    raise StateError(plan.ref, status, why, cure)


def _holds(folder: str, commit: str) -> bool:
    return not _git(folder, "cat-file", "-e", f"{commit}^{{commit}}").code


def _top_of(folder: str) -> str | None:
    answer = _git(folder, "rev-parse", "--show-toplevel")
    top = os.fsdecode(answer.out.removesuffix(b"\n"))
    return top if top and not answer.code else None


@contextmanager
def working_tree(
    repository: Repository, plan: Plan, status: Status, fetch: Fetch, links: Sequence[str], *, keep: bool
) -> Iterator[str]:
    """A tree of the plan's code for as long as the context lasts, or for good with `keep`; give its top.

    `links` are paths below the top that git does not know: they are symbolic links to those of the old tree.

    Raises: StateError where it cannot be made; what was made is taken away again.
    """
    holder = os.path.realpath(tempfile.mkdtemp(prefix=PREFIX))
    tree = os.path.join(holder, os.path.basename(repository.top or "") or "tree")
    made: list[tuple[str, str]] = []
    is_kept = False
    try:
        try:
            _make(repository, plan, tree, fetch, links, made)
        except (Refusal, OSError) as error:
            cure = "see what --print shows, and run it by hand"
            raise StateError(plan.ref, status, f"cannot be rerun: {error}", cure) from error
        is_kept = keep
        yield tree
    finally:
        if not is_kept:
            _remove(made, holder)


def _make(
    repository: Repository,
    plan: Plan,
    tree: str,
    fetch: Fetch,
    links: Sequence[str],
    made: list[tuple[str, str]],
) -> None:
    code = plan.code
    assert code is not None and code.commit is not None, "there is a commit to make a tree of"
    _add(repository.folder, tree, code.commit, made)
    for submodule in code.submodules:
        _add_submodule(repository, submodule, tree, made)
    if code.diff is not None:
        _apply(fetch(code.diff), tree)
    for kept in code.untracked:
        _write(tree, kept, fetch(kept.digest))
    for path in links:
        _link(repository, tree, path)


def _add(folder: str, tree: str, commit: str, made: list[tuple[str, str]]) -> None:
    _must(_git(folder, "worktree", "add", "--detach", "--quiet", tree, commit), f"no tree of {commit[:12]}")
    made.append((folder, tree))


def _add_submodule(
    repository: Repository, submodule: Submodule, tree: str, made: list[tuple[str, str]]
) -> None:
    """A tree of the submodule's own repository, if that is here: nothing is fetched."""
    home = None if repository.top is None else os.path.join(repository.top, submodule.path)
    commit = submodule.there or submodule.commit
    if home is not None and os.path.lexists(os.path.join(home, ".git")) and _holds(home, commit):
        _add(home, os.path.join(tree, submodule.path), commit, made)
    elif submodule.there is not None:
        _warn(f"the submodule {submodule.path} is left empty: its commit {commit} is not here")


def _apply(diff: bytes, tree: str) -> None:
    path = os.path.join(os.path.dirname(tree), "diff")
    with open(path, "wb") as file:
        file.write(diff)
    _must(_git(tree, *APPLY, path), "the recorded diff does not apply")
    os.remove(path)


def _write(tree: str, kept: Kept, data: bytes) -> None:
    """Write an untracked file. No folder on its way may be a link, which could lead out of the tree."""
    path = os.path.join(tree, kept.path)
    folder = os.path.dirname(path)
    if os.path.realpath(folder) != folder:
        raise Refusal(f"the untracked file {kept.path} lies behind a symbolic link")
    os.makedirs(folder, exist_ok=True)
    if kept.mode == "120000":
        os.symlink(data, os.fsencode(path))
        return
    mode = 0o755 if kept.mode == "100755" else 0o644
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(fd, "wb") as file:
        file.write(data)


def _link(repository: Repository, tree: str, path: str) -> None:
    if repository.top is None:
        raise Refusal(f"--link {path}: the repository has no working tree")
    source = os.path.normpath(os.path.join(repository.top, path))
    below = os.path.relpath(source, repository.top)
    if not os.path.lexists(source) or below.split(os.sep)[0] in ("..", "."):
        raise Refusal(f"--link {path}: nothing below {repository.top} has this name")
    place = os.path.join(tree, below)
    if os.path.lexists(place):
        raise Refusal(f"--link {path}: the commit has it already")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.symlink(source, place)


def _remove(made: list[tuple[str, str]], holder: str) -> None:
    """Take the trees away, the inner ones first; what stays is a warning, and the outcome stands."""
    for folder, tree in reversed(made):
        answer = _git(folder, "worktree", "remove", "--force", tree)
        if answer.code:
            _warn(f"the tree {tree} is not removed: {_said(answer)}; `git worktree remove --force` does it")
            return
    try:
        shutil.rmtree(holder)
    except OSError as error:
        _warn(f"the folder {holder} is not removed: {error.strerror}; remove it by hand")


def _warn(text: str) -> None:
    warnings.warn(text, TrackerWarning, stacklevel=3)


def _must(answer: Answer, what: str) -> None:
    if answer.code or answer.cut:
        raise Refusal(f"{what}: {_said(answer)}")


def _said(answer: Answer) -> str:
    """The last line of what git complains of."""
    lines = answer.err.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"git ended with {answer.code}"


def _git(folder: str, *words: str) -> Answer:
    """What git says. Raises: Refusal if there is none."""
    program = find_program("git", os.environ.get("PATH", os.defpath))
    if program is None:
        raise Refusal("git is not installed")
    return run([program, "-C", folder, *OPTIONS, *words], git_environment(os.environ), timeout_s=TIMEOUT_S)


def git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without those by which an outer git would speak of its own repository."""
    kept = {name: value for name, value in environment.items() if name not in _OUTER}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


_OUTER = frozenset(
    {
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_EXTERNAL_DIFF"),
    }
)
