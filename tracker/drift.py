"""Runs of the same params that finished with other files: which files, and in what the attempts differ.

Of a run, its attempts that ended as done are compared, those that were set aside by a later start among them;
and with them those of its repeats. Reads; writes nothing.

LIMIT: files that were not sealed by a digest are not compared, but for being there.
LIMIT: runs that only the store's rules make the same are looked at apart.

Spec: spec/rerun.md section 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from tracker._model.event import Done, File
from tracker._model.fold import Attempt, Run, hex_or_none
from tracker._model.names import run_ref
from tracker._store.objects import get_object
from tracker._store.relation import SeenRow
from tracker.errors import DamagedError, NotFoundError
from tracker.ledger import Ledger
from tracker.rerun.compare import leaves_of
from tracker.terms import Digest, RunRef, Uid


class Side(Struct, frozen=True):
    """An attempt that is compared. Digests in hex; None where nothing is recorded."""

    run: RunRef
    attempt: str
    ended_ms: int | None
    commit: str | None
    code: str | None
    environment: str | None


class Content(Struct, frozen=True):
    """What one file was in some of the attempts: the places of these in `Drift.sides`.

    Size and digest are None where it was not there at all.
    """

    size: int | None
    digest: str | None
    sides: list[int]


class Drift(Struct, frozen=True):
    """Attempts that finished with other files: the ref that their params have, the files that differ, and
    in what the attempts' code and environment do, with the value of each side.
    """

    ref: RunRef
    sides: list[Side]
    files: dict[str, list[Content]]
    differences: dict[str, list[Any]]


def find_drift(ledger: Ledger, rows: Iterable[SeenRow]) -> Iterator[Drift]:
    """Find what disagrees among these runs, which are looked at as they are now, in the order of the rows.

    Cost: 5 µs a row, and 30 µs each for runs that are not alone with their params, or begun twice.
    """
    for ref, refs in _candidates(rows):
        runs = [run for run in map(ledger.run, refs) if run is not None and not run.removed]
        finished = list(_finished(runs))
        files = _differing([_contents(end.files) for _, _, end in finished])
        if files:
            sides = [_side(run, attempt) for run, attempt, _ in finished]
            yield Drift(ref, sides, files, _differences(ledger, sides))


def _candidates(rows: Iterable[SeenRow]) -> Iterator[tuple[RunRef, list[RunRef]]]:
    """The runs of one key, where there may be more than one finished attempt of them."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    several: set[tuple[str, str, str]] = set()
    for row in rows:
        key = (row.relpath, row.identifier, row.key or row.uid)
        known = groups.setdefault(key, [])
        known.append(row.uid)
        if len(known) > 1 or row.attempts > 1:
            several.add(key)
    for (relpath, identifier, key_uid), uids in groups.items():
        if (relpath, identifier, key_uid) in several:
            refs = [run_ref(relpath, identifier, Uid(uid)) for uid in uids]
            yield run_ref(relpath, identifier, Uid(key_uid)), refs


def _finished(runs: Iterable[Run]) -> Iterator[tuple[Run, Attempt, Done]]:
    for run in runs:
        for attempt in run.attempts:
            if isinstance(attempt.end, Done):
                yield run, attempt, attempt.end


Key = tuple[int | None, str | None]


def _contents(files: Iterable[File]) -> dict[str, Key]:
    return {file.name: (file.size, hex_or_none(file.digest)) for file in files}


def _differing(sides: list[dict[str, Key]]) -> dict[str, list[Content]]:
    """The files of which there are two contents, or that are not in all; each with what it was where."""
    found = {}
    for name in sorted({name for side in sides for name in side}):
        places: dict[Key, list[int]] = {}
        for number, side in enumerate(sides):
            key = side.get(name, (None, None))
            if key[1] is not None or name not in side:
                places.setdefault(key, []).append(number)
        if len(places) > 1:
            found[name] = [Content(size, digest, numbers) for (size, digest), numbers in places.items()]
    return found


def _side(run: Run, attempt: Attempt) -> Side:
    texts = [attempt.facts.get(name) for name in ("commit", "code")]
    commit, code = (text if isinstance(text, str) else None for text in texts)
    return Side(run.ref, attempt.id, attempt.ended_ms, commit, code, hex_or_none(attempt.environment))


def _differences(ledger: Ledger, sides: list[Side]) -> dict[str, list[Any]]:
    found = {name: [getattr(side, name) for side in sides] for name in ("commit", "code")}
    known = {digest: _environment(ledger, digest) for digest in {side.environment for side in sides}}
    trees = [known[side.environment] for side in sides]
    for path in sorted({path for tree in trees for path in tree}):
        found[f"environment.{path}"] = [tree.get(path) for tree in trees]
    return {path: values for path, values in found.items() if any(value != values[0] for value in values)}


def _environment(ledger: Ledger, digest: str | None) -> dict[str, Any]:
    """The members of an environment object by path; none where it is not here, or is damaged."""
    if digest is None:
        return {}
    try:
        return leaves_of(get_object(ledger.lookup.store_fd, Digest(digest)))
    except (NotFoundError, DamagedError):
        return {"digest": digest}
