"""A finished attempt <-> its manifest bytes.

What stands in a manifest comes from the attempt's own events, so that the writer of today and a rebuild of
tomorrow, from whatever merged ledger, make the same bytes (I11). Opens no file.

Spec: spec/manifest.md.
"""

from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tracker._codec.canonical import format_tree
from tracker._codec.frame import file_hash
from tracker._model.event import End, Input, Opened, Started
from tracker._model.fold import (
    environment_of,
    error_as_json,
    hex_or_none,
    input_as_json,
    interrupt_as_json,
)
from tracker._model.lifecycle import MOVES
from tracker._model.names import manifest_path, split_ref
from tracker.errors import DamagedError
from tracker.terms import AttemptId, WriterId


class _Attempt(Struct, frozen=True):
    id: AttemptId
    writer: str | None
    host: str | None
    user: str | None
    started: int | None
    ended: int
    claim: int | None
    supersedes: list[AttemptId]


class ManifestFile(Struct, frozen=True):
    """A sealed file as a manifest names it."""

    path: str
    size: int | None
    digest: str | None
    external: bool


class ManifestInput(Struct, frozen=True, array_like=True):
    """A file that the attempt read, as a manifest names it."""

    name: str
    path: str
    size: int | None
    digest: str | None
    external: bool
    source: str | None


class Through(Struct, frozen=True):
    """The frame that holds the end event."""

    writer: str
    seq: int
    prefix: str


class Manifest(Struct, frozen=True):
    """One finished attempt. Members stand in the order of the spec page."""

    format: int
    uid: str
    key: str | None
    relpath: str
    identifier: str
    mode: str | None
    status: str
    params: msgspec.Raw
    attempt: _Attempt
    error: dict[str, str | None] | None
    interrupt: dict[str, str | int | None] | None
    files: dict[str, ManifestFile]
    environment: str | None
    summary: msgspec.Raw
    through: Through
    facts: msgspec.Raw | UnsetType = UNSET
    inputs: list[ManifestInput] | UnsetType = UNSET


class Ended(Struct, frozen=True):
    """All that a manifest is made of."""

    params: str
    key: str | None
    attempt: AttemptId
    started: Started | None
    end: End
    opened: Opened | None
    writer: WriterId
    seq: int
    prefix: bytes
    summary: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    inputs: list[Input] = []


_encoder = msgspec.json.Encoder()


@cache
def _decoder() -> msgspec.json.Decoder[Manifest]:
    return msgspec.json.Decoder(Manifest)


def manifest_of(ended: Ended) -> Manifest:
    """The manifest of one end of an attempt."""
    end, started, opened = ended.end, ended.started, ended.opened
    relpath, identifier, uid = split_ref(end.run)
    attempt = _Attempt(
        id=ended.attempt,
        writer=None if opened is None else opened.writer,
        host=None if opened is None else opened.host,
        user=None if opened is None else opened.user,
        started=None if started is None else started.time_ms,
        ended=end.time_ms,
        claim=None if started is None else started.claim,
        supersedes=[] if started is None else started.supersedes,
    )
    sealed = {file.name: file for file in end.files}  # of two with one name the later counts
    files = {
        name: ManifestFile(f.path, f.size, hex_or_none(f.digest), f.external)
        for name, f in sorted(sealed.items())
    }
    return Manifest(
        format=1,
        uid=uid,
        key=ended.key,
        relpath=relpath,
        identifier=identifier,
        mode=None if started is None else started.mode,
        status=str(MOVES[type(end)]),
        params=msgspec.Raw(ended.params.encode()),
        attempt=attempt,
        error=error_as_json(end),
        interrupt=interrupt_as_json(end),
        files=files,
        environment=hex_or_none(environment_of(started, ended.facts)),
        summary=msgspec.Raw(format_tree(ended.summary)),
        through=Through(ended.writer, ended.seq, ended.prefix.hex()),
        facts=msgspec.Raw(format_tree(ended.facts)) if ended.facts else UNSET,
        inputs=[ManifestInput(*input_as_json(one)) for one in ended.inputs] or UNSET,
    )


def encode_manifest(manifest: Manifest) -> tuple[str, bytes]:
    """The manifest's path below `.tracker` and its bytes. Cost: 4 µs."""
    data = _encoder.encode(manifest) + b"\n"
    return manifest_path(manifest.uid, file_hash(data)), data


def decode_manifest(data: bytes, where: str) -> Manifest:
    """The manifest in `data`. Raises: DamagedError."""
    try:
        return _decoder().decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedError(where, f"not a manifest: {error}", spec="spec/manifest.md section 1") from error
