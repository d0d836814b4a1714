"""What of a run's files is to be sealed, as the settings of a namespace say. Knows words, not files.

Spec: spec/sealing.md section 2.
"""

from __future__ import annotations

import math

from msgspec import Struct

from tracker.terms import Seal


class SealPolicy(Struct, frozen=True):
    """What of a file is sealed; of one that is longer than `max_bytes` its size alone."""

    how: Seal = Seal.DIGEST
    max_bytes: int | None = None

    @property
    def hashed_max_bytes(self) -> float:
        """The size of the longest file that is hashed; less than any size if none is."""
        if self.how is not Seal.DIGEST:
            return -1
        return math.inf if self.max_bytes is None else self.max_bytes


WHOLE = SealPolicy()
