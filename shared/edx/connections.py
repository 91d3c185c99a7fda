"""The HTTP session for edX: ignores proxy settings and .netrc, follows no redirect, exposes its sockets."""

import http
import http.client
import socket
import threading
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from shared.network import USER_AGENT, cut

_OK = 200


class Sockets:
    """The sockets of one exchange: several if a kept-alive connection was already closed.

    Attributes:
        has_answered: whether the status and headers were received.
        is_cut: whether the exchange was cut before its end.
    """

    def __init__(self) -> None:
        self.has_answered = False
        self.is_cut = False
        self._sockets: list[socket.socket] = []
        self._duplicates: list[socket.socket] = []
        self._lock = threading.Lock()

    def hold_new(self, sock: socket.socket) -> None:
        """Hold a connection before its TLS handshake, which detaches the socket from its Python object."""
        duplicate = sock.dup()
        with self._lock:
            self._duplicates.append(duplicate)
        self.hold(duplicate)

    def hold(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.append(sock)
            is_cut = self.is_cut
        if is_cut:
            cut(sock)

    def cut(self) -> None:
        self.is_cut = True
        self.hang_up()

    def hang_up(self) -> None:
        with self._lock:
            for sock in self._sockets:
                cut(sock)

    def release(self) -> None:
        with self._lock:
            self._sockets.clear()
            for duplicate in self._duplicates:
                duplicate.close()


class _FinalResponse(http.client.HTTPResponse):
    """Skips interim answers such as 103 Early Hints (RFC 8297); http.client skips 100 only."""

    def begin(self) -> None:
        super().begin()
        while http.HTTPStatus.SWITCHING_PROTOCOLS < self.status < _OK:
            self.headers = self.msg = None  # type: ignore[assignment] # begin() returns at once while these are set
            super().begin()


class _NoRedirects(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect; requests would read the whole body of one, even without following it."""
        del resp


def http_session(sockets: Callable[[], Sockets], connections: int) -> requests.Session:
    """Return a session that ignores proxy settings and .netrc.

    Args:
        sockets: returns the `Sockets` of the exchange in the current thread; every socket is passed to it.
        connections: how many to keep open.
    """

    class Plain(HTTPConnection):
        response_class = _FinalResponse

        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            sockets().hold_new(sock)
            return sock

        def request(self, *args: Any, **options: Any) -> None:
            if self.sock is not None:
                sockets().hold(self.sock)
            super().request(*args, **options)

    class Tls(Plain, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    adapter = HTTPAdapter(pool_maxsize=connections)
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
    session = _NoRedirects()
    session.trust_env = False
    session.headers.update(
        {
            "Accept": "application/json",
            "Accept-Language": "en",  # level_type and others are localised
            "Accept-Encoding": "gzip",
            "User-Agent": USER_AGENT,
        }
    )
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
