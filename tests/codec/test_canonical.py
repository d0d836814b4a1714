"""Form 1 is what spec/canonical.md says, whoever is asked: vectors, node, b3sum, rfc8785, the reference."""

from __future__ import annotations

import datetime
import decimal
import enum
import importlib.util
import json
import math
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracker._codec import canonical as canonical_room
from tracker._codec.canonical import (
    MAX_BYTES,
    canonical,
    canonical_with_repeat,
    is_canonical,
    key_of,
    parse,
    twin_key,
    without_repeat,
)
from tracker._codec.digest import digest, uid_of
from tracker._codec.values import plain
from tracker.errors import ParamsError

SPEC = Path(__file__).parents[2] / "spec"
VECTORS: dict[str, Any] = json.loads((SPEC / "vectors" / "canonical.json").read_text("utf-8"))
TOKEN = "0123456789abcdef"


class Opt(enum.StrEnum):
    ADAM = "adam"


class Pairs(Mapping[str, Any]):
    """A JSON object as it is written: members that occur twice are met twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs

    def items(self) -> Any:
        return self.pairs

    def __getitem__(self, key: str) -> Any:
        return dict(self.pairs)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)


def nested_lists(count: int) -> list[Any]:
    box: list[Any] = []
    for _ in range(count - 1):
        box = [box]
    return box


def cycle() -> list[Any]:
    box: list[Any] = []
    box.append(box)
    return box


NAMES = {
    "Opt": Opt,
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
    "cycle": cycle,
    "datetime": datetime,
    "decimal": decimal,
    "nested_lists": nested_lists,
}


def evaluate(expression: str) -> Any:
    """Give the value of a vector's Python expression."""
    names: dict[str, Any] = dict(NAMES)
    if "np." in expression:
        names["np"] = pytest.importorskip("numpy")
    return eval(expression, names)


def cases(name: str, column: str) -> Any:
    found = VECTORS[name]
    assert found, f"no vectors under {name}"
    return pytest.mark.parametrize("case", found, ids=[str(case[column])[:40] for case in found])


@cases("texts", "input")
def test_a_text_vector_has_its_canonical_text_and_digest(case: dict[str, str]) -> None:
    text = canonical(json.loads(case["input"]))

    assert (text.decode(), digest(text)) == (case["canonical"], case["blake3"])


@cases("texts", "input")
def test_a_text_vector_is_the_same_without_the_fast_path(case: dict[str, str]) -> None:
    assert canonical_room._format(plain(json.loads(case["input"]))) == case["canonical"]


@cases("texts", "canonical")
def test_the_text_of_a_vector_is_canonical(case: dict[str, str]) -> None:
    assert is_canonical(case["canonical"].encode())


@cases("python", "input")
def test_a_python_vector_has_its_canonical_text_and_digest(case: dict[str, str]) -> None:
    text = canonical(evaluate(case["input"]))

    assert (text.decode(), digest(text)) == (case["canonical"], case["blake3"])


@cases("repeats", "canonical")
def test_a_repeat_vector_goes_both_ways(case: dict[str, Any]) -> None:
    bare = case["params"].encode()
    text = canonical_with_repeat(bare, case["token"])

    assert (text.decode(), digest(text)) == (case["canonical"], case["blake3"])
    assert (without_repeat(text), key_of(text)) == (bare, case["key"])


@cases("twins", "a")
def test_a_twin_vector_shares_its_rfc_8785_form(case: dict[str, str]) -> None:
    a, b = case["a"].encode(), case["b"].encode()

    assert is_canonical(a) and is_canonical(b)
    assert twin_key(a) == twin_key(b) == case["rfc8785"].encode()


@cases("refused_texts", "input")
def test_a_refused_text_vector_is_refused(case: dict[str, str]) -> None:
    with pytest.raises(ParamsError):
        canonical(json.loads(case["input"], object_pairs_hook=Pairs))


@cases("refused_python", "input")
def test_a_refused_python_vector_is_refused(case: dict[str, str]) -> None:
    with pytest.raises(ParamsError):
        canonical(evaluate(case["input"]))


@cases("not_canonical", "text")
def test_a_file_vector_that_is_not_canonical_is_refused(case: dict[str, str]) -> None:
    with pytest.raises(ParamsError, match=r"^params\.json: not in canonical form 1: "):
        parse(case["text"].encode())
    assert not is_canonical(case["text"].encode())


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_b3sum_prints_the_digests_of_the_vectors(tmp_path: Path) -> None:
    vectors = VECTORS["texts"] + VECTORS["python"] + VECTORS["repeats"]
    paths = [tmp_path / f"{number}.json" for number in range(len(vectors))]
    for path, case in zip(paths, vectors, strict=True):
        path.write_bytes(case["canonical"].encode())

    printed = subprocess.run(["b3sum", "--no-names", *paths], capture_output=True, check=True, text=True)
    short = subprocess.run(["b3sum", "-l", "16", "--no-names", *paths], capture_output=True, text=True)

    assert printed.stdout.split() == [case["blake3"] for case in vectors]
    assert short.stdout.split() == [uid_of(case["canonical"].encode()) for case in vectors]


EDGE_FLOATS = [
    0.0, -0.0, 1.0, -1.0, 1e-4, 1e-5, 1.5e-5, 1e-6, 9.999999999999997e-7, 1e-7, 1e-8, 1e-65, 1e15, 1e16, 1e20,
    1e21, 1e22, 1e23, 5e-324, 2.0**-1022, 1.7976931348623157e308, 2.0**53, 2.0**63, 0.1 + 0.2, 2.0**-44,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
EDGE_STRINGS = [
    "",
    "@",
    "1e5",
    "null",
    "-0.0",
    "0e-6",
    '"',
    "\\",
    "\x00\x1f\x7f",
    "é",
    "\ue000",
    "\uffff",
    "😀",
]

strings = st.sampled_from(EDGE_STRINGS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
integers = (
    st.integers() | st.integers(-(2**64), 2**64) | st.sampled_from([2**53, 2**4096 - 1, -(2**4096) + 1])
)
floats = st.sampled_from(EDGE_FLOATS) | st.floats() | st.integers(0, 2**70).map(float)
scalars = st.none() | st.booleans() | integers | floats | strings


def containers(items: Any) -> Any:
    return st.lists(items, max_size=4) | st.dictionaries(strings, items, max_size=4)


trees = st.dictionaries(
    strings.filter(lambda key: not key.startswith("@")),
    st.recursive(scalars, containers, max_leaves=12),
    max_size=5,
)


def reference() -> Any:
    module = importlib.util.spec_from_file_location("tracker_reference", SPEC / "reference.py")
    assert module is not None and module.loader is not None
    loaded = importlib.util.module_from_spec(module)
    sys.modules[module.name] = loaded  # its dataclasses look themselves up
    module.loader.exec_module(loaded)
    return loaded


REFERENCE = reference()


@settings(max_examples=500)
@given(trees)
def test_the_fast_path_writes_what_the_rules_write(tree: dict[str, Any]) -> None:
    assert canonical(tree) == canonical_room._format(plain(tree)).encode()


@settings(max_examples=500)
@given(trees)
def test_the_reference_writes_the_same(tree: dict[str, Any]) -> None:
    assert canonical(tree) == REFERENCE.canonical_bytes(tree)


@settings(max_examples=200)
@given(st.lists(floats, max_size=30))
def test_the_fast_path_writes_floats_as_the_rules_do(numbers: list[float]) -> None:
    for number in numbers:
        text = canonical_room._encode_plainly({"x": number})

        assert text in (None, b'{"x":%b}' % canonical_room._format_float(number).encode())


def test_plain_params_take_the_fast_path() -> None:
    params = {
        "lr": 3e-4,
        "eps": 1e-8,
        "opt": {"betas": [0.9, 0.999]},
        "name": "é",
        "amp": True,
        "sched": None,
    }

    assert canonical_room._encode_plainly(params) == canonical(params)


@settings(max_examples=300)
@given(trees)
def test_rfc8785_writes_the_same_without_whole_floats_and_big_integers(tree: dict[str, Any]) -> None:
    rfc8785 = pytest.importorskip("rfc8785")

    def is_shared(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(is_shared, value.values()))
        if isinstance(value, list):
            return all(map(is_shared, value))
        if type(value) is float:
            return math.isfinite(value) and (not value.is_integer() or abs(value) >= 1e21)
        return type(value) is not int or abs(value) < 2**53

    if is_shared(tree):
        assert canonical(tree) == rfc8785.dumps(tree)


NODE = """
const lines = require("fs").readFileSync(0, "utf8").trim().split("\\n");
const view = new DataView(new ArrayBuffer(8));
for (const line of lines) {
  view.setBigUint64(0, BigInt("0x" + line));
  console.log(String(view.getFloat64(0)));
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_writes_the_same_digits_for_every_finite_float() -> None:
    random_bits = random.Random(8785)
    numbers = [number for number in EDGE_FLOATS if math.isfinite(number) and number != 0]
    numbers += [2.0**power * factor for power in range(-1074, 1023) for factor in (1, -1)]
    numbers += [float(10**power) for power in range(309)] + [10.0**-power for power in range(324)]
    numbers += [random_bits.uniform(-1, 1) * 10 ** random_bits.uniform(-8, 24) for _ in range(20_000)]
    bits = [struct.unpack(">d", random_bits.randbytes(8))[0] for _ in range(20_000)]
    numbers += [number for number in bits if math.isfinite(number)]
    asked = "\n".join(struct.pack(">d", number).hex() for number in numbers)

    answer = subprocess.run(["node", "-e", NODE], input=asked, capture_output=True, check=True, text=True)

    want = [text if "." in text or "e" in text else f"{text}.0" for text in answer.stdout.split()]
    assert [canonical({"x": number})[5:-1].decode() for number in numbers] == want


def test_params_that_differ_only_in_type_have_different_texts() -> None:
    texts = {canonical({"lr": value}) for value in (1, 1.0, True, "1", "1.0", None, "null", [1])}

    assert len(texts) == 8


def test_the_order_of_members_does_not_count() -> None:
    assert canonical({"a": {"x": 1, "y": 2}, "b": 3}) == canonical({"b": 3, "a": {"y": 2, "x": 1}})


def test_minus_zero_is_zero() -> None:
    assert canonical({"x": -0.0}) == canonical({"x": 0.0}) == b'{"x":0.0}'


def test_a_reserved_key_is_refused_at_the_root_and_accepted_below() -> None:
    with pytest.raises(ParamsError) as caught:
        canonical({"@repeat": 1})

    assert str(caught.value) == "params: the key '@repeat' is reserved, as is any that begins with '@'"
    assert canonical({"a": {"@repeat": 1}, "b@": "@x"}) == b'{"a":{"@repeat":1},"b@":"@x"}'


def test_32_nested_containers_are_written_and_33_refused() -> None:
    assert canonical({"x": nested_lists(31)}).count(b"[") == 31
    with pytest.raises(ParamsError, match=r"\[0\]: more than 32 nested containers; is there a cycle\?$"):
        canonical({"x": nested_lists(32)})


def test_a_cycle_ends_at_the_limit_of_depth() -> None:
    params: dict[str, Any] = {"lr": 0.1}
    params["me"] = params
    with pytest.raises(ParamsError, match="more than 32 nested containers; is there a cycle") as caught:
        canonical(params)

    assert caught.value.path == "params" + "['me']" * 32


def test_100_000_values_are_written_and_one_more_refused() -> None:
    assert len(parse(canonical({"x": [0] * 99_998}))["x"]) == 99_998
    with pytest.raises(ParamsError) as caught:
        canonical({"x": [0] * 99_999})

    assert caught.value.path == "params['x'][99998]"
    assert caught.value.why == "more than 100,000 values; put big data in a file and its hash in params"


def test_values_are_counted_as_written_so_a_billion_laughs_are_refused() -> None:
    laugh: Any = ["ha"]
    for _ in range(29):
        laugh = [laugh, laugh]
    with pytest.raises(ParamsError, match="more than 100,000 values"):
        canonical({"x": laugh})


def test_an_integer_of_4096_bits_is_written_and_one_more_refused() -> None:
    for number in (2**4096 - 1, -(2**4096) + 1):
        assert canonical({"x": number}) == b'{"x":%d}' % number
    for number in (2**4096, -(2**4096), 10**5000):
        with pytest.raises(ParamsError) as caught:
            canonical({"x": number})
        assert (
            str(caught.value)
            == "params['x']: an integer of more than 4096 bits; pass a string, or a hash of it"
        )


def test_a_text_of_1_mib_is_written_and_one_more_byte_refused() -> None:
    assert len(canonical({"x": "a" * (MAX_BYTES - 8)})) == MAX_BYTES
    with pytest.raises(ParamsError) as caught:
        canonical({"x": "a" * (MAX_BYTES - 7)})

    assert str(caught.value) == (
        "params: 1,048,577 bytes of text; at most 1,048,576; put big data in a file and its hash in params"
    )


@pytest.mark.parametrize(
    "text",
    [
        b'{"x":' + b"[" * 32 + b"]" * 32 + b"}",
        b'{"x":[' + b"0," * 99_998 + b"0]}",
        b'{"x":%d}' % 2**4096,
        b'{"x":"' + b"a" * (MAX_BYTES - 7) + b'"}',
        b"[" * 1_000_000,
        b'{"x":' + b"1" * 1_000_000 + b"}",
    ],
    ids=["depth", "values", "bits", "bytes", "brackets", "digits"],
)
def test_a_file_past_a_limit_is_refused(text: bytes) -> None:
    with pytest.raises(ParamsError, match=r"^params\.json: not in canonical form 1: "):
        parse(text)


def typed(value: Any) -> Any:
    """Give a value that is equal only to a value of the same types; NaN and the infinities as words."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if type(value) is float and not math.isfinite(value):
        return (str, {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)])
    return (type(value), value)


@settings(max_examples=300)
@given(trees)
def test_what_is_written_parses_to_the_same_values_and_types(tree: dict[str, Any]) -> None:
    text = canonical(tree)

    assert typed(parse(text)) == typed(tree)
    assert canonical(parse(text)) == text


@settings(max_examples=500)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xff")
@example(b'{"\xed\xa0\x80":1}')
@example(b'{"a":1e999999999}')
def test_arbitrary_bytes_are_a_value_or_a_params_error(data: bytes) -> None:
    try:
        tree = parse(data)
    except ParamsError:
        assert not REFERENCE.is_canonical(data)
    else:
        assert canonical_room._format(tree).encode() == data


@settings(max_examples=300)
@given(trees, st.data())
def test_a_canonical_text_with_one_byte_changed_is_judged_as_the_reference_judges(
    tree: dict[str, Any], data: st.DataObject
) -> None:
    text = bytearray(canonical(tree))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(
        st.sampled_from(b'0123456789.eE+-"\\,:[]{} n\x00\xff')
    )

    assert is_canonical(bytes(text)) == REFERENCE.is_canonical(bytes(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a":1}\n', "these bytes end in a newline"),
        (b'{"a":1}\r\n', "these bytes end in a newline"),
        (b"\xef\xbb\xbf{}", "these bytes begin with a byte order mark"),
        (b'{"a":1e5}', "from byte 6 on it has b'e5}' where form 1 has b'00000.0}'"),
        (b'{"a":1,"a":2}', "from byte 5 on it has b'1,\"a\":2}' where form 1 has b'2}'"),
        (b'{"a":1} ', "from byte 7 on it has b' ' where form 1 has b''"),
        (b"[]", "the root is not an object"),
        (b"[" * 5000, "more than 32 nested containers"),
    ],
)
def test_the_refusal_of_a_file_says_what_is_wrong(text: bytes, why: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(text)

    assert str(caught.value) == f"params.json: not in canonical form 1: {why}"


@settings(max_examples=200)
@given(trees, st.text("0123456789abcdef", min_size=16, max_size=16))
def test_a_repeat_adds_one_member_and_gives_back_the_bare_text(tree: dict[str, Any], token: str) -> None:
    bare = canonical(tree)
    repeat = canonical_with_repeat(bare, token)

    assert parse(repeat) == parse(bare) | {"@repeat": token}
    assert is_canonical(repeat)
    assert without_repeat(repeat) == bare
    assert key_of(repeat) == (uid_of(bare) if tree else None)


def test_a_text_that_is_no_repeat_has_nothing_to_take_out() -> None:
    bare = canonical({"a": {"@repeat": TOKEN}, "b": '"@repeat":'})

    assert without_repeat(bare) is None
    assert key_of(bare) == uid_of(bare)


def test_a_repeat_is_not_repeated_and_its_token_is_16_hex_digits() -> None:
    with pytest.raises(ValueError, match="the params have the member '@repeat' already"):
        canonical_with_repeat(canonical_with_repeat(b"{}", TOKEN), TOKEN)
    for token in ("", TOKEN.upper(), TOKEN + "0", TOKEN + "\n"):
        with pytest.raises(ValueError, match="a repeat token is 16 lower-case hex digits"):
            canonical_with_repeat(b"{}", token)


def test_a_repeat_past_the_limit_of_bytes_is_refused() -> None:
    with pytest.raises(ParamsError, match="at most 1,048,576"):
        canonical_with_repeat(canonical({"x": "a" * (MAX_BYTES - 8)}), TOKEN)


@settings(max_examples=300)
@given(trees)
def test_the_twin_key_is_the_rfc_8785_form_of_every_number_as_a_double(tree: dict[str, Any]) -> None:
    rfc8785 = pytest.importorskip("rfc8785")

    def as_doubles(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_doubles(item) for key, item in value.items()}
        if isinstance(value, list):
            return [as_doubles(item) for item in value]
        if type(value) is int:
            return float(value)
        return value

    text = canonical(tree)
    if not re.search(rb"[0-9]{300}", text):
        assert twin_key(text) == rfc8785.dumps(as_doubles(parse(text)))


def test_strings_that_look_like_numbers_are_not_touched_by_the_twin_key() -> None:
    text = canonical({"a": "1.0,2.0]", "b\\": '"1.0}', "c": 9007199254740993})

    assert twin_key(text) == text.replace(b"0993}", b"0992}")


def test_an_integer_that_no_double_reaches_has_no_twin() -> None:
    number = 2**1024

    assert twin_key(canonical({"x": number})) == b'{"x":%d}' % number
    assert twin_key(canonical({"x": number})) != twin_key(canonical({"x": number + 1}))
