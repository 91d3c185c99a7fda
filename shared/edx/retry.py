"""How often and when a request to edX is tried again."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from shared.edx.answers import NoUsableAnswer, Throttled

TRIES = 4
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
WAITED_AT_MOST_S = 60
"""A server that asks for a longer pause is not waited for: the error says when to come back."""

_Result = TypeVar("_Result")


class GaveUp(Exception):
    """No further try makes sense within the time that is left.

    Attributes:
        last: why the last try failed.
        tries: how many there were.
    """

    def __init__(self, last: NoUsableAnswer, tries: int) -> None:
        super().__init__(last.problem)
        self.last = last
        self.tries = tries


class Time(Protocol):
    """What retries need of a session."""

    def left_s(self) -> float:
        """Return the seconds that are left."""

    def sleep(self, seconds: float) -> None:
        """Wait for that long."""


def persist(
    send: Callable[[], _Result],
    time: Time,
    *,
    random: Callable[[], float],
    is_worth_it: Callable[[NoUsableAnswer], bool] = lambda _failure: True,
) -> _Result:
    """Return what `send` returns; try it four times, with a growing pause between 0 and 0.5, 1 and 2 s.

    Args:
        send: one try. It waits by itself for a rate limit to end.
        time: the session's time; its end is not waited for.
        random: a number from 0 to 1, for the jitter.
        is_worth_it: whether a failed try makes sense again.

    Raises:
        GaveUp: the last try failed, or the next one would not fit the time.
        Throttled: the last try met edX's rate limit.
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
        wait_s = failure.wait_s or random() * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** (tried - 1))
        is_last = tried == TRIES or failure.is_final or not is_worth_it(failure)
        if is_last or wait_s > WAITED_AT_MOST_S or wait_s >= time.left_s():
            raise GaveUp(failure, tried)
        time.sleep(wait_s)
    raise failure
