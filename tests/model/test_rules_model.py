"""Rules of a store, held against the vectors, the reference's own reading, and the laws of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import reference
from hypothesis import assume, given
from hypothesis import strategies as st

from tracker._codec.canonical import canonical
from tracker._codec.digest import uid_of
from tracker._model.event import Created, decode_events, encode_events
from tracker._model.event import Rule as RuleEvent
from tracker._model.rules import (
    NO_RULES,
    Rule,
    RuleError,
    Rules,
    alias_of,
    apply_rules,
    format_path,
    parse_path,
    rules_of,
)
from tracker.errors import ParamsError
from tracker.terms import RunRef

VECTORS = json.loads((Path(reference.__file__).parent / "vectors" / "rules.json").read_text(encoding="utf-8"))


def rules_from(rows: list[list[Any]]) -> Rules:
    return rules_of(RuleEvent(*row) for row in rows)


def rows_of(rules: Rules) -> list[list[Any]]:
    return [[rule.event.kind, rule.event.path, rule.event.value] for rule in rules]


def test_there_are_vectors():
    assert len(VECTORS["written"]) > 10
    assert len(VECTORS["contradictions"]) > 5


@pytest.mark.parametrize(("text", "keys"), VECTORS["paths"])
def test_a_path_is_read_and_written_as_the_vector_says(text, keys):
    assert parse_path(text) == tuple(keys) == reference.place_of(text)
    assert format_path(tuple(keys)) == text


@pytest.mark.parametrize("text", VECTORS["no_paths"])
def test_a_text_that_is_no_path_is_refused(text):
    with pytest.raises(RuleError, match="write it as"):
        parse_path(text)


def test_people_may_write_single_quotes():
    assert parse_path("a['b.c'].d") == ("a", "b.c", "d")


def test_a_path_has_at_most_31_keys():
    assert len(parse_path(".".join("a" * 31))) == 31
    with pytest.raises(RuleError, match="1 to 31 keys"):
        parse_path(".".join("a" * 32))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=31))
def test_every_path_comes_back(keys):
    assume(not keys[0].startswith("@"))
    text = format_path(tuple(keys))

    assert parse_path(text) == tuple(keys) == reference.place_of(text)


@given(st.text(alphabet="ab.[]'\"\\@ é", max_size=12))
def test_any_text_is_a_path_or_refused(text):
    try:
        path = parse_path(text)
    except RuleError:
        return
    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize("case", VECTORS["written"], ids=lambda case: case["name"])
def test_params_are_written_as_the_vector_says(case):
    rules = rules_from(case["rules"])
    written = rules.written(case["params"].encode())
    tree, ignored = reference.written_form(case["rules"], json.loads(case["params"]))

    assert (written.text.decode(), written.ignored) == (case["text"], case["ignored"])
    assert (reference.form_1(tree).decode(), ignored) == (case["text"], json.loads(case["ignored"] or "{}"))
    assert uid_of(written.text) == case.get("uid", reference.uid(case["text"]))
    assert alias_of(rules, case["params"].encode()) == reference.alias(case["rules"], case["params"])


def test_a_tree_that_is_given_stays_as_it_is():
    tree = {"device": "cpu", "lr": 1}

    assert apply_rules(Rules([Rule.ignore("device")]), tree) == ({"lr": 1}, {"device": "cpu"})
    assert tree == {"device": "cpu", "lr": 1}


@pytest.mark.parametrize("case", VECTORS["refused_params"])
def test_params_whose_rename_leads_to_a_taken_path_are_refused(case):
    rules = rules_from(case["rules"])
    with pytest.raises(ParamsError, match=r"params at lr: .*`rename lr optim\.lr`.*optim"):
        rules.written(case["params"].encode())
    with pytest.raises(reference.Refused):
        reference.written_form(case["rules"], json.loads(case["params"]))

    assert alias_of(rules, case["params"].encode()) == reference.uid(case["params"])


@pytest.mark.parametrize("rows", VECTORS["contradictions"], ids=str)
def test_a_contradiction_is_refused_and_names_its_rules(rows):
    with pytest.raises(RuleError) as caught:
        rules_from(rows)

    assert len(caught.value.rules) == min(len(rows), 2)
    assert all(f"`{name}`" in str(caught.value) for name in caught.value.rules)


@pytest.mark.parametrize(
    "event",
    [
        RuleEvent("forget", "a", None),
        RuleEvent("ignore", "a..b", None),
        RuleEvent("absent", "a", None),
        RuleEvent("absent", "a", "1,2"),
        RuleEvent("absent", "a", '1,"b":2'),
        RuleEvent("absent", "a", " 1"),
        RuleEvent("rename", "a", "b"),
        RuleEvent("rename", "a", None),
        RuleEvent("rename", "a", "5.5"),
    ],
)
def test_a_rule_of_the_ledger_that_cannot_be_read_is_named(event):
    with pytest.raises(RuleError, match=event.kind) as caught:
        rules_of([event])

    assert "no params are looked up here" in str(caught.value)


@pytest.mark.parametrize("case", VECTORS["aliases"])
def test_an_alias_is_that_of_the_bare_params(case):
    assert alias_of(rules_from(case["rules"]), case["params"].encode()) == case["alias"]
    assert reference.alias(case["rules"], case["params"]) == case["alias"]


def test_a_text_that_is_not_canonical_keeps_its_uid():
    text = b'{"device": 1}'

    assert alias_of(Rules([Rule.ignore("device")]), text) == uid_of(text)


def test_a_rule_goes_through_its_event():
    for rule in (Rule.ignore('a["b.c"]'), Rule.absent("x", {"k": [1, None]}), Rule.rename("a.b", '["c d"]')):
        assert rules_of([rule.event, rule.event]) == Rules([rule])


def test_two_orders_of_rules_are_one_set():
    rules = [Rule.ignore("a"), Rule.absent("b", 1), Rule.rename("c", "d")]

    assert Rules(rules) == Rules(rules[::-1])
    assert Rules(rules).digest == Rules(rules[::-1]).digest != NO_RULES.digest


def test_what_was_ignored_is_the_last_field_of_created_and_is_left_out_where_it_is_nothing():
    vector = VECTORS["created"]
    tag, ref, params, key, mode, ignored = vector["fields"]
    event = Created(RunRef(ref), params, key, mode, ignored)
    payload = encode_events([event])

    assert payload[1:] == bytes.fromhex(vector["msgpack"]) == reference.pack(vector["fields"])
    assert decode_events(payload) == [event]
    assert encode_events([Created(RunRef(ref), params, key, mode)])[1:] == reference.pack(
        vector["fields"][:5]
    )
    odd = reference.pack([[tag, ref, params, key, mode, 5]])
    assert decode_events(odd) == [Created(RunRef(ref), params, key, mode)]


# Laws

KEYS = st.sampled_from("abc")
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 1.0, "x", []]),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TREES = st.dictionaries(KEYS, VALUES, max_size=3)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(".".join)
RULE = st.one_of(
    PATHS.map(lambda path: ["ignore", path, None]),
    st.tuples(PATHS, VALUES).map(lambda two: ["absent", two[0], canonical({"": two[1]})[4:-1].decode()]),
    st.tuples(PATHS, PATHS).map(lambda two: ["rename", two[0], json.dumps(two[1])]),
)


@given(st.lists(RULE, max_size=5), TREES)
def test_the_written_form_is_the_references_and_its_own(rows, tree):
    try:
        rules = rules_from(rows)
    except RuleError:
        assume(False)
    text = canonical(tree)
    try:
        want = reference.written_form(rows, tree)
    except reference.Refused:
        with pytest.raises(ParamsError):
            rules.written(text)
        return
    written = rules.written(text)

    assert written.text == reference.form_1(want[0])
    assert json.loads(written.ignored or "{}") == want[1]
    assert rules.written(written.text).text == written.text
    assert alias_of(rules, text) == uid_of(written.text)
    assert apply_rules(rules, tree)[0] == want[0]


@given(st.lists(RULE, max_size=5), TREES)
def test_what_no_rule_may_touch_none_touches(rows, tree):
    try:
        rules = rules_from(rows)
    except RuleError:
        assume(False)
    assume(not rules.may_touch(canonical(tree)))

    assert reference.form_1(reference.written_form(rows, tree)[0]) == canonical(tree)
