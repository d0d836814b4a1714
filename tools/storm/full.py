"""full: a disk without room, at each stage of a run and under each durability; and a limit of file size.

On a small tmpfs of its own, in a private mount namespace: a ballast leaves some pages or inodes, a stage of
a run is taken, and what is refused must come as one StorageError that says where and what to do. The
ballast goes, the same process takes the stage again and ends the run. The judges: what was acknowledged
before is there while the disk is full and after, to the reference and to a fresh process; nothing is
damaged.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tracker.ledger as ledger
from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import BrokenError, ask, use_cache
from tracker import Durability, Project, Session, Status, StorageError

PAGE = 4096
SIZE_BYTES = 4 << 20
INODES = 3_000
PAGES_LEFT = range(9)
INODES_LEFT = range(7)
STAGES = ("make", "start", "path", "attach", "done", "error", "close")


class Case(NamedTuple):
    """How much is left of what, at which stage."""

    durability: str
    stage: str
    what: str
    left: int
    seals: bool

    def __str__(self) -> str:
        how = "sealing" if self.seals else "not sealing"
        return f"{self.stage} under {self.durability}, {how}, with {self.left} {self.what} left"


def all_cases() -> list[Case]:
    """Every stage, durability and way to seal, with each small number of pages or inodes left."""
    return [
        Case(durability, stage, what, left, seals)
        for durability in Durability
        for stage in STAGES
        for what, lefts in (("pages", PAGES_LEFT), ("inodes", INODES_LEFT))
        for left in lefts
        for seals in (False, True)
    ]


def why_not() -> str:
    """Why this cannot be tried here; "" if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a tmpfs needs Linux and root"
    try:
        ask(_try_to_mount, Path(tempfile.gettempdir()))
    except BrokenError as broken:
        return f"no tmpfs can be mounted: {str(broken).strip().splitlines()[-1]}"
    return ""


def storm(folder: Path, count: int | None, seed: int) -> Tally:
    """Try every case, or `count` of them taken at random, and the limits of file size."""
    tally = Tally("full", seed)
    _add(tally, ask(_limit_and_try, folder / "limited"))
    if skipped := why_not():
        tally.figures["skipped"] = skipped
        return tally
    luck = random.Random(seed)
    cases = all_cases()
    tally.figures["cases there are"] = len(cases)
    chosen = cases if count is None else luck.sample(cases, min(count, len(cases)))
    luck.shuffle(chosen)
    for start in range(0, len(chosen), 60):
        _add(tally, ask(_fill_and_try, folder, chosen[start : start + 60], timeout_s=600))
    return tally


def _add(tally: Tally, told: tuple[int, int, list[str]]) -> None:
    cases, refused, failures = told
    tally.cases += cases
    tally.add("steps refused", refused)
    for failure in failures:
        tally.fail(failure)


def _try_to_mount(folder: Path) -> None:
    enter_private_mounts()
    mount_tmpfs(folder, SIZE_BYTES, INODES)


_LIBC = ctypes.CDLL(None, use_errno=True)


def enter_private_mounts() -> None:
    """Give this process mounts of its own, which end with it. Raises: OSError without root."""
    clone_newns, ms_rec_private = 0x20000, 0x4000 | 1 << 18
    _check(_LIBC.unshare(clone_newns), "a private mount namespace")
    _check(
        _LIBC.mount(b"none", b"/", None, ctypes.c_ulong(ms_rec_private), None), "a private mount namespace"
    )


def mount_tmpfs(folder: Path, size_bytes: int, inodes: int) -> None:
    """Mount an empty tmpfs of this size. Raises: OSError without root."""
    options = f"size={size_bytes},nr_inodes={inodes},mode=755".encode()
    _check(_LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options), "a tmpfs")


def _check(failed: int, what: str) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Disk:
    """The small disk, and the ballast that fills it."""

    def __init__(self, folder: Path) -> None:
        self.ballast = folder / "ballast"
        self.folder = folder

    @contextmanager
    def with_left(self, what: str, left: int) -> Iterator[None]:
        """Leave so many pages or inodes for the length of a `with`."""
        self.ballast.mkdir()
        try:
            (self._fill_pages if what == "pages" else self._fill_inodes)(left)
            yield
        finally:
            self.empty()

    def _fill_pages(self, left: int) -> None:
        free = os.statvfs(self.folder).f_bfree - left
        fd = os.open(self.ballast / "pages", os.O_CREAT | os.O_WRONLY)
        os.posix_fallocate(fd, 0, free * PAGE)
        os.close(fd)

    def _fill_inodes(self, left: int) -> None:
        for number in range(os.statvfs(self.folder).f_ffree - left):
            (self.ballast / str(number)).touch()

    def empty(self) -> None:
        if self.ballast.exists():
            for file in self.ballast.iterdir():
                file.unlink()
            self.ballast.rmdir()


class Trier:
    """One process on the small disk, which takes the cases one after another."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.disk = Disk(folder)
        self.folder = folder
        self.cache = cache
        self.promised: dict[str, str] = {}
        self.refused = 0
        self.failures: list[str] = []
        self.number = 0
        self.root = folder / "root"

    def attempt(self, case: Case) -> None:
        """Take a case to its end; note what was not as promised."""
        self.number += 1
        if case.stage == "make":
            self.root = self.folder / f"root-{self.number}"
            self.promised = {}
        ledger.SEAL_AGAIN_S = 0.0 if case.seals else 3600.0
        project = Project(self.root, durability=Durability(case.durability), provenance=False)
        session = project.session("train", params={"number": self.number})
        steps = _steps(project, session, case.stage)
        at = _STAGE_AT[case.stage]
        for step in steps[:at]:
            step()
        with self.disk.with_left(case.what, case.left):
            went = self._take(steps[at], case)
            self._judge(case, "while the disk is full")
        if not went:
            self._again(steps[at], case)
        for step in steps[at + 1 :]:
            step()
        self.promised[session.ref] = "error" if case.stage == "error" else "done"
        self._judge(case, "afterwards")
        if session.status is not Status(self.promised[session.ref]):
            self.failures.append(f"{case}: {session.ref} is {session.status} to its own process")

    def _take(self, step: Callable[[], object], case: Case) -> bool:
        try:
            step()
        except StorageError as refusal:
            self.refused += 1
            self.failures += [f"{case}: {fault}" for fault in _iter_faults_of_words(refusal)]
            return False
        return True

    def _again(self, step: Callable[[], object], case: Case) -> None:
        try:
            step()
        except StorageError as refusal:
            self.failures.append(f"{case}: refused again with room enough: {refusal}")

    def _judge(self, case: Case, when: str) -> None:
        if not (self.root / ".tracker").is_dir():
            return
        state = judge.reference_state(self.root)
        runs = judge.runs_by_ref(state)
        for ref, word in self.promised.items():
            if ref not in runs or runs[ref]["status"] != word:
                self.failures.append(f"{case}: {when} {ref}, acknowledged as {word}, is not")
        self.failures += [f"{case}: {when} {text}" for text in judge.reference_damage(self.root)]
        self.failures += [
            f"{case}: {when} other bytes than the name says: {p}" for p in judge.iter_wrong_bytes(self.root)
        ]
        if self.number % 10 == 0:
            # One index on a disk with room, and one on the disk that is full.
            for cache in (self.cache, self.folder / "cache"):
                self.failures += [
                    f"{case}: {when} {one}" for one in judge.iter_disagreements(self.root, cache, state)
                ]


_STAGE_AT = {"make": 0, "start": 0, "path": 1, "attach": 2, "done": 3, "error": 3, "close": 4}


def _steps(project: Project, session: Session, stage: str) -> list[Callable[[], object]]:
    """A run as five steps, each of which may be taken again."""

    def write() -> None:
        path = session.path("sub/out.bin")
        if stage != "path":
            path.write_bytes(b"x" * 5_000)

    def end() -> None:
        if stage == "error":
            session.error(ValueError("diverged " * 20 + session.uid))  # an object of its own for each
        else:
            session.done()

    return [
        session.start if stage != "make" else lambda: session.attach_files({}),
        write,
        lambda: session.attach_files({"me": __file__}),
        end,
        project.ledger.close if stage == "close" else lambda: None,
    ]


def _iter_faults_of_words(refusal: StorageError) -> Iterator[str]:
    text = str(refusal)
    if refusal.errno not in (errno.ENOSPC, errno.EFBIG) or not (
        refusal.path and refusal.cure and refusal.doing
    ):
        yield f"a StorageError lacks a field: {refusal!r}"
    if "\n" in text or refusal.cure not in text or refusal.path not in text:
        yield f"a StorageError does not say where and what to do: {text}"


def _fill_and_try(folder: Path, cases: list[Case]) -> tuple[int, int, list[str]]:
    warnings.simplefilter("ignore")  # a manifest that was not written is a warning
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    enter_private_mounts()
    mount_tmpfs(disk, SIZE_BYTES, INODES)
    use_cache(folder / "cache")
    trier = Trier(disk, folder / "cache")
    for case in cases:
        try:
            trier.attempt(case)
        except BaseException:
            trier.failures.append(f"{case}: {traceback.format_exc()}")
            trier.disk.empty()
    return len(cases), trier.refused, trier.failures


def _limit_and_try(folder: Path) -> tuple[int, int, list[str]]:
    """Have writes end short and then fail at each of many file sizes, by RLIMIT_FSIZE."""
    folder.mkdir()
    use_cache(folder / "cache")
    trier = Trier(folder, folder / "cache")
    cases = 0
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for durability in Durability:
        ledger.SEAL_AGAIN_S = 3600.0
        project = Project(trier.root, durability=durability, provenance=False)
        for more in range(0, 900, 45):
            session = project.session("train", params={"limit": more, "durability": durability}).start()
            case = Case(durability, "done", "bytes of RLIMIT_FSIZE", more, seals=False)
            size = max(path.stat().st_size for path in trier.root.glob(".tracker/ledger/*/*.open"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, hard))
            try:
                went = trier._take(session.done, case)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            if not went:
                trier._again(session.done, case)
            trier.promised[session.ref] = "done"
            trier._judge(case, "afterwards")
            cases += 1
    project.ledger.close()
    trier.failures += judge.iter_disagreements(trier.root, folder / "fresh")
    return cases, trier.refused, trier.failures
