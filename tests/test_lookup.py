"""Look-ups are current, and say what the reference says, whatever happens to files and index.

Spec: spec/layout.md section 7; spec/log.md section 4, "Which files count".
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3

from tracker import DamagedError, Project, StorageError, VersionError
from tracker._model.fold import run_as_json
from tracker._store.index import Filter
from tracker._store.index import index_path
from tracker.lookup import HIT_AGE_S, Lookup

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


POSITIONS = ("unknown-kinds",)


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
        self.writer = f"01a19b7ca680700080000000000000{number:02x}"
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
        self.pens = [Pen(number, self.tick) for number in range(3)]
        self.attempts: list[tuple[str, str]] = []
        self.snapshots: list[Path] = []
        self.ghosts: list[tuple[str, bytes]] = []
        self.log: list[str] = []

    def tick(self) -> int:
        self.now += self.random.randint(1, 3) << 16
        return self.now

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
        kind = pick(["started", "done", "noted", "created", "attached"])
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
            self.pens = [Pen(self.random.randrange(3, 200), self.tick) for _ in self.pens]

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

    def damage_sealed(self, _: Pen) -> None:
        sealed = sorted(self.month.glob("*.seg"))
        if sealed:
            path = self.random.choice(sealed)
            data = bytearray(path.read_bytes())
            data[self.random.randrange(18, len(data))] ^= 1 << self.random.randrange(8)
            self.put(path.name, bytes(data))


USUAL = ["grow"] * 8 + ["seal"] * 3 + ["publish", "haunt", "tear"]
COPIES = [*USUAL, "haunt", "haunt", "snapshot", "roll_back", "merge"]
ACCIDENTS = [*COPIES, "drop_index", "damage_live"]


@pytest.mark.parametrize("steps", [USUAL, COPIES, ACCIDENTS], ids=["usual", "copies", "accidents"])
@pytest.mark.parametrize("seed", range(25))
def test_a_changing_store_reads_at_each_step_as_the_reference_reads_it(tmp_path, steps, seed):
    tree = Tree(tmp_path / "store", seed)
    living = Lookup(str(tree.root))
    for number in range(40):
        tree.step(steps)
        want = reference.read_store(tree.root)

        assert said_by(living) == want, f"step {number} of {tree.log}"
        if number % 4 == 0:
            assert said_anew(tree.root) == want, f"anew at step {number} of {tree.log}"
    living.close_store()
