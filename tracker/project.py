"""A namespace: sessions and look-ups. It composes; what it does is done below.

Spec: spec/layout.md sections 4 to 6; spec/events.md section 3, the last paragraph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from tracker._codec.canonical import canonical, canonical_with_repeat
from tracker._codec.digest import uid_of
from tracker._model import names
from tracker._model.event import Rule as RuleEvent
from tracker._model.fold import Run
from tracker._model.policy import SealPolicy
from tracker._model.rules import Rule, Rules, Written
from tracker._store.index import Filter
from tracker._store.relation import SeenRow
from tracker._store.root import make_folder_at
from tracker.errors import AmbiguousError, DamagedError, NameRefusedError, NotFoundError
from tracker.ledger import Ledger, open_ledger
from tracker.liveness import as_seen, find_as_seen
from tracker.repeating import asked_repeat, narrowed
from tracker.ruling import ruling_of
from tracker.session import Session
from tracker.session.place import Place, Settings
from tracker.terms import Capture, Durability, ExistingRun, Seal, Status, StorageMode, Uid

if TYPE_CHECKING:  # a look-up needs none of these rooms: each is loaded by the method that does
    from tracker.mapping import Executor, Function, Outcome, Progress
    from tracker.merge import MergeReport
    from tracker.runs import PastProject, Runs, Union
    from tracker.sweep import Sweep
    from tracker.why import Why

_NO_PARAMS = Written(b"{}", None)


def _has_provenance(asked: bool, word: str) -> bool:
    """Whether a start records facts: if the program asks for them and the environment does not say off."""
    if not isinstance(asked, bool):
        raise ValueError(f"provenance={asked!r}: give True or False")
    if word.lower() not in ("on", "1", "yes", "true", "", "off", "0", "no", "false"):
        raise ValueError(f"the environment variable TRACKER_PROVENANCE is {word!r}: set it to on or off")
    return asked and word.lower() in ("on", "1", "yes", "true", "")


class Project:
    """A folder of runs: root, `relpath` below it, and the root's one ledger.

    `root` is a store of its own, made with the first run. Making a Project writes nothing.

    `rules` are those that the program was written for; they must be the store's, and are recorded with the
    first run of a new one. None leaves the rules to the store. Spec: spec/rules.md.

    When an attempt ends, its files are sealed by `seal`: with their digests, of those above `seal_max_bytes`
    the size alone. With `provenance` a start records what the run ran in: code, environment, command; the
    environment variable TRACKER_PROVENANCE=off switches that off too. With
    `capture` "tee" what it prints is kept among its files. Spec: spec/sealing.md; spec/provenance.md.

    Raises: NameRefusedError for a root that is a file or that an enclosing store uses as a namespace, and
    for a relpath that is not portable; RuleError for rules that contradict each other.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        relpath: str | PurePath = "",
        storage_mode: StorageMode = StorageMode.SUBFOLDER,
        existing_run_strategy: ExistingRun = ExistingRun.RESUME,
        *,
        durability: Durability = Durability.FULL,
        rules: Iterable[Rule] | None = None,
        seal: Seal = Seal.DIGEST,
        seal_max_bytes: int | None = None,
        provenance: bool = True,
        capture: Capture = Capture.NONE,
    ) -> None:
        self._root = Path(os.path.abspath(os.fspath(root)))
        self._relpath = names.check_relpath(relpath)
        self._storage_mode = StorageMode(storage_mode)
        self._existing_run = ExistingRun(existing_run_strategy)
        self._settings = Settings(
            Durability(durability),
            SealPolicy(Seal(seal), seal_max_bytes),
            _has_provenance(provenance, os.environ.get("TRACKER_PROVENANCE", "on")),
            Capture(capture),
        )
        _check_root(self._root)
        _refuse_inner_roots(self._root, self._relpath)
        self._ledger = open_ledger(self._root)
        self._ruling = ruling_of(self._ledger)
        self._stated = None if rules is None else Rules(rules)

    def __repr__(self) -> str:
        inner = f", {self._relpath!r}" if self._relpath else ""
        return f"Project({str(self._root)!r}{inner})"

    @property
    def root(self) -> Path:
        """The folder that holds `.tracker`; absolute."""
        return self._root

    @property
    def relpath(self) -> Path:
        """This namespace, relative to the root."""
        return Path(self._relpath)

    @property
    def path(self) -> Path:
        """The folder of this namespace."""
        return self._root / self._relpath

    @property
    def ledger(self) -> Ledger:
        """The root's ledger: one object a root and process."""
        return self._ledger

    @property
    def storage_mode(self) -> StorageMode:
        """Where the files of this namespace's runs lie, unless a session says otherwise."""
        return self._storage_mode

    def ensure_folder(self) -> Self:
        """Make this namespace's folder with its parents, and return self. Raises: StorageError."""
        make_folder_at(self.path)
        return self

    def sub(self, name: str | PurePath) -> Project:
        """The namespace `name` below this one, with the same ledger and settings. Makes nothing.

        Raises: NameRefusedError for a name that is not portable, or a folder that is a store of its own.
        """
        below = names.check_relpath(name)
        if not below:
            raise NameRefusedError("namespace", str(name), "is empty", "name the folder below this one")
        relpath = f"{self._relpath}/{below}" if self._relpath else below
        project = type(self)(self._root, relpath, self._storage_mode, self._existing_run, rules=self._stated)
        project._settings = self._settings
        return project

    def session(
        self,
        identifier: str,
        params: Any = None,
        existing_run_strategy: ExistingRun | None = None,
        storage_mode: StorageMode | None = None,
    ) -> Session:
        """A handle on the run of `params`: the finished one if there is one (RESUME), or a new repeat (NEW).

        Writes nothing. Without params the run is always a new one.

        Raises: ParamsError, NameRefusedError before anything is made; RuleError; DamagedError if other params
        are recorded under this uid.
        Cost: 10 µs. Spec: spec/events.md section 3; spec/rules.md section 7.
        """
        names.check_identifier(identifier)
        strategy = self._existing_run if existing_run_strategy is None else ExistingRun(existing_run_strategy)
        mode = self._storage_mode if storage_mode is None else StorageMode(storage_mode)
        is_new = params is None or strategy is ExistingRun.NEW
        repeat = self._repeat_asked_for(identifier, params, is_new=is_new)
        if repeat is not None:
            return repeat
        if params is not None and strategy is ExistingRun.RESUME:
            return self._resumed(identifier, params, self._rules(), mode)
        written = _NO_PARAMS if params is None else _written(params, self._rules())
        key = None if params is None else uid_of(written.text)
        text = canonical_with_repeat(written.text, os.urandom(8).hex())
        return self._handle(identifier, uid_of(text), key, text, mode, written.ignored)

    def _repeat_asked_for(self, identifier: str, params: Any, *, is_new: bool = False) -> Session | None:
        """The repeat, if this process was started to repeat this run. Spec: spec/rerun.md section 3."""
        asked = asked_repeat()
        if asked is None:
            return None
        place = asked.place(self._relpath, identifier, params, self._settings, is_new=is_new)
        return None if place is None else Session(open_ledger(place.root), place)

    def _resumed(self, identifier: str, params: Any, rules: Rules, mode: StorageMode) -> Session:
        written = _written(params, rules)
        key = uid_of(written.text)
        row = self._ledger.row(key, identifier, self._relpath)
        is_done = row is not None and row.status == Status.DONE
        if not is_done and (now := self._rules()) != rules:
            return self._resumed(identifier, params, now, mode)  # this look has found a new rule
        if row is not None:
            _compare(written.text, row.params, self._root, key)
            mode = _mode(row.mode, mode)
        other = None if is_done else self._done_otherwise(identifier, key)
        if other is not None:
            return self._of_run(other, ignored=written.ignored)
        return self._handle(identifier, key, key, written.text, mode, written.ignored)

    def _done_otherwise(self, identifier: str, key: Uid) -> Run | None:
        """The first DONE run that answers by its key or alias alone. Spec: spec/rules.md section 7."""
        answering = self._ledger.repeats(key, identifier, self._relpath)
        answering += self._ruling.aliased(key, self._relpath, identifier)
        done = [run for run in answering if run.status is Status.DONE]
        return min(done, key=lambda run: run.first, default=None)

    def _founding(self) -> tuple[RuleEvent, ...]:
        """The rules that are to be recorded with the first run of the store."""
        return () if self._stated is None else self._ruling.lacking(self._stated)

    def _rules(self) -> Rules:
        return self._ruling.current() if self._stated is None else self._ruling.agreed(self._stated)

    def _handle(
        self,
        identifier: str,
        uid: Uid,
        key: Uid | None,
        text: bytes,
        mode: StorageMode,
        ignored: str | None = None,
    ) -> Session:
        place = Place(
            self._root, self._relpath, identifier, uid, key, text, mode, self._settings,
            ignored=ignored, founding=self._founding(),
        )  # fmt: skip
        return Session(self._ledger, place)

    def _of_run(self, run: Run, *, reads: bool = False, ignored: str | None = None) -> Session:
        """A handle on a recorded run of this namespace, or of one below it."""
        if run.params is None:
            raise _unknown_params(run.ref, self._root)
        place = Place(
            self._root, run.relpath, run.identifier, run.uid, run.key, run.params.encode(),
            _mode(run.mode, self._storage_mode), self._settings, makes_folders=not reads, ignored=ignored,
        )  # fmt: skip
        return Session(self._ledger, place)

    def runs(
        self,
        where: str | None = None,
        *,
        sort: str | Sequence[str] | None = None,
        limit: int | None = None,
        removed: bool = False,
    ) -> Runs:
        """The recorded runs of this namespace and those below it that match a query, as `lr < 0.01 and
        model.name == 'b'`.

        `sort` names fields; `-lr` goes down. Without it they come in the order of creation.

        Raises: QueryError, which says where in the text and what was expected.
        Cost: none before it is used; then 0.7 µs a run of the store. Spec: docs/queries.md.
        """
        from tracker.runs import Runs
        from tracker.runs.rows import select_runs
        from tracker.runs.source import Present

        selection = select_runs(where, relpath=self._relpath, sort=sort, limit=limit, removed=removed)
        return Runs(Present(self._ledger), self._of_row, selection)

    def at(self, time: str | float | datetime) -> PastProject:
        """This namespace as it was at a time, to ask for its runs: of what was recorded up to then.

        `time` is ISO 8601 text (UTC without an offset; a date is its midnight), Unix seconds, or a datetime.

        Raises: ValueError for what is no time. Spec: docs/queries.md section 9.
        """
        from tracker.runs import PastProject
        from tracker.runs.times import parse_time

        return PastProject(self._ledger, self._relpath, parse_time(time))

    @staticmethod
    def union(projects: Iterable[Project]) -> Union:
        """Several namespaces, of any stores, asked as one; to read. Spec: docs/queries.md section 8."""
        from tracker.runs import Union
        from tracker.runs.source import Present

        return Union([(Present(project._ledger), project._relpath) for project in projects])

    def _of_row(self, row: SeenRow) -> Session:
        if row.params is None:
            ref = names.run_ref(row.relpath, row.identifier, row.uid)
            raise _unknown_params(ref, self._root)
        place = Place(
            self._root, row.relpath, row.identifier, Uid(row.uid),
            None if row.key is None else Uid(row.key), row.params.encode(),
            _mode(row.mode, self._storage_mode), self._settings, makes_folders=False,
        )  # fmt: skip
        return Session(self._ledger, place)

    # Many at once

    def sweep(
        self, identifier: str, configs: Iterable[Any], *, retry: str = "lost", wait: bool = False
    ) -> Sweep:
        """The runs of `configs` that are to be run: iterate, and work through each with `with run: …`.

        Any number of workers, on any host that sees the root, may go through the same list; each run is
        executed by one. `retry` says which runs that were begun before are run again: "none", "lost" (also
        interrupted ones) or "failed" (all). With `wait` the sweep ends when others' runs have ended too.

        Raises: ParamsError, whose path names the config; ValueError for another `retry`.
        Spec: spec/claims.md section 7.
        """
        from tracker.sweep import Sweep

        names.check_identifier(identifier)
        configs = narrowed(self._relpath, identifier, configs)
        session_of = partial(self._resume, identifier)
        return Sweep(session_of, configs, retry=retry, wait=wait, uid_of=self.uid)

    def map(
        self,
        fn: Function,
        configs: Iterable[Any],
        *,
        identifier: str | None = None,
        executor: Executor | None = None,
        retry: str = "lost",
        progress: Progress | None = None,
    ) -> list[Outcome]:
        """Call `fn(session)` for each config that is to be run, here or by an executor, each as a run.

        `executor` is anything with `submit` whose futures have `add_done_callback` and `result`. The claim is
        taken where the function runs. What is done is skipped; an exception is recorded and stops no other.
        `identifier` is the function's name, unless given.

        Raises: ParamsError before anything is made. Cost: 20 µs for a config that is done.
        """
        from tracker.mapping import run_all

        name = names.check_identifier(getattr(fn, "__name__", "") if identifier is None else identifier)
        configs = narrowed(self._relpath, name, configs)
        session_of = partial(self._resume, name)
        return run_all(
            session_of, fn, configs, executor=executor, retry=retry, progress=progress, uid_of=self.uid
        )

    def _resume(self, identifier: str, params: Any) -> Session:
        return self.session(identifier, params, ExistingRun.RESUME)

    def merge(self, source: str | os.PathLike[str], *, dry_run: bool = False) -> MergeReport:
        """Take another copy of this root's store into this one; loses nothing of either.

        Raises: NotFoundError, NameRefusedError, VersionError, DamagedError; StorageError.
        Spec: spec/merge.md.
        """
        from tracker.merge import merge

        return merge(self._ledger, source, dry_run=dry_run)

    def uid(self, params: Any) -> Uid:
        """The uid that a run of `params` has here, by the rules of the store.

        Raises: ParamsError; RuleError. Cost: 4 µs; 10 µs more if a rule is about them.
        """
        return _key(params, self._rules())

    # Look-ups that write nothing

    def has(self, identifier: str, params: Any) -> bool:
        """True if exactly this has been run to the end here: same identifier, same params, done.

        What is the same the store's rules say too. Raises: ParamsError; RuleError.
        """
        names.check_identifier(identifier)
        repeat = self._repeat_asked_for(identifier, params)
        if repeat is not None:
            return repeat.is_done()
        rules = self._rules()
        uid = _key(params, rules)
        if self._ledger.is_done(uid, identifier, self._relpath):
            return True
        if self._rules() != rules:  # this look has found a new one
            return self.has(identifier, params)
        return self._done_otherwise(identifier, uid) is not None

    def get(self, identifier: str | None = None, params: Any = None, *, uid: str | None = None) -> Session:
        """The one recorded run of this namespace with these params, or whose uid begins so.

        Of a run and its repeats, the one that RESUME takes.

        Raises: NotFoundError; AmbiguousError, which names the candidates.
        """
        repeat = None if identifier is None or params is None else self._repeat_asked_for(identifier, params)
        if repeat is not None and repeat.run is not None:
            return repeat
        found = self.find(identifier, params=params, uid=uid)
        key = None if params is None else self.uid(params)
        what = _wanted(identifier, key, uid)
        if not found:
            raise NotFoundError(what, str(self.path), "`tracker ls` shows the runs")
        if len({session.ref for session in found}) > 1 and params is None:
            raise AmbiguousError(what, str(self.path), [session.ref for session in found])
        done = [session for session in found if session.is_done()]
        plain = [session for session in found if session.uid == (key or session.key)]
        return next((s for s in plain if s in done), (done or plain or found)[0])

    def why(self, identifier: str | None, params: Any) -> Why:
        """Explain why these params are found, or are not: what became of them, and what is nearest to them.

        Without an identifier runs of any are looked at.

        Raises: ParamsError; RuleError. Cost: 20 µs for each of at most 20,000 runs that are compared.
        """
        from tracker.why import explain

        if identifier is not None:
            names.check_identifier(identifier)
        return explain(self._ledger, self._relpath, identifier, canonical(params), self._rules())

    def find(
        self,
        identifier: str | None = None,
        *,
        params: Any = None,
        uid: str | None = None,
        status: Status | str | None = None,
    ) -> list[Session]:
        """The recorded runs of this namespace that match all that is given, in order of first events.

        `params` finds a run, its repeats, and those that the store's rules make the same; `uid` is a prefix.
        Removed runs are left out.

        Raises: ParamsError, NameRefusedError, ValueError for what cannot be looked for. Cost: 20 µs a run.
        """
        wanted = Filter(
            relpath=self._relpath,
            identifier=None if identifier is None else names.check_identifier(identifier),
            uid=None if uid is None else _prefix(uid),
            key=None if params is None else self.uid(params),
            status=None if status is None else Status(status),
        )
        runs = find_as_seen(self._ledger, wanted)
        if params is not None:
            runs = sorted([*runs, *self._aliased(wanted)], key=lambda run: run.first)
        return [self._of_run(run, reads=True) for run in runs if run.params is not None]

    def _aliased(self, wanted: Filter) -> list[Run]:
        """The runs that match by their alias alone."""
        assert wanted.key is not None, "it is asked for by params"
        found = self._ruling.aliased(Uid(wanted.key), self._relpath, wanted.identifier)
        matching = replace(wanted, key=None)
        return [run for run in (as_seen(self._ledger, one) for one in found) if matching.matches(run)]


def _key(params: Any, rules: Rules) -> Uid:
    """The uid of what is written of params."""
    text = canonical(params)
    return uid_of(rules.written(text).text if rules else text)


def _written(params: Any, rules: Rules) -> Written:
    """What is written of params, and hashed. Spec: spec/rules.md section 4."""
    text = canonical(params)
    return rules.written(text) if rules else Written(text, None)


def _mode(recorded: str | None, otherwise: StorageMode) -> StorageMode:
    """The recorded mode, which wins, unless it is none that this release knows."""
    return otherwise if recorded not in _MODES else StorageMode(recorded)


_MODES = frozenset(StorageMode)


def _unknown_params(ref: str, root: Path) -> NotFoundError:
    return NotFoundError(
        f"params of run {ref}", str(root), "the segment that creates it is not here: copy it"
    )


def _prefix(uid: str) -> str:
    if not 4 <= len(uid) <= 32 or set(uid) - set("0123456789abcdef"):
        raise ValueError(f"uid {uid!r}: give 4 to 32 lower-case hex digits")
    return uid


def _wanted(identifier: str | None, key: Uid | None, uid: str | None) -> str:
    parts = [] if identifier is None else [identifier]
    parts += [] if key is None else [f"with params of uid {key}"]
    parts += [] if uid is None else [f"with uid {uid}…"]
    return " ".join(["run", *parts])


def _compare(text: bytes, recorded: str | None, root: Path, uid: Uid) -> None:
    """On every hit the bytes decide: a collision is an error, never a merge. Spec: canonical.md, rule 12."""
    if recorded is not None and recorded.encode() != text:
        why = f"other params are recorded under uid {uid}: {recorded[:80]}"
        raise DamagedError(
            str(root), why, spec="spec/canonical.md, rule 12", cure="run `tracker verify --full`"
        )


def _check_root(root: Path) -> None:
    """A root is a folder, or nothing yet, and no enclosing store's namespace. Raises: NameRefusedError."""
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise NameRefusedError("root", str(root), "is not UTF-8", "rename the folder") from error
    if root.exists() and not root.is_dir():
        raise NameRefusedError("root", str(root), "is a file", "choose a folder")
    if (root / names.STORE).is_dir():
        return
    for parent in root.parents:
        if (parent / names.STORE / names.LEDGER).is_dir():
            inner = root.relative_to(parent).as_posix()
            used = open_ledger(parent).relpaths()
            if any(path == inner or path.startswith(f"{inner}/") for path in used):
                cure = f"use Project({str(parent)!r}).sub({inner!r})"
                raise NameRefusedError("root", str(root), f"is a namespace of the store in {parent}", cure)


def _refuse_inner_roots(root: Path, relpath: str) -> None:
    """A namespace does not run through another store. Raises: NameRefusedError."""
    inner = root
    for part in relpath.split("/") if relpath else []:
        inner = inner / part
        if (inner / names.STORE / names.LEDGER).is_dir():
            rest = (root / relpath).relative_to(inner).as_posix()
            call = f"Project({str(inner)!r})" + ("" if rest == "." else f".sub({rest!r})")
            raise NameRefusedError("namespace", relpath, f"{inner} is a store of its own", f"use {call}")
