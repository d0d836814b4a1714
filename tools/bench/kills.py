"""W10: kill -9 in the middle of W1, then compare what was acknowledged with what the store knows."""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tools.bench.bench import Bench
from tools.bench.child import call, reap, start
from tools.bench.report import Row


@dataclass
class Killed:
    """What one kill did: uids by the last word their writer said of them, and what reopening found."""

    said: dict[str, str]
    found: dict[str, str]
    folders: set[str]

    @property
    def lost(self) -> list[str]:
        """Acknowledged as done, and not done after reopening."""
        return [uid for uid, word in self.said.items() if word == "done" and self.found.get(uid) != "done"]

    @property
    def unnamed(self) -> list[str]:
        """Begun or seen as a folder, and unknown to the store."""
        return sorted(({*self.said} | self.folders) - {*self.found})

    @property
    def half_written(self) -> list[str]:
        return [uid for uid, status in self.found.items() if status != "done"]


def w10(bench: Bench) -> list[Row]:
    """kill -9 at random moments of W1 with acknowledgements outside the store; then reopen and compare."""
    luck = random.Random(1936)
    results: list[Killed] = []
    for number in range(bench.kills):
        bench.say(f"W10 kill {number + 1} of {bench.kills}")
        results.append(_kill_once(bench, ("off", "ledger", "full")[number % 3], luck.uniform(0.005, 0.25)))
    assert results, "no kill was tried"
    acknowledged = sum(word == "done" for result in results for word in result.said.values())
    lost = sum(len(result.lost) for result in results)
    unnamed = sum(len(result.unnamed) for result in results)
    half = sum(len(result.half_written) for result in results)
    what = f"tracker, {bench.kills} kills"
    return [
        Row("W10", what, lost, "lost", goal="0", met=lost == 0, note=f"of {acknowledged:,} acknowledged"),
        Row("W10", what, len(results), "reopened", goal="all", met=True, note="and took one more run"),
        Row("W10", what, half, "half-written", note="named by status"),
        Row("W10", what, unnamed, "unnamed", goal="0", met=unnamed == 0, note="begun, unknown to the store"),
    ]


def _kill_once(bench: Bench, durability: str, after_s: float) -> Killed:
    root = bench.fresh()
    code = f"from tools.bench.ours import write_and_tell as work; work({root!r}, {durability!r})"
    writer = start([sys.executable, "-c", code])
    assert writer.stdout is not None, "started with a pipe"
    lines = [writer.stdout.readline()]
    assert lines[0], "the writer ended by itself"
    reader = threading.Thread(target=lines.extend, args=(writer.stdout,))
    reader.start()
    time.sleep(after_s)
    writer.kill()
    reader.join()
    reap(writer)
    said = {uid: word for word, uid in (line.split() for line in lines)}
    found = call("ours", "reopen", root).answer["runs"]
    folders = {path.name for path in Path(root).iterdir() if re.fullmatch("[0-9a-f]{32}", path.name)}
    return Killed(said, found, folders)
