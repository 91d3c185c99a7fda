"""The sandbox's server: reads each request and passes it to a function that answers it."""

import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from local.sandbox.http import Request

HOST = "127.0.0.1"


class LoopbackServer:
    """A server on a loopback port that can be closed and opened again.

    Args:
        port: 0 takes a free one, once.
        serve: answers a request on its connection, and returns whether the connection can be kept. It is
            called on the connection's own thread.
    """

    def __init__(self, port: int, serve: Callable[[socket, Request], bool]) -> None:
        self.port = port
        self._serve = serve
        self._closed_for_good = False
        self._changing = Lock()
        self._listener: _Listener | None = None

    def open(self) -> None:
        """Accept connections; do nothing when the server is open, or closed permanently."""
        with self._changing:
            if self._listener is None and not self._closed_for_good:
                self._listener = _Listener(self.port, self._serve)
                self.port = self._listener.server_port
                Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def close(self, *, for_good: bool = False) -> None:
        """Cut every connection and accept no more, until `open` is called or permanently."""
        with self._changing:
            self._closed_for_good |= for_good
            listener, self._listener = self._listener, None
        if listener:
            listener.close()


class _Listener(ThreadingHTTPServer):
    """The listening socket and its connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, serve: Callable[[socket, Request], bool]) -> None:
        self.serve = serve
        self._connections: set[socket] = set()
        super().__init__((HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Accept nothing more, then cut every connection."""
        self.shutdown()
        self.server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # ignore a caller that closed the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        scheme, _, token = headers.pop("authorization", "").partition(" ")
        body = self.rfile.read(int(headers.get("content-length", 0)))
        query = dict(parse_qsl(url.query))
        request = Request(self.command, url.path, query, headers, scheme or None, token, body)
        self.close_connection |= not self.server.serve(self.connection, request)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing: the sandbox keeps its own log."""
