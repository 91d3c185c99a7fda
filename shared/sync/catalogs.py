"""Decides which catalogs are synced and served: the configured ones, or all that edX lists for us.

Used by the timer, by requests and by the command line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from shared.deadline import Deadline
from shared.domain.attempts import Attempts
from shared.domain.catalog_list import CatalogList, listed_now
from shared.domain.sync_report import SyncReport
from shared.errors import ConnectorError, SyncError, unexpected
from shared.storage.account import Account
from shared.storage.reports import Reports
from shared.sync.run import ALL_CATALOGS, Origin, Say, SyncInProgress
from shared.sync.sessions import Sessions, quietly
from shared.sync.sync import LIFETIME_S, BackingOff


class OurCatalogs:
    """The catalogs that the connector syncs and serves.

    Args:
        configured: the catalogs of EDX_CATALOG_IDS; if there are any, edX is never asked for its list.
        account: stores edX's list.
        reports: stores the report of a failed attempt to list the catalogs.
        sessions: opens sessions with edX.
        say: takes the lines for the log.
    """

    def __init__(
        self,
        configured: Sequence[int],
        account: Account,
        reports: Reports,
        sessions: Sessions,
        say: Say,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        lifetime_s: float = LIFETIME_S,
    ) -> None:
        self._configured = tuple(configured)
        self._account = account
        self._reports = reports
        self._sessions = sessions
        self._say = say
        self._now = now
        self._clock = clock
        self._lifetime_s = lifetime_s

    @property
    def are_configured(self) -> bool:
        """Tell whether the settings name the catalogs, so that edX's list is not used."""
        return bool(self._configured)

    def known(self) -> CatalogList | None:
        """Return the known catalogs without asking edX; None when edX has never listed them."""
        if self._configured:
            return CatalogList(self._configured, self._now())
        return self._account.catalog_list()

    def ask(self, origin: Origin, *, is_eager: bool = True) -> CatalogList:
        """Ask edX for the list of our catalogs, store it and return it.

        Args:
            origin: who asks, for the log and the report of a failure.
            is_eager: ask even when the last attempts failed, but never before the rate limit allows it.

        Raises:
            BackingOff: the last attempts failed, and the caller is not eager.
            ConnectorError: the list could not be fetched or is not plausible; the known list stays.
        """
        if self._configured:
            return CatalogList(self._configured, self._now())
        attempts = self._account.attempts()
        failure = None if is_eager else attempts.remembered_failure(self._now())
        if failure is not None:
            raise BackingOff(failure)
        run = SyncInProgress(ALL_CATALOGS, origin, self._now())
        attempts = attempts.begun(run.started)
        try:
            listed = self._listed(run)
        except ConnectorError as error:
            if run.needs_report(error):
                self._note_failure(run, attempts, error)
            raise
        except Exception as error:  # noqa: BLE001 - every error is reported
            self._say(logging.ERROR, unexpected(error))
            stopped = SyncError(f"listing the catalogs stopped unexpectedly ({type(error).__name__})")
            self._note_failure(run, attempts, stopped)
            raise stopped from None
        known = self._account.catalog_list()
        self._account.remember_catalogs(listed, attempts.ended(self._now(), None))
        newly_left = set(listed.left) - set(known.left if known else ())
        if newly_left:
            self._warn_of_left(run, sorted(newly_left))
        return listed

    def _listed(self, run: SyncInProgress) -> CatalogList:
        deadline = Deadline.after(self._lifetime_s, self._clock)
        self._sessions.wait_for_rate_limit(deadline)
        with self._sessions.open(deadline) as edx:
            try:
                ids = tuple(catalog.id for catalog in edx.catalogs())
            finally:
                run.edx_requests = edx.requests
        return listed_now(self._account.catalog_list(), ids, self._now())

    def _note_failure(self, run: SyncInProgress, attempts: Attempts, error: ConnectorError) -> None:
        self._add(run.report(self._now(), error), logging.ERROR)
        failed = attempts.ended(self._now(), error)
        quietly(lambda: self._account.remember_attempts(failed), "remember the failed attempt", self._say)

    def _warn_of_left(self, run: SyncInProgress, left: Sequence[int]) -> None:
        run.warnings += [
            f"edX no longer lists catalog {catalog_id}: its runs left the answer and stay in storage; "
            "if this is a mistake, ask edX for access to it"
            for catalog_id in left
        ]
        self._add(run.report(self._now(), None), logging.WARNING)

    def _add(self, report: SyncReport, level: int) -> None:
        quietly(lambda: self._reports.add(report), "store the report", self._say)
        self._say(level, report.log_line())
