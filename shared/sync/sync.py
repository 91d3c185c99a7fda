"""The sync of one catalog: pull, map, compare, store, withdraw, publish, report.

Its collaborators are handed in. What a pull means for the stored runs is worked out by `Comparison`,
which does no I/O; `Syncer` does the rest in order.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID, uuid4

from shared.deadline import Deadline
from shared.domain.course_run import MappedRun, Rejection, course_run_id, rfc3339, stored_json
from shared.domain.published import WITHDRAWN, ServedRun, digest, render, served, served_runs, unpack
from shared.domain.sync_report import SyncReport
from shared.edx.client import EdxClient, EdxSession
from shared.edx.mapping import map_course
from shared.errors import (
    ConnectorError,
    EdxProtocolError,
    EdxThrottled,
    Failure,
    MassLoss,
    SyncError,
    log_unexpected,
)
from shared.settings import ConnectorSettings, MappingSettings
from shared.storage.entities import Head, StoredRun, moment_from
from shared.storage.lease import FinishedSync
from shared.storage.store import CatalogList, CatalogWriter, StateDamaged, TableStore

logger = logging.getLogger(__name__)

PULLS = 2  # a pull that is not whole is tried once more
THROTTLED_AT_MOST = timedelta(hours=24)
WITHDRAWALS_NEVER_SUSPICIOUS = 10
REJECTIONS_KEPT = 50
UNKNOWN_TRACKS_KEPT = 20
ALL_CATALOGS = 0
"""Stands in a report where a catalog's id would: the list of catalogs could not be had."""
_UNREADABLE = b"\xff" * 16  # the digest of a stored run that cannot be read: whatever edX shows is a change

Progress = Callable[[int, int | None], None]
"""Told the courses pulled so far, and how many there are when edX said so."""


class Caller(NamedTuple):
    """Who asked for a sync: `timer`, `http` or `operator`, and its invocation, for the log and the report."""

    trigger: str
    invocation_id: str = ""


class Change(NamedTuple):
    """A course run that must be written."""

    kind: Literal["created", "changed", "restored"]
    mapped: MappedRun
    size: int  # bytes of its JSON


class Preview(NamedTuple):
    """What a sync would do: the runs to write beside what is stored of them, and those that are gone."""

    changes: list[tuple[StoredRun | None, Change]]
    gone: list[StoredRun]
    stopped: MassLoss | None
    report: SyncReport


class Comparison:
    """What a pull means for the stored runs of a catalog. Run ids are packed UUIDs."""

    def __init__(self, known: dict[bytes, bytes], rules: MappingSettings) -> None:
        self.digests = known
        self.shown: dict[bytes, ServedRun | None] = {}
        self.rejections: list[Rejection] = []
        self.unknown_tracks: Counter[str] = Counter()
        self.changes: dict[bytes, str] = {}
        self.withdrawn = 0
        self._rules = rules
        self._seen: set[bytes] = set()
        self._rejected: set[bytes] = set()

    @property
    def runs(self) -> int:
        """How many distinct course runs could be mapped."""
        return len(self.shown)

    @property
    def unidentified(self) -> int:
        """How many records have no key that can be read: each could be any run."""
        return sum(not rejection.run_key for rejection in self.rejections)

    def begin_pull(self) -> None:
        """Forget which runs were seen; a second pull decides anew what is gone."""
        self._seen.clear()
        self._rejected.clear()
        self.rejections.clear()
        self.unknown_tracks.clear()

    def courses(self, courses: Iterable[object]) -> Iterator[Change]:
        """Take in courses that edX shows, and return the runs to write. A run seen before is passed over."""
        for course in courses:
            for record in map_course(course, self._rules, datetime.now(UTC)):
                if isinstance(record, Rejection):
                    self._reject(record)
                    continue
                run_id = UUID(record.run.id).bytes
                if run_id in self._seen:
                    continue
                self._seen.add(run_id)
                if record.unknown_track:
                    self.unknown_tracks[record.unknown_track] += 1
                run_json = stored_json(record.run)
                self.shown[run_id] = served(record, run_json)
                content = digest(record, run_json)
                before = self.digests.get(run_id)
                if content == before:
                    continue
                self.digests[run_id] = content
                kind: Literal["created", "changed", "restored"] = (
                    "created" if before is None else "restored" if before == WITHDRAWN else "changed"
                )
                self.changes.setdefault(run_id, kind)
                yield Change(kind, record, len(run_json))

    def refuse(self, mapped: MappedRun, reason: str) -> None:
        """Take back a run that storage refused: it counts as rejected, what is stored of it stays."""
        run_id = UUID(mapped.run.id).bytes
        self.digests[run_id] = _UNREADABLE
        if self.changes.pop(run_id, None) == "created":
            del self.digests[run_id]
        self.shown.pop(run_id, None)
        self._seen.discard(run_id)
        self._reject(Rejection(mapped.run.courserun_key, "entity", reason))

    def _reject(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)
        if rejection.run_key:
            self._rejected.add(UUID(course_run_id(rejection.run_key)).bytes)

    def gone(self) -> list[bytes]:
        """Return the stored runs that edX does not show any more. A rejected run has not disappeared."""
        return [
            run_id
            for run_id, content in self.digests.items()
            if content != WITHDRAWN and run_id not in self._seen and run_id not in self._rejected
        ]

    def kept_unseen(self) -> bool:
        """Tell whether a rejected run has an earlier version that goes on being served."""
        return any(
            self.digests.get(run_id, WITHDRAWN) != WITHDRAWN and run_id not in self._seen
            for run_id in self._rejected
        )

    def withdraw(self, gone: Sequence[bytes]) -> None:
        """Note that runs have been withdrawn."""
        self.withdrawn = len(gone)
        for run_id in gone:
            self.digests[run_id] = WITHDRAWN
            # A first pull that was not whole may have seen it.
            self.shown.pop(run_id, None)
            self.changes.pop(run_id, None)


class Syncer:
    """Syncs catalogs, one call each. Thread-safe: all that a sync knows is its own."""

    def __init__(
        self,
        store: TableStore,
        edx: EdxClient,
        settings: ConnectorSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._edx = edx
        self._settings = settings
        self._now = now
        self._sleep = sleep

    def list_catalogs(self, budget_s: float, caller: Caller) -> CatalogList:
        """Ask edX which catalogs it has for us, and remember them; a failure is reported like a sync's."""
        client_id = self._settings.edx.client_id
        work = _Work(uuid4().hex, ALL_CATALOGS, caller, self._now(), self._settings.mapping)
        with self._reporting_failure(work):
            with self._counting(work, budget_s) as edx:
                ids = tuple(sorted(catalog.id for catalog in edx.catalogs()))
            known = self._store.catalog_list(client_id)
            if known and known.catalog_ids and not ids:
                raise EdxProtocolError(
                    "edX lists no catalogs at all, which is not believed while it had some"
                )
            catalogs = CatalogList(ids, self._now())
            self._store.remember_catalogs(client_id, catalogs)
        return catalogs

    @contextmanager
    def session(self, budget_s: float) -> Iterator[EdxSession]:
        """Open a session with edX, unless its rate limit is remembered to last longer than we can wait."""
        client_id = self._settings.edx.client_id
        until = self._store.throttled_until(client_id)
        wait = min(until - self._now(), THROTTLED_AT_MOST) if until else timedelta(0)
        if wait > timedelta(0):
            if wait.total_seconds() > budget_s:
                raise EdxThrottled(
                    f"edX's rate limit for us is used up until {rfc3339(self._now() + wait)}",
                    self._now() + wait,
                )
            self._sleep(wait.total_seconds())
        with self._edx.session(
            Deadline.after(max(0.0, budget_s - max(0.0, wait.total_seconds()))),
            on_throttled=lambda moment: _quietly(
                lambda: self._store.remember_throttled(client_id, moment), "remember edX's rate limit"
            ),
        ) as edx:
            yield edx

    def sync(
        self,
        catalog_id: int,
        budget_s: float,
        caller: Caller,
        *,
        rebuild: bool = False,
        allow_withdrawals: bool = False,
        on_progress: Progress = lambda _done, _total: None,
    ) -> SyncReport | None:
        """Sync a catalog, or wait for the sync of it that runs elsewhere.

        Args:
            catalog_id: the edX catalog.
            budget_s: seconds for all of it, waiting included.
            caller: for the report and the log.
            rebuild: read the stored course runs again instead of trusting the published state.
            allow_withdrawals: let pass what the guard against mass loss would stop.
            on_progress: told how far the pull is.

        Returns:
            The report; None when it was another caller's sync that has ended well.

        Raises:
            ConnectorError: what stopped the sync, ours or the one waited for. The published state is as it
                was, unless it is MassLoss: then what is new and changed has been published.
        """
        deadline = time.monotonic() + budget_s
        work = _Work(uuid4().hex, catalog_id, caller, self._now(), self._settings.mapping)
        with self._reporting_failure(work):
            writer = self._store.acquire(catalog_id, work.sync_id, budget_s)
            while isinstance(writer, FinishedSync):
                if not (rebuild or allow_withdrawals):  # else it matters whose sync it was
                    work.is_ours = False
                    _raise_error_of(writer)
                    return None
                writer = self._store.acquire(catalog_id, work.sync_id, deadline - time.monotonic())
            with _holding(writer, work.sync_id):
                self._sync(
                    work, writer, deadline, on_progress, rebuild=rebuild, allow_withdrawals=allow_withdrawals
                )
        return self._report(work, None)

    def republish(self, catalog_id: int, wait_s: float) -> bool:
        """Rebuild a damaged published state from the course runs, without asking edX.

        Returns:
            False when only a sync can rebuild it: one crashed in the midst of writing, so that the runs are
            partly its and partly those of the sync before.
        """
        sync_id = uuid4().hex
        writer = self._store.acquire(catalog_id, sync_id, wait_s)
        if isinstance(writer, FinishedSync):
            return True
        with _holding(writer, sync_id):
            head = self._store.head(catalog_id)
            if head is None or head.synced_at is None or head.writing:
                writer.release(writer.previous)
                return False
            digests, runs = self._read_runs(catalog_id)
            writer.publish(
                head,
                render(runs.values(), self._now()),
                digests,
                synced_at=head.synced_at,
                unidentified=head.unidentified,
                finished=writer.previous,
            )
        return True

    def preview(
        self, catalog_id: int, budget_s: float, *, on_progress: Progress = lambda _done, _total: None
    ) -> Preview:
        """Pull a catalog and return what a sync would do now, writing nothing to the catalog."""
        changes: dict[str, Change] = {}
        work = _Work(uuid4().hex, catalog_id, Caller("preview"), self._now(), self._settings.mapping)
        self._load(work, rebuild=False)

        def note(change: Change) -> None:
            changes[change.mapped.run.id] = change

        self._pull(work, time.monotonic() + budget_s, note, on_progress)
        gone = self._gone(work, allow_withdrawals=False)
        return Preview(
            [(self._store.run(catalog_id, run_id), change) for run_id, change in changes.items()],
            [stored for run_id in gone if (stored := self._store.run(catalog_id, str(UUID(bytes=run_id))))],
            self._mass_withdrawal(work, gone),
            work.report(self._now(), None),
        )

    def _sync(
        self,
        work: _Work,
        writer: CatalogWriter,
        deadline: float,
        on_progress: Progress,
        *,
        rebuild: bool,
        allow_withdrawals: bool,
    ) -> None:
        self._load(work, rebuild=rebuild)
        self._pull(work, deadline, lambda change: writer.put(change.mapped, change.size), on_progress)
        writer.flush()
        for mapped, reason in writer.refused:
            work.comparison.refuse(mapped, reason)
        gone = self._gone(work, allow_withdrawals=allow_withdrawals)
        stopped = None if allow_withdrawals else self._mass_withdrawal(work, gone)
        if not stopped:
            writer.withdraw(gone, self._now())
            work.comparison.withdraw(gone)
        self._publish(work, writer, counts=not stopped)
        if stopped:
            raise stopped

    def _load(self, work: _Work, *, rebuild: bool) -> None:
        """Find out what is stored: from the published state, or from the course runs themselves."""
        work.head = self._store.head(work.catalog_id)
        work.known_unidentified = work.head.unidentified if work.head else 0
        digests = None if rebuild else self._published_digests(work.catalog_id, work.head)
        work.rebuilt = digests is None
        if digests is None:
            digests, work.served_before = self._read_runs(work.catalog_id)
        work.comparison = Comparison(digests, self._settings.mapping)

    def _pull(
        self, work: _Work, deadline: float, write: Callable[[Change], None], on_progress: Progress
    ) -> None:
        """Pull the catalog, once more if it does not come whole, and write what differs as it comes in."""
        some_stored = bool(work.comparison.digests)
        with self._counting(work, deadline - time.monotonic()) as edx:
            for _ in range(PULLS):
                work.comparison.begin_pull()
                work.courses = 0
                walk = edx.courses(work.catalog_id)
                for courses in walk:
                    work.courses += len(courses)
                    for change in work.comparison.courses(courses):
                        write(change)
                    on_progress(work.courses, walk.count)
                work.incomplete = "; ".join(walk.problems) or None
                if not walk.is_worth_repeating:
                    break
        if some_stored and work.courses == 0:
            raise EdxProtocolError(
                "edX answered no courses at all, which is not believed while runs are stored"
            )

    def _gone(self, work: _Work, *, allow_withdrawals: bool) -> list[bytes]:
        """Return the runs to withdraw: those that are gone for sure."""
        if work.incomplete:
            return []
        gone = work.comparison.gone()
        unidentified = work.comparison.unidentified - work.known_unidentified
        if gone and unidentified > 0 and not allow_withdrawals:
            work.incomplete = (
                f"{unidentified} new records without a readable key could be among the {len(gone)} runs "
                "that are missing. If none of them is, withdraw the runs once: "
                f"python -m shared sync --catalog {work.catalog_id} --allow-withdrawals"
            )
            return []
        work.known_unidentified = work.comparison.unidentified
        return gone

    def _publish(self, work: _Work, writer: CatalogWriter, *, counts: bool) -> None:
        """Publish what changed, or only the time when nothing did; a sync that counts lets the lease go."""
        now = self._now()
        head, comparison = work.head, work.comparison
        finished = FinishedSync(work.sync_id) if counts else None
        unchanged = not (work.rebuilt or comparison.changes or comparison.withdrawn)
        if head and unchanged and rfc3339(now) < head.holds_until:
            if finished:
                writer.confirm(head, now, work.known_unidentified, finished)
            return
        shown = dict(comparison.shown)
        if work.incomplete or not counts or comparison.kept_unseen():
            for run_id, run in self._served_before(work).items():
                if run_id not in shown and comparison.digests.get(run_id) != WITHDRAWN:
                    shown[run_id] = run
        body = render((run for run in shown.values() if run), now)
        synced_at = now if counts else head.synced_at if head else None
        writer.publish(
            head,
            body,
            comparison.digests,
            synced_at=synced_at,
            unidentified=work.known_unidentified,
            finished=finished,
        )

    @contextmanager
    def _counting(self, work: _Work, budget_s: float) -> Iterator[EdxSession]:
        with self.session(budget_s) as edx:
            try:
                yield edx
            finally:
                work.edx_requests = edx.requests

    @contextmanager
    def _reporting_failure(self, work: _Work) -> Iterator[None]:
        """Report what stops the block, and make an error of ours of what nobody expected."""
        try:
            yield
        except ConnectorError as error:
            self._report(work, error)
            raise
        except Exception as error:  # noqa: BLE001 - it has to be reported, whatever it is
            log_unexpected(logger, error)
            self._report(work, error)
            raise SyncError(Failure.of(error).message) from None
        except BaseException as error:  # Ctrl-C at the operator's command line
            self._report(work, error)
            raise

    def _report(self, work: _Work, failure: BaseException | None) -> SyncReport:
        report = work.report(self._now(), failure)
        if work.is_ours:  # a sync that was only waited for is reported where it ran
            _quietly(lambda: self._store.add_report(report), "store the report")
            logger.log(logging.INFO if failure is None else logging.ERROR, "%s", report.log_line())
        return report

    def _published_digests(self, catalog_id: int, head: Head | None) -> dict[bytes, bytes] | None:
        """Return the digests of the published state, None when they cannot be trusted."""
        if head is None or not head.generation or head.writing:
            return None
        try:
            return self._store.digests(catalog_id, head)
        except StateDamaged:
            return None

    def _read_runs(self, catalog_id: int) -> tuple[dict[bytes, bytes], dict[bytes, ServedRun]]:
        """Work out what the published state would hold of the stored runs: digests, and runs to serve."""
        digests = {}
        runs = {}
        for stored in self._store.runs(catalog_id):
            if stored.withdrawn_at is not None:
                digests[stored.run_id] = WITHDRAWN
            elif stored.mapped is None:
                digests[stored.run_id] = _UNREADABLE
            else:
                run_json = stored_json(stored.mapped.run)
                digests[stored.run_id] = digest(stored.mapped, run_json)
                run = served(stored.mapped, run_json)
                if run:
                    runs[stored.run_id] = run
        return digests, runs

    def _served_before(self, work: _Work) -> dict[bytes, ServedRun]:
        """Return what was served before this sync; a damaged published state is read from the runs."""
        if work.served_before is None and work.head:
            with suppress(StateDamaged):
                body = self._store.body(work.catalog_id, work.head)
                work.served_before = dict(served_runs(unpack(body)))
        if work.served_before is None:
            _, work.served_before = self._read_runs(work.catalog_id)
        return work.served_before

    def _mass_withdrawal(self, work: _Work, gone: list[bytes]) -> MassLoss | None:
        """Return the error that stops a suspicious withdrawal, None when this one may pass."""
        if len(gone) <= WITHDRAWALS_NEVER_SUSPICIOUS:
            return None
        moment = rfc3339(self._now())
        before = self._served_before(work)
        listed = {run_id for run_id, run in before.items() if run.end_date is None or run.end_date > moment}
        leaving = len(listed.intersection(gone))
        counted = work.head.counted_runs if work.head else 0
        # Runs that came in with syncs that failed since do not make a withdrawal any smaller.
        total = max(leaving, min(counted or len(listed), len(listed)))
        percent = self._settings.sync.max_withdraw_percent
        if leaving <= WITHDRAWALS_NEVER_SUSPICIOUS or leaving * 100 <= percent * total:
            return None
        return MassLoss(
            f"edX no longer shows {leaving} of {total} open runs, more than the {percent} % that "
            "SYNC_MAX_WITHDRAW_PERCENT allows. None was withdrawn. If edX is right, let it pass once: "
            f"python -m shared sync --catalog {work.catalog_id} --allow-withdrawals"
        )


class _Work:
    """What is known so far of a sync that is under way, so that a failed one can be reported too."""

    def __init__(
        self, sync_id: str, catalog_id: int, caller: Caller, started: datetime, rules: MappingSettings
    ) -> None:
        self.sync_id = sync_id
        self.catalog_id = catalog_id
        self.caller = caller
        self.started = started
        self.is_ours = True
        self.head: Head | None = None
        self.rebuilt = False
        self.served_before: dict[bytes, ServedRun] | None = None
        self.comparison = Comparison({}, rules)
        """Not yet loaded: what is stored, then what the pull means for it."""
        self.known_unidentified = 0
        self.courses = 0
        self.edx_requests = 0
        self.incomplete: str | None = None

    def report(self, ended: datetime, failure: BaseException | None) -> SyncReport:
        comparison = self.comparison
        kinds = Counter(comparison.changes.values())
        return SyncReport(
            sync_id=self.sync_id,
            catalog_id=self.catalog_id,
            trigger=self.caller.trigger,
            invocation_id=self.caller.invocation_id,
            started=self.started,
            ended=ended,
            outcome="failed" if failure else "incomplete" if self.incomplete else "ok",
            courses=self.courses,
            runs=comparison.runs,
            created=kinds["created"],
            changed=kinds["changed"],
            restored=kinds["restored"],
            unchanged=len(comparison.shown.keys() - comparison.changes.keys()),
            withdrawn=comparison.withdrawn,
            rejected=len(comparison.rejections),
            rejections=tuple(comparison.rejections[:REJECTIONS_KEPT]),
            unknown_tracks=dict(comparison.unknown_tracks.most_common(UNKNOWN_TRACKS_KEPT)),
            incomplete=self.incomplete,
            edx_requests=self.edx_requests,
            throttled_until=failure.retry_at if isinstance(failure, EdxThrottled) else None,
            error=Failure.of(failure).message if failure else None,
        )


@contextmanager
def _holding(writer: CatalogWriter, sync_id: str) -> Iterator[None]:
    """Keep the lease while the block runs, and let it go when the block fails."""
    try:
        with writer.kept_alive():
            yield
    except BaseException as failure:
        finished = _finished(sync_id, failure)
        _quietly(lambda: writer.release(finished), "let go of the lease")
        raise


def _finished(sync_id: str, failure: BaseException) -> FinishedSync:
    kind, message, retry_at = Failure.of(failure)
    return FinishedSync(sync_id, message, kind, retry_at.isoformat() if retry_at else "")


def _raise_error_of(finished: FinishedSync) -> None:
    """Raise what stopped a sync that another caller ran, as far as it matters to those who waited."""
    if finished.error:
        raise Failure(finished.error_class, finished.error, moment_from(finished.retry_at)).error()


def _quietly(action: Callable[[], None], what: str) -> None:
    """Do what must not change how a sync ends."""
    try:
        action()
    except ConnectorError as error:
        logger.warning("Could not %s: %s", what, error.message)
    except Exception as error:  # noqa: BLE001 - the same, whatever it is
        log_unexpected(logger, error)
