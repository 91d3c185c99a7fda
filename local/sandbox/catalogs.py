"""Catalogs of the edX sandbox: courses as JSON bytes, pages joined from them, and changes at run time.

Courses are served without decoding them, so that a catalogue of 60,000 courses is cheap.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlencode

from local.sandbox.http import CATALOG_API, Body, Request

USER = "sandbox-user"
"""The user of the sandbox's credentials; a catalog that does not list the user as a viewer is 403."""

Course = dict[str, Any]


class StoredCourse(NamedTuple):
    """A course in a catalog; `body` is its JSON, or a function that returns it."""

    key: str
    body: bytes | Callable[[], bytes]

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else self.body()


class _Shown(NamedTuple):
    """The content of a catalog between two changes, with the pages that were built from it."""

    courses: tuple[StoredCourse, ...]
    pages: dict[str, Body]


class Catalog:
    """An edX catalog, which can be changed while it is served.

    Args:
        archived: how many more courses `courses_count` counts.

    Attributes:
        viewers: the users who may see it.
        unrenderable: keys of courses that edX cannot render: every page with one of them is a 500.
        max_limit: the maximum number of courses per page; None for no maximum.
    """

    def __init__(
        self,
        id: int,  # noqa: A002  edX's own name for it
        name: str,
        courses: Iterable[Course | StoredCourse] = (),
        *,
        query: str = "*:*",
        viewers: Sequence[str] = (USER,),
        archived: int = 7,
    ) -> None:
        self.id = id
        self.name = name
        self.query = query
        self.viewers = list(viewers)
        self.archived = archived
        self.unrenderable: Collection[str] = ()
        self.max_limit: int | None = None
        self._changing = Lock()
        self._shown = _Shown((), {})
        self.replace(courses)
        self._at_start = self._shown.courses, tuple(viewers)

    def __len__(self) -> int:
        return len(self._shown.courses)

    def described(self) -> dict[str, object]:
        """Return the catalog as the API describes it."""
        return {
            "id": self.id,
            "name": self.name,
            "query": self.query,
            "courses_count": len(self) + self.archived,
            "viewers": self.viewers,
        }

    @property
    def keys(self) -> list[str]:
        """The keys of the courses shown now, in order."""
        return [course.key for course in self._shown.courses]

    @property
    def courses(self) -> list[Course]:
        """The present courses in order, as new objects."""
        return [json.loads(course.raw()) for course in self._shown.courses]

    def replace(self, courses: Iterable[Course | StoredCourse]) -> None:
        """Show these courses instead, in this order."""
        self._show(lambda _shown: [_stored(course) for course in courses])

    def clear(self) -> None:
        """Restore the original content."""
        courses, viewers = self._at_start
        self.replace(courses)
        self.viewers, self.unrenderable, self.max_limit = list(viewers), (), None

    def add(self, *courses: Course, at: int | None = None) -> None:
        """Show more courses: at the end, or from a position on."""
        new = [_stored(course) for course in courses]
        self._show(lambda shown: [*shown, *new] if at is None else [*shown[:at], *new, *shown[at:]])

    def remove(self, *course_keys: str) -> None:
        """Stop showing courses."""
        gone = set(course_keys)
        if missing := gone.difference(self.keys):
            raise KeyError(*missing)
        self._show(lambda shown: [course for course in shown if course.key not in gone])

    def list_twice(self, course_key: str) -> None:
        """List a course a second time, next to itself."""

        def doubled(shown: Sequence[StoredCourse]) -> Sequence[StoredCourse]:
            position = _position(shown, course_key)
            return [*shown[:position], shown[position], *shown[position:]]

        self._show(doubled)

    def alter(self, course_key: str, change: Callable[[Course], object]) -> None:
        """Change a course in place, runs included."""

        def altered(shown: Sequence[StoredCourse]) -> Sequence[StoredCourse]:
            position = _position(shown, course_key)
            course = json.loads(shown[position].raw())
            change(course)
            return [*shown[:position], _stored(course), *shown[position + 1 :]]

        self._show(altered)

    def add_run(self, course_key: str, run: Mapping[str, Any]) -> None:
        """Give a course one more run."""
        self.alter(course_key, lambda course: course["course_runs"].append(deepcopy(dict(run))))

    def remove_run(self, run_key: str) -> None:
        """Stop showing a run; its course stays."""
        for course_key in self._courses_with(run_key):
            self.alter(
                course_key,
                lambda course: course.update(
                    course_runs=[run for run in course["course_runs"] if run.get("key") != run_key]
                ),
            )

    def alter_run(self, run_key: str, **fields: object) -> None:
        """Change fields of a run."""
        self._alter_runs(run_key, lambda run: run.update(fields))

    def expire_seats(self, run_key: str) -> None:
        """Move the upgrade deadline of all seats of a run into the past, so that none can be bought."""
        past = {"upgrade_deadline": "2020-01-01T00:00:00Z", "upgrade_deadline_override": None}
        self._alter_runs(run_key, lambda run: run.update(seats=[{**seat, **past} for seat in run["seats"]]))

    def page(self, request: Request) -> Body:
        """Return the page of courses that a request asks for."""
        request = self._capped(request)
        shown = self._shown
        name = urlencode(sorted(request.query.items()))
        return shown.pages.setdefault(name, Body(lambda: _page(shown.courses, request)))

    def can_render(self, request: Request) -> bool:
        """Tell whether the requested page has only courses that edX can render."""
        shown = _slice(self._shown.courses, self._capped(request)) if self.unrenderable else ()
        return {course.key for course in shown}.isdisjoint(self.unrenderable)

    def warm(self, limit: int) -> None:
        """Build and compress every page in advance, so that a benchmark does not wait for it."""
        for offset in range(0, max(len(self), 1), limit):
            query = {"limit": str(limit), "offset": str(offset)} if offset else {"limit": str(limit)}
            _ = self.page(Request("GET", f"{CATALOG_API}/catalogs/{self.id}/courses/", query)).gzipped

    def _capped(self, request: Request) -> Request:
        if self.max_limit is None or request.limit <= self.max_limit:
            return request
        name = "page_size" if request.query.get("page") else "limit"
        return replace(request, query={**request.query, name: str(self.max_limit)})

    def _alter_runs(self, run_key: str, change: Callable[[dict[str, Any]], object]) -> None:
        for course_key in self._courses_with(run_key):
            self.alter(
                course_key,
                lambda course: [change(run) for run in course["course_runs"] if run.get("key") == run_key],
            )

    def _show(self, changed: Callable[[Sequence[StoredCourse]], Iterable[StoredCourse]]) -> None:
        with self._changing:
            self._shown = _Shown(tuple(changed(self._shown.courses)), {})

    def _courses_with(self, run_key: str) -> list[str]:
        """Return the keys of the courses that have a run, first of all the one in the run's key."""
        shown = self._shown.courses
        course_key = course_key_of(run_key)
        namesakes = [course for course in shown if course.key == course_key]
        quoted = json.dumps(run_key).encode()
        for candidates in (namesakes, shown):
            if found := [course.key for course in candidates if quoted in course.raw()]:
                return found
        raise KeyError(run_key)


def course_key_of(run_key: str) -> str:
    """Return the course key in a run key of either style."""
    return "+".join(run_key.removeprefix("course-v1:").replace("/", "+").split("+")[:2])


def links(request: Request, count: int) -> dict[str, str | None]:
    """Return `next` and `previous`, which name another host, as the real server's do."""
    limit, offset = request.limit, request.offset
    return {
        "next": request.foreign_url(offset + limit) if offset + limit < count else None,
        "previous": request.foreign_url(max(offset - limit, 0)) if offset > 0 else None,
    }


def _page(courses: tuple[StoredCourse, ...], request: Request) -> bytes:
    head = json.dumps({"count": len(courses), **links(request, len(courses)), "results": []}).encode()
    shown = _slice(courses, request)
    return head.removesuffix(b"]}") + b",".join(course.raw() for course in shown) + b"]}"


def _slice(courses: tuple[StoredCourse, ...], request: Request) -> tuple[StoredCourse, ...]:
    return courses[request.offset : request.offset + request.limit]


def _position(courses: Sequence[StoredCourse], course_key: str) -> int:
    for position, course in enumerate(courses):
        if course.key == course_key:
            return position
    raise KeyError(course_key)


def _stored(course: Course | StoredCourse) -> StoredCourse:
    if isinstance(course, StoredCourse):
        return course
    return StoredCourse(str(course.get("key")), json.dumps(course).encode())
