from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from requests_mock import Mocker

from shared.edx.client import EdxClient, EdxSession
from shared.errors import EdxProtocolError, EdxThrottled, EdxUnavailable
from tests.edx.pretend import CATALOG, COURSES, TOKEN, FakeTime, at, make_settings, page, walked


@pytest.mark.parametrize(
    "failure",
    [
        {"status_code": 500},
        {"status_code": 502},
        {"status_code": 503},
        {"status_code": 504},
        {"status_code": 520},
        {"status_code": 408},
        {"status_code": 403, "text": "<html>blocked</html>"},
        {"status_code": 404, "json": {"message": "no Route matched"}},
        {"text": "<html>login</html>"},
        {"content": b""},
        {"text": '{"id": 7, "x": [{"a": 1}'},
        {"exc": requests.ConnectionError},
        {"exc": requests.ReadTimeout},
        {"content": b"no gzip", "headers": {"Content-Encoding": "gzip"}},
        {"text": '{"id": 7, "na'},
    ],
)
def test_four_tries_with_growing_backoff_when_edx_fails(
    web: Mocker, edx: EdxSession, fake_time: FakeTime, failure: dict[str, object]
) -> None:
    web.get(CATALOG, [failure] * 3 + [{"json": {"id": 7}}])
    assert edx.catalog(7).id == 7
    assert fake_time.slept == [0.5, 1.0, 2.0]


def test_unavailable_when_the_fourth_try_fails_too(web: Mocker, edx: EdxSession) -> None:
    web.get(CATALOG, status_code=500)
    with pytest.raises(EdxUnavailable, match="catalogs/7/ answered 500") as caught:
        edx.catalog(7)
    assert not isinstance(caught.value, EdxThrottled)
    assert caught.value.retry_at is None
    assert len(web.request_history) == 5


def test_error_names_the_request_the_host_and_the_failure_when_edx_is_unavailable(
    web: Mocker, edx: EdxSession
) -> None:
    web.get(CATALOG, status_code=502)
    with pytest.raises(EdxUnavailable) as caught:
        edx.catalog(7)
    assert caught.value.message == "edX is unavailable: catalogs/7/ answered 502 (host edx.test, try 4)"
    assert caught.value.status == 502
    web.get(CATALOG, text="<p>")
    with pytest.raises(EdxUnavailable) as caught:
        edx.catalog(7)
    assert caught.value.message == (
        "edX is unavailable: catalogs/7/ sent a broken body: "
        "incomplete or invalid JSON (host edx.test, try 4)"
    )
    assert caught.value.status is None


def test_the_token_endpoint_is_named_when_it_fails(web: Mocker, edx: EdxSession) -> None:
    web.post(TOKEN, status_code=500)
    with pytest.raises(EdxUnavailable) as caught:
        edx.catalog(7)
    assert caught.value.message == (
        "edX is unavailable: the token endpoint answered 500 (host edx.test, try 4)"
    )


@pytest.mark.parametrize("body", ["[]", '{"detail": "x"}', '{"id": "7"}'])
def test_protocol_error_without_a_retry_when_a_200_is_json_of_another_structure(
    web: Mocker, edx: EdxSession, body: str
) -> None:
    web.get(CATALOG, text=body)
    with pytest.raises(EdxProtocolError, match="catalogs/7/ does not match its API"):
        edx.catalog(7)
    assert len(web.request_history) == 2


def test_a_page_is_tried_four_times_and_each_half_once_when_edx_cannot_render_it(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    def answer(request: Any, context: Any) -> object:
        offset, limit = int(request.qs["offset"][0]), int(request.qs["limit"][0])
        asked.append((offset, limit))
        if offset <= 1 < offset + limit:
            context.status_code = 500
            return {}
        keys = [f"c{n}" for n in range(offset, min(offset + limit, 3))]
        return page(keys, 3, at(offset + limit, limit) if offset + limit < 3 else None)

    asked: list[tuple[int, int]] = []
    web.get(COURSES, json=answer)
    with client.session(fake_time.left(100)) as edx:
        walk = edx.courses(7)
        assert walked(walk) == [["c0", "c2"]]
        assert walk.problems == ["edX could not render the course at position 1"]
        assert asked == [(0, 3)] * 4 + [(0, 2), (0, 1), (1, 1), (2, 1)]
        assert edx.requests == 1 + 8


@pytest.mark.parametrize(("left_s", "slept"), [(1.2, [0.5]), (1.5, [0.5]), (1.6, [0.5, 1.0])])
def test_unavailable_at_once_when_the_backoff_does_not_fit_the_budget(
    web: Mocker, client: EdxClient, fake_time: FakeTime, left_s: float, slept: list[float]
) -> None:
    web.get(CATALOG, status_code=500)
    with client.session(fake_time.left(left_s)) as edx, pytest.raises(EdxUnavailable, match="answered 500"):
        edx.catalog(7)
    assert fake_time.slept == slept


@pytest.mark.parametrize(("wait_s", "slept"), [(20, [20]), (60, [60]), (61, [])])
def test_a_503s_retry_after_is_waited_for_when_it_is_at_most_a_minute(
    web: Mocker, client: EdxClient, fake_time: FakeTime, wait_s: int, slept: list[float]
) -> None:
    web.get(CATALOG, [{"status_code": 503, "headers": {"Retry-After": f"{wait_s}"}}, {"json": {"id": 7}}])
    with client.session(fake_time.left(1000)) as edx:
        if slept:
            assert edx.catalog(7).id == 7
        else:
            with pytest.raises(EdxUnavailable, match="try 1"):
                edx.catalog(7)
    assert fake_time.slept == slept


def test_the_pause_is_shorter_by_chance(web: Mocker, fake_time: FakeTime) -> None:
    chances = iter([0.5, 0.75, 0.0, 1.0])
    client = EdxClient(
        make_settings(), clock=fake_time.clock, sleep=fake_time.sleep, random=lambda: next(chances)
    )
    web.get(CATALOG, status_code=500)
    with client.session(fake_time.left(100)) as edx, pytest.raises(EdxUnavailable):
        edx.catalog(7)
    assert fake_time.slept == [0.25, 0.75, 0.0]


def test_unavailable_with_a_retry_time_when_a_503_asks_for_more_than_a_minute(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, status_code=503, headers={"Retry-After": "Sun, 01 Mar 2026 14:00:00 GMT"})
    told: list[datetime] = []
    with client.session(fake_time.left(10_000), on_throttled=told.append) as edx:
        with pytest.raises(EdxUnavailable) as caught:
            edx.catalog(7)
        assert caught.value.retry_at == datetime(2026, 3, 1, 14, tzinfo=UTC)
        assert not isinstance(caught.value, EdxThrottled)
        with pytest.raises(EdxUnavailable):
            edx.catalog(7)  # the wait is not stored: edX is called again
    assert [request.method for request in web.request_history] == ["POST", "GET", "GET"]
    assert (told, fake_time.slept) == ([], [])
