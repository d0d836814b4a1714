"""copies: a store copied in part, in any order, and two copies that go on apart and come together again.

The judges: a partial copy always opens, says the same to the package as to the reference, holds every event
of every segment that came whole, and is never called damaged. Two copies that go on with new processes
never write one name with other bytes, and plain `rsync -a` makes one state of them.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.storm import judge
from tools.storm.flips import make_store
from tools.storm.tally import Tally
from tools.storm.ward import begin, kill
from tools.storm.workload import PACES, Pace, Writer, plain
from tracker.check import Level

LOOKS = 6


def storm(folder: Path, count: int, seed: int) -> Tally:
    """Copy a store `count` times in a random order, looking at it on the way; then let two copies diverge."""
    tally = Tally("copies", seed)
    luck = random.Random(seed)
    root, cache = folder / "root", folder / "cache"
    make_store(folder, root, cache)
    _leave_a_journal(root, cache, folder)
    for number in range(count):
        for failure in copy_in_parts(root, folder / f"copy-{number}", luck, tally):
            tally.fail(f"copy {number}: {failure}")
        shutil.rmtree(folder / f"copy-{number}", ignore_errors=True)
    if shutil.which("rsync"):
        for failure in diverge(root, folder, luck, tally):
            tally.fail(failure)
    return tally


def _leave_a_journal(root: Path, cache: Path, folder: Path) -> None:
    """So that what is copied holds an `.open` of a dead writer too."""
    acks = folder / "acks"
    writer = begin(_write_on, root, cache, acks, "left", Pace("off"))
    while not acks.exists() or acks.read_bytes().count(b"\n") < 20:
        assert writer.is_alive(), "the writer ended by itself"
    kill(writer)


def _write_on(root: Path, cache: Path, acks: Path, name: str, pace: Pace) -> None:
    Writer(root, cache, acks, name, pace).write()


def copy_in_parts(root: Path, target: Path, luck: random.Random, tally: Tally) -> Iterator[str]:
    """Copy file by file in a random order; now and then look at what has come so far."""
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    luck.shuffle(files)
    looks = sorted(luck.sample(range(1, len(files)), LOOKS))
    target.mkdir()
    cache = target.parent / f"{target.name}-cache"
    for number, file in enumerate(files):
        (target / file.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, target / file)
        if number in looks:
            tally.cases += 1
            yield from (
                f"after {number + 1} of {len(files)} files: {one}" for one in _judge_part(root, target, cache)
            )
    if judge.reference_state(target) != judge.reference_state(root):
        yield "with every file copied the state is another"


def _judge_part(root: Path, target: Path, cache: Path) -> Iterator[str]:
    state = judge.reference_state(target)
    yield from judge.iter_disagreements(target, cache, state)
    yield from _lacking(root, target)
    if (target / ".tracker" / "ledger").is_dir():
        yield from judge.iter_damage(target, cache, Level.FULL)


def _lacking(root: Path, target: Path) -> Iterator[str]:
    """Events of segments that came, and that the copy does not hold. Both sides by the reference."""
    ledger = judge.reference.read_ledger(target)
    held = {(one.writer, one.frame.seq, one.frame.prefix) for one in ledger.frames}
    for path in judge.reference.list_ledger(target):
        data = (root / ".tracker" / path).read_bytes()
        segment = judge.reference.read_segment(data, not path.endswith(".open"), path.rpartition("/")[2])
        writer = path.rpartition("/")[2][:32]
        for frame in segment.frames:
            if (writer, frame.seq, frame.prefix) not in held:
                yield f"{path} came whole, and its frame {frame.seq} is not here"


def diverge(root: Path, folder: Path, luck: random.Random, tally: Tally) -> Iterator[str]:
    """Two copies go on at once, one with a writer killed; then each is pushed to the other."""
    ones = [folder / "one", folder / "two"]
    for one in ones:
        shutil.copytree(root, one)
    before = set(_bytes_by_name(root))
    writers = [
        begin(
            _go_on,
            one,
            folder / f"{one.name}-cache",
            folder / f"{one.name}-acks",
            one.name,
            luck.choice(PACES),
        )
        for one in ones
    ]
    for writer in writers:
        writer.join()
    first, second = (_bytes_by_name(one) for one in ones)
    for name in sorted(first.keys() & second.keys() - before):
        tally.cases += 1
        if first[name] != second[name]:
            yield f"{name} was made in both copies, with other bytes"
    tally.figures["names made in both copies"] = len(first.keys() & second.keys() - before)
    tally.figures["names made in one"] = len((first.keys() ^ second.keys()) - before)
    apart = [judge.runs_by_ref(judge.reference_state(one)) for one in ones]
    for source, target in (ones, ones[::-1]):
        subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], check=True)
    together = [judge.reference_state(one) for one in ones]
    yield from judge.iter_differences(together[0], together[1], ("one copy", "the other"))
    for one in ones:
        yield from (
            f"{one.name}: {text}" for text in judge.iter_disagreements(one, folder / f"{one.name}-cache")
        )
    yield from _lost_in_merging(apart, judge.runs_by_ref(together[0]))
    tally.cases += 1


def _lost_in_merging(apart: list[dict[str, judge.Run]], together: dict[str, judge.Run]) -> Iterator[str]:
    """What either copy had, and the merged one has not."""
    for runs in apart:
        for ref, run in runs.items():
            attempts = {attempt["id"] for attempt in run["attempts"]}
            merged = together.get(ref)
            if merged is None or not attempts <= {attempt["id"] for attempt in merged["attempts"]}:
                yield f"{ref} lost attempts in the merge"
            elif run["status"] == "done" and merged["status"] != "done":
                yield f"{ref} was done in one copy and is {merged['status']} in the merge"


def _bytes_by_name(root: Path) -> dict[str, bytes]:
    """The store's own files and every params.json. A journal's name has one writer, so it counts too."""
    paths = [*(root / ".tracker").rglob("*"), *root.rglob("*params.json")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def _go_on(root: Path, cache: Path, acks: Path, name: str, pace: Pace) -> None:
    """Runs of its own, the runs that both copies do, and those that a dead writer left half-done."""
    writer = Writer(root, cache, acks, name, pace)
    writer.write(25)
    for number in range(10):
        session = writer.project.session("both", params={"both": number}).start()
        session.path("out.bin").write_bytes(b"the same in both")
        session.done()
    for session in writer.project.find(status="running"):
        session.start().error(ValueError("again"))
    writer.project.ledger.close()
    plain(writer)  # and a journal that is left open, by a process that ends without a word
