"""The last step of a sync: withdraws runs, publishes the new state and writes the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from shared.domain.changes import Entry, entries
from shared.domain.comparison import NOT_SERVED
from shared.domain.course_run import rfc3339
from shared.domain.published import WITHDRAWN, ServedRun, render
from shared.storage.writer import CatalogWriter
from shared.sync.decision import Decision
from shared.sync.run import Progress, SyncInProgress
from shared.sync.state import StoredState


def publish(
    run: SyncInProgress,
    writer: CatalogWriter,
    state: StoredState,
    decision: Decision,
    now: Callable[[], datetime],
) -> None:
    """Write the delayed changes, withdraw the missing runs, and publish the new state (or only the new time).

    A sync that the guard stopped publishes new and changed runs, withdraws nothing and keeps the lease.
    """
    progress = run.begun_progress
    comparison = progress.comparison
    is_success = decision.stopped is None
    served_now = state.kept if decision.leaving else ()
    unpublished = [each for each in comparison.unpublished_rejections() if each not in decision.staying]
    for change in comparison.release(served_now, decision.staying):
        writer.put(change.mapped, change.size)
    writer.flush()
    for mapped, reason in writer.refused:
        comparison.refuse(mapped, reason)
    writer.mark_unpublished(unpublished)
    comparison.note_unpublished(unpublished)
    if is_success:
        writer.withdraw(decision.missing, now())
        comparison.note_withdrawn(decision.missing)
        progress.withdrawn = len(decision.missing)
        progress.unpublished = len(decision.lost.get("unpublished", ()))
        progress.ended_early = len(decision.lost.get("ended", ()))
    are_news = is_success and comparison.note_unmappable(decision.leaving.get("unmappable", ()))
    moment = now()
    head = state.head
    finished = run.finished(writer.attempts, moment) if is_success else None
    unidentified = comparison.unidentified
    if head is not None and (progress.incomplete or not is_success):
        unidentified = head.unidentified
    unchanged = not (state.is_rebuilt or comparison.changes or progress.withdrawn or are_news)
    if head and unchanged and rfc3339(moment) < head.holds_until:
        if finished:
            writer.confirm(head, moment, unidentified, finished)
        return
    shown = _shown(state, progress, keep_missing=not is_success)
    body = render((each for each in shown.values() if each), moment)
    writer.publish(
        head,
        body,
        comparison.digests,
        at=moment,
        synced_at=moment if is_success else head.synced_at if head else None,
        unidentified=unidentified,
        is_success=is_success,
        changes=_entries(run, state, shown, body.runs, rfc3339(moment)),
        finished=finished,
    )


def _shown(state: StoredState, progress: Progress, *, keep_missing: bool) -> dict[str, ServedRun | None]:
    """Return the runs to serve: those that edX returned, and stored ones that stay in the answer."""
    comparison = progress.comparison
    shown = dict(comparison.shown)
    if keep_missing or progress.incomplete or comparison.has_rejected_runs_still_served():
        for run_id, served in state.kept.items():
            if run_id not in shown and comparison.digests.get(run_id, WITHDRAWN) not in NOT_SERVED:
                shown[run_id] = served
    return shown


def _entries(
    run: SyncInProgress, state: StoredState, shown: dict[str, ServedRun | None], runs: int, moment: str
) -> Sequence[Entry]:
    """Return the history entries of this sync; none when the published state before it was unreadable."""
    if state.was_never_published:
        return [Entry(kind="first-sync", runs=runs)]
    if state.body is None or state.published_digests is None:
        return []
    comparison = run.begun_progress.comparison
    if state.is_rebuilt:  # an earlier sync may have written runs without publishing them
        touched = [*state.body.keys() | shown.keys()]
        known = state.published_digests
    else:
        touched = [*comparison.before.keys() | comparison.changes.keys()]
        known = comparison.before
    return entries(
        state.body,
        shown,
        touched,
        moment=moment,
        known=known,
        rows_before=state.rows_before,
        notes=run.begun_progress.notes,
    )
