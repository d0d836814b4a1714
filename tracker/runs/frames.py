"""The doors to data frames: pandas, polars and Arrow, each imported when it is asked for.

Columns are made one by one of typed values; no row is made.
"""

from __future__ import annotations

import io
from typing import Any

from tracker.errors import TrackerError
from tracker.runs.typed import Kind, TypedColumn

EXTRA = "frame"


class MissingPackageError(TrackerError, ImportError):
    """A package that is needed for this alone is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; pip install 'tracker-store[{extra}]'")
        self.package = package
        self.extra = extra


def to_pandas(columns: list[TypedColumn]) -> Any:
    """A pandas DataFrame. Raises: MissingPackageError."""
    try:  # third-party, slow, and need not be installed
        import pandas
    except ImportError as error:
        raise MissingPackageError("pandas", EXTRA) from error
    series = {}
    for column in columns:
        if column.kind is Kind.TIME:
            times = pandas.Series(column.values, dtype="Int64" if column.has_gaps else "int64")
            series[column.name] = pandas.to_datetime(times, unit="ms", utc=True)
        else:
            dtypes = _PANDAS[column.kind]
            series[column.name] = pandas.Series(column.values, dtype=dtypes[column.has_gaps])
    return pandas.DataFrame(series, copy=False)


_PANDAS = {
    Kind.INT: ("int64", "Int64"),
    Kind.FLOAT: ("float64", "float64"),
    Kind.BOOL: ("bool", "boolean"),
    Kind.TEXT: ("string", "string"),
    Kind.JSON: ("string", "string"),
}
"""Kind -> the dtype without gaps, and with."""


def to_polars(columns: list[TypedColumn]) -> Any:
    """A polars DataFrame. Raises: MissingPackageError."""
    try:  # third-party, slow, and need not be installed
        import polars
    except ImportError as error:
        raise MissingPackageError("polars", EXTRA) from error
    types: dict[Kind, Any] = {
        Kind.INT: polars.Int64,
        Kind.FLOAT: polars.Float64,
        Kind.BOOL: polars.Boolean,
        Kind.TEXT: polars.String,
        Kind.JSON: polars.String,
        Kind.TIME: polars.Datetime("ms", "UTC"),
    }
    return polars.DataFrame([polars.Series(c.name, c.values, dtype=types[c.kind]) for c in columns])


def to_arrow(columns: list[TypedColumn]) -> Any:
    """An Arrow table, of arro3. Raises: MissingPackageError."""
    try:  # third-party, and need not be installed
        from arro3.core import Array, DataType, Table
    except ImportError as error:
        raise MissingPackageError("arro3-core", EXTRA) from error
    types = {
        Kind.INT: DataType.int64(),
        Kind.FLOAT: DataType.float64(),
        Kind.BOOL: DataType.bool(),
        Kind.TEXT: DataType.utf8(),
        Kind.JSON: DataType.utf8(),
        Kind.TIME: DataType.int64(),
    }
    arrays = [Array(column.values, types[column.kind]) for column in columns]
    moment = DataType.timestamp("ms", tz="UTC")
    whole = [a.cast(moment) if c.kind is Kind.TIME else a for a, c in zip(arrays, columns, strict=True)]
    return Table.from_arrays(whole, names=[column.name for column in columns])


def to_parquet(columns: list[TypedColumn]) -> bytes:
    """The bytes of a Parquet file. Raises: MissingPackageError."""
    try:  # third-party, and need not be installed
        from arro3.io import write_parquet
    except ImportError as error:
        raise MissingPackageError("arro3-io", EXTRA) from error
    data = io.BytesIO()
    write_parquet(to_arrow(columns), data)
    return data.getvalue()
