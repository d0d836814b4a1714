"""The naive model of `hosts`: a dict of what was acknowledged, and what a store must say of it.

Knows attempts as they were told to the writers, and the rule of spec/events.md 3 in ten lines. Imports
nothing of the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3


@dataclass
class Attempt:
    """One attempt: the statuses it was given, in order, and how many of them are sealed."""

    ref: str
    writer: str
    supersedes: list[str]
    statuses: list[str] = field(default_factory=lambda: ["running"])
    sealed: int = 0
    digest: str | None = None
    is_certain: bool = True
    """False once its writer was killed: what it had not sealed may or may not be there."""

    @property
    def possible(self) -> set[str]:
        """What a store that has everything may say: LOST is a word of whoever takes a dead one over."""
        known = len(self.statuses) - 1 if self.is_certain else max(self.sealed - 1, 0)
        found = set(self.statuses[known:])
        return found | ({"lost"} if "running" in found else set())


@dataclass
class Model:
    """All attempts by id; and for each tree and path what a writer last wrote there."""

    attempts: dict[str, Attempt] = field(default_factory=dict)
    written: dict[tuple[str, str], str] = field(default_factory=dict)

    def write(self, tree: str, path: str, data: bytes) -> None:
        """A writer of `tree` put `data` under `path`."""
        self.written[tree, path] = blake3(data).hexdigest()

    def seal(self, writer: str) -> None:
        """What this writer was told so far is acknowledged as sealed."""
        for attempt in self.attempts.values():
            if attempt.writer == writer:
                attempt.sealed = len(attempt.statuses)

    def kill(self, writer: str) -> None:
        """This writer died; what it had not sealed is promised to nobody."""
        for attempt in self.attempts.values():
            if attempt.writer == writer and attempt.sealed < len(attempt.statuses):
                attempt.is_certain = False

    @property
    def acknowledged(self) -> int:
        """How many attempts a store must have."""
        return sum(attempt.sealed > 0 for attempt in self.attempts.values())

    def iter_failures(self, state: dict[str, Any]) -> Iterator[str]:
        """What a store that has everything says otherwise than the model."""
        found = {a["id"]: (run["ref"], a) for run in state["runs"] for a in run["attempts"]}
        yield from (f"{id_} was made by nobody" for id_ in sorted(found.keys() - self.attempts.keys()))
        for id_, attempt in self.attempts.items():
            if id_ not in found:
                if attempt.sealed or attempt.is_certain:
                    yield f"LOST: attempt {id_} of {attempt.ref}, {attempt.statuses}, sealed {attempt.sealed}"
                continue
            ref, told = found[id_]
            if ref != attempt.ref or told["status"] not in attempt.possible:
                yield f"attempt {id_} of {ref} is {told['status']}, not one of {sorted(attempt.possible)}"
            elif told["status"] == "done" and [file[3] for file in told["files"]] != [attempt.digest]:
                yield f"attempt {id_} of {ref} has files {told['files']}, not {attempt.digest}"
        for run in state["runs"]:
            yield from self._run_failures(run)

    def _run_failures(self, run: dict[str, Any]) -> Iterator[str]:
        """The rule of the canonical attempt, where nothing of the run is uncertain."""
        mine = {id_: a for id_, a in self.attempts.items() if a.ref == run["ref"]}
        if not all(attempt.is_certain for attempt in mine.values()):
            return
        superseded = {id_ for attempt in mine.values() for id_ in attempt.supersedes}
        heads = [id_ for id_ in mine if id_ not in superseded] or list(mine)
        done = [id_ for id_ in heads if mine[id_].statuses[-1] == "done"]
        if done and (run["status"] != "done" or run["canonical"] not in done):
            yield f"{run['ref']} is {run['status']} by {run['canonical']}, and {done} are done"
        if not done and run["status"] not in set().union(*(mine[id_].possible for id_ in heads)):
            yield f"{run['ref']} is {run['status']}, and its heads are {[mine[i].statuses for i in heads]}"
        if run["divergent"] != (len({mine[id_].digest for id_ in done}) > 1):
            yield f"{run['ref']}: divergent is {run['divergent']}, of {[mine[i].digest for i in done]}"

    def iter_lost_bytes(self, files: dict[str, dict[str, str]]) -> Iterator[str]:
        """Bytes that a writer left under a path and that some tree has neither there nor beside it.

        `files` gives for each tree the digest of each path.
        """
        for (tree, path), digest in self.written.items():
            for there, digests in files.items():
                beside = {
                    d for name, d in digests.items() if name == path or name.startswith(f"{path}.from-")
                }
                if digest not in beside:
                    yield f"what was written in {tree} as {path} is not in {there}"
