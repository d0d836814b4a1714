"""The only place of the package where what a store recorded is executed: one command, on a user's word.

Beside it, what an interpreter says of its environment, for which nothing recorded is executed.

Spec: spec/rerun.md sections 2 and 5.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tracker.provenance.command import find_program, run
from tracker.rerun.plan import Plan

TIMEOUT_S = 60.0

_STDERR = 2

_ASK = """\
import json, sys
from tracker.provenance.capture import begin
sys.path.insert(0, sys.argv[1])
facts = begin().wait(30)
name = facts.process.get("environment")
text = next((data.decode() for digest, data in facts.objects if digest.hex() == name), None)
print(json.dumps([text, [sys.prefix, sys.base_prefix], sys.path[1:]]))
"""


class Interpreter(NamedTuple):
    """An interpreter of this machine: its path, its environment object, and the folders it imports from."""

    path: str
    environment: bytes | None
    prefixes: tuple[str, ...]
    search: tuple[str, ...]


def iter_interpreters(plan: Plan, environ: Mapping[str, str], otherwise: str) -> Iterator[str]:
    """The paths of the interpreter that was recorded, if it is here, and of `otherwise`."""
    name = plan.python
    if "/" in name:
        yield os.path.normpath(os.path.join(plan.folder, name))
    else:
        yield find_program(name, environ.get("PATH", os.defpath)) or otherwise
    yield otherwise


def ask_interpreter(path: str, folder: str, environ: Mapping[str, str]) -> Interpreter | None:
    """What an interpreter says of its packages and machine, as a script in `folder` would see them.

    None if it is none, or cannot import this package, and so could not run what used it.
    """
    try:
        answer = run([path, "-P", "-c", _ASK, folder], environ, timeout_s=TIMEOUT_S)
        text, prefixes, search = json.loads(answer.out)
    except (OSError, ValueError):
        return None
    return Interpreter(path, None if text is None else text.encode(), tuple(prefixes), tuple(search))


def environment_of(
    plan: Plan,
    interpreter: Interpreter,
    tree: str | None,
    environ: Mapping[str, str],
    more: Mapping[str, str],
) -> dict[str, str]:
    """The variables that the command gets: those of now, those recorded, and `more`.

    Folders inside the old tree from which modules come, by PYTHONPATH or an editable install, are those of
    the new one.
    """
    variables = {**environ, **plan.variables, **more}
    paths = [plan.in_tree(path, tree) for path in plan.python_path]
    if tree is not None:
        moved = {
            path: plan.in_tree(path, tree) for path in interpreter.search if _is_users(path, interpreter)
        }
        paths += [new for old, new in moved.items() if new != old]
    if paths or "PYTHONPATH" in variables:
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return variables


def _is_users(path: str, interpreter: Interpreter) -> bool:
    """True for what is no part of the interpreter's own installation, which may lie in the tree too."""
    inner = (os.path.join(prefix, "") for prefix in interpreter.prefixes)
    return not any(f"{path}/".startswith(prefix) for prefix in inner)


def execute(command: Sequence[str], folder: str, environ: Mapping[str, str]) -> int:
    """Run a recorded command to its end, its output on standard error; give its exit code.

    Ctrl-C goes to it too, which is of the same process group; it is waited for.

    Raises: OSError if it cannot be started; KeyboardInterrupt once it has ended.
    """
    stopped: KeyboardInterrupt | None = None
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=_STDERR) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt as error:
                stopped = error
    if stopped is not None:
        raise stopped
    return code
