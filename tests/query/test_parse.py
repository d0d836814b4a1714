"""Which texts are queries, what they mean as trees, and with which words the others are refused."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.errors import QueryError, TrackerError
from tracker.query import Field, Query, Space, fields_of, format_field, nearest, parse_query
from tracker.query.columns import COLUMNS
from tracker.query.parse import ATOMS_MAX, NESTING_MAX
from tracker.query.source import SIZE_MAX
from tracker.query.tree import And, Comparison, Exists, Literal, Match, Matching, Member, Not, OneOf, Op, Or

LR = Field(Space.PARAMS, ("lr",))


def read(text: str) -> object:
    """The tree without its columns."""
    return bare(parse_query(text).root)


def bare(node: object) -> object:
    if isinstance(node, tuple):
        return tuple(bare(part) for part in node)
    if not hasattr(node, "__struct_fields__"):
        return node
    names = [name for name in node.__struct_fields__ if name != "column"]
    return type(node)(**{name: bare(getattr(node, name)) for name in names})


def params(*path: str | int) -> Field:
    return Field(Space.PARAMS, path)


def column(*path: str | int) -> Field:
    return Field(Space.COLUMN, path)


def metrics(*path: str | int) -> Field:
    return Field(Space.METRICS, path)


TREES = {
    "lr == 0.1": Comparison(LR, Op.EQ, Literal(0.1)),
    "0.1 < lr": Comparison(LR, Op.GT, Literal(0.1)),
    "1 >= lr": Comparison(LR, Op.LE, Literal(1)),
    "lr != -1": Comparison(LR, Op.NE, Literal(-1)),
    "lr == --1": Comparison(LR, Op.EQ, Literal(1)),
    "lr == 0x10": Comparison(LR, Op.EQ, Literal(16)),
    "'a' 'b' == lr": Comparison(LR, Op.EQ, Literal("ab")),
    "lr == r'C:\\d'": Comparison(LR, Op.EQ, Literal("C:\\d")),
    "0 < lr <= 1": And((Comparison(LR, Op.GT, Literal(0)), Comparison(LR, Op.LE, Literal(1)))),
    "model.name == None": Comparison(params("model", "name"), Op.EQ, Literal(None)),
    "layers[0] == True": Comparison(params("layers", 0), Op.EQ, Literal(True)),
    "layers[-1] == 1": Comparison(params("layers", -1), Op.EQ, Literal(1)),
    "params['a.b'].c == 1": Comparison(params("a.b", "c"), Op.EQ, Literal(1)),
    "params['a']['b'].c == 1": Comparison(params("a", "b", "c"), Op.EQ, Literal(1)),
    "params.status == 1": Comparison(params("status"), Op.EQ, Literal(1)),
    "params.params == 1": Comparison(params("params"), Op.EQ, Literal(1)),
    "metrics.loss.min < 1": Comparison(metrics("loss", "min"), Op.LT, Literal(1)),
    "a.x == b.y": Comparison(params("a", "x"), Op.EQ, params("b", "y")),
    "status == 'done'": Comparison(column("status"), Op.EQ, Literal("done")),
    "namespace == '.'": Comparison(column("namespace"), Op.EQ, Literal("")),
    "identifier == '.'": Comparison(column("identifier"), Op.EQ, Literal(".")),
    "created >= '2026-11-01'": Comparison(column("created"), Op.GE, Literal(1793491200)),
    "ended < '2026-11-01T01:00+02:00'": Comparison(column("ended"), Op.LT, Literal(1793487600)),
    "started < '2026-11-01 00:00:00.25Z'": Comparison(column("started"), Op.LT, Literal(1793491200.25)),
    "started < 5": Comparison(column("started"), Op.LT, Literal(5)),
    "created in ('2026-11-01', 1.5)": OneOf(column("created"), (Literal(1793491200), Literal(1.5))),
    "duration > 60": Comparison(column("duration"), Op.GT, Literal(60)),
    "status in ('done', 'error')": OneOf(column("status"), (Literal("done"), Literal("error"))),
    "lr not in [1, None]": OneOf(LR, (Literal(1), Literal(None)), negated=True),
    "64 in layers": Member(Literal(64), params("layers")),
    "'paper' not in tags": Member(Literal("paper"), column("tags"), negated=True),
    "tags[0] == 'a'": Comparison(column("tags", 0), Op.EQ, Literal("a")),
    "exists(model.name)": Exists(params("model", "name")),
    "like(lr, 'res%')": Match(Matching.LIKE, LR, "res%"),
    "lr.startswith('a')": Match(Matching.STARTSWITH, LR, "a"),
    "model.name.endswith('a')": Match(Matching.ENDSWITH, params("model", "name"), "a"),
    "host.contains('')": Match(Matching.CONTAINS, column("host"), ""),
    "not exists(lr)": Not(Exists(LR)),
    "exists(a) and exists(b) or exists(lr)": Or(
        (And((Exists(params("a")), Exists(params("b")))), Exists(LR))
    ),
    "(exists(a) and exists(b)) and exists(lr)": And((Exists(params("a")), Exists(params("b")), Exists(LR))),
    "\t (exists(a)\r\n or # either\n exists(b))\n": Or((Exists(params("a")), Exists(params("b")))),
}


@pytest.mark.parametrize("text", TREES)
def test_a_text_means_its_tree(text):
    assert repr(read(text)) == repr(TREES[text])  # repr tells 1, 1.0 and True apart


STATUSES = "a status (pending, running, done, error, interrupted, lost)"

REFUSED = {
    "lr = 0.1": (4, "'==' to compare, not '='", None),
    "lr == 1 = 2": (9, "'==' to compare, not '='", None),
    "lr := 1": (4, "'==' to compare, not ':='", None),
    "lr === 1": (4, "'==', not '==='", None),
    "lr <> 1": (4, "'!=' to compare, not '<>'", None),
    "a == 1 && b == 1": (8, "'and', not '&&'", None),
    "a == 1 || b == 1": (8, "'or', not '||'", None),
    "(a == 1) & (b == 1)": (10, "'and', not '&'", None),
    "a == 1 | b == 1": (6, "'or' between comparisons, not '|'", None),
    "a == 1 AND b == 1": (8, "'and', not 'AND'", None),
    "!exists(a)": (1, "'not', not '!'", None),
    "~exists(a)": (1, "'not', not '~'", None),
    "a is None": (3, "'==' to compare, not 'is'", None),
    "a is not None": (3, "'!=' to compare, not 'is'", None),
    "a LIKE 'x'": (3, "like(x, 'pattern'), not 'LIKE'", None),
    "a == 1 Or b == 1": (8, "'or', not 'Or'", None),
    "a in in b": (6, "an operator or the end, not 'in'", None),
    "": (1, "a comparison, as lr < 0.1", None),
    "a ==": (5, "something to follow", None),
    "a == $1": (6, "an operator or the end, not '$'", None),
    "a == 1;": (7, "an operator or the end, not ';'", None),
    "(a == 1": (1, "what Python can read ('(' was never closed)", None),
    "a == 1and b == 2": (7, "a space or an operator after the number", None),
    "a == '\\d'": (7, "'\\\\' for a backslash in a text", None),
    "a == '\\477'": (7, "'\\\\' for a backslash in a text", None),
    "a\0b": (2, "text, not the character '\\x00'", None),
    "a == '\ud800'": (7, "text, not the character '\\ud800'", None),
    "a == '\\0'": (6, "a text without NUL and lone surrogates", None),
    "a['\\ud800'] == 1": (3, "a text without NUL and lone surrogates", None),
    "model.flag": (1, "a comparison; write model.flag == True or exists(model.flag)", None),
    "lr < 1 and flag": (12, "a comparison; write flag == True or exists(flag)", None),
    "not flag": (5, "a comparison; write flag == True or exists(flag)", None),
    "True": (1, "a comparison; here nothing of a run is compared", None),
    "1 == 1": (1, "a field on one side; here nothing of a run is compared", None),
    "1 < 2 < lr": (1, "a field on one side; here nothing of a run is compared", None),
    "lr == [1]": (7, "one value; a list stands behind `in`", None),
    "lr in ()": (7, "a list of literals: field in ('a', 'b')", None),
    "lr in layers": (7, "a list of literals: field in ('a', 'b')", None),
    "lr in (1, x)": (11, "a literal here: a number, a text, True, False or None", None),
    "1 in (1, 2)": (6, "a field that holds a list: literal in field", None),
    "'a' in host": (8, "a field that holds a list; host.contains('…') finds a part", None),
    "1 in attempts": (6, "a field that holds a list", None),
    "lr == 2 * 3": (7, "a field or a literal; a query calculates nothing", None),
    "-lr == 1": (1, "a field or a literal; a query calculates nothing", None),
    "lr == +1": (7, "a field or a literal; a query calculates nothing", None),
    "lr == -True": (7, "a field or a literal; a query calculates nothing", None),
    "lr == b'a'": (7, "a field or a literal: a number, a text, True, False or None", None),
    "lr == 1j": (8, "a space or an operator after the number", None),
    "lr == ...": (7, "a field or a literal: a number, a text, True, False or None", None),
    "f'{lr}' == 'a'": (1, "a field or a literal: a number, a text, True, False or None", None),
    f"lr == {1 << 4096:#x}": (7, "an integer of at most 4096 bits, as params have", None),
    "a[1:2] == 1": (3, "a key in quotes or the number of an item", None),
    "a[True] == 1": (3, "a key in quotes or the number of an item", None),
    "a[b] == 1": (3, "a key in quotes or the number of an item", None),
    "a" + ".b" * 33 + " == 1": (1, "at most 32 parts of a field, as many as params have", None),
    "f(1).b == 1": (1, "a field, as lr, model.name, layers[0] or params['a.b']", None),
    "ﬁeld == 1": (1, "a name of plain letters, or the key in quotes: params['…']", None),
    "a.ﬁeld == 1": (1, "a name of plain letters, or the key in quotes: params['…']", None),
    "exists(params)": (8, "a member of params, as params.x or params['x']", None),
    "metrics[0] == 1": (1, "a member of metrics, as metrics.x or metrics['x']", None),
    "uid.x == 1": (1, "uid alone, which has no parts; the member of the params is params.uid", None),
    "uid == 1": (8, "a text, which uid is", None),
    "uid in ('a', True)": (14, "a text, which uid is", None),
    "attempts == '1'": (13, "a number, which attempts is", None),
    "attempts == True": (13, "a number, which attempts is", None),
    "duration > '1h'": (12, "a number of seconds, which duration is", None),
    "ended == None": (10, "not exists(ended); a column is never null", None),
    "tags == 'a'": (1, "a membership, as 'paper' in tags, not a comparison", None),
    "a == tags": (6, "a membership, as 'paper' in tags, not a comparison", None),
    "status == 'dne'": (11, f"{STATUSES}, not 'dne'", "done"),
    "status in ('done', 'DONE')": (20, f"{STATUSES}, not 'DONE'", "done"),
    "status == 'xyz'": (11, f"{STATUSES}, not 'xyz'", None),
    "created > 'soon'": (
        11,
        "a time as text ('2026-11-24', '2026-11-24T09:30:00+01:00') or in Unix seconds, not 'soon'",
        None,
    ),
    "exists()": (1, "exists(x)", None),
    "exists(1)": (8, "a field, as lr, model.name, layers[0] or params['a.b']", None),
    "like(a, b)": (9, "a literal here: a number, a text, True, False or None", None),
    "like(a, 1)": (9, "a text", None),
    "like(attempts, 'a')": (6, "a field that holds a text; attempts never does", None),
    "a.startswith(x='b')": (1, "x.startswith('a')", None),
    "lke(a, 'b')": (1, "exists(x) or like(x, 'res%'), not 'lke'", "like"),
    "a.startwith('b')": (
        3,
        "one of the methods startswith, endswith, contains, not 'startwith'",
        "startswith",
    ),
    "__import__('os').system('a')": (
        18,
        "one of the methods startswith, endswith, contains, not 'system'",
        None,
    ),
    "(lambda: 1)()": (1, "a function by its name", None),
    "exists(a) if b else c": (1, "a comparison, exists(x) or like(x, 'res%')", None),
    "not " * (NESTING_MAX + 1) + "exists(a)": (85, "at most 20 conditions inside each other", None),
    " or ".join(["a==1"] * (ATOMS_MAX + 1)): (4001, "at most 500 comparisons; `in` takes a list", None),
    "'" + "é" * (SIZE_MAX // 2) + "' == a": (1, "at most 65536 bytes of text", None),
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30].encode("ascii", "replace").decode())
def test_a_text_that_means_nothing_is_refused_where_it_goes_wrong(text):
    at, expected, suggestion = REFUSED[text]
    with pytest.raises(QueryError) as caught:
        parse_query(text)

    error = caught.value
    assert (error.column + 1, error.expected, error.suggestion, error.text) == (
        at,
        expected,
        suggestion,
        text,
    )


def test_the_message_is_one_line_with_place_and_cure():
    with pytest.raises(QueryError) as caught:
        parse_query("lr = 0.1")

    assert str(caught.value) == "query column 4: expected '==' to compare, not '=': lr = 0.1"
    assert isinstance(caught.value, TrackerError)
    assert isinstance(caught.value, ValueError)


def test_a_long_text_is_shown_around_the_place():
    text = "exists(a) or " * 30 + "(b ==\n\t1) or lke(c)"
    with pytest.raises(QueryError, match="did you mean 'like'") as caught:
        parse_query(text)

    shown = str(caught.value)
    assert len(shown) < 250
    assert shown.endswith("(b ==  1) or lke(c)")
    assert ": …" in shown


def test_columns_count_characters_of_the_text_and_not_bytes_of_a_line():
    query = parse_query(" ('日本' == a\r\n and é.b < 1\n and exists(params['😀']) and c == d)")

    assert [
        (use.text, query.text[use.column :].split(" ")[0].rstrip("\r\n)")) for use in fields_of(query)
    ] == [
        ("a", "a"),
        ("params['é'].b", "é.b"),
        ("params['😀']", "params['😀']"),
        ("c", "c"),
        ("d", "d"),
    ]


def test_no_warning_of_python_reaches_the_caller():
    """A doubtful spelling is refused, whatever the filters are, and nothing is printed."""
    for text in ("a == '\\d'", "a == 1or b == 2", "a == 0x1for b", "a == '\\777'"):
        with warnings.catch_warnings(record=True) as given_, pytest.raises(QueryError):
            warnings.simplefilter("always")
            parse_query(text)
        assert given_ == []


def test_a_number_beside_letters_in_a_text_or_name_is_no_doubt():
    for text in ("a == '1or'", "x1or == 1", "a1.b2 == 1e-3", "a == 1_000 or b == .5", "a == 1. and b == 1"):
        assert isinstance(parse_query(text), Query)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "(" * 300 + "a" + ")" * 300,
            "not " * 15000 + "a",
            "-" * 60000 + "1 == a",
            "a" + ".a" * 30000 + " == 1",
        ),
        *(
            "a" + "[0]" * 20000 + " == 1",
            "a == " * 12000 + "a",
            "a(" * 5000,
            "[" * 5000,
            "a == 9" + "9" * 5000,
        ),
    ],
    ids=lambda text: text[:5],
)
def test_what_is_too_deep_or_long_for_python_is_refused(text):
    with pytest.raises(QueryError):
        parse_query(text)


PIECES = [
    *(
        "lr",
        "model",
        ".",
        "name",
        "layers",
        "[",
        "]",
        "0",
        "-1",
        "(",
        ")",
        ",",
        "==",
        "!=",
        "<",
        "=",
        ">",
        "in",
    ),
    *(
        "not",
        "and",
        "or",
        "'a'",
        '"',
        "'",
        "\\",
        "exists",
        "like",
        ".startswith",
        "status",
        "created",
        "tags",
    ),
    *(
        "metrics",
        "params",
        "None",
        "True",
        "1e5",
        "0x",
        ";",
        "--",
        "#",
        "\n",
        " ",
        "\t",
        "é",
        "\0",
        "lambda",
        ":",
    ),
    *(
        "'2026-01-01'",
        "f'",
        "b'",
        "1j",
        "*",
        "**",
        "...",
        "is",
        "if",
        "else",
        "for",
        "yield",
        "await",
        "\r",
        "\x0c",
    ),
]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)))
def test_any_text_is_a_query_or_refused(text):
    check_text(text)


@given(st.sampled_from(sorted(TREES)), st.integers(0, 50), st.integers(0, 3), st.sampled_from(PIECES))
def test_any_query_with_a_slip_is_a_query_or_refused(text, at, cut, piece):
    check_text(text[:at] + piece + text[at + cut :])


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text):
    check_text(f"created > {text!r}")


def check_text(text: str) -> None:
    try:
        query = parse_query(text)
    except QueryError as error:
        assert 0 <= error.column <= len(text)
        assert "\n" not in str(error)
    else:
        assert fields_of(query)


def test_fields_are_listed_in_the_order_of_the_text():
    query = parse_query("0 < lr < 1 and not (model.nme == x or 1 in metrics.loss)")

    assert [(use.space, use.path, use.column) for use in fields_of(query)] == [
        (Space.PARAMS, ("lr",), 4),
        (Space.PARAMS, ("model", "nme"), 20),
        (Space.PARAMS, ("x",), 33),
        (Space.METRICS, ("loss",), 43),
    ]


@given(
    st.sampled_from([Space.PARAMS, Space.METRICS]),
    st.text(max_size=6).filter(lambda text: "\0" not in text),
    st.lists(st.one_of(st.sampled_from(["a", "like", "if", "é", "a.b"]), st.integers(-9, 9)), max_size=4),
)
def test_a_field_is_printed_as_it_is_read(space, first, rest):
    field = Field(space, (first, *rest))

    assert read(f"exists({format_field(field)})") == Exists(field)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_and_a_member_of_its_name_are_two_fields(name):
    assert format_field(column(name)) == name
    assert format_field(params(name)) == f"params.{name}"


@pytest.mark.parametrize(
    ("name", "want"),
    [("modle", "model"), ("LR", "lr"), ("lr", None), ("zzz", None), ("model.nme", "model.name"), ("", None)],
)
def test_the_nearest_name_is_a_likely_one(name, want):
    assert nearest(name, ["lr", "model", "model.name", "seed"]) == want


DOCS = (Path(__file__).resolve().parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")


def doc_lines(language: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def test_the_queries_of_the_docs_are_queries():
    lines = doc_lines("query")

    assert len(lines) > 15
    assert all(isinstance(parse_query(line), Query) for line in lines)


def test_the_errors_of_the_docs_are_what_is_said():
    lines = doc_lines("error")

    assert len(lines) > 5
    for line in lines:
        text = re.split(r"(?<=[^ ]): (?!expected)", line)[-1]
        with pytest.raises(QueryError) as caught:
            parse_query(text)
        assert str(caught.value) == line


@pytest.mark.parametrize("name", [*COLUMNS, "params", "metrics", *Matching, *Op])
def test_the_docs_name_every_word_of_the_language(name):
    assert re.search(rf"`[^`\n]*{re.escape(name)}[^`\n]*`", DOCS)


def test_a_key_inside_others_is_nearer_than_one_that_is_spelled_alike() -> None:
    assert nearest("lr", ["fit.lr", "lrs", "fit.deep.lr"]) == "fit.lr"
    assert nearest("lr", ["lr", "fit.lr"]) is None
