"""Two lists of sealed files, two environments: what is the same and what is not. Pure.

Spec: spec/rerun.md sections 4 and 5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from msgspec import Struct

from tracker._model.event import File
from tracker.errors import DamagedError


class Differs(Struct, frozen=True):
    """A file of two contents; digests in hex, None where a file was not sealed by its digest."""

    name: str
    size: int | None
    digest: str | None
    repeat_size: int | None
    repeat_digest: str | None


class Compared(Struct, frozen=True):
    """The files of an attempt and of its repeat, by name. Of `unknown` ones a digest is lacking."""

    same: list[str]
    differs: list[Differs]
    missing: list[str]
    extra: list[str]
    unknown: list[str]
    ignored: list[str]

    @property
    def is_same(self) -> bool:
        """True if there was something to compare, and all of it is the same."""
        return bool(self.same) and not (self.differs or self.missing or self.extra or self.unknown)


def compare_files(first: Iterable[File], repeat: Iterable[File], ignore: Sequence[str] = ()) -> Compared:
    """Compare two attempts' files by name: size and digest. `ignore` are shell patterns of names."""
    left, right = ({file.name: file for file in files} for files in (first, repeat))
    every = sorted(left.keys() | right.keys())
    ignored = [name for name in every if any(fnmatchcase(name, pattern) for pattern in ignore)]
    names = [name for name in every if name not in set(ignored)]
    both = [(left[name], right[name]) for name in names if name in left and name in right]
    verdicts = {one.name: _is_same(one, other) for one, other in both}
    return Compared(
        [name for name, is_same in verdicts.items() if is_same is True],
        [_differs(one, other) for one, other in both if verdicts[one.name] is False],
        [name for name in names if name not in right],
        [name for name in names if name not in left],
        [name for name, is_same in verdicts.items() if is_same is None],
        ignored,
    )


def _is_same(one: File, other: File) -> bool | None:
    """None where it cannot be told: of the same size, and not both sealed by a digest."""
    if one.size != other.size and one.size is not None and other.size is not None:
        return False
    if one.digest is None or other.digest is None:
        return None
    return one.digest == other.digest


def _differs(one: File, other: File) -> Differs:
    return Differs(one.name, one.size, _hex(one), other.size, _hex(other))


def _hex(file: File) -> str | None:
    return None if file.digest is None else file.digest.hex()


class Change(NamedTuple):
    """A place in an environment: its path, and what stands there on either side, None for nothing."""

    path: str
    recorded: Any
    present: Any


def compare_environments(recorded: bytes, present: bytes) -> list[Change]:
    """In which members two environment objects differ, by path; packages first.

    Raises: DamagedError for bytes that are no JSON.
    """
    left, right = leaves_of(recorded), leaves_of(present)
    paths = sorted(left.keys() | right.keys(), key=lambda path: (not path.startswith("packages."), path))
    return [
        Change(path, left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)
    ]


def leaves_of(environment: bytes) -> dict[str, Any]:
    """The members of an environment object by path. Raises: DamagedError for bytes that are no JSON."""
    try:
        return dict(_leaves(json.loads(environment)))
    except (ValueError, RecursionError) as error:
        raise DamagedError("environment object", str(error), spec="spec/provenance.md section 3") from error


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)
