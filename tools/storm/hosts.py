"""hosts: random schedules of two or three copies of a tree on hosts of their own, and a model of them.

Writers start, end and are killed in each copy; copies are pushed to each other by rsync (whole, in part, cut
off) and by `tracker merge`, stale ones among them; then all is exchanged until nothing changes. The judges:
every copy has the same state by the reference, and it is what the model says: nothing that was sealed is
lost, nothing is there that nobody made, each run is what its attempts make of it. Where only `tracker merge`
copied, no byte of a user's file is lost either, and merging once more does nothing.

The writers of a schedule are ledgers of one process, which answer for hosts and processes that are none.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from tools.storm import judge
from tools.storm.model import Attempt, Model
from tools.storm.stand_ins import World, Writer
from tools.storm.tally import Tally
from tools.storm.ward import Acks, begin, read_acks, use_cache
from tracker import ClaimedError, Session, StateError, TrackerWarning
from tracker._model.fold import run_as_json
from tracker._store.index import Filter
from tracker.ledger import Ledger
from tracker.merge import Kind, merge

PROCESSES = 4
"""More than processors: most of a schedule is waiting for rsync."""

STEPS = (8, 26)
PARAMS = 5
ROUNDS_MAX = 8
HOWS = ("merge", "merge", "mixed", "mixed", "rsync")


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Play `count` schedules in a few processes and count what they did."""
    tally = Tally("hosts", seed)
    processes = [
        begin(_play_all, folder / f"p{place}", range(place, count, PROCESSES), seed)
        for place in range(PROCESSES)
    ]
    for process in processes:
        process.join()
        tally.expect(process.exitcode == 0, f"a process ended with {process.exitcode}")
    lines = [line for place in range(PROCESSES) for line in read_acks(folder / f"p{place}" / "acks")]
    for line in lines:
        tally.cases += 1
        for figure, number in line["figures"].items():
            tally.add(figure, number)
        for failure in line["failures"]:
            tally.fail(f"schedule {line['number']} ({line['how']}): {failure}")
    tally.expect(len(lines) == count, f"{len(lines)} schedules of {count} were played")
    return tally


def _play_all(folder: Path, numbers: range, seed: int) -> None:
    folder.mkdir()
    use_cache(Path(os.devnull))
    warnings.simplefilter("ignore", TrackerWarning)
    if shutil.which("rsync") is None:
        raise AssertionError("rsync is not here")
    acks = Acks(folder / "acks")
    for number in numbers:
        place = folder / str(number)
        schedule = Schedule(place, random.Random(f"{seed}-{number}"))
        try:
            failures = list(schedule.play())
        except Exception:
            failures = [traceback.format_exc()]
        finally:
            schedule.leave()
        acks.say("played", number=number, how=schedule.how, failures=failures, figures=schedule.figures())
        if not failures:
            shutil.rmtree(place, ignore_errors=True)


class Schedule:
    """One random history of some copies."""

    def __init__(self, folder: Path, luck: random.Random) -> None:
        folder.mkdir()
        self.folder = folder
        self.luck = luck
        self.how = luck.choice(HOWS)
        self.world = World()
        self.model = Model()
        self.roots = [folder / name for name in ("a", "b", "c")[: luck.choice((2, 2, 3))]]
        self.stale: list[Path] = []
        self.writers = [
            Writer(self.world, root) for root in self.roots for _ in range(luck.choice((1, 1, 2)))
        ]
        self.counts: dict[str, int] = {}

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def figures(self) -> dict[str, int]:
        """What was done, and how much of it was acknowledged as sealed."""
        return self.counts | {
            "attempts": len(self.model.attempts),
            "attempts acknowledged as sealed": self.model.acknowledged,
        }

    def leave(self) -> None:
        """Let go of all ledgers."""
        for writer in self.writers:
            writer.die()

    def play(self) -> Iterator[str]:
        """Do it all, and tell what does not hold."""
        for _ in range(self.luck.randrange(*STEPS)):
            self.luck.choice(_STEPS)(self)
        for place, writer in enumerate(self.writers):
            if self.luck.random() < 0.25:
                self._kill(place)
            else:
                self._close(writer)
        rounds = self._exchange_all()
        if rounds is None:
            yield f"something still changes after {ROUNDS_MAX} rounds"
        yield from self._judge()

    # What writers do

    def _noted(self, writer: Writer) -> None:
        if writer.has_sealed():
            self.model.seal(str(writer.ledger.writer))

    def start(self) -> None:
        """Begin a run, as a sweep would: one that is done is mostly left alone."""
        writer = self.luck.choice(self.writers)
        writer.at_work()
        session = writer.project.session("train", {"n": self.luck.randrange(PARAMS)})
        if session.is_done() and self.luck.random() < 0.6:
            return
        try:
            session.start()
        except (StateError, ClaimedError):
            self.count("starts refused")
            return
        run = writer.ledger.run(session.ref)
        assert run is not None, "it was just started"
        mine = max(
            (a for a in run.attempts if a.writer == writer.ledger.writer), key=lambda a: int(a.id[33:])
        )
        self.model.attempts[mine.id] = Attempt(
            session.ref, str(mine.writer), [str(i) for i in mine.supersedes]
        )
        writer.running.append(session)
        self._noted(writer)

    def end(self) -> None:
        """End a run that is running: mostly well, and with one of a few contents."""
        busy = [writer for writer in self.writers if writer.running]
        if not busy:
            return
        writer = self.luck.choice(busy)
        writer.at_work()
        session = writer.running.pop(self.luck.randrange(len(writer.running)))
        attempt = self._attempt_of(writer, session)
        word = self.luck.choice(("done", "done", "done", "error", "interrupted"))
        if word == "done" or self.luck.random() < 0.5:
            data = self.luck.choice((b"one", b"two", self.luck.randbytes(9)))
            path = session.path("out.bin")
            path.write_bytes(data)
            self.model.write(writer.tree.name, path.relative_to(writer.tree).as_posix(), data)
            attempt.digest = blake3(data).hexdigest()
        {"done": session.done, "error": session.error, "interrupted": session.interrupt}[word]()
        attempt.statuses.append(word)
        self._noted(writer)

    def _attempt_of(self, writer: Writer, session: Session) -> Attempt:
        mine = (a for a in self.model.attempts.values() if a.ref == session.ref)
        return [a for a in mine if a.writer == str(writer.ledger.writer)][-1]

    def seal(self) -> None:
        """Have one writer seal, as its timer does."""
        writer = self.luck.choice(self.writers)
        writer.at_work()
        if writer.ledger.writer is not None:
            writer.ledger.seal()
            self.model.seal(str(writer.ledger.writer))
            writer.has_sealed()

    def restart(self) -> None:
        """End one writer, well or by SIGKILL, and begin another in its place."""
        place = self.luck.randrange(len(self.writers))
        if self.luck.random() < 0.5:
            self._kill(place)
        else:
            self._close(self.writers[place])
        self.writers[place] = Writer(self.world, self.writers[place].tree)

    def _kill(self, place: int) -> None:
        writer = self.writers[place]
        if writer.ledger.writer is not None:
            self.count("writers killed")
            self.model.kill(str(writer.ledger.writer))
        writer.die()

    def _close(self, writer: Writer) -> None:
        if writer.ledger.writer is not None:
            name = str(writer.ledger.writer)
            writer.end()
            self.model.seal(name)

    # What is copied

    def copy(self) -> None:
        """Push one copy, now and then a stale one, to another."""
        target = self.luck.choice(self.roots)
        source = self.luck.choice([root for root in self.roots + self.stale if root != target])
        self.count("stale copies pushed", source in self.stale)
        self._exchange(source, target)

    def keep_stale(self) -> None:
        """Lay a copy away as it is now."""
        root = self.luck.choice(self.roots)
        if (root / ".tracker").exists():
            stale = self.folder / f"stale-{len(self.stale)}"
            shutil.copytree(root, stale)
            self.stale.append(stale)

    def _exchange(self, source: Path, target: Path) -> int:
        """One push; how many names changed."""
        if not (source / ".tracker" / "ledger").exists():
            return 0
        if self.how == "merge" or (self.how == "mixed" and self.luck.random() < 0.5):
            return self._merge(source, target)
        if self.luck.random() < 0.3:
            return self._rsync_in_part(source, target)
        return self._rsync(source, target)

    def _merge(self, source: Path, target: Path) -> int:
        self.count("merges")
        mine = next((writer for writer in self.writers if writer.tree == target), None)
        assert mine is not None, "each copy has a writer"
        mine.at_work()
        report = merge(mine.ledger, source)
        # where rsync copies too, it may have put a file of no sealed attempt over a sealed one
        if [line for line in report.damaged if self.how == "merge" or line.kind != Kind.FILE]:
            raise AssertionError(f"damaged: {report.damaged}")
        return report.changes

    def _rsync(self, source: Path, target: Path, *options: str) -> int:
        self.count("rsyncs")
        command = ["rsync", "-aiO", *options, f"{source}/", f"{target}/"]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode not in (0, 23, 24):
            raise AssertionError(f"rsync ended with {ended.returncode}: {ended.stderr}")
        return sum(line[:1] in ">c" for line in ended.stdout.splitlines())

    def _rsync_in_part(self, source: Path, target: Path) -> int:
        """Some of the files only, as a copy that was cut off leaves them."""
        files = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        some = self.luck.sample(sorted(files), self.luck.randrange(len(files) + 1))
        names = self.folder / "some"
        names.write_text("\n".join(some))
        self.count("rsyncs in part")
        return self._rsync(source, target, f"--files-from={names}")

    def _exchange_all(self) -> int | None:
        """Exchange all pairs until a round changes nothing; how many rounds it took, or None."""
        for number in range(ROUNDS_MAX):
            pairs = list(itertools.permutations(self.roots, 2))
            self.luck.shuffle(pairs)
            whole = self._merge if self.how == "merge" else self._rsync
            if number == 0 and self.how == "mixed":
                whole = self._merge
            if not sum(whole(*pair) for pair in pairs if (pair[0] / ".tracker" / "ledger").exists()):
                return number + 1
        return None

    # What must hold

    def _judge(self) -> Iterator[str]:
        roots = [root for root in self.roots if (root / ".tracker" / "ledger").exists()]
        if not roots:
            return
        states = [judge.reference_state(root) for root in roots]
        for other in states[1:]:
            yield from judge.iter_differences(states[0], other, ("one copy", "another"))
        yield from self.model.iter_failures(states[0])
        for root in roots:
            yield from (f"{root.name} damaged: {what}" for what in judge.reference_damage(root))
        yield from judge.iter_differences(states[0], _by_package(roots[-1]))
        if self.how == "merge":
            yield from self.model.iter_lost_bytes({root.name: _digests(root) for root in roots})
        self.count("runs", len(states[0]["runs"]))
        self.count("divergent runs", sum(run["divergent"] for run in states[0]["runs"]))


_STEPS = (
    *(Schedule.start, Schedule.start, Schedule.start, Schedule.end, Schedule.end, Schedule.end),
    *(Schedule.copy, Schedule.copy, Schedule.seal, Schedule.restart, Schedule.keep_stale),
)


def _by_package(root: Path) -> dict[str, Any]:
    ledger = Ledger(root)
    runs = [run_as_json(run) for run in ledger.find(Filter(removed=None))]
    ledger.close()
    return {"format": 1, "runs": runs, "rules": []}


def _digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and ".tracker" not in path.parts)
    return {path.relative_to(root).as_posix(): blake3(path.read_bytes()).hexdigest() for path in files}
