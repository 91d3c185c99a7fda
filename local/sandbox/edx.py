"""The normal answers of edX: tokens, rate limit, catalogs and courses.

No sockets and no faults here. The texts are those of course-discovery and Django REST framework.
"""

import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

from local.sandbox.catalogs import USER, Catalog, links
from local.sandbox.http import CATALOG_API, Reply, Request, json_reply, text_reply

TOKEN_PATH = "/oauth2/v1/access_token"  # noqa: S105  a path, no secret

_HOUR_S = 3600


class State(Protocol):
    """The state of edX: all catalogs by id, including other users', and one client. Read at each request."""

    catalogs: dict[int, Catalog]
    client_id: str
    client_secret: str
    expires_in: object
    token_valid_s: float | None
    requests_per_hour: int | None


class Edx:
    """edX as one client sees it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tokens: dict[str, float] = {}  # token → end of its validity
        self._asked: deque[float] = deque()  # times of the requests that the rate limit counts
        self._lock = Lock()

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request."""
        routes: tuple[tuple[str, Callable[..., Reply]], ...] = (
            (f"POST {TOKEN_PATH}", self._token),
            (f"GET {CATALOG_API}/catalogs/", self._list),
            (f"GET {CATALOG_API}/catalogs/([0-9]{{1,9}})/(courses/)?", self._catalog),
        )
        for route, answer in routes:
            if match := re.fullmatch(route, f"{request.method} {request.path}"):
                return answer(request, *match.groups())
        if request.path.startswith(CATALOG_API) and not request.path.endswith("/"):
            location = f"{request.path}/" + (f"?{urlencode(request.query)}" if request.query else "")
            return replace(text_reply("", 301), headers={"Location": location})
        return json_reply({"detail": "Not found."}, 404)

    def expire_tokens(self) -> None:
        """Expire every token that was issued so far."""
        with self._lock:
            self._tokens = dict.fromkeys(self._tokens, 0.0)

    def _token(self, request: Request) -> Reply:
        state = self._state
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        if (form.get("client_id"), form.get("client_secret")) != (state.client_id, state.client_secret):
            return json_reply({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "client_credentials":
            return json_reply({"error": "unsupported_grant_type"}, 400)
        if form.get("token_type", "").lower() != "jwt":  # a bearer token, which the catalog API refuses
            return json_reply(
                {"access_token": secrets.token_hex(), "token_type": "Bearer", "expires_in": 180}
            )
        token = f"sandbox-{secrets.token_hex()}"
        announced = state.expires_in if isinstance(state.expires_in, (int, float)) else 180
        valid_s = announced if state.token_valid_s is None else state.token_valid_s
        with self._lock:
            self._tokens[token] = time.monotonic() + valid_s
        return json_reply(
            {"access_token": token, "expires_in": state.expires_in, "token_type": "JWT", "scope": "read"}
        )

    def _list(self, request: Request) -> Reply:
        mine = [catalog.described() for catalog in self._state.catalogs.values() if USER in catalog.viewers]
        shown = mine[request.offset : request.offset + request.limit]
        return self._refused(request) or json_reply(
            {"count": len(mine), **links(request, len(mine)), "results": shown}
        )

    def _catalog(self, request: Request, catalog_id: str, courses: str | None) -> Reply:
        if refusal := self._refused(request):
            return refusal
        catalog = self._state.catalogs.get(int(catalog_id))
        if catalog is None:
            return json_reply({"detail": "No Catalog matches the given query."}, 404)
        if USER not in catalog.viewers:
            return json_reply({"detail": "You do not have permission to perform this action."}, 403)
        if not courses:
            return json_reply(catalog.described())
        if not catalog.can_render(request):
            return text_reply("<h1>Server Error (500)</h1>", 500)  # Django's own page
        return Reply(catalog.page(request))

    def _refused(self, request: Request) -> Reply | None:
        """Check the token, then the rate limit of its user, in the order of Django REST framework."""
        return self._unauthenticated(request) or self._throttled()

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

    def _throttled(self) -> Reply | None:
        """Count a request, or refuse it as rest_framework/throttling.py does; refused ones are not counted.

        There is no Retry-After when the limit was lowered below the requests of the last hour.
        """
        limit, now = self._state.requests_per_hour, time.monotonic()
        with self._lock:
            while self._asked and self._asked[0] <= now - _HOUR_S:
                self._asked.popleft()
            if limit is None:
                self._asked.clear()
                return None
            if len(self._asked) < limit:
                self._asked.append(now)
                return None
            if len(self._asked) > limit:
                return throttled_reply(None, None)
            first = self._asked[0] if self._asked else now
        seconds = math.ceil(first + _HOUR_S - now)
        return throttled_reply(seconds, str(seconds))


def throttled_reply(seconds: float | None, retry_after: str | None, status: int = 429) -> Reply:
    """Return the answer to a throttled request: `seconds` in its text, `retry_after` in its header."""
    expected = "" if seconds is None else f" Expected available in {round(seconds)} seconds."
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return json_reply({"detail": f"Request was throttled.{expected}"}, status, headers)
