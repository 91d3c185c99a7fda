"""Answers requests for course runs: syncs catalogs that are too old, then returns the published states.

Callers wait as coroutines. Work that several callers need is done once: see `syncing` and `editions`.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from shared.deadline import Deadline
from shared.domain.course_run import course_run_id, rfc3339
from shared.domain.published import checksum, line_of
from shared.domain.query import Question
from shared.errors import NotFound, StorageError
from shared.serving.editions import Edition, Editions
from shared.serving.freshness import age_s, cache_status
from shared.serving.refreshing import INTACT, Refresher, UpToDate
from shared.settings import SyncSettings
from shared.storage.store import StateDamaged
from shared.sync.run import Origin

READING_S = 4.0
"""Extra seconds for reading storage after the wait for a sync, so that stored data can still be returned."""

RUN_NOT_FOUND = "the course run is not found"


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        tag: the ETag without quotes; equal tags mean equal JSON.
        age_s: seconds since the end of the oldest sync in the answer.
        cache_status: the parameters of the Cache-Status header.
        retry_at: when a failed sync can be tried again; None when no sync failed or the time is unknown.
        body: the JSON; None when the caller already has it.
        is_gzip: whether the body is gzipped.
    """

    tag: str
    age_s: int
    cache_status: str
    retry_at: datetime | None = None
    body: bytes | None = None
    is_gzip: bool = False


class Reader(NamedTuple):
    """What the caller already has and accepts.

    Attributes:
        has: tells whether the caller already has the JSON of a tag; then it is not read.
        takes_gzip: whether the body may be gzipped.
    """

    has: Callable[[str], bool] = lambda _tag: False
    takes_gzip: bool = True


class Answering:
    """Answers requests. Thread-safe; its methods run in one event loop."""

    def __init__(
        self,
        refresher: Refresher,
        editions: Editions,
        settings: SyncSettings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._refresher = refresher
        self._editions = editions
        self._settings = settings
        self._now = now

    async def answer(self, question: Question, reader: Reader, origin: Origin, deadline: Deadline) -> Answer:
        """Sync the requested catalogs if they are not fresh enough for the request, and answer it.

        Args:
            question: the request.
            reader: what the caller already has and accepts.
            origin: for the report of a sync that this request starts.
            deadline: when the platform ends the request; SYNC_TIME_BUDGET_SECONDS limits the wait for syncs.

        Raises:
            ConnectorError: the request cannot be answered.
        """
        try:
            return await self._answer(question, reader, origin, deadline.within(self._settings.time_budget_s))
        except StateDamaged:
            raise
        except StorageError as error:
            raise StorageError(f"{error.message}. {INTACT}") from error

    async def _answer(self, question: Question, reader: Reader, origin: Origin, deadline: Deadline) -> Answer:
        reading = Deadline(deadline.at_s + READING_S, deadline.clock)
        state = await self._refresher.refresh(question, origin, deadline, reading)
        for _ in state.heads:  # each catalog is repaired at most once
            try:
                return await self._show(question, reader, state, reading)
            except StateDamaged as damaged:
                head = await self._refresher.repair(question, damaged, origin, deadline, reading)
                state.heads[damaged.catalog_id] = head
        return await self._show(question, reader, state, reading)

    async def _show(self, question: Question, reader: Reader, state: UpToDate, reading: Deadline) -> Answer:
        now, heads = self._now(), state.heads
        if len(heads) == 1 and question.courserun_key is None:
            (head,) = heads.values()
            if head and head.synced_at and rfc3339(now) < head.holds_until and reader.has(head.tag):
                return self._described(head.tag, head.synced_at, state)
        editions = [await self._editions.of(catalog_id, head, reading) for catalog_id, head in heads.items()]
        # A run in several catalogs is taken from the one synced last, then from the one with the lowest id.
        editions.sort(key=lambda edition: (-edition.synced_at.timestamp(), edition.catalog_id))
        if question.courserun_key is not None:
            return await self._one_run(editions, question.courserun_key, reader, state, reading)
        oldest = min((edition.synced_at for edition in editions), default=now)
        if len(editions) == 1:
            body = editions[0].body
        else:
            body = await self._editions.merged(editions, reading)
        answer = self._described(body.tag, oldest, state)
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
        state: UpToDate,
        reading: Deadline,
    ) -> Answer:
        # Keys contain plus signs, which a query string turns into spaces when they are not encoded.
        for key in dict.fromkeys((courserun_key, courserun_key.replace(" ", "+"))):
            run_id = course_run_id(key)
            for edition in editions:
                line = line_of(await self._editions.unpacked(edition.body, reading), run_id)
                if line is not None:
                    answer = self._described(checksum(line), edition.synced_at, state)
                    if reader.has(answer.tag):
                        return answer
                    body = gzip.compress(line, mtime=0) if reader.takes_gzip else line
                    return answer._replace(body=body, is_gzip=reader.takes_gzip)
        raise NotFound(RUN_NOT_FOUND)

    def _described(self, tag: str, oldest: datetime, state: UpToDate) -> Answer:
        age, failures = age_s(oldest, self._now()), state.replaced
        return Answer(
            tag,
            age,
            cache_status(age, state.limits, state.forwards, failures[0] if failures else None),
            max((error.retry_at for error in failures if error.retry_at), default=None),
        )
