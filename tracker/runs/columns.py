"""Values of many runs side by side: rows of the relation -> columns by the names of the query language.

Pure. A chunk of rows is turned round at once and its JSON read once; a column is a list with one value a run.

Spec: docs/queries.md sections 1 and 7.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, Final

import msgspec
from msgspec import Struct

from tracker._model.names import run_ref
from tracker._store.relation import COLUMNS, SeenRow
from tracker.errors import DamagedError
from tracker.query import Compiled, Field, Space, compile_text, format_field, parse_field

CHUNK = 5_000
LAST = "last"

Placed = tuple[str, SeenRow]
"""A root and a row of its store."""


class Missing(enum.Enum):
    """What a run that has not a field has in its place; a null is there."""

    MISSING = ""


MISSING: Final = Missing.MISSING

_PLACES = {name: place for place, name in enumerate(COLUMNS)}
_TIMES = {"created": "created_ms", "started": "started_ms", "ended": "ended_ms"}
_STORED = {**_TIMES, "commit": "commit_id", "namespace": "relpath"}
ROOT = "root"


class Chunk:
    """Some runs, column by column."""

    def __init__(self, roots: list[str], rows: Sequence[tuple[Any, ...]]) -> None:
        self.size = len(rows)
        self.roots = roots
        self._rows = rows
        self._columns = list(zip(*rows, strict=True))

    def iter_placed(self) -> Iterator[Placed]:
        """Each run's root and row."""
        return zip(self.roots, map(SeenRow._make, self._rows), strict=True)

    def column(self, name: str) -> tuple[Any, ...]:
        """A column of the relation; None where a run has none."""
        return self._columns[_PLACES[name]]

    @cached_property
    def params(self) -> list[dict[str, Any]]:
        """The params, without the member that sets a repeat apart."""
        pairs = zip(self._trees("params"), self.column("params"), strict=True)
        return [_without_reserved(tree) if text and "@" in text else tree for tree, text in pairs]

    @cached_property
    def summaries(self) -> list[dict[str, Any]]:
        """The summaries."""
        return self._trees("summary")

    @cached_property
    def tags(self) -> list[list[str]]:
        """The tags."""
        return [[] if text is None else msgspec.json.decode(text) for text in self.column("tags")]

    def _trees(self, name: str) -> list[dict[str, Any]]:
        decode, texts = msgspec.json.decode, self.column(name)
        try:
            return [{} if text is None else decode(text) for text in texts]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> DamagedError:
        place = next(n for n, text in enumerate(self.column(name)) if text is not None and not _reads(text))
        parts = (self.column(column)[place] for column in ("relpath", "identifier", "uid"))
        cure = "see `tracker verify`"
        return DamagedError(run_ref(*parts), f"its recorded {name} are not JSON: {error}", cure=cure)


def _reads(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _without_reserved(tree: dict[str, Any]) -> dict[str, Any]:
    for key in [key for key in tree if key[:1] == "@"]:
        del tree[key]
    return tree


def iter_chunks(placed: Iterable[Placed]) -> Iterator[Chunk]:
    """The rows in chunks of bounded size."""
    rows = iter(placed)
    while part := list(islice(rows, CHUNK)):
        yield Chunk([root for root, _ in part], [row for _, row in part])


class Stored(Struct, frozen=True):
    """How SQLite gives a column, and how what it gives is read: many values at once."""

    sql: Compiled
    read: Callable[[Sequence[Any]], list[Any]]


class Column(Struct, frozen=True):
    """A heading and where its values come from: one a run, MISSING where it has none. A time is Unix ms.

    `stored` gives the very same values without the rows, where there is such a way.
    """

    heading: str
    values: Callable[[Chunk], list[Any]]
    is_time: bool = False
    stored: Stored | None = None


def columns_of(texts: Sequence[str]) -> list[Column]:
    """The columns of these fields of the query language. Raises: QueryError; ValueError for one text."""
    if isinstance(texts, str):
        raise ValueError(f"columns {texts!r}: give a list, as [{texts!r}]")
    return [column_of(parse_field(text)) for text in texts]


def column_of(field: Field) -> Column:
    """The column of a field."""
    heading, (first, *rest) = format_field(field), field.path
    if field.space is Space.PARAMS:
        stored = None if str(first)[:1] == "@" else _stored_text(field)
        return Column(heading, lambda chunk: [_walk(t, field.path) for t in chunk.params], stored=stored)
    if field.space is Space.METRICS:
        stored = _stored_text(field)
        return Column(heading, lambda chunk: [metric(t, field.path) for t in chunk.summaries], stored=stored)
    if first == "tags":
        return Column(heading, lambda chunk: [_walk(tags, rest) for tags in chunk.tags])
    return _record(str(first))


def _record(name: str) -> Column:
    if name == "duration":
        return Column(name, _durations, stored=Stored(Compiled("ended_ms - started_ms", []), _as_seconds))
    column = _STORED.get(name, name)
    read = _READERS.get(name, _there)
    stored = Stored(Compiled(column, []), read)
    return Column(name, lambda chunk: read(chunk.column(column)), name in _TIMES, stored)


def _stored_text(field: Field) -> Stored | None:
    sql = compile_text(field)
    return None if sql is None else Stored(sql, _read_texts)


def _read_texts(texts: Sequence[str | None]) -> list[Any]:
    """The values of JSON texts, all read at once."""
    values = iter(msgspec.json.decode(f"[{','.join(text for text in texts if text is not None)}]"))
    return [MISSING if text is None else next(values) for text in texts]


ROOTS = Column(ROOT, lambda chunk: list(chunk.roots))
"""Which store each run is of, where several are asked as one."""


def _there(values: Iterable[Any]) -> list[Any]:
    return [MISSING if value is None else value for value in values]


def _bools(values: Iterable[Any]) -> list[Any]:
    return [MISSING if value is None else bool(value) for value in values]


def _namespaces(paths: Iterable[str]) -> list[Any]:
    return [path or "." for path in paths]


_READERS: dict[str, Callable[[Sequence[Any]], list[Any]]] = {"dirty": _bools, "namespace": _namespaces}


def _as_seconds(milliseconds: Iterable[int | None]) -> list[Any]:
    return [MISSING if ms is None else ms / 1000.0 for ms in milliseconds]


def _durations(chunk: Chunk) -> list[Any]:
    """As the query language has them: seconds, where both times are known."""
    pairs = zip(chunk.column("started_ms"), chunk.column("ended_ms"), strict=True)
    return _as_seconds(None if start is None or end is None else end - start for start, end in pairs)


def metric(summary: dict[str, Any], path: Sequence[str | int]) -> Any:
    """A value of a summary: of one that is an object with the member `last`, that."""
    value = _walk(summary, path)
    return value[LAST] if len(path) == 1 and type(value) is dict and LAST in value else value


def _walk(value: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        is_member = type(part) is str and type(value) is dict and part in value
        is_item = type(part) is int and type(value) is list and -len(value) <= part < len(value)
        if not is_member and not is_item:
            return MISSING
        value = value[part]
    return value


# Every key that there is


class Flat:
    """Objects taken apart to their members, under the names by which a query asks for them."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._names: dict[tuple[str, ...], str] = {}

    def columns(self, trees: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
        """Name -> one value a tree, MISSING where it has none. Cost: 0.1 µs a tree and name."""
        found: dict[str, list[Any]] = {}
        self._take_apart(trees, (), found)
        return found

    def members(self, tree: dict[str, Any]) -> list[tuple[str, Any]]:
        """The members of a tree and of the objects in it. An empty object is a value, and so is a list."""
        return [(name, values[0]) for name, values in self.columns([tree]).items()]

    def _take_apart(
        self, trees: Sequence[dict[str, Any]], above: tuple[str, ...], found: dict[str, list[Any]]
    ) -> None:
        """Key by key, of all trees at once; a key under which some have objects goes on below.

        The member `last` of a summary's object stands for the object.
        """
        for key in dict.fromkeys(chain.from_iterable(trees)):
            values = [tree.get(key, MISSING) for tree in trees]
            path = (*above, key)
            if dict in set(map(type, values)):
                inner = [value if type(value) is dict else _EMPTY for value in values]
                values = [MISSING if type(value) is dict and value else value for value in values]
                if self._space is Space.METRICS and not above:
                    values = [tree.get(LAST, value) for tree, value in zip(inner, values, strict=True)]
                    inner = [{name: tree[name] for name in tree if name != LAST} for tree in inner]
                self._take_apart(inner, path, found)
                if all(value is MISSING for value in values):
                    continue
            found[self._name(path)] = values

    def _name(self, path: tuple[str, ...]) -> str:
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = format_field(Field(self._space, path))
        return name


_EMPTY: dict[str, Any] = {}


def flat_columns(chunk: Chunk, params: Flat, metrics: Flat) -> dict[str, list[Any]]:
    """Every param and every metric of a chunk, by name."""
    return params.columns(chunk.params) | metrics.columns(chunk.summaries)
