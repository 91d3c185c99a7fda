"""A proxy in front of Table Storage that records every request and applies the faults of a test."""

import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import unquote

_ENTITIES = {"published": "head", "lease": "lease", "throttled": "throttling", "catalogs": "catalogs"}
_VERBS = {"GET": "read", "PUT": "write", "DELETE": "remove", "PATCH": "mark"}  # a withdrawal is also a mark


class Passed(NamedTuple):
    """A request of the connector to Table Storage."""

    method: str
    path: str
    body: str

    @property
    def row_keys(self) -> list[str]:
        """The row keys of the entities in the request, including those in a batch."""
        return re.findall(r"RowKey='(.*?)'\)", f"{self.path}\n{self.body}" if self.is_batch else self.path)

    @property
    def is_batch(self) -> bool:
        return self.path.endswith("$batch")

    @property
    def is_query(self) -> bool:
        return "filter" in self.path

    @property
    def catalog(self) -> int | None:
        """The catalog of the request; None when it has none."""
        found = re.search(r"PartitionKey(?:=| eq |\": \")'?(\d{1,9})['\"]", f"{self.path}\n{self.body}")
        return int(found[1]) if found else None

    @property
    def kind(self) -> str:
        """The step of a sync: `read lease`, `write runs` and so on."""
        if "SyncReports" in self.path:
            if self.method == "GET":
                return "find old reports"
            return "remove reports" if self.is_batch else "write report"
        if self.is_query:
            subjects = {
                "published": "find parts",
                "changes-part": "find old changes",
                "changes-": "read changes",
            }
            return next((kind for part, kind in subjects.items() if part in self.path), "read runs")
        # In a batch the lease comes last; the other rows tell the purpose of the batch.
        operations = re.findall(r"([A-Z]+) \S+RowKey='(.*?)'", f"{self.method} {self.path}\n{self.body}")
        if not operations:
            return "create lease" if '"RowKey": "lease"' in self.body else "create table"
        method, row_key = operations[0]
        if row_key == "lease" and method == "PUT":
            return "release lease" if '"owner": ""' in self.body else "take or renew lease"
        if row_key.startswith("published-"):
            entity = row_key.split("-")[2]
        else:
            entity = "changes" if row_key.startswith("changes-") else _ENTITIES.get(row_key, "runs")
        return f"{_VERBS[method]} {entity}"


class Exchange:
    """One request in the proxy; a fault can forward it and can send an answer."""

    def __init__(self, request: Passed, forward: Callable[[], tuple[bytes, bytes]]) -> None:
        self.request = request
        self.forward = forward
        """Forwards the request to Table Storage; returns the head and the body of the answer."""
        self.sent = b""
        self.whole = False
        """Whether the answer is complete; otherwise the connection is cut."""

    def send(self, head: bytes, body: bytes) -> None:
        """Send a complete answer."""
        self.sent, self.whole = head + body, True


Fault = Callable[[Exchange], None]


# Faults


def drop(_exchange: Exchange) -> None:
    """Cut the connection before the request has taken effect."""


def lose_answer(exchange: Exchange) -> None:
    """Cut the connection after the request has taken effect."""
    exchange.forward()


def cut_head(exchange: Exchange) -> None:
    """Cut the connection in the middle of the answer's headers."""
    head, _ = exchange.forward()
    exchange.sent = head[: len(head) // 2]


def cut_body(exchange: Exchange) -> None:
    """Cut the connection in the middle of the answer's body; an empty one is lost with its head."""
    head, body = exchange.forward()
    exchange.sent = head + body[: len(body) // 2] if body else b""


def halve_body(exchange: Exchange) -> None:
    """Answer with half of the body and a matching length."""
    head, body = exchange.forward()
    half = body[: len(body) // 2]
    exchange.send(re.sub(rb"(?i)(content-length: )\d+", b"\\g<1>%d" % len(half), head), half)


def answer(status: int, code: str = "ServerBusy", *, retry_after: object = None) -> Fault:
    """Answer with a status and the text of Table Storage."""
    body = f'{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"No."}}}}}}'.encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if retry_after is not None:
        head += f"Retry-After: {retry_after}\r\n"
    return lambda exchange: exchange.send(f"{head}\r\n".encode(), body)


def refuse_in_batch(index: int, code: str = "PropertyValueTooLarge", status: int = 400) -> Fault:
    """Answer to a batch that one of its operations is refused, so that none takes effect."""
    error = f'{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"{index}:No."}}}}}}'
    body = (
        "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
        "--changesetresponse_1\r\nContent-Type: application/http\r\n"
        "Content-Transfer-Encoding: binary\r\n\r\n"
        f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\n\r\n{error}\r\n"
        "--changesetresponse_1--\r\n--batchresponse_1--\r\n"
    ).encode()
    head = (
        "HTTP/1.1 202 Accepted\r\nContent-Type: multipart/mixed; boundary=batchresponse_1\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    return lambda exchange: exchange.send(head, body)


def forged_page(exchange: Exchange) -> None:
    """Return the same continuation token for every page of a query."""
    head, body = exchange.forward()
    token = b"x-ms-continuation-NextPartitionKey: 1\r\nx-ms-continuation-NextRowKey: a\r\n\r\n"
    exchange.send(head.removesuffix(b"\r\n") + token, body)


def delay(seconds: float) -> Fault:
    """Delay the answer."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.send(*exchange.forward())

    return act


class Gate:
    """A fault that holds a request until it is opened, and then forwards or drops it."""

    def __init__(self) -> None:
        self.reached = Event()
        self._opened = Event()
        self._drop = False

    def open(self, *, drop: bool = False) -> None:
        self._drop = drop
        self._opened.set()

    def __call__(self, exchange: Exchange) -> None:
        self.reached.set()
        if self._opened.wait(120) and not self._drop:
            exchange.send(*exchange.forward())


@dataclass
class Rule:
    """A fault and the requests that it applies to: by catalog, by kind, after a number of others."""

    fault: Fault
    catalog: int | None
    kind: str | None
    after: int
    every: int
    times: int | None
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def takes(self, request: Passed) -> bool:
        if self.catalog not in {None, request.catalog} or not re.fullmatch(self.kind or ".*", request.kind):
            return False
        self.seen += 1
        if self.fired == self.times or self.seen <= self.after or (self.seen - self.after - 1) % self.every:
            return False
        self.fired += 1
        return True


class TableProxy:
    """A context manager; use its `connection_string` instead of the one given."""

    def __init__(self, connection_string: str) -> None:
        target = re.search(r"TableEndpoint=http://127\.0\.0\.1:(\d+)/", connection_string)
        assert target
        self._target_port = int(target[1])
        self.requests: list[Passed] = []
        self.rules: list[Rule] = []
        self.errors: list[BaseException | None] = []
        """Errors in faults, which the end of the block raises; a cut connection is none."""
        self._lock = Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.errors = self.errors
        self.connection_string = connection_string.replace(f":{target[1]}/", f":{self._server.server_port}/")

    def on(
        self,
        fault: Fault,
        *,
        catalog: int | None = None,
        kind: str | None = None,
        after: int = 0,
        every: int = 1,
        times: int | None = None,
    ) -> Rule:
        """Apply a fault to requests; the first matching rule is used.

        `kind` is a pattern. The first `after` matching requests pass; then the fault applies to each
        `every`-th, `times` times in all (None: for ever).
        """
        rule = Rule(fault, catalog, kind, after, every, times)
        with self._lock:
            self.rules.append(rule)
        return rule

    def entities(self) -> list[str]:
        """Return the row keys of all entities that single operations read or wrote so far, in order."""
        return [row_key for request in self.requests for row_key in request.row_keys]

    def queries(self) -> list[str]:
        """Return the paths of the queries so far."""
        return [request.path for request in self.requests if request.is_query]

    def kinds(self, catalog: int) -> list[str]:
        """Return the requests for a catalog so far, in order."""
        return [request.kind for request in self.requests if request.catalog == catalog]

    def _fault_for(self, request: Passed) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            return next((rule.fault for rule in self.rules if rule.takes(request)), None)

    def _forward(self, request: Passed, headers: dict[str, str]) -> tuple[bytes, bytes]:
        connection = HTTPConnection("127.0.0.1", self._target_port, timeout=60)
        try:
            connection.request(request.method, request.path, request.body.encode(), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        left_out = {"transfer-encoding", "content-length", "connection", "keep-alive"}
        lines = [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in left_out]
        head = [f"HTTP/1.1 {answer.status} {answer.reason}", *lines, f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(head).encode("latin-1"), body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Otherwise each answer would wait 40 ms for an acknowledgement.
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                request = Passed(self.command, self.path, sent)
                shown = request._replace(path=unquote(self.path))
                headers = dict(self.headers)
                exchange = Exchange(shown, lambda: proxy._forward(request, headers))
                fault = proxy._fault_for(shown)
                # When storage cannot be reached, the connection is cut.
                with suppress(OSError, HTTPException):
                    if fault:
                        fault(exchange)
                    else:
                        exchange.send(*exchange.forward())
                with suppress(OSError):
                    self.wfile.write(exchange.sent)
                self.close_connection = self.close_connection or not exchange.whole

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
        assert error or not self.errors, self.errors


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    errors: list[BaseException | None]

    def handle_error(self, *_: object) -> None:
        """Collect the error, unless the connection was cut: the caller may have been killed."""
        error = sys.exception()
        if not isinstance(error, (OSError, HTTPException)):
            self.errors.append(error)
