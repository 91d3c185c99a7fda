"""The pull of a catalog: fetch, map, compare, write changes, and decide which runs leave the answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shared.deadline import Deadline
from shared.domain.comparison import Change, Comparison
from shared.domain.course_run import MappedRun, Rejection, rfc3339
from shared.domain.credits import Approvals
from shared.edx.client import EdxSession
from shared.edx.mapping import map_course
from shared.edx.walk import CourseWalk
from shared.errors import EdxProtocolError
from shared.settings import ConnectorSettings, MappingSettings
from shared.storage.credits import Credits
from shared.sync.decision import Decision, decide
from shared.sync.run import Progress, SyncInProgress
from shared.sync.sessions import Sessions
from shared.sync.state import StoredState

PULLS = 2
"""An incomplete pull is repeated once."""

OnProgress = Callable[[int, int | None], None]
"""Called with the number of courses pulled so far, and edX's count of courses or None."""


def _walk(
    edx: EdxSession,
    catalog_id: int,
    progress: Progress,
    *,
    approvals: Approvals,
    rules: MappingSettings,
    now: datetime,
    write: Callable[[Change], None],
    on_progress: OnProgress,
) -> CourseWalk:
    """Walk through the pages of a catalog and write the changes; return the last walk.

    Args:
        edx: the session to ask.
        catalog_id: the edX catalog.
        progress: updated in place; afterwards `incomplete` says why the pull is incomplete.
        approvals: the credits that administrators approved.
        rules: for mapping.
        now: the time of the pull (aware, UTC), for deciding which seats can still be bought.
        write: called with each change.
        on_progress: called after each page.
    """
    comparison = progress.comparison
    for _ in range(PULLS):
        comparison.begin_pull()
        progress.courses = 0
        walk = edx.courses(catalog_id)
        for courses in walk:
            for course in courses:
                for record in map_course(course, rules, now):
                    change = comparison.compare(_approved(record, approvals, progress))
                    if change is not None:
                        write(change)
            progress.courses += len(courses)
            on_progress(progress.courses, walk.count)
        progress.incomplete = "; ".join(walk.problems) or None
        if not walk.problems or not walk.is_worth_repeating:
            break
    return walk


def _approved(
    record: MappedRun | Rejection, approvals: Approvals, progress: Progress
) -> MappedRun | Rejection:
    approval = approvals.of(record) if isinstance(record, MappedRun) else None
    if approval is None or not isinstance(record, MappedRun):
        return record
    progress.notes[record.run.id] = approval.note
    return approval.applied_to(record)


class Puller:
    """Pulls catalogs, each in its own edX session."""

    def __init__(
        self,
        approved: Credits,
        sessions: Sessions,
        settings: ConnectorSettings,
        now: Callable[[], datetime],
    ) -> None:
        self._credits = approved
        self._sessions = sessions
        self._settings = settings
        self._now = now

    def pull(
        self,
        run: SyncInProgress,
        state: StoredState,
        deadline: Deadline,
        write: Callable[[Change], None],
        on_progress: OnProgress,
        *,
        allow_withdrawals: bool,
    ) -> Decision:
        """Pull a catalog, write changes as pages arrive, and decide which runs leave the answer."""
        now = self._now()
        approvals = self._credits.all()
        run.warnings += approvals.malformed
        stored = state.count_runs()
        progress = run.progress = Progress(Comparison(state.digests, rfc3339(now)))
        with self._sessions.open(deadline) as edx:
            run.end_exchange = edx.end
            if run.has_lost_lease:  # before the exchange could be cancelled
                edx.end()
            try:
                walk = _walk(
                    edx,
                    run.catalog_id,
                    progress,
                    approvals=approvals,
                    rules=self._settings.mapping,
                    now=now,
                    write=write,
                    on_progress=on_progress,
                )
            finally:
                run.edx_requests = edx.requests
        if progress.courses == 0 and not (walk.says_empty and (allow_withdrawals or not stored)):
            count = "no count" if walk.count is None else f"count {walk.count}"
            raise EdxProtocolError(
                f"edX returned no courses although {stored} runs are stored; nothing was withdrawn"
                if stored
                else f"edX returned no courses ({count}) and did not say that the catalog is empty"
            )
        decision = decide(
            run.catalog_id,
            state,
            progress,
            moment=rfc3339(self._now()),
            percent=self._settings.sync.max_withdraw_percent,
            allow=allow_withdrawals,
        )
        progress.incomplete = progress.incomplete or decision.doubt
        return decision
