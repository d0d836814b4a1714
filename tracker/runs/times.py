"""A time as people give it -> Unix milliseconds. Pure. Spec: docs/queries.md section 2, "Times"."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(time: str | float | datetime) -> int:
    """Unix milliseconds of ISO 8601 text, of Unix seconds as a number or text, or of a datetime.

    Without an offset it is UTC; a part of a millisecond counts as none.

    Raises: ValueError.
    """
    if isinstance(time, str):
        time = _read(time.strip())
    if isinstance(time, datetime):
        aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(milliseconds=1)
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        raise _refused(time)
    return math.floor(time * 1000)


def _read(text: str) -> float | datetime:
    try:
        return (
            float(text)
            if text.replace(".", "", 1).isdigit() and "-" not in text
            else datetime.fromisoformat(text)
        )
    except ValueError as error:
        raise _refused(text) from error


def _refused(time: object) -> ValueError:
    return ValueError(f"{time!r} is no time; give '2026-11-24', '2026-11-24T09:30:00+01:00' or Unix seconds")
