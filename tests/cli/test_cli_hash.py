"""`hash`: the uid of a JSON file, and what is refused rather than guessed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_sessions import ONE, TENTH, Call, command

import tracker
from tracker._codec.canonical import canonical_with_repeat
from tracker._codec.digest import uid_of

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "canonical.json"

NO_NUMBER = re.compile(r"(?<![\w\"])-?(NaN|Infinity)(?![\w\"])")


def hashed(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command("hash", "-", *arguments), input=data, capture_output=True)


def file_of(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "params.json"
    path.write_bytes(data)
    return path


def test_a_canonical_file_has_its_uid_and_nothing_is_said(tmp_path: Path, call: Call) -> None:
    told = call("hash", file_of(tmp_path, b'{"lr":0.1}'))

    assert (told.code, told.out, told.err) == (0, f"{TENTH}\n", "")


@pytest.mark.parametrize(
    "data", [b'{"lr":0.1}\n', b'{ "lr": 0.1 }', b'{"lr":1e-1}', b'{"lr":0.10}', b'{"\\u006cr":0.1}']
)
def test_another_spelling_has_the_uid_of_its_canonical_form_and_is_told_of(
    data: bytes, tmp_path: Path, call: Call
) -> None:
    told = call("hash", file_of(tmp_path, data))

    assert (told.code, told.out) == (0, f"{TENTH}\n")
    assert told.err.startswith("tracker: warning: ")
    assert told.err.count("\n") == 1


def test_numbers_keep_their_type(tmp_path: Path, call: Call) -> None:
    assert call("hash", file_of(tmp_path, b'{"lr": 1}')).out == f"{ONE}\n"
    assert call("hash", file_of(tmp_path, b'{"lr": 1.0}')).out == f"{tracker.uid({'lr': 1.0})}\n"


def test_json_has_both(tmp_path: Path, call: Call) -> None:
    data = b'{"lr": 0.1}\n'
    told = json.loads(call("hash", file_of(tmp_path, data), "--json").out)

    assert told == {"uid": TENTH, "canonical": False, "b3sum": uid_of(data), "text": '{"lr":0.1}'}


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_b3sum_agrees_on_what_it_sees(tmp_path: Path, call: Call) -> None:
    for data in (b'{"lr":0.1}', b'{"lr": 0.1}\n'):
        path = file_of(tmp_path, data)
        line = ["b3sum", "-l", "16", "--no-names", str(path)]
        judged = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

        assert json.loads(call("hash", path, "--json").out)["b3sum"] == judged


def test_the_vectors_hash_to_their_uids(tmp_path: Path, call: Call) -> None:
    texts = json.loads(VECTORS.read_text())["texts"]
    cases = [case for case in texts if not NO_NUMBER.search(case["input"])]

    assert len(cases) > 20
    for case in cases:
        told = json.loads(call("hash", file_of(tmp_path, case["input"].encode()), "--json").out)
        assert (told["uid"], told["text"]) == (case["blake3"][:32], case["canonical"])


def test_the_vectors_that_are_refused_are_refused(tmp_path: Path, call: Call) -> None:
    """But for a repeat's own params, which a file may hold."""
    cases = [case["input"] for case in json.loads(VECTORS.read_text())["refused_texts"]]

    assert cases
    accepted = [text for text in cases if call("hash", file_of(tmp_path, text.encode())).code != 2]
    assert accepted == ['{"@repeat":"0123456789abcdef"}']


def test_a_repeats_params_with_a_line_feed_are_still_a_repeats(tmp_path: Path, call: Call) -> None:
    text = canonical_with_repeat(b'{"lr":0.1}', "0123456789abcdef")

    assert call("hash", file_of(tmp_path, text + b"\n")).out == f"{uid_of(text)}\n"


REFUSED = {
    "a NaN": (b'{"x": NaN}', 'the word "NaN"'),
    "an infinity": (b'{"x": [-Infinity]}', 'the word "-Infinity"'),
    "too great a number": (b'{"x": 1e400}', "no double is as great"),
    "a member twice": (b'{"x": 1, "x": 1}', "occurs twice"),
    "an array": (b"[1]", "not a mapping"),
    "a number": (b"1", "not a mapping"),
    "nothing": (b"", "not JSON"),
    "half of it": (b'{"x":', "not JSON"),
    "no UTF-8": (b'{"x": "\xff"}', "not UTF-8 at byte 7"),
    "UTF-16": ('{"x": 1}'.encode("utf-16"), "not UTF-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"x": 1}', "not JSON"),
    "a lone surrogate": (b'{"x": "\\ud800"}', ""),
    "a reserved key": (b'{"@x": 1} ', "reserved"),
    "a false repeat": (b'{"@repeat": 7} ', "16 lower-case hex digits"),
    "a long integer": (b'{"x": ' + b"9" * 5000 + b"}", "5000 digits"),
    "an integer past the limit": (b'{"x": ' + b"9" * 1290 + b"}", "4096"),
    "deep nesting": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    "nesting past the limit": (b'{"x": ' + b"[" * 40 + b"]" * 40 + b"}", ""),
    "more than a mebibyte": (b'{"x": "' + b"x" * (1 << 20) + b'"}', "at most 1,048,576"),
    "far too much": (b" " * (17 << 20), "has more than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_with_exit_code_2(case: str, tmp_path: Path, call: Call) -> None:
    data, says = REFUSED[case]
    told = call("hash", file_of(tmp_path, data))

    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1
    assert len(told.err) < 400
    assert says in told.err


def test_standard_input_is_read(tmp_path: Path) -> None:
    told = hashed(b'{"lr":0.1}')

    assert (told.returncode, told.stdout, told.stderr) == (0, f"{TENTH}\n".encode(), b"")
    assert b"standard input" in hashed(b'{"lr": 0.1}').stderr


def test_a_stream_without_end_is_left_at_a_limit(call: Call) -> None:
    told = call("hash", "/dev/zero")

    assert told.code == 2
    assert "has more than" in told.err
