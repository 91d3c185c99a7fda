"""A proxy before Table Storage that counts what passes, and loses answers or refuses on demand."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Literal, Self

Fate = Literal["pass", "lose the answer", "busy"]


@dataclass(frozen=True)
class Passed:
    """A request that passed: its method, path and body."""

    method: str
    path: str
    body: str

    @property
    def row_keys(self) -> list[str]:
        """The row keys of single entities that it names, those inside a batch included."""
        names = rf"{self.path}\n{self.body}" if "$batch" in self.path else self.path
        return re.findall(r"RowKey=(?:'|%27)(.*?)(?:'|%27)\)", names)


class TablesProxy:
    """A context manager; use `connection_string` instead of the one given."""

    def __init__(self, connection_string: str) -> None:
        target = re.search(r"TableEndpoint=http://127\.0\.0\.1:(\d+)/", connection_string)
        assert target
        self.requests: list[Passed] = []
        self.fate: Callable[[Passed], Fate] = lambda _request: "pass"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(int(target[1])))
        self._server.daemon_threads = True
        self.connection_string = connection_string.replace(f":{target[1]}/", f":{self._server.server_port}/")

    def entities(self) -> list[str]:
        """Return the row keys of all entities that single operations read or wrote so far, in order."""
        return [row_key for request in self.requests for row_key in request.row_keys]

    def queries(self) -> list[str]:
        """Return the queries so far."""
        return [request.path for request in self.requests if "filter" in request.path]

    def lose_answer_once(self, part_of_body: str) -> None:
        """Let the next request whose body holds a text take effect, and cut the connection then."""
        lost: list[Passed] = []

        def fate(request: Passed) -> Fate:
            if lost or part_of_body not in request.body:
                return "pass"
            lost.append(request)
            return "lose the answer"

        self.fate = fate

    def _handler(self, target_port: int) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Or each answer would wait 40 ms for an acknowledgement of its head.
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                passed = Passed(self.command, self.path, body.decode("utf-8", "replace"))
                proxy.requests.append(passed)
                fate = proxy.fate(passed)
                if fate == "busy":
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    self.wfile.flush()
                    return
                connection = HTTPConnection("127.0.0.1", target_port, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                finally:
                    connection.close()
                if fate == "lose the answer":
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {
                        "transfer-encoding",
                        "content-length",
                        "connection",
                        "keep-alive",
                    }:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        return Handler

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
