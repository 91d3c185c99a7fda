"""The catalogue as callers see it: which catalogs are ours, how fresh they are, and what an answer shows.

Syncs what a request finds stale (every catalog once, however many callers wait), then answers from the
published states alone. Callers wait as coroutines; the blocking steps run in threads.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import course_run_id, rfc3339
from shared.domain.published import (
    HOLDS_FOR_EVER,
    Body,
    Head,
    checksum,
    courserun_key_of,
    join,
    line_of,
    lines,
    render,
    run_id_of,
    served_runs,
    unpack,
)
from shared.domain.query import Freshness, Question
from shared.domain.sync_report import SyncReport
from shared.errors import (
    ConnectorError,
    EdxUnavailable,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.serving.flights import Flights
from shared.settings import ConnectorSettings
from shared.storage.store import StateDamaged
from shared.storage.tables import Tables
from shared.sync.sync import Caller, Syncer

TIMER_BUDGET_S = 540.0
"""The timer's sync ends cleanly before the function timeout of ten minutes in host.json."""

_READS = 3  # a reader who meets the swap of a generation reads the new head, then its parts
_INTACT = "What was stored before is intact."
_CATALOG_NOT_FOUND = "the catalog is not found"
_RUN_NOT_FOUND = "the course run is not found"

Attach = Callable[[], None]
"""Called first in a thread that works for an invocation, so that its log lines belong to it."""


class Edition(NamedTuple):
    """A catalog's body as it is at a moment, and the sync that it shows."""

    catalog_id: int
    generation: str
    synced_at: datetime
    body: Body


class Answer(NamedTuple):
    """What a request is answered: `tag` names the JSON (equal tags, equal JSON), `packed` is it in gzip form.

    `packed` is None when the caller has the JSON already. `age_s` is counted from the end of the oldest sync
    that the JSON shows.
    """

    tag: str
    age_s: int
    packed: bytes | None


class Catalogue:
    """The use cases behind the triggers: `answer` a request, `sync_all` for the timer."""

    def __init__(
        self,
        tables: Tables,
        syncer: Syncer,
        settings: ConnectorSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tables = tables
        self._store = tables.catalogs
        self._syncer = syncer
        self._settings = settings
        self._now = now
        self._flights = Flights()
        self._editions: dict[int, Edition] = {}
        self._merged: tuple[tuple[tuple[int, str], ...], Body] | None = None

    # The timer and the operator

    def sync_all(self, caller: Caller, attach: Attach) -> None:
        """Sync every catalog of ours, however fresh.

        Raises:
            ConnectorError: what stopped one or more of them; the others have been synced all the same.
        """
        deadline = time.monotonic() + TIMER_BUDGET_S
        ids: Sequence[int] = self._settings.edx.catalog_ids
        if not ids:
            ids = self._list_catalogs(deadline, caller, attach).result().catalog_ids
        failures: dict[int, ConnectorError] = {}
        for catalog_id in _oldest_first(self._heads(ids)):
            try:
                self._sync(catalog_id, deadline, caller, attach).result()
            except ConnectorError as error:
                failures[catalog_id] = error
        if failures:
            raise _combined(failures, asked_for=None)

    # Requests

    async def answer(
        self, question: Question, has: Callable[[str], bool], caller: Caller, attach: Attach
    ) -> Answer:
        """Bring the catalogs that a request asks about up to date as it wishes, and answer it.

        Args:
            question: what the request asks for.
            has: tells whether the caller has the JSON of a tag already, so that it need not be read.
            caller: for the report of a sync that this request starts.
            attach: see `Attach`.

        Raises:
            ConnectorError: why there is no answer.
        """
        try:
            return await self._answer(question, has, caller, attach)
        except StateDamaged:
            raise
        except StorageError as error:
            raise StorageError(f"{error.message}. {_INTACT}") from error

    async def _answer(
        self, question: Question, has: Callable[[str], bool], caller: Caller, attach: Attach
    ) -> Answer:
        deadline = time.monotonic() + self._settings.sync.time_budget_s
        fresh = question.freshness
        ids = await self._ours(question, deadline, caller, attach)
        heads = await asyncio.to_thread(self._heads, ids)
        if not fresh.only_if_cached:
            await self._refresh(question, heads, deadline, caller, attach)
        for last_try in (False, True):
            try:
                return await asyncio.to_thread(self._show, question, heads, has)
            except StateDamaged as damaged:
                if last_try:
                    raise
                await self._mend(question, damaged, deadline, caller, attach)
                heads = await asyncio.to_thread(self._heads, ids)
        raise AssertionError  # the loop returns or raises

    async def _ours(
        self, question: Question, deadline: float, caller: Caller, attach: Attach
    ) -> Sequence[int]:
        """Return the catalogs that a question is about."""
        wanted = question.catalog_id
        ids: Sequence[int] = self._settings.edx.catalog_ids
        if not ids:
            known = await asyncio.to_thread(self._tables.account.catalog_list)
            if known is None or (
                (wanted is None or wanted not in known.catalog_ids)
                and not self._is_fresh(known.listed_at, question.freshness)
            ):
                known = await self._listed_anew(question.freshness, known, deadline, caller, attach)
            ids = known.catalog_ids
        if wanted is None:
            return ids
        if wanted not in ids:
            raise NotFound(_CATALOG_NOT_FOUND)
        return (wanted,)

    async def _listed_anew(
        self,
        fresh: Freshness,
        known: CatalogList | None,
        deadline: float,
        caller: Caller,
        attach: Attach,
    ) -> CatalogList:
        if fresh.only_if_cached:
            if known is None:
                raise SyncUnfinished("Nothing has been synced yet")
            return known
        try:
            listed: CatalogList = await self._wait(self._list_catalogs(deadline, caller, attach), deadline)
        except ConnectorError as error:
            if known is not None and self._may_be_stale(known.listed_at, fresh):
                return known
            raise _because("The list of catalogs could not be had from edX", error) from error
        return listed

    async def _refresh(
        self,
        question: Question,
        heads: dict[int, Head | None],
        deadline: float,
        caller: Caller,
        attach: Attach,
    ) -> None:
        """Sync the catalogs that are too old for the request, the oldest first, and update their heads."""
        fresh = question.freshness
        stale = {
            catalog_id: head
            for catalog_id, head in heads.items()
            if (synced_at := _synced_at(head)) is None or not self._is_fresh(synced_at, fresh)
        }
        failures: dict[int, ConnectorError] = {}
        for catalog_id in _oldest_first(stale):
            try:
                await self._wait(self._sync(catalog_id, deadline, caller, attach), deadline)
            except ConnectorError as error:
                failures[catalog_id] = error
        if stale:
            heads |= await asyncio.to_thread(self._heads, stale)
        for catalog_id in list(failures):
            synced_at = _synced_at(heads[catalog_id])
            # RFC 5861: an error is what would be answered 5xx. A catalog that is gone is none.
            if (
                synced_at is not None
                and not isinstance(failures[catalog_id], NotFound)
                and self._may_be_stale(synced_at, fresh)
            ):
                del failures[catalog_id]
        if failures:
            raise _combined(failures, question.catalog_id)

    async def _mend(
        self, question: Question, damaged: StateDamaged, deadline: float, caller: Caller, attach: Attach
    ) -> None:
        """Have a damaged published state rebuilt: from what is stored, or else by a sync."""
        catalog_id = damaged.catalog_id

        def work() -> bool:
            attach()
            return self._syncer.republish(catalog_id, _left_s(deadline))

        try:
            if await self._wait(self._flights.join(f"republish-{catalog_id}", work), deadline):
                return
            if question.freshness.only_if_cached:
                raise damaged
            await self._wait(self._sync(catalog_id, deadline, caller, attach), deadline)
        except ConnectorError as error:
            raise _combined({catalog_id: error}, question.catalog_id) from None

    def _is_fresh(self, at: datetime, fresh: Freshness) -> bool:
        limit = self._settings.sync.fresh_for_s if fresh.max_age_s is None else fresh.max_age_s
        return fresh.only_if_cached or self._distance_s(at) < limit

    def _may_be_stale(self, at: datetime, fresh: Freshness) -> bool:
        return fresh.stale_if_error_s is not None and self._distance_s(at) <= fresh.stale_if_error_s

    def _distance_s(self, at: datetime) -> float:
        # Clocks differ: a moment a little ahead is recent, one far ahead is no reason never to sync again.
        return abs((self._now() - at).total_seconds())

    # Work that callers share

    def _sync(
        self, catalog_id: int, deadline: float, caller: Caller, attach: Attach
    ) -> Future[SyncReport | None]:
        if not _left_s(deadline):
            raise SyncUnfinished("no time was left for it; ask again")

        def work() -> SyncReport | None:
            attach()
            return self._syncer.sync(catalog_id, _left_s(deadline), caller)

        return self._flights.join(f"sync-{catalog_id}", work)

    def _list_catalogs(self, deadline: float, caller: Caller, attach: Attach) -> Future[CatalogList]:
        def work() -> CatalogList:
            attach()
            return self._syncer.list_catalogs(_left_s(deadline), caller)

        return self._flights.join("list-catalogs", work)

    async def _wait(self, future: Future[Any], deadline: float) -> Any:
        """Wait for shared work without holding a thread, no longer than this caller's own budget."""
        wrapped = asyncio.wrap_future(future)
        wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for, so not lost
        done, _ = await asyncio.wait({wrapped}, timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            raise SyncUnfinished(
                f"it did not end within {self._settings.sync.time_budget_s} s; it goes on, ask again later"
            )
        return wrapped.result()

    # Reading the published states; these run in threads

    def _heads(self, ids: Iterable[int]) -> dict[int, Head | None]:
        return {catalog_id: self._store.head(catalog_id) for catalog_id in ids}

    def _show(self, question: Question, heads: dict[int, Head | None], has: Callable[[str], bool]) -> Answer:
        now = self._now()
        if len(heads) == 1 and question.courserun_key is None:
            (head,) = heads.values()
            if head and head.synced_at and rfc3339(now) < head.holds_until and has(head.tag):
                return Answer(head.tag, _age_s(head.synced_at, now), None)
        editions = [self._edition(catalog_id, head, now) for catalog_id, head in heads.items()]
        # Each run once: from the catalog synced last, then the lowest id.
        editions.sort(key=lambda edition: (-edition.synced_at.timestamp(), edition.catalog_id))
        if question.courserun_key is not None:
            return _one_run(editions, question.courserun_key, now, has)
        oldest = min((edition.synced_at for edition in editions), default=now)
        body = editions[0].body if len(editions) == 1 else self._merged_body(editions)
        return Answer(body.tag, _age_s(oldest, now), None if has(body.tag) else body.packed)

    def _edition(self, catalog_id: int, head: Head | None, now: datetime) -> Edition:
        """Return a catalog's body as it is now, from this instance's memory when that has it."""
        for _ in range(_READS):
            synced_at = _synced_at(head)
            if head is None or synced_at is None:
                raise SyncUnfinished(f"No sync of catalog {catalog_id} has finished yet")
            known = self._editions.get(catalog_id)
            if known and known.generation == head.generation and rfc3339(now) < known.body.holds_until:
                return known._replace(synced_at=synced_at)
            try:
                packed = self._store.body(catalog_id, head)
            except StateDamaged:
                generation = head.generation
                head = self._store.head(catalog_id)
                if head and head.generation == generation:
                    raise
                continue
            body = Body(packed, head.tag, head.holds_until, head.runs)
            if rfc3339(now) >= body.holds_until:  # a run has begun or ended since it was rendered
                body = render((run for _, run in served_runs(unpack(packed))), now)
            edition = Edition(catalog_id, head.generation, synced_at, body)
            self._editions[catalog_id] = edition
            return edition
        raise StateDamaged(catalog_id, "changes faster than it can be read")

    def _merged_body(self, editions: Sequence[Edition]) -> Body:
        """Return the runs of several catalogs as one body; of a run in several, the first edition's."""
        key = tuple((edition.catalog_id, edition.body.tag) for edition in editions)
        known = self._merged
        if known and known[0] == key:
            return known[1]
        runs: dict[bytes, bytes] = {}
        for edition in editions:
            for line in lines(unpack(edition.body.packed)):
                runs.setdefault(run_id_of(line), line)
        body = join(sorted(runs.values(), key=courserun_key_of), HOLDS_FOR_EVER)
        self._merged = (key, body)
        return body


def _one_run(
    editions: Iterable[Edition], courserun_key: str, now: datetime, has: Callable[[str], bool]
) -> Answer:
    run_id = course_run_id(courserun_key)
    for edition in editions:
        line = line_of(unpack(edition.body.packed), run_id)
        if line is not None:
            tag = checksum(line)
            return Answer(
                tag, _age_s(edition.synced_at, now), None if has(tag) else gzip.compress(line, mtime=0)
            )
    raise NotFound(_RUN_NOT_FOUND)


def _oldest_first(heads: dict[int, Head | None]) -> list[int]:
    """Return the order to sync catalogs in: what time or rate limit leave undone comes first next time."""
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(heads, key=lambda catalog_id: (_synced_at(heads[catalog_id]) or never, catalog_id))


def _synced_at(head: Head | None) -> datetime | None:
    return head.synced_at if head else None


def _age_s(synced_at: datetime, now: datetime) -> int:
    return max(0, int((now - synced_at).total_seconds()))


def _left_s(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _combined(failures: dict[int, ConnectorError], asked_for: int | None) -> ConnectorError:
    """Return the one error for all catalogs that failed: not found only when every one of them is."""
    if all(isinstance(error, NotFound) for error in failures.values()):
        named = "" if asked_for else f": {', '.join(map(str, failures))}"
        return NotFound(_CATALOG_NOT_FOUND + named)
    sentences = [
        f"Catalog {catalog_id} could not be synced: {error.message}."
        for catalog_id, error in failures.items()
    ]
    message = " ".join([*sentences, _INTACT])
    retries = [
        error.retry_at for error in failures.values() if isinstance(error, EdxUnavailable) and error.retry_at
    ]
    return EdxUnavailable(message, max(retries)) if retries else SyncError(message)


def _because(what: str, error: ConnectorError) -> ConnectorError:
    message = f"{what}: {error.message}. {_INTACT}"
    return (
        EdxUnavailable(message, error.retry_at) if isinstance(error, EdxUnavailable) else SyncError(message)
    )
