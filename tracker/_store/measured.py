"""The segments of metrics in `metrics/`: a journal that takes rows, and the files of a run or of all.

Knows names and frames; what rows mean is told above.

Spec: spec/metrics.md sections 2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import structs

from tracker._codec.frame import MAX_PAYLOAD_BYTES, FrameType
from tracker._disk import durable
from tracker._disk.host import Host
from tracker._model import names
from tracker._model.names import METRICS, SegmentKind, parse_series_name, segment_name
from tracker._model.rows import SeriesOpened, decode_series_opened, encode_series_opened
from tracker._store import packs
from tracker._store.journal import Stream
from tracker._store.segments import SegmentFile, Sort, raise_refused
from tracker.terms import AttemptId, RunRef, WriterId

OF_METRICS = Sort(METRICS, FrameType.ROWS, decode_series_opened)


class Standing(NamedTuple):
    """How far a series has come, for whoever goes on with it."""

    number: int = 0
    seq: int = 0
    previous: str | None = None
    clock: int = 0


class SeriesJournal(Stream):
    """What one process logs of one run. `about` says of which attempt; it changes between segments only."""

    room = METRICS
    segment_bytes = 4 << 20

    def __init__(
        self,
        metrics_fd: int,
        run: RunRef,
        writer: WriterId,
        owner: Host,
        version: str,
        tick: Callable[[], int],
        begins: Standing,
    ) -> None:
        super().__init__(metrics_fd, writer, owner, version, tick)
        self.number, self._seq = begins.number, begins.seq
        self._before = begins.previous
        self._run = run
        self._shard, _, self._stem = names.series_stem(run).removeprefix(f"{METRICS}/").partition("/")
        self.has_taken = True
        """False where the last frame was withdrawn: its rows are to be given again."""
        self._attempt: AttemptId | None = None
        self._rank: int | None = None

    def about(self, attempt: AttemptId | None, rank: int | None) -> None:
        """Say who logs what comes next."""
        assert self.is_empty or (attempt, rank) == (self._attempt, self._rank), "a segment is of one attempt"
        self._attempt, self._rank = attempt, rank

    def append(self, rows: bytes) -> None:
        """Append one ROWS frame. When this returns it survives kill -9; it is not synced.

        A file that was replaced meanwhile is published from memory first.

        Cost: one write(2) and two looks at the file, 15 µs and 1 ms for 1 MiB.
        Raises: StorageError, and then nothing of the frame is recorded, unless it may be read by others
        already: then it stands. Spec: spec/metrics.md section 4.
        """
        assert len(rows) <= MAX_PAYLOAD_BYTES, "the recorder bounds what it gathers"
        self.has_taken = False
        if not self.is_empty and (
            self._unsettled or self._would_overflow(len(rows)) or not self.is_in_place()
        ):
            self.seal()
        mark, sealed = self._begun(), len(self.sealed)
        try:
            self._append(mark, FrameType.ROWS, self._tick(), rows)
        finally:
            self.has_taken = len(self._memory) > mark.size or len(self.sealed) > sealed

    @property
    def previous(self) -> str | None:
        """The segment of the series that was sealed last, by this journal or by one before it."""
        return super().previous or self._before

    def standing(self) -> Standing:
        """Where the next journal of the series begins, now that this one is sealed."""
        assert self.is_empty, "a series goes on behind what is sealed"
        return Standing(self.number, self._seq, self.previous, self._tick())

    def name_of(self, kind: SegmentKind, hash16: str | None = None) -> str:
        """The series and the number, and what its kind adds."""
        return segment_name(f"{self._stem}{self.writer}", self.number, kind, hash16)

    def folder_at(self, clock: int) -> str:
        """The first two digits of the run's uid, whenever."""
        return self._shard

    def opening(self, clock: int) -> bytes:
        """Who logs, for which attempt."""
        who = structs.asdict(self._who(clock))
        return encode_series_opened(
            SeriesOpened(**who, run=self._run, attempt=self._attempt, rank=self._rank)
        )


def open_metrics(store_fd: int, *, make: bool = False) -> int | None:
    """A descriptor of `metrics/`; None where there is none, unless it is to be made.

    Raises: StorageError.
    """
    if make and durable.make_folder(METRICS, store_fd):
        durable.sync_folder("", store_fd)
    try:
        return durable.open_folder_fd(METRICS, store_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None


def list_of_run(metrics_fd: int, ref: RunRef) -> list[SegmentFile]:
    """The segments that bear a run's name, in the order of names.

    Raises: StorageError where a pack cannot be read: what is in it must not be missed.
    Cost: one listing of 1/256 of all, and 15 µs for each that is packed there, once a process.
    """
    folder, _, stem = names.series_stem(ref).removeprefix(f"{METRICS}/").partition("/")
    found = list_folder(metrics_fd, folder, stem)
    raise_refused(packs.known_tables(folder, metrics_fd).values())
    return found


def list_all(metrics_fd: int) -> list[SegmentFile]:
    """All segments of metrics, in the order of folders and names.

    Those in a pack that the system refuses are not among them.
    """
    return [file for folder in list_folders(metrics_fd) for file in list_folder(metrics_fd, folder)]


def list_folders(metrics_fd: int) -> list[str]:
    """The folders of `metrics/`, one for each first two digits of a uid."""
    return sorted(name for name in durable.list_names("", metrics_fd) if names.is_shard(name))


def list_foreign(metrics_fd: int) -> list[str]:
    """Names below `metrics/` that are none of the store's, temporary files among them."""
    folders = list_folders(metrics_fd)
    found = sorted(set(durable.list_names("", metrics_fd)) - set(folders))
    for folder in folders:
        files = set(durable.list_files(folder, metrics_fd))
        ours = {f for f in files if parse_series_name(folder, f) or packs.is_pack_name(f)}
        found += [f"{folder}/{name}" for name in sorted(set(durable.list_names(folder, metrics_fd)) - ours)]
    return found


def list_folder(metrics_fd: int, folder: str, stem: str = "") -> list[SegmentFile]:
    """The segments of one folder whose names begin with `stem`, loose and packed, in the order of names."""
    loose = durable.list_files(folder, metrics_fd)
    tables = packs.look(folder, metrics_fd, loose).values()
    packed = (name.rpartition("/")[2] for table in tables for name in table.members)
    files = sorted({file for file in (*loose, *packed) if file.startswith(stem)})
    parsed = ((file, parse_series_name(folder, file)) for file in files)
    return [SegmentFile(folder, file, name[1]) for file, name in parsed if name is not None]
