"""This process's claims in one store: taken, renewed, given back; and what others' claims are worth.

Knows which claim counts and in which order files are made; never events. One thread at a time; the ledger
holds the lock.

Spec: spec/claims.md sections 5 and 6.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection

from msgspec import Struct

from tracker._disk import durable, host
from tracker._disk.host import Host
from tracker._model.claim import FORMAT, FoundClaim, Holder, Standing, judge
from tracker._model.names import claim_path, holder_path
from tracker._store import claims
from tracker.errors import StorageError
from tracker.terms import RunRef, WriterId

LEASE_S = 300.0
"""How long a heartbeat counts where the holder's process cannot be asked for."""

RENEW_S = 60.0
"""The time between two heartbeats."""

SIGN_OF_LIFE_S = 24 * 3600.0
"""A silence after which a reader takes a process of another host for gone."""

_TAKES_MAX = 20


class Claim(Struct):
    """A claim that this process holds. `below` are the stale ones it took over, by number."""

    ref: RunRef
    number: int
    path: str
    inode: int
    below: dict[int, Standing]
    is_lost: bool = False


class Rival(Struct, frozen=True):
    """A live claim of somebody else; `holder` is None where its file says nothing."""

    number: int
    holder: Holder | None

    def __str__(self) -> str:
        if self.holder is None:
            return "a holder whose file does not read"
        return f"{self.holder.user}@{self.holder.host}, pid {self.holder.pid}"


class Claims:
    """The claims of this process on runs of one store. Makes nothing before the first is taken."""

    def __init__(self) -> None:
        self.held: dict[RunRef, Claim] = {}
        self._store_fd = -1
        self._root = ""
        self._writer = WriterId("")
        self._me: Host | None = None
        self._holder: Holder | None = None
        self._fd = -1
        self._inode = -1
        self._touched_s = -1e9

    def settle(self, store_fd: int, root: str, writer: WriterId, me: Host) -> None:
        """Say in which store and as who claims will be taken. Makes nothing."""
        self._store_fd, self._root, self._writer, self._me = store_fd, root, writer, me

    def take(self, ref: RunRef, floor: int, spent: Collection[int]) -> Claim | Rival:
        """Take the claim on a run. `floor` is the greatest number in the ledger, `spent` those that ended.

        Crash states: a claim without an attempt, stale as soon as this process is gone.
        Cost: 40 µs; the first in a store 0.2 ms. Raises: StorageError.
        """
        holder = self._hold()
        for _ in range(_TAKES_MAX):
            below = self._standings(ref, spent)
            rival = next((r for r in below.values() if isinstance(r, Rival)), None)
            if rival is not None:
                return rival
            claim = self._try(ref, max([floor, *below]) + 1, holder)
            if claim is not None:
                claim.below = {n: s for n, s in below.items() if isinstance(s, Standing)}
                try:
                    self._freshen()
                    return self._unless_met(claim, spent)
                except BaseException:
                    self.give_up(claim)
                    raise
        raise StorageError(
            None,
            claim_path(ref, floor + 1),
            "claim",
            f"{_TAKES_MAX} numbers were taken by others meanwhile",
            "try again",
        )

    def _standings(self, ref: RunRef, spent: Collection[int]) -> dict[int, Standing | Rival]:
        """Every claim on a run that is here, with what it is worth."""
        found: dict[int, Standing | Rival] = {}
        for number in claims.claim_numbers(self._store_fd, ref):
            if number in spent:
                found[number] = Standing.SPENT
                continue
            claim = claims.find_claim(self._store_fd, ref, number)
            if claim is None:
                continue
            if self._is_left_over(ref, claim):
                found[number] = Standing.SPENT
                continue
            standing = self._judge(claim)
            found[number] = Rival(number, claim.holder) if standing.is_live else standing
        return found

    def _is_left_over(self, ref: RunRef, claim: FoundClaim) -> bool:
        """True for a claim of our own that we do not hold: a failed call made it, or did not remove it."""
        return claim.holder is not None and claim.holder.writer == self._writer and ref not in self.held

    def _judge(self, claim: FoundClaim) -> Standing:
        """What a claim is worth; the server's clock is asked for only where nothing else decides."""
        folder = self._folder_inode()
        me = self._me or host.this_process()
        is_gone = None if claim.holder is None else host.is_dead(claim.holder, me)
        standing = judge(claim, folder=folder, batch=me.batch, is_gone=is_gone, now_ns=None)
        if not standing.is_live or is_gone is False:
            return standing
        return judge(claim, folder=folder, batch=me.batch, is_gone=None, now_ns=self._server_now_ns())

    def _folder_inode(self) -> int:
        inode = claims.folder_inode(self._store_fd)
        return -1 if inode is None else inode

    def _freshen(self) -> None:
        """Give a sign of life if the last is not young: a claim that is linked bears the holder's time stamp.

        Whoever took it for stale before this has made a higher one, which is met next.
        """
        if time.monotonic() - self._touched_s > RENEW_S / 4:
            self._server_now_ns()

    def _server_now_ns(self) -> int:
        """The time by the clock that stamps the files here: our own file, touched and read."""
        try:
            now_ns = durable.touch(self._fd).st_mtime_ns
            self._touched_s = time.monotonic()
            return now_ns
        except OSError as error:
            raise durable.as_storage_error(error, holder_path(self._writer), "touch") from error

    def _try(self, ref: RunRef, number: int, holder: Holder) -> Claim | None:
        """Make the claim of this number; None if somebody else has it."""
        path = claim_path(ref, number)
        try:
            inode = claims.put_claim(self._store_fd, path, holder_path(self._writer), holder)
        except FileNotFoundError:  # our file was removed under us
            self._drop_holder()
            holder = self._hold()
            inode = claims.put_claim(self._store_fd, path, holder_path(self._writer), holder)
        if inode is None:
            # an NFS server may have done what its client asked for twice
            there = claims.inode_at(self._store_fd, path)
            if there != self._inode or ref in self.held:
                return None
            inode = there
        if inode != self._inode and self._is_linked(path):
            # another file bears our holder's name: nobody would renew what is linked to it
            claims.drop_claim(self._store_fd, path)
            self._drop_holder()
            self._hold()
            return None
        claim = self.held[ref] = Claim(ref, number, path, inode, {})
        return claim

    def _is_linked(self, path: str) -> bool:
        return durable.stat_at(path, self._store_fd).st_nlink > 1

    def _unless_met(self, claim: Claim, spent: Collection[int]) -> Claim | Rival:
        """Give a claim back if a live one came up beside it. Spec: spec/claims.md section 6, step 3."""
        for number in claims.claim_numbers(self._store_fd, claim.ref):
            if number == claim.number or number in claim.below or number in spent:
                continue
            found = claims.find_claim(self._store_fd, claim.ref, number)
            if found is not None and self._judge(found).is_live:
                self.release(claim)
                return Rival(number, found.holder)
        return claim

    # Who we are

    def _hold(self) -> Holder:
        """Our own file, made if it is not there yet."""
        if self._holder is not None:
            return self._holder
        folder = claims.make_claims_folder(self._store_fd)
        self._drop_dead_holders()
        me = self._me or host.this_process()
        holder = Holder(
            FORMAT, self._writer, me.host, me.user, me.boot, me.pidns, me.pid, me.pid_start, me.batch,
            host.now_ms(), LEASE_S, folder if host.has_lasting_inodes(self._root) else None,
        )  # fmt: skip
        self._fd = claims.put_holder(self._store_fd, holder_path(self._writer), holder)
        try:
            self._inode = os.fstat(self._fd).st_ino
        except OSError as error:
            raise durable.as_storage_error(error, holder_path(self._writer), "look up") from error
        self._touched_s = time.monotonic()
        self._holder = holder
        return holder

    def _drop_dead_holders(self) -> None:
        """Files of processes that are provably gone; claims linked to them stay until they are taken over."""
        me = self._me or host.this_process()
        for file in claims.iter_holders(self._store_fd):
            if file.holder is not None and host.is_dead(file.holder, me) is True:
                durable.unlink_if_there(file.path, self._store_fd)

    def _drop_holder(self) -> None:
        if self._fd >= 0:
            durable.close_read(self._fd)
        self._fd = self._inode = -1
        self._holder = None

    # Holding

    def drop_below(self, claim: Claim) -> None:
        """Remove the stale claims that `claim` took over, once its attempt stands in the ledger."""
        for number in claim.below:
            claims.drop_claim(self._store_fd, claim_path(claim.ref, number))
        claim.below = {}

    def is_lost(self, claim: Claim) -> bool:
        """True once another worker has taken the run over, or our claim is gone. Cost: 12 µs."""
        if not claim.is_lost:
            higher = [n for n in claims.claim_numbers(self._store_fd, claim.ref) if n > claim.number]
            claim.is_lost = claims.inode_at(self._store_fd, claim.path) != claim.inode or any(
                self._was_made_here(claim.ref, number) for number in higher
            )
        return claim.is_lost

    def _was_made_here(self, ref: RunRef, number: int) -> bool:
        """False for a claim that a copy of the tree brought."""
        found = claims.find_claim(self._store_fd, ref, number)
        return found is not None and self._judge(found) is not Standing.COPIED

    def renew(self) -> None:
        """Give a sign of life, and learn which claims are lost.

        Cost: one touch, and 12 µs a claim held. Raises: StorageError.
        """
        if self._fd < 0:
            return
        self._server_now_ns()
        for claim in list(self.held.values()):
            if not self.is_lost(claim) and claim.inode != self._inode:
                durable.touch_path(claim.path, self._store_fd)

    def release(self, claim: Claim) -> None:
        """Give a claim back, if it is still ours. Raises: StorageError."""
        self.held.pop(claim.ref, None)
        if claims.inode_at(self._store_fd, claim.path) == claim.inode:
            claims.drop_claim(self._store_fd, claim.path)

    def give_up(self, claim: Claim) -> None:
        """Let go of a claim that a failure made useless; what cannot be removed the next take passes over."""
        self.held.pop(claim.ref, None)
        with contextlib.suppress(StorageError):  # the first failure is the one to tell
            claims.drop_claim(self._store_fd, claim.path)

    def close(self) -> None:
        """Give back all claims, and our own file with them. Raises: StorageError."""
        if self._fd < 0:
            return
        try:
            for claim in list(self.held.values()):
                self.release(claim)
            durable.unlink_if_there(holder_path(self._writer), self._store_fd)
        finally:
            self._drop_holder()

    def forget_after_fork(self) -> None:
        """In a child: the claims are the parent's."""
        self._drop_holder()
        self.held = {}
        self._store_fd = -1


def standing_of(store_fd: int, root: str, ref: RunRef, number: int) -> tuple[Standing, int] | None:
    """What a reader can say of a claim, and its heartbeat in Unix ms; None if it is not here. Writes nothing.

    Spec: spec/claims.md section 8.
    """
    claim = claims.find_claim(store_fd, ref, number)
    folder = claims.folder_inode(store_fd)
    if claim is None or folder is None:
        return None
    me = host.this_process()
    is_gone = None if claim.holder is None else host.is_dead(claim.holder, me)
    now_ns = _reader_now_ns(store_fd, root)
    standing = judge(claim, folder=folder, batch=me.batch, is_gone=is_gone, now_ns=now_ns)
    return standing, claim.mtime_ns // 1_000_000


def _reader_now_ns(store_fd: int, root: str) -> int:
    """A time that the clock of the file server has certainly reached."""
    now_ns = host.now_ms() * 1_000_000
    if not host.is_network_fs(root):
        return now_ns
    newest = max((file.mtime_ns for file in claims.iter_holders(store_fd)), default=0)
    return max(newest, now_ns - int(SIGN_OF_LIFE_S * 1e9))
