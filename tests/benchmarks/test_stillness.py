"""The wait that a machine's own pauses cause, from known pauses."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stillness import measure, waits


def test_one_pause_in_a_hundred_seconds_is_waited_for_by_its_share_of_the_moments() -> None:
    away = np.array([2.0])
    # 1 % of 100 s: the second half of the pause was still to come for one of its two seconds.
    assert waits(away, 100, [0.99, 0.98]) == pytest.approx([1.0, 0.0], abs=1e-6)


def test_a_core_that_was_never_away_makes_nobody_wait() -> None:
    assert waits(np.array([]), 5, [0.99]) == [0.0]


def test_a_core_is_watched_by_a_process_of_its_own() -> None:
    p99, p999 = measure("0", 0.1)
    assert 0 <= p99 <= p999
