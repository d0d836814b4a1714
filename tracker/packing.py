"""pack and unpack: many sealed files made one, and made many again.

Readers tell no difference, so no event is recorded. Whoever takes a file away has published its bytes under
another name, synced, and read them back; and afterwards looks once more whether that name is there still. So
of two hosts that pack and unpack at once, the one that looks last finds both copies gone and puts its own
back. LIMIT: if it is killed just then, that file is lost.

Spec: spec/packs.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from tracker._disk import durable
from tracker._disk.lock import hold
from tracker._disk.moving import remove_if_empty
from tracker._model.names import LEDGER, MANIFESTS, METRICS, is_month, is_shard
from tracker._store import manifests, measured, packs, segments
from tracker._store.index import index_path
from tracker._store.packs import PACK_BYTES, SMALL_BYTES
from tracker._store.quarantine import quarantine
from tracker.errors import NotFoundError, StorageError
from tracker.ledger import Ledger

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much is done."""

_WAIT_S = 600.0


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Fold(Struct, frozen=True):
    """A pack that is here at the end, and of how many loose files and of which packs it takes the place.

    Paths are below `.tracker`.
    """

    pack: str
    members: int
    size_bytes: int
    loose: int
    packs: list[str]


class Packed(Struct, frozen=True):
    """What pack did, or would. `dropped` are loose copies of what earlier packs hold."""

    folds: list[Fold]
    dropped: int


class Unpacked(Struct, frozen=True):
    """What unpack did. `left` are packs that stay, with the reason; paths are below `.tracker`."""

    packs: list[str]
    files: int
    left: dict[str, str]


def pack(ledger: Ledger, progress: Progress = no_progress, *, dry_run: bool = False) -> Packed:
    """Fold sealed segments, those of metrics too, and manifests into packs; with `dry_run` only say which.

    Order of writes, for each pack: it is published (synced, then named) and read back; then the files that it
    holds are unlinked; last, earlier packs that it holds. Crash states: nothing; a pack beside all its files;
    beside some of them; beside smaller packs that it holds. Each reads as the same store, and the next call
    goes on.

    Raises: NotFoundError where there is no store; StorageError when the disk refuses, then packed in part.
    Cost: one read, one write, one reading back, 50 µs a file; memory for three packs of 64 MiB.
    """
    with _held(ledger) as store_fd:
        folds: list[Fold] = []
        dropped = 0
        rooms = list(iter_rooms(store_fd))
        for done, room in enumerate(rooms):
            progress("rooms", done, len(rooms))
            folding = _Folding(store_fd, room, dry_run=dry_run)
            folds += folding.fold()
            dropped += folding.dropped
        if not dry_run:
            ledger.refresh()
        return Packed(folds, dropped)


def unpack(ledger: Ledger, progress: Progress = no_progress) -> Unpacked:
    """Put every member of every pack under its own name again, and drop the packs.

    Order of writes: members, synced; then the pack is unlinked. Crash states: some members beside the pack;
    all beside it; without it. A pack that is damaged, or holds what is none of the store's, gives its sound
    members and stays; `repair` sets damaged ones aside.

    Raises: NotFoundError; StorageError. Cost: two fsyncs a member.
    """
    with _held(ledger) as store_fd:
        every = [(room, file) for room in iter_rooms(store_fd) for file in packs.look(room, store_fd)]
        dropped: list[str] = []
        left: dict[str, str] = {}
        files = 0
        for done, (room, file) in enumerate(every):
            progress("packs", done, len(every))
            path = f"{room}/{file}"
            try:
                files += _unpack_one(store_fd, room, file)
            except _NotWholeError as error:
                left[path] = str(error)
            else:
                dropped.append(path)
        ledger.refresh()
        return Unpacked(dropped, files, left)


def drop_members(ledger: Ledger, names: Collection[str]) -> None:
    """Give up files that lie in packs: each pack that holds some is made anew without them.

    Order of writes, for each: the new pack is published and read back; then the old one is unlinked. Crash
    states: both are here, with all that was to go; the new one. A damaged pack is left alone, and one that
    holds what is none of the store's.

    Raises: NotFoundError; StorageError. Cost: a look at each pack of the rooms concerned; of those that hold
    such files one read, one write, one reading back.
    """
    wanted = frozenset(names)
    if not wanted:
        return
    rooms = {name.rpartition("/")[0] for name in wanted}
    with _held(ledger) as store_fd:
        for room in sorted(rooms):
            for file, table in packs.look(room, store_fd).items():
                if table.is_whole and not wanted.isdisjoint(table.members):
                    _make_without(store_fd, room, file, wanted)
            packs.look(room, store_fd)


def _make_without(store_fd: int, room: str, file: str, dropped: Collection[str]) -> None:
    data = durable.read_file(f"{room}/{file}", store_fd)
    members = packs.members_of(data, room)
    if not packs.is_pack_whole(file, data):
        return  # `repair` puts what is sound in it under its own names
    kept = {name: own for name, own in members.items() if name not in dropped}
    path = ""
    if kept:
        anew = packs.make_pack(kept.items())
        path = f"{room}/{packs.pack_name(anew)}"
        publish_whole(store_fd, path, anew)
    durable.unlink_if_there(f"{room}/{file}", store_fd)
    durable.sync_folder(room, store_fd)
    if kept and not durable.exists(path, store_fd):  # another host has folded it, or put its files back
        for name, own in kept.items():
            put_loose(store_fd, name, own)


@contextmanager
def _held(ledger: Ledger) -> Iterator[int]:
    """The store's descriptor, while no other process of this host packs. Raises: NotFoundError."""
    if not ledger.lookup.open_store():
        raise NotFoundError("store", str(ledger.root), "the first run makes it")
    with ledger.lock, hold(f"{index_path(str(ledger.root))}.pack", wait_s=_WAIT_S):
        yield ledger.lookup.store_fd


def iter_rooms(store_fd: int) -> Iterator[str]:
    """The folders of packs, below `.tracker`, referrers first."""
    for above, is_folder in ((LEDGER, is_month), (METRICS, is_shard)):
        yield from sorted(
            f"{above}/{name}" for name in durable.list_names(above, store_fd) if is_folder(name)
        )
    yield MANIFESTS


class _Folding:
    """One folder's files and packs, made fewer packs."""

    def __init__(self, store_fd: int, room: str, *, dry_run: bool) -> None:
        self.dropped = 0
        self._made: list[Iterable[str]] = []
        self._store_fd = store_fd
        self._room = room
        self._dry_run = dry_run
        tables = {f: t for f, t in packs.look(room, store_fd).items() if t.is_whole}
        self._small = {file: t for file, t in tables.items() if t.size_bytes < SMALL_BYTES}
        self._kept = {file: t for file, t in tables.items() if t.size_bytes >= SMALL_BYTES}
        self._loose = dict(_iter_loose(store_fd, room))
        self._held = self._names_held()

    def fold(self) -> list[Fold]:
        """Do it, and tell what was made."""
        self._drop_held()
        sizes = self._sizes()
        in_small = {name for table in self._small.values() for name in table.members}
        if len(self._loose) + len(self._small) < 2 and not in_small & self._held:
            return []
        folds = [fold for batch in _cut(sizes) if (fold := self._make(batch)) is not None]
        made = {fold.pack.rpartition("/")[2] for fold in folds}
        gone = self._drop_small([file for file in self._small if file not in made], set().union(*self._made))
        return self._told(folds, [f"{self._room}/{file}" for file in gone])

    def _told(self, folds: list[Fold], gone: list[str]) -> list[Fold]:
        """Folds that changed something; the first takes the place of the packs that are gone."""
        first = [Fold(f.pack, f.members, f.size_bytes, f.loose, gone) for f in folds[:1]]
        return [fold for fold in [*first, *folds[1:]] if fold.loose or fold.packs]

    # What an earlier pack holds

    def _names_held(self) -> set[str]:
        """What is loose or in small packs, and of which a pack that stays has a sound copy."""
        names = self._loose.keys() | {name for table in self._small.values() for name in table.members}
        held = {name for table in self._kept.values() for name in names & table.members.keys()}
        return {name for name in held if self._keeper_of(name)}

    def _keeper_of(self, name: str) -> str:
        """The pack that stays and has a sound copy of a file; empty if there is none."""
        for copy in packs.iter_copies(self._room, self._store_fd, name):
            if copy.pack in self._kept and packs.is_sound(name, copy.data):
                return copy.pack
        return ""

    def _drop_held(self) -> None:
        """Unlink loose copies of what a pack that stays holds. A damaged one is left to `repair`."""
        for name in sorted(self._held & self._loose.keys()):
            data = self._read_loose(name)
            if data is not None:
                self._drop([(name, data)], self._keeper_of(name))
                self.dropped += 1
            del self._loose[name]

    # One pack

    def _sizes(self) -> dict[str, int]:
        """Name to size of all that is to be folded."""
        sizes = dict(self._loose)
        for table in self._small.values():
            sizes |= {name: place.size_bytes for name, place in table.members.items()}
        return {name: sizes[name] for name in sorted(sizes.keys() - self._held)}

    def _make(self, names: list[str]) -> Fold | None:
        """Publish the pack of these members, and drop their loose files."""
        loose = {name: own for name in names if (own := self._read_loose(name)) is not None}
        rest = (name for name in names if name not in loose)
        read = ((name, packs.read_sound(self._room, self._store_fd, name)) for name in rest)
        found = loose | {name: own for name, own in read if own is not None}
        if not found:
            return None
        data = packs.make_pack(found.items())
        file = packs.pack_name(data)
        if not self._dry_run:
            publish_whole(self._store_fd, f"{self._room}/{file}", data)
            packs.look(self._room, self._store_fd)
            self._drop([*loose.items()], file)
        self._made.append(found.keys())
        return Fold(f"{self._room}/{file}", len(found), len(data), len(loose), [])

    def _read_loose(self, name: str) -> bytes | None:
        """The bytes under a name of its own, if they are sound."""
        if name not in self._loose:
            return None
        try:
            data = durable.read_file(name, self._store_fd)
        except StorageError:
            return None  # gone, or `verify` names it
        return data if packs.is_sound(name, data) else None

    # Taking away

    def _drop(self, files: list[tuple[str, bytes]], pack: str) -> None:
        """Unlink files that a pack holds, unless the pack went meanwhile: then they are put back."""
        if self._dry_run or not files:
            return
        for name, _ in files:
            durable.unlink_if_there(name, self._store_fd)
        if not durable.exists(f"{self._room}/{pack}", self._store_fd):
            for name, data in files:
                put_loose(self._store_fd, name, data)
        if self._room == MANIFESTS:
            for folder in {name.rpartition("/")[0] for name, _ in files}:
                remove_if_empty(folder, self._store_fd)

    def _drop_small(self, files: list[str], made: set[str]) -> list[str]:
        """Unlink packs of which every member is in one that was made or stays; give those."""
        gone = [file for file in files if self._small[file].members.keys() <= made | self._held]
        for file in [] if self._dry_run else gone:
            durable.unlink_if_there(f"{self._room}/{file}", self._store_fd)
        return gone


def _iter_loose(store_fd: int, room: str) -> Iterator[tuple[str, int]]:
    """Name and size of the write-once files of a room that count."""
    for name in manifests.iter_loose(store_fd) if room == MANIFESTS else _sealed(store_fd, room):
        try:
            yield name, durable.stat_at(name, store_fd).st_size
        except FileNotFoundError:
            continue  # in a pack, or gone


def _sealed(store_fd: int, room: str) -> list[str]:
    """The sealed files of a folder of segments that count."""
    above, _, folder = room.partition("/")
    list_files = segments.list_month if above == LEDGER else measured.list_folder
    room_fd = durable.open_folder_fd(above, store_fd)
    try:
        counting = segments.choose(list_files(room_fd, folder))[0]
    finally:
        durable.close_read(room_fd)
    return [f"{above}/{file.path}" for file in counting if file.name.kind != "open"]


def _cut(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Runs of names, in order, whose packs are no longer than PACK_BYTES, or hold one."""
    batch: list[str] = []
    total = 0
    for name, size in sizes.items():
        more = packs.size_of_member(name, size)
        if batch and total + more > PACK_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += more
    if batch:
        yield batch


def publish_whole(store_fd: int, path: str, data: bytes) -> None:
    """Publish a file under its content's name and read it back; damaged bytes there go to quarantine first.

    Crash states: as `durable.publish`; or what was there in quarantine, and the name free.
    Raises: StorageError, with EIO where the disk gives other bytes than it took.
    """
    for _ in range(2):
        durable.publish(path, data, store_fd)
        if durable.read_file(path, store_fd) == data:
            return
        quarantine(store_fd, path)
    raise StorageError(
        5, durable.shown_path(path, store_fd), "read back", "other bytes than were written", "check the disk"
    )


def put_loose(store_fd: int, name: str, data: bytes) -> None:
    """Put a member under its own name, synced, with the folder that it lacks. Raises: StorageError."""
    for made in durable.make_folders(name.rpartition("/")[0], store_fd):
        durable.sync_folder(made.rpartition("/")[0], store_fd)
    publish_whole(store_fd, name, data)


# unpack


class _NotWholeError(Exception):
    """Why a pack cannot be dropped."""


def _unpack_one(store_fd: int, room: str, file: str) -> int:
    """Put the members of a pack under their own names and drop it. Raises: _NotWholeError; StorageError."""
    path = f"{room}/{file}"
    data, members = _read_pack(store_fd, room, file)
    sound = {name: own for name, own in members.items() if packs.is_sound(name, own)}
    for name, own in sound.items():
        put_loose(store_fd, name, own)
    table = packs.look(room, store_fd).get(file)
    if not packs.is_pack_whole(file, data):
        unsound = len(members) - len(sound)
        raise _NotWholeError(f"it is damaged: {unsound} of {len(members)} members that show are")
    if table is None or not table.is_whole or len(sound) < len(members):
        raise _NotWholeError("it holds something that is none of the store's")
    durable.unlink_if_there(path, store_fd)
    durable.sync_folder(room, store_fd)
    for name, own in sound.items():
        if not durable.exists(name, store_fd):
            put_loose(store_fd, name, own)
    packs.look(room, store_fd)
    return len(sound)


def _read_pack(store_fd: int, room: str, file: str) -> tuple[bytes, dict[str, bytes]]:
    try:
        data = durable.read_file(f"{room}/{file}", store_fd)
    except StorageError as error:
        raise _NotWholeError(str(error)) from error
    return data, packs.members_of(data, room)


def set_aside(store_fd: int, room: str, file: str) -> None:
    """Move a damaged pack to quarantine, its sound members under their own names. Raises: StorageError.

    Crash states: some members beside the pack; all beside it; without it.
    """
    _, members = _read_pack(store_fd, room, file)
    for name, own in members.items():
        if packs.is_sound(name, own):
            put_loose(store_fd, name, own)
    quarantine(store_fd, f"{room}/{file}")
    packs.look(room, store_fd)


def why_not_aside(store_fd: int, room: str, file: str) -> str:
    """What a damaged pack alone has, so that it stays; empty if nothing that counts."""
    if room == MANIFESTS:
        return ""  # derived
    for name, own in _read_pack(store_fd, room, file)[1].items():
        if not packs.is_sound(name, own) and not _is_elsewhere(store_fd, room, name):
            return name
    return ""


def _is_elsewhere(store_fd: int, room: str, name: str) -> bool:
    """True if a sound copy of a member is here, loose or in another pack."""
    try:
        if packs.is_sound(name, durable.read_file(name, store_fd)):
            return True
    except FileNotFoundError:
        pass  # packed
    return packs.read_sound(room, store_fd, name) is not None
