"""The HTTP session towards edX: trusts no environment, follows no redirect, can be cut off at any moment."""

import socket
from collections.abc import Callable
from contextlib import suppress

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class _NoRedirects(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Look at no redirect: requests would read its whole body first, even when it does not follow."""
        del resp


def http_session(watch: Callable[[socket.socket], None], concurrency: int) -> requests.Session:
    """Make a session that trusts nothing in the environment and shows every socket that it opens."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            watch(self.sock)

    class Tls(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            watch(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    adapter = HTTPAdapter(pool_maxsize=concurrency)
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
    session = _NoRedirects()
    session.trust_env = False
    session.headers.update(
        {
            "Accept": "application/json",
            "Accept-Language": "en",  # level_type and others are localised
            "Accept-Encoding": "gzip",
            "User-Agent": "luminus-edx-connector",
        }
    )
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def cut(sock: socket.socket) -> None:
    with suppress(OSError):
        # The method of the plain socket, for TLS too: it wakes the reader and leaves the TLS object alone.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
