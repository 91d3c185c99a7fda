"""The edX sandbox: edX on a loopback port, with faults that can be turned on and a log of all requests.

    with Sandbox() as sandbox:
        sandbox.on("/courses/", throttle(3592), after=3)

In another process: `python -m local.sandbox`, with its controls over HTTP (local/sandbox/controls.py).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from socket import socket
from threading import Event, RLock
from types import TracebackType
from typing import Self

from local.sandbox.catalogs import Catalog
from local.sandbox.content import sample_catalogs
from local.sandbox.controls import CONTROLS, KNOBS, control
from local.sandbox.edx import TOKEN_PATH, Edx
from local.sandbox.faults import EDX, Action, Rule
from local.sandbox.http import Exchange, Reply, Request, json_reply
from local.sandbox.log import Log
from local.sandbox.server import HOST, LoopbackServer
from local.sandbox.tokens import AUDIENCE, SigningKey, admin_claims, default_key, mint


class Sandbox:
    """A simulated edX, together with the identity provider of LumiNUS's administrators.

    Attributes, which can be set at any time:
        those of KNOBS in local/sandbox/controls.py,
        catalogs: by their id; each is changed by its own methods.
        rules: faults; the first that matches a request is applied. See `on` and local/sandbox/faults.py.
    """

    def __init__(
        self,
        catalogs: Iterable[Catalog] | None = None,
        *,
        port: int = 0,
        latency_s: float = 0,
        client_id: str = "sandbox-client",
    ) -> None:
        shown = sample_catalogs() if catalogs is None else catalogs
        self.catalogs = {catalog.id: catalog for catalog in shown}
        self.latency_s = latency_s
        self.expires_in: object = 180
        self.token_valid_s: float | None = None
        self.requests_per_hour: int | None = None
        self.client_id = client_id
        self.client_secret = "sandbox-secret"  # noqa: S105  a sample
        self.rules: list[Rule] = []
        self.signing_key = default_key()
        self._edx = Edx(self)
        self._log = Log()
        self._lock = RLock()
        self._stopping = Event()
        self._server = LoopbackServer(port, self.serve)
        self._at_start = {name: getattr(self, name) for name in KNOBS}

    def __enter__(self) -> Self:
        self._server.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.close(for_good=True)

    @property
    def url(self) -> str:
        """The base URL, which is also the issuer of the admin tokens."""
        return f"http://{HOST}:{self._server.port}/"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival, except those for the sandbox's own controls."""
        return self._log.requests

    @property
    def max_in_flight(self) -> int:
        """The maximum number of edX requests in flight at one time."""
        return self._log.max_in_flight

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
        """Expire every edX token that was issued so far."""
        self._edx.expire_tokens()

    def clear(self) -> None:
        """Restore the initial state: no rules, initial knobs and catalogs."""
        with self._lock:
            self.rules.clear()
            for name, value in self._at_start.items():
                setattr(self, name, value)
            for catalog in self.catalogs.values():
                catalog.clear()

    def requests_to(self, path: str) -> list[Request]:
        """Return the requests whose path matches a regular expression."""
        return [request for request in self.requests if re.search(path, request.path)]

    def forget_requests(self) -> None:
        """Empty the log and reset `max_in_flight`."""
        self._log.forget()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Refuse every connection during the block."""
        self._server.close()
        try:
            yield
        finally:
            self._server.open()

    def serve(self, connection: socket, request: Request) -> bool:
        """Answer one request; return whether the connection can be kept."""
        if request.path.startswith(CONTROLS):
            self._exchange(connection, request, lambda: None).send(self._answer(request))
            return True
        for_edx = re.search(EDX, request.path) is not None
        self._log.begin(request, for_edx=for_edx)
        finished = partial(self._log.end, request, for_edx=for_edx)
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

    def _answer(self, request: Request) -> Reply:
        if request.path.startswith(CONTROLS):
            with self._lock:
                return control(self, request)
        if (request.method, request.path) == ("GET", "/jwks"):
            return json_reply({"keys": [self.signing_key.jwk()]})
        return self._edx.answer(request)
