"""`view`: a tree of links to the runs, by the values that they have. It is made of links alone.

Nothing of the store is touched. A view is told by its mark; a folder that holds anything else is refused.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracker._codec.digest import digest
from tracker._model.names import STORE, check_identifier
from tracker.cli.asking import asking, collection_of, sources_of, tell_unknown_keys
from tracker.cli.command import Command
from tracker.cli.complaints import UsageError
from tracker.cli.finding import place_of_run
from tracker.cli.runs import split_fields
from tracker.cli.screen import Screen
from tracker.errors import NameRefusedError
from tracker.runs.columns import MISSING, Column, columns_of
from tracker.runs.table import text_of
from tracker.runs.tabular import Tabular

MARK = ".view"
_SHORT = 8


def view(options: Namespace, screen: Screen) -> int:
    """Make the view, or bring the one that is there up to date."""
    sources = sources_of(options, screen)
    by, *where = options.by
    if len(where) > 1:
        raise UsageError(f"--by has {len(options.by)} words", "give the fields with commas, then one query")
    options.where = where[0] if where else None
    columns = columns_of(split_fields(by))
    folder = Path(os.path.abspath(options.folder))
    _refuse_what_is_no_view(folder, sources[0].root)
    runs = collection_of(options, sources)
    wanted = dict(_iter_links(runs, columns, Path(os.path.realpath(folder))))
    added, dropped = _update(folder, wanted)
    if screen.as_json:
        screen.json({"path": str(folder), "links": len(wanted), "added": added, "removed": dropped})
    else:
        screen.rows(("links", "added", "removed"), [[str(len(wanted)), str(added), str(dropped)]])
    if not wanted:
        tell_unknown_keys(options.where, sources)
    return 0


def _refuse_what_is_no_view(folder: Path, root: Path) -> None:
    """Before anything is made. Raises: UsageError."""
    cure = "name a folder that is empty or does not exist, or a view"
    if STORE in folder.parts:
        raise UsageError(f"{folder} lies in the store's own {STORE}", cure)
    if folder == root or folder in root.parents:
        raise UsageError(f"{folder} holds the store", cure)
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder} is no folder", cure)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    foreign = next(_iter_foreign(folder), None)
    if foreign is not None or not (folder / MARK).is_file():
        raise UsageError(f"{folder} is no view: it holds {foreign or 'things without the mark of one'}", cure)


def _iter_foreign(folder: Path) -> Iterator[str]:
    """What is neither a link, nor a folder, nor the mark."""
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above) / name
            if not path.is_symlink() and path != folder / MARK:
                yield path.relative_to(folder).as_posix()


def _iter_links(runs: Tabular, columns: Sequence[Column], folder: Path) -> Iterator[tuple[str, str]]:
    """Path below the view -> what the link says."""
    taken: dict[str, str] = {}
    for chunk in runs.chunks():
        steps = zip(*(map(_step, [c.heading] * chunk.size, c.values(chunk)) for c in columns), strict=True)
        for above, (root, row) in zip(steps, chunk.iter_placed(), strict=True):
            place = place_of_run(root, row)
            ending = ".params.json" if place.name.endswith("params.json") else ""
            name = f"{'/'.join(above)}/{portable(row.identifier)}-{row.uid[:_SHORT]}{ending}"
            if name in taken:
                name = f"{'/'.join(above)}/{portable(row.relpath + '-' + row.identifier)}-{row.uid}{ending}"
            taken[name] = row.uid
            yield name, os.path.relpath(place, (folder / name).parent)


def _step(heading: str, value: object) -> str:
    return portable(f"{heading}={'none' if value is MISSING or value is None else text_of(value)}")


def portable(text: str) -> str:
    """A name that every file system carries, as near to `text` as may be; a long one ends in its digest."""
    name = _REFUSED.sub("_", text).strip(" .") or "_"
    if len(name.encode()) > _LONG_BYTES:
        kept = name.encode()[:_KEPT_BYTES].decode(errors="ignore")
        name = f"{kept}~{digest(text.encode(errors='replace'))[:8]}"
    try:
        return check_identifier(name)
    except NameRefusedError:
        return check_identifier(f"_{name}")


_REFUSED = re.compile(r'[\x00-\x1f\x7f\\/<>:"|?*\ud800-\udfff]')
_LONG_BYTES, _KEPT_BYTES = 90, 80


def _update(folder: Path, wanted: dict[str, str]) -> tuple[int, int]:
    """Have exactly these links. Crash states: a view with some of them; the same command completes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("tracker view 1\n")
    there = dict(_iter_there(folder))
    stale = [name for name, target in there.items() if wanted.get(name) != target]
    for name in stale:
        os.unlink(folder / name)
    for above, _, _ in os.walk(folder, topdown=False):
        if above != str(folder) and not os.listdir(above):
            os.rmdir(above)
    fresh = [name for name, target in wanted.items() if there.get(name) != target]
    for name in fresh:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(wanted[name], folder / name)
    return len(fresh), len(stale)


def _iter_there(folder: Path) -> Iterator[tuple[str, str]]:
    for above, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(above) / name
            if path.is_symlink():
                yield path.relative_to(folder).as_posix(), os.readlink(path)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of the view: new, empty, or a view")
    about = "the fields by which it is laid out, and then a query if not all runs are meant"
    parser.add_argument("--by", metavar=("A,B", "WHERE"), nargs="+", required=True, help=about)


VIEW = Command(
    "view",
    "a tree of links to the runs, by their values",
    """\
Makes DIR/lr=0.1/model.name=vit/train-a7f6c8b1 -> the run's folder, with links
that are relative. Given again it brings the view up to date; what it has for a
run in PREFIX mode is its params.json. Characters that some file system refuses
become _ in names.

examples:
  tracker view by-lr --by lr,model.name
  tracker view done --by lr "status=='done'\"""",
    _arguments,
    asking(view),
)
