"""Make the vectors of log, events and metrics, and the annotated store, from the reference's own encoder.

    python tools/make_vectors.py           write spec/vectors/{log,events,metrics} and spec/annotated.md
    python tools/make_vectors.py --check   write nothing; exit 1 if any of them differs, lacks or is too many

Everything is fixed: writers, clocks, hosts. What a vector must show is stated here by hand, and the reference
is held against it before a file is written. Imports nothing of the package.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

SPEC = Path(__file__).resolve().parent.parent / "spec"
sys.path.insert(0, str(SPEC))

import reference  # noqa: E402  (the folder above must be on the path first)
from metrics_vectors import MetricsVector, metrics_vectors  # noqa: E402

T = 1_793_610_000_000  # 2026-11-02 09:00:00 UTC, Unix ms
MONTH = "2026-11"
EVENTS, SEAL = reference.EVENTS, reference.SEAL
FLIP = 0x40


def writer(number: int) -> str:
    """Give a fixed UUIDv7 as 32 hex digits."""
    return f"{T:012x}70008000{number:012x}"


A, B, C = writer(0xA), writer(0xB), writer(0xC)


class Pen:
    """One writer with fixed times; `data` is its segment so far, `starts` where each frame of it begins."""

    def __init__(self, name: str, host: str = "mira", at: int = 0) -> None:
        self.writer, self.host, self.ms = name, host, T + at
        self.seq, self.clock, self.number = 0, 0, 0
        self.previous: str | None = None
        self.begin()

    def begin(self, **changed: Any) -> None:
        self.data = reference.MAGIC
        self.starts: list[int] = []
        opened = {
            "format": 1,
            "writer": self.writer,
            "segment": self.number,
            "host": self.host,
            "boot": "5c1d2a52-6f0e-4a51-9c1e-0b6f3f1d7c11",
            "pidns": 4026531836,
            "pid": 4711,
            "pid_start": 98765,
            "user": "ada",
            "version": "0.1.0",
            "time": self.ms,
            "previous": self.previous,
        }
        self.frame(reference.OPEN, reference.pack(opened | changed))

    def frame(self, type_: int, payload: bytes, flags: int = 0) -> str:
        self.clock = max(self.clock + 1, self.ms << 16)
        self.starts.append(len(self.data))
        self.data += reference.make_frame(self.data, type_, self.seq, self.clock, payload, flags)
        self.seq += 1
        return f"{self.writer}-{self.seq - 1}"

    def write(self, *events: list[Any], at: int | None = None) -> str:
        """Write one frame of events, `at` ms after T; return the id of the attempt that begins in it."""
        self.ms = T + at if at is not None else self.ms + 1000
        return self.frame(EVENTS, reference.pack(list(events)))

    def seal(self) -> bytes:
        self.ms += 1
        self.frame(SEAL, reference.pack({"frames": len(self.starts) + 1}))
        return self.data

    def next_segment(self) -> None:
        self.previous = name_of(self.writer, self.number, "seg", self.data)
        self.number += 1
        self.begin()

    def ledger(self, kind: str, data: bytes | None = None) -> dict[str, bytes]:
        """Give the segment as a file of a store."""
        data = self.data if data is None else data
        return {f".tracker/ledger/{MONTH}/{name_of(self.writer, self.number, kind, data)}": data}


def name_of(name: str, number: int, kind: str, data: bytes) -> str:
    if kind == "open":
        return f"{name}-{number}.open"
    return f"{name}-{number}-{blake3(data).hexdigest()[:16]}.{kind}"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ FLIP]) + data[at + 1 :]


# Events


def digest(text: str) -> bytes:
    return blake3(text.encode()).digest()


@dataclass(frozen=True)
class Run:
    """A run of the vectors, and its events."""

    params: dict[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    relpath: str = ""
    identifier: str = "train"
    repeat: str | None = None
    key_known: bool = True

    @property
    def text(self) -> str:
        return reference.canonical_bytes(self.params, self.repeat).decode()

    @property
    def uid(self) -> str:
        return reference.uid(self.text)

    @property
    def ref(self) -> str:
        return f"{self.relpath}/{self.identifier}/{self.uid}".lstrip("/")

    @property
    def key(self) -> str | None:
        return reference.uid(reference.canonical_bytes(self.params)) if self.key_known else None

    def created(self, mode: str = "subfolder") -> list[Any]:
        return ["created", self.ref, self.text, self.key, mode]

    def started(self, at: int, *supersedes: str, claim: int = 0, mode: str = "subfolder") -> list[Any]:
        return ["started", self.ref, T + at, list(supersedes), claim, mode, digest("environment")]

    def attached(self, attempt: str, *names: str) -> list[Any]:
        return ["attached", self.ref, attempt, [[name, self.path(name), False] for name in names]]

    def summary(self, attempt: str, values: dict[str, Any]) -> list[Any]:
        return ["summary", self.ref, attempt, values]

    def done(self, attempt: str, at: int, **files: str) -> list[Any]:
        return ["done", self.ref, attempt, T + at, self.files(files)]

    def failed(self, attempt: str, at: int, type_: str = "", message: str = "", **files: str) -> list[Any]:
        traceback = digest("traceback") if type_ else None
        return ["failed", self.ref, attempt, T + at, self.files(files), type_, message, traceback]

    def interrupted(
        self, attempt: str, at: int, signal: str | None = "SIGTERM", restarts: int = 0
    ) -> list[Any]:
        return ["interrupted", self.ref, attempt, T + at, [], signal, restarts]

    def lost(self, attempt: str, at: int, reason: str = "holder is gone") -> list[Any]:
        return ["lost", self.ref, attempt, T + at, reason]

    def path(self, name: str) -> str:
        folder = f"{self.relpath}/{self.uid}".lstrip("/")
        return f"{folder}/{self.identifier}_{name}.pt"

    def files(self, contents: dict[str, str]) -> list[Any]:
        """Seal files whose bytes are the texts given."""
        return [
            [name, self.path(name), len(text.encode()), digest(text), False]
            for name, text in contents.items()
        ]


RUN = Run()


def three_frames(at: int = 0, name: str = A, host: str = "mira") -> tuple[Pen, str]:
    """Begin a usual segment: created and started, attached, done."""
    pen = Pen(name, host, at)
    attempt = pen.write(RUN.created(), RUN.started(at + 1000), at=at + 1000)
    pen.write(RUN.attached(attempt, "model"), at=at + 2000)
    pen.write(RUN.done(attempt, at + 3000, model="weights"), at=at + 3000)
    return pen, attempt


# Segment vectors


@dataclass
class SegmentVector:
    """A segment file and, stated by hand, what a reader must find in it.

    `frames` counts the good ones, `salvaged` gives seqs, `events` the tags that count, in order.
    """

    name: str
    shows: str
    spec: str
    file: str
    data: bytes
    verdict: str
    frames: int
    salvaged: list[int] = field(default_factory=list)
    events: str = ""
    findings: str = ""

    def text(self) -> str:
        segment = reference.read_segment(self.data, not self.file.endswith(".open"), self.file)
        events, findings = self.fold(segment)
        got = (segment.verdict, len(segment.frames), [f.seq for f in segment.salvaged], events, findings)
        want = (self.verdict, self.frames, self.salvaged, self.events.split(), self.findings.split())
        assert got == want, f"{self.name}: {got} is not {want} ({segment.why})"
        header = {
            "name": self.name,
            "shows": self.shows,
            "spec": self.spec,
            "file": self.file,
            "bytes": len(self.data),
            "verdict": segment.verdict,
            "good end": segment.good_end,
            "good frames": len(segment.frames),
            "salvaged seqs": " ".join(map(str, self.salvaged)) or "none",
            "events": self.events or "none",
            "findings": self.findings or "none",
        }
        return lines(header) + "\n" + wrapped(self.data)

    def fold(self, segment: reference.Segment) -> tuple[list[str], list[str]]:
        """Give the tags of the events that count in this file, and what is wrong within frames, as codes."""
        if segment.verdict == "newer":
            return [], []
        held = [reference.Held(A, frame, True, {}) for frame in segment.frames + segment.salvaged]
        findings = [reference.Finding("damaged", self.file, text) for text in reference.breaches(segment)]
        ledger = reference.Ledger(held, findings)
        tags = [event.tag for event in reference.read_events(ledger)]
        return tags, sorted(finding.code for finding in ledger.findings)


def lines(header: dict[str, Any]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in header.items())


def wrapped(data: bytes, width: int = 40) -> str:
    return "".join(f"{data[at : at + width].hex()}\n" for at in range(0, len(data), width))


COUNTED = "created started attached done"


def segment_vectors() -> Iterator[SegmentVector]:
    yield from whole_segments()
    yield from torn_segments()
    yield from damaged_segments()
    yield from other_formats()
    yield from odd_payloads()


# The cases below are tables.
# fmt: off


def whole_segments() -> Iterator[SegmentVector]:
    pen, _ = three_frames()
    journal = pen.data
    yield SegmentVector(
        "journal", "a journal of one run, not sealed", "log.md 3", name_of(A, 0, "open", journal), journal,
        "whole", 4, events=COUNTED,
    )
    yield SegmentVector(
        "part", "the good prefix of a dead writer's journal: a hash in its name and no SEAL", "log.md 5",
        name_of(A, 0, "part", journal), journal, "whole", 4, events=COUNTED,
    )
    sealed = pen.seal()
    yield SegmentVector(
        "sealed", "one sealed segment of one run: created and started, attached, done", "log.md 3",
        name_of(A, 0, "seg", sealed), sealed, "whole", 5, events=COUNTED,
    )
    pen.next_segment()
    pen.write(["noted", RUN.ref, "fine"])
    second = pen.seal()
    yield SegmentVector(
        "second-segment", "segment 1 of a writer: seq runs on from segment 0, OPEN names it", "log.md 3",
        name_of(A, 1, "seg", second), second, "whole", 3, events="noted",
    )
    every = every_kind()
    yield SegmentVector(
        "every-kind", "each kind of event", "events.md 2", name_of(A, 0, "seg", every), every, "whole", 19,
        events="created started attached summary done tagged noted removed restored purged "
        "captured used named parented "
        "created started failed created started interrupted created started lost rule rule rule",
    )
    yield SegmentVector(
        "magic-alone", "a journal whose OPEN was not yet written", "log.md 4", name_of(A, 0, "open", b""),
        reference.MAGIC, "whole", 0,
    )


def every_kind() -> bytes:
    pen = Pen(A)
    one, failing, stopped, gone = (
        Run({"lr": 0.1}, "größe/b"),
        Run({"lr": 0.2}),
        Run({"lr": 0.3}),
        Run({"lr": 0.4}),
    )
    attempt = pen.write(one.created("prefix"), one.started(1000, claim=3, mode="prefix"), at=1000)
    outside = ["raw", "/data/raw.csv", True]
    pen.write(["attached", one.ref, attempt, [["model", one.path("model"), False], outside]])
    pen.write(one.summary(attempt, {"loss": 0.25, "epochs": 3, "best": True, "note": "ü", "none": None}))
    sealed = [*one.files({"model": "weights"}), ["raw", "/data/raw.csv", 5_000_000_000, None, True]]
    pen.write(["done", one.ref, attempt, T + 4000, sealed])
    pen.write(["tagged", one.ref, ["best", "paper"], ["draft"]], ["noted", one.ref, "the one of figure 2"])
    pen.write(["removed", one.ref, "by mistake"])
    pen.write(["restored", one.ref, ""])
    pen.write(["purged", one.ref, [digest("weights")]])
    pen.write(["captured", one.ref, attempt, {"argv": ["train.py"], "dirty": False}])
    pen.write(["used", one.ref, attempt, [["raw", "/data/raw.csv", 3, digest("raw"), True, None]]])
    pen.write(["named", one.ref, "first"], ["parented", one.ref, failing.ref])
    attempt = pen.write(failing.created(), failing.started(9000))
    pen.write(failing.failed(attempt, 10000, "ValueError", "loss is NaN", model="half"))
    attempt = pen.write(stopped.created(), stopped.started(11000))
    pen.write(stopped.interrupted(attempt, 12000, "SIGTERM", 2))
    attempt = pen.write(gone.created(), gone.started(13000))
    pen.write(
        gone.lost(attempt, 14000),
        ["rule", "ignore", "loader.num_workers", None],
        ["rule", "absent", "ema", "false"],
        ["rule", "rename", "lr", '"optim.lr"'],
    )
    return pen.seal()


def torn_segments() -> Iterator[SegmentVector]:
    pen, _ = three_frames()
    name, data, (_, second, third, last) = name_of(A, 0, "open", b""), pen.data, pen.starts
    cases = {
        "torn-payload": ("a crash in the middle of the last payload", data[: last + 60]),
        "torn-header": ("a crash in the middle of the last header", data[: last + 17]),
        "torn-prefix": ("a crash in the last prefix hash", data[:-5]),
        "one-byte": ("a crash after one byte of a frame", data[: last + 1]),
        "zero-tail": (
            "the file grew, the bytes of the last frame never came: zeros",
            data[:last] + bytes(300),
        ),
        "zeros-in-frame": ("the last frame is zeros from its middle on", data[: last + 50] + bytes(200)),
        "noise-tail": (
            "bytes that are no frame, and no frame behind them",
            data[:last] + b"\x93\xc4\x20\xc1T" * 9,
        ),
    }
    for case, (shows, torn) in cases.items():
        yield SegmentVector(case, shows, "log.md 4", name, torn, "torn", 3, events="created started attached")
    yield SegmentVector(
        "torn-in-open", "a crash in the OPEN frame", "log.md 4", name, data[: second - 9], "torn", 0,
    )
    for case, shows, none in (
        ("empty", "a journal of no bytes", b""),
        ("short", "a journal cut within the magic", reference.MAGIC[:11]),
        ("zeros", "a journal of zeros", bytes(4096)),
    ):
        yield SegmentVector(case, shows, "log.md 4", name, none, "torn", 0)
    sealed = pen.seal()
    yield SegmentVector(
        "zeros-after-seal", "zeros behind SEAL in a journal", "log.md 4", name, sealed + bytes(64), "torn",
        5, events=COUNTED,
    )
    for case, cut, frames, events in (
        ("sealed-cut-in-frame", third + 50, 2, "created started"),
        ("sealed-cut-at-frame", last, 3, "created started attached"),
    ):
        yield SegmentVector(
            case, "a sealed file that lost its end: no crash looks like this", "log.md 4",
            name_of(A, 0, "seg", sealed), sealed[:cut], "damaged", frames, events=events,
        )
    part = data[: last + 60]
    yield SegmentVector(
        "part-with-tail", "a part that matches its name and yet has a torn tail", "log.md 4",
        name_of(A, 0, "part", part), part, "damaged", 3, events="created started attached",
    )


def damaged_segments() -> Iterator[SegmentVector]:
    pen, _ = three_frames()
    pen.write(["noted", RUN.ref, "fine"])
    data, (first, _, third, fourth, fifth) = pen.data, pen.starts
    name = name_of(A, 0, "open", b"")
    created = "created started"
    for case, shows, at in (
        ("damaged-payload", "a bit flipped in the payload of frame 2", third + 60),
        ("damaged-header", "a bit flipped in the length of frame 2", third + 7),
        ("damaged-seq", "a bit flipped in the seq of frame 2", third + 11),
        ("damaged-head", "a bit flipped in the first byte of frame 2", third),
        ("damaged-prefix", "a bit flipped in the prefix hash of frame 2", fourth - 1),
    ):
        lone = case == "damaged-prefix"  # its CRCs are right: it is salvaged itself
        yield SegmentVector(
            case, f"{shows}; frames {'2, ' if lone else ''}3 and 4 are salvaged", "log.md 4", name,
            flipped(data, at), "damaged", 2, [2, 3, 4] if lone else [3, 4],
            events=f"{created} {'attached ' if lone else ''}done noted",
        )
    yield SegmentVector(
        "cut-out",
        "frame 2 is cut out: frame 3 has neither its seq nor its prefix hash; 3 and 4 are salvaged",
        "log.md 4", name, data[:third] + data[fourth:], "damaged", 2, [3, 4],
        events=f"{created} done noted",
    )
    yield SegmentVector(
        "repeated-frames", "frames 2 and 3 stand twice: the second copies are dropped, frame 4 is salvaged",
        "log.md 4", name, data[:fifth] + data[third:], "damaged", 4, [4], events=f"{COUNTED} noted",
    )
    yield SegmentVector(
        "damaged-open", "a bit flipped in the OPEN frame: all others are salvaged", "log.md 4", name,
        flipped(data, first + 50), "damaged", 0, [1, 2, 3, 4], events=f"{COUNTED} noted",
    )
    yield SegmentVector(
        "wrong-magic", "another magic: every frame is salvaged", "log.md 4", name, flipped(data, 5),
        "damaged", 0, [0, 1, 2, 3, 4], events=f"{COUNTED} noted",
    )
    yield SegmentVector(
        "zeros-before-frame",
        "zeros in the place of frame 2: a later frame is good by its CRCs, so no tail", "log.md 4", name,
        data[:third] + bytes(fourth - third) + data[fourth:], "damaged", 2, [3, 4],
        events=f"{created} done noted",
    )
    yield SegmentVector(
        "sealed-other-name", "a sealed file whose name is of other bytes: all its frames are good",
        "log.md 4", f"{A}-0-0123456789abcdef.part", data, "damaged", 5, events=f"{COUNTED} noted",
    )
    yield SegmentVector(
        "sealed-without-seal", "a sealed segment that does not end in SEAL", "log.md 3",
        name_of(A, 0, "seg", data), data, "damaged", 5, events=f"{COUNTED} noted",
    )
    yield from misplaced_frames()


def misplaced_frames() -> Iterator[SegmentVector]:
    name = name_of(A, 0, "open", b"")

    pen, _ = three_frames()
    pen.seq += 3
    pen.write(["noted", RUN.ref, "seven"])
    pen.write(["noted", RUN.ref, "eight"])
    yield SegmentVector(
        "seq-gap", "seq 7 follows seq 3 within a file; both are salvaged", "log.md 3", name, pen.data,
        "damaged", 4, [7, 8], events=f"{COUNTED} noted noted",
    )

    pen, _ = three_frames()
    pen.begin()
    pen.data, pen.starts = reference.MAGIC, []
    pen.write(["noted", RUN.ref, "five"])
    pen.write(["noted", RUN.ref, "six"])
    yield SegmentVector(
        "no-open", "the first frame is not OPEN; all are salvaged", "log.md 3", name, pen.data,
        "damaged", 0, [5, 6], events="noted noted",
    )

    pen, _ = three_frames()
    pen.frame(reference.OPEN, reference.pack({"format": 1, "writer": A, "segment": 0}))
    pen.write(["noted", RUN.ref, "five"])
    yield SegmentVector(
        "second-open", "an OPEN frame that is not the first; the next is salvaged", "log.md 3", name,
        pen.data, "damaged", 4, [4, 5], events=f"{COUNTED} noted",
    )

    pen, _ = three_frames()
    pen.seal()
    pen.write(["noted", RUN.ref, "five"])
    pen.write(["noted", RUN.ref, "six"])
    yield SegmentVector(
        "after-seal", "frames behind SEAL are salvaged", "log.md 3", name, pen.data, "damaged",
        5, [5, 6], events=f"{COUNTED} noted noted",
    )

    pen, _ = three_frames()
    pen.frame(0, b"\xc0")
    pen.write(["noted", RUN.ref, "five"])
    yield SegmentVector(
        "type-0", "a frame of type 0 is never right; the next is salvaged", "log.md 3", name, pen.data,
        "damaged", 4, [5], events=f"{COUNTED} noted",
    )

    inner = Pen(B)
    inner.write(["noted", RUN.ref, "inside"])
    pen, _ = three_frames()
    pen.write(["kept", inner.data])
    pen.write(["noted", RUN.ref, "five"])
    yield SegmentVector(
        "frames-in-payload",
        "a salvaged frame holds frames in its payload: those are no frames of the file", "log.md 4", name,
        flipped(pen.data, pen.starts[3] + 60), "damaged", 3, [4, 5],
        events="created started attached noted", findings="unknown",
    )


def other_formats() -> Iterator[SegmentVector]:
    name = name_of(A, 0, "open", b"")

    pen, _ = three_frames()
    pen.frame(200, reference.pack(["anything"]))
    pen.write(["noted", RUN.ref, "after"])
    yield SegmentVector(
        "type-200", "a frame of unknown type 200 is skipped", "log.md 3", name, pen.data, "whole", 6,
        events=f"{COUNTED} noted",
    )

    pen, _ = three_frames()
    pen.frame(50, reference.pack(["anything"]))
    pen.write(["noted", RUN.ref, "after"])
    yield SegmentVector(
        "type-50", "a frame of unknown type 50 must be understood: refused", "log.md 3", name, pen.data,
        "newer", 6,
    )

    for number in itertools.count():
        pen, _ = three_frames()
        pen.frame(50, reference.pack([number]))
        if pen.data.endswith(b"\0"):
            break
    yield SegmentVector(
        "type-50-at-the-end", "a good frame of unknown type is refused, though its hash ends in a zero",
        "log.md 4", name, pen.data, "newer", 5,
    )

    pen, _ = three_frames()
    pen.frame(EVENTS, reference.pack([["noted", RUN.ref, "flagged"]]), flags=1)
    yield SegmentVector("flags", "flags that are not 0: refused", "log.md 3", name, pen.data, "newer", 5)

    pen = Pen(A)
    pen.seq = 0
    pen.begin(format=2)
    pen.write(["noted", RUN.ref, "of format 2"])
    yield SegmentVector(
        "format-2", "an OPEN frame of format 2: refused", "log.md 3", name, pen.data, "newer", 2,
    )


def odd_payloads() -> Iterator[SegmentVector]:
    name = name_of(A, 0, "open", b"")

    pen = Pen(A)
    attempt = pen.write(RUN.created(), ["praised", RUN.ref, {"by": [1, 2]}], RUN.started(1000), at=1000)
    pen.write(["praised"], RUN.done(attempt, 2000))
    yield SegmentVector(
        "unknown-event", "events of an unknown kind are skipped and keep their place", "events.md", name,
        pen.data, "whole", 3, events="created started done", findings="unknown unknown",
    )

    pen = Pen(A)
    pen.seq = 0
    pen.begin(colour="green", cores=[8, 16])
    attempt = pen.write([*RUN.created(), 7], [*RUN.started(1000), None, {"x": 1}], at=1000)
    pen.write(["attached", RUN.ref, attempt, [["model", RUN.path("model"), False, "later"]], "later"])
    files = [[*RUN.files({"model": "weights"})[0], 0o644]]
    pen.write(["done", RUN.ref, attempt, T + 3000, files, b"later"])
    yield SegmentVector(
        "more-fields", "fields beyond those known, in events, in files and in OPEN, are skipped",
        "events.md", name, pen.data, "whole", 4, events=COUNTED,
    )

    pen = Pen(A)
    pen.write(
        RUN.created(),
        ["noted", RUN.ref],
        ["noted", 5, "x"],
        ["noted", RUN.ref, "kept"],
        ["noted"],
        [],
        at=1000,
    )
    yield SegmentVector(
        "bad-fields", "events with fields that lack or are of the wrong type: damage, and the rest counts",
        "events.md 2", name, pen.data, "whole", 2, events="created noted", findings="damaged " * 4,
    )

    pen = Pen(A)
    pen.frame(EVENTS, b"\xc1")
    pen.frame(EVENTS, reference.pack("no array"))
    pen.frame(EVENTS, reference.pack([]))
    pen.frame(EVENTS, reference.pack([["noted", RUN.ref, "short"]])[:-1])
    pen.frame(EVENTS, reference.pack([["noted", RUN.ref, "long"]]) + b"\xc0")
    pen.frame(EVENTS, reference.pack([["noted", RUN.ref]])[:-1] + b"\xa1\xff")
    pen.write(RUN.created())
    yield SegmentVector(
        "bad-payloads", "frames that are good and whose payloads are no arrays of events: damage",
        "log.md 3", name, pen.data, "whole", 8, events="created", findings="damaged " * 6,
    )

    pen = Pen(A)
    ref, text = RUN.ref.encode(), b"wide"
    wide = b"\xdd\x00\x00\x00\x01" + b"\xdc\x00\x03"
    wide += b"\xda\x00\x05noted" + b"\xdb" + len(ref).to_bytes(4, "big") + ref + b"\xd9\x04" + text
    pen.frame(EVENTS, wide)
    ms = (T + 2000).to_bytes(8, "big")
    pen.frame(EVENTS, b"\x91" + reference.pack(RUN.started(2000)).replace(b"\xcf" + ms, b"\xd3" + ms))
    yield SegmentVector(
        "wide-forms", "msgpack forms wider than needed are read like any other", "log.md 3", name, pen.data,
        "whole", 3, events="noted started",
    )

    pen, _ = three_frames()
    pen.clock, pen.ms = (T + 1500) << 16, T
    pen.frame(EVENTS, reference.pack([["noted", RUN.ref, "earlier"]]))
    yield SegmentVector(
        "clock-back",
        "a clock that does not rise: damage, and the frame counts in the place its clock gives", "log.md 3",
        name, pen.data, "whole", 5, events="created started noted attached done", findings="damaged",
    )

    pen, _ = three_frames()
    pen.frame(SEAL, reference.pack({"frames": 17}))
    yield SegmentVector(
        "seal-miscounts", "a SEAL frame with another count than the file's", "log.md 3", name, pen.data,
        "whole", 5, events=COUNTED, findings="damaged",
    )

    pen, _ = three_frames()
    yield SegmentVector(
        "other-writer", "the file's name is of another writer than its OPEN frame", "log.md 3",
        name_of(B, 0, "open", b""), pen.data, "whole", 4, events=COUNTED, findings="damaged",
    )


# fmt: on

# Store vectors


@dataclass
class StoreVector:
    """The files of a store and, stated by hand, a part of the state they mean.

    `want` maps dotted paths into the state ("runs.0.status") to values. The whole state is the reference's.
    `ledger` gives the findings as codes; `newer` a store that is refused.
    """

    name: str
    shows: str
    spec: str
    files: dict[str, bytes]
    want: dict[str, Any]
    findings: str = ""
    newer: bool = False
    manifests: int = 0

    def text(self) -> str:
        with tempfile.TemporaryDirectory() as root:
            self.write(Path(root))
            state, findings, manifests = self.read(root)
        for path, value in self.want.items():
            assert at(state, path) == value, f"{self.name}: {path} is {at(state, path)}, not {value}"
        assert findings == self.findings.split(), f"{self.name}: {findings}"
        assert len(manifests) == self.manifests, f"{self.name}: {len(manifests)} manifests"
        code = 2 if self.newer else int("damaged" in findings)
        header = {
            "name": self.name,
            "shows": self.shows,
            "spec": self.spec,
            "exit": code,
            "findings": " ".join(findings) or "none",
        }
        text = lines(header)
        for path, data in sorted(self.files.items()):
            text += f"\nfile: {path}\n{wrapped(data)}"
        if not self.newer:
            text += f"\nstate:\n{json.dumps(state, ensure_ascii=False, indent=1)}\n"
        for path, data in manifests.items():
            text += f"\nmanifest: {path}\n{data.decode()}"
        return text

    def write(self, root: Path) -> None:
        for path, data in self.files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)

    def read(self, root: str) -> tuple[Any, list[str], dict[str, bytes]]:
        try:
            ledger = reference.read_ledger(root)
        except reference.NewerFormat:
            assert self.newer, self.name
            return None, [], {}
        events = reference.read_events(ledger)
        findings = list(ledger.findings)
        for run in reference.runs_of(events):
            findings += reference.check_params(run)
        codes = sorted(finding.code for finding in findings)
        return reference.state_of(events), codes, reference.manifests_of(events)


def at(state: Any, path: str) -> Any:
    """Follow a dotted path; `*` maps over a list."""
    head, _, rest = path.partition(".")
    if not head:
        return state
    if head == "*":
        return [at(item, rest) for item in state]
    if head == "#":
        return len(state)
    return at(state[int(head)] if isinstance(state, list) else state[head], rest)


def store(*ledgers: dict[str, bytes], mark: bytes = reference.FORMAT_TEXT) -> dict[str, bytes]:
    files = {".tracker/FORMAT": mark} if mark else {}
    for ledger in ledgers:
        files |= ledger
    return files


def sealed(*pens: Pen) -> dict[str, bytes]:
    """Seal each pen's segment and give a store of them."""
    return store(*[pen.ledger("seg", pen.seal()) for pen in pens])


def store_vectors() -> Iterator[StoreVector]:
    yield from one_writer()
    yield from several_attempts()
    yield from records()
    yield from what_ran()
    yield from files_that_count()
    yield from formats()


def one_run() -> tuple[dict[str, bytes], str]:
    pen, attempt = three_frames()
    folder = RUN.uid
    files = {f"{folder}/params.json": RUN.text.encode(), f"{folder}/train_model.pt": b"weights"}
    made = sealed(pen) | files
    with tempfile.TemporaryDirectory() as root:
        StoreVector("", "", "", made, {}).write(Path(root))
        manifests = reference.manifests(root)
    return made | {f".tracker/{path}": data for path, data in manifests.items()}, attempt


# The cases below are tables.
# fmt: off


def one_writer() -> Iterator[StoreVector]:
    files, attempt = one_run()
    yield StoreVector(
        "one-run", "a whole store of one finished run, its file, params.json and manifest among the files",
        "events.md 5", files,
        {"runs.#": 1, "runs.0.status": "done", "runs.0.uid": RUN.uid, "runs.0.canonical": attempt},
        manifests=1,
    )
    yield StoreVector(
        "no-events", "a store that has FORMAT and nothing else", "layout.md 2", store(), {"runs": []},
    )
    pen = Pen(A)
    attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
    yield StoreVector(
        "running", "an attempt without an end", "events.md 3", store(pen.ledger("open")),
        {"runs.0.status": "running", "runs.0.attempts.0.ended": None, "runs.0.canonical": attempt},
    )
    pen = Pen(A)
    pen.write(RUN.created(), ["tagged", RUN.ref, ["todo"], []], at=1000)
    yield StoreVector(
        "pending", "a run that is recorded and has no attempt", "events.md 3", sealed(pen),
        {"runs.0.status": "pending", "runs.0.canonical": None, "runs.0.tags": ["todo"]},
    )
    for name, shows, ends, status, manifests in (
        ("done-then-error", "the last end counts; each end has its manifest", ("done", "failed"), "error", 2),
        ("error-then-done", "the last end counts; each end has its manifest", ("failed", "done"), "done", 2),
        ("done-twice", "a second done seals anew", ("done", "done"), "done", 2),
        ("lost-then-done", "who was declared lost and finishes is done", ("lost", "done"), "done", 1),
        ("done-then-lost", "who is done cannot be lost", ("done", "lost"), "done", 1),
        ("lost-twice", "the later of two is the end", ("lost", "lost"), "lost", 0),
        ("interrupted", "told to stop: signal and restarts", ("interrupted",), "interrupted", 1),
        (
            "interrupted-then-error",
            "an interruption may end in an error",
            ("interrupted", "failed"),
            "error",
            2,
        ),
    ):
        pen = Pen(A)
        attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
        pen.write(RUN.attached(attempt, "model"), at=2000)
        for number, end in enumerate(ends):
            ms = 3000 + 1000 * number
            event = {
                "done": RUN.done(attempt, ms, model=f"weights {number}"),
                "failed": RUN.failed(attempt, ms, "ValueError", "loss is NaN", log="text"),
                "interrupted": RUN.interrupted(attempt, ms, "SIGTERM", 1),
                "lost": RUN.lost(attempt, ms),
            }[end]
            pen.write(event, at=ms)
        yield StoreVector(
            name, shows, "events.md 3", sealed(pen), {"runs.0.status": status, "runs.0.attempts.#": 1},
            manifests=manifests,
        )
    pen = Pen(A)
    attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
    pen.write(RUN.failed(attempt, 2000), at=2000)
    yield StoreVector(
        "error-without-exception", "type and message are empty, and there is no traceback", "events.md 2",
        sealed(pen), {"runs.0.attempts.0.error": {"type": "", "message": "", "traceback": None}},
        manifests=1,
    )


def several_attempts() -> Iterator[StoreVector]:
    one, two, three = Pen(A), Pen(B, "nora"), Pen(C, "otto")

    def begin(pen: Pen, at: int, *supersedes: str) -> str:
        return pen.write(RUN.created(), RUN.started(at, *supersedes), at=at)

    def fresh() -> None:
        nonlocal one, two, three
        one, two, three = Pen(A), Pen(B, "nora"), Pen(C, "otto")

    first, second = begin(one, 1000), begin(two, 1500)
    one.write(RUN.done(first, 3000, model="weights"), at=3000)
    yield StoreVector(
        "concurrent-one-done", "two attempts that did not know each other: the DONE one counts",
        "events.md 3", sealed(one, two),
        {"runs.0.status": "done", "runs.0.canonical": first, "runs.0.attempts.*.head": [True, True]},
        manifests=1,
    )
    fresh()
    first, second = begin(one, 1000), begin(two, 1500)
    one.write(RUN.failed(first, 3000), at=3000)
    yield StoreVector(
        "concurrent-none-done", "no head is DONE: the head whose start is last", "events.md 3",
        sealed(one, two), {"runs.0.status": "running", "runs.0.canonical": second}, manifests=1,
    )
    for name, shows, weights, divergent in (
        ("both-done-same-files", "two DONE heads with the same sealed files", "weights", False),
        (
            "divergent",
            "two DONE heads whose sealed files differ; the end that is first counts",
            "others",
            True,
        ),
    ):
        fresh()
        first, second = begin(one, 1000), begin(two, 1500)
        two.write(RUN.done(second, 3000, model="weights"), at=3000)
        one.write(RUN.done(first, 4000, model=weights), at=4000)
        yield StoreVector(
            name, shows, "events.md 3", sealed(one, two),
            {"runs.0.canonical": second, "runs.0.divergent": divergent, "runs.0.attempts.0.id": first},
            manifests=2,
        )
    for name, shows, sealed_as, divergent in (
        ("not-sealed-is-no-difference", "what one of them did not seal is no difference", [7, None], False),
        ("divergent-in-size", "sizes differ, though neither has a digest", [8, None], True),
    ):
        fresh()
        first, second = begin(one, 1000), begin(two, 1500)
        path = RUN.path("model")
        two.write(["done", RUN.ref, second, T + 3000, [["model", path, *sealed_as, False]]], at=3000)
        whole = [7, digest("weights")] if not divergent else [7, None]
        one.write(["done", RUN.ref, first, T + 4000, [["model", path, *whole, False]]], at=4000)
        yield StoreVector(
            name, shows, "events.md 3", sealed(one, two), {"runs.0.divergent": divergent}, manifests=2,
        )
    fresh()
    first = begin(one, 1000)
    one.write(RUN.failed(first, 2000, "ValueError", "loss is NaN"), at=2000)
    second = two.write(RUN.started(3000, first, claim=2), at=3000)
    two.write(RUN.done(second, 4000), at=4000)
    yield StoreVector(
        "superseding", "a start that knew the failed attempt sets it aside", "events.md 3",
        sealed(one, two),
        {"runs.0.status": "done", "runs.0.canonical": second, "runs.0.attempts.*.head": [False, True]},
        manifests=2,
    )
    fresh()
    first = begin(one, 1000)
    one.write(RUN.done(first, 2000, model="weights"), at=2000)
    second = two.write(RUN.started(3000, first), at=3000)
    yield StoreVector(
        "superseding-done", "a knowing start over a DONE attempt: the run is RUNNING again", "events.md 3",
        sealed(one, two), {"runs.0.status": "running", "runs.0.canonical": second}, manifests=1,
    )
    fresh()
    first = begin(one, 1000)
    two.write(RUN.lost(first, 2000), at=2000)
    second = two.write(RUN.started(2001, first), at=2001)
    two.write(RUN.done(second, 3000, model="others"), at=3000)
    one.write(RUN.done(first, 4000, model="weights"), at=4000)
    yield StoreVector(
        "superseded-then-done", "a superseded attempt that finishes is DONE and no head: nothing diverges",
        "events.md 3", sealed(one, two),
        {
            "runs.0.canonical": second,
            "runs.0.divergent": False,
            "runs.0.attempts.*.status": ["done", "done"],
            "runs.0.attempts.*.head": [False, True],
        },
        manifests=2,
    )
    fresh()
    first, second = begin(one, 1000), begin(two, 1500)
    third = three.write(RUN.started(3000, first, second), at=3000)
    yield StoreVector(
        "superseding-two", "one start sets two attempts aside", "events.md 3", sealed(one, two, three),
        {"runs.0.canonical": third, "runs.0.attempts.2.supersedes": [first, second]},
    )
    fresh()
    unknown = f"{C}-9"
    second = two.write(RUN.created(), RUN.started(1000, unknown), at=1000)
    yield StoreVector(
        "superseding-unknown", "a superseded attempt with no event here is not listed", "events.md 3",
        sealed(two), {"runs.0.attempts.*.id": [second]},
    )
    fresh()
    first = one.write(RUN.created(), RUN.started(1000, f"{B}-1"), at=1000)
    second = two.write(RUN.started(1500, f"{A}-1"), at=1500)
    yield StoreVector(
        "superseding-each-other", "no attempt is left as a head: all are", "events.md 3", sealed(one, two),
        {"runs.0.canonical": second, "runs.0.attempts.*.head": [True, True]},
    )
    fresh()
    first = begin(one, 1000)
    one.seal()
    kept = one.ledger("seg")
    one.next_segment()
    one.write(RUN.done(first, 3000, model="weights"), at=3000)
    end = one.ledger("seg", one.seal())
    yield StoreVector(
        "two-segments", "an attempt that begins in one segment and ends in the next", "log.md 3",
        store(kept, end), {"runs.0.status": "done"}, manifests=1,
    )
    yield StoreVector(
        "missing-segment",
        "the segment with created and start is not here: params unknown, attempt listed, a gap in seq",
        "events.md 3", store(end),
        {
            "runs.0.params": None,
            "runs.0.mode": None,
            "runs.0.attempts.0.id": first,
            "runs.0.attempts.0.started": None,
            "runs.0.status": "done",
        },
        findings="gap",
    )
    fresh()
    begin(one, 1000)
    extra = two.write(["noted", RUN.ref, "no start"], RUN.attached(f"{B}-1", "model"), at=2000)
    two.write(RUN.done(f"{B}-1", 3000, model="weights"), at=3000)
    yield StoreVector(
        "attempt-without-start", "an attempt known by its other events: start, claim and mode are null",
        "events.md 3", sealed(one, two),
        {
            "runs.0.canonical": extra,
            "runs.0.attempts.1.started": None,
            "runs.0.attempts.1.claim": None,
            "runs.0.attempts.1.supersedes": [],
        },
        manifests=1,
    )


def records() -> Iterator[StoreVector]:
    pen = Pen(A)
    repeat = Run(repeat="00112233445566ff")
    bare = Run({}, repeat="ffeeddccbbaa9988", key_known=False)
    for number, run in enumerate((RUN, repeat, bare)):
        attempt = pen.write(run.created(), run.started(1000 * number), at=1000 * number)
        pen.write(run.done(attempt, 1000 * number + 500), at=1000 * number + 500)
    yield StoreVector(
        "repeats",
        "a plain run, a repeat with its key, and a run of a session without params: its key is null",
        "events.md 2", sealed(pen),
        {"runs.*.key": [RUN.uid, RUN.uid, None], "runs.*.uid": [RUN.uid, repeat.uid, bare.uid]},
        manifests=3,
    )
    pen = Pen(A)
    places = [
        Run(relpath=relpath, identifier=word)
        for relpath in ("", "grid", "grid/größe")
        for word in ("train", "eval")
    ]
    for number, run in enumerate(places):
        pen.write(run.created("prefix"), at=1000 * (number + 1))
    yield StoreVector(
        "namespaces", "six runs with the same params: relpath and identifier keep them apart",
        "layout.md 4", sealed(pen),
        {
            "runs.*.relpath": ["", "", "grid", "grid", "grid/größe", "grid/größe"],
            "runs.0.identifier": "train",
        },
    )
    one, two = Pen(A), Pen(B, "nora")
    two.write(RUN.created("prefix"), at=1000)
    first = one.write(RUN.created("subfolder"), RUN.started(2000, mode="prefix"), at=2000)
    one.write(RUN.done(first, 3000), at=3000)
    yield StoreVector(
        "first-mode-holds", "two writers recorded the run in two modes: the first in the order holds",
        "events.md 4", sealed(one, two), {"runs.0.mode": "prefix", "runs.0.attempts.0.mode": "prefix"},
        manifests=1,
    )
    pen = Pen(A)
    attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
    pen.write(RUN.attached(attempt, "model", "log"), at=2000)
    pen.write(["attached", RUN.ref, attempt, [["log", "elsewhere/log.txt", False]]], at=2500)
    half = pen.data
    yield StoreVector(
        "attached", "before an end: the files attached, of two with one name the later", "events.md 3",
        store(pen.ledger("open")),
        {
            "runs.0.attempts.0.files": [
                ["log", "elsewhere/log.txt", None, None, False],
                ["model", RUN.path("model"), None, None, False],
            ]
        },
    )
    pen.write(RUN.done(attempt, 3000, model="weights"), at=3000)
    pen.write(RUN.attached(attempt, "plot"), at=4000)
    sealed_model = ["model", RUN.path("model"), 7, digest("weights").hex(), False]
    yield StoreVector(
        "attached-late", "after an end: its sealed files, and what was attached later, unsealed",
        "events.md 3", store(pen.ledger("open")),
        {"runs.0.attempts.0.files": [sealed_model, ["plot", RUN.path("plot"), None, None, False]]},
        manifests=1,
    )
    pen.write(["attached", RUN.ref, attempt, [["model", "elsewhere/model.pt", False]]], at=5000)
    yield StoreVector(
        "attached-over-sealed", "a name attached again after it was sealed: the later word counts",
        "events.md 3", store(pen.ledger("open")),
        {
            "runs.0.attempts.0.files": [
                ["model", "elsewhere/model.pt", None, None, False],
                ["plot", RUN.path("plot"), None, None, False],
            ]
        },
        manifests=1,
    )
    pen = Pen(A)
    pen.data, pen.seq, pen.clock = half, 4, pen.clock + ((3000) << 16)
    pen.write(RUN.lost(attempt, 4000), at=4000)
    pen.write(RUN.attached(attempt, "plot"), at=5000)
    yield StoreVector(
        "attached-lost", "a lost attempt shows all that was attached", "events.md 3",
        store(pen.ledger("open")),
        {"runs.0.attempts.0.files.*.0": ["log", "model", "plot"], "runs.0.status": "lost"},
    )
    yield from words_about_runs()


def words_about_runs() -> Iterator[StoreVector]:
    one, two = Pen(A), Pen(B, "nora")
    one.write(
        RUN.created(), ["tagged", RUN.ref, ["b", "a", "ä", "B"], []], ["noted", RUN.ref, "one"], at=1000
    )
    two.write(["tagged", RUN.ref, ["c"], ["a"]], ["noted", RUN.ref, "two\nlines"], at=2000)
    one.write(["tagged", RUN.ref, ["a"], ["b"]], ["noted", RUN.ref, "one"], at=3000)
    one.write(["removed", RUN.ref, "x"], at=4000)
    two.write(["restored", RUN.ref, ""], at=5000)
    one.write(["removed", RUN.ref, "y"], at=6000)
    yield StoreVector(
        "tags-and-notes", "the last word on each tag, all notes, the last of removed and restored",
        "events.md 3", sealed(one, two),
        {
            "runs.0.tags": ["B", "a", "c", "ä"],
            "runs.0.notes": ["one", "two\nlines", "one"],
            "runs.0.removed": True,
        },
    )
    pen = Pen(A)
    attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
    infinite = float("inf")
    values = {
        "z": 1,
        "a": 0.1,
        "big": 1e16,
        "small": 1e-7,
        "none": None,
        "yes": True,
        "whole": 2.0,
        "text": "ü\n\x01",
    }
    pen.write(RUN.summary(attempt, values), at=2000)
    pen.write(RUN.summary(attempt, {"z": 2, "nan": float("nan"), "up": infinite, "down": -infinite}), at=2500)
    pen.write(RUN.done(attempt, 3000), at=3000)
    pen.write(RUN.summary(attempt, {"z": 3, "late": 18446744073709551615}), at=4000)
    yield StoreVector(
        "summary", "the last value of each name; the manifest has those before its end", "events.md 3",
        sealed(pen),
        {
            "runs.0.summary.z": 3,
            "runs.0.summary.a": 0.1,
            "runs.0.summary.nan": "NaN",
            "runs.0.summary.whole": 2.0,
        },
        manifests=1,
    )
    pen = Pen(A)
    attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
    sealed_files = [
        *RUN.files({"b": "weights", "B": ""}),
        ["raw", "/data/raw.csv", 5_000_000_000, None, True],
    ]
    pen.write(["done", RUN.ref, attempt, T + 2000, sealed_files], at=2000)
    pen.write(["purged", RUN.ref, [digest("weights")]], at=3000)
    yield StoreVector(
        "files", "a file outside the root, one without a digest, an empty one; a purge changes nothing",
        "events.md 3", sealed(pen), {"runs.0.attempts.0.files.*.0": ["B", "b", "raw"]}, manifests=1,
    )
    one, two = Pen(A), Pen(B, "nora")
    two.write(["rule", "rename", "lr", '"optim.lr"'], at=2000)
    one.write(["rule", "absent", "ema", "false"], ["rule", "ignore", "device", None], at=1000)
    yield StoreVector(
        "rules", "the rules of the store, in order", "events.md 2", sealed(one, two),
        {"rules": [["absent", "ema", "false"], ["ignore", "device", None], ["rename", "lr", '"optim.lr"']]},
    )
    pen = Pen(A)
    other = Run({"lr": 0.2})
    attempt = pen.write(RUN.created(), ["praised", RUN.ref], [*RUN.started(1000), "more"], at=1000)
    pen.write(["praised", other.ref], at=2000)
    yield StoreVector(
        "unknown-kinds", "events of unknown kinds make no run; fields beyond those known change nothing",
        "events.md", sealed(pen), {"runs.#": 1, "runs.0.status": "running"}, findings="unknown unknown",
    )
    one, two = Pen(A), Pen(B, "nora", at=-3_600_000)
    other = Run({"lr": 0.2})
    one.write(RUN.created(), ["noted", RUN.ref, "by the right clock"], at=1000)
    two.write(other.created(), at=-3_599_000)
    two.write(["noted", RUN.ref, "by a clock an hour behind"], at=-3_598_000)
    yield StoreVector(
        "clock-behind", "the order is that of the clocks: nobody compares them with the time of day",
        "log.md 6", sealed(one, two),
        {
            "runs.*.uid": [other.uid, RUN.uid],
            "runs.1.notes": ["by a clock an hour behind", "by the right clock"],
        },
    )
    one, two = Pen(A), Pen(B, "nora")
    two.write(RUN.created(), ["noted", RUN.ref, "b"], at=1000)
    one.write(["noted", RUN.ref, "a0"], ["noted", RUN.ref, "a1"], at=1000)
    yield StoreVector(
        "equal-clocks", "with one clock the writer decides, then the position in the frame", "log.md 6",
        sealed(one, two), {"runs.0.notes": ["a0", "a1", "b"], "runs.0.first": [(T + 1000) << 16, A, 1, 0]},
    )
    pen = Pen(A)
    pen.write(["created", RUN.ref, '{"lr":0.2}', RUN.key, "subfolder"], at=1000)
    pen.write(["created", Run({"a": 1}).ref, '{"a": 1}', None, "subfolder"], at=2000)
    yield StoreVector(
        "params-of-another-uid",
        "params whose hash is not the run's uid: damage, and they are shown as recorded", "layout.md 4",
        sealed(pen), {"runs.0.params": '{"lr":0.2}'}, findings="damaged damaged",
    )


def what_ran() -> Iterator[StoreVector]:
    pen, machine = Pen(A), digest("machine").hex()
    started = RUN.started(1000)
    started[-1] = None
    attempt = pen.write(RUN.created(), started, at=1000)
    pen.write(["captured", RUN.ref, attempt, {"argv": ["train.py", "-v"], "commit": "c0ffee"}], at=1100)
    more = {"environment": machine, "commit": "decade", "load": math.inf}
    pen.write(["captured", RUN.ref, attempt, more], at=1200)
    raw = ["raw", "/data/raw.csv", 5, digest("bytes"), True, None]
    model = ["model", "a/train_model.pt", 7, digest("weights"), False, "pretrain/" + RUN.uid]
    pen.write(["used", RUN.ref, attempt, [raw, ["late", "x", None, None, False, None]]], at=1300)
    pen.write(["used", RUN.ref, attempt, [["raw", "/data/raw.csv", 6, None, True, None], model]], at=1400)
    pen.write(RUN.done(attempt, 2000, model="weights"), at=2000)
    pen.write(["captured", RUN.ref, attempt, {"commit": "facade"}], at=3000)
    yield StoreVector(
        "facts-and-inputs", "the last of each name counts; a manifest has those before its end",
        "events.md 3", sealed(pen),
        {
            "runs.0.attempts.0.facts.commit": "facade",
            "runs.0.attempts.0.facts.load": "Infinity",
            "runs.0.attempts.0.environment": machine,
            "runs.0.attempts.0.inputs.#": 3,
            "runs.0.attempts.0.inputs.2": ["raw", "/data/raw.csv", 6, None, True, None],
        },
        manifests=1,
    )
    pen, other = Pen(A), Run({"lr": 0.2})
    attempt = pen.write(RUN.created(), RUN.started(1000), at=1000)
    pen.write(["captured", RUN.ref, attempt, {"environment": machine}], at=1100)
    pen.write(other.created(), ["captured", other.ref, attempt, {"environment": "none"}], at=1200)
    yield StoreVector(
        "environment-of-the-start", "the digest of the start goes before that of the facts",
        "events.md 3", sealed(pen),
        {
            "runs.0.attempts.0.environment": digest("environment").hex(),
            "runs.1.attempts.0.environment": None,
        },
    )
    one, two = Pen(A), Pen(B, "nora")
    one.write(RUN.created(), ["named", RUN.ref, "first"], ["parented", RUN.ref, other.ref], at=1000)
    two.write(["named", RUN.ref, "größte"], at=2000)
    one.write(other.created(), ["named", other.ref, "gone"], ["named", other.ref, None], at=3000)
    two.write(["parented", other.ref, RUN.ref], ["parented", other.ref, None], at=4000)
    yield StoreVector(
        "name-and-parent", "the last word counts; nil takes it away", "events.md 3", sealed(one, two),
        {"runs.0.name": "größte", "runs.0.parent": other.ref, "runs.1.tags": []},
    )


def files_that_count() -> Iterator[StoreVector]:
    pen, _ = three_frames()
    pen.write(["noted", RUN.ref, "fine"])
    journal, starts = pen.data, list(pen.starts)
    opened = pen.ledger("open")
    segment = pen.seal()
    seg = pen.ledger("seg")
    seg_path = next(iter(seg))

    stale = Pen(A)
    stale.write(["noted", RUN.ref, "of a stale copy"])
    yield StoreVector(
        "open-hidden", "a .seg hides the .open of its writer and number, whatever that holds", "log.md 4",
        store(seg, stale.ledger("open")), {"runs.0.notes": ["fine"], "runs.0.unproven": False}, manifests=1,
    )
    yield StoreVector(
        "part-hidden", "a .seg hides the .part of its writer and number", "log.md 4",
        store(seg, stale.ledger("part")), {"runs.0.notes": ["fine"]}, manifests=1,
    )
    yield StoreVector(
        "part", "a .part counts; frames that it shares with the .open are one", "log.md 4",
        store(pen.ledger("part", journal[: starts[4]]), opened), {"runs.0.notes": ["fine"]}, manifests=1,
    )
    yield StoreVector(
        "part-alone", "what a dead writer left, published; its journal is gone", "log.md 5",
        store(pen.ledger("part", journal)), {"runs.0.status": "done", "runs.0.unproven": False},
        manifests=1,
    )
    yield StoreVector(
        "torn-open", "a torn tail is no error", "log.md 4",
        store({next(iter(opened)): journal[: starts[4] + 50]}), {"runs.0.notes": []}, findings="torn",
        manifests=1,
    )
    damaged = {seg_path: flipped(segment, starts[2] + 60)}
    unproven = {"runs.0.unproven": True, "runs.0.status": "done", "runs.0.notes": ["fine"]}
    yield StoreVector(
        "salvaged",
        "a damaged .seg alone: what is salvaged counts and is unproven; the frame between is lost",
        "log.md 4", store(damaged), unproven, findings="damaged gap", manifests=1,
    )
    yield StoreVector(
        "damaged-hides-nothing", "the only .seg is damaged: the .open counts and proves what it has",
        "log.md 4", store(damaged, opened), {"runs.0.unproven": False, "runs.0.notes": ["fine"]},
        findings="damaged", manifests=1,
    )
    conflict = {f"{seg_path[:-4]} (conflicted copy).seg": b"x", f".tracker/ledger/{MONTH}/tmp-0f": segment}
    upper = {seg_path.replace(A, B.upper()): b"x", f".tracker/ledger/notes/{A}-7.open": journal}
    yield StoreVector(
        "other-names", "names outside the grammar are ignored", "layout.md 2", store(seg, conflict, upper),
        {"runs.#": 1}, manifests=1,
    )
    yield StoreVector(
        "two-months", "one segment in two folders, as a merge may leave it: its frames are one", "log.md 4",
        store(seg, {seg_path.replace(MONTH, "2026-12"): segment}), {"runs.0.notes": ["fine"]}, manifests=1,
    )

    yield from packed()

    left, _ = three_frames()
    left.write(["noted", RUN.ref, "left"], ["noted", RUN.ref, "left again"])
    right, _ = three_frames()
    right.write(["noted", RUN.ref, "right"], ["noted", RUN.ref, "right again"])
    first = min(left, right, key=lambda pen: pen.data[-32:])
    word, other = ("left", "right") if first is left else ("right", "left")
    want = [word, other, f"{word} again", f"{other} again"]
    yield StoreVector(
        "fork",
        "a writer that went on twice from one state: both are kept; after position the prefix hash decides",
        "log.md 4", sealed(left, right), {"runs.0.notes": want}, findings="fork fork", manifests=1,
    )


def in_pack(members: dict[str, bytes], data: bytes | None = None) -> dict[str, bytes]:
    """Give the pack of files of a store, as a file of it; with `data` other bytes under its name."""
    whole = reference.tar_file({path.removeprefix(".tracker/"): own for path, own in members.items()})
    room = "manifests" if "/manifests/" in next(iter(members)) else f"ledger/{MONTH}"
    name = f".tracker/{room}/{blake3(whole).hexdigest()[:16]}.pack"
    return {name: whole if data is None else data}


def packed() -> Iterator[StoreVector]:
    files, _ = one_run()
    segment = {path: data for path, data in files.items() if path.endswith(".seg")}
    manifest = {path: data for path, data in files.items() if "/manifests/" in path}
    other = Pen(B, "vega", at=9000)
    other.write(["noted", RUN.ref, "from vega"])
    both = segment | other.ledger("seg", other.seal())
    notes = {"runs.0.status": "done", "runs.0.notes": ["from vega"], "runs.0.unproven": False}
    yield StoreVector(
        "packed", "segments in a pack, and a manifest in another", "packs.md 1",
        store(in_pack(both), in_pack(manifest)), notes, manifests=1,
    )
    yield StoreVector(
        "packed-and-loose", "a pack and a loose copy of what it holds are one", "packs.md 4",
        store(in_pack(both), segment), notes, manifests=1,
    )
    (whole,) = in_pack(both).values()
    place = whole.index(segment[next(iter(segment))]) + 200
    last = both[max(both)]
    end = whole.index(last) + len(last) - 50
    yield StoreVector(
        "packed-damaged", "a member with wrong bytes in a pack; its loose copy is sound, so nothing is lost",
        "packs.md 4", store(in_pack(both, flipped(whole, place)), segment), notes, manifests=1,
    )
    yield StoreVector(
        "packed-header-damaged", "a header with a wrong bit costs its member; the next one is found",
        "packs.md 4", store(in_pack(both, flipped(whole, 130))), {"runs.0.notes": ["from vega"]},
    )
    yield StoreVector(
        "packed-torn", "a pack that was cut short in its last member: the good prefix of that counts",
        "packs.md 4", store(in_pack(both, whole[:end])),
        {"runs.0.status": "done", "runs.0.notes": ["from vega"]}, findings="damaged", manifests=1,
    )
    strange = {path.replace(MONTH, "2026-10"): data for path, data in segment.items()}
    more = strange | {f".tracker/ledger/{MONTH}/{A}-0.open": b"x", ".tracker/FORMAT": b"tracker 2\n"}
    yield StoreVector(
        "packed-other-names", "members of another month, journals and other names in a pack are ignored",
        "packs.md 4", store(in_pack(more | other.ledger("seg"))), {"runs.0.notes": ["from vega"]},
    )


def formats() -> Iterator[StoreVector]:
    pen, _ = three_frames()
    pen.seal()
    seg = pen.ledger("seg")
    for name, shows, mark in (
        ("without-format", "a ledger and no FORMAT: a store of format 1, incomplete", b""),
        ("format-cut", "FORMAT cut short counts as absent", b"tracker"),
        ("format-zeros", "FORMAT of zeros counts as absent", bytes(10)),
    ):
        yield StoreVector(
            name, shows, "layout.md 2", store(seg, mark=mark), {"runs.0.status": "done"}, manifests=1,
        )
    yield StoreVector(
        "format-2", "another version is refused", "layout.md 2", store(seg, mark=b"tracker 2\n"), {},
        newer=True,
    )
    newer, _ = three_frames(name=B)
    newer.frame(99, b"\xc0")
    yield StoreVector(
        "newer-frame", "one segment with a frame that must be understood: the store is refused", "log.md 3",
        store(seg, newer.ledger("open")), {}, newer=True,
    )


# fmt: on

# The annotated store

FIELDS = {
    "created": ["ref", "params", "key", "mode"],
    "started": ["ref", "ms", "supersedes", "claim", "mode", "environment"],
    "attached": ["ref", "attempt", "files"],
    "done": ["ref", "attempt", "ms", "files"],
}
TYPES = {reference.OPEN: "OPEN", reference.EVENTS: "EVENTS", reference.SEAL: "SEAL"}
Row = tuple[int, str]  # bytes, what they are


def annotated() -> str:
    files, attempt = one_run()
    segment_path = next(path for path in files if path.endswith(".seg"))
    manifest_path = next(path for path in files if path.startswith(".tracker/manifests"))
    segment = files[segment_path]
    frame = reference.read_segment(segment, True).frames[2]
    folder, _, name = segment_path.rpartition("/")
    start = reference.read_segment(segment, True).frames[1].offset
    return f"""# An annotated store

A whole store of one run, the vector [one-run](vectors/events/one-run.txt), and every byte of its segment.
The page is made by `tools/make_vectors.py` and holds no rule of its own.

| file | bytes | what |
|---|---|---|
{table_of(files)}
`FORMAT` holds `tracker 1` and a line feed: `{reference.FORMAT_TEXT.hex()}`.

`params.json` holds `{RUN.text}`, without a line feed:

```
$ b3sum -l 16 --no-names {RUN.uid}/params.json
{RUN.uid}
```

## The segment

`{name}`: writer, number, and

```
$ b3sum --no-names {folder}/{name[:-20]}*.seg | head -c 16
{name[-20:-4]}
```

The prefix hash of the frame at {frame.offset:04x}, whose payload has {len(frame.payload)} bytes:

```
$ head -c $(({frame.offset} + 42 + {len(frame.payload)})) FILE | b3sum --no-names
{frame.prefix.hex()}
```

Offset, bytes, meaning; the msgpack head of a value stands before its bytes:

```
{dump(segment)}```

The attempt's id is `{attempt}`: writer and seq of the frame at {start:04x}.

## The manifest

`{manifest_path}`, one line:

```json
{files[manifest_path].decode()}```
"""


def table_of(files: dict[str, bytes]) -> str:
    rows = ""
    for path, data in sorted(files.items()):
        name = path.rpartition("/")[2]
        rows += f"| `{path}` | {len(data)} | {PURPOSE.get(name) or PURPOSE[name.rpartition('.')[2]]} |\n"
    return rows


PURPOSE = {
    "FORMAT": "the version",
    "seg": "a sealed segment",
    "json": "a manifest",
    "params.json": "canonical params",
    "pt": "the user's",
}


def dump(segment: bytes) -> str:
    text, offset = "", 0
    for size, what in segment_rows(segment):
        for start in range(0, size, 24):
            part = segment[offset + start : offset + min(size, start + 24)]
            grouped = " ".join(part[i : i + 4].hex() for i in range(0, len(part), 4))
            text += f"{offset + start:04x}  {grouped:<53}  {what if start == 0 else ''}".rstrip() + "\n"
        offset += size
    assert offset == len(segment)
    return text


def segment_rows(segment: bytes) -> Iterator[Row]:
    yield 2, "msgpack fixext16 of type 54"
    yield 16, "the magic"
    for frame in reference.read_segment(segment, True).frames:
        n = len(frame.payload)
        yield 3, f"frame {frame.seq}: array of 3; bin of 32, the header:"
        yield 4, f"sync, type {frame.type} ({TYPES[frame.type]}), flags 0"
        yield 4, f"n = {n}"
        yield 8, f"seq = {frame.seq}"
        yield 8, f"clock = {frame.clock >> 16} ms, counter {frame.clock & 0xFFFF}"
        yield 8, "CRC of header and payload; CRC of header"
        yield 5, f"bin of {n}, the payload:"
        yield from payload_rows(frame)
        yield 2, "bin of 32, the prefix hash:"
        yield 32, f"BLAKE3 of the {frame.end - 32} bytes before it"


def payload_rows(frame: reference.Frame) -> Iterator[Row]:
    value = reference.unpack(frame.payload)
    if isinstance(value, dict):
        yield len(reference.pack({})) if len(value) < 16 else 3, f"map of {len(value)}"
        for key, member in value.items():
            yield len(reference.pack(key) + reference.pack(member)), f"{key}: {shown(member)}"
        return
    yield 1, f"array of {len(value)}: events"
    for event in value:
        yield 1 + len(reference.pack(event[0])), f"array of {len(event)}: {event[0]}"
        for name, member in zip(FIELDS[event[0]], event[1:], strict=True):
            yield len(reference.pack(member)), f"{name}: {shown(member)}"


def shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "a digest"
    text = json.dumps(value, default=lambda digest: "…")
    return text if len(text) <= 44 else text[:40] + "…"


# Command line


def expected() -> dict[str, str]:
    """Give every file this tool makes, by path relative to `spec`."""
    made: dict[str, SegmentVector | StoreVector | MetricsVector]
    made = {f"vectors/log/{vector.name}.txt": vector for vector in segment_vectors()}
    made |= {f"vectors/events/{vector.name}.txt": vector for vector in store_vectors()}
    made |= {f"vectors/metrics/{vector.name}.txt": vector for vector in metrics_vectors()}
    return {path: vector.text() for path, vector in made.items()} | {"annotated.md": annotated()}


def present() -> dict[str, str]:
    paths = [path for room in ("log", "events", "metrics") for path in SPEC.glob(f"vectors/{room}/*")]
    paths += SPEC.glob("annotated.md")
    return {path.relative_to(SPEC).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def differences() -> Iterator[str]:
    want, got = expected(), present()
    for path in sorted(want | got):
        if path not in got:
            yield f"{path} lacks"
        elif path not in want:
            yield f"{path} is made by nothing"
        elif want[path] != got[path]:
            yield f"{path} differs"
    if not any(path.startswith("vectors/") for path in got):
        yield "no vectors found"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing and compare")
    if parser.parse_args(arguments).check:
        found = list(differences())
        print("\n".join(found) if found else f"{len(present())} files are as made")
        return int(bool(found))
    made = expected()
    for path in set(present()) - set(made):
        os.unlink(SPEC / path)
    for path, text in made.items():
        (SPEC / path).parent.mkdir(parents=True, exist_ok=True)
        (SPEC / path).write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(made)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
