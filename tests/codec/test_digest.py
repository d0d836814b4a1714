"""A digest is what b3sum prints; a uid has one spelling, a short form no one takes for a number, prefixes."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker._codec.digest import digest, is_uid, parse_uid, resolve, shorten, uid_of
from tracker.errors import AmbiguousError, NotFoundError
from tracker.terms import Uid

UID = Uid("a7f6c8b122de39b556aa975ba9567946")

uids = st.text("0123456789abcdef", min_size=32, max_size=32).map(Uid)


def test_the_digest_of_a_known_text_is_known() -> None:
    assert digest(b'{"lr":0.1}') == "a7f6c8b122de39b556aa975ba9567946b68cabe4b48a15798396c6ce5fba8db1"
    assert digest(memoryview(b'x{"lr":0.1}')[1:]) == digest(b'{"lr":0.1}')
    assert uid_of(b'{"lr":0.1}') == UID


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_b3sum_prints_the_digest_and_the_uid() -> None:
    data = bytes(range(256)) * 1000

    whole = subprocess.run(["b3sum", "--no-names"], input=data, capture_output=True, check=True)
    short = subprocess.run(["b3sum", "-l", "16", "--no-names"], input=data, capture_output=True, check=True)

    assert (whole.stdout.decode().strip(), short.stdout.decode().strip()) == (digest(data), uid_of(data))


@given(uids)
def test_a_uid_parses_as_itself(uid: Uid) -> None:
    assert parse_uid(uid) == uid


@pytest.mark.parametrize(
    "text", ["", UID[:-1], UID + "0", UID.upper(), UID + "\n", " " + UID[1:], "g" + UID[1:], "٣" + UID[1:]]
)
def test_another_spelling_is_no_uid(text: str) -> None:
    assert not is_uid(text)
    with pytest.raises(ValueError, match="a uid is 32 lower-case hex digits, not "):
        parse_uid(text)


@pytest.mark.parametrize(
    ("uid", "others", "short"),
    [
        (UID, [], "a7f6c8b1"),
        (UID, [UID], "a7f6c8b1"),
        (UID, ["a7f6c8b1" + "0" * 24], "a7f6c8b12"),
        (UID, ["a7f6c8b122" + "0" * 22, "a7f6c8b1" + "0" * 24], "a7f6c8b122d"),
        (UID, [UID[:-1] + "0"], UID),
        ("12345678" + "9" * 23 + "a", [], "12345678" + "9" * 23 + "a"),
        ("1234e567" + "0b" * 12, [], "1234e5670b"),
        ("1" * 32, [], "1" * 32),
    ],
)
def test_a_uid_is_shortened_to_8_digits_or_more_with_a_letter(
    uid: str, others: list[str], short: str
) -> None:
    assert shorten(Uid(uid), others) == short


@given(uids, st.lists(uids), st.integers(0, 31))
def test_a_short_form_resolves_to_its_uid(uid: Uid, others: list[Uid], shared: int) -> None:
    candidates = [*others, Uid(uid[:shared] + "f" * (32 - shared)), uid]

    assert resolve(shorten(uid, candidates), candidates) == uid


@given(uids, st.lists(uids), st.integers(0, 31))
def test_the_sorted_neighbours_are_enough_to_shorten(uid: Uid, others: list[Uid], shared: int) -> None:
    candidates = sorted({*others, Uid(uid[:shared] + "f" * (32 - shared)), uid})
    at = candidates.index(uid)

    assert shorten(uid, candidates[max(at - 1, 0) : at + 2]) == shorten(uid, candidates)


def test_a_prefix_of_4_digits_resolves() -> None:
    assert resolve("a7f6", [UID, UID, "b" * 32]) == UID


@pytest.mark.parametrize("prefix", ["", "a7f", "A7F6", "a7f6g", UID + "0", "beef"])
def test_a_prefix_of_none_is_not_found(prefix: str) -> None:
    with pytest.raises(NotFoundError, match=f"uid '{prefix}' not found in this store"):
        resolve(prefix, [UID])


def test_a_short_prefix_is_told_how_long_it_must_be() -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve("a7f", [UID], where="grid")

    assert str(caught.value) == "uid 'a7f' not found in grid; a uid is given by 4 to 32 lower-case hex digits"


def test_a_prefix_of_several_names_them() -> None:
    other = "a7f6" + "0" * 28
    with pytest.raises(AmbiguousError) as caught:
        resolve("a7f6", [UID, other])

    assert caught.value.candidates == [other, UID]
    assert str(caught.value) == f"uid 'a7f6' is not one run in this store: {other}, {UID}; give more of it"
