from collections.abc import Callable
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

import pytest

from shared.edx.models import CoursesPage
from shared.edx.pages import Pages
from shared.edx.paging import Cursor
from shared.errors import EdxUnavailable
from tests.edx.catalog_server import AtOnce, CatalogServer

P = ParamSpec("P")
T = TypeVar("T")


class Never(Executor):
    """Keeps the work without doing it."""

    def __init__(self) -> None:
        self.futures: list[Future[object]] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        del fn, args, kwargs
        future: Future[T] = Future()
        self.futures.append(future)  # type: ignore[arg-type]
        return future


def offset(position: int) -> Cursor:
    return Cursor("offset", position, 3)


def test_the_pages_before_the_one_that_is_taken_are_cancelled_and_others_requested_in_their_place() -> None:
    workers = Never()
    server = CatalogServer([f"c{n}" for n in range(20)])
    pages = Pages(server.fetch, workers, 3)
    pages.plan(offset(n) for n in range(2, 20, 2))
    assert len(workers.futures) == 3
    page = pages.take(offset(5))
    assert [future.cancelled() for future in workers.futures] == [True, True, False, False, False]
    assert page.at == offset(5)
    assert server.asked == [(5, 3)]


def test_a_page_is_requested_once_when_it_is_planned_and_taken() -> None:
    server = CatalogServer([f"c{n}" for n in range(9)])
    pages = Pages(server.fetch, AtOnce(), 2)
    pages.plan(iter([offset(2), offset(4), offset(6)]))
    assert server.asked == [(2, 3), (4, 3)]
    assert [pages.take(offset(n)).at.position for n in (2, 4, 6)] == [2, 4, 6]
    assert server.asked == [(2, 3), (4, 3), (6, 3)]


@pytest.mark.parametrize(
    ("at", "error"),
    [
        (offset(4), EdxUnavailable("did not answer in time")),
        (offset(4), EdxUnavailable("answered 408", status=408)),
        (offset(4), EdxUnavailable("answered 503", datetime(2026, 3, 1, tzinfo=UTC), 503)),
        (Cursor("page", 2, 3), EdxUnavailable("answered 500", status=500)),
    ],
)
def test_a_page_is_not_requested_in_parts_when_its_content_is_not_the_cause_or_pages_have_numbers(
    at: Cursor, error: EdxUnavailable
) -> None:
    def fetch(at: Cursor, *, is_part: bool) -> CoursesPage:
        asked.append((at, is_part))
        raise error

    asked: list[tuple[Cursor, bool]] = []
    with pytest.raises(EdxUnavailable) as caught:
        Pages(fetch, AtOnce(), 0).take(at)
    assert caught.value is error
    assert asked == [(at, False)]


def test_a_page_is_requested_only_in_parts_when_one_of_its_courses_is_known_not_to_be_rendered() -> None:
    server = CatalogServer([f"c{n}" for n in range(9)], broken=["c4"])
    pages = Pages(server.fetch, AtOnce(), 0)
    pages.take(offset(2))
    begun = len(server.asked)
    pages.take(offset(4))
    assert server.asked[begun:] == [(5, 2)]
