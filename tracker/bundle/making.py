"""A bundle made: chosen runs read, held against their seals and written into one archive.

Reads the store, writes one file that is none of the store's. Spec: spec/bundle.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from msgspec import Struct

from tracker._codec.digest import digest
from tracker._model.fold import Run, run_of
from tracker._model.names import STORE
from tracker.bundle.archive import Archive, Copied, UnfitError, copy, kind_of, written
from tracker.bundle.contents import Contents, Member, contents_of, free_name, pages
from tracker.bundle.crate import METADATA, About, crate_of, description_of, encode_crate, name_of
from tracker.bundle.history import History, history_of, reading_of_bundle
from tracker.bundle.readme import readme
from tracker.bundle.report import Bundled, Unfit
from tracker.check.reading import read_ledger
from tracker.errors import NameRefusedError, NotFoundError
from tracker.ledger import Ledger
from tracker.terms import RunRef
from tracker.version import VERSION

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much is done."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def bundle(
    ledger: Ledger,
    refs: Collection[RunRef],
    path: str,
    *,
    about: About | None = None,
    whole: bool = False,
    allow_missing: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> Bundled:
    """Write these runs into the archive at `path`, as a store of their own; with `dry_run` only say what of.

    A file that is missing, or not what was sealed, keeps the archive from being made, unless `allow_missing`
    leaves it out. Every such file is named in one pass. With `whole` the original segments are taken,
    whatever else they tell.

    Order of writes: the archive's temporary file, synced; its name. Crash states: a `tmp-…` beside it; all.
    Raises: NotFoundError for no store and for no run; NameRefusedError for another kind of archive, and for a
    file that is there, unless `force` replaces it; StorageError; MissingPackageError.
    Cost: one reading of the ledger, and one read, two hashes and compression of every file. Memory: the
    ledger's state and what is written anew of it, 1 KiB a file, and two pieces of 1 MiB.
    Spec: spec/bundle.md.
    """
    kind = kind_of(path)
    if os.path.lexists(path) and not force and not dry_run:
        raise NameRefusedError("archive", path, "a file of this name is there", "--force replaces it")
    if not ledger.lookup.open_store():
        raise NotFoundError("store", str(ledger.root), "the first run makes it")
    plan = _plan(ledger, refs, about or About(), progress, whole=whole)
    if dry_run:
        return plan.report(path, kind, [*plan.contents.unfit, *_differing(plan)], [], is_made=False)
    return _make(plan, path, kind, progress, allow_missing=allow_missing, force=force)


class _Plan(Struct):
    """What is to be written."""

    runs: list[Run]
    about: About
    history: History
    contents: Contents
    strangers: int
    time_ms: int
    unproven: list[RunRef]

    @property
    def folder(self) -> str:
        """The folder of the members in a tar. Spec: spec/bundle.md section 1."""
        paths = [kept.path for kept in self.history.kept] + [*self.history.new]
        names = "".join(sorted(f"{path.rpartition('/')[2]}\n" for path in paths))
        return f"bundle-{digest(names.encode())[:12]}"

    def members(self) -> list[Member]:
        """All but the description, in the order of their names as UTF-8."""
        return sorted(self.contents.members.values(), key=lambda one: one.path.encode(errors="replace"))

    def report(
        self, path: str, kind: str, unfit: list[Unfit], copied: list[Copied], *, is_made: bool
    ) -> Bundled:
        """What was done."""
        members = self.contents.members
        return Bundled(
            archive=path,
            folder="" if kind == ".zip" else self.folder,
            is_made=is_made,
            size_bytes=os.stat(path).st_size if is_made else 0,
            files=len(copied) if is_made else len(members) + 1 - sum(one.path in members for one in unfit),
            files_bytes=sum(one.size_bytes for one in copied)
            if is_made
            else sum(map(_size_of, members.values())),
            runs=[run.ref for run in self.runs],
            verbatim=[f"{STORE}/{one.path}" for one in self.history.kept],
            anew=self.history.anew,
            strangers=self.strangers,
            unfinished=self.contents.unfinished,
            left_out=self.history.left_out,
            unproven=self.unproven,
            external=self.contents.external,
            unchecked=self.contents.unchecked,
            unfit=sorted(set(unfit)),
        )


def _plan(
    ledger: Ledger, refs: Collection[RunRef], about: About, progress: Progress, *, whole: bool
) -> _Plan:
    lookup = ledger.lookup
    reading = read_ledger(lookup.ledger_fd, progress)
    state = reading.state
    runs = [run_of(ref, state.runs[ref]) for ref in sorted(set(refs)) if ref in state.runs]
    runs = [run for run in runs if not run.removed]
    if not runs:
        raise NotFoundError("run to bundle", str(ledger.root), "`tracker ls` shows the runs")
    chosen = {run.ref for run in runs}
    history = history_of(lookup.ledger_fd, reading, chosen, VERSION, whole=whole)
    held = reading_of_bundle(lookup.ledger_fd, history)
    contents = contents_of(ledger.root, lookup.store_fd, lookup.ledger_fd, history, held, chosen)
    time_ms = max(stamp[0] for ref in chosen for stamp in state.runs[ref]) >> 16
    strangers = len(held.state.runs.keys() - chosen)
    _add_pages(contents, runs, about, history, strangers)
    unproven = [ref for ref in sorted(chosen) if state.unproven.get(ref)]
    return _Plan(runs, about, history, contents, strangers, time_ms, unproven)


def _add_pages(contents: Contents, runs: list[Run], about: About, history: History, strangers: int) -> None:
    taken = list(contents.members)
    if free_name(METADATA, taken) != METADATA:
        raise NameRefusedError("namespace", METADATA, "the description of a bundle has this name")
    members, spec = pages(taken)
    text = readme(
        name=name_of(runs, about),
        description=description_of(runs, about),
        runs=len(runs),
        files=len(taken),
        spec=spec,
        anew=history.anew,
        strangers=strangers,
    )
    for member in [*members, Member(free_name("README.md", taken), lambda: text)]:
        contents.add(member)


# Writing


def _make(
    plan: _Plan, path: str, kind: str, progress: Progress, *, allow_missing: bool, force: bool
) -> Bundled:
    """Copy, and where something turns out unfit, say so, or begin again without it."""
    unfit = {one.path: one for one in plan.contents.unfit}
    while True:
        pass_ = _Pass(plan, "" if kind == ".zip" else f"{plan.folder}/", unfit, progress)
        if unfit and not allow_missing:
            pass_.run(_Nowhere())
            return plan.report(path, kind, [*unfit.values(), *pass_.unfit], [], is_made=False)
        try:
            with written(path, kind, plan.time_ms // 1000, force=force) as archive:
                pass_.run(archive)
                if pass_.unfit:
                    raise _NotWholeError
        except _NotWholeError:
            unfit |= {one.path: one for one in pass_.unfit}
            if not allow_missing:
                return plan.report(path, kind, [*unfit.values()], [], is_made=False)
        else:
            return plan.report(path, kind, [*unfit.values()], pass_.copied, is_made=True)


class _NotWholeError(Exception):
    """What was written is to be thrown away."""


class _Nowhere:
    """Takes members and keeps nothing, so that they are checked."""

    def add(self, name: str, size_bytes: int, mode: int, read: Callable[[int], bytes]) -> None:
        while read(1 << 20):
            pass


class _Pass:
    """All members copied once. From the first unfit one on they are only checked."""

    def __init__(self, plan: _Plan, prefix: str, without: Collection[str], progress: Progress) -> None:
        self.copied: list[Copied] = []
        self.unfit: list[Unfit] = []
        self._plan = plan
        self._prefix = prefix
        self._members = [one for one in plan.members() if one.path not in without]
        self._progress = progress
        self._total = sum(map(_size_of, self._members))
        self._done = 0

    def run(self, archive: Archive) -> None:
        """Fill the archive, the description last. Raises: StorageError."""
        for member in self._members:
            try:
                self.copied.append(copy(archive, self._prefix + member.path, member, self._heed))
            except UnfitError as error:
                self.unfit.append(Unfit(member.path, str(error)))
                archive = _Nowhere()
        if not self.unfit:
            data = self._description()
            last = Member(METADATA, lambda: data)
            self.copied.append(copy(archive, self._prefix + METADATA, last, self._heed))

    def _description(self) -> bytes:
        plan = self._plan
        return encode_crate(crate_of(plan.runs, self.copied, plan.about, time_ms=plan.time_ms))

    def _heed(self, more: int) -> None:
        self._done += more
        self._progress("bundling", self._done, self._total)


def _size_of(member: Member) -> int:
    """Bytes of a member, as far as names tell."""
    if member.size_bytes is not None:
        return member.size_bytes
    try:
        return os.stat(member.source).st_size if isinstance(member.source, str) else len(member.source())
    except OSError:
        return 0


def _differing(plan: _Plan) -> list[Unfit]:
    """Members whose size alone tells that they are unfit."""
    found = []
    for member in plan.members():
        if not isinstance(member.source, str):
            continue
        try:
            size = os.stat(member.source).st_size
        except OSError as error:
            found.append(Unfit(member.path, error.strerror or str(error)))
            continue
        if member.size_bytes not in (None, size):
            found.append(Unfit(member.path, f"{size} bytes, sealed as {member.size_bytes}"))
    return found
