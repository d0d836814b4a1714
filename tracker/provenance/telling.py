"""Names that tell of a secret: of variables, options, members and files. Pure.

Spec: spec/provenance.md section 5, "Names", "Files".
"""

from __future__ import annotations

import re
from functools import cache
from typing import AnyStr


@cache
def compiled(pattern: AnyStr) -> re.Pattern[AnyStr]:
    """Compiled when it is first needed: all of them take 5 ms, and most lines need none."""
    return re.compile(pattern)


def is_secret_name(name: str) -> bool:
    """Tell whether what bears this name is a secret: a variable, an option, a member, a parameter.

    Spec: spec/provenance.md section 5, "Names".
    """
    if not _TELLING.search(name):
        return False
    return any(_TELLING.search(word) and word.lower() not in _HARMLESS for word in _WORD.findall(name))


def is_secret_file(path: str) -> bool:
    """Tell whether a file with this path is never kept, whatever it holds.

    Spec: spec/provenance.md section 5, "Files".
    """
    *folders, name = path.lower().split("/")
    return compiled(_SECRET_FILE).fullmatch(name) is not None or not _SECRET_FOLDERS.isdisjoint(folders)


def is_flag(value: str) -> bool:
    """Tell whether a value only switches something on or off."""
    return value.lower() in _FLAGS


def is_number(value: str) -> bool:
    """Tell whether a value is a plain number."""
    return compiled(_NUMBER).fullmatch(value) is not None


def is_strong_name(name: bytes) -> bool:
    """Tell whether a secret name can mean nothing else: a password or a secret, where `key` may be any."""
    return compiled(_STRONG).search(name) is not None


_TELLING = re.compile("key|token|secret|passw|passphrase|pwd|credential|auth|cookie|private", re.IGNORECASE)
_WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HARMLESS = frozenset(
    {
        *("tokenizer", "tokenizers", "tokenization", "tokenize", "tokenized", "keyword", "keywords"),
        *("keyboard", "keyframe", "keyframes", "keypoint", "keypoints", "author", "authors"),
    }
)
_STRONG = rb"(?i)secret|passw|passphrase|pwd|credential|private"

_NUMBER = r"[+-]?[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"
_FLAGS = frozenset({"true", "false", "none", "null", "yes", "no", "on", "off", "0", "1"})

_SECRET_FILE = (
    r"\.env.*|.*\.env|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk)|id_(?:rsa|dsa|ecdsa|ed25519).*"
    r"|.*(?:credential|secret|passw).*|[._]netrc|\.(?:npmrc|pypirc|pgpass|htpasswd|my\.cnf|dockercfg)"
)
_SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", "secrets"})
