"""The edX client: token, requests, pages. What an answer means is decided in edx_models.

One EdxClient serves a process: it holds what its sessions share (token, requests in flight, throttling).
A session has one deadline, which ends everything that it started.
"""

import logging
import random as random_module
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar
from weakref import WeakSet

import requests
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from shared.edx.exchange import cut, http_session
from shared.edx.models import (
    Asked,
    CatalogsPage,
    Cursor,
    EdxCatalog,
    TokenAnswer,
    Verdict,
    looks_cut_short,
    next_cursor,
    parse,
    retry_after_s,
    usable_count,
    verdict,
)
from shared.edx.walk import CourseWalk
from shared.errors import (
    EdxError,
    EdxProtocolError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    NotFound,
)
from shared.settings import EdxSettings

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
TRIES = 4
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
THROTTLED_FOR_S = 15 * 60
"""How long a 429 counts that does not say how long."""
MAX_ANSWER_MIB = 32
_CHUNK_BYTES = 64 * 1024

# Its warning about headers that break off quotes them, below a stack trace; our own error says enough.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

_Result = TypeVar("_Result")


class _Answer(NamedTuple):
    status: int  # 0 when none came, or none that is whole; `failure` says why
    body: bytes = b""  # of a 200 alone
    retry_after_s: float | None = None
    failure: str = ""


class EdxClient:
    """What all sessions of a process share.

    Args:
        settings: the API, our account, the page size and how many requests may be in flight.
        clock: monotonic seconds.
        now: the time of day, aware, UTC.
        sleep: waits that many seconds; None waits until they are up or the session ends.
        random: a number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        settings: EdxSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.now = now
        self.sleep = sleep
        self.random = random
        # All below is read and written with `changed` held; whoever changes it notifies.
        self.changed = threading.Condition()
        self.in_flight = 0
        self.not_before = 0.0  # by `clock`: nobody starts a request earlier
        self.retry_at = datetime.min.replace(tzinfo=UTC)  # the same moment by `now`
        self.token: SecretStr | None = None
        self.token_good_until = 0.0  # by `clock`
        self.token_is_being_renewed = False

    @contextmanager
    def session(
        self, *, budget_s: float, on_throttled: Callable[[datetime], object] = lambda _until: None
    ) -> Iterator["EdxSession"]:
        """Open a session; leaving it ends all that it started, threads and requests in flight included.

        Args:
            budget_s: the total deadline, in seconds from now, for everything that the session does.
            on_throttled: called, in any thread, with the end (UTC) of each throttling that edX announces.
        """
        session = EdxSession(self, budget_s, on_throttled)
        try:
            yield session
        finally:
            session.close()


class EdxSession:
    """An exchange with edX under one deadline; get it from `EdxClient.session`.

    Every method raises EdxRefused, EdxThrottled, EdxUnavailable or EdxProtocolError.

    Attributes:
        requests: how many HTTP requests were sent, token calls included.
    """

    def __init__(
        self, client: EdxClient, budget_s: float, on_throttled: Callable[[datetime], object]
    ) -> None:
        self.requests = 0
        self.page_size = client.settings.page_size
        self.concurrency = client.settings.concurrency
        self._client = client
        self._on_throttled = on_throttled
        self._budget_s = budget_s
        self._deadline = client.clock() + budget_s
        self._ended = threading.Event()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._sockets_lock = threading.Lock()
        self._http = http_session(self._watch, self.concurrency)
        self._workers = ThreadPoolExecutor(self.concurrency, "edx-pages")
        self._watchdog = threading.Timer(budget_s, self._end)
        self._watchdog.daemon = True
        self._watchdog.start()

    def catalogs(self) -> list[EdxCatalog]:
        """List the catalogs that are ours, in edX's order.

        Raises:
            EdxProtocolError: also when fewer catalogs came than edX counts: none may drop out silently.
        """
        found: dict[int, EdxCatalog] = {}
        expected = 0
        cursor: Cursor | None = Cursor("offset", 0, self.page_size)
        while cursor is not None:
            page = parse(CatalogsPage, self.get("catalogs/", cursor.query, Asked.CATALOGS), "catalogs/")
            count = usable_count(page.count)
            if count is None:
                raise EdxProtocolError("edX sent a list of catalogs without a count")
            expected = max(expected, count)
            cursor = next_cursor(page.next, cursor)
            catalogs = {entry.id: entry for entry in page.results if isinstance(entry, EdxCatalog)}
            if catalogs.keys() <= found.keys():
                break
            found |= catalogs
        if len(found) < expected:
            raise EdxProtocolError(f"edX sent {len(found)} usable catalogs of the {expected} that it counts")
        return list(found.values())

    def catalog(self, catalog_id: int) -> EdxCatalog:
        """Return one catalog; raises NotFound when edX does not show it to us."""
        path = f"catalogs/{catalog_id}/"
        return parse(EdxCatalog, self.get(path, {}, Asked.CATALOG), path)

    def courses(self, catalog_id: int) -> CourseWalk:
        """Return the courses of a catalog, to be walked page by page; nothing is asked before that."""
        return CourseWalk(self, catalog_id)

    def get(
        self, path: str, query: dict[str, str], asked: Asked, cancelled: threading.Event | None = None
    ) -> bytes:
        """Return the body of a 200 from our own base URL.

        Args:
            path: below the base URL.
            query: its parameters.
            asked: what for.
            cancelled: no further try once this is set.
        """
        url = f"{self._client.settings.api_url.rstrip('/')}/{path}"

        def send() -> _Answer:
            token = self._token()
            answer = self._exchange("GET", url, params=query, headers=_authorization(token))
            if answer.status == 401:  # noqa: PLR2004 - HTTP statuses are known by their numbers
                token = self._token(rejected=token)
                answer = self._exchange("GET", url, params=query, headers=_authorization(token))
            return answer

        return self._persist(send, path, asked, cancelled or self._ended)

    def submit(self, work: Callable[[Cursor], _Result], cursor: Cursor) -> Future[_Result]:
        """Have work done by one of the session's threads."""
        self._check()
        return self._workers.submit(work, cursor)

    def close(self) -> None:
        """End everything at once and wait for the threads."""
        self._end()
        self._watchdog.cancel()
        self._workers.shutdown(cancel_futures=True)
        self._http.close()
        self._watchdog.join()

    # Requests: tries, the exchange itself, the token

    def _persist(
        self, send: Callable[[], _Answer], what: str, asked: Asked, cancelled: threading.Event
    ) -> bytes:
        """Try until there is a 200, within the bounds of tries and time."""
        for tried in range(1, TRIES + 1):
            if cancelled.is_set():
                self._check()
                raise EdxUnavailable(f"{what} is not wanted any more")
            answer = send()
            meaning = verdict(answer.status, asked)
            if meaning is Verdict.OK:
                return answer.body
            if meaning is Verdict.THROTTLED:
                continue  # whoever starts a request next waits, or gives up
            if meaning is not Verdict.RETRY:
                raise _final_error(meaning, answer.status, what, asked)
            backoff_s = self._client.random() * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** (tried - 1))
            wait_s = answer.retry_after_s or backoff_s
            if tried == TRIES or wait_s >= self._left_s():
                problem = answer.failure or f"answered {answer.status}"
                raise EdxUnavailable(
                    f"edX is unavailable: {what} {problem} (try {tried})",
                    self._in(answer.retry_after_s) if answer.retry_after_s else None,
                )
            self._sleep(wait_s)
        raise _throttled(self._client.retry_at)

    def _exchange(self, method: str, url: str, **request: dict[str, str]) -> _Answer:
        """Send one request and take its answer, in one of the client's slots."""
        client = self._client
        self._enter()
        throttled_until = None
        try:
            answer = self._send(method, url, **request)
            if answer.status == 429:  # noqa: PLR2004
                # Before the slot is free: whoever takes it next has to see this.
                throttled_until = self._throttle(answer.retry_after_s or THROTTLED_FOR_S)
        finally:
            with client.changed:
                client.in_flight -= 1
                client.changed.notify_all()
        if throttled_until is not None:
            self._on_throttled(throttled_until)
        self._check()  # a body that the deadline cut short may look whole
        return answer

    def _enter(self) -> None:
        """Take a slot, when nobody is throttled."""
        client = self._client
        while True:
            with client.changed:
                self._check()
                wait_s = self._throttled_for_s()
                if wait_s <= 0:
                    if client.in_flight < self.concurrency:
                        client.in_flight += 1
                        self.requests += 1
                        return
                    client.changed.wait(self._left_s())
                    continue
            self._sleep(wait_s)

    def _throttled_for_s(self) -> float:
        """Return how long nobody may start a request; give up when that does not fit the budget."""
        wait_s = self._client.not_before - self._client.clock()
        if wait_s > 0 and wait_s >= self._left_s():
            raise _throttled(self._client.retry_at)
        return wait_s

    def _throttle(self, wait_s: float) -> datetime:
        client = self._client
        with client.changed:
            client.not_before = max(client.not_before, client.clock() + wait_s)
            client.retry_at = max(client.retry_at, self._in(wait_s))
            return client.retry_at

    def _send(self, method: str, url: str, **request: dict[str, str]) -> _Answer:
        left_s = max(self._left_s(), 0.001)  # a timeout of 0 would be a mistake to requests
        timeout = (min(CONNECT_TIMEOUT_S, left_s), min(READ_TIMEOUT_S, left_s))
        try:
            with self._http.request(
                method,
                url,
                params=request.get("params"),
                data=request.get("data"),
                headers=request.get("headers"),
                timeout=timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                if response.status_code != 200:  # noqa: PLR2004
                    wait_s = retry_after_s(response.headers.get("Retry-After"), self._client.now())
                    return _Answer(response.status_code, retry_after_s=wait_s)
                chunks = []
                size = 0
                for chunk in response.iter_content(_CHUNK_BYTES):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > MAX_ANSWER_MIB * 1024 * 1024:
                        raise EdxProtocolError(f"edX sent an answer of more than {MAX_ANSWER_MIB} MiB")
                body = b"".join(chunks)
                if looks_cut_short(body, response.headers.get("Content-Length")):
                    return _Answer(0, failure="sent a broken body")
                return _Answer(200, body)
        # requests' own errors hold the request with its secrets: they end here and are chained to nothing.
        except requests.Timeout:
            return _Answer(0, failure="did not answer in time")
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            return _Answer(0, failure="sent a broken body")
        except (OSError, HTTPError):
            return _Answer(0, failure="cannot be reached or dropped the connection")

    def _token(self, rejected: str | None = None) -> str:
        """Return a good token other than the rejected one; of several threads one renews it for all."""
        client = self._client
        with client.changed:
            while True:
                self._check()
                token = client.token and client.token.get_secret_value()
                if token and token != rejected and client.clock() < client.token_good_until:
                    return token
                if not client.token_is_being_renewed:
                    break
                self._throttled_for_s()  # whoever renews may wait for longer than we can
                client.changed.wait(self._left_s())
            client.token_is_being_renewed = True
            client.token = None
        try:
            asked_at = client.clock()
            answer = parse(TokenAnswer, self._persist(self._ask_token, *_TOKEN, self._ended), _TOKEN[0])
            with client.changed:
                client.token = SecretStr(answer.access_token)
                margin_s = min(30.0, answer.lifetime_s / 10)
                client.token_good_until = asked_at + answer.lifetime_s - margin_s
        finally:
            with client.changed:
                client.token_is_being_renewed = False
                client.changed.notify_all()
        return answer.access_token

    def _ask_token(self) -> _Answer:
        settings = self._client.settings
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret.get_secret_value(),
            "token_type": "jwt",
        }
        return self._exchange("POST", settings.token_url, data=form)

    # Time: the deadline, and what it cuts

    def _in(self, seconds: float) -> datetime:
        return self._client.now() + timedelta(seconds=seconds)

    def _left_s(self) -> float:
        return self._deadline - self._client.clock()

    def _check(self) -> None:
        if self._ended.is_set() or self._left_s() <= 0:
            raise EdxUnavailable(f"the time budget of {self._budget_s:g} s ran out in the exchange with edX")

    def _sleep(self, seconds: float) -> None:
        (self._client.sleep or self._ended.wait)(seconds)

    def _watch(self, sock: socket.socket) -> None:
        with self._sockets_lock:
            self._sockets.add(sock)
            if self._ended.is_set():
                cut(sock)

    def _end(self) -> None:
        """Let nothing begin any more, and cut what is under way: a trickle would outlive any timeout."""
        with self._sockets_lock:
            self._ended.set()
            for sock in self._sockets:
                cut(sock)
        with self._client.changed:
            self._client.changed.notify_all()


_TOKEN = ("the token endpoint", Asked.TOKEN)


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"JWT {token}"}


def _throttled(retry_at: datetime) -> EdxThrottled:
    return EdxThrottled(f"edX's rate limit is used up until {retry_at:%Y-%m-%dT%H:%M:%SZ}", retry_at)


def _final_error(meaning: Verdict, status: int, what: str, asked: Asked) -> EdxError | NotFound:
    if meaning is Verdict.NOT_FOUND:
        return NotFound(f"the catalog is not found: edX answered {status} for {what}")
    if meaning is Verdict.REFUSED and asked is Asked.TOKEN:
        return EdxRefused(
            f"edX refused our credentials: {what} answered {status}; "
            "check the settings EDX_CLIENT_ID and EDX_CLIENT_SECRET"
        )
    if meaning is Verdict.REFUSED:
        return EdxRefused(f"edX refused us: {what} answered {status} to a valid token")
    return EdxProtocolError(f"edX answered {status} for {what}, which its API does not promise")
