"""Lines that are drawn again keep their last state, however the bytes are cut into chunks.

The judge is a typewriter: it goes through the bytes one by one.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.tee.pump import Redraw


def typed(text: bytes) -> bytes:
    """What stays, by the book: a return is done when the next byte is drawn."""
    done, line, is_returned = b"", b"", False
    for byte in (text[place : place + 1] for place in range(len(text))):
        if byte == b"\n":
            done, line, is_returned = done + line + (b"\r" if is_returned else b"") + byte, b"", False
        elif byte == b"\r":
            is_returned = True
        else:
            line = byte if is_returned else line + byte
            is_returned = False
    return done + line


def fed(chunks: list[bytes]) -> bytes:
    redraw, kept = Redraw(), b""
    for chunk in chunks:
        takes_back, data = redraw.feed(chunk)
        if takes_back:
            kept = kept[: kept.rfind(b"\n") + 1]
        kept += data
    return kept


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b"plain\nlines\n", b"plain\nlines\n"),
        (b"\r 1%\r 2%\r100%\n", b"100%\n"),
        (b"1%\r2%\r", b"2%"),
        (b"dos\r\nlines\r\n", b"dos\r\nlines\r\n"),
        (b"a\nb\r      \rc\n", b"a\nc\n"),
        (b"\xff\xfe\r\x80\n", b"\x80\n"),
        (b"", b""),
    ],
)
def test_of_a_line_its_last_state_stays(text: bytes, want: bytes) -> None:
    assert fed([text]) == want
    assert typed(text) == want


@given(st.lists(st.text("ab\r\n", max_size=6), max_size=8))
def test_chunks_make_no_difference(parts: list[str]) -> None:
    chunks = [part.encode() for part in parts]

    assert fed(chunks) == typed(b"".join(chunks))
