"""Which run a session is of, where its files lie, and how it is to be written.

Frozen, and all that goes to another process with a session. Opens nothing.

Spec: spec/layout.md section 4.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from tracker._model import names
from tracker._model.event import Created, Rule
from tracker._model.policy import WHOLE, SealPolicy
from tracker.terms import Capture, Durability, RunRef, StorageMode, Uid


class Settings(Struct, frozen=True):
    """How runs of a namespace are written."""

    durability: Durability = Durability.FULL
    seal: SealPolicy = WHOLE
    provenance: bool = True
    capture: Capture = Capture.NONE


class Place(Struct, frozen=True):
    """A run's identity and the settings of the namespace that it is written through.

    `text` is the canonical text of the params, `key` the uid of the bare params. `founding` are rules that
    are recorded with the first run of a new store. Without `makes_folders` a path makes nothing on disk.
    """

    root: Path
    relpath: str
    identifier: str
    uid: Uid
    key: Uid | None
    text: bytes
    mode: StorageMode
    settings: Settings
    makes_folders: bool = True
    ignored: str | None = None
    founding: tuple[Rule, ...] = ()

    @property
    def ref(self) -> RunRef:
        """`relpath/identifier/uid`: the run's name in its store."""
        return names.run_ref(self.relpath, self.identifier, self.uid)

    @property
    def folder(self) -> str:
        """The folder of the run's files, below the root."""
        return names.folder_of(self.relpath, self.uid, self.mode)

    @property
    def params_path(self) -> str:
        """Its `params.json`, below the root."""
        return names.params_path(self.relpath, self.uid, self.mode)

    def file_path(self, name: str, *, include_identifier: bool) -> str:
        """The path of a file of the run, below the root."""
        return names.file_path(self.relpath, self.identifier, self.uid, self.mode, name, include_identifier)

    def created(self) -> Created:
        """The event that records the run."""
        return Created(self.ref, self.text.decode(), self.key, self.mode, self.ignored)
