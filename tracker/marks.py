"""What people say of a run: tags, notes, a name, the run it belongs to. Words in, events out.

It checks and gives the event; who appends it is above. Who said it, where and when, is told by the segment's
OPEN frame and the event's clock.

Spec: spec/events.md section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from unicodedata import normalize

from msgspec import Struct

from tracker._disk import host
from tracker._model.event import Event, Named, Noted, Parented, Tagged
from tracker._model.fold import Run, Stamp
from tracker._model.names import is_ref
from tracker.errors import NameRefusedError, NotFoundError, StateError
from tracker.ledger import Ledger
from tracker.terms import Durability, RunRef

TAG_CHARACTERS = 64
NAME_BYTES = 255
NOTE_BYTES = 64 * 1024

_BATCH = 1000
"""So many events go into one frame."""


class HasRef(Protocol):
    """A session, or a recorded run."""

    @property
    def ref(self) -> RunRef: ...


class Author(Struct, frozen=True):
    """Who wrote an event, and on which host."""

    user: str
    host: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


def check_tag(text: str) -> str:
    """Give a tag in the one spelling (NFC) under which it is kept. Raises: NameRefusedError."""
    tag = normalize("NFC", _text("tag", text))
    if "," in tag:
        raise NameRefusedError("tag", text, "holds a comma", "give two tags")
    if not 1 <= len(tag) <= TAG_CHARACTERS:
        raise NameRefusedError("tag", text, f"has {len(tag)} characters", f"give 1 to {TAG_CHARACTERS}")
    _check_line("tag", text, tag)
    return tag


def tagged(run: RunRef, added: Iterable[str] = (), removed: Iterable[str] = ()) -> Tagged:
    """Tags put on and taken off. One that is given for both is refused. Raises: NameRefusedError."""
    put_on = list(dict.fromkeys(map(check_tag, _several(added))))
    taken_off = list(dict.fromkeys(map(check_tag, _several(removed))))
    both = set(put_on) & set(taken_off)
    if both:
        raise NameRefusedError("tag", min(both), "is to be put on and taken off", "give it once")
    return Tagged(run, put_on, taken_off)


def change_of(run: Run, wanted: Tagged) -> Tagged:
    """What of a wish is not so yet: what is recorded of it."""
    there = set(run.tags)
    added = [tag for tag in wanted.added if tag not in there]
    return Tagged(run.ref, added, [tag for tag in wanted.removed if tag in there])


def noted(run: RunRef, text: str) -> Noted:
    """A note: any text with something in it, up to 64 KiB of UTF-8. Raises: NameRefusedError."""
    size = len(_text("note", text).encode())
    if size > NOTE_BYTES:
        raise NameRefusedError("note", text[:20] + "…", f"has {size} bytes", f"give at most {NOTE_BYTES}")
    if not text.strip():
        raise NameRefusedError("note", text[:20], "says nothing", "give some text")
    return Noted(run, text)


def named(run: RunRef, name: str | None) -> Named:
    """The name that people call the run by, which need not be its alone; None takes it away.

    Raises: NameRefusedError.
    """
    if name is None:
        return Named(run, None)
    text = normalize("NFC", _text("name", name))
    size = len(text.encode())
    if not 1 <= size <= NAME_BYTES:
        raise NameRefusedError("name", name[:40], f"has {size} bytes", f"give 1 to {NAME_BYTES}")
    _check_line("name", name, text)
    return Named(run, text)


def parented(ledger: Ledger, run: RunRef, parent: HasRef | str | None) -> Parented:
    """The run that this one belongs to: a session, or a recorded run's ref; None sets it free.

    Raises: NotFoundError for a run that is not recorded here; StateError for one that belongs to this one.
    Cost: 20 µs for each run above.
    """
    if parent is None:
        return Parented(run, None)
    ref = _ref_of(parent)
    if not is_ref(ref) or ledger.run(ref) is None:
        cure = "start it first, or give the ref of a recorded run as `tracker show` prints it"
        raise NotFoundError(f"parent {ref!r}", str(ledger.root), cure)
    if run in _above(ledger, ref):
        raise StateError(run, "above it", f"{ref} cannot be its parent", "choose a run that is not below it")
    return Parented(run, ref)


def _ref_of(parent: HasRef | str) -> RunRef:
    return RunRef(parent) if isinstance(parent, str) else parent.ref


def _above(ledger: Ledger, ref: RunRef) -> list[RunRef]:
    """A run and those that it belongs to, one above the other; two copies may have made them a circle."""
    chain: list[RunRef] = []
    here: RunRef | None = ref
    while here is not None and here not in chain:
        chain.append(here)
        run = ledger.run(here)
        here = None if run is None else run.parent
    return chain


def append_marks(ledger: Ledger, events: list[Event]) -> None:
    """Record what was said, a thousand events a frame, and put it beyond a power cut.

    Crash states: whole frames are recorded, the first ones; what is said twice means the same.

    Raises: StorageError.
    """
    for start in range(0, len(events), _BATCH):
        batch = events[start : start + _BATCH]
        ledger.append(lambda _, batch=batch: batch)  # type: ignore[misc]
    if events:
        ledger.commit(Durability.FULL)


def author_of(ledger: Ledger, stamp: Stamp) -> Author | None:
    """Who wrote the event at a place in the order, as of the last look; None where its segment does not read.

    Cost: one file read a writer, the first time.
    """
    if stamp[1] == ledger.writer:
        me = host.this_process()
        return Author(me.user, me.host)
    opened = ledger.lookup.opened_by(stamp[1])
    return None if opened is None else Author(opened.user, opened.host)


def _several(tags: Iterable[str]) -> Iterable[str]:
    return [tags] if isinstance(tags, str) else tags


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise NameRefusedError(what, value, f"is of type {type(value).__name__}", "give it as text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        cure = "give it as whole Unicode characters"
        raise NameRefusedError(what, value[:40], "has no UTF-8 form", cure) from error
    return str.__str__(value)


def _check_line(what: str, given: str, text: str) -> None:
    if text != text.strip():
        raise NameRefusedError(what, given, "begins or ends with a space", "drop it")
    bad = next((char for char in text if not char.isprintable()), None)
    if bad is not None:
        raise NameRefusedError(what, given, f"holds {bad!r}, which is not printed", "drop it")
