"""`logs`: what a run printed, whole, its last lines, or as it comes; and the traceback of one that failed."""

from __future__ import annotations

import os
import re
import sys
import time
from argparse import ArgumentParser, Namespace

from tracker._model import names
from tracker._model.event import Failed
from tracker._model.fold import Run
from tracker._store.objects import get_object
from tracker._store.trash import trash_folder
from tracker.cli.command import Command, add_run, count
from tracker.cli.complaints import Exit
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import printable
from tracker.errors import NotFoundError
from tracker.ledger import Ledger
from tracker.liveness import is_live
from tracker.tee import OUTPUT, Follower, read_kept, tail_of
from tracker.terms import Digest, StorageMode

FOLLOW_S = 0.2
"""How often the file is looked at for new lines."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def _arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--tail", metavar="N", type=count, help="only the last N lines")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="print new lines as they come, until the run has ended or Ctrl-C",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="print the traceback of a run that failed, instead"
    )


def logs(options: Namespace, screen: Screen) -> int:
    """Print what is kept of a run's output."""
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    if options.traceback:
        return _print_traceback(ledger, run, screen)
    path = _path_of(ledger, run)
    kept = read_kept(path)
    if kept is None and not (options.follow and is_live(ledger, run)):
        cure = "start the run with capture='tee' to keep it" + _hint(run)
        raise NotFoundError(f"output of run {run.ref}", path, cure)
    if options.follow:
        _follow(ledger, run, path, options.tail, screen)
    elif kept is not None:
        data = kept.data if options.tail is None else tail_of(kept.data, options.tail)
        if screen.as_json:
            text = data.decode("utf-8", "backslashreplace")
            screen.json({"ref": run.ref, "path": path, "left_out": kept.left_out, "text": text})
        else:
            _print(data, screen)
    screen.flush()
    _tell_of_failure(ledger, run)
    return Exit.OK


def _path_of(ledger: Ledger, run: Run) -> str:
    """Where the file lies: where it was recorded, else where it is written; of a removed run in the trash."""
    recorded = [] if run.attempt is None else [file.path for file in run.attempt.files if file.name == OUTPUT]
    mode = StorageMode.PREFIX if run.mode == StorageMode.PREFIX else StorageMode.SUBFOLDER
    own = names.file_path(run.relpath, run.identifier, run.uid, mode, OUTPUT, include_identifier=True)
    below = recorded[0] if recorded else own
    place = f"{names.STORE}/{trash_folder(run.ref)}/{below}" if run.removed else below
    return os.path.join(ledger.root, place)


def _follow(ledger: Ledger, run: Run, path: str, tail: int | None, screen: Screen) -> None:
    """Print by whole lines until nobody executes the run. The end is looked for before the last read."""
    follower = Follower(path)
    is_first = True
    while True:
        is_over = not is_live(ledger, ledger.run(run.ref) or run)
        news = follower.news(is_last=is_over)
        if is_first and tail is not None:
            news = tail_of(news, tail)
        is_first = False
        if news and screen.as_json:
            for line in news.splitlines():
                screen.json_line({"line": line.decode("utf-8", "backslashreplace")})
        elif news:
            _print(news, screen)
            screen.flush()
        if is_over:
            return
        time.sleep(FOLLOW_S)


def _print(data: bytes, screen: Screen) -> None:
    """On a pipe these bytes; on a terminal the text, without what could command it."""
    if not screen.is_terminal:
        screen.write_bytes(data)
        return
    text = _COLOURS.sub("", data.decode("utf-8", "replace").replace("\r\n", "\n"))
    lines = ["\t".join(map(printable, line.split("\t"))) for line in text.split("\n")]
    screen.write("\n".join(lines))


def _print_traceback(ledger: Ledger, run: Run, screen: Screen) -> int:
    end = _failure(run)
    if end is None or end.traceback is None:
        cure = "`tracker show` tells how it ended"
        raise NotFoundError(f"traceback of run {run.ref}", str(ledger.root), cure)
    data = get_object(ledger.lookup.store_fd, Digest(end.traceback.hex()))
    if screen.as_json:
        text = data.decode("utf-8", "backslashreplace")
        screen.json({"ref": run.ref, "type": end.type, "message": end.message, "traceback": text})
    else:
        _print(data, screen)
    return Exit.OK


def _failure(run: Run) -> Failed | None:
    end = None if run.attempt is None else run.attempt.end
    return end if isinstance(end, Failed) else None


def _hint(run: Run) -> str:
    end = _failure(run)
    return "" if end is None or end.traceback is None else "; --traceback prints that of its error"


def _tell_of_failure(ledger: Ledger, run: Run) -> None:
    """Of a run that failed: on standard error, where its traceback is."""
    end = _failure(ledger.run(run.ref) or run)
    if end is None:
        return
    what = f"run {run.ref} failed" + (f": {end.type}: {end.message}" if end.type else "")
    where = (
        "" if end.traceback is None else f"; `tracker logs {run.uid[:8]} --traceback` prints its traceback"
    )
    sys.stderr.write(f"tracker: {printable(what + where)}\n")


LOGS = Command(
    "logs",
    "what a run printed, as it was kept",
    """\
The output of a run that was started with capture="tee": standard output and
error, its C code's and its children's too, in the order they came; of lines
that were drawn again their last state. Of more than 10 MiB the first and the
last half are kept, and a line says how much is left out. On a pipe exactly the
bytes that were kept. Of a run that failed, standard error says how to see the
traceback. --json gives an object; with --follow one JSON object a line.

examples:
  tracker logs @latest --follow
  tracker logs 3f2a --tail 20
  tracker logs 3f2a --traceback""",
    _arguments,
    logs,
)
