"""What code lies in the working tree: commit, branch, what differs from it, and what git does not know.

Asks the `git` program, and reads untracked files itself. Nothing that the tree or its configuration names is
executed (hooks, filters, file system monitors, diff drivers), nothing is fetched, and nothing is written.

LIMIT: what is gathered is the tree at that moment; a module imported earlier may have been another.
LIMIT: files under a `filter` (Git LFS) are compared without it.

Spec: spec/provenance.md section 4.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tracker._codec.canonical import canonical
from tracker._codec.digest import digest
from tracker.errors import ParamsError
from tracker.provenance.command import Answer, find_program, run
from tracker.provenance.masking import Masker, strip_credentials
from tracker.provenance.telling import is_secret_file
from tracker.provenance.untracked import is_source, object_of, read_untracked, text_of

TIMEOUT_S = 10.0

MAX_DIFF = 10 << 20
MAX_NAMED = 100
"""Names in the list of what was left out, and submodules."""


class Code(NamedTuple):
    """What is known of the code; `facts` is None where no repository could be read."""

    facts: dict[str, Any] | None
    objects: list[tuple[bytes, bytes]]
    problems: list[str]
    top: str | None
    """The absolute path of the working tree."""


class GitError(Exception):
    """Git did not answer; the text is the word for the record."""


class TooLongError(GitError):
    """Git was ended when its time was over."""


class Change(NamedTuple):
    """One line of `git status`."""

    kind: str
    """`tracked`, `unmerged` or `untracked`."""
    path: bytes


class Status(NamedTuple):
    """The answer of `git status`."""

    commit: str | None
    branch: str | None
    changes: list[Change]


def gather_code(folder: str, environment: Mapping[str, str], masker: Masker) -> Code:
    """Say what code lies in the working tree that holds `folder`.

    Cost: 4 processes, some 15 ms in a small repository. Raises nothing: what is not known is a problem.
    """
    objects: list[tuple[bytes, bytes]] = []
    problems: list[str] = []
    try:
        git = _Git(folder, environment)
        top = git.top()
        facts = _gather(git, top, masker, objects, problems)
        code = canonical(facts)
    except (GitError, OSError, ParamsError) as error:
        return Code(None, [], [*problems, _word_for(error)], None)
    return Code(facts, [*objects, object_of(code)], problems, top)


def _gather(
    git: _Git, top: str, masker: Masker, objects: list[tuple[bytes, bytes]], problems: list[str]
) -> dict[str, Any]:
    status = _status(git, top, problems)
    tracked = [change.path for change in status.changes if change.kind != "untracked"]
    is_unborn = status.commit is None
    if is_unborn:
        problems.append("git: no commit yet")
    if any(change.kind == "unmerged" for change in status.changes):
        problems.append("git: unmerged paths")
    left_out = [(path, "secret by its name") for path in tracked if is_secret_file(text_of(path))]
    diff = _diff(git, top, masker, left_out, problems) if tracked and not is_unborn else None
    files = read_untracked(
        top, [c.path for c in status.changes if c.kind == "untracked" or is_unborn], masker
    )
    left_out = [*dict.fromkeys([*left_out, *files.left_out])]
    if len(left_out) > MAX_NAMED:
        problems.append(f"git: {len(left_out)} files left out")
    facts: dict[str, Any] = {
        "vcs": "git",
        "commit": status.commit,
        "branch": None if status.branch is None else masker.text(status.branch),
        "remote": git.remote(status.branch),
        "dirty": bool(tracked or files.kept or files.left_out),
        "diff": None if diff is None else digest(diff[0]),
        "untracked": files.kept,
        "left_out": [[masker.text(text_of(path)), why] for path, why in left_out[:MAX_NAMED]],
    }
    places = files.places + (diff[1] if diff else 0)
    submodules = _submodules(git, top, problems)
    objects += files.objects + ([] if diff is None else [object_of(diff[0])])
    return facts | ({"masked": places} if places else {}) | ({"submodules": submodules} if submodules else {})


class _Git:
    """Calls git in one folder, with all that it could execute switched off."""

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        program = find_program("git", environment.get("PATH", os.defpath))
        if program is None:
            raise GitError("git: not installed")
        self._deadline = time.monotonic() + TIMEOUT_S
        self._outer = environment
        self._environment = _environment_for_git(environment)
        self._program = program
        self._options = _OPTIONS
        self._config = self._configured(folder)
        self._options = [*_OPTIONS, *self._without_filters()]
        self.folder = folder

    def inside(self, folder: str) -> _Git:
        """The same for a submodule, which has a configuration of its own."""
        inner = _Git(folder, self._outer)
        inner._deadline = self._deadline
        return inner

    def again(self) -> _Git:
        """The same with its time given anew."""
        self._deadline = time.monotonic() + TIMEOUT_S
        return self

    def ask(self, words: Sequence[str | bytes], folder: str | None = None, limit: int = 8 << 20) -> Answer:
        """Give what git says, also if it fails. Raises: TooLongError."""
        left = self._deadline - time.monotonic()
        folder = self.folder if folder is None else folder
        command = [self._program, "--no-pager", "-C", folder, *self._options, *map(os.fsdecode, words)]
        answer = run(command, self._environment, timeout_s=max(left, 0.0), limit=limit)
        if answer.cut == "time":
            raise TooLongError(f"git {os.fsdecode(words[0])}: took longer than {TIMEOUT_S:.0f} s")
        return answer

    def get(self, words: Sequence[str | bytes], folder: str | None = None) -> bytes:
        """Give what git says. Raises: GitError if it fails, or says too much."""
        answer = self.ask(words, folder)
        if answer.cut or answer.code:
            raise GitError(f"git: {_why(answer)}")
        return answer.out

    def top(self) -> str:
        """The working tree that holds the folder. Raises: GitError if there is none."""
        answer = self.ask(["rev-parse", "--is-bare-repository", "--show-toplevel"])
        if answer.out.startswith(b"true\n"):
            raise GitError("git: a bare repository")
        top = os.fsdecode(answer.out.removeprefix(b"false\n").removesuffix(b"\n"))
        if answer.code or not os.path.isabs(top):
            raise GitError(f"git: {_why(answer)}")
        return top

    def remote(self, branch: str | None) -> str | None:
        """The address that the branch comes from, else that of `origin`, else the only one."""
        name = self._config.get(f"branch.{branch}.remote", "origin")
        urls = {key: url for key, url in self._config.items() if key.startswith("remote.")}
        url = urls.get(f"remote.{name}.url") or (next(iter(urls.values())) if len(urls) == 1 else None)
        return None if url is None else strip_credentials(_utf8(url))

    def _configured(self, folder: str) -> dict[str, str]:
        answer = self.ask(["config", "--null", "--get-regexp", _WANTED], folder)
        pairs = (item.partition(b"\n") for item in answer.out.split(b"\0") if item)
        found: dict[str, str] = {}
        for key, _, value in pairs:
            found.setdefault(os.fsdecode(key), os.fsdecode(value))
        return found

    def _without_filters(self) -> list[str]:
        options = []
        for name in dict.fromkeys(
            key.rpartition(".")[0] for key in self._config if key.startswith("filter.")
        ):
            if "=" in name:  # `-c` would cut the name there, and leave the filter on
                raise GitError("git: not asked, as a filter has '=' in its name")
            for member in ("clean=", "smudge=", "process=", "required=false"):
                options += ["-c", f"{name}.{member}"]
        return options


_WANTED = r"^(filter\..*|remote\..*\.url|branch\..*\.remote)$"

_OPTIONS = [
    word
    for setting in (
        *("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.quotePath=true", "core.pager=cat"),
        *("protocol.allow=never", "credential.helper=", "gc.auto=0", "maintenance.auto=false"),
        *(
            "diff.noprefix=false",
            "diff.mnemonicPrefix=false",
            "diff.suppressBlankEmpty=false",
            "diff.autoRefreshIndex=false",
        ),
        *("diff.interHunkContext=0", "submodule.recurse=false", "color.ui=false"),
        "core.askPass=",
    )
    for word in ("-c", setting)
]

_KEPT = (
    *("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH", "GIT_CONFIG_GLOBAL"),
    *("GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"),
)
"""Where git may look and what it may take for its own; all other GIT_ variables would bend the answer."""


def _environment_for_git(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if not k.startswith("GIT_") or k.startswith(_KEPT)} | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TRACE2": "0",
        "GIT_TRACE2_EVENT": "0",
        "GIT_TRACE2_PERF": "0",
        "LC_ALL": "C",
    }


_WORDS = (
    (b"not a git repository", "no repository"),
    (b"dubious ownership", "the repository belongs to another user"),
    (b"unsafe repository", "the repository belongs to another user"),
    (b"must be run in a work tree", "no working tree"),
    (b"ermission denied", "permission denied"),
    (b"cannot change to", "no such folder"),
    (b"bad config", "its configuration does not read"),
    (b"promisor", "objects are not here"),
)


def _why(answer: Answer) -> str:
    """One word for what git complains of; never its own text, which may hold anything."""
    known = next((word for sign, word in _WORDS if sign in answer.err), None)
    if answer.cut == "size":
        return "too much to list"
    return known or (f"ended with {answer.code}" if answer.code else "gave no answer")


def _word_for(error: Exception) -> str:
    if isinstance(error, GitError):
        return str(error)
    return f"git: {error.strerror if isinstance(error, OSError) else 'too many facts'}"


def _status(git: _Git, top: str, problems: list[str]) -> Status:
    words = ["status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--no-ahead-behind"]
    words.append("--ignore-submodules=dirty")
    try:
        answer = git.ask([*words, "--untracked-files=all"], top)
    except TooLongError:
        answer = None
    if answer is None or answer.cut:  # a data folder that nobody told git to ignore
        problems.append("git: too many untracked files to list")
        return parse_status(git.again().get([*words, "--untracked-files=no"], top))
    if answer.code:
        raise GitError(f"git: {_why(answer)}")
    if answer.err:
        problems.append(f"git status: {_why(answer) if b'ermission' in answer.err else 'incomplete'}")
    return parse_status(answer.out)


def parse_status(data: bytes) -> Status:
    """Read the answer of `git status --porcelain=v2 --branch -z --no-renames`.

    Raises: GitError if it is none.
    """
    commit = branch = None
    changes = []
    for line in data.split(b"\0"):
        if line.startswith(b"# branch.oid "):
            commit = line[13:].decode("ascii", "replace")
        elif line.startswith(b"# branch.head "):
            branch = text_of(line[14:])
        elif line[:2] in _FIELDS:
            kind, fields = _FIELDS[line[:2]]
            changes.append(Change(kind, line.split(b" ", fields)[-1]))
    if commit is None:
        raise GitError("git: gave no answer")
    return Status(
        None if commit == "(initial)" else commit, None if branch == "(detached)" else branch, changes
    )


_FIELDS = {b"1 ": ("tracked", 8), b"u ": ("unmerged", 10), b"? ": ("untracked", 1)}
"""First bytes of a line -> what it tells, and how many fields stand before the path."""


def _diff(
    git: _Git, top: str, masker: Masker, secret: list[tuple[bytes, str]], problems: list[str]
) -> tuple[bytes, int] | None:
    """The difference of the working tree to its commit, staged or not, and how many places are masked."""
    words: list[str | bytes] = ["diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv"]
    words += [
        "--no-renames",
        "--no-relative",
        "-O/dev/null",
        "--submodule=short",
        "--ignore-submodules=dirty",
        "-U3",
    ]
    words += ["--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--"]
    if secret:
        words += [".", *(b":(exclude,top,literal)" + path for path, _ in secret[: MAX_NAMED * 10])]
    try:
        answer = git.ask(words, top, limit=MAX_DIFF)
    except TooLongError as error:
        problems.append(str(error))
        return None
    if len(secret) > MAX_NAMED * 10:
        problems.append("git diff: not kept, too many secret files differ")
    elif answer.cut:
        problems.append(f"git diff: not kept, over {MAX_DIFF >> 20} MiB")
    elif answer.code:
        problems.append(f"git diff: not kept, {_why(answer)}")
    elif found := drop_empty_entries(answer.out):
        masked = masker.content(found)
        return masked.data, masked.places
    return None


def drop_empty_entries(diff: bytes) -> bytes:
    """Leave out the files of a diff in which nothing differs.

    Git lists a file whose time stamp alone is another, unless it may refresh, and so write, the index.
    """
    return re.sub(rb"(?m)^diff --git [^\n]*\n(?=diff --git |\Z)", b"", diff)


def _submodules(git: _Git, top: str, problems: list[str]) -> list[list[Any]]:
    """[path, commit recorded, commit there or null, whether it differs or null] of each submodule."""
    if not os.path.lexists(os.path.join(top, ".gitmodules")):
        return []
    entries = git.get(["ls-files", "--stage", "-z"], top).split(b"\0")
    links = [entry.partition(b"\t") for entry in entries if entry.startswith(b"160000 ")]
    if len(links) > MAX_NAMED:
        problems.append(f"git: {len(links)} submodules, {MAX_NAMED} of them listed")
    found = [
        [text_of(path), head.split(b" ")[1].decode(), *_submodule(git, os.path.join(top, os.fsdecode(path)))]
        for head, _, path in links[:MAX_NAMED]
    ]
    dirty = [path for path, _, _, is_dirty in found if is_dirty]
    if dirty:
        problems.append(f"git: changes in {len(dirty)} submodules are not kept")
    return found


def _submodule(git: _Git, folder: str) -> tuple[str | None, bool | None]:
    if not os.path.lexists(os.path.join(folder, ".git")):  # not fetched: git would answer for the outer tree
        return None, None
    words = ["status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--ignore-submodules=dirty"]
    try:
        status = parse_status(git.inside(folder).get(words))
    except GitError:
        return None, None
    return status.commit, any(
        change.kind != "untracked" or is_source(change.path) for change in status.changes
    )


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
