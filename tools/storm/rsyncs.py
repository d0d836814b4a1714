"""rsync: three copies of a tree with living writers in each, and plain `rsync -a X/ Y/` between them at
random.

Stale copies are pushed over journals that are being written, some rsyncs are killed half-way, and of the
writers some die by SIGKILL. An event is acknowledged once its segment is sealed: `seal()` or the close of
the writer has returned. The judges, after two more rounds of rsync with nobody writing: nothing
acknowledged is lost anywhere, no segment that ever was is, all copies say the same, by the reference and by
the package, and nothing is damaged.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import BrokenError, ask, begin, kill, read_acks, use_cache
from tools.storm.workload import PACES, Pace, Writer, plain

COPIES = ("a", "b", "c")
AT_ONCE = 2
FINE = {0, 20, 23, 24, -signal.SIGTERM, -signal.SIGKILL}
"""Exit codes of rsync that a tree in motion explains: files that vanished, and rsyncs that were stopped."""


def storm(folder: Path, seconds: float, seed: int) -> Tally:
    """Copy between living trees for some seconds, then let them come to rest and compare."""
    tally = Tally("rsync", seed)
    if shutil.which("rsync") is None:
        tally.figures["skipped"] = "rsync is not here"
        return tally
    trees = Trees(folder, random.Random(seed), tally)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        trees.step()
        time.sleep(0.005)
    trees.come_to_rest()
    for failure in trees.judge():
        tally.fail(failure)
    return tally


class Trees:
    """The copies, who writes in them, and what runs between them."""

    def __init__(self, folder: Path, luck: random.Random, tally: Tally) -> None:
        self.folder = folder
        self.luck = luck
        self.tally = tally
        self.roots = [folder / name for name in COPIES]
        for root in self.roots:
            root.mkdir()
        self.writers: dict[int, tuple[ForkProcess, Path]] = {}
        self.rsyncs: list[subprocess.Popen[bytes]] = []
        self.segments: set[str] = set()
        self.journals: dict[Path, int] = {}
        self.born = 0

    def step(self) -> None:
        """Keep a writer alive in each tree, now and then kill one, and start rsyncs."""
        for place, root in enumerate(self.roots):
            writer = self.writers.get(place)
            if writer is None or not writer[0].is_alive():
                self._bear(place, root)
            elif self.luck.random() < 0.004:
                self.tally.add("writers killed")
                kill(writer[0])
            elif self.luck.random() < 0.004:
                self.tally.add("writers ended")
                writer[1].touch()
                writer[0].join()
        self._reap()
        if len(self.rsyncs) < AT_ONCE:
            source, target = self.luck.sample(self.roots, 2)
            # Now and then the store alone, which takes less time and so meets more journals.
            self.rsyncs.append(push(source, target, self.luck.choice(("", "", ".tracker/"))))
        elif self.luck.random() < 0.02:
            self.tally.add("rsyncs killed")
            self.luck.choice(self.rsyncs).send_signal(self.luck.choice((signal.SIGTERM, signal.SIGKILL)))

    def _bear(self, place: int, root: Path) -> None:
        name = f"{COPIES[place]}{self.born}"
        self.born += 1
        stop = self.folder / f"stop-{name}"
        pace = self.luck.choice(PACES)
        process = begin(write, root, self.folder / f"cache-{COPIES[place]}", self._acks(), name, pace, stop)
        self.writers[place] = (process, stop)

    def _acks(self) -> Path:
        return self.folder / f"acks-{self.born}"

    def _reap(self) -> None:
        for rsync in [one for one in self.rsyncs if one.poll() is not None]:
            self.rsyncs.remove(rsync)
            self.tally.cases += 1
            self._check(rsync.returncode)
        for root in self.roots:
            self.segments.update(path.name for path in root.glob(".tracker/ledger/*/*.seg"))
            for journal in root.glob(".tracker/ledger/*/*.open"):
                self._note_pushes(journal)

    def _note_pushes(self, journal: Path) -> None:
        """Count how often a journal lies under its name as another file than before."""
        with contextlib.suppress(FileNotFoundError):
            inode = journal.stat().st_ino
            if self.journals.setdefault(journal, inode) != inode:
                self.tally.add("journals replaced by a copy")
                self.journals[journal] = inode

    def _check(self, code: int) -> None:
        self.tally.expect(code in FINE, f"rsync ended with {code}")

    def come_to_rest(self) -> None:
        """Kill half of the writers, let the others end, and copy every way twice."""
        for place, (process, stop) in self.writers.items():
            if place % 2:
                kill(process)
            stop.touch()
            process.join()
        for rsync in self.rsyncs:
            rsync.wait()
        self._reap()
        for _ in range(2):
            for source, target in itertools.permutations(self.roots, 2):
                code = push(source, target).wait()
                self.tally.expect(code == 0, f"an rsync with nobody writing ended with {code}")
        self.tally.figures |= {"writers": self.born, "segments": len(self.segments)}

    def judge(self) -> Iterator[str]:
        """What was lost, and where the copies differ."""
        promised, failures = self._promised()
        yield from failures
        states = [judge.reference_state(root) for root in self.roots]
        for root, state in zip(self.roots, states, strict=True):
            yield from self._judge_tree(root, state, promised)
        for one, other in itertools.pairwise(states):
            yield from judge.iter_differences(one, other, ("one copy", "another"))
        yield from self._judge_publishing(states[0])
        self.tally.figures |= {"runs": len(states[0]["runs"]), "acknowledged as sealed": len(promised)}
        if not promised:
            yield "nothing was acknowledged"

    def _judge_tree(self, root: Path, state: judge.State, promised: dict[str, str]) -> Iterator[str]:
        runs = judge.runs_by_ref(state)
        for ref, word in promised.items():
            status = runs[ref]["status"] if ref in runs else "unknown"
            if status != word:
                yield f"copy {root.name}: {ref} was sealed as {word} and is {status}"
        here = {path.name for path in root.glob(".tracker/ledger/*/*.seg")}
        yield from (f"copy {root.name}: segment {name} is gone" for name in sorted(self.segments - here))
        # Two caches: one that followed all of it, and one that sees the store for the first time.
        for cache in (self.folder / f"cache-{root.name}", self.folder / f"fresh-{root.name}"):
            for failure in judge.iter_disagreements(root, cache, state):
                yield f"copy {root.name}, {cache.name}: {failure}"
        for failure in judge.iter_damage(root, self.folder / f"fresh-{root.name}"):
            yield f"copy {root.name}: {failure}"

    def _promised(self) -> tuple[dict[str, str], list[str]]:
        """What each writer was told, up to its last word `sealed`."""
        promised: dict[str, str] = {}
        failures = []
        for path in sorted(self.folder.glob("acks-*")):
            lines = read_acks(path)
            failures += [
                f"a writer failed: {line['text']}" for line in lines if line["word"] in ("fail", "blind")
            ]
            last = max((n for n, line in enumerate(lines) if line["word"] == "sealed"), default=0)
            promised |= {
                line["ref"]: line["word"] for line in lines[:last] if line["word"] in ("done", "error")
            }
        return promised, failures

    def _judge_publishing(self, state: judge.State) -> Iterator[str]:
        """One more writer publishes what the dead left in its copy; the others, once told, say the same."""
        before = judge.runs_by_ref(state)
        first, *others = self.roots
        try:
            ask(_end_well, first, self.folder / "cache-a", self.folder / "acks-last")
        except BrokenError as broken:
            yield str(broken)
            return
        for other in others:
            push(first, other).wait()
        states = [judge.reference_state(root) for root in self.roots]
        for one, other in itertools.pairwise(states):
            yield from judge.iter_differences(one, other, ("the publishing copy", "another"))
        now = judge.runs_by_ref(states[0])
        yield from (
            f"{ref} changed when journals were published"
            for ref, run in before.items()
            if now.get(ref) != run
        )


def push(source: Path, target: Path, below: str = "") -> subprocess.Popen[bytes]:
    """Start a plain rsync of a tree, or of what lies `below` its root."""
    (target / below).mkdir(exist_ok=True)
    command = ["rsync", "-a", f"{source}/{below}", f"{target}/{below}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write(root: Path, cache: Path, acks: Path, name: str, pace: Pace, stop: Path) -> None:
    """Record runs until told to stop, seal now and then, and look whether one's own runs are there."""
    writer = Writer(root, cache, acks, name, pace)
    try:
        while not stop.exists():
            writer.write(writer.count + writer.luck.randrange(1, 6))
            _look_at_own(writer)
            if writer.luck.random() < 0.3:
                writer.project.ledger.seal()
                writer.acks.say("sealed")
            time.sleep(0.002)  # so that three writers leave a processor to rsync
        writer.project.ledger.close()
        writer.acks.say("sealed")
    except BaseException:
        writer.acks.say("fail", text=traceback.format_exc())
        os._exit(3)


def _look_at_own(writer: Writer) -> None:
    session = writer.session("own", params=writer.params()).start().done()
    writer.say("done", session)
    if not session.is_done():
        writer.acks.say("blind", text=f"{session.ref} was done here and is {session.status}")


def _end_well(root: Path, cache: Path, acks: Path) -> None:
    use_cache(cache)
    writer = Writer(root, cache, acks, "last")
    plain(writer)
    writer.project.ledger.close()
