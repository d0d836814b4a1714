"""In what runs differ: params, code, environment, files by digest, host, version.

Spec: docs/queries.md section 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tracker._codec.canonical import parse
from tracker._model.event import File
from tracker._model.fold import Run, hex_or_none
from tracker.errors import DamagedError, NotFoundError, ParamsError
from tracker.query import Space
from tracker.runs.columns import MISSING, Flat
from tracker.runs.source import Source
from tracker.runs.table import Table, json_of
from tracker.terms import Digest, RunRef

Facts = dict[tuple[str, str], Any]
"""(what, name) -> value."""

Known = dict[tuple[Source, Digest], dict[str, Any]]
"""Objects that were read: their members by path. Runs share them."""

_ORDER = ("run", "param", "code", "environment", "file")


class Compared(NamedTuple):
    """A run that is compared, and what its column is called."""

    heading: str
    source: Source
    ref: RunRef


def differences_of(runs: Iterable[Compared]) -> Table:
    """One row for each thing that is not the same in all: what, name, and its value in each run.

    A file is told by its digest, else by `unsealed`; code and environment by the members of their objects, or
    by their digest where that object is not here or is damaged. Cost: 50 µs a run, and one file read for
    each of these objects that is another.
    """
    compared = list(runs)
    known: Known = {}
    facts = [_facts_of(one, known) for one in compared]
    names = {name for known in facts for name in known}
    ordered = sorted(names, key=lambda name: (_ORDER.index(name[0]), name[1]))
    rows = [(*name, *(known.get(name) for known in facts)) for name in ordered if _differs(facts, name)]
    return Table(("what", "name", *(one.heading for one in compared)), tuple(rows))


def _differs(facts: list[Facts], name: tuple[str, str]) -> bool:
    values = [known.get(name, MISSING) for known in facts]
    return len({None if value is MISSING else json_of(value) for value in values}) > 1


def _members_of(source: Source, digest: Digest) -> dict[str, Any]:
    """The members of an object that describes code or an environment, by path; untracked files by digest."""
    try:
        tree = parse(source.object(digest))
    except (NotFoundError, DamagedError, ParamsError):
        return {"digest": digest}
    untracked = tree.get("untracked")
    if isinstance(untracked, list):
        tree["untracked"] = {str(file[0]): file[-1] for file in untracked if isinstance(file, list) and file}
    return dict(_leaves(tree, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def _facts_of(one: Compared, known: Known) -> Facts:
    run = one.source.run(one.ref)
    if run is None:
        raise NotFoundError(f"run {one.ref}", str(one.source.root), "it was there a moment ago: ask again")
    tree = {} if run.params is None else parse(run.params.encode())
    bare = {key: value for key, value in tree.items() if not key.startswith("@")}
    facts: Facts = {("param", name): value for name, value in Flat(Space.PARAMS).members(bare)}
    facts |= {("run", "identifier"): run.identifier, ("run", "namespace"): run.relpath or "."}
    return facts | _facts_of_attempt(one.source, run, known)


def _facts_of_attempt(source: Source, run: Run, known: Known) -> Facts:
    attempt = run.attempt
    if attempt is None:
        return {}
    facts: Facts = {("file", file.name): _digest(file) for file in attempt.files}
    named = {"environment": hex_or_none(attempt.environment), "code": attempt.facts.get("code")}
    for what, digest in named.items():
        if isinstance(digest, str):
            place = (source, Digest(digest))
            members = known[place] = known.get(place) or _members_of(*place)
            facts |= {(what, name): value for name, value in members.items()}
    opened = source.opened_by(attempt.writer)
    if opened is not None:
        facts["run", "host"], facts["run", "version"] = opened.host, opened.version
    return facts


def _digest(file: File) -> str:
    return "unsealed" if file.digest is None else file.digest.hex()
