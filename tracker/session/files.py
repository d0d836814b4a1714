"""A run's own files while it is written: its folder, the paths handed out, what was attached.

Users' files are named here, never written; sealing is `outputs`'.

Spec: spec/layout.md section 4; spec/log.md section 8.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from tracker._model import names
from tracker._model.event import Attachment, File
from tracker._store import outputs
from tracker.errors import NameRefusedError, StorageError
from tracker.ledger import Ledger, OpenRun
from tracker.session.place import Place
from tracker.terms import Status

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def make_folder(ledger: Ledger, place: Place, held: OpenRun) -> None:
    """Make the run's folder and `params.json`. Raises: StorageError."""
    root_fd = ledger.root_fd()
    outputs.make_run_folder(root_fd, place.folder)
    outputs.put_params(root_fd, place.params_path, place.text)
    held.has_folder = True


def is_recorded_and_read_only(ledger: Ledger, place: Place, error: StorageError) -> bool:
    """True if what failed is a store that may only be read, of which the run is a part."""
    if error.errno not in _READ_ONLY:
        return False
    row = ledger.row(place.uid, place.identifier, place.relpath)
    return row is not None and row.status != Status.PENDING


def hand_out(ledger: Ledger, place: Place, held: OpenRun, path: str, name: str) -> None:
    """Keep in mind that a path was given out, so that what is written there is sealed.

    Raises: NameRefusedError for another spelling of one that was, and for another run's file.
    """
    if path in held.handed:
        return
    folded = names.fold_name(path)
    rival = next((other for other in held.handed if names.fold_name(other) == folded), None)
    if rival is not None:
        why = f"is one name with {held.handed[rival]!r} on some file systems"
        raise NameRefusedError("file name", name, why, "use one spelling")
    _refuse_foreign(ledger, place, path, name)
    if "/" in name:
        outputs.make_run_folder(ledger.root_fd(), path.rpartition("/")[0])
    held.handed[path] = name if name not in held.handed.values() else path


def _refuse_foreign(ledger: Ledger, place: Place, path: str, name: str) -> None:
    others = ledger.others_with_uid(place.uid, place.relpath, place.ref)
    owner = ledger.is_file_of(others, path)
    if owner is not None:
        raise NameRefusedError("file name", name, f"is a file of run {owner}", "choose another name")


def attachment_of(root: Path, name: str, path: str | os.PathLike[str]) -> Attachment:
    """A file as it is recorded: below the root by its relative path, elsewhere as external.

    Raises: NameRefusedError for a name or a path that cannot be kept.
    """
    names.check_file_label(name)
    place = os.path.abspath(os.fspath(path))
    try:
        place.encode()
    except UnicodeEncodeError as error:
        raise NameRefusedError("attached file", place, "its path is not UTF-8", "rename it") from error
    real_root = os.path.realpath(root)
    for base in (str(root), real_root):
        if place.startswith(base + os.sep):
            return Attachment(name, place[len(base) + 1 :].replace(os.sep, "/"), external=False)
    real = os.path.realpath(place)
    if real.startswith(real_root + os.sep):
        return Attachment(name, os.path.relpath(real, real_root).replace(os.sep, "/"), external=False)
    return Attachment(name, place, external=True)


def sealable(root: Path, held: OpenRun) -> list[Attachment]:
    """What was attached, and what was handed out, not attached, and written."""
    attached = {file.path for file in held.attached.values()}
    handed = [
        Attachment(name, path, external=False)
        for path, name in held.handed.items()
        if path not in attached and name not in held.attached and outputs.exists(root, path)
    ]
    return [*held.attached.values(), *handed]


def sync_files(ledger: Ledger, place: Place, held: OpenRun, files: Iterable[File]) -> None:
    """Bring sealed files and `params.json` beyond a power cut. Raises: StorageError."""
    paths = [file.path for file in files]
    if held.has_folder:
        paths.append(place.params_path)
    if paths:
        outputs.sync_files(place.root, ledger.root_fd(), paths)
