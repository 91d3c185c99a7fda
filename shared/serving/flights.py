"""Work that is done once in this process, however many callers ask for it at the same time.

Coroutines wait for it, and for blocking steps on a pool of threads, each no longer than its own deadline;
what they wait for goes on when they leave.
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
    """Runs each piece of work in a thread of its own and lets later callers share it while it runs.

    Callers get a future: a thread may wait for it, and a coroutine may without holding a thread.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def join(self, key: Hashable, work: Callable[[], T]) -> Future[T]:
        """Return the future of the work under this key, begun now if it is not under way."""
        with self._lock:
            future = self._running.get(key)
            if future is None:
                future = Future()
                future.set_running_or_notify_cancel()
                self._running[key] = future
                threading.Thread(
                    target=self._run, args=(key, work, future), name=f"{key}", daemon=True
                ).start()
            return future

    def _run(self, key: Hashable, work: Callable[[], Any], future: Future[Any]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            self._land(key)
            future.set_exception(error)
        else:
            self._land(key)
            future.set_result(result)

    def _land(self, key: Hashable) -> None:
        # Before the result is given: who asks after having seen it begins anew.
        with self._lock:
            del self._running[key]


async def wait(future: Future[T], deadline: Deadline) -> T:
    """Wait for work without holding a thread.

    Raises:
        TimeoutError: the deadline passed first; the work goes on.
    """
    if future.done():
        return future.result()
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for, so not lost
    done, _ = await asyncio.wait({wrapped}, timeout=deadline.left_s())
    if not done:
        raise TimeoutError
    return wrapped.result()


async def in_pool(
    pool: Executor, deadline: Deadline, step: Callable[[*Arguments], T], *arguments: *Arguments
) -> T:
    """Run a step that reads storage on a thread of the pool, and wait for it.

    Raises:
        StorageError: the deadline passed first, or what the step raises.
    """
    return await wait_for_storage(pool.submit(step, *arguments), deadline)


async def wait_for_storage(future: Future[T], deadline: Deadline) -> T:
    """Wait for work that reads storage; errors as for `in_pool`."""
    waited_s = deadline.left_s()
    try:
        return await wait(future, deadline)
    except TimeoutError:
        raise StorageError(f"Table Storage could not be read within {ceil(waited_s)} s") from None
