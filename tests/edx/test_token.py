from datetime import datetime, timedelta

import pytest
import requests
from requests_mock import Mocker

from shared.edx.client import EdxClient, EdxSession
from shared.errors import EdxProtocolError, EdxRefused, EdxThrottled
from tests.edx.pretend import CATALOG, NOW, TOKEN, FakeTime, make_client


def test_the_token_is_asked_for_once_when_sessions_follow_each_other(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, json={"id": 7})
    for _ in range(2):
        with client.session(fake_time.left(100)) as edx:
            edx.catalog(7)
    assert [request.method for request in web.request_history] == ["POST", "GET", "GET"]


@pytest.mark.parametrize(
    ("expires_in", "age_s", "token_calls"),
    [(180, 161, 1), (180, 162, 2), (3600, 3569, 1), (3600, 3570, 2), (None, 53, 1), ("soon", 54, 2)],
)
def test_the_token_is_renewed_when_it_is_about_to_expire(
    web: Mocker, fake_time: FakeTime, expires_in: object, age_s: float, token_calls: int
) -> None:
    web.post(TOKEN, json={"access_token": "t1", "expires_in": expires_in})
    web.get(CATALOG, json={"id": 7})
    with make_client(fake_time).session(fake_time.left(10_000)) as edx:
        edx.catalog(7)
        fake_time.passed_s += age_s
        edx.catalog(7)
    assert [request.method for request in web.request_history].count("POST") == token_calls


def test_one_new_token_and_one_more_try_when_the_token_is_rejected(web: Mocker, edx: EdxSession) -> None:
    web.post(TOKEN, [{"json": {"access_token": "t1"}}, {"json": {"access_token": "t2"}}])
    web.get(CATALOG, status_code=401, request_headers={"Authorization": "JWT t1"})
    web.get(CATALOG, json={"id": 7}, request_headers={"Authorization": "JWT t2"})
    assert edx.catalog(7).id == 7
    assert [request.method for request in web.request_history] == ["POST", "GET", "POST", "GET"]


def test_edx_refused_when_the_new_token_is_rejected_too(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOG, status_code=401)
    with pytest.raises(EdxRefused, match="catalogs/7/ answered 401"):
        edx.catalog(7)
    assert [request.method for request in web.request_history] == ["POST", "GET", "POST", "GET"]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_edx_refused_names_the_settings_when_the_token_endpoint_refuses(
    web: Mocker, edx: EdxSession, status: int
) -> None:
    web.post(TOKEN, status_code=status, json={"error": "invalid_client"})
    with pytest.raises(EdxRefused, match="EDX_CLIENT_ID and EDX_CLIENT_SECRET"):
        edx.catalog(7)
    assert len(web.request_history) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "<html>login</html>"},
        {"json": {"expires_in": 60}},
        {"json": {"access_token": None}},
        {"json": {"access_token": "a\r\nX-Evil: 1"}},
        {"status_code": 404},
        {"status_code": 302, "headers": {"Location": "https://evil.test/"}},
    ],
)
def test_protocol_error_when_the_token_endpoint_answers_nonsense(
    web: Mocker, edx: EdxSession, answer: dict[str, object]
) -> None:
    web.post(TOKEN, [answer])
    with pytest.raises(EdxProtocolError, match="the token endpoint"):
        edx.catalog(7)
    assert len(web.request_history) == 1


def test_the_token_call_is_tried_again_when_the_endpoint_fails(web: Mocker, edx: EdxSession) -> None:
    web.post(
        TOKEN, [{"status_code": 500}, {"exc": requests.ConnectionError}, {"json": {"access_token": "t"}}]
    )
    web.get(CATALOG, json={"id": 7})
    assert edx.catalog(7).id == 7


def test_throttled_when_the_token_endpoint_says_so(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.post(TOKEN, status_code=429, headers={"Retry-After": "3600"})
    told: list[datetime] = []
    with client.session(fake_time.left(100), on_throttled=told.append) as edx, pytest.raises(EdxThrottled):
        edx.catalog(7)
    assert told == [NOW + timedelta(hours=1)]
