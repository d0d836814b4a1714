"""A plan as lines that a person can copy into a shell. Pure.

Spec: spec/rerun.md section 2.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Mapping, Sequence

from tracker.rerun.plan import Kept, Plan
from tracker.terms import Digest

APPLY = ("apply", "--binary", "--whitespace=nowarn")
"""What git is told to do with a diff."""


def shell_lines(
    plan: Plan,
    *,
    repository: str | None,
    tree: str,
    python: str,
    variables: Mapping[str, str],
    links: Sequence[str],
    object_path: Callable[[Digest], str],
) -> list[str]:
    """What is to be typed to do what the plan says: the tree, what differed from its commit, the command."""
    has_tree = plan.code is not None and repository is not None
    lines = _tree_lines(plan, repository or "", tree, links, object_path) if has_tree else []
    place = tree if has_tree else None
    words = [f"{name}={value}" for name, value in variables.items()] + plan.command(python, place)
    lines.append(shlex.join(["cd", plan.working_folder(place)]))
    lines.append(shlex.join(["env", *words]))
    if has_tree:
        lines.append(_git(repository or "", "worktree", "remove", "--force", tree))
    return lines


def _tree_lines(
    plan: Plan, repository: str, tree: str, links: Sequence[str], object_path: Callable[[Digest], str]
) -> list[str]:
    code = plan.code
    assert code is not None and code.commit is not None, "there is a commit to make a tree of"
    lines = [_git(repository, "worktree", "add", "--detach", tree, code.commit)]
    for one in code.submodules:
        if one.there is not None:
            home, place = posixpath.join(repository, one.path), posixpath.join(tree, one.path)
            lines.append(_git(home, "worktree", "add", "--detach", place, one.there))
    if code.diff is not None:
        lines.append(_git(tree, *APPLY, object_path(code.diff)))
    lines += [_line_of(kept, tree, object_path(kept.digest)) for kept in code.untracked]
    for path in links:
        source, place = (posixpath.normpath(posixpath.join(top, path)) for top in (repository, tree))
        lines.append(shlex.join(["ln", "-s", source, place]))
    return lines


def _line_of(kept: Kept, tree: str, source: str) -> str:
    place = posixpath.join(tree, kept.path)
    if kept.mode == "120000":
        return f'ln -s "$(cat {shlex.quote(source)})" {shlex.quote(place)}'
    return shlex.join(["install", "-D", "-m", kept.mode[-3:], source, place])


def _git(folder: str, *words: str) -> str:
    return shlex.join(["git", "-C", folder, *words])
