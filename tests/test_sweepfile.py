"""A sweep file: which configs it says, and what is refused with which words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker import ParamsError
from tracker.grids import grid, product, zipped
from tracker.sweepfile import SweepFile, parse_sweep

yaml = pytest.importorskip("yaml")


def as_json(tree: Any) -> SweepFile:
    return parse_sweep(json.dumps(tree).encode(), "sweep.json")


AXES = {"lr": [0.1, 1, 1.0], "model.width": [64]}
OTHERS = {"seed": [1, 2]}

SAID = [
    ([{"lr": 1}, {"lr": 1.0}], [{"lr": 1}, {"lr": 1.0}]),
    ([], []),
    ({"configs": [{"lr": 1}]}, [{"lr": 1}]),
    ({"grid": AXES}, grid(AXES)),
    ({"zip": OTHERS}, zipped(OTHERS)),
    ({"product": [{"grid": AXES}, {"zip": OTHERS}]}, product(grid(AXES), zipped(OTHERS))),
    ({"product": [[{"a": 1}, {"b": 2}], {"grid": OTHERS}]}, product([{"a": 1}, {"b": 2}], grid(OTHERS))),
    (
        {"concat": [{"grid": AXES}, [{"a": 1}], {"concat": [{"zip": OTHERS}]}]},
        [*grid(AXES), {"a": 1}, *zipped(OTHERS)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "configs"), SAID, ids=[json.dumps(tree)[:40] for tree, _ in SAID])
def test_a_file_says_what_python_would(tree, configs):
    by_json = as_json(tree)
    by_yaml = parse_sweep(yaml.safe_dump(tree).encode(), "sweep.yaml")

    assert by_json == by_yaml == SweepFile(configs, None, None)
    assert repr(by_json.configs) == repr(by_yaml.configs) == repr(configs)


def test_identifier_and_namespace_are_beside_the_configs():
    tree = {"identifier": "train", "namespace": "a/b", "configs": [{"identifier": "x"}]}

    assert as_json(tree) == SweepFile([{"identifier": "x"}], "train", "a/b")


def test_integers_and_floats_are_kept_apart_and_a_byte_order_mark_is_skipped():
    told = parse_sweep(b'\xef\xbb\xbf[{"a": 1, "b": 1.0, "c": 1e0, "d": 12345678901234567890123}]', "s")

    assert [repr(value) for value in told.configs[0].values()] == [
        "1",
        "1.0",
        "1.0",
        "12345678901234567890123",
    ]


def test_an_alias_and_a_merge_key_are_yaml():
    text = b"configs:\n- &base {lr: 1.0e-3, opt: 'on'}\n- {<<: *base, seed: 1}\n- *base\n"

    assert parse_sweep(text, "s.yml").configs == [
        {"lr": 0.001, "opt": "on"},
        {"lr": 0.001, "opt": "on", "seed": 1},
        {"lr": 0.001, "opt": "on"},
    ]


def test_aliases_of_aliases_are_looked_at_once():
    levels = [f"  b{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)]
    text = "configs:\n- b0: &a0 [x]\n" + "".join(levels)

    assert len(parse_sweep(text.encode(), "s.yaml").configs[0]) == 30


REFUSED_JSON = [
    ('{"gird": {}}', "s.json: gird: is no word of a sweep file; give one of configs, grid, zip"),
    ("{}", "s.json: nothing is given; give one of configs,"),
    ('{"grid": {"a": [1]}, "zip": {"a": [1]}}', "s.json: grid and zip is given; give one of configs,"),
    ('{"identifier": "t"}', "s.json: nothing is given; give one of"),
    ('{"identifier": 3, "configs": []}', "s.json: identifier: give a text, not 3"),
    ("3", "s.json: give a list of configs or an object with one of configs, grid, zip, product,"),
    ("null", "s.json: give a list of configs or an object"),
    ("[1]", "s.json[0]: give an object, not 1"),
    ('{"configs": {"a": 1}}', "s.json: configs: give a list of configs, not an object"),
    ('{"configs": [[]]}', "s.json: configs[0]: give an object, not an empty list"),
    ('{"grid": [1]}', "s.json: grid: give an object of lists of values, not a list"),
    ('{"grid": {"lr": 0.1}}', "s.json: grid: lr: give a list of values, not float 0.1"),
    ('{"grid": {"lr": []}}', "s.json: grid: lr: there is no value; give at least one"),
    ('{"grid": {}}', "s.json: grid: grid: there is no axis;"),
    ('{"zip": {"a": [1], "b": [1, 2]}}', "s.json: zip: zipped: the axes differ in length: a has 1, b has 2;"),
    ('{"product": []}', "s.json: product: give a list of objects or of lists of configs, not an empty list"),
    ('{"product": [{"grid": {"a": 1}}]}', "s.json: product[0]: grid: a: give a list of values, not int 1"),
    (
        '{"product": [[{"a": 1}], {"grid": {"a": [1]}}]}',
        "s.json: product[1]: the key 'a' stands in product[0] too; keep one of them",
    ),
    ('{"concat": [{"identifier": "t", "configs": []}]}', "s.json: concat[0]: identifier: is no word of a"),
    ('{"concat": [7]}', "s.json: concat[0]: give a list of configs or an object"),
    ("[{}", "s.json: not JSON at line 1, column 4: "),
    ("", "s.json: not JSON at line 1, column 1: "),
    ('[{"a": NaN}]', 's.json: NaN is not JSON; params have it as the word "NaN", in quotes'),
    ('[{"a": 1e999}]', 's.json: no double is as great as 1e999; write "Infinity" if that is meant'),
    ('[{"a": 1, "a": 2}]', "s.json: the key 'a' occurs twice in one object; keep one of them"),
    ('[{"a": ' + "9" * 1301 + "}]", "s.json: an integer of 1301 digits; params have at most 4096 bits"),
    ('{"concat": [' * 40 + "[]" + "]}" * 40, "nested too deep; at most 32 are allowed"),
    ("[" * 100_000, "s.json: nested too deep; params have at most 32 containers"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), REFUSED_JSON, ids=[text[:40] for text, _ in REFUSED_JSON])
def test_json_that_is_no_sweep_is_refused_at_its_place(text, want):
    with pytest.raises(ParamsError, match=re.escape(want)):
        parse_sweep(text.encode(), "s.json")


REFUSED_YAML = [
    ("grid:\n  lr: [1e-3]", "s.yaml: line 2, column 8: 1e-3: is a text in YAML; write a number with point"),
    ("grid: {lr: [1.5E3]}", "line 1, column 13: 1.5E3: is a text in YAML"),
    ("grid: {a: [yes]}", "s.yaml: line 1, column 12: yes: is true or false in YAML; write that, or put it"),
    ("- {country: NO}", "NO: is true or false in YAML"),
    ("- {on: 1}", "line 1, column 4: a key is no text; put it in quotes"),
    ("- {1: 2}", "s.yaml: line 1, column 4: a key is no text; put it in quotes"),
    ("- {[a]: 2}", "a key is no text; put it in quotes"),
    ("- {a: 1, a: 2}", "s.yaml: line 1, column 10: the key 'a' occurs twice in one object; keep one of them"),
    ("- {a: 010}", "010: is in base 8 or 60 in YAML"),
    ("- {a: 1:30}", "1:30: is in base 8 or 60 in YAML"),
    ("- {a: 2026-01-01}", "2026-01-01: is no plain value in YAML; put it in quotes"),
    ("a: b: c", "s.yaml: not YAML at line 1, column 5: mapping values are not allowed here"),
    ("- !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    ("a: 1\n---\nb: 2", "s.yaml: not YAML at line 2, column 1: but found another document"),
    ("", "s.yaml: give a list of configs or an object with"),
    ("\x00", "s.yaml: not YAML: unacceptable character"),
    ("[" * 5000, "s.yaml: "),
]


@pytest.mark.parametrize(("text", "want"), REFUSED_YAML, ids=[repr(text[:40]) for text, _ in REFUSED_YAML])
def test_yaml_that_means_another_thing_than_it_says_is_refused_at_its_place(text, want):
    with pytest.raises(ParamsError, match=re.escape(want)):
        parse_sweep(text.encode(), "s.yaml")


def test_what_is_not_utf_8_is_refused():
    with pytest.raises(ParamsError, match=r"^s\.json: not UTF-8 at byte 1; write the file as UTF-8$"):
        parse_sweep(b"[\xff]", "s.json")


def test_numbers_that_yaml_and_python_agree_on_are_taken():
    text = b"- {a: 1.0e-3, b: -7, c: 0, d: 0x10, e: '1e-3', f: .5, g: true, h: null, i: 1_000}"
    told = parse_sweep(text, "s.yaml").configs

    assert told == [
        {"a": 0.001, "b": -7, "c": 0, "d": 16, "e": "1e-3", "f": 0.5, "g": True, "h": None, "i": 1000}
    ]


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:&*!-<ab1 \n', max_size=40).map(str.encode))
@pytest.mark.parametrize("name", ["s.json", "s.yaml"])
def test_any_bytes_are_a_sweep_or_a_refusal(name, data):
    try:
        told = parse_sweep(data, name)
    except ParamsError as error:
        assert str(error).startswith(name)
    else:
        assert all(isinstance(config, dict) for config in told.configs)
