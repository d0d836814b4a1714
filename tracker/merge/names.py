"""The name of a file that is set aside: `<name>.from-<whose>-<digits of its digest>`. Pure.

Spec: spec/merge.md section 6.
"""

import re

MAX_BYTES = 255
"""What every file system in use takes for one name."""

DIGITS = (8, 16, 64)
"""How much of the digest stands in a name; more where the shorter name is taken by other bytes."""

_ASIDE = re.compile(r"(.+)\.from-[0-9A-Za-z.-]+-([0-9a-f]{8,64})")


def aside_path(path: str, whose: str, digest: bytes, digits: int = DIGITS[0]) -> str:
    """Where the bytes of `digest` lie beside `path`. A name too long for a file system is cut."""
    folder, slash, name = path.rpartition("/")
    mark = f".from-{whose}-{digest.hex()[:digits]}"
    room = MAX_BYTES - len(mark)
    kept = name.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore")
    return f"{folder}{slash}{kept}{mark}"


def parse_aside_path(path: str) -> tuple[str, str] | None:
    """The path beside which a file was set aside, and digits of its digest; None for other names."""
    match = _ASIDE.fullmatch(path)
    return match and (match[1], match[2])
