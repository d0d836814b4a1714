"""Groups that SQLite reads are those that Python reads, value by value and type by type."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from collections_world import summarize

from tracker import ParamsWarning, Project
from tracker._store.relation import HAS_JSON_TEXT
from tracker.runs import Table
from tracker.runs.columns import Stored
from tracker.runs.groups import REDUCERS
from tracker.runs.rows import Rows

VALUES: list[Any] = [
    *(0, 1, 1.0, 2, 0.1, 0.30000000000000004, 1e-7, 123456789.123456789, 2**53 + 1, 2**63, 2**70, -(2**70)),
    *(True, False, None, "", "1", "true", "null", "a", "é", 'q"t', "back\\slash", "nul\0nul", "NaN"),
    *([], [1, 1.0], {}, {"b": 1}, {"b": [True, None]}, float("nan"), float("inf"), -0.0, 1e300, 5e-324),
]
SUMMED = [value for value in VALUES if type(value) is not int or abs(value) <= 2**63]
"""A summary has integers of 64 bits."""

KEYS = ["a", "b", "a.b", 'q"t', "é", "x/y"]
FIELDS = [
    *("a", "b", "a.b", "a.b[1]", "params['a.b']", "params['q\"t']", "params['é']", "params['x/y']", "b[0]"),
    *(
        "b[-1]",
        "metrics.a",
        "metrics.b",
        "metrics.a.min",
        "metrics['x/y']",
        "metrics['x/y'].count",
        "nowhere",
    ),
    *("metrics.b.last", "status", "identifier", "namespace", "created", "started", "ended", "duration"),
    *(
        "attempts",
        "host",
        "user",
        "name",
        "parent",
        "commit",
        "dirty",
        "tags",
        "tags[0]",
        "key",
        "mode",
        "uid",
    ),
    "params['@repeat']",
]


NEEDS_ROWS = {"params['@repeat']", "params['q\"t']", "tags", "tags[0]"}
"""What SQLite cannot say."""


def any_tree(rng: random.Random, values: list[Any] = VALUES) -> dict[str, Any]:
    return {key: rng.choice(values) for key in rng.sample(KEYS, rng.randint(0, len(KEYS)))}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    rng = random.Random(4)
    project = Project(tmp_path_factory.mktemp("groups") / "store")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParamsWarning)
        for number in range(120):
            place = project.sub("deep") if number % 5 == 0 else project
            session = place.session(rng.choice(["train", "eval"]), {**any_tree(rng), "n": number}).start()
            if number % 7:
                session.done()
            if number % 3:
                numbers = {"last": rng.choice(SUMMED), "min": rng.choice([1, 0.5]), "count": number % 4}
                summarize(project, session.ref, {**any_tree(rng, SUMMED), rng.choice(KEYS): numbers})
            if number == 70:
                project.ledger.seal()
    yield project
    project.ledger.close()


def by_python(runs: Rows, keys: Sequence[str], wanted: list[tuple[str, str]]) -> Table:
    groups = runs.group_by(keys)
    groups._gather_stored = lambda _: None  # type: ignore[method-assign]
    return groups.table(wanted)


@pytest.mark.skipif(not HAS_JSON_TEXT, reason="SQLite before 3.38 gives no JSON text")
@pytest.mark.parametrize("seed", range(120))
def test_sqlite_groups_as_python_does(many: Project, seed: int) -> None:
    rng = random.Random(seed)
    keys = [FIELDS[seed % len(FIELDS)], *rng.sample(FIELDS, rng.choice([0, 0, 1]))]
    wanted = [(rng.choice(list(REDUCERS)), rng.choice(FIELDS)) for _ in range(rng.randint(0, 3))]
    where = rng.choice([None, "n > 30", "status == 'done'"])
    runs = many.runs(where, sort=rng.choice([None, "-n"]), limit=rng.choice([None, None, 50]))
    asked: list[int] = []
    select = runs.select_stored

    def counted(stored: Sequence[Stored]) -> Any:
        asked.append(len(stored))
        return select(stored)

    runs.select_stored = counted  # type: ignore[method-assign]
    got, want = runs.group_by(keys).table(wanted), by_python(runs, keys, wanted)

    assert len(want.rows) > 0
    assert repr(got) == repr(want)  # a difference of 1 and 1.0 shows
    needs_rows = NEEDS_ROWS & {*keys, *(field for _, field in wanted)}
    assert asked == ([] if needs_rows else [len(keys) + len(wanted)])
