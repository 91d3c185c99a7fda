"""The sync of one catalog: pull, compare, store, withdraw, publish, report.

Its collaborators are handed in. What the records of a pull mean is worked out by domain/comparison.py, what
is too much to lose by domain/withdrawal.py; neither does any I/O. `Syncer` does the rest in order, within a
lifetime of its own: whoever started the sync or waits for it may leave, and the sync goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.comparison import Change, Comparison
from shared.domain.course_run import rfc3339
from shared.domain.published import render
from shared.domain.sync_report import SyncReport
from shared.edx.client import EdxClient
from shared.errors import (
    ConnectorError,
    EdxError,
    EdxProtocolError,
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
from shared.sync.decision import Decision, decide
from shared.sync.preview import Preview, previewed
from shared.sync.publishing import publish
from shared.sync.pull import OnProgress, pull
from shared.sync.run import Origin, Progress, Run, Say, stopped_sync_report
from shared.sync.sessions import Sessions, quietly
from shared.sync.state import StoredState, read_runs

logger = logging.getLogger(__name__)

LIFETIME_S = 540.0
"""A sync ends within this time, whoever started it: before the functionTimeout of host.json, ten minutes."""


class BackingOff(SyncError):
    """No sync was begun, because the last ones failed.

    Attributes:
        failure: the last failure, with the time to come back.
    """

    def __init__(self, failure: ConnectorError) -> None:
        super().__init__(failure.message, failure.retry_at)
        self.failure = failure


class Syncer:
    """Syncs catalogs, one call each. Thread-safe: all that a sync knows is its own.

    Args:
        tables: where everything is stored.
        edx: the client that all of this process share.
        settings: the mapping rules and the limits.
        say: takes the lines for the log; they must not be lost when nobody waits for the sync any more.
        now: the time of day, aware, UTC.
        clock: monotonic seconds.
        sleep: waits that many seconds.
        lifetime_s: within this time a sync ends.
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
        self._settings = settings
        self._say = say
        self._now = now
        self._clock = clock
        self._lifetime_s = lifetime_s
        self.sessions = Sessions(edx, tables.account, say, now=now, sleep=sleep)

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
        """Sync a catalog, or wait for the sync of it that runs elsewhere.

        Args:
            catalog_id: the edX catalog.
            origin: for the report and the log.
            is_eager: try also when the last attempts failed, though never before edX's rate limit allows it.
            rebuild: read the stored course runs again instead of trusting the published state.
            allow_withdrawals: let go what the guard against mass loss would stop.
            on_progress: told how far the pull is.
            on_wait: told who holds the lease when it has to be waited for.

        Returns:
            The report; None when it was another caller's sync that has ended well.

        Raises:
            BackingOff: the last attempts failed, and the caller is not eager.
            ConnectorError: what stopped the sync, ours or the one waited for. The published state is as it
                was, unless it is MassLoss: then what is new and changed has been published.
        """
        run = Run(catalog_id, origin, self._now())
        deadline = Deadline.after(self._lifetime_s, self._clock)
        # Else it matters whose sync it was.
        adopts = not (rebuild or allow_withdrawals)
        with self._reporting_failure(run):
            self.sessions.wait_for_rate_limit(deadline)
            while True:
                writer = self._tables.catalogs.acquire(
                    catalog_id,
                    run.sync_id,
                    deadline,
                    admit=_anyone if is_eager else self._admit,
                    on_wait=on_wait,
                    begins_attempt=True,
                )
                if isinstance(writer, CatalogWriter):
                    break
                if adopts and _is_about_the_catalog(writer):
                    run.is_anothers = True
                    if writer.failure:
                        raise writer.failure.error()
                    return None
            self._begin(run, writer)
            with self._holding(run, writer):
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
        """Rebuild a damaged published state from the course runs, without asking edX.

        Returns:
            False when only a sync can rebuild it: one crashed in the midst of writing, so that the runs are
            partly its and partly those of the sync before.
        """
        sync_id = uuid4().hex
        writer = self._tables.catalogs.acquire(
            catalog_id,
            sync_id,
            Deadline.after(self._lifetime_s, self._clock),
            admit=_anyone,
            on_wait=lambda _holder: None,
            begins_attempt=False,
        )
        if isinstance(writer, FinishedSync):
            return True
        run = Run(catalog_id, Origin("repair"), self._now(), sync_id)
        with self._holding(run, writer):
            head = self._tables.catalogs.head(catalog_id)
            if head is None or head.synced_at is None or head.writing:
                writer.release(writer.previous)
                return False
            digests, runs = read_runs(self._tables.catalogs, catalog_id)
            writer.publish(
                head,
                render(runs.values(), self._now()),
                digests,
                at=head.synced_at,
                synced_at=head.synced_at,
                unidentified=head.unidentified,
                counts=not head.counted_generation,
                changes=(),
                finished=writer.previous,
            )
        return True

    def preview(self, catalog_id: int, *, on_progress: OnProgress = lambda _done, _total: None) -> Preview:
        """Pull a catalog and return what a sync would do now, writing nothing to the catalog."""
        run = Run(catalog_id, Origin("preview"), self._now())
        deadline = Deadline.after(self._lifetime_s, self._clock)
        self.sessions.wait_for_rate_limit(deadline)
        state = StoredState(self._tables.catalogs, catalog_id, rebuild=False)
        changes: dict[bytes, Change] = {}

        def note(change: Change) -> None:
            changes[change.run_id] = change

        decision = self._pull(run, state, deadline, note, on_progress, allow_withdrawals=False)
        return previewed(self._tables.catalogs, run, state, changes, decision, self._now())

    def _begin(self, run: Run, writer: CatalogWriter) -> None:
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
        run: Run,
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

        decision = self._pull(run, state, deadline, write, on_progress, allow_withdrawals=allow_withdrawals)
        publish(run, writer, state, decision, self._now)
        if decision.stopped:
            raise decision.stopped

    def _pull(
        self,
        run: Run,
        state: StoredState,
        deadline: Deadline,
        write: Callable[[Change], None],
        on_progress: OnProgress,
        *,
        allow_withdrawals: bool,
    ) -> Decision:
        """Pull the catalog, write what differs as it comes in, and decide what it takes away."""
        now = self._now()
        approvals = self._tables.credits.all()
        run.warnings += approvals.malformed
        stored = state.holds_runs
        progress = run.progress = Progress(Comparison(state.digests, rfc3339(now)))
        with self.sessions.open(deadline) as edx:
            run.end_exchange = edx.end
            try:
                walk = pull(
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
            were_stored = sum(1 for _ in state.kept)
            raise EdxProtocolError(
                f"edX returned no courses although {were_stored} runs are stored; nothing was withdrawn"
                if stored
                else f"edX returned no courses although it counts {walk.count}"
            )
        return decide(
            run.catalog_id,
            state,
            progress,
            moment=rfc3339(self._now()),
            percent=self._settings.sync.max_withdraw_percent,
            allow=allow_withdrawals,
        )

    def _admit(self, attempts: Attempts) -> None:
        failure = attempts.remembered_failure(self._now())
        if failure is not None:
            raise BackingOff(failure)

    @contextmanager
    def _holding(self, run: Run, writer: CatalogWriter) -> Iterator[None]:
        """Keep the lease while the block runs, and let it go when the block fails."""
        try:
            with writer.kept_alive(on_lost=run.lose_lease):
                yield
        except BaseException as failure:
            if run.has_lost_lease:
                raise LeaseLost("another process has taken over this sync, and this one stopped") from failure
            finished = run.finished(writer.attempts, self._now(), failure)
            quietly(lambda: writer.release(finished), "release the lease", self._say)
            raise

    @contextmanager
    def _reporting_failure(self, run: Run) -> Iterator[None]:
        """Report what stops the block, and make an error of ours of what nobody expected."""
        try:
            yield
        except (BackingOff, SyncUnfinished):
            raise  # nothing was begun
        except ConnectorError as error:
            if not run.is_anothers:
                self._report(run, error)
            raise
        except Exception as error:  # noqa: BLE001 - it has to be reported, whatever it is
            self._say(logging.ERROR, unexpected(error))
            self._report(run, error)
            raise SyncError(f"the sync was stopped by {type(error).__name__}") from None
        except BaseException as error:  # Ctrl-C at the operator's command line
            self._report(run, error)
            raise

    def _report(self, run: Run, failure: BaseException | None) -> SyncReport:
        report = run.report(self._now(), failure)
        quietly(lambda: self._tables.reports.add(report), "store the report", self._say)
        self._say(logging.INFO if failure is None else logging.ERROR, report.log_line())
        return report


def _anyone(_attempts: Attempts) -> None:
    """Admit an eager caller, however the last attempts ended."""


def _is_about_the_catalog(finished: FinishedSync) -> bool:
    """Tell whether another's sync ended as ours would: not when its process or its lease was lost."""
    if finished.failure is None:
        return True
    error = finished.failure.error()
    return isinstance(error, (EdxError, NotFound, MassLoss, StorageError)) and not isinstance(
        error, LeaseLost
    )
