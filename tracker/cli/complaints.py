"""Errors and warnings as lines on standard error, and the exit code of each.

A person is told in one line what is wrong and what can be done; a script reads the code.
"""

from __future__ import annotations

import enum
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import msgspec

from tracker._disk.durable import as_storage_error
from tracker.cli.words import printable
from tracker.errors import (
    AmbiguousError,
    DamagedError,
    NotFoundError,
    StorageError,
    TrackerError,
    TrackerWarning,
)


class Exit(enum.IntEnum):
    """What a command's exit code says."""

    OK = 0
    NO = 1
    USAGE = 2
    INCOMPLETE = 3
    REFUSED = 4
    INTERRUPTED = 130
    PIPE_CLOSED = 141


EXIT_CODES = """\
exit codes:
  0    it is so, or it is done
  1    no: there is no such run, or something is damaged or altered
  2    a wrong question: usage, bad input, no store, an ambiguous RUN,
       a store that a newer release wrote
  3    nothing is damaged, something is not here (yet): verify, bundle
  4    the system refused a read or a write
  130  stopped by Ctrl-C
  141  whoever read the output has closed it"""


class UsageError(TrackerError, ValueError):
    """The command line asks for what cannot be meant."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}; {cure}")
        self.what = what
        self.cure = cure


class NoStoreError(NotFoundError):
    """No folder that was looked at holds a store."""


INDEX_DAMAGE = (sqlite3.Error, msgspec.MsgspecError)
"""What a cache with wrong bytes raises when it is asked; the store itself says DamagedError."""

EXPECTED = (TrackerError, OSError, UnicodeError, RecursionError, *INDEX_DAMAGE)
"""What a command may fail with; anything else is a bug of ours."""


def exit_code(error: BaseException) -> Exit:
    """The code of an expected error."""
    if isinstance(error, NoStoreError | AmbiguousError):
        return Exit.USAGE
    if isinstance(error, NotFoundError | DamagedError | RecursionError):
        return Exit.NO
    return Exit.REFUSED if isinstance(error, OSError | sqlite3.Error | msgspec.MsgspecError) else Exit.USAGE


def text_of(error: BaseException) -> str:
    """Say an expected error in one line: what; cure."""
    if isinstance(error, AmbiguousError):
        candidates = ", ".join(error.candidates)
        return f"{error.what} may be one of {candidates}; give the whole ref, more digits, or --identifier"
    if isinstance(error, INDEX_DAMAGE):
        return f"the index, a cache outside the store, is damaged: {error}; `tracker rebuild` makes it anew"
    if isinstance(error, RecursionError):
        return "what was read is nested too deep; `tracker verify` says whether the store is damaged"
    if isinstance(error, UnicodeError):
        return f"not UTF-8: {error}; write it as UTF-8"
    if isinstance(error, OSError) and not isinstance(error, DamagedError | StorageError):
        return str(as_storage_error(error, _path_of(error), "use"))
    return str(error)


def _path_of(error: OSError) -> str:
    return "a file" if error.filename is None else str(error.filename)


def complain(error: BaseException, err: TextIO) -> Exit:
    """Tell of an expected error and give its exit code."""
    _say(err, "error", text_of(error))
    return exit_code(error)


def warn(text: str, err: TextIO) -> None:
    """Tell of something that does not stop the command."""
    _say(err, "warning", text)


def _say(err: TextIO, kind: str, text: str) -> None:
    line = f"tracker: {kind}: {printable(text)}\n"
    encoding = err.encoding or "utf-8"
    with suppress(OSError):  # nobody is left to be told
        err.write(line.encode(encoding, "backslashreplace").decode(encoding))
        err.flush()


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Within, a TrackerWarning is one line; other warnings are what they were."""
    with warnings.catch_warnings():
        otherwise = warnings.showwarning
        warnings.simplefilter("always", TrackerWarning)

        def show(message: Warning | str, category: type[Warning], *where: object) -> None:
            if issubclass(category, TrackerWarning):
                warn(str(message), sys.stderr)
            else:
                otherwise(message, category, *where)  # type: ignore[arg-type]

        warnings.showwarning = show  # type: ignore[assignment]
        yield
