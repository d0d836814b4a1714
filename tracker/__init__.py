"""Experiment runs as plain files: same params, same hash, same folder, on any machine.

    from tracker import Project

    run = Project("results").session("train", params={"lr": 1e-3})
    if not run.is_done():
        with run:
            run.path("model.pt").write_bytes(...)

The front door: every public name is here, and nothing else.
"""

from tracker._model.rules import Rule, RuleError
from tracker.errors import (
    AmbiguousError,
    ClaimedError,
    ClockWarning,
    DamagedError,
    NameRefusedError,
    NotFoundError,
    ParamsError,
    ParamsWarning,
    QueryError,
    StateError,
    StorageError,
    TrackerError,
    TrackerWarning,
    VersionError,
)
from tracker.grids import grid, product, zipped
from tracker.identity import uid
from tracker.ledger import Ledger
from tracker.mapping import Outcome
from tracker.project import Project
from tracker.runs import Runs
from tracker.session import Session
from tracker.sweep import Sweep
from tracker.terms import Durability, ExistingRun, Status, StorageMode
from tracker.version import VERSION as __version__
from tracker.why import Why

__all__ = [
    "AmbiguousError",
    "ClaimedError",
    "ClockWarning",
    "DamagedError",
    "Durability",
    "ExistingRun",
    "Ledger",
    "NameRefusedError",
    "NotFoundError",
    "Outcome",
    "ParamsError",
    "ParamsWarning",
    "Project",
    "QueryError",
    "Rule",
    "RuleError",
    "Runs",
    "Session",
    "StateError",
    "Status",
    "StorageError",
    "StorageMode",
    "Sweep",
    "TrackerError",
    "TrackerWarning",
    "VersionError",
    "Why",
    "__version__",
    "grid",
    "product",
    "uid",
    "zipped",
]
