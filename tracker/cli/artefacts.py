"""`files`, `lineage`, `get`: what runs made and used."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from tracker._disk import cloning, durable
from tracker._model.event import Attachment, File, Input
from tracker._model.fold import Attempt, Run
from tracker._model.names import STORE
from tracker._model.policy import SealPolicy
from tracker._store.sealing import seal_files
from tracker._store.trash import trash_folder
from tracker.artefacts import Lineage, Link, lineage_of_file, lineage_of_run
from tracker.cli.command import RUN_HELP, Command, add_run, count
from tracker.cli.complaints import UsageError, warn
from tracker.cli.screen import Screen
from tracker.cli.selection import choose_run, open_store
from tracker.cli.words import printable
from tracker.errors import DamagedError, NotFoundError
from tracker.ledger import Ledger
from tracker.runs.output import write_whole
from tracker.terms import RunRef, Seal

_CHUNK_BYTES = 1 << 20
_SHORT = 12
_DIGEST = re.compile(r"[0-9a-f]{64}")
_STYLES = {"state": {"same": "green", "changed": "red", "missing": "yellow"}}


# files


def files(options: Namespace, screen: Screen) -> int:
    """Print what the attempt of a run that counts made, or what it used, and how it lies on the disk now."""
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    attempt = run.attempt
    listed: list[File] | list[Input] = []
    if attempt is not None:
        listed = attempt.inputs if options.inputs else attempt.files
    told = [(file, _state(ledger, run, file)) for file in listed]
    if screen.as_json:
        names = ("name", "path", "size", "digest", "external", "source")
        screen.json(
            [{**{n: getattr(f, n) for n in names if hasattr(f, n)}, "state": state} for f, state in told]
        )
        return 0
    rows = [[f.name, _size(f.size, screen), _digest(f.digest, screen), state, f.path] for f, state in told]
    screen.rows(("name", "size", "digest", "state", "path"), rows, _STYLES)
    return 0


def _state(ledger: Ledger, run: Run, file: File | Input) -> str:
    """How what lies at the path compares with what was recorded; of a removed run, what lies in the trash."""
    if file.size is None and file.digest is None:
        place = _place(ledger, run, file)
        return "unsealed" if durable.path_exists(os.path.join(ledger.root, place)) else "missing"
    policy = SealPolicy(Seal.SIZE if file.digest is None else Seal.DIGEST)
    asked = Attachment(file.name, _place(ledger, run, file), file.external)
    now = seal_files(ledger.root, [asked], policy)
    if len(now) != 1:
        return "changed"  # a folder has its place
    if now[0].size is None:
        return "missing"
    return "same" if (now[0].size, now[0].digest) == (file.size, file.digest) else "changed"


def _place(ledger: Ledger, run: Run, file: File | Input) -> str:
    """Where the file is to be looked for, below the root or absolute."""
    if run.removed and isinstance(file, File) and not file.external:
        thrown = f"{STORE}/{trash_folder(run.ref)}/{file.path}"
        if durable.path_exists(os.path.join(ledger.root, thrown)):
            return thrown
    return file.path


def _size(size_bytes: int | None, screen: Screen) -> str:
    return "" if size_bytes is None else screen.size(size_bytes)


def _digest(digest: bytes | str | None, screen: Screen) -> str:
    text = digest.hex() if isinstance(digest, bytes) else digest or ""
    return text[:_SHORT] if screen.is_terminal else text


def _files_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--inputs", action="store_true", help="what it used instead of what it made")


# get


def get(options: Namespace, screen: Screen) -> int:
    """Write the bytes of a file of a run, if they are those that were sealed."""
    ledger = open_store(options, screen)
    run = choose_run(ledger, options.run, options.identifier)
    file = _file_of(run, run.attempt, options.name)
    if screen.is_terminal and options.output is None and not screen.as_json:
        raise UsageError("bytes are not written to a terminal", "send them to a file: > FILE, or -o FILE")
    place = os.path.join(ledger.root, _place(ledger, run, file))
    fd = cloning.open_regular(place)
    try:
        _refuse_other_bytes(fd, place, file)
        if options.output is not None:
            write_whole(options.output, _pieces(fd))
        elif not screen.as_json:
            for piece in _pieces(fd):
                screen.write_bytes(piece)
    finally:
        durable.close_read(fd)
    if screen.as_json:
        screen.json({"name": file.name, "path": file.path, "size": file.size, "digest": file.digest})
    return 0


def _file_of(run: Run, attempt: Attempt | None, name: str) -> File:
    found = [] if attempt is None else [file for file in attempt.files if file.name == name]
    if not found:
        raise NotFoundError(f"file {name!r}", run.ref, "`tracker files` shows those that it has")
    return found[0]


def _refuse_other_bytes(fd: int, place: str, file: File) -> None:
    size, digest = cloning.hash_open(fd, place)
    if (file.size is not None and size != file.size) or (file.digest is not None and digest != file.digest):
        sealed = "" if file.digest is None else f" of BLAKE3 {file.digest.hex()[:16]}…"
        why = f"{size} bytes of {digest.hex()[:16]}…, sealed as {file.size} bytes{sealed}"
        cure = "copy it from another copy of the tree, or run it again"
        raise DamagedError(place, why, spec="spec/sealing.md section 1", cure=cure)
    os.lseek(fd, 0, os.SEEK_SET)


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, _CHUNK_BYTES):
        yield piece


def _get_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("name", metavar="NAME", help="a file of the run, as `tracker files` names it")
    parser.add_argument("-o", dest="output", metavar="FILE", help="write to FILE, in place of what is there")


# lineage


def lineage(options: Namespace, screen: Screen) -> int:
    """Print where a file or a run comes from, and what came of it."""
    ledger = open_store(options, screen)
    found, what, run = _found(ledger, options)
    if screen.as_json:
        screen.json({**what, "made_by": _as_objects(found.made_by), "used_by": _as_objects(found.used_by),
                     "statuses": {ref: str(status) for ref, status in found.statuses.items()}})  # fmt: skip
    elif screen.is_terminal:
        _print_trees(found, what, run, screen)
    else:
        links = [("made by", link) for link in found.made_by] + [("used by", link) for link in found.used_by]
        screen.rows((), [_cells(side, link) for side, link in links])
        if run is None and not links:
            warn(f"no run here made or used {options.what}", sys.stderr)
    return 0


def _found(ledger: Ledger, options: Namespace) -> tuple[Lineage, dict[str, object], RunRef | None]:
    """The lineage, what it is of, and the run if it is one's."""
    text, depth = options.what, options.depth
    if _DIGEST.fullmatch(text):
        digest = bytes.fromhex(text)
        return lineage_of_file(ledger, "", digest, external=False, depth=depth), {"digest": text}, None
    if os.path.isfile(text):
        file = _file_now(ledger, text)
        found = lineage_of_file(ledger, file.path, file.digest, external=file.external, depth=depth)
        return found, {"path": file.path, "digest": file.digest}, None
    try:
        run = choose_run(ledger, text, options.identifier)
    except UsageError as error:
        if os.path.lexists(text):
            raise
        raise UsageError(f"{error.what}, and there is no such file", error.cure) from error
    return lineage_of_run(ledger, run, depth), {"ref": run.ref}, run.ref


def _file_now(ledger: Ledger, text: str) -> File:
    real, root = os.path.realpath(text), os.path.realpath(ledger.root)
    is_below = real.startswith(root + os.sep)
    path = os.path.relpath(real, root).replace(os.sep, "/") if is_below else real
    (file,) = seal_files(ledger.root, [Attachment(os.path.basename(text), path, not is_below)])
    return file


def _as_objects(links: list[Link]) -> list[dict[str, object]]:
    return [{name: getattr(link, name) for name in Link.__struct_fields__} for link in links]


def _cells(side: str, link: Link) -> list[str]:
    return [side, str(link.depth), link.near or "", link.name, link.digest or "", link.far or ""]


def _print_trees(found: Lineage, what: dict[str, object], run: RunRef | None, screen: Screen) -> None:
    title = run or str(what.get("path") or what["digest"])
    status = f"  {found.statuses[run]}" if run is not None else ""
    screen.write(f"{printable(title)}{status}\n")
    for heading, links, none in (
        (
            "made from" if run else "made by",
            found.made_by,
            "no file that it used is recorded" if run else "no run here",
        ),
        ("used by", found.used_by, "no run here"),
    ):
        screen.write(f"{heading}\n")
        lines = [*_tree(links, found, run, screen)] or [f"  {none}"]
        screen.write("".join(f"{line}\n" for line in lines))


def _tree(links: list[Link], found: Lineage, start: RunRef | None, screen: Screen) -> Iterator[str]:
    """One line a link, below the run that it goes on from; from no run twice."""
    beyond: dict[RunRef | None, list[Link]] = {}
    for link in links:
        beyond.setdefault(link.near, []).append(link)
    told: set[RunRef | None] = {start}
    stack = [(link, 1) for link in reversed(beyond.get(start, []))]
    while stack:
        link, level = stack.pop()
        yield "  " * level + _line(link, found, screen, again=link.far in told and link.far in beyond)
        if link.far is not None and link.far not in told:
            told.add(link.far)
            stack += ((further, level + 1) for further in reversed(beyond.get(link.far, [])))


def _line(link: Link, found: Lineage, screen: Screen, *, again: bool) -> str:
    cells = [link.name, _size(link.size, screen), _digest(link.digest, screen)]
    if link.far is not None:
        cells.append(f"{link.far} {found.statuses[link.far]}" + (", as above" if again else ""))
    elif link.source is not None:
        cells.append(f"of {link.source}, which is not here")
    else:
        cells.append("made by no run here")
    return printable("  ".join(filter(None, cells)))


def _lineage_arguments(parser: ArgumentParser) -> None:
    about = f"a file, the 64 digits of a digest, or {RUN_HELP}"
    parser.add_argument("what", metavar="FILE|RUN", help=about)
    parser.add_argument("--identifier", metavar="ID", help="the run's kind, where several share a uid")
    parser.add_argument("--depth", metavar="N", type=count, help="at most N runs away; 1 is the nearest")


FILES = Command(
    "files",
    "the files of a run, and whether they are as they were sealed",
    """\
On a pipe one line a file, with tabs and no heading: name, size in bytes,
BLAKE3, state, path. The state is `same`, `changed`, `missing`, or `unsealed`
for one of which nothing was recorded. A long file that has not changed since
it was hashed is not read again; `tracker verify --full` reads all.

examples:
  tracker files @latest
  tracker files 9f86d081 --inputs
  tracker files @latest --json | jq -r '.[] | select(.state != "same").path'""",
    _files_arguments,
    files,
)

GET = Command(
    "get",
    "the bytes of a file of a run, checked",
    """\
Nothing is written if the bytes are not those that were sealed: exit code 1.
With --json they are checked, and an object with name, path, size and digest is
printed in their place.

examples:
  tracker get @latest model.pt > model.pt
  tracker get 9f86d081 preds.npy -o preds.npy""",
    _get_arguments,
    get,
)

LINEAGE = Command(
    "lineage",
    "what made a file or led to a run, and what came of it",
    """\
Files are one by their bytes, wherever they lie and whatever they are called; by
their path where no digest was recorded, and where they are empty. What a run
used is known where it said so: session.use(path).

On a pipe one line a file between two runs, with tabs and no heading: `made by`
or `used by`, how many runs away, the nearer run, name, BLAKE3, the farther run;
nothing where none here made the file. --json gives an object with made_by,
used_by and statuses.

examples:
  tracker lineage @latest
  tracker lineage results/9f86d081884c7d659a2feaa0c55ad015/train_model.pt
  tracker lineage 9f86d081 --depth 1 --json | jq -r '.made_by[].far'""",
    _lineage_arguments,
    lineage,
)
