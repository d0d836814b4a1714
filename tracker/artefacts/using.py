"""use: what a run reads, recorded by its digest, and with the run that made it where its path says so.

Spec: spec/sealing.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from tracker._model.event import Attachment, File, Input
from tracker._model.fold import Attempt, Run, Stamp
from tracker._model.policy import WHOLE, SealPolicy
from tracker._store.index import Filter
from tracker._store.sealing import seal_files
from tracker.errors import NotFoundError
from tracker.ledger import Ledger
from tracker.terms import RunRef, Seal

_UID_PART = re.compile(r"([0-9a-f]{32})(?:_.*)?", re.DOTALL)


def inputs_of(
    ledger: Ledger, file: Attachment, policy: SealPolicy = WHOLE, taken: Mapping[str, Input] = {}
) -> list[Input]:
    """What to record of a file that is used: its size and digest as they are now; of a folder, file by file.

    An attempt has one input of a name, so one whose name `taken` has for another path is named by its path.

    Cost: that of sealing it, and 50 µs to find its maker.
    Raises: NotFoundError for what is not there, and for a folder without files; StorageError.
    """
    if policy.how is Seal.NONE:  # that it was there is the least that can be said
        policy = SealPolicy(Seal.SIZE)
    found = [one for one in seal_files(ledger.root, [file], policy) if one.size is not None]
    if not found:
        where = "this machine" if file.external else str(ledger.root)
        raise NotFoundError(
            f"file {file.path!r}", where, "use() takes a file that is there, or a folder of them"
        )
    makers: dict[str, list[Run]] = {}
    return named_apart([_input_of(ledger, one, makers) for one in found], taken)


def named_apart(inputs: list[Input], taken: Mapping[str, Input]) -> list[Input]:
    """The inputs, by their paths those whose name `taken` has for another path."""
    return [
        one
        if (known := taken.get(one.name)) is None or known.path == one.path
        else replace(one, name=one.path)
        for one in inputs
    ]


def _input_of(ledger: Ledger, file: File, makers: dict[str, list[Run]]) -> Input:
    maker = _maker_among(ledger, file, makers)
    return Input(file.name, file.path, file.size, file.digest, file.external, maker)


def maker_of(ledger: Ledger, file: File) -> RunRef | None:
    """The run that sealed these bytes at this path, if the path bears its uid; else None.

    Whoever made the same bytes elsewhere is found by `lineage_of_file`.
    """
    return _maker_among(ledger, file, {})


def _maker_among(ledger: Ledger, file: File, known: dict[str, list[Run]]) -> RunRef | None:
    sealed: list[tuple[Stamp, RunRef]] = []
    for uid in () if file.external else _uids_in(file.path):
        if uid not in known:
            known[uid] = ledger.find(Filter(uid=uid, removed=None))
        for run in known[uid]:
            sealed += ((stamp, run.ref) for attempt in run.attempts for stamp in _seals_of(attempt, file))
    return max(sealed)[1] if sealed else None


def _uids_in(path: str) -> Iterator[str]:
    for part in path.split("/"):
        match = _UID_PART.fullmatch(part)
        if match:
            yield match[1]


def _seals_of(attempt: Attempt, file: File) -> Iterator[Stamp]:
    if attempt.end_stamp is None:
        return
    for one in attempt.files:
        if one.path == file.path and not one.external and one.size is not None and _are_same(one, file):
            yield attempt.end_stamp


def _are_same(one: File, other: File) -> bool:
    """True unless size or digest, where both know it, tell otherwise."""
    is_size = other.size is None or one.size == other.size
    return is_size and (None in (one.digest, other.digest) or one.digest == other.digest)
