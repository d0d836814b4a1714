"""Runs whose segment is lost, taken into the ledger again from their manifests.

What is written are new events of this writer, which say where they come from. The ledger wins wherever it
speaks; a segment that is found again changes nothing.

Spec: spec/manifest.md section 3; spec/recovery.md section 5.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from msgspec import Struct, UnsetType

from tracker._codec.canonical import parse
from tracker._codec.digest import uid_of
from tracker._disk import durable
from tracker._model.event import (
    Captured,
    Created,
    Done,
    End,
    Event,
    Failed,
    File,
    Input,
    Interrupted,
    Noted,
    Summary,
    Used,
    encode_events,
)
from tracker._model.fold import Attempt, run_of
from tracker._model.manifest import Manifest, ManifestInput, decode_manifest
from tracker._model.names import is_ref, parse_manifest_path, run_ref
from tracker._store import manifests
from tracker.check.reading import EndedAt, Reading, implied_manifests
from tracker.errors import DamagedError
from tracker.ledger import Ledger
from tracker.terms import AttemptId, Durability, RunRef, StorageMode


class Standing(enum.Enum):
    """What a manifest is that no event here implies."""

    UNMATCHED = "its frame, or what creates its run, is not here"
    SETTLED = "the ledger says what was taken from it"
    OUTDATED = "its end is here, and was told otherwise while another segment was not"


class Unmatched(Struct, frozen=True):
    """A manifest that the ledger here does not imply, and the run it tells of."""

    path: str
    ref: RunRef
    manifest: Manifest

    @property
    def attempt(self) -> AttemptId:
        """The attempt whose end it tells."""
        return self.manifest.attempt.id

    @property
    def place(self) -> tuple[int, str, int]:
        """Its place among others: by the time of the end, then by frame."""
        through = self.manifest.through
        return self.manifest.attempt.ended, through.writer, through.seq


def list_unmatched(store_fd: int, reading: Reading) -> list[str]:
    """The manifests, as their names say, that the ledger does not imply and that it does not call settled."""
    implied = implied_manifests(reading)
    there = (path for path in manifests.iter_manifests(store_fd) if path not in implied)
    whole = (path for path in there if manifests.read_manifest(store_fd, path) is not None)
    return [path for path in whole if standing_of(store_fd, reading, path) is Standing.UNMATCHED]


def standing_of(store_fd: int, reading: Reading, path: str) -> Standing:
    """What a manifest that the ledger does not imply is to it. Spec: spec/manifest.md section 3."""
    told = _read(store_fd, path)
    if told is None:
        return Standing.UNMATCHED
    history = reading.state.runs.get(told.ref, {})
    texts = _notes_on(told)
    if any(event.text in texts for event in history.values() if isinstance(event, Noted)):
        return Standing.SETTLED
    has_params = any(isinstance(event, Created) for event in history.values())
    return Standing.OUTDATED if has_params and _has_frame(reading, told) else Standing.UNMATCHED


def _read(store_fd: int, path: str) -> Unmatched | None:
    """What a manifest tells; None for one that no event could say: another format, params of another uid."""
    data = manifests.read_manifest(store_fd, path)
    name = parse_manifest_path(path)
    if data is None or name is None:
        return None
    try:
        manifest = decode_manifest(data, path)
    except DamagedError:
        return None
    ref = run_ref(manifest.relpath, manifest.identifier, manifest.uid)
    is_sound = (
        manifest.format == 1
        and manifest.uid == name.uid == uid_of(bytes(manifest.params))
        and is_ref(ref)
        and _can_be_told(ref, manifest)
    )
    return Unmatched(path, ref, manifest) if is_sound else None


def recover(ledger: Ledger, reading: Reading, paths: Iterable[str]) -> list[str]:
    """Take the runs of these manifests into the ledger; return the paths of those that were taken.

    A run's events stand in one frame. The commit point is that of any event: before it nothing is recorded;
    after it the note in the same frame says that this manifest is settled, so the next call adds nothing.

    Raises: StorageError.
    """
    told = [found for path in paths if (found := _read(ledger.lookup.store_fd, path)) is not None]
    by_run: dict[RunRef, list[Unmatched]] = {}
    for one in sorted(told, key=lambda one: one.place):
        by_run.setdefault(one.ref, []).append(one)
    for ref, mine in by_run.items():
        events = _events_of(ledger, reading, ref, mine)
        ledger.append(lambda _, events=events: events)  # type: ignore[misc]
    if by_run:
        ledger.commit(Durability.FULL)
    return [one.path for mine in by_run.values() for one in mine]


def _events_of(ledger: Ledger, reading: Reading, ref: RunRef, mine: list[Unmatched]) -> list[Event]:
    history = reading.state.runs.get(ref, {})
    known = run_of(ref, history) if history else None
    newest = mine[-1].manifest
    events: list[Event] = []
    if known is None or known.params is None:
        events.append(Created(ref, bytes(newest.params).decode(), newest.key, _mode_of(ledger, mine)))
    attempts = {} if known is None else {attempt.id: attempt for attempt in known.attempts}
    superseded = {id_ for one in mine for id_ in one.manifest.attempt.supersedes}
    superseded |= {id_ for attempt in attempts.values() for id_ in attempt.supersedes}
    for one in mine:
        end = _end_of(ref, one.manifest)
        assert end is not None, "only what can be said was read"
        if _has_frame(reading, one):
            events.append(Noted(ref, _notes_on(one)[1]))
        elif one.attempt in superseded or _is_told(reading, attempts.get(one.attempt), one):
            events.append(Noted(ref, _notes_on(one)[2]))
        else:
            events += [*_iter_before(ref, one.manifest), end, Noted(ref, _notes_on(one)[0])]
    return events


def _iter_before(ref: RunRef, manifest: Manifest) -> Iterator[Event]:
    """What a manifest says of the attempt beside its end: summary, facts, inputs. Raises: ValueError."""
    attempt = manifest.attempt.id
    if summary := parse(bytes(manifest.summary)):
        yield Summary(ref, attempt, summary)
    if not isinstance(manifest.facts, UnsetType):
        yield Captured(ref, attempt, parse(bytes(manifest.facts)))
    if not isinstance(manifest.inputs, UnsetType):
        yield Used(ref, attempt, [*map(_input_of, manifest.inputs)])


def _input_of(one: ManifestInput) -> Input:
    digest = None if one.digest is None else _digest_of(one.digest)
    source = None if one.source is None else RunRef(one.source)
    return Input(one.name, one.path, one.size, digest, one.external, source)


def _can_be_told(ref: RunRef, manifest: Manifest) -> bool:
    """True if events can say all that the manifest says."""
    try:
        encode_events([*_iter_before(ref, manifest)])
    except (ValueError, RecursionError, OverflowError):
        return False
    return _end_of(ref, manifest) is not None


def _has_frame(reading: Reading, one: Unmatched) -> bool:
    """True if the end itself is here, and only what creates its run was lost."""
    through = one.manifest.through
    return any(
        (end.writer, end.seq, end.prefix.hex()) == (through.writer, through.seq, through.prefix)
        for end in reading.ends.get(one.ref, {}).values()
    )


def _is_told(reading: Reading, attempt: Attempt | None, one: Unmatched) -> bool:
    """True if the ledger has an end of the attempt that is not known to come before the manifest's."""
    if attempt is None or attempt.end_stamp is None:
        return False
    end: EndedAt | None = reading.ends.get(one.ref, {}).get(attempt.end_stamp)
    through = one.manifest.through
    return end is None or end.writer != through.writer or end.seq > through.seq


def _notes_on(one: Unmatched) -> tuple[str, str, str]:
    """What the ledger says of a manifest: all taken, only params taken, nothing taken as it knows better."""
    return notes_on(one.path, one.manifest.through.writer, one.manifest.through.seq)


def notes_on(path: str, writer: str, seq: int) -> tuple[str, str, str]:
    """The same of the manifest at `path`, made from this frame. Spec: spec/manifest.md section 3."""
    frame = f"frame {seq} of writer {writer}"
    return (
        f"recovered from manifest {path}; {frame} is not here",
        f"params recovered from manifest {path}; {frame} is here",
        f"not recovered from manifest {path}: a later attempt or end is known; {frame} is not here",
    )


def _end_of(ref: RunRef, manifest: Manifest) -> End | None:
    """The event that a manifest was made from; None if there is none that says this."""
    attempt, ended = manifest.attempt.id, manifest.attempt.ended
    error, interrupt = manifest.error, manifest.interrupt
    try:
        files = [*_iter_files(manifest)]
        if manifest.status == "done":
            return Done(ref, attempt, ended, files)
        if manifest.status == "error" and error is not None:
            trace = error["traceback"]
            digest = None if trace is None else _digest_of(trace)
            return Failed(ref, attempt, ended, files, error["type"] or "", error["message"] or "", digest)
        if manifest.status == "interrupted" and interrupt is not None:
            signal, restarts = interrupt["signal"], interrupt["restarts"]
            return Interrupted(
                ref, attempt, ended, files, None if signal is None else str(signal), int(restarts or 0)
            )
    except (KeyError, ValueError):
        return None
    return None


def _iter_files(manifest: Manifest) -> Iterator[File]:
    for name, file in manifest.files.items():
        digest = None if file.digest is None else _digest_of(file.digest)
        yield File(name, file.path, file.size, digest, file.external)


def _digest_of(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != 32:
        raise ValueError(f"{text!r} is no digest")
    return digest


def _mode_of(ledger: Ledger, mine: list[Unmatched]) -> str:
    """The storage mode that the manifests name, else that in which the run has a folder."""
    named = next((one.manifest.mode for one in mine if one.manifest.mode is not None), None)
    if named is not None:
        return named
    uid, relpath = mine[0].manifest.uid, mine[0].manifest.relpath
    has_folder = durable.path_exists(str(ledger.root / relpath / uid))
    return str(StorageMode.SUBFOLDER if has_folder else StorageMode.PREFIX)
