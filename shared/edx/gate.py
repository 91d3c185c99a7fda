"""The gate that every request to edX passes: how many are in flight, whose turn it is, and throttling.

One gate serves a process, for edX's rate limit counts our account and not a sync.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared.edx.retry import WAITED_AT_MOST_S
from shared.errors import EdxThrottled

THROTTLE_WAITED_AT_MOST_S = WAITED_AT_MOST_S
"""A rate limit that lasts longer ends a session at once, with the time to come back."""


class Visitor(Protocol):
    """A session, as the gate sees it."""

    def check(self) -> None:
        """Raise an error when the session has ended or its time is up."""

    def left_s(self) -> float:
        """Return the seconds until the session's time is up."""

    def sleep(self, seconds: float) -> None:
        """Wait for that long, or until the session ends."""


class Gate:
    """Lets requests out, in turn; safe to share between threads.

    No session holds more than its fair share of the slots, slots // sessions (at least one), so one whose
    answers trickle leaves room for the others. Who has waited longest goes first.

    Args:
        slots: how many requests may be in flight.
        clock: monotonic seconds.
        now: the time of day, aware, UTC.
    """

    def __init__(self, slots: int, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._slots = slots
        self._clock = clock
        self._now = now
        # All below is read and written with `_changed` held; whoever changes it notifies.
        self._changed = threading.Condition()
        self._in_flight: dict[Visitor, int] = {}  # of each open session
        self._waiting: list[Visitor] = []  # one entry a waiting thread, the longest first
        self._not_before = 0.0  # by `clock`: nobody starts a request earlier
        self._retry_at = datetime.min.replace(tzinfo=UTC)  # the same moment by `now`

    def open(self, visitor: Visitor) -> None:
        """Count a session among those that share the slots."""
        with self._changed:
            self._in_flight[visitor] = 0

    def close(self, visitor: Visitor) -> None:
        """Leave the slots to the other sessions; all requests of this one have ended."""
        with self._changed:
            del self._in_flight[visitor]
            self._changed.notify_all()

    def wake(self) -> None:
        """Have all who wait look again, for a session has ended."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def slot(self, visitor: Visitor) -> Iterator[None]:
        """Hold a slot; wait for it, and for a rate limit that is over within a minute.

        Raises:
            EdxThrottled: the rate limit lasts longer than that, or than the session.
        """
        while wait_s := self._enter(visitor):
            visitor.sleep(wait_s)
        try:
            yield
        finally:
            with self._changed:
                self._in_flight[visitor] -= 1
                self._changed.notify_all()

    def throttle(self, wait_s: float) -> datetime:
        """Let nobody out for that many seconds; return the moment (UTC) from which on requests make sense."""
        with self._changed:
            self._not_before = max(self._not_before, self._clock() + wait_s)
            self._retry_at = max(self._retry_at, self._now() + timedelta(seconds=wait_s))
            return self._retry_at

    def throttled(self) -> EdxThrottled:
        """Return the error that says until when edX throttles us."""
        until = self._retry_at
        return EdxThrottled(f"edX's rate limit is used up until {until:%Y-%m-%dT%H:%M:%SZ}", until)

    def _enter(self, visitor: Visitor) -> float:
        """Take a slot and return 0, or return the seconds for which edX throttles us."""
        with self._changed:
            self._waiting.append(visitor)
            try:
                while True:
                    visitor.check()
                    wait_s = self._not_before - self._clock()
                    if wait_s > 0:
                        if wait_s > THROTTLE_WAITED_AT_MOST_S or wait_s >= visitor.left_s():
                            raise self.throttled()
                        return wait_s
                    if self._next() is visitor:
                        self._in_flight[visitor] += 1
                        return 0
                    self._changed.wait(visitor.left_s())
            finally:
                self._waiting.remove(visitor)
                self._changed.notify_all()

    def _next(self) -> Visitor | None:
        """Return the session whose turn it is, None when no slot is free for those who wait."""
        if sum(self._in_flight.values()) >= self._slots:
            return None
        share = max(1, self._slots // len(self._in_flight))
        return next((visitor for visitor in self._waiting if self._in_flight[visitor] < share), None)
