"""The workload: processes that record runs through tracker's front door and note what they were promised.

Every kind of run is a function below; a writer draws from them.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from tools.powercut.naive import NAIVE, keep_objects
from tools.powercut.oracle import OracleWriter, PromisedFile

SHAPES = ("plain", "threads", "forked", "killed")
SIZES = (0, 1, 900, 4096, 5000, 70_000)
THREADS = 3


class Writer:
    """One thread's stream of runs, in a store that it may share with others."""

    def __init__(self, root: Path, durability: str, oracle: OracleWriter, name: str) -> None:
        import tracker  # the naive writers do without

        self.tracker = tracker
        project = tracker.Project(root, durability=tracker.Durability(durability))
        self.root = root
        self.projects = [project, project.sub("grid"), project.sub("deep").sub("er")]
        self.oracle = oracle
        self.name = name
        self.rng = random.Random(name)
        self.count = 0

    def record(self, count: int) -> None:
        """Record `count` runs, each of a random kind."""
        for _ in range(count):
            self.count += 1
            self.rng.choice(KINDS)(self)

    def params(self) -> dict[str, object]:
        """Give params that no other run has."""
        return {"writer": self.name, "n": self.count, "lr": self.rng.random()}

    def session(self, identifier: str = "train", *, project: Any = None, **options: Any) -> Any:
        """Open a session, if nothing else is said of a fresh run in some namespace and storage mode."""
        options.setdefault("params", self.params())
        options.setdefault("storage_mode", self.rng.choice(list(self.tracker.StorageMode)))
        return (project or self.rng.choice(self.projects)).session(identifier, **options)

    def write(self, path: Path) -> PromisedFile:
        """Fill a file with random bytes and say what they are."""
        data = self.rng.randbytes(self.rng.choice(SIZES))
        path.write_bytes(data)
        return PromisedFile(path.relative_to(self.root).as_posix(), blake3(data).hexdigest())

    def promise(
        self, session: Any, status: str, files: Sequence[PromisedFile], *, is_last: bool = True
    ) -> None:
        """Note what the call that just returned promises."""
        self.oracle.promise(files, ref=str(session.ref), status=status, is_last=is_last)


def done(w: Writer) -> None:
    s = w.session().start()
    files = [w.write(s.path(name)) for name in ("out.bin", "log.txt")[: w.rng.randint(0, 2)]]
    s.done()
    w.promise(s, "done", files)


def done_with_folders(w: Writer) -> None:
    s = w.session().start()
    files = [w.write(s.path("fold/0/out.bin")), w.write(s.path("fold/1/out.bin"))]
    s.done()
    w.promise(s, "done", files)


def done_with_attachments(w: Writer) -> None:
    """Attach files in a folder that the user made; one of them was written before the run began."""
    folder = w.root / "data" / f"{w.name}-{w.count}"
    folder.mkdir(parents=True)
    early = w.write(folder / "early.bin")
    s = w.session().start()
    late = w.write(folder / "late.bin")
    s.attach_files({"early.bin": folder / "early.bin", "late.bin": folder / "late.bin"})
    s.done()
    w.promise(s, "done", [early, late])


def done_without_start(w: Writer) -> None:
    s = w.session("search")
    s.done()
    w.promise(s, "done", [])


def done_without_params(w: Writer) -> None:
    s = w.session("note", params=None).start()
    files = [w.write(s.path("out.bin"))]
    s.done()
    w.promise(s, "done", files)


def done_in_with(w: Writer) -> None:
    with w.session() as s:
        files = [w.write(s.path("out.bin"))]
    w.promise(s, "done", files)


def failed(w: Writer) -> None:
    s = w.session().start()
    files = [w.write(s.path("partial.bin"))]
    s.error()
    w.promise(s, "error", files)


def failed_in_with(w: Writer) -> None:
    """Leave by an exception: its traceback becomes an object of the store."""
    session = w.session()
    try:
        with session as s:
            files = [w.write(s.path("partial.bin"))]
            raise ArithmeticError(f"run {w.count} diverged")
    except ArithmeticError:
        w.promise(session, "error", files)


def interrupted(w: Writer) -> None:
    """Be told to stop: the attempt ends, and the run is free."""
    s = w.session().start()
    files = [w.write(s.path("partial.bin"))]
    s.interrupt(signal.Signals.SIGTERM.name)
    w.promise(s, "interrupted", files)


def resumed(w: Writer) -> None:
    """Claim a run that was interrupted, give the claim back, and claim it again to the end."""
    s = w.session().start()
    first = w.write(s.path("first.bin"))
    s.interrupt()
    w.promise(s, "interrupted", [first], is_last=False)
    s.claim()
    s.release()
    assert s.try_start(), "nobody else works on this run"
    second = w.write(s.path("second.bin"))
    s.done()
    w.promise(s, "done", [second])


def retried(w: Writer) -> None:
    s = w.session().start()
    first = w.write(s.path("first.bin"))
    s.error()
    w.promise(s, "error", [first], is_last=False)
    s.start()
    second = w.write(s.path("second.bin"))
    s.done()
    w.promise(s, "done", [second])


def repeated(w: Writer) -> None:
    """Run the same params twice as two runs."""
    same = {
        "params": w.params(),
        "project": w.rng.choice(w.projects),
        "existing_run_strategy": w.tracker.ExistingRun.NEW,
    }
    for _ in range(2):
        s = w.session("train", **same).start()
        files = [w.write(s.path("out.bin"))]
        s.done()
        w.promise(s, "done", files)


def two_identifiers(w: Writer) -> None:
    """Run two kinds on the same params: they share a uid, and a folder if they have one."""
    same = {"params": w.params(), "project": w.rng.choice(w.projects)}
    for identifier in ("train", "eval"):
        s = w.session(identifier, **same).start()
        files = [w.write(s.path("out.bin"))]
        s.done()
        w.promise(s, "done", files)


def unfinished(w: Writer) -> None:
    """Never come to an end: nothing is promised."""
    s = w.session().start()
    w.write(s.path("out.bin"))


KINDS: tuple[Callable[[Writer], None], ...] = (
    done,
    done,
    done_with_folders,
    done_with_attachments,
    done_without_start,
    done_without_params,
    done_in_with,
    failed,
    failed_in_with,
    interrupted,
    resumed,
    retried,
    repeated,
    two_identifiers,
    unfinished,
)


def record_in_threads(make: Callable[[str], Writer], name: str, runs: int, threads: int) -> None:
    """Record runs in threads of this process, which share the store's ledger.

    Raises: RuntimeError if a thread ended in an exception.
    """
    finished: list[str] = []

    def work(thread_name: str) -> None:
        make(thread_name).record(runs // threads)
        finished.append(thread_name)

    workers = [threading.Thread(target=work, args=(f"{name}-{k}",)) for k in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if len(finished) < threads:
        raise RuntimeError("a writer thread failed")


def record_across_fork(make: Callable[[str], Writer], name: str, runs: int) -> None:
    """Record runs, fork in the middle, and go on in both: the child is a writer of its own.

    Raises: RuntimeError if the child failed.
    """
    writer = make(name)
    writer.record(runs // 3)
    child = os.fork()
    if child == 0:
        make(f"{name}-child").record(runs // 3)
        sys.exit(0)
    writer.record(runs // 3)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the forked writer failed")


def main() -> None:
    """Be one writer process."""
    parser = argparse.ArgumentParser(prog="tools.powercut.workload")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--oracle", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--writer", required=True, help="a durability, or a naive writer's name")
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    args = parser.parse_args()
    oracle = OracleWriter(args.oracle, args.log)

    def make(name: str) -> Writer:
        return Writer(args.root, args.writer, oracle, name)

    if args.writer in NAIVE:
        keep_objects(args.root, oracle, args.name, args.runs, NAIVE[args.writer])
    elif args.shape == "forked":
        record_across_fork(make, args.name, args.runs)
    else:
        record_in_threads(make, args.name, args.runs, THREADS if args.shape == "threads" else 1)
    if args.shape == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
