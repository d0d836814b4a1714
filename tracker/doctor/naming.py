"""Probes of which names are one name, and how long one may be.

Spec: spec/layout.md sections 2 and 5.
"""

from __future__ import annotations

import errno
import os
from unicodedata import normalize

from tracker._disk import durable
from tracker._model.names import MAX_PART_BYTES
from tracker.doctor.report import Reading, Verdict, reading
from tracker.doctor.scratch import Scratch

OWN_NAME_BYTES = 32 + 1 + 10 + 1 + 16 + len(".open")
"""The longest name that the store gives itself: a segment's, with a number of ten digits."""

USERS_NAME_BYTES = 32 + 1 + MAX_PART_BYTES + 1 + MAX_PART_BYTES
"""The longest that it makes of a user's: `<uid>_<identifier>_<name>`."""

PATH_TRIED = 8192


def case(scratch: Scratch) -> Reading:
    """Whether two spellings that differ in case are two names."""
    folds = _are_one(scratch, "case", "CASE")
    measured = "names that differ in case are " + ("one name" if folds else "two names")
    return reading(not folds, Verdict.DEGRADED, measured, folds=folds)


def normal_forms(scratch: Scratch) -> Reading:
    """Whether a composed and a decomposed spelling are two names, and are kept as they were given."""
    composed = normalize("NFC", "é-ångström")
    decomposed = normalize("NFD", composed)
    try:
        is_one = _are_one(scratch, composed, decomposed)
    except OSError as error:
        return Reading(Verdict.DEGRADED, f"names beyond ASCII are refused: {error}", {"accepted": False})
    is_kept = composed in durable.list_names("", scratch.fd)
    measured = "composed and decomposed spellings are " + ("one name" if is_one else "two names")
    measured += ", kept as given" if is_kept else ", and a name is not kept as given"
    return reading(not is_one and is_kept, Verdict.DEGRADED, measured, is_one=is_one, is_kept=is_kept)


def _are_one(scratch: Scratch, one: str, other: str) -> bool:
    durable.create(one, b"", scratch.fd)
    return not durable.create(other, b"", scratch.fd)


def longest_name(scratch: Scratch) -> Reading:
    """The longest name that can be made, in bytes."""
    least, most = 1, 1024  # `least` can be made, `most` cannot
    while most - least > 1:
        middle = (least + most) // 2
        if _can_make(scratch, "n" * middle):
            least = middle
        else:
            most = middle
    verdict = Verdict.OK if least >= USERS_NAME_BYTES else Verdict.DEGRADED
    if least < OWN_NAME_BYTES:
        verdict = Verdict.UNFIT
    return Reading(verdict, f"{least} bytes; tracker makes names of {USERS_NAME_BYTES}", {"bytes": least})


def _can_make(scratch: Scratch, name: str) -> bool:
    try:
        os.close(durable.open_new(name, scratch.fd))
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
            return False
        raise
    durable.unlink_if_there(name, scratch.fd)
    return True


def longest_path(scratch: Scratch) -> Reading:
    """The longest path that can be opened, in bytes, in steps of a folder's name."""
    part = "p" * 60
    path, longest = scratch.path, len(os.fsencode(scratch.path))
    try:
        while len(os.fsencode(path)) < PATH_TRIED:
            path = f"{path}/{part}"
            os.mkdir(path, 0o700)
            longest = len(os.fsencode(path))
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
            raise
    beyond = longest - len(os.fsencode(scratch.path))
    measured = f"{longest} bytes or some more, {beyond} of them below this folder"
    return reading(beyond >= 1024, Verdict.DEGRADED, measured, bytes=longest, below_bytes=beyond)
