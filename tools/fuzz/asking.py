"""What is asked of a store that holds anything, and which answers count: a value, or a TrackerError.

The judge of the state is spec/reference.py. Asked in this process, with an index in memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from tools.storm.judge import reference
from tracker import Project
from tracker import ledger as ledgers
from tracker._disk import durable
from tracker._model.fold import run_as_json
from tracker._store import claims
from tracker._store.index import Filter
from tracker.check import Level, rebuild, verify
from tracker.errors import DamagedError, NotFoundError, TrackerError, VersionError
from tracker.ledger import Ledger

PATIENCE_S = 20.0
REFUSED = "refused"


class HungError(Exception):
    """A question was not answered in time."""


def complaints(root: Path, kind: str) -> list[str]:
    """Ask everything of the store at `root`; give what no answer may be."""
    os.environ["TRACKER_CACHE"] = os.devnull
    found: list[str] = []
    want = _by_reference(root)
    got = _answer(found, "state", lambda: _state(root))
    is_told_apart = not (want == REFUSED == _word(got) or _is_left_open(root))
    if got not in (None, want) and is_told_apart:
        found.append(f"the reference says otherwise: {_difference(want, got)}")
    _answer(found, "ls", lambda: _listed(root))
    _answer(found, "verify --full", lambda: verify(Ledger(root), Level.FULL))
    _answer(found, "claims", lambda: _claims(root))
    _answer(found, "rebuild", lambda: rebuild(Ledger(root)))
    after = _answer(found, "state after it", lambda: _state(root))
    if None not in (got, after) and after != got:
        found.append("what is known is another after rebuild")
    if kind in ("claim", "holder"):
        _answer(found, "try_start", lambda: _tried(root))
    return found


def _is_left_open(root: Path) -> bool:
    """True where the specification lets two readers differ, or does not say; nothing is compared then.

    LIMIT: a sealed file whose name is right is proved by that (log.md 4): its CRCs need not be looked at, and
    the package does not, where the reference does.
    """
    for path in sorted((root / ".tracker" / "ledger").glob("*/*")):
        data = path.read_bytes()
        segment = reference.read_segment(data, sealed=path.suffix != ".open", name=path.name)
        if path.suffix != ".open" and blake3(data).hexdigest()[:16] in path.name and segment.why:
            return True
    return False


def _answer(found: list[str], what: str, ask: Callable[[], Any]) -> Any:
    """The answer; REFUSED for an error that a caller expects; else None, and a complaint."""
    try:
        with warnings.catch_warnings(), in_time(what):
            warnings.simplefilter("ignore")
            return ask()
    except (DamagedError, VersionError, NotFoundError):
        return REFUSED
    except TrackerError as error:
        return f"{REFUSED}: {type(error).__name__}"
    except HungError as hung:
        found.append(str(hung))
    except Exception:
        found.append(f"{what} ended in a traceback:\n{traceback.format_exc()}")
    return None


def _word(answer: Any) -> str:
    return answer.partition(":")[0] if isinstance(answer, str) else ""


@contextlib.contextmanager
def in_time(what: str) -> Iterator[None]:
    """Raise HungError in the block after PATIENCE_S."""

    def late(number: int, frame: object) -> None:
        raise HungError(f"{what} was not answered within {PATIENCE_S:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    begun = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - begun > PATIENCE_S:
        raise HungError(f"{what} took {time.monotonic() - begun:.0f} s")


def _state(root: Path) -> Any:
    ledger = Ledger(root)
    try:
        runs = [run_as_json(run) for run in ledger.find(Filter(removed=None))]
        rules = [[rule.kind, rule.path, rule.value] for rule in ledger.lookup.rules()]
        ledger.events()
        return {"format": 1, "runs": runs, "rules": rules}
    finally:
        ledger.close()


def _by_reference(root: Path) -> Any:
    try:
        return reference.read_store(root)
    except reference.NewerFormat:
        return REFUSED


def _difference(want: Any, got: Any) -> str:
    if REFUSED in (want, _word(got)):
        return f"reference {str(want)[:200]}, package {str(got)[:200]}"
    pairs = zip([*want["runs"], None], [*got["runs"], None], strict=False)
    return next((f"reference {a}, package {b}" for a, b in pairs if a != b), "the rules differ")


def _listed(root: Path) -> list[tuple[Any, ...]]:
    with _project(root) as project:
        return [(s.ref, s.status, s.params, s.files, s.is_done()) for s in project.find()]


def _tried(root: Path) -> list[bool]:
    """Take the run that somebody was executing, and one that nobody knows; release neither."""
    with _project(root) as project:
        sessions = [project.session("train", {"lr": lr}) for lr in (3.0, 4.0, 9.0)]
        return [session.try_start() for session in sessions]


@contextlib.contextmanager
def _project(root: Path) -> Iterator[Project]:
    try:
        yield Project(root)
    finally:
        for ledger in ledgers.iter_ledgers():
            if ledger.root == Path(os.path.realpath(root)):
                ledger.close()
        ledgers._ledgers.pop(os.path.realpath(root), None)


def _claims(root: Path) -> list[Any]:
    """Every claim and holder, and what it says; whether it is well-formed the reference says too."""
    fd = durable.open_root(str(root / ".tracker"))
    try:
        return [list(claims.iter_holders(fd)), list(claims.iter_claim_paths(fd))]
    finally:
        durable.close_read(fd)
