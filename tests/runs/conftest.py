"""A store of many kinds of values, written in two namespaces, sealed in part."""

from __future__ import annotations

import warnings

import pytest
from collections_world import CONFIGS, LOSSES, summarize

from tracker import ParamsWarning, Project, StorageMode


@pytest.fixture
def filled(store: Project) -> Project:
    """Five runs, the third in another namespace and the last one in PREFIX mode."""
    for number, (config, summary) in enumerate(zip(CONFIGS, LOSSES, strict=True)):
        project = store.sub("deep") if number == 2 else store
        mode = StorageMode.PREFIX if number == 4 else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParamsWarning)  # an integer of 71 bits is meant
            session = project.session("train", config, storage_mode=mode).start()
        session.error() if number == 3 else session.done()
        if summary:
            summarize(store, session.ref, summary)
        if number == 1:
            store.ledger.seal()
    return store
