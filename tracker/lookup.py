"""Look-ups that are current: index and live journals, brought up to date with the folder before they answer.

The index covers write-once files alone; what live journals hold beyond it is kept in memory, and what this
process wrote itself is noted as it is written. Writes nothing below the root.

Spec: spec/layout.md section 7; spec/log.md section 4, "Which files count".
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import reduce
from typing import TypeVar

from tracker._disk import durable, host
from tracker._disk.lock import hold
from tracker._model.event import Created, Event, Opened, Rule
from tracker._model.fold import History, Run, Stamp, State, absorb, join, run_of, still_unproven
from tracker._model.names import FORMAT, LEDGER, STORE, fold_name, run_ref, split_ref
from tracker._model.rules import Rules
from tracker._store import segments
from tracker._store.bulk import twin_of
from tracker._store.index import Cover, Filter, Index, Row, could_remove, index_path, open_index
from tracker._store.relation import Relation
from tracker._store.root import check_format, refuse_another_format
from tracker._store.scan import Scan
from tracker._store.segments import Listing, SegmentFile
from tracker._store.tails import LiveTail
from tracker.filling import Progress, fill_index, plan_update
from tracker.terms import RunRef, Status, Uid, WriterId

HIT_AGE_S = 0.1
"""How old the last look at the folder may be when a finished run is found."""

MISS_AGE_S = 0.0001
"""The same when none is found: what happens between two looks, no look can show."""

_LOOKS_MAX = 50

OWN_SEALED_MAX = 16
"""This many of its own sealed segments a process keeps in memory before the index takes them."""

_LOCK_FROM = 4  # files to read before a build is worth a lock

_SELECT_TEXTS = "select relpath, identifier, uid, params from runs where params is not null"


_T = TypeVar("_T")


class Lookup:
    """The reader's half of a store. One thread at a time; the ledger holds the lock.

    `generation` moves whenever an answer may have changed.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.generation = 0
        self.progress: Progress | None = None
        self.store_fd = -1
        self.ledger_fd = -1
        self._folder: tuple[int, int] | None = None
        self._pinned = False
        self._listing: Listing | None = None
        self._index: Index | None = None
        self._relation: tuple[Index, Relation] | None = None
        self._covers: dict[str, Cover] = {}
        self._damaged: dict[str, tuple[int, int]] = {}
        self._tails: dict[str, LiveTail] = {}
        self._own_writer = ""
        self._own_live = State()
        self._own_sealed: dict[str, State] = {}
        self._own_names = _Names()
        self._opened: dict[WriterId, Opened] = {}
        self._has_unseen = False
        self._clock = 0
        self._looked_s = -1e9
        self._scan = Scan()

    # The folder

    def pin(self, writer: WriterId) -> None:
        """Stay with the folder that is open now, wherever it is moved, as its writer does."""
        self._pinned = True
        self._own_writer = writer

    def open_store(self) -> bool:
        """Open the store below the root, if one is there. True if it is.

        Raises: VersionError, DamagedError for a FORMAT that is not ours. Cost: one stat if nothing changed.
        """
        if self._pinned:
            return True
        try:
            status = durable.stat_path(f"{self.root}/{STORE}/{LEDGER}")
        except (FileNotFoundError, NotADirectoryError):
            self.close_store()
            refuse_another_format(self.root)
            return False
        if (status.st_dev, status.st_ino) != self._folder:
            self.close_store()
            self._open()
            self._folder = (status.st_dev, status.st_ino)
        return True

    def _open(self) -> None:
        root_fd = durable.open_root(self.root)
        try:
            self.store_fd = durable.open_folder_fd(STORE, root_fd)
        finally:
            durable.close_read(root_fd)
        try:
            data = durable.read_file(FORMAT, self.store_fd)
        except FileNotFoundError:
            data = b""
        check_format(data, f"{self.root}/{STORE}/{FORMAT}")
        self.ledger_fd = durable.open_folder_fd(LEDGER, self.store_fd)
        self._listing = Listing(is_network=host.is_network_fs(self.root))
        self.generation += 1

    def close_store(self) -> None:
        """Let go of a store, with all that was known of it."""
        for fd in (self.ledger_fd, self.store_fd):
            if fd >= 0:
                durable.close_read(fd)
        self.ledger_fd = self.store_fd = -1
        self._folder = None
        if self._index is not None:
            self._index.close()
        self._forget()

    def forget_after_fork(self) -> None:
        """In a child: own events are the parent's, and its SQLite connection is neither used nor closed."""
        _PARENTS.append(self._index)
        self._forget()

    def _forget(self) -> None:
        self._pinned = False
        self._listing = None
        self._scan = Scan()
        self._index = None
        self._covers = {}
        self._damaged = {}
        self._tails = {}
        self._own_live = State()
        self._own_sealed = {}
        self._own_names = _Names()
        self._opened = {}
        self._own_writer = ""
        self._has_unseen = False
        self._looked_s = -1e9
        self._folder = None
        self.generation += 1

    # What this process writes

    def note(self, events: list[Event], clock: int, writer: WriterId, seq: int) -> None:
        """Know what this process has just appended."""
        absorb(self._own_live, events, clock, writer, seq)
        for event in events:
            if type(event) is Created:
                self._own_names.note(event)
        self.generation += 1

    def note_sealed(self, path: str) -> None:
        """Know that what was noted so far lies in this sealed file."""
        self._own_sealed[path] = self._own_live
        self._own_live = State()
        self._has_unseen = True

    # Being current

    def is_stale(self, age_s: float) -> bool:
        """True if the last look at the folder is older than `age_s`."""
        return time.monotonic() - self._looked_s > age_s

    def refresh(self, *, certain: bool = False) -> None:
        """Be current with the folder. With `certain` no attribute that a network client caches is trusted.

        Cost: one stat a month and a live journal if nothing changed, about 5 µs.
        Raises: VersionError when a newer release has written here; StorageError when a file cannot be read.
        """
        if not self.open_store():
            return
        if self._listing is None:
            self._listing = Listing(is_network=host.is_network_fs(self.root))
        for _ in range(_LOOKS_MAX):
            if self._look(self._listing, certain=certain and self.is_network):
                break
            self._listing.forget()
        self._looked_s = time.monotonic()

    @property
    def is_network(self) -> bool:
        """True if other hosts may write here."""
        return self._listing is not None and self._listing.is_network

    def _look(self, listing: Listing, *, certain: bool) -> bool:
        """Read what the folder has that is not known; False if a file went meanwhile: look again."""
        changed = listing.refresh(self.ledger_fd)
        is_due = changed or self._has_unseen or self._damaged or len(self._own_sealed) > OWN_SEALED_MAX
        if is_due and not self._update(listing.files()):
            return False
        moved = [tail for tail in self._tails.values() if certain or tail.has_moved(self.ledger_fd)]
        return all(self._read_on(tail) for tail in moved)

    def _read_on(self, tail: LiveTail) -> bool:
        is_there = tail.read_on(self.ledger_fd)
        self._clock = max(self._clock, tail.clock)
        self.generation += 1
        return is_there

    def _update(self, files: list[SegmentFile]) -> bool:
        """Have index and tails follow the listed files. False if one was gone when it was to be read."""
        self._follow(files)
        self._drop_removed(files)
        self._has_unseen = False
        own = () if len(self._own_sealed) > OWN_SEALED_MAX else self._own_sealed
        if self._index is None:
            foreign = (f for f in files if f.name.kind != "open" and f.path not in own)
            if next(foreign, None) is None:
                return True  # nothing sealed by others: no index is needed yet
            self._open_index()
        if not self._damaged and plan_update(self._covers, files, own).is_empty:
            return True
        self._with_fallback(lambda index: self._catch_up(index, files, own))
        self._drop_covered()
        self.generation += 1
        return not plan_update(self._covers, files, own).read

    def _follow(self, files: list[SegmentFile]) -> None:
        """Keep a tail for each live journal that counts and is not ours."""
        live = {
            f.path: f
            for f in segments.choose(files)[0]
            if f.name.kind == "open" and f.name.writer != self._own_writer
        }
        if live.keys() != self._tails.keys():
            self._tails = {path: self._tails.get(path) or LiveTail(file) for path, file in live.items()}
            self.generation += 1

    def _drop_removed(self, files: list[SegmentFile]) -> None:
        """A sealed file of ours that is gone was taken back, as by a restore: memory is not the truth."""
        for path in self._own_sealed.keys() - {file.path for file in files}:
            if not durable.exists(path, self.ledger_fd):
                del self._own_sealed[path]
                self.generation += 1

    def _drop_covered(self) -> None:
        for path in [path for path in self._own_sealed if path in self._covers]:
            del self._own_sealed[path]

    # The index

    def _open_index(self) -> None:
        def load(index: Index) -> None:
            self._set_covers(index.covers())
            self._clock = max(self._clock, index.clock())

        self._index = open_index(self.root)
        self._with_fallback(load)
        self.generation += 1

    def drop_index(self) -> None:
        """Delete the index; the next refresh makes it anew."""
        if self._index is not None and self._index.path is not None:
            could_remove(self._index.path)
        elif self._index is None:
            could_remove(index_path(self.root))
        if self._index is not None:
            self._index.close()
        self._index = None
        self._set_covers({})
        if self._listing is not None:
            self._listing = Listing(is_network=host.is_network_fs(self.root))
        self.generation += 1

    def _set_covers(self, covers: dict[str, Cover]) -> None:
        self._covers = covers
        self._damaged = {c.path: (c.size, c.mtime_ns) for c in covers.values() if c.damaged}

    def _with_fallback(self, action: Callable[[Index], None]) -> None:
        """Run `action` on the index; if its file is unfit, on a new one; if that is too, in memory."""
        for attempt in range(3):
            assert self._index is not None, "an index is always to be had, in memory at worst"
            try:
                action(self._index)
            except (sqlite3.Error, ValueError):  # msgspec's errors are ValueErrors
                if self._index.path is None:
                    raise
                self._replace_index(in_memory=attempt > 0)
            else:
                return

    def _ask(self, question: Callable[[Index], _T]) -> _T | None:
        """The index's answer. An index that cannot give it is made anew; None if none is needed."""
        for _ in range(2):
            if self._index is None:
                return None
            try:
                return question(self._index)
            except (sqlite3.Error, ValueError):  # msgspec's errors are ValueErrors
                if self._index.path is None:
                    raise
                self._replace_index()
                self._refill()
        return None if self._index is None else question(self._index)

    def _refill(self) -> None:
        """Fill an index that has just been made."""
        if self._listing is not None:
            self._update(self._listing.files())

    def _replace_index(self, *, in_memory: bool = False) -> None:
        assert self._index is not None, "there was one"
        path = self._index.path
        self._index.close()
        self._set_covers({})
        in_memory = in_memory or path is None or not could_remove(path)
        self._index = Index(None) if in_memory else open_index(self.root)

    def _catch_up(self, index: Index, files: list[SegmentFile], own: Collection[str]) -> None:
        plan = plan_update(self._covers, files, own)
        if index.path is None or len(plan.read) < _LOCK_FROM:
            self._fill(index, files, own)
            return
        with hold(f"{index.path}.lock", wait_s=600.0):
            self._fill(index, files, own)

    def _fill(self, index: Index, files: list[SegmentFile], own: Collection[str]) -> None:
        fill_index(index, self.ledger_fd, files, own, self.progress)
        self._set_covers(index.covers())
        self._clock = max(self._clock, index.clock())

    # Answers, of the last look

    def clock(self) -> int:
        """The greatest clock that was read."""
        return self._clock

    def files(self) -> list[SegmentFile]:
        """The segment files."""
        return [] if self._listing is None else self._listing.files()

    def _parts(self) -> Iterator[State]:
        yield self._own_live
        yield from self._own_sealed.values()
        for tail in self._tails.values():
            yield tail.state

    def history(self, ref: RunRef) -> tuple[History, bool] | None:
        """All events of a run, and whether one is unproven; None if there is none."""
        found = self._ask(lambda index: index.history(ref))
        parts = [] if found is None else [found]
        parts += [(p.runs[ref], p.unproven.get(ref) or set()) for p in self._parts() if ref in p.runs]
        if len(parts) < 2:
            return (parts[0][0], bool(parts[0][1])) if parts else None
        history = reduce(join, (part for part, _ in parts))
        is_doubtful = any(unproven for _, unproven in parts)
        return history, is_doubtful and bool(still_unproven(parts))

    def run(self, ref: RunRef) -> Run | None:
        """What is known of a run. Cost: 10 to 20 µs."""
        found = self.history(ref)
        return None if found is None else run_of(ref, found[0], unproven=found[1])

    def row(self, uid: str, identifier: str, relpath: str) -> Row | None:
        """What a resume needs to know of a run. Cost: 5 µs, whatever the number of runs."""
        ref = run_ref(relpath, identifier, uid)
        if self._is_in_memory(ref):
            run = self.run(ref)
            return None if run is None else _row_of(run)
        if self._index is None:
            return None
        try:  # as _ask does, and this is asked for every config of a sweep
            return self._index.row(uid, identifier, relpath)
        except (sqlite3.Error, ValueError):
            return self._ask(lambda index: index.row(uid, identifier, relpath))

    def status(self, uid: str, identifier: str, relpath: str) -> str | None:
        """The status of that row; of a run that is not recorded None. Cost: 3 µs; 0.3 in a long scan."""
        scan = self._scan
        if uid in scan.done and scan.is_about(identifier, relpath, self.generation):
            return Status.DONE
        if self._index is None or self._is_in_memory(run_ref(relpath, identifier, uid)):
            row = self.row(uid, identifier, relpath)
            return None if row is None else row.status
        if scan.count(identifier, relpath, self.generation):
            self._widen(scan, identifier, relpath)
        try:
            return self._index.status(uid, identifier, relpath)
        except (sqlite3.Error, ValueError):
            return self._ask(lambda index: index.status(uid, identifier, relpath))

    def _widen(self, scan: Scan, identifier: str, relpath: str) -> None:
        """Know all that are done, if it is worth that; but for those of which memory may know more."""
        if not scan.is_worth(self._ask(lambda index: index.last_id()) or 0):
            return
        done = self._ask(lambda index: index.done(identifier, relpath)) or frozenset()
        live = (split_ref(ref) for part in self._parts() for ref in part.runs)
        scan.done = done - {uid for place, name, uid in live if (name, place) == (identifier, relpath)}

    def _is_in_memory(self, ref: RunRef) -> bool:
        if ref in self._own_live.runs:
            return True
        if not self._own_sealed and not self._tails:  # as in a resume scan
            return False
        return any(ref in part.runs for part in self._parts())

    def repeats(self, key: str, identifier: str, relpath: str) -> list[Run]:
        """The repeats of a key that are not removed, in the order of their first events."""
        refs = set(self._ask(lambda index: index.repeats(key, identifier, relpath)) or ())
        for part in self._parts():
            refs.update(part.repeats.get(key, ()))
        runs = (self.run(ref) for ref in refs)
        there = (run for run in runs if run is not None and not run.removed)
        found = [r for r in there if (r.identifier, r.relpath) == (identifier, relpath) and r.uid != key]
        return sorted(found, key=lambda run: run.first)

    def histories(self, wanted: Filter) -> Iterator[tuple[RunRef, History, bool]]:
        """The histories of the runs that match, and whether a salvaged frame is in them; in no order.

        Cost: 8 µs a run.
        """
        live = {ref for part in self._parts() for ref in part.runs}
        for ref, history, unproven in self._ask(lambda index: list(index.histories(wanted))) or ():
            if ref not in live:
                yield ref, history, bool(unproven)
        for ref in filter(wanted.may_match, live):
            found = self.history(ref)
            if found is not None and wanted.matches(run_of(ref, found[0])):
                yield ref, *found

    def find(self, wanted: Filter) -> list[Run]:
        """The runs that match, in the order of their first events. Cost: 15 µs a run."""
        runs = [run_of(ref, history, unproven=unproven) for ref, history, unproven in self.histories(wanted)]
        return sorted(runs, key=lambda run: run.first)

    def relation(self) -> Relation:
        """What queries are asked of, with the index's rows. Made anew with the index."""
        self._open_index_if_none()
        assert self._index is not None, "an index is always to be had, in memory at worst"
        if self._relation is None or self._relation[0] is not self._index:
            self._relation = self._index, Relation(self._index.connection)
        return self._relation[1]

    def _open_index_if_none(self) -> None:
        if self._index is not None:
            return
        if self.store_fd < 0:  # nothing was recorded here, and nothing is made by asking
            self._index = Index(None)
            return
        self._open_index()
        self._refill()

    def otherwise(self) -> set[RunRef]:
        """The runs that the index lacks or may tell otherwise than they are now: live ones, RUNNING ones."""
        refs = {ref for part in self._parts() for ref in part.runs}
        return refs | set(self._ask(lambda index: index.running()) or ())

    def with_uid(self, uid: str, relpath: str) -> set[RunRef]:
        """The runs of a namespace that share a uid, and so a folder."""
        refs = set(self._ask(lambda index: index.with_uid(uid, relpath)) or ())
        refs |= self._own_names.by_uid.get((uid, relpath), set())
        for tail in self._tails.values():
            refs.update(r for r in tail.state.runs if r.endswith(uid) and split_ref(r).relpath == relpath)
        return refs

    def twins(self, params: str, uid: str, identifier: str, relpath: str) -> set[str]:
        """Params of runs that differ from these only in whole numbers as int or float.

        LIMIT: those in live journals of other processes are not seen.
        """
        twin = twin_of(params) or uid
        texts = set(self._ask(lambda index: index.twins(twin, identifier, relpath)) or ())
        return (texts | self._own_names.twins.get((twin, identifier, relpath), set())) - {params}

    def spellings(self, kind: str, text: str) -> set[str]:
        """The known names ("relpath", "identifier") that are one with `text` on some file systems."""
        folded = fold_name(text)
        known = set(self._ask(lambda index: index.spellings(kind, folded)) or ())
        return known | self._own_names.spellings.get((kind, folded), set())

    def relpaths(self) -> set[str]:
        """The namespaces that have runs."""
        known = set(self._ask(lambda index: index.relpaths()) or ())
        return known | {split_ref(ref).relpath for part in self._parts() for ref in part.runs}

    def opened_by(self, writer: WriterId) -> Opened | None:
        """Who that writer is, by the OPEN frame of its newest segment here; None if none reads.

        Cost: one file read, the first time.
        """
        if writer not in self._opened:
            opened = self._read_opened(writer)
            if opened is None:
                return None
            self._opened[writer] = opened
        return self._opened[writer]

    def last_write_ms(self, writer: WriterId) -> int:
        """The newest time stamp of a writer's live journals here, in Unix ms; 0 if it has none."""
        stamps = [0]
        for file in self.files():
            if file.name.writer == writer and file.name.kind == "open":
                with suppress(FileNotFoundError):
                    stamps.append(durable.stat_at(file.path, self.ledger_fd).st_mtime_ns // 1_000_000)
        return max(stamps)

    def _read_opened(self, writer: WriterId) -> Opened | None:
        mine = [file for file in self.files() if file.name.writer == writer]
        for place in sorted(mine, key=lambda file: file.name.number, reverse=True):
            segment = segments.read_segment(self.ledger_fd, place)
            if segment is not None and segment.opened is not None:
                return segment.opened
        return None

    def rules(self) -> list[Rule]:
        """The store's rules, in order."""
        return [rule for _, rule in self.rule_events()]

    def rule_events(self) -> list[tuple[Stamp, Rule]]:
        """The store's rules under their stamps, in order."""
        rules: dict[Stamp, Rule] = self._ask(lambda index: index.rules()) or {}
        for part in self._parts():
            rules = rules | part.rules
        return sorted(rules.items())

    def indexed_texts(self) -> list[tuple[RunRef, str]]:
        """The runs of the index with the canonical text of their params. Cost: 1 µs a run."""
        rows = self._ask(lambda index: index.connection.execute(_SELECT_TEXTS).fetchall()) or ()
        return [(run_ref(*row[:3]), row[3]) for row in rows]

    def settle_aliases(self, rules: Rules) -> None:
        """Have the index know the aliases of its rows. Cost: 10 µs if it does."""
        self._ask(lambda index: index.settle_aliases(rules))

    def indexed_aliases(self, alias: Uid) -> list[RunRef]:
        """The runs of the index with this alias and another uid. Cost: 5 µs."""
        return self._ask(lambda index: index.aliased(alias)) or []

    def live_states(self) -> Iterator[State]:
        """What is known beyond the index. Each grows, in order, and does nothing else."""
        return self._parts()


class _Names:
    """What this process recorded, by other handles than its ref."""

    def __init__(self) -> None:
        self.by_uid: dict[tuple[str, str], set[RunRef]] = {}
        self.twins: dict[tuple[str, str, str], set[str]] = {}
        self.spellings: dict[tuple[str, str], set[str]] = {}

    def note(self, event: Created) -> None:
        relpath, identifier, uid = split_ref(event.run)
        self.by_uid.setdefault((uid, relpath), set()).add(event.run)
        twin = twin_of(event.params) or uid
        self.twins.setdefault((twin, identifier, relpath), set()).add(event.params)
        for kind, text in (("relpath", relpath), ("identifier", identifier)):
            self.spellings.setdefault((kind, fold_name(text)), set()).add(text)


_PARENTS: list[Index | None] = []


def _row_of(run: Run) -> Row:
    return Row(str(Status.PENDING if run.removed else run.status), run.mode, run.params)
