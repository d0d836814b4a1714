"""The journal loses nothing that it acknowledged, whatever the system refuses and whoever touches its file.

Every call of a row of appends, syncs and seals fails in turn, in several ways and for several calls on; the
reference reads what a kill would leave after each step. Spec: spec/log.md section 5.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3

from tracker._disk import durable, host
from tracker._model.event import Noted
from tracker._model.names import parse_segment_name
from tracker._store import journal as journals
from tracker._store.journal import SEGMENT_BYTES, Appended, Journal
from tracker.errors import StorageError
from tracker.terms import RunRef, WriterId

WRITER = WriterId("01a19b7ca6807000800000000000000a")
RUN = RunRef(f"t/{'0' * 32}")
NOVEMBER = 1_793_610_000_000 << 16  # 2026-11-02, as a hybrid clock


class System:
    """`os` as the writing half sees it: real calls, but for syncs; the chosen ones fail.

    `fault` is asked before each call that counts, with its number; it gives a way to fail, or None.
    """

    COUNTED = ("open", "write", "fsync", "fdatasync", "rename", "unlink", "mkdir", "stat", "close")

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.name = ""  # of the call that is asked about
        self.fault: Callable[[int], str | None] = lambda _: None
        self._cut_next = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return functools.partial(self._call, name, real) if name in self.COUNTED else real

    def _call(self, name: str, real: Any, *args: Any, **kwargs: Any) -> Any:
        self.name = name
        if name == "write":  # the traceback of a failure keeps this frame: it must not hold a view of memory
            args = (args[0], bytes(args[1]))
        way = self.fault(len(self.calls))
        self.calls.append(name)
        if self._cut_next:
            self._cut_next = False
            raise OSError(errno.ENOSPC, "no space left")
        if way == "short":
            if name == "write" and len(args[1]) > 1:
                self._cut_next = True
                return real(args[0], args[1][: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, "no space left")
        if way in ("EIO", "ENOSPC"):
            raise OSError(getattr(errno, way), way)
        result = None if name in ("fsync", "fdatasync") else real(*args, **kwargs)
        if way == "EIO after it was done":
            raise OSError(errno.EIO, way)
        return result


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    system = System()
    monkeypatch.setattr(durable, "os", system)
    monkeypatch.setattr(journals, "os", system)
    return system


class Bench:
    """A journal in a folder of its own, and what it acknowledged."""

    def __init__(self, root: Path, start: int = NOVEMBER) -> None:
        self.root = root
        self.ledger = root / ".tracker" / "ledger"
        self.ledger.mkdir(parents=True)
        self._fd = os.open(self.ledger, os.O_RDONLY)
        self._ticks = itertools.count(start)
        self.journal = Journal(self._fd, WRITER, host.this_process(), "0", lambda: next(self._ticks))
        self.acknowledged: list[str] = []
        self.refused: list[str] = []

    def append(self, text: str | None = None) -> Appended | None:
        note = text or f"note {len(self.acknowledged) + len(self.refused)}"
        try:
            appended = self.journal.append(lambda _: [Noted(RUN, note)])
        except StorageError:
            self.refused.append(note)
            return None
        self.acknowledged.append(note)
        return appended

    def try_to(self, step: str) -> None:
        if step == "append":
            self.append()
            return
        with contextlib.suppress(StorageError):
            getattr(self.journal, step)()

    def close(self) -> None:
        self.journal.close()
        os.close(self._fd)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.ledger.rglob("*") if path.is_file())

    def recorded(self) -> list[str]:
        """The notes that a reader finds now, as after kill -9."""
        runs = reference.read_store(self.root)["runs"]
        return [note for run in runs for note in run["notes"]]

    def findings(self) -> set[str]:
        ledger = reference.read_ledger(self.root)
        reference.read_events(ledger)
        return {finding.code for finding in ledger.findings}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def segments_of(bench: Bench) -> list[bytes]:
    return [path.read_bytes() for path in sorted(bench.ledger.rglob("*.seg"), key=lambda path: path.name)]


# Without faults


def test_a_frame_is_in_the_file_when_append_returns(bench):
    for number in range(3):
        appended = bench.append(f"n{number}")
        assert bench.recorded() == [f"n{n}" for n in range(number + 1)]
        assert (appended.seq, appended.events) == (number + 1, [Noted(RUN, f"n{number}")])

    assert bench.files() == [f"{WRITER}-0.open"]
    assert bench.findings() == set()


def test_nothing_is_made_before_the_first_event(bench):
    bench.journal.sync()
    assert bench.journal.seal() is None
    assert bench.journal.is_empty
    assert [*bench.ledger.iterdir()] == []


def test_a_sealed_segment_is_named_by_its_hash_and_counts_its_frames(bench):
    bench.append("a")
    bench.append("b")
    name = bench.journal.seal()

    assert bench.files() == [name]
    (data,) = segments_of(bench)
    assert parse_segment_name(name) == (WRITER, 0, blake3(data).hexdigest()[:16], "seg")
    frames = reference.read_segment(data, True, name).frames
    assert [frame.type for frame in frames] == [
        reference.OPEN,
        reference.EVENTS,
        reference.EVENTS,
        reference.SEAL,
    ]
    assert reference.unpack(frames[-1].payload) == {"frames": 4}
    assert bench.journal.sealed == [f"2026-11/{name}"]
    if shutil.which("b3sum"):
        said = subprocess.run(
            ["b3sum", "--no-names", bench.ledger / "2026-11" / name], capture_output=True, check=True
        )
        assert said.stdout.decode()[:16] in name


def test_seq_runs_on_over_segments_and_each_names_the_one_before(bench):
    for _ in range(3):
        bench.append()
        bench.journal.seal()
    opened = [
        reference.unpack(reference.read_segment(data, True).frames[0].payload) for data in segments_of(bench)
    ]

    assert [open_["segment"] for open_ in opened] == [0, 1, 2]
    assert [open_["previous"] for open_ in opened] == [None, *bench.files()[:2]]
    seqs = [frame.seq for data in segments_of(bench) for frame in reference.read_segment(data, True).frames]
    assert seqs == [*range(9)]


def test_a_segment_is_sealed_when_the_next_frame_would_pass_1_mib(bench):
    for _ in range(45):
        bench.append("x" * 60_000 + str(len(bench.acknowledged)))

    sizes = [len(data) for data in segments_of(bench)]
    assert len(sizes) == 2
    assert all(SEGMENT_BYTES * 7 // 8 < size <= SEGMENT_BYTES for size in sizes)
    assert bench.recorded() == bench.acknowledged
    assert bench.findings() == set()


def test_a_frame_longer_than_a_segment_is_written_alone(bench):
    bench.append("small")
    bench.append("x" * (SEGMENT_BYTES + 5))
    bench.append("y" * (SEGMENT_BYTES * 2))
    bench.append("small")

    assert bench.recorded() == bench.acknowledged
    assert bench.findings() == set()


def test_events_past_64_mib_are_refused_and_nothing_of_them_is_recorded(bench):
    bench.append("before")
    for _ in range(2):
        with pytest.raises(ValueError, match="a frame holds 67108864"):
            bench.journal.append(lambda _: [Noted(RUN, "x" * (1 << 26))])
    bench.append("after")
    bench.journal.seal()

    assert bench.recorded() == ["before", "after"]
    assert bench.findings() == set()


def test_events_past_64_mib_at_once_leave_no_file(bench):
    with pytest.raises(ValueError, match="record less at once"):
        bench.journal.append(lambda _: [Noted(RUN, "x" * (1 << 26))])

    assert bench.journal.is_empty
    assert bench.files() == []
    bench.append("after")
    assert bench.findings() == set()


def test_what_cannot_be_encoded_leaves_the_journal_as_it_was(bench):
    bench.append("before")
    for bad in ("\ud800", 2**64):
        with pytest.raises((UnicodeEncodeError, OverflowError)):
            bench.journal.append(lambda _, bad=bad: [Noted(RUN, bad)])
    bench.append("after")
    bench.journal.seal()

    assert bench.recorded() == ["before", "after"]
    assert bench.findings() == set()


def test_a_segment_lies_in_the_month_in_which_it_was_opened(tmp_path):
    bench = Bench(tmp_path, start=(1_796_083_199_999 << 16) - 3)  # the last moment of November
    bench.append("a")
    bench.append("b")
    bench.journal.seal()
    bench.journal._tick = itertools.count(1_796_083_200_000 << 16).__next__
    bench.append("c")
    bench.journal.seal()
    bench.close()

    assert [path.parent.name for path in sorted(bench.ledger.rglob("*.seg"))] == ["2026-11", "2026-12"]
    assert bench.recorded() == ["a", "b", "c"]
    assert bench.findings() == set()


# Whoever touches the live file


def replaced_by_an_older_copy(live: Path, old: bytes) -> None:
    copy = live.with_name("copy")
    copy.write_bytes(old)
    copy.replace(live)


def cut_short_in_place(live: Path, old: bytes) -> None:
    os.truncate(live, len(old))


def overwritten_in_place(live: Path, old: bytes) -> None:
    live.write_bytes(b"x" * 100)


def emptied(live: Path, old: bytes) -> None:
    os.truncate(live, 0)


def deleted(live: Path, old: bytes) -> None:
    live.unlink()


def made_longer(live: Path, old: bytes) -> None:
    with live.open("ab") as file:
        file.write(b"\0" * 50)


def renamed(live: Path, old: bytes) -> None:
    live.rename(live.with_name("conflict copy of it"))


def a_link_in_its_place(live: Path, old: bytes) -> None:
    live.unlink()
    live.symlink_to("elsewhere")


MEDDLERS = [
    replaced_by_an_older_copy,
    cut_short_in_place,
    overwritten_in_place,
    emptied,
    deleted,
    made_longer,
    renamed,
    a_link_in_its_place,
]


@pytest.mark.parametrize("is_synced", [True, False], ids=["then a durable point", "then appends and a seal"])
@pytest.mark.parametrize("meddle", MEDDLERS, ids=[meddle.__name__ for meddle in MEDDLERS])
def test_a_journal_touched_under_its_writer_loses_nothing(bench, meddle, is_synced):
    bench.append("a")
    live = bench.ledger / "2026-11" / f"{WRITER}-0.open"
    old = live.read_bytes()
    bench.append("b")
    meddle(live, old)
    if is_synced:
        assert not bench.journal.is_in_place()
        bench.journal.sync()
        assert bench.recorded() == ["a", "b"]
        assert bench.journal.is_empty, "it sealed from memory and goes on in the next segment"
    bench.append("c")
    bench.append("d")
    bench.journal.sync()
    bench.journal.seal()

    assert bench.recorded() == ["a", "b", "c", "d"]
    assert bench.findings() == set()
    assert [name for name in bench.files() if name.endswith(".open")] == []


def test_a_living_journal_is_in_place_and_stays_so(bench):
    bench.append("a")
    bench.journal.sync()
    bench.append("b")

    assert bench.journal.is_in_place()
    assert bench.files() == [f"{WRITER}-0.open"]


def test_a_tree_renamed_under_the_writer_loses_nothing(bench, tmp_path):
    bench.append("a")
    bench.root = tmp_path / "elsewhere"
    bench.root.mkdir()
    (tmp_path / ".tracker").rename(bench.root / ".tracker")
    bench.append("b")
    bench.journal.sync()
    bench.journal.seal()
    bench.append("c")

    assert bench.recorded() == ["a", "b", "c"]
    assert not (tmp_path / ".tracker").exists()


# Whatever the system refuses

STEPS = ["append", "append", "sync", "append", "seal", "append", "sync", "append", "seal", "append", "sync"]
WAYS = ["EIO", "ENOSPC", "short", "EIO after it was done"]


def count_calls(tmp_path: Path, system: System) -> list[str]:
    bench = Bench(tmp_path / "dry")
    system.calls.clear()
    for step in STEPS:
        bench.try_to(step)
    calls = [*system.calls]
    bench.close()
    return calls


def run_with_fault(root: Path, system: System, fault: Callable[[int], str | None]) -> Bench:
    """Do all steps under a fault, then heal the system, append once more and seal."""
    bench = Bench(root)
    system.calls.clear()
    system.fault = fault
    for step in STEPS:
        bench.try_to(step)
        seen = system.fault
        system.fault = lambda _: None
        recorded = bench.recorded()
        assert [note for note in bench.acknowledged if note not in recorded] == [], f"lost after {step}"
        assert bench.findings() <= {"torn"}
        system.fault = seen
    system.fault = lambda _: None
    assert bench.append("healed") is not None
    bench.journal.seal()
    bench.close()
    return bench


def judge(bench: Bench, allowed: set[str], *, may_stand: bool) -> None:
    """After healing: what was acknowledged, once and in order; what was refused only if none could tell."""
    recorded = bench.recorded()
    assert [note for note in recorded if note not in bench.refused] == bench.acknowledged
    assert may_stand or recorded == bench.acknowledged
    assert len(recorded) == len(set(recorded))
    assert bench.findings() <= allowed
    numbers = [parse_segment_name(name)[1] for name in bench.files() if name.endswith(".seg")]
    assert len(numbers) == len(set(numbers)), "two sealed files of one writer and number"


def try_faults(
    tmp_path: Path,
    system: System,
    faults: dict[str, Callable[[int], str | None]],
    *,
    allowed: set[str] = frozenset(),
    may_stand: bool = False,
) -> list[str]:
    """Run each; give those that break a promise, with the promise. `allowed` are findings that may stay."""
    broken = []
    for number, (name, fault) in enumerate(faults.items()):
        try:
            judge(run_with_fault(tmp_path / f"{number}", system, fault), allowed, may_stand=may_stand)
        except Exception as error:
            broken.append(f"{name}: {type(error).__name__}: {error}"[:200])
    return broken


@pytest.mark.parametrize("lasts", [1, 2, 3, 1000])
@pytest.mark.parametrize("way", WAYS)
def test_refused_calls_lose_nothing_and_the_next_append_works(tmp_path, system, way, lasts):
    calls = count_calls(tmp_path, system)
    faults = {
        f"call {at}, {name}": (
            lambda n, at=at: way if at <= n < at + lasts and (lasts == 1 or system.name != "stat") else None
        )
        for at, name in enumerate(calls)
    }

    assert set(calls) == set(System.COUNTED)
    assert len(faults) >= 45
    print(f"{way}, {lasts} calls: {len(faults)} cases, {dict(Counter(calls))}")
    # A journal that never held an event, and could not be unlinked, stays as a torn one.
    # Where the unlink is done and called refused, its OPEN frame is missed.
    left = {"torn", "gap"} if way == "EIO after it was done" else {"torn"}
    left = left if lasts > 3 else set()
    assert try_faults(tmp_path, system, faults, allowed=left, may_stand=way == "EIO after it was done") == []


@pytest.mark.parametrize("name", System.COUNTED)
def test_a_call_that_is_always_refused_loses_nothing(tmp_path, system, name):
    calls = count_calls(tmp_path, system)
    faults = {
        f"{way} from call {at} on": (
            lambda n, at=at, way=way: way if n >= at and system.name == name else None
        )
        for at in range(0, len(calls), 2)
        for way in WAYS
    }

    assert len(faults) >= 90
    # A frame that was wholly written stands, and so may one under a name that could not be looked for.
    assert try_faults(tmp_path, system, faults, may_stand=name in ("stat", "write")) == []


def test_a_disk_that_refuses_everything_for_a_while_loses_nothing(tmp_path, system):
    calls = count_calls(tmp_path, system)
    faults = {f"from call {at} on": (lambda n, at=at: "EIO" if n >= at else None) for at in range(len(calls))}

    # Who cannot look whether a name appeared does not know whether its events did.
    assert try_faults(tmp_path, system, faults, allowed={"torn"}, may_stand=True) == []


def test_what_is_appended_after_a_seal_of_unknown_outcome_is_not_hidden(bench, system):
    """The name is there, the sync of its folder and the look for it are refused; then all is well again."""
    bench.append("a")
    refused = False

    def fault(_: int) -> str | None:
        nonlocal refused
        refused = refused or (system.name == "open" and system.calls[-1:] == ["rename"])
        return "EIO" if refused else None

    system.fault = fault
    bench.try_to("seal")
    system.fault = lambda _: None
    assert refused
    bench.append("b")

    assert bench.recorded() == bench.acknowledged


def test_a_first_journal_that_is_left_behind_forks_nothing(bench, system):
    """The disk takes a part of the first write, OPEN whole in it, and then nothing, not even an unlink."""
    system.fault = lambda _: (
        "short" if "write" in (system.name, *system.calls) and system.name != "stat" else None
    )
    bench.append("a" * 5000)
    system.fault = lambda _: None
    assert bench.refused == ["a" * 5000]
    bench.append("b")
    bench.journal.seal()

    assert bench.recorded() == ["b"]
    assert bench.findings() <= {"torn"}


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_write_broken_off_by_ctrl_c_leaves_a_journal_that_goes_on(bench, system, before):
    for _ in range(before):
        bench.append()

    def fault(_: int) -> None:
        if system.name == "write":
            raise KeyboardInterrupt

    system.fault = fault
    with pytest.raises(KeyboardInterrupt):
        bench.append("broken off")
    system.fault = lambda _: None
    bench.append()
    bench.append()

    assert bench.recorded() == bench.acknowledged
    assert bench.findings() == set()
    bench.journal.seal()
    assert bench.recorded() == bench.acknowledged
    assert bench.findings() == set()
