"""What verify and rebuild report, as data.

Spec: spec/recovery.md.
"""

import enum
from collections.abc import Callable

from msgspec import Struct


class Level(enum.StrEnum):
    """How deep verify looks; each level includes the one before."""

    QUICK = "quick"
    FULL = "full"
    REPLAY = "replay"


class Severity(enum.StrEnum):
    """What a finding means for the exit code."""

    DAMAGE = "damage"
    INCOMPLETE = "incomplete"
    NOTE = "note"


class Finding(Struct, frozen=True):
    """One thing that is not as it should be. `path` is relative to the root, or absolute if external."""

    code: str
    severity: Severity
    path: str
    what: str
    cure: str


class Report(Struct, frozen=True):
    """What verify found, and how many things of each kind it looked at."""

    level: Level
    findings: list[Finding]
    checked: dict[str, int]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 damage or alteration, 3 only incomplete. Notes do not count."""
        severities = {finding.severity for finding in self.findings}
        if Severity.DAMAGE in severities:
            return 1
        return 3 if Severity.INCOMPLETE in severities else 0


class Rebuilt(Struct, frozen=True):
    """What rebuild made.

    `unmatched` are manifests of frames that are not here, which rebuild leaves as they are; `recovered` those
    that this call took into the ledger, or of which it noted that the ledger knows better.
    """

    runs: int
    manifests_written: int
    manifests_kept: int
    unmatched: list[str] = []
    recovered: list[str] = []


class Mend(Struct, frozen=True):
    """One thing that repair does, or would. `path` is relative to the root."""

    code: str
    path: str
    what: str


Step = tuple[Mend, Callable[[], object]]
"""What is to be done, and the act."""


class Repaired(Struct, frozen=True):
    """What repair did, or would, and what the system refused, with its reason."""

    mended: list[Mend]
    refused: list[Mend]


Progress = Callable[[str, int, int], None]
"""Told what is being read, and how much of how much is done."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


CURE_COPY = "copy it again from another copy of the tree"
CURE_REBUILD = "run `tracker rebuild`"
CURE_REPAIR = "run `tracker repair`"
CURE_MERGE = "run `tracker merge COPY` with another copy of the tree; what is good in it counts"
CURE_LOST_LOG = "copy the tree again, or run `tracker rebuild --lost-log`, which takes its run from it"


def damage(code: str, path: str, what: str, cure: str = CURE_COPY) -> Finding:
    """Bytes that are not what was written."""
    return Finding(code, Severity.DAMAGE, path, what, cure)


def incomplete(code: str, path: str, what: str, cure: str) -> Finding:
    """What a crash or an unfinished copy leaves."""
    return Finding(code, Severity.INCOMPLETE, path, what, cure)


def note(code: str, path: str, what: str, cure: str = "nothing need be done") -> Finding:
    """Worth knowing, and no fault of the store."""
    return Finding(code, Severity.NOTE, path, what, cure)
