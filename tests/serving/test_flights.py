"""Work is done once for concurrent callers, and again for callers after its end."""

import asyncio
import gc
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest

from shared.deadline import Deadline
from shared.serving.flights import Flights, wait

SOON_S = 10


class Work:
    """Work that waits for an event and counts how often it was started."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        self.failure = failure

    def __call__(self) -> int:
        self.begun += 1
        begun = self.begun
        assert self.may_end.wait(SOON_S)
        if self.failure:
            raise self.failure
        return begun


def test_work_is_done_once_when_many_ask_at_the_same_time() -> None:
    flights, work = Flights(), Work()
    with ThreadPoolExecutor(16) as callers:
        futures = list(callers.map(lambda _: flights.join("sync-1", work), range(16)))
    work.may_end.set()
    assert [future.result(SOON_S) for future in futures] == [1] * 16
    assert work.begun == 1


def test_failure_is_shared_and_the_work_can_be_done_again() -> None:
    flights, work = Flights(), Work(SystemExit("stopped"))
    futures = [flights.join("sync-1", work) for _ in range(2)]
    work.may_end.set()
    for future in futures:
        with pytest.raises(SystemExit, match="stopped"):
            future.result(SOON_S)
    work.failure = None
    assert flights.join("sync-1", work).result(SOON_S) == 2


def test_work_can_be_done_later_when_its_thread_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_threads(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    flights, work = Flights(), Work()
    work.may_end.set()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="can't start"):
            flights.join("sync-1", work)
    assert flights.join("sync-1", work).result(SOON_S) == 1


def test_work_starts_again_when_its_result_has_been_seen() -> None:
    flights, work = Flights(), Work()
    work.may_end.set()
    # A caller that asks again as soon as the result exists must never get the old result.
    assert [flights.join("sync-1", work).result(SOON_S) for _ in range(200)] == list(range(1, 201))


def test_work_runs_in_a_thread_of_its_name_that_does_not_keep_the_process_alive() -> None:
    thread = Flights().join("sync-1", threading.current_thread).result(SOON_S)
    assert (thread.name, thread.daemon) == ("sync-1", True)


def test_work_is_not_cancelled_when_one_of_its_callers_cancels() -> None:
    flights, work = Flights(), Work()
    future = flights.join("sync-1", work)
    assert not future.cancel()
    work.may_end.set()
    assert future.result(SOON_S) == 1


def test_result_is_returned_when_the_work_has_ended_and_the_deadline_has_passed() -> None:
    ended: Future[int] = Future()
    ended.set_result(1)
    assert asyncio.run(wait(ended, Deadline.after(0))) == 1


def test_failure_is_not_logged_by_asyncio_when_its_caller_has_left(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        running: Future[int] = Future()
        with suppress(TimeoutError):
            await wait(running, Deadline.after(0))
        running.set_exception(ZeroDivisionError())
        await asyncio.sleep(0)  # so that asyncio takes note of it

    asyncio.run(leave())
    gc.collect()
    assert caplog.records == []


def test_work_runs_in_parallel_when_the_keys_differ() -> None:
    flights, one, other = Flights(), Work(), Work()
    first, second = flights.join("sync-1", one), flights.join("sync-2", other)
    other.may_end.set()
    assert second.result(SOON_S) == 1
    assert not first.done()
    one.may_end.set()
    assert first.result(SOON_S) == 1
