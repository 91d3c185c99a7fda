"""The sandbox's log: every received request, and the number of requests in flight."""

import time
from threading import Lock

from local.sandbox.http import Request


class Log:
    """Every request so far, in order of arrival.

    Attributes:
        requests: those requests.
        max_in_flight: the maximum number of edX requests in flight at one time.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.max_in_flight = 0
        self._in_flight = 0
        self._lock = Lock()

    def begin(self, request: Request, *, for_edx: bool) -> None:
        """Record a received request."""
        with self._lock:
            self.requests.append(request)
            self._in_flight += for_edx
            self.max_in_flight = max(self.max_in_flight, self._in_flight)

    def end(self, request: Request, *, for_edx: bool) -> None:
        """Record the end of a request; further calls are ignored."""
        with self._lock:
            self._in_flight -= for_edx and request.ended is None
            request.ended = request.ended or time.monotonic()

    def forget(self) -> None:
        """Empty the log and reset `max_in_flight`."""
        with self._lock:
            self.requests.clear()
            self.max_in_flight = self._in_flight
