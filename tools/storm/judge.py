"""The judge: what a store holds, by spec/reference.py and plain files; and whether the package says the
same.

The reference shares no code with the package and is asked in this process; the package is asked in
processes of its own, since what it keeps in memory must not help it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from blake3 import blake3

from tools.storm.ward import BrokenError, ask, use_cache
from tracker._model.fold import run_as_json
from tracker._store.index import Filter
from tracker.check import Level, verify
from tracker.ledger import Ledger

REPOSITORY = Path(__file__).resolve().parents[2]

State = dict[str, Any]
Run = dict[str, Any]


class Found(NamedTuple):
    """A finding of `verify`."""

    code: str
    severity: str
    path: str
    what: str


def _load_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "spec" / "reference.py")
    assert spec and spec.loader, "the reference lies in spec/"
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


reference = _load_reference()


def reference_state(root: Path) -> State:
    """The state of a store by its specification."""
    state: State = reference.read_store(root)
    return state


def reference_damage(root: Path) -> list[str]:
    """What the reference calls damaged, in files and in events."""
    ledger = reference.read_ledger(root)
    reference.read_events(ledger)
    return [f"{finding.path}: {finding.text}" for finding in ledger.findings if finding.code == "damaged"]


def runs_by_ref(state: State) -> dict[str, Run]:
    """The runs of a state under their refs."""
    return {run["ref"]: run for run in state["runs"]}


def package_state(root: Path, cache: Path) -> State:
    """The state of a store as a fresh process of the package sees it. Raises: BrokenError."""
    state: State = ask(_package_state, root, cache)
    return state


def _package_state(root: Path, cache: Path) -> State:
    use_cache(cache)
    ledger = Ledger(root)
    runs = [run_as_json(run) for run in ledger.find(Filter(removed=None))]
    return {
        "format": 1,
        "runs": runs,
        "rules": [[rule.kind, rule.path, rule.value] for rule in ledger.lookup.rules()],
    }


def verified(root: Path, cache: Path, level: Level = Level.REPLAY) -> tuple[int, list[Found]]:
    """The exit code and the findings of `verify` in a fresh process. Raises: BrokenError."""
    code, found = ask(_verified, root, cache, level)
    return code, [Found(*one) for one in found]


def _verified(root: Path, cache: Path, level: Level) -> tuple[int, list[tuple[str, str, str, str]]]:
    use_cache(cache)
    report = verify(Ledger(root), level)
    return report.exit_code, [(f.code, str(f.severity), f.path, f.what) for f in report.findings]


def iter_damage(root: Path, cache: Path, level: Level = Level.REPLAY) -> Iterator[str]:
    """What `verify` calls damaged. What is only incomplete is no complaint here."""
    try:
        code, findings = verified(root, cache, level)
    except BrokenError as broken:
        yield str(broken)
        return
    if code not in (0, 3):
        damage = [finding for finding in findings if finding.severity == "damage"]
        yield f"verify ends with {code}: {damage[:3]}"


def iter_disagreements(root: Path, cache: Path, state: State | None = None) -> Iterator[str]:
    """What the package sees otherwise than the reference, and what either calls damaged."""
    state = reference_state(root) if state is None else state
    for damage in reference_damage(root):
        yield f"damaged: {damage}"
    for path in iter_wrong_bytes(root):
        yield f"other bytes than the name says: {path}"
    try:
        seen = package_state(root, cache)
    except BrokenError as broken:
        yield str(broken)
        return
    yield from iter_differences(state, seen)


def iter_differences(
    one: State, other: State, names: tuple[str, str] = ("reference", "package")
) -> Iterator[str]:
    """In which runs two states differ, and how."""
    ours, theirs = runs_by_ref(one), runs_by_ref(other)
    for ref in sorted(ours.keys() | theirs.keys()):
        if ours.get(ref) != theirs.get(ref):
            mine, yours = ours.get(ref), theirs.get(ref)
            keys = [k for k in mine if mine[k] != yours[k]] if mine and yours else ["all"]
            say = f"{names[0]} {_brief(mine, keys)}, {names[1]} {_brief(yours, keys)}"
            yield f"{ref} differs in {', '.join(keys)}: {say}"
    if one["rules"] != other["rules"]:
        yield "the rules differ"
    if one["runs"] != other["runs"] and ours == theirs:
        yield "the order of the runs differs"


def _brief(run: Run | None, keys: Iterable[str]) -> str:
    return (
        "has none"
        if run is None
        else str({key: run[key] for key in keys if key in run} or run["status"])[:300]
    )


def iter_wrong_bytes(root: Path) -> Iterator[str]:
    """The segments, parts and objects that hold other bytes than their names say."""
    store = root / ".tracker"
    for path in sorted([*store.glob("ledger/*/*"), *store.glob("objects/*/*")]):
        expected = _hash_in_name(path)
        if expected and not blake3(path.read_bytes()).hexdigest().startswith(expected):
            yield path.relative_to(root).as_posix()


def _hash_in_name(path: Path) -> str:
    if path.suffix in (".seg", ".part"):
        return path.stem.rpartition("-")[2]
    is_object = path.parts[-3] == "objects" and len(path.name) == 62
    return path.parent.name + path.name if is_object else ""


def run_folders(root: Path) -> set[str]:
    """The folders that look like a run's, relative to the root."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_dir() and len(path.name) == 32 and set(path.name) <= set("0123456789abcdef")
    }


def folder_of_run(run: Run) -> str | None:
    """The folder that a run of the state has to itself, if its mode is known and gives it one."""
    if run["mode"] != "subfolder":
        return None
    return f"{run['relpath']}/{run['uid']}".lstrip("/")


def listing(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every name below `root` with mode, size, mtime and ctime: what any write would change."""
    found = {}
    for above, folders, files in os.walk(root):
        for name in [".", *folders, *files]:
            path = os.path.join(above, name)
            status = os.lstat(path)
            found[os.path.relpath(path, root)] = (
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
    return found
