"""Events and payloads against the reference's encoder and its table of kinds, and msgpack.

Spec: spec/events.md sections 1 and 2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tracker._model import event as events
from tracker._model.event import (
    KINDS,
    Attached,
    Attachment,
    Batch,
    Captured,
    Created,
    Done,
    Event,
    Failed,
    File,
    Input,
    Interrupted,
    Lost,
    Named,
    Noted,
    Opened,
    Parented,
    Purged,
    Removed,
    Restored,
    Rule,
    Started,
    Summary,
    Tagged,
    Used,
    decode_events,
    decode_opened,
    decode_sealed,
    decode_singly,
    encode_events,
    encode_opened,
    encode_sealed,
)
from tracker._model.names import is_ref
from tracker.errors import DamagedError
from tracker.terms import AttemptId, RunRef, WriterId

PAGE = Path(__file__).resolve().parents[2] / "spec" / "events.md"
RUN = RunRef(f"exp/t/{'0' * 32}")
WRITER = WriterId("01a19b7ca6807000800000000000000a")
ATTEMPT = AttemptId(f"{WRITER}-1")
DIGEST = bytes(range(32))
FILES = [File("f", "exp/f", 7, DIGEST, False), File("é", "/far", 2**40, None, True)]
PLAIN_FILES = [["f", "exp/f", 7, DIGEST, False], ["é", "/far", 2**40, None, True]]

CASES: list[tuple[Event, list[Any]]] = [
    (Created(RUN, '{"lr":0.1}', "1" * 32, "prefix"), ["created", RUN, '{"lr":0.1}', "1" * 32, "prefix"]),
    (Created(RUN, "{}", None, "subfolder"), ["created", RUN, "{}", None, "subfolder"]),
    (
        Started(RUN, 1_793_610_000_000, [ATTEMPT], 3, "prefix", DIGEST),
        ["started", RUN, 1_793_610_000_000, [ATTEMPT], 3, "prefix", DIGEST],
    ),
    (Started(RUN, 0, [], 0, "prefix", None), ["started", RUN, 0, [], 0, "prefix", None]),
    (
        Attached(RUN, ATTEMPT, [Attachment("f", "exp/f", False)]),
        ["attached", RUN, ATTEMPT, [["f", "exp/f", False]]],
    ),
    (
        Summary(RUN, ATTEMPT, {"loss": 0.5, "n": 2**40, "x": [None, True, {"é": "ü"}]}),
        ["summary", RUN, ATTEMPT, {"loss": 0.5, "n": 2**40, "x": [None, True, {"é": "ü"}]}],
    ),
    (
        Captured(RUN, ATTEMPT, {"argv": ["a"], "seeds": {"torch": 1}, "dirty": False}),
        ["captured", RUN, ATTEMPT, {"argv": ["a"], "seeds": {"torch": 1}, "dirty": False}],
    ),
    (
        Used(
            RUN,
            ATTEMPT,
            [Input("raw", "/far", 7, DIGEST, True, None), Input("m", "f", None, None, False, RUN)],
        ),
        ["used", RUN, ATTEMPT, [["raw", "/far", 7, DIGEST, True, None], ["m", "f", None, None, False, RUN]]],
    ),
    (Named(RUN, "größte"), ["named", RUN, "größte"]),
    (Named(RUN, None), ["named", RUN, None]),
    (Parented(RUN, RUN), ["parented", RUN, RUN]),
    (Parented(RUN, None), ["parented", RUN, None]),
    (Done(RUN, ATTEMPT, 5, FILES), ["done", RUN, ATTEMPT, 5, PLAIN_FILES]),
    (
        Failed(RUN, ATTEMPT, -5, FILES, "ValueError", "no\n", DIGEST),
        ["failed", RUN, ATTEMPT, -5, PLAIN_FILES, "ValueError", "no\n", DIGEST],
    ),
    (
        Failed(RUN, ATTEMPT, 5, [], "", "", None),
        ["failed", RUN, ATTEMPT, 5, [], "", "", None],
    ),
    (
        Interrupted(RUN, ATTEMPT, 5, FILES, "SIGTERM", 2),
        ["interrupted", RUN, ATTEMPT, 5, PLAIN_FILES, "SIGTERM", 2],
    ),
    (Interrupted(RUN, ATTEMPT, 5, [], None, 0), ["interrupted", RUN, ATTEMPT, 5, [], None, 0]),
    (Lost(RUN, ATTEMPT, 5, "gone"), ["lost", RUN, ATTEMPT, 5, "gone"]),
    (Tagged(RUN, ["a", "b"], ["c"]), ["tagged", RUN, ["a", "b"], ["c"]]),
    (Noted(RUN, "x" * 300), ["noted", RUN, "x" * 300]),
    (Removed(RUN, "old"), ["removed", RUN, "old"]),
    (Restored(RUN, ""), ["restored", RUN, ""]),
    (Purged(RUN, [DIGEST]), ["purged", RUN, [DIGEST]]),
    (Rule("ignore", "loader.workers", None), ["rule", "ignore", "loader.workers", None]),
    (Rule("absent", "ema", "false"), ["rule", "absent", "ema", "false"]),
]
IDS = [f"{number}-{plain[0]}" for number, (_, plain) in enumerate(CASES)]


def test_every_kind_of_the_page_is_in_the_table():
    rows = re.findall(r"^\| (`\w+`(?: · `\w+`)?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    on_page = {tag for row in rows for tag in re.findall(r"`(\w+)`", row)}
    moves = {"done", "failed", "interrupted", "lost"}

    assert on_page | moves == {plain[0] for _, plain in CASES} == KINDS == set(reference.KINDS)


@pytest.mark.parametrize(("event", "plain"), CASES, ids=IDS)
def test_an_event_is_the_array_that_the_page_says(event, plain):
    payload = encode_events([event])

    assert payload == reference.pack([plain])
    assert msgpack.unpackb(payload, strict_map_key=False) == [plain]
    assert decode_events(payload) == [event]
    assert decode_singly(memoryview(payload)) == [event]
    assert reference.KINDS[plain[0]](plain[1:])


def test_events_of_a_frame_keep_their_order():
    payload = encode_events([event for event, _ in CASES])

    assert payload == reference.pack([plain for _, plain in CASES])
    assert decode_events(payload) == [event for event, _ in CASES]


@pytest.mark.parametrize(("event", "plain"), CASES, ids=IDS)
def test_fields_beyond_those_known_are_skipped(event, plain):
    def longer(value: Any) -> Any:
        """Longer arrays where the page has arrays of fixed fields."""
        if isinstance(value, list) and value and isinstance(value[0], list):
            return [[*item, "new", 5] for item in value]
        return value

    wide = [longer(value) for value in plain] + [{"new": [1]}, None]

    assert decode_events(reference.pack([wide])) == [event]
    assert reference.KINDS[plain[0]](wide[1:])


def test_unknown_and_broken_events_cost_only_themselves():
    odd = [["new", RUN, 5], ["done", RUN], 5, [], [None], {"a": 1}, ["noted", RUN, 5], "noted"]
    payload = reference.pack([CASES[0][1], *odd, CASES[1][1]])
    kinds = [None if found is None else type(found) for found in decode_singly(payload)]

    assert [event for event in decode_events(payload) if event] == [CASES[0][0], CASES[1][0]]
    assert kinds == [Created, None, str, str, str, str, str, str, str, Created]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x90", b"\xc0", b"\x05", b"\x80", b"\x91", b"\x91\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000],
)
def test_a_payload_that_is_no_array_of_events_has_none(payload):
    assert not any(decode_events(payload))
    assert all(isinstance(found, str) for found in decode_singly(payload))
    assert decode_singly(payload)


# Fields: the package takes what the reference takes

VALUES: list[Any] = [
    *(None, True, 0, -1, 2**63, 1.0, "", "x", b"", b"x", DIGEST, [], {}),
    *(RUN, f"t/{'F' * 32}", f"/t/{'0' * 32}", f"t//{'0' * 32}", "0" * 32, f"t/{'0' * 31}", f"t/{'0' * 33}"),
    *(f"../t/{'0' * 32}", f"./t/{'0' * 32}", f"a/../{'0' * 32}", f"a\0/{'0' * 32}", f"t/{'0' * 32}\n"),
    *([1], ["x"], [None], [DIGEST], [b"x"], [[]], [["f"]], [True]),
    *([["f", "p", False]], [["f", "p", 0]], [["f", None, False]], [[1, "p", True]]),
    *([["f", "p", 1, None, False]], [["f", "p", 1, DIGEST, True]], [["f", "p", 1, b"x", True]]),
    *([["f", "p", None, None, False]], [["f", "p", 1.0, None, False]], [["f", "p", True, None, False]]),
    *({"a": 1}, {"a": b"x"}, {"a": [1.5, {"b": None}]}, {1: 2}, {"a": {1: 2}}, {"a": [b"x"]}, {"a": 2**63}),
]


def takes(plain: list[Any]) -> bool:
    (found,) = decode_singly(reference.pack([plain]))
    return isinstance(found, events._Event) and (isinstance(found, Rule) or is_ref(found.run))


SUBSTITUTES = [
    (plain, at, value)
    for (_, plain) in CASES
    for at in range(1, len(plain))
    for value in [*VALUES, *([plain[at]] if plain[at] not in VALUES else [])]
]


def test_a_field_of_another_type_breaks_an_event_here_and_for_the_reference():
    differing = []
    for plain, at, value in SUBSTITUTES:
        changed = [*plain[:at], value, *plain[at + 1 :]]
        if takes(changed) != reference.KINDS[plain[0]](changed[1:]):
            differing.append(changed)

    assert len(SUBSTITUTES) > 3000
    assert differing == []


def test_an_event_cut_short_breaks_here_and_for_the_reference():
    for _, plain in CASES:
        for size in range(len(plain)):
            if size:
                assert not takes(plain[:size]), plain[:size]
                assert not reference.KINDS[plain[0]](plain[1:size])


def test_a_digest_has_32_bytes():
    for plain in (
        ["started", RUN, 0, [], 0, "prefix", b"x"],
        ["failed", RUN, ATTEMPT, 5, [], "", "", b"x"],
        ["done", RUN, ATTEMPT, 5, [["f", "p", 1, b"x", True]]],
        ["purged", RUN, [b"x"]],
    ):
        assert not takes(plain), plain
    assert takes(["purged", RUN, [None]])


def test_a_file_that_was_not_there_is_sealed_without_a_size():
    plain = ["done", RUN, ATTEMPT, 5, [["f", "p", None, None, False]]]
    assert takes(plain)
    assert reference.KINDS["done"](plain[1:])


def test_a_summary_holds_what_json_holds():
    for values in ({"a": b"x"}, {"a": {1: 2}}, {"a": [b"x"]}):
        assert not takes(["summary", RUN, ATTEMPT, values]), values


def test_the_same_texts_are_refs():
    refs = [value for value in VALUES if isinstance(value, str)]
    assert [ref for ref in refs if is_ref(ref)] == [ref for ref in refs if reference.is_ref(ref)]


@pytest.mark.parametrize(
    "payload",
    [
        reference.pack([["noted", RUN, "ab"]])[:-2] + b"\xff\xfe",
        b"\x91\x93\xa5note\xff" + reference.pack(RUN) + b"\xa1x",
        reference.pack([["created", RUN, "ab", None, "prefix"]]).replace(b"\xa2ab", b"\xa2\xff\xfe"),
    ],
)
def test_text_that_is_not_utf_8_breaks_only_its_event(payload):
    assert not any(decode_events(payload))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=6), st.sampled_from(sorted(KINDS)), st.integers(0, 6))
def test_made_up_fields_are_judged_as_the_reference_judges_them(fields, tag, at):
    valid = next(plain for _, plain in CASES if plain[0] == tag)
    plain = [tag, *valid[1 : 1 + at], *fields]
    known = any(
        isinstance(value, list)
        and value
        and isinstance(value[0], list)
        and len(value[0]) > 2
        and value[0][2] is None
        for value in plain
    )
    if not known:
        assert takes(plain) == reference.KINDS[tag](plain[1:])


@given(st.lists(st.one_of(*(st.just(event) for event, _ in CASES)), min_size=1, max_size=5), st.data())
def test_noise_never_raises(written, data):
    payload = bytearray(encode_events(written))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))
    found, events_there = decode_singly(bytes(payload)), decode_events(bytes(payload))

    assert events_there == [one if isinstance(one, events._Event) else None for one in found]


# OPEN and SEAL

OPENED = Opened(
    format=1,
    writer=WRITER,
    segment=2,
    host="mira",
    boot="5c1d2a52",
    pidns=4026531836,
    pid=4711,
    pid_start=98765,
    user="ada",
    version="0.1.0",
    time=1_793_610_000_000,
    previous=None,
)
PLAIN_OPENED = {name: getattr(OPENED, name) for name in OPENED.__struct_fields__ if name != "batch"}
BATCH = {"system": "slurm", "job": "7_3", "array": "7", "task": "3", "restarts": 1}


def test_open_is_the_map_that_the_page_says():
    payload = encode_opened(OPENED)

    assert payload == reference.pack(PLAIN_OPENED)
    assert decode_opened(payload) == OPENED
    assert decode_opened(reference.pack({"new": [1], **PLAIN_OPENED, "newer": None})) == OPENED


def test_open_names_the_batch_job_where_there_is_one():
    opened = replace(OPENED, batch=Batch(**BATCH))

    assert encode_opened(opened) == reference.pack({**PLAIN_OPENED, "batch": BATCH})
    assert decode_opened(reference.pack({**PLAIN_OPENED, "batch": BATCH | {"newer": 1}})) == opened
    assert decode_opened(reference.pack({**PLAIN_OPENED, "batch": None})) == OPENED


@pytest.mark.parametrize("name", PLAIN_OPENED)
def test_open_without_a_field_or_with_one_of_another_type_is_damage(name):
    without = {key: value for key, value in PLAIN_OPENED.items() if key != name}
    for payload in (without, PLAIN_OPENED | {name: [1]}):
        with pytest.raises(DamagedError, match="OPEN payload") as caught:
            decode_opened(reference.pack(payload), "2026-11/x.open")
        assert caught.value.path == "2026-11/x.open"
        assert caught.value.spec == "spec/log.md section 3"


def test_open_with_text_that_is_not_utf_8_is_damage():
    payload = reference.pack(PLAIN_OPENED).replace(b"\xa4mira", b"\xa4mir\xff")
    with pytest.raises(DamagedError):
        decode_opened(payload)


def test_seal_is_the_map_that_the_page_says():
    payload = encode_sealed(5)

    assert payload == reference.pack({"frames": 5})
    assert decode_sealed(payload).frames == 5
    with pytest.raises(DamagedError, match="SEAL payload"):
        decode_sealed(b"\x90")
