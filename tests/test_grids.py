"""Lists of configs: which, in which order, and what is refused with which words."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracker
from tracker import ParamsError
from tracker.grids import grid, product, zipped


def naive_grid(axes: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Nested loops, the first axis outermost."""
    configs: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        configs = [{**config, name: value} for config in configs for value in values]
    return configs


def test_the_last_axis_varies_fastest():
    assert grid(lr=[0.1, 0.2], seed=[1, 2]) == [
        {"lr": 0.1, "seed": 1},
        {"lr": 0.1, "seed": 2},
        {"lr": 0.2, "seed": 1},
        {"lr": 0.2, "seed": 2},
    ]


@given(st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=4))
def test_a_grid_is_nested_loops(axes):
    if axes:
        assert grid(axes) == naive_grid(axes)


def test_keys_and_values_stay_as_they_are():
    layers = [64, 64]
    configs = grid({"model.width": [1, 1.0], "layers": [layers]}, lr=[True])

    assert [list(config) for config in configs] == [["model.width", "layers", "lr"]] * 2
    assert [type(config["model.width"]) for config in configs] == [int, float]
    assert configs[0]["layers"] is layers


def test_mapping_is_an_axis_like_any_other():
    assert grid(mapping=[1]) == [{"mapping": 1}]


@pytest.mark.parametrize(
    "values",
    [(1, 2), range(1, 3), (n for n in (1, 2)), np.array([1, 2]), {1: "", 2: ""}.keys(), iter([1, 2])],
    ids=lambda values: type(values).__name__,
)
def test_whatever_can_be_gone_through_in_order_is_an_axis(values):
    configs = grid(a=values, b=["x", "y"])

    assert [(config["a"], config["b"]) for config in configs] == list(itertools.product((1, 2), "xy"))


def test_an_array_of_numpy_has_the_uids_of_its_numbers():
    by_array = [tracker.uid(config) for config in grid(lr=np.array([0.1, 0.2]), n=np.arange(2))]

    assert by_array == [tracker.uid(config) for config in grid(lr=[0.1, 0.2], n=[0, 1])]


def test_zipped_goes_side_by_side():
    assert zipped({"lr.base": [1, 2]}, name=("a", "b")) == [
        {"lr.base": 1, "name": "a"},
        {"lr.base": 2, "name": "b"},
    ]


def test_product_merges_one_config_of_each_list():
    models = [{"model": "mlp", "width": 64}, {"model": "cnn"}]

    assert product(models, grid(seed=[1, 2])) == [
        {"model": "mlp", "width": 64, "seed": 1},
        {"model": "mlp", "width": 64, "seed": 2},
        {"model": "cnn", "seed": 1},
        {"model": "cnn", "seed": 2},
    ]


def test_lists_are_plain_and_add_up():
    configs = grid(a=[1]) + zipped(b=[2])

    assert configs == [{"a": 1}, {"b": 2}]
    assert (type(configs), type(configs[0])) == (list, dict)


def test_what_is_given_is_not_changed():
    models = [{"m": 1}]
    for config in product(models, [{"s": 1}]):
        config["more"] = True

    assert models == [{"m": 1}]


REFUSED = [
    (lambda: grid(lr=0.1), "lr: give a list of values, not float 0.1"),
    (lambda: grid(name="adam"), "name: give a list of values, not str 'adam'"),
    (lambda: grid(name=b"adam"), "name: give a list of values, not bytes b'adam'"),
    (lambda: grid(lr={"a": 1}), "lr: give a list of values, not dict {'a': 1}"),
    (lambda: grid(lr=None), "lr: give a list of values, not NoneType None"),
    (lambda: grid(lr=np.array(1.0)), "lr: give a list of values, not ndarray array(1.)"),
    (lambda: grid(lr={0.1, 0.2}), "lr: a set has no order; give sorted(x)"),
    (lambda: grid(lr=[0.1], seed=[]), "seed: there is no value; give at least one"),
    (lambda: grid(lr=(n for n in ())), "lr: there is no value; give at least one"),
    (lambda: grid({"lr": [1]}, lr=[2]), "lr: the axis is given twice; give it once"),
    (lambda: grid(), "grid: there is no axis; give at least one list of values"),
    (lambda: grid([1, 2]), "grid: axes are given by name; list has none: pass a dict"),
    (lambda: zipped(lr=3), "lr: give a list of values, not int 3"),
    (
        lambda: zipped(lr=[1, 2, 3], seed=[1, 2]),
        "zipped: the axes differ in length: lr has 3, seed has 2; give each as many values",
    ),
    (lambda: zipped(), "zipped: there is no axis; give at least one list of values"),
    (
        lambda: product([{"a": 1}, {"b": 1}], [{"c": 1}], [{"d": 1}, {"b": 2}]),
        "product[2]: the key 'b' stands in product[0] too; keep one of them",
    ),
    (lambda: product(), "product: there is no list; give lists of configs"),
    (lambda: product([{"a": 1}], []), "product[1]: there is no config; give at least one"),
    (lambda: product({"a": 1}), "product[0]: give a list of configs, not dict {'a': 1}"),
    (lambda: product([{"a": 1}, 7]), "product[0][1]: give a dict, not int 7"),
]


@pytest.mark.parametrize(("call", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_a_refusal_names_the_axis_and_the_cure(call, text):
    with pytest.raises(ParamsError, match=f"^{re.escape(text)}$"):
        call()


def test_a_refusal_is_a_value_error():
    with pytest.raises(ValueError, match="lr"):
        grid(lr=1)


def test_an_axis_that_fails_while_it_is_read_says_so_itself():
    def values():
        yield 1
        raise TypeError("no more")

    with pytest.raises(TypeError, match="no more"):
        grid(lr=values())
