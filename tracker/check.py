"""verify: what is wrong with a store, as data; rebuild: derived files made anew.

verify reads and changes nothing. rebuild writes manifests and the index, nothing else.

Spec: spec/log.md section 4; spec/layout.md sections 2 to 5; spec/manifest.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from msgspec import Struct

from tracker.ledger import Ledger


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
    """One thing that is not as it should be."""

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
    """What rebuild made."""

    runs: int
    manifests_written: int
    manifests_kept: int


Progress = Callable[[str, int, int], None]
"""Told what is being read, and how much of how much is done."""
