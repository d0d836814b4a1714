"""What queries are asked of: every run as it is now, whether the index has it, a live journal, or memory.

Knows how a run becomes a row of the relation; SQL is the relation's.

Spec: spec/claims.md section 8; spec/layout.md section 7.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tracker._model.fold import Run
from tracker._store.index import facts_of
from tracker._store.relation import LiveRow, Relation, SeenRow
from tracker.ledger import Ledger
from tracker.liveness import as_seen

LIVENESS_S = 1.0
"""How old the word RUNNING or LOST of a row may be."""


def relation_of(ledger: Ledger) -> Relation:
    """The relation `seen` of a store, current. Hold the ledger's lock while it is asked.

    Cost: 5 µs if nothing changed, else 60 µs a run that the index lacks or has as RUNNING.
    """
    generation = ledger.refresh()
    relation = ledger.lookup.relation()
    known = relation.mark
    now = time.monotonic()
    if isinstance(known, tuple) and known[0] == generation and (now - known[1] < LIVENESS_S or not known[2]):
        return relation
    rows = list(_iter_live(ledger))
    relation.set_live(rows)
    relation.mark = (ledger.lookup.generation, now, any(live.row.status in _UNSTEADY for live in rows))
    return relation


_UNSTEADY = ("running", "lost")


def _iter_live(ledger: Ledger) -> Iterator[LiveRow]:
    for ref in sorted(ledger.lookup.otherwise()):
        run = ledger.lookup.run(ref)
        if run is not None:
            yield LiveRow(row_of(ledger, as_seen(ledger, run)), run.first[:4])


def row_of(ledger: Ledger, run: Run) -> SeenRow:
    """A run as queries see it."""
    attempts, by, started_ms, ended_ms, tags, summary, *rest = facts_of(run)
    opened = None if by is None else ledger.lookup.opened_by(by)
    return SeenRow(
        run.uid, run.identifier, run.relpath, run.key, str(run.status), run.mode, run.params,
        run.first[0] >> 16, started_ms, ended_ms,
        None if opened is None else opened.host, None if opened is None else opened.user,
        tags, summary, attempts, int(run.removed), *rest,
    )  # fmt: skip
