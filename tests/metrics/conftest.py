"""A bare store with recorders, and the reference's reading of what they wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from metrics_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    made = World(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 20 kB, so that a few hundred rows make several."""
    monkeypatch.setattr("tracker._store.measured.SeriesJournal.segment_bytes", 20_000)
