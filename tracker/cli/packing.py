"""`pack` and `unpack`: many small files of the store as few large ones, and back."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from msgspec import to_builtins

from tracker.cli.command import Command
from tracker.cli.complaints import Exit
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.packing import Packed, Unpacked, pack, unpack


def _pack_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what would be made, and change nothing")


def pack_store(options: Namespace, screen: Screen) -> int:
    """Fold sealed files into packs, and say which were made."""
    done = pack(open_store(options, screen), screen.bar, dry_run=options.dry_run)
    if screen.as_json:
        screen.json({"dry_run": options.dry_run, **to_builtins(done)})
        return Exit.OK
    screen.rows(("pack", "holds", "size", "files it replaces", "packs it replaces"), _rows(done, screen))
    if screen.is_terminal:
        screen.write(_summary(done, dry_run=options.dry_run))
    return Exit.OK


def _rows(done: Packed, screen: Screen) -> list[list[str]]:
    return [
        [one.pack, str(one.members), screen.size(one.size_bytes), str(one.loose), str(len(one.packs))]
        for one in done.folds
    ]


def _summary(done: Packed, *, dry_run: bool) -> str:
    gone = done.dropped + sum(one.loose + len(one.packs) for one in done.folds)
    if not gone:
        return "nothing is to be packed\n"
    said = "would be" if dry_run else "are"
    return f"{gone} files {said} {len(done.folds)} packs\n"


PACK = Command(
    "pack",
    "many small files of the store folded into few",
    """\
Folds sealed segments, those of metrics too, and manifests into tar files of
at most 64 MiB each: ledger/<month>/<hash>.pack, metrics/<hex2>/<hash>.pack
and manifests/<hash>.pack below .tracker. Nothing that reads the store tells
a difference, runs may go on meanwhile, and copying or listing the store
becomes cheap. On a pipe one line a pack, with tabs: its
path, members, bytes, loose files and packs that it takes the place of.

examples:
  tracker pack --dry-run
  tracker pack && rsync -a results/ backup/results/
  tar -tvf .tracker/manifests/*.pack""",
    _pack_arguments,
    pack_store,
)


def _no_arguments(parser: ArgumentParser) -> None:
    """None beyond those of every command."""


def unpack_store(options: Namespace, screen: Screen) -> int:
    """Put all that packs hold under its own names again."""
    done = unpack(open_store(options, screen), screen.bar)
    code = Exit.NO if done.left else Exit.OK
    if screen.as_json:
        screen.json(to_builtins(done))
        return code
    rows = [["unpacked", path, ""] for path in done.packs]
    rows += [["left", path, why] for path, why in done.left.items()]
    screen.rows(("", "pack", "why"), rows, {"": {"left": "red"}})
    if screen.is_terminal:
        screen.write(_told(done))
    return code


def _told(done: Unpacked) -> str:
    return f"{done.files} files of {len(done.packs)} packs\n" if done.packs else "nothing is to be unpacked\n"


UNPACK = Command(
    "unpack",
    "packs made into files again",
    """\
The inverse of `pack`. A pack that is damaged gives what is sound in it and is
left; the exit code is then 1, and `repair` sets it aside once nothing that
counts is in it alone. On a pipe one line a pack, with tabs: unpacked or left,
its path below .tracker, and why it was left.

example:
  tracker unpack && tracker verify""",
    _no_arguments,
    unpack_store,
)
