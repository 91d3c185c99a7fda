import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from threading import Event, Semaphore, Thread

import pytest
from requests_mock import Mocker

from shared.deadline import Deadline
from shared.edx.client import EdxClient, EdxSession
from shared.edx.gate import Gate
from shared.errors import EdxThrottled, EdxUnavailable
from tests.edx.loopback import Answer, courses_page, send, serving, trickled_body
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
def test_throttled_error_is_raised_when_a_429_lasts_longer_than_the_budget(
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


@pytest.mark.parametrize(
    "detail", ["Request was throttled. Expected available in 3592 seconds.", "Request was throttled."]
)
def test_the_end_of_throttling_is_read_from_the_body_when_there_is_no_header(
    web: Mocker, edx: EdxSession, detail: str
) -> None:
    web.get(CATALOG, status_code=429, json={"detail": detail})
    with pytest.raises(EdxThrottled) as caught:
        edx.catalog(7)
    assert caught.value.retry_at == NOW + timedelta(seconds=3592 if "3592" in detail else 900)


@pytest.mark.parametrize(("wait_s", "is_waited_for"), [(60, True), (61, False)])
def test_a_rate_limit_of_more_than_a_minute_is_not_waited_for_when_there_is_time(
    web: Mocker, client: EdxClient, fake_time: FakeTime, wait_s: int, *, is_waited_for: bool
) -> None:
    web.get(CATALOG, [{"status_code": 429, "headers": {"Retry-After": str(wait_s)}}, {"json": {"id": 7}}])
    with client.session(fake_time.left(10_000)) as edx:
        if is_waited_for:
            assert edx.catalog(7).id == 7
        else:
            with pytest.raises(EdxThrottled):
                edx.catalog(7)
    assert fake_time.slept == ([60] if is_waited_for else [])


def test_a_short_429_is_waited_for_when_it_fits_the_budget(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, [{"status_code": 429, "headers": {"Retry-After": "3"}}, {"json": {"id": 7}}])
    told: list[datetime] = []
    with client.session(fake_time.left(4), on_throttled=told.append) as edx:
        assert edx.catalog(7).id == 7
    assert fake_time.slept == [3]
    assert told == [NOW + timedelta(seconds=3)]


def test_throttled_at_once_when_a_short_429_does_not_fit_the_budget(
    web: Mocker, client: EdxClient, fake_time: FakeTime
) -> None:
    web.get(CATALOG, status_code=429, headers={"Retry-After": "3"})
    with client.session(fake_time.left(3)) as edx, pytest.raises(EdxThrottled) as caught:
        edx.catalog(7)
    assert caught.value.message == "edX's rate limit is used up until 2026-03-01T12:00:03Z"
    assert (fake_time.slept, edx.requests) == ([], 2)


class Patient:
    """A session for the gate, in this thread."""

    def __init__(self, fake_time: FakeTime) -> None:
        self.sleep = fake_time.sleep

    def check(self) -> None:
        pass

    def left_s(self) -> float:
        return 60


@pytest.mark.parametrize(("later_s", "ends_s", "slept"), [(0, 30, [30]), (9, 30, [21]), (15, 35, [20])])
def test_the_end_of_throttling_is_the_latest_that_edx_has_announced(
    fake_time: FakeTime, later_s: int, ends_s: int, slept: list[float]
) -> None:
    gate, visitor = Gate(1, fake_time.clock, fake_time.now), Patient(fake_time)
    gate.open(visitor)
    assert gate.throttle(30) == NOW + timedelta(seconds=30)
    fake_time.passed_s += later_s
    assert gate.throttle(20) == NOW + timedelta(seconds=ends_s)
    with gate.slot(visitor):
        assert fake_time.slept == slept


def test_a_request_that_waited_for_the_end_of_throttling_holds_a_slot(fake_time: FakeTime) -> None:
    class Hasty(Patient):
        """A session whose time is up when it has to wait."""

        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks > 1:
                raise EdxUnavailable("the time is up")

        def left_s(self) -> float:
            return 0

    gate = Gate(1, fake_time.clock, fake_time.now)
    visitor, other = Patient(fake_time), Hasty(fake_time)
    gate.open(visitor)
    gate.open(other)
    gate.throttle(30)
    with gate.slot(visitor):
        assert fake_time.slept == [30]
        with pytest.raises(EdxUnavailable, match="the time is up"), gate.slot(other):
            pass


def test_throttled_when_edx_throttles_four_times(web: Mocker, edx: EdxSession, fake_time: FakeTime) -> None:
    web.get(CATALOG, status_code=429, headers={"Retry-After": "1"})
    with pytest.raises(EdxThrottled):
        edx.catalog(7)
    assert len(web.request_history) == 5
    assert fake_time.slept == [1, 1, 1]


# Slots


class Caller:
    """A session for the gate, with a thread for each request."""

    def __init__(self, gate: Gate) -> None:
        self.has_ended = False
        self.entered: list[Event] = []
        self._gate = gate
        self._leave: list[Event] = []
        self._threads: list[Thread] = []
        self._arrived = Event()
        gate.open(self)

    def check(self) -> None:
        self._arrived.set()
        if self.has_ended:
            raise EdxUnavailable("ended")

    def left_s(self) -> float:
        return 60

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)

    def ask(self) -> Event:
        """Request a slot in a new thread, and return when it waits or holds one.

        The event is set when the thread holds it.
        """
        entered, leave = Event(), Event()
        self._arrived.clear()

        def hold() -> None:
            with suppress(EdxUnavailable), self._gate.slot(self):
                entered.set()
                leave.wait(10)

        thread = Thread(target=hold)
        thread.start()
        self.entered.append(entered)
        self._leave.append(leave)
        self._threads.append(thread)
        assert self._arrived.wait(5)
        entered.wait(0.05)
        return entered

    def leave(self, request: int) -> None:
        self._leave[request].set()
        self._threads[request].join()

    def close(self) -> None:
        self.has_ended = True
        self._gate.wake()
        for leave in self._leave:
            leave.set()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._gate.close(self)

    @property
    def held(self) -> int:
        return sum(entered.is_set() for entered in self.entered)


@pytest.fixture
def caller() -> Iterator[Callable[[], Caller]]:
    gate = Gate(4, time.monotonic, lambda: datetime.now(UTC))
    callers: list[Caller] = []

    def make() -> Caller:
        callers.append(Caller(gate))
        return callers[-1]

    yield make
    for each in callers:
        each.close()


def test_one_session_gets_all_slots_when_no_other_is_open(caller: Callable[[], Caller]) -> None:
    alone = caller()
    for _ in range(6):
        alone.ask()
    assert alone.held == 4
    alone.leave(0)
    one, other = alone.entered[4:]
    assert one.wait(0.5) or other.wait(5)  # a slot is given to the session, not to one of its threads
    assert not (one.wait(0.05) and other.wait(0.05))


@pytest.mark.parametrize(("sessions", "share"), [(2, 2), (3, 1), (4, 1)])
def test_no_session_holds_more_than_its_share_when_several_are_open(
    caller: Callable[[], Caller], sessions: int, share: int
) -> None:
    callers = [caller() for _ in range(sessions)]
    for each in callers:
        for _ in range(4):
            each.ask()
    assert [each.held for each in callers] == [share] * sessions


def test_slots_go_to_the_session_that_waited_longest_when_there_are_more_sessions_than_slots(
    caller: Callable[[], Caller],
) -> None:
    callers = [caller() for _ in range(6)]
    for each in callers:
        each.ask()
    callers[0].ask()  # must wait for two sessions that have no slot yet
    assert [each.held for each in callers] == [1, 1, 1, 1, 0, 0]
    callers[0].leave(0)
    assert callers[4].entered[0].wait(5)
    callers[1].leave(0)
    assert callers[5].entered[0].wait(5)
    callers[2].leave(0)
    assert callers[0].entered[1].wait(5)


def test_a_session_that_held_all_slots_gives_way_when_another_opens(caller: Callable[[], Caller]) -> None:
    first = caller()
    for _ in range(6):
        first.ask()
    second = caller()
    second.ask()
    assert (first.held, second.held) == (4, 0)
    first.leave(0)
    assert second.entered[0].wait(5)
    first.leave(1)
    assert not first.entered[4].wait(0.1)  # it still has its share of two slots
    assert first.held == 4


def test_waiting_requests_get_the_slots_of_a_session_when_it_closes(caller: Callable[[], Caller]) -> None:
    first, second = caller(), caller()
    for _ in range(4):
        first.ask()
    assert first.held == 2
    second._gate.close(second)  # alone: `Caller.close` also wakes
    assert all(entered.wait(5) for entered in first.entered)
    second._gate.open(second)  # so that the fixture can close it, too


def test_thread_that_waits_for_a_slot_wakes_when_its_session_ends(caller: Callable[[], Caller]) -> None:
    first, second = caller(), caller()
    for _ in range(2):
        first.ask()
        second.ask()
    waiting = second.ask()
    began = time.monotonic()
    second.close()
    assert time.monotonic() - began < 2
    assert not waiting.is_set()
    second._gate.open(second)  # so that the fixture can close it, too


# Over real sockets


def test_other_sessions_are_not_blocked_when_the_answers_of_one_are_slow() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "catalogs/8/" not in handler.path or "offset=0&" in f"{handler.path}&":
            courses_page(handler)
        else:
            trickled_body(handler)

    with serving(answer) as server:
        client = EdxClient(server.settings)
        with client.session(Deadline.after(60)) as slow, client.session(Deadline.after(60)) as quick:
            stuck = Thread(target=lambda: suppress_all(lambda: walked(slow.courses(8))))
            stuck.start()
            while len(server.asked) < 3:  # token, the first page, and one that trickles
                time.sleep(0.01)
            began = time.monotonic()
            walk = quick.courses(7)
            walked(walk)
            assert walk.problems == []
            assert time.monotonic() - began < 20
            assert stuck.is_alive()
            slow.end()
            stuck.join(5)
            assert not stuck.is_alive()


def test_a_request_that_waits_for_the_slot_of_another_session_is_cancelled_when_its_own_ends() -> None:
    def ask(edx: EdxSession) -> None:
        with pytest.raises(EdxUnavailable, match="were cancelled"):
            edx.catalog(7)

    with serving(trickled_body) as server:
        client = EdxClient(server.settings.model_copy(update={"concurrency": 1}))
        with client.session(Deadline.after(60)) as slow, client.session(Deadline.after(60)) as waiting:
            threads = [Thread(target=ask, args=[session]) for session in (slow, waiting)]
            threads[0].start()
            while len(server.asked) < 2:  # token, and the answer that trickles
                time.sleep(0.01)
            threads[1].start()
            time.sleep(0.05)
            waiting.end()
            threads[1].join(5)
            assert [thread.is_alive() for thread in threads] == [True, False]
            slow.end()
            threads[0].join(5)
    assert len(server.asked) == 2


def suppress_all(action: Callable[[], object]) -> None:
    with suppress(EdxUnavailable):
        action()


def throttled_unless(path: str, act: Answer) -> Answer:
    """Act on requests with this text in their path, and throttle all others for an hour."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if path in handler.path:
            act(handler)
        else:
            send(handler, b"", 429, Retry_After="3600")

    return answer


def test_no_page_is_requested_when_another_was_throttled() -> None:
    answer = throttled_unless("offset=0", courses_page)

    seen: list[list[object]] = []
    with serving(answer) as server, EdxClient(server.settings).session(Deadline.after(20)) as edx:
        for ask in (lambda: seen.extend(edx.courses(7)), edx.catalogs):
            with pytest.raises(EdxThrottled) as caught:
                ask()
            assert caught.value.retry_at > datetime.now(UTC) + timedelta(seconds=3590)
    assert len(seen) == 1
    assert len(server.asked) <= 4  # token, the first page, and at most as many as are in flight at once


def test_the_requests_in_flight_are_cancelled_when_one_is_throttled_for_long() -> None:
    answer = throttled_unless("catalogs/8/", trickled_body)

    def ask(catalog_id: int) -> None:
        with pytest.raises(EdxThrottled):
            edx.catalog(catalog_id)

    with serving(answer) as server, EdxClient(server.settings).session(Deadline.after(60)) as edx:
        stuck = Thread(target=ask, args=[8])
        stuck.start()
        while len(server.asked) < 2:  # token, and the answer that trickles
            time.sleep(0.01)
        ask(7)
        stuck.join(5)
        assert not stuck.is_alive()


def test_no_request_is_sent_when_a_short_throttling_has_not_ended() -> None:
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


def test_requests_in_flight_are_limited_when_sessions_pull_in_parallel() -> None:
    free = Semaphore(2)
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

        threads = [Thread(target=pull) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(kept_to_the_bound) == 60
    assert all(kept_to_the_bound)
