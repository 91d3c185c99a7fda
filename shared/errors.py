"""Every error that one part of the connector raises and another handles, one meaning each.

The message is written for the person who reads the answer or the log: it says what failed and what is
still intact, and never holds a secret, a token or a stack trace. What callers need beyond the message is an
attribute, so that nobody reads it out of the text.

    ConnectorError
    ├── ConfigurationError        a setting is missing or malformed
    ├── AccessUnavailable         the keys that tokens are checked with cannot be fetched
    ├── EdxError
    │   ├── EdxRefused            edX does not accept our credentials
    │   ├── EdxUnavailable        edX cannot be reached or fails; retriable
    │   │   └── EdxThrottled      edX's rate limit; nobody calls before `retry_at`
    │   └── EdxProtocolError      edX answered something that is not its API
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

Storage adds two that only a sync meets (storage/lease.py, storage/store.py). HTTP statuses are decided in
function_app.py.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, Self


class ConnectorError(Exception):
    """Anything that the connector itself reports.

    Attributes:
        retry_at: when a later try makes sense (aware, UTC); None when nobody said.
    """

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at

    @property
    def message(self) -> str:
        """The sentence for the caller and the log."""
        return str(self)


class ConfigurationError(ConnectorError):
    """A setting is missing or malformed; the message names it, never its value."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"The setting {setting} {problem}")
        self.setting = setting


class AccessUnavailable(ConnectorError):
    """The keys that tokens are checked with cannot be fetched, so nobody may call until they can."""


class EdxError(ConnectorError):
    """The exchange with edX failed."""


class EdxRefused(EdxError):
    """edX does not accept our credentials."""


class EdxUnavailable(EdxError):
    """edX cannot be reached or fails; a later try may succeed.

    Attributes:
        status: the HTTP status that the last try was answered with; None when no whole answer came.
    """

    def __init__(self, message: str, retry_at: datetime | None = None, status: int | None = None) -> None:
        super().__init__(message, retry_at)
        self.status = status


class EdxThrottled(EdxUnavailable):
    """edX's rate limit is used up; nobody calls edX before `retry_at`, which is always known."""

    retry_at: datetime

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message, retry_at, status=429)


class EdxProtocolError(EdxError):
    """edX answered something that is not what its API promises."""


class StorageError(ConnectorError):
    """Table Storage cannot be reached, fails or refuses."""


class SyncError(ConnectorError):
    """A sync cannot be finished although edX and storage work."""


class MassLoss(SyncError):
    """Callers would lose suspiciously many course runs, so the sync stopped and nothing was taken away."""


class SyncUnfinished(SyncError):
    """A sync did not finish in time, or none has finished yet."""


class CatalogsFailed(SyncError):
    """One or more catalogs could not be synced; the others were.

    Attributes:
        failures: catalog id → what stopped it.
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
        challenge: whether the token is what is missing or wrong, so that the answer names the scheme.
    """

    def __init__(self, message: str, *, challenge: bool) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(RequestError):
    """A genuine login without the admin role."""


class NotFound(RequestError):
    """A catalog or a course run that does not exist for us."""


class Failure(NamedTuple):
    """An error in a form that can be stored: another process raises it again with kind and evidence."""

    kind: str  # the class's name
    message: str
    retry_at: datetime | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Describe an error. Only the text of our own errors is known to hold no secret."""
        if isinstance(error, ConnectorError):
            return cls(type(error).__name__, error.message, error.retry_at)
        return cls(type(error).__name__, f"the sync was stopped by {type(error).__name__}")

    def error(self) -> ConnectorError:
        """Return the error again; a kind that this version does not know becomes a SyncError."""
        kind = next((kind for kind in _kinds(ConnectorError) if kind.__name__ == self.kind), SyncError)
        if kind is EdxThrottled and self.retry_at is None:
            kind = EdxUnavailable
        try:
            return kind(self.message, self.retry_at)
        except TypeError:  # a kind that needs more than can be stored
            return SyncError(self.message, self.retry_at)


def _kinds(kind: type[ConnectorError]) -> Iterator[type[ConnectorError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def unexpected(error: BaseException) -> str:
    """Describe an error that is none of ours by kind and place; its text may hold anything and stays out."""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"Unexpected {type(error).__name__}\n{places}"


def log_unexpected(logger: logging.Logger, error: BaseException) -> None:
    """Log an error that is none of ours."""
    logger.error("%s", unexpected(error))
