"""The vectors of metrics, for `make_vectors.py`: files of a run, and by hand the curves that they mean.

Imports nothing of the package.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reference
from blake3 import blake3

T = 1_793_610_000_000
UID = "a7f6c8b122de39b556aa975ba9567946"
REF = f"train/{UID}"
REF16 = blake3(REF.encode()).hexdigest()[:16]
NAN = "NaN"


def writer(number: int) -> str:
    return f"{T:012x}70008000{number:012x}"


A, B = writer(0xA), writer(0xB)
FIRST, SECOND = f"{A}-1", f"{B}-1"


class Series:
    """One writer's metrics of one run with fixed times; `data` is its segment so far."""

    def __init__(
        self, name: str = A, attempt: str | None = FIRST, rank: Any = None, at: int = 0, **changed: Any
    ) -> None:
        self.writer, self.attempt, self.rank, self.ms = name, attempt, rank, T + at
        self.seq, self.clock, self.number, self.frames = 0, 0, 0, 0
        self.previous: str | None = None
        self.begin(**changed)

    def begin(self, **changed: Any) -> None:
        self.data, self.frames = reference.MAGIC, 0
        opened = {
            "format": 1, "writer": self.writer, "segment": self.number, "host": "mira",
            "boot": "5c1d2a52-6f0e-4a51-9c1e-0b6f3f1d7c11", "pidns": 4026531836, "pid": 4711,
            "pid_start": 98765, "user": "ada", "version": "0.1.0", "time": self.ms, "previous": self.previous,
            "run": REF, "attempt": self.attempt, "rank": self.rank,
        }  # fmt: skip
        self.frame(reference.OPEN, reference.pack(opened | changed))

    def frame(self, type_: int, payload: bytes) -> None:
        self.clock = max(self.clock + 1, self.ms << 16)
        self.data += reference.make_frame(self.data, type_, self.seq, self.clock, payload)
        self.seq += 1
        self.frames += 1

    def rows(self, *blocks: Any) -> Series:
        self.ms += 1000
        self.frame(reference.ROWS, reference.pack(list(blocks)))
        return self

    def seal(self) -> dict[str, bytes]:
        self.ms += 1
        self.frame(reference.SEAL, reference.pack({"frames": self.frames + 1}))
        return self.file("seg")

    def next_segment(self) -> None:
        (path,) = self.file("seg")
        self.previous = path.rpartition("/")[2]
        self.number += 1
        self.begin()

    def file(self, kind: str, data: bytes | None = None) -> dict[str, bytes]:
        data = self.data if data is None else data
        stem = f".tracker/metrics/{UID[:2]}/{UID[2:]}-{REF16}-{self.writer}-{self.number}"
        return {f"{stem}.open" if kind == "open" else f"{stem}-{blake3(data).hexdigest()[:16]}.{kind}": data}


def block(first: int, count: int, at: int = 0, places: Any = None, /, **columns: Any) -> dict[str, Any]:
    """Give rows of steps that rise by one, a second apart from `at` ms on, at the places from 0 on."""
    return {
        "n": count,
        "names": list(columns),
        "rows": places or [0, 1 if count > 1 else 0],
        "steps": [first, 1 if count > 1 else 0],
        "times": [T + at, 1000 if count > 1 else 0],
        "columns": list(columns.values()),
    }


def packed(form: str, *numbers: float) -> list[Any]:
    return [form, struct.pack(f"<{len(numbers)}{reference.FORMS[form]}", *numbers)]


def flipped(data: bytes, at: int, bit: int = 0x40) -> bytes:
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def in_pack(members: dict[str, bytes], data: bytes | None = None) -> dict[str, bytes]:
    """Give the pack of files of metrics, as a file of the store; with `data` other bytes under its name."""
    whole = reference.tar_file({path.removeprefix(".tracker/"): own for path, own in members.items()})
    name = f".tracker/metrics/{UID[:2]}/{blake3(whole).hexdigest()[:16]}.pack"
    return {name: whole if data is None else data}


@dataclass
class MetricsVector:
    """The files of a run's metrics and, stated by hand, steps and values of each curve."""

    name: str
    shows: str
    spec: str
    files: dict[str, bytes]
    want: dict[str, list[list[Any]]]
    findings: str = ""

    def text(self) -> str:
        with tempfile.TemporaryDirectory() as root:
            for path, data in self.files.items():
                Path(root, path).parent.mkdir(parents=True, exist_ok=True)
                Path(root, path).write_bytes(data)
            newer = self.findings == "newer"
            found, findings = ({}, []) if newer else reference.metrics(root, REF)
        found = reference.plain(found)
        got = {name: [[row[0], row[2]] for row in one["rows"]] for name, one in found.items()}
        assert json.dumps(got, sort_keys=True) == json.dumps(self.want, sort_keys=True), f"{self.name}: {got}"
        codes = sorted(finding.code for finding in findings)
        assert newer or codes == self.findings.split(), f"{self.name}: {findings}"
        header = {
            "name": self.name,
            "shows": self.shows,
            "spec": self.spec,
            "run": REF,
            "exit": 2 if newer else int("damaged" in codes),
            "findings": " ".join(codes) or "none",
        }
        text = "".join(f"{key}: {value}\n" for key, value in header.items())
        for path, data in sorted(self.files.items()):
            text += f"\nfile: {path}\n"
            text += "".join(f"{data[at : at + 40].hex()}\n" for at in range(0, len(data), 40))
        return text if newer else f"{text}\nmetrics:\n{json.dumps(found, ensure_ascii=False, indent=1)}\n"


def metrics_vectors() -> Iterator[MetricsVector]:
    yield from columns()
    yield from orders()
    yield from attempts_and_ranks()
    yield from files_that_count()
    yield from packs()
    yield from broken()


def columns() -> Iterator[MetricsVector]:
    yield MetricsVector(
        "one-segment",
        "a sealed segment of one metric, three rows",
        "metrics.md 3",
        Series().rows(block(0, 3, loss=packed("f8", 0.1, 0.2, 0.3))).seal(),
        {"loss": [[0, 0.1], [1, 0.2], [2, 0.3]]},
    )
    forms = {
        "i1": packed("i1", -128, 127),
        "i2": packed("i2", -129, 128),
        "i4": packed("i4", -32769, 32768),
        "i8": packed("i8", -(2**63), 2**63 - 1),
        "f4": packed("f4", 0.5, math.inf),
        "f8": packed("f8", 0.1, -0.0),
        "same": 7,
        "same double": 1.0,
        "mixed": [1, 1.0],
        "no number": packed("f4", math.nan, -math.inf),
    }
    yield MetricsVector(
        "every-form",
        "each form of a column",
        "metrics.md 3",
        Series().rows(block(0, 2, **forms)).seal(),
        {
            "i1": [[0, -128], [1, 127]],
            "i2": [[0, -129], [1, 128]],
            "i4": [[0, -32769], [1, 32768]],
            "i8": [[0, -(2**63)], [1, 2**63 - 1]],
            "f4": [[0, 0.5], [1, "Infinity"]],
            "f8": [[0, 0.1], [1, -0.0]],
            "same": [[0, 7], [1, 7]],
            "same double": [[0, 1.0], [1, 1.0]],
            "mixed": [[0, 1], [1, 1.0]],
            "no number": [[0, NAN], [1, "-Infinity"]],
        },
    )
    uneven = block(0, 3, x=packed("i1", 1, 2, 3)) | {
        "steps": [5, packed("i1", -4, 3)],
        "times": [T, packed("i2", 300, -1)],
    }
    yield MetricsVector(
        "uneven-steps",
        "steps that fall and times that go back, as differences",
        "metrics.md 3",
        Series().rows(uneven).seal(),
        {"x": [[5, 1], [1, 2], [4, 3]]},
    )
    yield MetricsVector(
        "unknown-key",
        "a key of a block that is not known is skipped",
        "metrics.md 3",
        Series().rows(block(0, 1, x=1) | {"later": [1]}).seal(),
        {"x": [[0, 1]]},
    )
    yield MetricsVector(
        "all-nan",
        "the summary of a metric that is never a number",
        "metrics.md 6",
        Series().rows(block(3, 2, x=packed("f4", math.nan, math.nan))).seal(),
        {"x": [[3, NAN], [4, NAN]]},
    )


def orders() -> Iterator[MetricsVector]:
    yield MetricsVector(
        "two-blocks",
        "rows logged in turn: the blocks of a frame are put together by their places",
        "metrics.md 3",
        Series()
        .rows(
            block(10, 2, 0, [1, 2], x=packed("i1", 3, 4), z=0),
            block(0, 2, 0, [0, 2], x=packed("i1", 1, 2)),
        )
        .seal(),
        {"x": [[0, 1], [10, 3], [1, 2], [11, 4]], "z": [[10, 0], [11, 0]]},
    )
    series = Series()
    first = series.rows(block(0, 2, x=packed("i1", 1, 2))).seal()
    series.next_segment()
    second = series.rows(block(2, 1, x=3)).rows(block(3, 1, x=4)).seal()
    yield MetricsVector(
        "two-segments",
        "a series goes on: seq runs on, OPEN names the segment before",
        "metrics.md 2",
        first | second,
        {"x": [[0, 1], [1, 2], [2, 3], [3, 4]]},
    )
    yield MetricsVector(
        "segment-missing",
        "a segment that is not here is a gap, and the other rows count",
        "metrics.md 5",
        second,
        {"x": [[2, 3], [3, 4]]},
        "gap",
    )


def attempts_and_ranks() -> Iterator[MetricsVector]:
    def resumed(at_step: int) -> dict[str, bytes]:
        before = Series().rows(block(0, 4, x=packed("i1", 0, 1, 2, 3), y=1)).seal()
        after = Series(B, SECOND, at=60_000).rows(block(at_step, 2, x=packed("i1", 12, 13))).seal()
        return before | after

    y = [[0, 1], [1, 1], [2, 1], [3, 1]]
    yield MetricsVector(
        "resumed",
        "a later attempt goes on at step 2, and logs one of two metrics",
        "metrics.md 5",
        resumed(2),
        {"x": [[0, 0], [1, 1], [2, 12], [3, 13]], "y": y},
    )
    yield MetricsVector(
        "begun-anew",
        "a later attempt begins at step 0: nothing is left of the earlier curve",
        "metrics.md 5",
        resumed(0),
        {"x": [[0, 12], [1, 13]], "y": y},
    )
    zero = Series(A, FIRST, 0).rows(block(0, 2, x=packed("i1", 1, 2))).seal()
    one = Series(B, FIRST, 1, -5).rows(block(0, 2, x=packed("i1", 7, 8), only=9)).seal()
    yield MetricsVector(
        "two-ranks",
        "two ranks of one run: the lowest that logged a name counts",
        "metrics.md 5",
        zero | one,
        {"x": [[0, 1], [1, 2]], "only": [[0, 9], [1, 9]]},
    )
    yield MetricsVector(
        "two-writers",
        "two processes of no rank: one after the other, in the order of their clocks",
        "metrics.md 5",
        Series(A, FIRST, at=5).rows(block(0, 1, x=1)).seal() | Series(B, FIRST).rows(block(1, 1, x=2)).seal(),
        {"x": [[1, 2], [0, 1]]},
    )
    yield MetricsVector(
        "no-attempt",
        "rows of no attempt are one attempt, in its place by the clock",
        "metrics.md 5",
        Series(A, None, at=9_000).rows(block(1, 1, x=1)).seal()
        | Series(B, SECOND).rows(block(0, 2, x=5)).seal(),
        {"x": [[0, 5], [1, 1]]},
    )


def files_that_count() -> Iterator[MetricsVector]:
    series = Series().rows(block(0, 2, x=packed("i1", 1, 2)))
    journal = series.data
    series.rows(block(2, 1, x=3))
    longer = series.data
    yield MetricsVector(
        "journal", "a live journal", "metrics.md 2", series.file("open"), {"x": [[0, 1], [1, 2], [2, 3]]}
    )
    yield MetricsVector(
        "torn",
        "a journal that a crash cut: the rows of whole frames count",
        "metrics.md 5",
        series.file("open", longer[:-5]),
        {"x": [[0, 1], [1, 2]]},
        "torn",
    )
    yield MetricsVector(
        "part-and-journal",
        "a part and the journal it is the prefix of: each frame once",
        "metrics.md 5",
        series.file("part", journal) | series.file("open", longer),
        {"x": [[0, 1], [1, 2], [2, 3]]},
    )
    ghost = series.file("open", journal)
    yield MetricsVector(
        "ghost",
        "a journal that its sealed segment hides",
        "metrics.md 5",
        ghost | series.seal(),
        {"x": [[0, 1], [1, 2], [2, 3]]},
    )
    (path,) = sealed = series.file("seg")
    damaged = {path: flipped(series.data, len(journal) - 40)}
    yield MetricsVector(
        "damaged",
        "a flipped bit in a sealed segment: the frame that has it is lost, the one behind it salvaged",
        "metrics.md 5",
        damaged,
        {"x": [[2, 3]]},
        "damaged gap",
    )
    assert damaged != sealed
    other = Series(run=f"eval/{UID}")
    yield MetricsVector(
        "other-run",
        "a file whose OPEN names another run than its name",
        "metrics.md 2",
        other.rows(block(0, 1, x=1)).seal(),
        {},
        "damaged",
    )


def packs() -> Iterator[MetricsVector]:
    series = Series(A, FIRST, 0).rows(block(0, 2, x=packed("i1", 1, 2)))
    begun = series.data
    journal = series.rows(block(2, 1, x=3)).file("open")
    first = series.seal()
    second = Series(B, FIRST, 1).rows(block(0, 2, y=packed("i1", 7, 8))).seal()
    both = first | second
    x, y = [[0, 1], [1, 2], [2, 3]], [[0, 7], [1, 8]]
    yield MetricsVector(
        "packed", "two series of one run in a pack", "packs.md 1", in_pack(both), {"x": x, "y": y}
    )
    (path,), (whole,) = first, in_pack(both).values()
    yield MetricsVector(
        "packed-and-loose",
        "a damaged loose copy beside a sound one in a pack: that counts",
        "packs.md 4",
        in_pack(both) | {path: flipped(series.data, len(begun) - 40)},
        {"x": x, "y": y},
    )
    yield MetricsVector(
        "packed-part",
        "a part in a pack, and loose the journal it is the prefix of: each frame once",
        "packs.md 4",
        in_pack(series.file("part", begun)) | journal,
        {"x": x},
    )
    yield MetricsVector(
        "packed-long-header-damaged",
        "a wrong bit in the record of a long name costs its member; the next one is found",
        "packs.md 4",
        in_pack(both, flipped(whole, reference.BLOCK + 40)),
        {"y": y},
    )
    end = whole.index(path.removeprefix(".tracker/").encode()) + len(path) - len(".tracker/.seg")
    yield MetricsVector(
        "packed-long-name-damaged",
        "a wrong bit where the third block has nothing of a long name: a damaged member of another name",
        "packs.md 4",
        in_pack(both, flipped(whole, end - 1, 1)),
        {"x": x, "y": y},
        "damaged",
    )
    here = f"metrics/{UID[:2]}"
    elsewhere = {path.replace(here, "metrics/b7"): own for path, own in first.items()}
    others = {path.replace(here, "ledger/2026-11"): own for path, own in first.items()}
    others |= {path.replace(REF16, "0" * 16): own for path, own in first.items()}
    others |= journal | {".tracker/FORMAT": b"tracker 2\n"}
    yield MetricsVector(
        "packed-other-names",
        "members of another folder or run, journals and other names in a pack are ignored",
        "packs.md 4",
        in_pack(elsewhere | others | second),
        {"y": y},
    )


def broken() -> Iterator[MetricsVector]:
    good = block(0, 1, good=1)
    cases = [
        block(0, 2, x=packed("i2", 1)),
        block(0, 1, x="1"),
        block(0, 1, x=True),
        block(0, 1, x=2**63),
        block(0, 3, x=[1, 2]),
        block(0, 0, x=1),
        block(0, 1) | {"columns": []},
        block(0, 1, **{"": 1}),
        block(0, 1, **{"a\nb": 1}),
        block(0, 1, **{"n" * 513: 1}),
        block(0, 1, x=1) | {"names": ["x", "x"]},
        block(0, 1, x=1) | {"names": ["x", "x"], "columns": [1, 2]},
        block(0, 1, x=1) | {"n": 1.0},
        block(0, 1, x=1) | {"n": 1 << 23},
        block(0, 2, 0, [0, 0], x=1),
        block(0, 2, 0, [-1, 1], x=1),
        block(0, 1, x=1) | {"steps": [2**53 + 1, 0]},
        block(0, 1, x=1) | {"steps": [0.0, 0]},
        block(0, 2, x=1) | {"steps": [0, 1.0]},
        block(0, 1, x=1) | {"steps": [0, ["f8", b""]]},
        block(0, 1, x=1) | {"times": [-1, 0]},
        block(0, 1, x=1) | {"times": None},
        7,
        [],
    ]
    yield MetricsVector(
        "broken-blocks",
        "blocks that are none cost only themselves",
        "metrics.md 3",
        Series().rows(*cases, good).seal(),
        {"good": [[0, 1]]},
        " ".join(["damaged"] * len(cases)),
    )
    series = Series()
    for payload in (b"", b"\xc1", reference.pack({}), reference.pack([])):
        series.frame(reference.ROWS, payload)
    series.frame(reference.EVENTS, reference.pack([["noted", REF, "no row"]]))
    yield MetricsVector(
        "broken-payloads",
        "payloads that are no blocks, and a frame of events",
        "metrics.md 3",
        series.rows(good).seal(),
        {"good": [[0, 1]]},
        " ".join(["damaged"] * 5),
    )
    odd = Series(A, FIRST, "0")
    yield MetricsVector(
        "rank-of-text",
        "an OPEN that does not read: of no attempt and no rank",
        "metrics.md 2",
        odd.rows(good).seal(),
        {"good": [[0, 1]]},
        "damaged",
    )
    skipped = Series()
    skipped.frame(200, b"\xc0")
    yield MetricsVector(
        "type-200",
        "a frame that may be skipped",
        "metrics.md 2",
        skipped.rows(good).seal(),
        {"good": [[0, 1]]},
    )
    later = Series()
    later.frame(5, b"\xc0")
    yield MetricsVector(
        "type-5", "a frame of a later format", "metrics.md 2", later.rows(good).seal(), {}, "newer"
    )
