"""What is to be done to execute a recorded command again, from what its attempt recorded. Pure.

Facts come from disk, and are looked at before they are used: what is not of the form that they have is an
error, and no path leads out of the working tree.

Spec: spec/rerun.md sections 1 and 2; spec/provenance.md sections 2 to 4.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tracker.errors import DamagedError, StateError
from tracker.provenance.masking import MASK
from tracker.terms import AttemptId, Digest, RunRef, Status

Fetch = Callable[[Digest], bytes]
"""Gives the bytes of an object. Raises: NotFoundError, DamagedError."""


class Kept(Struct, frozen=True, array_like=True):
    """A file that git did not know: path below the top of the tree, mode in octal, its bytes as an object."""

    path: str
    mode: str
    size: int
    digest: Digest
    masked: int = 0


class Submodule(Struct, frozen=True, array_like=True):
    """A submodule: the commit that the tree names, and the one that was checked out, where that is known."""

    path: str
    commit: str
    there: str | None
    is_dirty: bool | None


class Code(Struct, frozen=True):
    """The code object. Spec: spec/provenance.md section 4."""

    commit: str | None = None
    diff: Digest | None = None
    untracked: tuple[Kept, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    submodules: tuple[Submodule, ...] = ()
    masked: int = 0


class _Facts(Struct, frozen=True):
    """The members of an attempt's facts that count here."""

    argv: tuple[str, ...] | Digest | None = None
    variables: dict[str, str] | Digest = {}
    cwd: str = "."
    repository: str | None = None
    script: str | None = None
    code: Digest | None = None
    environment: Digest | None = None
    problems: tuple[str, ...] = ()


class Recorded(Struct, frozen=True):
    """What an attempt recorded of its command. Paths are relative to the root, `script` to the tree's top."""

    ref: RunRef
    status: Status
    attempt: AttemptId
    argv: tuple[str, ...]
    variables: dict[str, str]
    cwd: str
    repository: str | None
    script: str | None
    code: Code | None
    environment: bytes | None
    problems: tuple[str, ...]


class Plan(Struct, frozen=True):
    """What is to be done: a tree of this code, and in it this command.

    Without `code` the command runs where it ran, with the code that lies there. `top` and `folder` are
    absolute; `inside` is the working folder below the top of the tree, None if it lies elsewhere. The word
    `script_at` is replaced by the script in the new tree.
    """

    ref: RunRef
    attempt: AttemptId
    python: str
    words: tuple[str, ...]
    variables: dict[str, str]
    python_path: tuple[str, ...]
    code: Code | None
    top: str | None
    folder: str
    inside: str | None
    script: str | None
    script_at: int | None
    warnings: tuple[str, ...]

    def command(self, python: str, tree: str | None) -> list[str]:
        """The words of the command, with this interpreter, in this tree."""
        words = [python, *self.words]
        if tree is not None and self.script_at is not None and self.script is not None:
            words[1 + self.script_at] = posixpath.join(tree, self.script)
        return words

    def working_folder(self, tree: str | None) -> str:
        """The folder in which the command is to run."""
        if tree is None or self.inside is None:
            return self.folder
        return posixpath.normpath(posixpath.join(tree, self.inside))

    def in_tree(self, path: str, tree: str | None) -> str:
        """The path in the new tree that an absolute path in the old one has; any other as it is."""
        below = None if tree is None or self.top is None else _below(path, self.top)
        return path if tree is None or below is None else posixpath.normpath(posixpath.join(tree, below))


def read_recorded(
    ref: RunRef, status: Status, attempt: AttemptId, facts: Mapping[str, Any], fetch: Fetch
) -> Recorded:
    """What the facts of an attempt say of its command, with the objects that they name.

    Raises: StateError where no command is recorded; DamagedError for facts of another form; what `fetch`
    raises.
    """
    told = _converted(facts, _Facts, f"facts of attempt {attempt}")
    if told.argv is None:
        why = "cannot be rerun, as its command is not recorded"
        raise StateError(ref, status, why, "run it by hand; provenance is recorded from its next start on")
    argv = told.argv
    if isinstance(argv, str):
        argv = _member("argv", Digest(argv), fetch, tuple[str, ...])
    variables = told.variables
    if isinstance(variables, str):
        variables = _member("variables", Digest(variables), fetch, dict[str, str])
    code = None if told.code is None else _code(told.code, fetch)
    environment = None if told.environment is None else fetch(told.environment)
    return Recorded(
        ref, status, attempt, argv, variables, told.cwd, told.repository, told.script, code, environment,
        told.problems,
    )  # fmt: skip


def _member(name: str, digest: Digest, fetch: Fetch, kind: Any) -> Any:
    """What an object says that holds one long member of the facts."""
    tree = _parsed(fetch(digest), dict[str, Any], f"object {digest}")
    return _converted(tree.get(name), kind, f"object {digest}")


def _code(digest: Digest, fetch: Fetch) -> Code:
    where = f"object {digest}"
    code: Code = _parsed(fetch(digest), Code, where)
    commits = [code.commit, *(commit for one in code.submodules for commit in (one.commit, one.there))]
    paths = [kept.path for kept in code.untracked] + [one.path for one in code.submodules]
    bad = [commit for commit in commits if commit is not None and not _COMMIT.fullmatch(commit)]
    bad += [path for path in paths if not _is_inside(path)]
    bad += [kept.mode for kept in code.untracked if kept.mode not in _MODES]
    if bad:
        raise DamagedError(where, f"{bad[0]!r} cannot stand there", spec="spec/provenance.md section 4")
    return code


_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_MODES = ("100644", "100755", "120000")


def _is_inside(path: str) -> bool:
    """True for a path that leads to a file of the tree, and into no repository's own folder."""
    parts = path.split("/")
    return "\0" not in path and all(part not in ("", ".", "..") and part.lower() != ".git" for part in parts)


def _parsed(data: bytes, kind: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DamagedError(where, str(error), spec="spec/provenance.md") from error


def _converted(value: object, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.MsgspecError as error:
        raise DamagedError(where, str(error), spec="spec/provenance.md section 2") from error


def plan_rerun(recorded: Recorded, root: str, *, to_print: bool = False) -> Plan:
    """Say how the command is executed again; `root` is where the store lies today, absolute.

    A command that is only printed may have masked words: a person fills them in.

    Raises: StateError, with the reason, for a command that cannot be.
    """
    why = (None if to_print else _why_masked(recorded)) or _why_not(recorded)
    if why:
        raise StateError(recorded.ref, recorded.status, f"cannot be rerun: {why[0]}", why[1])
    code = recorded.code if recorded.code is not None and recorded.code.commit is not None else None
    folder = _absolute(root, recorded.cwd)
    top = None if recorded.repository is None else _absolute(root, recorded.repository)
    inside = None
    if code is not None and recorded.repository is not None:
        deep = _DEEP + root
        inside = _below(_absolute(deep, recorded.cwd), _absolute(deep, recorded.repository))
    python, *words = recorded.argv
    script = recorded.script if recorded.script and not posixpath.isabs(recorded.script) else None
    return Plan(
        recorded.ref, recorded.attempt, python, tuple(words),
        {name: value for name, value in recorded.variables.items() if _is_passed_on(name, value)},
        tuple(part for part in recorded.variables.get("PYTHONPATH", "").split(":") if _is_folder(part)),
        code, top, folder, inside, script,
        _script_at(words, script, folder, top, is_inside=inside is not None),
        tuple(_warnings(recorded, code)),
    )  # fmt: skip


_DEEP = "/x" * 64
"""Set before a root, so that no `..` of a recorded path leads above `/`, wherever the store lies today."""


def _absolute(base: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(base, path))


def _below(path: str, folder: str) -> str | None:
    """`path` from `folder`, "." for itself; None if it lies elsewhere."""
    path = posixpath.normpath(path)
    return posixpath.relpath(path, folder) if f"{path}/".startswith(f"{folder.rstrip('/')}/") else None


def _why_masked(recorded: Recorded) -> tuple[str, str] | None:
    if not any(MASK in word for word in recorded.argv):
        return None
    shown = shlex.join(recorded.argv)
    cure = "fill it in by hand, in the lines of --print"
    return f"a part of its command was masked as a secret: {shown}", cure


def _why_not(recorded: Recorded) -> tuple[str, str] | None:
    """Why the command cannot be executed again, and what can be done; None if it can."""
    words = recorded.argv[1:]
    if not words or words[-1] == "-":
        return "its code was typed in or came through a pipe", "keep it in a file, and run that"
    if any("ipykernel" in word or "colab_kernel" in word for word in words):
        return "it ran in a notebook", "run the notebook again"
    cut = next((text for text in recorded.problems if text.startswith("argv: ")), None)
    if cut:
        return f"its command was too long to be kept whole ({cut})", "put its words into a file"
    lost = next((text for text in recorded.problems if text.startswith("git diff: not kept")), None)
    if lost:
        return f"its changes to the code were not kept ({lost})", "commit them, and run it anew"
    return None


def _script_at(
    words: Sequence[str], script: str | None, folder: str, top: str | None, *, is_inside: bool
) -> int | None:
    """Which word leads to the script in the old tree, and would from the new working folder still."""
    if script is None or top is None:
        return None
    for place, word in enumerate(words):
        is_absolute = posixpath.isabs(word)
        if (is_absolute and word.endswith(f"/{script}")) or _absolute(folder, word) == _absolute(top, script):
            return place if is_absolute or not is_inside else None
    return None


def _is_folder(part: str) -> bool:
    return part != "" and MASK not in part and not part.endswith(_CUT)


def _is_passed_on(name: str, value: str) -> bool:
    is_whole = MASK not in value and not value.endswith(_CUT)
    return is_whole and name not in _NOT_PASSED_ON and not name.startswith("SLURM_")


_CUT = "…"
"""Stands where a value was cut."""

_NOT_PASSED_ON = frozenset(
    {"RANK", "LOCAL_RANK", "WORLD_SIZE", "JPY_SESSION_NAME", "LD_PRELOAD", "PYTHONPATH"}
)
"""Variables that say where among others a process is, or name files of the old tree."""


def _warnings(recorded: Recorded, code: Code | None) -> list[str]:
    """What will not be as it was."""
    warnings = [f"not kept when it ran: {text}" for text in recorded.problems if code is not None]
    if code is None:
        warnings.append("no commit is recorded: it runs with the code as it lies there now")
        return warnings
    if code.masked:
        warnings.append(
            f"{code.masked} places of the code were masked as secrets: it is not exactly what ran"
        )
    warnings += [f"not kept when it ran: {path} ({why})" for path, why in code.left_out]
    warnings += [
        f"changes in the submodule {one.path} were not kept" for one in code.submodules if one.is_dirty
    ]
    size = recorded.variables.get("WORLD_SIZE", "1")
    if size not in ("", "1"):
        warnings.append(
            f"it was one of {size} processes: what launched them is not recorded, and it runs alone"
        )
    return warnings
