"""The retry policy for requests to edX."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from shared.edx.answers import NoUsableAnswer, Throttled

TRIES = 4
BACKOFF_BASE_S = 0.5
WAITED_AT_MOST_S = 60
"""The longest pause for a Retry-After; if edX asks for more, the error has the time in `retry_at`."""

_Result = TypeVar("_Result")


class GaveUp(Exception):
    """The tries or the time are used up.

    Attributes:
        last: the failure of the last try.
        tries: the number of tries.
    """

    def __init__(self, last: NoUsableAnswer, tries: int) -> None:
        self.last = last
        self.tries = tries


class TimedSession(Protocol):
    """The methods of a session that retries use."""

    def left_s(self) -> float:
        """Return the seconds that are left."""

    def sleep(self, seconds: float) -> None:
        """Wait for that long."""


def with_retries(
    send: Callable[[], _Result],
    session: TimedSession,
    *,
    random: Callable[[], float],
    is_worth_it: Callable[[NoUsableAnswer], bool],
) -> _Result:
    """Return what `send` returns; try it four times, with a growing pause between 0 and 0.5, 1 and 2 s.

    Args:
        send: makes one try, including the wait for the end of a rate limit.
        session: its remaining time limits the pauses.
        random: returns a number from 0 to 1, for the jitter.
        is_worth_it: tells whether to retry after a failure.

    Raises:
        GaveUp: the last try failed, or there is no time for another one.
        Throttled: the last try was throttled by edX.
    """
    for tried in range(1, TRIES + 1):
        failure: NoUsableAnswer | Throttled
        try:
            return send()
        except (NoUsableAnswer, Throttled) as error:
            failure = error
        if isinstance(failure, Throttled):
            if tried == TRIES:
                break
            continue
        wait_s = failure.wait_s or random() * BACKOFF_BASE_S * 2 ** (tried - 1)
        is_last = tried == TRIES or failure.is_final or not is_worth_it(failure)
        if is_last or wait_s > WAITED_AT_MOST_S or wait_s >= session.left_s():
            raise GaveUp(failure, tried)
        session.sleep(wait_s)
    raise failure
