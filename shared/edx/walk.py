"""The walk through the courses of a catalog, and whether what came is whole.

Neighbouring pages overlap by one course: the last course of a page is the first of the next. edX's order is
stable, so a course that was there all the time stands between two such boundaries and was seen, whatever
left and joined meanwhile. See docs/decisions/0010-wholeness.md.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing

from shared.edx.halving import UNRENDERED, Page
from shared.edx.models import EdxCourse
from shared.edx.pages import Fetch, Pages
from shared.edx.paging import Cursor, Grid, numbered_pages
from shared.errors import EdxProtocolError

EMPTY_PAGES = 3
"""So many pages in a row without a course, or without a new one, end a walk."""
BOUNDARIES_NAMED = 3


class CourseWalk:
    """The courses of a catalog, page by page in edX's order. Iterate it once.

    A page is a list of EdxCourse, or of whatever junk stood in a course's place. The course that two pages
    share is yielded once; a course that edX lists twice comes twice. An error on a page is raised after the
    pages before it. Whoever stops iterating cancels what is under way.

    Args:
        fetch: asks edX for a page.
        page_size: courses from page to page; a request asks for one more.
        workers: the threads that ask for pages ahead.
        ahead: how many pages may be waiting to be taken.

    Attributes:
        count: how many courses edX announces; known from the first page on, None when it does not say.
        says_empty: whether edX says that the catalog is empty: a count of 0, and nothing further.
        problems: after the last page: why the pull is not whole, a sentence each; empty when it is.
        is_worth_repeating: after the last page: whether another pull may be whole, when this one is not.
        abandoned: set once nothing is wanted any more.
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
        self._would_repeat = False  # what makes the pull not whole will be there in the next one, too
        self._records = 0
        self._unrendered: set[int] = set()
        self._seen: set[object] = set()
        self._empty = 0  # pages in a row
        self._stale = 0  # the same, without a course that had not come before
        self._broken_boundaries = 0
        self._counts: list[int | None] = []  # as each page said

    @property
    def is_worth_repeating(self) -> bool:
        return bool(self.problems) and not self._would_repeat

    def __iter__(self) -> Iterator[list[object]]:
        try:
            with closing(Pages(self._fetch, self._workers, self._ahead)) as pages:
                yield from self._walk(pages)
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
        """Plan the pages that the first one's count lets us foresee."""
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
            self._note("edX gives one course a page, so neighbouring pages cannot be compared")
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
        # The count of a page that brought nothing, or of which nothing could be rendered, does not matter.
        is_first = not self._counts and (page.count is not None or not page.courses)
        if is_first or (courses and not self._stale):
            self._counts.append(page.count)
            self.count = self._counts[0]
        for position in unrendered:
            self._note(f"edX could not render the course at position {position}")
            self._would_repeat = True
        self._unrendered.update(unrendered)
        if not page.is_whole and not unrendered:
            self._note(f"edX could render the page at position {page.at.position} only in parts")

    def _following(self, before: Page | None, page: Page) -> Cursor | None:
        """Return the place of the next page, None at the end."""
        style = page.next.style if page.next else page.at.style
        reached = self._records if style == "page" else _end(page)
        if page.next is None:
            # The count is believed for one page more.
            was_believed = before is not None and before.next is None and self._stale > 0
            if was_believed or page.count is None or reached >= page.count:
                return None
        if not page.courses:
            self._note(f"an empty page came at {page.at.style} {page.at.position}")
        if self._empty == EMPTY_PAGES:
            raise EdxProtocolError(
                f"edX sent {EMPTY_PAGES} empty pages in a row, the last one at "
                f"{page.at.style} {page.at.position}, and says that there is more"
            )
        if self._stale == EMPTY_PAGES:
            self._note(f"the pages up to {page.at.style} {page.at.position} brought nothing new")
            return None
        if style == "page":
            return page.next or page.at._replace(position=page.at.position + 1)
        if not page.courses:
            stride = self._grid.stride
            return self._grid.page_at((page.at.position // stride + 1) * stride)
        return self._grid.page_at(max(page.at.position + 1, _end(page) - 1))

    def _judge(self) -> None:
        if self._broken_boundaries > BOUNDARIES_NAMED:
            self._note(f"{self._broken_boundaries} pages in all do not overlap with the one before them")
        if self.count is None:
            self._note("edX sent no count")
            return
        if self._counts[-1] != self.count:
            self._note(
                f"the count changed from {self.count} to {self._counts[-1]} while the pages were pulled"
            )
        if self._records + len(self._unrendered) != self.count and not self._broken_boundaries:
            self._note(f"{self._records} course records came of a count of {self.count}")

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _end(page: Page) -> int:
    """Return the position behind a page's last course."""
    return page.at.position + len(page.courses)


def _identity(course: object) -> object:
    """Return what tells a course from others: its key, or all of it where it has none."""
    if isinstance(course, EdxCourse) and isinstance(course.key, str) and course.key:
        return course.key
    return hash(repr(course))
