"""Freshness limits and Cache-Status by RFC 9111, RFC 5861 and RFC 9211."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.query import Freshness
from shared.errors import (
    AccessUnavailable,
    CatalogsFailed,
    ConnectorError,
    EdxError,
    EdxProtocolError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    MassLoss,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.serving.freshness import Forward, Limits, age_s, cache_status
from shared.settings import SyncSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def limits(max_age_s: int | None = None, *, only: bool = False, stale_s: int | None = None) -> Limits:
    return Limits.of(
        Freshness(max_age_s, only, stale_s), SyncSettings(fresh_for_s=900, stale_if_error_s=86_400)
    )


@pytest.mark.parametrize(
    ("asked", "age", "fresh"),
    [
        (limits(), 899, True),
        (limits(), 900, False),
        (limits(), -899, True),
        (limits(), -900, False),
        (limits(60), 59.9, True),
        (limits(60), 60, False),
        (limits(0), 0, False),
        (limits(only=True), 10**8, True),
    ],
)
def test_catalog_is_fresh_up_to_the_age_in_the_request_or_the_setting(
    asked: Limits, age: float, *, fresh: bool
) -> None:
    assert asked.is_fresh(ago(age), NOW) is fresh


@pytest.mark.parametrize(
    ("asked", "age", "replaces"),
    [
        (limits(), 86_400, True),
        (limits(), 86_401, False),
        (limits(stale_s=100), 100, True),
        (limits(stale_s=100), 101, False),
        (limits(stale_s=0), 0, False),
        (limits(0), 0, True),
        (limits(0, stale_s=0), 0, False),
        (limits(), -86_401, False),
    ],
)
def test_stored_data_replaces_a_failure_up_to_the_age_in_the_request_or_the_setting(
    asked: Limits, age: float, *, replaces: bool
) -> None:
    assert asked.may_replace(SyncError("failed"), ago(age), NOW) is replaces


def test_nothing_replaces_a_failure_when_nothing_is_stored_or_the_catalog_is_hidden() -> None:
    assert not limits().may_replace(SyncError("failed"), None, NOW)
    assert not limits().may_replace(NotFound("the catalog is not found"), ago(1), NOW)


@pytest.mark.parametrize(
    ("age", "asked", "forwards", "expected"),
    [
        (61, limits(), [], "hit; ttl=839"),
        (61, limits(100), [], "hit; ttl=39"),
        (1_000, limits(only=True), [], "hit; ttl=-100"),
        (0, limits(), ["stale"], "fwd=stale; ttl=900"),
        (0, limits(0), ["request"], "fwd=request; ttl=0"),
        (0, limits(), ["request", "stale", "miss"], "fwd=miss; ttl=900"),
        (0, limits(), ["request", "stale"], "fwd=stale; ttl=900"),
    ],
)
def test_cache_status_says_where_the_answer_comes_from(
    age: int, asked: Limits, forwards: list[Forward], expected: str
) -> None:
    assert cache_status(age, asked, forwards) == expected


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (EdxThrottled("secret", NOW), "edx-throttled"),
        (EdxUnavailable("secret"), "edx-unavailable"),
        (EdxRefused("secret"), "edx-refused-us"),
        (EdxProtocolError("secret"), "edx-protocol-error"),
        (EdxError("secret"), "edx-failed"),
        (StorageError("secret"), "storage-failed"),
        (MassLoss("secret"), "mass-loss"),
        (SyncUnfinished("secret"), "sync-unfinished"),
        (CatalogsFailed("secret", {}), "sync-failed"),
        (AccessUnavailable("secret"), "sync-failed"),
    ],
)
def test_cache_status_says_in_a_fixed_word_why_the_answer_is_stale(
    failure: ConnectorError, detail: str
) -> None:
    assert cache_status(1_000, limits(), [], failure) == f"hit; ttl=-100; detail={detail}"


def test_ttl_is_below_0_when_the_answer_is_stale_at_any_age() -> None:
    assert cache_status(5, limits(60), [], SyncError("failed")) == "hit; ttl=-1; detail=sync-failed"


@pytest.mark.parametrize(
    ("at", "asked", "expected"),
    [
        (None, limits(), "miss"),
        (ago(900), limits(), "stale"),
        (ago(-900), limits(), "stale"),
        (ago(899), limits(0), "request"),
    ],
)
def test_cache_status_says_why_a_sync_was_needed(
    at: datetime | None, asked: Limits, expected: Forward
) -> None:
    assert asked.forward(at, NOW) == expected


def test_age_is_in_whole_seconds_and_never_below_0() -> None:
    assert [age_s(ago(seconds), NOW) for seconds in (0, 61.9, -5)] == [0, 61, 0]
