"""`log`: events, and new ones as they come."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from tracker._model.event import (
    Attached,
    Captured,
    Created,
    Done,
    Failed,
    Interrupted,
    Lost,
    Named,
    Noted,
    Parented,
    Purged,
    Removed,
    Restored,
    Rule,
    RunEvent,
    Started,
    Summary,
    Tagged,
    Used,
)
from tracker._model.fold import Stamp, attempt_id
from tracker._model.names import split_ref
from tracker._store.index import Filter
from tracker.cli.asking import add_at, past_ms
from tracker.cli.command import Command, add_run, count
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store, short_names
from tracker.cli.words import iso_time, local_time
from tracker.ledger import Ledger
from tracker.marks import author_of

FOLLOW_S = 0.2
"""How often the folder is looked at for new events."""

_KIND = len("interrupted")

_SHARE = 4
"""Following a large store waits this many times as long as a look takes."""

_HEADINGS = ("time", "event", "run", "identifier", "namespace", "detail", "by")
_STYLES = {"event": {"done": "green", "failed": "red", "interrupted": "yellow", "lost": "magenta"}}

Entry = tuple[Stamp, RunEvent | Rule]


def _arguments(parser: ArgumentParser) -> None:
    add_run(parser, optional=True)
    parser.add_argument("--limit", metavar="N", type=count, help="at most the N newest events")
    add_at(parser)
    parser.add_argument(
        "--follow",
        action="store_true",
        help="print new events as they come, oldest first, until Ctrl-C; with --limit, the N before them too",
    )


def log(options: Namespace, screen: Screen) -> int:
    """Print the history of a run or of all, newest first; or follow it."""
    ledger = open_store(options, screen)
    wanted = _wanted(ledger, options)
    entries = _entries(ledger, options, wanted)
    if options.follow:
        seen = {stamp for stamp, _ in entries}
        _print_each(entries[len(entries) - min(options.limit or 0, len(entries)) :], ledger, screen)
        _follow(partial(_entries, ledger, options, wanted), ledger, seen, screen)
    newest = entries[::-1] if options.limit is None else entries[::-1][: options.limit]
    if screen.as_json:
        screen.json([_as_json(entry, ledger) for entry in newest])
    else:
        short = short_names(ledger) if screen.is_terminal else {}
        screen.rows(_HEADINGS, [_row(entry, ledger, short, screen) for entry in newest], _STYLES)
    return 0


def _wanted(ledger: Ledger, options: Namespace) -> Filter:
    if options.run is None:
        return Filter(identifier=options.identifier, removed=None)
    run = choose_run(ledger, options.run, options.identifier)
    return Filter(relpath=run.relpath, identifier=run.identifier, uid=run.uid, removed=None)


def _entries(ledger: Ledger, options: Namespace, wanted: Filter) -> list[Entry]:
    """The events in order; rules are of no run, and stand in the history of all."""
    events: list[Entry] = [*ledger.events(wanted)]
    if options.run is None and options.identifier is None:
        events += ledger.rules()
        events.sort(key=lambda entry: entry[0])
    until_ms = past_ms(options)
    return [entry for entry in events if until_ms is None or entry[0][0] >> 16 <= until_ms]


def _follow(entries: Callable[[], list[Entry]], ledger: Ledger, seen: set[Stamp], screen: Screen) -> None:
    """Print what is recorded, here or by a copy that arrives, from now on. Ends with Ctrl-C alone."""
    known = -1
    while True:
        begin = time.monotonic()
        now = ledger.refresh()
        if now != known:
            news = [entry for entry in entries() if entry[0] not in seen]
            seen.update(stamp for stamp, _ in news)
            _print_each(news, ledger, screen)
            known = now
        time.sleep(max(FOLLOW_S, _SHARE * (time.monotonic() - begin)))


def _print_each(entries: list[Entry], ledger: Ledger, screen: Screen) -> None:
    for entry in entries:
        if screen.as_json:
            screen.json_line(_as_json(entry, ledger))
        else:
            when, kind, *others = _row(entry, ledger, {}, screen)
            screen.line([when, f"{kind:<{_KIND}}" if screen.is_terminal else kind, *others])
    screen.flush()


def _row(entry: Entry, ledger: Ledger, short: dict[str, str], screen: Screen) -> list[str]:
    stamp, event = entry
    ms = stamp[0] >> 16
    when = local_time(ms) if screen.is_terminal else iso_time(ms)
    if isinstance(event, Rule):
        return [when, kind_of(event), "", "", "", detail(event), _by(entry, ledger)]
    relpath, identifier, uid = split_ref(event.run)
    run = [short.get(uid, uid), identifier, relpath or "."]
    return [when, kind_of(event), *run, detail(event), _by(entry, ledger)]


def _by(entry: Entry, ledger: Ledger) -> str:
    """Who said it and where; of what a program records its run tells more."""
    by = author_of(ledger, entry[0]) if isinstance(entry[1], _SAID) else None
    return "" if by is None else str(by)


_SAID = (Tagged, Noted, Named, Parented, Removed, Restored, Purged, Rule)
"""The events that a person may have written, at a distance from the run."""


def _as_json(entry: Entry, ledger: Ledger) -> dict[str, Any]:
    told = event_as_json(*entry)
    return told | {"by": _by(entry, ledger) or None} if isinstance(entry[1], _SAID) else told


def kind_of(event: RunEvent | Rule) -> str:
    """The tag of an event, as the spec names it."""
    return str(event.__struct_config__.tag)


def detail(event: RunEvent | Rule) -> str:
    """What an event says beyond its kind and its run."""
    match event:
        case Created():
            return event.params if event.ignored is None else f"{event.params} ignored {event.ignored}"
        case Started():
            return f"supersedes {', '.join(event.supersedes)}" if event.supersedes else ""
        case Attached() | Done():
            return ", ".join(file.name for file in event.files)
        case Summary():
            return ", ".join(f"{name}={_last(value)}" for name, value in event.values.items())
        case Captured():
            return ", ".join(event.facts)
        case Used():
            return ", ".join(one.name for one in event.inputs)
        case Named():
            return event.name or ""
        case Parented():
            return event.parent or ""
        case Failed():
            return f"{event.type}: {event.message}" if event.type or event.message else ""
        case Interrupted():
            return event.signal or ""
        case Tagged():
            return " ".join([*(f"+{tag}" for tag in event.added), *(f"-{tag}" for tag in event.removed)])
        case Noted():
            return event.text
        case Lost() | Removed() | Restored():
            return event.reason
        case Purged():
            return f"{len(event.digests)} objects"
        case Rule():
            return " ".join(filter(None, (event.kind, event.path, event.value)))


def _last(value: Any) -> str:
    """A summary value in short: of a metric its last value."""
    return str(value["last"] if isinstance(value, dict) and "last" in value else value)


def event_as_json(stamp: Stamp, event: RunEvent | Rule) -> dict[str, Any]:
    """An event by the names of its fields; `at` is its place in the order. The `ref` of a rule is null.

    Spec: spec/events.md section 2.
    """
    clock, writer, seq, position, _ = stamp
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "run"}
    attempt = {"attempt": attempt_id(writer, seq)} if isinstance(event, Started) else {}
    head = {"at": [clock, writer, seq, position], "time": iso_time(clock >> 16)}
    return {**head, "event": kind_of(event), "ref": getattr(event, "run", None), **attempt, **fields}


LOG = Command(
    "log",
    "the history of a run or of all, newest first",
    """\
On a pipe one line an event, with tabs and no heading: time in UTC, event, uid,
identifier, namespace (. is the root's), detail, and of what people say of runs
user@host. A rule is of no run: it stands in the history of all. --json gives an
array of events; with --follow one JSON object a line.

examples:
  tracker log @latest
  tracker log --limit 20
  tracker log --follow --json | jq -r 'select(.event == "done").ref'""",
    _arguments,
    log,
)
