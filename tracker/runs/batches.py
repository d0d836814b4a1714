"""The rows of a selection, a batch at a time in the order of creation, so that memory stays bounded.

A batch is a window of the clock of first events: every run lies in exactly one, and those of one clock in
the same. Another order needs all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tracker._store.relation import BY_CREATION, Relation
from tracker.query import Compiled
from tracker.runs.source import Source

BATCH = 5_000
"""Rows of the index in one batch; half a million are some 1 GB of Python."""

_BEFORE_ALL = -(2**63)

Row = tuple[Any, ...]


class Selection(Struct, frozen=True):
    """Which runs, in which order: SQL made of known words, with its bindings."""

    where: Compiled
    order: Compiled = Compiled(BY_CREATION, [])
    limit: int | None = None
    offset: int = 0

    def narrowed(self, part: Compiled) -> Selection:
        """The runs of these for which `part` is true too."""
        where = Compiled(f"{self.where.where} and {part.where}", [*self.where.bindings, *part.bindings])
        return replace(self, where=where)


def select_whole(
    source: Source, columns: Sequence[str], selection: Selection, bound: Sequence[Any] = ()
) -> list[Row]:
    """Values of each run, of one moment; `bound` are the values of `columns`."""
    return source.ask(partial(_select, columns=columns, selection=selection, bound=bound))


def iter_selected(
    source: Source, columns: Sequence[str], selection: Selection, bound: Sequence[Any] = ()
) -> Iterator[Row]:
    """Values of each run. In the order of creation each batch is of a moment of its own: what is recorded
    meanwhile with a later clock is among them, and what was before is told as its batch finds it. A few are
    of one moment.

    Cost: memory of one batch; another order, or an offset, takes that of all rows.
    """
    if selection.order.where != BY_CREATION or selection.offset:
        yield from select_whole(source, columns, selection, bound)
        return
    if selection.limit is not None and selection.limit <= BATCH:
        yield from source.ask(partial(_select_first, columns=columns, selection=selection, bound=bound))
        return
    above, left = _BEFORE_ALL, selection.limit
    while left is None or left > 0:
        part = replace(selection, limit=left)
        rows, upper = source.ask(partial(_window, columns=columns, selection=part, bound=bound, above=above))
        yield from rows
        if upper is None:
            return
        above, left = upper, None if left is None else left - len(rows)


def _select_first(
    seen: Relation, *, columns: Sequence[str], selection: Selection, bound: Sequence[Any]
) -> list[Row]:
    where, limit = selection.where, selection.limit
    assert limit is not None, "asked for few"
    return seen.select_first(columns, where.where, [*bound, *where.bindings], limit)


def _window(
    seen: Relation, *, columns: Sequence[str], selection: Selection, bound: Sequence[Any], above: int
) -> tuple[list[Row], int | None]:
    """The rows of one batch, and where the next begins; None if it was the last."""
    text = f"select clock from main.runs where clock > {above} order by clock limit 1 offset {BATCH - 1}"
    upper = next((clock for (clock,) in seen.ask(text)[1]), None)
    bounds = Compiled("clock > ?", [above])
    if upper is not None:
        bounds = Compiled("clock > ? and clock <= ?", [above, upper])
    return _select(seen, columns=columns, selection=selection.narrowed(bounds), bound=bound), upper


def _select(
    seen: Relation, *, columns: Sequence[str], selection: Selection, bound: Sequence[Any]
) -> list[Row]:
    where, order = selection.where, selection.order
    bindings = [*bound, *where.bindings, *order.bindings]
    limit, offset = selection.limit, selection.offset
    return list(seen.select(columns, where.where, bindings, order=order.where, limit=limit, offset=offset))
