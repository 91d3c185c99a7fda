"""Rebuilds a damaged published state from the stored course runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shared.deadline import Deadline
from shared.domain.attempts import FinishedSync
from shared.domain.published import render
from shared.storage.store import CatalogStore
from shared.storage.writer import CatalogWriter
from shared.sync.holding import holding
from shared.sync.run import Say, SyncInProgress
from shared.sync.state import read_runs


def republish(
    store: CatalogStore,
    run: SyncInProgress,
    deadline: Deadline,
    *,
    begin: Callable[[SyncInProgress, CatalogWriter], None],
    now: Callable[[], datetime],
    say: Say,
) -> bool:
    """Rebuild the published state of a catalog from its course runs, without asking edX.

    Args:
        store: the stored catalogs.
        run: the identity of the repair.
        deadline: the end of the wait for a running sync.
        begin: called with the writer; reports a sync whose process had stopped.
        now: the time of day, aware, UTC.
        say: called with each log line.

    Returns:
        False when only a new sync can rebuild it: an earlier sync stopped while it wrote runs, so that some
        stored runs are newer than the others.
    """
    writer = store.acquire(
        run.catalog_id,
        run.sync_id,
        deadline,
        admit=lambda _attempts: None,
        on_wait=lambda _holder: None,
        begins_attempt=False,
    )
    if isinstance(writer, FinishedSync):
        return True
    begin(run, writer)
    with holding(run, writer, now, say):
        head = store.head(run.catalog_id)
        if head is None or head.synced_at is None or head.writing:
            writer.release(writer.previous)
            return False
        digests, runs = read_runs(store, run.catalog_id)
        writer.publish(
            head,
            render(runs.values(), now()),
            digests,
            at=head.synced_at,
            synced_at=head.synced_at,
            unidentified=head.unidentified,
            is_success=not head.counted_generation,
            changes=(),
            finished=writer.previous,
        )
    return True
