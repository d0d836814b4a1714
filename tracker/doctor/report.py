"""What the doctor found out about a mount, as data.

Spec: spec/layout.md section 8.
"""

import enum

from msgspec import Struct

Figure = int | float | str | bool | None


class Verdict(enum.StrEnum):
    """What a probe means for a store; the later one is the worse."""

    OK = "ok"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    UNFIT = "unfit"


class Need(enum.StrEnum):
    """What in tracker counts on the thing that is probed."""

    HISTORY = "history"
    CLAIMS = "claims"
    INDEX = "index"
    PLACE = "place"
    NOTHING = "nothing"


class Reading(Struct, frozen=True):
    """What one probe measured: in words, and as figures."""

    verdict: Verdict
    measured: str
    figures: dict[str, Figure] = {}


class Result(Struct, frozen=True):
    """A reading beside what it is for; `otherwise` is what tracker does where the thing is missing."""

    probe: str
    verdict: Verdict
    measured: str
    relied_on_by: Need
    otherwise: str
    figures: dict[str, Figure]


class Diagnosis(Struct, frozen=True):
    """All results of one folder."""

    folder: str
    results: list[Result]

    @property
    def verdict(self) -> Verdict:
        """The worst of all. What could not be measured does not count."""
        known = [result.verdict for result in self.results if result.verdict is not Verdict.UNKNOWN]
        return max(known, key=list(Verdict).index, default=Verdict.OK)

    @property
    def exit_code(self) -> int:
        """1 for a folder that is unfit for a store, else 0."""
        return int(self.verdict is Verdict.UNFIT)


def reading(holds: bool, otherwise: Verdict, measured: str, **figures: Figure) -> Reading:
    """A reading that is OK if it `holds`, and else of the verdict `otherwise`."""
    return Reading(Verdict.OK if holds else otherwise, measured, figures)
