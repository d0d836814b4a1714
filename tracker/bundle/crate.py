"""Runs and files -> the description of a bundle as RO-Crate, in JSON-LD. Opens no file, reads no clock.

Spec: spec/bundle.md section 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from tracker._codec.digest import digest
from tracker._model import names
from tracker._model.event import Failed, File, Input, Interrupted, Lost
from tracker._model.fold import Attempt, Run
from tracker.bundle.archive import Copied
from tracker.errors import NameRefusedError
from tracker.terms import Status, StorageMode
from tracker.version import VERSION

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
TERMS = "https://w3id.org/ro/terms/workflow-run#"
CRATE = "https://w3id.org/ro/crate/1.1"
PROCESS = "https://w3id.org/ro/wfrun/process/0.5"
NO_LICENCE = "#licence-not-stated"

Entity = dict[str, Any]

_ORCID = re.compile(r"(?:https?://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])")
_URL = re.compile(r"https?://[^\s<>\"]+")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SAID = {Status.DONE: "CompletedActionStatus", Status.RUNNING: ""}
_TYPES = {
    "csv": "text/csv",
    "gif": "image/gif",
    "gz": "application/gzip",
    "h5": "application/x-hdf5",
    "hdf5": "application/x-hdf5",
    "htm": "text/html",
    "html": "text/html",
    "ipynb": "application/x-ipynb+json",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "log": "text/plain",
    "md": "text/markdown",
    "mp4": "video/mp4",
    "nc": "application/netcdf",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "png": "image/png",
    "py": "text/x-python",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "wav": "audio/wav",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
}
"""Not those of this machine or this Python: the same file has one type everywhere."""
_UNKNOWN = "application/octet-stream"


class Author(Struct, frozen=True):
    """Who made the runs; `orcid` as 16 digits with dashes."""

    name: str
    orcid: str | None = None


class About(Struct, frozen=True):
    """What people say of a bundle. What they do not say is said for them."""

    name: str | None = None
    description: str | None = None
    licence: str | None = None
    authors: tuple[Author, ...] = ()

    def __post_init__(self) -> None:
        if self.licence is not None and _URL.fullmatch(self.licence) is None:
            cure = "give its address, as https://spdx.org/licenses/CC-BY-4.0"
            raise NameRefusedError("licence", self.licence, "it is no URL", cure)


def parse_author(text: str) -> Author:
    """`NAME` or `NAME;ORCID`. Raises: NameRefusedError."""
    name, semicolon, orcid = (part.strip() for part in text.partition(";"))
    match = _ORCID.fullmatch(orcid)
    if not name or (semicolon and match is None):
        raise NameRefusedError(
            "author", text, "it is not NAME or NAME;ORCID", "as 'Ada Byron;0000-0002-1825-0097'"
        )
    return Author(name, match and match[1])


def encode_crate(crate: Entity) -> bytes:
    """The bytes of the description."""
    return (json.dumps(crate, ensure_ascii=False, indent=1) + "\n").encode()


def crate_of(runs: Sequence[Run], files: Sequence[Copied], about: About, *, time_ms: int) -> Entity:
    """The description of a bundle that holds these files; `time_ms` is its date."""
    crate = _Crate(runs, files, about, time_ms)
    return {"@context": [CONTEXT, {"sha256": f"{TERMS}sha256"}], "@graph": crate.graph()}


def name_of(runs: Sequence[Run], about: About) -> str:
    """What a bundle is called."""
    return about.name or _summary(runs)


def description_of(runs: Sequence[Run], about: About) -> str:
    """What a bundle is, in a sentence or two."""
    said = (
        f"{_summary(runs)}: params, history, results. The folder is a store of tracker {VERSION}; the "
        "specification of its format and a reader are in it."
    )
    return about.description or said


def _summary(runs: Sequence[Run]) -> str:
    kinds = ", ".join(sorted({run.identifier for run in runs}))
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'} of {kinds}"


def iri_of(path: str) -> str:
    """A path as a relative reference: what is no plain letter is percent-encoded."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in path.encode(errors="replace"))


def iso_of(ms: int) -> str:
    """A time in ISO 8601, UTC, to the second or the millisecond."""
    time = _EPOCH + timedelta(milliseconds=ms)
    return time.isoformat(timespec="milliseconds" if ms % 1000 else "seconds")


class _Crate:
    def __init__(self, runs: Sequence[Run], files: Sequence[Copied], about: About, time_ms: int) -> None:
        self._runs = runs
        self._files = {file.path: file for file in files}
        self._about = about
        self._time_ms = time_ms
        self._more: dict[str, Entity] = {}
        """Entities that several others name, each once."""

    def graph(self) -> list[Entity]:
        """All entities: descriptor, root, files, runs, and what they name."""
        authors = [_author(number, author) for number, author in enumerate(self._about.authors, 1)]
        actions = [self._action(run, authors) for run in self._runs if run.attempt is not None]
        return [
            {
                "@id": METADATA,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": CRATE},
            },
            self._root(authors, actions),
            {"@id": PROCESS, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
            self._licence(),
            *authors,
            *map(_file, self._files.values()),
            *actions,
            *self._more.values(),
        ]

    def _root(self, authors: list[Entity], actions: list[Entity]) -> Entity:
        return {
            "@id": "./",
            "@type": "Dataset",
            "name": name_of(self._runs, self._about),
            "description": description_of(self._runs, self._about),
            "datePublished": iso_of(self._time_ms),
            "license": {"@id": self._about.licence or NO_LICENCE},
            "conformsTo": {"@id": PROCESS},
            **_members("author", authors),
            **_members("hasPart", [{"@id": iri_of(path)} for path in self._files]),
            **_members("mentions", actions),
        }

    def _licence(self) -> Entity:
        if self._about.licence is not None:
            return {"@id": self._about.licence, "@type": "CreativeWork", "name": self._about.licence}
        said = "Nobody has said under which licence these data may be used. Ask their authors."
        return {
            "@id": NO_LICENCE,
            "@type": "CreativeWork",
            "name": "No licence is stated",
            "description": said,
        }

    # Runs

    def _action(self, run: Run, authors: list[Entity]) -> Entity:
        attempt = run.attempt
        assert attempt is not None, "runs without an attempt are no actions"
        params = "" if run.params is None else f" with {run.params}"
        started = {} if attempt.started_ms is None else {"startTime": iso_of(attempt.started_ms)}
        ended = {} if attempt.ended_ms is None else {"endTime": iso_of(attempt.ended_ms)}
        return {
            "@id": f"#run-{iri_of(run.ref)}",
            "@type": "CreateAction",
            "name": run.name or f"{run.identifier} {run.uid}",
            "description": f"{run.ref}{params}: {run.status}",
            "identifier": run.ref,
            "instrument": {"@id": self._program(run, attempt)},
            **started,
            **ended,
            **_status(attempt),
            **({"keywords": ", ".join(run.tags)} if run.tags else {}),
            **_members("agent", authors[:1]),
            **_members("object", [{"@id": id_} for id_ in self._objects(run, attempt)]),
            **_members("result", [{"@id": id_} for id_ in self._results(attempt)]),
        }

    def _program(self, run: Run, attempt: Attempt) -> str:
        """The entity of what was executed: a script of a commit, else the kind of run."""
        script, commit = attempt.facts.get("script"), attempt.facts.get("commit")
        name = script if isinstance(script, str) else run.identifier
        version = commit if isinstance(commit, str) else "not recorded"
        if attempt.facts.get("dirty") is True:
            version += ", changed"
        id_ = f"#program-{digest(f'{name} {version}'.encode())[:16]}"
        self._more[id_] = {
            "@id": id_,
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": version,
        }
        return id_

    def _objects(self, run: Run, attempt: Attempt) -> Iterator[str]:
        mode = StorageMode.PREFIX if run.mode == StorageMode.PREFIX else StorageMode.SUBFOLDER
        path = names.params_path(run.relpath, run.uid, mode)
        yield from [iri_of(path)] if path in self._files else []
        for one in attempt.inputs:
            yield iri_of(one.path) if self._is_here(one) else self._input(one)

    def _is_here(self, one: File | Input) -> bool:
        """True if these very bytes are in the bundle under that path."""
        there = None if one.external else self._files.get(one.path)
        return there is not None and (one.digest is None or one.digest.hex() == there.blake3)

    def _input(self, one: Input) -> str:
        blake3 = None if one.digest is None else f"blake3:{one.digest.hex()}"
        id_ = f"#input-{digest(f'{one.path} {blake3}'.encode())[:16]}"
        self._more[id_] = {
            "@id": id_,
            "@type": "CreativeWork",
            "name": one.name,
            "description": f"{one.path}: read by the run, not in this bundle",
            **({} if blake3 is None else {"identifier": blake3}),
        }
        return id_

    def _results(self, attempt: Attempt) -> Iterator[str]:
        yield from sorted({iri_of(file.path) for file in attempt.files if self._is_here(file)})


def _status(attempt: Attempt) -> Entity:
    word = _SAID.get(attempt.status, "FailedActionStatus")
    status = {"actionStatus": f"http://schema.org/{word}"} if word else {}
    why = _why(attempt)
    return {**status, **({"error": why} if why else {})}


def _why(attempt: Attempt) -> str:
    end = attempt.end
    if isinstance(end, Failed):
        return f"{end.type}: {end.message}" if end.type else "error"
    if isinstance(end, Interrupted):
        return f"interrupted by {end.signal}" if end.signal else "interrupted"
    return f"lost: {end.reason}" if isinstance(end, Lost) else ""


def _file(file: Copied) -> Entity:
    last = file.path.rpartition(".")[2].lower()
    return {
        "@id": iri_of(file.path),
        "@type": "File",
        "name": file.path,
        "contentSize": str(file.size_bytes),
        "encodingFormat": _TYPES.get(last, _UNKNOWN),
        "sha256": file.sha256,
        "identifier": f"blake3:{file.blake3}",
    }


def _author(number: int, author: Author) -> Entity:
    id_ = f"https://orcid.org/{author.orcid}" if author.orcid else f"#author-{number}"
    return {"@id": id_, "@type": "Person", "name": author.name}


def _members(name: str, entities: Iterable[Entity]) -> Entity:
    """References under a name: none, one, or an array."""
    found = [{"@id": id_} for id_ in dict.fromkeys(str(entity["@id"]) for entity in entities)]
    return {name: found[0] if len(found) == 1 else found} if found else {}
