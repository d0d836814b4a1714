"""Users' files taken beside what is here: nothing that is here loses a byte.

Spec: spec/merge.md sections 6 and 7.
"""

from __future__ import annotations

import os

from tracker._disk import copying, durable
from tracker._disk.moving import move_all
from tracker._model.names import STORE, is_temporary
from tracker._store.arrivals import Arrived, fetch
from tracker._store.trash import trash_folder
from tracker.errors import StorageError
from tracker.merge.names import DIGITS, aside_path, parse_aside_path
from tracker.merge.plan import Do, Facts, Wanted, plan_file, plan_new_file
from tracker.merge.report import Draft, Kind, Line, Progress
from tracker.merge.seals import Seals
from tracker.merge.tree import facts_below, facts_of, iter_tree, read_whole

_ALTERED = "not the bytes that were sealed"
_OLDER = "sealed by an attempt before the last that sealed this path, whose bytes have the name"
_DIFFERS = "it differs from what is here"
_TAKEN = "every name for it is taken by other bytes here"


class Files:
    """The users' files of one merge. `root_fd` is the target's root, or None where it does not exist yet."""

    def __init__(self, source: str, target: str, root_fd: int | None, seals: Seals, report: Draft) -> None:
        self._source = source
        self._target = target
        self._root_fd = root_fd
        self._seals = seals
        self._report = report

    def take_all(self, progress: Progress) -> None:
        """Take every file of SRC. Raises: StorageError when the target's disk refuses.

        Cost: one read of each file that is new here, one on both sides of each that is here.
        """
        found = list(iter_tree(self._source))
        for number, (path, why_not) in enumerate(found, 1):
            progress("files", number, len(found))
            if why_not:
                into = self._report.damaged if why_not.startswith("cannot") else self._report.skipped
                into.append(Line(Kind.FILE, shown(path), why_not))
            elif not is_temporary(path.rpartition("/")[2]) or self._seals.wanted(path):
                self._take(path)

    def _take(self, path: str) -> None:
        ours = None if self._root_fd is None else facts_below(self._root_fd, self._target, path)
        if isinstance(ours, str):
            self._tell_skip(path, f"here it is {ours}")
            return
        wanted = self._seals.wanted(path)
        try:
            if ours is None:
                self._take_new(path, wanted)
            else:
                self._take_beside(path, ours, wanted)
        except StorageError as error:
            if error.doing != "read" or not error.path.startswith(self._source + os.sep):
                raise
            if not isinstance(error, FileNotFoundError):  # else its owner removed it meanwhile
                self._report.damaged.append(Line(Kind.FILE, shown(path), f"cannot be read: {error.reason}"))

    def _tell_skip(self, path: str, why: str) -> None:
        self._report.skipped.append(Line(Kind.FILE, shown(path), why))

    # A name that is free here

    def _take_new(self, path: str, wanted: Wanted | None) -> None:
        if self._is_here_by_name(path) or self._is_in_trash(path):
            self._report.present += 1
            return
        if wanted is None and self._is_purged(path):
            self._tell_skip(path, "its run was removed, and its bytes given up for good")
            return
        if self._report.dry_run or self._root_fd is None:
            self._settle_new(path, plan_new_file(facts_of(self._place(path)), wanted), None, wanted)
            return
        arrived = fetch(self._place(path), path, self._root_fd)
        try:
            self._settle_new(path, plan_new_file(_facts(arrived), wanted), arrived, wanted)
        finally:
            copying.drop(arrived.temporary, self._root_fd)

    def _settle_new(self, path: str, do: Do, arrived: Arrived | None, wanted: Wanted | None) -> None:
        if do is Do.COPY:
            if arrived is None or self._put(arrived, path):
                self._report.copied.append(Line(Kind.FILE, shown(path)))
            else:
                self._tell_skip(path, "something of that name came while it was copied: merge again")
        elif wanted is not None and wanted.uid and self._is_cut(path):
            self._tell_skip(path, "a crash cut it short, and it is made anew when it is asked for")
        else:
            self._set_aside_new(path, arrived)

    def _set_aside_new(self, path: str, arrived: Arrived | None) -> None:
        """Bytes that the newest seal does not name: those of an older attempt, or altered ones."""
        facts = facts_of(self._place(path)) if arrived is None else _facts(arrived)
        is_sealed = self._seals.is_sealed(path, facts)
        if not is_sealed:
            self._report.damaged.append(Line(Kind.FILE, shown(path), _ALTERED))
        self._set_aside(path, facts, _OLDER if is_sealed else _ALTERED, arrived)

    def _is_cut(self, path: str) -> bool:
        """A `params.json` that lacks its last brace, or is zeros."""
        return not read_whole(self._place(path)).rstrip(b"\0").endswith(b"}")

    def _is_here_by_name(self, path: str) -> bool:
        """A file set aside in SRC because it differed from the one that has the name here."""
        aside = parse_aside_path(path)
        if aside is None or self._root_fd is None:
            return False
        beside = facts_below(self._root_fd, self._target, aside[0])
        return (
            isinstance(beside, Facts)
            and beside.digest.hex().startswith(aside[1])
            and facts_of(self._place(path))[:2] == beside[:2]
        )

    def _is_in_trash(self, path: str) -> bool:
        """A file of a run that was removed: these very bytes lie in the trash here."""
        ref = self._seals.removed.get(path)
        if ref is None or self._root_fd is None:
            return False
        thrown = facts_below(self._root_fd, self._target, f"{STORE}/{trash_folder(ref)}/{path}")
        return isinstance(thrown, Facts) and facts_of(self._place(path))[:2] == thrown[:2]

    def _is_purged(self, path: str) -> bool:
        digests = self._seals.purged.get(path)
        return digests is not None and facts_of(self._place(path)).digest in digests

    # A name that both sides have

    def _take_beside(self, path: str, ours: Facts, wanted: Wanted | None) -> None:
        theirs = facts_of(self._place(path))
        is_cut = wanted is not None and bool(wanted.uid) and self._is_ours_cut(path)
        do = plan_file(theirs, ours, wanted, is_cut=is_cut)
        if do is Do.NOTHING:
            self._report.present += 1
        elif do is Do.MEND:
            self._mend_params(path)
        elif do is Do.SWAP:
            self._swap(path, ours, wanted)
        elif wanted is not None and wanted.uid:
            self._tell_unfit_params(path, wanted, theirs)
        else:
            self._set_aside(path, theirs, _DIFFERS)

    def _tell_unfit_params(self, path: str, wanted: Wanted, theirs: Facts) -> None:
        """SRC's `params.json` is not the run's: cut short, or altered, which is kept."""
        if self._is_cut(path):
            self._tell_skip(path, "a crash cut it short")
            return
        self._report.damaged.append(Line(Kind.FILE, shown(path), _ALTERED))
        self._set_aside(path, theirs, _ALTERED)

    def _is_ours_cut(self, path: str) -> bool:
        assert self._root_fd is not None, "there is a file here"
        ours = durable.read_file(path, self._root_fd)
        return durable.is_cut_short(ours, read_whole(self._place(path)))

    def _mend_params(self, path: str) -> None:
        """Replace a `params.json` of which a crash left a prefix. Crash states: the old file, or the new."""
        if not self._report.dry_run:
            assert self._root_fd is not None, "there is a file here"
            durable.replace(path, read_whole(self._place(path)), self._root_fd, sync=True)
        self._report.repaired.append(Line(Kind.FILE, shown(path), "a crash had cut it short here"))

    def _swap(self, path: str, ours: Facts, wanted: Wanted | None) -> None:
        """Move the file that is here aside, and give its name to the one that was sealed.

        Crash states: ours in its place; then under both names; then aside, and the name free, to which the
        next merge copies. Ours keeps its inode: whoever has it open still writes to it.
        """
        target = self._aside_of(path, ours)
        if target is None:
            self._tell_skip(path, _TAKEN)
            return
        if not self._report.dry_run:
            assert self._root_fd is not None, "there is a file here"
            arrived = fetch(self._place(path), path, self._root_fd)
            try:
                if wanted is None or not wanted.is_met_by(_facts(arrived)):
                    self._tell_skip(path, "it changed while it was read: merge again")
                    return
                self._move_ours(path, target)
                self._put(arrived, path)
            finally:
                copying.drop(arrived.temporary, self._root_fd)
        what = "what was here is not what was sealed, and lies beside it"
        self._report.set_aside.append(Line(Kind.FILE, shown(path), what, shown(target)))

    def _move_ours(self, path: str, target: str) -> None:
        assert self._root_fd is not None, "there is a file here"
        if durable.exists(target, self._root_fd):  # these very bytes lie there
            durable.unlink_if_there(path, self._root_fd)
        else:
            move_all([(path, target)], self._root_fd)

    # Beside

    def _set_aside(self, path: str, facts: Facts, why: str, arrived: Arrived | None = None) -> None:
        """Put SRC's file beside its name, unless it lies there already."""
        target = self._aside_of(path, facts)
        if target is None:
            self._tell_skip(path, _TAKEN)
            return
        if self._root_fd is not None and isinstance(
            facts_below(self._root_fd, self._target, target), Facts
        ):  # the same bytes, or it would be no name for them
            self._report.present += 1
            return
        if not self._report.dry_run and not self._put_aside(path, target, facts, arrived):
            self._tell_skip(path, "it changed while it was read: merge again")
            return
        self._report.set_aside.append(Line(Kind.FILE, shown(path), why, shown(target)))

    def _put_aside(self, path: str, target: str, facts: Facts, arrived: Arrived | None) -> bool:
        assert self._root_fd is not None, "the root was made"
        if arrived is not None:
            return self._put(arrived, target)
        arrived = fetch(self._place(path), target, self._root_fd)
        try:
            return arrived.digest == facts.digest and self._put(arrived, target)
        finally:
            copying.drop(arrived.temporary, self._root_fd)

    def _aside_of(self, path: str, facts: Facts) -> str | None:
        """The first name beside `path` that is free or holds these bytes; None if others have all."""
        whose = self._seals.whose(path, facts)
        for digits in DIGITS:
            target = aside_path(path, whose, facts.digest, digits)
            there = None if self._root_fd is None else facts_below(self._root_fd, self._target, target)
            if there is None or (isinstance(there, Facts) and there[:2] == facts[:2]):
                return target
        return None

    def _put(self, arrived: Arrived, path: str) -> bool:
        """Give a copy its name; False if something has it."""
        assert self._root_fd is not None, "the root was made"
        return copying.place(arrived.temporary, path, self._root_fd)

    def _place(self, path: str) -> str:
        return os.path.join(self._source, path)


def _facts(arrived: Arrived) -> Facts:
    return Facts(arrived.size_bytes, arrived.digest, arrived.uid)


def shown(path: str) -> str:
    """A path as a report carries it: bytes that are no UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode()
