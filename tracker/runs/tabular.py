"""What every collection of runs can be turned into: tables, CSV, data frames, groups, a schema, differences.

It composes; each form is its neighbour's. A collection gives rows and their number.

Spec: docs/queries.md section 7.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from tracker._model.fold import collector_paused
from tracker.query import Space
from tracker.runs.columns import (
    MISSING,
    ROOTS,
    Chunk,
    Column,
    Flat,
    Placed,
    Stored,
    columns_of,
    flat_columns,
    iter_chunks,
)
from tracker.runs.table import SHOWN_ROWS, Table, as_time, html_of, json_of

if TYPE_CHECKING:
    from tracker.runs.differences import Compared
    from tracker.runs.groups import Groups
    from tracker.runs.typed import TypedColumn

SHORT = ("identifier", "status", "created")
"""What a table tells of every run."""

RECORD = (
    *("uid", "identifier", "namespace", "status", "created", "started", "ended", "duration"),
    *("host", "user", "attempts", "tags", "name", "parent", "commit", "dirty"),
)
"""What a frame and a CSV file tell of every run."""


class _Filled(NamedTuple):
    """A heading with one value a run."""

    heading: str
    is_time: bool
    values: list[Any]


class Tabular(ABC):
    """Runs as rows."""

    _has_roots = False
    """True if the runs are of several stores, so that each row names its own."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def iter_placed(self) -> Iterator[Placed]:
        """Each run's row, and the root it lies in."""

    @abstractmethod
    def _iter_compared(self) -> Iterator[Compared]: ...

    def chunks(self) -> Iterator[Chunk]:
        """The runs in chunks, column by column. Cost: 10 µs a run, memory of one chunk."""
        return iter_chunks(self.iter_placed())

    def select_stored(self, stored: Sequence[Stored]) -> Iterator[tuple[Any, ...]] | None:
        """What SQLite gives of each run, in the order of the chunks; None if they are not of one SQLite.

        Cost: 1.5 µs a run, memory of one batch. Raises: DamagedError where recorded params are not JSON.
        """
        return None

    def table(self, columns: Sequence[str] | None = None, *, all: bool = False) -> Table:
        """The runs as a table: of `columns`, which are fields of the query language; or identifier, status,
        created and the params in which the runs differ, with `all` every param. Of one run it is every one.

        Raises: QueryError for what is no field.
        """
        if columns is not None:
            filled = self._fill(columns_of(columns), [])
        else:
            filled = self._fill(columns_of(SHORT), [Space.PARAMS])
            if not all:
                shared = len(SHORT) + self._has_roots
                filled = [f for n, f in enumerate(filled) if n < shared or _differs(f.values)]
        rows = zip(*(_shown(one.values, is_time=one.is_time) for one in filled), strict=True)
        return Table(tuple(one.heading for one in filled), tuple(rows))

    def _fill(self, fixed: Sequence[Column], spaces: Sequence[Space]) -> list[_Filled]:
        """The columns that are asked for, and every key of these spaces; column by column."""
        fixed = [ROOTS, *fixed] if self._has_roots else fixed
        filled = [_Filled(column.heading, column.is_time, []) for column in fixed]
        flats = {space: Flat(space) for space in spaces}
        keys: dict[Space, dict[str, list[Any]]] = {space: {} for space in spaces}
        count = 0
        for chunk in self.chunks():
            for column, one in zip(fixed, filled, strict=True):
                one.values.extend(column.values(chunk))
            for space, known in keys.items():
                _extend(known, flats[space].columns(_trees(chunk, space)), count, chunk.size)
            count += chunk.size
        named = [(name, values) for known in keys.values() for name, values in sorted(known.items())]
        return filled + [_Filled(name, False, values) for name, values in named]

    # Files and frames

    def to_csv(
        self,
        path_or_file: str | os.PathLike[str] | TextIO | None = None,
        columns: Sequence[str] | None = None,
    ) -> str | None:
        """The runs as CSV: `columns`, else what is recorded of each, every param and every metric.

        To a path, whole or not at all; to an open file; or as a text. Lists and what is mixed are JSON.

        Cost: memory of one batch of runs; without `columns` two passes, of which the first finds the columns.
        Raises: QueryError; StorageError.
        """
        from tracker.runs.output import write_whole

        lines = self._iter_csv(columns)
        if path_or_file is None:
            return "".join(lines)
        if isinstance(path_or_file, str | os.PathLike):
            write_whole(path_or_file, (line.encode() for line in lines))
        else:
            path_or_file.writelines(lines)
        return None

    def _iter_csv(self, columns: Sequence[str] | None) -> Iterator[str]:
        from tracker.runs.lines import iter_csv

        fixed = columns_of(RECORD if columns is None else columns)
        fixed = [ROOTS, *fixed] if self._has_roots else fixed
        keys = self._keys() if columns is None else []
        return iter_csv([c.heading for c in fixed] + keys, self._iter_values(fixed, keys))

    def _keys(self) -> list[str]:
        """Every param and then every metric, by name."""
        known: dict[Space, dict[str, None]] = {Space.PARAMS: {}, Space.METRICS: {}}
        flats = {space: Flat(space) for space in known}
        for chunk in self.chunks():
            for space, names in known.items():
                names.update(dict.fromkeys(flats[space].columns(_trees(chunk, space))))
        return [name for names in known.values() for name in sorted(names)]

    def _iter_values(self, fixed: Sequence[Column], keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        params, metrics = Flat(Space.PARAMS), Flat(Space.METRICS)
        for chunk in self.chunks():
            columns = [_shown(column.values(chunk), is_time=column.is_time) for column in fixed]
            flat = flat_columns(chunk, params, metrics) if keys else {}
            nothing = [None] * chunk.size
            columns += [_shown(flat[key]) if key in flat else nothing for key in keys]
            yield from zip(*columns, strict=True)

    def _typed(self, columns: Sequence[str] | None) -> list[TypedColumn]:
        from tracker.runs.typed import typed

        spaces = [Space.PARAMS, Space.METRICS] if columns is None else []
        with collector_paused():
            filled = self._fill(columns_of(RECORD if columns is None else columns), spaces)
        return [typed(one.heading, one.values, is_time=one.is_time) for one in filled]

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """The runs as a pandas DataFrame: `columns`, else what is recorded, every param, every metric.

        Cost: 10 µs a run and 0.3 µs a value. Raises: QueryError; MissingPackageError without pandas.
        """
        from tracker.runs import frames

        return frames.to_pandas(self._typed(columns))

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """The same as a polars DataFrame. Raises: QueryError; MissingPackageError without polars."""
        from tracker.runs import frames

        return frames.to_polars(self._typed(columns))

    def to_parquet(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> None:
        """The same as a Parquet file, whole or not at all.

        Raises: QueryError; StorageError; MissingPackageError without arro3-core and arro3-io.
        """
        from tracker.runs import frames
        from tracker.runs.output import write_whole

        write_whole(path, [frames.to_parquet(self._typed(columns))])

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The same as an Arrow stream, which pyarrow, polars, DuckDB and others take as it is.

        Raises: MissingPackageError without arro3-core.
        """
        from tracker.runs import frames

        return frames.to_arrow(self._typed(None)).__arrow_c_stream__(requested_schema)

    def iter_objects(self) -> Iterator[dict[str, Any]]:
        """Each run as an object of what JSON has: what is recorded, `params` and `metrics` as they are."""
        fixed = columns_of(RECORD)
        fixed = [ROOTS, *fixed] if self._has_roots else fixed
        for chunk in self.chunks():
            columns = [_shown(column.values(chunk), is_time=column.is_time) for column in fixed]
            table = Table(tuple(c.heading for c in fixed), tuple(zip(*columns, strict=True)))
            trees = zip(table.as_objects(), chunk.params, chunk.summaries, strict=True)
            yield from ({**record, "params": params, "metrics": metrics} for record, params, metrics in trees)

    # What they have in common, and what not

    def group_by(self, keys: str | Sequence[str]) -> Groups:
        """Groups of the runs that share the values of these fields. Raises: QueryError."""
        from tracker.runs.groups import Groups

        return Groups(self, columns_of([keys] if isinstance(keys, str) else keys))

    def schema(self) -> Table:
        """Each param and metric: its types, how many runs have it and how many not, what values it takes.

        Cost: 20 µs a run, memory of one batch.
        """
        from tracker.runs.schema import schema_of

        return schema_of(self.chunks())

    def diff(self) -> Table:
        """In what the runs differ, a column a run: params, code, environment, files by digest, host, version.

        Cost: 50 µs a run, and a file read for each code and environment.
        """
        from tracker.runs.differences import differences_of

        return differences_of(self._iter_compared())

    def _repr_html_(self) -> str:
        few = _Few(self)
        table = few.table()
        return html_of(table.headings, table.rows, len(self))


class _Few(Tabular):
    """The first runs of a collection."""

    def __init__(self, whole: Tabular) -> None:
        self._placed = list(islice(whole.iter_placed(), SHOWN_ROWS))
        self._has_roots = whole._has_roots

    def __len__(self) -> int:
        return len(self._placed)

    def iter_placed(self) -> Iterator[Placed]:
        return iter(self._placed)

    def _iter_compared(self) -> Iterator[Compared]:
        return iter(())


def _trees(chunk: Chunk, space: Space) -> list[dict[str, Any]]:
    return chunk.params if space is Space.PARAMS else chunk.summaries


def _extend(known: dict[str, list[Any]], found: dict[str, list[Any]], before: int, size: int) -> None:
    """Add a chunk's columns to those of the `before` runs before it."""
    for name, values in found.items():
        if name not in known:
            known[name] = [MISSING] * before
        known[name].extend(values)
    for name in known.keys() - found.keys():
        known[name].extend([MISSING] * size)


def _shown(values: Iterable[Any], *, is_time: bool = False) -> list[Any]:
    """Values as a table has them."""
    plain = [None if value is MISSING else value for value in values]
    return [None if value is None else as_time(value) for value in plain] if is_time else plain


def _differs(values: list[Any]) -> bool:
    if len(values) < 2:
        return True
    first = values[0]
    return any(value is not first and _mark(value) != _mark(first) for value in values[1:])


def _mark(value: Any) -> str | None:
    return None if value is MISSING else json_of(value)
