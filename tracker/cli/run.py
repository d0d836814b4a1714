"""`show`, `params`, `path`: one run."""

from __future__ import annotations

import json
import os
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from tracker._codec.canonical import format_tree, is_canonical, parse
from tracker._model import names
from tracker._model.event import Failed, File, Interrupted
from tracker._model.fold import Attempt, Run, hex_or_none, run_as_json
from tracker._store.objects import get_object
from tracker.cli.command import Command, add_run
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, find_root, open_store
from tracker.cli.table import STATUS_STYLES
from tracker.cli.words import duration, in_ascii, printable, status_words
from tracker.errors import DamagedError, NotFoundError, ParamsError, TrackerError
from tracker.ledger import Ledger
from tracker.liveness import as_seen
from tracker.terms import Digest, StorageMode

Fact = tuple[str, ...]
"""A label and its cells."""


def show(options: Namespace, screen: Screen) -> int:
    """Print what is known of one run."""
    ledger = open_store(options, screen)
    run = as_seen(ledger, choose_run(ledger, options.run, options.identifier))
    if screen.as_json:
        screen.json(run_as_json(run))
        return 0
    status = status_words(run) if screen.is_terminal else str(run.status)
    screen.fact("run", run.ref)
    screen.fact("status", status, style=STATUS_STYLES.get(run.status, ""))
    for label, *cells in _iter_facts(run, screen):
        screen.fact(label, *cells)
    for attempt in run.attempts:
        for label, *cells in _iter_attempt_facts(ledger, attempt, screen):
            screen.fact(label, *cells)
    return 0


def _iter_facts(run: Run, screen: Screen) -> Iterator[Fact]:
    yield "uid", run.uid
    if run.key != run.uid:
        yield "key", run.key or "none: a session without params"
    yield "created", screen.moment(run.first[0] >> 16)
    yield "folder", _folder(run) or "."
    yield "params", _params_text(run, screen)
    yield from (("tag", tag) for tag in run.tags)
    yield from (("note", text) for text in run.notes)
    if run.name is not None:
        yield "name", run.name
    if run.parent is not None:
        yield "parent", run.parent
    yield from (("metric", name, *_metric_cells(value)) for name, value in run.summary.items())
    if run.attempt is not None:
        yield from _iter_provenance(run.attempt)
    yield from (("warning", text) for text in _warnings(run))


def _metric_cells(value: Any) -> list[str]:
    """A summary value: of a metric its last, least and greatest value, with their steps."""
    if not isinstance(value, dict) or "last" not in value:
        return [str(value)]
    return [
        f"{word} {value[word]:.6g} at {value[f'{word}_step']}"
        for word in ("last", "min", "max")
        if isinstance(value.get(word), int | float) and f"{word}_step" in value
    ]


def _iter_provenance(attempt: Attempt) -> Iterator[Fact]:
    """What the attempt ran in, and what it read. Spec: spec/provenance.md section 2."""
    facts = attempt.facts
    if "commit" in facts:
        yield "commit", str(facts["commit"]), "with changes" if facts.get("dirty") else "clean"
    argv = facts.get("argv")
    if isinstance(argv, list):
        yield "command", shlex.join(map(str, argv))
    yield from (
        (label, str(facts[label])) for label in ("script", "cwd", "environment", "code") if label in facts
    )
    yield from (("seed", name, str(seed)) for name, seed in dict(facts.get("seeds") or {}).items())
    yield from (("problem", str(text)) for text in facts.get("problems") or [])
    for one in attempt.inputs:
        size = "" if one.size is None else str(one.size)
        yield "input", one.name, one.path, size, hex_or_none(one.digest) or "", one.source or ""


def _warnings(run: Run) -> Iterator[str]:
    if run.removed:
        yield "removed: `ls` leaves it out"
    if run.divergent:
        yield "divergent: attempts that did not know each other finished with different files"
    if run.unproven:
        yield "unproven: some of this was salvaged from a damaged file"


def _params_text(run: Run, screen: Screen) -> str:
    """The canonical text; on a terminal one member a line."""
    if run.params is None:
        return "unknown: the segment that creates this run is not here"
    if not screen.is_terminal:
        return run.params
    try:
        members = parse(run.params.encode())
    except ParamsError:
        return run.params
    return "\n".join(format_tree({key: value}).decode()[1:-1] for key, value in members.items()) or "{}"


def _iter_attempt_facts(ledger: Ledger, attempt: Attempt, screen: Screen) -> Iterator[Fact]:
    yield "attempt", attempt.id, str(attempt.status), *_times(attempt, screen)
    end = attempt.end
    if isinstance(end, Failed) and (end.type or end.message):
        yield "error", f"{end.type}: {end.message}"
    if isinstance(end, Failed) and end.traceback is not None:
        yield "traceback", _object_text(ledger, end.traceback)
    if isinstance(end, Interrupted) and end.signal:
        yield "signal", end.signal
    yield from (("file", *_file_cells(file, screen)) for file in attempt.files)


def _times(attempt: Attempt, screen: Screen) -> Iterator[str]:
    start, end = attempt.started_ms, attempt.ended_ms
    if not screen.is_terminal:
        yield from ("" if ms is None else screen.when(ms) for ms in (start, end))
        return
    if start is not None:
        yield f"started {screen.when(start)}"
    if start is not None and end is not None and end >= start:
        yield f"took {duration(end - start)}"


def _file_cells(file: File, screen: Screen) -> Iterator[str]:
    yield file.name
    yield file.path
    if file.size is not None or not screen.is_terminal:
        yield "" if file.size is None else screen.size(file.size)
    if not screen.is_terminal:
        yield "" if file.digest is None else file.digest.hex()


def _object_text(ledger: Ledger, digest: bytes) -> str:
    try:
        data = get_object(ledger.lookup.store_fd, Digest(digest.hex()))
    except (TrackerError, OSError) as error:
        return str(error)
    return data.decode("utf-8", "replace")


def params(options: Namespace, screen: Screen) -> int:
    """Print the canonical text of a run's params: on a pipe these bytes and nothing else."""
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    if run.params is None:
        cure = "the segment that creates it is not here: copy the tree again"
        raise NotFoundError(f"params of run {run.ref}", str(ledger.root), cure)
    if screen.as_json:
        screen.write(_params_as_json(run, run.params))
    elif screen.is_terminal:
        screen.write(printable(run.params) + "\n")
    else:
        screen.write_bytes(run.params.encode())
    return 0


def _params_as_json(run: Run, text: str) -> str:
    """One JSON document with the params as they are spelled: 1.0 stays 1.0."""
    if not is_canonical(text.encode()):
        raise DamagedError(run.ref, "its recorded params are not canonical", cure="see `tracker verify`")
    ref, key = json.dumps(run.ref), json.dumps(run.key)
    return f'{{"ref": {ref}, "uid": "{run.uid}", "key": {key}, "params": {in_ascii(text)}}}\n'


def path(options: Namespace, screen: Screen) -> int:
    """Print the folder of a run, or the path of one of its files. Makes nothing."""
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    recorded = {} if run.attempt is None else {file.name: file.path for file in run.attempt.files}
    below = recorded.get(options.name) or _own_path(run, options.name)
    place = os.path.normpath(find_root(options) / below)
    if screen.as_json:
        is_there = os.path.lexists(place)
        screen.json({"path": place, "recorded": options.name in recorded, "exists": is_there})
    elif screen.is_terminal:
        screen.write(printable(place) + "\n")
    else:
        screen.write_bytes(os.fsencode(place) + b"\n")
    return 0


def _mode(run: Run) -> StorageMode:
    return StorageMode.PREFIX if run.mode == StorageMode.PREFIX else StorageMode.SUBFOLDER


def _folder(run: Run) -> str:
    return names.folder_of(run.relpath, run.uid, _mode(run))


def _own_path(run: Run, name: str | None) -> str:
    """The folder, or the path that a file of this name would have. Spec: spec/layout.md section 4."""
    if name is None:
        return _folder(run)
    if name == names.PARAMS:
        return names.params_path(run.relpath, run.uid, _mode(run))
    checked = names.check_name(name)
    return names.file_path(run.relpath, run.identifier, run.uid, _mode(run), checked, include_identifier=True)


def _path_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="a file of the run, recorded or not")


SHOW = Command(
    "show",
    "one run: params, attempts, files",
    """\
On a pipe one fact a line, with tabs: its label, then its values. Those of a
file are name, path below the root, size in bytes and BLAKE3; those of an
attempt are id, status, start and end in UTC.

examples:
  tracker show 9f86d081
  tracker show @latest --json | jq -r '.attempts[].files[][1]'""",
    add_run,
    show,
)

PARAMS = Command(
    "params",
    "the canonical text of a run's params, as hashed",
    """\
On a pipe exactly the bytes of params.json, whose BLAKE3 is the uid; on a
terminal a line feed after them. --json gives an object with ref, uid, key and
params.

examples:
  tracker params @latest | b3sum -l 16 --no-names
  diff <(tracker params 9f86 | jq -S .) <(tracker params 4c1a | jq -S .)""",
    add_run,
    params,
)

PATH = Command(
    "path",
    "the folder of a run, or the path of one of its files",
    """\
NAME is that of a recorded file; for any other it is the path that
`session.path(NAME)` would give. Nothing is made, and the file need not exist.
params.json is the name of the run's params.

examples:
  cd "$(tracker path @latest)"
  less "$(tracker path 9f86d081 train.log)\"""",
    _path_arguments,
    path,
)
