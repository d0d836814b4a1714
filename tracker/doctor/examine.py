"""All probes of one folder, in order: what each is for, and what tracker does where the thing is missing.

Spec: spec/layout.md section 8.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tracker._disk import durable
from tracker.check.findings import Progress, no_progress
from tracker.doctor import creating, naming, place, times, writing
from tracker.doctor.report import Diagnosis, Need, Reading, Result, Verdict
from tracker.doctor.rivals import RivalError
from tracker.doctor.scratch import Scratch, scratch_in
from tracker.errors import StorageError


class Probe(NamedTuple):
    """One question: who in tracker counts on the answer, and what happens where it is no."""

    name: str
    relied_on_by: Need
    otherwise: str


class Looking(NamedTuple):
    """A probe that writes nothing in the folder."""

    probe: Probe
    look: Callable[[str], Reading]


class Trying(NamedTuple):
    """A probe that needs a folder of its own to write in."""

    probe: Probe
    attempt: Callable[[Scratch], Reading]


LOOKING = (
    Looking(
        Probe(
            "mount",
            Need.PLACE,
            "on a network look-ups open every live journal, and claims of other hosts count until their "
            "lease ends; what is mounted read-only is read, and nothing recorded",
        ),
        place.mount,
    ),
    Looking(
        Probe(
            "free space",
            Need.HISTORY,
            "on a full disk done() raises StorageError; what was acknowledged before stands",
        ),
        place.room,
    ),
    Looking(
        Probe(
            "cache",
            Need.INDEX,
            "the index is kept in memory and filled anew by each process, or by two at once: slower, no "
            "answer changes; TRACKER_CACHE names another folder",
        ),
        place.cache,
    ),
)

WRITABLE = Probe(
    "writable", Need.HISTORY, "a store here can be read, copied and verified; nothing is recorded in it"
)

TRYING = (
    Trying(
        Probe(
            "exclusive create",
            Need.HISTORY,
            "there is no other way: two writers could own one journal. Use another file system",
        ),
        creating.exclusive_create,
    ),
    Trying(
        Probe(
            "hard link",
            Need.CLAIMS,
            "where links are refused a claim is a file of its own, made by exclusive create, and each is "
            "renewed by itself",
        ),
        creating.hard_link,
    ),
    Trying(
        Probe(
            "rename over a name",
            Need.HISTORY,
            "only derived files are replaced: one that is not there for a moment counts as absent and is "
            "made anew. Where rename is refused or half a file is seen, use another file system",
        ),
        creating.rename_over,
    ),
    Trying(
        Probe(
            "rename of a folder",
            Need.PLACE,
            "the tree cannot be moved while it is written to: end the writers first",
        ),
        creating.rename_folder,
    ),
    Trying(
        Probe(
            "fresh listing",
            Need.CLAIMS,
            "two workers could execute one run at once; both attempts would be kept. Use another file system "
            "or mount it without a cache of folders",
        ),
        creating.fresh_listing,
    ),
    Trying(
        Probe(
            "append",
            Need.HISTORY,
            "a run would be seen late or not at all by others until its journal is sealed. Use another file "
            "system",
        ),
        writing.own_append,
    ),
    Trying(
        Probe("append by two", Need.NOTHING, "nothing changes: each process appends to a file of its own"),
        writing.shared_append,
    ),
    Trying(
        Probe(
            "locks",
            Need.NOTHING,
            "nothing changes: no lock is taken in the tree, only beside the index in the cache",
        ),
        writing.locks,
    ),
    Trying(
        Probe(
            "heartbeat",
            Need.CLAIMS,
            "claims of other hosts are judged by the server's time stamps, in which a minute must show: "
            "where it does not, a run may be executed twice and both attempts are kept. With clocks far "
            "apart a dead writer's journal is published late",
        ),
        times.heartbeat,
    ),
    Trying(
        Probe(
            "sync of a file",
            Need.HISTORY,
            "done() waits for it, under durability 'off' only each seal does; where it is refused nothing "
            "can be sealed. Use another file system",
        ),
        times.sync_file,
    ),
    Trying(
        Probe(
            "sync of a folder",
            Need.HISTORY,
            "where it cannot be had it counts as done: what a power cut leaves is then up to the file "
            "system. Where it is slow done() waits for it",
        ),
        times.sync_folder,
    ),
    Trying(
        Probe(
            "case of names",
            Need.NOTHING,
            "the store's own names are lower-case; a second spelling of a user's name is refused",
        ),
        naming.case,
    ),
    Trying(
        Probe(
            "forms of Unicode",
            Need.NOTHING,
            "the store's own names are ASCII; a second spelling of a user's name is refused",
        ),
        naming.normal_forms,
    ),
    Trying(
        Probe(
            "longest name",
            Need.HISTORY,
            "a name that is too long is refused with a StorageError: keep identifiers and file names short",
        ),
        naming.longest_name,
    ),
    Trying(
        Probe(
            "longest path",
            Need.NOTHING,
            "the store's files are opened below descriptors; for files deep below a run use a root with a "
            "shorter path",
        ),
        naming.longest_path,
    ),
)


def examine(folder: str, progress: Progress = no_progress) -> Diagnosis:
    """Try everything that a store needs of the mount under `folder`, which need hold no store.

    Works in a folder `.tracker-doctor-<hex>` in it that is gone afterwards, also on errors and Ctrl-C.
    A store that is there is not touched. Where nothing can be written, says what can be said.

    Cost: some 1.5 s on a local disk; up to 20 s where syncs are slow and time stamps coarse.
    Raises: StorageError for a folder that cannot be opened, and where the scratch folder cannot be removed.
    """
    path = os.path.abspath(folder)
    durable.close_read(durable.open_root(path))
    looks = [_result(probe, _read(probe, partial(look, path))) for probe, look in LOOKING]
    return Diagnosis(path, [*looks, *_attempts(path, progress)])


def _attempts(path: str, progress: Progress) -> list[Result]:
    results: list[Result] = []
    try:
        with scratch_in(path) as scratch:
            for trying in TRYING:
                progress(f"trying {trying.probe.name}", len(results), len(TRYING))
                results.append(_attempt(scratch, trying))
    except StorageError as error:
        if error.doing != "make":
            raise
        unknown = Reading(Verdict.UNKNOWN, "not tried: nothing can be written here")
        return [_result(WRITABLE, _refused(error)), *(_result(probe, unknown) for probe, _ in TRYING)]
    return [_result(WRITABLE, Reading(Verdict.OK, "a folder can be made here")), *results]


def _refused(error: StorageError) -> Reading:
    is_reading_left = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    verdict = Verdict.DEGRADED if is_reading_left else Verdict.UNFIT
    return Reading(verdict, f"no folder can be made here: {error.reason}", {"errno": error.errno})


def _attempt(scratch: Scratch, trying: Trying) -> Result:
    probe, attempt = trying

    def measure() -> Reading:
        with scratch.room(attempt.__name__) as room:
            return attempt(room)

    return _result(probe, _read(probe, measure))


def _read(probe: Probe, measure: Callable[[], Reading]) -> Reading:
    """The reading; where the system refuses a step of it, that it does."""
    try:
        return measure()
    except RivalError as error:
        return Reading(Verdict.UNKNOWN, f"not tried: {error}")
    except OSError as error:
        is_needed = probe.relied_on_by in (Need.HISTORY, Need.CLAIMS)
        reason = error.reason if isinstance(error, StorageError) else (error.strerror or str(error))
        verdict = Verdict.UNFIT if is_needed else Verdict.DEGRADED
        return Reading(verdict, f"refused: {reason}", {"errno": error.errno})


def _result(probe: Probe, reading: Reading) -> Result:
    return Result(
        probe.name, reading.verdict, reading.measured, probe.relied_on_by, probe.otherwise, reading.figures
    )
