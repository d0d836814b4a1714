"""Look-ups are current, and say what the reference says, whatever happens to files and index.

Spec: spec/layout.md section 7; spec/log.md section 4, "Which files count".
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3

from tracker import DamagedError, Project, StorageError, VersionError
from tracker._disk import durable
from tracker._model.fold import run_as_json
from tracker._store import scan
from tracker._store.index import Filter, Index, index_path
from tracker.lookup import Lookup

VECTORS = sorted((Path(reference.__file__).parent / "vectors" / "events").glob("*.txt"))
MONTH = "2026-11"
UIDS = [reference.uid(f'{{"lr":{number}}}') for number in range(4)]

Json = dict[str, Any]


def said_by(lookup: Lookup) -> Json:
    lookup.refresh()
    return {
        "format": 1,
        "runs": [run_as_json(run) for run in lookup.find(Filter(removed=None))],
        "rules": [[rule.kind, rule.path, rule.value] for rule in lookup.rules()],
    }


def said_anew(root: Path) -> Json:
    """What a process says that begins now, with the index as it lies."""
    lookup = Lookup(str(root))
    try:
        return said_by(lookup)
    finally:
        lookup.close_store()


Name = tuple[str, str, str]


def done_by(lookup: Lookup) -> set[Name]:
    """What is done, by questions for each run that the tests know, as a resumed sweep asks; there and back,
    so that the next ones go on where the last ones ended.
    """
    names = [(relpath, name, uid) for name in ("train", "other") for relpath in ("", "a") for uid in UIDS]
    there, back = (
        {name for name in way if lookup.status(name[2], name[1], name[0]) == "done"}
        for way in (names, reversed(names))
    )
    assert there == back
    return there


def done_in(state: Json) -> set[Name]:
    runs = [run for run in state["runs"] if run["status"] == "done" and not run["removed"]]
    return {(run["relpath"], run["identifier"], run["uid"]) for run in runs}


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Lookup]:
    """A reader that lives through the whole test."""
    lookup = Lookup(str(tmp_path))
    yield lookup
    lookup.close_store()


def index_of(root: Path) -> Path:
    return Path(index_path(str(root)))


# The vectors


def unpack_vector(path: Path, root: Path) -> str:
    """Write the store of a vector; give the reference's exit code for it."""
    text = path.read_text(encoding="utf-8")
    for section in text.rstrip("\n").split("\n\n"):
        head, _, body = section.partition("\n")
        if head.startswith("file: "):
            place = root / head.removeprefix("file: ")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes.fromhex(body))
    return dict(line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines())["exit"]


def test_there_are_vectors():
    assert len(VECTORS) > 40


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_a_store_means_what_its_vector_says(tmp_path, living, path):
    if unpack_vector(path, tmp_path) == "2":
        with pytest.raises((VersionError, DamagedError)):
            said_by(living)
        return
    want = reference.read_store(tmp_path)

    assert said_by(living) == want
    assert said_anew(tmp_path) == want, "from the index"
    assert said_by(living) == want, "again"


# A tree that changes


class Pen:
    """A writer that the reference's encoder writes for; `data` is its unsealed segment."""

    def __init__(self, number: int, clock: Callable[[], int]) -> None:
        self.writer = f"01a19b7ca68070008000{number:012x}"
        self._clock = clock
        self.number, self.seq = 0, 0
        self.data = b""

    def frame(self, type_: int, payload: bytes) -> None:
        self.data += reference.make_frame(self.data, type_, self.seq, self._clock(), payload)
        self.seq += 1

    def write(self, *events: list[Any]) -> str:
        if not self.data:
            self.data = reference.MAGIC
            opened = {"format": 1, "writer": self.writer, "segment": self.number, "host": "h", "boot": "b"}
            opened |= {"pidns": 1, "pid": 1, "pid_start": 1, "user": "u", "version": "0", "time": 1}
            self.frame(reference.OPEN, reference.pack(opened | {"previous": None}))
        self.frame(reference.EVENTS, reference.pack([*events]))
        return f"{self.writer}-{self.seq - 1}"

    def seal(self) -> tuple[str, bytes]:
        count = len(reference.read_segment(self.data, False).frames) + 1
        self.frame(reference.SEAL, reference.pack({"frames": count}))
        return self.end()

    def end(self) -> tuple[str, bytes]:
        """The name without its ending, and the bytes; the next event begins the next segment."""
        sealed = f"{self.writer}-{self.number}-{blake3(self.data).hexdigest()[:16]}", self.data
        self.number, self.data = self.number + 1, b""
        return sealed

    @property
    def live(self) -> str:
        return f"{self.writer}-{self.number}.open"


class Tree:
    """A store that changes by random steps, as writers, copies and accidents change one."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.month = root / ".tracker" / "ledger" / MONTH
        self.month.mkdir(parents=True)
        self.random = random.Random(seed)
        self.now = 1 << 20
        self.writers = itertools.count()
        self.pens = [self.new_pen() for _ in range(3)]
        self.attempts: list[tuple[str, str]] = []
        self.snapshots: list[Path] = []
        self.ghosts: list[tuple[str, bytes]] = []
        self.log: list[str] = []

    def tick(self) -> int:
        self.now += self.random.randint(1, 3) << 16
        return self.now

    def new_pen(self) -> Pen:
        return Pen(next(self.writers), self.tick)

    def step(self, names: list[str]) -> None:
        name = self.random.choice(names)
        self.log.append(name)
        getattr(self, name)(self.random.choice(self.pens))

    def grow(self, pen: Pen) -> None:
        events, ref = self.events()
        attempt = pen.write(*events)
        if events[0][0] == "started":
            self.attempts.append((ref, attempt))
        self.put_live(pen)

    def events(self) -> tuple[list[list[Any]], str]:
        pick = self.random.choice
        number = self.random.randrange(4)
        ref = f"{pick(['', 'a/'])}train/{UIDS[number]}"
        kind = pick(["started", "done", "done", "noted", "created", "attached", "removed"])
        created = ["created", ref, f'{{"lr":{number}}}', UIDS[number], "subfolder"]
        if kind == "started":
            known = [id_ for of, id_ in self.attempts if of == ref and self.random.random() < 0.5]
            return [["started", ref, 1, known, 0, "prefix", None], created], ref
        if kind == "done" and self.attempts:
            ref, attempt = pick(self.attempts)
            return [
                ["done", ref, attempt, 5, [["f", "x/f", self.random.randrange(3), bytes(32), False]]]
            ], ref
        if kind == "attached" and self.attempts:
            ref, attempt = pick(self.attempts)
            return [["attached", ref, attempt, [["g", "x/g", False]]]], ref
        if kind == "created":
            return [created], ref
        if kind == "removed":
            return [pick([["removed", ref, ""], ["restored", ref, ""]])], ref
        return [["noted", ref, f"n{self.now}"]], ref

    def put_live(self, pen: Pen) -> None:
        path = self.month / pen.live
        old = path.read_bytes() if path.exists() else b""
        if pen.data.startswith(old):
            with path.open("ab") as file:
                file.write(pen.data[len(old) :])
        else:
            self.put(pen.live, pen.data)

    def put(self, name: str, data: bytes) -> None:
        """As a copying tool does: another file under the name."""
        (self.month / "tmp-00").write_bytes(data)
        (self.month / "tmp-00").replace(self.month / name)

    def tear(self, pen: Pen) -> None:
        """A part of the next frame is in the file already."""
        if pen.data:
            before, seq, now = pen.data, pen.seq, self.now
            pen.write(["noted", f"train/{UIDS[0]}", "torn"])
            frame = pen.data[len(before) :]
            pen.data, pen.seq, self.now = before, seq, now
            self.put(pen.live, before + frame[: self.random.randrange(len(frame))])

    def seal(self, pen: Pen) -> None:
        if pen.data:
            live, data = pen.live, pen.data
            name, sealed = pen.seal()
            self.put(f"{name}.seg", sealed)
            self.ghosts.append((live, data))
            if self.random.random() < 0.8:
                (self.month / live).unlink(missing_ok=True)

    def publish(self, pen: Pen) -> None:
        """Someone takes the writer for dead."""
        if pen.data:
            live, number = pen.live, pen.number
            name, data = pen.end()
            self.put(f"{name}.part", data)
            self.ghosts.append((live, data))
            if self.random.random() < 0.8:
                (self.month / live).unlink(missing_ok=True)
            if self.random.random() < 0.3:  # it is alive, and goes on
                pen.number, pen.data = number, data

    def haunt(self, _: Pen) -> None:
        """A copy brings an old journal back, or an old part."""
        if self.ghosts:
            name, data = self.random.choice(self.ghosts)
            if self.random.random() < 0.5:
                name = name.replace(".open", f"-{blake3(data).hexdigest()[:16]}.part")
            self.put(name, data)

    def snapshot(self, _: Pen) -> None:
        copy = self.root.parent / f"{self.root.name}-copy-{len(self.snapshots)}"
        shutil.copytree(self.root / ".tracker", copy, copy_function=shutil.copyfile)
        self.snapshots.append(copy)

    def roll_back(self, _: Pen) -> None:
        """The whole store is put back to what it was; its writers are gone, others begin."""
        if self.snapshots:
            shutil.rmtree(self.root / ".tracker")
            shutil.copytree(
                self.random.choice(self.snapshots), self.root / ".tracker", copy_function=shutil.copyfile
            )
            self.month.mkdir(exist_ok=True)
            self.pens = [self.new_pen() for _ in self.pens]

    def merge(self, _: Pen) -> None:
        """What a snapshot has and the store lacks is copied in; names that are there stay."""
        if self.snapshots:
            for path in (self.random.choice(self.snapshots) / "ledger" / MONTH).glob("*"):
                if not (self.month / path.name).exists():
                    shutil.copyfile(path, self.month / path.name)

    def drop_index(self, _: Pen) -> None:
        shutil.rmtree(index_of(self.root).parent, ignore_errors=True)

    def damage_live(self, pen: Pen) -> None:
        path = self.month / pen.live
        if path.exists() and len(data := bytearray(path.read_bytes())) > 20:
            data[self.random.randrange(18, len(data))] ^= 1 << self.random.randrange(8)
            self.put(pen.live, bytes(data))


USUAL = ["grow"] * 8 + ["seal"] * 3 + ["publish", "haunt", "tear"]
COPIES = [*USUAL, "haunt", "haunt", "snapshot", "roll_back", "merge"]
ACCIDENTS = [*USUAL, "haunt", "snapshot", "merge", "drop_index", "damage_live", "damage_live"]


@pytest.mark.parametrize("steps", [USUAL, COPIES, ACCIDENTS], ids=["usual", "copies", "accidents"])
@pytest.mark.parametrize("seed", range(25))
def test_a_changing_store_reads_at_each_step_as_the_reference_reads_it(tmp_path, steps, seed, monkeypatch):
    monkeypatch.setattr(scan, "LEAST", 1)  # what is done is known by the list from the first question on
    tree = Tree(tmp_path / "store", seed)
    living = Lookup(str(tree.root))
    for number in range(40):
        tree.step(steps)
        want = reference.read_store(tree.root)

        assert said_by(living) == want, f"step {number} of {tree.log}"
        assert done_by(living) == done_in(want), f"step {number} of {tree.log}"
        if number % 4 == 0:
            assert said_anew(tree.root) == want, f"anew at step {number} of {tree.log}"
    living.close_store()


def test_a_long_scan_asks_the_index_once_for_all_that_are_done(tmp_path, living, monkeypatch):
    runs = 300
    uids = [reference.uid(f'{{"n":{number}}}') for number in range(runs)]
    for number, uid in enumerate(uids):
        text, ref, attempt = f'{{"n":{number}}}', f"train/{uid}", "ab" * 16
        events = [["created", ref, text, uid, "subfolder"], ["started", ref, 1, [], 0, "subfolder", None]]
        pen = Pen(number, itertools.count((number + 16) << 32, 1 << 16).__next__)
        attempt = pen.write(events[1], events[0])
        if number % 3:
            pen.write(["done", ref, attempt, 5, []])
        pen.frame(reference.SEAL, reference.pack({"frames": 3 if number % 3 else 2}))
        put(tmp_path, pen, "seg")
    living.refresh()
    asked: list[str] = []
    for name in ("status", "done"):
        real = getattr(Index, name)
        monkeypatch.setattr(Index, name, lambda *args, n=name, f=real: asked.append(n) or f(*args))

    assert [living.status(uid, "train", "") == "done" for uid in uids] == [bool(n % 3) for n in range(runs)]
    assert asked.count("done") == 1
    assert asked.index("done") == scan.LEAST - 1
    assert asked.count("status") == scan.LEAST + sum(1 for n in range(scan.LEAST, runs) if not n % 3)
    assert living.status(uids[1], "test", "") is living.status(uids[1], "train", "a") is None


def test_few_questions_fetch_no_list():
    """The list is fetched when the questions have cost what it costs, and that of a great store never."""
    for rows, first in ((64, 64), (1600, 101), (scan.ROWS_MAX, scan.ROWS_MAX // 16 + 1), (1 << 20, None)):
        known = scan.Scan()
        worth = [n for n in range(1, 20_000) if known.count("train", "", 0) and known.is_worth(rows)]

        assert worth[:1] == ([] if first is None else [first])


# Named cases


def put(root: Path, pen: Pen, kind: str = "open") -> Path:
    """Lay the pen's segment down as it is, under a name of the kind."""
    month = root / ".tracker" / "ledger" / MONTH
    month.mkdir(parents=True, exist_ok=True)
    name = (
        pen.live
        if kind == "open"
        else f"{pen.writer}-{pen.number}-{blake3(pen.data).hexdigest()[:16]}.{kind}"
    )
    (month / name).write_bytes(pen.data)
    return month / name


def pen_with(*notes: str, number: int = 0, sealed: bool = False) -> Pen:
    clock = itertools.count((1 << 20) + (number << 32), 1 << 16)
    pen = Pen(number, clock.__next__)
    for note in notes:
        pen.write(["noted", f"train/{UIDS[0]}", note])
    if sealed:
        pen.frame(reference.SEAL, reference.pack({"frames": len(notes) + 2}))
    return pen


def notes_said(said: Json) -> list[str]:
    return [note for run in said["runs"] for note in run["notes"]]


def test_a_root_without_a_store_has_no_runs_and_none_is_made(tmp_path, living):
    assert said_by(living) == {"format": 1, "runs": [], "rules": []}
    assert list(tmp_path.iterdir()) == []
    assert living.row(UIDS[0], "train", "") is None
    assert living.relpaths() == set()


def test_a_store_that_appears_is_seen_and_one_that_goes_is_forgotten(tmp_path, living):
    said_by(living)
    put(tmp_path, pen_with("a", sealed=True), "seg")
    assert notes_said(said_by(living)) == ["a"]
    shutil.rmtree(tmp_path / ".tracker")
    assert notes_said(said_by(living)) == []
    put(tmp_path, pen_with("b", number=1))
    assert notes_said(said_by(living)) == ["b"]


def test_a_reader_needs_no_index_where_nothing_is_sealed(tmp_path, living):
    put(tmp_path, pen_with("a"))

    assert notes_said(said_by(living)) == ["a"]
    assert not index_of(tmp_path).exists()


def test_the_index_spares_the_reading_of_what_it_covers(tmp_path, monkeypatch):
    put(tmp_path, pen_with("a", sealed=True), "seg")
    want = said_anew(tmp_path)
    read: list[Any] = []
    monkeypatch.setattr("tracker._store.segments.read_segment", lambda *args, **_: read.append(args))

    assert said_anew(tmp_path) == want
    assert read == []


@pytest.mark.parametrize(
    ("garbage", "is_held"),
    [
        (
            b"",
            False,
        ),  # under a reader SQLite waits for the lock of who holds the file, and then makes it anew
        *itertools.product([b"garbage" * 3000, b"SQLite format 3\0" + bytes(8000)], [False, True]),
    ],
)
def test_a_garbled_index_is_made_anew(tmp_path, living, garbage, is_held):
    put(tmp_path, pen_with("a", "b", sealed=True), "seg")
    want = said_by(living) if is_held else said_anew(tmp_path)
    index_of(tmp_path).write_bytes(garbage)
    put(tmp_path, pen_with("c", number=1, sealed=True), "seg")

    assert notes_said(said_by(living)) == [*notes_said(want), "c"]
    assert notes_said(said_anew(tmp_path)) == [*notes_said(want), "c"]


@pytest.mark.parametrize(
    "blob", [b"", b"\xc1", b"\x05", b"\x91", b"\x92\x01\x02", b"\x91\x92\x95\x01\xa2\xff\xfe\x01\x00\xa0"]
)
@pytest.mark.parametrize(
    "is_asked",
    [
        pytest.param(True, id="asked for"),
        pytest.param(False, id="added to"),
    ],
)
def test_a_row_of_the_index_that_does_not_read_costs_a_new_index(tmp_path, living, blob, is_asked):
    put(tmp_path, pen_with("a", sealed=True), "seg")
    said_by(living)
    living.close_store()
    with contextlib.closing(sqlite3.connect(index_of(tmp_path))) as db:
        db.execute("update histories set events = ?", (blob,))
        db.commit()
    if not is_asked:
        put(tmp_path, pen_with("b", number=1, sealed=True), "seg")

    assert said_by(living) == reference.read_store(tmp_path)
    assert said_anew(tmp_path) == reference.read_store(tmp_path)


@pytest.mark.parametrize("at", range(4))
def test_an_index_deleted_at_any_moment_changes_no_answer(tmp_path, living, at):
    for number in range(4):
        put(tmp_path, pen_with(f"{number}", number=number, sealed=True), "seg")
        if number == at:
            shutil.rmtree(index_of(tmp_path).parent, ignore_errors=True)

        assert notes_said(said_by(living)) == [f"{n}" for n in range(number + 1)]
        assert notes_said(said_anew(tmp_path)) == [f"{n}" for n in range(number + 1)]


def test_where_no_cache_can_be_written_the_index_lives_in_memory(tmp_path, living, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for cache in (tmp_path / "file" / "below a file", Path(os.devnull)):
        monkeypatch.setenv("TRACKER_CACHE", str(cache))
        put(tmp_path, pen_with("a", sealed=True), "seg")

        assert notes_said(said_by(living)) == ["a"]
        living.close_store()
    assert (tmp_path / "file").read_bytes() == b""


def test_the_index_lies_where_the_page_says(tmp_path):
    root = str(tmp_path / "résultats 1")
    base = {"TRACKER_CACHE": "/c", "XDG_CACHE_HOME": "/x"}
    folder = Path(index_path(root, base)).parent

    assert folder.parent == Path("/c")
    assert index_path(root, {**base, "TRACKER_CACHE": ""}).startswith("/x/tracker/")
    assert index_path(root, {}).startswith(os.path.expanduser("~/.cache/tracker/"))
    assert index_path(str(tmp_path), base) != index_path(root, base)
    assert blake3(os.fsencode(root)).hexdigest()[:16] in folder.name


def test_links_to_a_root_share_its_index(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    assert index_path(str(tmp_path / "link")) == index_path(str(tmp_path / "root"))


# Rolled back


def test_what_a_rolled_back_store_lacks_is_not_said(tmp_path, living):
    """The snapshot has the journal as it was; the index has read the sealed segment that it became."""
    pen = pen_with("a")
    live = put(tmp_path, pen)
    snapshot = live.read_bytes()
    pen.write(["noted", f"train/{UIDS[0]}", "b"])
    pen.frame(reference.SEAL, reference.pack({"frames": 4}))
    sealed = put(tmp_path, pen, "seg")
    live.unlink()
    assert notes_said(said_by(living)) == ["a", "b"]
    sealed.unlink()
    live.write_bytes(snapshot)

    assert notes_said(said_by(living)) == ["a"]
    assert notes_said(said_anew(tmp_path)) == ["a"]


def test_a_part_that_was_read_and_is_gone_is_not_said(tmp_path, living):
    part = put(tmp_path, pen_with("a"), "part")
    put(tmp_path, pen_with("b", number=1, sealed=True), "seg")
    assert notes_said(said_by(living)) == ["a", "b"]
    part.unlink()

    assert notes_said(said_by(living)) == ["b"]


def test_a_part_that_its_sealed_file_contradicts_is_hidden_whenever_it_came(tmp_path, living):
    """Two images of one machine: one was taken for dead, the other sealed."""
    put(tmp_path, pen_with("a", "only in the part"), "part")
    said_by(living)
    put(tmp_path, pen_with("a", sealed=True), "seg")

    assert said_by(living) == reference.read_store(tmp_path)


def test_a_part_that_comes_to_a_damaged_segment_counts(tmp_path, living):
    pen = pen_with("a", "b", sealed=True)
    sealed = put(tmp_path, pen, "seg")
    sealed.write_bytes(pen.data[:330] + bytes([pen.data[330] ^ 1]) + pen.data[331:])
    for kind in ("part", "open"):
        assert said_by(living) == reference.read_store(tmp_path)
        assert said_anew(tmp_path) == reference.read_store(tmp_path)
        put(tmp_path, pen_with("a", "b"), kind)

    assert said_by(living) == reference.read_store(tmp_path)
    assert said_anew(tmp_path) == reference.read_store(tmp_path)


def test_a_damaged_segment_that_is_mended_is_read_again(tmp_path, living):
    pen = pen_with("a", "b", sealed=True)
    sealed = put(tmp_path, pen, "seg")
    sealed.write_bytes(pen.data[:-40])
    assert said_by(living) == reference.read_store(tmp_path)
    assert not said_by(living)["runs"][0]["unproven"]
    sealed.write_bytes(pen.data)

    assert said_by(living) == reference.read_store(tmp_path)
    assert notes_said(said_by(living)) == ["a", "b"]


def test_a_second_sealed_file_of_one_writer_and_number_is_a_fork_that_both_tell(tmp_path, living):
    for notes in (("a", "b"), ("a", "c"), ("d",)):
        put(tmp_path, pen_with(*notes, sealed=True), "seg")

        assert said_by(living) == reference.read_store(tmp_path)
        assert said_anew(tmp_path) == reference.read_store(tmp_path)
    assert sorted(notes_said(said_by(living))) == ["a", "b", "c", "d"]


# Live journals


def test_a_journal_is_read_on_from_where_the_reader_was(tmp_path, living, monkeypatch):
    pen = pen_with("a")
    put(tmp_path, pen)
    said_by(living)
    starts: list[int] = []
    real = durable.read_from
    monkeypatch.setattr(
        durable, "read_from", lambda path, fd, start: starts.append(start) or real(path, fd, start)
    )
    before = len(pen.data)
    pen.write(["noted", f"train/{UIDS[0]}", "b"])
    put(tmp_path, pen)

    assert notes_said(said_by(living)) == ["a", "b"]
    assert starts == [before]


def test_a_journal_overwritten_in_place_by_another_of_its_size_is_read_again(tmp_path, living):
    put(tmp_path, pen_with("a"))
    said_by(living)
    put(tmp_path, pen_with("b"))

    assert notes_said(said_by(living)) == ["b"]


def test_the_clock_is_the_greatest_that_was_read(tmp_path, living):
    pens = [pen_with(*"abc", sealed=True), pen_with(*"abcdef", number=1)]
    put(tmp_path, pens[0], "seg")
    put(tmp_path, pens[1])
    said_by(living)

    clocks = [frame.clock for pen in pens for frame in reference.read_segment(pen.data, False).frames]
    assert living.clock() == max(clocks)


def test_the_owner_of_a_journal_is_the_one_that_its_newest_segment_names(tmp_path, living):
    put(tmp_path, pen_with("a"))
    said_by(living)
    pen = pen_with("a")

    assert living.opened_by(pen.writer).host == "h"
    assert living.opened_by("0" * 32) is None


def test_progress_is_told_in_bytes(tmp_path, living):
    sizes = [
        len(put(tmp_path, pen_with("a" * n, number=n, sealed=True), "seg").read_bytes()) for n in range(5)
    ]
    told: list[tuple[int, int]] = []
    living.progress = lambda done, total: told.append((done, total))
    said_by(living)

    assert told[-1] == (sum(sizes), sum(sizes))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_two_processes_that_fill_an_index_at_once_both_answer(tmp_path):
    for number in range(30):
        put(tmp_path, pen_with(*(f"{number} {n}" for n in range(20)), number=number, sealed=True), "seg")
    script = (
        "import sys; from tracker import Project; print(len(Project(sys.argv[1]).ledger.find()[0].notes))"
    )
    crowd = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]

    assert [process.communicate()[0].strip() for process in crowd] == ["600"] * 4
    assert len(notes_said(said_anew(tmp_path))) == 600


# Reading writes nothing


def listing_of(root: Path) -> dict[str, tuple[int, int, int]]:
    found = [root, *root.rglob("*")]
    return {str(path): (s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path in found for s in [path.lstat()]}


def test_no_look_up_writes_below_the_root(tmp_path):
    """Runs of a dead writer, a ghost and a torn tail are there to tempt."""
    put(tmp_path, pen_with("a", sealed=True), "seg")
    put(tmp_path, pen_with("a"), "open")
    torn = put(tmp_path, pen_with("b", number=1))
    torn.write_bytes(torn.read_bytes() + b"\x93\xc4")
    run = Project(tmp_path / "made").session("train", {"lr": 1}).start()
    run.path("f").write_text("x")
    run.done()
    run._ledger.close()
    for root in (tmp_path, tmp_path / "made"):
        before = listing_of(root)
        project = Project(root)
        project.find()
        project.find("train", params={"lr": 1}, status="done")
        project.has("train", {"lr": 1})
        project.session("train", {"lr": 1}).is_done()
        project.session("train", {"lr": 7}).status  # noqa: B018
        project.session("train").files  # noqa: B018
        project.sub("below").find()
        [session.path("f") for session in project.find()]
        [session.folder for session in project.find()]
        project.ledger.events()

        assert listing_of(root) == before


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path, living, monkeypatch):
    path = put(tmp_path, pen_with("a"))

    def refuse(*_: Any) -> bytes:
        raise durable.as_storage_error(OSError(5, "Input/output error"), str(path), "read")

    monkeypatch.setattr(durable, "read_from", refuse)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        said_by(living)
    assert caught.value.errno == 5
