"""One gathering of facts for each process: launched at the first start, done beside the program.

Only the launch is looked at in the caller's thread; machine, packages and repository are looked at in one
daemon thread, which holds no lock while it waits and ends within its timeouts. Nothing here raises: what
could not be found out is a word in `problems`.

In a forked child what was finished counts; what was not is begun anew when it is next asked for.

Spec: spec/provenance.md section 6.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, NamedTuple

from tracker._codec.canonical import canonical
from tracker._codec.digest import digest
from tracker.provenance.git import gather_code
from tracker.provenance.launch import (
    Launch,
    find_seeds,
    is_below,
    masker_for,
    relative,
    this_launch,
)
from tracker.provenance.machine import describe_machine, describe_platform, describe_python
from tracker.provenance.packages import list_packages

MAX_INLINE = 2048
"""Bytes of text that stand in the event itself; what is longer is an object."""

Object = tuple[bytes, bytes]
"""Digest and bytes."""


class Facts(NamedTuple):
    """What is known of this process, the same for all of its runs."""

    process: dict[str, Any]
    """Members of the event, but for those that depend on the run's root."""
    objects: tuple[Object, ...]
    """What the event names by digest: to be kept before it is recorded."""
    cwd: str | None = None
    script: str | None = None
    top: str | None = None
    """The working tree of the code. All three are absolute."""

    def for_run(
        self, root: str, *, params: object = None, seeds: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The map of a `captured` event of a run whose store has this root.

        Without `seeds` those found among `params` count. `root` is absolute. Cost: 30 µs for the first run of
        a root, then 2 µs.
        Spec: spec/provenance.md section 2.
        """
        given = find_seeds(params) if seeds is None else dict(seeds)
        facts = self.process | _places(self.cwd, self.script, self.top, root)
        return facts | {"seeds": given} if given else facts


@lru_cache(maxsize=64)
def _places(cwd: str | None, script: str | None, top: str | None, root: str) -> dict[str, str]:
    root = os.path.realpath(root)
    home = root if top is None else top
    shown = None if script is None else relative(script, home) if is_below(script, home) else _utf8(script)
    places = {"cwd": relative(cwd, root), "repository": relative(top, root), "script": shown}
    return {name: place for name, place in places.items() if place is not None}


class Gathering:
    """The gathering of one process, under way or finished. Made by `begin`."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._masker = masker_for(self._environment)
        self._search = [*sys.path]
        self._launch: Launch = this_launch(self._environment, self._masker)
        self._facts: Facts | None = None
        self._renew()

    def _renew(self) -> None:
        """Begin anew, with locks that no thread holds."""
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._callbacks: list[Callable[[Facts], object]] = []
        self._parts: dict[str, _Part] = {}
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> Facts | None:
        """The facts if all are known. Cost: 0.1 µs."""
        return self._facts

    def wait(self, timeout_s: float) -> Facts:
        """The facts once all are known; past the time those known by then, and a word for what is lacking."""
        self._start()
        if self._facts is None:
            self._done.wait(timeout_s)
        return self._facts or _assemble(self._launch, dict(self._parts))

    def when_ready(self, callback: Callable[[Facts], object]) -> None:
        """Call `callback` once with the facts: from the thread, or at once if they are known.

        It is forgotten in a forked child.
        """
        self._start()
        with self._lock:
            facts = self._facts
            if facts is None:
                self._callbacks.append(callback)
        if facts is not None:
            callback(facts)

    def _start(self) -> None:
        if self._facts is not None or self._thread is not None:
            return
        thread = threading.Thread(target=self._gather, name="tracker-provenance", daemon=True)
        with self._lock:
            is_first, self._thread = self._thread is None, self._thread or thread
        try:
            if is_first:
                thread.start()
        except RuntimeError as error:  # the interpreter is ending, or there are as many threads as may be
            self._finish(_assemble(self._launch, {}, str(error)))

    def _gather(self) -> None:
        time.sleep(
            _HEAD_START_S
        )  # who starts it waits for the interpreter's lock, which this gives back at once
        for name, gather in (("environment", self._environment_part), ("code", self._code_part)):
            try:
                self._parts[name] = gather()
            except Exception as error:  # facts are an extra: whatever happens to them, the run goes on
                self._parts[name] = _Part({}, [], [f"{name}: {type(error).__name__}"])
        self._finish(_assemble(self._launch, self._parts))

    def _finish(self, facts: Facts) -> None:
        with self._lock:
            self._facts = facts
            callbacks, self._callbacks = self._callbacks, []
        self._done.set()
        with ExitStack() as stack:  # one that fails keeps no other from being called
            for callback in reversed(callbacks):
                stack.callback(callback, facts)

    def _environment_part(self) -> _Part:
        problems: list[str] = []
        packages = list_packages(self._search)
        facts = {
            "python": describe_python(),
            "platform": describe_platform(),
            "machine": describe_machine(self._environment, problems),
            "packages": packages.versions,
        }
        if packages.direct:
            facts["direct"] = packages.direct
        data = canonical(facts)
        name = digest(data)
        return _Part({"environment": name}, [(bytes.fromhex(name), data)], problems)

    def _code_part(self) -> _Part:
        folder = self._folder_of_code()
        if folder is None:
            return _Part({}, [], [])
        code = gather_code(folder, self._environment, self._masker)
        if code.facts is None:
            return _Part({}, code.objects, code.problems)
        facts = {"code": code.objects[-1][0].hex()}
        facts |= {
            name: code.facts[name] for name in ("commit", "branch", "dirty") if code.facts[name] is not None
        }
        return _Part(facts, code.objects, code.problems, code.top)

    def _folder_of_code(self) -> str | None:
        """Where the script lies, unless it is an installed one; else the working directory."""
        script = self._launch.script
        prefixes = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
        if script is None or any(is_below(script, prefix) for prefix in prefixes):
            return self._launch.cwd
        return os.path.dirname(script)


class _Part(NamedTuple):
    facts: dict[str, Any]
    objects: list[Object]
    problems: list[str]
    top: str | None = None


def _assemble(launch: Launch, parts: Mapping[str, _Part], why: str = "not known in time") -> Facts:
    facts: dict[str, Any] = {}
    objects: list[Object] = []
    problems = [*launch.problems]
    for name in ("environment", "code"):
        part = parts.get(name) or _Part({}, [], [f"{name}: {why}"])
        facts |= part.facts
        objects += part.objects
        problems += part.problems
    facts |= {"argv": launch.argv, "variables": launch.variables, "jobs": launch.jobs}
    for name in ("argv", "variables"):
        data = canonical({name: facts[name]})
        if len(data) > MAX_INLINE:
            facts[name] = digest(data)
            objects.append((bytes.fromhex(facts[name]), data))
    facts["problems"] = problems
    top = parts["code"].top if "code" in parts else None
    kept = {name: value for name, value in facts.items() if value or value is False}
    return Facts(kept, tuple(dict(objects).items()), launch.cwd, launch.script, top)


_HEAD_START_S = 0.001

_current: Gathering | None = None
_beginning = threading.Lock()


def begin() -> Gathering:
    """The gathering of this process; begun by the first call.

    Cost: some 0.5 ms the first time, in this thread; then 0.1 µs.
    """
    global _current
    if _current is None:
        with _beginning:
            if _current is None:
                gathering = Gathering()
                os.register_at_fork(after_in_child=_after_fork)
                _current = gathering
    _current._start()
    return _current


def _after_fork() -> None:
    global _beginning
    _beginning = threading.Lock()
    if _current is not None:
        if _current._facts is None:
            _current._renew()
        else:  # another thread may have held it as we forked
            _current._lock = threading.Lock()


def forget() -> None:
    """Let the next `begin` gather anew, for tests and for programs that change what they run."""
    global _current
    _current = None


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
