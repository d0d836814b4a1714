"""Anything at all as a file of a store: every question gets a value or a TrackerError, in time.

Bytes from nowhere, real files with bytes changed, and, behind checksums that are right, payloads and JSON
with other values. The state is the reference's. Spec: spec/log.md section 4; spec/layout.md section 2;
spec/claims.md section 4.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.fuzz.asking import complaints
from tools.fuzz.store import (
    KINDS,
    Files,
    holder_with,
    make_store,
    names_of,
    payloads_of,
    with_file,
    with_payload,
    write_out,
)
from tracker.check import Level, verify
from tracker.ledger import Ledger

EXAMPLES = int(10 * float(os.environ.get("TRACKER_STORM", "1")))
SEGMENTS = ("seg", "part", "open")

pytestmark = [
    pytest.mark.storm,
    pytest.mark.unchecked_store(reason="holds anything at all, and is judged here"),
]

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,  # each question has its own
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_numbers = itertools.count()

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(-99, 99), inner, max_size=4)
    ),
    max_leaves=12,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_store(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files, str], None]:
    """Write a store out, ask, and remove it."""
    monkeypatch.setenv("TRACKER_CACHE", os.devnull)

    def judged(store: Files, kind: str) -> None:
        root = tmp_path / str(next(_numbers))
        write_out(store, root)
        found = complaints(root, kind)
        assert not found, "\n".join(found)
        shutil.rmtree(root)

    return judged


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some of them turned over, cut out, doubled, or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 64)))
        put = draw(st.sampled_from([b"", bytes(end - start), data[start:end] * 2]) | st.binary(max_size=64))
        data = data[:start] + put + data[end:]
    return data


@st.composite
def with_another_value(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any]) -> Any:
    """A tree of lists and maps with a value somewhere in it replaced, dropped or added."""
    if draw(st.integers(0, 3)) == 0:
        return draw(others)
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        inner = draw(with_another_value(value[at], others))
        return [*value[:at], *draw(st.sampled_from([[inner], [], [inner, inner]])), *value[at + 1 :]]
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value, key=str)))
        rest = {name: item for name, item in value.items() if name != key}
        return draw(st.sampled_from([rest, rest | {key: draw(with_another_value(value[key], others))}]))
    return draw(others)


@bounded
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes(kind, files, judge, data):
    name = data.draw(st.sampled_from(names_of(files, kind)))
    found = data.draw(st.binary(max_size=400))

    judge(with_file(files, name, found, is_renamed=data.draw(st.booleans())), kind)


@bounded
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_file_with_bytes_changed(kind, files, judge, data):
    name = data.draw(st.sampled_from(names_of(files, kind)))
    found = data.draw(changed(files[name]))

    judge(with_file(files, name, found, is_renamed=data.draw(st.booleans())), kind)


@bounded
@given(st.data())
@pytest.mark.parametrize("kind", SEGMENTS)
def test_any_payload_behind_right_checksums(kind, files, judge, data):
    name = data.draw(st.sampled_from(names_of(files, kind)))
    index = data.draw(st.integers(0, len(payloads_of(files[name])) - 1))
    payload = data.draw(st.binary(max_size=200) | changed(payloads_of(files[name])[index]))
    type_ = data.draw(st.none() | st.integers(1, 255))
    found = with_payload(files[name], index, payload, type_=type_)

    judge(with_file(files, name, found, is_renamed=True), kind)


@bounded
@given(st.data())
@pytest.mark.parametrize("kind", SEGMENTS)
def test_events_with_other_values(kind, files, judge, data):
    """By the reference's own packer: msgpack that reads, and says anything."""
    name = data.draw(st.sampled_from(names_of(files, kind)))
    payloads = payloads_of(files[name])
    index = data.draw(st.integers(0, len(payloads) - 1))
    value = data.draw(with_another_value(reference.unpack(payloads[index]), values))
    found = with_payload(files[name], index, reference.pack(value))

    judge(with_file(files, name, found, is_renamed=True), kind)


@bounded
@given(st.data())
@pytest.mark.parametrize("kind", ["manifest", "params"])
def test_json_with_other_values(kind, files, judge, data):
    name = data.draw(st.sampled_from(names_of(files, kind)))
    value = data.draw(with_another_value(json.loads(files[name]), json_values))
    found = json.dumps(value).encode() + data.draw(st.sampled_from([b"", b"\n"]))

    judge(with_file(files, name, found, is_renamed=data.draw(st.booleans())), kind)


@bounded
@given(st.data())
@pytest.mark.parametrize("kind", ["claim", "holder"])
def test_holders_that_say_anything(kind, files, judge, data):
    name = data.draw(st.sampled_from(names_of(files, kind)))
    known = sorted(json.loads(files[name]))
    members = data.draw(st.dictionaries(st.sampled_from(known), json_values, min_size=1, max_size=3))

    judge(with_file(files, name, holder_with(files, members), is_renamed=False), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"params":['])
def test_what_is_nested_very_deep(kind, opening, files, judge):
    name = names_of(files, kind)[0]

    judge(with_file(files, name, opening * 100_000, is_renamed=True), kind)


@pytest.mark.parametrize("kind", SEGMENTS)
def test_a_payload_that_is_nested_very_deep(kind, files, judge):
    name = names_of(files, kind)[0]
    for payload in (b"\x91" * 100_000, b"\x91" * 100_000 + b"\xc0", b"\x81\xa1a" * 50_000 + b"\xc0"):
        for index in range(2):
            found = with_payload(files[name], index, payload)
            judge(with_file(files, name, found, is_renamed=True), kind)


def test_the_store_as_it_was_made_gives_no_complaint(files, judge):
    judge(files, "claim")


def test_an_open_that_names_another_writer_and_lacks_a_member_is_read_alike(files, tmp_path, state_of):
    """Its events belong to the writer that it names, or to that of the file name: by both readers."""
    name = names_of(files, "seg")[0]
    opened = reference.unpack(payloads_of(files[name])[0])
    del opened["version"]
    data = with_payload(files[name], 0, reference.pack(opened | {"writer": "0" * 32}))
    write_out(with_file(files, name, data, is_renamed=True), tmp_path / "root")

    assert state_of(tmp_path / "root") == reference.read_store(tmp_path / "root")


def test_text_that_is_no_utf8_costs_the_same_events_by_both_readers(files, tmp_path, state_of):
    name = next(name for name in names_of(files, "seg") if b"created" in files[name])
    index = next(i for i, payload in enumerate(payloads_of(files[name])) if b"created" in payload)
    data = with_payload(
        files[name], index, payloads_of(files[name])[index].replace(b"created", b"creat\xffd")
    )
    write_out(with_file(files, name, data, is_renamed=True), tmp_path / "root")

    assert state_of(tmp_path / "root") == reference.read_store(tmp_path / "root")


def test_a_recorded_path_with_a_nul_is_a_finding(files, tmp_path):
    name = next(name for name in names_of(files, "seg") if b"train_model.pt" in files[name])
    payloads = payloads_of(files[name])
    index = next(i for i, payload in enumerate(payloads) if b"done" in payload and b"train_model" in payload)
    data = with_payload(files[name], index, payloads[index].replace(b"train_model.pt", b"train\0model.pt"))
    write_out(with_file(files, name, data, is_renamed=True), tmp_path / "root")

    assert verify(Ledger(tmp_path / "root"), Level.FULL).findings
