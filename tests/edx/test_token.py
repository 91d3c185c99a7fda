import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from threading import Thread

import pytest
import requests
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.errors import EdxProtocolError, EdxRefused, EdxThrottled, EdxUnavailable
from tests.edx.loopback import Answer, send, send_token, serving, silence
from tests.edx.pretend import CATALOG, NOW, TOKEN, FakeTime, make_client, walked


def test_the_token_is_requested_once_for_successive_sessions(
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
        {"json": {"expires_in": 60}},
        {"json": {"access_token": None}},
        {"json": {"access_token": "a\r\nX-Evil: 1"}},
        {"status_code": 404},
        {"status_code": 302, "headers": {"Location": "https://evil.test/"}},
    ],
)
def test_protocol_error_when_the_token_endpoint_sends_invalid_data(
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


def test_no_part_of_a_page_is_requested_when_the_token_endpoint_fails(web: Mocker, edx: EdxSession) -> None:
    web.post(TOKEN, status_code=500)
    with pytest.raises(EdxUnavailable, match="token endpoint answered 500"):
        walked(edx.courses(7))
    assert [request.method for request in web.request_history] == ["POST"] * 4


def test_a_rejected_token_is_not_sent_again_when_it_could_not_be_renewed(
    web: Mocker, edx: EdxSession
) -> None:
    failure = {"status_code": 500}
    web.post(TOKEN, [{"json": {"access_token": "t1"}}, *[failure] * 4, {"json": {"access_token": "t2"}}])
    web.get(CATALOG, status_code=401, request_headers={"Authorization": "JWT t1"})
    web.get(CATALOG, json={"id": 7}, request_headers={"Authorization": "JWT t2"})
    with pytest.raises(EdxUnavailable, match="the token endpoint answered 500"):
        edx.catalog(7)
    assert edx.catalog(7).id == 7
    assert [request.method for request in web.request_history] == ["POST", "GET", *["POST"] * 5, "GET"]


def test_no_third_token_is_requested_when_edx_answers_401_again(web: Mocker, edx: EdxSession) -> None:
    tokens = [{"json": {"access_token": f"t{n}"}} for n in range(9)]
    web.post(TOKEN, tokens)
    web.get(CATALOG, status_code=401, json={"detail": "Token has expired."})
    with pytest.raises(
        EdxRefused, match=r"^edX refused us: catalogs/7/ answered 401 to a valid token; ask edX"
    ):
        edx.catalog(7)
    assert [request.method for request in web.request_history] == ["POST", "GET", "POST", "GET"]


def test_throttled_error_is_raised_when_the_token_endpoint_throttles(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.post(TOKEN, status_code=429, headers={"Retry-After": "3600"})
    told: list[datetime] = []
    with client.session(fake_time.left(100), on_throttled=told.append) as edx, pytest.raises(EdxThrottled):
        edx.catalog(7)
    assert told == [NOW + timedelta(hours=1)]


def test_threads_share_one_renewal_when_their_token_is_rejected() -> None:
    tokens = iter(["old", "new"])
    both = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers["Authorization"] == "JWT old":
            both.wait(10)  # both have sent the old token before either gets an answer
            send(handler, b"", 401)
        else:
            send(handler, {"id": 7})

    def token(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        send(handler, {"access_token": next(tokens), "expires_in": 180})

    with serving(answer, token) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        threads = [Thread(target=edx.catalog, args=[7]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.asked.count("/token") == 2
    assert server.asked.count("/v1/catalogs/7/") == 4


def test_thread_that_waits_for_a_token_wakes_when_its_session_ends() -> None:
    with serving(silence, silence) as server:
        client = EdxClient(server.settings)
        with client.session(Deadline.after(60)) as asking, client.session(Deadline.after(60)) as waiting:
            threads = [Thread(target=refuse, args=[session]) for session in (asking, waiting)]
            threads[0].start()
            while not server.asked:
                time.sleep(0.01)
            threads[1].start()
            time.sleep(0.1)
            began = time.monotonic()
            waiting.end()
            threads[1].join(5)
            assert not threads[1].is_alive()
            assert threads[0].is_alive()
            asking.end()
            threads[0].join(5)
            assert not threads[0].is_alive()
            assert time.monotonic() - began < 5
    assert server.asked == ["/token"]


def test_the_next_thread_renews_the_token_when_the_session_of_the_first_ends() -> None:
    answers: Iterator[Answer] = iter([silence, send_token])

    def token(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    with serving(lambda handler: send(handler, {"id": 7}), token) as server:
        client = EdxClient(server.settings)
        with client.session(Deadline.after(60)) as first, client.session(Deadline.after(60)) as second:
            stuck = Thread(target=refuse, args=[first])
            stuck.start()
            while not server.asked:
                time.sleep(0.01)
            found: list[int] = []
            waiting = Thread(target=lambda: found.append(second.catalog(7).id))
            waiting.start()
            time.sleep(0.1)
            first.end()
            waiting.join(5)
            stuck.join(5)
    assert found == [7]


def refuse(edx: EdxSession) -> None:
    with pytest.raises(EdxUnavailable, match="were cancelled"):
        edx.catalog(7)
