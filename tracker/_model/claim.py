"""A holder <-> the bytes of its file, and which claim counts.

Pure: what was found on disk and asked of the system comes as arguments.

Spec: spec/claims.md sections 4 and 5.
"""

from __future__ import annotations

import enum
from functools import cache

import msgspec
from msgspec import Struct

from tracker._model.event import Batch
from tracker.errors import DamagedError
from tracker.terms import WriterId

FORMAT = 1
LEASE_S = 300.0
"""The lease of a holder whose file says nothing."""


class Holder(Struct, frozen=True):
    """The process that holds claims, as its file tells."""

    format: int
    writer: WriterId
    host: str
    user: str
    boot: str | None
    pidns: int | None
    pid: int
    pid_start: int | None
    batch: Batch | None
    since: int
    lease_s: float
    folder: int | None


class Standing(enum.Enum):
    """What a claim is worth."""

    LIVE = "live"
    SPENT = "spent"
    COPIED = "made in another tree"
    REQUEUED = "its batch job was started again"
    GONE = "its process is gone"
    SILENT = "its lease is over"

    @property
    def is_live(self) -> bool:
        """True if the run is its holder's."""
        return self is Standing.LIVE

    @property
    def is_proven(self) -> bool:
        """True if the holder can write no more: it will not come back."""
        return self in (Standing.GONE, Standing.REQUEUED)


class FoundClaim(Struct, frozen=True):
    """A claim as it lies on disk; `holder` is None where its bytes say nothing."""

    number: int
    inode: int
    mtime_ns: int
    holder: Holder | None


def encode_holder(holder: Holder) -> bytes:
    """The bytes of a holder's file."""
    return msgspec.json.encode(holder) + b"\n"


def decode_holder(data: bytes, where: str = "a holder's file") -> Holder:
    """The holder that a file tells of. Raises: DamagedError."""
    try:
        return _decoder().decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedError(
            where, f"not a holder: {error}", offset=0, spec="spec/claims.md section 4"
        ) from error


@cache
def _decoder() -> msgspec.json.Decoder[Holder]:
    return msgspec.json.Decoder(Holder)


def judge(
    claim: FoundClaim, *, folder: int, batch: Batch | None, is_gone: bool | None, now_ns: int | None
) -> Standing:
    """What a claim that is not spent is worth.

    `folder` is the inode of the folder it lies in, `batch` our own job, `is_gone` what the system says of
    its process (None: it cannot tell), `now_ns` the time by the clock that set `mtime_ns`, or None where
    it is not known: then only proof counts.
    """
    holder = claim.holder
    if holder is not None:
        if holder.folder is not None and holder.folder != folder:
            return Standing.COPIED
        if _was_requeued(holder.batch, batch):
            return Standing.REQUEUED
        if is_gone is not None:
            return Standing.GONE if is_gone else Standing.LIVE
    lease_s = LEASE_S if holder is None else holder.lease_s
    if now_ns is not None and now_ns - claim.mtime_ns > lease_s * 1e9:
        return Standing.SILENT
    return Standing.LIVE


def _was_requeued(theirs: Batch | None, ours: Batch | None) -> bool:
    """True if our job is a later start of theirs."""
    if theirs is None or ours is None:
        return False
    return (theirs.system, theirs.job) == (ours.system, ours.job) and theirs.restarts < ours.restarts
