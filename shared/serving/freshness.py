"""Decides whether stored data is fresh enough for a request, and builds the Cache-Status header. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, NamedTuple

from shared.domain.query import Freshness
from shared.errors import (
    ConnectorError,
    EdxError,
    EdxProtocolError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    MassLoss,
    NotFound,
    StorageError,
    SyncUnfinished,
)
from shared.settings import SyncSettings

_DETAILS: Final[dict[type[ConnectorError], str]] = {
    EdxThrottled: "edx-throttled",
    EdxUnavailable: "edx-unavailable",
    EdxRefused: "edx-refused-us",
    EdxProtocolError: "edx-protocol-error",
    EdxError: "edx-failed",
    StorageError: "storage-failed",
    MassLoss: "mass-loss",
    SyncUnfinished: "sync-unfinished",
    ConnectorError: "sync-failed",
}
"""The reason for a stale answer, by class of error. Fixed words: edX's text must not enter a header."""

Forward = Literal["miss", "stale", "request"]
"""Why a sync was needed (RFC 9211, 2.2): nothing stored, too old, or the request asks for fresher data."""


class Limits(NamedTuple):
    """The age limits of one request; the settings apply where the request has no directive.

    Attributes:
        fresh_s: a catalog is fresh up to this age.
        stale_s: after a failed sync, stored data is returned up to this age.
        default_fresh_s: `fresh_s` of a request without directives.
        only_if_cached: stored data is returned at any age, without a sync.
    """

    fresh_s: int
    stale_s: int
    default_fresh_s: int
    only_if_cached: bool

    @classmethod
    def of(cls, asked: Freshness, settings: SyncSettings) -> Limits:
        """Return the limits from a request and the settings."""
        fresh_s = settings.fresh_for_s if asked.max_age_s is None else asked.max_age_s
        stale_s = settings.stale_if_error_s if asked.stale_if_error_s is None else asked.stale_if_error_s
        return cls(fresh_s, stale_s, settings.fresh_for_s, asked.only_if_cached)

    def is_fresh(self, at: datetime, now: datetime) -> bool:
        """Tell whether a catalog that was synced at `at` needs no sync."""
        # Clocks differ: a time slightly in the future is fresh, one far in the future must not prevent syncs.
        return self.only_if_cached or abs((now - at).total_seconds()) < self.fresh_s

    def may_replace(self, failure: ConnectorError, at: datetime | None, now: datetime) -> bool:
        """Tell whether data that was synced at `at` is returned instead of an error.

        RFC 5861: only for an error with a 5xx status, so not for a catalog that is not found.
        """
        if at is None or isinstance(failure, NotFound) or not self.stale_s:
            return False
        return abs((now - at).total_seconds()) <= self.stale_s

    def forward(self, at: datetime | None, now: datetime) -> Forward:
        """Return why a catalog that was synced at `at` needed a sync."""
        if at is None:
            return "miss"
        return "request" if abs((now - at).total_seconds()) < self.default_fresh_s else "stale"


def age_s(synced_at: datetime, now: datetime) -> int:
    """Return the age of a sync in whole seconds, at least 0."""
    return max(0, int((now - synced_at).total_seconds()))


def cache_status(
    age: int, limits: Limits, forwards: Iterable[Forward] = (), failure: ConnectorError | None = None
) -> str:
    """Return the parameters of Cache-Status (RFC 9211).

    Args:
        age: the age of the answer in seconds.
        limits: the age limits of the request.
        forwards: why each catalog that was synced for this answer needed a sync; ignored after a failure.
        failure: the error of a sync instead of which stored data is returned; the `ttl` is then below 0.
    """
    ttl = limits.fresh_s - age
    if failure is not None:
        detail = next(_DETAILS[kind] for kind in type(failure).__mro__ if kind in _DETAILS)
        return f"hit; ttl={min(ttl, -1)}; detail={detail}"
    reasons = set(forwards)
    reason = next((each for each in ("miss", "stale", "request") if each in reasons), None)
    return f"fwd={reason}; ttl={ttl}" if reason else f"hit; ttl={ttl}"
