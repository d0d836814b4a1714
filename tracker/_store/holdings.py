"""Which runs of the index have certain bytes in their histories: a digest, or a path.

It is SQL over what the index stores of a history, and so an over-estimate: whoever asks looks into the runs.

Spec: spec/sealing.md section 7.
"""

from __future__ import annotations

from collections.abc import Collection

from tracker._model.names import run_ref
from tracker._store.relation import Relation
from tracker.terms import RunRef

NEEDLES_MAX = 100
"""Of more the cost of a look at every history comes near that of decoding it."""

USED = b"\xa4used"
"""What stands in the history of every run that used something: the tag of the event."""

_HAYSTACK = "coalesce(h.events, r.plain)"
_FROM = "main.runs r left join main.histories h on h.id = r.id"


def refs_holding(relation: Relation, needles: Collection[bytes]) -> list[RunRef]:
    """The refs of the runs in whose histories one of `needles` stands, in no order.

    Cost: one look at every history, 0.4 µs and 0.2 µs a needle: of a million runs some 0.6 s for a digest.
    Raises: sqlite3.Error where the index is not fit for use.
    """
    assert 0 < len(needles) <= NEEDLES_MAX, "no needle, or too many"
    found = " or ".join(f"instr({_HAYSTACK}, x'{needle.hex()}')" for needle in needles)
    _, rows = relation.ask(f"select r.relpath, r.identifier, r.uid from {_FROM} where {found}")
    return [run_ref(relpath, identifier, uid) for relpath, identifier, uid in rows]
