"""Bytes -> digest -> uid, and a uid's text forms: parsed, shortened, resolved.

The only door to BLAKE3. Knows nothing of what the bytes mean.

Spec: spec/canonical.md, "Form 1" (rule 10), "Printing".
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from tracker.errors import AmbiguousError, NotFoundError
from tracker.terms import Digest, Uid

UID_DIGITS = 32

SHORTEST_SHOWN = 8
SHORTEST_ACCEPTED = 4


def digest(data: bytes | memoryview) -> Digest:
    """Give the BLAKE3 digest of `data`: what `b3sum` prints."""
    return Digest(blake3(data).hexdigest())


def uid_of(text: bytes) -> Uid:
    """Give the uid of a canonical text: what `b3sum -l 16 --no-names` prints."""
    return Uid(blake3(text).hexdigest(length=UID_DIGITS // 2))


def is_uid(text: str) -> bool:
    """Tell whether `text` is spelled as a uid: 32 digits, lower case, nothing else."""
    return is_hex(text, UID_DIGITS)


def is_hex(text: str, digits: int) -> bool:
    """Tell whether `text` is so many hex digits, lower case, and nothing else. Cost: 0.1 µs."""
    return len(text) == digits and not text.strip(_HEX)


def parse_uid(text: str) -> Uid:
    """Give `text` as a uid.

    Raises: ValueError for any other spelling, capitals among them: a uid has one text.
    """
    if not is_uid(text):
        raise ValueError(f"a uid is {UID_DIGITS} lower-case hex digits, not {text!r}")
    return Uid(text)


def shorten(uid: Uid, others: Iterable[str]) -> str:
    """Give the shortest prefix to print for `uid` among `others`.

    It has 8 digits or more, no other uid begins with it, and it holds one of a b c d f, so that no
    spreadsheet, YAML or CSV reader takes it for a number. A uid without such a digit is given whole.

    Cost: one comparison for each of `others`; the neighbours of `uid` in sorted order are enough.
    Spec: spec/canonical.md, "Printing".
    """
    size = SHORTEST_SHOWN
    for other in others:
        while size < UID_DIGITS and other.startswith(uid[:size]) and other != uid:
            size += 1
    while size < UID_DIGITS and _LETTERS.isdisjoint(uid[:size]):
        size += 1
    return uid[:size]


def resolve(prefix: str, candidates: Iterable[str], *, where: str = "this store") -> Uid:
    """Give the one uid among `candidates` that begins with `prefix`.

    Raises: NotFoundError if none does, or if `prefix` is not 4 to 32 hex digits; AmbiguousError, which
    names them, if several do.
    Spec: spec/canonical.md, "Printing".
    """
    if not (SHORTEST_ACCEPTED <= len(prefix) <= UID_DIGITS and is_hex(prefix, len(prefix))):
        raise NotFoundError(f"uid {prefix!r}", where, "a uid is given by 4 to 32 lower-case hex digits")
    found = sorted({uid for uid in candidates if uid.startswith(prefix)})
    if not found:
        raise NotFoundError(f"uid {prefix!r}", where)
    if len(found) > 1:
        raise AmbiguousError(f"uid {prefix!r}", where, found)
    return Uid(found[0])


_HEX = "0123456789abcdef"
_LETTERS = frozenset("abcdf")
