"""bundle: the door of this room."""

from tracker.bundle.archive import KINDS
from tracker.bundle.crate import About, Author, parse_author
from tracker.bundle.making import bundle
from tracker.bundle.report import Bundled, Unfit

__all__ = ["KINDS", "About", "Author", "Bundled", "Unfit", "bundle", "parse_author"]
