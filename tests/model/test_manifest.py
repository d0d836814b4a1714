"""Manifests have the reference's bytes, whatever an attempt holds (I11).

Spec: spec/manifest.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from tracker._model.event import (
    Created,
    Done,
    Failed,
    File,
    Input,
    Interrupted,
    Opened,
    Started,
    encode_events,
)
from tracker._model.manifest import Ended, decode_manifest, encode_manifest, manifest_of
from tracker._model.names import parse_manifest_path
from tracker.errors import DamagedError
from tracker.terms import AttemptId, RunRef, WriterId

PAGE = Path(__file__).resolve().parents[2] / "spec" / "manifest.md"
VECTORS = sorted((PAGE.parent / "vectors" / "events").glob("*.txt"))
WRITER = WriterId("01a19b7ca6807000800000000000000a")
OTHER = WriterId("01a19b7ca6807000800000000000000b")

texts = st.text(max_size=12)
digests = st.none() | st.binary(min_size=32, max_size=32)
names = st.text(min_size=1, max_size=5).filter(
    lambda text: "\0" not in text and "/" not in text and text not in (".", "..")
)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
bmp = st.text(st.characters(max_codepoint=0xD7FF), max_size=4)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(bmp, inner, max_size=3),
    max_leaves=6,
)
summaries = st.dictionaries(bmp, values, max_size=4)


@st.composite
def sealed_files(draw: st.DrawFn) -> list[File]:
    found = draw(st.lists(texts.filter(bool), unique=True, max_size=3))
    return [
        File(name, draw(texts), draw(st.integers(0, 2**63)), draw(digests), draw(st.booleans()))
        for name in found
    ]


@st.composite
def read_files(draw: st.DrawFn) -> list[Input]:
    """Inputs as an attempt has them: by name, each once."""
    found = sorted(draw(st.lists(texts, unique=True, max_size=2)))
    return [
        Input(
            name, draw(texts), draw(st.none() | st.integers(0, 2**63)), draw(digests), draw(st.booleans()),
            draw(st.none() | texts),
        )
        for name in found
    ]  # fmt: skip


@st.composite
def ends(draw: st.DrawFn) -> tuple[Ended, list[tuple[int, list[Any]]]]:
    """All that a manifest is made of, and the same as frames of (seq, events)."""
    relpath = draw(st.lists(names, max_size=2).map("/".join))
    params = reference.canonical_bytes(
        draw(st.dictionaries(bmp.filter(lambda key: key[:1] != "@"), values, max_size=3))
    )
    ref = RunRef("/".join(filter(None, [relpath, draw(names), reference.uid(params)])))
    key = draw(st.none() | st.just("1" * 32))
    created = Created(ref, params.decode(), key, "subfolder")
    attempt = AttemptId(f"{draw(st.sampled_from([WRITER, OTHER]))}-1")
    is_here = attempt.startswith(WRITER) and draw(st.booleans())
    ms = draw(st.integers(0, 2**53))
    supersedes = draw(st.lists(texts, max_size=2))
    started = (
        Started(ref, ms, supersedes, draw(st.integers(0, 9)), "prefix", draw(digests)) if is_here else None
    )
    sealed, summary = draw(sealed_files()), draw(summaries)
    end = draw(
        st.sampled_from([Done(ref, attempt, ms, sealed)])
        | st.builds(lambda *rest: Failed(ref, attempt, ms, sealed, *rest), texts, texts, digests)
        | st.builds(
            lambda *rest: Interrupted(ref, attempt, ms, sealed, *rest), st.none() | texts, st.integers(0, 9)
        )
    )
    opened = Opened(1, WRITER, 0, draw(texts), None, None, 1, None, draw(texts), "0", 1, None)
    facts, inputs = draw(summaries), draw(read_files())
    told = [["summary", ref, attempt, summary]] if summary else []
    told += [["captured", ref, attempt, facts]] if facts else []
    told += [["used", ref, attempt, [list(astuple(one)) for one in reversed(inputs)]]] if inputs else []
    frames = [
        (1, encode_events([created, *([started] if started else [])])),
        (2, reference.pack([*told, ["noted", ref, "x"]])),
        (3, encode_events([end])),
        (
            4,
            reference.pack([["summary", ref, attempt, {"late": 1}], ["captured", ref, attempt, {"late": 1}]]),
        ),
    ]
    prefix = blake3(b"3").digest()
    ended = Ended(
        created.params, key, attempt, started, end, opened, WRITER, 3, prefix, summary, facts, inputs
    )
    return ended, frames


def by_reference(ended: Ended, frames: list[tuple[int, bytes]]) -> dict[str, bytes]:
    assert ended.opened is not None
    opened = {name: getattr(ended.opened, name) for name in ended.opened.__struct_fields__}
    held = [
        reference.Held(
            WRITER,
            reference.Frame(
                0, reference.EVENTS, 0, seq, seq, payload, blake3(str(seq).encode()).digest(), b""
            ),
            True,
            opened,
        )
        for seq, payload in frames
    ]
    return reference.manifests_of(reference.read_events(reference.Ledger(held, [])))


@given(ends())
def test_a_manifest_has_the_bytes_of_the_reference(made):
    ended, frames = made
    path, data = encode_manifest(manifest_of(ended))

    assert {path: data} == by_reference(ended, frames)


@given(ends())
def test_a_manifest_reads_back_and_any_json_reader_reads_it(made):
    ended, _ = made
    manifest = manifest_of(ended)
    path, data = encode_manifest(manifest)
    plain = json.loads(data)

    assert encode_manifest(decode_manifest(data, path)) == (path, data)
    assert parse_manifest_path(path) == (manifest.uid, blake3(data).hexdigest()[:16])
    assert data.endswith(b"}\n")
    assert plain["uid"] == reference.uid(ended.params)
    assert ended.params.encode() in data
    assert [*plain["files"]] == sorted(file.name for file in ended.end.files)


def test_members_stand_in_the_order_of_the_page():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    data = encode_manifest(manifest_of(replace(SIMPLE, facts={"a": 1}, inputs=[INPUT])))[1]

    assert [*json.loads(data)] == rows
    assert [*json.loads(encode_manifest(manifest_of(SIMPLE))[1])] == rows[:-2]
    assert [*json.loads(data)["attempt"]] == re.findall(
        r"`(\w+)`",
        next(
            line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `attempt`")
        ),
    )[1:]


RUN = RunRef(f"train/{reference.uid('{}')}")
INPUT = Input("raw", "/far", 7, bytes(32), True, RUN)
SIMPLE = Ended(
    "{}",
    None,
    AttemptId(f"{OTHER}-1"),
    None,
    Done(
        RUN, AttemptId(f"{OTHER}-1"), 5, [File("b", "x", 1, None, False), File("a", "y", 2, bytes(32), True)]
    ),
    Opened(1, WRITER, 0, "mira", None, None, 1, None, "ada", "0", 1, None),
    WRITER,
    3,
    bytes(32),
)


def test_an_attempt_without_its_start_has_nulls():
    plain = json.loads(encode_manifest(manifest_of(SIMPLE))[1])

    assert (plain["mode"], plain["environment"]) == (None, None)
    assert plain["attempt"] == {
        "id": f"{OTHER}-1",
        "writer": WRITER,
        "host": "mira",
        "user": "ada",
        "started": None,
        "ended": 5,
        "claim": None,
        "supersedes": [],
    }
    assert plain["through"] == {"writer": WRITER, "seq": 3, "prefix": "00" * 32}


def test_jq_reads_it(tmp_path):
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    path, data = encode_manifest(manifest_of(SIMPLE))
    (tmp_path / "m.json").write_bytes(data)
    query = "[.status, .files.a.size, .through.seq] | @csv"
    said = subprocess.run(
        ["jq", "-r", query, tmp_path / "m.json"], capture_output=True, check=True, text=True
    )

    assert path == f"manifests/{RUN[6:8]}/{RUN[8:]}-{blake3(data).hexdigest()[:16]}.json"
    assert said.stdout == '"done",2,3\n'


def test_a_summary_is_written_as_canonical_text():
    summary = {"\ufb33": 1, "\U0001f600": 2.0}
    ended = Ended("{}", None, SIMPLE.attempt, None, SIMPLE.end, SIMPLE.opened, WRITER, 3, bytes(32), summary)
    data = encode_manifest(manifest_of(ended))[1]

    assert b'"summary":{"\xf0\x9f\x98\x80":2.0,"\xef\xac\xb3":1}' in data
    frames = [
        (1, reference.pack([["created", RUN, "{}", None, "s"], ["summary", RUN, SIMPLE.attempt, summary]])),
        (3, encode_events([SIMPLE.end])),
    ]
    assert b'"summary":{"\xf0\x9f\x98\x80":2.0' in next(iter(by_reference(ended, frames).values()))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'{"format":1}', b"\xff", b'{"format":"\xff"}', b"[" * 5000]
)
def test_what_is_no_manifest_is_damage(data):
    with pytest.raises(DamagedError) as caught:
        decode_manifest(data, "manifests/00/x.json")

    assert caught.value.path == "manifests/00/x.json"
    assert str(caught.value).startswith("manifests/00/x.json: not a manifest")


@given(st.integers(0, 4000), st.integers(1, 255))
def test_a_manifest_with_another_byte_reads_or_is_damage(at, change):
    data = bytearray(encode_manifest(manifest_of(SIMPLE))[1])
    data[at % len(data)] ^= change
    try:
        decode_manifest(bytes(data), "m")
    except DamagedError as error:
        assert error.path == "m"


def test_a_manifest_with_text_that_is_not_utf_8_is_damage():
    data = encode_manifest(manifest_of(SIMPLE))[1].replace(b'"mira"', b'"mir\xff"')
    with pytest.raises(DamagedError):
        decode_manifest(data, "m")


def vector_manifests() -> list[tuple[str, str, bytes]]:
    found = []
    for path in VECTORS:
        for section in path.read_text(encoding="utf-8").rstrip("\n").split("\n\n"):
            head, _, rest = section.partition("\n")
            if head.startswith("manifest: "):
                found.append((path.stem, head.removeprefix("manifest: "), f"{rest}\n".encode()))
    return found


def test_the_manifests_of_the_vectors_read_and_print_the_same():
    found = vector_manifests()
    got = [(stem, *encode_manifest(decode_manifest(data, path))) for stem, path, data in found]

    assert len(found) > 30
    assert got == found
