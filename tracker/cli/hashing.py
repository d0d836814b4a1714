"""`hash`: the uid of a JSON file, with no store at all, or by the rules of one.

A file is taken for params as they were written by hand or by another program; what JSON can say in two ways,
or what two readers take for different values, is refused rather than guessed.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from typing import Any, NoReturn

from tracker._codec.canonical import (
    MAX_BYTES,
    REPEAT,
    canonical,
    canonical_with_repeat,
    parse,
    without_repeat,
)
from tracker._codec.digest import uid_of
from tracker._model.rules import NO_RULES, Rules, Written
from tracker.cli.command import Command
from tracker.cli.complaints import UsageError, warn
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.errors import ParamsError
from tracker.ruling import ruling_of

_READ_MAX = 16 * MAX_BYTES
_INT_DIGITS_MAX = 1300
"""No integer of so many digits is below the limit of params; Python itself refuses 4301."""


def hash_file(options: Namespace, screen: Screen) -> int:
    """Print the uid of a file's canonical form, or of what a store's rules make of it; say which it is."""
    data = read_params(options.file)
    form = canonical_form(data)
    rules = NO_RULES if options.directory is None else ruling_of(open_store(options, screen)).current()
    written = written_form(form, rules)
    text = written.text
    if screen.as_json:
        facts = {"uid": uid_of(text), "canonical": form == data, "b3sum": uid_of(data), "text": text.decode()}
        screen.json(facts if options.directory is None else {**facts, "ignored": written.ignored})
        return 0
    screen.write(f"{uid_of(text)}\n")
    screen.flush()
    if form != data:
        why = f"{_name(options.file)} is {_why_not_canonical(data)}"
        warn(f"{why}; the uid is that of its canonical form", sys.stderr)
    if text != form:
        warn("the uid is that of what the store's rules make of it: --json shows the text", sys.stderr)
    return 0


def written_form(text: bytes, rules: Rules) -> Written:
    """What rules make of a canonical text, the reserved member kept. Raises: ParamsError."""
    bare = without_repeat(text)
    if bare is None:
        return rules.written(text)
    written = rules.written(bare)
    return Written(canonical_with_repeat(written.text, parse(text)[REPEAT]), written.ignored)


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def read_params(file: str) -> bytes:
    """The bytes of a file or of standard input. Raises: UsageError."""
    if file == "-":
        data = sys.stdin.buffer.read(_READ_MAX + 1) if sys.stdin is not None else b""
    else:
        try:
            with open(file, "rb") as opened:
                data = opened.read(_READ_MAX + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            cure = "give a JSON file, or - for standard input"
            raise UsageError(f"{file}: {error.strerror}", cure) from error
    if len(data) > _READ_MAX:
        what = f"{_name(file)} has more than {_READ_MAX:,} bytes"
        raise UsageError(what, "put big data in a file and its hash in params")
    return data


def _why_not_canonical(data: bytes) -> str:
    try:
        parse(data)
    except ParamsError as error:
        return error.why
    raise AssertionError("other bytes than the canonical form are not canonical")


def canonical_form(data: bytes) -> bytes:
    """The canonical text of the params in some JSON. Raises: ParamsError for what has none."""
    tree = parse_json(data)
    token = tree.pop(REPEAT, None) if isinstance(tree, dict) else None
    text = canonical(tree)
    if token is None:
        return text
    try:
        return canonical_with_repeat(text, str(token))
    except ValueError as error:
        raise ParamsError(f"params[{REPEAT!r}]", str(error)) from error


def parse_json(data: bytes) -> Any:
    """The value of some JSON that can be read in one way alone. Raises: ParamsError."""
    try:
        return json.loads(
            data.decode(),
            parse_float=_float,
            parse_int=_int,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except ParamsError:
        raise
    except UnicodeDecodeError as error:
        raise ParamsError("params", f"not UTF-8 at byte {error.start}; write the file as UTF-8") from error
    except RecursionError as error:
        raise ParamsError("params", "nested too deep; at most 32 containers are allowed") from error
    except ValueError as error:
        raise ParamsError("params", f"not JSON: {error}; check it with `jq .`") from error


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        why = f'no double is as great as {text[:40]}; write the word "Infinity" if that is meant'
        raise ParamsError("params", why)
    return number


def _int(text: str) -> int:
    if len(text) > _INT_DIGITS_MAX:
        raise ParamsError("params", f"an integer of {len(text)} digits; at most 4096 bits are allowed")
    return int(text)


def _refuse_constant(word: str) -> NoReturn:
    raise ParamsError("params", f'{word} is not JSON; params have it as the word "{word}", in quotes')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ParamsError("params", f"the key {twice!r} occurs twice in one object; keep one of them")
    return members


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a JSON file, or - for standard input")


HASH = Command(
    "hash",
    "the uid of a JSON file",
    """\
Needs no store. A file in canonical form has the uid that b3sum prints. Of any
other file the uid is that of its canonical form, and standard error says so.
With -C the store's rules are applied: the uid is that of a run there. --json
gives uid, canonical (true or false), b3sum (of the bytes as they lie) and text
(what the uid is of), with -C also ignored.

examples:
  tracker hash params.json
  tracker -C results hash params.json
  echo '{"lr": 0.1}' | tracker hash -""",
    _arguments,
    hash_file,
)
