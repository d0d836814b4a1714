"""One bit of a store turned over is found, and no command stumbles over it. Spec: spec/log.md section 4."""

from __future__ import annotations

import pytest

from tools.storm.bounded import run_storm


@pytest.mark.storm
def test_each_flipped_bit_is_found_and_no_command_ends_in_a_traceback():
    run_storm("flips", count=150)
