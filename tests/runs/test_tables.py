"""Runs as tables, CSV, frames, groups, a schema: held against plain Python over the reference's state."""

from __future__ import annotations

import builtins
import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from collections_world import CONFIGS

from tracker import Project
from tracker._codec.canonical import canonical
from tracker._model.event import Captured
from tracker._model.names import object_path
from tracker.errors import QueryError
from tracker.runs.frames import MissingPackageError
from tracker.runs.table import json_of

MISSING = object()


def state(project: Project) -> list[dict[str, Any]]:
    found = reference.read_store(project.root)["runs"]
    assert len(found) == len(CONFIGS)
    return found


def flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = above + key if "." not in key else f"params[{key!r}]"
        if isinstance(value, dict) and value:
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def flat_params(project: Project) -> list[dict[str, Any]]:
    return [dict(flat(json.loads(run["params"]))) for run in state(project)]


def test_a_table_tells_the_params_in_which_runs_differ(filled: Project) -> None:
    rows = flat_params(filled)
    names = sorted({name for row in rows for name in row})
    differing = [n for n in names if len({json.dumps(row.get(n, "missing")) for row in rows}) > 1]
    table = filled.runs().table()

    assert "same" not in differing
    assert list(table.headings) == ["identifier", "status", "created", *differing]
    assert [row[3:] for row in table.rows] == [tuple(row.get(n) for n in differing) for row in rows]
    assert [row[1] for row in table.rows] == [run["status"] for run in state(filled)]
    assert filled.runs().table(all=True).headings[3:] == tuple(names)


def test_columns_are_fields_of_the_query_language(filled: Project) -> None:
    columns = [
        "lr",
        "model.name",
        "metrics.loss",
        "metrics.loss.min",
        "list[-1]",
        "params['a.b']",
        "duration",
    ]
    table = filled.runs().table(columns=columns)

    assert table.headings == tuple(columns)
    assert [row[:6] for row in table.rows] == [
        (0.1, "a", 0.5, None, "b", None),
        (0.01, "b", 0.25, 0.125, None, None),
        (1, "b", "NaN", None, None, None),
        (2.5, None, None, None, None, None),
        (0.25, "a", 4.0, None, None, 1),
    ]
    attempts = [run["attempts"][-1] for run in state(filled)]
    assert [row[6] for row in table.rows] == [(a["ended"] - a["started"]) / 1000 for a in attempts]


def test_a_column_equals_what_a_query_says_of_it(filled: Project) -> None:
    """Python reads a field where SQL does: the same runs have it, with the same value."""
    for name in ("lr", "model", "model.name", "metrics.loss", "list[0]", "list[-2]", "host", "tags", "n"):
        values = [row[0] for row in filled.runs().table([name]).rows]
        null = "" if name in ("host", "tags") else f" and not {name} == None"
        there = [run.ref for run in filled.runs(f"exists({name}){null}")]

        assert there or name == "list[-2]"
        assert [r.ref for r, value in zip(filled.runs(), values, strict=True) if value is not None] == there


def test_what_is_no_field_is_refused(filled: Project) -> None:
    with pytest.raises(QueryError):
        filled.runs().table(["lr <"])
    with pytest.raises(ValueError, match="give a list"):
        filled.runs().table("lr")


def test_csv_is_read_back_by_the_standard_library(filled: Project, tmp_path: Path) -> None:
    filled.runs().to_csv(tmp_path / "runs.csv")
    text = filled.runs().to_csv()
    stream = io.StringIO()
    filled.runs().to_csv(stream)
    with open(tmp_path / "runs.csv", newline="") as file:
        read = list(csv.DictReader(file))

    assert text == stream.getvalue() == (tmp_path / "runs.csv").read_text()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "runs.csv", filled.root]
    for got, params, run in zip(read, flat_params(filled), state(filled), strict=True):
        assert got["uid"] == run["uid"]
        for name, value in params.items():
            want = "" if value is None else value if isinstance(value, str) else json.dumps(value)
            assert got[name] == want.replace(", ", ",") if isinstance(value, list) else got[name] == want


def test_pandas_reads_the_csv_as_the_frame_is(filled: Project, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    filled.runs().to_csv(tmp_path / "runs.csv")
    read, frame = pandas.read_csv(tmp_path / "runs.csv"), filled.runs().to_pandas()

    assert list(read.columns) == list(frame.columns)
    assert read["lr"].tolist() == frame["lr"].tolist() == [float(c["lr"]) for c in CONFIGS]
    assert read["uid"].tolist() == frame["uid"].tolist()


WANT = {
    "lr": [0.1, 0.01, 1.0, 2.5, 0.25],
    "n": ["1", "2", "3", str(2**70), "5"],
    "flag": [True, False, True, None, None],
    "model": [None, None, None, "none", None],
    "model.width": [64, 128, None, None, None],
    "list": ['[1,"b"]', "[]", None, None, None],
    "mixed": [None, None, None, "1", '"one"'],
    "empty": [None, None, None, None, "{}"],
    "attempts": [1, 1, 1, 1, 1],
}


def plain(values: list[Any]) -> list[Any]:
    return [None if repr(value) in ("<NA>", "nan") else value for value in values]


def test_a_frame_has_typed_columns(filled: Project) -> None:
    pandas = pytest.importorskip("pandas")
    frame = filled.runs().to_pandas()

    assert {name: plain(frame[name].tolist()) for name in WANT} == WANT
    assert [str(frame[name].dtype) for name in ("lr", "flag", "model.width", "attempts", "uid")] == [
        *("float64", "boolean", "Int64", "int64", "string"),
    ]
    assert [time.value // 10**6 for time in frame["created"].dt.as_unit("ns")] == [
        run["first"][0] >> 16 for run in state(filled)
    ]
    assert frame["metrics.loss"].isna().tolist() == [False, False, True, True, False]
    assert isinstance(frame, pandas.DataFrame)


def test_polars_arrow_and_parquet_hold_the_same(filled: Project, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    core = pytest.importorskip("arro3.core")
    pytest.importorskip("arro3.io")
    filled.runs().to_parquet(tmp_path / "runs.parquet")
    frame = filled.runs().to_polars()

    assert {name: frame[name].to_list() for name in WANT} == WANT
    assert math.isnan(frame["metrics.loss"][2])
    for other in (
        polars.DataFrame(core.Table(filled.runs())),
        polars.read_parquet(tmp_path / "runs.parquet"),
    ):
        assert other.schema == frame.schema
        assert other.equals(frame)


def test_no_runs_are_an_empty_frame(store: Project) -> None:
    pytest.importorskip("pandas")

    assert len(store.runs().to_pandas()) == 0
    assert store.runs().table().rows == ()
    assert store.runs().to_csv() == ",".join(store.runs().to_pandas().columns) + "\n"


@pytest.mark.parametrize(
    ("package", "call"),
    [("pandas", "to_pandas"), ("polars", "to_polars"), ("arro3-core", "__arrow_c_stream__")],
)
def test_a_package_that_is_not_there_is_named_with_its_extra(
    package: str, call: str, filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == package.split("-")[0]:
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(MissingPackageError, match=rf"{package} is not installed; pip install .*\[frame\]"):
        getattr(filled.runs(), call)()


def test_groups_reckon_as_plain_python_does(filled: Project) -> None:
    rows = flat_params(filled)
    groups: dict[Any, list[float]] = {}
    for row in rows:
        groups.setdefault(row.get("model.name"), []).append(row["lr"])
    ordered = sorted(groups, key=lambda key: (key is not None, key))
    by = filled.runs().group_by("model.name")

    assert by.count().rows == tuple((key, len(groups[key])) for key in ordered)
    assert by.mean("lr").headings == ("model.name", "runs", "mean(lr)")
    for name, reckon in (("mean", lambda v: sum(v) / len(v)), ("min", min), ("max", max)):
        got = [row[2] for row in getattr(by, name)("lr").rows]
        assert got == pytest.approx([reckon(groups[key]) for key in ordered])
    assert by.std("lr").rows[0][2] is None
    with pytest.raises(ValueError, match="name the fields"):
        by.mean()


def test_groups_reckon_as_pandas_does(filled: Project) -> None:
    pytest.importorskip("pandas")
    frame = filled.runs("exists(model.name)").to_pandas()
    by = filled.runs("exists(model.name)").group_by(["model.name"])
    for name in ("mean", "median", "std", "min", "max"):
        want = getattr(frame.groupby("model.name")["lr"], name)()
        assert {row[0]: row[2] for row in getattr(by, name)("lr").rows} == pytest.approx(want.to_dict())


def test_a_schema_counts_each_key(filled: Project) -> None:
    rows = flat_params(filled)
    told = {row[0]: row for row in filled.runs().schema().rows}
    names = {name for row in rows for name in row}

    assert set(told) == names | {"metrics.loss", "metrics.loss.min", "metrics.acc"}
    for name in names:
        values = [row[name] for row in rows if name in row]
        assert told[name][2:4] == (len(values), len(rows) - len(values))
        assert sorted(map(json_of, told[name][6])) == sorted({json_of(value) for value in values})
    assert told["lr"][1] == "float, int"
    assert told["lr"][4:6] == (0.01, 2.5)


def test_differences_are_those_of_the_reference(filled: Project) -> None:
    runs = filled.runs(limit=2)
    table = runs.diff()
    first, second = flat_params(filled)[:2]

    assert table.headings == ("what", "name", *(run["ref"] for run in state(filled)[:2]))
    assert {row[1]: row[2:] for row in table.rows if row[0] == "param"} == {
        name: (first.get(name), second.get(name))
        for name in first.keys() | second.keys()
        if first.get(name) != second.get(name)
    }
    assert not [row for row in table.rows if row[:2] == ("run", "host")]


def test_files_differ_by_digest(store: Project) -> None:
    for number, text in ((1, "same"), (2, "same"), (3, "other")):
        with store.session("train", {"n": number}) as run:
            run.path("out.txt").write_text(text)
    digests = [r["attempts"][0]["files"][0][3] for r in reference.read_store(store.root)["runs"]]

    assert [row for row in store.runs("n < 3").diff().rows if row[0] == "file"] == []
    assert [row[2:] for row in store.runs().diff().rows if row[0] == "file"] == [tuple(digests)]


def test_code_and_environment_differ_by_what_is_recorded_of_them(store: Project) -> None:
    """One object here, one that is not here, and one attempt without facts."""
    objects = [
        {"commit": "c0", "diff": None, "untracked": [["a.py", "100644", 1, "d0"]], "vcs": "git"},
        {"commit": "c1", "diff": "d1", "untracked": [["a.py", "100644", 1, "d2"]], "vcs": "git"},
    ]
    packages = [{"packages": {"numpy": version, "same": "1"}} for version in ("1.26", "2.0")]
    for number, (code, environment) in enumerate(zip(objects, packages, strict=True)):
        run = store.session("train", {"n": number}).start()
        told = [store.ledger.put_object(canonical(value)) for value in (environment, code)]
        facts = dict(zip(("environment", "code"), told, strict=True))
        attempt = reference.read_store(store.root)["runs"][number]["canonical"]
        store.ledger.append(
            lambda _, run=run, attempt=attempt, facts=facts: [Captured(run.ref, attempt, facts)]
        )
    where = [row for row in store.runs().diff().rows if row[0] in ("code", "environment")]

    assert where == [
        ("code", "commit", "c0", "c1"),
        ("code", "diff", None, "d1"),
        ("code", "untracked.a.py", "d0", "d2"),
        ("environment", "packages.numpy", "1.26", "2.0"),
    ]
    path = store.root / ".tracker" / object_path(told[0])
    path.rename(store.root / "away")
    rows = {row[:2]: row[2:] for row in store.runs().diff().rows}
    (store.root / "away").rename(path)
    assert rows["environment", "digest"] == (None, told[0])
    assert rows["environment", "packages.numpy"] == ("1.26", None)


def test_html_escapes_what_a_store_holds(store: Project) -> None:
    for number in range(25):
        store.session("train", {"n": number, "t": f"<script>{number}"}).done()
    html = store.runs()._repr_html_()

    assert "<script>" not in html
    assert "&lt;script&gt;3" in html
    assert html.count("<tr>") == 21
    assert "5 more" in html
