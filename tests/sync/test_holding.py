"""What becomes of the lease when a sync fails while it holds it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.attempts import Attempts, FinishedSync
from shared.errors import EdxUnavailable, Failure, StorageError
from shared.storage.lease import LeaseLost
from shared.sync.holding import holding
from shared.sync.run import Origin, SyncInProgress

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDED = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
AWAY = EdxUnavailable("edX is away")


class Writer:
    """A writer that notices the loss of its lease when a test says so."""

    def __init__(self, release_fails: StorageError | None = None) -> None:
        self.attempts = Attempts(attempted_at=BEGAN)
        self.lose: Callable[[], None] = lambda: None
        self.released: list[FinishedSync] = []
        self._release_fails = release_fails

    @contextmanager
    def kept_alive(self, on_lost: Callable[[], None]) -> Iterator[None]:
        self.lose = on_lost
        yield

    def release(self, finished: FinishedSync) -> None:
        if self._release_fails:
            raise self._release_fails
        self.released.append(finished)


class Held:
    """A sync whose block fails."""

    def __init__(self, writer: Any, *, loses: bool = False) -> None:
        self.calls: list[str] = []
        self.said: list[tuple[int, str]] = []
        run = SyncInProgress(
            1, Origin("timer"), BEGAN, "sync-1", end_exchange=lambda: self.calls.append("edX cancelled")
        )

        def fail() -> None:
            with holding(run, writer, lambda: ENDED, lambda level, line: self.said.append((level, line))):
                if loses:
                    writer.lose()
                raise AWAY

        with pytest.raises(LeaseLost if loses else EdxUnavailable) as self.raised:
            fail()


def test_lease_is_released_with_the_failure_when_the_sync_fails() -> None:
    writer = Writer()
    held = Held(writer)
    assert held.raised.value is AWAY
    (released,) = writer.released
    assert (released.sync_id, released.failure) == ("sync-1", Failure.of(AWAY))
    assert released.attempts == Attempts(
        attempted_at=BEGAN, failures=1, failed_at=ENDED, failure=Failure.of(AWAY)
    )
    assert (held.calls, held.said) == ([], [])


def test_requests_are_cancelled_and_nothing_is_released_when_the_lease_is_lost() -> None:
    writer = Writer()
    held = Held(writer, loses=True)
    assert str(held.raised.value) == "another process now syncs this catalog, and this one stopped"
    assert held.raised.value.__cause__ is AWAY
    assert held.calls == ["edX cancelled"]
    assert writer.released == []


def test_failure_of_the_sync_is_raised_when_the_release_fails_too() -> None:
    held = Held(Writer(StorageError("Table Storage failed (503)")))
    assert held.raised.value is AWAY
    assert held.said == [(logging.WARNING, "Could not release the lease: Table Storage failed (503)")]
