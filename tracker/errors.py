"""Every exception a caller can meet.

One parent; one child for each thing a caller can do about it. The facts are fields; the text is made
of them. Each child is also the builtin error that a caller would expect, so `except ValueError` works.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime


class TrackerError(Exception):
    """The parent of all errors that tracker raises on purpose."""


class ParamsError(TrackerError, ValueError):
    """A value has no canonical form. Change the value at `path`.

    Spec: spec/canonical.md, "Rule for each type".
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class NameRefusedError(TrackerError, ValueError):
    """An identifier, namespace, file name or root that a store cannot carry everywhere.

    Spec: spec/layout.md, "Portable names".
    """

    def __init__(self, what: str, value: object, why: str, cure: str = "") -> None:
        super().__init__(f"{what} {value!r}: {why}" + (f"; {cure}" if cure else ""))
        self.what = what
        self.value = value
        self.why = why
        self.cure = cure


class MetricError(TrackerError, ValueError):
    """What was logged is no row of metrics: a name, a number or a step that is none. Nothing of it is kept.

    Spec: spec/metrics.md section 3.
    """

    def __init__(self, name: str, value: object, why: str, cure: str = "") -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
        super().__init__(f"metric {name!r} = {shown}: {why}" + (f"; {cure}" if cure else ""))
        self.name = name
        self.value = value
        self.why = why
        self.cure = cure


class QueryError(TrackerError, ValueError):
    """A query that means nothing. `column` is a 0-based offset into `text`; the message counts from 1.

    Spec: docs/queries.md.
    """

    def __init__(self, text: str, column: int, expected: str, suggestion: str | None = None) -> None:
        meant = f"; did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(f"query column {column + 1}: expected {expected}{meant}: {_around(text, column)}")
        self.text = text
        self.column = column
        self.expected = expected
        self.suggestion = suggestion


def _around(text: str, column: int, width: int = 80) -> str:
    """At most `width` characters of `text` near `column`, on one line."""
    start = max(0, min(column - width // 2, len(text) - width))
    cut = text[start : start + width]
    line = "".join(c if c.isprintable() else " " for c in cut)
    return ("…" if start else "") + line + ("…" if start + width < len(text) else "")


class StateError(TrackerError, RuntimeError):
    """The run's status does not allow what was asked."""

    def __init__(self, run: str, status: str, refused: str, cure: str = "") -> None:
        super().__init__(f"run {run} is {status}: {refused}" + (f"; {cure}" if cure else ""))
        self.run = run
        self.status = status
        self.refused = refused
        self.cure = cure


class ClaimedError(TrackerError, RuntimeError):
    """Somebody else is executing the run. `since_ms` is Unix milliseconds, or None where it is not known."""

    def __init__(self, run: str, holder: str, since_ms: int | None, cure: str) -> None:
        since = "" if since_ms is None else f" since {_utc(since_ms)}"
        super().__init__(f"run {run} is being executed by {holder}{since}; {cure}")
        self.run = run
        self.holder = holder
        self.since_ms = since_ms
        self.cure = cure


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class NotFoundError(TrackerError, LookupError):
    """Nothing in the store answers to what was asked for."""

    def __init__(self, what: str, where: str, cure: str = "") -> None:
        super().__init__(f"{what} not found in {where}" + (f"; {cure}" if cure else ""))
        self.what = what
        self.where = where
        self.cure = cure


class AmbiguousError(NotFoundError):
    """More than one run answers; `candidates` names them."""

    def __init__(self, what: str, where: str, candidates: Sequence[str]) -> None:
        shown = ", ".join(candidates[:5]) + (", …" if len(candidates) > 5 else "")
        TrackerError.__init__(self, f"{what} is not one run in {where}: {shown}; give more of it")
        self.what = what
        self.where = where
        self.cure = "give more of it"
        self.candidates = list(candidates)


class DamagedError(TrackerError, OSError):
    """Bytes on disk that break the format."""

    def __init__(
        self, path: str, why: str, *, offset: int | None = None, spec: str = "", cure: str = ""
    ) -> None:
        at = "" if offset is None else f" at byte {offset}"
        text = f"{path}{at}: {why}" + (f" ({spec})" if spec else "") + (f"; {cure}" if cure else "")
        super().__init__(text)
        self.path = path
        self.offset = offset
        self.why = why
        self.spec = spec
        self.cure = cure

    def __str__(self) -> str:
        return str(self.args[0])


class StorageError(TrackerError, OSError):
    """The operating system refused a write; `errno` says why. What was acknowledged before stands."""

    def __init__(self, errno: int | None, path: str, doing: str, reason: str, cure: str) -> None:
        super().__init__(errno, f"{doing} {path}: {reason}; {cure}")
        self.path = path
        self.doing = doing
        self.reason = reason
        self.cure = cure

    def __str__(self) -> str:
        return str(self.args[1])


class VersionError(TrackerError):
    """The store's format is newer than this release reads."""

    def __init__(self, path: str, found: str, ours: str, cure: str) -> None:
        super().__init__(f"{path}: the store's format is {found}, this release reads {ours}; {cure}")
        self.path = path
        self.found = found
        self.ours = ours
        self.cure = cure


class TrackerWarning(UserWarning):
    """The parent of all warnings that tracker gives."""


class ParamsWarning(TrackerWarning):
    """A value was accepted, and may not mean what its author meant."""


class ClockWarning(TrackerWarning):
    """Another writer's clock is far ahead of this host's."""
