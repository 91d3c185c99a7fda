from datetime import datetime, timedelta

import pytest
from requests_mock import Mocker

from shared.edx.client import EdxClient, EdxSession
from shared.errors import EdxThrottled
from tests.edx.pretend import CATALOG, NOW, FakeTime


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
    web: Mocker, client: EdxClient, fake_time: FakeTime, retry_after: str | None, wait_s: int
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    web.get(CATALOG, [{"status_code": 429, "headers": headers}, {"json": {"id": 7}}])
    until = NOW + timedelta(seconds=wait_s)
    told: list[datetime] = []
    with (
        client.session(fake_time.left(100), on_throttled=told.append) as edx,
        pytest.raises(EdxThrottled) as caught,
    ):
        edx.catalog(7)
    assert (caught.value.retry_at, told) == (until, [until])
    assert f"{until:%Y-%m-%dT%H:%M:%SZ}" in str(caught.value)
    sent = len(web.request_history)
    with client.session(fake_time.left(100)) as edx, pytest.raises(EdxThrottled) as caught:
        edx.catalogs()  # another session, another path: not sent
    assert caught.value.retry_at == until
    assert len(web.request_history) == sent
    fake_time.passed_s += wait_s
    with client.session(fake_time.left(100)) as edx:
        assert edx.catalog(7).id == 7


def test_a_short_429_is_waited_for_when_it_fits_the_budget(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, [{"status_code": 429, "headers": {"Retry-After": "3"}}, {"json": {"id": 7}}])
    told: list[datetime] = []
    with client.session(fake_time.left(100), on_throttled=told.append) as edx:
        assert edx.catalog(7).id == 7
    assert fake_time.slept == [3]
    assert told == [NOW + timedelta(seconds=3)]


def test_throttled_when_edx_throttles_four_times(web: Mocker, edx: EdxSession, fake_time: FakeTime) -> None:
    web.get(CATALOG, status_code=429, headers={"Retry-After": "1"})
    with pytest.raises(EdxThrottled):
        edx.catalog(7)
    assert len(web.request_history) == 5
    assert fake_time.slept == [1, 1, 1]
