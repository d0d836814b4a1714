"""`tag`, `untag`, `note`, `name`, `parent`: what people say of runs, with who said it, where and when."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from tracker import marks
from tracker._model.event import Noted, Tagged
from tracker._model.fold import Run, Stamp
from tracker._model.names import run_ref, split_ref
from tracker._store.index import Filter
from tracker.cli.asking import add_where, asking, collection_of, sources_of, tell_unknown_keys
from tracker.cli.command import RUN_HELP, Command, add_run
from tracker.cli.complaints import Exit, UsageError
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import iso_time, local_time, printable
from tracker.ledger import Ledger
from tracker.terms import RunRef

# tag and untag


def _tag_arguments(parser: ArgumentParser) -> None:
    _word_arguments(parser)
    parser.add_argument("--remove", metavar="TAG", action="append", default=[], help="take this one off too")


def _word_arguments(parser: ArgumentParser) -> None:
    about = "the run, then its tags; only tags where --run or --where says which runs"
    parser.add_argument("words", metavar="WORD", nargs="*", help=about)
    parser.add_argument("--run", metavar="RUN", action="append", dest="runs", help=RUN_HELP)
    add_where(parser, option=True)
    parser.add_argument("--identifier", metavar="ID", help="the runs' kind, where several share a uid")
    parser.add_argument("--dry-run", action="store_true", help="print what would be said, and record nothing")


@asking
def tag(options: Namespace, screen: Screen) -> int:
    """Put tags on runs, or take some off; without one print the tags of a run."""
    words, is_named = list(options.words), _says_which(options)
    if len(words) == 1 and not is_named and not options.remove:
        return _print_tags(options, screen)
    named_first = words if is_named else words[1:]
    return _change_tags(options, screen, marks.tagged(_ANY, named_first, options.remove))


@asking
def untag(options: Namespace, screen: Screen) -> int:
    """Take tags off runs."""
    words = options.words if _says_which(options) else options.words[1:]
    return _change_tags(options, screen, marks.tagged(_ANY, (), words))


_ANY = RunRef("")
"""Stands for the runs while the words are checked: a wrong one is told before any run is looked for."""


def _says_which(options: Namespace) -> bool:
    if options.runs and options.where is not None:
        raise UsageError("--run and --where both say which runs", "give one of them")
    return bool(options.runs) or options.where is not None


def _change_tags(options: Namespace, screen: Screen, wanted: Tagged) -> int:
    if not wanted.added and not wanted.removed:
        raise UsageError("no tag is given", "give the run and then its tags, as: tracker tag 3f2a paper")
    ledger = open_store(options, screen)
    changes = [marks.change_of(run, wanted) for run in _runs_meant(ledger, options, screen)]
    news = [change for change in changes if change.added or change.removed]
    if not options.dry_run:
        marks.append_marks(ledger, [*news])
    _tell_changes(changes, len(news), options, screen)
    return Exit.OK


def _runs_meant(ledger: Ledger, options: Namespace, screen: Screen) -> list[Run]:
    """The runs, all named before anything is said of the first."""
    if options.where is not None:
        sources = sources_of(options, screen)
        rows = [row for _, row in collection_of(options, sources).iter_placed()]
        refs = [run_ref(row.relpath, row.identifier, row.uid) for row in rows]
        if not refs:
            tell_unknown_keys(options.where, sources)
        kinds = [ref for ref in refs if options.identifier in (None, split_ref(ref).identifier)]
        return [run for run in map(ledger.run, kinds) if run is not None]
    texts = options.runs or options.words[:1]
    chosen = [choose_run(ledger, text, options.identifier) for text in texts]
    return list({run.ref: run for run in chosen}.values())


def _tell_changes(changes: list[Tagged], count: int, options: Namespace, screen: Screen) -> None:
    if screen.as_json:
        said = [{"ref": c.run, "added": c.added, "removed": c.removed} for c in changes]
        screen.json({"dry_run": options.dry_run, "changed": count, "runs": said})
    elif screen.is_terminal:
        verb = "would be changed" if options.dry_run else "changed"
        screen.write(f"{count} of {len(changes)} runs {verb}\n")
    else:
        screen.rows((), [[*_head(change.run), _signed(change)] for change in changes])


def _signed(change: Tagged) -> str:
    return " ".join([*(f"+{text}" for text in change.added), *(f"-{text}" for text in change.removed)])


def _head(ref: RunRef) -> list[str]:
    relpath, identifier, uid = split_ref(ref)
    return [uid, identifier, relpath or "."]


def _print_tags(options: Namespace, screen: Screen) -> int:
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.words[0], options.identifier)
    if screen.as_json:
        screen.json({"ref": run.ref, "tags": run.tags})
    else:
        screen.write("".join(f"{printable(text)}\n" for text in run.tags))
    return Exit.OK


# note


def _note_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("text", metavar="TEXT", nargs="?", help="what is to be noted; - reads standard input")


def note(options: Namespace, screen: Screen) -> int:
    """Add a note to a run; without one print its notes."""
    text = sys.stdin.read() if options.text == "-" else options.text
    if text is not None:
        marks.noted(_ANY, text)
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    if text is None:
        _print_notes(ledger, run, screen)
        return Exit.OK
    marks.append_marks(ledger, [marks.noted(run.ref, text)])
    if screen.as_json:
        screen.json({"ref": run.ref, "notes": len(run.notes) + 1})
    elif screen.is_terminal:
        screen.write(f"{printable(run.ref)}: noted\n")
    return Exit.OK


def _print_notes(ledger: Ledger, run: Run, screen: Screen) -> None:
    wanted = Filter(relpath=run.relpath, identifier=run.identifier, uid=run.uid, removed=None)
    found = [(stamp, event.text) for stamp, event in ledger.events(wanted) if isinstance(event, Noted)]
    if screen.as_json:
        screen.json([_note_as_json(ledger, *entry) for entry in found])
        return
    rows = [[_when(stamp, screen), _by(ledger, stamp), text] for stamp, text in found]
    screen.rows(("time", "by", "note"), rows)


def _note_as_json(ledger: Ledger, stamp: Stamp, text: str) -> dict[str, Any]:
    by = marks.author_of(ledger, stamp)
    who = {"user": None, "host": None} if by is None else {"user": by.user, "host": by.host}
    return {"time": iso_time(stamp[0] >> 16), **who, "text": text}


def _when(stamp: Stamp, screen: Screen) -> str:
    ms = stamp[0] >> 16
    return local_time(ms) if screen.is_terminal else iso_time(ms)


def _by(ledger: Ledger, stamp: Stamp) -> str:
    by = marks.author_of(ledger, stamp)
    return "" if by is None else str(by)


# name and parent


def _name_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="what people are to call it")
    parser.add_argument("--remove", action="store_true", help="take its name away")


def name(options: Namespace, screen: Screen) -> int:
    """Give a run a name; without one print it."""
    _refuse_both(options.name, "a name", remove=options.remove)
    if options.name is not None:
        marks.named(_ANY, options.name)
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    if options.name is None and not options.remove:
        return _tell("name", run.ref, run.name, screen, is_new=None)
    event = marks.named(run.ref, options.name)
    is_new = event.name != run.name
    marks.append_marks(ledger, [event] if is_new else [])
    return _tell("name", run.ref, event.name, screen, is_new=is_new)


def _parent_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("parent", metavar="PARENT", nargs="?", help="the run that it belongs to, as RUN")
    parser.add_argument("--remove", action="store_true", help="set it free")


def parent(options: Namespace, screen: Screen) -> int:
    """Say which run a run belongs to; without one print it."""
    _refuse_both(options.parent, "a parent", remove=options.remove)
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    if options.parent is None and not options.remove:
        return _tell("parent", run.ref, run.parent, screen, is_new=None)
    above = None if options.parent is None else choose_run(ledger, options.parent, None)
    event = marks.parented(ledger, run.ref, above)
    is_new = event.parent != run.parent
    marks.append_marks(ledger, [event] if is_new else [])
    return _tell("parent", run.ref, event.parent, screen, is_new=is_new)


def _refuse_both(word: str | None, what: str, *, remove: bool) -> None:
    if word is not None and remove:
        raise UsageError(f"{what} and --remove are both given", "give one of them")


def _tell(what: str, ref: RunRef, value: str | None, screen: Screen, *, is_new: bool | None) -> int:
    """What is so now; `is_new` is None where nothing was to be changed."""
    if screen.as_json:
        screen.json({"ref": ref, what: value} | ({} if is_new is None else {"changed": is_new}))
    elif is_new is None:
        screen.write("" if value is None else f"{printable(value)}\n")
    elif screen.is_terminal:
        screen.write(f"{printable(ref)}: {what} {'taken away' if value is None else printable(value)}\n")
    else:
        screen.rows((), [[*_head(ref), value or ""]])
    return Exit.OK


TAG = Command(
    "tag",
    "tags put on runs",
    """\
Without a TAG the tags of the run are printed, one a line. A tag has 1 to 64
characters, no comma, and no space at its ends. What is so already is not
recorded again. On a pipe one line a run, with tabs: uid, identifier, namespace,
and what changed, as +paper -draft. `log` says who put it on, where and when.

examples:
  tracker tag 3f2a paper --remove draft
  tracker tag --where 'lr < 0.1' paper --dry-run
  tracker ls "'paper' in tags\"""",
    _tag_arguments,
    tag,
)

UNTAG = Command(
    "untag",
    "tags taken off runs",
    """\
The columns are those of `tag`.

examples:
  tracker untag 3f2a draft
  tracker untag --where "'draft' in tags" draft""",
    _word_arguments,
    untag,
)

NOTE = Command(
    "note",
    "a note to a run, or its notes",
    """\
A note is never taken back. Without TEXT the notes are printed, oldest first; on
a pipe one line each, with tabs: time in UTC, user@host, text.

examples:
  tracker note @latest 'diverged after the second epoch'
  git log -1 | tracker note 3f2a -
  tracker note 3f2a""",
    _note_arguments,
    note,
)

NAME = Command(
    "name",
    "what people call a run",
    """\
It need not be its alone, and finds it by `tracker ls "name == 'baseline'"`.
Without NAME it is printed. On a pipe one line, with tabs: uid, identifier,
namespace, name.

examples:
  tracker name 3f2a baseline
  tracker name 3f2a --remove""",
    _name_arguments,
    name,
)

PARENT = Command(
    "parent",
    "the run that a run belongs to",
    """\
A run that belongs to this one, at any depth, cannot be its parent. Without
PARENT it is printed as a ref. On a pipe one line, with tabs: uid, identifier,
namespace, ref of the parent.

examples:
  tracker parent 3f2a 9c1d
  tracker ls "parent == 'sweep/9c1dd3e5a0b1c2d3e4f5061728394a5b'\"""",
    _parent_arguments,
    parent,
)
