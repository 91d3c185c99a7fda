"""The identity provider's signing keys: fetches the JWKS in one thread at a time and caches its keys.

A request with a known key does not wait. Others wait for the fetch as coroutines, so that tokens with
invented key ids use up no threads. The reason for a failed fetch is logged with the host of the JWKS only.
"""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from shared.errors import AccessUnavailable
from shared.network import USER_AGENT, cut, fault_of, host_of

LIFETIME_S = 300.0
"""Age at which the key set is fetched again, so that a revoked key stops working."""

COOLDOWN_S = 30.0
"""Shortest time between two fetches, failed or not, so that forged `kid`s cannot overload the JWKS."""

TIMEOUT_S = 5.0
"""Timeout for connecting, and for each read."""

DEADLINE_S = 10.0
"""Timeout for the whole exchange after connecting, and for a request that waits for it."""

RENEWAL_WAIT_S = 1.0
"""How long a request that starts a fetch waits for it although its key is known: long enough to notice that
the key was revoked, short enough when the JWKS hangs."""

JWKS_MAX_BYTES = 2**20
MIN_RSA_BITS = 2048
_HTTP_OK = 200

Keys = dict[str, RSAPublicKey]
Say = Callable[[int, str], None]
"""Called with a `logging` level and a line, in the fetching thread, which belongs to no invocation."""


class SigningKeys:
    """The RSA keys of a JWKS by `kid`, fetched when a request needs them. Thread-safe."""

    def __init__(
        self,
        jwks_url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        say: Say = lambda _level, _line: None,
        fetch: Callable[[str], Keys] | None = None,
        wait_s: float = DEADLINE_S,
    ) -> None:
        self._wait_s = wait_s
        self._url = jwks_url
        self._clock = clock
        self._say = say
        self._fetch = fetch or fetch_keys
        self._lock = threading.Lock()
        self._fetching: Future[None] | None = None
        self._keys: Keys = {}  # replaced, never changed in place
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    async def get(self, kid: str) -> RSAPublicKey | None:
        """Return the key with this id; None when the identity provider has no such key.

        A known key stays usable while the JWKS cannot be fetched.

        Raises:
            AccessUnavailable: the key is not known and the last fetch failed or has not ended.
        """
        known = self._keys.get(kid)
        if known and self._clock() - self._fetched_at < LIFETIME_S:
            return known
        fetching, is_ours = self._begin()
        if fetching and known is None:
            await _wait(fetching, self._wait_s)
        elif fetching and is_ours:
            await _wait(fetching, RENEWAL_WAIT_S)
        key = self._keys.get(kid)
        if key is None and (self._fetched_at < self._tried_at or (fetching and not fetching.done())):
            raise AccessUnavailable("The keys for checking tokens cannot be fetched; try again later")
        return key

    def _begin(self) -> tuple[Future[None] | None, bool]:
        """Return the running fetch and whether it was started now; None soon after the last fetch."""
        with self._lock:
            if self._fetching is not None:
                return self._fetching, False
            if self._clock() - self._tried_at < COOLDOWN_S:
                return None, False
            fetching: Future[None] = Future()
            fetching.set_running_or_notify_cancel()  # a caller that leaves cannot cancel it for the others
            threading.Thread(target=self._renew, args=(fetching,), name="jwks", daemon=True).start()
            self._fetching = fetching  # only now: the thread may fail to start, and waits for our lock
            return fetching, True

    def _renew(self, fetching: Future[None]) -> None:
        keys: Keys = {}
        try:
            keys = self._fetch(self._url)
        except AccessUnavailable as error:
            self._say(
                logging.WARNING,
                json.dumps({"event": "jwks", "error": error.message}, ensure_ascii=False),
            )
        finally:
            with self._lock:
                self._tried_at = self._clock()
                if keys:
                    self._keys, self._fetched_at = keys, self._tried_at
                self._fetching = None
            fetching.set_result(None)


async def _wait(fetching: Future[None], seconds: float) -> None:
    await asyncio.wait({asyncio.wrap_future(fetching)}, timeout=seconds)


def fetch_keys(url: str, deadline_s: float = DEADLINE_S) -> Keys:
    """Fetch a JWKS and return its keys that may sign RS256 tokens, by `kid`.

    Raises:
        AccessUnavailable: no such key could be fetched; the message names the host and the problem.
    """
    fault = ""
    try:
        keys = signing_keys(_get(url, deadline_s))
    except (
        OSError,
        HTTPException,
        ValueError,
        RecursionError,
    ) as error:  # RecursionError: deeply nested JSON
        fault = _fault(error)
    else:
        if keys:
            return keys
        fault = "has no key that may sign RS256 tokens"
    # Outside the except block: the libraries' errors may quote the answer.
    raise AccessUnavailable(f"The JWKS at {host_of(url)} {fault}")


class _NoJwks(ValueError):
    """The answer is not a JWKS; the message says why and does not quote it."""


def _fault(error: Exception) -> str:
    """Describe why a JWKS cannot be fetched, as the end of a sentence."""
    if isinstance(error, _NoJwks):
        return str(error)
    if isinstance(error, OSError):
        return fault_of(error).problem
    return "sent an answer that is not a JWKS"


def _get(url: str, deadline_s: float) -> bytes:
    """GET a small document, within `deadline_s` and 1 MiB.

    `http.client` follows no redirect, reads no proxy settings and no .netrc, and gives access to its socket.
    PyJWKClient and requests do not limit slow headers or a large body.

    Raises:
        OSError, HTTPException, ValueError: the document cannot be fetched.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
    is_over = threading.Event()
    with closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)) as connection:
        connection.connect()
        deadline = threading.Timer(deadline_s, _cut, [connection.sock, is_over])
        deadline.start()
        try:
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                body = response.read(JWKS_MAX_BYTES + 1)
        except (OSError, HTTPException):
            if not is_over.is_set():
                raise
        finally:
            deadline.cancel()
    if is_over.is_set():
        raise TimeoutError
    if response.status != _HTTP_OK:
        raise _NoJwks(f"answered with status {response.status}")
    if len(body) > JWKS_MAX_BYTES:
        raise _NoJwks("is larger than 1 MiB")
    return body


def _cut(connected: socket.socket, is_over: threading.Event) -> None:
    is_over.set()
    cut(connected)


def signing_keys(jwks: bytes) -> Keys:
    """Return the keys of a JWKS that may sign RS256 tokens, by `kid` (the first of a repeated one).

    Raises:
        ValueError: it is not a JWKS.
    """
    document = json.loads(jwks)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _NoJwks("sent an answer that is not a JWKS")
    keys: Keys = {}
    for entry in entries:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if isinstance(kid, str) and kid and kid not in keys and (key := _rs256_key(entry)):
            keys[kid] = key
    return keys


def _rs256_key(entry: dict[str, Any]) -> RSAPublicKey | None:
    if entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    try:
        key = RSAAlgorithm.from_jwk(entry)
    except Exception:  # noqa: BLE001 (any invalid entry is skipped; the other keys are used)
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS else None
