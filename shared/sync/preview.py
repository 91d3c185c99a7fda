"""The preview of a sync for `--dry-run`: shows the changes and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from shared.domain.comparison import Change, LossReason
from shared.domain.course_run import StoredRun
from shared.domain.sync_report import SyncReport
from shared.errors import MassLoss
from shared.storage.store import CatalogStore
from shared.sync.decision import Decision
from shared.sync.run import SyncInProgress
from shared.sync.state import StoredState


class Preview(NamedTuple):
    """The changes that a sync would make.

    Attributes:
        changes: each run to write, with its stored version (None for a new run).
        gone: the runs to withdraw.
        lost: the runs that callers would lose, by reason, including withdrawn runs.
        stopped: the error of the guard, if it would stop the sync.
        report: the report of the pull.
    """

    changes: list[tuple[StoredRun | None, Change]]
    gone: list[StoredRun]
    lost: Mapping[LossReason, list[StoredRun]]
    stopped: MassLoss | None
    report: SyncReport


def previewed(  # noqa: PLR0917 - collaborators and values
    store: CatalogStore,
    run: SyncInProgress,
    state: StoredState,
    changes: dict[str, Change],
    decision: Decision,
    at: datetime,
) -> Preview:
    """Return the preview; it reads the stored version of each run that would change or leave."""
    comparison = run.begun_progress.comparison
    kept_back = comparison.release(state.kept if decision.leaving else (), decision.staying)
    changes |= {change.run_id: change for change in kept_back}

    def stored(run_id: str) -> StoredRun | None:
        return store.run(run.catalog_id, run_id)

    return Preview(
        [
            (None if change.kind == "created" else stored(run_id), change)
            for run_id, change in changes.items()
        ],
        [found for run_id in decision.missing if (found := stored(run_id))],
        {
            reason: [found for run_id in ids if (found := stored(run_id))]
            for reason, ids in decision.lost.items()
        },
        decision.stopped,
        run.report(at, None),
    )
