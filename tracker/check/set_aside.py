"""What was put out of sight: the trash of removed runs, and the quarantine.

Spec: spec/layout.md section 9; spec/recovery.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tracker._disk import durable
from tracker._model.names import STORE, split_ref
from tracker._store import quarantine, trash
from tracker.check.findings import Finding, incomplete, note
from tracker.check.reading import Reading
from tracker.terms import RunRef


class Trashed(Struct, frozen=True):
    """The trash as it is on disk: of each run the paths of its last removal, and folders of no run here."""

    files: dict[RunRef, set[str]]
    strange: list[str]

    def place_of(self, ref: RunRef, path: str) -> str | None:
        """Where a file of a run lies in the trash, below the root; None if it does not."""
        return f"{STORE}/{trash.trash_folder(ref)}/{path}" if path in self.files.get(ref, ()) else None


def read_trash(store_fd: int, reading: Reading) -> Trashed:
    """List the trash. Cost: one listing each folder."""
    folders = [*trash.iter_trash(store_fd)]
    if not folders:
        return Trashed({}, [])
    known = {(split_ref(ref).uid, trash.ref16_of(ref)): ref for ref in reading.state.runs}
    files: dict[RunRef, set[str]] = {}
    strange: list[str] = []
    for folder in folders:
        name = trash.parse_trash_folder(folder)
        assert name is not None, "iter_trash gives no other names"
        ref = known.get((name.uid, name.ref16))
        if ref is None:
            strange.append(folder)
        elif name.number == 0:
            files[ref] = {path.removeprefix(f"{folder}/") for path in trash.iter_files(store_fd, folder)}
    return Trashed(files, strange)


def iter_trash(trashed: Trashed) -> Iterator[Finding]:
    """Trash of which no run here speaks."""
    for folder in trashed.strange:
        what = "the trash of a run that is not recorded here: a segment is not here"
        yield incomplete("trash-unrecorded", f"{STORE}/{folder}", what, "copy the tree again")


def iter_quarantined(store_fd: int) -> Iterator[Finding]:
    """Damaged pieces that were set aside."""
    for path in quarantine.iter_quarantined(store_fd):
        size_bytes = durable.stat_at(path, store_fd).st_size
        what = f"{size_bytes} bytes that were damaged are kept here"
        yield note("quarantined", f"{STORE}/{path}", what, "look what is in it; it may be deleted by hand")
