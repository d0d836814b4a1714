"""What is to be done, from what lies on either side. Pure: it opens no file.

Spec: spec/merge.md sections 3 and 6.
"""

import enum
from collections.abc import Iterable
from typing import NamedTuple

from tracker.merge.inventory import Here, Piece


class Do(enum.Enum):
    """What happens to a file of SRC."""

    NOTHING = "it is here"
    COPY = "it is not here"
    MEND = "it is damaged here"
    PART = "its good prefix is not here"
    ASIDE = "another file has its name here"
    SWAP = "another file has its name here, and this is the one that was sealed"
    SKIP = "it is not taken"


class Step(NamedTuple):
    """One file of SRC's ledger and what happens to it."""

    do: Do
    piece: Piece


def plan_ledger(pieces: Iterable[Piece], here: Here) -> list[Step]:
    """One step for each file of SRC's ledger: proven ones first, good prefixes last, the longest first.

    What a sealed file of the same writer and number hides is not taken, and a prefix only if its last frame,
    which proves all before it, is in no file that is here or comes.
    """
    ordered = sorted(pieces, key=_rank)
    sealed = set(here.sealed)
    marks = {owner: set(known) for owner, known in here.marks.items()}
    steps = []
    coming: set[str] = set()
    for piece in ordered:
        name = piece.place.name
        if piece.is_proven and piece.place.path in coming:
            do = Do.NOTHING
        elif piece.is_proven and (name.kind == "seg" or piece.place.owner not in sealed):
            do = _for_proven(piece, here)
            coming.add(piece.place.path)
            if name.kind == "seg":
                sealed.add(piece.place.owner)
        elif piece.is_proven or piece.place.owner in sealed or not piece.marks:
            do = Do.NOTHING
        else:
            known = marks.setdefault(piece.place.owner, set())
            do = Do.NOTHING if piece.marks[-1] in known else Do.PART
            known.update(piece.marks)
        steps.append(Step(do, piece))
    return steps


def _rank(piece: Piece) -> tuple[int, int, str]:
    kinds = {"seg": 0, "part": 1, "open": 2}
    return (kinds[piece.place.name.kind] if piece.is_proven else 3, -len(piece.marks), piece.file)


def _for_proven(piece: Piece, here: Here) -> Do:
    if piece.place.path in here.sound:
        return Do.NOTHING
    return Do.MEND if piece.place.path in here.damaged else Do.COPY


class Facts(NamedTuple):
    """What is known of a file's bytes."""

    size_bytes: int
    digest: bytes
    uid: str
    """What it would be named, were it a `params.json`."""


class Wanted(NamedTuple):
    """What a path ought to hold: as its newest seal says, or, for `params.json`, the run's uid."""

    size_bytes: int | None = None
    digest: bytes | None = None
    uid: str = ""

    def is_met_by(self, facts: Facts) -> bool:
        """True if these are the bytes. Where a seal has no digest, the size decides."""
        if self.uid:
            return facts.uid == self.uid
        return facts.size_bytes == self.size_bytes and self.digest in (None, facts.digest)


def plan_new_file(theirs: Facts, wanted: Wanted | None) -> Do:
    """For a file whose name is free here: bytes that are not those sealed do not get the sealed name."""
    return Do.COPY if wanted is None or wanted.is_met_by(theirs) else Do.ASIDE


def plan_file(theirs: Facts, ours: Facts, wanted: Wanted | None, *, is_cut: bool) -> Do:
    """For a file that both sides have; `is_cut` says that ours is what a crash leaves of theirs.

    Nothing that is here is overwritten, but for a derived `params.json` that was cut short.
    """
    if theirs[:2] == ours[:2]:
        return Do.NOTHING
    if wanted is not None and wanted.is_met_by(theirs) and not wanted.is_met_by(ours):
        return Do.MEND if wanted.uid and is_cut else Do.SWAP
    return Do.ASIDE
