"""The thread beside a ledger: seals what lies unsealed, renews claims, writes rows of metrics that wait,
records that a signal came.

It sleeps between; an idle process is woken once a minute, one that logs metrics every 5 s. It holds its
ledger weakly.

Spec: spec/log.md section 5; spec/claims.md sections 5 and 6.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Literal, Protocol

from tracker import claiming
from tracker.errors import StorageError

SEAL_S = (300.0, 600.0, 1200.0, 2400.0, 4800.0, 9600.0, 19200.0, 21600.0)
"""How long unsealed events may lie in a journal; the last is repeated."""

GRACE_S = 0.1
"""So long the main thread has, after a signal, to record itself how its runs ended."""

FLUSH_S = 5.0
"""So long rows of metrics may wait in memory while somebody logs."""

Word = Literal["stop", "signal", "rows"]


class Watched(Protocol):
    """What the thread asks of its ledger. Each may raise StorageError."""

    def seal(self) -> None: ...
    def renew_claims(self) -> None: ...
    def record_signal(self) -> None: ...
    def flush_metrics(self) -> bool: ...


class Watch:
    """One thread. `tell` may be called from a signal handler: a SimpleQueue takes words at any moment."""

    def __init__(self, of: Watched) -> None:
        self._words: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_keep, args=(weakref.ref(of), self._words), name="tracker-watch", daemon=True
        )
        self._thread.start()

    def tell(self, word: Word) -> None:
        """Wake the thread."""
        self._words.put(word)


def _keep(of: weakref.ref[Watched], words: queue.SimpleQueue[Word]) -> None:
    waits = _forever(SEAL_S)
    now = time.monotonic()
    seal_s, renew_s, flush_s = now + next(waits), now + claiming.RENEW_S, math.inf
    while True:
        word = _next_word(words, min(seal_s, renew_s, flush_s) - time.monotonic())
        if word == "signal":
            time.sleep(GRACE_S)
        ledger = of()
        if ledger is None or word == "stop":
            return
        now = time.monotonic()
        with contextlib.suppress(StorageError):  # the next commit or the exit meets it again, and tells
            if word == "signal":
                ledger.record_signal()
            if word == "rows" and flush_s == math.inf:
                flush_s = now + FLUSH_S
            if now >= flush_s:
                flush_s = now + FLUSH_S  # a refusal leaves the rows for the next time
                if not ledger.flush_metrics():
                    flush_s = math.inf
            if now >= renew_s:
                renew_s = now + claiming.RENEW_S
                ledger.renew_claims()
            if now >= seal_s:
                seal_s = now + next(waits)
                ledger.seal()
        del ledger


def _next_word(words: queue.SimpleQueue[Word], wait_s: float) -> Word | None:
    try:
        return words.get(timeout=max(wait_s, 0.0))
    except queue.Empty:
        return None


def _forever(waits: tuple[float, ...]) -> Iterator[float]:
    yield from waits
    while True:
        yield waits[-1]
