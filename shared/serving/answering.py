"""Answers requests for course runs: syncs what is too old for them, then shows the published states.

Callers wait as coroutines. What they share is done once: see `syncing` and `editions`.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import NamedTuple

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import course_run_id, rfc3339
from shared.domain.published import Head, checksum, line_of
from shared.domain.query import Question
from shared.errors import (
    CatalogsFailed,
    ConnectorError,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.serving.editions import Edition, Editions
from shared.serving.flights import in_pool
from shared.serving.freshness import Forward, Limits, age_s, cache_status
from shared.serving.syncing import SharedSyncs
from shared.settings import SyncSettings
from shared.storage.store import CatalogStore, StateDamaged
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin

READING_S = 4.0
"""How much longer a caller waits for storage than for syncs, so that stored data can still be answered."""

INTACT = "What was stored before is intact."
CATALOG_NOT_FOUND = "the catalog is not found"
RUN_NOT_FOUND = "the course run is not found"


class Answer(NamedTuple):
    """What a request is answered: `tag` names the JSON (equal tags, equal JSON).

    Attributes:
        tag: without quotes.
        age_s: since the end of the oldest sync that the JSON shows.
        cache_status: parameters of the header.
        retry_at: when a sync makes sense again; None when nothing failed or nobody said.
        body: the JSON; None when the caller has it already.
        is_gzip: whether the body is in gzip form.
    """

    tag: str
    age_s: int
    cache_status: str
    retry_at: datetime | None = None
    body: bytes | None = None
    is_gzip: bool = False


class Reader(NamedTuple):
    """What the caller can take.

    Attributes:
        has: tells whether the caller has the JSON of a tag already, so that it need not be read.
        takes_gzip: whether the body may be in gzip form.
    """

    has: Callable[[str], bool] = lambda _tag: False
    takes_gzip: bool = True


class _Bringing:
    """What bringing the catalogs of one request up to date came to."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.heads: dict[int, Head | None] = {}
        self.forwards: list[Forward] = []
        self.replaced: list[ConnectorError] = []
        """Failures instead of which what is stored is answered."""


class Answering:
    """Answers requests. Thread-safe; its methods run in one event loop."""

    def __init__(
        self,
        store: CatalogStore,
        catalogs: OurCatalogs,
        syncs: SharedSyncs,
        editions: Editions,
        settings: SyncSettings,
        *,
        pool: Executor,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._catalogs = catalogs
        self._syncs = syncs
        self._editions = editions
        self._settings = settings
        self._pool = pool
        self._now = now

    async def answer(self, question: Question, reader: Reader, origin: Origin, deadline: Deadline) -> Answer:
        """Bring the catalogs that a request asks about up to date as it wishes, and answer it.

        Args:
            question: what the request asks for.
            reader: what the caller can take.
            origin: for the report of a sync that this request starts.
            deadline: until when the platform waits; the caller waits SYNC_TIME_BUDGET_SECONDS within that.

        Raises:
            ConnectorError: why there is no answer.
        """
        try:
            return await self._answer(question, reader, origin, deadline.within(self._settings.time_budget_s))
        except StateDamaged:
            raise
        except StorageError as error:
            raise StorageError(f"{error.message}. {INTACT}") from error

    async def _answer(self, question: Question, reader: Reader, origin: Origin, deadline: Deadline) -> Answer:
        reading = Deadline(deadline.at_s + READING_S, deadline.clock)
        bringing = _Bringing(Limits.of(question.freshness, self._settings))
        ids = await self._ours(question, origin, bringing, deadline, reading)
        bringing.heads = await in_pool(self._pool, reading, self._heads, ids)
        await self._refresh(question, origin, bringing, deadline, reading)
        try:
            return await self._show(question, reader, bringing, reading)
        except StateDamaged as damaged:
            await self._mend(question, damaged, origin, deadline)
        bringing.heads = await in_pool(self._pool, reading, self._heads, ids)
        return await self._show(question, reader, bringing, reading)

    async def _ours(
        self,
        question: Question,
        origin: Origin,
        bringing: _Bringing,
        deadline: Deadline,
        reading: Deadline,
    ) -> Sequence[int]:
        """Return the catalogs that a question is about."""
        wanted, limits = question.catalog_id, bringing.limits
        known = await in_pool(self._pool, reading, self._catalogs.known)
        if known is None and limits.only_if_cached:
            raise SyncUnfinished("Nothing has been synced yet")
        is_in_it = known is not None and wanted is not None and wanted in known.catalog_ids
        if known is None or not (is_in_it or limits.is_fresh(known.listed_at, self._now())):
            known = await self._listed_anew(question, origin, known, bringing, deadline)
        if wanted is None:
            return known.catalog_ids
        if wanted not in known.catalog_ids:
            raise NotFound(CATALOG_NOT_FOUND)
        return (wanted,)

    async def _listed_anew(
        self,
        question: Question,
        origin: Origin,
        known: CatalogList | None,
        bringing: _Bringing,
        deadline: Deadline,
    ) -> CatalogList:
        try:
            return await self._syncs.list_catalogs(
                origin, deadline, is_eager=not question.freshness.is_unspoken
            )
        except ConnectorError as error:
            # The known list cannot tell whether a catalog that it lacks is ours by now.
            if (
                known is not None
                and question.catalog_id is None
                and bringing.limits.may_replace(error, known.listed_at, self._now())
            ):
                bringing.replaced.append(error)
                return known
            raise SyncError(
                f"The list of catalogs could not be had from edX: {error.message}. {INTACT}", error.retry_at
            ) from error

    async def _refresh(
        self,
        question: Question,
        origin: Origin,
        bringing: _Bringing,
        deadline: Deadline,
        reading: Deadline,
    ) -> None:
        """Sync the catalogs that are too old for the request, and read their heads again."""
        limits, now = bringing.limits, self._now()
        if limits.only_if_cached:
            return
        before = {catalog_id: _synced_at(head) for catalog_id, head in bringing.heads.items()}
        stale = [each for each, at in before.items() if at is None or not limits.is_fresh(at, now)]
        if not stale:
            return
        failures = await self._syncs.sync_in_turn(
            stale, origin, deadline, is_eager=not question.freshness.is_unspoken, waits_to_the_end=True
        )
        bringing.heads |= await in_pool(self._pool, reading, self._heads, stale)
        bringing.forwards = [limits.forward(before[each], now) for each in stale if each not in failures]
        for catalog_id, error in list(failures.items()):
            if limits.may_replace(error, _synced_at(bringing.heads[catalog_id]), self._now()):
                bringing.replaced.append(failures.pop(catalog_id))
        if failures:
            raise combined(failures, question.catalog_id)

    async def _mend(
        self, question: Question, damaged: StateDamaged, origin: Origin, deadline: Deadline
    ) -> None:
        """Have a damaged published state rebuilt: from what is stored, or else by a sync."""
        catalog_id = damaged.catalog_id
        try:
            if await self._syncs.republish(catalog_id, deadline):
                return
            if question.freshness.only_if_cached:
                raise damaged
            await self._syncs.sync(catalog_id, origin, deadline, is_eager=True)
        except ConnectorError as error:
            raise combined({catalog_id: error}, question.catalog_id) from None

    # Reading the published states

    def _heads(self, ids: Iterable[int]) -> dict[int, Head | None]:
        return {catalog_id: self._store.head(catalog_id) for catalog_id in ids}

    async def _show(
        self, question: Question, reader: Reader, bringing: _Bringing, reading: Deadline
    ) -> Answer:
        now, heads = self._now(), bringing.heads
        if len(heads) == 1 and question.courserun_key is None:
            (head,) = heads.values()
            if head and head.synced_at and rfc3339(now) < head.holds_until and reader.has(head.tag):
                return self._described(head.tag, head.synced_at, bringing)
        editions = [await self._editions.of(catalog_id, head, reading) for catalog_id, head in heads.items()]
        # Each run once: from the catalog synced last, then the lowest id.
        editions.sort(key=lambda edition: (-edition.synced_at.timestamp(), edition.catalog_id))
        if question.courserun_key is not None:
            return await self._one_run(editions, question.courserun_key, reader, bringing, reading)
        oldest = min((edition.synced_at for edition in editions), default=now)
        if len(editions) == 1:
            body = editions[0].body
        else:
            body = await self._editions.merged(editions, reading)
        answer = self._described(body.tag, oldest, bringing)
        if reader.has(body.tag):
            return answer
        if reader.takes_gzip:
            return answer._replace(body=body.packed, is_gzip=True)
        return answer._replace(body=await self._editions.unpacked(body, reading))

    async def _one_run(
        self,
        editions: Sequence[Edition],
        courserun_key: str,
        reader: Reader,
        bringing: _Bringing,
        reading: Deadline,
    ) -> Answer:
        # Keys contain plus signs, which a query string turns into spaces when they are not encoded.
        for key in dict.fromkeys((courserun_key, courserun_key.replace(" ", "+"))):
            run_id = course_run_id(key)
            for edition in editions:
                line = line_of(await self._editions.unpacked(edition.body, reading), run_id)
                if line is not None:
                    answer = self._described(checksum(line), edition.synced_at, bringing)
                    if reader.has(answer.tag):
                        return answer
                    body = gzip.compress(line, mtime=0) if reader.takes_gzip else line
                    return answer._replace(body=body, is_gzip=reader.takes_gzip)
        raise NotFound(RUN_NOT_FOUND)

    def _described(self, tag: str, oldest: datetime, bringing: _Bringing) -> Answer:
        age, failures = age_s(oldest, self._now()), bringing.replaced
        return Answer(
            tag,
            age,
            cache_status(age, bringing.limits, bringing.forwards, failures[0] if failures else None),
            max((error.retry_at for error in failures if error.retry_at), default=None),
        )


def _synced_at(head: Head | None) -> datetime | None:
    return head.synced_at if head else None


def combined(failures: Mapping[int, ConnectorError], asked_for: int | None) -> ConnectorError:
    """Return the one error for all catalogs that failed: not found only when every one of them is."""
    if all(isinstance(error, NotFound) for error in failures.values()):
        named = "" if asked_for else f": {', '.join(map(str, failures))}"
        return NotFound(CATALOG_NOT_FOUND + named)
    sentences = [
        f"Catalog {catalog_id} could not be synced: {error.message}."
        for catalog_id, error in failures.items()
    ]
    return CatalogsFailed(" ".join([*sentences, INTACT]), failures)
