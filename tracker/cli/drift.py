"""`drift`: runs of the same params that finished with other files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator

from msgspec import to_builtins

from tracker.cli.asking import add_where, asking, collection_of, tell_unknown_keys
from tracker.cli.command import Command
from tracker.cli.complaints import Exit
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.drift import Content, Drift, Side, find_drift
from tracker.runs.source import Present
from tracker.runs.table import text_of


@asking
def drift(options: Namespace, screen: Screen) -> int:
    """Print where attempts or repeats disagree; 1 if any do."""
    ledger = open_store(options, screen)
    source = Present(ledger)
    rows = [row for _, row in collection_of(options, [source]).iter_placed()]
    found = list(find_drift(ledger, rows))
    if screen.as_json:
        screen.json([to_builtins(one) for one in found])
    else:
        screen.rows(
            ("what", "name", "value", "attempts"), [row for one in found for row in _rows(one, screen)]
        )
    if not rows:
        tell_unknown_keys(options.where, [source])
    return Exit.NO if found else Exit.OK


def _rows(one: Drift, screen: Screen) -> Iterator[tuple[str, ...]]:
    yield "drift", one.ref, "", str(len(one.sides))
    yield from (_side_row(number, side, screen) for number, side in enumerate(one.sides, 1))
    for name, contents in one.files.items():
        yield from (_file_row(name, content) for content in contents)
    for path, values in one.differences.items():
        for value in dict.fromkeys(map(text_of, values)):
            places = [number for number, other in enumerate(values, 1) if text_of(other) == value]
            yield "differs", path, value, _numbers(places)


def _side_row(number: int, side: Side, screen: Screen) -> tuple[str, ...]:
    ended = "" if side.ended_ms is None else screen.when(side.ended_ms)
    return "attempt", side.run, f"{side.attempt} {ended}".strip(), str(number)


def _file_row(name: str, content: Content) -> tuple[str, ...]:
    return "file", name, content.digest or "not there", _numbers(side + 1 for side in content.sides)


def _numbers(places: Iterable[int]) -> str:
    return " ".join(map(str, places))


DRIFT = Command(
    "drift",
    "runs of the same params that finished with other files",
    """\
Of each run the attempts that ended as done are compared, those of its repeats
with them: the files that were sealed, by name and digest. Exit code 1 if some
disagree. On a pipe one line each, with tabs: drift, the run, nothing, how many
attempts; then attempt, its run, its id and end, its number; file, its name, its
BLAKE3 or `not there`, the numbers of the attempts of which this is true; and
differs, a place in code or environment, what stands there, the numbers again.

examples:
  tracker drift
  tracker drift 'lr<0.1' --json | jq -r '.[].files | keys[]'""",
    add_where,
    drift,
)
