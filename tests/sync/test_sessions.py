"""Waiting for the end of edX's rate limit, and work whose failure does not change a sync."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.deadline import Deadline
from shared.errors import StorageError
from shared.sync.run import StillThrottled
from shared.sync.sessions import Sessions, quietly
from tests.clock import Clock

FAILED = StorageError("Table Storage failed (503)")


class Account:
    """The stored rate limit, in memory; it cannot be stored when `fails` is set."""

    def __init__(self, until: datetime | None = None) -> None:
        self.until = until
        self.fails = False

    def throttled_until(self) -> datetime | None:
        return self.until

    def remember_throttled(self, until: datetime) -> None:
        if self.fails:
            raise FAILED
        self.until = until


class Edx:
    """A client whose only session announces a rate limit."""

    def __init__(self, until: datetime) -> None:
        self.deadlines: list[Deadline] = []
        self._until = until

    @contextmanager
    def session(self, deadline: Deadline, *, on_throttled: Callable[[datetime], None]) -> Iterator[str]:
        self.deadlines.append(deadline)
        on_throttled(self._until)
        yield "session"


@pytest.fixture
def said() -> list[tuple[int, str]]:
    return []


def sessions_of(clock: Clock, account: Any, said: list[tuple[int, str]], edx: Any = None) -> Sessions:
    def say(level: int, line: str) -> None:
        said.append((level, line))

    return Sessions(edx, account, say, now=clock.now, sleep=clock.sleep)


@pytest.mark.parametrize(
    ("ends_in_s", "left_s", "slept"),
    [
        (-1, 540, []),
        (0, 540, []),
        (0.5, 540, [0.5]),
        (60, 540, [60]),
        (30, 30, [30]),
        (-1, 0, []),
    ],
)
def test_end_of_the_rate_limit_is_waited_for_when_it_is_near(
    clock: Clock, said: list[tuple[int, str]], ends_in_s: float, left_s: float, slept: list[float]
) -> None:
    account = Account(clock.now() + timedelta(seconds=ends_in_s))
    sessions_of(clock, account, said).wait_for_rate_limit(Deadline.after(left_s, clock.monotonic))
    assert clock.slept == slept


@pytest.mark.parametrize(("ends_in_s", "left_s"), [(60.5, 540), (31, 30)])
def test_rate_limit_is_an_error_when_it_is_longer_than_a_minute_or_the_time_of_the_sync(
    clock: Clock, said: list[tuple[int, str]], ends_in_s: float, left_s: float
) -> None:
    until = clock.now() + timedelta(seconds=ends_in_s)
    with pytest.raises(StillThrottled, match=r"^edX's rate limit is used up until 2026-03-01T12:0") as limit:
        sessions_of(clock, Account(until), said).wait_for_rate_limit(Deadline.after(left_s, clock.monotonic))
    assert limit.value.retry_at == until
    assert clock.slept == []


def test_nothing_is_waited_for_when_there_is_no_rate_limit(clock: Clock, said: list[tuple[int, str]]) -> None:
    sessions_of(clock, Account(), said).wait_for_rate_limit(Deadline.after(540, clock.monotonic))
    assert clock.slept == []


def test_rate_limit_that_edx_announces_is_stored(clock: Clock, said: list[tuple[int, str]]) -> None:
    account, edx = Account(), Edx(clock.now())
    deadline = Deadline.after(540, clock.monotonic)
    with sessions_of(clock, account, said, edx).open(deadline) as session:
        assert session == "session"  # type: ignore[comparison-overlap]
    assert (account.until, edx.deadlines, said) == (clock.now(), [deadline], [])


def test_session_goes_on_with_a_warning_when_the_rate_limit_cannot_be_stored(
    clock: Clock, said: list[tuple[int, str]]
) -> None:
    account = Account()
    account.fails = True
    with sessions_of(clock, account, said, Edx(clock.now())).open(Deadline.after(540, clock.monotonic)):
        pass
    assert said == [(logging.WARNING, "Could not remember edX's rate limit: Table Storage failed (503)")]


def test_unexpected_error_of_quiet_work_is_logged_without_its_text(said: list[tuple[int, str]]) -> None:
    def work() -> None:
        raise ValueError(f"{2**30}")

    quietly(work, "store the report", lambda level, line: said.append((level, line)))
    ((level, line),) = said
    assert level == logging.ERROR
    assert line.startswith("Unexpected ValueError\n")
    assert "1073741824" not in line
