"""Files as what runs make and use: bytes saved into the store, inputs by digest, and who made what."""

from tracker.artefacts.lineage import Lineage, Link, lineage_of_file, lineage_of_run
from tracker.artefacts.saving import save
from tracker.artefacts.using import inputs_of, maker_of, named_apart

__all__ = [
    "Lineage",
    "Link",
    "inputs_of",
    "lineage_of_file",
    "lineage_of_run",
    "maker_of",
    "named_apart",
    "save",
]
