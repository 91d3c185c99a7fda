import threading
import time
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.errors import EdxThrottled
from tests.edx.loopback import courses_page, send, serving
from tests.edx.pretend import CATALOG, NOW, FakeTime, walked


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


# Over real sockets


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
    assert walk.problems == []
    waits = [moment - throttled_at[0] for moment in asked_at]
    assert not [wait_s for wait_s in waits if 0.2 < wait_s < 0.95]
    assert [wait_s for wait_s in waits if wait_s >= 0.95]


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
