"""The law of imports, as code: floors, rooms that do not know each other, a door for each outside thing.

A file imports from its own floor or a lower one, at the head of the file, written out from `tracker.`. What
is slow and no look-up needs may be imported later, where the tables say so; it keeps to the floors too.
"""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import tracker
from tracker.cli.program import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tracker"

FLOORS = {
    "terms": 0.0,
    "errors": 0.0,
    "progress": 0.0,
    "version": 0.0,
    "_codec": 1.0,
    "_model": 2.0,
    "grids": 2.0,
    "sweepfile": 2.0,
    "_disk": 3.0,
    "_store": 4.0,
    "identity": 5.0,
    "provenance": 5.0,  # what really runs: the machine, the packages, the working tree
    "interrupts": 5.0,
    "claiming": 5.0,
    "filling": 5.0,
    "tee": 5.0,  # descriptors and a file; knows no run
    "metrics": 5.0,  # rows in, curves out: the ledger's thread wakes it
    "marks": 5.5,  # asks the ledger for a parent
    "query": 5.0,  # text to SQL; whoever asks the index is above
    "lookup": 5.1,  # asks the index that filling fills
    "watch": 5.1,  # wakes for what claiming asks
    "recorded": 5.15,  # the reader's half is below the half that orders writes
    "ledger": 5.2,
    "seen": 5.4,  # tells LOST from RUNNING in what queries are asked of
    "runs": 6.5,
    "liveness": 5.3,  # judges attempts by ledger and claims
    "check": 6.0,
    "packing": 5.9,  # a purge gives up what lies in packs
    "trash": 6.0,
    "merge": 6.0,  # reads both histories as check does
    "doctor": 6.0,
    "artefacts": 5.5,  # asks ledger and liveness; sessions and the command line are above
    "ruling": 5.4,  # what the ledger's rules make of its runs
    "session": 6.0,
    "why": 6.0,
    "repeating": 6.1,  # whose sessions are the repeat that a process was started for
    "rerun": 6.2,
    "drift": 6.5,
    "sweep": 6.5,
    "bundle": 6.6,  # says what is missing as frames of runs do
    "mapping": 6.6,
    "engines": 7.0,
    "project": 7.0,
    "__init__": 8.0,
    "cli": 9.0,
    "__main__": 9.0,
}
"""Room, a file or a folder -> its floor."""

NEIGHBOURS = {
    (
        "_store/objects",
        "_store/quarantine",
    ): "a damaged object makes room for the same bytes",
    (
        "_store/index",
        "_store/bulk",
    ): "what a bulk gathers are rows of the index",
    (
        "_store/manifests",
        "_store/packs",
    ): "a manifest in a pack is one",
    (
        "_store/segments",
        "_store/packs",
    ): "a segment in a pack is one",
    (
        "_store/sealing",
        "_store/stat_cache",
    ): "what did not change is not hashed again",
    (
        "_store/stat_cache",
        "_store/index",
    ): "the cache lies beside the index",
    (
        "_store/holdings",
        "_store/relation",
    ): "histories are looked through over its connection",
    (
        "_store/measured",
        "_store/journal",
    ): "metrics are frames too, appended and sealed in one way",
    (
        "_store/measured",
        "_store/segments",
    ): "a segment of metrics is one, with other frames",
    (
        "_store/measured",
        "_store/packs",
    ): "a segment of metrics in a pack is one",
    (
        "_store/tails",
        "_store/segments",
    ): "a live journal is a segment: it is judged as one when it is damaged",
}
"""Rooms of `_store` know one kind of file each and not each other, but for these."""

DOORS = {
    "blake3": {
        "_codec/digest": "bytes -> digest",
        "_codec/frame": "the running prefix hash",
        "bundle/archive": "members are hashed as they are copied",
        "_store/arrivals": "users' files from another tree are hashed as they are copied",
        "_disk/hashing": "users' files are hashed as a stream and on all cores",
    },
    "msgspec": {
        "_codec/canonical": "the JSON parser",
        "_codec/declared": "tells its Structs among users' params",
        "_codec/frame": "Structs",
        "_disk/hashing": "Structs",
        "_disk/host": "Structs",
        "_model/claim": "Structs and the JSON coders",
        "_model/event": "Structs and the msgpack coders",
        "_model/fold": "Structs",
        "_model/manifest": "Structs and the JSON coders",
        "_model/names": "Structs",
        "_model/policy": "Structs",
        "_model/removal": "Structs",
        "_model/rows": "Structs and the msgpack coders",
        "_model/rules": "Structs and the JSON parser",
        "_store/bulk": "Structs and the coders of plain histories",
        "_store/measured": "a Struct as a dict, to make one with more fields",
        "_store/index": "Structs and the coder of its blobs",
        "_store/claims": "Structs",
        "_store/journal": "Structs",
        "_store/packs": "Structs",
        "_store/segments": "Structs",
        "artefacts/lineage": "Structs",
        "artefacts/saving": "the JSON coder",
        "artefacts/using": "replaces a member of a Struct",
        "claiming": "Structs",
        "filling": "Structs",
        "ledger": "Structs",
        "marks": "Structs",
        "repeating": "Structs",
        "mapping": "Structs, which any engine can send",
        "packing": "Structs",
        "liveness": "Structs",
        "project": "replaces fields of a Filter",
        "ruling": "Structs",
        "runs/batches": "Structs",
        "runs/collection": "Structs",
        "runs/columns": "Structs, and the JSON coder for many rows",
        "runs/rows": "Structs",
        "runs/table": "Structs",
        "runs/typed": "Structs",
        "runs/union": "Structs",
        "metrics/recorder": "replaces a field of a Block",
        "metrics/series": "Structs",
        "bundle/contents": "Structs",
        "bundle/crate": "Structs",
        "bundle/making": "Structs",
        "bundle/report": "Structs",
        "check/findings": "Structs",
        "check/recovery": "Structs",
        "check/set_aside": "Structs",
        "check/reading": "Structs",
        "query/hints": "Structs",
        "query/tree": "Structs",
        "cli/bundling": "Structs as dicts, to print",
        "cli/asking": "a Struct with one field otherwise",
        "cli/merging": "Structs as dicts, to print",
        "cli/rules": "Structs as dicts, to print",
        "cli/why": "Structs as dicts, to print",
        "cli/packing": "Structs as dicts, to print",
        "merge/report": "Structs",
        "merge/seals": "Structs",
        "doctor/report": "Structs",
        "doctor/scratch": "Structs",
        "cli/doctor": "Structs as dicts, to print",
        "trash/belongings": "Structs",
        "session/handle": "replaces a field of its place",
        "session/place": "Structs",
        "why": "Structs",
        "rerun/plan": "Structs, and objects into them",
        "rerun/compare": "Structs",
        "rerun/outcome": "Structs",
        "drift": "Structs",
        "cli/drift": "Structs as dicts, to print",
        "trash/moves": "Structs",
        "trash/purge": "Structs",
        "cli/complaints": "names its errors",
        "cli/health": "Structs as dicts, to print",
        "cli/keeping": "Structs as dicts, to print",
    },
    "portalocker": {"_disk/lock": "the only lock"},
    "sqlite3": {
        "_store/index": "the index",
        "_store/stat_cache": "what files hashed to, beside the index",
        "artefacts/lineage": "sqlite3.Error alone: an unfit index is passed by",
        "_store/relation": "queries over the index's connection",
        "lookup": "sqlite3.Error alone: an unfit index is dropped",
        "cli/complaints": "sqlite3.Error alone: an unfit index is a line, not a traceback",
        "cli/sql": "sqlite3's errors alone: a refused text is a line",
        "runs/source": "sqlite3.Error alone: an unfit index is made anew",
    },
    "subprocess": {
        "cli/demo": "kills and resumes a sweep",
        "doctor/rivals": "the second process of a race, beside threads no fork is safe",
        "rerun/execute": "a recorded command, which a user asked to execute again",
        "metrics/sampling": "nvidia-smi, where it is there and samples are asked for",
    },
    "fcntl": {
        "_disk/durable": "F_FULLFSYNC",
        "_disk/cloning": "FICLONE",
        "doctor/rival": "tries the locks that others may take",
        "doctor/writing": "the same",
        "tee/channels": "pipes' size, terminals' size, descriptors out of the way",
        "tee/pump": "terminals' size",
    },
    "signal": {
        "tee/pump": "hears none",
        "provenance/command": "ends a program, and gives it back what Python ignores",
        "interrupts": "SIGTERM and SIGUSR1",
        "session/handle": "names SIGINT",
    },
    "zstandard": {"bundle/archive": "compressed archives"},
    "rich": {"cli/table": "tables for people"},
    "yaml": {"sweepfile": "sweeps written by hand"},
    "ray": {"engines/ray": "tasks"},
    "numpy": {"metrics/series": "arrays of steps and values"},
    "pandas": {"runs/frames": "data frames"},
    "polars": {"runs/frames": "data frames"},
    "arro3": {"runs/frames": "Arrow tables and Parquet files"},
}
"""Outside thing -> the files that may import it, and what for."""

ERRORS_ALONE = [
    ("sqlite3", "artefacts/lineage"),
    ("sqlite3", "lookup"),
    ("sqlite3", "cli/complaints"),
    ("sqlite3", "cli/sql"),
    ("sqlite3", "runs/source"),
]

LAZY = {
    ("_disk/lock", "portalocker"): "35 ms that only maintenance pays",
    ("cli/table", "rich"): "slow, and need not be installed",
    ("bundle/archive", "zstandard"): "need not be installed",
    ("sweepfile", "yaml"): "need not be installed",
    ("runs/frames", "pandas"): "slow, and need not be installed",
    ("runs/frames", "polars"): "slow, and need not be installed",
    ("runs/frames", "arro3"): "need not be installed",
    ("metrics/series", "numpy"): "70 ms, and need not be installed",
}
"""Imports inside a function: third-party, slow, and said to be so where they stand."""

LAZY_ROOMS = {
    ("project", "runs"): "17 ms, with the query language, that only `runs`, `at` and `union` pay",
    ("project", "merge"): "7 ms, with check, that only `merge` pays",
    ("project", "mapping"): "2 ms, with sweep, that only `map` pays",
    ("project", "sweep"): "2 ms that only `sweep` and `map` pay",
    ("runs/table", "runs/lines"): "1 ms that only CSV costs",
    ("runs/tabular", "runs/lines"): "1 ms that only CSV costs",
    ("runs/tabular", "runs/differences"): "2 ms with its neighbours here, that only `diff` pays",
    ("runs/rows", "runs/differences"): "2 ms with its neighbours here, that only `diff` pays",
    ("runs/union", "runs/differences"): "2 ms with its neighbours here, that only `diff` pays",
    (
        "runs/tabular",
        "runs/frames",
    ): "2 ms with its neighbours here, that only frames, Arrow and Parquet cost",
    ("runs/tabular", "runs/typed"): "2 ms with its neighbours here, that only frames, Arrow and Parquet cost",
    ("runs/tabular", "runs/groups"): "2 ms with its neighbours here, that only `group_by` pays",
    ("runs/tabular", "runs/schema"): "2 ms with its neighbours here, that only `schema` pays",
    ("runs/tabular", "runs/output"): "2 ms with its neighbours here, that only files cost",
    ("runs/groups", "runs/deviation"): "5 ms that only standard deviations cost",
    ("query/hints", "query/alike"): "1 ms that only a mistyped name costs",
    ("project", "why"): "1 ms that only `why` pays",
    ("cli/selection", "cli/called"): "15 ms, with the query language, that only names and the best cost",
    ("ledger", "metrics"): "3 ms that only metrics cost",
    ("session/known", "metrics"): "3 ms that only metrics cost",
    ("session/measured", "metrics"): "3 ms that only `log` and `sample_system` pay",
    ("session/facts", "provenance"): "6 ms that only the start of an attempt pays",
    ("session/handle", "artefacts"): "7 ms that only `save` and `use` pay",
    ("session/output", "tee"): "3 ms that only kept output costs",
    ("__init__", "runs"): "17 ms that only the name `Runs` costs",
    ("__init__", "mapping"): "2 ms, with sweep, that only the name `Outcome` costs",
    ("__init__", "sweep"): "2 ms that only the name `Sweep` costs",
    ("__init__", "why"): "1 ms that only the name `Why` costs",
}
"""Own rooms that a file loads where they are used, which no look-up pays: 1 ms each or more, or those of one
file together.

A function imports its room in its first lines; a name of the front door has its room in `_LATER`. At the head
of any file such a room may be named for types alone.
"""

LATE = {room for _, room in LAZY_ROOMS}

BY_NAME = {
    "__init__": "the rooms of `_LATER`, which are those of its names for types",
    "cli/program": "the room of the command that is called",
}
"""Files that load a room by a name in a table, and which."""

EXTRAS = ("bundle", "arrays", "cli", "frame", "ray", "yaml")
"""The extras whose packages are imported here; the others' objects are taken as they are."""

MODULES = {"pyyaml": "yaml", "arro3-core": "arro3", "arro3-io": "arro3"}
"""Package -> the module it installs, where the names differ."""

NEVER = {
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "ctypes", "runpy"),
    *("socket", "ssl", "http", "urllib", "asyncio", "multiprocessing"),
}
"""Reading a store executes nothing and talks to nobody."""

IMPURE = {
    *("os", "io", "shutil", "tempfile", "glob", "fcntl", "sqlite3", "subprocess", "socket", "threading"),
    *("time", "random", "secrets"),
}
"""What a room that opens no file and reads no clock has no use for."""

FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


class Import(NamedTuple):
    """One imported module; `where` is "head", "function" or "if"."""

    file: str
    line: int
    module: str
    where: str

    def __str__(self) -> str:
        return f"tracker/{self.file}.py:{self.line} imports {self.module} ({self.where})"


def parsed(file: str) -> ast.Module:
    return ast.parse(FILES[file].read_text(encoding="utf-8"))


def iter_imports(file: str) -> Iterator[Import]:
    def visit(node: ast.AST, where: str) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, where)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                is_room = (
                    PACKAGE / base.removeprefix("tracker").strip(".").replace(".", "/") / alias.name
                ).with_suffix(".py")
                module = f"{base}.{alias.name}" if base.startswith("tracker") and is_room.exists() else base
                yield Import(file, node.lineno, module, where)
        for child in ast.iter_child_nodes(node):
            inner = where
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = "function"
            elif isinstance(node, ast.If | ast.Try | ast.With) and where == "head":
                inner = "if"
            yield from visit(child, inner)

    yield from visit(parsed(file), "head")


IMPORTS = [found for file in FILES for found in iter_imports(file)]
OWN = [found for found in IMPORTS if found.module.split(".")[0] == "tracker"]
FOREIGN = [found for found in IMPORTS if found.module.split(".")[0] != "tracker"]


def room_of(file: str) -> str:
    return file.split("/")[0]


def file_of(module: str) -> str:
    """`tracker._store.index` -> `_store/index`; the package itself -> `__init__`."""
    inner = module.removeprefix("tracker").strip(".").replace(".", "/")
    return inner or "__init__"


def lazy_room(found: Import) -> tuple[str, str]:
    """Who imports which room: below the porcelain's a room is a file, and so is one that is late alone."""
    file = file_of(found.module)
    is_file = (file.startswith("_") and "/" in file) or file in LATE
    return found.file, file if is_file else room_of(file)


def test_there_is_something_to_check():
    assert len(FILES) > 30
    assert len(OWN) > 100
    assert len(FOREIGN) > 100


def test_every_file_has_a_floor_and_every_floor_a_file():
    assert {room_of(file) for file in FILES} == set(FLOORS)


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_from_its_own_floor_or_a_lower_one(file):
    upward = [
        str(found)
        for found in OWN
        if found.file == file and FLOORS[room_of(file_of(found.module))] > FLOORS[room_of(file)]
    ]

    assert upward == []


def test_no_room_of_the_store_knows_another():
    known = {
        (found.file, file_of(found.module))
        for found in OWN
        if room_of(found.file) == "_store" == room_of(file_of(found.module))
    }

    assert known == set(NEIGHBOURS)


def test_own_modules_are_imported_at_the_head_and_written_out():
    late = [found for found in OWN if found.where == "function"]
    hidden = [str(found) for found in late if lazy_room(found) not in LAZY_ROOMS]
    relative = [str(found) for found in IMPORTS if found.module.startswith(".")]

    assert hidden + relative == []


def test_imports_inside_functions_are_third_party_and_listed():
    inside = {
        (found.file, found.module.split(".")[0]): found.line for found in FOREIGN if found.where == "function"
    }

    assert set(inside) == set(LAZY)
    assert {name for _, name in LAZY} & set(sys.stdlib_module_names) == set()
    for (file, _), line in inside.items():
        around = FILES[file].read_text(encoding="utf-8").splitlines()[max(0, line - 4) : line]
        assert any("#" in text for text in around), f"tracker/{file}.py:{line} does not say why it is lazy"


def test_a_room_that_is_loaded_late_is_at_the_head_for_types_alone():
    named = {lazy_room(found) for found in OWN if found.where == "if"}
    inside = {lazy_room(found) for found in OWN if found.where == "function"}
    at_head = {lazy_room(found) for found in OWN if found.where == "head"}

    assert inside == {(file, room) for file, room in LAZY_ROOMS if file not in BY_NAME}
    assert {room for _, room in named} <= LATE
    assert at_head & (named | set(LAZY_ROOMS)) == set()


def test_a_late_import_is_the_first_thing_in_its_function():
    late = [found for found in OWN if found.where == "function"]
    first = {
        line
        for file in {found.file for found in late}
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef)
        for line in lines_of_first_imports(node)
    }

    assert late
    assert [str(found) for found in late if found.line not in first] == []


def lines_of_first_imports(function: ast.FunctionDef) -> list[int]:
    """The lines of the imports that a function begins with, behind its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return [node.lineno for node in itertools.takewhile(lambda node: isinstance(node, ast.ImportFrom), body)]


def test_rooms_are_loaded_by_name_in_these_files_alone():
    calls = {
        file: sum(
            isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
            for node in ast.walk(parsed(file))
        )
        for file in FILES
    }

    assert {file: count for file, count in calls.items() if count} == dict.fromkeys(BY_NAME, 1)


def test_the_names_that_are_loaded_late_are_those_of_the_front_door_for_types():
    named = {
        alias.name: inner.module
        for node in ast.walk(parsed("__init__"))
        if isinstance(node, ast.If)
        for inner in node.body
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }

    assert named == tracker._LATER
    assert named.keys() < set(tracker.__all__)
    assert set(tracker.__all__) <= set(dir(tracker))
    assert all(getattr(tracker, name).__name__ == name for name in named)
    with pytest.raises(AttributeError, match=r"module 'tracker' has no attribute 'Rums'"):
        tracker.Rums  # noqa: B018


def test_the_rooms_of_commands_are_files():
    assert {f"cli/{room}" for room in COMMANDS.values()} <= set(FILES)


def test_a_look_up_loads_no_room_that_is_told_to_be_late(tmp_path):
    """Nor what such a room alone needs of the standard library: each costs what import costs."""
    rooms = {f"tracker.{room.replace('/', '.')}" for room in LATE} | {
        "tracker.query",
        "tracker.check",
        "tracker.cli",
    }
    slow = {"csv", "difflib", "html", "random", "statistics", "argparse", "subprocess", "tempfile", "email"}
    code = (
        "import sys, tracker; before = set(sys.modules); project = tracker.Project(sys.argv[1]); "
        "assert project.session('train', params={'lr': 1}).is_done() is False; "
        "assert project.has('train', {'lr': 1}) is False; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "store"], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())

    assert {"tracker.project", "tracker.ledger"} <= loaded
    assert loaded & (rooms | slow) == set()


def test_nothing_else_is_imported_under_a_condition():
    under = [found for found in IMPORTS if found.where == "if"]
    users = {file for file in FILES if "TYPE_CHECKING:" in FILES[file].read_text(encoding="utf-8")}

    assert [str(found) for found in under if lazy_room(found)[1] not in LATE] == []
    assert users == {found.file for found in under}


@pytest.mark.parametrize("thing", DOORS)
def test_each_outside_thing_has_its_doors(thing):
    users = {found.file for found in FOREIGN if found.module.split(".")[0] == thing}

    assert users == set(DOORS[thing])


def test_every_third_party_package_has_a_door_and_is_declared():
    used = {found.module.split(".")[0] for found in FOREIGN} - set(sys.stdlib_module_names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + [text for name in EXTRAS for text in extras[name]]
    declared = {MODULES.get(name, name) for name in (text.split(">")[0] for text in needed)}

    assert used == declared
    assert used <= set(DOORS)


@pytest.mark.parametrize(("module", "file"), ERRORS_ALONE)
def test_who_only_catches_errors_uses_nothing_else(module, file):
    used = {
        node.attr
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    }

    assert used
    assert all(name.endswith("Error") for name in used), used


def test_nothing_is_executed_and_nobody_is_called():
    refused = [str(found) for found in FOREIGN if found.module.split(".")[0] in NEVER]
    calls = [
        f"tracker/{file}.py:{node.lineno} calls {node.func.id}"
        for file in FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec", "compile", "__import__"}
    ]

    assert refused + calls == []


PURE = [file for file in FILES if 1 <= FLOORS.get(room_of(file), 0) <= 2]


def test_the_pure_half_is_there():
    assert len(PURE) > 10


@pytest.mark.parametrize("file", PURE)
def test_the_pure_half_opens_no_file_and_reads_no_clock(file):
    outside = [str(found) for found in FOREIGN if found.file == file and found.module.split(".")[0] in IMPURE]
    calls = [
        f"tracker/{file}.py:{node.lineno}"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "open")
            or (isinstance(node.func, ast.Attribute) and node.func.attr in {"now", "today", "utcnow"})
        )
    ]

    assert outside + calls == []


def test_the_front_door_only_re_exports():
    body = parsed("__init__").body[1:]  # behind the docstring
    (late,) = [node for node in body if isinstance(node, ast.If)]
    functions = [node.name for node in (*body, *late.orelse) if isinstance(node, ast.FunctionDef)]
    plain = [node for node in body if not isinstance(node, ast.If | ast.FunctionDef)]
    tables = [ast.unparse(node.targets[0]) for node in plain if isinstance(node, ast.Assign)]
    texts = [node for node in plain if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]

    assert ast.unparse(late.test) == "TYPE_CHECKING"
    assert sorted(functions) == ["__dir__", "__getattr__"]
    assert sorted(tables) == ["_LATER", "__all__"]
    assert len(plain) == len(texts) + len(tables) + sum(isinstance(node, ast.ImportFrom) for node in plain)
