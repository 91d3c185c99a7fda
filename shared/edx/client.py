"""The edX client: sessions that ask edX for catalogs and courses.

A process has one EdxClient, whose sessions share the gate and the token. At the deadline of a session,
everything that it started is cancelled.
"""

import random as random_module
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from shared.deadline import Deadline
from shared.edx.answers import CATALOGS, NoUsableAnswer, courses_of, one_catalog
from shared.edx.gate import Gate
from shared.edx.models import CoursesPage, EdxCatalog
from shared.edx.paging import Cursor, next_cursor, usable_count
from shared.edx.requester import Requester
from shared.edx.token import TokenKeeper
from shared.edx.walk import CourseWalk
from shared.errors import EdxProtocolError, EdxUnavailable
from shared.settings import EdxSettings

PAGES_AHEAD_PER_REQUEST = 2
_SERVER_ERROR = 500


class EdxClient:
    """Opens sessions, which share the gate and the token.

    Args:
        settings: the API, our account, the page size and how many requests may be in flight.
        clock: monotonic seconds.
        now: the time of day, aware, UTC.
        sleep: waits that many seconds; by default until the seconds have passed or the session ends.
        random: a number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        settings: EdxSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._settings = settings
        self._gate = Gate(settings.concurrency, clock, now)
        self._token = TokenKeeper(clock)
        self._now = now
        self._sleep = sleep
        self._random = random

    @contextmanager
    def session(
        self, deadline: Deadline, *, on_throttled: Callable[[datetime], object] = lambda _until: None
    ) -> Iterator["EdxSession"]:
        """Open a session; leaving the block cancels its requests and ends its threads.

        Args:
            deadline: the end of everything that the session does.
            on_throttled: called, in any thread, with the end (UTC) of each throttling that edX announces.
        """
        requester = Requester(
            self._settings,
            self._gate,
            self._token,
            deadline,
            on_throttled,
            now=self._now,
            sleep=self._sleep,
            random=self._random,
        )
        self._gate.open(requester)
        session = EdxSession(requester, self._settings)
        try:
            yield session
        finally:
            session.close()
            self._gate.close(requester)


class EdxSession:
    """Sends requests to edX within one deadline; use `EdxClient.session` to get one.

    Every method raises EdxRefused, EdxThrottled, EdxUnavailable or EdxProtocolError.
    """

    def __init__(self, requester: Requester, settings: EdxSettings) -> None:
        self._requester = requester
        self._page_size = settings.page_size
        self._concurrency = settings.concurrency
        self._workers = ThreadPoolExecutor(settings.concurrency, "edx-pages")

    @property
    def requests(self) -> int:
        """The number of HTTP requests sent, including requests for tokens."""
        return self._requester.requests

    def catalogs(self) -> list[EdxCatalog]:
        """List our catalogs, in edX's order.

        Raises:
            EdxProtocolError: also when edX returned fewer catalogs than it counts.
        """
        found: dict[int, EdxCatalog] = {}
        expected = 0
        cursor: Cursor | None = Cursor("offset", 0, self._page_size)
        while cursor is not None:
            page = self._requester.ask(CATALOGS, cursor.query)
            count = usable_count(page.count)
            if count is None:
                raise EdxProtocolError("edX sent a list of catalogs without a count")
            expected = max(expected, count)
            cursor = next_cursor(page.next, cursor)
            catalogs = {entry.id: entry for entry in page.results if isinstance(entry, EdxCatalog)}
            if catalogs.keys() <= found.keys():
                break
            found |= catalogs
        if len(found) < expected:
            raise EdxProtocolError(f"edX sent {len(found)} usable catalogs but counts {expected}")
        return list(found.values())

    def catalog(self, catalog_id: int) -> EdxCatalog:
        """Return one catalog; raises NotFound when edX does not show it to us."""
        return self._requester.ask(one_catalog(catalog_id), {})

    def courses(self, catalog_id: int) -> CourseWalk:
        """Return the courses of a catalog, to be iterated page by page; the requests are sent lazily."""
        question = courses_of(catalog_id)

        def fetch(at: Cursor, *, is_part: bool) -> CoursesPage:
            def is_worth_it(failure: NoUsableAnswer) -> bool:
                is_about_content = failure.status is not None and failure.status >= _SERVER_ERROR
                return not walk.abandoned.is_set() and not (is_part and is_about_content)

            if walk.abandoned.is_set():
                raise EdxUnavailable(f"the request for {question.what} was cancelled")
            return self._requester.ask(question, at.query, is_worth_it)

        walk = CourseWalk(
            fetch,
            page_size=self._page_size,
            workers=self._workers,
            ahead=PAGES_AHEAD_PER_REQUEST * self._concurrency,
        )
        return walk

    def end(self) -> None:
        """Cancel everything, from any thread; threads that wait for an answer get EdxUnavailable."""
        self._requester.end()

    def close(self) -> None:
        """Cancel everything and wait for the threads."""
        self._requester.end()
        self._workers.shutdown(cancel_futures=True)
        self._requester.close()
