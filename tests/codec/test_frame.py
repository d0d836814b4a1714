"""Frames against three judges: the reference, msgpack and b3sum; and every small damage of a segment.

Spec: spec/log.md sections 3 and 4.
"""

from __future__ import annotations

import functools
import io
import itertools
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import reference
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker._codec.frame import (
    MAGIC,
    MAX_PAYLOAD_BYTES,
    OVERHEAD_BYTES,
    Frame,
    FrameEncoder,
    FrameType,
    Tail,
    Verdict,
    file_hash,
    read_trusted,
    scan,
    scan_on,
)
from tracker._model.event import KINDS
from tracker._model.names import parse_segment_name, segment_name
from tracker._store.segments import SegmentFile, iter_events, judge_segment
from tracker.errors import VersionError

SPEC = Path(__file__).resolve().parents[2] / "spec"
LOG = sorted((SPEC / "vectors" / "log").glob("*.txt"))
WRITER = "01a19b7ca6807000800000000000000a"
OTHER = "01a19b7ca6807000800000000000000b"
RUN = f"t/{'0' * 32}"
OPEN_NAME = f"{WRITER}-0.open"

Reading = tuple[Any, ...]
"""Verdict, good end, good frames, salvaged frames; or the word "newer" alone."""


def segment(*notes: str, writer: str = WRITER, sealed: bool = False, seq: int = 0) -> bytes:
    """A small segment by the reference's encoder: OPEN, a frame a note, and SEAL if wanted."""
    opened = {"format": 1, "writer": writer, "segment": 0, "host": "h", "boot": None, "pidns": None}
    opened |= {"pid": 1, "pid_start": None, "user": "u", "version": "0", "time": 1, "previous": None}
    payloads = [(reference.OPEN, reference.pack(opened))]
    payloads += [(reference.EVENTS, reference.pack([["noted", RUN, note]])) for note in notes]
    if sealed:
        payloads.append((reference.SEAL, reference.pack({"frames": len(payloads) + 1})))
    data = reference.MAGIC
    for number, (type_, payload) in enumerate(payloads):
        data += reference.make_frame(data, type_, seq + number, (1 + number) << 16, payload)
    return data


@functools.lru_cache
def frames_of(data: bytes) -> list[bytes]:
    """The bytes of each good frame."""
    return [frame.raw for frame in reference.read_segment(data, False).frames]


def sealed_name(data: bytes, kind: str = "seg") -> str:
    return segment_name(WRITER, 0, kind, blake3(data).hexdigest()[:16])  # type: ignore[arg-type]


def place(file: str) -> SegmentFile:
    name = parse_segment_name(file)
    assert name is not None
    return SegmentFile("2026-11", file, name)


def by_package(data: bytes, file: str) -> Reading:
    try:
        judged = judge_segment(data, place(file))
    except VersionError:
        return ("newer",)
    verdict = "damaged" if judged.damage else str(judged.scan.verdict)
    return verdict, judged.scan.end, plain(judged.scan.frames), plain(judged.scan.salvaged)


def plain(frames: list[Frame]) -> list[tuple[Any, ...]]:
    return [(f.offset, f.type, f.seq, f.clock, bytes(f.payload), f.prefix) for f in frames]


def by_reference(data: bytes, file: str) -> Reading:
    read = reference.read_segment(data, not file.endswith(".open"), file)
    if read.verdict == "newer":
        return ("newer",)
    frames, salvaged = (
        [(f.offset, f.type, f.seq, f.clock, f.payload, f.prefix) for f in found]
        for found in (read.frames, read.salvaged)
    )
    return read.verdict, read.good_end, frames, salvaged


# Vectors


def read_vector(path: Path) -> tuple[dict[str, str], bytes]:
    header, _, body = path.read_text(encoding="utf-8").partition("\n\n")
    return dict(line.split(": ", 1) for line in header.splitlines()), bytes.fromhex(body)


def test_there_are_vectors():
    assert len(LOG) > 40


@pytest.mark.parametrize("path", LOG, ids=[path.stem for path in LOG])
def test_a_segment_reads_as_its_vector_says(path):
    want, data = read_vector(path)
    got = by_package(data, want["file"])

    if want["verdict"] == "newer":
        assert got == ("newer",)
        return
    verdict, end, frames, salvaged = got
    assert (verdict, end) == (want["verdict"], int(want["good end"]))
    assert len(frames) == int(want["good frames"])
    assert [str(frame[2]) for frame in salvaged] == want["salvaged seqs"].replace("none", "").split()


@pytest.mark.parametrize("path", LOG, ids=[path.stem for path in LOG])
def test_the_events_that_count_are_those_of_the_vector(path):
    want, data = read_vector(path)
    if want["verdict"] == "newer":
        pytest.skip("refused")
    found = [*iter_events(judge_segment(data, place(want["file"])))]
    in_order = sorted(found, key=lambda one: (one[0].clock, one[0].seq))
    tags = [
        event.__struct_config__.tag for _, events, _, _ in in_order for event in events if event is not None
    ]

    assert tags == [tag for tag in want["events"].replace("none", "").split() if tag in KINDS]


@pytest.mark.parametrize(
    ("path", "kind"),
    [pytest.param(path, kind, id=f"{path.stem}-{kind}") for path in LOG for kind in ("open", "seg", "part")],
)
def test_the_bytes_of_a_vector_read_alike_under_each_kind_of_name(path, kind):
    data = read_vector(path)[1]
    file = OPEN_NAME if kind == "open" else sealed_name(data, kind)
    if kind != "open" and read_trusted(data) is not None and scan(data).verdict is not Verdict.WHOLE:
        pytest.skip("the name proves the bytes: whether CRCs are checked beside it is left open")

    assert by_package(data, file) == by_reference(data, file)


# Encoding

frames_to_write = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 128, 255]),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=300),
    ),
    max_size=6,
)


@given(frames_to_write)
def test_the_encoder_writes_what_the_reference_writes(frames):
    encoder, data = FrameEncoder(), MAGIC
    for type_, seq, clock, payload in frames:
        got = encoder.encode(type_, seq, clock, payload)

        assert got == reference.make_frame(data, type_, seq, clock, payload)
        assert len(got) == OVERHEAD_BYTES + len(payload)
        data += got

    assert encoder.file_hash() == file_hash(data) == blake3(data).hexdigest()[:16]


@given(frames_to_write, frames_to_write)
def test_an_encoder_rewound_goes_on_as_if_it_had_never_gone_further(kept, dropped):
    encoder, fresh, data = FrameEncoder(), FrameEncoder(), MAGIC
    for frame in kept:
        data += encoder.encode(*frame)
        fresh.encode(*frame)
    for frame in dropped:
        encoder.encode(*frame)
    encoder.rewound_to(bytearray(data))

    assert encoder.encode(2, 7, 8, b"x") == fresh.encode(2, 7, 8, b"x")


def test_a_segment_is_a_plain_stream_of_msgpack_values():
    data = segment("a", "b", sealed=True)
    magic, *frames = msgpack.Unpacker(io.BytesIO(data), raw=False)

    assert magic == msgpack.ExtType(0x54, MAGIC[2:])
    assert [[type(part) for part in frame] for frame in frames] == [[bytes, bytes, bytes]] * 4
    assert [msgpack.unpackb(payload) for _, payload, _ in frames[1:]] == [
        [["noted", RUN, "a"]],
        [["noted", RUN, "b"]],
        {"frames": 4},
    ]


def test_b3sum_checks_any_frame_and_the_name_by_hand():
    if shutil.which("b3sum") is None:
        pytest.skip("b3sum is not installed")
    encoder, data = FrameEncoder(), MAGIC
    for seq in range(4):
        data += encoder.encode(FrameType.EVENTS if seq else FrameType.OPEN, seq, seq, b"\x91" * seq)

        head = subprocess.run(["b3sum", "--no-names"], input=data[:-32], capture_output=True, check=True)
        assert head.stdout.decode().strip() == data[-32:].hex()

    whole = subprocess.run(["b3sum", "--no-names"], input=data, capture_output=True, check=True)
    assert whole.stdout.decode()[:16] == encoder.file_hash()


def test_a_payload_past_the_limit_is_a_bug_of_the_caller():
    with pytest.raises(AssertionError, match="bounds payloads"):
        FrameEncoder().encode(FrameType.EVENTS, 0, 0, bytes(MAX_PAYLOAD_BYTES + 1))


# Every small damage

OPEN = segment("a", "bc", "")
SEALED = segment("a", "bc", "", sealed=True)
ANOTHER = segment("x", "yz", "", writer=OTHER, sealed=True)
ZEROS_AT_THE_END = segment(*(chr(0) * n for n in range(3)))


def bit_flips(data: bytes) -> Iterator[bytes]:
    for at, bit in itertools.product(range(len(data)), range(8)):
        yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def truncations(data: bytes) -> Iterator[bytes]:
    return (data[:size] for size in range(len(data)))


def zero_tails(data: bytes) -> Iterator[bytes]:
    for size in range(len(data)):
        yield data[:size] + bytes(len(data) - size)
        yield data[:size] + bytes(len(data) - size) + bytes(4096)


def zero_middles(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 7):
        yield data[:at] + bytes(16) + data[at + 16 :]


def swaps(data: bytes) -> Iterator[bytes]:
    for order in itertools.permutations(frames_of(data)):
        yield MAGIC + b"".join(order)


def deletions(data: bytes) -> Iterator[bytes]:
    frames = frames_of(data)
    for count in range(len(frames)):
        for kept in itertools.combinations(frames, count):
            yield MAGIC + b"".join(kept)


def duplications(data: bytes) -> Iterator[bytes]:
    frames = frames_of(data)
    for one, where in itertools.product(range(len(frames)), range(len(frames) + 1)):
        yield MAGIC + b"".join([*frames[:where], frames[one], *frames[where:]])
    yield data + data
    yield data + data[len(MAGIC) :]


def splices(data: bytes) -> Iterator[bytes]:
    """The head of one segment and the tail of another, cut at frames and beside them."""
    other = frames_of(ANOTHER)
    frames = frames_of(data)
    for head, tail in itertools.product(range(len(frames) + 1), range(len(other) + 1)):
        yield MAGIC + b"".join(frames[:head] + other[tail:])
    for cut in range(0, min(len(data), len(ANOTHER)), 3):
        yield data[:cut] + ANOTHER[cut:]


def noise_between(data: bytes) -> Iterator[bytes]:
    frames = frames_of(data)
    for at in range(len(frames) + 1):
        for noise in (
            b"\0",
            b"\x93",
            b"\x93\xc4\x20",
            b"\x93\xc4\x20\xc1\x54",
            bytes(100),
            MAGIC,
            b"\xff" * 80,
        ):
            yield MAGIC + b"".join(frames[:at]) + noise + b"".join(frames[at:])


MUTATIONS: list[Callable[[bytes], Iterator[bytes]]] = [
    bit_flips,
    truncations,
    zero_tails,
    zero_middles,
    swaps,
    deletions,
    duplications,
    splices,
    noise_between,
]
AT_LEAST = {bit_flips: 3000, truncations: 400, zero_tails: 800, zero_middles: 60, swaps: 23, deletions: 15}


def is_true_head(got: list[tuple[Any, ...]], data: bytes) -> bool:
    """True if these frames are the first ones of the segment, byte for byte."""
    raw = [reference.make_frame(data[:offset], *rest[:-1]) for offset, *rest in got]
    return raw == frames_of(data)[: len(raw)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.__name__ for mutation in MUTATIONS])
@pytest.mark.parametrize("data", [OPEN, SEALED, ZEROS_AT_THE_END], ids=["open", "sealed", "zeros"])
def test_no_damage_gives_a_silently_wrong_result(data, mutation, record_property):
    file = sealed_name(data) if data is SEALED else OPEN_NAME
    payloads = {frame[40:-34] for frame in frames_of(data) + frames_of(ANOTHER)}
    verdicts = Counter()
    for broken in mutation(data):
        if broken == data:
            continue
        verdict, end, good, salvaged = got = by_package(broken, file)

        assert got == by_reference(broken, file), broken.hex()
        assert is_true_head(good, data) or is_true_head(good, ANOTHER), broken.hex()
        assert {frame[4] for frame in good + salvaged} <= payloads
        assert verdict == "damaged" or not salvaged
        if verdict == "whole":
            assert broken == data[:end] or broken in (ANOTHER[: len(broken)], SEALED[: len(broken)])
        assert verdict == "damaged" or data is not SEALED
        verdicts[verdict] += 1

    record_property("cases", sum(verdicts.values()))
    print(f"{mutation.__name__}: {sum(verdicts.values())} cases, {dict(verdicts)}")
    assert sum(verdicts.values()) >= AT_LEAST.get(mutation, 10)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.__name__ for mutation in MUTATIONS])
def test_a_sealed_file_under_the_name_of_its_damaged_bytes_still_must_be_framed(mutation):
    """The name proves the bytes; CRCs and prefix hashes need no check then, but frames and places do."""
    cases = 0
    for broken in itertools.islice(mutation(SEALED), 0, None, 11 if mutation is bit_flips else 1):
        if read_trusted(broken) is None:
            assert by_package(broken, sealed_name(broken)) == by_reference(broken, sealed_name(broken))
            cases += 1

    assert cases >= 10


def test_a_proved_file_reads_as_one_that_is_checked():
    for data in (OPEN, SEALED, ANOTHER, segment(), segment("a" * 5000, sealed=True)):
        trusted, checked = read_trusted(data), scan(data)

        assert trusted is not None
        assert plain(trusted.frames) == plain(checked.frames)
        assert (trusted.verdict, trusted.end, trusted.sealed) == (Verdict.WHOLE, len(data), checked.sealed)


@given(st.binary(max_size=400), st.integers(0, 600))
def test_noise_in_a_segment_never_raises_and_reads_as_the_reference_reads(noise, at):
    for data in (
        noise,
        MAGIC + noise,
        OPEN[:at] + noise + OPEN[at:],
        OPEN[:at] + noise + OPEN[at + len(noise) :],
    ):
        assert by_package(data, OPEN_NAME) == by_reference(data, OPEN_NAME)
        assert by_package(data, sealed_name(OPEN)) == by_reference(data, sealed_name(OPEN))


def test_a_frame_within_a_payload_is_no_frame_of_the_file():
    inner = frames_of(OPEN)[1]
    data = MAGIC
    data += reference.make_frame(data, reference.OPEN, 0, 1, frames_of(OPEN)[0][40:-34])
    data += reference.make_frame(
        data, reference.EVENTS, 1, 2, reference.pack([["noted", RUN, inner.hex()], inner])
    )
    whole = len(data)

    assert len(scan(data).frames) == 2
    for size in range(whole):
        got = scan(data[:size])
        # Where the outer frame is torn, the inner one stands alone in the file.
        assert got.verdict is (Verdict.DAMAGED if got.salvaged else Verdict.TORN) or size in (
            18,
            18 + len(frames_of(OPEN)[0]),
        )
        assert by_package(data[:size], OPEN_NAME) == by_reference(data[:size], OPEN_NAME)


# A growing file


def read_growing(data: bytes, splits: list[int]) -> tuple[list[tuple[Any, ...]], Tail, Verdict]:
    """Read `data` as it grows to each of the lengths, by `scan_on` alone."""
    tail, frames, verdict = Tail(), [], Verdict.TORN
    for size in [*splits, len(data)]:
        base = tail.end
        result = scan_on(data[base:size], tail)
        frames += [(base + f[0], *f[1:]) for f in plain(result.frames)]
        verdict = result.verdict
        if verdict in (Verdict.DAMAGED, Verdict.NEWER):
            break
    return frames, tail, verdict


IN_OPEN = range(len(MAGIC), len(MAGIC) + len(frames_of(OPEN)[0]))
"""Lengths at which the magic is whole and the OPEN frame is not."""

SPLITS = [size for size in range(len(SEALED) + 1) if size not in IN_OPEN]


def stopping_changes_something(size: int) -> bool:
    frames, tail, verdict = read_growing(SEALED, [size])
    whole = (tail.end, tail.next_seq, verdict) == (len(SEALED), len(frames), Verdict.WHOLE)
    return not (whole and frames == plain(scan(SEALED).frames))


def test_a_growing_segment_reads_the_same_wherever_the_reader_stopped():
    assert len(SPLITS) > 300
    assert [size for size in SPLITS if stopping_changes_something(size)] == []


def test_a_growing_segment_reads_the_same_where_the_reader_stopped_within_open():
    assert [size for size in IN_OPEN if stopping_changes_something(size)] == []


@settings(max_examples=200)
@given(st.lists(st.integers(0, len(OPEN)).filter(lambda size: size not in IN_OPEN), max_size=8).map(sorted))
def test_a_growing_segment_reads_the_same_however_often_the_reader_stopped(splits):
    frames, tail, _ = read_growing(OPEN, splits)

    assert frames == plain(scan(OPEN).frames)
    assert tail.end == len(OPEN)


@settings(max_examples=300)
@given(st.data())
def test_a_growing_damaged_segment_never_gives_a_frame_that_is_not_good(data):
    """Where the verdict is DAMAGED the reader begins again; what it had taken before was good then."""
    mutation = data.draw(st.sampled_from([swaps, deletions, duplications, splices, noise_between]))
    broken = data.draw(st.sampled_from([*mutation(OPEN)]))
    splits = data.draw(
        st.lists(st.integers(0, len(broken)).filter(lambda size: size not in IN_OPEN), max_size=4)
    )
    frames, _, verdict = read_growing(broken, sorted(splits))
    want = scan(broken)

    assert frames == plain(want.frames)[: len(frames)]
    if verdict not in (Verdict.DAMAGED, Verdict.NEWER):
        assert frames == plain(want.frames)
