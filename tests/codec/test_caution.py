"""Each of the five warnings: found, told with its path, value and cure, and changing no byte."""

from __future__ import annotations

import warnings
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker._codec import caution
from tracker._codec.canonical import canonical, canonical_with_repeat, parse
from tracker._codec.caution import find_twin_warning, find_warnings, warn_about
from tracker.errors import ParamsWarning

ABSOLUTE = "is an absolute path, which ties the uid to one machine; pass a relative path, or a name"
NOT_NFC = (
    "is not NFC: the same letters typed elsewhere give another uid; pass unicodedata.normalize('NFC', x)"
)
ROUNDED = "is beyond 2^53-1: JavaScript, R, Go and jq 1.6 show it rounded; pass a smaller one, or a string"


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        ("1e-4", "'1e-4' is a string that reads as a number; PyYAML reads 1e-4 as text; write 1.0e-4"),
        ("-1E5", "'-1E5' is a string that reads as a number; PyYAML reads -1E5 as text; write -1.0e5"),
        ("1.0e4", "'1.0e4' is a string that reads as a number; pass the number itself if one is meant"),
        ("+.5", "'+.5' is a string that reads as a number; pass the number itself if one is meant"),
        ("1_000", "'1_000' is a string that reads as a number; pass the number itself if one is meant"),
        (2**53, f"9007199254740992 {ROUNDED}"),
        (-(10**100), f"-1{'0' * 75}... {ROUNDED}"),
        ("/data/x", f"'/data/x' {ABSOLUTE}"),
        (PurePosixPath("/data"), f"'/data' {ABSOLUTE}"),
        (PureWindowsPath("C:\\data"), f"'C:/data' {ABSOLUTE}"),
        ("C:\\data", rf"'C:\\data' {ABSOLUTE}"),
        ("\\\\host\\share", rf"'\\\\host\\share' {ABSOLUTE}"),
        ("e\u0301", rf"'e\u0301' {NOT_NFC}"),
    ],
)
def test_a_doubtful_value_is_told_with_path_value_and_cure(value: object, warning: str) -> None:
    assert find_warnings(canonical({"a": [0, {"b": value}]})) == [f"params['a'][1]['b'] = {warning}"]


def test_a_key_that_is_not_nfc_is_told() -> None:
    text = canonical({"a": {"e\u0301": 1}})

    assert find_warnings(text) == [rf"params['a'] has the key 'e\u0301', which {NOT_NFC}"]


@pytest.mark.parametrize(
    "value",
    [
        1, 1.0, 1e300, 2**53 - 1, -(2**53) + 1, 0.30000000000000004, float("nan"), None, True,
        "", "nan", "inf", "1.2.3", "2020-01-31", "1e", "0x10", "v1", "1 ", "deadbeef", "12e34ab",
        "data/x", "./x", "~/x", "/", "//", "https://x/y", "a:b", "é", "😀", PurePosixPath("data"),
    ],
    ids=repr,
)  # fmt: skip
def test_an_ordinary_value_is_not_told(value: object) -> None:
    assert find_warnings(canonical({"x": value, "y": [value]})) == []


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.text(max_size=3), st.text('0123456789+-.eE_/\\:C "é\u0301', max_size=20) | st.integers()
    )
)
def test_what_is_above_doubt_at_a_glance_is_so_when_looked_at(params: dict[str, Any]) -> None:
    text = canonical({key.replace("@", ""): value for key, value in params.items()})

    assert find_warnings(text) == list(caution._iter_warnings("params", parse(text)))


def test_the_token_of_a_repeat_is_not_told() -> None:
    assert find_warnings(canonical_with_repeat(b"{}", "1234567890123456")) == []


def test_twins_are_told_with_the_number_they_differ_in() -> None:
    a, b = canonical({"lr": 0.1, "x": [2, 1]}), canonical({"lr": 0.1, "x": [2, 1.0]})

    assert find_twin_warning(a, b) == (
        "params['x'][1] = 1 here and 1.0 in an earlier run: as doubles they are equal, "
        "as params they are two; write the same number in both"
    )


def test_integers_that_round_to_one_double_are_twins() -> None:
    a, b = canonical({"seed": 2**53}), canonical({"seed": 2**53 + 1})

    warning = find_twin_warning(a, b)

    assert warning is not None and warning.startswith(
        "params['seed'] = 9007199254740992 here and 9007199254740993"
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [({"x": 1}, {"x": 1}), ({"x": 1}, {"x": True}), ({"x": 1}, {"x": "1"}), ({"x": 1}, {"y": 1.0})],
)
def test_equal_params_and_other_params_are_no_twins(a: object, b: object) -> None:
    assert find_twin_warning(canonical(a), canonical(b)) is None


def test_warnings_are_issued_at_the_line_that_asks() -> None:
    text = canonical({"lr": "1e-4", "seed": 2**60})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_about(text, twins=(canonical({"lr": "1e-4", "seed": 2.0**60}), text))

    assert [str(each.message).partition(" = ")[0] for each in caught] == [
        "params['lr']", "params['seed']", "params['seed']",
    ]  # fmt: skip
    assert {(each.category, each.filename) for each in caught} == {(ParamsWarning, __file__)}
