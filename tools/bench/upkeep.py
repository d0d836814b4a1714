"""What is done to a store of tracker's beside the questions: its packs, and the files of its index.

Apart from `ours`, whose processes import no more than what a user's look-up does.
"""

from __future__ import annotations

from pathlib import Path

from tools.bench.workload import Figures, timed
from tracker import Project
from tracker._store.index import index_path
from tracker.packing import pack


def pack_store(root: str) -> Figures:
    """Fold the store's sealed files; the answer is how many packs were made."""
    return timed(lambda: len(pack(Project(root).ledger).folds))


def index_files(root: str) -> dict[str, int]:
    """The bytes of each file that the index of a store has."""
    folder = Path(index_path(root)).parent
    return {file.name: file.stat().st_size for file in folder.iterdir() if file.stat().st_size}
