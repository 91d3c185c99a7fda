"""The report of one sync of one catalog, for the reports table, the log and the operator."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Literal

from shared.domain.course_run import Rejection


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """One sync of one catalog: when it ran, how it ended, what it found. Times are aware UTC.

    `runs` counts the course runs that edX returned; each is created, changed, restored (it had been
    withdrawn) or unchanged. `rejected` runs are counted separately. Runs leave the answer as `withdrawn` (edX
    no longer returns them), `unpublished` (edX returns them but no longer publishes them) or `ended_early`
    (edX moved their end into the past). `incomplete` says why the pull was incomplete; nothing was withdrawn
    then. `unknown_tracks` counts runs by edX track without a contract type. `warnings` are problems that did
    not stop the sync. `waited_s` is the time spent before the sync began, waiting for another sync of the
    catalog or for edX's rate limit.
    """

    sync_id: str
    catalog_id: int
    trigger: str
    invocation_id: str
    started: datetime
    ended: datetime
    outcome: Literal["ok", "incomplete", "failed"]
    courses: int = 0
    runs: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    unpublished: int = 0
    ended_early: int = 0
    restored: int = 0
    rejected: int = 0
    rejections: Sequence[Rejection] = ()
    unknown_tracks: Mapping[str, int] = field(default_factory=dict)
    incomplete: str | None = None
    warnings: Sequence[str] = ()
    waited_s: float = 0.0
    edx_requests: int = 0
    throttled_until: datetime | None = None
    error: str | None = None

    @property
    def seconds(self) -> float:
        """The duration of the sync, without `waited_s`."""
        return (self.ended - self.started).total_seconds() - self.waited_s

    def log_line(self) -> str:
        """Format the report as one line of JSON, for queries in Application Insights."""
        values = asdict(self) | {
            "event": "sync",
            "catalog": self.catalog_id,
            "seconds": round(self.seconds, 3),
        }
        for left_out in ("catalog_id", "rejections"):  # too long for a log line
            del values[left_out]
        return json.dumps(values, default=datetime.isoformat, ensure_ascii=False)
