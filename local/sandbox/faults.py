"""The faults of the edX sandbox: rules that say when, and a small library of actions that say what.

An action is `action(exchange, reply)`: it gets the open exchange and the normal answer, and returns the
answer to send, or None when it has dealt with the connection itself. Any function of that shape will do:
one that changes the catalogue in mid-pull and returns `reply` as it is, for example.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from time import time
from typing import Literal

from local.sandbox.http import JSON, Exchange, Reply, Request, json_reply, text_reply

Action = Callable[[Exchange, Reply], Reply | None]

EDX = "^/(catalog|oauth2)/"
"""The path of a rule for everything that is edX's: tokens and catalogs, not the JWKS."""

MIB = 2**20


@dataclass
class Rule:
    """Do `action` to the requests that match, but for the first `after` and no more than `times`.

    Attributes:
        path: a regular expression, found anywhere in the path.
        offset: only the page that starts there; None for any.
        times: None for ever.
        fired: how often the action was taken.
    """

    path: str
    action: Action
    offset: int | None = None
    times: int | None = None
    after: int = 0
    fired: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def takes(self, request: Request) -> bool:
        """Tell whether this request is one to act upon, and count it. Called under the sandbox's lock."""
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
    """Answer this instead: a str goes out as it is (HTML, broken JSON), anything else as JSON."""
    if isinstance(body, str):
        reply = replace(text_reply(body, status, content_type), headers=headers or {})
    else:
        reply = json_reply({"detail": f"Status {status}"} if body is None else body, status, headers)
    return lambda _exchange, _reply: reply


def throttle(retry_after: float | str | None = 3592, *, as_date: bool = False, status: int = 429) -> Action:
    """Refuse as edX's rate limit does; `retry_after` in seconds, as any text, or None for no header."""

    def act(_exchange: Exchange, _reply: Reply) -> Reply:
        detail = "Request was throttled."
        if isinstance(retry_after, (int, float)):
            detail += f" Expected available in {round(retry_after)} seconds."
        header = formatdate(time() + float(retry_after or 0), usegmt=True) if as_date else retry_after
        headers = {} if retry_after is None else {"Retry-After": str(header)}
        return json_reply({"detail": detail}, status, headers)

    return act


def redirect(location: str, status: int = 302) -> Action:
    """Send the caller elsewhere."""
    return answer(status, "", content_type="text/html", headers={"Location": location})


def slow(seconds: float) -> Action:
    """Answer normally, but later."""

    def act(exchange: Exchange, reply: Reply) -> Reply:
        exchange.wait(seconds)
        return reply

    return act


def refuse(for_s: float) -> Action:
    """Cut this and every other connection and accept none for a while."""

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
    """Promise the whole body in Content-Length, send half of it and close in order."""

    def act(exchange: Exchange, reply: Reply) -> None:
        head, body = exchange.wire(reply)
        exchange.write(head + body[: len(body) // 2])

    return act


def broken_gzip(*, truncated: bool = False) -> Action:
    """Send gzip that is wrong half-way; truncated: that ends there, which urllib3 does not notice."""

    def act(_exchange: Exchange, reply: Reply) -> Reply:
        raw = reply.body.raw()
        packer = zlib.compressobj(1, wbits=31)
        half = packer.compress(raw[: len(raw) // 2]) + packer.flush(zlib.Z_FULL_FLUSH)
        invalid = b"" if truncated else b"\xff" * 100  # deflate knows no block of type 3
        broken = text_reply(half + invalid, reply.status, JSON)
        return replace(broken, headers={**reply.headers, "Content-Encoding": "gzip"})

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
    """Send the normal JSON with so many MiB of spaces before its end (little on the wire when gzipped)."""

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
            raise TypeError("the normal answer is no JSON object")
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
    """Answer as a broken search does: 200, count 0, nothing."""
    return answer(200, {"count": 0, "next": None, "previous": None, "results": []})


def repeat(offset: int = 0) -> Action:
    """Show the courses of another page, with this page's own count and next."""

    def act(exchange: Exchange, reply: Reply) -> Reply | None:
        other = exchange.answer(replace(exchange.request, query=exchange.request.at(offset)))
        return envelope(results=json.loads(other.body.raw())["results"])(exchange, reply)

    return act


def stuck() -> Action:
    """Give a `next` that leads to the very same page."""

    def act(exchange: Exchange, reply: Reply) -> Reply | None:
        return envelope(next=exchange.request.foreign_url(exchange.request.offset))(exchange, reply)

    return act


ACTIONS: Mapping[str, Callable[..., Action]] = {
    factory.__name__: factory
    for factory in (
        answer,
        throttle,
        redirect,
        slow,
        refuse,
        reset,
        cut,
        broken_gzip,
        trickle,
        huge,
        envelope,
        without,
        no_results,
        repeat,
        stuck,
    )
}
"""What other processes can ask for by name."""
