"""The errors that one part of the connector raises and another handles; each class has one meaning.

The message is for people who read an answer or the log: it says what failed and what is still intact, and
never contains a secret, a token or a stack trace. Programs use the attributes and never parse the message.

    ConnectorError
    ├── ConfigurationError        a setting is missing or malformed
    ├── AccessUnavailable         the keys that tokens are checked with cannot be fetched
    ├── EdxError
    │   ├── EdxRefused            edX does not accept our credentials
    │   ├── EdxUnavailable        edX cannot be reached or fails; retriable
    │   │   └── EdxThrottled      edX's rate limit; no request is sent before `retry_at`
    │   └── EdxProtocolError      an answer of edX does not match its API
    ├── StorageError              Table Storage cannot be reached, fails or refuses
    ├── SyncError                 a sync cannot be finished, though edX and storage work
    │   ├── MassLoss              the guard against mass loss stopped the sync
    │   ├── SyncUnfinished        a sync is still running, or nothing has been synced yet
    │   └── CatalogsFailed        one or more of several catalogs failed
    └── RequestError
        ├── BadRequest            a malformed parameter
        ├── Unauthenticated       no valid subscription key or token
        ├── Forbidden             a genuine login without the admin role
        └── NotFound              a catalog or course run that does not exist for us

Narrower ones are defined beside the code that raises them (storage/failures.py, storage/lease.py,
storage/store.py, sync/sync.py). function_app.py assigns the HTTP statuses.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime
from inspect import getattr_static
from typing import NamedTuple, Self


class ConnectorError(Exception):
    """The base of all errors of the connector.

    Attributes:
        retry_at: the earliest time at which a retry makes sense (aware, UTC); None when it is unknown.
    """

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at

    @property
    def message(self) -> str:
        """The message for the caller and the log."""
        return str(self)


class ConfigurationError(ConnectorError):
    """A setting is missing or malformed; the message names it, never its value."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"The setting {setting} {problem}")
        self.setting = setting


class AccessUnavailable(ConnectorError):
    """The keys for checking tokens cannot be fetched; all requests fail until they can be."""


class EdxError(ConnectorError):
    """The exchange with edX failed."""


class EdxRefused(EdxError):
    """edX does not accept our credentials."""


class EdxUnavailable(EdxError):
    """edX cannot be reached or fails; a later try may succeed.

    Attributes:
        status: the HTTP status of the last try of the request; None when there was no complete answer, edX
            throttled us, or the token endpoint failed.
    """

    def __init__(self, message: str, retry_at: datetime | None = None, status: int | None = None) -> None:
        super().__init__(message, retry_at)
        self.status = status


class EdxThrottled(EdxUnavailable):
    """edX's rate limit is used up; no request is sent before `retry_at`, which is never None."""

    retry_at: datetime

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message, retry_at)


class EdxProtocolError(EdxError):
    """An answer of edX does not match its API."""


class StorageError(ConnectorError):
    """Table Storage cannot be reached, fails or refuses."""


class SyncError(ConnectorError):
    """A sync cannot be finished although edX and storage work."""


class MassLoss(SyncError):
    """Callers would lose too many course runs, so the sync stopped and nothing was taken away."""


class SyncUnfinished(SyncError):
    """A sync did not finish in time, or none has finished yet."""


class CatalogsFailed(SyncError):
    """One or more catalogs could not be synced; the others were.

    Attributes:
        failures: catalog id → the error.
    """

    def __init__(self, message: str, failures: Mapping[int, ConnectorError]) -> None:
        moments = [error.retry_at for error in failures.values() if error.retry_at]
        super().__init__(message, max(moments, default=None))
        self.failures = failures


class RequestError(ConnectorError):
    """The caller's request cannot be answered."""


class BadRequest(RequestError):
    """A malformed parameter."""


class Unauthenticated(RequestError):
    """No valid subscription key or token.

    Attributes:
        challenge: whether the token is missing or wrong; the answer then has a WWW-Authenticate header.
    """

    def __init__(self, message: str, *, challenge: bool) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(RequestError):
    """A valid token without the admin role."""


class NotFound(RequestError):
    """A catalog or a course run that does not exist for us.

    Attributes:
        answered: what edX answered, as a clause; "" when edX was not asked.
    """

    def __init__(self, message: str, retry_at: datetime | None = None, *, answered: str = "") -> None:
        super().__init__(message, retry_at)
        self.answered = answered


class Failure(NamedTuple):
    """An error in a form that can be stored, so that another process can raise it again."""

    kind: str  # the name of the class
    message: str
    retry_at: datetime | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Describe an error; the text of errors other than ours is left out, as it may contain a secret."""
        if isinstance(error, ConnectorError):
            return cls(type(error).__name__, error.message, error.retry_at)
        return cls(type(error).__name__, f"the sync stopped unexpectedly ({type(error).__name__})")

    def error(self) -> ConnectorError:
        """Return the error; an unknown kind becomes a SyncError."""
        kind = next((kind for kind in _kinds(ConnectorError) if kind.__name__ == self.kind), SyncError)
        if kind is EdxThrottled and self.retry_at is None:
            kind = EdxUnavailable
        # A class that needs other arguments is replaced by its base class.
        storable = next(each for each in kind.__mro__ if getattr_static(each, "__init__") in _STORABLE)
        error: ConnectorError = storable(self.message, self.retry_at)
        return error


_STORABLE = {
    getattr_static(each, "__init__") for each in (ConnectorError, EdxUnavailable, EdxThrottled, NotFound)
}


def _kinds(kind: type[ConnectorError]) -> Iterator[type[ConnectorError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def unexpected(error: BaseException) -> str:
    """Describe an unexpected error by class and place; its text is left out, as it may contain a secret."""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"Unexpected {type(error).__name__}\n{places}"


def log_unexpected(logger: logging.Logger, error: BaseException) -> None:
    """Log an unexpected error."""
    logger.error("%s", unexpected(error))
