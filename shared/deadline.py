"""A deadline: created where a request or a sync begins, passed down, and read at every wait and timeout."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Deadline:
    """A point in time on a monotonic clock.

    Attributes:
        at_s: the point in time, in seconds of `clock`.
        clock: returns monotonic seconds.
    """

    at_s: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return the deadline that is `seconds` from now."""
        return cls(clock() + seconds, clock)

    def left_s(self) -> float:
        """Return the seconds that are left; 0 after the deadline."""
        return max(0.0, self.at_s - self.clock())

    @property
    def has_passed(self) -> bool:
        """Tell whether no time is left."""
        return self.clock() >= self.at_s

    def within(self, seconds: float) -> "Deadline":
        """Return the deadline that is `seconds` from now, or this one if it is earlier."""
        return Deadline(min(self.at_s, self.clock() + seconds), self.clock)
