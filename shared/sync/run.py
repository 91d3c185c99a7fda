"""One sync of one catalog: its identity, its progress, and its report.

The identity is known from the start; the progress begins when the stored state has been loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.comparison import Comparison
from shared.domain.sync_report import SyncReport
from shared.errors import ConnectorError, EdxThrottled, Failure

ALL_CATALOGS = 0
"""The catalog id in reports about the list of catalogs."""

REJECTIONS_KEPT = 50
UNKNOWN_TRACKS_KEPT = 20

Say = Callable[[int, str], None]
"""Called with a `logging` level and a log line; see serving/outbox.py."""


class StillThrottled(EdxThrottled):
    """A sync was not started, because the end of a known rate limit is too far ahead."""


class Origin(NamedTuple):
    """What started a sync: `timer`, `http`, `operator` or `preview`, and its invocation."""

    trigger: str
    invocation_id: str = ""


@dataclass
class Progress:
    """The findings of a running sync; `notes` maps run id → note of the approval that applies."""

    comparison: Comparison
    courses: int = 0
    incomplete: str | None = None
    withdrawn: int = 0
    unpublished: int = 0
    ended_early: int = 0
    notes: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """Return the numbers for the report, by field name."""
        comparison = self.comparison
        kinds = Counter(comparison.changes.values())
        return {
            "courses": self.courses,
            "runs": len(comparison.shown),
            "created": kinds["created"],
            "changed": kinds["changed"],
            "restored": kinds["restored"],
            "unchanged": len(comparison.shown.keys() - comparison.changes.keys()),
            "withdrawn": self.withdrawn,
            "unpublished": self.unpublished,
            "ended_early": self.ended_early,
            "rejected": len(comparison.rejections),
            "rejections": tuple(comparison.rejections[:REJECTIONS_KEPT]),
            "unknown_tracks": dict(comparison.unknown_tracks.most_common(UNKNOWN_TRACKS_KEPT)),
            "incomplete": self.incomplete,
        }


@dataclass
class SyncInProgress:
    """A sync in progress.

    Attributes:
        waited_s: seconds from the start until the lease was acquired.
        is_anothers: whether the result is that of another process's sync.
        has_lost_lease: whether another process has taken over the catalog.
        end_exchange: cancels all requests to edX; can be called in any thread.
    """

    catalog_id: int
    origin: Origin
    started: datetime
    sync_id: str = field(default_factory=lambda: uuid4().hex)
    waited_s: float = 0.0
    is_anothers: bool = False
    has_lost_lease: bool = False
    edx_requests: int = 0
    warnings: list[str] = field(default_factory=list)
    progress: Progress | None = None
    end_exchange: Callable[[], None] = lambda: None

    @property
    def begun_progress(self) -> Progress:
        """The progress; available once the stored state has been loaded."""
        if self.progress is None:
            raise RuntimeError("the sync has not begun")
        return self.progress

    def needs_report(self, error: ConnectorError) -> bool:
        """Tell whether a failure is reported.

        A request that meets a known rate limit has no report: requests may come often, and the sync that got
        the 429 has one.
        """
        is_known_limit = isinstance(error, StillThrottled) and self.origin.trigger == "http"
        return not (self.is_anothers or is_known_limit)

    def lose_lease(self) -> None:
        """Cancel all requests to edX because another process has taken over the catalog."""
        self.has_lost_lease = True
        self.end_exchange()

    def report(self, ended: datetime, failure: BaseException | None) -> SyncReport:
        """Return the report of the sync up to its end."""
        found = self.progress.counts() if self.progress else {}
        return SyncReport(
            sync_id=self.sync_id,
            catalog_id=self.catalog_id,
            trigger=self.origin.trigger,
            invocation_id=self.origin.invocation_id,
            started=self.started,
            ended=ended,
            waited_s=self.waited_s,
            outcome="failed" if failure else "incomplete" if found.get("incomplete") else "ok",
            warnings=tuple(self.warnings),
            edx_requests=self.edx_requests,
            throttled_until=failure.retry_at if isinstance(failure, EdxThrottled) else None,
            error=Failure.of(failure).message if failure else None,
            **found,
        )

    def finished(
        self, attempts: Attempts, at: datetime, failure: BaseException | None = None
    ) -> FinishedSync:
        """Return the result of the sync, for the lease and for callers that wait for it."""
        return FinishedSync(
            self.sync_id, Failure.of(failure) if failure else None, attempts.ended(at, failure)
        )


def stopped_sync_report(
    sync_id: str, catalog_id: int, holder: str, began: datetime | None, found_at: datetime
) -> SyncReport:
    """Return the report of a sync whose process stopped before the sync ended."""
    return SyncReport(
        sync_id=sync_id,
        catalog_id=catalog_id,
        trigger="unknown",
        invocation_id="",
        started=began or found_at,
        ended=found_at,
        outcome="failed",
        error=f"The process that ran this sync stopped before the sync ended ({holder or 'unknown process'})",
    )
