"""The faults of the edX sandbox: rules that select requests, and actions that change the answer.

An action is `action(exchange, reply)`: it gets the open exchange and the normal answer, and returns the
answer to send, or None if it has used the connection itself. Any such function can be used, for example
one that changes the catalogue during a pull and returns `reply` unchanged.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from http.client import responses
from time import time
from typing import Literal

from local.sandbox.edx import throttled_reply
from local.sandbox.http import JSON, Exchange, Reply, Request, json_reply, text_reply

Action = Callable[[Exchange, Reply], Reply | None]

EDX = "^/(catalog|oauth2)/"
"""The path of a rule for all requests to edX: tokens and catalogs, not the JWKS."""

MIB = 2**20


@dataclass
class Rule:
    """Apply `action` to matching requests, except the first `after`, and at most `times` times.

    Attributes:
        path: a regular expression, found anywhere in the path.
        offset: only the page that starts there; None for any.
        times: None for no limit.
        fired: how often the action was applied.
    """

    path: str
    action: Action
    offset: int | None = None
    times: int | None = None
    after: int = 0
    fired: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Raise re.error for an invalid path."""
        re.compile(self.path)

    def takes(self, request: Request) -> bool:
        """Tell whether to apply the action to this request, and count it. Called under the sandbox's lock."""
        if not re.search(self.path, request.path) or self.offset not in (None, request.offset):
            return False
        self._seen += 1
        if self._seen <= self.after or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True


def answer(
    status: int = 200,
    body: object = None,
    *,
    content_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> Action:
    """Answer with this body instead: a str is sent unchanged (HTML, broken JSON), anything else as JSON."""
    if isinstance(body, str):
        reply = replace(text_reply(body, status, content_type), headers=headers or {})
    else:
        reply = json_reply({"detail": f"Status {status}"} if body is None else body, status, headers)
    return lambda _exchange, _reply: reply


def throttle(retry_after: float | str | None = 3592, *, as_date: bool = False, status: int = 429) -> Action:
    """Refuse like edX's rate limit; `retry_after` is in seconds, or any text, or None for no header."""
    seconds = retry_after if isinstance(retry_after, (int, float)) else None

    def act(_exchange: Exchange, _reply: Reply) -> Reply:
        moment = formatdate(time() + (seconds or 0), usegmt=True) if as_date else retry_after
        return throttled_reply(seconds, None if retry_after is None else str(moment), status)

    return act


def gateway(status: int = 403, *, as_json: bool = False) -> Action:
    """Answer like a firewall in front of edX (HTML), or like an API gateway (JSON with `message`)."""
    if as_json:
        return answer(status, {"message": responses[status]})
    page = (
        f"<html><head><title>{status} {responses[status]}</title></head><body>Request blocked.</body></html>"
    )
    return answer(status, page, content_type="text/html")


def redirect(location: str, status: int = 302) -> Action:
    """Redirect to another URL."""
    return answer(status, "", content_type="text/html", headers={"Location": location})


def slow(seconds: float) -> Action:
    """Answer normally after a delay."""

    def act(exchange: Exchange, reply: Reply) -> Reply:
        exchange.wait(seconds)
        return reply

    return act


def refuse(for_s: float) -> Action:
    """Close this and every other connection, and accept no connection for some seconds."""

    def act(exchange: Exchange, _reply: Reply) -> None:
        exchange.reset()
        exchange.refuse(for_s)

    return act


def reset(where: Literal["before", "headers", "body"] = "before") -> Action:
    """Reset the connection before the first byte, half-way through the headers or through the body."""

    def act(exchange: Exchange, reply: Reply) -> None:
        head, body = exchange.wire(reply)
        sent = {"before": b"", "headers": head[: len(head) // 2], "body": head + body[: len(body) // 2]}
        exchange.write(sent[where])
        exchange.reset()

    return act


def cut() -> Action:
    """Announce the whole body in Content-Length, send half of it and close the connection normally."""

    def act(exchange: Exchange, reply: Reply) -> None:
        head, body = exchange.wire(reply)
        exchange.write(head + body[: len(body) // 2])

    return act


def short(*, gzipped: bool = False) -> Action:
    """Send the body up to a } in its middle, with a matching Content-Length; gzipped: without a trailer."""

    def act(_exchange: Exchange, reply: Reply) -> Reply:
        raw = reply.body.raw()
        start = raw[: raw.rfind(b"}", 0, len(raw) // 2) + 1]
        return _gzip_reply(start, reply) if gzipped else text_reply(start, reply.status, JSON)

    return act


def broken_gzip(*, truncated: bool = False) -> Action:
    """Send gzip that is invalid in the middle; truncated: it ends there, which urllib3 does not notice."""

    def act(_exchange: Exchange, reply: Reply) -> Reply:
        raw = reply.body.raw()
        # deflate knows no block of type 3
        return _gzip_reply(raw[: len(raw) // 2], reply, b"" if truncated else b"\xff" * 100)

    return act


def _gzip_reply(start: bytes, reply: Reply, rest: bytes = b"") -> Reply:
    """Return an answer of gzip without a trailer, followed by `rest`."""
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + rest
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    return replace(text_reply(packed, reply.status, JSON), headers=headers)


def early_hints() -> Action:
    """Send a 103 before the real answer."""

    def act(exchange: Exchange, reply: Reply) -> Reply:
        exchange.connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </static/x.css>; rel=preload\r\n\r\n")
        return reply

    return act


def trickle(where: Literal["headers", "body"] = "body", byte_every_s: float = 0.1) -> Action:
    """Send the headers, or the body, byte by byte."""

    def act(exchange: Exchange, reply: Reply) -> None:
        head, body = exchange.wire(reply)
        if where == "body":
            exchange.write(head)
        exchange.trickle(head + body if where == "headers" else body, byte_every_s)

    return act


def huge(mib: int) -> Action:
    """Send the normal JSON with this many MiB of spaces before its end; gzip makes them small."""

    def act(_exchange: Exchange, reply: Reply) -> Reply:
        raw = reply.body.raw()
        return replace(
            text_reply(raw[:-1] + b" " * (mib * MIB) + raw[-1:], reply.status, JSON), headers=reply.headers
        )

    return act


def edit(change: Callable[[dict[str, object]], object]) -> Action:
    """Alter the JSON object of the normal answer in place."""

    def act(_exchange: Exchange, reply: Reply) -> Reply:
        envelope = reply.json()
        if not isinstance(envelope, dict):
            raise TypeError("the normal answer is not a JSON object")
        change(envelope)
        return json_reply(envelope, reply.status, reply.headers)

    return act


def envelope(**fields: object) -> Action:
    """Replace fields of the envelope: `next="file:///etc/passwd"`, `count=7`, `results=[]`."""
    return edit(lambda normal: normal.update(fields))


def without(*fields: str) -> Action:
    """Leave fields out of the answer: `without("count")`, `without("access_token")`."""
    return edit(lambda normal: [normal.pop(name, None) for name in fields])


def no_results() -> Action:
    """Answer like a broken search: 200, count 0, no results."""
    return answer(200, {"count": 0, "next": None, "previous": None, "results": []})


def repeat(offset: int = 0) -> Action:
    """Return the courses of another page, with this page's own count and next."""

    def act(exchange: Exchange, reply: Reply) -> Reply | None:
        other = exchange.answer(replace(exchange.request, query=exchange.request.at(offset)))
        return envelope(results=json.loads(other.body.raw())["results"])(exchange, reply)

    return act


def stuck() -> Action:
    """Return a `next` that leads to the same page."""

    def act(exchange: Exchange, reply: Reply) -> Reply | None:
        return envelope(next=exchange.request.foreign_url(exchange.request.offset))(exchange, reply)

    return act


def keyless() -> Action:
    """Return courses without a key and, on every page, a `next`: an endless walk."""

    def act(exchange: Exchange, reply: Reply) -> Reply | None:
        offset, limit = exchange.request.offset, exchange.request.limit
        courses = [{"title": f"Course {offset + number}", "course_runs": []} for number in range(limit)]
        return envelope(results=courses, next=exchange.request.foreign_url(offset + limit))(exchange, reply)

    return act


def long_number(field: str = "min_effort", digits: int = 5000) -> Action:
    """Write a number with this many digits into the first `field` of the page."""

    def act(_exchange: Exchange, reply: Reply) -> Reply:
        # As text: Python itself writes no whole number of more than 4,300 digits.
        pattern = rb'("%s": )[^,}\]]*' % re.escape(field.encode())
        changed = re.sub(pattern, rb"\g<1>" + b"9" * digits, reply.body.raw(), count=1)
        return replace(text_reply(changed, reply.status, JSON), headers=reply.headers)

    return act


def change(**changes: object) -> Action:
    """Answer normally, then change the requested catalog, like POST /sandbox/catalogs/ID."""

    def act(exchange: Exchange, reply: Reply) -> Reply:
        catalog_id = re.sub(r".*/catalogs/([0-9]+)/.*", r"\1", exchange.request.path)
        headers, body = {"content-type": JSON}, json.dumps(changes).encode()
        request = Request("POST", f"/sandbox/catalogs/{catalog_id}", {}, headers, body=body)
        if (outcome := exchange.answer(request)).status != HTTPStatus.OK:
            raise ValueError(f"the sandbox could not change its catalog: {outcome.json()}")
        return reply

    return act
