"""Keeps the log lines of syncs until an invocation logs them.

The Functions host drops a log line that belongs to no running invocation. Workers find the invocation of a
line in different ways: by asyncio task, context variable, thread-local storage, or as the latest invocation.
So threads that outlive an invocation do not log. They put their lines here, and each invocation logs the
lines that it finds, in its own task or thread, which works with every worker.
"""

import logging
import threading
from collections import deque

logger = logging.getLogger(__name__)

LINES_MAX = 1_000
"""Number of lines kept. A sync writes a few, so that this is enough for many hours without an invocation."""


class Outbox:
    """Keeps the newest `LINES_MAX` lines in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[tuple[int, str]] = deque()
        self._dropped = 0

    def say(self, level: int, line: str) -> None:
        """Keep a line until the next `flush`; `level` is a `logging` level."""
        with self._lock:
            if len(self._lines) == LINES_MAX:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append((level, line))

    def flush(self) -> None:
        """Log and remove all lines; call it only in the task or thread of a running invocation."""
        with self._lock:
            lines, dropped = list(self._lines), self._dropped
            self._lines.clear()
            self._dropped = 0
        if dropped:
            logger.warning(
                "%d log lines of earlier syncs were dropped, because no invocation logged them in time",
                dropped,
            )
        for level, line in lines:
            logger.log(level, "%s", line)
