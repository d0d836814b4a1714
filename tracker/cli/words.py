"""Text for people: what is printed of names, times, sizes and statuses.

Pure: knows no store and no terminal.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta

from tracker._model.fold import Run

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SOON_S = 60.0
_UNITS = ((60.0, "s", 1.0), (3600.0, "min", 60.0), (86400.0, "h", 3600.0), (60 * 86400.0, "days", 86400.0))
_SIZES = ("kB", "MB", "GB", "TB", "PB", "EB")


def printable(text: str) -> str:
    """Give `text` with every character that is not printed escaped as in JSON.

    What stands in a store can then neither command a terminal nor break a line; params stay the JSON that
    they were.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_printed(char) else json.dumps(char)[1:-1] for char in text)


def _is_printed(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def in_ascii(text: str) -> str:
    """Give JSON text with all but printable ASCII escaped: the same document, whatever the encoding."""
    return "".join(char if " " <= char <= "~" else json.dumps(char)[1:-1] for char in text)


def iso_time(ms: int) -> str:
    """Give Unix milliseconds as ISO 8601 in UTC; a time past the calendar as its number."""
    try:
        time = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return f"{ms} ms"
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local_time(ms: int) -> str:
    """Give Unix milliseconds as date and time in this place's zone."""
    try:
        time = (_EPOCH + timedelta(milliseconds=ms)).astimezone()
    except (OverflowError, OSError, ValueError):
        return iso_time(ms)
    return time.isoformat(" ", "seconds")[:19]


def age(ms: int, now_ms: int) -> str:
    """Say how long ago a time is; its date where that is two months or more, or lies ahead."""
    seconds = (now_ms - ms) / 1000
    if -_SOON_S < seconds < 1:
        return "now"
    for below, unit, size in _UNITS:
        if 0 <= seconds < below:
            return f"{seconds // size:.0f} {unit} ago"
    return iso_time(ms)[:10]


def duration(ms: int) -> str:
    """Say how long something took: `0.4 s`, `3 min 05 s`, `2 h 07 min`."""
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(size_bytes: int) -> str:
    """Give a number of bytes in decimal units."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    steps = 0
    while amount >= 999.5 and steps < len(_SIZES):
        amount /= 1000
        steps += 1
    return f"{amount:.3g} {_SIZES[steps - 1]}"


def status_words(run: Run) -> str:
    """The status and what else a person should know at once."""
    more = {"removed": run.removed, "divergent": run.divergent}
    said = ", ".join(word for word, is_so in more.items() if is_so)
    return f"{run.status} ({said})" if said else str(run.status)
