"""The reference reader against judges from outside: published values, b3sum, msgpack, rfc8785, and noise."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SPEC = Path(__file__).resolve().parents[2] / "spec"
sys.path.insert(0, str(SPEC))

import reference  # noqa: E402  (its folder must be on the path first)

WRITER = "01a19b7ca6807000800000000000000a"
RUN = "train/a7f6c8b122de39b556aa975ba9567946"


def segment(*payloads: bytes, writer: str = WRITER) -> bytes:
    """Make a journal: OPEN and one EVENTS frame for each payload."""
    opened = {
        "format": 1, "writer": writer, "segment": 0, "host": "mira", "boot": None, "pidns": None, "pid": 1,
        "pid_start": None, "user": "ada", "version": "0", "time": 1, "previous": None,
    }  # fmt: skip
    data = reference.MAGIC
    data += reference.make_frame(data, reference.OPEN, 0, 1 << 16, reference.pack(opened))
    for seq, payload in enumerate(payloads, 1):
        data += reference.make_frame(data, reference.EVENTS, seq, (1 + seq) << 16, payload)
    return data


def usual() -> bytes:
    return segment(*[reference.pack([["noted", RUN, f"note {number}"]]) for number in range(5)])


def sealed(data: bytes) -> bytes:
    frames = reference.read_segment(data, False).frames
    payload = reference.pack({"frames": len(frames) + 1})
    return data + reference.make_frame(
        data, reference.SEAL, frames[-1].seq + 1, frames[-1].clock + 1, payload
    )


def store(root: Path, data: bytes, name: str = f"{WRITER}-0.open") -> Path:
    folder = root / ".tracker" / "ledger" / "2026-11"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def run_reference(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SPEC / "reference.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def b3sum() -> str:
    path = shutil.which("b3sum")
    if path is None:
        pytest.skip("b3sum is not installed")
    return path


# Form 1

CANONICAL = [
    ({}, "{}", "6e46dd10defc9b56c29a6ec56b508c21f54c08192194e4df25bf36f0c9c3c279"),
    ({"lr": 0.1}, '{"lr":0.1}', "a7f6c8b122de39b556aa975ba9567946b68cabe4b48a15798396c6ce5fba8db1"),
    ({"lr": 1}, '{"lr":1}', "e7e5d32d05a4433e3d9e73d30838feb03f3d639f42542987555d9a79a250719f"),
    ({"lr": 1.0}, '{"lr":1.0}', "a362d4304361b4abb48174970386fa4a69a3f5a484c3ea65865970ca19db05d0"),
    ({"lr": True}, '{"lr":true}', "b4f4551ba7301c905d2de6e258b75e2e2a865751ef68defedc5fec503abc062d"),
    (
        {"b": 1, "a": 2, "B": 3},
        '{"B":3,"a":2,"b":1}',
        "87556d8ea616883675d7476bb2dee0339e9c1da20664adb41332cb87376108af",
    ),
    ({"x": -0.0}, '{"x":0.0}', "ab6f8a1d5c908fab4ac31127470b13e38eb25f8a08b6d2ca09e72693076b7437"),
    ({"lr": 1e-5}, '{"lr":0.00001}', "3e2d0fd0bac2ca75601eedcdbdef2cc823f80c86345d729fa5972c00b5ec1f42"),
    ({"eps": 1e-7}, '{"eps":1e-7}', "88dee63f33945e45e51bdac89c0646ccfad64f1723d55344ba353c706ed5ba85"),
    (
        {"x": 1e20, "y": 1e21},
        '{"x":100000000000000000000.0,"y":1e+21}',
        "b50c0a9d5ddf36e0b35b954157813e177b05b1eddd32029d2a7bc8852e874a7c",
    ),
    (
        {"x": 5e-324, "y": 1.7976931348623157e308},
        '{"x":5e-324,"y":1.7976931348623157e+308}',
        "56034135ed3e43ece42225f0fb99959aeec260a6907416e04b3fb92b4e39e8d5",
    ),
    (
        {"x": 1152921504606846976, "y": 1152921504606846976.0},
        '{"x":1152921504606846976,"y":1152921504606847000.0}',
        "957a117d9acfc92c4dd6ae9cff90ca2f81417e6d5d5ca726393c07438891eb21",
    ),
    (
        {"b": (0.9, 0.999)},
        '{"b":[0.9,0.999]}',
        "3f9b5cb29dc7776dcb2670d418071a3e4c9eed63ef96c8f51df7c2832c322f79",
    ),
]


@pytest.mark.parametrize(("value", "text", "digest"), CANONICAL)
def test_params_have_the_published_text_and_hash(value: dict[str, Any], text: str, digest: str) -> None:
    written = reference.canonical_bytes(value)

    assert (written.decode(), reference.uid(written)) == (text, digest[:32])
    assert reference.is_canonical(written)


def test_b3sum_prints_the_uid() -> None:
    command = [b3sum(), "-l", "16", "--no-names"]
    for _, text, digest in CANONICAL:
        got = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
        assert got.decode().strip() == digest[:32] == reference.uid(text)


def test_not_a_number_and_the_infinities_are_words() -> None:
    value = {"a": float("nan"), "b": float("inf"), "c": -float("inf")}
    assert reference.canonical_bytes(value) == b'{"a":"NaN","b":"Infinity","c":"-Infinity"}'


def test_keys_are_sorted_by_utf_16_units_and_strings_escape_little() -> None:
    value = {"\ufb33": 1, "\U0001f600": '"\\\b\t\n\f\r\x00\x1f\x7fé/'}
    want = '{"\U0001f600":"\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\x7fé/","\ufb33":1}'
    assert reference.canonical_bytes(value).decode() == want


def nested(depth: int) -> dict[str, Any]:
    value: Any = []
    for _ in range(depth - 2):
        value = [value]
    return {"a": value}


REFUSED: list[Any] = [
    {"a": "\ud800"},
    {1: 0, "1": 0},
    {True: 0},
    {"a": {1, 2}},
    {"a": b"x"},
    {"a": 2**5000},
    {"@repeat": "0011"},
    {None: 1},
    [],
    nested(33),
    {"a": [0] * 100_000},
    {"a": "x" * 1_048_576},
]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        reference.canonical_bytes(value)


def test_the_limits_themselves_are_accepted() -> None:
    reference.canonical_bytes(nested(32))
    reference.canonical_bytes({"a": 2**4096 - 1})
    reference.canonical_bytes({"a": [0] * 99_998})


OTHER_SPELLINGS = """
{"a": 1}
{"a":1e-5}
{"a":1e16}
{"a":1.00}
{"a":-0.0}
{"a":-0}
{"a":01}
{"a":1E5}
{"a":1e999}
{"a":"\\/"}
{"a":"\\u0041"}
{"a":"\\ud800"}
{"b":1,"a":2}
{"a":1,"a":2}
{"a":NaN}
\ufeff{"a":1}
[]
{
"""
NOT_CANONICAL = [*OTHER_SPELLINGS.strip().splitlines(), "", '{"a":1}\n', "[" * 100_000]


@pytest.mark.parametrize("text", NOT_CANONICAL, ids=range(len(NOT_CANONICAL)))
def test_another_spelling_is_not_canonical(text: str) -> None:
    assert not reference.is_canonical(text.encode())


def test_doubles_are_written_as_rfc8785_writes_them() -> None:
    rfc8785 = pytest.importorskip("rfc8785")
    source = random.Random(1)
    tried = 0
    for _ in range(5000):
        bits = struct.unpack(">d", source.randbytes(8))[0]
        short = source.randint(-(10**17), 10**17) / 10 ** source.randint(0, 25)
        for value in (bits, short, float(source.randint(-(10**22), 10**22))):
            if value != value or abs(value) == float("inf"):
                continue
            want = rfc8785.dumps(value).decode()
            assert reference.float_text(value) == want if "." in want or "e" in want else f"{want}.0"
            tried += 1
    assert tried > 14_000


# msgpack

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=40,
)


@given(VALUES)
def test_what_is_packed_unpacks_to_the_same(value: object) -> None:
    assert reference.unpack(reference.pack(value)) == value


@given(VALUES)
def test_msgpack_packs_the_same_bytes_and_reads_them(value: object) -> None:
    msgpack = pytest.importorskip("msgpack")
    packed = reference.pack(value)

    assert msgpack.packb(value, use_bin_type=True) == packed
    assert msgpack.unpackb(packed, strict_map_key=False) == value


@given(st.binary(max_size=200))
def test_arbitrary_bytes_unpack_or_are_malformed(data: bytes) -> None:
    try:
        reference.unpack(data)
    except reference.Malformed:
        return
    assert data


def test_a_deep_or_huge_value_is_malformed() -> None:
    huge = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\x01", b"\xc6\xff"]
    for data in [b"\x91" * 100_000 + b"\xc0", *huge]:
        with pytest.raises(reference.Malformed):
            reference.unpack(data)


# Segments


def test_msgpack_reads_a_segment_as_a_plain_stream() -> None:
    msgpack = pytest.importorskip("msgpack")
    data = sealed(usual())
    magic, *stream = msgpack.Unpacker(io.BytesIO(data), strict_map_key=False)
    frames = reference.read_segment(data, True).frames

    assert magic == msgpack.ExtType(0x54, reference.MAGIC[2:])
    assert [payload for _, payload, _ in stream] == [frame.payload for frame in frames]
    assert [prefix for _, _, prefix in stream] == [frame.prefix for frame in frames]
    assert len(frames) == 7


def test_b3sum_of_a_segment_begins_with_the_hash_in_its_name(tmp_path: Path) -> None:
    data = sealed(usual())
    (tmp_path / "segment").write_bytes(data)
    got = subprocess.run([b3sum(), "--no-names", "segment"], cwd=tmp_path, capture_output=True, text=True)
    name = f"{WRITER}-0-{got.stdout[:16]}.seg"

    assert reference.read_segment(data, True, name).verdict == "whole"
    assert reference.read_segment(data, True, name.replace(got.stdout[:16], "0" * 16)).verdict == "damaged"


def test_head_and_b3sum_print_each_prefix_hash(tmp_path: Path) -> None:
    data = sealed(usual())
    (tmp_path / "segment").write_bytes(data)
    frames = reference.read_segment(data, True).frames
    assert len(frames) == 7
    for frame in frames:
        line = f"head -c $(({frame.offset}+42+{len(frame.payload)})) segment | {b3sum()} --no-names"
        got = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert got.stdout.strip() == frame.prefix.hex()


def test_a_journal_cut_anywhere_is_torn_or_whole() -> None:
    data = usual()
    ends = {frame.end for frame in reference.read_segment(data, False).frames} | {18}
    for cut in range(len(data) + 1):
        cut_short = reference.read_segment(data[:cut], False)
        good_end = max(end for end in ends | {0} if end <= cut)

        assert (cut_short.verdict, cut_short.good_end) == ("whole" if cut in ends else "torn", good_end)


def test_a_journal_of_zeros_from_anywhere_on_is_torn() -> None:
    data = usual()
    for cut in range(18, len(data)):
        good_end = max(
            frame.offset for frame in reference.read_segment(data, False).frames if frame.offset <= cut
        )
        for length in (len(data), len(data) + 5000):
            zeros = reference.read_segment(data[:cut].ljust(length, b"\0"), False)

            assert zeros.verdict == "torn" or data[cut:] == bytes(len(data) - cut)
            assert zeros.good_end >= good_end


def test_a_flipped_bit_in_a_journal_costs_one_frame_at_most() -> None:
    data = usual()
    frames = reference.read_segment(data, False).frames
    for at in range(18, len(data)):
        for bit in (0x01, 0x80):
            broken_data = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            broken = reference.read_segment(broken_data, False)
            hit = next(frame for frame in frames if frame.offset <= at < frame.end)

            assert broken.good_end == hit.offset
            in_prefix = at >= hit.end - 32  # the CRCs are right: salvaged, but for zeros to the end
            kept = in_prefix and any(broken_data[hit.end - 1 :])
            assert [f.seq for f in broken.frames + broken.salvaged] == [
                f.seq for f in frames if f != hit or kept
            ]
            assert broken.verdict == ("torn" if hit is frames[-1] and not kept else "damaged")


def test_a_flipped_bit_in_a_sealed_segment_is_damage() -> None:
    data = sealed(usual())
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        assert reference.read_segment(broken, True, f"{WRITER}-0-0123456789abcdef.seg").verdict == "damaged"


@given(st.binary(max_size=400), st.booleans())
def test_arbitrary_bytes_have_a_verdict(data: bytes, is_sealed: bool) -> None:
    segment_ = reference.read_segment(data, is_sealed)

    assert segment_.verdict in ("whole", "torn", "damaged")
    assert segment_.good_end <= len(data)


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 40), st.binary(max_size=40)), max_size=4))
def test_frames_before_the_first_edit_stay(edits: list[tuple[int, int, bytes]]) -> None:
    data = usual()
    original = reference.read_segment(data, False).frames
    first = len(data)
    for at, removed, added in edits:
        first = min(first, at)
        data = data[:at] + added + data[at + removed :]
    broken = reference.read_segment(data, False)

    assert broken.verdict in ("whole", "torn", "damaged")
    before = [frame for frame in original if frame.end <= first]
    assert broken.frames[: len(before)] == before


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_frames_behind_noise_are_salvaged(noise: bytes, payload: bytes) -> None:
    kept = reference.make_frame(b"elsewhere", reference.EVENTS, 9, 9, payload)
    found = reference.salvage(noise + kept + noise, 0)

    assert [frame.raw for frame in found if frame.offset == len(noise)] == [kept]


# Stores

FIELD = st.sampled_from([*reference.KINDS, RUN, f"{WRITER}-1", "", 0, -1, None, True, [], {}, bytes(32)])
EVENT = st.lists(FIELD | VALUES, max_size=8)


@given(st.lists(st.lists(EVENT, max_size=3), max_size=4))
def test_arbitrary_events_give_a_state_and_manifests(payloads: list[list[Any]]) -> None:
    frames = reference.read_segment(segment(*map(reference.pack, payloads)), False).frames
    ledger = reference.Ledger([reference.Held(WRITER, frame, True, {}) for frame in frames], [])
    events = reference.read_events(ledger)

    json.dumps(reference.state_of(events), allow_nan=False)
    assert all(json.loads(content) for content in reference.manifests_of(events).values())


ATTEMPTS = st.sampled_from([f"{WRITER}-{seq}" for seq in range(1, 6)])
MS = st.integers(0, 2**40)
TEXT = st.text(max_size=5)
DIGEST = st.sampled_from([None, bytes(32), b"\xff" * 32])
FILES = st.lists(st.tuples(TEXT, TEXT, MS, DIGEST, st.booleans()), max_size=3)
ENVIRONMENT = st.tuples(MS, st.lists(ATTEMPTS, max_size=3), st.integers(0, 9), st.just("prefix"), DIGEST)
OF_A_RUN = {
    "created": st.tuples(st.just('{"lr":0.1}'), st.none() | TEXT, st.sampled_from(["prefix", "subfolder"])),
    "started": ENVIRONMENT,
    "attached": st.tuples(ATTEMPTS, st.lists(st.tuples(TEXT, TEXT, st.booleans()), max_size=3)),
    "summary": st.tuples(ATTEMPTS, st.dictionaries(TEXT, st.floats() | TEXT | st.none(), max_size=3)),
    "done": st.tuples(ATTEMPTS, MS, FILES),
    "failed": st.tuples(ATTEMPTS, MS, FILES, TEXT, TEXT, DIGEST),
    "interrupted": st.tuples(ATTEMPTS, MS, FILES, st.none() | TEXT, st.integers(0, 9)),
    "lost": st.tuples(ATTEMPTS, MS, TEXT),
    "tagged": st.tuples(st.lists(TEXT), st.lists(TEXT)),
    "noted": st.tuples(TEXT),
    "removed": st.tuples(TEXT),
    "restored": st.tuples(TEXT),
    "purged": st.tuples(st.lists(DIGEST)),
}
GOOD_EVENT = st.one_of(
    [st.tuples(st.just(tag), st.just(RUN), fields) for tag, fields in OF_A_RUN.items()]
).map(lambda event: [event[0], event[1], *event[2]])


@given(st.lists(st.lists(GOOD_EVENT, min_size=1, max_size=4), min_size=1, max_size=5), st.randoms())
def test_the_state_of_any_events_obeys_its_rules(payloads: list[list[Any]], shuffle: random.Random) -> None:
    frames = reference.read_segment(segment(*map(reference.pack, payloads)), False).frames
    held = [reference.Held(WRITER, frame, True, {}) for frame in frames]
    ledger = reference.Ledger(held, [])
    events = reference.read_events(ledger)
    state = reference.state_of(events)
    manifests = reference.manifests_of(events)
    shuffle.shuffle(held)

    assert not ledger.findings
    assert len(events) == sum(map(len, payloads))
    assert reference.state_of(reference.read_events(reference.Ledger(held, []))) == state
    json.dumps(state, allow_nan=False)
    (run,) = state["runs"]
    ids = [attempt["id"] for attempt in run["attempts"]]
    assert len(ids) == len(set(ids))
    assert any(attempt["head"] for attempt in run["attempts"]) == bool(ids)
    statuses = {attempt["id"]: attempt["status"] for attempt in run["attempts"]} | {None: "pending"}
    assert run["status"] == statuses[run["canonical"]]
    for path, content in manifests.items():
        assert path.endswith(f"-{reference.blake3(content).hexdigest()[:16]}.json")
        assert content.count(b"\n") == 1
        assert json.loads(content)["params"] == {"lr": 0.1}


@given(data=st.binary(max_size=300), kind=st.sampled_from([".open", "-0123456789abcdef.seg"]))
def test_arbitrary_files_give_a_state(tmp_path_factory: Any, data: bytes, kind: str) -> None:
    root = tmp_path_factory.mktemp("noise")
    store(root, data, f"{WRITER}-0{kind}")
    (root / ".tracker" / "FORMAT").write_bytes(b"tracker 1\n")

    assert reference.read_store(root)["format"] == 1


@given(st.binary(max_size=100))
def test_arbitrary_payloads_give_a_state(payload: bytes) -> None:
    frames = reference.read_segment(segment(payload), False).frames
    ledger = reference.Ledger([reference.Held(WRITER, frame, True, {}) for frame in frames], [])

    assert reference.state_of(reference.read_events(ledger))["format"] == 1


def test_copies_of_frames_in_any_files_and_order_mean_the_same(tmp_path: Path) -> None:
    data = usual()
    store(tmp_path / "one", data)
    ends = [frame.end for frame in reference.read_segment(data, False).frames]
    for number, end in enumerate(ends):
        part = data[:end]
        month = tmp_path / "two" / ".tracker" / "ledger" / f"2026-{12 - number:02}"
        month.mkdir(parents=True)
        name = f"{WRITER}-0-{reference.blake3(part).hexdigest()[:16]}.part"
        (month / name).write_bytes(part)

    one, two = (reference.read_store(tmp_path / name) for name in ("one", "two"))
    assert one["runs"][0]["notes"] == [f"note {number}" for number in range(5)]
    assert one == two


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    real = store(tmp_path / "real", usual())
    store(tmp_path / "root", usual(), "tmp-0")
    link = tmp_path / "root" / ".tracker" / "ledger" / "2026-11" / real.name
    link.symlink_to(real)
    (tmp_path / "root" / ".tracker" / "ledger" / "2026-12").symlink_to(real.parent)

    assert reference.list_ledger(tmp_path / "root") == []
    assert reference.list_ledger(tmp_path / "real") == [f"ledger/2026-11/{real.name}"]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    store(tmp_path, usual()[:-9])
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    run_reference(tmp_path)

    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


# Command line


def test_the_state_is_printed_as_json(tmp_path: Path) -> None:
    store(tmp_path, usual())
    done = run_reference(tmp_path)

    assert (done.returncode, json.loads(done.stdout)) == (0, reference.read_store(tmp_path))


def test_damage_is_exit_code_1_and_named(tmp_path: Path) -> None:
    data = usual()
    path = store(tmp_path, data[:200] + b"?" + data[201:])
    done = run_reference(tmp_path)

    assert done.returncode == 1
    assert json.loads(done.stdout)["runs"][0]["unproven"] is True
    assert done.stderr.startswith(f"damaged: ledger/2026-11/{path.name}: at ")


def test_a_newer_format_is_refused_and_named(tmp_path: Path) -> None:
    store(tmp_path, usual())
    (tmp_path / ".tracker" / "FORMAT").write_bytes(b"tracker 2\n")
    done = run_reference(tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert "tracker 2" in done.stderr


def test_a_folder_without_a_store_is_said_to_be_none(tmp_path: Path) -> None:
    done = run_reference(tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"no store at {tmp_path}\n"
    assert reference.read_store(tmp_path) == {"format": 1, "runs": [], "rules": []}


def test_frames_are_listed_one_a_line(tmp_path: Path) -> None:
    path = store(tmp_path, usual()[:-1])
    done = run_reference("--frames", path)
    frames = reference.read_segment(path.read_bytes(), False).frames

    assert done.stdout.splitlines() == [
        f"{frame.offset} {frame.type} {frame.seq} {frame.clock} {frame.prefix.hex()}" for frame in frames
    ]
    assert done.stderr.startswith("torn: good to ")
