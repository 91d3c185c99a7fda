"""A catalog with edX's pages, without HTTP: answers the requests of a walk from a list."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from shared.edx.models import CoursesPage, EdxCourse
from shared.edx.paging import Cursor
from shared.edx.walk import CourseWalk
from shared.errors import EdxUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class AtOnce(Executor):
    """Runs the work inside `submit`, so that the order of requests is known."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - every error is passed to the future
            future.set_exception(error)
        return future


class CatalogServer:
    """Answers like edX's server.

    Args:
        keys: the courses, in order; a value that is not text is returned as the course itself.
        most: the maximum number of courses per page, for any requested number.
        broken: keys of courses that make each page that holds them a 500.
        before: called before each answer with the number of the request, from 0 on.
    """

    def __init__(
        self,
        keys: Sequence[object],
        *,
        most: int | None = None,
        broken: Sequence[object] = (),
        before: Callable[["CatalogServer", int], None] = lambda _server, _request: None,
    ) -> None:
        self.keys = list(keys)
        self.asked: list[tuple[int, int]] = []  # offset and limit
        self._most = most
        self._broken = list(broken)
        self._before = before

    def fetch(self, at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        assert at.style == "offset"
        self._before(self, len(self.asked))
        self.asked.append((at.position, at.size))
        size = min(at.size, self._most or at.size)
        end = at.position + size
        keys = self.keys[at.position : end]
        if any(key in self._broken for key in keys):
            raise EdxUnavailable("answered 500", status=500)
        following = f"?limit={size}&offset={end}" if end < len(self.keys) else None
        return CoursesPage.model_validate(
            {"count": len(self.keys), "next": following, "results": [as_course(key) for key in keys]}
        )


def as_course(key: object) -> object:
    return {"key": key} if isinstance(key, str) else key


def walk_of(fetch: Any, page_size: int = 2, ahead: int = 0) -> CourseWalk:
    """Return a walk that requests each page when it is needed, or `ahead` pages in advance."""
    return CourseWalk(fetch, page_size=page_size, workers=AtOnce(), ahead=ahead)


def keys_of(walk: CourseWalk) -> list[object]:
    return [
        course.key if isinstance(course, EdxCourse) and course.key is not None else course
        for courses in walk
        for course in courses
    ]
