"""HTTP for the replacement host: turns requests into what the Functions host passes to the worker."""

import contextlib
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# The limits of the real host's web server, Kestrel (KestrelServerLimits.cs).
_MAX_REQUEST_LINE_BYTES = 8 * 1024
_MAX_HEADERS_CHARACTERS = 32 * 1024
_MAX_BODY_BYTES = 30_000_000
_IDLE_TIMEOUT_S = 130
_MAX_CHUNK_LINE_BYTES = 8 * 1024
_MAX_TRAILERS = 100

_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


@dataclass(frozen=True)
class Request:
    """A request as the worker sees it: header names in lower case, several values joined with commas."""

    method: str
    url: str
    path: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """An answer; its headers have no Content-Length."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Server(ThreadingTCPServer):
    """Answers each request with what `answer` returns for it, called on the connection's own thread."""

    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, port: int, answer: Callable[[Request], Response]) -> None:
        super().__init__(("127.0.0.1", port), partial(_Handler, answer))
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Accept no more requests; `server_close` waits until the running ones are answered."""
        self.shutdown()
        self.socket.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the client has already closed it
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # ignore a client that closed the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "FunctionsHostStandIn"
    sys_version = ""
    error_message_format = ""
    timeout = _IDLE_TIMEOUT_S
    disable_nagle_algorithm = True

    def __init__(self, answer: Callable[[Request], Response], *arguments: Any) -> None:
        self._answer = answer
        super().__init__(*arguments)

    def __getattr__(self, name: str) -> Any:
        # The base class looks for do_GET, do_POST …; which methods exist is the functions' business.
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        if len(self.headers.as_string()) > _MAX_HEADERS_CHARACTERS:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        try:
            headers = self._worker_headers()
            body = self._body(headers)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
        except _TooLarge:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._send(self._answer(self._request(headers, body)))

    def parse_request(self) -> bool:
        if len(self.raw_requestline) <= _MAX_REQUEST_LINE_BYTES:
            return super().parse_request()
        self.requestline = self.command = ""
        self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        return False

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if (encoding := headers.get("transfer-encoding")) is not None:
            if encoding.lower() != "chunked":
                raise ValueError("a transfer encoding that is not known")
            return _read_chunks(self.rfile)
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]+", length):
            raise ValueError("not a length")
        if int(length) > _MAX_BODY_BYTES:
            raise _TooLarge
        return self.rfile.read(int(length))

    def _request(self, headers: Mapping[str, str], body: bytes) -> Request:
        target = urlsplit(self.path)
        host = headers.get("host", f"127.0.0.1:{self.connection.getsockname()[1]}")
        query = f"?{target.query}" if target.query else ""
        return Request(
            method=self.command.upper(),
            url=f"http://{host}{target.path}{query}",
            path=unquote(target.path),
            headers=headers,
            params=joined(parse_qsl(target.query)),  # leaves out empty values, as the host does
            body=body,
        )

    def _worker_headers(self) -> dict[str, str]:
        """Raise ValueError for headers that the real host's web server refuses."""
        if self.headers.defects:
            raise ValueError("not a header")
        # They are UTF-8 to that server, and were read as Latin-1 here.
        values = [(name.lower(), value.encode("latin-1").decode()) for name, value in self.headers.items()]
        if any("\r" in value or "\n" in value for _, value in values):
            raise ValueError("a header folded over lines")
        return joined(values)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status in _BODILESS:
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.request_version = (
            self.protocol_version
        )  # without it, a malformed request line gets a body without headers
        super().send_error(code, message, explain)
        # Closing with unread bytes resets the connection, and the client would never see the answer.
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1)
        unread_bytes = _MAX_BODY_BYTES
        try:
            while unread_bytes > 0 and (received := self.connection.recv(65536)):
                unread_bytes -= len(received)
        except TimeoutError:
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the host logs each function call, without what callers sent."""


class _TooLarge(Exception):
    """The body is larger than the host takes."""


def _read_chunks(stream: BufferedIOBase) -> bytes:
    """Read a chunked body (RFC 9112, section 7.1) to its end; raises ValueError when it is malformed."""
    body = bytearray()
    while size := _chunk_size(stream.readline(_MAX_CHUNK_LINE_BYTES)):
        if len(body) + size > _MAX_BODY_BYTES:
            raise _TooLarge
        body += stream.read(size)
        if stream.readline(_MAX_CHUNK_LINE_BYTES) != b"\r\n":
            raise ValueError("a chunk does not end where it said")
    for _ in range(_MAX_TRAILERS):  # which the worker does not get
        if not stream.readline(_MAX_CHUNK_LINE_BYTES).strip():
            return bytes(body)
    raise ValueError("too many trailers")


def _chunk_size(line: bytes) -> int:
    if not (match := re.fullmatch(rb"([0-9a-fA-F]{1,8})[ \t]*(;.*)?\r\n", line)):
        raise ValueError("not the size of a chunk")
    return int(match[1], 16)


def joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Join the values of each name with commas; names that differ in case are one, spelled like the first."""
    spelling: dict[str, str] = {}
    values: dict[str, str] = {}
    for name, value in pairs:
        key = spelling.setdefault(name.lower(), name)
        values[key] = f"{values[key]},{value}" if key in values else value
    return values
