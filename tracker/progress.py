"""A line on standard error that says how far a long work is. Knows nothing of the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

QUIET_S = 1.0
"""What takes less than this is not told of."""

_EVERY_S = 0.1


class Bar:
    """Call it with what is done and how much of how much. Leaving it clears the line."""

    def __init__(
        self, err: TextIO | None, *, is_on: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._err = err
        self._is_on = is_on and err is not None
        self._clock = clock
        self._due_s: float | None = None
        self._width = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._is_on:
            return
        now = self._clock()
        if self._due_s is None:
            self._due_s = now + QUIET_S
        if now >= self._due_s:
            self._due_s = now + _EVERY_S
            self._show(f"{what}: {100 * done // max(total, 1)} %")

    def of(self, what: str) -> Callable[[int, int], None]:
        """The same for one thing."""
        return lambda done, total: self(what, done, total)

    def _show(self, text: str) -> None:
        self._write(f"\r{text:<{self._width}}")
        self._width = len(text)

    def _write(self, text: str) -> None:
        """Write, or be silent from here on: a terminal that has gone stops no work."""
        assert self._err is not None, "it is on"
        try:
            self._err.write(text)
            self._err.flush()
        except (OSError, ValueError):
            self._is_on = False

    def clear(self) -> None:
        """Take the line away, so that others may write."""
        if self._width:
            self._write(f"\r{'':<{self._width}}\r")
        self._width = 0
        self._due_s = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


def on_stderr() -> Bar:
    """A bar on standard error, if that is a terminal; whatever a program has put in its place, no failure."""
    try:
        return Bar(sys.stderr, is_on=sys.stderr is not None and sys.stderr.isatty())
    except (AttributeError, OSError, ValueError):  # closed, or an object that only looks like it
        return Bar(None, is_on=False)
