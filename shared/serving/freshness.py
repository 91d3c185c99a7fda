"""How fresh an answer is: whether a request takes what is stored, and what Cache-Status says of it. Pure."""

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
"""Why an answer is stale, by the kind of failure: these words and no others, nothing that edX sent."""

Forward = Literal["miss", "stale", "request"]
"""Why a sync was needed (RFC 9211, 2.2): nothing stored; too old; or fresh, and the request wants fresher."""


class Limits(NamedTuple):
    """What one request takes, the settings filled in where it says nothing.

    Attributes:
        fresh_s: a catalog is fresh up to that age.
        stale_s: up to that age it will do when its sync fails.
        default_fresh_s: `fresh_s` of a request that says nothing.
        only_if_cached: what is stored will do, whatever its age.
    """

    fresh_s: int
    stale_s: int
    default_fresh_s: int
    only_if_cached: bool

    @classmethod
    def of(cls, asked: Freshness, settings: SyncSettings) -> Limits:
        """Return the limits that follow from a request and the settings."""
        fresh_s = settings.fresh_for_s if asked.max_age_s is None else asked.max_age_s
        stale_s = settings.stale_if_error_s if asked.stale_if_error_s is None else asked.stale_if_error_s
        return cls(fresh_s, stale_s, settings.fresh_for_s, asked.only_if_cached)

    def is_fresh(self, at: datetime, now: datetime) -> bool:
        """Tell whether what was synced at a moment needs no sync."""
        # Clocks differ: a moment a little ahead is recent, one far ahead is no reason never to sync again.
        return self.only_if_cached or abs((now - at).total_seconds()) < self.fresh_s

    def may_replace(self, failure: ConnectorError, at: datetime | None, now: datetime) -> bool:
        """Tell whether what was synced at a moment is answered instead of a failure.

        RFC 5861: an error is what would be answered 5xx. A catalog that is gone is none.
        """
        if at is None or isinstance(failure, NotFound) or not self.stale_s:
            return False
        return abs((now - at).total_seconds()) <= self.stale_s

    def forward(self, at: datetime | None, now: datetime) -> Forward:
        """Tell why what was synced at a moment needed a sync."""
        if at is None:
            return "miss"
        return "request" if abs((now - at).total_seconds()) < self.default_fresh_s else "stale"


def age_s(synced_at: datetime, now: datetime) -> int:
    """Return the age of a sync in whole seconds, never below 0."""
    return max(0, int((now - synced_at).total_seconds()))


def cache_status(
    age: int, limits: Limits, forwards: Iterable[Forward] = (), failure: ConnectorError | None = None
) -> str:
    """Return the parameters of Cache-Status (RFC 9211).

    Args:
        age: of the answer, in seconds.
        limits: what the request takes.
        forwards: why each catalog that was synced for the answer needed it.
        failure: what replaced a failed sync is answered; then the `ttl` is below 0.
    """
    ttl = limits.fresh_s - age
    if failure is not None:
        detail = next(_DETAILS[kind] for kind in type(failure).__mro__ if kind in _DETAILS)
        return f"hit; ttl={min(ttl, -1)}; detail={detail}"
    reasons = set(forwards)
    reason = next((each for each in ("miss", "stale", "request") if each in reasons), None)
    return f"fwd={reason}; ttl={ttl}" if reason else f"hit; ttl={ttl}"
