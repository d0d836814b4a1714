"""Portable names, and the path of everything in a store. Pure: it knows words, never files.

Printers and parsers stand side by side; what a parser takes, its printer prints again. Paths are POSIX.
Those of users' files are relative to the root, those of the store's own files to `.tracker`.
Spec: spec/layout.md.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import PurePath
from typing import Literal, NamedTuple
from unicodedata import normalize

from msgspec import Struct

from tracker._codec.digest import digest, is_hex
from tracker.errors import NameRefusedError
from tracker.terms import Digest, RunRef, StorageMode, Uid, WriterId

STORE = ".tracker"
FORMAT = "FORMAT"
LEDGER = "ledger"
MANIFESTS = "manifests"
OBJECTS = "objects"
CLAIMS = "claims"
METRICS = "metrics"
PARAMS = "params.json"

MAX_PART_BYTES = 100

SegmentKind = Literal["open", "seg", "part"]


class RunName(NamedTuple):
    """What a ref names."""

    relpath: str
    identifier: str
    uid: Uid


class SegmentName(NamedTuple):
    """What the file name of a segment says; an open journal has no hash yet."""

    writer: WriterId
    number: int
    hash16: str | None
    kind: SegmentKind


class ClaimName(Struct, frozen=True):
    """What the path of a claim says; `ref16` begins the hash of the run's ref."""

    uid: Uid
    ref16: str
    number: int


class SeriesName(Struct, frozen=True):
    """Of which run and writer a segment of metrics is; `ref16` begins the hash of the run's ref."""

    uid: Uid
    ref16: str
    writer: WriterId


class ManifestName(NamedTuple):
    """What the path of a manifest says."""

    uid: Uid
    hash16: str


def check_identifier(text: str) -> str:
    """Give `text` back if every file system carries it as one name.

    Cost: 0.2 µs for a text seen before.
    Raises: NameRefusedError with the reason and a cure.
    Spec: spec/layout.md section 5.
    """
    return _checked_identifier(text if type(text) is str else _plain("identifier", text))


def check_relpath(path: str | PurePath) -> str:
    """Give the POSIX text of a namespace's path below the root; "" is the root itself.

    Cost: 0.2 µs for a text seen before.
    Raises: NameRefusedError with the reason and a cure.
    Spec: spec/layout.md section 5.
    """
    return _checked_relpath(path if type(path) is str else _plain("namespace", path))


def check_file_label(name: str) -> str:
    """Give a name under which a run's file is recorded, wherever it lies. Raises: NameRefusedError."""
    is_text = isinstance(name, str) and name != "" and name.isprintable()
    if not is_text or len(name.encode("utf-8", "replace")) > _LABEL_BYTES:
        why = f"is not 1 to {_LABEL_BYTES} bytes of printable text"
        raise NameRefusedError("file's name", name, why, "choose another")
    return name


_LABEL_BYTES = 255


def check_name(path: str | PurePath) -> str:
    """Give the POSIX text of a file's name within its run; it may have folders.

    A last part `params.json` is refused in both modes and below folders too: without its identifier
    `sub/params.json` of a PREFIX run is where a run of namespace `sub` has its params.

    Cost: 0.2 µs for a text seen before.
    Raises: NameRefusedError with the reason and a cure.
    Spec: spec/layout.md sections 4 and 5.
    """
    return _checked_name(path if type(path) is str else _plain("file name", path))


def fold_name(text: str) -> str:
    """Give the form in which two spellings of one name are equal.

    NFC comes twice, because case folding takes composed letters apart.

    Spec: spec/layout.md section 5.
    """
    if text.isascii():
        return text.lower()
    return normalize("NFC", normalize("NFC", text).casefold())


# The caches hold plain strings only: paths of Windows are equal in any case, and enums print otherwise.


@lru_cache(maxsize=4096)
def _checked_identifier(text: str) -> str:
    if "/" in text:
        raise NameRefusedError("identifier", text, "holds '/'", "name folders with sub()")
    _check_parts("identifier", text, [text])
    return text


@lru_cache(maxsize=4096)
def _checked_relpath(text: str) -> str:
    if text == "":
        return text
    parts = text.split("/")
    _check_parts("namespace", text, parts)
    for part in parts:
        if is_hex(part.lower(), 32):
            why = f"{part!r} looks like the folder of a run"
            raise NameRefusedError("namespace", text, why, "name it otherwise than by 32 hex digits")
    return text


@lru_cache(maxsize=4096)
def _checked_name(text: str) -> str:
    parts = text.split("/")
    _check_parts("file name", text, parts)
    if fold_name(parts[-1]) == PARAMS:
        why = f"the name {PARAMS} is kept for the params of a run"
        raise NameRefusedError("file name", text, why, "choose another name")
    return text


def _plain(what: str, value: object) -> str:
    if isinstance(value, PurePath):
        text = value.as_posix()
        return "" if text == "." else text
    if isinstance(value, str):
        return str.__str__(value)
    raise NameRefusedError(what, value, f"is of type {type(value).__name__}", "give it as text")


def _check_parts(what: str, text: str, parts: list[str]) -> None:
    if len(parts) > 1 and parts[0] == "":
        raise NameRefusedError(what, text, "is an absolute path", "give it relative, without a leading '/'")
    for part in parts:
        fault = _fault(part)
        if fault is not None:
            why, cure = fault
            where = "" if len(parts) == 1 else f"its part {part!r} "
            raise NameRefusedError(what, text, where + why, cure)


_FORBIDDEN = frozenset('\x7f\\<>:"|?*').union(map(chr, range(0x20)))
_DEVICES = frozenset({"con", "prn", "aux", "nul"}).union(
    f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"
)


def _fault(part: str) -> tuple[str, str] | None:
    """Say why some file system would not carry `part`, and what to do; None if all do."""
    if part == "":
        return "is empty", "leave no part empty"
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        return "has no UTF-8 form", "give it as whole Unicode characters"
    if size > MAX_PART_BYTES:
        return f"has {size} bytes of UTF-8, allowed are {MAX_PART_BYTES}", "shorten it"
    if not _FORBIDDEN.isdisjoint(part):
        bad = next(char for char in part if char in _FORBIDDEN)
        return f"holds {bad!r}", "replace this character, by '_' for instance"
    if part in (".", ".."):
        return "leads to another folder", "give the path without '.' and '..'"
    if part[0] == " ":
        return "begins with a space", "drop the space"
    if part[-1] in ". ":
        return "ends in a dot or a space", "drop it"
    folded = fold_name(part)
    if folded.startswith(STORE):
        return f"begins with {STORE}, which is the store's own", "begin it otherwise"
    # Windows takes `nul .txt` and the superscripts of `com¹` for the device too.
    if folded.partition(".")[0].rstrip(" ") in _DEVICES:
        return "is a device on Windows", "add a letter before any dot"
    return None


def run_ref(relpath: str, identifier: str, uid: str) -> RunRef:
    """Name a run in its store. The parts must have been checked; nothing is checked here."""
    if relpath:
        return RunRef(f"{relpath}/{identifier}/{uid}")
    return RunRef(f"{identifier}/{uid}")


def split_ref(ref: str) -> RunName:
    """Take a ref apart; the inverse of `run_ref`.

    It looks at the shape only, so that a store written under other rules for names still reads. The
    parts never lead out of the root.

    Raises: ValueError if `ref` has not this shape.
    """
    head, _, uid = ref.rpartition("/")
    if not is_hex(uid, 32) or "\0" in head or not _ELSEWHERE.isdisjoint(head.split("/")):
        raise ValueError(f"not a run's ref: {ref!r}")
    relpath, _, identifier = head.rpartition("/")
    return RunName(relpath, identifier, Uid(uid))


def is_ref(text: str) -> bool:
    """Tell whether `text` has the shape of a ref. Cost: 0.4 µs."""
    return _REF.fullmatch(text) is not None


_REF = re.compile(r"(?:(?!\.{1,2}/)[^/\0]+/)+[0-9a-f]{32}")
_ELSEWHERE = frozenset({"", ".", ".."})


def folder_of(relpath: str, uid: str, mode: StorageMode) -> str:
    """Give the folder of a run's files; "" is the root. Spec: spec/layout.md section 4."""
    if mode == StorageMode.PREFIX:
        return relpath
    return f"{relpath}/{uid}" if relpath else uid


def file_path(
    relpath: str, identifier: str, uid: str, mode: StorageMode, name: str, include_identifier: bool
) -> str:
    """Give the path of a run's file. A name's folders stay; the prefix goes to its last part.

    Spec: spec/layout.md section 4.
    """
    folders, slash, last = name.rpartition("/")
    if include_identifier:
        last = f"{identifier}_{last}"
    if mode == StorageMode.PREFIX:
        last = f"{uid}_{last}"
    folder = folder_of(relpath, uid, mode)
    return f"{folder}/{folders}{slash}{last}" if folder else f"{folders}{slash}{last}"


def params_path(relpath: str, uid: str, mode: StorageMode) -> str:
    """Give the path of a run's `params.json`. Spec: spec/layout.md section 4."""
    folder = folder_of(relpath, uid, mode)
    last = f"{uid}_{PARAMS}" if mode == StorageMode.PREFIX else PARAMS
    return f"{folder}/{last}" if folder else last


def segment_name(writer: str, number: int, kind: SegmentKind, hash16: str | None = None) -> str:
    """Name a segment within its month's folder; every kind but "open" has a hash.

    Spec: spec/layout.md section 2.
    """
    assert (hash16 is None) == (kind == "open"), "a journal has no hash, a sealed file has one"
    if hash16 is None:
        return f"{writer}-{number}.open"
    return f"{writer}-{number}-{hash16}.{kind}"


def parse_segment_name(name: str) -> SegmentName | None:
    """Read the name of a segment; None for every other name, which readers ignore."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    writer, number, hash16, kind = match.groups()
    if hash16 is None:
        return SegmentName(WriterId(writer), int(number), None, "open")
    return SegmentName(WriterId(writer), int(number), hash16, "seg" if kind == "seg" else "part")


_SEGMENT = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,18})(?:\.open|-([0-9a-f]{16})\.(seg|part))")


def manifest_path(uid: str, hash16: str) -> str:
    """Give the path of a manifest. A folder for each first two digits keeps listings short."""
    return f"{MANIFESTS}/{uid[:2]}/{uid[2:]}-{hash16}.json"


def parse_manifest_path(path: str) -> ManifestName | None:
    """Read the path of a manifest; None for every other path."""
    match = re.fullmatch(_MANIFEST, path)
    return match and ManifestName(Uid(match[1] + match[2]), match[3])


_MANIFEST = rf"{MANIFESTS}/([0-9a-f]{{2}})/([0-9a-f]{{30}})-([0-9a-f]{{16}})\.json"


def object_path(digest: str) -> str:
    """Give the path of the bytes with this digest."""
    return f"{OBJECTS}/{digest[:2]}/{digest[2:]}"


def parse_object_path(path: str) -> Digest | None:
    """Read the path of an object; None for every other path."""
    match = re.fullmatch(_OBJECT, path)
    return match and Digest(match[1] + match[2])


_OBJECT = rf"{OBJECTS}/([0-9a-f]{{2}})/([0-9a-f]{{62}})"


def claim_path(ref: RunRef, number: int) -> str:
    """Give the path of a claim on a run. Spec: spec/claims.md section 3."""
    return f"{claim_stem(ref)}.{number}"


def claim_stem(ref: RunRef) -> str:
    """Give what the paths of all claims on a run have in common, up to the dot. Cost: 1 µs."""
    uid = ref[-32:]
    return f"{CLAIMS}/{uid[:2]}/{uid[2:]}-{digest(ref.encode())[:16]}"


def parse_claim_path(path: str) -> ClaimName | None:
    """Read the path of a claim; None for every other path."""
    match = re.fullmatch(_CLAIM, path)
    return match and ClaimName(Uid(match[1] + match[2]), match[3], int(match[4]))


_CLAIM = rf"{CLAIMS}/([0-9a-f]{{2}})/([0-9a-f]{{30}})-([0-9a-f]{{16}})\.([1-9][0-9]{{0,17}})"


def series_stem(ref: RunRef) -> str:
    """Give what the paths of all metrics of a run have in common, up to the writer. Cost: 1 µs.

    Spec: spec/metrics.md section 2.
    """
    return f"{METRICS}/{claim_stem(ref).partition('/')[2]}-"


def parse_series_name(folder: str, name: str) -> tuple[SeriesName, SegmentName] | None:
    """Read the name of a segment of metrics in its folder; None for every other name.

    Its series stands for the writer, so that `segment_name` prints it again.
    """
    match = re.fullmatch(_SERIES, name)
    if match is None or not is_shard(folder):
        return None
    rest, ref16, writer, number, hash16, kind = match.groups()
    named: SegmentKind = "open" if hash16 is None else "seg" if kind == "seg" else "part"
    of_file = SegmentName(WriterId(f"{rest}-{ref16}-{writer}"), int(number), hash16, named)
    return SeriesName(Uid(folder + rest), ref16, WriterId(writer)), of_file


def is_shard(name: str) -> bool:
    """Tell whether `name` is that of a folder for the first two digits of what is in it."""
    return is_hex(name, 2)


_SERIES = (
    r"([0-9a-f]{30})-([0-9a-f]{16})-([0-9a-f]{32})-(0|[1-9][0-9]{0,18})"
    r"(?:\.open|-([0-9a-f]{16})\.(seg|part))"
)


def holder_path(writer: str) -> str:
    """Give the path of the file in which a holder says who it is."""
    return f"{CLAIMS}/{writer}.holder"


def parse_holder_path(path: str) -> WriterId | None:
    """Read the path of a holder's file; None for every other path."""
    match = re.fullmatch(_HOLDER, path)
    return match and WriterId(match[1])


_HOLDER = rf"{CLAIMS}/([0-9a-f]{{32}})\.holder"


def month_of(ms: int) -> str:
    """Give the UTC month, `YYYY-MM`, of a time in Unix milliseconds.

    A clock before 1970 or past 9999 is held at that end: the month is for people, and no reason to fail.
    """
    day = _EPOCH + timedelta(milliseconds=min(max(ms, 0), _LAST_MS))
    return f"{day.year:04}-{day.month:02}"


def is_month(name: str) -> bool:
    """Tell whether `name` is that of a month's folder."""
    return _MONTH.fullmatch(name) is not None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


def temporary_name(random: bytes) -> str:
    """Name a file that is not yet whole; readers ignore it."""
    return f"tmp-{random.hex()}"


def is_temporary(name: str) -> bool:
    """Tell whether `name` is that of a file that was never finished, in a store or beside users' files."""
    return re.fullmatch(r"tmp-[0-9a-f]+", name) is not None
