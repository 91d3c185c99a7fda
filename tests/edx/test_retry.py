from datetime import UTC, datetime

import pytest
import requests
from requests_mock import Mocker

from shared.edx.client import EdxClient, EdxSession
from shared.errors import EdxThrottled, EdxUnavailable
from tests.edx.pretend import CATALOG, FakeTime


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


def test_unavailable_at_once_when_the_backoff_does_not_fit_the_budget(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, status_code=500)
    with client.session(fake_time.left(1.2)) as edx, pytest.raises(EdxUnavailable, match="answered 500"):
        edx.catalog(7)
    assert fake_time.slept == [0.5]


def test_a_503s_retry_after_is_waited_for_when_it_fits(
    web: Mocker, edx: EdxSession, fake_time: FakeTime
) -> None:
    web.get(CATALOG, [{"status_code": 503, "headers": {"Retry-After": "20"}}, {"json": {"id": 7}}])
    assert edx.catalog(7).id == 7
    assert fake_time.slept == [20]


def test_unavailable_with_the_time_to_come_back_when_a_503s_retry_after_does_not_fit(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, status_code=503, headers={"Retry-After": "Sun, 01 Mar 2026 14:00:00 GMT"})
    told: list[datetime] = []
    with client.session(fake_time.left(100), on_throttled=told.append) as edx:
        with pytest.raises(EdxUnavailable) as caught:
            edx.catalog(7)
        assert caught.value.retry_at == datetime(2026, 3, 1, 14, tzinfo=UTC)
        assert not isinstance(caught.value, EdxThrottled)
        with pytest.raises(EdxUnavailable):
            edx.catalog(7)  # not remembered: edX is asked again
    assert [request.method for request in web.request_history] == ["POST", "GET", "GET"]
    assert (told, fake_time.slept) == ([], [])
