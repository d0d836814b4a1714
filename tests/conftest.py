"""What every test has: a cache of its own, no ledger left open, and its stores held against the reference.

The reference reader stands in `spec/`; `import reference` works in every test module.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "spec"))

import reference as the_reference

from tracker import DamagedError, Project, VersionError, interrupts
from tracker import ledger as ledgers
from tracker._model.fold import run_as_json
from tracker._store.index import Filter
from tracker.provenance import capture

Json = dict[str, Any]

_numbers = itertools.count()

settings.register_profile("busy", deadline=None)  # a machine may be busy; what hangs is found otherwise
settings.load_profile("busy")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "unchecked_store(reason): its stores are not held against the reference when it ends"
    )


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """`spec/reference.py`: what a store means, read by the book."""
    return the_reference


@pytest.fixture(scope="session")
def state_of() -> Callable[[str | os.PathLike[str]], Json]:
    """The package's reading of a store that no test holds open, as the state object of spec/events.md 5."""
    return read_by_package


@pytest.fixture
def store(tmp_path: Path) -> Project:
    """A project in a store that does not exist yet."""
    return Project(tmp_path / "store")


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def _own_world(request: pytest.FixtureRequest, _caches: Path) -> Iterator[None]:
    if "tmp_path" in request.fixturenames:
        request.getfixturevalue("tmp_path")  # so that it is still there when its stores are read
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_CACHE", str(_caches / str(next(_numbers))))
        yield
        interrupts.forget()
        if capture._current is not None and capture._current._thread is not None:
            capture._current._thread.join(30)  # what it records is recorded before a store is read twice
        try:
            if request.node.get_closest_marker("unchecked_store") is None:
                _check_stores()
        finally:
            forget_ledgers()


def forget_ledgers() -> None:
    """Close all ledgers of this process, as its exit does, and let go of them."""
    for ledger in ledgers.iter_ledgers():
        ledger.close()
    ledgers._ledgers.clear()


def _check_stores() -> None:
    """Three readings of each store equal the reference's: as it is held, closed, and without an index."""
    opened = [ledger for ledger in ledgers.iter_ledgers() if (ledger.root / ".tracker").is_dir()]
    for ledger in opened:
        live, want = _or_refusal(_runs_and_rules, ledger), _by_reference(ledger.root)
        assert live == want, f"{ledger} says otherwise than the reference"
    forget_ledgers()
    for ledger in opened:
        want = _by_reference(ledger.root)
        assert _or_refusal(read_by_package, ledger.root) == want, f"{ledger}, closed, says otherwise"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRACKER_CACHE", os.devnull)
            assert _or_refusal(read_by_package, ledger.root) == want, f"{ledger} without index says otherwise"
        if isinstance(want, dict):
            _check_manifests(ledger.root)


def _check_manifests(root: Path) -> None:
    """Whatever manifest is there is one that the ledger implies (I11)."""
    implied = the_reference.manifests(root)
    for path in (root / ".tracker").glob("manifests/*/*.json"):
        name = path.relative_to(root / ".tracker").as_posix()
        assert implied.get(name) == path.read_bytes(), f"{name} is not implied by the ledger"


def read_by_package(root: str | os.PathLike[str]) -> Json:
    ledger = ledgers.Ledger(Path(root))
    try:
        return _runs_and_rules(ledger)
    finally:
        ledger.close()


def _runs_and_rules(ledger: ledgers.Ledger) -> Json:
    runs = ledger.find(Filter(removed=None))
    rules = ledger.lookup.rules()
    return {
        "format": 1,
        "runs": [run_as_json(run) for run in runs],
        "rules": [[rule.kind, rule.path, rule.value] for rule in rules],
    }


def _or_refusal(read: Callable[[Any], Json], what: Any) -> Json | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(what)
    except (VersionError, DamagedError):
        return "refused"


def _by_reference(root: Path) -> Json | str:
    try:
        return the_reference.read_store(root)
    except the_reference.NewerFormat:
        return "refused"
