"""The law of imports, as code: floors, rooms that do not know each other, a door for each outside thing.

A file imports from its own floor or a lower one, at the head of the file, written out from `tracker.`.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

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
    "interrupts": 5.0,
    "claiming": 5.0,
    "filling": 5.0,
    "query": 5.0,  # text to SQL; whoever asks the index is above
    "lookup": 5.1,  # asks the index that filling fills
    "watch": 5.1,  # wakes for what claiming asks
    "recorded": 5.15,  # the reader's half is below the half that orders writes
    "ledger": 5.2,
    "seen": 5.4,  # tells LOST from RUNNING in what queries are asked of
    "runs": 6.5,
    "liveness": 5.3,  # judges attempts by ledger and claims
    "check": 6.0,
    "packing": 6.0,
    "trash": 6.0,
    "merge": 6.0,  # reads both histories as check does
    "doctor": 6.0,
    "ruling": 5.4,  # what the ledger's rules make of its runs
    "session": 6.0,
    "why": 6.0,
    "sweep": 6.5,
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
        "_store/manifests",
        "_store/packs",
    ): "a manifest in a pack is one",
    (
        "_store/segments",
        "_store/packs",
    ): "a segment in a pack is one",
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
        "_store/arrivals": "users' files from another tree are hashed as they are copied",
        "_store/outputs": "users' files are hashed as a stream and on all cores",
    },
    "msgspec": {
        "_codec/canonical": "the JSON parser",
        "_codec/declared": "tells its Structs among users' params",
        "_codec/frame": "Structs",
        "_disk/host": "Structs",
        "_model/claim": "Structs and the JSON coders",
        "_model/event": "Structs and the msgpack coders",
        "_model/fold": "Structs",
        "_model/manifest": "Structs and the JSON coders",
        "_model/removal": "Structs",
        "_model/rules": "Structs",
        "_store/index": "Structs and the coder of its blobs",
        "_store/journal": "Structs",
        "_store/segments": "Structs",
        "claiming": "Structs",
        "filling": "Structs",
        "ledger": "Structs",
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
        "check/findings": "Structs",
        "check/recovery": "Structs",
        "check/set_aside": "Structs",
        "check/reading": "Structs",
        "query/hints": "Structs",
        "query/tree": "Structs",
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
        "trash/moves": "Structs",
        "trash/purge": "Structs",
        "cli/complaints": "names its errors",
        "cli/health": "Structs as dicts, to print",
        "cli/keeping": "Structs as dicts, to print",
    },
    "portalocker": {"_disk/lock": "the only lock"},
    "sqlite3": {
        "_store/index": "the index",
        "_store/relation": "queries over the index's connection",
        "lookup": "sqlite3.Error alone: an unfit index is dropped",
        "cli/complaints": "sqlite3.Error alone: an unfit index is a line, not a traceback",
        "cli/sql": "sqlite3's errors alone: a refused text is a line",
        "runs/source": "sqlite3.Error alone: an unfit index is made anew",
    },
    "subprocess": {
        "cli/demo": "kills and resumes a sweep",
        "doctor/rivals": "the second process of a race, beside threads no fork is safe",
    },
    "fcntl": {
        "_disk/durable": "F_FULLFSYNC",
        "doctor/rival": "tries the locks that others may take",
        "doctor/writing": "the same",
    },
    "signal": {"interrupts": "SIGTERM and SIGUSR1", "session/handle": "names SIGINT"},
    "rich": {"cli/table": "tables for people"},
    "yaml": {"sweepfile": "sweeps written by hand"},
    "ray": {"engines/ray": "tasks"},
    "pandas": {"runs/frames": "data frames"},
    "polars": {"runs/frames": "data frames"},
    "arro3": {"runs/frames": "Arrow tables and Parquet files"},
}
"""Outside thing -> the files that may import it, and what for."""

ERRORS_ALONE = [
    ("sqlite3", "lookup"),
    ("sqlite3", "cli/complaints"),
    ("sqlite3", "cli/sql"),
    ("sqlite3", "runs/source"),
]

LAZY = {
    ("_disk/lock", "portalocker"): "35 ms that only maintenance pays",
    ("cli/table", "rich"): "slow, and need not be installed",
    ("sweepfile", "yaml"): "need not be installed",
    ("runs/frames", "pandas"): "slow, and need not be installed",
    ("runs/frames", "polars"): "slow, and need not be installed",
    ("runs/frames", "arro3"): "need not be installed",
}
"""Imports inside a function: third-party, slow, and said to be so where they stand."""

EXTRAS = ("cli", "frame", "ray", "yaml")
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
    hidden = [str(found) for found in OWN if found.where != "head"]
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


def test_nothing_is_imported_under_a_condition():
    assert [str(found) for found in IMPORTS if found.where == "if"] == []
    assert [file for file in FILES if "TYPE_CHECKING:" in FILES[file].read_text(encoding="utf-8")] == []


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


PURE = [file for file in FILES if 1 <= FLOORS[room_of(file)] <= 2]


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
    body = parsed("__init__").body
    kinds = {type(node) for node in body[1:]}  # behind the docstring

    assert kinds <= {ast.ImportFrom, ast.Assign}
    assert [ast.unparse(node.targets[0]) for node in body if isinstance(node, ast.Assign)] == ["__all__"]
