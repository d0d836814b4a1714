"""Canonical form 1: params <-> the one text that means them.

Knows how a plain tree is written, and nothing of what is done with the text. What values are accepted
is the matter of `values`. Text in, bytes out: no file, no clock.

The text is msgspec's wherever msgspec's text is form 1 already, and written by the rules elsewhere.

Spec: spec/canonical.md.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import msgspec

from tracker._codec.digest import is_hex, uid_of
from tracker._codec.values import MAX_DEPTH, is_plain, plain
from tracker.errors import ParamsError
from tracker.terms import Uid

FORM = 1
"""The number of the form that this release writes. Spec: spec/canonical.md, rule 16."""

MAX_BYTES = 1_048_576

REPEAT = "@repeat"
"""The reserved member that tells a repeat from the first run of the same params."""

MAX_EXACT_INT = 2**53 - 1
"""Up to here every integer is a double, and no other integer is the same double."""


def canonical(params: object) -> bytes:
    """Give the one text that means `params`.

    Equal params give equal text, on any machine and in any language; params that differ in a value, or
    only in its type (1, 1.0, True, "1"), give different texts.

    Cost: some 3 µs for a dozen params of plain types; some 20 µs if one of them is not.
    Raises: ParamsError at the path of a value that has no canonical form, or past a limit.
    Spec: spec/canonical.md, "Form 1".
    """
    text = _encode_plainly(params) if is_plain(params) else None
    if text is None or b"@" in text:  # perhaps a reserved key
        tree = plain(params)
        _refuse_reserved(tree)
        text = format_tree(tree)
    if len(text) > MAX_BYTES:
        raise ParamsError("params", f"{_too_long(text)}; put big data in a file and its hash in params")
    return text


def parse(text: bytes) -> dict[str, Any]:
    """Give the plain tree of a canonical text, the reserved member included.

    A number with a point or an exponent is a float, any other an int of any size. What this accepts,
    `canonical` writes as the same bytes; so a member that occurs twice is refused, as is white space.

    Cost: some 3 µs for a dozen params.
    Raises: ParamsError for any bytes that are not in form 1, and nothing else.
    Spec: spec/canonical.md, rule 11.
    """
    if len(text) > MAX_BYTES:
        raise _not_canonical(_too_long(text))
    try:
        tree = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_canonical(_why_unreadable(text, error)) from error
    if type(tree) is not dict:
        raise _not_canonical("the root is not an object")
    if len(text) > _DIGITS_MAX or not is_plain(tree):
        _check_limits(tree)
    written = format_tree(tree)
    if written != text:
        raise _not_canonical(_why_written_otherwise(text, written))
    return tree


def is_canonical(text: bytes) -> bool:
    """Tell whether `text` is in form 1. Spec: spec/canonical.md, rule 11."""
    try:
        parse(text)
    except ParamsError:
        return False
    return True


def canonical_with_repeat(text: bytes, token: str) -> bytes:
    """Give the text of the same object with the reserved member, whose value is `token`.

    A session without params is the repeat of `{}`.

    Raises: ParamsError if `text` is not canonical, or is past a limit with the new member; ValueError
    if it has the member already, or if `token` is not 16 hex digits.
    Spec: spec/canonical.md, "Repeats".
    """
    if not is_hex(token, 16):
        raise ValueError(f"a repeat token is 16 lower-case hex digits, not {token!r}")
    tree = parse(text)
    if REPEAT in tree:
        raise ValueError(f"the params have the member {REPEAT!r} already")
    repeat = format_tree({**tree, REPEAT: token})
    parse(repeat)
    return repeat


def without_repeat(text: bytes) -> bytes | None:
    """Give the text of the same object without the reserved member; None if it has none.

    Raises: ParamsError if `text` is not canonical.
    Spec: spec/canonical.md, "Repeats".
    """
    tree = parse(text)
    if tree.pop(REPEAT, None) is None:
        return None
    return format_tree(tree)


def key_of(text: bytes) -> Uid | None:
    """Give the uid of the params without the reserved member; None for a session without params.

    Raises: ParamsError if `text` is not canonical.
    Spec: spec/canonical.md, "Repeats".
    """
    bare = without_repeat(text)
    if bare is None:
        return uid_of(text)
    return None if bare == b"{}" else uid_of(bare)


def twin_key(text: bytes) -> bytes:
    """Give the RFC 8785 form of a canonical text: every number taken as a double.

    Two texts are numeric twins if, and only if, they differ and their twin keys are equal. An integer
    that no double reaches (2**1024 or more) keeps its digits, and so has no twin.

    Cost: one pass; some 2 µs for a dozen params without whole floats and big integers.
    Spec: spec/canonical.md, "Twins".
    """
    if not (b".0," in text or b".0}" in text or b".0]" in text) and not has_long_integer(text):
        return text
    return _string_or_number().sub(_as_double, text)


def has_long_integer(text: bytes) -> bool:
    """Tell whether a canonical text may hold an integer beyond 2**53. Cost: 0.3 µs if no digits are many."""
    return _LONG_RUN in text.translate(_DIGITS_AS_ZERO) and re.search(_LONG_INTEGER, text) is not None


_ENCODER = msgspec.json.Encoder(order="sorted")

_DIGITS_MAX = 1233
"""So many digits are always below 2**4096."""


@cache
def _string_or_number() -> re.Pattern[bytes]:
    return re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?')


_LONG_INTEGER = rb"(?<![.0-9])[0-9]{16}"
_LONG_RUN = b"0" * 16

# Digits become "0", and so does the plus sign: "0e0" then finds every exponent without a minus.
_DIGITS_AS_ZERO = bytes(ord("0") if chr(i) in "0123456789+" else i for i in range(256))

_ASTRAL = rb"[\xf0-\xf4]"

_MINUS_ZERO_OR_SHORT_EXPONENT = re.compile(rb"-0\.0[,\]}]|[0-9]e-[0-6](?![0-9])")


def _encode_plainly(tree: Any) -> bytes | None:
    """Give msgspec's text of a plain tree if it is form 1 beyond doubt, else None.

    msgspec writes what form 1 writes, but for: the order of keys (by code point; this differs from
    UTF-16 only beyond U+FFFF, whose UTF-8 begins with F0), floats with an exponent from -6 up, minus
    zero, and NaN and the infinities, which it writes as null. Each of these leaves a mark in the text.
    A string may carry a mark as well: then the text is only written a second time.
    """
    try:
        text = _ENCODER.encode(tree)
    except (ValueError, RecursionError):  # a lone surrogate; an integer past Python's own limit
        return None
    if not text.isascii() and re.search(_ASTRAL, text):
        return None
    zeros = text.translate(_DIGITS_AS_ZERO)
    if b"0e0" in zeros or (len(text) > _DIGITS_MAX and b"0" * (_DIGITS_MAX + 1) in zeros):
        return None
    if b"-" in text and _MINUS_ZERO_OR_SHORT_EXPONENT.search(text):
        return None
    if b"null" in text and text.count(b"null") != _count_none(tree):
        return None
    return text


def format_tree(tree: dict[str, Any]) -> bytes:
    """Give the canonical text of a plain tree that is within the limits of depth, values and digits."""
    return _encode_plainly(tree) or _format(tree).encode()


def _format(tree: Any) -> str:
    """Give the text of a plain value by the rules. Spec: spec/canonical.md, "Form 1", rules 2 to 8."""
    kind = type(tree)
    if kind is dict:
        members = sorted(tree.items(), key=_utf16_key)
        return "{" + ",".join(f"{_format_text(key)}:{_format(value)}" for key, value in members) + "}"
    if kind is list or kind is tuple:
        return "[" + ",".join(map(_format, tree)) + "]"
    if kind is str:
        return _format_text(tree)
    if kind is float:
        return _format_float(tree)
    return _LITERALS[tree] if tree is None or kind is bool else str(tree)


_LITERALS = {None: "null", True: "true", False: "false"}


def _format_text(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x20)} | {
    ord(char): f"\\{letter}" for char, letter in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)
}

_NO_NUMBERS = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def _format_float(number: float) -> str:
    """Give the ECMAScript text of a double, `.0` after it if it has neither point nor exponent.

    Python's repr has the same digits, the shortest that give the double back; it takes an exponent
    below 1e-4 and from 1e16 on, ECMAScript below 1e-6 and from 1e21 on.
    """
    text = repr(number + 0.0)
    mantissa, has_exponent, power = text.partition("e")
    if not has_exponent:
        return _NO_NUMBERS.get(text, text)
    exponent = int(power)
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "")
    if 16 <= exponent < 21:
        return f"{sign}{digits:0<{exponent + 1}}.0"
    if exponent in (-5, -6):
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return f"{mantissa}e{exponent:+d}"


def _utf16_key(member: tuple[str, Any]) -> bytes:
    return member[0].encode("utf-16-be")


def _count_none(tree: Any) -> int:
    items = tree.values() if type(tree) is dict else tree
    return sum(
        1 if item is None else _count_none(item) if type(item) in (dict, list, tuple) else 0 for item in items
    )


def _as_double(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if text[:1] == b'"':
        return text
    double = float(text)
    return text if math.isinf(double) else _format_float(double).removesuffix(".0").encode()


def _refuse_reserved(tree: dict[str, Any]) -> None:
    for key in tree:
        if key.startswith("@"):
            raise ParamsError("params", f"the key {key!r} is reserved, as is any that begins with '@'")


def _check_limits(tree: dict[str, Any]) -> None:
    try:
        plain(tree)
    except ParamsError as error:
        raise _not_canonical(f"{error.path}: {error.why}") from error


def _not_canonical(why: str) -> ParamsError:
    return ParamsError("params.json", f"not in canonical form {FORM}: {why}")


def _too_long(text: bytes) -> str:
    return f"{len(text):,} bytes of text; at most {MAX_BYTES:,}"


def _why_unreadable(text: bytes, error: Exception) -> str:
    if text.startswith(b"\xef\xbb\xbf"):
        return "these bytes begin with a byte order mark"
    if isinstance(error, RecursionError):
        return f"more than {MAX_DEPTH} nested containers"
    return str(error)


def _why_written_otherwise(text: bytes, written: bytes) -> str:
    if text.rstrip(b"\r\n") == written:
        return "these bytes end in a newline"
    at = next((i for i, (a, b) in enumerate(zip(text, written, strict=False)) if a != b), len(written))
    return f"from byte {at} on it has {text[at : at + 20]!r} where form 1 has {written[at : at + 20]!r}"
