from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from shared.edx.halving import UNRENDERED, Halving, Page, is_server_error
from shared.edx.paging import Cursor
from shared.errors import EdxUnavailable

Asked = list[tuple[int, int]]


def edx(
    listed: int, broken: set[int], *, most: int | None = None, counts: bool = True
) -> tuple[Callable[[Cursor], Page], Asked]:
    """Return a function that answers with courses 0, 1, 2 … of a catalog, and the list of what was asked.

    Args:
        listed: how many courses the catalog has.
        broken: the courses that make each page that holds them a 500.
        most: the maximum number of courses per page, for any requested number.
        counts: whether edX sends a count.
    """
    asked: Asked = []

    def ask(part: Cursor) -> Page:
        asked.append((part.position, part.size))
        end = min(part.position + min(part.size, most or part.size), listed)
        if broken & set(range(part.position, end)):
            raise EdxUnavailable(f"answered 500 at {part.position}", status=500)
        following = Cursor("offset", end, part.size) if end < listed else None
        return Page(part, [*range(part.position, end)], listed if counts else None, following)

    return ask, asked


def down(part: Cursor) -> Page:
    raise EdxUnavailable(f"answered 500 at {part.position}", status=500)


@pytest.mark.parametrize(
    ("listed", "size", "broken", "asked", "following"),
    [
        (100, 9, 20, [(20, 5), (20, 3), (20, 2), (20, 1), (21, 1), (22, 1), (23, 2), (25, 4)], 29),
        (100, 9, 22, [(20, 5), (20, 3), (20, 2), (22, 1), (23, 2), (25, 4)], 29),
        (100, 9, 26, [(20, 5), (25, 4), (25, 2), (25, 1), (26, 1), (27, 2)], 29),
        (100, 9, 28, [(20, 5), (25, 4), (25, 2), (27, 2), (27, 1), (28, 1)], 29),
        (100, 1, 20, [(20, 1)], 21),
        (29, 9, 28, [(20, 5), (25, 4), (25, 2), (27, 2), (27, 1), (28, 1)], None),
        # The list ends inside the page, behind a part or within one.
        (25, 9, 22, [(20, 5), (20, 3), (20, 2), (22, 1), (23, 2)], None),
        (24, 9, 22, [(20, 5), (20, 3), (20, 2), (22, 1), (23, 2)], None),
        (25, 9, 24, [(20, 5), (20, 3), (23, 2), (23, 1), (24, 1)], None),
    ],
)
def test_a_page_consists_of_the_parts_that_edx_can_render_when_one_course_is_broken(
    listed: int, size: int, broken: int, asked: Asked, following: int | None
) -> None:
    ask, asked_for = edx(listed, {broken})
    at = Cursor("offset", 20, size)
    page = Halving().page(at, ask)
    courses = [UNRENDERED if n == broken else n for n in range(20, min(20 + size, listed))]
    assert (page.at, page.courses, page.is_whole) == (at, courses, False)
    assert asked_for == asked
    assert (page.next and page.next.position) == following


@pytest.mark.parametrize(
    ("position", "size", "asked"),
    [
        (20, 9, [(20, 2), (24, 5)]),
        (18, 5, [(18, 4)]),
        (22, 5, [(24, 3)]),
        (23, 4, [(24, 3)]),
        (22, 2, []),
    ],
)
def test_only_the_parts_beside_the_known_courses_are_requested_when_edx_cannot_render_them(
    position: int, size: int, asked: Asked
) -> None:
    halving = Halving()
    halving.page(Cursor("offset", 22, 1), down)
    halving.page(Cursor("offset", 23, 1), down)
    ask, asked_for = edx(100, {22, 23})
    page = halving.page(Cursor("offset", position, size), ask)
    assert page.courses == [UNRENDERED if n in {22, 23} else n for n in range(position, position + size)]
    assert asked_for == asked


def test_the_parts_are_requested_to_the_first_short_one_when_edx_sends_no_count() -> None:
    ask, asked = edx(25, {22}, counts=False)
    page = Halving().page(Cursor("offset", 20, 9), ask)
    assert page == Page(Cursor("offset", 20, 9), [20, 21, UNRENDERED, 23, 24], None, None, is_whole=False)
    assert asked[-1] == (25, 4)
    ask, _ = edx(25, {24}, counts=False)
    assert Halving().page(Cursor("offset", 24, 1), ask).next == Cursor("offset", 25, 1)


def test_a_page_ends_with_a_part_that_has_fewer_courses_than_requested() -> None:
    ask, asked = edx(100, {27}, most=4)
    page = Halving().page(Cursor("offset", 20, 9), ask)
    assert page.courses == [20, 21, 22, 23]
    assert page.next == Cursor("offset", 24, 5)
    assert asked == [(20, 5)]


def test_the_search_for_a_course_ends_after_20_requests_and_each_known_course_adds_20() -> None:
    halving = Halving()
    asked: Asked = []

    def ask(part: Cursor) -> Page:
        asked.append((part.position, part.size))
        return down(part)

    large = Cursor("offset", 0, 2**50)
    with pytest.raises(EdxUnavailable) as caught:
        halving.page(large, ask)
    assert len(asked) == 20
    assert (
        caught.value.message == "edX is unavailable: too many parts of a page failed, the last at position 0"
    )
    halving = Halving()
    halving.page(Cursor("offset", 2**60, 1), ask)
    with pytest.raises(EdxUnavailable, match="too many parts"):
        halving.page(large, ask)
    assert len(asked) == 20 + 40


def test_the_error_has_the_status_and_the_failure_when_a_fourth_course_cannot_be_rendered() -> None:
    halving = Halving()
    for position in (3, 20, 41):
        halving.page(Cursor("offset", position, 1), down)
    with pytest.raises(EdxUnavailable) as caught:
        halving.page(Cursor("offset", 59, 1), down)
    assert caught.value.message == (
        "edX is unavailable: it cannot render more than 3 courses, the last one at position 59: "
        "answered 500 at 59"
    )
    assert caught.value.status == 500


def test_a_page_fails_at_once_when_a_part_fails_for_another_reason() -> None:
    def ask(part: Cursor) -> Page:
        asked.append((part.position, part.size))
        if part.size < 5:
            raise EdxUnavailable("did not answer in time")
        return down(part)

    asked: Asked = []
    with pytest.raises(EdxUnavailable, match=r"^did not answer in time$"):
        Halving().page(Cursor("offset", 20, 9), ask)
    assert asked == [(20, 5), (20, 3)]


@pytest.mark.parametrize(
    ("error", "is_about_content"),
    [
        (EdxUnavailable("answered 500", status=500), True),
        (EdxUnavailable("answered 599", status=599), True),
        (EdxUnavailable("answered 408", status=408), False),
        (EdxUnavailable("answered 499", status=499), False),
        (EdxUnavailable("did not answer in time"), False),
        (EdxUnavailable("answered 503", datetime(2026, 3, 1, tzinfo=UTC), 503), False),
    ],
)
def test_the_content_of_a_page_may_be_the_cause_when_edx_answers_5xx_and_names_no_time(
    error: EdxUnavailable, *, is_about_content: bool
) -> None:
    assert is_server_error(error) is is_about_content


def test_a_course_that_edx_cannot_render_is_known_to_be_in_the_pages_that_contain_its_position() -> None:
    halving = Halving()
    halving.page(Cursor("offset", 4, 1), down)
    known = [begin for begin in range(8) if halving.knows_one_in(Cursor("offset", begin, 3))]
    assert known == [2, 3, 4]
    assert not halving.knows_one_in(Cursor("page", 4, 3))
