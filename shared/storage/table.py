"""One Azure table, with retries, creation when it is missing, and StorageError for every failure.

Every operation here can be repeated safely: reads, writes of whole entities, and batches guarded by the
etag of one of their entities. They share one retry policy. The SDK's own policy is off: it does not repeat a
batch (a POST) whose connection dropped, or a request after a 429 or 502 without Retry-After.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableClient, TableEntity, UpdateMode

from shared.errors import StorageError
from shared.storage.entities import Entity
from shared.storage.failures import (
    ConditionFailed,
    EntityRefused,
    NotThere,
    as_ours,
    is_retriable,
    retry_after_s,
)

# It logs every request with its headers, which would cost many times the connector's own log.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)

T = TypeVar("T")
Operation = tuple[str, Entity, dict[str, Any]]
Timeouts = dict[str, Any]

OPERATIONS_PER_BATCH = 100
PAGE_ROWS = 1000
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
TURNS = 6
STEP_S = 15.0
"""The time limit of one storage step, retries included."""
BACKOFF_S = 0.25
RETRY_AFTER_MAX_S = 5.0
_LAST_TIMEOUT_S = 1.0  # for a try that begins at the end of a step


class Patience:
    """Limits the retries of one storage step, in number and in time, with growing pauses."""

    def __init__(
        self, clock: Callable[[], float], sleep: Callable[[float], None], jitter: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._ends_at = clock() + STEP_S
        self._turn = 1

    def timeouts(self) -> Timeouts:
        """Return the timeouts of a request, limited to the time that is left for the step."""
        left_s = max(_LAST_TIMEOUT_S, self._ends_at - self._clock())
        return {
            "connection_timeout": min(CONNECT_TIMEOUT_S, left_s),
            "read_timeout": min(READ_TIMEOUT_S, left_s),
        }

    def pause(self, at_least_s: float = 0.0) -> bool:
        """Pause before the next try; return False without a pause when no try is left."""
        pause_s = BACKOFF_S * 2 ** (self._turn - 1) * (1 + self._jitter()) / 2
        pause_s = max(pause_s, min(at_least_s, RETRY_AFTER_MAX_S))
        if self._turn == TURNS or self._clock() + pause_s > self._ends_at:
            return False
        self._turn += 1
        self._sleep(pause_s)
        return True


class Table:
    """A table that is created when it is missing."""

    def __init__(
        self,
        client: TableClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._now = now
        parts = urlsplit(client.url)
        self._host = parts.netloc.rpartition("@")[2]
        self._base_url = f"{parts.scheme}://{self._host}"

    def patience(self) -> Patience:
        """Return the retry limit for a step of several operations."""
        return Patience(self._clock, self._sleep, self._jitter)

    def failed(self, what: str) -> StorageError:
        """Return the error of a step that used up its tries."""
        return StorageError(f"Table Storage at {self._host} {what}")

    def get(self, partition_key: str, row_key: str) -> TableEntity | None:
        """Return an entity; None when it or the table does not exist."""
        try:
            return self._step(lambda timeouts: self._read(partition_key, row_key, timeouts))
        except NotThere:
            return None

    def _read(self, partition_key: str, row_key: str, timeouts: Timeouts) -> TableEntity:
        entity = self._client.get_entity(partition_key, row_key, **timeouts)
        if (entity["PartitionKey"], entity["RowKey"]) != (partition_key, row_key):
            raise ValueError("the answer contains another entity")
        _whole(entity.metadata["etag"])
        return entity

    def query(
        self,
        query_filter: str,
        parameters: dict[str, str],
        select: list[str] | None = None,
        page_rows: int = PAGE_ROWS,
    ) -> Iterator[TableEntity]:
        """Yield matching entities by row key, with one page in memory at a time."""
        token: Any = None
        seen: set[str] = set()  # continuation tokens and first keys of pages, to detect a loop
        patience = self.patience()  # the service may send an empty page with a token
        while True:

            def page(timeouts: Timeouts, token: Any = token) -> tuple[list[TableEntity], Any]:
                pages = self._client.query_entities(
                    query_filter, parameters=parameters, select=select, results_per_page=page_rows, **timeouts
                ).by_page(continuation_token=token)
                entities = list(next(pages, ()))
                for entity in entities:
                    _key(entity)
                return entities, getattr(pages, "continuation_token", None)

            try:
                entities, token = self._step(page)
            except NotThere:
                return
            marks = {f"token {token}"} | {f"page {_key(entity)}" for entity in entities[:1]}
            if entities:
                patience = self.patience()
            if seen & marks or (token and not entities and not patience.pause()):
                raise self.failed("answered a query with the same page again and again")
            seen |= marks
            yield from entities
            if not token:
                return

    def insert(self, entity: Entity) -> str | None:
        """Insert an entity that must not exist yet; return its etag, None when it exists."""

        def insert(timeouts: Timeouts) -> str | None:
            try:
                return _whole(self._client.create_entity(entity, **timeouts)["etag"])
            except HttpResponseError as error:
                if error.status_code != HTTPStatus.CONFLICT:
                    raise
                # Storage answers 409 for an existing entity and for a table that is being deleted.
                try:
                    self._read(entity["PartitionKey"], entity["RowKey"], timeouts)
                except HttpResponseError as unread:
                    raise (error if unread.status_code == HTTPStatus.NOT_FOUND else unread) from None
                return None

        return self._write(insert)

    def put(self, entity: Entity, *, in_one_try: bool = False) -> None:
        """Write an entity; an existing one is replaced."""
        self._write(
            lambda timeouts: self._client.upsert_entity(entity, mode=UpdateMode.REPLACE, **timeouts),
            in_one_try=in_one_try,
        )

    def commit(self, operations: Sequence[Operation]) -> str:
        """Write a batch in one partition, all or nothing; return the etag of its last entity, if not deleted.

        Raises:
            ConditionFailed: an etag in the batch is out of date, or its entity does not exist. After a lost
                answer the batch itself may have succeeded; to find out, read the guarding entity again.
            EntityRefused: storage refuses the content of an entity, or an entity to delete does not exist;
                after a lost answer, the batch itself may have deleted it.
        """
        try:
            return self._write(lambda timeouts: self._transact(operations, timeouts))
        except EntityRefused as refusal:
            if refusal.index is not None and refusal.index >= len(operations):
                refusal.index = None
            if not refusal.is_missing:
                raise
            # The table exists, so a row is missing: one to delete, or one that is bound to an etag.
            guilty = operations if refusal.index is None else [operations[refusal.index]]
            kinds = {kind for kind, _, _ in guilty}
            if "delete" in kinds:
                raise
            if "update" in kinds:
                raise ConditionFailed(refusal.message) from None
            raise StorageError(refusal.message) from None

    def _transact(self, operations: Sequence[Operation], timeouts: Timeouts) -> str:
        results = self._client.submit_transaction(operations, **timeouts)
        if len(results) != len(operations):
            raise ValueError("the answer has fewer results than operations")
        return "" if operations[-1][0] == "delete" else _whole(results[-1].get("etag"))

    def _write(self, call: Callable[[Timeouts], T], *, in_one_try: bool = False) -> T:
        """Write; create the table first if it is missing."""

        def write(timeouts: Timeouts) -> T:
            try:
                return call(timeouts)
            except HttpResponseError as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
            try:
                self._client.create_table(**timeouts)
            except HttpResponseError as error:
                if error.status_code != HTTPStatus.CONFLICT:  # another process has just created it
                    raise
            return call(timeouts)

        return self._step(write, in_one_try=in_one_try)

    def _step(self, call: Callable[[Timeouts], T], *, in_one_try: bool = False) -> T:
        """Call until it succeeds, fails in a way that a retry cannot change, or no try is left."""
        patience = self.patience()
        while True:
            try:
                return call(patience.timeouts())
            except Exception as error:  # noqa: BLE001 - the SDK raises any type for a truncated answer
                ours = as_ours(error, self._host, self._base_url, self._now())
                goes_on = (
                    not in_one_try
                    and is_retriable(error, self._base_url)
                    and patience.pause(retry_after_s(error))
                )
            if not goes_on:
                raise ours  # outside the except block: the SDK's error contains URLs with signatures


def replacing(entity: Entity) -> Operation:
    """Return the operation that replaces an entity; no old property is kept."""
    return ("upsert", entity, {"mode": UpdateMode.REPLACE})


def merging(entity: Entity) -> Operation:
    """Return the operation that sets some properties and keeps the others."""
    return ("upsert", entity, {"mode": UpdateMode.MERGE})


def deleting(entity: Entity) -> Operation:
    """Return the operation that deletes an entity regardless of its etag."""
    return ("delete", entity, {})


def replacing_unchanged(entity: Entity, etag: str) -> Operation:
    """Return the operation that replaces an entity if its etag is unchanged."""
    return (
        "update",
        entity,
        {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified},
    )


def _key(entity: TableEntity) -> tuple[str, str]:
    key = (entity["PartitionKey"], entity["RowKey"])
    if not all(isinstance(part, str) for part in key):
        raise ValueError("the key of an entity is not text")
    return key


def _whole(etag: object) -> str:
    """Return an etag; raise when a truncated answer has none."""
    if not etag or not isinstance(etag, str):
        raise ValueError("the answer has no etag")
    return etag
