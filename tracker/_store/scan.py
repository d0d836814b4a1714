"""The finished runs of one namespace, all at once, while many of them are asked for, as a resumed sweep does.

A question costs the index 5 µs, the list of all that are done 0.3 µs a row. The list is fetched when as many
questions were asked as it costs: who asks for few never pays for it, who asks for all pays twice at most.

Holds what its owner says and drops it when the owner's `generation` moves; pure.
"""

from __future__ import annotations

ROWS_MAX = 1 << 18
"""Beyond so many rows they are asked for one at a time: the list would take 130 bytes each."""

LEAST = 64
"""So many questions are asked of the index in any case."""

_ROWS_A_QUESTION = 16
"""So many rows of the list cost what one question does."""


class Scan:
    """What is known to be done, and how often was asked. One thread at a time."""

    __slots__ = ("_asked", "_due", "_generation", "_identifier", "_relpath", "done")

    def __init__(self) -> None:
        self.done: frozenset[str] = frozenset()
        self._generation = -1
        self._identifier = self._relpath = ""
        self._asked = self._due = 0

    def is_about(self, identifier: str, relpath: str, generation: int) -> bool:
        """True if what is held is of these runs, and of this moment."""
        return generation == self._generation and identifier == self._identifier and relpath == self._relpath

    def count(self, identifier: str, relpath: str, generation: int) -> bool:
        """One more question about these runs. True if now is the time to say how many rows there are."""
        if not self.is_about(identifier, relpath, generation):
            self.done = frozenset()
            self._generation, self._identifier, self._relpath = generation, identifier, relpath
            self._asked, self._due = 0, LEAST
        self._asked += 1
        return self._asked == self._due

    def is_worth(self, rows: int) -> bool:
        """True if the list, out of `rows`, is worth fetching now. If not, `count` says when to ask again."""
        if rows > ROWS_MAX:
            self._due = 0
        elif self._asked * _ROWS_A_QUESTION < rows:
            self._due = rows // _ROWS_A_QUESTION + 1
        else:
            return True
        return False
