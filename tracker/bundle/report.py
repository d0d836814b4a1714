"""What making a bundle did, or would, as data."""

from __future__ import annotations

from msgspec import Struct

from tracker.terms import AttemptId, RunRef


class Unfit(Struct, frozen=True, order=True):
    """A file that is recorded and cannot be given: it is missing, or not what was sealed."""

    path: str
    what: str


class Bundled(Struct, frozen=True):
    """What stands in the archive, and what had to stay out of it. Paths are relative to the root.

    `verbatim` are segments that were taken as they are; `anew` counts the events that were written into a new
    one. `unfinished` are runs that are carried as RUNNING, without their files; `left_out` superseded
    attempts of which only the manifest is here; `strangers` counts runs that were not chosen and came along.
    """

    archive: str
    folder: str
    is_made: bool
    size_bytes: int
    files: int
    files_bytes: int
    runs: list[RunRef]
    verbatim: list[str]
    anew: int
    strangers: int
    unfinished: list[RunRef]
    left_out: list[AttemptId]
    unproven: list[RunRef]
    external: list[str]
    unchecked: list[str]
    unfit: list[Unfit]

    @property
    def exit_code(self) -> int:
        """0 all is there, 3 something is missing or changed."""
        return 3 if self.unfit else 0
