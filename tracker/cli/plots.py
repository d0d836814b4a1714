"""Curves drawn with characters: a line of blocks, and a field of braille dots. Pure.

Numbers that are none (NaN, infinities) leave a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column within a character
_BRAILLE = 0x2800
_MARGIN = 11


def number(value: float) -> str:
    """A number in at most 10 characters or so: six digits of it."""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**9 else f"{value:.6g}"
    return f"{value:.6g}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The course of some numbers in one line of at most `width` characters: the mean of each stretch."""
    if not values:
        return ""
    width = min(width, len(values))
    cuts = [len(values) * at // width for at in range(width + 1)]
    means = [_mean(values[start:end]) for start, end in pairwise(cuts)]
    there = [mean for mean in means if math.isfinite(mean)]
    if not there:
        return " " * width
    low, high = min(there), max(there)
    return "".join(_block(mean, low, high) for mean in means)


def _mean(stretch: Sequence[float]) -> float:
    there = [value for value in stretch if math.isfinite(value)]
    return math.fsum(value / len(there) for value in there) if there else math.nan


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    return BLOCKS[round(_share(value, low, high) * (len(BLOCKS) - 1))]


def _share(value: float, low: float, high: float) -> float:
    """Where a number is between two others, from 0 to 1. Halves are taken, as the span may be infinite."""
    span = high / 2 - low / 2
    return 0.5 if span == 0 else min(max((value / 2 - low / 2) / span, 0.0), 1.0)


def plot(steps: Sequence[int], values: Sequence[float], *, width: int, height: int) -> list[str]:
    """A curve as lines of text, `width` wide: its numbers upwards, its steps to the right."""
    points = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    if not points:
        return ["no finite number"]
    columns = max(width - _MARGIN - 1, 8)
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    field = _field(points, (left, right), (low, high), columns, height)
    labels = {0: number(high), height - 1: number(low)}
    lines = [
        f"{labels.get(row, ''):>{_MARGIN - 1}} ┤{text.rstrip(chr(_BRAILLE))}"
        for row, text in enumerate(field)
    ]
    ends = f"{left}{right:>{columns - len(str(left))}}" if left != right else str(left)
    return [*lines, f"{'':>{_MARGIN}}└{'─' * columns}", f"{'':>{_MARGIN + 1}}{ends}"]


def _field(
    points: Sequence[tuple[int, float]],
    x_range: tuple[int, int],
    y_range: tuple[float, float],
    columns: int,
    rows: int,
) -> list[str]:
    """Dots for points, and for the way from one to the next."""
    cells = [[0] * columns for _ in range(rows)]
    last: tuple[int, int] | None = None
    for step, value in points:
        x = round(_share(step, *x_range) * (columns * 2 - 1))
        y = round((1 - _share(value, *y_range)) * (rows * 4 - 1))
        for dot_x, dot_y in [(x, y)] if last is None else _line(*last, x, y):
            cells[dot_y // 4][dot_x // 2] |= _DOTS[dot_y % 4][dot_x % 2]
        last = x, y
    return ["".join(chr(_BRAILLE + cell) for cell in row) for row in cells]


def _line(x0: int, y0: int, x1: int, y1: int) -> list[tuple[int, int]]:
    """The dots from one to another, the first left out."""
    length = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [
        (x0 + round((x1 - x0) * at / length), y0 + round((y1 - y0) * at / length))
        for at in range(1, length + 1)
    ]
