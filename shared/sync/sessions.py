"""Opens edX sessions and respects the rate limit, which is stored so that all processes know it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from shared.deadline import Deadline
from shared.domain.course_run import rfc3339
from shared.edx.client import EdxClient, EdxSession
from shared.errors import ConnectorError, unexpected
from shared.storage.account import Account
from shared.sync.run import Say, StillThrottled

WAITED_AT_MOST_S = 60.0
"""The longest wait for the end of a rate limit; a longer rate limit makes the sync fail at once."""


class Sessions:
    """Opens sessions with edX.

    Args:
        edx: the client that is shared by the whole process.
        account: stores the rate limit.
        say: called with a warning for the log.
        now: the time of day, aware, UTC.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        edx: EdxClient,
        account: Account,
        say: Say,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._edx = edx
        self._account = account
        self._say = say
        self._now = now
        self._sleep = sleep

    def wait_for_rate_limit(self, deadline: Deadline) -> None:
        """Wait until edX's rate limit allows a request, for a minute at most.

        Raises:
            StillThrottled: the rate limit lasts longer than a minute, or longer than the deadline.
        """
        until = self._account.throttled_until()
        if until is None:
            return
        wait_s = (until - self._now()).total_seconds()
        if wait_s > min(WAITED_AT_MOST_S, deadline.left_s()):
            raise StillThrottled(f"edX's rate limit is used up until {rfc3339(until)}", until)
        if wait_s > 0:
            self._sleep(wait_s)

    @contextmanager
    def open(self, deadline: Deadline) -> Iterator[EdxSession]:
        """Open a session, and store every rate limit that edX announces in it."""
        with self._edx.session(deadline, on_throttled=self._remember) as session:
            yield session

    def _remember(self, until: datetime) -> None:
        quietly(lambda: self._account.remember_throttled(until), "remember edX's rate limit", self._say)


def quietly(action: Callable[[], None], what: str, say: Say) -> None:
    """Run an action whose failure is logged and does not change the result of the sync."""
    try:
        action()
    except ConnectorError as error:
        say(logging.WARNING, f"Could not {what}: {error.message}")
    except Exception as error:  # noqa: BLE001 - no error may change the result
        say(logging.ERROR, unexpected(error))
