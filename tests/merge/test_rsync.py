"""Plain rsync between living copies loses nothing that was sealed.

Spec: spec/layout.md section 3; spec/log.md section 5.
"""

from __future__ import annotations

import pytest

from tools.storm.bounded import run_storm


@pytest.mark.storm
def test_copies_that_are_pushed_at_random_lose_nothing_sealed_and_become_one():
    run_storm("rsync", seconds=4)
