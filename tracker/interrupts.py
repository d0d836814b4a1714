"""SIGTERM and SIGUSR1, as a batch system sends them before it kills: heard, then passed on.

The handler is chained to what the program had set. It only sets a flag and wakes who asked for it; where
nothing was set, SIGUSR1 is absorbed and SIGTERM raises SystemExit(143), so that `with` blocks end and exit
handlers run.

LIMIT: Python hears a signal between two of its own steps, not inside one long call of a C library.

Spec: spec/events.md section 4; spec/claims.md section 9.
"""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal, Protocol

_EXIT = 128 + signal.SIGTERM
_HEARD = (signal.SIGTERM, signal.SIGUSR1)


class Listener(Protocol):
    """Who is told. Called from the handler: it may take no lock."""

    def tell(self, word: Literal["signal"]) -> None: ...


_received: str | None = None
_previous: dict[int, Any] = {}
_listeners: tuple[weakref.ref[Listener], ...] = ()  # swapped whole: a handler may read it at any moment


def signal_name() -> str | None:
    """The signal that told this process to stop, or None."""
    return _received


def listen(listener: Listener | None = None) -> None:
    """Hear the signals from here on, and tell `listener`. Sets nothing outside the main thread.

    Cost: 4 µs, once a process.
    """
    global _listeners
    if listener is not None and listener not in [known() for known in _listeners]:
        _listeners = (*(known for known in _listeners if known() is not None), weakref.ref(listener))
    if _previous or threading.current_thread() is not threading.main_thread():
        return
    for number in _HEARD:
        if signal.getsignal(number) is not None:  # set from C: it cannot be chained, and is not ours to drop
            _previous[number] = signal.signal(number, _heard)


def _heard(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number).name
    for known in _listeners:
        listener = known()
        if listener is not None:
            listener.tell("signal")
    previous: Callable[[int, FrameType | None], Any] | signal.Handlers = _previous[number]
    if callable(previous):
        previous(number, frame)
    elif previous == signal.SIG_DFL and number == signal.SIGTERM:
        raise SystemExit(_EXIT)


def forget() -> None:
    """Give the signals back to what the program had set, for tests and embedding programs."""
    global _received, _listeners
    for number, handler in _previous.items():
        signal.signal(number, handler)
    _previous.clear()
    _received, _listeners = None, ()
