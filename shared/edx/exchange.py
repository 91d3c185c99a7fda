"""One HTTP exchange with edX, limited in time and size, that can be cancelled at any time from any thread.

answers.py interprets the answer.
"""

import logging
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import requests
from urllib3.exceptions import HTTPError

from shared.deadline import Deadline
from shared.edx.answers import EXPLAINED_STATUSES, Answer, NoUsableAnswer
from shared.edx.connections import Sockets, http_session
from shared.edx.decoding import decoded
from shared.errors import EdxProtocolError
from shared.network import UNKNOWN_FAULT, Fault, fault_of

EXCHANGE_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
EXPLANATION_TIMEOUT_S = 2.0
EXPLANATION_MAX_BYTES = 4 * 1024
ANSWER_MAX_MIB = 32
_CHUNK_BYTES = 64 * 1024
_OK = 200
_BROKEN_BODY = Fault("sent a broken body")

# Its warning about truncated headers quotes them in the log; our own error says enough.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class Exchanges:
    """The HTTP exchanges of one session.

    Args:
        connections: how many to keep open.
        timeout_s: the time limit of each exchange: connection, headers and body together.
    """

    def __init__(self, connections: int, timeout_s: float = EXCHANGE_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._of_thread = threading.local()
        self._under_way: set[Sockets] = set()
        self._has_ended = False
        self._lock = threading.Lock()
        self._http = http_session(lambda: self._of_thread.sockets, connections)

    def send(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return the complete answer; `deadline` also limits its time.

        Raises:
            NoUsableAnswer: there was no complete answer.
            EdxProtocolError: the answer is too large.
        """
        limit_s = min(self._timeout_s, deadline.left_s())
        fault = None
        with self._sockets() as sockets, _after(limit_s, sockets.cut):
            try:
                answer = self._exchange(
                    sockets, method, url, limit_s, params=params, form=form, headers=headers
                )
            # requests' errors contain the request with its secrets: never chain them.
            except (OSError, HTTPError) as error:
                fault = fault_of(error)
                if fault == UNKNOWN_FAULT and sockets.has_answered:
                    fault = _BROKEN_BODY
            except (zlib.error, EOFError):
                fault = _BROKEN_BODY
        if sockets.is_cut:  # a truncated answer may look complete
            raise NoUsableAnswer(f"did not answer within {limit_s:g} s")
        if fault:
            raise NoUsableAnswer(fault.problem, is_final=fault.is_final)
        return answer

    def end(self) -> None:
        """Cancel all running exchanges and all that begin from now on."""
        with self._lock:
            self._has_ended = True
            under_way = list(self._under_way)
        for sockets in under_way:
            sockets.cut()

    def close(self) -> None:
        """Close the connections; call it when no exchange is running."""
        self._http.close()

    @contextmanager
    def _sockets(self) -> Iterator[Sockets]:
        sockets = Sockets()
        with self._lock:
            self._under_way.add(sockets)
            if self._has_ended:
                sockets.cut()
        self._of_thread.sockets = sockets
        try:
            yield sockets
        finally:
            with self._lock:
                self._under_way.discard(sockets)
            sockets.release()

    def _exchange(
        self,
        sockets: Sockets,
        method: str,
        url: str,
        limit_s: float,
        *,
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        seconds = max(limit_s, 0.001)  # requests refuses a timeout of 0
        with self._http.request(
            method,
            url,
            params=params,
            data=form,
            headers=headers,
            timeout=(min(CONNECT_TIMEOUT_S, seconds), min(READ_TIMEOUT_S, seconds)),
            stream=True,
        ) as response:
            sockets.has_answered = True
            body = b""
            encoding = response.headers.get("Content-Encoding", "").strip().lower()
            if response.status_code == _OK:
                chunks = response.raw.stream(_CHUNK_BYTES, decode_content=False)
                body = decoded(chunks, encoding, ANSWER_MAX_MIB * 1024 * 1024)
            elif response.status_code in EXPLAINED_STATUSES:
                body = _explanation(response, encoding, sockets)
            return Answer(response.status_code, response.headers, body)


def _explanation(response: requests.Response, encoding: str, sockets: Sockets) -> bytes:
    """Return the beginning of an error's body; b"" when it is not received at once."""
    with _after(EXPLANATION_TIMEOUT_S, sockets.hang_up):
        try:
            body = response.raw.read(EXPLANATION_MAX_BYTES, decode_content=False)
            return decoded([body], encoding, EXPLANATION_MAX_BYTES)
        except (HTTPError, zlib.error, EOFError, EdxProtocolError):
            return b""


@contextmanager
def _after(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` in another thread if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
