"""How many cases a storm tried, and which of them failed. One that tried nothing is no success."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN = 10


@dataclass(slots=True)
class Tally:
    """The count of one storm; `figures` are numbers beside it that a reader wants to see."""

    kind: str
    seed: int
    cases: int = 0
    failures: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """True if something was tried and nothing failed."""
        return self.cases > 0 and not self.failures

    def fail(self, what: str) -> None:
        """Note that a case did not hold."""
        self.failures.append(what)

    def expect(self, holds: bool, what: str) -> None:
        """Note a failure unless `holds`."""
        if not holds:
            self.fail(what)

    def add(self, figure: str, number: float = 1) -> None:
        """Count towards a figure."""
        self.figures[figure] = self.figures.get(figure, 0) + number

    def to_json(self) -> dict[str, Any]:
        """Give all of it as plain values."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "cases": self.cases,
            "failed": len(self.failures),
            "figures": self.figures,
            "failures": self.failures,
        }

    def to_text(self) -> str:
        """Give it as lines for a person."""
        lines = [f"{self.kind}, seed {self.seed}: {self.cases:,} cases tried, {len(self.failures)} failed"]
        lines += [f"  {name}: {_shown(figure)}" for name, figure in self.figures.items()]
        lines += [f"  FAILED {failure}" for failure in self.failures[:SHOWN]]
        if len(self.failures) > SHOWN:
            lines.append(f"  and {len(self.failures) - SHOWN} more")
        if not self.cases:
            lines.append("  nothing was tried")
        return "\n".join(lines)


def _shown(figure: object) -> str:
    return (
        f"{figure:,.4g}"
        if isinstance(figure, float)
        else f"{figure:,}"
        if isinstance(figure, int)
        else str(figure)
    )
