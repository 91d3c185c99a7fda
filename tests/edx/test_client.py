import logging
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
import requests_mock
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.edx.models import EdxCatalog
from shared.errors import EdxError, EdxProtocolError, EdxUnavailable
from tests.edx.loopback import (
    courses_page,
    send,
    serving,
    threads_of_ours,
    trickled_body,
)
from tests.edx.pretend import (
    API,
    CATALOG,
    CATALOGS,
    COURSES,
    SECRET,
    TOKEN,
    FakeTime,
    at,
    make_client,
    offsets,
    page,
    serve,
    walked,
)


def test_a_request_has_our_user_agent_and_asks_for_english_json(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOG, json={"id": 7, "name": "NUS", "courses_count": 12})
    assert edx.catalog(7) == EdxCatalog(id=7, name="NUS", courses_count=12)
    token_call, call = web.request_history
    assert dict(parse_qsl(token_call.text)) == {
        "grant_type": "client_credentials",
        "client_id": "our-client",
        "client_secret": SECRET,
        "token_type": "jwt",
    }
    assert "Authorization" not in token_call.headers
    assert call.headers["Authorization"] == "JWT t1"
    assert call.headers["Accept"] == "application/json"
    assert call.headers["Accept-Language"] == "en"
    assert call.headers["Accept-Encoding"] == "gzip"
    assert call.headers["User-Agent"] == "luminus-edx-connector"
    assert edx.requests == 2


def test_credentials_and_proxies_of_the_environment_are_ignored(
    web: Mocker, edx: EdxSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine edx.test login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    web.get(CATALOG, json={"id": 7})
    edx.catalog(7)
    call = web.request_history[-1]
    assert call.headers["Authorization"] == "JWT t1"
    assert call.proxies == {}


# The list of catalogs


def test_catalogs_are_listed_in_order_when_there_are_several_pages(web: Mocker, edx: EdxSession) -> None:
    web.get(
        CATALOGS,
        [
            {"json": {"count": 3, "next": at(2), "results": [{"id": 9}, {"id": 2}, "junk", {"id": "4"}]}},
            {"json": {"count": 3, "next": None, "results": [{"id": 5, "name": "E"}]}},
        ],
    )
    assert [catalog.id for catalog in edx.catalogs()] == [9, 2, 5]
    assert offsets(web) == ["0", "2"]


def test_a_page_of_courses_is_requested_again_when_the_connection_breaks(
    web: Mocker, edx: EdxSession
) -> None:
    web.get(COURSES, [{"exc": requests.ConnectionError}, {"json": page(["a"], 1)}])
    walk = edx.courses(7)
    assert walked(walk) == [["a"]]
    assert walk.problems == []


def test_the_list_is_empty_when_edx_lists_none(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOGS, json={"count": 0, "next": "", "results": []})
    assert edx.catalogs() == []


def test_the_list_ends_with_a_page_that_has_no_new_catalog(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOGS, [{"json": {"count": 5, "next": at(n), "results": [{"id": 1}]}} for n in (2, 4, 6)])
    with pytest.raises(EdxProtocolError, match=r"^edX sent 1 usable catalogs but counts 5$"):
        edx.catalogs()
    assert offsets(web) == ["0", "2"]


def test_the_highest_count_of_the_pages_is_expected_when_they_differ(web: Mocker, edx: EdxSession) -> None:
    pages: list[dict[str, Any]] = [
        {"json": {"count": 3, "next": at(2), "results": [{"id": 1}]}},
        {"json": {"count": 2, "next": None, "results": [{"id": 2}]}},
    ]
    web.get(CATALOGS, pages)
    with pytest.raises(EdxProtocolError, match=r"^edX sent 2 usable catalogs but counts 3$"):
        edx.catalogs()


@pytest.mark.parametrize(
    "answer",
    [
        {"next": None, "results": [{"id": 1}]},
        {"count": "1", "results": [{"id": 1}]},
        {"count": 1},
        {"count": 2, "next": None, "results": [{"id": 1}]},
        {"count": 2, "next": None, "results": [{"id": 1}, {"id": 1}]},
        {"count": 2, "next": None, "results": [{"id": 1}, {"id": None}]},
        {"count": 2, "next": "?offset=0", "results": [{"id": 1}]},
        {"count": 2, "next": 3, "results": [{"id": 1}]},
    ],
)
def test_protocol_error_when_the_list_of_catalogs_is_incomplete(
    web: Mocker, edx: EdxSession, answer: dict[str, object]
) -> None:
    web.get(CATALOGS, json=answer)
    with pytest.raises(EdxProtocolError):
        edx.catalogs()


# Secrets


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        (TOKEN, {"status_code": 401}),
        (TOKEN, {"status_code": 500}),
        (TOKEN, {"json": {"access_token": "t0k3n of theirs"}}),
        (TOKEN, {"exc": requests.ConnectionError}),
        (CATALOG, {"exc": requests.ReadTimeout}),
        (CATALOG, {"status_code": 401}),
        (CATALOG, {"text": "t0k3n-of-theirs"}),
        (CATALOG, {"content": b"x", "headers": {"Content-Encoding": "gzip"}}),
    ],
)
def test_neither_secret_nor_token_shows_when_a_call_fails(  # noqa: PLR0917 - fixtures
    web: Mocker,
    client: EdxClient,
    fake_time: FakeTime,
    caplog: pytest.LogCaptureFixture,
    url: str,
    answer: dict[str, object],
) -> None:
    caplog.set_level(logging.DEBUG)
    web.post(TOKEN, json={"access_token": "t0k3n-of-theirs"})
    web.register_uri(requests_mock.ANY, url, [answer])
    with client.session(fake_time.left(100)) as edx, pytest.raises(EdxError) as caught:
        edx.catalog(7)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # the errors of requests contain the request
    shown = [
        *traceback.format_exception(caught.value),
        caplog.text,
        repr(client),
        repr(edx),
        repr(vars(client)),
    ]
    assert not [text for text in shown if SECRET in text or "t0k3n" in text]


# Over real sockets


def test_connections_are_reused_when_pages_are_pulled_in_parallel() -> None:
    in_flight: list[int] = []
    now = threading.Semaphore(2)  # as many as may be in flight

    def answer(handler: BaseHTTPRequestHandler) -> None:
        in_flight.append(now.acquire(blocking=False))
        time.sleep(0.01)
        now.release()
        courses_page(handler)

    with serving(answer) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        walk = edx.courses(7)
        assert [key for keys in walked(walk) for key in keys] == [f"c{n}" for n in range(40)]
        assert walk.problems == []
        assert edx.requests == 21
        assert all(in_flight)
        assert server.connections <= 2
    assert not threads_of_ours()


def test_the_connections_are_closed_when_the_session_is_left() -> None:
    with serving(lambda handler: send(handler, {"id": 7})) as server:
        with EdxClient(server.settings).session(Deadline.after(20)) as edx:
            edx.catalog(7)
            assert (server.connections, server.closed) == (1, 0)
        until = time.monotonic() + 5
        while not server.closed and time.monotonic() < until:
            time.sleep(0.01)
        assert server.closed == 1


def test_requests_in_flight_are_cancelled_when_the_session_is_left() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        (courses_page if "offset=0" in handler.path else trickled_body)(handler)

    with serving(answer) as server:
        began = time.monotonic()
        with EdxClient(server.settings).session(Deadline.after(60)) as edx:
            pages = iter(edx.courses(7))
            next(pages)
            while len(server.asked) < 4:  # token, the first page, two ahead
                time.sleep(0.01)
        with pytest.raises(EdxUnavailable):
            next(pages)
        assert time.monotonic() - began < 5
    assert not threads_of_ours()


def test_two_pages_for_each_request_in_flight_are_requested_ahead(web: Mocker, fake_time: FakeTime) -> None:
    serve(web, {n: page([f"c{n}", f"c{n + 1}", f"c{n + 2}"], 100, at(n + 3)) for n in range(0, 100, 2)})
    with make_client(fake_time, EDX_CONCURRENCY=3).session(fake_time.left(100)) as edx:
        pages = iter(edx.courses(7))
        next(pages)
        until = time.monotonic() + 5
        while edx.requests < 1 + 1 + 6 and time.monotonic() < until:
            time.sleep(0.01)
    assert edx.requests == 1 + 1 + 6  # token, the first page, and those ahead


def test_no_further_page_is_requested_when_the_walk_is_left(web: Mocker, fake_time: FakeTime) -> None:
    asked, left = threading.Event(), threading.Event()

    def second_page(_request: object, context: Any) -> object:
        asked.set()
        left.wait(10)
        context.status_code = 500  # neither tried again nor requested in parts
        return {}

    serve(web, {0: page(["a", "b", "c"], 9, at(3)), 4: page(["e", "f", "g"], 9, at(7))})
    web.get(f"{COURSES}?offset=2", json=second_page)
    web.get(f"{API}catalogs/8/courses/?offset=0", json=page(["x", "y", "z"], 4, at(3)))
    web.get(f"{API}catalogs/8/courses/?offset=2", json=page(["z", "w"], 4))
    with make_client(fake_time, EDX_CONCURRENCY=1).session(fake_time.left(100)) as edx:
        for _page in edx.courses(7):
            assert asked.wait(10)  # the third page waits for the only thread
            break
        left.set()
        assert walked(edx.courses(8)) == [["x", "y", "z"], ["w"]]  # by the same thread, after the third page
    asked_for = [request.qs["offset"] for request in web.request_history if "/7/" in request.path]
    assert asked_for == [["0"], ["2"]]
    assert fake_time.slept == []


def test_a_part_of_a_page_is_tried_again_when_its_content_is_not_the_cause_of_the_failure(
    web: Mocker, edx: EdxSession, fake_time: FakeTime
) -> None:
    web.get(f"{COURSES}?offset=0&limit=3", status_code=500)
    web.get(f"{COURSES}?offset=0&limit=2", [{"status_code": 408}, {"json": page(["a", "b"], 3, at(2))}])
    web.get(f"{COURSES}?offset=2&limit=1", [{"exc": requests.ReadTimeout}, {"json": page(["c"], 3)}])
    assert walked(edx.courses(7)) == [["a", "b", "c"]]
    assert fake_time.slept == [0.5, 1.0, 2.0, 0.5, 0.5]


def test_a_session_uses_all_slots_when_an_earlier_one_was_left() -> None:
    both = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        both.wait(10)
        send(handler, {"id": 7})

    with serving(answer) as server:
        client = EdxClient(server.settings)
        with client.session(Deadline.after(20)):
            pass
        with client.session(Deadline.after(20)) as edx, ThreadPoolExecutor(2) as threads:
            assert [catalog.id for catalog in threads.map(edx.catalog, [7, 7])] == [7, 7]
