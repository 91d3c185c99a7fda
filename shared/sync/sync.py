"""The sync of one catalog: pull, compare, store, withdraw, publish, report.

domain/comparison.py compares the records of a pull with what is stored, domain/withdrawal.py limits the
losses; neither does any I/O. `Syncer` does the rest in order. A sync has its own time limit: it continues
when the caller that started it, or one that waits for it, leaves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.comparison import Change
from shared.domain.sync_report import SyncReport
from shared.edx.client import EdxClient
from shared.errors import (
    ConnectorError,
    EdxError,
    MassLoss,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
    unexpected,
)
from shared.settings import ConnectorSettings
from shared.storage.lease import LeaseLost, LeaseState
from shared.storage.tables import Tables
from shared.storage.writer import CatalogWriter
from shared.sync.holding import holding
from shared.sync.preview import Preview, previewed
from shared.sync.publishing import publish
from shared.sync.pull import OnProgress, Puller
from shared.sync.repair import republish
from shared.sync.run import Origin, Say, SyncInProgress, stopped_sync_report
from shared.sync.sessions import Sessions, quietly
from shared.sync.state import StoredState

logger = logging.getLogger(__name__)

LIFETIME_S = 540.0
"""The time limit of a sync, and of its wait for another one; shorter than functionTimeout, ten minutes. What
remains to be published at its end is a few storage steps, each with its own limit."""


class BackingOff(SyncError):
    """No sync was started, because the last attempts failed and the back-off has not ended.

    Attributes:
        failure: the last failure; its `retry_at` is the end of the back-off.
    """

    def __init__(self, failure: ConnectorError) -> None:
        super().__init__(failure.message, failure.retry_at)
        self.failure = failure


class Syncer:
    """Syncs catalogs, one per call. Thread-safe.

    Args:
        tables: the storage.
        edx: the client that is shared by the whole process.
        settings: the mapping rules and the limits.
        say: called with each log line; lines must be kept even when no caller waits for the sync.
        now: the time of day, aware, UTC.
        clock: monotonic seconds.
        sleep: waits that many seconds.
        lifetime_s: the time limit of a sync.
    """

    def __init__(
        self,
        tables: Tables,
        edx: EdxClient,
        settings: ConnectorSettings,
        *,
        say: Say = logger.log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        lifetime_s: float = LIFETIME_S,
    ) -> None:
        self._tables = tables
        self._say = say
        self._now = now
        self._clock = clock
        self._lifetime_s = lifetime_s
        self.sessions = Sessions(edx, tables.account, say, now=now, sleep=sleep)
        self._puller = Puller(tables.credits, self.sessions, settings, now)

    def sync(
        self,
        catalog_id: int,
        origin: Origin,
        *,
        is_eager: bool = True,
        rebuild: bool = False,
        allow_withdrawals: bool = False,
        on_progress: OnProgress = lambda _done, _total: None,
        on_wait: Callable[[LeaseState], None] = lambda _holder: None,
    ) -> SyncReport | None:
        """Sync a catalog, or wait for a sync of it that another process runs.

        Args:
            catalog_id: the edX catalog.
            origin: who started the sync, for the report and the log.
            is_eager: try even when the last attempts failed, but never before edX's rate limit allows it.
            rebuild: compare with the stored course runs instead of the published state.
            allow_withdrawals: allow losses above the limit of the guard against mass loss.
            on_progress: called with the progress of the pull.
            on_wait: called once with the holder of the lease, when another sync is waited for.

        Returns:
            The report; None when another process's sync was waited for and succeeded.

        Raises:
            BackingOff: the last attempts failed, and the caller is not eager.
            ConnectorError: the sync, or the one waited for, failed. The published state is unchanged; after
                MassLoss, new and changed runs have been published.
        """
        run = SyncInProgress(catalog_id, origin, self._now())
        deadline = Deadline.after(self._lifetime_s, self._clock)
        # Another sync does not have these options, so its result cannot be used.
        may_share_result = not (rebuild or allow_withdrawals)
        with self._reporting_failure(run):
            self.sessions.wait_for_rate_limit(deadline)
            while True:
                writer = self._tables.catalogs.acquire(
                    catalog_id,
                    run.sync_id,
                    deadline,
                    admit=_admit_always if is_eager else partial(_admit, self._now),
                    on_wait=on_wait,
                    begins_attempt=True,
                )
                if isinstance(writer, CatalogWriter):
                    break
                if may_share_result and _is_about_the_catalog(writer):
                    run.is_anothers = True
                    if writer.failure:
                        raise writer.failure.error()
                    return None
            self._begin(run, writer)
            writer.deadline = deadline = Deadline.after(self._lifetime_s, self._clock)
            with holding(run, writer, self._now, self._say):
                self._sync(
                    run,
                    writer,
                    deadline,
                    on_progress,
                    rebuild=rebuild,
                    allow_withdrawals=allow_withdrawals,
                )
        return self._report(run, None)

    def republish(self, catalog_id: int) -> bool:
        """Rebuild a damaged published state without asking edX; see `repair.republish`."""
        run = SyncInProgress(catalog_id, Origin("repair"), self._now())
        deadline = Deadline.after(self._lifetime_s, self._clock)
        return republish(
            self._tables.catalogs, run, deadline, begin=self._begin, now=self._now, say=self._say
        )

    def preview(self, catalog_id: int, *, on_progress: OnProgress = lambda _done, _total: None) -> Preview:
        """Pull a catalog and return the changes that a sync would make; write nothing to the catalog."""
        run = SyncInProgress(catalog_id, Origin("preview"), self._now())
        deadline = Deadline.after(self._lifetime_s, self._clock)
        self.sessions.wait_for_rate_limit(deadline)
        state = StoredState(self._tables.catalogs, catalog_id, rebuild=False)
        changes: dict[str, Change] = {}

        def note(change: Change) -> None:
            changes[change.run_id] = change

        decision = self._puller.pull(run, state, deadline, note, on_progress, allow_withdrawals=False)
        return previewed(self._tables.catalogs, run, state, changes, decision, self._now())

    def _begin(self, run: SyncInProgress, writer: CatalogWriter) -> None:
        run.waited_s = (self._now() - run.started).total_seconds()
        dead = writer.took_over
        if dead is not None:
            report = stopped_sync_report(
                dead.sync_id, run.catalog_id, dead.holder, dead.attempts.attempted_at, self._now()
            )
            quietly(lambda: self._tables.reports.add(report), "store the report", self._say)
            self._say(logging.ERROR, report.log_line())

    def _sync(
        self,
        run: SyncInProgress,
        writer: CatalogWriter,
        deadline: Deadline,
        on_progress: OnProgress,
        *,
        rebuild: bool,
        allow_withdrawals: bool,
    ) -> None:
        state = StoredState(self._tables.catalogs, run.catalog_id, rebuild=rebuild)

        def write(change: Change) -> None:
            state.note_row_before(change)
            writer.put(change.mapped, change.size)

        decision = self._puller.pull(
            run, state, deadline, write, on_progress, allow_withdrawals=allow_withdrawals
        )
        publish(run, writer, state, decision, self._now)
        if decision.stopped:
            raise decision.stopped

    @contextmanager
    def _reporting_failure(self, run: SyncInProgress) -> Iterator[None]:
        """Report every error that the block raises; turn an unexpected one into a SyncError."""
        try:
            yield
        except (BackingOff, SyncUnfinished):
            raise  # no sync was started
        except ConnectorError as error:
            if run.needs_report(error):
                self._report(run, error)
            raise
        except Exception as error:  # noqa: BLE001 - every error is reported
            self._say(logging.ERROR, unexpected(error))
            self._report(run, error)
            raise SyncError(f"the sync stopped unexpectedly ({type(error).__name__})") from None
        except BaseException as error:  # Ctrl-C at the operator's command line
            self._report(run, error)
            raise

    def _report(self, run: SyncInProgress, failure: BaseException | None) -> SyncReport:
        report = run.report(self._now(), failure)
        add = partial(self._tables.reports.add, report, in_one_try=_is_by_storage(failure))
        quietly(add, "store the report", self._say)
        self._say(logging.INFO if failure is None else logging.ERROR, report.log_line())
        return report


def _admit_always(_attempts: Attempts) -> None:
    """Allow an attempt regardless of earlier failures, for eager callers."""


def _admit(now: Callable[[], datetime], attempts: Attempts) -> None:
    """Admit a patient caller, unless requests back off after the last attempts."""
    failure = attempts.remembered_failure(now())
    if failure is not None:
        raise BackingOff(failure)


def _is_by_storage(failure: BaseException | None) -> bool:
    """Tell whether storage itself failed a sync, so that it is not worth many more tries now."""
    return isinstance(failure, StorageError) and not isinstance(failure, LeaseLost)


def _is_about_the_catalog(finished: FinishedSync) -> bool:
    """Tell whether our sync would have had this result; not if the other process or its lease was lost."""
    if finished.failure is None:
        return True
    error = finished.failure.error()
    return isinstance(error, (EdxError, NotFound, MassLoss, StorageError)) and not isinstance(
        error, LeaseLost
    )
