"""The text of a query -> Python's syntax tree, and places in it as offsets into the text.

It knows what Python reads, and not what a query may hold. Nothing is evaluated. What Python reads with a
warning is refused, so that no warning filter of the program changes an answer.
"""

from __future__ import annotations

import ast
import re
from typing import NoReturn

from tracker.errors import QueryError

SIZE_MAX = 65_536

_BLANK = " \t\r\n\f"
UNREADABLE = re.compile("[\0\ud800-\udfff]")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_WORD = re.compile(r"\w{1,40}")
_STRING = re.compile(
    r"""(?P<prefix>[A-Za-z]*)(?P<quote>'''|\"\"\"|'|")(?P<body>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)""",
    re.DOTALL,
)
_ODD_ESCAPE = re.compile(r"\\(?:[4-7][0-7][0-7]|([^\\'\"abfnrtv0-7xNuU\r\n])|[0-7]|.)", re.DOTALL)
_NUMBER = re.compile(
    r"(?<![\w.])(?>0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
    r"|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)(?=[^\W\d_])"
)
_INSTEAD = (
    (re.compile(r"={3}"), "'=='"),
    (re.compile(r":?=(?!=)"), "'==' to compare"),
    (re.compile(r"&+"), "'and'"),
    (re.compile(r"\|+"), "'or'"),
    (re.compile(r"!(?!=)"), "'not'"),
    (re.compile(r"<>"), "'!=' to compare"),
    (re.compile(r"(?!and)(?i:and)\b"), "'and'"),
    (re.compile(r"(?!or)(?i:or)\b"), "'or'"),
    (re.compile(r"(?!not)(?i:not)\b"), "'not'"),
    (re.compile(r"(?!in)(?i:in)\b"), "'in'"),
    (re.compile(r"(?!is)(?i:is)\b"), "'==' to compare"),
    (re.compile(r"(?i:like)\b"), "like(x, 'pattern')"),
)
"""What other languages write, found where Python stops reading, and what is meant."""


class Source:
    """A text and its syntax tree.

    Raises: QueryError for a text that Python does not read as one expression.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._refuse_unreadable()
        self._start = len(text) - len(text.lstrip(_BLANK))
        inner = text[self._start :]
        self._lines = [0, *(match.end() for match in _NEWLINE.finditer(inner))]
        self._inner = inner
        self.body = self._parse(inner)

    def start(self, node: ast.expr) -> int:
        """Where the node begins."""
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr) -> int:
        """Where the node ends."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._offset(node.end_lineno, node.end_col_offset)

    def words(self, node: ast.expr) -> str:
        """The node as it was written, shortened to some 40 characters."""
        text = " ".join(self.text[self.start(node) : self.end(node)].split())
        return text if len(text) <= 40 else text[:39] + "…"

    def refuse(self, column: int, expected: str, suggestion: str | None = None) -> NoReturn:
        """Raise QueryError."""
        raise QueryError(self.text, min(column, len(self.text)), expected, suggestion)

    def _offset(self, line: int, byte: int) -> int:
        """Python counts lines from 1, and in a line the bytes of UTF-8."""
        first = self._lines[line - 1]
        if self._inner.isascii():
            return self._start + first + byte
        last = self._lines[line] if line < len(self._lines) else len(self._inner)
        return self._start + first + len(self._inner[first:last].encode()[:byte].decode(errors="ignore"))

    def _refuse_unreadable(self) -> None:
        text = self.text
        if len(text.encode(errors="surrogatepass")) > SIZE_MAX:
            self.refuse(0, f"at most {SIZE_MAX} bytes of text")
        unreadable = UNREADABLE.search(text)
        if unreadable:
            self.refuse(unreadable.start(), f"text, not the character {unreadable[0]!r}")
        if not text.strip(_BLANK):
            self.refuse(0, "a comparison, as lr < 0.1")
        self._refuse_odd_escapes()
        without = _STRING.sub(lambda match: "'" * len(match[0]), text)
        crowded = _NUMBER.search(without)
        if crowded:
            self.refuse(crowded.end(), "a space or an operator after the number")

    def _refuse_odd_escapes(self) -> None:
        for string in _STRING.finditer(self.text):
            if "r" in string["prefix"].lower():
                continue
            for escape in _ODD_ESCAPE.finditer(string["body"]):
                is_octal = len(escape[0]) == 4
                if is_octal or escape[1]:
                    self.refuse(string.start("body") + escape.start(), r"'\\' for a backslash in a text")

    def _parse(self, inner: str) -> ast.expr:
        try:
            return ast.parse(inner, mode="eval").body
        except SyntaxError as error:
            failed = error
        except (RecursionError, MemoryError) as error:
            raise QueryError(self.text, self._start, "fewer things inside each other") from error
        return self._refuse_syntax(failed)

    def _refuse_syntax(self, error: SyntaxError) -> NoReturn:
        at = self._error_offset(error)
        if at >= len(self.text.rstrip(_BLANK)):
            self.refuse(len(self.text), "something to follow")
        for pattern, meant in _INSTEAD:
            found = pattern.match(self.text, at)
            if found:
                self.refuse(at, f"{meant}, not {found[0]!r}")
        if error.msg != "invalid syntax":
            self.refuse(at, f"what Python can read ({error.msg})")
        word = _WORD.match(self.text, at)
        self.refuse(at, f"an operator or the end, not {(word or self.text[at])[0]!r}")

    def _error_offset(self, error: SyntaxError) -> int:
        """Where Python stopped reading; it counts characters from 1 here, and 0 means the end."""
        if not error.lineno or not error.offset or error.lineno > len(self._lines):
            return len(self.text)
        at = min(self._start + self._lines[error.lineno - 1] + error.offset - 1, len(self.text))
        while 0 < at < len(self.text) and self.text[at - 1] == self.text[at] and self.text[at] in "=&|":
            at -= 1
        return at
