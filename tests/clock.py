"""Clocks for tests that would otherwise wait."""

import time
from datetime import UTC, datetime, timedelta
from threading import Lock


class Clock:
    """A wall clock and a monotonic clock whose time passes only when `sleep` is called.

    `slept` lists the pauses so far, in seconds.
    """

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_s(seconds)

    def pass_s(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def nap(seconds: float) -> None:
    """Sleep for ten milliseconds at most, for pauses that need not be long in a test."""
    time.sleep(min(seconds, 0.01))


class SkippingClock:
    """A monotonic clock that skips pauses: each takes ten milliseconds at most and counts in full.

    The pauses of all threads count: do not use it to limit the time of what other threads do meanwhile.
    """

    def __init__(self) -> None:
        self._skipped_s = 0.0
        self._lock = Lock()

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        nap(seconds)
        with self._lock:
            self._skipped_s += seconds
