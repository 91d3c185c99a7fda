"""Classifies failures of Table Storage: whether a retry may succeed, and the message for people.

The SDK's own texts are left out of the sentences: they can contain addresses with signatures.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.data.tables import TableTransactionError
from urllib3.exceptions import ConnectTimeoutError, ProtocolError, ReadTimeoutError

from shared.errors import StorageError
from shared.setting_values import is_loopback

# 409 is retriable, because writes get it while a table of that name is being deleted. The SDK reports no
# error code for it, so it looks like "the entity exists"; `Table.insert` therefore reads the entity.
_RETRIABLE = {408, 409, 429, 500, 502, 503, 504}
# https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key: a request is valid
# for 15 minutes.
_CLOCK_SKEW_MAX = timedelta(minutes=15)
_CODE = re.compile("[A-Za-z]{1,64}", re.ASCII)
_INDEX = re.compile(r"(\d{1,4}):")


class ConditionFailed(StorageError):
    """The entity was changed or deleted since its etag was read, so the write was refused."""


class EntityRefused(StorageError):
    """Storage refuses one entity of a batch; nothing of the batch was written.

    Attributes:
        index: the position of the refused operation; None when storage did not name it.
        code: the error code of storage.
        is_missing: whether the entity does not exist.
    """

    def __init__(self, message: str, index: int | None, code: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.index = index
        self.code = code
        self.is_missing = is_missing


class NotThere(StorageError):
    """The entity or its table does not exist."""


class TokenMissing(Exception):
    """The identity endpoint gave no token for Table Storage; `kind` is the class of the SDK's error."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def is_retriable(error: Exception, url: str) -> bool:
    """Tell whether the same request may succeed on a retry."""
    if isinstance(error, (ClientAuthenticationError, TokenMissing)):
        return False  # azure-identity has already retried
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        # A success status on an error means that the answer could not be read.
        return error.status_code in _RETRIABLE or error.status_code < HTTPStatus.MULTIPLE_CHOICES
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return False
    # A refused loopback connection: Azurite is not running, and a retry does not start it.
    return not (is_loopback(url) and any(isinstance(cause, ConnectionRefusedError) for cause in causes))


def retry_after_s(error: Exception) -> float:
    """Return the wait that storage asked for, in seconds; 0 when it asked for none."""
    response = getattr(error, "response", None)
    value = str(response.headers.get("Retry-After", "")) if response is not None else ""
    return float(value) if value.isascii() and value.isdigit() else 0.0


def as_ours(error: Exception, host: str, url: str, now: datetime) -> StorageError:
    """Return the StorageError for an error of the SDK."""
    where = f"Table Storage at {host}"
    if isinstance(error, TokenMissing):
        return StorageError(
            f"Azure's identity endpoint gave no token for {where} ({error.kind}): check that the managed "
            "identity of the app is switched on"
        )
    if isinstance(error, HttpResponseError) and (error.status_code or 0) >= HTTPStatus.MULTIPLE_CHOICES:
        return _refusal(error, where, now)
    if isinstance(error, ClientAuthenticationError):
        return StorageError(f"{where} refused our credentials ({_code(error)}): {_advice(error, now)}")
    causes = list(_causes(error))
    for kinds, what in _BROKEN:
        if any(isinstance(cause, kinds) for cause in causes):
            is_azurite = ConnectionRefusedError in kinds and is_loopback(url)
            return StorageError(f"{where} {what}{': is Azurite running?' if is_azurite else ''}")
    return StorageError(f"{where} sent an answer that cannot be read")


_BROKEN: list[tuple[tuple[type[BaseException], ...], str]] = [
    ((ConnectionRefusedError,), "refused the connection"),
    ((socket.gaierror,), "cannot be found: there is no host of that name"),
    ((ssl.SSLCertVerificationError,), "has a certificate that is not valid (TLS)"),
    ((ssl.SSLError,), "could not agree on a secure connection (TLS)"),
    ((ServiceRequestTimeoutError, ConnectTimeoutError), "did not accept the connection (timed out)"),
    ((ServiceResponseTimeoutError, ReadTimeoutError, TimeoutError), "did not answer (timed out)"),
    # http.client.RemoteDisconnected is a ConnectionError; ProtocolError is an answer that ends too soon.
    (
        (ConnectionError, ProtocolError, IncompleteReadError),
        "closed the connection before it had answered (connection reset)",
    ),
    ((ServiceRequestError,), "cannot be reached"),
]
"""Connection errors, most specific first, with the end of the message for each."""


def _refusal(error: HttpResponseError, where: str, now: datetime) -> StorageError:
    """Return the error for an answer with an error status."""
    status, code = error.status_code, _code(error)
    problem = f"(HTTP {status}, {code})"
    if status == HTTPStatus.NOT_FOUND and not isinstance(error, TableTransactionError):
        return NotThere(f"{where} failed {problem}")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return ConditionFailed(f"An entity in {where} was changed by another process")
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.NOT_FOUND}:
        is_missing = status == HTTPStatus.NOT_FOUND
        message = f"{where} refused the request {problem}"
        return EntityRefused(message, _index(error), code, is_missing=is_missing)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return StorageError(f"{where} refused our credentials ({code}): {_advice(error, now)}")
    return StorageError(f"{where} failed {problem}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes; requests, urllib3 and the SDK wrap errors several times."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner: Any = getattr(current, "inner_exception", None)
        pending += [current.__cause__, current.__context__]
        if isinstance(inner, BaseException):
            pending.append(inner)


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", None)
    text = str(getattr(code, "value", code) or "")
    return text if _CODE.fullmatch(text) else type(error).__name__


def _index(error: Exception) -> int | None:
    """Return the index at the beginning of storage's message ("3:The …"); the SDK says 0 if there is none."""
    found = _INDEX.match(str(getattr(error, "message", "")))
    return int(found[1]) if found else None


def _advice(error: Exception, now: datetime) -> str:
    response = getattr(error, "response", None)
    skew = _clock_skew(str(response.headers.get("Date", "")), now) if response is not None else None
    if skew is not None and skew > _CLOCK_SKEW_MAX:
        minutes = int(skew / timedelta(minutes=1))
        return (
            f"this machine's clock is wrong by {minutes} minutes, and only 15 are allowed: correct the clock"
        )
    return (
        "check TABLES_CONNECTION_STRING, or the role assignment behind TABLES_ENDPOINT, and that this "
        "machine's clock is right"
    )


def _clock_skew(date: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return abs(now - moment) if moment.tzinfo else abs(now - moment.replace(tzinfo=UTC))
