"""How far numbers lie from their mean. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def deviation_of(numbers: Sequence[float]) -> float:
    """The standard deviation of a sample, reckoned exactly and rounded once; of one number there is none."""
    return statistics.stdev(numbers) if len(numbers) > 1 else math.nan
