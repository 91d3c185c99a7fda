"""The interpretation of answers, without a socket: every status with each relevant body."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.edx.answers import (
    CATALOGS,
    TOKEN,
    Answer,
    NoUsableAnswer,
    Question,
    Throttled,
    TokenRejected,
    courses_of,
    interpret,
    one_catalog,
)
from shared.edx.models import CoursesPage, EdxCatalog, EdxCourse
from shared.errors import EdxProtocolError, EdxRefused, NotFound

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
QUESTIONS: list[Question[Any]] = [TOKEN, CATALOGS, one_catalog(7), courses_of(7)]
DETAIL = b'{"detail": "No Catalog matches the given query."}'
OAUTH = b'{"error": "invalid_client"}'
HTML = b"<html><body>Access denied</body></html>"
MESSAGE = b'{"message": "Forbidden"}'


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def error_of(question: Question[Any], given_answer: Answer) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each test checks the error itself
        interpret(question, given_answer, NOW)
    assert caught.value.__context__ is None  # the error contains no part of the body
    return caught.value


def test_a_200_returns_the_requested_record() -> None:
    assert interpret(one_catalog(7), answer(200, b'{"id": 7, "name": "NUS"}'), NOW) == EdxCatalog(
        id=7, name="NUS"
    )
    page = interpret(courses_of(7), answer(200, b'{"count": 1, "next": "", "results": [{"key": "a"}]}'), NOW)
    assert page == CoursesPage(count=1, next="", results=[EdxCourse(key="a")])


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>login</html>",
        b'{"count": 2, "results": [{"key": "a"}',
        b'{"count": 1, "next": null, "results": [{"key": "a", "course_runs": [{"seats": [{"price": "1"}',
        b"\x1f\x8b\x08\x00",
        b"[" * 200_000,
    ],
)
def test_a_200_is_retried_when_its_json_is_incomplete_or_invalid(
    question: Question[Any], body: bytes
) -> None:
    error = error_of(question, answer(200, body))
    assert isinstance(error, NoUsableAnswer)
    assert error.problem == (
        "sent a broken body: incomplete or invalid JSON" if body else "sent a broken body: it is empty"
    )
    assert error.status is None


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b'{"detail": "Not found."}', b"{}", b"7"])
def test_a_200_is_not_retried_when_its_json_has_another_structure(
    question: Question[Any], body: bytes
) -> None:
    error = error_of(question, answer(200, body))
    assert isinstance(error, EdxProtocolError)
    assert "does not match its API" in error.message


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520, 599, 999])
@pytest.mark.parametrize("body", [b"", DETAIL])
def test_an_answer_is_retried_when_it_is_a_server_error(
    question: Question[Any], status: int, body: bytes
) -> None:
    error = error_of(question, answer(status, body))
    assert isinstance(error, NoUsableAnswer)
    assert (error.problem, error.status, error.wait_s) == (f"answered {status}", status, None)


def test_retry_after_of_a_503_is_read() -> None:
    error = error_of(CATALOGS, answer(503, Retry_After="Sun, 01 Mar 2026 12:00:20 GMT"))
    assert isinstance(error, NoUsableAnswer)
    assert error.wait_s == 20


# 403 and 404 from edX, and from a gateway in front of it


@pytest.mark.parametrize("question", [one_catalog(7), courses_of(7)])
@pytest.mark.parametrize("status", [403, 404])
def test_a_catalog_is_not_found_when_edx_itself_says_so(question: Question[Any], status: int) -> None:
    error = error_of(question, answer(status, DETAIL))
    assert isinstance(error, NotFound)
    assert error.message == f"the catalog is not found: edX answered {status} for {question.what}"


@pytest.mark.parametrize("question", [CATALOGS, one_catalog(7), courses_of(7)])
@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        HTML,
        MESSAGE,
        b'{"detail": null}',
        b'{"detail": ""}',
        b'{"detail": ["Not found."]}',
        b'{"detail": {"code": "x"}}',
        b'["detail"]',
        b'"detail"',
        b'{"detail": "Not fou',
        b"\xff\xfe",
        b"[" * 4000,
        b"[" * 200_000,
    ],
)
def test_a_403_or_404_is_retried_when_it_comes_from_a_gateway(
    question: Question[Any], status: int, body: bytes
) -> None:
    error = error_of(question, answer(status, body))
    assert isinstance(error, NoUsableAnswer)
    assert error.status == status
    assert error.problem == (
        f"answered {status} in a form that is not edX's, probably from a gateway or firewall"
    )


def test_edx_refuses_us_when_the_list_of_catalogs_is_forbidden() -> None:
    error = error_of(CATALOGS, answer(403, b'{"detail": "You do not have permission."}'))
    assert isinstance(error, EdxRefused)
    assert error.message == (
        "edX refused us: catalogs/ answered 403 to a valid token; "
        "ask edX whether our account still has access"
    )


def test_protocol_error_when_edx_answers_404_for_the_list_of_catalogs() -> None:
    assert isinstance(error_of(CATALOGS, answer(404, DETAIL)), EdxProtocolError)


@pytest.mark.parametrize("question", [CATALOGS, one_catalog(7), courses_of(7)])
@pytest.mark.parametrize("body", [b'{"detail": "Token has expired."}', b"", HTML])
def test_a_401_asks_for_a_new_token(question: Question[Any], body: bytes) -> None:
    assert isinstance(error_of(question, answer(401, body)), TokenRejected)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, OAUTH, EdxRefused),
        (401, OAUTH, EdxRefused),
        (401, b"", EdxRefused),
        (403, OAUTH, EdxRefused),
        (403, b'{"detail": "No."}', EdxRefused),
        (403, HTML, NoUsableAnswer),
        (403, MESSAGE, NoUsableAnswer),
        (400, HTML, EdxProtocolError),
        (404, DETAIL, EdxProtocolError),
        (404, HTML, EdxProtocolError),
    ],
)
def test_our_credentials_are_refused_when_the_token_endpoint_says_so(
    status: int, body: bytes, kind: type[Exception]
) -> None:
    error = error_of(TOKEN, answer(status, body))
    assert type(error) is kind
    assert ("EDX_CLIENT_ID and EDX_CLIENT_SECRET" in str(error)) is (kind is EdxRefused)


@pytest.mark.parametrize("question", [CATALOGS, one_catalog(7), courses_of(7)])
@pytest.mark.parametrize("status", [101, 204, 206, 301, 302, 307, 400, 405, 410, 418])
def test_an_answer_is_not_retried_when_its_status_is_not_documented(
    question: Question[Any], status: int
) -> None:
    error = error_of(question, answer(status, DETAIL))
    assert isinstance(error, EdxProtocolError)
    assert error.message == f"edX answered {status} for {question.what}, which its API does not document"


# Throttling

SAID = b'{"detail": "Request was throttled. Expected available in 3592 seconds."}'


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("retry_after", "body", "wait_s"),
    [
        ("3592", b"", 3592),
        ("30", SAID, 30),
        ("Sun, 01 Mar 2026 13:00:00 GMT", b"", 3600),
        ("999999", b"", 86400),
        (None, SAID, 3592),
        ("0", SAID, 3592),
        ("soon", SAID, 3592),
        (None, b'{"detail": "Request was throttled. Expected available in 1 second."}', 1),
        (None, b'{"detail": "Request was throttled. Expected available in 999999999 seconds."}', 86400),
        (None, b'{"detail": "Request was throttled. Expected available in 0 seconds."}', 900),
        (None, b'{"detail": "Request was throttled."}', 900),
        (None, HTML, 900),
        (None, b"", 900),
        ("0", b"", 900),
        ("-1", b"", 900),
        ("Sun, 01 Mar 2026 11:00:00 GMT", b"", 900),
    ],
)
def test_a_429_says_how_long_to_wait(
    question: Question[Any], retry_after: str | None, body: bytes, wait_s: float
) -> None:
    headers = {} if retry_after is None else {"Retry_After": retry_after}
    error = error_of(question, answer(429, body, **headers))
    assert isinstance(error, Throttled)
    assert error.wait_s == wait_s


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("detail"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(QUESTIONS),
    st.integers(100, 999),
    st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()),
    st.none() | st.text(max_size=10),
)
def test_every_answer_is_a_record_or_a_known_error(
    question: Question[Any], status: int, body: bytes, retry_after: str | None
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    known = (EdxProtocolError, EdxRefused, NotFound, NoUsableAnswer, Throttled, TokenRejected)
    try:
        record = interpret(question, Answer(status, headers, body), NOW)
    except known:
        return
    assert isinstance(record, question.model)
