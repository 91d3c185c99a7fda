"""Every error class of the connector, one meaning each.

The message of each is written for the person who reads the answer or the log: it says what failed and
what is still intact, and never holds a secret, a token or a stack trace.

    ConnectorError
    ├── ConfigurationError        a setting is missing or malformed
    ├── AccessUnavailable         the keys that tokens are checked with cannot be had
    ├── EdxError
    │   ├── EdxRefused            edX does not accept our credentials
    │   ├── EdxUnavailable        edX cannot be reached or fails; retriable
    │   │   └── EdxThrottled      edX's rate limit; nobody calls before `retry_at`
    │   └── EdxProtocolError      edX answered something that is not its API
    ├── StorageError              Table Storage cannot be reached, fails or refuses
    │   └── LeaseLost             another process has taken over the sync of this catalog
    ├── SyncError                 a sync cannot be finished, though edX and storage work
    │   ├── MassWithdrawal        the guard against mass loss stopped the withdrawals
    │   └── SyncUnfinished        a sync runs elsewhere, or nothing has been synced yet
    └── RequestError
        ├── BadRequest            a malformed parameter
        ├── Unauthenticated       no valid subscription key or token
        ├── Forbidden             a genuine login without the admin role
        └── NotFound              a catalog or course run that does not exist for us

HTTP statuses are decided in function_app.py.
"""

import logging
import traceback
from datetime import datetime


class ConnectorError(Exception):
    """Anything the connector itself reports."""

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
    """The keys that tokens are checked with cannot be had, so nobody is let in; a later try may succeed."""


class EdxError(ConnectorError):
    """The exchange with edX failed."""


class EdxRefused(EdxError):
    """edX does not accept our credentials."""


class EdxUnavailable(EdxError):
    """edX cannot be reached or fails; a later try may succeed.

    Attributes:
        retry_at: when edX said to come back (aware, UTC), None when it did not say.
    """

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class EdxThrottled(EdxUnavailable):
    """edX's rate limit is used up; nobody calls edX before `retry_at`, which is always known."""

    retry_at: datetime

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message, retry_at)


class EdxProtocolError(EdxError):
    """edX answered something that is not what its API promises."""


class StorageError(ConnectorError):
    """Table Storage cannot be reached, fails or refuses."""


class LeaseLost(StorageError):
    """Another process has taken over the sync of this catalog; this one may not write any more."""


class SyncError(ConnectorError):
    """A sync cannot be finished although edX and storage work."""


class MassWithdrawal(SyncError):
    """A whole pull would withdraw suspiciously many runs; none was withdrawn."""


class SyncUnfinished(SyncError):
    """A sync did not finish in time, or none has finished yet."""


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


def log_unexpected(logger: logging.Logger, error: BaseException) -> None:
    """Log the kind and place of an error that is none of ours; its text may hold anything and stays out."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("Unexpected %s\n%s", type(error).__name__, places)
