"""Probes of names: made once, linked, replaced, moved with their folder, and seen in a listing at once.

Spec: spec/layout.md sections 3 and 8; spec/claims.md section 6.
"""

from __future__ import annotations

import os
import time
from collections import Counter

from tracker._disk import durable
from tracker.doctor.report import Reading, Verdict, reading
from tracker.doctor.rivals import Told, race, rivals
from tracker.doctor.scratch import Scratch
from tracker.errors import StorageError

RACED = 300
LISTED = 20
READ_MS = 300
RENEWED_WITHIN_S = 5.0


def exclusive_create(scratch: Scratch) -> Reading:
    """Whether of two that create one name only one is told that it did."""
    first = durable.create("name", b"first", scratch.fd)
    second = durable.create("name", b"second", scratch.fd)
    if not first or second or durable.read_file("name", scratch.fd) != b"first":
        return Reading(Verdict.UNFIT, "a second create of a name was not refused", {"second_refused": False})
    return _raced("create", "created", race("create", scratch.path, RACED))


def hard_link(scratch: Scratch) -> Reading:
    """Whether a second name can be given to a file, and only where that name is free."""
    durable.create("file", b"file", scratch.fd)
    durable.create("taken", b"taken", scratch.fd)
    try:
        linked = durable.link("file", "link", scratch.fd)
        over = durable.link("file", "taken", scratch.fd)
    except StorageError as error:
        is_known = durable.cannot_link(error)
        verdict = Verdict.DEGRADED if is_known else Verdict.UNFIT
        return Reading(verdict, f"refused: {error.reason}", {"links": False, "errno": error.errno})
    if not linked or over or durable.read_file("taken", scratch.fd) != b"taken":
        return Reading(Verdict.UNFIT, "a link over a name that is taken was not refused", {"links": True})
    if not _is_renewed("file", "link", scratch):
        measured = f"a time stamp set at a file is not seen at its link within {RENEWED_WITHIN_S:.0f} s"
        return Reading(Verdict.UNFIT, measured, {"links": True, "renewed": False})
    return _raced("link", "linked", race("link", scratch.path, RACED))


def _is_renewed(name: str, link: str, scratch: Scratch) -> bool:
    """Whether a heartbeat given to a file is that of its link too, be it after a cache has let go."""
    end = time.monotonic() + RENEWED_WITHIN_S
    before = touched = durable.stat_at(link, scratch.fd).st_mtime_ns
    fd = durable.open_file_fd(name, scratch.fd)
    try:
        while touched == before and time.monotonic() < end:
            touched = durable.touch(fd).st_mtime_ns
    finally:
        durable.close_read(fd)
    while (seen := durable.stat_at(link, scratch.fd).st_mtime_ns) != touched and time.monotonic() < end:
        time.sleep(0.01)
    return seen == touched


def _raced(task: str, done: str, told: list[Told]) -> Reading:
    errors = [one["error"] for one in told if "error" in one]
    if errors:
        return Reading(Verdict.UNFIT, f"refused to one of two processes: {errors[0]}")
    times = Counter(number for one in told for number in one["ours"])
    twice = sum(1 for count in times.values() if count > 1)
    nobody = RACED - len(times)
    shares = " and ".join(str(len(one["ours"])) for one in told)
    measured = (
        f"{RACED} names raced for by two processes ({shares}): {twice} {done} twice, {nobody} by nobody"
    )
    return reading(twice + nobody == 0, Verdict.UNFIT, measured, raced=RACED, twice=twice, nobody=nobody)


def rename_over(scratch: Scratch) -> Reading:
    """Whether a name can be given other bytes at one stroke, as a process sees it that reads them.

    Only derived files are ever replaced: one that is not there for a moment counts as absent, which is
    worth telling; one that is seen half is not to be borne.
    """
    bodies = [letter * 8192 for letter in (b"a", b"b")]
    durable.create("replaced", bodies[0], scratch.fd)
    replaced = 0
    with rivals("read", scratch.path, "r", READ_MS) as (reader,):
        reader.begin()
        while not reader.is_over():
            replaced += 1
            durable.replace("replaced", bodies[replaced % 2], scratch.fd, sync=False)
        told = reader.end()
    if "error" in told:
        return Reading(Verdict.UNFIT, f"the reader was refused: {told['error']}", {"error": told["error"]})
    last = durable.read_file("replaced", scratch.fd) == bodies[replaced % 2]
    measured = f"replaced {replaced} times, read {told['reads']} times: {told['missing']} times not there, "
    measured += f"{told['mixed']} times cut or mixed" + ("" if last else "; the last bytes are not there")
    worse = Verdict.DEGRADED if last and not told["mixed"] else Verdict.UNFIT
    is_seamless = last and told["missing"] == told["mixed"] == 0
    return reading(is_seamless, worse, measured, replaced=replaced, **told)


def rename_folder(scratch: Scratch) -> Reading:
    """Whether a folder can be moved under a process that writes in it."""
    durable.make_folder("before", scratch.fd)
    folder = durable.open_folder_fd("before", scratch.fd)
    try:
        file = durable.open_new("file", folder)
        try:
            os.rename("before", "after", src_dir_fd=scratch.fd, dst_dir_fd=scratch.fd)
            durable.write_all(file, b"written")
            durable.create("another", b"made", folder)
        finally:
            os.close(file)
        found = {name: durable.read_file(f"after/{name}", scratch.fd) for name in ("file", "another")}
        ghost = durable.exists("before", scratch.fd)
    except OSError as error:
        return Reading(Verdict.DEGRADED, f"refused while a file in it is open: {error.strerror or error}")
    finally:
        durable.close_read(folder)
    holds = found == {"file": b"written", "another": b"made"} and not ghost
    words = "its writer goes on in it" if holds else "what its writer wrote after that is not in it"
    return reading(holds, Verdict.DEGRADED, f"moved while a file in it is open: {words}", follows=holds)


def fresh_listing(scratch: Scratch) -> Reading:
    """Whether a process sees in a listing at once what it made and removed."""
    late = 0
    for number in range(LISTED):
        name = f"name{number}"
        durable.create(name, b"", scratch.fd)
        late += name not in durable.list_names("", scratch.fd)
        durable.unlink_if_there(name, scratch.fd)
        late += name in durable.list_names("", scratch.fd)
    measured = f"{2 * LISTED} changes, {late} of them not in the next listing"
    return reading(late == 0, Verdict.UNFIT, measured, changes=2 * LISTED, late=late)
