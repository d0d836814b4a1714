"""Packs as files: held against their names, and against loose copies of what they hold.

Their members are checked as all segments and manifests are, wherever they lie.

Spec: spec/packs.md; spec/recovery.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tracker._disk import durable
from tracker._model.names import STORE
from tracker._store import packs
from tracker._store.packs import Tables
from tracker._store.quarantine import quarantine
from tracker.check.findings import CURE_MERGE, CURE_REPAIR, Finding, Mend, Step, damage, note
from tracker.errors import StorageError
from tracker.packing import iter_rooms, set_aside, why_not_aside


def iter_packs(store_fd: int) -> Iterator[Finding]:
    """Packs that are not what their names say. Cost: one read and one BLAKE3 pass over each."""
    for room in iter_rooms(store_fd):
        tables = packs.look(room, store_fd)
        for file in tables:
            yield from _judge_pack(store_fd, room, file, tables)
        yield from _judge_doubled(store_fd, room, tables)


def _judge_pack(store_fd: int, room: str, file: str, tables: Tables) -> Iterator[Finding]:
    path = f"{STORE}/{room}/{file}"
    try:
        data = durable.read_file(f"{room}/{file}", store_fd)
    except FileNotFoundError:
        return  # folded meanwhile
    except StorageError as error:
        yield damage("unreadable", path, str(error))
        return
    if packs.is_pack_whole(file, data):
        if not tables[file].is_whole:
            yield note("foreign", path, "it holds what is none of the store's: ignored", "look what is in it")
        return
    members = packs.members_of(data, room)
    unsound = [name for name, own in members.items() if not packs.is_sound(name, own)]
    what = f"its bytes are not its name's: {len(unsound)} of {len(members)} members that show are damaged"
    alone = why_not_aside(store_fd, room, file)
    yield damage("pack-damaged", path, what, CURE_MERGE if alone else f"{CURE_REPAIR}, which sets it aside")


def _judge_doubled(store_fd: int, room: str, tables: Tables) -> Iterator[Finding]:
    doubled = _doubled(store_fd, room, tables)
    if doubled:
        what = f"{len(doubled)} files lie here and in packs: they are one"
        yield note("packed-twice", f"{STORE}/{room}", what, "run `tracker pack`, which drops the loose ones")
    for name in _iter_outdone(store_fd, room, doubled):
        what = "its bytes are not those its name says; a pack has the right ones"
        yield damage("loose-damaged", f"{STORE}/{name}", what, CURE_REPAIR)


def _doubled(store_fd: int, room: str, tables: Tables) -> list[str]:
    """What lies under its own name and in a pack, by its name."""
    packed = {name for table in tables.values() for name in table.members}
    return sorted(name for name in packed if durable.exists(name, store_fd))


def _iter_outdone(store_fd: int, room: str, doubled: list[str]) -> Iterator[str]:
    """Damaged loose files of which a pack has the right bytes."""
    for name in doubled:
        try:
            data = durable.read_file(name, store_fd)
        except FileNotFoundError:
            continue
        except StorageError:
            data = b""
        if not packs.is_sound(name, data) and packs.read_sound(room, store_fd, name) is not None:
            yield name


def iter_steps(store_fd: int) -> Iterator[Step]:
    """Damaged files set aside of which packs have the right bytes, then packs that have nothing alone."""
    for room in iter_rooms(store_fd):
        tables = packs.look(room, store_fd)
        for name in _iter_outdone(store_fd, room, _doubled(store_fd, room, tables)):
            mend = Mend("pack", f"{STORE}/{name}", "set aside what it holds: a pack has the right bytes")
            yield mend, partial(quarantine, store_fd, name)
        for file in tables:
            if _is_damaged(store_fd, room, file) and not why_not_aside(store_fd, room, file):
                what = "put its sound members under their own names, and set it aside"
                yield Mend("pack", f"{STORE}/{room}/{file}", what), partial(set_aside, store_fd, room, file)


def _is_damaged(store_fd: int, room: str, file: str) -> bool:
    try:
        return not packs.is_pack_whole(file, durable.read_file(f"{room}/{file}", store_fd))
    except StorageError:
        return False  # `verify` says so
