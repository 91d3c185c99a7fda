"""Interprets an answer of edX: a pure function of the question, status, headers and body.

It returns a record or raises an error. Errors of shared/errors.py are final; `NoUsableAnswer` and `Throttled`
stay inside shared/edx, where retry.py and gate.py decide whether to try again.
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
"""Seconds to wait after a 429 without Retry-After."""

_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 400, 401, 403, 404
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429
_SERVER_ERRORS = range(500, 1000)

EXPLAINED_STATUSES = frozenset({_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _TOO_MANY_REQUESTS})
"""Error statuses whose body is read, to tell an answer of edX from one of a gateway in front of it."""

# https://github.com/encode/django-rest-framework/blob/master/rest_framework/exceptions.py (class Throttled)
_EXPECTED_AVAILABLE = re.compile(r"available in ([0-9]{1,9}) second")

_ASK_EDX = "ask edX whether our account still has access"

_Model = TypeVar("_Model", bound=BaseModel)


class Answer(NamedTuple):
    """A complete HTTP answer; `body` is decoded, and empty for statuses whose body is not read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Question(Generic[_Model]):
    """A request to edX.

    Attributes:
        what: the path or a name, for error messages.
        model: the type of the record in a 200.
        is_token: whether this is the request for a token.
        may_be_hidden: whether a 403 or 404 of edX means that the catalog does not exist for us.
    """

    what: str
    model: type[_Model]
    is_token: bool = False
    may_be_hidden: bool = False


TOKEN = Question("the token endpoint", TokenAnswer, is_token=True)
CATALOGS = Question("catalogs/", CatalogsPage)


def one_catalog(catalog_id: int) -> Question[EdxCatalog]:
    """Return the request for one catalog's record."""
    return Question(f"catalogs/{catalog_id}/", EdxCatalog, may_be_hidden=True)


def courses_of(catalog_id: int) -> Question[CoursesPage]:
    """Return the request for a page of a catalog's courses."""
    return Question(f"catalogs/{catalog_id}/courses/", CoursesPage, may_be_hidden=True)


class NoUsableAnswer(Exception):
    """There was no complete answer, or one that may be different on a retry.

    Attributes:
        problem: a clause that follows the name of the request, such as "answered 502".
        status: the status of the answer; None when there was no complete answer.
        wait_s: the wait that edX asks for; None when it does not say.
        is_final: whether a retry would fail in the same way.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int | None = None,
        wait_s: float | None = None,
        is_final: bool = False,
    ) -> None:
        self.problem = problem
        self.status = status
        self.wait_s = wait_s
        self.is_final = is_final


class Throttled(Exception):
    """edX's rate limit is used up for `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s


class TokenRejected(Exception):
    """A 401: the token has expired or was revoked."""


def throttling_of(answer: Answer, now: datetime) -> Throttled | None:
    """Return the throttling that an answer announces; None when it is not about the rate limit."""
    if answer.status != _TOO_MANY_REQUESTS:
        return None
    wait_s = retry_after_s(answer.headers.get("Retry-After"), now)
    if wait_s is None and (told := _EXPECTED_AVAILABLE.search(_explanation(answer.body, "detail"))):
        wait_s = min(float(told[1]), RETRY_AFTER_MAX_S)
    return Throttled(wait_s or THROTTLED_FOR_S)


def interpret(question: Question[_Model], answer: Answer, now: datetime) -> _Model:
    """Return the record in an answer.

    Raises:
        EdxRefused: edX does not accept our credentials.
        NotFound: edX says that the catalog does not exist for us.
        EdxProtocolError: the answer does not match edX's API, and a retry would not change that.
        TokenRejected: the token is no longer valid.
        Throttled: edX's rate limit is used up.
        NoUsableAnswer: a retry may succeed.
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
    """Return the error for a 401 that remains with a new token."""
    return EdxRefused(f"edX refused us: {question.what} answered 401 to a valid token; {_ASK_EDX}")


def _record(question: Question[_Model], body: bytes) -> _Model:
    try:
        return parse(question.model, body, question.what)
    except NotJson:
        problem = f"sent a broken body: {'incomplete or invalid JSON' if body else 'it is empty'}"
    raise NoUsableAnswer(problem)


def _refusal_of_credentials(question: Question[_Model], answer: Answer) -> Exception:
    """Return the error for a refusal by the token endpoint (`error`: RFC 6749, section 5.2)."""
    explained = _explanation(answer.body, "error") or _explanation(answer.body, "detail")
    if answer.status == _UNAUTHORIZED or (answer.status in {_BAD_REQUEST, _FORBIDDEN} and explained):
        return EdxRefused(
            f"edX refused our credentials: {question.what} answered {answer.status}; "
            "check the settings EDX_CLIENT_ID and EDX_CLIENT_SECRET"
        )
    return _gateway(answer) if answer.status == _FORBIDDEN else _not_promised(question, answer)


def _hidden(question: Question[_Model], answer: Answer) -> Exception:
    """Return the error for a 403 or 404; an answer of edX itself is JSON with a text in `detail`."""
    if not _explanation(answer.body, "detail"):
        return _gateway(answer)
    if question.may_be_hidden:
        answered = f"edX answered {answer.status} for {question.what}"
        return NotFound(f"the catalog is not found: {answered}", answered=answered)
    if answer.status == _FORBIDDEN:
        return EdxRefused(f"edX refused us: {question.what} answered 403 to a valid token; {_ASK_EDX}")
    return _not_promised(question, answer)


def _gateway(answer: Answer) -> NoUsableAnswer:
    return NoUsableAnswer(
        f"answered {answer.status} in a form that is not edX's, probably from a gateway or firewall",
        status=answer.status,
    )


def _not_promised(question: Question[_Model], answer: Answer) -> EdxProtocolError:
    return EdxProtocolError(
        f"edX answered {answer.status} for {question.what}, which its API does not document"
    )


def _explanation(body: bytes, field: str) -> str:
    """Return the text in a field of a JSON object; "" when there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    explanation = value.get(field) if isinstance(value, dict) else None
    return explanation if isinstance(explanation, str) else ""
