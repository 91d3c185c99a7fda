"""The client's own decisions with requests-mock, then what only real sockets can show, over loopback."""

import gzip
import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import requests
import requests_mock
from requests_mock import Mocker

from shared.course_walk import CourseWalk
from shared.edx_client import EdxClient, EdxSession
from shared.edx_models import Cursor, EdxCatalog, EdxCourse, readable_key
from shared.errors import (
    EdxError,
    EdxProtocolError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    NotFound,
)
from shared.settings import EdxSettings
from tests.clock import Clock

API = "https://edx.test/catalog/v1/"
TOKEN = "https://edx.test/oauth2/v1/access_token"
CATALOGS = f"{API}catalogs/"
CATALOG = f"{API}catalogs/7/"
COURSES = f"{API}catalogs/7/courses/"
SECRET = "s3cr3t-of-ours"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def make_settings(**overrides: object) -> EdxSettings:
    return EdxSettings.model_validate(
        {
            "EDX_API_URL": API,
            "EDX_TOKEN_URL": TOKEN,
            "EDX_CLIENT_ID": "our-client",
            "EDX_CLIENT_SECRET": SECRET,
            "EDX_PAGE_SIZE": 2,
            "EDX_CONCURRENCY": 2,
            **overrides,
        }
    )


@pytest.fixture
def client(clock: Clock) -> EdxClient:
    return make_client(clock)


def make_client(clock: Clock, **settings: object) -> EdxClient:
    return EdxClient(
        make_settings(**settings),
        clock=clock.monotonic,
        now=clock.now,
        sleep=clock.sleep,
        random=lambda: 1.0,
    )


@pytest.fixture
def edx(client: EdxClient) -> Iterator[EdxSession]:
    with client.session(budget_s=100) as session:
        yield session


@pytest.fixture
def web() -> Iterator[Mocker]:
    with requests_mock.Mocker() as mocker:
        mocker.post(TOKEN, json={"access_token": "t1", "expires_in": 3600})
        yield mocker


def course(key: object) -> dict[str, object]:
    return {"key": key}


def page(keys: Sequence[object], count: object = None, following: object = None) -> dict[str, object]:
    return {"count": count, "next": following, "results": [course(key) for key in keys]}


def serve(web: Mocker, pages: dict[int, dict[str, object]]) -> None:
    """Serve a page for each offset."""

    def answer(request: requests.PreparedRequest, _context: object) -> dict[str, object]:
        return pages[int(parse_qs(urlsplit(request.url or "").query)["offset"][0])]

    web.get(COURSES, json=answer)


def offsets(web: Mocker) -> list[str]:
    return [request.qs["offset"][0] for request in web.request_history if "offset" in request.qs]


def walked(walk: CourseWalk) -> list[list[str | None]]:
    return [[readable_key(entry) for entry in courses] for courses in walk]


def at(offset: int, limit: int = 2) -> str:
    return f"https://discovery.test/api/v1/other/?limit={limit}&offset={offset}"


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


# The token


def test_the_token_is_asked_for_once_when_sessions_follow_each_other(web: Mocker, client: EdxClient) -> None:
    web.get(CATALOG, json={"id": 7})
    for _ in range(2):
        with client.session(budget_s=100) as edx:
            edx.catalog(7)
    assert [request.method for request in web.request_history] == ["POST", "GET", "GET"]


@pytest.mark.parametrize(
    ("expires_in", "age_s", "token_calls"),
    [(180, 161, 1), (180, 162, 2), (3600, 3569, 1), (3600, 3570, 2), (None, 53, 1), ("soon", 54, 2)],
)
def test_the_token_is_renewed_when_it_is_about_to_expire(
    web: Mocker, clock: Clock, expires_in: object, age_s: float, token_calls: int
) -> None:
    web.post(TOKEN, json={"access_token": "t1", "expires_in": expires_in})
    web.get(CATALOG, json={"id": 7})
    with make_client(clock).session(budget_s=10_000) as edx:
        edx.catalog(7)
        clock.pass_s(age_s)
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


def test_throttled_when_the_token_endpoint_says_so(web: Mocker, client: EdxClient) -> None:
    web.post(TOKEN, status_code=429, headers={"Retry-After": "3600"})
    told: list[datetime] = []
    with client.session(budget_s=100, on_throttled=told.append) as edx, pytest.raises(EdxThrottled):
        edx.catalog(7)
    assert told == [NOW + timedelta(hours=1)]


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


# Tries


@pytest.mark.parametrize(
    "failure",
    [
        {"status_code": 500},
        {"status_code": 502},
        {"status_code": 503},
        {"status_code": 504},
        {"status_code": 520},
        {"exc": requests.ConnectionError},
        {"exc": requests.ReadTimeout},
        {"content": b"no gzip", "headers": {"Content-Encoding": "gzip"}},
        {"text": '{"id": 7, "na'},
    ],
)
def test_four_tries_with_growing_backoff_when_edx_fails(
    web: Mocker, edx: EdxSession, clock: Clock, failure: dict[str, object]
) -> None:
    web.get(CATALOG, [failure] * 3 + [{"json": {"id": 7}}])
    assert edx.catalog(7).id == 7
    assert clock.slept == [0.5, 1.0, 2.0]


def test_unavailable_when_the_fourth_try_fails_too(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOG, status_code=500)
    with pytest.raises(EdxUnavailable, match="catalogs/7/ answered 500") as caught:
        edx.catalog(7)
    assert not isinstance(caught.value, EdxThrottled)
    assert caught.value.retry_at is None
    assert len(web.request_history) == 5


def test_unavailable_at_once_when_the_backoff_does_not_fit_the_budget(
    web: Mocker, client: EdxClient, clock: Clock
) -> None:
    web.get(CATALOG, status_code=500)
    with client.session(budget_s=1.2) as edx, pytest.raises(EdxUnavailable, match="answered 500"):
        edx.catalog(7)
    assert clock.slept == [0.5]


def test_a_503s_retry_after_is_waited_for_when_it_fits(web: Mocker, edx: EdxSession, clock: Clock) -> None:
    web.get(CATALOG, [{"status_code": 503, "headers": {"Retry-After": "20"}}, {"json": {"id": 7}}])
    assert edx.catalog(7).id == 7
    assert clock.slept == [20]


def test_unavailable_with_the_time_to_come_back_when_a_503s_retry_after_does_not_fit(
    web: Mocker, client: EdxClient, clock: Clock
) -> None:
    web.get(CATALOG, status_code=503, headers={"Retry-After": "Sun, 01 Mar 2026 14:00:00 GMT"})
    told: list[datetime] = []
    with client.session(budget_s=100, on_throttled=told.append) as edx:
        with pytest.raises(EdxUnavailable) as caught:
            edx.catalog(7)
        assert caught.value.retry_at == datetime(2026, 3, 1, 14, tzinfo=UTC)
        assert not isinstance(caught.value, EdxThrottled)
        with pytest.raises(EdxUnavailable):
            edx.catalog(7)  # not remembered: edX is asked again
    assert [request.method for request in web.request_history] == ["POST", "GET", "GET"]
    assert (told, clock.slept) == ([], [])


# Throttling


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("3592", 3592),
        ("Sun, 01 Mar 2026 13:00:00 GMT", 3600),
        ("999999", 86400),
        (None, 900),
        ("0", 900),
        ("-1", 900),
        ("soon", 900),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 900),
    ],
)
def test_throttled_until_the_time_is_up_when_a_429_does_not_fit_the_budget(
    web: Mocker, client: EdxClient, clock: Clock, retry_after: str | None, wait_s: int
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    web.get(CATALOG, [{"status_code": 429, "headers": headers}, {"json": {"id": 7}}])
    until = NOW + timedelta(seconds=wait_s)
    told: list[datetime] = []
    with client.session(budget_s=100, on_throttled=told.append) as edx, pytest.raises(EdxThrottled) as caught:
        edx.catalog(7)
    assert (caught.value.retry_at, told) == (until, [until])
    assert f"{until:%Y-%m-%dT%H:%M:%SZ}" in str(caught.value)
    sent = len(web.request_history)
    with client.session(budget_s=100) as edx, pytest.raises(EdxThrottled) as caught:
        edx.catalogs()  # another session, another path: not sent
    assert caught.value.retry_at == until
    assert len(web.request_history) == sent
    clock.pass_s(wait_s)
    with client.session(budget_s=100) as edx:
        assert edx.catalog(7).id == 7


def test_a_short_429_is_waited_for_when_it_fits_the_budget(
    web: Mocker, client: EdxClient, clock: Clock
) -> None:
    web.get(CATALOG, [{"status_code": 429, "headers": {"Retry-After": "3"}}, {"json": {"id": 7}}])
    told: list[datetime] = []
    with client.session(budget_s=100, on_throttled=told.append) as edx:
        assert edx.catalog(7).id == 7
    assert clock.slept == [3]
    assert told == [NOW + timedelta(seconds=3)]


def test_throttled_when_edx_throttles_four_times(web: Mocker, edx: EdxSession, clock: Clock) -> None:
    web.get(CATALOG, status_code=429, headers={"Retry-After": "1"})
    with pytest.raises(EdxThrottled):
        edx.catalog(7)
    assert len(web.request_history) == 5
    assert clock.slept == [1, 1, 1]


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


# The walk


def test_pages_come_in_order_and_from_our_own_host_when_next_names_another(
    web: Mocker, edx: EdxSession
) -> None:
    serve(
        web,
        {
            0: page(["a", "b"], 5, at(2)),
            2: page(["c", "d"], 5, "file:///etc/passwd?limit=2&offset=4"),
            4: page(["e"], 5, ""),
        },
    )
    walk = edx.courses(7)
    assert walked(walk) == [["a", "b"], ["c", "d"], ["e"]]
    assert (walk.count, walk.distinct, walk.problems) == (5, 5, [])
    assert sorted(offsets(web)) == ["0", "2", "4"]
    assert {request.qs["limit"][0] for request in web.request_history[1:]} == {"2"}
    assert {request.hostname for request in web.request_history} == {"edx.test"}


def test_an_empty_catalog_is_whole_when_the_count_is_0(web: Mocker, edx: EdxSession) -> None:
    serve(web, {0: page([], 0)})
    walk = edx.courses(7)
    assert walked(walk) == [[]]
    assert (walk.count, walk.distinct, walk.problems) == (0, 0, [])


def test_the_servers_stride_is_used_when_it_caps_the_limit(web: Mocker, edx: EdxSession) -> None:
    serve(web, {n: page([f"c{n}"], 3, at(n + 1, 1) if n < 2 else None) for n in range(3)})
    walk = edx.courses(7)
    assert walked(walk) == [["c0"], ["c1"], ["c2"]]
    assert walk.problems == []
    assert {request.qs["limit"][0] for request in web.request_history[2:]} == {"1"}


def test_pages_are_asked_for_by_number_when_next_counts_in_pages(web: Mocker, edx: EdxSession) -> None:
    web.get(f"{COURSES}?offset=0", json=page(["a", "b"], 5, "?page=2"))
    web.get(f"{COURSES}?page=2", json=page(["c", "d"], 5, "?page=3"))
    web.get(f"{COURSES}?page=3", json=page(["e"], 5, None))
    walk = edx.courses(7)
    assert walked(walk) == [["a", "b"], ["c", "d"], ["e"]]
    assert walk.problems == []


@pytest.mark.parametrize("count", [None, "5", 5.0, True, -1])
def test_pages_are_walked_by_next_and_the_pull_is_not_whole_when_there_is_no_count(
    web: Mocker, edx: EdxSession, count: object
) -> None:
    serve(web, {0: page(["a", "b"], count, at(2)), 2: page(["c"], count, None)})
    walk = edx.courses(7)
    assert walked(walk) == [["a", "b"], ["c"]]
    assert (walk.count, walk.distinct, walk.problems) == (None, 3, ["edX sent no count"])


def test_the_walk_goes_on_by_next_when_the_count_is_too_low(web: Mocker, edx: EdxSession) -> None:
    serve(web, {0: page(["a", "b"], 3, at(2)), 2: page(["c", "d"], 3, at(4)), 4: page(["e"], 3, None)})
    walk = edx.courses(7)
    assert walked(walk) == [["a", "b"], ["c", "d"], ["e"]]
    assert walk.problems == ["5 distinct courses came of a count of 3"]


def test_the_pull_is_not_whole_when_the_count_changes(web: Mocker, edx: EdxSession) -> None:
    serve(web, {0: page(["a", "b"], 3, at(2)), 2: page(["c"], 4, None)})
    walk = edx.courses(7)
    walked(walk)
    assert walk.problems == ["the count changed from 3 to 4"]


def test_the_first_wins_and_the_pull_is_not_whole_when_a_course_comes_twice(
    web: Mocker, edx: EdxSession
) -> None:
    first = {"key": "b", "uuid": "first"}
    serve(
        web,
        {
            0: {"count": 4, "next": at(2), "results": [{"key": "a"}, first]},
            2: {"count": 4, "next": None, "results": [{"key": "b", "uuid": "second"}, {"key": "c"}]},
        },
    )
    walk = edx.courses(7)
    assert list(walk) == [[EdxCourse(key="a"), EdxCourse(key="b", uuid="first")], [EdxCourse(key="c")]]
    assert walk.problems == ["courses came more than once: 1", "3 distinct courses came of a count of 4"]


def test_courses_without_a_key_are_yielded_and_distinct_when_they_are_junk(
    web: Mocker, edx: EdxSession
) -> None:
    serve(web, {0: {"count": 4, "next": None, "results": [None, None, {"key": 3}, {"key": ""}]}})
    walk = edx.courses(7)
    assert list(walk) == [[None, None, EdxCourse(key=3), EdxCourse(key="")]]
    assert (walk.distinct, walk.problems) == (4, [])


def test_the_walk_stops_when_a_page_repeats(web: Mocker, edx: EdxSession) -> None:
    web.get(
        COURSES,
        json=lambda request, _: page(["a", "b"], 10**12, at(int(request.qs["offset"][0]) + 2)),
    )
    walk = edx.courses(7)
    pages = walked(walk)
    assert pages[0] == ["a", "b"]
    assert not any(pages[1:])
    assert len(offsets(web)) <= 1 + 1 + 2  # the first, its repetition, and what was in flight beside it
    assert walk.problems[0] == "a page brought only courses that had come before"


def test_the_walk_stops_when_pages_are_empty_whatever_the_count(web: Mocker, edx: EdxSession) -> None:
    pages = {0: page(["a", "b"], 10**12, at(2)), 2: page(["c"], 10**12, at(4))}
    web.get(
        COURSES,
        json=lambda request, _: pages.get(n := int(request.qs["offset"][0]), page([], 10**12, at(n + 2))),
    )
    walk = edx.courses(7)
    assert [keys for keys in walked(walk) if keys] == [["a", "b"], ["c"]]
    assert len(offsets(web)) <= 2 + 1 + 2
    assert walk.problems == [
        "an empty page came in mid-walk",
        "3 distinct courses came of a count of 1000000000000",
    ]


@pytest.mark.parametrize("following", ["?offset=0", "?offset=2", "?offset=1", "?page=2", "?cursor=x", 4])
def test_protocol_error_after_the_pages_before_it_when_a_cursor_does_not_advance(
    web: Mocker, edx: EdxSession, following: object
) -> None:
    serve(web, {0: page(["a", "b"], None, at(2)), 2: page(["c", "d"], None, following)})
    walk = iter(edx.courses(7))
    assert [readable_key(entry) for entry in next(walk)] == ["a", "b"]
    with pytest.raises(EdxProtocolError, match="`next`"):
        next(walk)
    assert len(offsets(web)) == 2


def test_the_pages_before_it_are_yielded_when_one_cannot_be_had(web: Mocker, edx: EdxSession) -> None:
    def answer(
        request: requests_mock.request._RequestObjectProxy, context: requests_mock.response._Context
    ) -> object:
        offset = int(request.qs["offset"][0])
        if offset == 4:
            context.status_code = 500
        return page([f"c{offset}", f"d{offset}"], 10, at(offset + 2))

    web.get(COURSES, json=answer)
    seen: list[list[object]] = []
    with pytest.raises(EdxUnavailable, match="catalogs/7/courses/ answered 500"):
        seen.extend(edx.courses(7))
    assert [[readable_key(entry) for entry in courses] for courses in seen] == [["c0", "d0"], ["c2", "d2"]]


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
    web: Mocker, client: EdxClient, caplog: pytest.LogCaptureFixture, url: str, answer: dict[str, object]
) -> None:
    caplog.set_level(logging.DEBUG)
    web.post(TOKEN, json={"access_token": "t0k3n-of-theirs"})
    web.register_uri(requests_mock.ANY, url, [answer])
    with client.session(budget_s=100) as edx, pytest.raises(EdxError) as caught:
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

Answer = Callable[[BaseHTTPRequestHandler], None]


class Edx(ThreadingHTTPServer):
    """A server whose every answer the test writes; it counts its connections."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer, token: Answer) -> None:
        self.connections = 0
        self.asked: list[str] = []
        self.gone = threading.Event()  # lets a trickling handler end with the test
        edx = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                edx.asked.append(self.path)
                with suppress(OSError):
                    answer(self)

            def do_POST(self) -> None:
                edx.asked.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                with suppress(OSError):
                    token(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are the point

    @property
    def settings(self) -> EdxSettings:
        url = f"http://127.0.0.1:{self.server_port}"
        return make_settings(EDX_API_URL=f"{url}/v1/", EDX_TOKEN_URL=f"{url}/token")


def send(handler: BaseHTTPRequestHandler, body: object, status: int = 200, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def send_token(handler: BaseHTTPRequestHandler) -> None:
    send(handler, {"access_token": "t1", "expires_in": 180})


def trickle(handler: BaseHTTPRequestHandler, begin: bytes, drop: bytes) -> None:
    assert isinstance(handler.server, Edx)
    handler.wfile.write(begin)
    while not handler.server.gone.wait(0.05):
        handler.wfile.write(drop)


@contextmanager
def serving(answer: Answer, token: Answer = send_token) -> Iterator[Edx]:
    server = Edx(answer, token)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield server
    finally:
        server.gone.set()
        server.shutdown()
        thread.join()
        server.server_close()


def of_ours() -> set[threading.Thread]:
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("edx-pages") or isinstance(thread, threading.Timer)
    }


def trickled_headers(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nX-Long: ", b"x")


def trickled_body(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" ")


def trickled_chunks(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")


def trickled_until_closed(handler: BaseHTTPRequestHandler) -> None:
    # Cut short, such a body looks whole: {"id": 7} and blanks.
    trickle(handler, b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"id": 7}', b" ")


def silence(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"", b"")


def endless_redirect(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 302 Found\r\nLocation: /v1/x\r\nContent-Length: 1000000\r\n\r\n", b" ")


@pytest.mark.parametrize(
    "answer", [trickled_headers, trickled_body, trickled_chunks, trickled_until_closed, silence]
)
def test_the_budget_ends_an_exchange_when_the_answer_trickles(answer: Answer) -> None:
    with serving(answer) as server:
        began = time.monotonic()
        with EdxClient(server.settings).session(budget_s=0.5) as edx:
            with pytest.raises(EdxUnavailable, match=re.escape("the time budget of 0.5 s ran out")):
                edx.catalog(7)
            assert 0.4 < time.monotonic() - began < 2
            sent = edx.requests
            with pytest.raises(EdxUnavailable, match="ran out"):
                edx.catalogs()
            assert edx.requests == sent
        assert not of_ours()


@pytest.mark.parametrize("token", [trickled_headers, trickled_body, silence])
def test_the_budget_ends_an_exchange_when_the_token_call_trickles(token: Answer) -> None:
    with serving(silence, token) as server:
        began = time.monotonic()
        with (
            EdxClient(server.settings).session(budget_s=0.5) as edx,
            pytest.raises(EdxUnavailable, match="ran out"),
        ):
            edx.catalog(7)
        assert time.monotonic() - began < 2


def test_an_error_body_is_not_read_when_it_never_ends() -> None:
    for answer, error in ((endless_redirect, EdxProtocolError), (endless_not_found, NotFound)):
        with serving(answer) as server:
            began = time.monotonic()
            with EdxClient(server.settings).session(budget_s=20) as edx, pytest.raises(error):
                edx.catalog(7)
            assert time.monotonic() - began < 5


def endless_not_found(handler: BaseHTTPRequestHandler) -> None:
    trickle(handler, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n", b" ")


@pytest.mark.parametrize("location", ["/v1/catalogs/8/", "http://127.0.0.1:9/", "http://[", ""])
def test_no_redirect_is_followed_when_one_comes(location: str) -> None:
    with (
        serving(lambda handler: send(handler, b"", 302, Location=location)) as server,
        EdxClient(server.settings).session(budget_s=20) as edx,
        pytest.raises(EdxProtocolError, match="edX answered 302"),
    ):
        edx.catalog(7)
    assert server.asked == ["/token", "/v1/catalogs/7/"]


def test_protocol_error_names_the_limit_when_an_answer_is_too_large() -> None:
    bomb = gzip.compress(b" " * (33 * 1024 * 1024))
    with (
        serving(lambda handler: send(handler, bomb, Content_Encoding="gzip")) as server,
        EdxClient(server.settings).session(budget_s=20) as edx,
        pytest.raises(EdxProtocolError, match="more than 32 MiB"),
    ):
        edx.catalog(7)


def test_an_answer_is_read_when_it_is_large_and_compressed() -> None:
    body = gzip.compress(b" " * (31 * 1024 * 1024) + b'{"id": 7}')
    with (
        serving(lambda handler: send(handler, body, Content_Encoding="gzip")) as server,
        EdxClient(server.settings).session(budget_s=20) as edx,
    ):
        assert edx.catalog(7).id == 7


def reset_in_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
    handler.close_connection = True


def cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id": 7}')
    handler.close_connection = True


def cut_chunks(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"id": 7}\r\n')
    handler.close_connection = True


def broken_gzip(handler: BaseHTTPRequestHandler) -> None:
    send(handler, gzip.compress(b'{"id": 7}')[:12] + b"garbage", Content_Encoding="gzip")


def not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("fault", [reset_in_headers, cut_short, cut_chunks, broken_gzip, not_http])
def test_a_broken_exchange_is_tried_again_when_there_is_time(fault: Answer) -> None:
    answers: Iterator[Answer] = iter([fault, lambda handler: send(handler, {"id": 7})])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(budget_s=20) as edx:
            assert edx.catalog(7).id == 7
            assert edx.requests == 3


def test_nothing_that_edx_sent_is_logged_when_its_headers_break_off(caplog: pytest.LogCaptureFixture) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Private-Hea")
        handler.close_connection = True

    with serving(answer) as server:
        client = EdxClient(server.settings, random=lambda: 0.0)
        with client.session(budget_s=20) as edx, pytest.raises(EdxError):
            edx.catalog(7)
    assert caplog.text == ""


def test_unavailable_when_nobody_listens() -> None:
    with serving(silence) as server:
        settings = server.settings
    client = EdxClient(settings, random=lambda: 0.0)
    with client.session(budget_s=20) as edx, pytest.raises(EdxUnavailable, match="cannot be reached"):
        edx.catalog(7)


def courses_page(handler: BaseHTTPRequestHandler) -> None:
    offset = int(parse_qs(urlsplit(handler.path).query)["offset"][0])
    following = at(offset + 2) if offset < 38 else None
    send(handler, page([f"c{offset}", f"c{offset + 1}"], 40, following))


def test_connections_are_reused_when_pages_are_pulled_side_by_side() -> None:
    in_flight: list[int] = []
    now = threading.Semaphore(2)  # as many as may be in flight

    def answer(handler: BaseHTTPRequestHandler) -> None:
        in_flight.append(now.acquire(blocking=False))
        time.sleep(0.01)
        now.release()
        courses_page(handler)

    with serving(answer) as server, EdxClient(server.settings).session(budget_s=20) as edx:
        walk = edx.courses(7)
        assert [key for keys in walked(walk) for key in keys] == [f"c{n}" for n in range(40)]
        assert walk.problems == []
        assert edx.requests == 21
        assert all(in_flight)
        assert server.connections <= 2
    assert not of_ours()


def test_what_is_in_flight_is_cut_when_the_session_is_left() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        (courses_page if "offset=0" in handler.path else trickled_body)(handler)

    with serving(answer) as server:
        began = time.monotonic()
        with EdxClient(server.settings).session(budget_s=60) as edx:
            pages = iter(edx.courses(7))
            next(pages)
            while len(server.asked) < 4:  # token, the first page, two ahead
                time.sleep(0.01)
        with pytest.raises(EdxUnavailable):
            next(pages)
        assert time.monotonic() - began < 5
    assert not of_ours()


def test_no_page_is_asked_for_when_another_was_throttled() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "offset=0" in handler.path:
            courses_page(handler)
        else:
            send(handler, b"", 429, Retry_After="3600")

    seen: list[list[object]] = []
    with serving(answer) as server, EdxClient(server.settings).session(budget_s=20) as edx:
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

    with serving(answer) as server, EdxClient(server.settings).session(budget_s=20) as edx:
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
        with client.session(budget_s=60) as edx:
            for _page in edx.courses(7):
                break
            time.sleep(0.5)
            assert edx.requests <= 2 + 2  # token, first page, and what was in flight: no tries, no pages
        assert not of_ours()


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

    with serving(answer, token) as server, EdxClient(server.settings).session(budget_s=20) as edx:
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

    with serving(answer) as server, EdxClient(server.settings).session(budget_s=20) as edx:
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
            with client.session(budget_s=20) as edx:
                walked(edx.courses(7))

        threads = [threading.Thread(target=pull) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(kept_to_the_bound) == 60
    assert all(kept_to_the_bound)
