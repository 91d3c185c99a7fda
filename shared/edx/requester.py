"""Sends the requests of one session within its deadline: gets a token and a slot, sends, retries."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, SecretStr

from shared.deadline import Deadline
from shared.edx.answers import (
    TOKEN,
    Answer,
    NoUsableAnswer,
    Question,
    Throttled,
    TokenRejected,
    interpret,
    refused,
    throttling_of,
)
from shared.edx.exchange import Exchanges
from shared.edx.gate import THROTTLE_WAITED_AT_MOST_S, Gate
from shared.edx.models import TokenAnswer
from shared.edx.retry import GaveUp, with_retries
from shared.edx.token import TokenKeeper
from shared.errors import EdxUnavailable
from shared.network import host_of
from shared.settings import EdxSettings

_Model = TypeVar("_Model", bound=BaseModel)


class Requester:
    """Sends requests to edX, one at a time in each thread; see `EdxClient` for the arguments.

    Attributes:
        requests: the number of HTTP requests sent, including requests for tokens.
    """

    def __init__(
        self,
        settings: EdxSettings,
        gate: Gate,
        token: TokenKeeper,
        deadline: Deadline,
        on_throttled: Callable[[datetime], object],
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], object] | None,
        random: Callable[[], float],
    ) -> None:
        self.requests = 0
        self._settings = settings
        self._gate = gate
        self._token = token
        self._deadline = deadline
        self._on_throttled = on_throttled
        self._now = now
        self._ended = threading.Event()
        self._sleep = sleep or self._ended.wait
        self._random = random
        self._is_throttled = False
        self._counting = threading.Lock()
        self._exchanges = Exchanges(settings.concurrency)

    def ask(
        self,
        question: Question[_Model],
        query: Mapping[str, str],
        is_worth_it: Callable[[NoUsableAnswer], bool] = lambda _failure: True,
    ) -> _Model:
        """Send a request below EDX_API_URL and return the record in the answer.

        Args:
            question: the request.
            query: the parameters of the URL.
            is_worth_it: tells whether to retry after a failure.
        """
        url = f"{self._settings.api_url.rstrip('/')}/{question.what}"

        def send_with(token: SecretStr) -> _Model:
            headers = {"Authorization": f"JWT {token.get_secret_value()}"}
            answer = self._exchange("GET", url, params=query, headers=headers)
            return interpret(question, answer, self._now())

        def send() -> _Model:
            token = self._token.get(self, self._new_token)
            with suppress(TokenRejected):
                return send_with(token)
            with suppress(TokenRejected):
                return send_with(self._token.get(self, self._new_token, rejected=token))
            raise refused(question)

        return self._with_retries(send, question, url, is_worth_it)

    def end(self) -> None:
        """Cancel everything, from any thread; threads that wait for an answer get EdxUnavailable."""
        self._ended.set()
        self._exchanges.end()
        self._gate.wake()
        self._token.wake()

    def close(self) -> None:
        """Close the connections; no further request is possible."""
        self._exchanges.close()

    def check(self) -> None:
        """Raise an error when the session has ended or its time is up."""
        if self._is_throttled:
            raise self._gate.throttled()
        if self._ended.is_set():
            raise EdxUnavailable("the requests to edX were cancelled")
        if self._deadline.has_passed:
            raise EdxUnavailable("edX did not answer everything within the time limit")

    def left_s(self) -> float:
        """Return the seconds until the session's time is up."""
        return self._deadline.left_s()

    def sleep(self, seconds: float) -> None:
        """Wait for that long, or until the session ends."""
        self._sleep(seconds)

    def _new_token(self) -> TokenAnswer:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.get_secret_value(),
            "token_type": "jwt",
        }

        def send() -> TokenAnswer:
            answer = self._exchange("POST", self._settings.token_url, form=form)
            return interpret(TOKEN, answer, self._now())

        return self._with_retries(send, TOKEN, self._settings.token_url)

    def _with_retries(
        self,
        send: Callable[[], _Model],
        question: Question[_Model],
        url: str,
        is_worth_it: Callable[[NoUsableAnswer], bool] = lambda _failure: True,
    ) -> _Model:
        """Send with retries; turn the last failure into an EdxUnavailable that names request and host."""
        try:
            return with_retries(send, self, random=self._random, is_worth_it=is_worth_it)
        except GaveUp as error:
            last, tries = error.last, error.tries
        except Throttled:
            last = None
        if last is None:
            raise self._gate.throttled()
        raise EdxUnavailable(
            f"edX is unavailable: {question.what} {last.problem} (host {host_of(url)}, try {tries})",
            self._now() + timedelta(seconds=last.wait_s) if last.wait_s else None,
            None if question is TOKEN else last.status,  # of the page, which may be the cause of a 5xx
        )

    def _exchange(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request in a slot of the gate and return the answer."""
        throttled: Throttled | None = None
        failure = None
        with self._gate.slot(self):
            with self._counting:
                self.requests += 1
            try:
                answer = self._exchanges.send(
                    method, url, self._deadline, params=params, form=form, headers=headers
                )
            except NoUsableAnswer as error:
                failure = error
            else:
                throttled = throttling_of(answer, self._now())
                if throttled:  # before the slot is freed, so that the next request sees it
                    until = self._gate.throttle(throttled.wait_s)
        if throttled:
            self._on_throttled(until)
            if throttled.wait_s > THROTTLE_WAITED_AT_MOST_S:
                self._is_throttled = True
                self.end()
        self.check()  # if the session has ended, raise that instead of the failure it caused
        if failure:
            raise failure
        return answer
