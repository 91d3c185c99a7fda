"""What is remembered of the attempts to sync a catalog, or to list the catalogs.

Pure: storage keeps it, a sync adds to it, and requests and the timer decide by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.errors import ConnectorError, EdxThrottled, Failure

BACK_OFF_FIRST = timedelta(minutes=1)
"""How long requests start no other sync after the second failure in a row; doubles with each further one."""

BACK_OFF_MAX = timedelta(minutes=15)


@dataclass(frozen=True)
class Attempts:
    """The last attempt, the last success, and how many attempts failed since. Times are aware UTC.

    Attributes:
        attempted_at: when the last attempt began.
        succeeded_at: when the last one that succeeded ended.
        failures: how many failed in a row, up to now; an attempt that edX throttled is no failure.
        failed_at: when the last one that failed ended; kept after a success.
        failure: why; kept after a success.
    """

    attempted_at: datetime | None = None
    succeeded_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    failure: Failure | None = None

    def begun(self, at: datetime) -> Attempts:
        """Note that an attempt begins."""
        return replace(self, attempted_at=at)

    def ended(self, at: datetime, error: BaseException | None) -> Attempts:
        """Note how an attempt ended."""
        if error is None:
            return replace(self, succeeded_at=at, failures=0)
        if isinstance(error, EdxThrottled):
            return self
        return replace(self, failures=self.failures + 1, failed_at=at, failure=Failure.of(error))

    def remembered_failure(self, now: datetime) -> ConnectorError | None:
        """Return the failure that a request gets instead of another attempt; None when one may be made.

        Its `retry_at` is the end of the back-off, or what edX said if that is later. An end that is further
        ahead than any back-off comes from a clock that is wrong, and is ignored.
        """
        if self.failures < 2 or self.failed_at is None or self.failure is None:  # noqa: PLR2004 - the second
            return None
        doublings = min(self.failures - 2, 10)  # the maximum is reached long before
        until = self.failed_at + min(BACK_OFF_FIRST * 2**doublings, BACK_OFF_MAX)
        if not now < until <= now + BACK_OFF_MAX:
            return None
        retry_at = max(until, self.failure.retry_at or until)
        return self.failure._replace(retry_at=retry_at).error()


@dataclass(frozen=True)
class FinishedSync:
    """How a sync ended, for those who waited for it: without a failure, or with one."""

    sync_id: str = ""
    failure: Failure | None = None
    attempts: Attempts = Attempts()
