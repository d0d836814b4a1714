"""What must never be kept, known by its name or by its looks, and the masking of it.

Pure: text and bytes in, the same out with `***` in the place of secrets. Whatever is masked twice is
masked the same.

LIMIT: a secret that has no telling name, no known shape, and is no value of a telling environment variable
is not known. Nor is one inside compressed bytes, which a binary diff holds.

Spec: spec/provenance.md section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tracker.provenance.assignments import (
    MASK_BYTES,
    Masked,
    is_placeholder,
    mask_assignments,
    mask_private_keys,
)
from tracker.provenance.telling import compiled, is_flag, is_number, is_secret_name, is_strong_name

MASK = MASK_BYTES.decode()


def find_secret_values(variables: Mapping[str, str]) -> list[str]:
    """The values that telling variables have, and the credentials in URLs that any variable has.

    Very short ones are left out: they would be found everywhere.
    """
    found = [value for name, value in variables.items() if is_secret_name(name) and name not in _FOLDERS]
    for value in variables.values():
        if "://" in value:
            found += (
                _printable(match["password"]) for match in compiled(_PASSWORD).finditer(_as_bytes(value))
            )
    lines = {line.strip() for value in found for line in value.splitlines()}
    return sorted((line for line in lines if _is_worth_finding(line)), key=lambda line: (-len(line), line))


def strip_credentials(url: str) -> str:
    """A URL without user and password; the user of `ssh://` and of `user@host:path` stays.

    What may be a secret in the rest of it is masked.
    """
    stripped = compiled(_USERINFO).sub(
        lambda match: match[0] if _is_login(match) else match["scheme"], _as_bytes(url)
    )
    return Masker().text(_printable(stripped))


class Masker:
    """Puts `***` in the place of secrets, those among them that are given as `values`."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        known = [_as_bytes(value) for value in values]
        glued = [re.escape(value) for value in known if len(value) >= _CERTAIN]
        apart = [rb"(?<![A-Za-z0-9])%b(?![A-Za-z0-9])" % re.escape(v) for v in known if len(v) < _CERTAIN]
        self._known = re.compile(b"|".join(glued + apart)) if known else None
        self._hints = [value.lower() for value in known] + _HINTS

    def text(self, text: str) -> str:
        """One line of text without secrets. Cost: some 5 µs."""
        data = _as_bytes(text)
        return _printable(self._line(data, strict=True)[0]) if self._is_suspicious(data) else text

    def named(self, name: str, value: str) -> str:
        """The value that `name` has, without secrets."""
        return MASK if value and is_secret_name(name) and not is_flag(value) else self.text(value)

    def arguments(self, argv: Iterable[str]) -> list[str]:
        """The words of a command line without secrets: `--token X`, `--token=X`, `api.token=X`, any URL."""
        masked: list[str] = []
        option = ""
        for word in argv:
            is_value = bool(option) and not word.startswith("-")
            masked.append(self._value_of(option, word) if is_value else self._word(word))
            option = word if compiled(_OPTION).fullmatch(word) else ""
        return masked

    def content(self, data: bytes) -> Masked:
        """A file's bytes, or a diff, without secrets; line ends stay where they are.

        Source text speaks of keys and tokens that are none, so an assignment is masked only if its value
        looks like a secret.

        Cost: 10 MiB of source in 0.3 s, in steps of some milliseconds.
        """
        data, places = mask_private_keys(data)
        parts: list[bytes] = []
        start = 0
        while start < len(data):  # in steps: a regex over all of it would hold up every other thread
            end = data.find(b"\n", start + _STEP) + 1 or len(data)
            part, count = self._step(data[start:end])
            parts.append(part)
            places += count
            start = end
        return Masked(b"".join(parts), places) if places else Masked(data, 0)

    def _step(self, data: bytes) -> Masked:
        parts: list[bytes] = []
        done = places = 0
        for start in self._suspicious_lines(data):
            end = data.find(b"\n", start) + 1 or len(data)
            line, count = self._line(data[start:end], strict=False)
            parts += (data[done:start], line)
            done = end
            places += count
        return Masked(b"".join(parts) + data[done:], places)

    def _suspicious_lines(self, data: bytes) -> list[int]:
        """Where the lines begin that hold a hint, in order."""
        lower = data.lower()
        starts: set[int] = set()
        for hint in self._hints:
            at = lower.find(hint)
            while at >= 0:
                starts.add(lower.rfind(b"\n", 0, at) + 1)
                after = lower.find(b"\n", at)
                at = lower.find(hint, after) if after >= 0 else -1
        return sorted(starts)

    def _is_suspicious(self, data: bytes) -> bool:
        lower = data.lower()
        return any(hint in lower for hint in self._hints)

    def _line(self, line: bytes, *, strict: bool) -> Masked:
        places = 0
        if self._known is not None:
            line, places = self._known.subn(MASK_BYTES, line)
        line, count = compiled(_SHAPES).subn(MASK_BYTES, line)
        places += count
        for sign, pattern, replace in _IN_URLS:
            if sign in line:
                before = line
                line = compiled(pattern).sub(replace, line)
                places += before != line
        line, count = compiled(_ANY_HEADER if strict else _HEADER).subn(rb"\g<1>***", line)
        assigned = mask_assignments(line, strict=strict)
        return Masked(assigned.data, places + count + assigned.places)

    def _value_of(self, option: str, word: str) -> str:
        name = option.lstrip("-")
        return MASK if is_secret_name(name) and not _is_harmless(name, word) else self._word(word)

    def _word(self, word: str) -> str:
        match = compiled(_NAMED).fullmatch(word)
        if match is None or not is_secret_name(match["name"]) or _is_harmless(match["name"], match["value"]):
            return self.text(word)
        return f"{match['name']}{match['sep']}{MASK}"


_STEP = 65_536

_CERTAIN = 12
"""A known value of so many bytes is masked wherever it stands; a shorter one only as a word of its own."""

_COUNTED = (
    "(?i)(?:^|[^a-z])(?:max|min|num|n|dim|size|len|length|count|per|vocab|heads|new|total|budget)(?:[^a-z]|$)"
)
_FOLDERS = frozenset({"PWD", "OLDPWD"})

_OPTION = "--?[A-Za-z][A-Za-z0-9_.-]*"
_NAMED = r"(?s)(?P<name>[-+~/]*[A-Za-z_][\w.@/-]*)(?P<sep>=|:\s*)(?P<value>.*)"

_SHAPES = (
    rb"(?<![A-Za-z0-9])(?:"
    rb"(?:AKIA|ASIA)[0-9A-Z]{16}"
    rb"|gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{12,}"
    rb"|hf_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}|dop_v1_[0-9a-f]{40,}"
    rb"|sk-(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{16,}|[rs]k_(?:live|test)_[A-Za-z0-9]{12,}"
    rb"|xox[a-z]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}"
    rb"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"
    rb"|eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"
    rb")|(?<=hooks\.slack\.com/services/)[A-Za-z0-9/_-]+"
)
_USERINFO = (
    rb"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,40}://)(?P<userinfo>"
    rb"[^\s'\"<>/:@]{0,200}:(?![0-9]+/)[^\s'\"<>/]{0,500}(?:/[^\s'\"<>/]{0,200}){0,4}"
    rb"(?=@[^\s'\"<>@/]*(?:[/?#:\s'\"<>]|$))"
    rb"|[^\s'\"<>/]{1,700})@"
)
_PASSWORD = rb"://[^\s'\"<>/:@]*:(?![0-9]+/)(?P<password>[^\s'\"<>]+)@"
_QUERY = rb"(?P<head>[?&;](?P<name>[A-Za-z0-9_.%-]{1,80})=)(?P<value>[^&;#\s'\"<>]+)"
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})
_HEADER = (
    rb"(\b(?:[Bb]earer|[Bb]asic|BEARER|BASIC)\s+)"
    rb"(?=[^\s'\"]*[0-9=]|[^\s'\"]+[A-Z]|[^\s'\"]+['\"])[A-Za-z0-9._~+/-]{8,}=*"
)
_ANY_HEADER = rb"(?i)(\bbearer\s+|\bauthorization['\"]?\s*[:=]\s*(?:[a-z]+\s+)?)(?!\*)[^\s'\"]+"

_HINTS = [
    b"basic ",
    *(
        b":// key token secret passw passphrase pwd credential auth cookie private bearer sig= signature= "
        b"akia asia gho_ ghp_ ghr_ ghs_ ghu_ github_pat_ glpat- hf_ npm_ pypi- dop_v1_ sk- k_live_ "
        b"k_test_ xox aiza ya29. sg. eyj hooks.slack"
    ).split(),
]
"""In lower case, one of them in every line that any pattern here can match."""


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _printable(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _is_worth_finding(value: str) -> bool:
    return len(value) >= 6 and not (value.isdigit() and len(value) < 8) and not is_flag(value)


def _is_harmless(name: str, value: str) -> bool:
    """A switch, or a number whose name says that it counts: `--max-tokens 512`."""
    if is_flag(value):
        return not is_strong_name(_as_bytes(name)) or not value.isdigit()
    return is_number(value) and compiled(_COUNTED).search(name) is not None


def _is_login(match: re.Match[bytes]) -> bool:
    """The user of an SSH address is part of the address."""
    return b"ssh" in match["scheme"].lower() and b":" not in match["userinfo"]


def _without_userinfo(match: re.Match[bytes]) -> bytes:
    if _is_login(match) or is_placeholder(match["userinfo"]):
        return match[0]
    return match["scheme"] + MASK_BYTES + b"@"


def _without_parameter(match: re.Match[bytes]) -> bytes:
    name = _printable(match["name"])
    is_telling = is_secret_name(name) or name.lower() in _SIGNATURES
    if not is_telling or is_placeholder(match["value"]):
        return match[0]
    return match["head"] + MASK_BYTES


_IN_URLS = ((b"://", _USERINFO, _without_userinfo), (b"=", _QUERY, _without_parameter))
