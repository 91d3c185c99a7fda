"""Runs work once in this process for all callers that ask for it at the same time.

Coroutines wait for the work, or for blocking steps in a thread pool, until their own deadline; the work
continues when they leave.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from math import ceil
from typing import Any, TypeVar, TypeVarTuple

from shared.deadline import Deadline
from shared.errors import StorageError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Flights:
    """Runs each piece of work in its own thread; later callers share it while it runs.

    Callers get a future, for which threads and coroutines can wait.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def join(self, key: Hashable, work: Callable[[], T]) -> Future[T]:
        """Return the future of the work with this key; start the work if it is not running."""
        with self._lock:
            future = self._running.get(key)
            if future is None:
                future = Future()
                future.set_running_or_notify_cancel()
                threading.Thread(
                    target=self._run, args=(key, work, future), name=f"{key}", daemon=True
                ).start()
                self._running[key] = future  # only now: the thread may fail to start, and waits for our lock
            return future

    def _run(self, key: Hashable, work: Callable[[], Any], future: Future[Any]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - passed to the callers that wait
            self._forget(key)
            future.set_exception(error)
        else:
            self._forget(key)
            future.set_result(result)

    def _forget(self, key: Hashable) -> None:
        # Before the result is set: a caller that has seen the result and asks again starts new work.
        with self._lock:
            del self._running[key]


async def wait(future: Future[T], deadline: Deadline) -> T:
    """Wait for work without blocking a thread.

    Raises:
        TimeoutError: the deadline has passed; the work continues.
    """
    if future.done():
        return future.result()
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: done.exception())  # retrieved, so that asyncio does not log it
    done, _ = await asyncio.wait({wrapped}, timeout=deadline.left_s())
    if not done:
        raise TimeoutError
    return wrapped.result()


async def in_pool(
    pool: Executor, deadline: Deadline, step: Callable[[*Arguments], T], *arguments: *Arguments
) -> T:
    """Run a step that reads storage in the thread pool, and wait for it.

    Raises:
        StorageError: the deadline has passed, or the step failed.
    """
    return await wait_for_storage(pool.submit(step, *arguments), deadline)


async def wait_for_storage(future: Future[T], deadline: Deadline) -> T:
    """Wait for work that reads storage; errors as for `in_pool`."""
    waited_s = deadline.left_s()
    try:
        return await wait(future, deadline)
    except TimeoutError:
        raise StorageError(f"Table Storage could not be read within {ceil(waited_s)} s") from None
