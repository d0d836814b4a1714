"""What a run prints, kept among its files while it runs.

Spec: spec/output.md.
"""

from __future__ import annotations

from tracker.ledger import Ledger, OpenRun
from tracker.session.files import hand_out, make_folder
from tracker.session.place import Place


def begin_capture(ledger: Ledger, place: Place, held: OpenRun) -> None:
    """Keep what the process prints from here on in the run's `output.log`.

    Raises: StateError where another thread's run captures already; StorageError. Nothing is captured then.
    """
    from tracker.tee import OUTPUT, start

    make_folder(ledger, place, held)
    path = place.file_path(OUTPUT, include_identifier=True)
    hand_out(ledger, place, held, path, OUTPUT)
    held.tee = start(place.root / path, run=place.ref)


def end_capture(held: OpenRun) -> None:
    """Let the process print as before. What could not be kept was told when it happened. Cost: 1 ms."""
    tee, held.tee = held.tee, None
    if tee is not None:
        tee.stop()
