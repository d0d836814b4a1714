"""The runs that match a query, as sessions: gone through, taken by number, without being loaded at once.

It makes sessions through the project that gave it. Rows, tables, frames and groups are its neighbours'.

Spec: docs/queries.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from msgspec.structs import replace

from tracker._store.relation import COLUMNS, SeenRow
from tracker.runs.batches import Selection, iter_selected
from tracker.runs.rows import Rows
from tracker.runs.source import Source
from tracker.session import Session


class Runs(Rows, Sequence[Session]):
    """Runs of a store, in the order of creation unless `sort` says otherwise. Get it from `Project.runs`.

    It reads nothing before it is used, and each use sees the store as it is then.
    """

    def __init__(
        self, source: Source, session_of: Callable[[SeenRow], Session], selection: Selection
    ) -> None:
        super().__init__(source, selection)
        self._session_of = session_of

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
        one = self._slice(slice(start, start + 1))._selection
        row = next(iter_selected(self._source, COLUMNS, one), None)
        if row is None:
            raise IndexError(f"run {place} of {len(self)}")
        return self._session_of(SeenRow._make(row))

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
        return Runs(self._source, self._session_of, replace(mine, offset=mine.offset + start, limit=limit))


def _is_from_end(place: slice) -> bool:
    return any(end is not None and end < 0 for end in (place.start, place.stop))
