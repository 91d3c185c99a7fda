"""The attempts to sync a catalog or to list the catalogs: the last one, the last success, and the failures.

Pure. Storage keeps them, a sync updates them, and requests and the timer use them to decide on a new attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.errors import ConnectorError, EdxThrottled, Failure

BACK_OFF_FIRST = timedelta(minutes=1)
"""Pause before a request starts a sync after two failures in a row; doubles with each further failure."""

BACK_OFF_MAX = timedelta(minutes=15)


@dataclass(frozen=True)
class Attempts:
    """The last attempt, the last success, and how many attempts failed since. Times are aware UTC.

    Attributes:
        attempted_at: when the last attempt began.
        succeeded_at: when the last successful attempt ended.
        failures: number of failures in a row; an attempt that edX throttled does not count as a failure.
        failed_at: when the last failed attempt ended; kept after a success.
        failure: why it failed; kept after a success.
    """

    attempted_at: datetime | None = None
    succeeded_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    failure: Failure | None = None

    def begun(self, at: datetime) -> Attempts:
        """Return these attempts with a new one that begins at `at`."""
        return replace(self, attempted_at=at)

    def ended(self, at: datetime, error: BaseException | None) -> Attempts:
        """Return these attempts with the result of the last one."""
        if error is None:
            return replace(self, succeeded_at=at, failures=0)
        if isinstance(error, EdxThrottled):
            return self
        return replace(self, failures=self.failures + 1, failed_at=at, failure=Failure.of(error))

    def remembered_failure(self, now: datetime) -> ConnectorError | None:
        """Return the failure to report instead of a new attempt; None when a new attempt is allowed.

        Its `retry_at` is the end of the back-off, or the time that edX named if that is later. An end that is
        later than `BACK_OFF_MAX` from now comes from a wrong clock and is ignored.
        """
        if self.failures < 2 or self.failed_at is None or self.failure is None:  # noqa: PLR2004 - the second
            return None
        doublings = min(self.failures - 2, 10)  # far above BACK_OFF_MAX already
        until = self.failed_at + min(BACK_OFF_FIRST * 2**doublings, BACK_OFF_MAX)
        if not now < until <= now + BACK_OFF_MAX:
            return None
        retry_at = max(until, self.failure.retry_at or until)
        return self.failure._replace(retry_at=retry_at).error()


@dataclass(frozen=True)
class FinishedSync:
    """The result of a sync, for callers that waited for it; `failure` is None after a success."""

    sync_id: str = ""
    failure: Failure | None = None
    attempts: Attempts = Attempts()
