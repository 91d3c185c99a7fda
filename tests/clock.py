"""Time that passes only when somebody sleeps."""

from datetime import UTC, datetime, timedelta


class Clock:
    """A time of day and a monotonic clock that go together; `slept` are the pauses so far, in seconds."""

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
