"""Text -> query. It knows which Python expressions a query may hold; SQL it does not know.

A comparison has a field; nothing is calculated; what could only be a mistake is refused where it stands.
Everything is bounded, so that SQLite takes whatever is accepted.
"""

from __future__ import annotations

import ast

from tracker.query.columns import TEXTS, Kind
from tracker.query.hints import nearest
from tracker.query.literals import fit_literal, kind_of
from tracker.query.operands import read_field, read_literal, read_operand
from tracker.query.source import Source
from tracker.query.tree import (
    And,
    Comparison,
    Exists,
    Expression,
    Field,
    Literal,
    Match,
    Matching,
    Member,
    Not,
    OneOf,
    Op,
    Or,
    Query,
)

NESTING_MAX = 20
ATOMS_MAX = 500
LITERALS_MAX = 20_000
PATTERN_MAX = 50_000
"""Bounds of SQLite: its parser's stack, an expression's depth, bindings, the bytes of a LIKE pattern."""

_OPS: dict[type[ast.cmpop], Op] = {
    ast.Eq: Op.EQ,
    ast.NotEq: Op.NE,
    ast.Lt: Op.LT,
    ast.LtE: Op.LE,
    ast.Gt: Op.GT,
    ast.GtE: Op.GE,
}
_TURNED = {Op.LT: Op.GT, Op.LE: Op.GE, Op.GT: Op.LT, Op.GE: Op.LE}
_FUNCTIONS = ("exists", "like")
_METHODS = [str(matching) for matching in Matching if matching is not Matching.LIKE]


def parse_query(text: str) -> Query:
    """Read a query.

    Cost: some 50 µs for a short one. Raises: QueryError, and never anything else for a str.
    """
    source = Source(text)
    return Query(text, _Reader(source).condition(source.body, 0))


class _Reader:
    """One pass over a syntax tree; it counts what it met."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._atoms = 0
        self._literals = 0

    def condition(self, node: ast.expr, depth: int) -> Expression:
        if depth > NESTING_MAX:
            self.source.refuse(self.source.start(node), f"at most {NESTING_MAX} conditions inside each other")
        match node:
            case ast.BoolOp(ast.And(), values):
                return And(tuple(self._parts(values, ast.And, depth)))
            case ast.BoolOp(ast.Or(), values):
                return Or(tuple(self._parts(values, ast.Or, depth)))
            case ast.UnaryOp(ast.Not(), operand):
                return Not(self.condition(operand, depth + 1))
            case ast.Compare():
                return self._chain(node)
            case ast.Call():
                self._count_atom(node)
                return self._call(node)
        return self._refuse_condition(node)

    def _parts(self, values: list[ast.expr], kind: type[ast.boolop], depth: int) -> list[Expression]:
        """The parts of an `and` within an `and` are parts of one."""
        found: list[Expression] = []
        for value in values:
            part = self.condition(value, depth + 1)
            is_same = isinstance(part, And if kind is ast.And else Or)
            found += part.parts if is_same and isinstance(part, And | Or) else [part]
        return found

    def _chain(self, node: ast.Compare) -> Expression:
        operands = [node.left, *node.comparators]
        atoms = [
            self._comparison(left, op, right)
            for left, op, right in zip(operands, node.ops, node.comparators, strict=False)
        ]
        return atoms[0] if len(atoms) == 1 else And(tuple(atoms))

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Expression:
        self._count_atom(left)
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, isinstance(op, ast.NotIn))
        if type(op) not in _OPS:
            self._refuse_is(left, op)
        first, second = read_operand(self.source, left), read_operand(self.source, right)
        if isinstance(first, Field):
            return self._held(first, _OPS[type(op)], second)
        if isinstance(second, Literal):
            self.source.refuse(first.column, "a field on one side; here nothing of a run is compared")
        return self._held(second, _TURNED.get(_OPS[type(op)], _OPS[type(op)]), first)

    def _held(self, field: Field, op: Op, other: Field | Literal) -> Comparison:
        if isinstance(other, Literal):
            return Comparison(field, op, fit_literal(self.source, field, other))
        for side in (field, other):
            if kind_of(side) is Kind.TAGS:
                self.source.refuse(side.column, "a membership, as 'paper' in tags, not a comparison")
        return Comparison(field, op, other)

    def _membership(self, left: ast.expr, right: ast.expr, negated: bool) -> Expression:
        first = read_operand(self.source, left)
        if isinstance(first, Field):
            return OneOf(first, self._listed(first, right), negated)
        if not isinstance(right, ast.Name | ast.Attribute | ast.Subscript):
            self.source.refuse(self.source.start(right), "a field that holds a list: literal in field")
        field = read_field(self.source, right)
        if kind_of(field) not in (None, Kind.TAGS):
            instead = f"; {field.path[0]}.contains('…') finds a part" if kind_of(field) in TEXTS else ""
            self.source.refuse(field.column, f"a field that holds a list{instead}")
        return Member(first, field, negated)

    def _listed(self, field: Field, node: ast.expr) -> tuple[Literal, ...]:
        if not isinstance(node, ast.Tuple | ast.List) or not node.elts:
            self.source.refuse(self.source.start(node), "a list of literals: field in ('a', 'b')")
        self._literals += len(node.elts)
        if self._literals > LITERALS_MAX:
            self.source.refuse(self.source.start(node), f"at most {LITERALS_MAX} literals in a query")
        literals = [read_literal(self.source, element) for element in node.elts]
        return tuple(fit_literal(self.source, field, literal) for literal in literals)

    def _call(self, node: ast.Call) -> Expression:
        match node.func:
            case ast.Name("exists"):
                (subject,) = self._arguments(node, "exists(x)", 1)
                return Exists(read_field(self.source, subject))
            case ast.Name("like"):
                subject, pattern = self._arguments(node, "like(x, 'res%')", 2)
                return self._match(Matching.LIKE, subject, pattern)
            case ast.Attribute(subject, name) if name in _METHODS:
                (part,) = self._arguments(node, f"x.{name}('a')", 1)
                return self._match(Matching(name), subject, part)
        return self._refuse_call(node)

    def _arguments(self, node: ast.Call, usage: str, count: int) -> list[ast.expr]:
        if len(node.args) != count or node.keywords:
            self.source.refuse(self.source.start(node), usage)
        return node.args

    def _match(self, matching: Matching, subject: ast.expr, part: ast.expr) -> Match:
        field = read_field(self.source, subject)
        if kind_of(field) not in (None, *TEXTS):
            self.source.refuse(field.column, f"a field that holds a text; {field.path[0]} never does")
        literal = read_literal(self.source, part)
        if not isinstance(literal.value, str):
            self.source.refuse(literal.column, "a text")
        if matching is Matching.LIKE and len(literal.value.encode()) > PATTERN_MAX:
            self.source.refuse(literal.column, f"a pattern of at most {PATTERN_MAX} bytes")
        return Match(matching, field, literal.value)

    def _count_atom(self, node: ast.expr) -> None:
        self._atoms += 1
        if self._atoms > ATOMS_MAX:
            self.source.refuse(self.source.start(node), f"at most {ATOMS_MAX} comparisons; `in` takes a list")

    def _refuse_condition(self, node: ast.expr) -> Expression:
        refuse, at = self.source.refuse, self.source.start(node)
        match node:
            case ast.Name() | ast.Attribute() | ast.Subscript():
                words = self.source.words(node)
                refuse(at, f"a comparison; write {words} == True or exists({words})")
            case ast.Constant() | ast.Tuple() | ast.List():
                refuse(at, "a comparison; here nothing of a run is compared")
            case ast.BinOp(_, ast.BitAnd(), _):
                refuse(self._between(node.left, "&"), "'and', not '&'")
            case ast.BinOp(_, ast.BitOr(), _):
                refuse(self._between(node.left, "|"), "'or', not '|'")
            case ast.UnaryOp(ast.Invert(), _):
                refuse(at, "'not', not '~'")
        return refuse(at, "a comparison, exists(x) or like(x, 'res%')")

    def _refuse_call(self, node: ast.Call) -> Expression:
        match node.func:
            case ast.Name(name):
                usage, known = "exists(x) or like(x, 'res%')", [*_FUNCTIONS, *_METHODS]
            case ast.Attribute(_, name):
                usage, known = f"one of the methods {', '.join(_METHODS)}", [*_METHODS, *_FUNCTIONS]
            case _:
                self.source.refuse(self.source.start(node), "a function by its name")
        at = self.source.end(node.func) - len(name)
        return self.source.refuse(at, f"{usage}, not {name!r}", nearest(name, known))

    def _refuse_is(self, left: ast.expr, op: ast.cmpop) -> None:
        meant = "!=" if isinstance(op, ast.IsNot) else "=="
        self.source.refuse(self._between(left, "is"), f"{meant!r} to compare, not 'is'")

    def _between(self, left: ast.expr, word: str) -> int:
        """Where the operator behind `left` stands."""
        end = self.source.end(left)
        return max(end, self.source.text.find(word, end))
