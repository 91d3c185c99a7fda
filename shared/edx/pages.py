"""Requests the pages of one pull ahead and in parallel, and skips courses that edX cannot render."""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Protocol

from shared.edx.halving import Halving, Page, is_server_error
from shared.edx.models import CoursesPage
from shared.edx.paging import Cursor, next_cursor, usable_count
from shared.errors import EdxProtocolError, EdxUnavailable, NotFound

PAGES_PER_PULL = 1000


class Fetch(Protocol):
    """Requests a page from edX."""

    def __call__(self, at: Cursor, *, is_part: bool) -> CoursesPage:
        """Return the page; a part of a page is not retried after a 5xx.

        Raises:
            EdxError: the page could not be fetched; EdxUnavailable has its `status`.
            NotFound: edX does not show us the catalog.
        """


class Pages:
    """The pages of one pull.

    Args:
        fetch: requests one page; called in any thread.
        workers: the threads that request pages ahead.
        ahead: the maximum number of pages that are requested but not taken.
    """

    def __init__(self, fetch: Fetch, workers: Executor, ahead: int) -> None:
        self._fetch = fetch
        self._workers = workers
        self._ahead = ahead
        self._planned: Iterator[Cursor] = iter(())
        self._coming: dict[int, Future[Page]] = {}  # by position, in order
        self._halving = Halving()
        self._lock = threading.Lock()
        self._asked = 0
        self._one_came = False
        self._last_came = False  # a page without `next` was received: request no further page

    def plan(self, cursors: Iterator[Cursor]) -> None:
        """Begin to request pages, in the order in which they will be taken."""
        self._planned = cursors
        self._ask_ahead()

    def take(self, at: Cursor) -> Page:
        """Return the page at a cursor; pages before it are dropped."""
        for position in [position for position in self._coming if position < at.position]:
            self._coming.pop(position).cancel()
        coming = self._coming.pop(at.position, None)
        self._ask_ahead()
        return coming.result() if coming else self._page(at)

    def _ask_ahead(self) -> None:
        if self._last_came:
            return
        for at in islice(self._planned, self._ahead - len(self._coming)):
            try:
                self._coming[at.position] = self._workers.submit(self._page, at)
            except RuntimeError:  # the threads have ended with their session; the next page raises the reason
                return

    def _page(self, at: Cursor) -> Page:
        if not self._halving.knows_one_in(at):
            try:
                return self._ask(at)
            except EdxUnavailable as error:
                if at.style != "offset" or not is_server_error(error):
                    raise
        return self._halving.page(at, lambda part: self._ask(part, is_part=True))

    def _ask(self, at: Cursor, *, is_part: bool = False) -> Page:
        with self._lock:
            if self._asked == PAGES_PER_PULL:
                raise EdxProtocolError(f"edX lists more than {PAGES_PER_PULL:,} pages of courses")
            self._asked += 1
        try:
            sent = self._fetch(at, is_part=is_part)
        except NotFound as error:
            if not self._one_came:
                raise
            problem = error.answered
        else:
            self._one_came = True
            page = Page(at, sent.results, usable_count(sent.count), next_cursor(sent.next, at))
            self._last_came |= page.next is None
            return page
        # Other pages of this catalog were received, so the catalog exists.
        raise EdxUnavailable(
            f"edX is unavailable: {problem}, although it had sent earlier pages of this catalog"
        )
