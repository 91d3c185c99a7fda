"""The HTTP messages of the sandbox: requests, replies and the open connection."""

import gzip
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import responses
from urllib.parse import urlencode

JSON = "application/json"

FOREIGN_API = "https://discovery.edx.org/api/v1"
"""The base URL in `next` of the real server, which differs from the base URL that is called."""

CATALOG_API = "/catalog/v1"


@dataclass
class Request:
    """One received request; `status` is None until it is answered.

    `scheme` is the first word of the Authorization header ("JWT", "Bearer"), None without one; `token` is the
    rest of it. The header is not in `headers`. Times are `time.monotonic()`.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    scheme: str | None = None
    token: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: int | None = None

    @property
    def limit(self) -> int:
        """Results per page: edX uses 20 if it is not a positive number; page_size needs a `page`."""
        return _whole_number(self.query.get("page_size" if self.query.get("page") else "limit"), 1, 20)

    @property
    def offset(self) -> int:
        """Results to skip."""
        if self.query.get("page"):
            return (_whole_number(self.query["page"], 1, 1) - 1) * self.limit
        return _whole_number(self.query.get("offset"), 0, 0)

    def at(self, offset: int) -> dict[str, str]:
        """Return the query for the same list at another offset."""
        if self.query.get("page"):
            return {**self.query, "page": str(offset // self.limit + 1)}
        return {**self.query, "limit": str(self.limit), "offset": str(offset)}

    def foreign_url(self, offset: int) -> str:
        """Return the URL of the same list at another offset, as the real server writes it."""
        return f"{FOREIGN_API}{self.path.removeprefix(CATALOG_API)}?{urlencode(self.at(offset))}"


class Body:
    """The bytes of an answer, made when they are first needed; gzip is kept, the plain bytes are not."""

    def __init__(self, raw: Callable[[], bytes], content_type: str = JSON) -> None:
        self.raw = raw
        self.content_type = content_type

    @cached_property
    def gzipped(self) -> bytes:
        return gzip.compress(self.raw(), compresslevel=1, mtime=0)


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    body: Body
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> object:
        """Return the parsed body."""
        decoded: object = json.loads(self.body.raw())
        return decoded

    def wire(self, *, gzipped: bool) -> tuple[bytes, bytes]:
        """Return head and body as they are sent."""
        body = self.body.gzipped if gzipped else self.body.raw()
        headers = {
            "Content-Type": self.body.content_type,
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": "gzip"} if gzipped else {}),
            "Content-Length": str(len(body)),
            **self.headers,
        }
        lines = [
            f"HTTP/1.1 {self.status} {responses.get(self.status, '')}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a JSON answer."""
    encoded = json.dumps(value).encode()
    return Reply(Body(lambda: encoded), status, headers or {})


def text_reply(text: str | bytes, status: int = 200, content_type: str = "text/html") -> Reply:
    """Return an answer with any text, which may be invalid JSON."""
    encoded = text.encode() if isinstance(text, str) else text
    return Reply(Body(lambda: encoded, content_type), status)


@dataclass
class Exchange:
    """One request and its connection, for faults that do more than change the answer.

    Attributes:
        answer: gives the sandbox's normal answer to any request.
        wait: sleeps for a number of seconds; returns True early when the sandbox is stopped.
        refuse: closes the listening socket and every connection for a number of seconds.
        finished: notes the end of the request. Called before its last byte is sent, so that a caller that
            sends the next request at once is not counted twice.
    """

    request: Request
    connection: socket.socket
    answer: Callable[[Request], Reply]
    wait: Callable[[float], bool]
    refuse: Callable[[float], None]
    finished: Callable[[], None]
    keep_alive: bool = True

    def wire(self, reply: Reply) -> tuple[bytes, bytes]:
        """Return head and body of a reply, gzipped if this caller accepts it."""
        accepted = self.request.headers.get("accept-encoding", "")
        return reply.wire(gzipped="gzip" in accepted and "Content-Encoding" not in reply.headers)

    def send(self, reply: Reply) -> None:
        """Send a complete answer."""
        head, body = self.wire(reply)
        self.request.status = reply.status
        self.finished()
        self.connection.sendall(head + body)

    def write(self, data: bytes) -> None:
        """Send bytes as they are; the connection closes after this exchange."""
        self.keep_alive = False
        self.connection.sendall(data)

    def trickle(self, data: bytes, byte_every_s: float) -> None:
        """Send bytes one by one."""
        for byte in data:
            self.write(bytes([byte]))
            if self.wait(byte_every_s):
                return

    def reset(self) -> None:
        """Cut the connection with a TCP reset, after what was written has arrived."""
        self.keep_alive = False
        self.wait(0.05)
        self.finished()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Python's close() waits for the files made from the socket; the descriptor's own does not.
        os.close(self.connection.detach())


def _whole_number(text: str | None, at_least: int, default: int) -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,18}", text or "") and text else default
    return number if number >= at_least else default
