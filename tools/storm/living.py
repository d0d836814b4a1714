"""living: a store copied by plain `rsync -a` again and again while it is being written.

Three writers record runs, seal, are killed and begun anew. Every copy, a fresh one or the same one once more,
opens, says to the package what it says to the reference, and is at worst not yet complete. Meanwhile the
stores of older copies are pushed back over the living one. The judge at the end: all that living writers
acknowledged is there, sealed by them or not, and all that killed ones had sealed.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

from tools.storm import judge
from tools.storm.rsyncs import FINE, push, write
from tools.storm.tally import Tally
from tools.storm.ward import BrokenError, begin, kill, read_acks
from tools.storm.workload import PACES
from tracker.check import Level

WRITERS = 3
KEPT = 4
"""So many copies are kept, to be pushed back or to be copied into once more."""


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Copy a living store `count` times, and look at each copy."""
    tally = Tally("living", seed)
    if shutil.which("rsync") is None:
        tally.figures["skipped"] = "rsync is not here"
        return tally
    living = Living(folder, random.Random(seed), tally)
    for number in range(count):
        living.tend()
        for failure in living.copy(number):
            tally.fail(f"copy {number}: {failure}")
        living.push_back()
    living.end()
    for failure in living.judge():
        tally.fail(failure)
    return tally


class Living:
    """One tree, its writers, and the copies of it."""

    def __init__(self, folder: Path, luck: random.Random, tally: Tally) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir()
        self.luck = luck
        self.tally = tally
        self.writers: list[tuple[ForkProcess, Path, Path]] = []
        self.killed: set[Path] = set()
        self.copies: list[Path] = []
        self.born = 0
        self.tend()
        while not (self.root / ".tracker" / "ledger").is_dir():
            time.sleep(0.01)

    def tend(self) -> None:
        """Keep three writers alive, and now and then kill one."""
        if self.writers and self.luck.random() < 0.15:
            process, _, acks = self.writers.pop(self.luck.randrange(len(self.writers)))
            kill(process)
            self.killed.add(acks)
            self.tally.add("writers killed")
        while len(self.writers) < WRITERS:
            name = f"w{self.born}"
            self.born += 1
            stop, acks = self.folder / f"stop-{name}", self.folder / f"acks-{name}"
            process = begin(
                write, self.root, self.folder / "cache", acks, name, self.luck.choice(PACES), stop
            )
            self.writers.append((process, stop, acks))

    def copy(self, number: int) -> Iterator[str]:
        """One rsync, into a new folder or into a copy that is there, and what is wrong with the copy."""
        target = self.folder / f"copy-{number}"
        if self.copies and self.luck.random() < 0.4:
            target = self.luck.choice(self.copies)
        else:
            self.copies.append(target)
        code = push(self.root, target).wait()
        if code not in FINE:
            yield f"rsync ended with {code}"
        self.tally.cases += 1
        yield from self._judge_copy(target)
        while len(self.copies) > KEPT:
            shutil.rmtree(self.copies.pop(0))

    def _judge_copy(self, copy: Path) -> Iterator[str]:
        cache = self.folder / f"cache-{copy.name}"
        yield from judge.iter_disagreements(copy, cache)
        try:
            code, findings = judge.verified(copy, cache, Level.FULL)
        except BrokenError as broken:
            yield str(broken)
            return
        self.tally.add(f"copies with exit code {code}")
        if code not in (0, 3):
            yield f"verify ends with {code}: {[f for f in findings if f.severity == 'damage'][:3]}"
        self.tally.figures["runs in the largest copy"] = max(
            self.tally.figures.get("runs in the largest copy", 0), len(judge.reference_state(copy)["runs"])
        )

    def push_back(self) -> None:
        """Push the store of an old copy over the living one: users' files rsync would overwrite."""
        if self.luck.random() < 0.7:
            code = push(self.luck.choice(self.copies), self.root, ".tracker/").wait()
            self.tally.add("stale copies pushed back")
            self.tally.expect(code in FINE, f"rsync ended with {code}")

    def end(self) -> None:
        """Let the writers that live end well."""
        for process, stop, _ in self.writers:
            stop.touch()
            process.join()
            self.tally.expect(process.exitcode == 0, f"a writer ended with {process.exitcode}")

    def judge(self) -> Iterator[str]:
        """What was acknowledged and is not there."""
        runs = judge.runs_by_ref(judge.reference_state(self.root))
        lost = told = 0
        for path in sorted(self.folder.glob("acks-*")):
            lines = read_acks(path)
            yield from (
                f"a writer failed: {line['text']}" for line in lines if line["word"] in ("fail", "blind")
            )
            if path in self.killed:
                lines = lines[
                    : max((n for n, line in enumerate(lines) if line["word"] == "sealed"), default=0)
                ]
            for line in lines:
                if line["word"] in ("done", "error"):
                    told += 1
                    if runs.get(line["ref"], {}).get("status") != line["word"]:
                        lost += 1
                        yield f"{line['ref']} was acknowledged as {line['word']}: {runs.get(line['ref'])}"
        self.tally.figures |= {"writers": self.born, "events acknowledged": told, "events lost": lost}
        if not told:
            yield "nothing was acknowledged"
        yield from judge.iter_disagreements(self.root, self.folder / "cache-last")
