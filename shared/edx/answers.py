"""What an answer of edX's means: a pure function of what was asked, status, headers and body.

A record comes out, or an error. Errors of shared/errors.py are final; `NoUsableAnswer` and `Throttled` stay
inside shared/edx, where retry.py and gate.py decide how long they are put up with.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from shared.edx.models import CatalogsPage, CoursesPage, EdxCatalog, NotJson, TokenAnswer, parse
from shared.errors import EdxProtocolError, EdxRefused, NotFound
from shared.network import RETRY_AFTER_MAX_S, retry_after_s

THROTTLED_FOR_S = 15 * 60
"""How long a 429 counts that does not say how long, in seconds."""

_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 400, 401, 403, 404
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429
_SERVER_ERRORS = range(500, 1000)

EXPLAINED_STATUSES = frozenset({_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _TOO_MANY_REQUESTS})
"""Error statuses whose body is looked at: it tells edX's own answer from that of a gateway in front of it."""

# https://github.com/encode/django-rest-framework/blob/master/rest_framework/exceptions.py (class Throttled)
_EXPECTED_AVAILABLE = re.compile(r"available in ([0-9]{1,9}) second")

_Model = TypeVar("_Model", bound=BaseModel)


class Answer(NamedTuple):
    """A whole HTTP answer; `body` is decoded, empty unless the status is 200 or an explained one."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Question(Generic[_Model]):
    """What is asked for.

    Attributes:
        what: the path or a name, for error messages.
        model: the record that a 200 holds.
        is_token: whether our credentials are what is asked with.
        may_be_hidden: whether edX's own 403 or 404 says that there is no such catalog for us.
    """

    what: str
    model: type[_Model]
    is_token: bool = False
    may_be_hidden: bool = False


TOKEN = Question("the token endpoint", TokenAnswer, is_token=True)
CATALOGS = Question("catalogs/", CatalogsPage)


def one_catalog(catalog_id: int) -> Question[EdxCatalog]:
    """Ask for a catalog's own record."""
    return Question(f"catalogs/{catalog_id}/", EdxCatalog, may_be_hidden=True)


def courses_of(catalog_id: int) -> Question[CoursesPage]:
    """Ask for a page of a catalog's courses."""
    return Question(f"catalogs/{catalog_id}/courses/", CoursesPage, may_be_hidden=True)


class NoUsableAnswer(Exception):
    """No answer came, none that is whole, or one of those that may be better the next time.

    Attributes:
        problem: a clause that follows what was asked for, such as "answered 502".
        status: the status of the answer, None when no whole answer came.
        wait_s: how long edX asks to wait, None when it does not say.
        is_final: whether a further try would fail in the same way.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int | None = None,
        wait_s: float | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status = status
        self.wait_s = wait_s
        self.is_final = is_final


class Throttled(Exception):
    """edX's rate limit is used up for `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class TokenRejected(Exception):
    """A 401: the token has expired or was revoked."""


def throttling_of(answer: Answer, now: datetime) -> Throttled | None:
    """Return how long edX wants no requests, None when the answer is not about its rate limit."""
    if answer.status != _TOO_MANY_REQUESTS:
        return None
    wait_s = retry_after_s(answer.headers.get("Retry-After"), now)
    if wait_s is None and (told := _EXPECTED_AVAILABLE.search(_explanation(answer.body, "detail"))):
        wait_s = min(float(told[1]), RETRY_AFTER_MAX_S)
    return Throttled(wait_s or THROTTLED_FOR_S)


def meaning(question: Question[_Model], answer: Answer, now: datetime) -> _Model:
    """Return the record that an answer holds.

    Raises:
        EdxRefused: edX does not accept our credentials.
        NotFound: edX itself says that there is no such catalog for us.
        EdxProtocolError: no other try would bring what edX's API promises.
        TokenRejected: the token is not valid any more.
        Throttled: edX's rate limit is used up.
        NoUsableAnswer: the answer may be better the next time.
    """
    throttled = throttling_of(answer, now)
    if throttled:
        raise throttled
    if answer.status == _OK:
        return _record(question, answer.body)
    if answer.status == _REQUEST_TIMEOUT or answer.status in _SERVER_ERRORS:
        wait_s = retry_after_s(answer.headers.get("Retry-After"), now)
        raise NoUsableAnswer(f"answered {answer.status}", status=answer.status, wait_s=wait_s)
    if question.is_token:
        raise _refusal_of_credentials(question, answer)
    if answer.status == _UNAUTHORIZED:
        raise TokenRejected
    if answer.status in {_FORBIDDEN, _NOT_FOUND}:
        raise _hidden(question, answer)
    raise _not_promised(question, answer)


def refused(question: Question[_Model]) -> EdxRefused:
    """Return the error for a 401 that a new token did not heal."""
    return EdxRefused(f"edX refused us: {question.what} answered 401 to a valid token")


def _record(question: Question[_Model], body: bytes) -> _Model:
    try:
        return parse(question.model, body, question.what)
    except NotJson:
        problem = "sent a broken body: no whole JSON" if body else "sent a broken body: nothing at all"
    raise NoUsableAnswer(problem)


def _refusal_of_credentials(question: Question[_Model], answer: Answer) -> Exception:
    """Judge a refusal of the token endpoint; OAuth 2 explains one in `error` (RFC 6749, section 5.2)."""
    explained = _explanation(answer.body, "error") or _explanation(answer.body, "detail")
    if answer.status == _UNAUTHORIZED or (answer.status in {_BAD_REQUEST, _FORBIDDEN} and explained):
        return EdxRefused(
            f"edX refused our credentials: {question.what} answered {answer.status}; "
            "check the settings EDX_CLIENT_ID and EDX_CLIENT_SECRET"
        )
    return _gateway(answer) if answer.status == _FORBIDDEN else _not_promised(question, answer)


def _hidden(question: Question[_Model], answer: Answer) -> Exception:
    """Judge a 403 or 404: edX's own ones are JSON with a text in `detail`."""
    if not _explanation(answer.body, "detail"):
        return _gateway(answer)
    if question.may_be_hidden:
        return NotFound(f"the catalog is not found: edX answered {answer.status} for {question.what}")
    if answer.status == _FORBIDDEN:
        return EdxRefused(f"edX refused us: {question.what} answered 403 to a valid token")
    return _not_promised(question, answer)


def _gateway(answer: Answer) -> NoUsableAnswer:
    return NoUsableAnswer(
        f"answered {answer.status} without an explanation of edX's, as a gateway or firewall does",
        status=answer.status,
    )


def _not_promised(question: Question[_Model], answer: Answer) -> EdxProtocolError:
    return EdxProtocolError(
        f"edX answered {answer.status} for {question.what}, which its API does not promise"
    )


def _explanation(body: bytes, field: str) -> str:
    """Return the text in a field of a JSON object, "" when there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    explanation = value.get(field) if isinstance(value, dict) else None
    return explanation if isinstance(explanation, str) else ""
