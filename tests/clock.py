"""Time that passes only when `sleep` is called."""

from datetime import UTC, datetime, timedelta


class Clock:
    """A wall clock and a monotonic clock in step; `slept` lists the pauses so far, in seconds."""

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
