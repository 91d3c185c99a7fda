import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.edx.paging import Cursor, Grid, next_cursor, numbered_pages, usable_count
from shared.errors import EdxProtocolError

START = Cursor("offset", 0, 101)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("count", "usable"),
    [(0, 0), (12, 12), (-1, None), (4.0, None), (True, None), ("4", None), (None, None), (10**12, 10**12)],
)
def test_a_count_is_ignored_when_it_is_not_a_whole_number_of_0_or_more(
    count: object, usable: int | None
) -> None:
    assert usable_count(count) == usable


@pytest.mark.parametrize(
    ("link", "after", "cursor"),
    [
        (None, START, None),
        ("", START, None),
        ("https://api.edx.org/x/?limit=100&offset=100", START, Cursor("offset", 100, 100)),
        ("https://evil.example/?limit=20&offset=20&x=y", START, Cursor("offset", 20, 20)),
        ("file:///etc/passwd?offset=5", START, Cursor("offset", 5, 0)),
        ("http://[bad?offset=5#offset=9", START, Cursor("offset", 5, 0)),
        ("?page=2", START, Cursor("page", 2, 0)),
        ("?page=2&page_size=50", START, Cursor("page", 2, 50)),
        ("?page=3&page_size=50", Cursor("page", 2, 50), Cursor("page", 3, 50)),
        ("?page=9&offset=200&limit=100", Cursor("offset", 100, 100), Cursor("offset", 200, 100)),
    ],
)
def test_only_the_cursor_of_next_is_used(link: object, after: Cursor, cursor: Cursor | None) -> None:
    assert next_cursor(link, after) == cursor


@pytest.mark.parametrize(
    ("link", "after"),
    [
        (7, START),
        (False, START),
        (["?offset=100"], START),
        ("https://api.edx.org/x/", START),
        ("?limit=100", START),
        ("?page_size=100", START),
        ("?offset=", START),
        ("?offset=-100", START),
        ("?offset=1e3", START),
        ("?offset=\u0661", START),
        ("?offset=100&offset=200", START),
        ("?offset=100&limit=0", START),
        ("?offset=100&limit=all", START),
        ("?offset=" + "9" * 5000, START),
        ("?offset=0", START),
        ("?page=1", START),
        ("?offset=100", Cursor("offset", 100, 100)),
        ("?offset=50", Cursor("offset", 100, 100)),
        ("?page=2", Cursor("page", 2, 0)),
        ("?page=2", Cursor("offset", 100, 100)),
        ("?offset=200", Cursor("page", 2, 0)),
    ],
)
def test_next_is_a_protocol_error_when_it_is_unusable_or_does_not_advance(
    link: object, after: Cursor
) -> None:
    with pytest.raises(EdxProtocolError):
        next_cursor(link, after)


@given(
    st.one_of(
        JSON,
        st.text(),
        st.builds("?{}={}&{}={}".format, *[st.sampled_from(["offset", "limit", "page", "x"]), st.text()] * 2),
    ),
    st.sampled_from([START, Cursor("offset", 100, 100), Cursor("page", 2, 0)]),
)
@example("?offset=\ud800%ff", START)
def test_next_cursor_advances_or_is_a_protocol_error_for_any_value(link: object, after: Cursor) -> None:
    try:
        cursor = next_cursor(link, after)
    except EdxProtocolError:
        return
    assert cursor is None or cursor.position > after.position


@pytest.mark.parametrize(
    ("cursor", "query"),
    [
        (Cursor("offset", 200, 100), {"limit": "100", "offset": "200"}),
        (Cursor("offset", 200, 0), {"offset": "200"}),
        (Cursor("page", 3, 50), {"page_size": "50", "page": "3"}),
        (Cursor("page", 3, 0), {"page": "3"}),
    ],
)
def test_a_cursor_requests_by_offset_or_page_number_like_its_next(
    cursor: Cursor, query: dict[str, str]
) -> None:
    assert cursor.query == query


@pytest.mark.parametrize(
    ("page_size", "count", "pages"),
    [
        (100, 250, [(100, 101), (200, 101)]),
        (100, 201, [(100, 101)]),
        (100, 101, []),
        (100, 102, [(100, 101)]),
        (100, 0, []),
        (1, 4, [(1, 2), (2, 2)]),
    ],
)
def test_pages_are_planned_so_that_the_last_course_of_each_is_the_first_of_the_next(
    page_size: int, count: int, pages: list[tuple[int, int]]
) -> None:
    assert list(Grid(page_size).up_to(count)) == [Cursor("offset", *page) for page in pages]


@pytest.mark.parametrize(
    ("position", "size"), [(0, 101), (1, 100), (99, 2), (100, 101), (101, 100), (250, 51)]
)
def test_a_page_ends_with_the_first_course_of_the_next_page_of_the_grid(position: int, size: int) -> None:
    assert Grid(100).page_at(position) == Cursor("offset", position, size)


@pytest.mark.parametrize(("came", "then"), [(101, 101), (100, 100), (20, 20), (2, 2), (1, 2), (0, 101)])
def test_page_size_is_reduced_when_the_server_returns_fewer_courses(came: int, then: int) -> None:
    grid = Grid(100)
    grid.fit(START, came)
    assert grid.page_at(0) == Cursor("offset", 0, then)


@pytest.mark.parametrize(
    ("following", "count", "first_page_length", "positions"),
    [
        (Cursor("page", 2, 50), 101, 50, [2, 3]),
        (Cursor("page", 2, 0), 101, 20, [2, 3, 4, 5, 6]),
        (Cursor("page", 2, 100), 101, 20, [2]),  # page_size alone is ignored by the server
        (Cursor("page", 2, 0), 5, 0, [2, 3, 4, 5]),
    ],
)
def test_pages_are_planned_by_number_when_the_server_counts_in_pages(
    following: Cursor, count: int, first_page_length: int, positions: list[int]
) -> None:
    planned = numbered_pages(following, count, first_page_length)
    assert [cursor.position for cursor in planned] == positions


def test_planning_is_lazy_when_the_count_is_very_large() -> None:
    assert next(Grid(100).up_to(10**15)) == Cursor("offset", 100, 101)
    assert next(numbered_pages(Cursor("page", 2, 0), 10**15, 20)) == Cursor("page", 2, 0)
