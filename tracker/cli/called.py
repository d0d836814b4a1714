"""Runs by what they are called: by the name that people gave, and as the best by a metric. Reads alone.

Spec: docs/cli.md, the section before the first command.
"""

from __future__ import annotations

from unicodedata import normalize

from tracker._model.fold import Run
from tracker._model.names import run_ref
from tracker._store.relation import BY_CREATION
from tracker.ledger import Ledger
from tracker.query import Compiled, Field, Space, compile_field
from tracker.runs.batches import Selection, select_whole
from tracker.runs.source import Present
from tracker.terms import Status

_DOWN = "-"


def runs_named(ledger: Ledger, text: str) -> list[Run]:
    """The runs of this name, letter by letter; the removed ones where no other has it. Cost: 0.1 µs a run."""
    if not text.isprintable():  # no run can have it
        return []
    where = Compiled("name = ?", [normalize("NFC", text)])
    found = _select(ledger, Selection(where))
    return [run for run in found if not run.removed] or found


def best_run(ledger: Ledger, metric: str, identifier: str | None) -> Run | None:
    """Of the runs that are done the one with the least value of a metric; of `-METRIC` with the greatest.

    The least of all that was logged is compared, not the last. What is no number is passed over; of equal
    runs the one that was created first is taken.

    Cost: 1 µs a run.
    """
    is_down = metric.startswith(_DOWN)
    member = "max" if is_down else "min"
    value = compile_field(Field(Space.METRICS, (metric.removeprefix(_DOWN), member)))
    where = Compiled("removed = ? and status = ?", [0, str(Status.DONE)])
    order = Compiled(f"{value.where}{' desc' if is_down else ''}, {BY_CREATION}", value.bindings)
    best = Selection(where, order, limit=1).narrowed(
        Compiled(f"typeof({value.where}) in ('integer', 'real')", value.bindings)
    )
    if identifier is not None:
        best = best.narrowed(Compiled("identifier = ?", [identifier]))
    return next(iter(_select(ledger, best)), None)


def _select(ledger: Ledger, selection: Selection) -> list[Run]:
    rows = select_whole(Present(ledger), ("relpath", "identifier", "uid"), selection)
    found = (ledger.run(run_ref(*row)) for row in rows)
    return [run for run in found if run is not None]
