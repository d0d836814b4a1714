"""A store is copied by plain rsync while it is written: every copy opens. Spec: spec/merge.md section 2."""

from __future__ import annotations

import pytest

from tools.storm.bounded import run_storm


@pytest.mark.storm
def test_every_copy_of_a_living_store_opens_and_stale_ones_pushed_back_lose_nothing():
    tally = run_storm("living", count=6)

    assert tally["figures"]["events lost"] == 0
    assert tally["figures"]["runs in the largest copy"] > 0
