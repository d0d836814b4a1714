"""`bundle`: chosen runs as one archive that reads by itself."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from msgspec import to_builtins

from tracker._model.names import run_ref
from tracker.bundle import KINDS, About, Bundled, bundle, parse_author
from tracker.cli.asking import add_where, asking, collection_of, tell_unknown_keys
from tracker.cli.command import Command
from tracker.cli.complaints import UsageError
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.cli.table import painted
from tracker.cli.words import printable
from tracker.errors import NotFoundError
from tracker.runs.source import Present, Source


@asking
def bundle_runs(options: Namespace, screen: Screen) -> int:
    """Bundle the runs that match, and say what is in the archive; 3 if files are missing or changed."""
    if options.output is None and not options.dry_run:
        raise UsageError("bundle: where to?", "name the archive: -o runs.tar.gz")
    about = About(
        options.name, options.description, options.license, tuple(map(parse_author, options.author or ()))
    )
    ledger = open_store(options, screen)
    sources: list[Source] = [Present(ledger)]
    rows = list(collection_of(options, sources).iter_placed())
    if not rows:
        tell_unknown_keys(options.where, sources)
        raise NotFoundError("run to bundle", str(ledger.root), "`tracker ls` shows the runs")
    done = bundle(
        ledger,
        [run_ref(row.relpath, row.identifier, row.uid) for _, row in rows],
        options.output or f"bundle{KINDS[-2]}",
        about=about,
        whole=options.whole,
        allow_missing=options.allow_missing,
        force=options.force,
        dry_run=options.dry_run,
        progress=screen.bar,
    )
    _say(done, screen, dry_run=options.dry_run)
    return done.exit_code


def _say(done: Bundled, screen: Screen, *, dry_run: bool) -> None:
    if screen.as_json:
        screen.json({"dry_run": dry_run, "exit_code": done.exit_code, **to_builtins(done)})
        return
    rows = list(_rows(done))
    if not screen.is_terminal:
        screen.rows((), [["run", ref, ""] for ref in done.runs] + rows)
        return
    for word, path, what in rows:
        style = "red" if word == "unfit" else "yellow"
        why = f": {printable(what)}" if what else ""
        screen.write(f"{painted(word, style, colour=screen.has_colour)} {printable(path)}{why}\n")
    screen.write(_summary(done, screen, dry_run=dry_run))


def _rows(done: Bundled) -> Iterator[list[str]]:
    """What a person should know of: a word, what it is about, and why."""
    for one in done.unfit:
        yield ["unfit", one.path, one.what]
    for path in done.external:
        yield ["external", path, "it lies outside the store, and is left out"]
    for path in done.unchecked:
        yield ["unchecked", path, "sealed without a digest: only its size is known"]
    for ref in done.unfinished:
        yield ["unfinished", ref, "it is recorded as running: its files are left out"]
    for attempt in done.left_out:
        yield ["left_out", attempt, "superseded: its manifest alone is there"]
    for ref in done.unproven:
        yield ["unproven", ref, "its history was salvaged from a damaged segment"]


def _summary(done: Bundled, screen: Screen, *, dry_run: bool) -> str:
    runs, files = _many(len(done.runs), "run"), _many(done.files, "file")
    history = [_many(len(done.verbatim), "original segment")] if done.verbatim else []
    history += [f"{_many(done.anew, 'event')} written anew"] if done.anew else []
    history += [f"{_many(done.strangers, 'other run')} with them"] if done.strangers else []
    told = f"{runs}, {files} of {screen.size(done.files_bytes)}; history: {', '.join(history)}\n"
    if dry_run:
        return f"would bundle {told}"
    if not done.is_made:
        return "no archive was made; --allow-missing makes one without these files\n"
    where = f"; opens with: tracker -C {done.folder} ls" if done.folder else ""
    return f"bundled {told}{printable(done.archive)}: {screen.size(done.size_bytes)}{where}\n"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _arguments(parser: ArgumentParser) -> None:
    add_where(parser)
    about = f"the archive: {', '.join(KINDS)}; .tar.zst needs the extra `bundle`"
    parser.add_argument("-o", "--output", metavar="FILE", help=about)
    parser.add_argument("--name", metavar="TEXT", help="what the description calls it")
    parser.add_argument("--description", metavar="TEXT", help="what it is, in a sentence or two")
    parser.add_argument(
        "--license", metavar="URL", help="under which licence; else it says that none is stated"
    )
    parser.add_argument("--author", metavar="NAME[;ORCID]", action="append", help="given more than once: all")
    about = "take the original segments, whatever other runs they tell of"
    parser.add_argument("--whole", action="store_true", help=about)
    about = "leave out files that are missing or changed, instead of making no archive"
    parser.add_argument("--allow-missing", action="store_true", help=about)
    parser.add_argument("--force", action="store_true", help="replace a file of this name")
    parser.add_argument("--dry-run", action="store_true", help="write nothing, tell what would be in it")


BUNDLE = Command(
    "bundle",
    "chosen runs as one archive that can be read in years",
    """\
The archive holds the runs that match as a store of their own, with their
history, params, sealed files, metrics and objects; the specification of the
format with a reader; and ro-crate-metadata.json, which archives of research
data read. Every file is held against its seal while it is copied. The same
runs give the same bytes. Unpacked, `tracker ls` reads it.

Segments that tell of other runs too are not taken: what they say of the chosen
ones is written anew, with notes that name the original frames. --whole takes
the originals.

Exit code 0: made; 3: files are missing or changed: they are named, and no
archive is made unless --allow-missing. On a pipe one line a thing, with tabs:
run, unfit, external, unchecked, unfinished, left_out or unproven; its name;
why.

examples:
  tracker bundle "status=='done'" -o paper.tar.gz --author Byron
  tracker bundle --dry-run --json | jq .files_bytes
  tar -xf paper.tar.gz && tracker -C bundle-* verify --full""",
    _arguments,
    bundle_runs,
)
