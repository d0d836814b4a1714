"""Segment files: which are listed, which count, and what becomes of a dead writer's journal.

Spec: spec/layout.md section 2; spec/log.md sections 4 and 5.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reference
from blake3 import blake3

from tracker._disk import durable, host
from tracker._disk.host import Host
from tracker._model.event import Noted
from tracker._model.names import parse_segment_name
from tracker._store import segments
from tracker._store.journal import Journal
from tracker._store.root import check_format
from tracker._store.segments import DEAD_AFTER_S, Listing, SegmentFile, choose, list_segments
from tracker.errors import DamagedError, StorageError, VersionError
from tracker.terms import RunRef, WriterId

MONTH = "2026-11"
A, B = "01a19b7ca6807000800000000000000a", "01a19b7ca6807000800000000000000b"
RUN = RunRef(f"t/{'0' * 32}")
NOWHERE = Host(host="mira", boot="another boot", pidns=1, pid=4711, pid_start=98765, user="ada")
VECTORS = sorted((Path(reference.__file__).parent / "vectors" / "events").glob("*.txt"))


def segment(
    *notes: str, owner: Host = NOWHERE, writer: str = A, number: int = 0, sealed: bool = False
) -> bytes:
    opened = {"format": 1, "writer": writer, "segment": number, **msgspec.structs.asdict(owner)}
    opened |= {"version": "0", "time": 1, "previous": None}
    payloads = [(reference.OPEN, reference.pack(opened))]
    payloads += [(reference.EVENTS, reference.pack([["noted", RUN, note]])) for note in notes]
    if sealed:
        payloads.append((reference.SEAL, reference.pack({"frames": len(payloads) + 1})))
    data = reference.MAGIC
    for seq, (type_, payload) in enumerate(payloads):
        data += reference.make_frame(data, type_, seq, (1 + seq) << 16, payload)
    return data


def name_of(data: bytes, kind: str, writer: str = A, number: int = 0) -> str:
    return (
        f"{writer}-{number}.open"
        if kind == "open"
        else f"{writer}-{number}-{blake3(data).hexdigest()[:16]}.{kind}"
    )


class Folder:
    """A `ledger/` and its descriptor."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".tracker" / "ledger"
        self.path.mkdir(parents=True)
        self.fd = os.open(self.path, os.O_RDONLY)

    def put(self, data: bytes, kind: str = "open", *, month: str = MONTH, **named: Any) -> SegmentFile:
        file = name_of(data, kind, **named)
        self.write(f"{month}/{file}", data)
        name = parse_segment_name(file)
        assert name is not None
        return SegmentFile(month, file, name)

    def write(self, path: str, data: bytes = b"") -> Path:
        place = self.path / path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
        return place

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()
        )

    def notes(self) -> list[str]:
        return [note for run in reference.read_store(self.root)["runs"] for note in run["notes"]]

    def findings(self) -> list[str]:
        return [finding.code for finding in reference.read_ledger(self.root).findings]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    os.close(made.fd)


# Listing

OTHER_NAMES = [
    "2026-11/tmp-0123456789abcdef",
    f"2026-11/{A}-0.open (conflicted copy)",
    f"2026-11/{A.upper()}-0.open",
    f"2026-11/{A}-00.open",
    f"2026-11/{A}-0.seg",
    f"2026-11/{A}-0-0123456789abcdef.open",
    f"2026-11/{A}-0-0123456789ABCDEF.seg",
    f"2026-11/{A}-0-0123456789abcde.seg",
    "2026-11/.DS_Store",
    f"2026-11x/{A}-0.open",
    f"2026-13/{A}-0.open",
    f"notes/{A}-0.open",
]


def test_names_outside_the_grammar_are_ignored(ledger):
    for path in OTHER_NAMES:
        ledger.write(path, segment("x"))
    there = ledger.put(segment("a"))

    assert list_segments(ledger.fd) == [there]


def test_the_same_folders_are_months_for_the_reference(ledger):
    ledger.write(f"2026-13/{A}-0.open", segment("a"))
    assert len(list_segments(ledger.fd)) == len(reference.list_ledger(ledger.root))


def test_months_and_names_stand_in_order(ledger):
    places = [
        ledger.put(segment("a", writer=writer), writer=writer, month=month)
        for month, writer in ((month, writer) for month in ("2026-12", "2025-01") for writer in (B, A))
    ]
    assert list_segments(ledger.fd) == sorted(places)
    assert [f"ledger/{place.path}" for place in sorted(places)] == reference.list_ledger(ledger.root)


@pytest.mark.parametrize("is_network", [False, True])
def test_a_listing_sees_every_change_at_once(ledger, is_network):
    """Without a pause: the times of folders are coarser than the changes."""
    listing = Listing(is_network=is_network)
    assert not listing.refresh(ledger.fd)
    assert listing.files() == []
    for number in range(60):
        place = ledger.put(segment("a"), number=number)
        assert listing.refresh(ledger.fd)
        assert place in listing.files()
        if number % 3 == 0:
            (ledger.path / place.path).unlink()
            assert listing.refresh(ledger.fd)
            assert place not in listing.files()
        assert not listing.refresh(ledger.fd)


def test_a_listing_sees_months_come_and_go(ledger):
    listing = Listing(is_network=False)
    place = ledger.put(segment("a"), month="2026-10")
    assert listing.refresh(ledger.fd)
    (ledger.path / place.path).unlink()
    (ledger.path / "2026-10").rmdir()
    assert listing.refresh(ledger.fd)
    assert listing.files() == []
    ledger.put(segment("a"), month="2026-10")
    assert listing.refresh(ledger.fd)
    assert listing.files() == [place]


def test_a_settled_folder_is_not_listed_again(ledger, monkeypatch):
    listing = Listing(is_network=False)
    ledger.put(segment("a"))
    time.sleep(0.15)  # as old as a change that no later one can be mistaken for
    listing.refresh(ledger.fd)
    listed = []
    monkeypatch.setattr(durable, "list_files", lambda *args: listed.append(args))

    assert not listing.refresh(ledger.fd)
    assert listed == []
    listing.forget()
    with pytest.raises(TypeError):
        listing.refresh(ledger.fd)
    assert len(listed) == 1


def test_a_month_that_is_a_link_or_a_file_is_not_followed(ledger, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{A}-0.open").write_bytes(segment("a"))
    (ledger.path / "2026-10").symlink_to(elsewhere)
    (ledger.path / "2026-11").write_bytes(b"")

    assert list_segments(ledger.fd) == []
    assert reference.list_ledger(ledger.root) == []


ODD_FILES = {
    "a link": lambda place: place.symlink_to("elsewhere"),
    "a link to a segment": lambda place: place.symlink_to(f"{B}-0.open"),
    "a folder": lambda place: place.mkdir(),
}


@pytest.mark.parametrize("odd", ODD_FILES)
def test_what_is_no_file_is_no_segment(ledger, odd):
    there = ledger.put(segment("b", writer=B), writer=B)
    ODD_FILES[odd](ledger.path / MONTH / f"{A}-0.open")

    assert reference.list_ledger(ledger.root) == [f"ledger/{there.path}"]
    assert [one.place for one in segments.read_chosen(ledger.fd, list_segments(ledger.fd))] == [there]


def test_a_pipe_under_a_segments_name_is_no_segment(ledger):
    ledger.put(segment("b", writer=B), writer=B)
    os.mkfifo(ledger.path / MONTH / f"{A}-0.open")
    read = [*segments.read_chosen(ledger.fd, list_segments(ledger.fd))]

    assert [len(one.scan.frames) for one in read] == [2]


# Which files count


def frames_by_package(ledger: Folder) -> set[tuple[str, int, bytes, bool]]:
    return {
        (one.writer, frame.seq, frame.prefix, proven)
        for one in segments.read_chosen(ledger.fd, list_segments(ledger.fd))
        for frames, proven in ((one.scan.frames, True), (one.scan.salvaged, False))
        for frame in frames
    }


def counted(frames: set[tuple[str, int, bytes, bool]]) -> set[tuple[str, int, bytes, bool]]:
    """Each frame once: a proven copy stands for those that are not."""
    proven = {frame[:3] for frame in frames if frame[3]}
    return {frame for frame in frames if frame[3] or frame[:3] not in proven}


def frames_by_reference(root: Path) -> set[tuple[str, int, bytes, bool]]:
    return {
        (held.writer, held.frame.seq, held.frame.prefix, held.proven)
        for held in reference.read_ledger(root).frames
    }


SOUND = segment("a", "b", sealed=True)
DAMAGED = SOUND[:400] + bytes([SOUND[400] ^ 1]) + SOUND[401:]

KINDS = {
    "open alone": [("open", segment("a"))],
    "part and open": [("part", segment("a")), ("open", segment("a", "b"))],
    "two parts": [("part", segment("a")), ("part", segment("a", "b"))],
    "sealed hides open and part": [("seg", SOUND), ("open", segment("z")), ("part", segment("y"))],
    "damaged and open": [("damaged", DAMAGED), ("open", segment("a", "b"))],
    "damaged and sound": [("damaged", DAMAGED), ("seg", SOUND), ("open", segment("z"))],
    "two sealed": [("seg", SOUND), ("seg", segment("a", "c", sealed=True)), ("part", segment("a"))],
    "torn open": [("open", segment("a", "b")[:-3])],
    "damaged open": [("open", segment("a", "b", "c")[:420] + b"\xff" + segment("a", "b", "c")[421:])],
}


@pytest.mark.parametrize("name", KINDS)
def test_the_files_that_count_are_those_of_the_reference(ledger, name):
    for number, (kind, data) in enumerate(KINDS[name]):
        month = f"2026-{number + 1:02}"
        if kind == "damaged":
            ledger.write(f"{month}/{name_of(SOUND, 'seg')}", data)
        else:
            ledger.put(data, kind, month=month)

    assert counted(frames_by_package(ledger)) == frames_by_reference(ledger.root)


def test_choosing_splits_by_writer_and_number(ledger):
    sealed = ledger.put(SOUND, "seg")
    hidden = [ledger.put(segment("a")), ledger.put(segment("a"), "part", month="2026-12")]
    others = [ledger.put(segment("a"), number=1), ledger.put(segment("a", writer=B), writer=B)]
    counting, out = choose(list_segments(ledger.fd))

    assert set(counting) == {sealed, *others}
    assert set(out) == set(hidden)


def test_forked_frames_are_those_that_two_files_tell_differently(ledger):
    ledger.put(SOUND, "seg")
    ledger.put(segment("a", "c", sealed=True), "seg")
    read = [*segments.read_chosen(ledger.fd, list_segments(ledger.fd))]
    forked = segments.forked_frames(read)
    seqs = sorted(frame.seq for one in read for frame in one.scan.frames if frame.prefix in forked)

    assert seqs == [2, 2, 3, 3]
    assert ledger.findings() == ["fork", "fork"]


def test_a_file_that_went_away_meanwhile_is_passed_over(ledger):
    place = ledger.put(segment("a"))
    (ledger.path / place.path).unlink()

    assert segments.read_segment(ledger.fd, place) is None
    assert [*segments.read_chosen(ledger.fd, [place])] == []


@pytest.mark.parametrize("change", [{"format": 2}, {"format": 99, "version": "9.1"}])
def test_a_segment_of_a_newer_format_is_refused_by_name(ledger, change):
    opened = {"format": 1, "writer": A, "segment": 0, **msgspec.structs.asdict(NOWHERE)}
    opened |= {"version": "0", "time": 1, "previous": None, **change}
    data = reference.MAGIC + reference.make_frame(
        reference.MAGIC, reference.OPEN, 0, 1, reference.pack(opened)
    )
    place = ledger.put(data)
    with pytest.raises(VersionError) as caught:
        segments.read_segment(ledger.fd, place)

    assert caught.value.path == f"ledger/{place.path}"
    assert (caught.value.found, caught.value.ours) == (str(change["format"]), "1")
    with pytest.raises(reference.NewerFormat):
        reference.read_ledger(ledger.root)


# Dead writers


def reborn(owner: Host, **changes: Any) -> Host:
    return msgspec.structs.replace(owner, **changes)


ME = host.this_process()
GONE = reborn(ME, pid_start=(ME.pid_start or 0) + 1)  # this pid, of another process
DAY = DEAD_AFTER_S

DEATHS = {
    "its pid is another process": (GONE, 0, True),
    "its pid is gone": (reborn(ME, pid=2**22 + 5), 0, True),
    "it is this process": (ME, 0, False),
    "it is this process, silent for a week": (ME, 7 * DAY, False),
    "another boot, fresh": (reborn(ME, boot="another"), 0, False),
    "another boot, silent for less than a day": (reborn(ME, boot="another"), DAY - 60, False),
    "another boot, silent for a day": (reborn(ME, boot="another"), DAY + 60, True),
    "another pid namespace, fresh": (reborn(GONE, pidns=1), 0, False),
    "another pid namespace, silent for a day": (reborn(GONE, pidns=1), DAY + 60, True),
    "no boot id, fresh": (reborn(GONE, boot=None), 0, False),
    "no boot id, silent for a day": (reborn(GONE, boot=None), DAY + 60, True),
}


def publish(ledger: Folder, place: SegmentFile, silent_s: float = 0) -> bool:
    status = os.stat(ledger.path / place.path)
    return segments.publish_dead(ledger.fd, place, ME, status.st_mtime + silent_s)


@pytest.mark.parametrize("name", DEATHS)
def test_a_dead_writers_journal_is_published_and_a_living_ones_never(ledger, name):
    owner, silent_s, is_dead = DEATHS[name]
    data = segment("a", "b", owner=owner)
    place = ledger.put(data)

    assert publish(ledger, place, silent_s) is is_dead
    assert ledger.files() == [f"{MONTH}/{name_of(data, 'part' if is_dead else 'open')}"]
    assert ledger.notes() == ["a", "b"]
    assert ledger.findings() == []


def test_the_journal_of_a_process_that_was_killed_is_published(ledger):
    script = f"""
import os, signal, sys, itertools
from tracker._disk import host
from tracker._model.event import Noted
from tracker._store.journal import Journal
fd = os.open(sys.argv[1], os.O_RDONLY)
journal = Journal(fd, {A!r}, host.this_process(), "0", itertools.count(1793610000000 << 16).__next__)
for note in "abc":
    journal.append(lambda _: [Noted({RUN!r}, note)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, ledger.path], check=False)
    (place,) = list_segments(ledger.fd)
    assert place.name.kind == "open"

    assert publish(ledger, place)
    assert [file.name.kind for file in list_segments(ledger.fd)] == ["part"]
    assert ledger.notes() == ["a", "b", "c"]


def test_a_torn_tail_is_left_out_of_the_part(ledger):
    whole = segment("a", "b", owner=GONE)
    frame = len(whole) - len(segment("a", owner=GONE))
    for cut in range(1, frame):
        place = ledger.put(whole[:-cut])
        assert publish(ledger, place)
    part = name_of(segment("a", owner=GONE), "part")

    assert ledger.files() == [f"{MONTH}/{part}"]
    assert ledger.notes() == ["a"]


def test_a_damaged_journal_is_left_as_it_lies(ledger):
    whole = segment("a", "b", "c", owner=GONE)
    at = len(segment("a", owner=GONE)) + 50
    place = ledger.put(whole[:at] + b"\xff" + whole[at + 1 :])

    assert not publish(ledger, place, 30 * DAY)
    assert ledger.files() == [place.path]
    assert ledger.notes() == ["a", "c"]


def test_an_empty_journal_goes_after_a_day_without_a_part(ledger):
    for data in (b"", reference.MAGIC[:5], reference.MAGIC, bytes(4096), segment(owner=GONE)[:100]):
        place = ledger.put(data)

        assert not publish(ledger, place)
        assert publish(ledger, place, DAY + 60)
        assert ledger.files() == []


def test_a_journal_of_another_magic_is_left_as_it_lies(ledger):
    place = ledger.put(b"\x89PNG" + bytes(range(256)))
    publish(ledger, place, 30 * DAY)

    assert ledger.findings() == ["damaged"]
    assert ledger.files() == [place.path]


def test_two_that_publish_at_once_write_one_part(ledger):
    data = segment(*"abcdefgh", owner=GONE)
    place = ledger.put(data)
    gate, answers = threading.Barrier(8), []

    def one() -> None:
        gate.wait()
        answers.append(segments.publish_dead(ledger.fd, place, ME, time.time()))

    crowd = [threading.Thread(target=one) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert answers == [True] * 8
    assert ledger.files() == [f"{MONTH}/{name_of(data, 'part')}"]
    assert (ledger.path / ledger.files()[0]).read_bytes() == data


def test_publishing_again_what_was_published_changes_nothing(ledger):
    data = segment("a", owner=GONE)
    place = ledger.put(data)
    part = ledger.put(data, "part")

    assert publish(ledger, place)
    assert ledger.files() == [part.path]
    assert segments.publish_dead(ledger.fd, place, ME, time.time()), "it is gone already"


def test_a_refusal_while_publishing_leaves_the_journal(ledger, monkeypatch):
    place = ledger.put(segment("a", owner=GONE))

    def refuse(*_: Any, **__: Any) -> None:
        raise StorageError(28, "x", "publish", "no space", "free some")

    monkeypatch.setattr(durable, "publish", refuse)
    with pytest.raises(StorageError):
        publish(ledger, place)
    assert ledger.files() == [place.path]


# Ghosts


def test_ghosts_of_a_sound_segment_are_unlinked(ledger):
    sealed = ledger.put(SOUND, "seg")
    ghosts = [
        ledger.put(segment("a")),
        ledger.put(segment("a"), "part"),
        ledger.put(segment("a"), month="2025-01"),
    ]
    other = ledger.put(segment("a"), number=1)

    assert segments.unlink_ghosts(ledger.fd, list_segments(ledger.fd)) == len(ghosts)
    assert ledger.files() == sorted([sealed.path, other.path])


def test_what_a_damaged_segment_hides_is_kept(ledger):
    ledger.write(f"{MONTH}/{name_of(SOUND, 'seg')}", DAMAGED)
    live = ledger.put(segment("a", "b"))

    assert segments.unlink_ghosts(ledger.fd, list_segments(ledger.fd)) == 0
    assert live.path in ledger.files()


# FORMAT

FORMATS = [
    (b"tracker 1\n", None),
    (b"", None),
    (b"track", None),
    (b"tracker 1", None),
    (bytes(10), None),
    (bytes(4096), None),
    (b"tracker 2\n", VersionError),
    (b"tracker 10\n", VersionError),
    (b"tracker 1\r\n", VersionError),
    (b"tracker 1\nx", VersionError),
    (b"hello", DamagedError),
    (b"\xff\xfe", DamagedError),
    (b"tracker\x001\n", DamagedError),
]


@pytest.mark.parametrize(("data", "refusal"), FORMATS)
def test_format_is_accepted_or_refused_as_by_the_reference(tmp_path, data, refusal):
    (tmp_path / ".tracker").mkdir()
    (tmp_path / ".tracker" / "FORMAT").write_bytes(data)
    try:
        reference.check_format(tmp_path)
    except reference.NewerFormat:
        assert refusal is not None
    else:
        assert refusal is None

    if refusal is None:
        check_format(data, "FORMAT")
        return
    with pytest.raises((VersionError, DamagedError)) as caught:
        check_format(data, "x/FORMAT")
    assert isinstance(caught.value, refusal)
    assert caught.value.path == "x/FORMAT"
    assert caught.value.cure


# With the journal


def test_a_journal_and_a_reader_agree_at_every_step(ledger):
    ticks = iter(range(1_793_610_000_000 << 16, (1_793_610_000_000 << 16) + 1000))
    journal = Journal(ledger.fd, WriterId(A), ME, "0", ticks.__next__)
    for number in range(6):
        journal.append(lambda _, number=number: [Noted(RUN, f"{number}")])
        if number % 2:
            journal.seal()
        assert frames_by_package(ledger) == frames_by_reference(ledger.root)
    journal.close()


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_the_stores_of_the_vectors_have_the_frames_of_the_reference(ledger, path):
    for section in path.read_text(encoding="utf-8").split("\n\n"):
        head, _, body = section.partition("\n")
        if head.startswith("file: .tracker/ledger/"):
            ledger.write(head.removeprefix("file: .tracker/ledger/"), bytes.fromhex(body))
    try:
        want = frames_by_reference(ledger.root)
    except reference.NewerFormat:
        with pytest.raises(VersionError):
            frames_by_package(ledger)
        return

    assert counted(frames_by_package(ledger)) == want
