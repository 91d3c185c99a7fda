"""Walks through the courses of a catalog, and decides whether the pull is complete.

Each page overlaps the next by one course: the last course of a page is the first of the next one. Because
edX's order is stable, a course that stays in the catalog from the beginning to the end of the pull is on
one of the pages, even if other courses leave or join. See docs/decisions/0010-wholeness.md.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor

from shared.edx.halving import UNRENDERED, Page
from shared.edx.models import EdxCourse
from shared.edx.pages import Fetch, Pages
from shared.edx.paging import Cursor, Grid, numbered_pages
from shared.errors import EdxProtocolError

EMPTY_PAGES = 3
"""A walk ends after this many pages in a row without a new course."""
BOUNDARIES_NAMED = 3


class CourseWalk:
    """The courses of a catalog, page by page in edX's order. Iterate it once.

    A page is a list of EdxCourse, or of any other values that edX sent instead. The course that two pages
    share is yielded once; a course that edX lists twice is yielded twice. An error on a page is raised after
    the pages before it. Requests are cancelled when the iteration stops.

    Args:
        fetch: requests a page from edX; it must refuse to once `abandoned` is set.
        page_size: courses between the beginnings of two pages; a request asks for one more.
        workers: the threads that request pages ahead.
        ahead: the maximum number of pages that are requested but not taken.

    Attributes:
        count: edX's count of courses, known after the first page; None when edX sends none.
        says_empty: whether edX says that the catalog is empty: a count of 0 and no further page.
        problems: after the last page: why the pull is incomplete, one clause each; empty when it is complete.
        is_worth_repeating: after the last page: whether another pull may be complete.
        abandoned: set when no further page is needed.
    """

    def __init__(self, fetch: Fetch, *, page_size: int, workers: Executor, ahead: int) -> None:
        self.count: int | None = None
        self.says_empty = False
        self.problems: list[str] = []
        self.abandoned = threading.Event()
        self._fetch = fetch
        self._grid = Grid(page_size)
        self._workers = workers
        self._ahead = ahead
        self._would_repeat = False  # another pull would be incomplete for the same reason
        self._records = 0
        self._unrendered: set[int] = set()
        self._seen: set[object] = set()
        self._empty = 0  # pages in a row without a course
        self._stale = 0  # pages in a row without a new course
        self._broken_boundaries = 0
        self._counts: list[int | None] = []  # the count of each page

    @property
    def is_worth_repeating(self) -> bool:
        return bool(self.problems) and not self._would_repeat

    def __iter__(self) -> Iterator[list[object]]:
        try:
            yield from self._walk(Pages(self._fetch, self._workers, self._ahead))
        finally:
            self.abandoned.set()

    def _walk(self, pages: Pages) -> Iterator[list[object]]:
        page = pages.take(self._grid.page_at(0))
        self.says_empty = page.count == 0 and page.next is None and not page.courses
        pages.plan(self._planned(page))
        before: Page | None = None
        while True:
            new = self._without_overlap(before, page)
            courses = [course for course in new if course is not UNRENDERED]
            self._take_note(page, courses)
            yield courses
            following = self._following(before, page)
            if following is None:
                break
            before, page = page, pages.take(following)
        self._judge()

    def _planned(self, first: Page) -> Iterator[Cursor]:
        """Plan the pages that follow from the first page's count."""
        if first.next is None:
            return iter(())
        if first.next.style == "offset":
            self._grid.fit(first.at, len(first.courses))
        if first.count is None:
            return iter(())
        if first.next.style == "page":
            return numbered_pages(first.next, first.count, len(first.courses))
        return self._grid.up_to(first.count)

    def _without_overlap(self, before: Page | None, page: Page) -> list[object]:
        """Return the courses of a page without the one that it shares with the page before it."""
        if before is None or page.at.style == "page" or not (before.courses and page.courses):
            return page.courses
        if page.at.position == _end(before):
            self._note("edX returns one course per page, so that pages cannot overlap")
            self._would_repeat = True
            return page.courses
        last, first = before.courses[-1], page.courses[0]
        if first is UNRENDERED or _identity(last) == _identity(first):
            return page.courses[1:]
        if last is not UNRENDERED:
            self._broken_boundaries += 1
            if self._broken_boundaries <= BOUNDARIES_NAMED:
                self._note(
                    f"the pages do not overlap between positions {page.at.position - 1} and "
                    f"{page.at.position}: a course may have moved"
                )
        return page.courses

    def _take_note(self, page: Page, courses: list[object]) -> None:
        identities = {_identity(course) for course in courses}
        unrendered = [i for i, course in enumerate(page.courses, page.at.position) if course is UNRENDERED]
        self._stale = 0 if unrendered or identities - self._seen else self._stale + 1
        self._empty = 0 if page.courses else self._empty + 1
        self._seen |= identities
        self._records += len(courses)
        # Ignore the count of a page without courses, or of which no course could be rendered.
        is_first = not self._counts and (page.count is not None or not page.courses)
        if is_first or courses:
            self._counts.append(page.count)
            self.count = self._counts[0]
        for position in unrendered:
            self._note(f"edX could not render the course at position {position}")
            self._would_repeat = True
        self._unrendered.update(unrendered)
        if not page.is_whole and not unrendered:
            self._note(f"edX could render the page at position {page.at.position} only in parts")

    def _following(self, before: Page | None, page: Page) -> Cursor | None:
        """Return the cursor of the next page; None at the end."""
        style = page.next.style if page.next else page.at.style
        reached = self._records if style == "page" else _end(page)
        if page.next is None:
            # The count may be right: request one more page.
            was_believed = before is not None and before.next is None and self._stale > 0
            if was_believed or page.count is None or reached >= page.count:
                return None
        if not page.courses:
            self._note(f"the page at {page.at.style} {page.at.position} was empty")
        if self._empty == EMPTY_PAGES:
            raise EdxProtocolError(
                f"edX sent {EMPTY_PAGES} empty pages in a row, the last one at "
                f"{page.at.style} {page.at.position}, and says that there is more"
            )
        if self._stale == EMPTY_PAGES:
            self._note(f"the last pages up to {page.at.style} {page.at.position} had no new course")
            return None
        if style == "page":
            return page.next or page.at._replace(position=page.at.position + 1)
        if not page.courses:
            stride = self._grid.stride
            return self._grid.page_at((page.at.position // stride + 1) * stride)
        return self._grid.page_at(max(page.at.position + 1, _end(page) - 1))

    def _judge(self) -> None:
        if self._broken_boundaries > BOUNDARIES_NAMED:
            self._note(f"{self._broken_boundaries} pages in total do not overlap with the page before them")
        if self.count is None:
            self._note("edX sent no count")
            return
        if self._counts[-1] != self.count:
            self._note(
                f"the count changed from {self.count} to {self._counts[-1]} while the pages were pulled"
            )
        if self._records + len(self._unrendered) != self.count and not self._broken_boundaries:
            self._note(f"edX returned {self._records} courses but counts {self.count}")

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _end(page: Page) -> int:
    """Return the position after a page's last course."""
    return page.at.position + len(page.courses)


def _identity(course: object) -> object:
    """Return the identity of a course: its key, or the whole record if it has no key."""
    if isinstance(course, EdxCourse) and isinstance(course.key, str) and course.key:
        return course.key
    return hash(repr(course))
