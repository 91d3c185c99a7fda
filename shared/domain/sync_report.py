"""What one sync of one catalog did: for the table of reports, the log and the operator."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Literal

from shared.domain.course_run import Rejection


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """One sync of one catalog: when, how it ended, what it found. Times are aware UTC.

    `runs` are the course runs that edX showed; each is created, changed, restored (it had been withdrawn)
    or unchanged, and `rejected` ones come on top. Three numbers left the answer: `withdrawn` runs, which edX
    no longer shows; `unpublished` ones, which it shows and does not publish any more; and `ended_early` ones,
    whose end it moved into the past. `incomplete` says why a pull that was not whole withdrew nothing.
    `unknown_tracks` counts runs by the edX track that has no contract type. `warnings` are sentences about
    what went on without stopping the sync. `waited_s` is the time before the sync began, spent on another
    sync of the catalog or on edX's rate limit.
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
        """How long the sync took, without the time that it waited before it began."""
        return (self.ended - self.started).total_seconds() - self.waited_s

    def log_line(self) -> str:
        """Write the report as one line of JSON that Application Insights can query."""
        values = asdict(self) | {
            "event": "sync",
            "catalog": self.catalog_id,
            "seconds": round(self.seconds, 3),
        }
        for left_out in ("catalog_id", "rejections"):  # the entity has the rejections: a line has its limits
            del values[left_out]
        return json.dumps(values, default=datetime.isoformat, ensure_ascii=False)
