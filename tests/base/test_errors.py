"""Errors that were stored and are raised again."""

from datetime import UTC, datetime

import pytest

from shared.errors import (
    ConnectorError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    Failure,
    NotFound,
    Unauthenticated,
)

LATER = datetime(2026, 3, 1, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    "error",
    [
        EdxRefused("refused"),
        EdxUnavailable("away", LATER),
        EdxUnavailable("away"),
        EdxThrottled("throttled", LATER),
        NotFound("not found"),
    ],
)
def test_stored_error_is_raised_again_as_it_was(error: ConnectorError) -> None:
    again = Failure.of(error).error()
    assert (type(again), again.message, again.retry_at) == (type(error), error.message, error.retry_at)


def test_throttling_without_its_end_is_only_a_failure_of_edx() -> None:
    again = Failure("EdxThrottled", "throttled").error()
    assert (type(again), again.message, again.retry_at) == (EdxUnavailable, "throttled", None)


def test_text_of_an_unexpected_error_is_not_stored() -> None:
    assert Failure.of(ValueError("secret")) == Failure(
        "ValueError", "the sync stopped unexpectedly (ValueError)"
    )
    refused = Failure.of(Unauthenticated("no token", challenge=True))
    assert refused == Failure("Unauthenticated", "no token")
