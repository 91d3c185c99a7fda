"""The stored attempts, and how long requests back off."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.attempts import Attempts
from shared.errors import (
    ConnectorError,
    EdxProtocolError,
    EdxThrottled,
    EdxUnavailable,
    Failure,
    NotFound,
    StorageError,
    SyncError,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def after_failures(count: int, error: Exception | None = None) -> Attempts:
    attempts = Attempts()
    for _ in range(count):
        attempts = attempts.begun(NOW).ended(NOW, error or StorageError("Table Storage failed"))
    return attempts


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("StateDamaged", StorageError), ("CatalogsFailed", SyncError), ("Unheard", SyncError)],
)
def test_stored_failure_is_raised_as_its_base_class_when_its_own_needs_more(
    kind: str, expected: type[ConnectorError]
) -> None:
    error = Failure(kind, "no luck", NOW).error()
    assert (type(error), error.message, error.retry_at) == (expected, "no luck", NOW)


@pytest.mark.parametrize(
    ("failures", "minutes"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 15), (7, 15), (500, 15)]
)
def test_requests_back_off_when_there_are_two_or_more_failures_in_a_row(failures: int, minutes: int) -> None:
    attempts = after_failures(failures)
    if minutes:
        last_moment = NOW + timedelta(minutes=minutes, seconds=-1)
        remembered = attempts.remembered_failure(last_moment)
        assert isinstance(remembered, StorageError)
        assert (remembered.message, remembered.retry_at) == (
            "Table Storage failed", NOW + timedelta(minutes=minutes),
        )  # fmt: skip
    assert attempts.remembered_failure(NOW + timedelta(minutes=minutes)) is None


def test_back_off_lasts_as_long_as_edx_asked_for_when_that_is_longer() -> None:
    later = NOW + timedelta(hours=1)
    remembered = after_failures(2, EdxUnavailable("edX is down", later)).remembered_failure(NOW)
    assert isinstance(remembered, EdxUnavailable)
    assert remembered.retry_at == later


def test_back_off_lasts_its_own_time_when_edx_asked_for_less() -> None:
    sooner = NOW + timedelta(seconds=10)
    remembered = after_failures(2, EdxUnavailable("edX is down", sooner)).remembered_failure(NOW)
    assert remembered
    assert remembered.retry_at == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    "attempts",
    [
        Attempts(failures=2),
        Attempts(failures=2, failed_at=NOW),
        Attempts(failures=2, failure=Failure("SyncError", "")),
    ],
)
def test_requests_do_not_back_off_when_the_time_or_the_cause_of_the_failure_is_unknown(
    attempts: Attempts,
) -> None:
    assert attempts.remembered_failure(NOW) is None


def test_longest_back_off_begins_with_the_failure() -> None:
    assert after_failures(6).remembered_failure(NOW) is not None


def test_success_ends_the_back_off_and_keeps_the_last_failure() -> None:
    attempts = after_failures(3, NotFound("the catalog is not found")).begun(NOW).ended(NOW, None)
    assert attempts == Attempts(NOW, NOW, 0, NOW, Failure("NotFound", "the catalog is not found"))
    assert attempts.remembered_failure(NOW) is None


def test_attempt_is_not_a_failure_when_edx_throttles_it() -> None:
    attempts = after_failures(1, EdxProtocolError("no JSON"))
    throttled = attempts.begun(NOW).ended(NOW, EdxThrottled("the rate limit", NOW + timedelta(hours=1)))
    assert throttled.failures == 1
    assert throttled.failure == Failure("EdxProtocolError", "no JSON")


def test_requests_do_not_back_off_when_the_time_of_the_failure_is_far_in_the_future() -> None:
    assert after_failures(2).remembered_failure(NOW - timedelta(minutes=20)) is None
