"""What is known of every run, beside its params and metrics: names, kinds and columns of the relation `seen`.

Pure. A column's kind is known beforehand, so a literal of another kind is refused where it stands.
"""

import enum
from typing import NamedTuple


class Kind(enum.Enum):
    """What a column holds, as a message names it."""

    TEXT = "a text"
    STATUS = "a status"
    NAMESPACE = "a namespace as text"
    NUMBER = "a number"
    TIME = "a time as text ('2026-11-24', '2026-11-24T09:30:00+01:00') or in Unix seconds"
    SECONDS = "a number of seconds"
    TAGS = "a list"
    BOOL = "True or False"


class Column(NamedTuple):
    """A column's kind and its SQL, which is NULL where the run has none."""

    kind: Kind
    sql: str


COLUMNS = {
    "status": Column(Kind.STATUS, "status"),
    "identifier": Column(Kind.TEXT, "identifier"),
    "namespace": Column(Kind.NAMESPACE, "relpath"),
    "uid": Column(Kind.TEXT, "uid"),
    "key": Column(Kind.TEXT, "key"),
    "mode": Column(Kind.TEXT, "mode"),
    "host": Column(Kind.TEXT, "host"),
    "user": Column(Kind.TEXT, "user"),
    "name": Column(Kind.TEXT, "name"),
    "parent": Column(Kind.TEXT, "parent"),
    "commit": Column(Kind.TEXT, "commit_id"),
    "dirty": Column(Kind.BOOL, "dirty"),
    "tags": Column(Kind.TAGS, "coalesce(tags, '[]')"),
    "attempts": Column(Kind.NUMBER, "attempts"),
    "created": Column(Kind.TIME, "created_ms / 1000.0"),
    "started": Column(Kind.TIME, "started_ms / 1000.0"),
    "ended": Column(Kind.TIME, "ended_ms / 1000.0"),
    "duration": Column(Kind.SECONDS, "(ended_ms - started_ms) / 1000.0"),
}

TEXTS = (Kind.TEXT, Kind.STATUS, Kind.NAMESPACE)
NUMBERS = (Kind.NUMBER, Kind.TIME, Kind.SECONDS)
