"""A copy, whole or in part, answers as the store it is of. Spec: spec/layout.md sections 3 and 6."""

from __future__ import annotations

import pytest

from tools.storm.bounded import run_storm


@pytest.mark.storm
def test_a_store_answers_the_same_wherever_it_lies_and_reading_it_writes_nothing():
    run_storm("places")


@pytest.mark.storm
def test_a_copy_in_any_order_opens_and_two_that_went_apart_come_together():
    run_storm("copies", count=4)
