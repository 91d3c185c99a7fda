import logging
import threading
import time
import traceback
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import requests
import requests_mock
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.edx.models import EdxCatalog
from shared.errors import EdxError, EdxProtocolError, EdxRefused, EdxThrottled, EdxUnavailable, NotFound
from tests.edx.loopback import courses_page, send, serving, threads_of_ours
from tests.edx.pretend import (
    CATALOG,
    CATALOGS,
    COURSES,
    SECRET,
    TOKEN,
    FakeTime,
    at,
    offsets,
    page,
    serve,
    walked,
)

# What is sent


def test_a_request_names_us_and_asks_for_english_json_when_it_is_sent(web: Mocker, edx: EdxSession) -> None:
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


def test_the_environment_is_not_trusted_when_it_holds_credentials(
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


# Statuses


@pytest.mark.parametrize("status", [403, 404])
def test_not_found_when_edx_does_not_show_a_catalog(web: Mocker, edx: EdxSession, status: int) -> None:
    web.get(CATALOG, status_code=status)
    web.get(COURSES, status_code=status)
    with pytest.raises(NotFound, match=f"^the catalog is not found: edX answered {status} for catalogs/7/$"):
        edx.catalog(7)
    with pytest.raises(NotFound, match=r"^the catalog is not found: .* catalogs/7/courses/$"):
        walked(edx.courses(7))


def test_edx_refused_when_the_list_of_catalogs_is_forbidden(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOGS, status_code=403)
    with pytest.raises(EdxRefused, match="catalogs/ answered 403"):
        edx.catalogs()


@pytest.mark.parametrize("status", [204, 301, 302, 307, 400, 410, 418])
def test_protocol_error_when_a_status_is_not_promised(web: Mocker, edx: EdxSession, status: int) -> None:
    web.get(CATALOG, status_code=status, headers={"Location": "https://evil.test/"})
    with pytest.raises(EdxProtocolError, match=f"edX answered {status} for catalogs/7/"):
        edx.catalog(7)
    assert len(web.request_history) == 2


@pytest.mark.parametrize("body", ["<html>", '{"id": 7 }}', '{"detail": "x"}', "[]"])
def test_protocol_error_without_a_further_try_when_a_200_is_not_the_promised_json(
    web: Mocker, edx: EdxSession, body: str
) -> None:
    web.get(CATALOG, text=body)
    with pytest.raises(EdxProtocolError, match="catalogs/7/ is not what its API promises"):
        edx.catalog(7)
    assert len(web.request_history) == 2


# The list of catalogs


def test_catalogs_are_listed_in_order_when_they_come_in_pages(web: Mocker, edx: EdxSession) -> None:
    web.get(
        CATALOGS,
        [
            {"json": {"count": 3, "next": at(2), "results": [{"id": 9}, {"id": 2}, "junk", {"id": "4"}]}},
            {"json": {"count": 3, "next": None, "results": [{"id": 5, "name": "E"}]}},
        ],
    )
    assert [catalog.id for catalog in edx.catalogs()] == [9, 2, 5]
    assert offsets(web) == ["0", "2"]


def test_the_list_is_empty_when_edx_lists_none(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOGS, json={"count": 0, "next": "", "results": []})
    assert edx.catalogs() == []


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
def test_protocol_error_when_the_list_of_catalogs_is_not_whole(
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
def test_neither_secret_nor_token_shows_when_a_call_fails(
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
    assert caught.value.__context__ is None  # requests' own errors hold the request
    shown = [
        *traceback.format_exception(caught.value),
        caplog.text,
        repr(client),
        repr(edx),
        repr(vars(client)),
    ]
    assert not [text for text in shown if SECRET in text or "t0k3n" in text]


# Over real sockets


def test_connections_are_reused_when_pages_are_pulled_side_by_side() -> None:
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


def test_what_is_in_flight_is_cut_when_the_session_is_left() -> None:
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


def test_no_page_is_asked_for_when_another_was_throttled() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "offset=0" in handler.path:
            courses_page(handler)
        else:
            send(handler, b"", 429, Retry_After="3600")

    seen: list[list[object]] = []
    with serving(answer) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        with pytest.raises(EdxThrottled):
            seen.extend(edx.courses(7))
        with pytest.raises(EdxThrottled):
            edx.catalogs()
    assert len(seen) == 1
    assert len(server.asked) <= 4  # token, the first page, and at most as many as are in flight at once


def test_nobody_asks_before_the_time_is_up_when_a_short_throttling_comes() -> None:
    asked_at: list[float] = []
    throttled_at: list[float] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked_at.append(time.monotonic())
        if "offset=10" in handler.path and not throttled_at:
            send(handler, b"", 429, Retry_After="1")
            throttled_at.append(time.monotonic())
        else:
            courses_page(handler)

    with serving(answer) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        walk = edx.courses(7)
        walked(walk)
    assert (walk.distinct, walk.problems) == (40, [])
    waits = [moment - throttled_at[0] for moment in asked_at]
    assert not [wait_s for wait_s in waits if 0.2 < wait_s < 0.95]
    assert [wait_s for wait_s in waits if wait_s >= 0.95]


def test_nothing_more_is_asked_when_the_walk_is_left() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "offset=0" in handler.path:
            courses_page(handler)
        else:
            time.sleep(0.1)
            send(handler, b"", 500)

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(Deadline.after(60)) as edx:
            for _page in edx.courses(7):
                break
            time.sleep(0.5)
            assert edx.requests <= 2 + 2  # token, first page, and what was in flight: no tries, no pages
        assert not threads_of_ours()


def test_threads_share_one_renewal_when_their_token_is_rejected() -> None:
    tokens = iter(["old", "new"])
    both = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers["Authorization"] == "JWT old":
            both.wait(10)  # both have sent the old token before either is told
            send(handler, b"", 401)
        else:
            send(handler, {"id": 7})

    def token(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        send(handler, {"access_token": next(tokens), "expires_in": 180})

    with serving(answer, token) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        threads = [threading.Thread(target=edx.catalog, args=[7]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.asked.count("/token") == 2
    assert server.asked.count("/v1/catalogs/7/") == 4


def test_pages_after_an_empty_one_are_yielded_when_they_were_in_flight() -> None:
    both = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        offset = int(parse_qs(urlsplit(handler.path).query)["offset"][0])
        if offset:
            both.wait(10)
        keys = {0: ["a", "b"], 2: [], 4: ["e"]}[offset]
        send(handler, page(keys, 5, at(offset + 2) if offset < 4 else None))

    with serving(answer) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        walk = edx.courses(7)
        assert walked(walk) == [["a", "b"], [], ["e"]]
    assert walk.problems == ["an empty page came in mid-walk", "3 distinct courses came of a count of 5"]


def test_no_page_is_skipped_when_the_last_one_comes_before_another_has_begun(
    web: Mocker, edx: EdxSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(
        web,
        {0: page(["a", "b"], 5, at(2)), 2: page(["c", "d"], 5, at(4)), 4: page(["e"], 5)},
    )
    last_came = threading.Event()
    submit = edx.submit

    def late(work: Callable[[Cursor], object], cursor: Cursor) -> Future[object]:
        def begin(cursor: Cursor) -> object:
            if cursor.position == 2:
                assert last_came.wait(10)
            result = work(cursor)
            if cursor.position == 4:
                last_came.set()
            return result

        return submit(begin, cursor)

    monkeypatch.setattr(edx, "submit", late)

    walk = edx.courses(7)

    assert walked(walk) == [["a", "b"], ["c", "d"], ["e"]]
    assert walk.problems == []


def test_requests_in_flight_are_bounded_when_sessions_pull_side_by_side() -> None:
    free = threading.Semaphore(2)
    kept_to_the_bound: list[bool] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        kept_to_the_bound.append(free.acquire(blocking=False))
        time.sleep(0.01)
        free.release()
        courses_page(handler)

    with serving(answer) as server:
        client = EdxClient(server.settings)

        def pull() -> None:
            with client.session(Deadline.after(20)) as edx:
                walked(edx.courses(7))

        threads = [threading.Thread(target=pull) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(kept_to_the_bound) == 60
    assert all(kept_to_the_bound)
