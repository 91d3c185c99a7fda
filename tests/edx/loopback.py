"""A loopback server whose answers the test writes, for tests that need real sockets."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from shared.settings import EdxSettings
from tests.edx.pretend import at, make_settings, page

Answer = Callable[[BaseHTTPRequestHandler], None]


class Edx(ThreadingHTTPServer):
    """A server whose answers the test writes; it counts connections and those that have ended."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer, token: Answer) -> None:
        self.connections = 0
        self.closed = 0
        self.asked: list[str] = []
        self.gone = threading.Event()  # so that a handler that sends slowly ends with the test
        edx = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                edx.asked.append(self.path)
                with suppress(OSError):
                    answer(self)

            def do_POST(self) -> None:
                edx.asked.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                with suppress(OSError):
                    token(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]
        self.connections += 1
        return super().get_request()

    def shutdown_request(self, request: object) -> None:
        super().shutdown_request(request)  # type: ignore[arg-type]
        self.closed += 1

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # tests need clients that close the connection

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def settings(self) -> EdxSettings:
        return make_settings(EDX_API_URL=f"{self.url}/v1/", EDX_TOKEN_URL=f"{self.url}/token")


def send(handler: BaseHTTPRequestHandler, body: object, status: int = 200, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def send_token(handler: BaseHTTPRequestHandler) -> None:
    send(handler, {"access_token": "t1", "expires_in": 180})


def trickle(handler: BaseHTTPRequestHandler, begin: bytes, drop: bytes) -> None:
    assert isinstance(handler.server, Edx)
    handler.wfile.write(begin)
    while not handler.server.gone.wait(0.05):
        handler.wfile.write(drop)


def trickled_headers(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nX-Long: ", b"x")


def trickled_body(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" ")


def trickled_chunks(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")


def trickled_until_closed(handler: BaseHTTPRequestHandler) -> None:
    # Such a body looks complete when it is truncated: {"id": 7} and spaces.
    trickle(handler, b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"id": 7}', b" ")


def silence(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"", b"")


@contextmanager
def serving(answer: Answer, token: Answer = send_token) -> Iterator[Edx]:
    server = Edx(answer, token)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield server
    finally:
        server.gone.set()
        server.shutdown()
        thread.join()
        server.server_close()


def threads_of_ours() -> set[threading.Thread]:
    """Return the threads that must end with a session."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("edx-pages") or isinstance(thread, threading.Timer)
    }


def courses_page(handler: BaseHTTPRequestHandler) -> None:
    """Answer with courses c0 to c39: pages begin at 0, 2, 4 … and have three courses."""
    offset = int(parse_qs(urlsplit(handler.path).query)["offset"][0])
    following = at(offset + 3) if offset < 38 else None
    send(handler, page([f"c{n}" for n in range(offset, min(offset + 3, 40))], 40, following))
