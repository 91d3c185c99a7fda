"""Skips courses that edX cannot render: a page that answers 5xx is requested in halves.

If the `type` of a course run is null in edX's database, every page with its course is answered with a 500.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.edx.paging import Cursor
from shared.errors import EdxUnavailable

REQUESTS_PER_COURSE = 20
"""Limit of requests per page; finding one course among 501 takes 18."""
COURSES_PER_PULL = 3

UNRENDERED: Final = object()
"""The placeholder in a page for a course that edX cannot render."""


@dataclass(frozen=True)
class Page:
    """A page as received; `next` is edX's cursor, `is_whole` is False when it was requested in parts."""

    at: Cursor
    courses: list[object]
    count: int | None
    next: Cursor | None
    is_whole: bool = True


class Halving:
    """The courses of one pull that edX cannot render. Thread-safe."""

    def __init__(self) -> None:
        self._positions: set[int] = set()
        self._requests = 0
        self._one_page_at_a_time = (
            threading.Lock()
        )  # so that two pages with the same course do not both search for it

    def knows_one_in(self, at: Cursor) -> bool:
        """Tell whether a page contains a course that edX is known not to render."""
        return at.style == "offset" and any(
            at.position <= position < at.position + at.size for position in tuple(self._positions)
        )

    def page(self, at: Cursor, ask: Callable[[Cursor], Page]) -> Page:
        """Return a page from the parts that edX can render, with UNRENDERED in place of each other course.

        Call it when the whole page was answered with a 5xx, or contains a course that is known.

        Args:
            at: the beginning and the size of the page.
            ask: requests a part of the page, without retries.

        Raises:
            EdxUnavailable: too many courses cannot be rendered, or finding one takes too many requests.
        """
        with self._one_page_at_a_time:
            return self._in_parts(at, ask)

    def _in_parts(self, at: Cursor, ask: Callable[[Cursor], Page]) -> Page:
        end = at.position + at.size
        is_known = self.knows_one_in(at)
        todo = self._around_known(at.position, end) if is_known else _halves(at.position, end)
        courses: list[object] = []
        last: Page | None = None
        while todo:
            begin, end = todo.pop()
            if last and last.count is not None and begin >= last.count:
                break
            if begin in self._positions:
                courses.append(UNRENDERED)
                continue
            try:
                last = self._ask(ask, Cursor("offset", begin, end - begin))
            except EdxUnavailable as error:
                if not is_server_error(error):
                    raise
                todo += self._smaller(begin, end, error)
                continue
            courses += last.courses
            if len(last.courses) < end - begin:
                break  # the list ends here, or the server returns fewer courses than requested
        return self._assembled(at, courses, last)

    def _assembled(self, at: Cursor, courses: list[object], last: Page | None) -> Page:
        count = last.count if last else None
        following = last.next if last else None
        if courses and courses[-1] is UNRENDERED:  # edX named no cursor for what follows
            reached = at.position + len(courses)
            is_end = count is not None and reached >= count
            following = None if is_end else Cursor("offset", reached, at.size)
        return Page(at, courses, count, following, is_whole=False)

    def _ask(self, ask: Callable[[Cursor], Page], part: Cursor) -> Page:
        if self._requests >= REQUESTS_PER_COURSE * (len(self._positions) + 1):
            raise EdxUnavailable(
                f"edX is unavailable: too many parts of a page failed, the last at position {part.position}"
            )
        self._requests += 1
        return ask(part)

    def _smaller(self, begin: int, end: int, failure: EdxUnavailable) -> list[tuple[int, int]]:
        """Return the smaller parts to request in place of a part that failed."""
        if end - begin > 1:
            return _halves(begin, end)
        if len(self._positions) == COURSES_PER_PULL:
            raise EdxUnavailable(
                f"edX is unavailable: it cannot render more than {COURSES_PER_PULL} courses, "
                f"the last one at position {begin}: {failure.message}",
                status=failure.status,
            )
        self._positions.add(begin)
        return [(begin, end)]

    def _around_known(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Return the known courses of a range and the parts between them, in reverse order."""
        parts = []
        for position in sorted(self._positions & set(range(begin, end))):
            if begin < position:
                parts.append((begin, position))
            parts.append((position, position + 1))
            begin = position + 1
        if begin < end:
            parts.append((begin, end))
        return parts[::-1]


def is_server_error(error: EdxUnavailable) -> bool:
    """Tell whether a page failed with a 5xx without Retry-After; its content may be the cause."""
    return error.status is not None and error.status >= 500 and error.retry_at is None  # noqa: PLR2004


def _halves(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the halves of a range in reverse order; a range of one stays as it is."""
    if end - begin == 1:
        return [(begin, end)]
    middle = (begin + end + 1) // 2
    return [(middle, end), (begin, middle)]
