"""The edX sandbox: a loopback server that behaves as edX's Course Catalog API does, and can misbehave.

    with Sandbox() as sandbox:
        sandbox.on("/courses/", throttle(3592), after=3)

In another process: `python -m local.sandbox`, with its knobs at POST /sandbox/knobs.
"""

import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from local.sandbox.catalogs import USER, Catalog, links
from local.sandbox.content import sample_catalogs
from local.sandbox.faults import ACTIONS, EDX, Action, Rule
from local.sandbox.http import CATALOG_API, Exchange, Reply, Request, json_reply, text_reply
from local.sandbox.tokens import AUDIENCE, SigningKey, admin_claims, default_key, mint

HOST = "127.0.0.1"
TOKEN_PATH = "/oauth2/v1/access_token"  # noqa: S105  a path, no secret


class Sandbox:
    """An edX of one's own, with the identity provider of LumiNUS's administrators beside it.

    Its knobs are plain attributes, to be set at any time:

    Attributes:
        latency_s: time that every edX request takes at least.
        expires_in: lifetime in seconds that a token answer announces.
        token_valid_s: how long a token really is accepted; None for as long as was announced.
        client_id: the one client that gets tokens,
        client_secret: with this.
        rules: faults; the first that takes a request acts. See `on` and local/sandbox/faults.py.
        requests: every request so far, in order of arrival, those for the sandbox's own controls excepted.
        max_in_flight: most edX requests seen at one time.
    """

    def __init__(
        self, catalogs: Iterable[Catalog] | None = None, *, port: int = 0, latency_s: float = 0
    ) -> None:
        shown = sample_catalogs() if catalogs is None else catalogs
        self.catalogs = {catalog.id: catalog for catalog in shown}
        self.port = port
        self.latency_s = latency_s
        self.expires_in: object = 180
        self.token_valid_s: float | None = None
        self.client_id = "sandbox-client"
        self.client_secret = "sandbox-secret"  # noqa: S105  a sample
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self.max_in_flight = 0
        self.signing_key = default_key()
        self._in_flight = 0
        self._tokens: dict[str, float] = {}  # and the moment until which each is valid
        self._lock = RLock()
        self._stopping = Event()
        self._listener: _Listener | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._close()

    @property
    def url(self) -> str:
        """Base address, which is the issuer of the admin tokens too."""
        return f"http://{HOST}:{self.port}/"

    def settings(self) -> dict[str, str]:
        """Return the environment settings that point the connector here."""
        return {
            "EDX_API_URL": f"{self.url}catalog/v1/",
            "EDX_TOKEN_URL": self.url.rstrip("/") + TOKEN_PATH,
            "EDX_CLIENT_ID": self.client_id,
            "EDX_CLIENT_SECRET": self.client_secret,
            "ADMIN_JWT_ISSUER": self.url,
            "ADMIN_JWT_AUDIENCE": AUDIENCE,
            "ADMIN_JWKS_URL": f"{self.url}jwks",
        }

    def on(
        self,
        path: str,
        action: Action,
        *,
        offset: int | None = None,
        times: int | None = None,
        after: int = 0,
    ) -> Rule:
        """Add a fault; see `Rule` for the arguments. Rules for the same requests queue up."""
        rule = Rule(path, action, offset, times, after)
        with self._lock:
            self.rules.append(rule)
        return rule

    def mint(
        self,
        *,
        lifetime_s: float = 3600,
        header: Mapping[str, object] | None = None,
        key: SigningKey | None = None,
        **claims: object,
    ) -> str:
        """Return an administrator's token.

        Any claim or header can be replaced, or left out (None); any key can sign.
        """
        key = key or self.signing_key
        return mint(key, header or {}, {**admin_claims(self.url, lifetime_s), **claims})

    def rotate_key(self) -> None:
        """Sign with, and list in the JWKS, a new key only."""
        self.signing_key = SigningKey()

    def expire_tokens(self) -> None:
        """Let every edX token given out so far be expired."""
        with self._lock:
            self._tokens = dict.fromkeys(self._tokens, 0.0)

    def requests_to(self, path: str) -> list[Request]:
        """Return the requests whose path a regular expression is found in."""
        return [request for request in self.requests if re.search(path, request.path)]

    def forget_requests(self) -> None:
        """Empty the log, and start counting the most in flight anew."""
        with self._lock:
            self.requests.clear()
            self.max_in_flight = self._in_flight

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Refuse every connection meanwhile."""
        self._close()
        try:
            yield
        finally:
            self._open()

    def serve(self, connection: socket, request: Request) -> bool:
        """Answer one request; return whether the connection can be kept."""
        control = request.path.startswith(("/sandbox/", "/mint"))
        for_edx = re.search(EDX, request.path) is not None
        if control:
            try:
                reply = self._answer(request)
            except (KeyError, TypeError, ValueError) as error:
                reply = json_reply({"detail": repr(error)}, 400)
            self._exchange(connection, request, lambda: None).send(reply)
            return True
        with self._lock:
            self.requests.append(request)
            self._in_flight += for_edx
            self.max_in_flight = max(self.max_in_flight, self._in_flight)

        def finished() -> None:
            with self._lock:
                self._in_flight -= for_edx and request.ended is None
                request.ended = request.ended or time.monotonic()

        exchange = self._exchange(connection, request, finished)
        try:
            if for_edx and self.latency_s:
                exchange.wait(self.latency_s)
            answer = self._answer(request)
            with self._lock:
                rule = next((rule for rule in self.rules if rule.takes(request)), None)
            outcome = rule.action(exchange, answer) if rule else answer
            if outcome:
                exchange.send(outcome)
        finally:
            finished()
        return exchange.keep_alive

    def _exchange(self, connection: socket, request: Request, finished: Callable[[], None]) -> Exchange:
        return Exchange(request, connection, self._answer, self._stopping.wait, self._refuse, finished)

    def _refuse(self, for_s: float) -> None:
        with self.unreachable():
            self._stopping.wait(for_s)

    def _open(self) -> None:
        with self._lock:
            if self._listener is None and not self._stopping.is_set():
                self._listener = _Listener(self)
                self.port = self._listener.server_port
                Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def _close(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener:
            listener.close()

    def _answer(self, request: Request) -> Reply:
        routes: tuple[tuple[str, Callable[..., Reply]], ...] = (
            (f"POST {TOKEN_PATH}", self._token),
            (f"GET {CATALOG_API}/catalogs/", self._catalogs),
            (f"GET {CATALOG_API}/catalogs/([0-9]{{1,9}})/(courses/)?", self._catalog),
            ("GET /jwks", self._jwks),
            ("POST /mint", self._mint),
            ("POST /sandbox/knobs", self._knobs),
            ("POST /sandbox/catalogs/([0-9]{1,9})", self._changed),
            ("GET /sandbox/requests", self._log),
        )
        for route, answer in routes:
            if match := re.fullmatch(route, f"{request.method} {request.path}"):
                return answer(request, *match.groups())
        if request.path.startswith(CATALOG_API) and not request.path.endswith("/"):
            location = f"{request.path}/" + (f"?{urlencode(request.query)}" if request.query else "")
            return replace(text_reply("", 301), headers={"Location": location})
        return json_reply({"detail": "Not found."}, 404)

    def _token(self, request: Request) -> Reply:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return json_reply({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "client_credentials":
            return json_reply({"error": "unsupported_grant_type"}, 400)
        if form.get("token_type", "").lower() != "jwt":  # a bearer token, which the catalog API does not take
            return json_reply(
                {"access_token": secrets.token_hex(), "token_type": "Bearer", "expires_in": 180}
            )
        token = f"sandbox-{secrets.token_hex()}"
        announced = self.expires_in if isinstance(self.expires_in, (int, float)) else 180
        valid_s = announced if self.token_valid_s is None else self.token_valid_s
        with self._lock:
            self._tokens[token] = time.monotonic() + valid_s
        return json_reply(
            {"access_token": token, "expires_in": self.expires_in, "token_type": "JWT", "scope": "read"}
        )

    def _unauthenticated(self, request: Request) -> Reply | None:
        valid_until = self._tokens.get(request.token)
        if request.scheme != "JWT":
            detail = "Authentication credentials were not provided."
        elif valid_until is None:
            detail = "Error decoding token."
        elif valid_until <= time.monotonic():
            detail = "Token has expired."
        else:
            return None
        return json_reply({"detail": detail}, 401, {"WWW-Authenticate": 'JWT realm="api"'})

    def _catalogs(self, request: Request) -> Reply:
        mine = [catalog.described() for catalog in self.catalogs.values() if USER in catalog.viewers]
        shown = mine[request.offset : request.offset + request.limit]
        return self._unauthenticated(request) or json_reply(
            {"count": len(mine), **links(request, len(mine)), "results": shown}
        )

    def _catalog(self, request: Request, catalog_id: str, courses: str | None) -> Reply:
        if refusal := self._unauthenticated(request):
            return refusal
        catalog = self.catalogs.get(int(catalog_id))
        if catalog is None:
            return json_reply({"detail": "No Catalog matches the given query."}, 404)
        if USER not in catalog.viewers:
            return json_reply({"detail": "You do not have permission to perform this action."}, 403)
        return Reply(catalog.page(request)) if courses else json_reply(catalog.described())

    def _jwks(self, _request: Request) -> Reply:
        return json_reply({"keys": [self.signing_key.jwk()]})

    def _mint(self, request: Request) -> Reply:
        claims: dict[str, Any] = _sent(request)
        if "lifetime_s" in claims:
            claims["lifetime_s"] = float(claims["lifetime_s"])
        return text_reply(self.mint(**claims) + "\n", content_type="text/plain")

    def _knobs(self, request: Request) -> Reply:
        """Set attributes by name; `rules` adds rules, `clear_rules` removes them first."""
        knobs = _sent(request)
        with self._lock:
            if knobs.pop("clear_rules", False):
                self.rules.clear()
            for rule in knobs.pop("rules", []):
                action = ACTIONS[rule.pop("action")](**rule.pop("with", {}))
                self.on(rule.pop("path"), action, **rule)
            for command in ("expire_tokens", "rotate_key", "forget_requests"):
                if knobs.pop(command, False):
                    getattr(self, command)()
            for name, value in knobs.items():
                if name not in _KNOBS:
                    return json_reply({"detail": f"No such knob: {name}"}, 400)
                setattr(self, name, value)
        return json_reply({name: getattr(self, name) for name in _KNOBS})

    def _changed(self, request: Request, catalog_id: str) -> Reply:
        """Change a catalog: `remove`, `add`, `remove_runs`, `alter_runs` ({run key: fields}).

        `warm` (courses a page) then makes the pages of a walk beforehand.
        """
        catalog, changes = self.catalogs[int(catalog_id)], _sent(request)
        catalog.remove(*changes.get("remove", []))
        catalog.add(*changes.get("add", []))
        for run_key in changes.get("remove_runs", []):
            catalog.remove_run(run_key)
        for run_key, fields in changes.get("alter_runs", {}).items():
            catalog.alter_run(run_key, **fields)
        if limit := changes.get("warm"):
            catalog.warm(limit)
        return json_reply(catalog.described())

    def _log(self, _request: Request) -> Reply:
        shown = ("method", "path", "query", "status", "scheme")
        with self._lock:
            requests = [{name: getattr(request, name) for name in shown} for request in self.requests]
        return json_reply({"max_in_flight": self.max_in_flight, "requests": requests})


_KNOBS = ("latency_s", "expires_in", "token_valid_s", "client_id", "client_secret")


def _sent(request: Request) -> dict[str, Any]:
    """Return what a control request says, as JSON or as a form."""
    if "json" in request.headers.get("content-type", ""):
        sent: dict[str, Any] = json.loads(request.body or b"{}")
        return sent
    return dict(parse_qsl(request.body.decode()))


class _Listener(ThreadingHTTPServer):
    """The listening socket and the connections that came in through it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._connections: set[socket] = set()
        super().__init__((HOST, sandbox.port), _Handler)

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
        if not isinstance(sys.exception(), OSError):  # a caller who has gone away is no news
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
        self.close_connection |= not self.server.sandbox.serve(self.connection, request)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing: the sandbox keeps its own log."""
