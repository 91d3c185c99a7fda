"""The walk through the courses of a catalog: which pages to ask for, and whether what came is whole.

How a page is had (token, retries, deadline) is the session's business.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from shared.edx.models import Asked, CoursesPage, Cursor, next_cursor, parse, readable_key, usable_count

_Result = TypeVar("_Result")


class Session(Protocol):
    """What a walk needs of an edX session; see edx_client.EdxSession."""

    page_size: int
    concurrency: int

    def get(
        self, path: str, query: dict[str, str], asked: Asked, cancelled: threading.Event | None = None
    ) -> bytes:
        """Return the body of a page."""

    def submit(self, work: Callable[[Cursor], _Result], cursor: Cursor) -> Future[_Result]:
        """Have work done by one of the session's threads."""


class _Page(NamedTuple):
    courses: list[object]
    announced: int | None
    next: Cursor | None


class CourseWalk:
    """The courses of a catalog, page by page in edX's order, each course once. Iterate it once.

    A page is a list of EdxCourse, or of whatever junk stood in a course's place. An error on a page is
    raised after the pages before it. Whoever stops iterating cancels what is under way.

    Attributes:
        count: how many courses edX announces; known from the first page on, None when it does not say.
        distinct: how many courses came so far.
        problems: after the last page: why the pull is not whole; empty when it is.
    """

    def __init__(self, session: Session, catalog_id: int) -> None:
        self.count: int | None = None
        self.distinct = 0
        self.problems: list[str] = []
        self._session = session
        self._path = f"catalogs/{catalog_id}/courses/"
        self._abandoned = threading.Event()
        self._ends_at: int | None = None  # the first position known to have nothing new behind it
        self._arrived: set[str | None] = set()  # keys, in the order of arrival
        self._arrived_lock = threading.Lock()

    def __iter__(self) -> Iterator[list[object]]:
        seen: set[str] = set()
        repeated = 0
        empty_before = False
        with closing(self._pages()) as pages:
            for page in pages:
                fresh = [course for course in page.courses if _is_new(course, seen)]
                self.distinct += len(fresh)
                repeated += len(page.courses) - len(fresh)
                if page.courses and not fresh:
                    self._note("a page brought only courses that had come before")
                if empty_before if page.courses else page.next:
                    self._note("an empty page came in mid-walk")
                empty_before |= not page.courses
                yield fresh
        if repeated:
            self._note(f"courses came more than once: {repeated}")
        if self.count is None:
            self._note("edX sent no count")
            return
        if page.announced != self.count:
            self._note(f"the count changed from {self.count} to {page.announced}")
        if self.distinct != self.count:
            self._note(f"{self.distinct} distinct courses came of a count of {self.count}")

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _pages(self) -> Generator[_Page]:
        """Yield the pages in order: the first, those that the count lets us plan, the rest by `next`."""
        page = self._fetch(Cursor("offset", 0, self._session.page_size))
        self.count = page.announced
        planned: Iterator[Cursor] = iter(())
        if page.next is not None and self.count is not None:
            planned = page.next.up_to(self.count, len(page.courses))
        ahead: deque[Future[_Page | None]] = deque()
        following: _Page | None = page
        try:
            while True:
                if self._ends_at is None:
                    room = 2 * self._session.concurrency - len(ahead)
                    ahead.extend(self._session.submit(self._fetch_ahead, at) for at in islice(planned, room))
                if following is not None:
                    page = following
                    yield page
                if not ahead:
                    break
                following = ahead.popleft().result()
            while page.next is not None and self._ends_at is None:
                page = self._fetch(page.next)
                yield page
        finally:
            self._abandoned.set()
            for future in ahead:
                future.cancel()

    def _fetch_ahead(self, at: Cursor) -> _Page | None:
        # Pages do not come in order: the end may be known before a page in front of it has begun.
        return self._fetch(at) if self._ends_at is None or at.position < self._ends_at else None

    def _fetch(self, at: Cursor) -> _Page:
        sent = parse(
            CoursesPage, self._session.get(self._path, at.query, Asked.CATALOG, self._abandoned), self._path
        )
        page = _Page(sent.results, usable_count(sent.count), next_cursor(sent.next, at))
        keys = {readable_key(course) for course in page.courses}
        with self._arrived_lock:
            # No count is followed alone: the list ends where edX has nothing further or nothing new.
            # Courses without a key cannot be told apart, so they count as new.
            if page.next is None or keys <= self._arrived:
                self._ends_at = min(at.position, self._ends_at or at.position)
            self._arrived |= keys - {None}
        return page


def _is_new(course: object, seen: set[str]) -> bool:
    """Tell whether a course has not been seen, and note that it has been now."""
    key = readable_key(course)
    if key is None:
        return True
    is_new = key not in seen
    seen.add(key)
    return is_new
