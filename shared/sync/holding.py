"""Holds the lease of a catalog during a sync, and releases it when the sync fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from shared.storage.lease import LeaseLost
from shared.storage.writer import CatalogWriter
from shared.sync.run import Say, SyncInProgress
from shared.sync.sessions import quietly


@contextmanager
def holding(
    run: SyncInProgress, writer: CatalogWriter, now: Callable[[], datetime], say: Say
) -> Iterator[None]:
    """Renew the lease while the block runs, and release it when the block fails.

    Raises:
        LeaseLost: another process has taken over the catalog; requests to edX were cancelled.
    """
    try:
        with writer.kept_alive(on_lost=run.lose_lease):
            yield
    except BaseException as failure:
        if run.has_lost_lease:
            raise LeaseLost("another process now syncs this catalog, and this one stopped") from failure
        finished = run.finished(writer.attempts, now(), failure)
        quietly(lambda: writer.release(finished), "release the lease", say)
        raise
