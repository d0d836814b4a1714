"""A process that was started to repeat one recorded run: which run, and which of its sessions are the repeat.

`tracker rerun` says so in three environment variables; they are read once a process. Here stands which
sessions they speak for; a Project asks.

LIMIT: a run is told by namespace, identifier and params. A program that has one such run in each of two
stores repeats the first that it comes to, and then refuses to start it again.

Spec: spec/rerun.md section 3.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from tracker._codec.canonical import canonical, canonical_with_repeat, without_repeat
from tracker._codec.digest import is_hex, uid_of
from tracker._model import names
from tracker._model.fold import Run
from tracker._model.rules import Written
from tracker.errors import NotFoundError, ParamsError
from tracker.ledger import open_ledger
from tracker.ruling import ruling_of
from tracker.session.place import Place, Settings
from tracker.terms import RunRef, StorageMode, Uid

OF = "TRACKER_REPEAT_OF"
"""The ref of the run that is repeated."""

ROOT = "TRACKER_REPEAT_ROOT"
"""The root of its store, absolute. The repeat is recorded there."""

MEMBER = "TRACKER_REPEAT_MEMBER"
"""The 16 hex digits that set the repeat apart, so that whoever started the process knows its uid."""


class Repeat(Struct, frozen=True):
    """The identity of a repeat."""

    ref: RunRef
    uid: Uid
    text: bytes
    """Its canonical params, with the member that sets it apart."""


def repeat_of(run: Run, member: str) -> Repeat:
    """The repeat of a run, itself perhaps one, that `member` sets apart.

    Raises: NotFoundError if its params are not recorded here; ValueError for a member of another form.
    """
    if run.params is None:
        cure = "the segment that creates it is not here: copy the tree again"
        raise NotFoundError(f"params of run {run.ref}", "this store", cure)
    recorded = run.params.encode()
    text = canonical_with_repeat(without_repeat(recorded) or recorded, member)
    uid = uid_of(text)
    return Repeat(names.run_ref(run.relpath, run.identifier, uid), uid, text)


class Asked:
    """The run that this process is to repeat. Get it from `asked_repeat`."""

    def __init__(self, ref: RunRef, root: Path, member: str) -> None:
        self._ref = ref
        self._member = member
        self._ledger = open_ledger(root)
        self._run: Run | None = None
        self._was_given = False
        self._was_made_new = False

    @property
    def run(self) -> Run:
        """The run that is repeated. Raises: NotFoundError."""
        if self._run is None:
            self._run = self._ledger.run(self._ref)
        if self._run is None:
            cure = f"unset {OF}, which a rerun sets"
            raise NotFoundError(f"run {self._ref}, which is to be repeated,", str(self._ledger.root), cure)
        return self._run

    def place(
        self, relpath: str, identifier: str, params: Any, settings: Settings, *, is_new: bool
    ) -> Place | None:
        """The repeat's place, if a session of these params is to be it; else None: it is as any other.

        A session that is a new run at each call (`is_new`) is the repeat the first time only.

        Raises: ParamsError, NotFoundError. Cost: 30 µs.
        """
        if not self._is_it(relpath, identifier, params) or (is_new and self._was_made_new):
            return None
        self._was_given = True
        self._was_made_new = self._was_made_new or is_new
        repeat = repeat_of(self.run, self._member)
        mode = StorageMode.PREFIX if self.run.mode == StorageMode.PREFIX else StorageMode.SUBFOLDER
        ignored = None if params is None else self._written(params).ignored
        return Place(
            self._ledger.root, relpath, identifier, repeat.uid, self.run.key, repeat.text, mode, settings,
            ignored=ignored,
        )  # fmt: skip

    def narrow(self, relpath: str, identifier: str, configs: Iterable[Any]) -> Iterable[Any]:
        """Of a list of configs the one that is repeated; where it is not among them all, until it was given.

        What comes before the repeat may be what it needs; what comes after it is not needed.
        """
        if isinstance(configs, str | bytes | Mapping) or not isinstance(configs, Iterable):
            return configs  # whoever goes through the list says what is wrong with it
        listed = list(configs)
        try:
            chosen = [config for config in listed if self._is_it(relpath, identifier, config)]
        except ParamsError:  # raised again by whoever goes through the list, with the config's place in it
            return listed
        return chosen[:1] if chosen else [] if self._was_given else listed

    def _is_it(self, relpath: str, identifier: str, params: Any) -> bool:
        run = self.run
        if (relpath, identifier) != (run.relpath, run.identifier):
            return False
        if params is None or run.key is None:
            return params is None and run.key is None
        rules = ruling_of(self._ledger).current()
        today = None if run.params is None else rules.alias_of(run.params.encode())
        return uid_of(self._written(params).text) == today

    def _written(self, params: Any) -> Written:
        """What is hashed of params by the rules of the store that the run is in, whichever asks."""
        return ruling_of(self._ledger).current().written(canonical(params))


_asked: Asked | None = None
_was_read = False


def asked_repeat() -> Asked | None:
    """The run that this process is to repeat, as its environment says when first asked; None for none.

    Raises: ValueError for variables that do not say it in full. Cost: 0.1 µs.
    """
    global _asked, _was_read
    if not _was_read:
        _asked = asked_by(os.environ)
        _was_read = True
    return _asked


def narrowed(relpath: str, identifier: str, configs: Iterable[Any]) -> Iterable[Any]:
    """A list of configs as it is, or what is to be run of it if this process is to repeat a run."""
    asked = asked_repeat()
    return configs if asked is None else asked.narrow(relpath, identifier, configs)


def asked_by(environ: Mapping[str, str]) -> Asked | None:
    """What these variables ask for. Raises: ValueError."""
    ref = environ.get(OF)
    if not ref:
        return None
    root, member = environ.get(ROOT, ""), environ.get(MEMBER, "")
    names.split_ref(ref)
    if not os.path.isabs(root):
        raise ValueError(f"{ROOT}={root!r} is no absolute path: give it with {OF}, or unset both")
    if not is_hex(member, 16):
        raise ValueError(f"{MEMBER}={member!r} is not 16 lower-case hex digits: give it with {OF}")
    return Asked(RunRef(ref), Path(root), member)
