"""What one client does: processes that write, read or claim, killed and begun anew, until the time is over.

    python -m tools.nfs.client write|claim NAME ROOT OUT SECONDS SEED

Knows the store by its front door. Acknowledgements lie in OUT, which is not on NFS: one write each, after
done() has returned, with the moment by the clock that all processes of the guest share.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tools.storm.ward import Acks, begin, kill, parse_acks
from tracker import Durability, Project, claiming
from tracker.terms import RunRef

CLIENTS = 2
WRITERS = 2
CONFIGS = 100
LIFE_S = (2.0, 12.0)
"""One of a client's processes is killed after so long, divided by their number, and then another."""

LAST_LOOK_S = 120.0
"""How long after the end of all writers a reader goes on looking for what it has not seen."""

SHORT_LEASE_S, SHORT_RENEW_S = 8.0, 1.5
EXECUTES_S = 0.05


def acks_path(out: Path, kind: str) -> Path:
    """Where all clients acknowledge."""
    return out / f"acks-{kind}.jsonl"


def write(name: str, root: Path, out: Path, seconds: float, seed: int) -> None:
    """Have two writers record runs until `seconds` are over, kill them meanwhile, and one reader look."""
    luck = random.Random(f"{seed} {name}")
    _meet(out, f"ready-{name}")
    end = time.monotonic() + seconds
    reader = begin(_look, root, out, name)
    kills = 0
    writers = [begin(_record, root, out, name, number, end) for number in range(WRITERS)]
    while time.monotonic() < end - LIFE_S[1]:
        time.sleep(luck.uniform(*LIFE_S) / WRITERS)
        number = luck.randrange(WRITERS)
        kills += kill(writers[number])
        writers[number] = begin(_record, root, out, name, number + WRITERS * kills, end)
    for writer in writers:
        writer.join()
    (out / f"ended-{name}").touch()
    reader.join()
    codes = [process.exitcode for process in (*writers, reader)]
    _tell(out, f"write-{name}", {"kills": kills, "codes": codes})


def _record(root: Path, out: Path, name: str, number: int, end: float) -> None:
    """Record runs: their file, its digest, and the time at which done() had returned."""
    durability = Durability.FULL if number % 2 else Durability.OFF
    project = Project(root, durability=durability)
    acks = Acks(acks_path(out, "write"))
    count = 0
    while time.monotonic() < end:
        with project.session("train", {"client": name, "writer": number, "count": count}) as run:
            data = f"{name} {number} {count}\n".encode() * (1 + count % 50)
            path = run.path("model.bin")
            path.write_bytes(data)
        acks.say(
            "done",
            ref=str(run.ref),
            client=name,
            path=str(path.relative_to(root)),
            digest=hashlib.sha256(data).hexdigest(),
            at_ns=time.monotonic_ns(),
        )
        count += 1
        time.sleep(0.01)
    project.ledger.close()


def _meet(out: Path, mine: str) -> None:
    """Go on when both clients are here."""
    (out / mine).touch()
    kind = mine.partition("-")[0]
    while len(list(out.glob(f"{kind}-*"))) < CLIENTS:
        time.sleep(0.02)


def _look(root: Path, out: Path, name: str) -> None:
    """Look for each acknowledged run until it is seen; note how long that took, and what was never seen."""
    while not (root / ".tracker" / "FORMAT").exists():
        time.sleep(0.05)
    ledger = Project(root).ledger
    lines = _Lines(acks_path(out, "write"))
    looks_since_ns = time.monotonic_ns()
    over_at: float | None = None
    pending: dict[str, tuple[int, bool]] = {}
    late_ms: dict[str, list[float]] = {"own": [], "other": []}
    while True:
        for ack in lines.fresh():
            pending[ack["ref"]] = (max(ack["at_ns"], looks_since_ns), ack["client"] == name)
        for ref, (at_ns, is_own) in list(pending.items()):
            begun_ns = time.monotonic_ns()
            run = ledger.run(RunRef(ref))
            if run is not None and run.status == "done":
                del pending[ref]
                # the look that saw it began so long after the acknowledgement
                late_ms["own" if is_own else "other"].append(max(begun_ns - at_ns, 0) / 1e6)
        if over_at is None and len(list(out.glob("ended-*"))) == CLIENTS:
            over_at = time.monotonic()  # one more round: the last lines were written before that
        elif over_at is not None and (not pending or time.monotonic() > over_at + LAST_LOOK_S):
            break
        time.sleep(0.005)
    _tell(out, f"look-{name}", {"unseen": sorted(pending), **{k: _spread(v) for k, v in late_ms.items()}})


class _Lines:
    """The whole lines of a file that others append to, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def fresh(self) -> Iterator[dict[str, object]]:
        """Those that have come since the last call."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")
            self._offset += len(whole[0]) + len(whole[1])
            yield from parse_acks(whole[0])


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"seen": 0}
    ordered = sorted(values)
    return {
        "seen": len(ordered),
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
        "worst_ms": round(ordered[-1], 1),
    }


def claim(name: str, root: Path, out: Path, seconds: float, seed: int) -> None:
    """Have two workers go through the same configs as all others; kill none."""
    _meet(out, f"ready-{name}")
    workers = [begin(_work, root, out, name, number, False) for number in range(WRITERS)]
    for worker in workers:
        worker.join()
    _tell(out, f"claim-{name}", {"kills": 0, "codes": [worker.exitcode for worker in workers]})


def claim_killed(name: str, root: Path, out: Path, seconds: float, seed: int) -> None:
    """The same with short leases, while workers are killed; whose claims must be taken over."""
    luck = random.Random(f"{seed} {name}")
    _meet(out, f"ready-{name}")
    workers = [begin(_work, root, out, name, number, True) for number in range(WRITERS)]
    kills, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and any(worker.is_alive() for worker in workers):
        time.sleep(luck.uniform(*LIFE_S) / WRITERS)
        number = luck.randrange(WRITERS)
        was_killed = workers[number].is_alive() and kill(workers[number])
        if was_killed:
            kills += 1
            workers[number] = begin(_work, root, out, name, number, True)
    for worker in workers:
        worker.join()
    _tell(out, f"claim-killed-{name}", {"kills": kills, "codes": [worker.exitcode for worker in workers]})


def _work(root: Path, out: Path, name: str, number: int, short: bool) -> None:
    """Go round the configs until all are done; execute those whose claim is to be had."""
    if short:
        claiming.LEASE_S, claiming.RENEW_S = SHORT_LEASE_S, SHORT_RENEW_S
    kind = "claim-killed" if short else "claim"
    project = Project(root, durability=Durability.OFF)
    acks = Acks(acks_path(out, kind))
    who = f"{name}/{number}/{os.getpid()}"
    pending = list(range(CONFIGS))
    while pending:
        for config in list(pending):
            session = project.session("train", {"config": config})
            if session.is_done():
                pending.remove(config)
            elif session.try_start():
                acks.say("begun", ref=str(session.ref), who=who, at_ns=time.monotonic_ns())
                time.sleep(EXECUTES_S)
                session.path("model.bin").write_text(f"{config}\n")
                lost = session.lost
                session.done()
                acks.say(
                    "done",
                    ref=str(session.ref),
                    who=who,
                    lost=lost or session.lost,
                    path=str(session.path("model.bin").relative_to(root)),
                    digest=hashlib.sha256(f"{config}\n".encode()).hexdigest(),
                    at_ns=time.monotonic_ns(),
                )
                pending.remove(config)
        time.sleep(0.05)
    project.ledger.close()


def _tell(out: Path, name: str, facts: dict[str, object]) -> None:
    (out / f"{name}.json").write_text(json.dumps(facts))


KINDS = {"write": write, "claim": claim, "claim-killed": claim_killed}

if __name__ == "__main__":
    kind, name, root, out, seconds, seed = sys.argv[1:]
    KINDS[kind](name, Path(root), Path(out), float(seconds), int(seed))
