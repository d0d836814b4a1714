"""Why params are found or not.

Held against the reference's leaves, and against what happens when the rule that is told is added.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from tracker import Durability, NameRefusedError, ParamsError, Project
from tracker import why as room
from tracker._codec.canonical import canonical
from tracker._model.rules import Rule
from tracker.ruling import add_rule
from tracker.trash import remove
from tracker.why import Difference, differences

TWIN = "numeric twin: the same number, written as integer and as float"
NO_A = "not asked for"
NO_R = "not recorded"


def done(project: Project, params: Any, identifier: str = "train") -> str:
    return project.session(identifier, params).start().done().ref


def told(asked: Any, recorded: Any) -> list[tuple[str, str | None, str | None, str]]:
    found = differences(canonical(asked), canonical(recorded))
    return [(one.path, one.asked, one.recorded, one.note) for one in found]


@pytest.mark.parametrize(
    ("asked", "recorded", "want"),
    [
        ({"lr": 1}, {"lr": 1}, []),
        ({"lr": 1}, {"lr": 2}, [("lr", "1", "2", "")]),
        ({"lr": 1}, {"lr": 1.0}, [("lr", "1", "1.0", TWIN)]),
        ({"lr": 1}, {"lr": "1"}, [("lr", "1", '"1"', "number beside text")]),
        ({"lr": True}, {"lr": 1}, [("lr", "true", "1", "bool beside number")]),
        ({"lr": None}, {"lr": {}}, [("lr", "null", "{}", "null beside object")]),
        ({"a": {"b": 1}}, {"a": {}}, [("a", None, "{}", NO_A), ("a.b", "1", None, NO_R)]),
        ({"a.b": 1}, {"a": {"b": 1}}, [("a.b", None, "1", NO_A), ('["a.b"]', "1", None, NO_R)]),
        ({"l": [1, 2]}, {"l": [1, 2.0]}, [
            ("l", "[1,2]", "[1,2.0]", TWIN),
        ]),
    ],
)  # fmt: skip
def test_fields_that_differ_are_told_with_what_is_odd_about_them(asked, recorded, want):
    assert told(asked, recorded) == want


def test_the_member_of_a_repeat_is_no_field():
    assert differences(b'{"lr":1}', b'{"@repeat":"0123456789abcdef","lr":1}') == []


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 1.0, "x", []]),
    lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
TREES = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@given(TREES, TREES)
def test_differences_are_those_of_the_references_leaves(one, other):
    a = {place: reference.form_1([leaf])[1:-1].decode() for place, leaf in reference.leaves_of(one).items()}
    b = {place: reference.form_1([leaf])[1:-1].decode() for place, leaf in reference.leaves_of(other).items()}
    want = {".".join(p): (a.get(p), b.get(p)) for p in a.keys() | b.keys() if a.get(p) != b.get(p)}

    assert {path: (x, y) for path, x, y, _ in told(one, other)} == want


def test_a_finished_run_is_a_hit(store):
    ref = done(store, {"lr": 1})
    why = store.why("train", {"lr": 1})

    assert (why.is_hit, why.uid, why.nearest) == (True, store.uid({"lr": 1}), [])
    assert [(one.ref, one.status, one.how) for one in why.attempts] == [(ref, "done", "these params")]


def test_what_was_never_run_has_its_nearest_runs_in_order(store):
    far, near, mid = (
        done(store, p) for p in ({"x": 1}, {"lr": 1, "n": 2, "m": 3}, {"lr": 5, "n": 2, "m": 4})
    )
    done(store, {"lr": 1, "n": 2, "m": 3}, "eval")
    why = store.why("train", {"lr": 1.0, "n": 2, "m": 3})

    assert not why.is_hit
    assert why.attempts == why.elsewhere == []
    assert [one.ref for one in why.nearest] == [near, mid, far]
    assert [len(one.differences) for one in why.nearest] == [1, 2, 4]
    assert why.nearest[0].differences == [Difference("lr", "1.0", "1", TWIN)]
    assert (why.compared, why.total) == (3, 3)


def test_at_most_five_are_told(store):
    for n in range(9):
        done(store, {"n": n})

    assert len(store.why("train", {"n": 99}).nearest) == 5


def test_a_run_that_failed_says_with_what_and_when(store):
    run = store.session("train", {"lr": 1}).start().error(ValueError("too great"))
    (one,) = store.why("train", {"lr": 1}).attempts

    assert (one.ref, one.status, one.what) == (run.ref, "error", "ValueError: too great")
    assert run.run is not None
    assert one.at_ms == run.run.attempts[0].ended_ms


def test_a_run_that_was_interrupted_or_is_executed_says_so(store):
    store.session("train", {"lr": 1}).start().interrupt("SIGTERM")
    running = store.session("train", {"lr": 2}).start()

    assert [one.status for one in store.why("train", {"lr": 1}).attempts] == ["interrupted"]
    assert [one.status for one in store.why("train", {"lr": 2}).attempts] == ["running"]
    assert store.why("train", {"lr": 3}).nearest[0].status in ("interrupted", "running")
    running.done()


def test_a_removed_run_says_why_it_was_removed(store):
    ref = done(store, {"lr": 1})
    remove(store.ledger, ref, "wrong data")
    why = store.why("train", {"lr": 1})

    assert not why.is_hit
    assert [(one.ref, one.status, one.what) for one in why.attempts] == [(ref, "removed", "wrong data")]
    assert why.nearest == []


def test_the_same_params_under_another_name_are_told(store):
    other, inner = done(store, {"lr": 1}, "eval"), done(store.sub("inner"), {"lr": 1})
    why = store.why("train", {"lr": 1})

    assert not why.is_hit
    assert [one.ref for one in why.elsewhere] == [other, inner]
    assert store.why(None, {"lr": 1}).is_hit, "without an identifier any is looked at"


def test_an_alias_is_a_hit_that_says_how(store):
    ref = done(store, {"lr": 1, "w": 4})
    add_rule(store.ledger, Rule.ignore("w"))
    why = store.why("train", {"lr": 1, "w": 8})

    assert (why.is_hit, why.text, why.ignored) == (True, '{"lr":1}', '{"w":8}')
    assert [(one.ref, one.how) for one in why.attempts] == [(ref, "by its alias under the rules of today")]


@pytest.mark.parametrize(
    ("recorded", "asked", "rule"),
    [
        ({"lr": 1}, {"lr": 1, "ema": False}, "absent ema false"),
        ({"lr": 1, "ema": False}, {"lr": 1}, "absent ema false"),
        ({"lr": 1, "n": 2}, {"optim": {"lr": 1}, "n": 2}, "rename lr optim.lr"),
        ({"lr": 1, "n": 2}, {"lr": 2, "n": 2}, None),
        ({"lr": 1}, {"lr": 1.0}, None),
        ({"lr": 1, "n": 2}, {"rate": 1, "n": 3}, None),
    ],
)
def test_the_one_rule_that_would_have_matched_is_told_and_keeps_its_word(recorded, asked, rule, store):
    done(store, recorded)
    (near,) = store.why("train", asked).nearest

    assert near.rule == rule
    if rule is not None:
        kind, path, value = rule.split()
        made = Rule.absent(path, json.loads(value)) if kind == "absent" else Rule.rename(path, value)
        add_rule(store.ledger, made)
        assert store.has("train", asked)


def test_a_rule_that_would_contradict_another_is_not_told(store):
    done(store, {"lr": 1})
    add_rule(store.ledger, Rule.absent("ema", value=True))

    assert store.why("train", {"lr": 1, "ema": False}).nearest[0].rule is None


def test_recorded_params_are_compared_in_their_written_form(store):
    done(store, {"lr": 1, "w": 4, "n": 1})
    add_rule(store.ledger, Rule.ignore("w"))
    (near,) = store.why("train", {"lr": 1, "n": 2, "w": 9}).nearest

    assert [one.path for one in near.differences] == ["n"]


def test_the_newest_are_compared_and_the_bound_is_told(store, monkeypatch):
    monkeypatch.setattr(room, "COMPARED_MAX", 3)
    made = [done(store, {"n": n}) for n in range(6)]
    why = store.why("train", {"n": 99})

    assert (why.compared, why.total) == (3, 6)
    assert sorted(one.ref for one in why.nearest) == sorted(made[3:])


@pytest.mark.parametrize("sealed", [True, False])
def test_it_says_the_same_from_the_index_and_from_a_live_journal(sealed, store, tmp_path):
    for n in range(4):
        done(store, {"n": n, "m": n % 2})
    if sealed:
        store.ledger.close()
    want = [
        "train/" + reference.uid(json.dumps({"m": m, "n": n}, separators=(",", ":")))
        for n, m in ((1, 1), (3, 1))
    ]

    assert {one.ref for one in Project(store.root).why("train", {"n": 9, "m": 1}).nearest[:2]} == set(want)


def test_asking_writes_nothing(tmp_path):
    project = Project(tmp_path / "none", durability=Durability.OFF)
    why = project.why("train", {"lr": 1})

    assert (why.is_hit, why.attempts, why.nearest, why.total) == (False, [], [], 0)
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_asked_is_refused(store):
    with pytest.raises(NameRefusedError):
        store.why("a/b", {})
    with pytest.raises(ParamsError):
        store.why("train", {"x": object()})
