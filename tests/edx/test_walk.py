from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.edx.models import CoursesPage, EdxCourse
from shared.edx.paging import Cursor
from shared.errors import EdxProtocolError, EdxUnavailable, NotFound
from tests.edx.catalog_server import CatalogServer, keys_of, walk_of

FIVE = ["a", "b", "c", "d", "e"]


def answering(
    pages: dict[tuple[str, int], dict[str, object]],
) -> tuple[Callable[..., CoursesPage], list[int]]:
    """Return a fetch with given pages by style and position, and the list of requested positions."""
    asked: list[int] = []

    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        asked.append(at.position)
        return CoursesPage.model_validate(pages[at.style, at.position])

    return fetch, asked


def some(keys: str, count: object = None, following: object = None) -> dict[str, object]:
    return {"count": count, "next": following, "results": [{"key": key} for key in keys]}


# Complete pulls


@pytest.mark.parametrize(
    ("courses", "page_size", "asked"),
    [
        (0, 2, [(0, 3)]),
        (1, 2, [(0, 3)]),
        (3, 2, [(0, 3)]),
        (4, 2, [(0, 3), (2, 3)]),
        (5, 2, [(0, 3), (2, 3)]),
        (6, 2, [(0, 3), (2, 3), (4, 3)]),
        (3, 1, [(0, 2), (1, 2)]),
        (45, 20, [(0, 21), (20, 21), (40, 21)]),
        (100, 100, [(0, 101)]),
        (250, 100, [(0, 101), (100, 101), (200, 101)]),
    ],
)
@pytest.mark.parametrize("ahead", [0, 1, 8])
def test_each_course_is_returned_once_and_the_pull_is_complete_when_nothing_moves(
    courses: int, page_size: int, asked: list[tuple[int, int]], ahead: int
) -> None:
    keys = [f"c{n}" for n in range(courses)]
    server = CatalogServer(keys)
    walk = walk_of(server.fetch, page_size, ahead)
    assert keys_of(walk) == keys
    assert (walk.count, walk.problems, walk.is_worth_repeating) == (courses, [], False)
    assert walk.says_empty is (courses == 0)
    assert server.asked == asked


def test_overlapping_pages_need_no_more_requests_when_the_catalog_is_unchanged() -> None:
    for courses in (100, 225, 4000):
        server = CatalogServer([f"c{n}" for n in range(courses)])
        keys_of(walk_of(server.fetch, 100))
        assert len(server.asked) == -(-courses // 100)


def test_pull_is_complete_when_edx_lists_a_course_twice_and_the_pages_overlap() -> None:
    walk = walk_of(CatalogServer(["a", "b", "c", "b", "d", "a"]).fetch)
    assert keys_of(walk) == ["a", "b", "c", "b", "d", "a"]
    assert walk.problems == []


def test_courses_are_compared_by_their_content_when_they_have_no_key() -> None:
    courses: list[object] = [
        {"uuid": "1"},
        None,
        {"uuid": "2"},
        "junk",
        {"uuid": "3", "course_runs": [{"start": None}]},
        7,
        {"key": ""},
    ]
    walk = walk_of(CatalogServer(courses).fetch)
    assert keys_of(walk) == [
        EdxCourse(uuid="1"),
        None,
        EdxCourse(uuid="2"),
        "junk",
        EdxCourse.model_validate(courses[4]),
        7,
        "",
    ]
    assert walk.problems == []


def test_a_pull_is_incomplete_when_a_course_without_a_key_moved() -> None:
    def swap(server: CatalogServer, request: int) -> None:
        if request == 1:
            server.keys = [*server.keys[1:], {"uuid": "new"}]

    walk = walk_of(CatalogServer([{"uuid": str(n)} for n in range(6)], before=swap).fetch)
    keys_of(walk)
    assert walk.problems == ["the pages do not overlap between positions 1 and 2: a course may have moved"]


# Courses that move during the pull


def test_a_pull_is_incomplete_when_one_course_leaves_and_another_joins_during_the_pull() -> None:
    def swap(server: CatalogServer, request: int) -> None:
        if request == 1:
            server.keys = [f"c{n}" for n in range(1, 61)]

    server = CatalogServer([f"c{n}" for n in range(60)], before=swap)
    walk = walk_of(server.fetch, 20)
    seen = keys_of(walk)
    assert "c21" in seen
    assert walk.count == 60
    assert walk.problems == ["the pages do not overlap between positions 19 and 20: a course may have moved"]
    assert walk.is_worth_repeating


@pytest.mark.parametrize("boundary", [1, 2, 3])
@pytest.mark.parametrize("leaving", range(6))
@pytest.mark.parametrize("place", range(7))
def test_no_pull_is_complete_when_a_course_that_stayed_was_not_returned(
    boundary: int, leaving: int, place: int
) -> None:
    before = ["a", "b", "c", "d", "e", "f"]
    after = [key for key in before if key != before[leaving]]
    after.insert(place, "new")

    def move(server: CatalogServer, request: int) -> None:
        if request == boundary:
            server.keys = [*after]

    walk = walk_of(CatalogServer(before, before=move).fetch)
    unseen = set(before) & set(after) - set(keys_of(walk))
    assert not unseen or walk.problems


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_pull_is_complete_only_when_every_course_that_stayed_was_returned(data: st.DataObject) -> None:
    # The server orders by a number that a course keeps, so courses leave and join in a fixed order.
    everything = [f"c{n:02}" for n in range(data.draw(st.integers(1, 14)))]
    some = st.sets(st.sampled_from(everything))
    few = st.sets(st.sampled_from(everything), max_size=2)
    listed = data.draw(some)
    stayed = set(listed)

    def move(server: CatalogServer, request: int) -> None:
        if request and data.draw(st.booleans()):
            listed.difference_update(data.draw(few))
            stayed.intersection_update(listed)
            listed.update(data.draw(few))
            server.keys = [*sorted(listed)]

    page_size = data.draw(st.integers(1, 4))
    server = CatalogServer(sorted(listed), before=move, most=data.draw(st.none() | st.integers(1, 5)))
    walk = walk_of(server.fetch, page_size, data.draw(st.integers(0, 3)))
    try:
        seen = keys_of(walk)
    except EdxProtocolError:
        return
    assert stayed <= set(seen) or walk.problems


def test_the_pull_is_incomplete_when_the_count_changes() -> None:
    fetch, _ = answering(
        {("offset", 0): some("abc", 4, "?offset=3"), ("offset", 2): some("cde", 5)},
    )
    walk = walk_of(fetch)
    assert keys_of(walk) == FIVE
    assert walk.problems == [
        "the count changed from 4 to 5 while the pages were pulled",
        "edX returned 5 courses but counts 4",
    ]


def test_the_last_count_is_named_when_the_count_changes_late() -> None:
    fetch, _ = answering(
        {
            ("offset", 0): some("abc", 6, "?offset=3"),
            ("offset", 2): some("cde", 6, "?offset=5"),
            ("offset", 4): some("ef", 7),
            ("offset", 5): some("f", 6),  # has only the shared course, so that its count is ignored
        }
    )
    walk = walk_of(fetch)
    assert keys_of(walk) == ["a", "b", "c", "d", "e", "f"]
    assert walk.problems == ["the count changed from 6 to 7 while the pages were pulled"]


def test_the_count_of_the_last_page_is_used_when_one_more_was_requested() -> None:
    server = CatalogServer(["a", "b", "c", "d"])

    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        page = server.fetch(at, is_part=is_part)
        return page.model_copy(update={"count": 5}) if at.position == 2 else page

    walk = walk_of(fetch)
    assert keys_of(walk) == ["a", "b", "c", "d"]
    assert server.asked == [(0, 3), (2, 3), (3, 2)]
    assert walk.problems == ["the count changed from 4 to 5 while the pages were pulled"]


def test_the_walk_follows_next_when_the_count_is_too_low() -> None:
    fetch, _ = answering(
        {
            ("offset", 0): some("abc", 3, "?offset=3"),
            ("offset", 2): some("cde", 3, "?offset=5"),
            ("offset", 4): some("e", 3),
        }
    )
    walk = walk_of(fetch)
    assert keys_of(walk) == FIVE
    assert walk.problems == ["edX returned 5 courses but counts 3"]


def test_only_some_boundaries_are_named_when_no_pages_overlap() -> None:
    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        here = [{"key": f"{at.position}-{n}"} for n in range(3)]
        following = f"?offset={at.position + 3}" if at.position < 12 else None
        return CoursesPage.model_validate({"count": 15, "next": following, "results": here})

    walk = walk_of(fetch)
    keys_of(walk)
    assert walk.problems == [
        "the pages do not overlap between positions 1 and 2: a course may have moved",
        "the pages do not overlap between positions 3 and 4: a course may have moved",
        "the pages do not overlap between positions 5 and 6: a course may have moved",
        "6 pages in total do not overlap with the page before them",
    ]


# Counts


@pytest.mark.parametrize("count", [None, "5", 5.0, True, -1])
def test_the_walk_follows_next_and_the_pull_is_incomplete_when_there_is_no_count(count: object) -> None:
    fetch, asked = answering(
        {("offset", 0): some("abc", count, "?offset=3"), ("offset", 2): some("cd", count, None)}
    )
    walk = walk_of(fetch, ahead=4)
    assert keys_of(walk) == ["a", "b", "c", "d"]
    assert (walk.count, walk.problems, walk.says_empty) == (None, ["edX sent no count"], False)
    assert asked == [0, 2]


# Servers that return fewer courses than requested, or use page numbers


@pytest.mark.parametrize(
    ("most", "asked"),
    [
        (2, [(0, 21), (1, 2), (2, 2), (3, 2)]),
        (3, [(0, 21), (2, 3)]),
        (4, [(0, 21), (3, 4)]),
    ],
)
@pytest.mark.parametrize("ahead", [0, 8])
def test_the_walk_continues_after_the_returned_courses_when_the_server_caps_the_limit(
    most: int, asked: list[tuple[int, int]], ahead: int
) -> None:
    server = CatalogServer(FIVE, most=most)
    walk = walk_of(server.fetch, 20, ahead)
    assert keys_of(walk) == FIVE
    assert walk.problems == []
    assert server.asked == asked


def test_each_course_is_returned_but_the_pull_is_incomplete_when_a_page_has_one_course() -> None:
    walk = walk_of(CatalogServer(FIVE, most=1).fetch, 20, ahead=8)
    assert keys_of(walk) == FIVE
    assert walk.problems == ["edX returns one course per page, so that pages cannot overlap"]
    assert not walk.is_worth_repeating


def test_the_gap_is_filled_when_one_page_has_fewer_courses() -> None:
    short = {0: 5, 4: 2}

    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        asked.append((at.position, at.size))
        end = at.position + min(at.size, short.get(at.position, at.size))
        keys = [{"key": f"c{n}"} for n in range(at.position, min(end, 12))]
        return CoursesPage.model_validate(
            {"count": 12, "next": f"?offset={end}" if end < 12 else None, "results": keys}
        )

    asked: list[tuple[int, int]] = []
    walk = walk_of(fetch, 4, ahead=8)
    assert keys_of(walk) == [f"c{n}" for n in range(12)]
    assert walk.problems == []
    assert asked == [(0, 5), (4, 5), (8, 5), (5, 4)]


def test_matching_records_and_count_are_enough_when_the_server_uses_page_numbers() -> None:
    fetch, asked = answering(
        {
            ("offset", 0): some("ab", 5, "?page=2"),
            ("page", 2): some("cd", 5, "?page=3"),
            ("page", 3): some("e", 5),
        }
    )
    walk = walk_of(fetch, ahead=4)
    assert keys_of(walk) == FIVE
    assert walk.problems == []
    assert asked == [0, 2, 3]


def test_a_pull_by_page_numbers_is_incomplete_when_records_are_missing() -> None:
    fetch, _ = answering(
        {("offset", 0): some("ab", 4, "?page=2"), ("page", 2): some("d", 4)} | {("page", 3): some("", 4)}
    )
    walk = walk_of(fetch)
    assert keys_of(walk) == ["a", "b", "d"]
    assert walk.problems == ["edX returned 3 courses but counts 4"]


# Pages that are empty, repeat, or have no end


@pytest.mark.parametrize("following", ["?limit=21&offset=21", None])
def test_an_empty_first_page_does_not_end_the_walk_when_there_are_more_courses(following: object) -> None:
    keys = [f"c{n}" for n in range(45)]
    server = CatalogServer(keys)

    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        page = server.fetch(at, is_part=is_part)
        return page if at.position else CoursesPage(count=45, next=following, results=[])

    walk = walk_of(fetch, 20)
    assert keys_of(walk) == keys[20:]
    assert walk.problems == ["the page at offset 0 was empty", "edX returned 25 courses but counts 45"]
    assert walk.is_worth_repeating
    assert not walk.says_empty


def test_the_pull_is_incomplete_when_a_page_in_the_middle_is_empty() -> None:
    first, empty, last = some("abc", 6, "?offset=3"), some("", 6, "?offset=5"), some("ef", 6)
    fetch, _ = answering({("offset", 0): first, ("offset", 2): empty, ("offset", 4): last})
    walk = walk_of(fetch, ahead=4)
    assert keys_of(walk) == ["a", "b", "c", "e", "f"]
    assert walk.problems == ["the page at offset 2 was empty", "edX returned 5 courses but counts 6"]


def test_one_more_page_is_requested_when_next_is_absent_before_the_count_is_reached() -> None:
    fetch, asked = answering({("offset", n): some("", 45) for n in range(0, 40, 2)})
    walk = walk_of(fetch)
    assert keys_of(walk) == []
    assert asked == [0, 2]
    assert walk.problems == ["the page at offset 0 was empty", "edX returned 0 courses but counts 45"]
    assert not walk.says_empty


def test_no_page_is_requested_ahead_after_the_last_one_was_received() -> None:
    server = CatalogServer(FIVE)

    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        return server.fetch(at, is_part=is_part).model_copy(update={"count": 10**18})

    walk = walk_of(fetch, ahead=4)
    assert keys_of(walk) == FIVE
    assert [offset for offset, _ in server.asked] == [0, 2, 4, 6, 8]
    assert walk.problems == [f"edX returned 5 courses but counts {10**18}"]


def test_the_page_after_a_missing_next_is_requested_when_the_count_is_higher() -> None:
    fetch, _ = answering({("offset", 0): some("abc", 5), ("offset", 2): some("cde", 5)})
    walk = walk_of(fetch)
    assert keys_of(walk) == FIVE
    assert walk.problems == []


def test_protocol_error_when_three_empty_pages_come_in_a_row() -> None:
    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        return CoursesPage(count=10**12, next=f"?offset={at.position + 3}", results=[])

    with pytest.raises(EdxProtocolError, match="3 empty pages in a row, the last one at offset 4"):
        keys_of(walk_of(fetch, ahead=4))


def test_the_walk_ends_when_pages_have_no_new_course() -> None:
    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        asked.append(at.position)
        return CoursesPage.model_validate(some("abc", 10**12, f"?offset={at.position + 3}"))

    asked: list[int] = []
    walk = walk_of(fetch, ahead=4)
    assert set(keys_of(walk)) == {"a", "b", "c"}
    assert len(asked) <= 4 + 4
    assert "the last pages up to offset 6 had no new course" in walk.problems


@pytest.mark.parametrize("ahead", [0, 8])
@pytest.mark.parametrize("count", [None, 10**12])
def test_protocol_error_when_a_pull_takes_more_than_1000_pages(ahead: int, count: int | None) -> None:
    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        asked.append(at.position)
        here = [{"uuid": f"{n}"} for n in range(at.position, at.position + 21)]
        return CoursesPage.model_validate(
            {"count": count, "next": f"?offset={here[-1]['uuid']}", "results": here}
        )

    asked: list[int] = []
    with pytest.raises(EdxProtocolError, match="more than 1,000 pages"):
        keys_of(walk_of(fetch, 20, ahead))
    assert len(asked) == 1000


@pytest.mark.parametrize("following", ["?offset=0", "?offset=2", "?offset=1", "?page=2", "?cursor=x", 4])
def test_protocol_error_after_the_earlier_pages_when_a_cursor_does_not_advance(following: object) -> None:
    fetch, asked = answering(
        {("offset", 0): some("abc", None, "?offset=3"), ("offset", 2): some("cde", None, following)}
    )
    seen: list[object] = []
    with pytest.raises(EdxProtocolError, match="`next`"):
        seen.extend(walk_of(fetch))
    assert len(seen) == 1
    assert asked == [0, 2]


# Errors


@pytest.mark.parametrize("ahead", [0, 8])
def test_not_found_when_edx_hides_the_first_page_but_not_after_a_page_was_received(ahead: int) -> None:
    def hidden(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        if at.position == hidden_from:
            answered = "edX answered 404 for catalogs/7/courses/"
            raise NotFound(f"the catalog is not found: {answered}", answered=answered)
        return server.fetch(at, is_part=is_part)

    server = CatalogServer(FIVE)
    hidden_from = 0
    with pytest.raises(NotFound):
        keys_of(walk_of(hidden, ahead=ahead))
    hidden_from = 2
    with pytest.raises(
        EdxUnavailable,
        match=r": edX answered 404 for catalogs/7/courses/, although it had sent earlier pages of",
    ):
        keys_of(walk_of(hidden, ahead=ahead))


def test_earlier_pages_are_yielded_when_a_page_cannot_be_fetched() -> None:
    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        if at.position == 4:
            raise EdxUnavailable("catalogs/7/courses/ did not answer in time")
        return server.fetch(at, is_part=is_part)

    server = CatalogServer([f"c{n}" for n in range(10)])
    seen: list[list[object]] = []
    with pytest.raises(EdxUnavailable, match="in time"):
        seen.extend(walk_of(fetch, ahead=8))
    assert [len(courses) for courses in seen] == [3, 2]


# Courses that edX cannot render


def test_all_other_courses_are_returned_when_edx_cannot_render_one() -> None:
    keys = [f"c{n}" for n in range(45)]
    server = CatalogServer(keys, broken=["c25"])
    walk = walk_of(server.fetch, 100)
    assert keys_of(walk) == [key for key in keys if key != "c25"]
    assert walk.problems == ["edX could not render the course at position 25"]
    assert not walk.is_worth_repeating
    assert len(server.asked) <= 1 + 20


@pytest.mark.parametrize("place", range(11))
@pytest.mark.parametrize("ahead", [0, 8])
def test_the_position_is_named_when_edx_cannot_render_a_course(place: int, ahead: int) -> None:
    keys = [f"c{n}" for n in range(11)]
    server = CatalogServer(keys, broken=[f"c{place}"])
    walk = walk_of(server.fetch, 4, ahead)
    assert keys_of(walk) == [key for key in keys if key != f"c{place}"]
    assert walk.problems == [f"edX could not render the course at position {place}"]


@pytest.mark.parametrize("page_size", [1, 20, 100, 500])
@pytest.mark.parametrize("place", [0, 1, 7, 250, 499, 500])
def test_a_course_that_edx_cannot_render_is_found_in_20_requests_when_the_page_is_large(
    page_size: int, place: int
) -> None:
    keys = [f"c{n}" for n in range(501)]
    server = CatalogServer(keys, broken=[f"c{place}"])
    walk = walk_of(server.fetch, page_size)
    assert len(keys_of(walk)) == 500
    whole_pages = CatalogServer(keys)
    keys_of(walk_of(whole_pages.fetch, page_size))
    assert len(server.asked) - len(whole_pages.asked) <= 20


def test_three_courses_are_skipped_and_the_fourth_fails_the_pull_when_edx_cannot_render_them() -> None:
    keys = [f"c{n}" for n in range(60)]
    server = CatalogServer(keys, broken=["c3", "c20", "c41"])
    walk = walk_of(server.fetch, 20)
    assert len(keys_of(walk)) == 57
    assert walk.problems == [
        "edX could not render the course at position 3",
        "edX could not render the course at position 20",
        "edX could not render the course at position 41",
    ]
    server = CatalogServer(keys, broken=["c3", "c20", "c41", "c59"])
    with pytest.raises(
        EdxUnavailable, match="cannot render more than 3 courses, the last one at position 59"
    ):
        keys_of(walk_of(server.fetch, 20))


def test_the_pull_fails_soon_when_edx_is_down() -> None:
    server = CatalogServer([])

    def down(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        del is_part
        server.asked.append((at.position, at.size))
        raise EdxUnavailable("answered 502", status=502)

    with pytest.raises(EdxUnavailable, match="answered 502"):
        keys_of(walk_of(down, 100))
    assert len(server.asked) <= 20


def test_the_pull_is_incomplete_when_a_page_was_received_only_in_parts() -> None:
    def fetch(at: Cursor, *, is_part: bool = False) -> CoursesPage:
        if at.size == 5 and at.position == 4:
            raise EdxUnavailable("answered 504", status=504)
        return server.fetch(at, is_part=is_part)

    server = CatalogServer([f"c{n}" for n in range(11)])
    walk = walk_of(fetch, 4)
    assert len(keys_of(walk)) == 11
    assert walk.problems == ["edX could render the page at position 4 only in parts"]
    assert walk.is_worth_repeating


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_other_course_is_returned_once_when_edx_cannot_render_some(data: st.DataObject) -> None:
    keys = [f"c{n}" for n in range(data.draw(st.integers(1, 30)))]
    broken = data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=3))
    server = CatalogServer(keys, broken=broken)
    walk = walk_of(server.fetch, data.draw(st.integers(1, 12)), data.draw(st.integers(0, 4)))
    assert keys_of(walk) == [key for key in keys if key not in broken]
    assert len(walk.problems) == len(broken)
