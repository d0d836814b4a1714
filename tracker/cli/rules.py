"""`rule`: what may change in params without a change of identity, added and listed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from msgspec import to_builtins

from tracker._model.event import Rule as RuleEvent
from tracker._model.fold import Stamp
from tracker._model.rules import Rule, rules_of
from tracker.cli.command import Command
from tracker.cli.complaints import Exit, UsageError
from tracker.cli.hashing import parse_json
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.cli.words import iso_time, printable
from tracker.ruling import Added, add_rule, plan_rule

_USAGE = "ignore PATH, absent PATH JSON or rename OLD NEW"

_MAKERS: dict[str, tuple[int, Callable[..., Rule]]] = {
    "ignore": (1, Rule.ignore),
    "absent": (2, lambda path, text: Rule.absent(path, parse_json(text.encode("utf-8", "surrogateescape")))),
    "rename": (2, Rule.rename),
}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("add", "list"), help="add one, or list those there are")
    parser.add_argument("words", metavar="WORD", nargs="*", help=f"of add: {_USAGE}")
    parser.add_argument(
        "--dry-run", action="store_true", help="of add: print what it would do, and add nothing"
    )


def rule(options: Namespace, screen: Screen) -> int:
    """Add a rule to the store, or print its rules."""
    if options.action == "add":
        return _add(options, screen)
    if options.words or options.dry_run:
        raise UsageError("`rule list` takes nothing more", "see `tracker rule --help`")
    return _list(options, screen)


def _rule_of(words: list[str]) -> Rule:
    count, make = _MAKERS.get(words[0] if words else "", (None, Rule.ignore))
    if count is None or len(words) != count + 1:
        raise UsageError(f"`rule add {' '.join(words)}` is no rule", f"give {_USAGE}")
    return make(*words[1:])


def _add(options: Namespace, screen: Screen) -> int:
    wanted = _rule_of(options.words)
    ledger = open_store(options, screen)
    added = plan_rule(ledger, wanted) if options.dry_run else add_rule(ledger, wanted)
    if screen.as_json:
        screen.json({"dry_run": options.dry_run, **to_builtins(added)})
    elif screen.is_terminal:
        screen.write(f"{printable(_sentence(added, is_plan=options.dry_run))}\n")
    else:
        screen.rows(
            (), [[_said(added, is_plan=options.dry_run), added.rule, str(added.changed), str(added.sharing)]]
        )
    return Exit.OK


def _said(added: Added, *, is_plan: bool) -> str:
    if not added.is_new:
        return "there already"
    return "would be added" if is_plan else "added"


def _sentence(added: Added, *, is_plan: bool) -> str:
    will = "would answer" if is_plan else "answer"
    return (
        f"{added.rule}: {_said(added, is_plan=is_plan)}; {added.changed} runs {will} to other params, "
        f"{added.sharing} share theirs with a run of other params"
    )


def _list(options: Namespace, screen: Screen) -> int:
    """Print the rules; those that contradict each other are printed too, and then complained of."""
    found = open_store(options, screen).rules()
    rows: list[list[str]] = [
        [iso_time(stamp[0] >> 16), event.kind, event.path, "" if event.value is None else event.value]
        for stamp, event in found
    ]
    if screen.as_json:
        screen.json([_as_json(*entry) for entry in found])
    else:
        screen.rows(("since", "rule", "path", "value"), rows)
    screen.flush()
    rules_of(event for _, event in found)
    return Exit.OK


def _as_json(stamp: Stamp, event: RuleEvent) -> dict[str, str | None]:
    return {"time": iso_time(stamp[0] >> 16), "kind": event.kind, "path": event.path, "value": event.value}


RULE = Command(
    "rule",
    "what may change in params without making another run",
    """\
ignore PATH       the member at PATH is no part of what identifies a run
absent PATH JSON  params without the member mean this value
rename OLD NEW    the member at OLD means one at NEW
A PATH leads through objects: loader.num_workers; a key that is no plain word
stands in brackets: ["a.b"].c. A rule is never taken back; one that contradicts
another is refused. No run is hashed again or moved: runs recorded before are
found by the params of today. On a pipe `add` prints, with tabs: added, would be
added or there already; the rule; how many runs answer to other params by it;
how many runs then share theirs with a run of other params. `list` prints time,
kind, path, value.

examples:
  tracker rule add ignore loader.num_workers --dry-run
  tracker rule add absent ema false
  tracker rule add rename lr optim.lr
  tracker rule list""",
    _arguments,
    rule,
)
