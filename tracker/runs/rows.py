"""The runs of one source that match a query, as rows and as records of them.

It asks anew at each use; nothing is read before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from tracker._model import names
from tracker._store.relation import BY_CREATION, COLUMNS, HAS_JSON_TEXT, SeenRow
from tracker.query import Compiled, compile_field, compile_query, parse_field, parse_query
from tracker.runs.batches import Selection, iter_selected, select_whole
from tracker.runs.columns import CHUNK, Chunk, Placed, Stored
from tracker.runs.source import Source
from tracker.runs.tabular import Tabular
from tracker.terms import RunRef, Status, StorageMode

if TYPE_CHECKING:
    from tracker.runs.differences import Compared


class Listed(Struct, frozen=True):
    """One run as a collection tells it: what is recorded, apart from any session. Times are Unix ms."""

    root: str
    ref: RunRef
    identifier: str
    namespace: str
    uid: str
    key: str | None
    mode: str | None
    status: Status
    params: dict[str, Any]
    metrics: dict[str, Any]
    tags: list[str]
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    host: str | None
    user: str | None
    attempts: int
    removed: bool
    name: str | None = None
    parent: str | None = None
    commit: str | None = None
    dirty: bool | None = None

    @property
    def folder(self) -> Path:
        """The folder of its files. Spec: spec/layout.md section 4."""
        mode = StorageMode.PREFIX if self.mode == StorageMode.PREFIX else StorageMode.SUBFOLDER
        return Path(self.root) / names.folder_of(self.namespace, self.uid, mode)


def listed(placed: Placed) -> Listed:
    """A row as a record. Raises: DamagedError for params that are not JSON."""
    root, row = placed
    chunk = Chunk([root], [row])
    return Listed(
        root, names.run_ref(row.relpath, row.identifier, row.uid), row.identifier, row.relpath, row.uid,
        row.key, row.mode, Status(row.status), chunk.params[0], chunk.summaries[0], chunk.tags[0],
        row.created_ms, row.started_ms, row.ended_ms, row.host, row.user, row.attempts, bool(row.removed),
        row.name, row.parent, row.commit_id, None if row.dirty is None else bool(row.dirty),
    )  # fmt: skip


class Rows(Tabular):
    """Runs of one source, in the order of creation unless they are sorted. Each use asks anew."""

    def __init__(self, source: Source, selection: Selection) -> None:
        self._source = source
        self._selection = selection

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} in {str(self._source.root)!r}>"

    def __len__(self) -> int:
        """How many runs match. Cost: 0.7 µs a run of the store for a query over params."""
        selection = self._selection
        whole = replace(selection, order=_NO_ORDER, limit=None, offset=0)
        total: int = select_whole(self._source, ["count(*)"], whole)[0][0]
        beyond = max(total - selection.offset, 0)
        return beyond if selection.limit is None else min(beyond, selection.limit)

    def __bool__(self) -> bool:
        one = 1 if self._selection.limit is None else min(1, self._selection.limit)
        return bool(select_whole(self._source, ["1"], replace(self._selection, limit=one, order=_NO_ORDER)))

    def iter_rows(self) -> Iterator[SeenRow]:
        """The runs as rows: record, status, times, host, tags and summary; JSON as text.

        In the order of creation they come in batches, each of a moment of its own; sorted they are of one.
        Cost: 8 µs a row, and the memory of one batch; sorted, of all rows.
        """
        return map(SeenRow._make, iter_selected(self._source, COLUMNS, self._selection))

    def iter_placed(self) -> Iterator[Placed]:
        """Each run's row, and the root it lies in."""
        root = str(self._source.root)
        return ((root, row) for row in self.iter_rows())

    def chunks(self) -> Iterator[Chunk]:
        """The runs in chunks, column by column. Cost: 5 µs a run, memory of one chunk."""
        rows, root = iter_selected(self._source, COLUMNS, self._selection), str(self._source.root)
        while part := list(islice(rows, CHUNK)):
            yield Chunk([root] * len(part), part)

    def select_stored(self, stored: Sequence[Stored]) -> Iterator[tuple[Any, ...]] | None:
        return self.select([one.sql for one in stored]) if HAS_JSON_TEXT else None

    def iter_listed(self) -> Iterator[Listed]:
        """Each run as a record."""
        return map(listed, self.iter_placed())

    def _iter_compared(self) -> Iterator[Compared]:
        from tracker.runs.differences import Compared

        for row in self.iter_rows():
            ref = names.run_ref(row.relpath, row.identifier, row.uid)
            yield Compared(ref, self._source, ref)

    @property
    def params(self) -> list[dict[str, Any]]:
        """The params of each run, without the member that sets a repeat apart."""
        return [tree for chunk in self.chunks() for tree in chunk.params]

    def select(self, columns: Sequence[Compiled]) -> Iterator[tuple[Any, ...]]:
        """Values of each run: `columns` are compiled fields."""
        texts = [column.where for column in columns]
        bound = [value for column in columns for value in column.bindings]
        return iter_selected(self._source, texts, self._selection, bound)


class RecordedRuns(Rows, Sequence[Listed]):
    """Runs as records."""

    def __iter__(self) -> Iterator[Listed]:
        return self.iter_listed()

    def __getitem__(self, place: Any) -> Any:
        """The run of this number, or those of a slice as a list."""
        return list(self.iter_listed())[place]


_NO_ORDER = Compiled("", [])


def select_runs(
    where: str | None, *, relpath: str, sort: str | Sequence[str] | None, limit: int | None, removed: bool
) -> Selection:
    """The runs of a namespace and those below it that match a query.

    Raises: QueryError for a query or a field to sort by that cannot be read; ValueError for a limit below 0.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit {limit}: give 0 or more")
    selection = Selection(Compiled("removed = ?", [int(removed)]), order_by(sort), limit)
    if relpath:
        below = f"{relpath}/"
        inside = "(relpath = ? or substr(relpath, 1, ?) = ?)"
        selection = selection.narrowed(Compiled(inside, [relpath, len(below), below]))
    if where is not None and where.strip():
        selection = selection.narrowed(compile_query(parse_query(where)))
    return selection


def sort_terms(sort: str | Sequence[str] | None) -> list[tuple[Compiled, bool]]:
    """The values to sort by, and whether down. Raises: QueryError."""
    texts = [sort] if isinstance(sort, str) else list(sort or ())
    return [
        (compile_field(parse_field(text.strip().removeprefix("-"))), text.strip().startswith("-"))
        for text in texts
    ]


def order_by(sort: str | Sequence[str] | None) -> Compiled:
    """The order of `sort`: fields, the first counts most; one that begins with `-` goes down. What a run has
    not comes last, and runs that are equal stand in the order of creation.

    Raises: QueryError.
    """
    terms, bindings = [], []
    for value, is_down in sort_terms(sort):
        terms.append(f"{value.where} is null, {value.where}{' desc' if is_down else ''}")
        bindings += [*value.bindings, *value.bindings]
    return Compiled(", ".join([*terms, BY_CREATION]), bindings)
