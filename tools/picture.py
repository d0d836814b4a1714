"""Pictures of a terminal for the docs: real commands on the store that `tracker demo` makes, as SVG.

    python tools/picture.py

Makes a demo in a new folder, runs each command on a terminal of its own, and writes what is seen there to
docs/pictures. Ages and times in them are those of that moment; all else is the same each time.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"

COLUMNS = 88
PICTURES = {
    "metrics": [["metrics", "@best:loss"], ["metrics", "@best:loss", "loss"]],
    "ls": [["ls", "--sort=metrics.loss.min"]],
    "lineage": [["files", "@best:loss"], ["lineage", "@best:loss"], ["logs", "@best:loss", "--tail", "2"]],
}
"""Name of a file -> the commands that are seen in it."""

CELL_WIDTH, CELL_HEIGHT, MARGIN, HEAD = 8.4, 19, 16, 34
GROUND, PAPER, DIM = "#0d1117", "#e6edf3", "#8b949e"
COLOURS = {31: "#ff7b72", 32: "#7ee787", 33: "#d29922", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd"}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


class Piece(NamedTuple):
    """Text of one line in one dress."""

    text: str
    colour: str = PAPER
    is_bold: bool = False


Line = list[Piece]


def run_on_terminal(words: Sequence[str], root: str) -> str:
    """All that a command shows on a terminal."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "COLUMNS"):
        environ.pop(name, None)
    line = [sys.executable, "-m", "tracker", *words]
    with subprocess.Popen(line, cwd=root, env=environ, stdin=there, stdout=there, stderr=there) as process:
        os.close(there)
        shown = b"".join(iter(lambda: _read(here), b""))
    os.close(here)
    if process.returncode:
        raise SystemExit(f"{line} ended with {process.returncode}:\n{shown.decode()}")
    return shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells that the last process has let go
        return b""


def parse_line(text: str) -> Line:
    """A line with its escapes as pieces."""
    line, colour, is_bold = [], PAPER, False
    for place, part in enumerate(_ESCAPE.split(text)):
        if place % 2 == 0:
            line += [Piece(part, colour, is_bold)] if part else []
            continue
        for code in (int(word or 0) for word in part.split(";")):
            colour = PAPER if code in (0, 39) else COLOURS.get(code, colour)
            is_bold = code == 1 or (is_bold and code != 0)
    return line


def iter_lines(commands: Sequence[Sequence[str]], root: str) -> Iterator[Line]:
    """What a person sees who gives these commands one after another."""
    for place, words in enumerate(commands):
        if place:
            yield []
        yield [Piece("$ ", DIM), Piece(" ".join(map(quoted, ["tracker", *words])), is_bold=True)]
        for text in run_on_terminal(words, root).splitlines():
            line = parse_line(text.rstrip())
            assert sum(len(piece.text) for piece in line) <= COLUMNS, f"longer than a line: {text}"
            yield line


def quoted(word: str) -> str:
    """A word as people write it in a shell: in double quotes where it needs some."""
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f'"{word}"'


def format_svg(lines: Sequence[Line], title: str) -> str:
    """A terminal with these lines. Text keeps to its columns and curves are drawn, whatever the font."""
    width = round(COLUMNS * CELL_WIDTH + 2 * MARGIN)
    height = HEAD + MARGIN + CELL_HEIGHT * len(lines)
    plain = "\n".join("".join(piece.text for piece in line) for line in lines)
    body = "\n".join(_iter_elements(lines))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>{escape(title)}</title>
<desc>{escape(plain)}</desc>
<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>
<circle cx="20" cy="17" r="5.5" fill="#ff5f57"/>
<circle cx="38" cy="17" r="5.5" fill="#febc2e"/>
<circle cx="56" cy="17" r="5.5" fill="#28c840"/>
<g font-family="{FONT}" font-size="14" fill="{PAPER}">
<text x="{width / 2:g}" y="22" fill="{DIM}" font-size="13" text-anchor="middle">{escape(title)}</text>
{body}
</g>
</svg>
"""


def _iter_elements(lines: Sequence[Line]) -> Iterator[str]:
    for row, line in enumerate(lines):
        column = 0
        for piece in line:
            dress = "" if piece.colour == PAPER else f' fill="{piece.colour}"'
            shapes = "".join(_iter_shapes(piece.text, column, row))
            if shapes:
                yield f'<path d="{shapes}"{dress}/>'
            dress += ' font-weight="bold"' if piece.is_bold else ""
            for found in _WORDS.finditer(_DRAWN.sub(" ", piece.text)):
                yield _text(found[0], column + found.start(), row, dress)
            column += len(piece.text)


_DRAWN = re.compile("[\u2800-\u28ff\u2581-\u2588─└┤]")
_WORDS = re.compile(r"\S+(?: \S+)*")


def _text(text: str, column: int, row: int, dress: str) -> str:
    x, y = MARGIN + column * CELL_WIDTH, HEAD + CELL_HEIGHT * (row + 0.75)
    length = f'textLength="{len(text) * CELL_WIDTH:g}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:g}" y="{y:g}" {length}{dress}>{escape(text)}</text>'


def _iter_shapes(text: str, column: int, row: int) -> Iterator[str]:
    """Dots, bars and lines as rectangles of a path."""
    top = HEAD + CELL_HEIGHT * row
    for place, char in enumerate(text):
        left = MARGIN + (column + place) * CELL_WIDTH
        for x, y, width, height in _rectangles(char):
            yield f"M{left + x * CELL_WIDTH:.4g} {top + y * CELL_HEIGHT:.4g}"
            yield f"h{width * CELL_WIDTH:.3g}v{height * CELL_HEIGHT:.3g}h{-width * CELL_WIDTH:.3g}z"


def _rectangles(char: str) -> list[tuple[float, float, float, float]]:
    """What a character is drawn of: left, top, width and height as parts of its cell."""
    code = ord(char)
    if 0x2800 <= code <= 0x28FF:
        dots = (divmod(bit, 3) if bit < 6 else (bit - 6, 3) for bit in range(8) if code >> bit & 1)
        return [(0.5 * x + 0.12, 0.25 * y + 0.07, 0.3, 0.13) for x, y in dots]
    if 0x2581 <= code <= 0x2588:
        part = (code - 0x2580) / 8
        return [(0, 0.95 - 0.85 * part, 0.92, 0.85 * part)]
    across, down = (0, 0.5, 1, 0.05), (0.5, 0, 0.1, 1)
    return {
        "─": [across],
        "└": [(0.5, 0.5, 0.5, 0.05), (0.5, 0, 0.1, 0.55)],
        "┤": [down, (0, 0.5, 0.5, 0.05)],
    }.get(char, [])


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "tracker-demo")
        os.environ["TRACKER_CACHE"] = os.path.join(folder, "cache")
        demo = [sys.executable, "-m", "tracker", "demo", root]
        subprocess.run(demo, check=True, capture_output=True, cwd=folder)
        for name, commands in PICTURES.items():
            title = " ".join(map(quoted, ["tracker", *commands[0]]))
            picture = FOLDER / f"{name}.svg"
            picture.write_text(format_svg(list(iter_lines(commands, root)), title), encoding="utf-8")
            print(picture.name)


if __name__ == "__main__":
    main()
