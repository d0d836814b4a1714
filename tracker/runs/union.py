"""Several stores asked as one, to read. Each row knows its root.

A run that lies in two of them, as in a copy, is two entries: their histories may differ, and which one counts
is for a merge to say.

Spec: docs/queries.md section 8.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tracker._codec.canonical import canonical
from tracker._codec.digest import uid_of
from tracker._model import names
from tracker._store.relation import BY_CREATION, COLUMNS, SeenRow
from tracker.query import Compiled
from tracker.runs.batches import Row, Selection, iter_selected
from tracker.runs.columns import Placed
from tracker.runs.rows import Listed, Rows, listed, order_by, select_runs, sort_terms
from tracker.runs.source import Source
from tracker.runs.tabular import Tabular
from tracker.terms import Status

if TYPE_CHECKING:
    from tracker.runs.differences import Compared

Part = tuple[Source, Selection]
"""A store, and which of its runs."""

_KEYS = BY_CREATION.split(", ")


class UnionRuns(Tabular):
    """Runs of several stores, in the order of creation unless they are sorted; of one place in the order, by
    the order in which the stores were named."""

    _has_roots = True

    def __init__(
        self, parts: Sequence[Part], sort: str | Sequence[str] | None = None, limit: int | None = None
    ) -> None:
        order = order_by(sort)
        self._parts = [(source, replace(one, order=order, limit=limit)) for source, one in parts]
        self._terms = sort_terms(sort)
        self._limit = limit

    def __repr__(self) -> str:
        return f"<UnionRuns: {len(self)} in {', '.join(str(source.root) for source, _ in self._parts)}>"

    def __len__(self) -> int:
        total = sum(len(Rows(source, replace(one, limit=None))) for source, one in self._parts)
        return total if self._limit is None else min(total, self._limit)

    def __bool__(self) -> bool:
        return any(Rows(*part) for part in self._parts)

    def __iter__(self) -> Iterator[Listed]:
        return map(listed, self.iter_placed())

    def iter_placed(self) -> Iterator[Placed]:
        """Each run's row, and the root it lies in. Cost: 10 µs a row; memory of a batch a store."""
        for source, row in self._iter_merged():
            yield str(source.root), SeenRow._make(row)

    def _iter_merged(self) -> Iterator[tuple[Source, Row]]:
        downs = [is_down for _, is_down in self._terms]
        parts = [self._iter_part(*part) for part in self._parts]
        merged = heapq.merge(*parts, key=partial(_place, downs=downs))
        for source, row in islice(merged, self._limit):
            yield source, row[: len(COLUMNS)]

    def _iter_part(self, source: Source, selection: Selection) -> Iterator[tuple[Source, Row]]:
        values = [value.where for value, _ in self._terms]
        bound = [one for value, _ in self._terms for one in value.bindings]
        columns = [*COLUMNS, *values, *_KEYS]
        return ((source, row) for row in iter_selected(source, columns, selection, bound))

    def _iter_compared(self) -> Iterator[Compared]:
        from tracker.runs.differences import Compared

        for source, row in self._iter_merged():
            seen = SeenRow._make(row)
            ref = names.run_ref(seen.relpath, seen.identifier, seen.uid)
            yield Compared(f"{source.root}:{ref}", source, ref)


def _place(entry: tuple[Source, Row], *, downs: Sequence[bool]) -> tuple[Any, ...]:
    """Where a row stands: as SQLite orders its values, and then by its first event."""
    _, row = entry
    first = len(COLUMNS)
    values = row[first : first + len(downs)]
    terms = [(value is None, _Value(value, is_down)) for value, is_down in zip(values, downs, strict=True)]
    return (*terms, row[first + len(downs) :])


class _Value:
    """A value of SQLite in its order: numbers, then texts by code points."""

    __slots__ = ("is_down", "mark")

    def __init__(self, value: Any, is_down: bool) -> None:
        self.mark = (isinstance(value, str), 0 if value is None else value)
        self.is_down = is_down

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.mark == other.mark

    def __lt__(self, other: _Value) -> bool:
        return other.mark < self.mark if self.is_down else self.mark < other.mark


class Union:
    """Several namespaces as one, to read. Get it from `Project.union`."""

    def __init__(self, places: Sequence[tuple[Source, str]]) -> None:
        self._places = places

    def runs(
        self,
        where: str | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        removed: bool = False,
    ) -> UnionRuns:
        """The runs of all that match a query, as `Project.runs`, as records that know their root.

        Raises: QueryError; ValueError for a limit below 0.
        """
        parts = [
            (source, select_runs(where, relpath=relpath, sort=None, limit=limit, removed=removed))
            for source, relpath in self._places
        ]
        return UnionRuns(parts, sort, limit)

    def find(
        self,
        identifier: str | None = None,
        *,
        params: Any = None,
        uid: str | None = None,
        status: Status | str | None = None,
    ) -> list[Listed]:
        """The runs of just these namespaces that match all that is given, as `Project.find`.

        Raises: ParamsError, ValueError for what cannot be looked for.
        """
        wanted = list(_iter_wanted(identifier, params, uid, status))
        parts = []
        for source, relpath in self._places:
            selection = select_runs(None, relpath="", sort=None, limit=None, removed=False)
            for part in [Compiled("relpath = ?", [relpath]), *wanted]:
                selection = selection.narrowed(part)
            parts.append((source, selection))
        return list(UnionRuns(parts))


def _iter_wanted(
    identifier: str | None, params: Any, uid: str | None, status: Status | str | None
) -> Iterator[Compiled]:
    if identifier is not None:
        yield Compiled("identifier = ?", [names.check_identifier(identifier)])
    if params is not None:
        key = uid_of(canonical(params))
        yield Compiled("(uid = ? or key = ?)", [key, key])
    if uid is not None:
        yield Compiled("substr(uid, 1, ?) = ?", [len(uid), uid])
    if status is not None:
        yield Compiled("status = ?", [str(Status(status))])
