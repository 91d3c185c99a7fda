"""One Azure table with what the SDK leaves to us: retries, creation when missing, errors in our own words.

Every operation here may be repeated safely: reads, writes of whole entities, and batches guarded by the
etag of one of their entities. So one retry policy, ours, serves all of them, and the SDK's own is off: it
would not repeat a batch (a POST) whose connection dropped, nor a 429 or 502 without Retry-After.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import TableClient, TableEntity, TableTransactionError, UpdateMode

from shared.errors import StorageError
from shared.storage.entities import Entity

# It logs every request with its headers: many times the connector's own log, and paid for by the line.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)

T = TypeVar("T")
Operation = tuple[str, Entity, dict[str, Any]]

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 10
TRIES = 6
RETRY_WITHIN_S = 15.0
"""No try begins later than this after the first: with the last one's timeout, half a minute in all."""
BACKOFF_S = 0.25
BACKOFF_MAX_S = 5.0
_RETRIABLE = {408, 429, 500, 502, 503, 504}


class ConditionFailed(StorageError):
    """The etag that a write was bound to is no longer the entity's."""


class EntityRefused(StorageError):
    """Storage refuses one entity of a batch for its content; nothing of the batch was written."""

    def __init__(self, index: int, code: str) -> None:
        super().__init__(f"Table Storage refuses an entity: {code}")
        self.index = index
        self.code = code


class Table:
    """A table that is created when it is missing."""

    def __init__(
        self,
        client: TableClient,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._sleep = sleep
        self._jitter = jitter

    def get(self, partition_key: str, row_key: str) -> TableEntity | None:
        """Return an entity, None when there is none (or no table yet)."""
        try:
            return self._retry(lambda: self._client.get_entity(partition_key, row_key))
        except ResourceNotFoundError:
            return None

    def query(
        self, query_filter: str, parameters: dict[str, str], select: list[str] | None = None
    ) -> Iterator[TableEntity]:
        """Return matching entities by row key, a page of up to 1,000 in memory at a time."""
        token: Any = None
        while True:

            def page(token: Any = token) -> tuple[list[TableEntity], Any]:
                pages = self._client.query_entities(
                    query_filter, parameters=parameters, select=select
                ).by_page(continuation_token=token)
                return list(next(pages, ())), getattr(pages, "continuation_token", None)

            try:
                entities, token = self._retry(page)
            except ResourceNotFoundError:
                return
            yield from entities
            if not token:
                return

    def insert(self, entity: Entity) -> str | None:
        """Insert an entity that must not exist yet; return its etag, None when it exists."""
        try:
            return self._creating_table(lambda: _whole(self._client.create_entity(entity)["etag"]))
        except ResourceExistsError:
            return None

    def put(self, entity: Entity) -> None:
        """Write an entity whole, whatever stood there."""
        self._creating_table(lambda: self._client.upsert_entity(entity, mode=UpdateMode.REPLACE))

    def commit(self, operations: Sequence[Operation]) -> str:
        """Write a batch of one partition, all or nothing; return its last entity's etag, if not deleted.

        Raises:
            ConditionFailed: an etag in the batch is out of date. After a lost answer this can also be the
                batch's own success: whoever cares reads the guarding entity again.
            EntityRefused: storage refuses one of the entities for its content, or because it is to be deleted
                and is gone; after a lost answer by this very batch.
        """
        try:
            return self._creating_table(lambda: self._transact(operations))
        except TableTransactionError as error:  # not found, though there is a table: a row to delete is gone
            raise EntityRefused(error.index, "ResourceNotFound") from None

    def _transact(self, operations: Sequence[Operation]) -> str:
        results = self._client.submit_transaction(operations)
        if operations[-1][0] == "delete":
            return ""
        return _whole(results[-1].get("etag") if len(results) == len(operations) else None)

    def _creating_table(self, call: Callable[[], T]) -> T:
        try:
            return self._retry(call)
        except ResourceNotFoundError:
            pass
        except TableTransactionError as error:
            if error.status_code != 404:  # noqa: PLR2004 - HTTP's Not Found
                raise
        self._retry(self._create_table)
        return self._retry(call)

    def _create_table(self) -> None:
        try:
            self._client.create_table()
        except ResourceExistsError:
            return

    def _retry(self, call: Callable[[], T]) -> T:
        began = time.monotonic()
        for attempt in range(TRIES):
            try:
                return call()
            except (ResourceNotFoundError, ResourceExistsError):
                raise
            except Exception as error:  # noqa: BLE001 - an answer that breaks off makes the SDK raise anything
                if not _is_retriable(error):
                    _raise_ours(error)
                pause_s = min(BACKOFF_MAX_S, BACKOFF_S * 2**attempt) * (1 + self._jitter()) / 2
                pause_s = max(pause_s, _retry_after_s(error))
                if attempt == TRIES - 1 or time.monotonic() - began + pause_s > RETRY_WITHIN_S:
                    _raise_ours(error)
                self._sleep(pause_s)
        raise AssertionError  # the loop returns or raises


def replacing(entity: Entity) -> Operation:
    """Write an entity whole: no property of an older version survives."""
    return ("upsert", entity, {"mode": UpdateMode.REPLACE})


def merging(entity: Entity) -> Operation:
    """Set some properties and leave the others as they are."""
    return ("upsert", entity, {"mode": UpdateMode.MERGE})


def deleting(entity: Entity) -> Operation:
    """Delete an entity, whatever its state."""
    return ("delete", entity, {})


def replacing_unchanged(entity: Entity, etag: str) -> Operation:
    """Write an entity whole if it still is the one that had this etag."""
    return (
        "update",
        entity,
        {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified},
    )


def _whole(etag: str | None) -> str:
    """Return an etag, which an answer that breaks off in its headers lacks."""
    if not etag:
        raise ValueError("an answer without its etag")
    return etag


def _is_retriable(error: Exception) -> bool:
    if isinstance(error, ClientAuthenticationError):
        return False
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        # A success that raises is an answer that cannot be read.
        return error.status_code in _RETRIABLE or error.status_code < HTTPStatus.MULTIPLE_CHOICES
    return True  # a connection that failed, or an answer that was cut short


def _retry_after_s(error: Exception) -> float:
    response = getattr(error, "response", None)
    value = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(value), BACKOFF_MAX_S) if value.isascii() and value.isdigit() else 0.0


def _raise_ours(error: Exception) -> NoReturn:
    """Turn the SDK's error into ours. Its text is left out: it can hold addresses and signatures."""
    status = getattr(error, "status_code", None)
    code = getattr(error, "error_code", None)
    code_text = getattr(code, "value", code) or type(error).__name__
    if isinstance(error, TableTransactionError) and status == 404:  # noqa: PLR2004
        raise error
    if status == 412 or isinstance(error, ResourceModifiedError):  # noqa: PLR2004 - Precondition Failed
        raise ConditionFailed("an entity in Table Storage has been changed meanwhile") from None
    if isinstance(error, TableTransactionError) and status in {400, 413}:
        raise EntityRefused(error.index, str(code_text)) from None
    if status in {401, 403} or isinstance(error, ClientAuthenticationError):
        raise StorageError(
            f"Table Storage refused our credentials ({code_text}): check TABLES_CONNECTION_STRING, "
            "or the role assignment behind TABLES_ENDPOINT"
        ) from None
    if not isinstance(error, AzureError) or (status and status < HTTPStatus.MULTIPLE_CHOICES):
        raise StorageError("Table Storage's answer cannot be read") from None
    problem = f"HTTP {status}, {code_text}" if status else str(code_text)
    raise StorageError(f"Table Storage failed ({problem})") from None
