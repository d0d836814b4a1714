"""Probes of where a folder lies: its mount, the room on it, and the cache that goes with it.

They write nothing in the folder; the cache's folder gets a scratch folder of its own, if it is there.

Spec: spec/layout.md sections 7 and 8; spec/claims.md section 5.
"""

from __future__ import annotations

import os

from tracker._disk import host
from tracker._disk.lock import hold
from tracker._store.index import index_path
from tracker.doctor.report import Reading, Verdict, reading
from tracker.doctor.scratch import scratch_in
from tracker.errors import StorageError

SPACE_MIN_BYTES = 100_000_000
INODES_MIN = 1000


def mount(folder: str) -> Reading:
    """What kind of file system the folder lies on."""
    kind = host.mount_type(folder)
    name = "unknown" if kind is None else kind.decode("utf-8", "replace")
    is_network = host.is_network_fs(folder)
    is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    keeps = host.has_lasting_inodes(folder)
    where = "other hosts may write here" if is_network else "local"
    measured = f"type {name}: {where}" + (", mounted read-only" if is_read_only else "")
    measured += "" if keeps else "; inode numbers may not last"
    holds = not is_network and not is_read_only and keeps
    figures = {"is_network": is_network, "is_read_only": is_read_only, "has_lasting_inodes": keeps}
    return reading(holds, Verdict.DEGRADED, measured, type=name, **figures)


def room(folder: str) -> Reading:
    """How many bytes and inodes are free to this user. A quota is not seen."""
    status = os.statvfs(folder)
    free, inodes = status.f_bavail * status.f_frsize, status.f_favail
    is_counted = status.f_files > 0
    measured = f"{free:,} bytes free, " + (f"{inodes:,} inodes" if is_counted else "inodes not counted")
    holds = free >= SPACE_MIN_BYTES and (not is_counted or inodes >= INODES_MIN)
    is_full = free == 0 or (is_counted and inodes == 0)
    worse = Verdict.UNFIT if is_full else Verdict.DEGRADED
    return reading(holds, worse, measured, bytes=free, inodes=inodes if is_counted else None)


def cache(folder: str) -> Reading:
    """Whether the folder of the index is writable, local, and has locks that exclude."""
    base = os.path.dirname(os.path.dirname(index_path(folder)))
    there = _nearest(base)
    is_network = host.is_network_fs(there)
    why_not = _why_not(there, is_made=there == base)
    words = f"{base}: {why_not}" if why_not else f"{base}: writable"
    words += ", on a network" if is_network else ", local"
    figures = {"is_writable": not why_not, "is_network": is_network}
    return reading(not why_not and not is_network, Verdict.DEGRADED, words, folder=base, **figures)


def _nearest(path: str) -> str:
    """The folder itself, or what is there of the way to it."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _why_not(folder: str, *, is_made: bool) -> str:
    """Why the index cannot lie in this folder, or nothing. A folder that is not the cache's own gets none."""
    if not os.path.isdir(folder):
        return "not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "not writable"
    if not is_made:
        return ""
    try:
        with scratch_in(folder) as scratch:
            path = f"{scratch.path}/lock"
            with hold(path, wait_s=0.0) as first, hold(path, wait_s=0.0) as second:
                return "" if first and not second else "locks do not exclude there"
    except StorageError as error:
        return f"not writable ({error.reason})"
