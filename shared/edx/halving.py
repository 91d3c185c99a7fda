"""Gets around the courses that edX cannot render: a page that answers 5xx is asked for in halves.

A course run whose `type` is null in edX's database makes every page that holds its course a 500, for good.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.edx.paging import Cursor
from shared.errors import EdxUnavailable

REQUESTS_PER_COURSE = 20
"""A page of 501 courses takes 18 to find the one."""
COURSES_PER_PULL = 3

UNRENDERED: Final = object()
"""Stands in a page for a course that edX cannot render."""


@dataclass(frozen=True)
class Page:
    """A page as it came: `next` is the cursor that edX named, `is_whole` False when it came in parts."""

    at: Cursor
    courses: list[object]
    count: int | None
    next: Cursor | None
    is_whole: bool = True


class Halving:
    """The courses of one pull that edX cannot render; safe to share between the threads of the pull."""

    def __init__(self) -> None:
        self._positions: set[int] = set()
        self._requests = 0
        self._one_page_at_a_time = threading.Lock()  # two that share a course need not both look for it

    def knows_one_in(self, at: Cursor) -> bool:
        """Tell whether a page holds a course that is known to fail it."""
        return at.style == "offset" and any(
            at.position <= position < at.position + (at.size or 1) for position in tuple(self._positions)
        )

    def page(self, at: Cursor, ask: Callable[[Cursor], Page], failure: EdxUnavailable | None) -> Page:
        """Return a page in the parts that edX can render, with UNRENDERED in place of each other course.

        Args:
            at: where it begins, and how many courses.
            ask: asks for a part of it, once.
            failure: the 5xx that the whole page was answered with; None when it was not asked for.

        Raises:
            EdxUnavailable: too many courses cannot be rendered, or finding one takes too many requests.
        """
        with self._one_page_at_a_time:
            return self._in_parts(at, ask, failure)

    def _in_parts(self, at: Cursor, ask: Callable[[Cursor], Page], failure: EdxUnavailable | None) -> Page:
        end = at.position + (at.size or 1)
        whole_failed = failure is not None and not self.knows_one_in(at)
        todo = _halves(at.position, end) if whole_failed else self._around_known(at.position, end)
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
                break  # the list ends here, or the server gives fewer than asked for
        return self._assembled(at, courses, last)

    def _assembled(self, at: Cursor, courses: list[object], last: Page | None) -> Page:
        count = last.count if last else None
        reached = at.position + len(courses)
        following = last.next if last else None
        if courses and courses[-1] is UNRENDERED and (count is None or reached < count):
            following = Cursor("offset", reached, at.size)  # no page that came tells what is behind it
        return Page(at, courses, count, following, is_whole=False)

    def _ask(self, ask: Callable[[Cursor], Page], part: Cursor) -> Page:
        if self._requests >= REQUESTS_PER_COURSE * (len(self._positions) + 1):
            raise EdxUnavailable(
                f"edX is unavailable: it fails part after part of a page, now at position {part.position}"
            )
        self._requests += 1
        return ask(part)

    def _smaller(self, begin: int, end: int, failure: EdxUnavailable) -> list[tuple[int, int]]:
        """Return what to ask for in place of a part that failed."""
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
        """Return the known courses of a range and the parts between them, the first one last."""
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
    """Tell whether a page failed by a 5xx without a time to come back: by its content, perhaps."""
    return error.status is not None and error.status >= 500 and error.retry_at is None  # noqa: PLR2004


def _halves(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the halves of a range, the first one last; a range of one is its own half."""
    if end - begin == 1:
        return [(begin, end)]
    middle = (begin + end + 1) // 2
    return [(middle, end), (begin, middle)]
