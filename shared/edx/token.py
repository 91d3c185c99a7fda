"""The access token of our edX account, shared by the sessions of a process and renewed by one thread."""

import threading
from collections.abc import Callable

from pydantic import SecretStr

from shared.edx.gate import GatedSession
from shared.edx.models import TokenAnswer

RENEWED_BEFORE_S = 30.0
"""A token is renewed this long before it expires, or after 90 % of its lifetime if that is later."""


class TokenKeeper:
    """Keeps the token.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Everything below is read and written with `_changed` held; each change notifies.
        self._changed = threading.Condition()
        self._token: SecretStr | None = None
        self._good_until = 0.0  # by `clock`
        self._is_being_renewed = False

    def get(
        self, session: GatedSession, renew: Callable[[], TokenAnswer], rejected: SecretStr | None = None
    ) -> SecretStr:
        """Return a valid token.

        Args:
            session: the session that needs it; when it ends, its threads stop waiting.
            renew: requests a new token; called by one thread at a time.
            rejected: the token that edX has just refused.
        """
        with self._changed:
            while True:
                session.check()
                if self._token and self._token != rejected and self._clock() < self._good_until:
                    return self._token
                if not self._is_being_renewed:
                    break
                self._changed.wait(session.left_s())
            self._is_being_renewed = True
            self._token = None
        token = None
        try:
            asked_at = self._clock()
            answer = renew()
            token = SecretStr(answer.access_token)
            lifetime_s = answer.lifetime_s
        finally:
            with self._changed:
                if token:
                    self._token = token
                    self._good_until = asked_at + lifetime_s - min(RENEWED_BEFORE_S, lifetime_s / 10)
                self._is_being_renewed = False
                self._changed.notify_all()
        return token

    def wake(self) -> None:
        """Wake all waiting threads, because a session has ended."""
        with self._changed:
            self._changed.notify_all()
