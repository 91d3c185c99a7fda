"""What syncs have to say, until an invocation logs it.

The Functions host drops a log line that belongs to no live invocation, and workers find the invocation of a
line in different places: the asyncio task, a context variable, a thread's storage, or the latest invocation
of all. So threads that outlive an invocation log nothing. They leave their lines here, and each invocation
logs what it finds in its own task or thread, where every worker looks.
"""

import logging
import threading
from collections import deque

logger = logging.getLogger(__name__)

LINES_MAX = 1_000
"""Lines kept; a sync says a few, so that this is many hours without a single invocation."""


class Outbox:
    """Keeps lines in order, the newest `LINES_MAX` of them; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[tuple[int, str]] = deque()
        self._dropped = 0

    def say(self, level: int, line: str) -> None:
        """Keep a line until somebody calls `flush`; `level` is one of logging's."""
        with self._lock:
            if len(self._lines) == LINES_MAX:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append((level, line))

    def flush(self) -> None:
        """Log what was said. Call it in the task or thread of a live invocation, and nowhere else."""
        with self._lock:
            lines, dropped = list(self._lines), self._dropped
            self._lines.clear()
            self._dropped = 0
        if dropped:
            logger.warning("%d log lines of earlier syncs were dropped: nothing called this process", dropped)
        for level, line in lines:
            logger.log(level, "%s", line)
