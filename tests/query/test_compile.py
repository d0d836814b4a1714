"""What the SQL of a query finds, case by case; that no text of a query is in it; that SQLite takes it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
import reference
import seen
from hypothesis import given
from hypothesis import strategies as st

from tracker.errors import QueryError
from tracker.query import Compiled, compile_query, parse_query
from tracker.query.parse import ATOMS_MAX, LITERALS_MAX, NESTING_MAX
from tracker.query.traces import trace_of
from tracker.query.tree import Comparison, Field, Literal, Op, Space

PARAMS: dict[str, Any] = {
    "lr": 0.1,
    "one": 1,
    "float": 1.0,
    "zero": 0,
    "flag": True,
    "off": False,
    "null": None,
    "arch": "resnet",
    "digits": "1",
    "empty": "",
    "layers": [64, 1.0, "a", True, None, [7], {"k": 1}],
    "model": {"name": "Café", "a.b": {"c": 2}, "width": 64},
    'q"t': {"back\\slash": [5, {"tab\t": "x"}]},
    "status": "mine",
    "text": '{"q\\"t": 1}',
    "no json": {'q"t': "{"},
    "big": 2**70,
    "2**53+1": 2**53 + 1,
}

RUN: dict[str, Any] = {
    "uid": "0f",
    "identifier": "train",
    "relpath": "",
    "key": None,
    "status": "done",
    "mode": "prefix",
    "params": reference.canonical_bytes(PARAMS).decode(),
    "first": [1793491200000 << 16, "w", 0, 0],
    "host": None,
    "user": "ann",
    "tags": ["a", "paper"],
    "summary": {
        "acc": 0.9,
        "loss": {"last": 0.5, "min": 0.25, "hist": [3, 2]},
        "none": {"last": None},
        "deep": {"a": {"last": 1}},
        "list": {"last": [1]},
        "val/loss": 2,
    },
    "name": "best one",
    "parent": None,
    "attempts": [
        {"started": 1793491200000, "ended": 1793491260500, "facts": {"commit": "c0ffee", "dirty": True}}
    ],
}

TRUE = [
    *(
        "lr == 0.1",
        "one == 1.0",
        "float == 1",
        "zero == -0.0",
        "one < 2",
        "0 < lr <= 0.1",
        "lr != 'a'",
        "lr != None",
    ),
    *(
        "flag == True",
        "off == False",
        "flag != 1",
        "one != True",
        "null == None",
        "null != 0",
        "exists(null)",
    ),
    *("arch == 'resnet'", "name < 's'", "digits != 1", "empty == ''", "layers != 1", "layers != None"),
    *("1 in layers", "'a' in layers", "True in layers", "None in layers", "7 not in layers", "7 not in lr"),
    *(
        "layers[0] == 64",
        "layers[-1].k == 1",
        "layers[-2][0] == 7",
        "7 in layers[5]",
        "not exists(layers[7])",
    ),
    *(
        "not exists(layers[-8])",
        "not exists(layers[4294967296])",
        "model.name == 'Café'",
        "like(model.name, 'c%é')",
    ),
    *(
        "params['model']['a.b'].c == 2",
        "not exists(model.a.b)",
        "params.status == 'mine'",
        "status == 'done'",
    ),
    *("params['q\"t']['back\\\\slash'][0] == 5", "params['q\"t']['back\\\\slash'][1]['tab\\t'] == 'x'"),
    *("5 in params['q\"t']['back\\\\slash']", "exists(params['q\"t'])", "not exists(params['q\"t']['x\"'])"),
    *("not exists(text['q\"t'])", "not exists(lr['q\"t'])", "params['no json']['q\"t'] == '{'"),
    *(
        "not exists(params['no json']['q\"t']['q\"t'])",
        "model.width == layers[0]",
        "one == float",
        "flag != one",
    ),
    *(
        "null != lr",
        "null == layers[4]",
        "flag == layers[3]",
        "arch > digits",
        "layers != layers",
        "arch == arch",
    ),
    *("like(arch, 'RES%')", "like(arch, '_esnet')", "arch.startswith('res')", "arch.endswith('net')"),
    *(
        "arch.contains('sn')",
        *(
            "name == 'best one'",
            "exists(name)",
            "not exists(parent)",
            "commit.startswith('c0')",
            "dirty == True",
        ),
        *("dirty != False", "dirty in (True,)", "dirty not in (False,)", "dirty == flag", "dirty != off"),
        *("exists(dirty)", "dirty == dirty", "not dirty == False", "metrics['val/loss'] == 2"),
        "arch.startswith('')",
        "arch.endswith('')",
        "empty.endswith('')",
        "empty.contains('')",
    ),
    *(
        "model.name.endswith('é')",
        "arch in ('a', 'resnet')",
        "one in (True, 1)",
        "null in (None,)",
        "lr not in (1,)",
    ),
    *("big == 1180591620717411303424", "big > 9223372036854775807", "big in (0, 1180591620717411303424)"),
    *("params['2**53+1'] != 9007199254740992.0", "params['2**53+1'] > 9007199254740992.0"),
    *(
        "identifier == 'train'",
        "uid == '0f'",
        "namespace == '.'",
        "namespace == ''",
        "namespace in ('.', 'a')",
    ),
    *("attempts == 1", "user.startswith('an')", "not exists(host)", "not exists(key)", "exists(user)"),
    *("'paper' in tags", "'b' not in tags", "tags[0] == 'a'", "tags[-1] == 'paper'", "exists(tags)"),
    *(
        "created == '2026-11-01'",
        "created == 1793491200",
        "created >= '2026-11-01T01:00+01:00'",
        "ended > started",
    ),
    *("duration == 60.5", "duration > lr", "ended == 1793491260.5", "ended == '2026-11-01T00:01:00.5'"),
    *("ended in ('2026-11-01', '2026-11-01T00:01:00.5Z')", "started == created", "user != identifier"),
    *("metrics.acc == 0.9", "metrics.loss == 0.5", "metrics.loss.min < 0.3", "metrics.loss.hist[-1] == 2"),
    *("metrics['val/loss'] == 2", "metrics.none == None", "exists(metrics.none)", "exists(metrics.deep)"),
    *(
        "metrics.deep.a.last == 1",
        "1 in metrics.list",
        "metrics.loss.min < metrics.loss",
        "not exists(metrics.x)",
    ),
]

FALSE = [
    *(
        "lr == '0.1'",
        "lr < 'a'",
        "flag == 1",
        "off == 0",
        "one == True",
        "null == 0",
        "digits == 1",
        "arch == None",
    ),
    *(
        "arch > 5",
        *(
            "dirty == False",
            "dirty < True",
            "dirty == one",
            "dirty == text",
            "dirty < flag",
            "dirty in (False,)",
        ),
        *("parent == 'x'", "parent != 'x'", "not exists(commit)", "params.name == 'best one'"),
        "flag > 0",
        "flag < True",
        "null < 1",
        "x == 1",
        "x != 1",
        "x < 1",
        "x in (1,)",
        "x not in (1,)",
    ),
    *(
        "1 in x",
        "1 not in x",
        "1 in one",
        "'res' in arch",
        "like(lr, '%')",
        "lr.contains('')",
        "x.contains('')",
    ),
    *(
        "layers == layers",
        "layers == 64",
        "x == x",
        "x != y",
        "lr != x",
        "host == 'a'",
        "host != 'a'",
        "host == user",
    ),
    *(
        "flag == one",
        "off < flag",
        "null < null",
        "metrics.none == 0",
        "like(arch, 'res')",
        "like(model.name, '%É')",
    ),
    *("arch.startswith('RES')", "arch.endswith('xresnet')", "big == 1180591620717411827712"),
    *(
        "host not in ('a',)",
        "arch in (True, 1, None)",
        "64 in model",
        "1 in layers[-1]",
        "metrics.loss == 0.25",
    ),
    *(
        "metrics.deep.a == 1",
        "metrics.deep.last == 1",
        "metrics.loss != 0.5",
        "exists(metrics.loss.last.last)",
    ),
]


@pytest.fixture(scope="module")
def database():
    return seen.make_seen([RUN])


@pytest.mark.parametrize("text", TRUE)
def test_a_run_is_found(text, database):
    assert seen.uids_where(database, compile_query(parse_query(text))) == {"0f"}
    assert seen.uids_where(database, compile_query(parse_query(f"not ({text})"))) == set()


@pytest.mark.parametrize("text", FALSE)
def test_a_run_is_not_found(text, database):
    assert seen.uids_where(database, compile_query(parse_query(text))) == set()
    assert seen.uids_where(database, compile_query(parse_query(f"not ({text})"))) == {"0f"}


NOTHING = [
    *("lr == 1", "lr != 1", "exists(lr)", "1 in lr", "1 not in lr", "lr.contains('')", "lr == metrics.x"),
    *(
        "params['q\"t'] != 1",
        "5 in params['q\"t']",
        "metrics.loss != 1",
        "exists(metrics.loss)",
        "key != uid",
    ),
    *("'a' in tags", "duration > 0", "started < '2100-01-01'", "mode in ('prefix',)", "like(host, '%')"),
]


@pytest.mark.parametrize("text", NOTHING)
def test_nulls_of_the_relation_are_what_is_not_there(text):
    database = seen.make_seen([])
    database.execute(
        "insert into seen (uid, identifier, relpath, status) values ('0f', 'train', '', 'pending')"
    )

    assert seen.uids_where(database, compile_query(parse_query(text))) == set()
    assert seen.uids_where(database, compile_query(parse_query(f"not ({text})"))) == {"0f"}


def test_a_run_without_tags_has_none_of_them():
    database = seen.make_seen([])
    database.execute("insert into seen (uid) values ('0f')")

    assert seen.uids_where(database, compile_query(parse_query("'a' not in tags"))) == {"0f"}


def test_a_nul_in_a_text_of_a_run_breaks_no_query():
    """Older SQLites end the text there, a limit that docs/queries.md tells."""
    database = seen.make_seen([{**RUN, "params": '{"a":"x\\u0000y","b":"x"}'}])

    assert seen.uids_where(database, compile_query(parse_query("exists(a) and b == 'x'"))) == {"0f"}


def test_the_sql_and_its_bindings():
    got = compile_query(parse_query("lr < 1e-3 and model.name == 'b'"))

    assert got == Compiled(
        "(instr(params, ?) > 0"
        " and case when json_type(params, ?) in ('integer', 'real')"
        " then json_extract(params, ?) < ? else 0 end"
        " and case when json_type(params, ?) = 'text' then json_extract(params, ?) = ? else 0 end)",
        ['"name":"b"', '$."lr"', '$."lr"', 0.001, '$."model"."name"', '$."model"."name"', "b"],
    )


TRACES = {
    "a == 'x'": '"a":"x"',
    "a == 3": '"a":3',
    "a == 3.0": '"a":3',
    "a == -0.0": '"a":0',
    "a == 0.001": '"a":0.001',
    "a == 1e-7": '"a":1e-7',
    "a == True": '"a":true',
    "a == None": '"a":null',
    "layers[1] == 'x'": '"x"',
    "params['q\"t'] == 'tab\t'": '"q\\"t":"tab\\t"',
}
"""What an equality leaves in the params: a whole number has the digits that the equal float begins with."""

TRACELESS = [
    *("a != 'x'", "a < 3", f"a == {2**53}", "a == 1e300", "metrics.a == 1", "host == 'x'", "'x' in tags"),
    *("a == b", "like(a, 'x')", "a in ('x', 'y')", "exists(a)"),
]


@pytest.mark.parametrize("text", TRACES)
def test_an_equality_asks_for_its_text_before_json_is_read(text):
    compiled = compile_query(parse_query(text))

    assert compiled.where.startswith("(instr(params, ?) > 0 and ")
    assert compiled.bindings[0] == TRACES[text]


@pytest.mark.parametrize("text", TRACELESS)
def test_what_has_more_than_one_text_asks_for_none(text):
    assert "instr(params" not in compile_query(parse_query(text)).where


def test_params_without_the_text_are_not_parsed():
    database = seen.make_seen([{**RUN, "params": '{"a":"y","b":'}])

    def count(text: str) -> int:
        where, bindings = compile_query(parse_query(text))
        return int(database.execute(f"select count(*) from seen where {where}", bindings).fetchone()[0])

    assert count("b < 1 and a == 'x'") == count("a == 'x' or a == 'z'") == 0
    assert count("not a == 'x'") == 1
    with pytest.raises(sqlite3.OperationalError, match="malformed JSON"):
        count("b < 1 and a == 'y'")


@given(
    st.text(max_size=8),
    st.one_of(
        st.text(max_size=8),
        st.booleans(),
        st.none(),
        st.integers(-5, 5),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
)
def test_a_trace_is_in_the_canonical_text_of_what_equals(key, value):
    """Judge: the reference's canonical text, of the value and of the equal number of the other type."""
    trace = trace_of(Comparison(Field(Space.PARAMS, ("in", key)), Op.EQ, Literal(value)))
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    for same in [value, *([int(value), float(value)] if is_whole and abs(value) < 2**53 else [])]:
        text = reference.canonical_bytes({"in": {"before": 1, key: same}}).decode()
        assert trace is None or trace.values[0] in text
    assert trace is not None or abs(value) >= 2**53


ATTACKS = [
    "' or 1=1 --", "'; drop table seen; --", '"', "\\", "')) union select params from seen --", "/* */", "?1",
    ":a", "$", "{}", "{0}", "%s", "’", "ʼ or 1", "＇", "\x1a", "\n--", "]", "[0]", '$."a"', '"].x', "#-1",
    "x'00'",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_query_is_in_the_sql(attack, database):
    inert = [compile_query(parse_query(text.replace("{}", repr("text")))) for text in HOLES]
    for text, harmless in zip(HOLES, inert, strict=True):
        compiled = compile_query(parse_query(text.replace("{}", repr(attack))))

        assert seen.unknown_words(compiled) == []
        if not set(attack) & set('"\\\n\x1a'):  # these are looked for step by step
            assert compiled.where == harmless.where
        seen.uids_where(database, compiled)


HOLES = [
    *("a == {}", "a != {}", "a < {}", "a in ({}, 1)", "{} in layers", "like(a, {})", "a.startswith({})"),
    *("a.endswith({})", "a.contains({})", "params[{}] == 1", "params.a[{}].b == 1", "1 in params[{}]"),
    *(
        "exists(metrics[{}])",
        "metrics.loss[{}] < metrics[{}]",
        "uid == {}",
        "host in ({},)",
        "namespace < {}",
    ),
]


@given(st.sampled_from(HOLES), st.text(max_size=20))
def test_any_text_in_any_place_leaves_the_sql_of_constants(hole, text):
    try:
        compiled = compile_query(parse_query(hole.replace("{}", repr(text))))
    except QueryError:
        assert "\0" in text
        return

    assert seen.unknown_words(compiled) == []
    seen.uids_where(seen.make_seen([RUN]), compiled)


def test_words_that_are_no_constants_are_found():
    """The check of the tests above, on SQL with a text in it."""
    assert seen.unknown_words(Compiled("lr = 'x' or ? = 1", [])) == ["lr", "'x'", "?"]


@given(st.text(min_size=1, max_size=8).filter(lambda key: "\0" not in key), st.integers(-3, 3))
def test_any_key_is_found_under_its_name(key, value):
    params = {key: value, "o": {key: [value]}} if key != "o" else {key: value}
    text = reference.canonical_bytes({k: v for k, v in params.items() if not k.startswith("@")}).decode()
    database = seen.make_seen([{**RUN, "params": text}])
    place = f"params.o[{key!r}][0]" if key.startswith("@") else f"params[{key!r}]"
    query = f"{place} == {value}"

    assert seen.uids_where(database, compile_query(parse_query(query))) == {"0f"}


AWKWARD = "params" + "['q\"t']" * 32
WORST = [f"{AWKWARD} == {AWKWARD}", f"metrics{AWKWARD[6:]} in (1, 'a', None)", f"{2**70} not in {AWKWARD}"]


@pytest.mark.parametrize("atom", [*WORST, "metrics.a == metrics.b"])
def test_sqlite_takes_the_deepest_query(atom, database):
    text = atom
    for level in range(NESTING_MAX // 2):
        word = "and" if level % 2 else "or"
        text = f"not (exists(a) {word} exists(b) {word} {text})"
    compiled = compile_query(parse_query(text))

    seen.uids_where(database, compiled)
    with pytest.raises(QueryError):
        parse_query(f"not ({text})")


@pytest.mark.parametrize("word", ["and", "or"])
def test_sqlite_takes_the_longest_query(word, database):
    atoms = [f"{'not ' * (NESTING_MAX - 1)}metrics.a == metrics.b" for _ in range(ATOMS_MAX)]

    seen.uids_where(database, compile_query(parse_query(f" {word} ".join(atoms))))


def test_sqlite_takes_the_longest_list(database):
    query = parse_query(f"not_there in ({'1,' * LITERALS_MAX})")

    assert seen.uids_where(database, compile_query(query)) == set()
    with pytest.raises(QueryError, match="at most 20000 literals"):
        parse_query(f"lr in ({'1,' * LITERALS_MAX}1)")


def test_more_bindings_than_sqlite_takes_are_refused():
    query = parse_query(" and ".join([f"{AWKWARD} == {AWKWARD}"] * 120))

    with pytest.raises(QueryError, match="a shorter query: it binds"):
        compile_query(query)


def test_the_longest_pattern_is_taken_and_a_longer_one_refused(database):
    compiled = compile_query(parse_query(f"like(arch, '{'a' * 50_000}')"))

    assert seen.uids_where(database, compiled) == set()
    with pytest.raises(QueryError, match="a pattern of at most 50000 bytes"):
        parse_query(f"like(arch, '{'a' * 50_001}')")


def test_a_value_beyond_the_doubles_is_one_value():
    database = seen.make_seen([{**RUN, "params": json.dumps({"a": 10**400})}])

    assert seen.uids_where(database, compile_query(parse_query(f"a == {10**401}"))) == {"0f"}
