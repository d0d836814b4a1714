"""In what runs differ: params, files by digest, environment, host, version. What is the same is left out.

Spec: docs/queries.md section 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tracker._codec.canonical import parse
from tracker._model.event import File
from tracker._model.fold import Run
from tracker.errors import NotFoundError
from tracker.query import Space
from tracker.runs.columns import MISSING, Flat
from tracker.runs.source import Source
from tracker.runs.table import Table, json_of
from tracker.terms import RunRef

Facts = dict[tuple[str, str], Any]
"""(what, name) -> value."""

_ORDER = ("run", "param", "environment", "file")


class Compared(NamedTuple):
    """A run that is compared, and what its column is called."""

    heading: str
    source: Source
    ref: RunRef


def differences_of(runs: Iterable[Compared]) -> Table:
    """One row for each thing that is not the same in all: what, name, and its value in each run.

    A file is told by its digest, else by `unsealed`. Cost: 50 µs a run.
    """
    compared = list(runs)
    facts = [_facts_of(one) for one in compared]
    names = {name for known in facts for name in known}
    ordered = sorted(names, key=lambda name: (_ORDER.index(name[0]), name[1]))
    rows = [(*name, *(known.get(name) for known in facts)) for name in ordered if _differs(facts, name)]
    return Table(("what", "name", *(one.heading for one in compared)), tuple(rows))


def _differs(facts: list[Facts], name: tuple[str, str]) -> bool:
    values = [known.get(name, MISSING) for known in facts]
    return len({None if value is MISSING else json_of(value) for value in values}) > 1


def _facts_of(one: Compared) -> Facts:
    run = one.source.run(one.ref)
    if run is None:
        raise NotFoundError(f"run {one.ref}", str(one.source.root), "it was there a moment ago: ask again")
    tree = {} if run.params is None else parse(run.params.encode())
    bare = {key: value for key, value in tree.items() if not key.startswith("@")}
    facts: Facts = {("param", name): value for name, value in Flat(Space.PARAMS).members(bare)}
    facts |= {("run", "identifier"): run.identifier, ("run", "namespace"): run.relpath or "."}
    return facts | _facts_of_attempt(one.source, run)


def _facts_of_attempt(source: Source, run: Run) -> Facts:
    attempt = run.attempt
    if attempt is None:
        return {}
    facts: Facts = {("file", file.name): _digest(file) for file in attempt.files}
    if attempt.environment is not None:
        facts["environment", "digest"] = attempt.environment.hex()
    opened = source.opened_by(attempt.writer)
    if opened is not None:
        facts["run", "host"], facts["run", "version"] = opened.host, opened.version
    return facts


def _digest(file: File) -> str:
    return "unsealed" if file.digest is None else file.digest.hex()
