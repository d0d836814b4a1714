"""The runs that match a query: counted, gone through, taken by number, without being loaded at once.

It asks the relation of one store, anew at each use, and makes sessions through the project that gave it.
Tables, frames and groups are its neighbours'.

Spec: docs/queries.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from msgspec import Struct
from msgspec.structs import replace

from tracker._codec.canonical import parse
from tracker._store.relation import BY_CREATION, COLUMNS, SeenRow
from tracker.ledger import Ledger
from tracker.query import Compiled, compile_field, compile_query, parse_field, parse_query
from tracker.seen import relation_of
from tracker.session import Session


class Selection(Struct, frozen=True):
    """Which runs, in which order: SQL made of known words, with its bindings."""

    where: Compiled
    order: Compiled = Compiled(BY_CREATION, [])
    limit: int | None = None
    offset: int = 0


class Runs(Sequence[Session]):
    """Runs of a store, in the order of creation unless `sort` says otherwise. Get it from `Project.runs`.

    It reads nothing before it is used, and each use sees the store as it is then.
    """

    def __init__(
        self, ledger: Ledger, session_of: Callable[[SeenRow], Session], selection: Selection
    ) -> None:
        self._ledger = ledger
        self._session_of = session_of
        self._selection = selection

    def __repr__(self) -> str:
        return f"<Runs: {len(self)} in {str(self._ledger.root)!r}>"

    def __len__(self) -> int:
        """How many runs match. Cost: 0.7 µs a run of the store for a query over params."""
        selection = self._selection
        whole = replace(selection, order=_NO_ORDER, limit=None, offset=0)
        total: int = next(self._select(["count(*)"], whole))[0]
        beyond = max(total - selection.offset, 0)
        return beyond if selection.limit is None else min(beyond, selection.limit)

    def __bool__(self) -> bool:
        return next(self._select(["1"], replace(self._some(1), order=_NO_ORDER)), None) is not None

    def __iter__(self) -> Iterator[Session]:
        return map(self._session_of, self.iter_rows())

    @overload
    def __getitem__(self, place: int) -> Session: ...
    @overload
    def __getitem__(self, place: slice) -> Runs: ...
    def __getitem__(self, place: int | slice) -> Session | Runs:
        if isinstance(place, slice):
            return self._slice(place)
        count = len(self) if place < 0 else None
        start = place if count is None else count + place
        if start < 0:
            raise IndexError(f"run {place} of {count}")
        row = next(self._rows(self._slice(slice(start, start + 1))._selection), None)
        if row is None:
            raise IndexError(f"run {place} of {len(self)}")
        return self._session_of(row)

    def _slice(self, place: slice) -> Runs:
        if place.step not in (None, 1):
            raise ValueError(f"a step of {place.step}: runs are taken one after another")
        start, stop = place.start or 0, place.stop
        if _is_from_end(place):
            start, stop, _ = place.indices(len(self))
        mine = self._selection
        left = None if mine.limit is None else max(mine.limit - start, 0)
        wanted = None if stop is None else max(stop - start, 0)
        limits = [limit for limit in (left, wanted) if limit is not None]
        limit = min(limits) if limits else None
        return Runs(self._ledger, self._session_of, replace(mine, offset=mine.offset + start, limit=limit))

    def _some(self, count: int) -> Selection:
        mine = self._selection
        return replace(mine, limit=count if mine.limit is None else min(count, mine.limit))

    def iter_rows(self) -> Iterator[SeenRow]:
        """The runs as rows: record, status, times, host, tags and summary; JSON as text.

        Cost: 8 µs a row. Rows of a moment: what is recorded while they are gone through is not among them.
        """
        return self._rows(self._selection)

    def _rows(self, selection: Selection) -> Iterator[SeenRow]:
        return map(SeenRow._make, self._select(COLUMNS, selection))

    @property
    def params(self) -> list[dict[str, Any]]:
        """The params of each run, without the member that sets a repeat apart."""
        return [params_of(row) for row in self.iter_rows()]

    def select(self, columns: Sequence[Compiled]) -> Iterator[tuple[Any, ...]]:
        """Values of each run: `columns` are compiled fields."""
        names = [column.where for column in columns]
        bound = [value for column in columns for value in column.bindings]
        return self._select(names, self._selection, bound)

    def _select(
        self, columns: Sequence[str], selection: Selection, bound: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, ...]]:
        bindings = [*bound, *selection.where.bindings, *selection.order.bindings]
        with self._ledger.lock:
            return iter(
                list(
                    relation_of(self._ledger).select(
                        columns, selection.where.where, bindings,
                        order=selection.order.where, limit=selection.limit, offset=selection.offset,
                    )
                )
            )  # fmt: skip


_NO_ORDER = Compiled("", [])


def _is_from_end(place: slice) -> bool:
    return any(end is not None and end < 0 for end in (place.start, place.stop))


def params_of(row: SeenRow) -> dict[str, Any]:
    """The params of a row, without the member that sets a repeat apart."""
    tree = {} if row.params is None else parse(row.params.encode())
    return {key: value for key, value in tree.items() if not key.startswith("@")}


def select_runs(
    where: str | None, *, relpath: str, sort: str | Sequence[str] | None, limit: int | None, removed: bool
) -> Selection:
    """The runs of a namespace and those below it that match a query.

    Raises: QueryError for a query or a field to sort by that cannot be read; ValueError for a limit below 0.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit {limit}: give 0 or more")
    parts = [Compiled("removed = ?", [int(removed)])]
    if relpath:
        below = f"{relpath}/"
        parts.append(Compiled("(relpath = ? or substr(relpath, 1, ?) = ?)", [relpath, len(below), below]))
    if where is not None and where.strip():
        parts.append(compile_query(parse_query(where)))
    text = " and ".join(part.where for part in parts)
    bindings = [value for part in parts for value in part.bindings]
    return Selection(Compiled(text, bindings), order_by(sort), limit)


def order_by(sort: str | Sequence[str] | None) -> Compiled:
    """The order of `sort`: fields, the first counts most; one that begins with `-` goes down. What a run has
    not comes last, and runs that are equal stand in the order of creation.

    Raises: QueryError.
    """
    texts = [sort] if isinstance(sort, str) else list(sort or ())
    terms, bindings = [], []
    for text in texts:
        value = compile_field(parse_field(text.strip().removeprefix("-")))
        down = " desc" if text.strip().startswith("-") else ""
        terms.append(f"{value.where} is null, {value.where}{down}")
        bindings += [*value.bindings, *value.bindings]
    return Compiled(", ".join([*terms, BY_CREATION]), bindings)
