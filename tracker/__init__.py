"""Experiment runs as plain files: same params, same hash, same folder, on any machine.

    from tracker import Project

    run = Project("results").session("train", params={"lr": 1e-3})
    if not run.is_done():
        with run:
            run.path("model.pt").write_bytes(...)

The front door: every public name is here, and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tracker._model.rules import Rule, RuleError
from tracker.errors import (
    AmbiguousError,
    ClaimedError,
    ClockWarning,
    DamagedError,
    MetricError,
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
from tracker.project import Project
from tracker.session import Session
from tracker.terms import Capture, Durability, ExistingRun, Seal, Status, StorageMode
from tracker.version import VERSION as __version__

if TYPE_CHECKING:
    from tracker.mapping import Outcome
    from tracker.runs import Runs
    from tracker.sweep import Sweep
    from tracker.why import Why
else:  # where names are checked, one that is not here stays an error

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LATER[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


_LATER = {
    "Outcome": "tracker.mapping",
    "Runs": "tracker.runs",
    "Sweep": "tracker.sweep",
    "Why": "tracker.why",
}
"""Public name -> its room, which no look-up needs: loaded when the name is asked for."""

__all__ = [
    "AmbiguousError",
    "Capture",
    "ClaimedError",
    "ClockWarning",
    "DamagedError",
    "Durability",
    "ExistingRun",
    "Ledger",
    "MetricError",
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
    "Seal",
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
