"""Packs: many sealed segments, of the ledger or of metrics, or manifests in one content-named tar file.

Knows blocks, names and places, never what the members' bytes mean: a member proves itself by the hash in its
own name. Tables of packs are kept for the process, since a name that is a hash has one content; a file that
changed under its name, as one that is still being copied, is read again.

A folder is given by its path below `dir_fd`, which is `.tracker`, its `ledger` or its `metrics`.

Spec: spec/packs.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from tracker._codec.digest import is_hex
from tracker._codec.frame import file_hash
from tracker._codec.ustar import (
    BLOCK_BYTES,
    END,
    LONG,
    LONG_BYTES,
    format_header,
    header_bytes,
    padded,
    parse_header,
)
from tracker._disk import durable
from tracker._disk.ranges import Identity, identity_of, open_ranges
from tracker._model.names import (
    LEDGER,
    MANIFESTS,
    METRICS,
    is_month,
    is_shard,
    parse_manifest_path,
    parse_segment_name,
    parse_series_name,
)
from tracker.errors import StorageError

PACK_BYTES = 64 << 20
"""No pack of several members is longer."""

SMALL_BYTES = 16 << 20
"""Shorter packs are folded again."""

Read = Callable[[int, int], bytes]
"""Gives the bytes at (start, size), fewer where the file ends."""


class Member(Struct, frozen=True):
    """Where a member's bytes lie in its pack; of one that was cut short fewer may be there."""

    start: int
    size_bytes: int


class Table:
    """What a pack holds: the names of the members that count, below `.tracker`, with their places.

    `is_whole` says that nothing is in it but these, in order, to its end; bytes of members are not judged.
    `refused` is why the system did not give it, if so.
    """

    __slots__ = ("identity", "is_whole", "members", "refused")

    def __init__(
        self,
        members: dict[str, Member],
        identity: Identity,
        *,
        is_whole: bool,
        refused: StorageError | None = None,
    ) -> None:
        self.members = members
        self.identity = identity
        self.is_whole = is_whole
        self.refused = refused

    @property
    def size_bytes(self) -> int:
        """Of the whole pack."""
        return self.identity[2]

    @property
    def mtime_ns(self) -> int:
        """When the pack was written here."""
        return self.identity[3]


class Copy(Struct, frozen=True):
    """A member's bytes in one pack."""

    data: bytes
    pack: str
    mtime_ns: int


Tables = dict[str, Table]
"""File name of a pack -> what it holds."""

_shelves: dict[tuple[int, int], Tables] = {}
"""Device and inode of a folder -> its packs as of the last look."""


def pack_name(data: bytes) -> str:
    """Name a pack by its bytes."""
    return f"{file_hash(data)}.pack"


def is_pack_name(file: str) -> bool:
    """Tell whether a file's name is that of a pack."""
    stem, _, ending = file.partition(".")
    return ending == "pack" and is_hex(stem, 16)


def is_pack_whole(file: str, data: bytes) -> bool:
    """Tell whether a pack's bytes are those of its name."""
    return file == pack_name(data)


def room_of(folder: str) -> str:
    """The path below `.tracker` of a folder of packs, which may be given by its last name alone."""
    if is_month(folder):
        return f"{LEDGER}/{folder}"
    return f"{METRICS}/{folder}" if is_shard(folder) else folder


def counts(name: str, room: str) -> bool:
    """Tell whether a member counts in a room's packs: a sealed file of the folder, or a manifest."""
    if room == MANIFESTS:
        return parse_manifest_path(name) is not None
    folder, _, file = name.rpartition("/")
    kind, _, last = folder.partition("/")
    series = parse_series_name(last, file) if kind == METRICS else None
    parsed = parse_segment_name(file) if kind == LEDGER else series and series[1]
    return folder == room and parsed is not None and parsed.kind != "open"


def hash16_of(name: str) -> str:
    """The hash that a member's name ends in."""
    return name.rpartition(".")[0][-16:]


def is_sound(name: str, data: bytes) -> bool:
    """Tell whether bytes are those that the name of a segment or manifest is the hash of."""
    return file_hash(data) == hash16_of(name)


def make_pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """The bytes of a pack: a function of its members alone. At least one member, of different names."""
    blocks: list[bytes] = []
    for name, data in sorted(members):
        blocks += [format_header(name, len(data)), data, bytes(padded(len(data)) - len(data))]
    assert blocks, "a pack has a member"
    return b"".join([*blocks, END])


def size_of_member(name: str, size_bytes: int) -> int:
    """How many bytes of a pack a file takes."""
    return header_bytes(name) + padded(size_bytes)


def scan(read: Read, size_bytes: int, room: str) -> tuple[dict[str, Member], bool]:
    """The members that count, and whether nothing else is there.

    From header to header; where a block is no header the next one is looked at: a damaged one costs itself.
    Cost: one read of 512 bytes a member, 5 µs; two and 15 µs where names are long.
    """
    members: dict[str, Member] = {}
    at, last, is_whole = 0, "", True
    while at < size_bytes:
        block = read(at, BLOCK_BYTES)
        header = parse_header(read(at, LONG_BYTES) if block.startswith(LONG) else block)
        if header is None:
            is_whole &= size_bytes - at == len(END) and read(at, len(END)) == END
            if is_whole:
                return members, bool(members)
            at += BLOCK_BYTES
            continue
        name, size = header
        is_whole &= name > last and counts(name, room)
        if counts(name, room):
            members.setdefault(name, Member(at + header_bytes(name), size))
        at, last = at + size_of_member(name, size), name
    return members, False


def members_of(data: bytes, room: str) -> dict[str, bytes]:
    """The members that count in a pack's bytes, sound or not."""
    found, _ = scan(lambda start, size: data[start : start + size], len(data), room)
    return {name: data[place.start : place.start + place.size_bytes] for name, place in found.items()}


def look(folder: str, dir_fd: int, files: Iterable[str] | None = None) -> Tables:
    """The packs in a folder; `files` are its names where they were just listed.

    One that the system refuses has an empty table that says so. Cost: one stat a pack that is known.
    """
    try:
        status = durable.stat_at(folder, dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    shelf = status.st_dev, status.st_ino
    known = _shelves.get(shelf, {})
    if files is None:
        files = durable.list_files(folder, dir_fd)
    tables: Tables = {}
    for file in sorted(filter(is_pack_name, files)):
        table = _table(folder, file, dir_fd, known.get(file))
        if table is not None:
            tables[file] = table
    _shelves[shelf] = tables
    return tables


def known_tables(folder: str, dir_fd: int) -> Tables:
    """The packs in a folder as of the last look in this process."""
    try:
        status = durable.stat_at(folder, dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return _shelves.get((status.st_dev, status.st_ino), {})


def _table(folder: str, file: str, dir_fd: int, known: Table | None) -> Table | None:
    path = f"{folder}/{file}"
    identity: Identity = (0, 0, 0, 0)
    try:
        identity = identity_of(durable.stat_at(path, dir_fd))
        if known is not None and known.identity == identity and not known.refused:
            return known
        with open_ranges(path, dir_fd) as pack:
            members, is_whole = scan(pack.read, pack.size_bytes, room_of(folder))
            return Table(members, pack.identity, is_whole=is_whole)
    except FileNotFoundError:
        return None
    except StorageError as error:
        return Table({}, identity, is_whole=False, refused=error)


def iter_copies(folder: str, dir_fd: int, name: str) -> Iterator[Copy]:
    """The bytes of a member in each pack that has it: those known, then, if asked for more, of a new look.

    Raises: StorageError. Cost: one open and one read, 8 µs.
    """
    given: set[str] = set()
    for copy in _iter_in(known_tables(folder, dir_fd), folder, dir_fd, name):
        given.add(copy.pack)
        yield copy
    for copy in _iter_in(look(folder, dir_fd), folder, dir_fd, name):
        if copy.pack not in given:
            yield copy


def _iter_in(tables: Tables, folder: str, dir_fd: int, name: str) -> Iterator[Copy]:
    for file, table in tables.items():
        place = table.members.get(name)
        if place is None:
            continue
        try:
            with open_ranges(f"{folder}/{file}", dir_fd) as pack:
                if pack.identity == table.identity:
                    yield Copy(pack.read(place.start, place.size_bytes), file, table.mtime_ns)
        except FileNotFoundError:
            continue


def stats_of(folder: str, dir_fd: int, name: str, *, is_new: bool) -> list[tuple[int, int]]:
    """Size and time of a member in each pack that has it, as of the last look.

    With `is_new`, where none has it, as of this one.
    """
    found = _stats_in(known_tables(folder, dir_fd), name)
    return _stats_in(look(folder, dir_fd), name) if is_new and not found else found


def _stats_in(tables: Tables, name: str) -> list[tuple[int, int]]:
    having = ((table, table.members[name]) for table in tables.values() if name in table.members)
    return [(min(at.size_bytes, max(0, table.size_bytes - at.start)), table.mtime_ns) for table, at in having]


def read_sound(folder: str, dir_fd: int, name: str) -> bytes | None:
    """The bytes of a member whose hash is the one in its name; None if no pack here has them."""
    return next((copy.data for copy in iter_copies(folder, dir_fd, name) if is_sound(name, copy.data)), None)


def read_known(folder: str, dir_fd: int, name: str) -> bytes | None:
    """The same, of the packs that this process has looked at: the fast way. Cost: 10 µs."""
    copies = _iter_in(known_tables(folder, dir_fd), folder, dir_fd, name)
    return next((copy.data for copy in copies if is_sound(name, copy.data)), None)
