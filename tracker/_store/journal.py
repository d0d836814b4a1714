"""The live journal of one writer, and its sealing from memory: of the ledger, and of what else is frames.

Knows frames, seq and the one file it appends to. Never reads that file, never opens it twice, and does not
know what its payloads mean. One thread at a time; the owner holds the lock.

All bytes of the unsealed segment are in memory too, so whatever befalls the file (replaced by a copy,
shortened, a failed sync) the segment is published from memory and nothing is lost (I6, I7).

Spec: spec/log.md section 5.
"""

import contextlib
import enum
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from msgspec import Struct

from tracker._codec.frame import MAGIC, MAX_PAYLOAD_BYTES, OVERHEAD_BYTES, FrameEncoder, FrameType
from tracker._disk import durable
from tracker._disk.host import Host
from tracker._model.event import Event, Opened, encode_events, encode_opened, encode_sealed
from tracker._model.names import LEDGER, SegmentKind, month_of, segment_name
from tracker.errors import StorageError
from tracker.terms import WriterId

SEGMENT_BYTES = 1 << 20
FORMAT = 1

EventsOf = Callable[[int], list[Event]]
"""Makes the events of a frame once its seq is known."""


class Appended(Struct, frozen=True):
    """A frame that stands in the journal."""

    seq: int
    clock: int
    prefix: bytes
    events: list[Event]
    opened: Opened


class _Live(enum.Enum):
    """What the journal's file is good for."""

    NONE = "not made yet"
    GOOD = "takes frames"
    ADRIFT = "failed or replaced: only memory holds the truth"


class _Mark(Struct, frozen=True):
    size: int
    frames: int
    seq: int


class Stream(ABC):
    """A row of segments that one writer fills, one after another. What they lie in and hold, a child knows.

    `room_fd` is a descriptor of the room, as `ledger/`, and outlives it; `tick` gives the next hybrid clock.
    """

    room: str
    segment_bytes = SEGMENT_BYTES

    def __init__(
        self, room_fd: int, writer: WriterId, owner: Host, version: str, tick: Callable[[], int]
    ) -> None:
        self.writer = writer
        self.number = 0
        self.sealed: list[str] = []  # paths below the room
        self._room_fd = room_fd
        self._owner = owner
        self._version = version
        self._tick = tick
        self._seq = 0
        self._frames = 0
        self._memory = bytearray()
        self._encoder = FrameEncoder()
        self._folder = ""
        self._folder_fd = -1
        self._fd = -1
        self._live = _Live.NONE
        self._entry_synced = False
        self._open_bytes = 0
        self._unsettled = False  # SEAL is in memory, and whether its name is visible is not known

    @abstractmethod
    def name_of(self, kind: SegmentKind, hash16: str | None = None) -> str:
        """The present segment's name in its folder, as a file of that kind."""

    @abstractmethod
    def folder_at(self, clock: int) -> str:
        """The folder of a segment that begins now."""

    @abstractmethod
    def opening(self, clock: int) -> bytes:
        """The payload of its OPEN frame."""

    @property
    def name(self) -> str:
        """The live file's name."""
        return self.name_of("open")

    @property
    def previous(self) -> str | None:
        """The name of the segment that was sealed last."""
        return self.sealed[-1].rpartition("/")[2] if self.sealed else None

    def _who(self, clock: int) -> Opened:
        """Who writes this segment, since when."""
        return Opened(
            format=FORMAT,
            writer=self.writer,
            segment=self.number,
            host=self._owner.host,
            boot=self._owner.boot,
            pidns=self._owner.pidns,
            pid=self._owner.pid,
            pid_start=self._owner.pid_start,
            user=self._owner.user,
            version=self._version,
            time=clock >> 16,
            previous=self.previous,
            batch=self._owner.batch,
        )

    @property
    def is_empty(self) -> bool:
        """True if nothing waits to be sealed."""
        return not self._memory

    def _begun(self) -> _Mark:
        """Where the frame that comes next can be taken back to. Begins a segment where there is none."""
        mark = self._mark()
        if self.is_empty:
            self._begin()
        return mark

    def _append(self, mark: _Mark, type_: FrameType, clock: int, payload: bytes) -> bytes:
        """Append one frame and return it. It survives kill -9 from here on; it is not synced.

        Crash states: the frame is in the file, or a torn part of it, which readers ignore.

        Raises: StorageError when neither the file nor a fresh one took the bytes; then nothing of the
        frame is recorded, unless it may be read by others already: then it stands.
        """
        frame = self._remember(type_, clock, payload)
        try:
            self._write(mark)
        except OSError as error:
            self._save_or_withdraw(mark, error)
        except BaseException:  # Ctrl-C
            self._take_back_unless_whole(mark)
            raise
        return frame

    def sync(self) -> None:
        """Put all that was appended beyond a power cut: fdatasync, or the seal where the file is adrift.

        Raises: StorageError when neither works; the events stay in the file and in memory, and the next
        call tries again by a fresh file, never by the failed descriptor.
        """
        if self.is_empty:
            return
        if not self.is_in_place():
            self._abandon()
            self.seal()
            return
        try:
            durable.sync_data(self._fd)
            if not self._entry_synced:  # the name itself, once a segment
                durable.sync_folder("", self._folder_fd)
                self._entry_synced = True
        except OSError:
            self._abandon()
            self.seal()

    @property
    def is_adrift(self) -> bool:
        """True if something waits to be sealed that the file may not hold: it failed, or was replaced."""
        return self._live is _Live.ADRIFT and not self.is_empty

    def is_in_place(self) -> bool:
        """True if the journal's name still leads to the file this process writes, at its full length."""
        if self.is_empty:
            return True
        if self._live is not _Live.GOOD:
            return False
        try:
            named = os.stat(self.name, dir_fd=self._folder_fd, follow_symlinks=False)
            held = os.fstat(self._fd)
        except OSError:
            return False
        return named.st_ino == held.st_ino and named.st_size == len(self._memory)

    def seal(self) -> str | None:
        """Publish the segment from memory under its content name; return the name, None if it was empty.

        System calls: create tmp, write, fsync, close, rename, fsync folder, unlink `.open`. Crash states:
        before the rename `.open` stands as it was; after it the sealed file hides `.open`.

        Raises: StorageError. The segment stays open in memory, unless its name is visible already: then
        it is sealed, and only not known to be synced.
        """
        if self.is_empty:
            return None
        mark = self._mark()
        if not self._unsettled:
            self._remember(FrameType.SEAL, self._tick(), encode_sealed(self._frames + 1))
        name = self.name_of("seg", self._encoder.file_hash())
        try:
            durable.publish(name, self._memory, self._folder_fd)
        except durable.MaybeVisibleError:
            self._settle(name, mark)
            raise
        except StorageError:
            if not self._unsettled:
                self._return_to(mark)
            raise
        self._finish(name)
        return name

    def _settle(self, name: str, mark: _Mark) -> None:
        """After a seal that failed: no other bytes may ever come under a name that may be visible."""
        try:
            is_visible = durable.exists(name, self._folder_fd)
        except StorageError:
            self._abandon()
            self._unsettled = True  # the very same bytes are published by the next call, and nothing else
            return
        if is_visible:
            self._finish(name)
        elif not self._unsettled:
            self._return_to(mark)

    def close(self) -> None:
        """Give back the descriptors; what is not sealed stays in `.open`."""
        self._close_file()
        if self._folder_fd >= 0:
            durable.close_read(self._folder_fd)
            self._folder, self._folder_fd = "", -1

    def _begin(self) -> None:
        """Open a segment in memory; its file comes with the first frame of its own."""
        clock = self._tick()
        folder = self.folder_at(clock)
        if folder != self._folder:
            self._enter(folder)
        self._encoder = FrameEncoder()
        self._memory = bytearray(MAGIC)
        self._remember(FrameType.OPEN, clock, self.opening(clock))
        self._open_bytes = len(self._memory)

    def _enter(self, folder: str) -> None:
        try:
            if durable.make_folder(folder, self._room_fd):
                durable.sync_folder("", self._room_fd)
            folder_fd = durable.open_folder_fd(folder, self._room_fd)
        except OSError as error:
            raise durable.as_storage_error(error, f"{self.room}/{folder}", "make") from error
        if self._folder_fd >= 0:
            durable.close_read(self._folder_fd)
        self._folder, self._folder_fd = folder, folder_fd

    def _is_near_end(self) -> bool:
        return len(self._memory) >= self.segment_bytes * 7 // 8

    def _would_overflow(self, payload_bytes: int) -> bool:
        """True if a frame of that payload, and the seal, would take the segment past its size."""
        return len(self._memory) + payload_bytes + 2 * OVERHEAD_BYTES > self.segment_bytes

    def _remember(self, type_: FrameType, clock: int, payload: bytes) -> bytes:
        frame = self._encoder.encode(type_, self._seq, clock, payload)
        self._memory += frame
        self._frames += 1
        self._seq += 1
        return frame

    def _write(self, mark: _Mark) -> None:
        """Bring the file to the length of memory. Raises: OSError, the file then may hold a torn part."""
        if self._live is _Live.ADRIFT:
            raise OSError(errno.EIO, "the journal's file failed before")
        if self._live is _Live.NONE:
            self._fd = durable.open_new(self.name, self._folder_fd)
            self._live, self._entry_synced = _Live.GOOD, False
            durable.write_all(self._fd, self._memory)
        else:
            durable.write_all(self._fd, memoryview(self._memory)[mark.size :].tobytes())

    def _save_or_withdraw(self, mark: _Mark, error: OSError) -> None:
        """The file did not take a frame: seal from memory, else take the frame back and say why."""
        written = self._written_bytes()
        is_whole = written >= len(self._memory)
        self._abandon()
        try:
            self.seal()
        except StorageError as failure:
            if self.is_empty:  # published, though not known to be synced: an append promises no more
                return
            if self._unsettled or is_whole:  # it may be read by others: it stands
                raise
            self._return_to(mark)
            if mark.size == 0:
                self._drop_stillborn(has_open=written >= self._open_bytes)
            cause = failure if error.errno == errno.EIO else error
            path = f"{self.room}/{self._folder}/{self.name}"
            raise durable.as_storage_error(cause, path, "append to") from error

    def _take_back_unless_whole(self, mark: _Mark) -> None:
        """After a write that was broken off: what comes next is not written behind a part of a frame."""
        written = self._written_bytes()
        if written >= len(self._memory):
            return
        self._abandon()
        self._return_to(mark)
        if mark.size == 0:
            self._drop_stillborn(has_open=written >= self._open_bytes)

    def _written_bytes(self) -> int:
        """How much of memory the file may hold."""
        try:
            return os.fstat(self._fd).st_size if self._fd >= 0 else 0
        except OSError:
            return len(self._memory)

    def _drop_stillborn(self, *, has_open: bool) -> None:
        """Unlink a file that never held a whole event; if even that fails, leave its number behind."""
        try:
            durable.unlink_if_there(self.name, self._folder_fd)
        except OSError:
            self.number += 1
            self._seq += has_open  # a whole OPEN is there to be read
        self._live = _Live.NONE

    def _abandon(self) -> None:
        """Never use this descriptor again: after an error the kernel may call lost bytes written."""
        self._close_file()
        self._live = _Live.ADRIFT if self._memory else _Live.NONE

    def _finish(self, name: str) -> None:
        """The segment lies under `name`: drop the live file and go on to the next number."""
        live = self.name
        self._close_file()
        self.sealed.append(f"{self._folder}/{name}")
        self.number += 1
        self._memory = bytearray()
        self._frames = 0
        self._live = _Live.NONE
        self._unsettled = False
        with contextlib.suppress(OSError):  # a ghost: the sealed file hides it, anyone may unlink it later
            durable.unlink_if_there(live, self._folder_fd)

    def _close_file(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # memory holds every byte, and seal() proves them anew
                os.close(fd)

    def _mark(self) -> _Mark:
        return _Mark(len(self._memory), self._frames, self._seq)

    def _return_to(self, mark: _Mark) -> None:
        del self._memory[mark.size :]
        self._frames, self._seq = mark.frames, mark.seq
        self._encoder.rewound_to(self._memory)


class Journal(Stream):
    """One writer's segments of the ledger. `ledger_fd` is a descriptor of `ledger/`."""

    room = LEDGER

    def __init__(
        self, ledger_fd: int, writer: WriterId, owner: Host, version: str, tick: Callable[[], int]
    ) -> None:
        super().__init__(ledger_fd, writer, owner, version, tick)
        self._opened: Opened | None = None

    def append(self, events_of: EventsOf) -> Appended:
        """Append one frame of events and return it, as `_append` does.

        Cost: one write(2), about 6 µs for 400 bytes.
        Raises: StorageError; ValueError when the events pass 64 MiB.
        """
        if not self.is_empty and (self._unsettled or self._is_full_for(events_of)):
            self.seal()
        mark = self._begun()
        clock, seq = self._tick(), self._seq
        events = events_of(seq)
        payload = encode_events(events)
        if len(payload) > MAX_PAYLOAD_BYTES:
            self._return_to(mark)
            raise ValueError(
                f"events of {len(payload)} bytes: a frame holds {MAX_PAYLOAD_BYTES}; record less at once"
            )
        opened = self._opened
        assert opened is not None, "a begun segment has its OPEN frame"
        frame = self._append(mark, FrameType.EVENTS, clock, payload)
        return Appended(seq, clock, frame[-32:], events, opened)

    def _is_full_for(self, events_of: EventsOf) -> bool:
        """True if the next frame would take the segment past its size. Encodes events only near the end."""
        return self._is_near_end() and self._would_overflow(len(encode_events(events_of(self._seq))))

    def name_of(self, kind: SegmentKind, hash16: str | None = None) -> str:
        """`<writer>-<number>`, and what its kind adds."""
        return segment_name(self.writer, self.number, kind, hash16)

    def folder_at(self, clock: int) -> str:
        """The UTC month."""
        return month_of(clock >> 16)

    def opening(self, clock: int) -> bytes:
        """Who writes, since when."""
        self._opened = self._who(clock)
        return encode_opened(self._opened)
