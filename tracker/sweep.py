"""A list of configs and a worker that goes through it, beside any number of others.

Says which config is next and whether it is run; claims are the session's, statuses the ledger's. Workers need
not know of each other: each begins elsewhere, and goes on elsewhere when it meets another.

Spec: spec/claims.md section 7.
"""

from __future__ import annotations

import enum
import itertools
import os
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tracker import interrupts
from tracker._codec.canonical import canonical
from tracker._codec.digest import uid_of
from tracker.errors import ParamsError
from tracker.session import Session
from tracker.terms import Status, Uid

POLL_S = (0.2, 5.0)
"""How long a worker waits for others before it looks again: at first, and at most."""

_SLICE_S = 0.2
_GROWTH = 1.5

_ARRAYS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT"),
    ("SLURM_PROCID", "", "", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "", "", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "", "", "PMI_SIZE"),
)
"""Where a batch system says which of how many workers this is: number, the first one, step, how many."""


class Retry(enum.StrEnum):
    """Which runs that were begun before are run again."""

    NONE = "none"
    LOST = "lost"
    FAILED = "failed"

    @classmethod
    def of(cls, text: str) -> Retry:
        """Raises: ValueError, which says what may be given."""
        if text not in list(cls):
            raise ValueError(f"retry {text!r}: give {', '.join(repr(str(one)) for one in cls)}")
        return cls(text)


WANTED = {
    Retry.NONE: frozenset({Status.PENDING}),
    Retry.LOST: frozenset({Status.PENDING, Status.LOST, Status.INTERRUPTED}),
    Retry.FAILED: frozenset({Status.PENDING, Status.LOST, Status.INTERRUPTED, Status.ERROR}),
}
"""The statuses of runs that a sweep runs."""

_ENDED = frozenset({Status.DONE, Status.ERROR, Status.INTERRUPTED})


class Found(enum.Enum):
    """What a worker finds when it comes to a config."""

    TAKEN = "the claim is ours"
    BUSY = "someone executes it"
    SETTLED = "nothing is to be done"


def take(session: Session, retry: Retry) -> Found:
    """Claim a run if it is to be run and nobody executes it.

    A claim that is taken is the caller's, to start or to release.

    Cost: 5 µs for a run that is done, else that of a claim. Raises: StorageError.
    """
    if session.is_done():
        return Found.SETTLED
    status = session.status
    if status is Status.RUNNING:
        return Found.BUSY
    if status not in WANTED[retry]:
        return Found.SETTLED
    if not session.claim():
        return Found.BUSY
    if session.status in _ENDED - WANTED[retry]:  # it ended between our look and our claim
        session.release()
        return Found.SETTLED
    return Found.TAKEN


def plain_uid(params: Any) -> Uid:
    """The uid of params where no store has rules for them. Raises: ParamsError."""
    return uid_of(canonical(params))


def check_configs(
    configs: Iterable[Any], uid_of: Callable[[Any], Uid] = plain_uid
) -> tuple[list[Any], list[Uid]]:
    """The configs as a list, and the uid of each by `uid_of`. Nothing is made.

    Raises: ParamsError, whose path begins with the place of the config, as in `configs[17]['lr']`.
    Cost: 4 µs a config.
    """
    if isinstance(configs, str | bytes | Mapping) or not isinstance(configs, Iterable):
        raise ParamsError("configs", f"give a list of configs, not {type(configs).__name__}")
    listed = list(configs)
    return listed, [_uid_at(place, config, uid_of) for place, config in enumerate(listed)]


def _uid_at(place: int, config: Any, uid_of: Callable[[Any], Uid]) -> Uid:
    try:
        return uid_of(config)
    except ParamsError as error:
        raise ParamsError(f"configs[{place}]{error.path.removeprefix('params')}", error.why) from error


class Left(NamedTuple):
    """A config that is to be run: its place in the list, its session, and its status now."""

    place: int
    session: Session
    status: Status


class Sweep:
    """The runs of a list of configs that are to be run: an iterable of sessions that this worker has claimed.

    Get it from `Project.sweep`, and go through it with `for run in sweep: with run: …`. Any number of workers
    may do so with the same list. A run that is done is passed over, one that somebody executes is put off.
    What `with` does not begin is given back and not tried again. With "failed" each worker tries what fails
    once. SIGTERM and SIGUSR1 end the loop at the next config.

    The configs must not be changed while the sweep is in use.
    """

    def __init__(
        self,
        session_of: Callable[[Any], Session],
        configs: Iterable[Any],
        *,
        retry: str = Retry.LOST,
        wait: bool = False,
        uid_of: Callable[[Any], Uid] = plain_uid,
    ) -> None:
        self._retry = Retry.of(retry)
        self._configs, uids = check_configs(configs, uid_of)
        first: dict[Uid, int] = {}
        for place, uid in enumerate(uids):
            first.setdefault(uid, place)
        self._places = list(first.values())
        self._session_of = session_of
        self._wait = wait
        self._tried: set[int] = set()
        self._luck = random.SystemRandom()  # a program's own random numbers stay as it seeded them

    def __repr__(self) -> str:
        return f"<Sweep of {len(self)} configs, retry {self._retry.value!r}>"

    @property
    def retry(self) -> Retry:
        """Which runs that were begun before are run again: "none", "lost" (also interrupted), "failed"."""
        return self._retry

    def __len__(self) -> int:
        """How many different configs there are, done or not."""
        return len(self._places)

    def left(self) -> list[Any]:
        """The configs that would be run now, in the order given. Claims nothing."""
        return [self._configs[one.place] for one in self.iter_left()]

    def iter_left(self) -> Iterator[Left]:
        """What would be run now, with places and statuses. Of configs that are one, the first is given.

        Cost: 15 µs for a config that is done.
        """
        for place in self._places:
            session = self._session_of(self._configs[place])
            if not session.is_done() and (status := session.status) in WANTED[self._retry]:
                yield Left(place, session, status)

    def __iter__(self) -> Iterator[Session]:
        """Sessions whose claims are ours, one at a time, each config at most once by one sweep.

        What others execute is looked at again at the end: once, or with `wait` until nothing is left.

        Raises: StorageError. Cost: 15 µs for a config that is done.
        """
        interrupts.listen()
        places = [place for place in self._places if place not in self._tried]
        busy = yield from self._go_round(places, worker_place(len(places), os.environ))
        waits = _waits()
        for _ in itertools.count() if self._wait else range(1):
            if not busy or (self._wait and not self._sleep(next(waits))):
                return
            again = yield from self._go_round(busy)
            waits = waits if len(again) == len(busy) else _waits()
            busy = again

    def _go_round(
        self, places: Sequence[int], begin: int | None = None
    ) -> Generator[Session, None, Sequence[int]]:
        """Come to each place once; return those of runs that somebody executes."""
        ring = Ring(len(places))
        busy: list[int] = []
        at = self._luck.randrange(len(places) or 1) if begin is None else begin
        while ring and not _must_stop():
            at = ring.at_or_after(at)
            ring.remove(at)
            place = places[at]
            session = self._session_of(self._configs[place])
            found = take(session, self._retry)
            if found is Found.BUSY:
                busy.append(place)
                at = ring.anywhere(self._luck) if ring else 0
            elif found is Found.TAKEN:
                self._tried.add(place)
                try:
                    yield session
                finally:
                    session.release()  # nothing, if the claim was used
        return busy

    def _sleep(self, wait_s: float) -> bool:
        """Wait about so long; False as soon as this process is told to stop."""
        end_s = time.monotonic() + wait_s * self._luck.uniform(0.7, 1.3)
        while not _must_stop():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return True
            time.sleep(min(left_s, _SLICE_S))
        return False


class Ring:
    """Places 0 … n-1 in a circle, from which they are removed one by one. Each step takes constant time."""

    def __init__(self, count: int) -> None:
        self._left = list(range(count))
        self._index = list(range(count))
        self._next = list(range(count + 1))  # a place that is there points to itself, another one onwards

    def __len__(self) -> int:
        return len(self._left)

    def at_or_after(self, place: int) -> int:
        """The nearest place that is there, going round."""
        found = self._follow(place)
        return found if found < len(self._index) else self._follow(0)

    def _follow(self, place: int) -> int:
        onwards = self._next
        while onwards[place] != place:
            onwards[place] = onwards[onwards[place]]
            place = onwards[place]
        return place

    def remove(self, place: int) -> None:
        """Take out a place that is there."""
        self._next[place] = place + 1
        last = self._left.pop()
        if last != place:
            self._left[self._index[place]] = last
            self._index[last] = self._index[place]

    def anywhere(self, luck: random.Random) -> int:
        """Any place that is there, each as likely."""
        return luck.choice(self._left)


def worker_place(count: int, environ: Mapping[str, str]) -> int | None:
    """Where of `count` places this worker begins, if a batch system says which of how many it is.

    >>> worker_place(100, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"})
    75
    """
    for number, first, step, size in _ARRAYS:
        mine, workers = _whole(environ.get(number)), _whole(environ.get(size))
        if mine is None or workers is None or workers < 2:
            continue
        behind = mine - (_whole(environ.get(first)) or 0)
        return behind // (_whole(environ.get(step)) or 1) % workers * count // workers
    return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _must_stop() -> bool:
    return interrupts.signal_name() is not None


def _waits() -> Iterator[float]:
    first_s, longest_s = POLL_S
    for turn in itertools.count():
        yield min(first_s * _GROWTH ** min(turn, 50), longest_s)
