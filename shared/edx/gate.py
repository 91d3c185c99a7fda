"""Limits the requests to edX: how many are in flight, which session is next, and throttling.

All sessions of a process share one gate, because edX's rate limit applies to our account.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared.edx.retry import WAITED_AT_MOST_S
from shared.errors import EdxThrottled

THROTTLE_WAITED_AT_MOST_S = WAITED_AT_MOST_S
"""The longest wait for the end of a rate limit; during a longer one, requests fail with EdxThrottled."""


class GatedSession(Protocol):
    """The methods of a session that the gate uses."""

    def check(self) -> None:
        """Raise an error when the session has ended or its time is up."""

    def left_s(self) -> float:
        """Return the seconds until the session's time is up."""

    def sleep(self, seconds: float) -> None:
        """Wait for that long, or until the session ends."""


class Gate:
    """Gives slots for requests to sessions in turn. Thread-safe.

    No session holds more than slots // sessions slots (at least one), so that a session with slow answers
    does not block the others. The session that has waited longest is next.

    Args:
        slots: the maximum number of requests in flight.
        clock: monotonic seconds.
        now: the time of day, aware, UTC.
    """

    def __init__(self, slots: int, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._slots = slots
        self._clock = clock
        self._now = now
        # Everything below is read and written with `_changed` held; each change notifies.
        self._changed = threading.Condition()
        self._in_flight: dict[GatedSession, int] = {}  # requests of each open session
        self._waiting: list[GatedSession] = []  # one entry per waiting thread, in the order of arrival
        self._not_before = 0.0  # by `clock`: no request starts earlier
        self._retry_at = datetime.min.replace(tzinfo=UTC)  # the same moment by `now`

    def open(self, session: GatedSession) -> None:
        """Add a session to those that share the slots."""
        with self._changed:
            self._in_flight[session] = 0

    def close(self, session: GatedSession) -> None:
        """Remove a session whose requests have all ended."""
        with self._changed:
            del self._in_flight[session]
            self._changed.notify_all()

    def wake(self) -> None:
        """Wake all waiting threads, because a session has ended."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def slot(self, session: GatedSession) -> Iterator[None]:
        """Hold a slot; wait until one is free, and up to a minute for the end of a rate limit.

        Raises:
            EdxThrottled: the rate limit lasts longer than a minute, or longer than the session.
        """
        while wait_s := self._enter(session):
            session.sleep(wait_s)
        try:
            yield
        finally:
            with self._changed:
                self._in_flight[session] -= 1
                self._changed.notify_all()

    def throttle(self, wait_s: float) -> datetime:
        """Start no request for `wait_s` seconds; return the end of that time (UTC)."""
        with self._changed:
            self._not_before = max(self._not_before, self._clock() + wait_s)
            self._retry_at = max(self._retry_at, self._now() + timedelta(seconds=wait_s))
            return self._retry_at

    def throttled(self) -> EdxThrottled:
        """Return the error that says until when edX throttles us."""
        until = self._retry_at
        return EdxThrottled(f"edX's rate limit is used up until {until:%Y-%m-%dT%H:%M:%SZ}", until)

    def _enter(self, session: GatedSession) -> float:
        """Take a slot and return 0, or return the seconds until the throttling ends."""
        with self._changed:
            self._waiting.append(session)
            try:
                while True:
                    session.check()
                    wait_s = self._not_before - self._clock()
                    if wait_s > 0:
                        if wait_s > THROTTLE_WAITED_AT_MOST_S or wait_s >= session.left_s():
                            raise self.throttled()
                        return wait_s
                    if self._next() is session:
                        self._in_flight[session] += 1
                        return 0
                    self._changed.wait(session.left_s())
            finally:
                self._waiting.remove(session)
                self._changed.notify_all()

    def _next(self) -> GatedSession | None:
        """Return the session that gets the next slot; None when no slot is free for a waiting session."""
        if sum(self._in_flight.values()) >= self._slots:
            return None
        share = max(1, self._slots // len(self._in_flight))
        return next((session for session in self._waiting if self._in_flight[session] < share), None)
