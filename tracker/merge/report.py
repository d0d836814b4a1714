"""What a merge did, as data.

Spec: spec/merge.md section 8.
"""

import enum
from collections.abc import Callable

from msgspec import Struct, field

Progress = Callable[[str, int, int], None]
"""Told what is being read, and how much of how much is done."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Kind(enum.StrEnum):
    """What a path is a path of."""

    SEGMENT = "segment"
    MANIFEST = "manifest"
    OBJECT = "object"
    FILE = "file"


class Line(Struct, frozen=True):
    """One thing that was done or met. `path` is where it lies in SRC; `as_path` its name here, if another."""

    kind: Kind
    path: str
    what: str = ""
    as_path: str = ""


class MergeReport(Struct, frozen=True):
    """What was taken from SRC and what was not; with `dry_run`, what would be.

    `copied` were not here. `repaired` were damaged here: the bytes that were here are in quarantine.
    `parts` are good prefixes that came under a name of their own. `set_aside` are files of two contents: one
    has the name, the other lies beside it under `as_path`. `skipped` is what a merge does not take. `damaged`
    is wrong in SRC. `present` counts what was here already.
    """

    source: str
    target: str
    dry_run: bool
    present: int
    copied: list[Line]
    repaired: list[Line]
    parts: list[Line]
    set_aside: list[Line]
    skipped: list[Line]
    damaged: list[Line]
    forks: list[str]
    divergent: list[str]

    @property
    def changes(self) -> int:
        """How many names came, or would come, to the target."""
        return len(self.copied) + len(self.repaired) + len(self.parts) + len(self.set_aside)

    @property
    def exit_code(self) -> int:
        """1 if something in SRC is damaged, so that the union may lack it; else 0."""
        return 1 if self.damaged else 0

    def counts(self) -> dict[str, int]:
        """How many of each, in the order they are told."""
        lists = {name: len(getattr(self, name)) for name in LISTS}
        return {"present": self.present} | lists | {
            "forks": len(self.forks), "divergent": len(self.divergent),
        }  # fmt: skip


LISTS = ("copied", "repaired", "parts", "set_aside", "skipped", "damaged")


class Draft(Struct):
    """A report while it is being made."""

    source: str
    target: str
    dry_run: bool
    present: int = 0
    copied: list[Line] = field(default_factory=list)
    repaired: list[Line] = field(default_factory=list)
    parts: list[Line] = field(default_factory=list)
    set_aside: list[Line] = field(default_factory=list)
    skipped: list[Line] = field(default_factory=list)
    damaged: list[Line] = field(default_factory=list)

    def finished(self, forks: list[str], divergent: list[str]) -> MergeReport:
        """The report, with what the union of both histories shows."""
        return MergeReport(
            self.source, self.target, self.dry_run, self.present, self.copied, self.repaired, self.parts,
            self.set_aside, self.skipped, self.damaged, forks, divergent,
        )  # fmt: skip
