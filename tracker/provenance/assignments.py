"""Secrets in source text: what telling names are given, and private keys. Pure.

Spec: spec/provenance.md section 5, "Source text", "Shapes".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tracker.provenance.telling import compiled, is_flag, is_number, is_secret_name, is_strong_name

MASK_BYTES = b"***"


class Masked(NamedTuple):
    """Bytes without secrets, and in how many places they are not what they were."""

    data: bytes
    places: int


def mask_assignments(line: bytes, *, strict: bool) -> Masked:
    """Mask what is given to telling names: `password = "…"`, `"api_key": "…"`, `TOKEN=…`."""
    parts: list[bytes] = []
    done = places = at = 0
    while found := compiled(_KEYWORD).search(line, at):
        at = found.end()
        match = compiled(_ASSIGNED).match(line, at)
        if match is None:
            continue
        head = line[max(done, found.start() - 64) : found.start()]
        name = head[len(head.rstrip(_NAME_BYTES)) :] + found[0] + match["rest"]
        group = "bare" if match["quoted"] is None else "quoted"
        if is_secret_name(_text(name)) and _is_secret_value(name, match, group, strict=strict):
            parts += (line[done : match.start(group)], MASK_BYTES)
            done = at = match.end(group) if group == "quoted" else _end_of_word(line, match.end(group))
            places += 1
    return Masked(b"".join(parts) + line[done:], places) if places else Masked(line, 0)


def _end_of_word(line: bytes, start: int) -> int:
    found = compiled(_WORD_END).search(line, start)
    return found.start() if found else len(line)


def _is_secret_value(name: bytes, match: re.Match[bytes], group: str, *, strict: bool) -> bool:
    value = match[group]
    if is_placeholder(value) or is_flag(_text(value)) or not value.strip(_PUNCTUATION):
        return False
    is_strong = is_strong_name(name)
    is_upper = compiled(_UPPER_NAME).fullmatch(name.lstrip(b"-")) is not None
    if b"," in match["sep"]:  # `setdefault("TOKEN", "…")`, but also any list of names
        is_pair = group == "quoted" and match["sep"][:1] in b"'\"\\"
        is_name = compiled(_UPPER_NAME).fullmatch(value) is not None
        return is_pair and not is_name and (is_upper or _looks_random(value, 8))
    if group == "quoted":
        return strict or is_strong or _looks_random(value, _least(name))
    if compiled(_CODE).fullmatch(value):
        return False
    is_counted = is_number(_text(value))
    if match["sep"] == b"=" and is_upper:  # a shell's, or in .env
        return is_strong or not is_counted
    if strict:
        return not is_counted
    if is_strong and b":" in match["sep"] and len(value) >= 6 and compiled(_NOT_IN_TYPES).search(value):
        return True
    has_digit = compiled(_DIGIT).search(value) is not None  # a type is named in mixed case too
    return has_digit and _looks_random(value, 6 if is_strong else _least(name))


def _least(name: bytes) -> int:
    """A bare `key` or `token` is a word of many trades, so more is asked of its value."""
    return 16 if name.lower() in (b"key", b"token", b"auth") else 8


def _looks_random(value: bytes, least: int) -> bool:
    """Digits among letters, or 20 bytes and more in both cases, and no space."""
    if len(value) < least or compiled(_BLANKS_AND_BRACKETS).search(value):
        return False
    has_digit = compiled(_DIGIT).search(value) is not None
    has_letter = value.lower() != value.upper()
    return has_letter and (has_digit or (len(value) >= 20 and value not in (value.lower(), value.upper())))


def mask_private_keys(data: bytes) -> Masked:
    """Mask the lines behind the BEGIN of a private key, up to the first that is none of a key's."""
    parts: list[bytes] = []
    done = places = 0
    while found := compiled(_BEGIN_KEY).search(data, done) if b"PRIVATE KEY" in data else None:
        end, key = _read_key(data, found.end())
        parts += (data[done : found.end()], key)
        done = end
        places += MASK_BYTES in key
    return Masked(b"".join(parts) + data[done:], places) if places else Masked(data, 0)


def _read_key(data: bytes, start: int) -> tuple[int, bytes]:
    """Where the lines of a key end that begin at `start`, and these lines masked."""
    parts: list[bytes] = []
    at = start
    while at < min(len(data), start + _STEP) and not data.startswith(b"-----", at):
        newline = compiled(_KEY_LINE_END).search(data, at)
        stop, after = newline.span() if newline else (len(data), len(data))
        match = compiled(_KEY_LINE).fullmatch(data, at, stop)
        if match is None:
            break
        parts.append(match["head"] + MASK_BYTES + match["tail"] if match["body"] else match[0])
        parts.append(data[stop:after])
        at = after
    return at, b"".join(parts)


def is_placeholder(value: bytes) -> bool:
    """Tell whether a value only stands for one: `{password}`, `$TOKEN`, `%s`, `<key>`, `***`."""
    return compiled(_PLACEHOLDER).fullmatch(value) is not None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


_STEP = 65_536
"""Bytes of one key at most."""

_PLACEHOLDER = rb"(?:\$?\{[^{}]*\}|\$\(?[A-Za-z_]\w*\)?|%\(?\w*\)?s|<[\w -]+>|\*+|[:.]|\s)*"
_KEYWORD = rb"(?i)key|token|secret|passw|passphrase|pwd|credential|auth|cookie|private"
_NAME_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_ASSIGNED = (
    rb"(?P<rest>[A-Za-z0-9_.-]{0,64})(?P<sep>\\?['\"]?\]?\s{0,8}(?::\s*str\s*=|=>|:=|[:=,])\s{0,8})"
    rb"(?:[rbuRBU]{0,2}(?P<quote>\\?['\"])(?P<quoted>[^'\"\r\n]+?)(?P=quote)|(?P<bare>[^\s'\"#;,&]{1,128}))"
)
_CODE = rb"[A-Za-z_][\w.]*[\[(].*|\$.*|\{.*|[A-Za-z_]+(?:\.[A-Za-z_]\w*)+|\[.*|\*\*\*.*"
_NOT_IN_TYPES = rb"[!@#$%^&*?~/+-]"
_DIGIT = rb"[0-9]"
_WORD_END = rb"[\s'\"#;,&]"
_PUNCTUATION = b" \t,.:;!?=+-*/|&()[]{}<>\\"
_UPPER_NAME = rb"[A-Z][A-Z0-9_]*"
_BLANKS_AND_BRACKETS = rb"[\s()\[\]{}<>]"

_BEGIN_KEY = rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
_KEY_LINE_END = rb"\r?\n|\\n"
_KEY_LINE = rb"(?P<head>[\s+'\"-]{0,9})(?P<body>[A-Za-z0-9+/=]*|[A-Za-z-]+: [^\r\n]*)(?P<tail>['\"\s,]*)"
