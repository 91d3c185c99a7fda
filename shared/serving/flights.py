"""Work that is done once in this process, however many callers ask for it at the same time."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class Flights:
    """Runs each piece of work in a thread of its own and lets later callers share it while it runs.

    Callers get a future: a thread may wait for it, and a coroutine may without holding a thread.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def join(self, key: Hashable, work: Callable[[], Any]) -> Future[Any]:
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
