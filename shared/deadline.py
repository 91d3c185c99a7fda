"""One value for time that runs out: made at the entrance, handed down, read at sockets and waits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Deadline:
    """A moment by a monotonic clock.

    Attributes:
        at_s: the moment, in seconds of `clock`.
        clock: returns monotonic seconds.
    """

    at_s: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return the moment that many seconds from now."""
        return cls(clock() + seconds, clock)

    def left_s(self) -> float:
        """Return the seconds until the moment, 0 once it has passed."""
        return max(0.0, self.at_s - self.clock())

    @property
    def has_passed(self) -> bool:
        """Tell whether no time is left."""
        return self.clock() >= self.at_s

    def within(self, seconds: float) -> "Deadline":
        """Return the moment that many seconds from now, or this one if it comes sooner."""
        return Deadline(min(self.at_s, self.clock() + seconds), self.clock)
