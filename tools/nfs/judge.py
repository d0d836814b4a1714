"""What is asked on the server's side when all clients have ended: by the reference and a hash function.

    python -m tools.nfs.judge KIND LABEL ROOT OUT

Prints one tally as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tools.nfs.client import CONFIGS, acks_path
from tools.storm import judge
from tools.storm.tally import Tally
from tools.storm.ward import read_acks

SEEN_WITHIN_MS = 10_000.0
"""An acknowledged run must be seen by every client within so long."""


def judged(kind: str, label: str, root: Path, out: Path) -> Tally:
    """Hold what was acknowledged against the store."""
    tally = Tally(f"nfs {label} {kind}", 0)
    acks = read_acks(acks_path(out, kind))
    done = [ack for ack in acks if ack["word"] == "done"]
    runs = judge.runs_by_ref(judge.reference_state(root))
    tally.cases = len(done)
    tally.figures["acknowledged"] = len(done)
    _judge_clients(tally, kind, out)
    for ack in done:
        _judge_ack(tally, root, runs, ack)
    if kind != "write":
        _judge_claims(tally, runs, done)
    tally.failures += list(judge.iter_disagreements(root, out / "judge-cache"))
    return tally


def _judge_clients(tally: Tally, kind: str, out: Path) -> None:
    files = sorted(out.glob(f"{kind}-cl?.json"))
    tally.expect(len(files) == 2, f"{len(files)} clients told of their end")
    for file in files:
        facts = json.loads(file.read_text())
        tally.add("killed", facts["kills"])
        tally.expect(not any(facts["codes"]), f"{file.stem}: processes ended with {facts['codes']}")
    for file in sorted(out.glob("look-cl?.json")) if kind == "write" else []:
        _judge_looks(tally, file.stem, json.loads(file.read_text()))


def _judge_looks(tally: Tally, name: str, facts: dict[str, Any]) -> None:
    tally.expect(not facts["unseen"], f"{name}: {len(facts['unseen'])} never seen: {facts['unseen'][:3]}")
    for whose in ("own", "other"):
        seen = facts[whose]
        tally.expect(seen["seen"] > 0, f"{name}: saw no run of its {whose} client")
        tally.expect(seen.get("worst_ms", 0) <= SEEN_WITHIN_MS, f"{name}: a run was seen after {seen} ms")
        tally.figures[f"{name}, runs of its {whose} client"] = ", ".join(f"{k} {v}" for k, v in seen.items())


def _judge_ack(tally: Tally, root: Path, runs: dict[str, Any], ack: dict[str, Any]) -> None:
    run = runs.get(ack["ref"])
    path = root / ack["path"]
    if run is None or run["status"] != "done":
        tally.add("acknowledged and lost")
        tally.fail(f"{ack['ref']} was acknowledged and is {run and run['status']}")
    elif not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != ack["digest"]:
        tally.add("files lost or other")
        tally.fail(f"{ack['path']} was acknowledged and holds other bytes")


def _judge_claims(tally: Tally, runs: dict[str, Any], done: list[dict[str, Any]]) -> None:
    attempts = {ref: [a for a in run["attempts"] if a["status"] == "done"] for ref, run in runs.items()}
    finished = [ref for ref, found in attempts.items() if found]
    twice = [ref for ref, found in attempts.items() if len(found) > 1]
    workers = Counter(ack["who"].rpartition("/")[0] for ack in done)
    tally.expect(len(finished) == CONFIGS, f"{len(finished)} of {CONFIGS} configs are done")
    told = {ack["ref"] for ack in done if ack["lost"]}
    untold = sorted(set(twice) - told)
    tally.expect(not untold, f"done twice, and no holder was told that its lease had ended: {untold[:5]}")
    tally.figures |= {
        "configs": CONFIGS,
        "configs done": len(finished),
        "configs done twice": len(twice),
        "of those without a lease that had ended": len(untold),
        "attempts": sum(len(run["attempts"]) for run in runs.values()),
        "a worker was told that it had lost a run": sum(bool(ack["lost"]) for ack in done),
        "done by each": ", ".join(f"{who}: {count}" for who, count in sorted(workers.items())),
    }


if __name__ == "__main__":
    kind, label, root, out = sys.argv[1:]
    print(json.dumps(judged(kind, label, Path(root), Path(out)).to_json()))
