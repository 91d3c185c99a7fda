"""Deadlines on a clock of the test."""

import pytest

from shared.deadline import Deadline
from tests.clock import Clock


@pytest.mark.parametrize(
    ("waited_s", "left_s", "has_passed"), [(0, 10, False), (9, 1, False), (10, 0, True), (11, 0, True)]
)
def test_time_is_left_until_the_deadline(
    clock: Clock, waited_s: float, left_s: float, *, has_passed: bool
) -> None:
    deadline = Deadline.after(10, clock.monotonic)
    clock.sleep(waited_s)
    assert (deadline.left_s(), deadline.has_passed) == (left_s, has_passed)


@pytest.mark.parametrize(("within_s", "left_s"), [(5, 5), (9, 8), (0, 0)])
def test_deadline_within_another_is_the_earlier_one(clock: Clock, within_s: float, left_s: float) -> None:
    deadline = Deadline.after(10, clock.monotonic)
    clock.sleep(2)
    assert deadline.within(within_s).left_s() == left_s
