"""Each row of the table of types, with its message; classes with fields; other libraries' values."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import re
import types
import typing
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest

from tracker._codec.canonical import canonical
from tracker._codec.refusals import ANYTHING, BIG_ARRAY, PLAIN_ITEMS, REFUSALS
from tracker._codec.values import plain
from tracker.errors import ParamsError

if typing.TYPE_CHECKING:
    from elsewhere import Elsewhere  # type: ignore[import-not-found]


def shown(value: object) -> str:
    """A value in the name of a case: the same in every process, so without its place in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", value if isinstance(value, str) else repr(value))


class Word(enum.StrEnum):
    ADAM = "adam"


class Mixed(str, enum.Enum):  # noqa: UP042 -- the older spelling is the case
    ADAM = "adam"


class Split(str, enum.Enum):  # noqa: UP042 -- the older spelling is the case
    ADAM = "text", "value"

    def __new__(cls, text: str, value: str) -> Split:
        member = str.__new__(cls, text)
        member._value_ = value
        return member


class Opt(enum.Enum):
    ADAM = 2


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    pass


class Count(int):
    pass


class Rate(float):
    pass


class Frozen(Mapping[str, Any]):
    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members

    def __getitem__(self, key: str) -> Any:
        return self.members[key]

    def __iter__(self) -> Any:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def refusal(params: object) -> str:
    with pytest.raises(ParamsError) as caught:
        canonical(params)
    return str(caught.value)


def foreign(module: str, name: str, *bases: type) -> Any:
    """Make an instance of a class that says it comes from another library."""
    return type(name, bases, {"__module__": module})()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ("a", '"a"'),
        (Text("a"), '"a"'),
        (-3, "-3"),
        (Count(3), "3"),
        (0.5, "0.5"),
        (Rate(1), "1.0"),
        (Rate("-0"), "0.0"),
        (float("nan"), '"NaN"'),
        (float("inf"), '"Infinity"'),
        (-float("inf"), '"-Infinity"'),
        ([1, (2, [])], "[1,[2,[]]]"),
        (collections.OrderedDict(b=1, a=2), '{"a":2,"b":1}'),
        (collections.defaultdict(int, a=2), '{"a":2}'),
        (types.MappingProxyType({"a": 2}), '{"a":2}'),
        (Frozen({"a": 2}), '{"a":2}'),
        ({"a.b": 1, "": 2}, '{"":2,"a.b":1}'),
        ({10: 1, 9: 2, -1: 3}, '{"-1":3,"10":1,"9":2}'),
        ({Word.ADAM: 1}, '{"adam":1}'),
        (PurePosixPath("data/../x"), '"data/../x"'),
        (PureWindowsPath("a\\b"), '"a/b"'),
        (Path("data"), '"data"'),
        (Word.ADAM, '"adam"'),
        (Mixed.ADAM, '"adam"'),
        (datetime.date(2020, 1, 31), '"2020-01-31"'),
    ],
    ids=shown,
)
def test_an_accepted_value_has_the_text_of_its_rule(value: object, text: str) -> None:
    assert canonical({"x": value}).decode() == f'{{"x":{text}}}'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({1, 2}, "a set has no order; pass sorted(x)"),
        (frozenset(), "a set has no order; pass sorted(x)"),
        (b"x", "bytes have no JSON form; pass x.hex(), or a hash of them"),
        (bytearray(), "bytes have no JSON form; pass x.hex(), or a hash of them"),
        (memoryview(b""), "bytes have no JSON form; pass x.hex(), or a hash of them"),
        (
            datetime.datetime(2020, 1, 1),
            "a time in params makes nearly every uid new; leave it out, or pass x.isoformat()",
        ),
        (datetime.time(1), "a time has no canonical form; pass x.isoformat()"),
        (datetime.timedelta(1), "a timedelta has no canonical form; pass x.total_seconds()"),
        (
            uuid.UUID(int=1),
            "a UUID has no canonical form; pass str(x) (is it part of what the experiment is?)",
        ),
        (
            decimal.Decimal("0.1"),
            "a Decimal has no canonical form; pass float(x), or str(x) to keep every digit",
        ),
        (fractions.Fraction(1, 2), "a Fraction has no canonical form; pass [x.numerator, x.denominator]"),
        (1j, "a complex has no canonical form; pass [x.real, x.imag]"),
        (range(3), "a range has no canonical form; pass list(x), or its start, stop and step"),
        (len, "a builtin_function_or_method has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (lambda: 0, "a function has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (int, "a type has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (Opt, "an EnumType has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (functools.partial(len), "a partial has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (types, "a module has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (Point(1, 2), "a Point has no canonical form; pass x._asdict() or list(x)"),
        (Opt.ADAM, "<Opt.ADAM: 2> is an enum member; pass its .name (a word) or its .value"),
        (Number.ONE, "<Number.ONE: 1> is an enum member; pass its .name (a word) or its .value"),
        (Split.ADAM, "<Split.ADAM: 'value'> is an enum member; pass its .name (a word) or its .value"),
        ("\ud800", r"'\ud800' holds a lone surrogate, which UTF-8 cannot carry"),
        ({"\udfff": 1}, r"'\udfff' holds a lone surrogate, which UTF-8 cannot carry"),
        ({1: 0, "1": 0}, "two keys are both written '1'"),
        ({True: 0}, "a key of type bool (True); keys are strings (or integers, written as strings)"),
        ({None: 0}, "a key of type NoneType (None); keys are strings (or integers, written as strings)"),
        ({0.5: 0}, "a key of type float (0.5); keys are strings (or integers, written as strings)"),
        ({(1, 2): 0}, "a key of type tuple ((1, 2)); keys are strings (or integers, written as strings)"),
        (
            {datetime.date(2020, 1, 31): 0},
            "a key of type date (datetime.date(2020, 1, 31)); "
            "keys are strings (or integers, written as strings)",
        ),
        (
            {Number.ONE: 0},
            "a key of type Number (<Number.ONE: 1>); keys are strings (or integers, written as strings)",
        ),
        (collections.deque(), "a deque has no canonical form; pass a number, a string, a list or a dict"),
        (object(), "an object has no canonical form; pass a number, a string, a list or a dict"),
        (msgspec.UNSET, "a UnsetType has no canonical form; pass a number, a string, a list or a dict"),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_a_refused_value_is_told_with_its_path_and_cure(value: object, why: str) -> None:
    assert refusal({"opt": {"x": value}}) == f"params['opt']['x']: {why}"


def test_the_specification_holds_every_message_of_the_table() -> None:
    page = (Path(__file__).parents[2] / "spec" / "canonical.md").read_text("utf-8").replace("\\_", "_")

    assert {why for why in {*REFUSALS.values(), ANYTHING, BIG_ARRAY, PLAIN_ITEMS} if why not in page} == set()


def test_a_path_leads_through_keys_and_indices() -> None:
    assert refusal({"a": [{}, {3: ({"b.c": {1}},)}]}).startswith("params['a'][1][3][0]['b.c']: a set")


def test_nothing_is_left_of_a_refusal_for_the_next_call() -> None:
    refusal({"a": {"b": {1}}})

    assert refusal({"c": {1}}).startswith("params['c']: ")


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ([1], "a list is not a mapping; pass a dict, or an object with fields"),
        (None, "a NoneType is not a mapping; pass a dict, or an object with fields"),
        ("x", "a str is not a mapping; pass a dict, or an object with fields"),
        (Point(1, 2), "a Point is not a mapping; pass a dict, or an object with fields"),
        (
            types.SimpleNamespace(),
            "a SimpleNamespace is not a mapping; pass a dict, or an object with fields",
        ),
    ],
    ids=shown,
)
def test_the_root_is_a_mapping_or_an_object_with_fields(params: object, why: str) -> None:
    assert refusal(params) == f"params: {why}"


@pytest.mark.parametrize(
    ("module", "name", "why"),
    [
        ("torch", "Tensor", "a Tensor has no canonical form; {tensor}"),
        ("jaxlib._jax", "ArrayImpl", "an ArrayImpl has no canonical form; {tensor}"),
        ("jax._src.core", "Tracer", "a Tracer has no canonical form; {tensor}"),
        ("pandas.core.frame", "DataFrame", "a DataFrame has no canonical form; {tensor}"),
        ("torch", "dtype", "a dtype has no canonical form; pass its name, e.g. 'float32'"),
        ("torch", "device", "a device seldom identifies an experiment; ignore it, or pass str(x)"),
        ("torch.nn", "Linear", "a Linear has no canonical form; pass a number, a string, a list or a dict"),
    ],
)
def test_values_of_libraries_that_are_not_installed_are_known_by_name(
    module: str, name: str, why: str
) -> None:
    tensor = "pass x.item() for a scalar, x.tolist() for a short list, or a hash of a big one"

    assert refusal({"x": foreign(module, name)}) == "params['x']: " + why.format(tensor=tensor)


def test_a_subclass_of_a_known_class_follows_its_base() -> None:
    parameter = type("Parameter", (type(foreign("torch", "Tensor")),), {"__module__": "torch.nn"})()

    assert "pass x.item() for a scalar" in refusal({"x": parameter})


def test_numpy_scalars_are_the_numbers_they_equal() -> None:
    np = pytest.importorskip("numpy")
    scalars = [
        np.float16(0.1),
        np.float32(0.1),
        np.float64(0.1),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(1),
    ]

    assert canonical({"x": scalars}) == (
        b'{"x":[0.0999755859375,0.10000000149011612,0.1,-3,18446744073709551615,true]}'
    )
    assert canonical({"x": [np.float32("nan"), np.float64("-inf"), np.float32("-0"), np.str_("a")]}) == (
        b'{"x":["NaN","-Infinity",0.0,"a"]}'
    )
    assert canonical({np.int64(3): 0, np.str_("a"): 1}) == b'{"3":0,"a":1}'


def test_numpy_arrays_are_nested_arrays() -> None:
    np = pytest.importorskip("numpy")
    arrays = [np.arange(3), np.eye(2, dtype="float32"), np.array([True]), np.array(2), np.zeros((2, 0))]

    assert canonical({"x": arrays}) == b'{"x":[[0,1,2],[[1.0,0.0],[0.0,1.0]],[true],2,[[],[]]]}'


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("np.longdouble(1)", "a longdouble has no canonical form; {anything}"),
        ("np.complex128(1)", "a complex128 has no canonical form; {anything}"),
        ("np.datetime64('2020-01-31')", "a datetime64 has no canonical form; {anything}"),
        ("np.timedelta64(1)", "a timedelta64 has no canonical form; {anything}"),
        ("np.bytes_(b'x')", "bytes have no JSON form; pass x.hex(), or a hash of them"),
        ("np.array(['a'])", "a ndarray of <U1 has no canonical form; {items}"),
        ("np.array([None])", "a ndarray of object has no canonical form; {items}"),
        ("np.array([1j])", "a ndarray of complex128 has no canonical form; {items}"),
        ("np.ma.array([1], mask=[True])", "a MaskedArray of int64 has no canonical form; {items}"),
        ("np.zeros(100_001)", "a ndarray of 100,001 items; pass a hash of its bytes instead"),
        ("np.zeros((10**6, 0))", "a ndarray of 1,000,000 items; pass a hash of its bytes instead"),
        ("np.dtype('float32')", "a Float32DType has no canonical form; pass its name, e.g. 'float32'"),
        ("np.float32", "a type has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        ("np.add", "a ufunc has no canonical form; pass its name, e.g. 'torch.nn.ReLU'"),
        (
            "{np.bool_(1): 0}",
            "a key of type bool (np.True_); keys are strings (or integers, written as strings)",
        ),
        (
            "{np.timedelta64(1, 's'): 0}",
            "a key of type timedelta64 (np.timedelta64(1,'s')); "
            "keys are strings (or integers, written as strings)",
        ),
    ],
)
def test_numpy_values_without_a_number_of_equal_value_are_refused(expression: str, why: str) -> None:
    np = pytest.importorskip("numpy", minversion="2")
    anything = "pass a number, a string, a list or a dict"
    items = "pass x.tolist() if its items are plain values"

    assert refusal({"x": eval(expression, {"np": np})}) == "params['x']: " + why.format(
        anything=anything, items=items
    )


class Sgd(msgspec.Struct):
    lr: float = 1


class TaggedAdam(msgspec.Struct, tag=True):
    lr: float = 1


class TaggedSgd(msgspec.Struct, tag_field="kind", tag="sgd"):
    lr: float = 1


@dataclasses.dataclass
class Adam:
    lr: float = 1
    betas: tuple[float, float] = (0, 0.999)


@dataclasses.dataclass
class Nadam(Adam):
    pass


@dataclasses.dataclass
class Config:
    opt: Adam = dataclasses.field(default_factory=Adam)
    maybe: Adam | None = None
    layers: list[Adam] = dataclasses.field(default_factory=list)
    named: dict[str, Adam] = dataclasses.field(default_factory=dict)
    either: Adam | Sgd | None = None
    base: object = None


@dataclasses.dataclass
class Node:
    next: Node | None = None


def test_an_object_with_fields_is_the_mapping_of_its_fields() -> None:
    assert canonical(argparse.Namespace(lr=1, b="x")) == b'{"b":"x","lr":1}'
    assert canonical(Sgd()) == canonical(Sgd(lr=1.0)) == b'{"lr":1.0}'
    assert canonical(Adam()) == b'{"betas":[0.0,0.999],"lr":1.0}'


def test_a_tagged_struct_is_written_with_its_tag_anywhere() -> None:
    assert canonical(TaggedAdam()) == b'{"lr":1.0,"type":"TaggedAdam"}'
    assert canonical({"opt": TaggedSgd(lr=0.5)}) == b'{"opt":{"kind":"sgd","lr":0.5}}'


def test_a_nested_object_is_written_where_the_declared_type_is_its_class() -> None:
    adam = '{"betas":[0.0,0.999],"lr":1.0}'
    config = Config(maybe=Adam(), layers=[Adam()], named={"a": Adam()})

    assert canonical(config).decode() == (
        f'{{"base":null,"either":null,"layers":[{adam}],"maybe":{adam},"named":{{"a":{adam}}},"opt":{adam}}}'
    )


@pytest.mark.parametrize(
    ("params", "why"),
    [
        (Config(either=Sgd()), "params['either']: a Sgd {unsettled} (Adam | Sgd | None): {why}"),
        (Config(base=Adam()), "params['base']: an Adam {unsettled} (object): {why}"),
        (Config(opt=Nadam()), "params['opt']: a Nadam {unsettled} (Adam): {why}"),
        (Config(layers=[Nadam()]), "params['layers'][0]: a Nadam {unsettled} (Adam): {why}"),
        (
            {"opt": Adam()},
            "params['opt']: an Adam where no declared type settles its class: another class with the "
            "same fields would share the uid. Pass a dict with a field that names it",
        ),
    ],
    ids=["union", "object", "subclass", "element", "dict"],
)
def test_a_nested_object_of_an_unsettled_class_is_refused(params: object, why: str) -> None:
    assert refusal(params) == why.format(
        unsettled="where its class is not settled by the declared type",
        why="another class with the same fields would share the uid. Add a field that names it",
    )


def test_a_field_that_names_the_class_settles_a_union() -> None:
    @dataclasses.dataclass
    class A:
        kind: Literal["a"] = "a"

    @dataclasses.dataclass
    class B:
        kind: Literal["b"] = "b"

    @dataclasses.dataclass
    class Same:
        kind: Literal["a", "c"] = "a"

    def holder(*kinds: Any) -> Any:
        return dataclasses.make_dataclass("Holder", [("opt", typing.Union[kinds])])  # noqa: UP007 -- made at run time

    assert canonical(holder(A, B)(B())) == b'{"opt":{"kind":"b"}}'
    assert canonical(holder(A, B, None)(A())) == b'{"opt":{"kind":"a"}}'
    assert "not settled by the declared type (A | Same)" in refusal(holder(A, Same)(A()))
    assert "not settled by the declared type (A | B)" in refusal(holder(A, B)(A(kind="b")))  # type: ignore[arg-type]
    assert "not settled by the declared type (A | B | dict)" in refusal(holder(A, B, dict)(A()))


Rated = typing.NewType("Rated", float)
T = TypeVar("T")


class Options(TypedDict):
    lr: float
    steps: int


@dataclasses.dataclass
class Hints(Generic[T]):
    plain: float = 1
    optional: float | None = 1
    text: "float | str" = 1  # noqa: UP037 -- a text within a text is a case
    annotated: Annotated[float, "positive"] = 1
    named: Rated = Rated(1)
    nested: "dict[str, list[float | None]]" = dataclasses.field(default_factory=lambda: {"a": [1, None, 2]})  # noqa: UP037
    pairs: tuple[int, float] = (1, 1)
    many: "tuple[float, ...]" = (1, 2, 3)  # noqa: UP037
    sequence: "collections.abc.Sequence[float]" = (1,)  # noqa: UP037
    options: Options = dataclasses.field(default_factory=lambda: Options(lr=1, steps=1))
    # None of these takes an int as a float alone.
    integer: int = 1
    number: float | int = 1
    anything: Any = 1
    generic: T = 1  # type: ignore[assignment]
    either: "list[int] | list[float]" = dataclasses.field(default_factory=lambda: [1])  # noqa: UP037
    literal: Literal[1] | float = 1
    flag: float | bool = True
    real: "float | typing.SupportsInt" = 1  # noqa: UP037


def test_an_integer_becomes_a_float_where_the_declared_type_takes_no_integer() -> None:
    assert plain(Hints()) == {
        "plain": 1, "optional": 1, "text": 1, "annotated": 1, "named": 1, "nested": {"a": [1, None, 2]},
        "pairs": [1, 1], "many": [1, 2, 3], "sequence": [1], "options": {"lr": 1, "steps": 1}, "integer": 1,
        "number": 1, "anything": 1, "generic": 1, "either": [1], "literal": 1, "flag": True, "real": 1,
    }  # fmt: skip
    assert canonical(Hints()) == (
        b'{"annotated":1.0,"anything":1,"either":[1],"flag":true,"generic":1,"integer":1,"literal":1,"many":[1.0,2.0,3.0],'
        b'"named":1.0,"nested":{"a":[1.0,null,2.0]},"number":1,"optional":1.0,"options":{"lr":1.0,"steps":1},'
        b'"pairs":[1,1.0],"plain":1.0,"real":1,"sequence":[1.0],"text":1.0}'
    )


def test_an_integer_that_no_float_equals_is_refused_where_the_declared_type_is_float() -> None:
    for number in (2**53 + 1, 10**400):
        assert refusal(Adam(lr=number)) == (
            "params['lr']: an integer that no float equals, where the declared type is float; pass float(x)"
        )


@dataclasses.dataclass
class Partly:
    """Holds a declared type that exists only for type checkers."""

    lr: float = 1
    seen: Elsewhere | None = None


def test_a_name_that_only_type_checkers_know_matters_where_the_type_is_asked() -> None:
    assert canonical(Partly()) == b'{"lr":1.0,"seen":null}'
    assert refusal(Partly(seen=1)) == (
        "params['seen']: its declared type 'Elsewhere | None' cannot be found at run time; "
        "import it outside TYPE_CHECKING"
    )
    assert "not settled by the declared type (Elsewhere | None)" in refusal(Partly(seen=Adam()))


def test_a_field_that_was_never_set_is_refused() -> None:
    @dataclasses.dataclass
    class Late:
        lr: float = dataclasses.field(init=False)

    assert refusal(Late()) == "params: the field 'lr' has no value"


def test_an_object_that_holds_itself_ends_at_the_limit_of_depth() -> None:
    node = Node()
    node.next = node

    assert refusal(node) == "params" + "['next']" * 32 + ": more than 32 nested containers; is there a cycle?"


def test_attrs_classes_are_objects_with_fields() -> None:
    attrs = pytest.importorskip("attrs")
    kind = attrs.make_class("Conf", {"lr": attrs.field(type=float), "_private": attrs.field(type=int)})

    assert canonical(kind(lr=1, private=2)) == b'{"_private":2,"lr":1.0}'
    assert "where no declared type settles its class" in refusal({"x": kind(lr=1, private=2)})


def test_pydantic_models_are_objects_with_fields() -> None:
    pydantic = pytest.importorskip("pydantic", minversion="2")
    settings = pydantic.ConfigDict(extra="allow")
    inner = pydantic.create_model("Inner", lr=(float, 1), key=(str, pydantic.Field("secret", exclude=True)))
    model = pydantic.create_model(
        "Model", __config__=settings, opt=(inner, inner()), steps=(int, 3), lr=(float, 1)
    )

    assert (
        canonical(model())
        == canonical(model(lr=1, opt={"lr": 1}))
        == b'{"lr":1.0,"opt":{"lr":1.0},"steps":3}'
    )
    assert canonical(model(more=1)) == b'{"lr":1.0,"more":1,"opt":{"lr":1.0},"steps":3}'
    assert refusal(pydantic.RootModel[dict[str, int]]({"a": 1})).endswith(
        "is not a mapping; pass a dict, or an object with fields"
    )
    assert refusal({"x": pydantic.RootModel[int](1)}).endswith("has no canonical form; pass x.root")


def test_pydantic_unions_told_apart_by_a_literal_are_settled() -> None:
    pydantic = pytest.importorskip("pydantic", minversion="2")
    a = pydantic.create_model("A", kind=(Literal["a"], "a"), lr=(float, 1))
    b = pydantic.create_model("B", kind=(Literal["b"], "b"), lr=(float, 1))
    model = pydantic.create_model("Model", opt=(a | b, pydantic.Field(discriminator="kind")))

    assert canonical(model(opt={"kind": "b"})) == b'{"opt":{"kind":"b","lr":1.0}}'


def test_omegaconf_is_resolved_and_its_missing_values_are_refused() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"a": 1, "b": "${a}", "c": [1.0, {"d": None}]})

    assert canonical(config) == b'{"a":1,"b":1,"c":[1.0,{"d":null}]}'
    assert canonical({"x": config.c}) == b'{"x":[1.0,{"d":null}]}'
    assert refusal(omegaconf.OmegaConf.create({"a": "???"})) == "params: Missing mandatory value: a"
    assert "not found" in refusal(omegaconf.OmegaConf.create({"a": "${b}"}))
    assert refusal(omegaconf.OmegaConf.create([1])) == (
        "params: a ListConfig is not a mapping; pass a dict, or an object with fields"
    )
    assert refusal(omegaconf.OmegaConf.create({"a": Opt.ADAM})) == (
        "params['a']: <Opt.ADAM: 2> is an enum member; pass its .name (a word) or its .value"
    )


def test_a_plain_tree_shares_nothing_with_the_params() -> None:
    params = {"a": [1, {"b": 2}]}
    tree = plain(params)
    tree["a"][1]["b"] = 3

    assert params == {"a": [1, {"b": 2}]}
