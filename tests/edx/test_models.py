import json
from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.edx.models import (
    Asked,
    CatalogsPage,
    CoursesPage,
    Cursor,
    EdxCatalog,
    EdxCourse,
    EdxCourseRun,
    EdxSeat,
    TokenAnswer,
    Verdict,
    looks_cut_short,
    next_cursor,
    parse,
    readable_key,
    retry_after_s,
    usable_count,
    verdict,
)
from shared.errors import EdxProtocolError

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
START = Cursor("offset", 0, 100)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_known_fields_are_read_and_others_ignored_when_a_page_comes() -> None:
    page = parse(
        CoursesPage,
        b"""{"count": 1, "next": null, "previous": null, "results": [{
            "key": "MITx+6.00", "uuid": "u", "title": "Big", "image": {"src": "x"}, "marketing_url": null,
            "course_runs": [{"key": "DelftX/CTB3300WCx/2T2014", "image": null, "weeks_to_complete": 4.5,
                             "seats": [{"type": "verified", "price": "150.00", "currency": "USD", "sku": ""}]
                            }]}]}""",
        "catalogs/7/courses/",
    )
    seat = EdxSeat(type="verified", price="150.00", currency="USD")
    run = EdxCourseRun(key="DelftX/CTB3300WCx/2T2014", weeks_to_complete=4.5, seats=[seat])
    assert page == CoursesPage(
        count=1, next=None, results=[EdxCourse(key="MITx+6.00", uuid="u", course_runs=[run])]
    )


def test_junk_stays_what_it_is_when_it_stands_in_a_records_place() -> None:
    page = parse(
        CoursesPage,
        b'{"results": [null, 3, "x", {"course_runs": 7},'
        b' {"course_runs": [false, {"seats": {"a": 1}}, {"seats": [[]]}]}]}',
        "x",
    )
    assert page.results == [
        None,
        3,
        "x",
        EdxCourse(course_runs=7),
        EdxCourse(course_runs=[False, EdxCourseRun(seats={"a": 1}), EdxCourseRun(seats=[[]])]),
    ]


def test_a_lone_surrogate_is_read_when_python_can_and_pydantic_cannot() -> None:
    page = parse(CoursesPage, rb'{"results": [{"key": "a\ud800"}]}', "x")
    assert page.results == [EdxCourse(key="a\ud800")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"results": [',
        b"[]",
        b"null",
        b'{"detail": "Not found."}',
        b'{"count": 1, "results": null}',
        b'{"count": 1, "results": {}}',
        b"\xff\xfe",
        b"[" * 200_000,
        rb'{"detail": "\ud800"}',
    ],
)
def test_a_page_is_a_protocol_error_when_it_is_not_the_promised_json(body: bytes) -> None:
    with pytest.raises(EdxProtocolError, match="edX's answer to catalogs/ is not what its API promises"):
        parse(CoursesPage, body, "catalogs/")


@given(JSON)
def test_parse_raises_only_protocol_errors_when_anything_comes(value: object) -> None:
    try:
        page = parse(CoursesPage, json.dumps(value).encode(), "x")
    except EdxProtocolError:
        assert not (isinstance(value, dict) and isinstance(value.get("results"), list))
    else:
        assert isinstance(value, dict)
        assert len(page.results) == len(value["results"])


@given(JSON)
def test_a_page_of_courses_never_fails_when_its_results_are_junk(value: object) -> None:
    page = parse(CoursesPage, json.dumps({"results": [value, {"course_runs": value}]}).encode(), "x")
    assert len(page.results) == 2


def test_a_catalog_is_kept_when_its_name_and_count_are_odd() -> None:
    page = parse(
        CatalogsPage,
        rb'{"results": [{"id": 1, "name": null, "courses_count": "many"}, {"id": 2, "name": "a\ud800"},'
        rb' {"id": 3, "name": "C", "courses_count": 18}]}',
        "catalogs/",
    )
    assert page.results == [
        EdxCatalog(id=1, name="", courses_count=None),
        EdxCatalog(id=2, name="a?", courses_count=None),
        EdxCatalog(id=3, name="C", courses_count=18),
    ]


@pytest.mark.parametrize("catalog_id", ["1", 1.0, 0, -1, True, None])
def test_an_entry_is_no_catalog_when_its_id_is_no_whole_number_above_0(catalog_id: object) -> None:
    page = parse(CatalogsPage, json.dumps({"results": [{"id": catalog_id}]}).encode(), "catalogs/")
    assert page.results == [{"id": catalog_id}]


@pytest.mark.parametrize(
    ("expires_in", "lifetime_s"),
    [
        ("180", 180),
        ("2.5", 2.5),
        ("0", 60),
        ("-1", 60),
        ("true", 60),
        ('"180"', 60),
        ("null", 60),
        ("NaN", 60),
        ("1e300", 86_400),
        ("9" * 400, 86_400),
    ],
)
def test_a_tokens_lifetime_is_a_minute_when_edx_does_not_say(expires_in: str, lifetime_s: float) -> None:
    answer = parse(TokenAnswer, b'{"access_token": "a.b.c", "expires_in": %s}' % expires_in.encode(), "x")
    assert answer.lifetime_s == lifetime_s


@pytest.mark.parametrize("token", ['""', "7", "null", '"a b"', r'"a\r\nX: y"', '"é"', r'"a\n"'])
def test_a_token_is_a_protocol_error_when_it_cannot_stand_in_a_header(token: str) -> None:
    with pytest.raises(EdxProtocolError, match="access_token"):
        parse(TokenAnswer, b'{"access_token": %s}' % token.encode(), "the token endpoint")


@pytest.mark.parametrize(
    ("body", "content_length", "cut"),
    [
        (b"", None, True),
        (b"", "0", False),
        (b'{"id": 7', "8", True),
        (b' {"id": 7', None, True),
        (b'{"id": 7}\n', None, False),
        (b'{"id": 7}' + b"\r\n" * 100, None, False),
        (b"<html>", None, False),
        (b"[1, 2", None, False),
    ],
)
def test_a_body_looks_cut_short_when_an_object_begins_and_does_not_end(
    body: bytes, content_length: str | None, *, cut: bool
) -> None:
    assert looks_cut_short(body, content_length) is cut


@pytest.mark.parametrize(
    ("count", "usable"),
    [(0, 0), (12, 12), (-1, None), (4.0, None), (True, None), ("4", None), (None, None), (10**12, 10**12)],
)
def test_a_count_is_absent_when_it_is_no_whole_number_of_0_or_more(count: object, usable: int | None) -> None:
    assert usable_count(count) == usable


@pytest.mark.parametrize(
    ("course", "key"),
    [
        (EdxCourse(key="a"), "a"),
        (EdxCourse(key=""), None),
        (EdxCourse(key=1), None),
        (None, None),
        ("a", None),
    ],
)
def test_a_key_is_readable_when_it_is_a_text(course: object, key: str | None) -> None:
    assert readable_key(course) == key


@pytest.mark.parametrize(
    ("link", "after", "cursor"),
    [
        (None, START, None),
        ("", START, None),
        ("https://api.edx.org/x/?limit=100&offset=100", START, Cursor("offset", 100, 100)),
        ("https://evil.example/?limit=20&offset=20&x=y", START, Cursor("offset", 20, 20)),
        ("file:///etc/passwd?offset=5", START, Cursor("offset", 5, None)),
        ("http://[bad?offset=5#offset=9", START, Cursor("offset", 5, None)),
        ("?page=2", START, Cursor("page", 2, None)),
        ("?page=2&page_size=50", START, Cursor("page", 2, 50)),
        ("?page=3&page_size=50", Cursor("page", 2, 50), Cursor("page", 3, 50)),
        ("?page=9&offset=200&limit=100", Cursor("offset", 100, 100), Cursor("offset", 200, 100)),
    ],
)
def test_only_the_cursor_is_taken_when_a_page_names_the_next(
    link: object, after: Cursor, cursor: Cursor | None
) -> None:
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
        ("?page=2", Cursor("page", 2, None)),
        ("?page=2", Cursor("offset", 100, 100)),
        ("?offset=200", Cursor("page", 2, None)),
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
    st.sampled_from([START, Cursor("offset", 100, 100), Cursor("page", 2, None)]),
)
@example("?offset=\ud800%ff", START)
def test_next_cursor_advances_or_is_a_protocol_error_when_anything_comes(link: object, after: Cursor) -> None:
    try:
        cursor = next_cursor(link, after)
    except EdxProtocolError:
        return
    assert cursor is None or cursor.position > after.position


@pytest.mark.parametrize(
    ("cursor", "query"),
    [
        (Cursor("offset", 200, 100), {"limit": "100", "offset": "200"}),
        (Cursor("offset", 200, None), {"offset": "200"}),
        (Cursor("page", 3, 50), {"page_size": "50", "page": "3"}),
        (Cursor("page", 3, None), {"page": "3"}),
    ],
)
def test_a_cursor_asks_in_its_own_style_when_it_is_followed(cursor: Cursor, query: dict[str, str]) -> None:
    assert cursor.query == query


@pytest.mark.parametrize(
    ("first_next", "count", "first_page_length", "positions"),
    [
        (Cursor("offset", 100, 100), 250, 100, [100, 200]),
        (Cursor("offset", 100, 100), 200, 100, [100]),
        (Cursor("offset", 100, 100), 100, 100, []),
        (Cursor("offset", 20, 20), 61, 20, [20, 40, 60]),  # the server caps the limit
        (Cursor("offset", 20, None), 50, 20, [20, 40]),
        (Cursor("offset", 20, 100), 250, 20, []),  # a stride that contradicts itself is not trusted
        (Cursor("page", 2, 50), 101, 50, [2, 3]),
        (Cursor("page", 2, None), 101, 20, [2, 3, 4, 5, 6]),
        (Cursor("page", 2, 100), 101, 20, [2]),  # page_size alone is ignored by the server
    ],
)
def test_pages_are_planned_when_the_first_next_tells_the_stride(
    first_next: Cursor, count: int, first_page_length: int, positions: list[int]
) -> None:
    assert [cursor.position for cursor in first_next.up_to(count, first_page_length)] == positions


def test_planning_costs_nothing_when_the_count_is_absurd() -> None:
    planned = Cursor("offset", 100, 100).up_to(10**15, 100)
    assert list(islice(planned, 2)) == [Cursor("offset", 100, 100), Cursor("offset", 200, 100)]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1),
        (" 3592 ", 3592),
        ("86401", 86400),
        ("9" * 6000, 86400),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30),
        ("Mon, 01 Mar 2027 12:00:00 GMT", 86400),
        ("Sun, 01 Mar 2026 12:00:00 GMT", None),
        ("Sun, 01 Mar 2026 11:00:00 GMT", None),
        (None, None),
        ("", None),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("60, 60", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_when_it_makes_sense(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [-+]?\w+")))
@example("Sun, 01 Jan 0001 00:00:00 +2359")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_retry_after_never_raises_when_anything_comes(header: str) -> None:
    seconds = retry_after_s(header, NOW)
    assert seconds is None or 0 < seconds <= 86400


@pytest.mark.parametrize(
    ("status", "token", "catalogs", "catalog"),
    [
        (200, Verdict.OK, Verdict.OK, Verdict.OK),
        (0, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
        (500, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
        (503, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
        (599, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
        (429, Verdict.THROTTLED, Verdict.THROTTLED, Verdict.THROTTLED),
        (400, Verdict.REFUSED, Verdict.NOT_THE_API, Verdict.NOT_THE_API),
        (401, Verdict.REFUSED, Verdict.REFUSED, Verdict.REFUSED),
        (403, Verdict.REFUSED, Verdict.REFUSED, Verdict.NOT_FOUND),
        (404, Verdict.NOT_THE_API, Verdict.NOT_THE_API, Verdict.NOT_FOUND),
        (204, Verdict.NOT_THE_API, Verdict.NOT_THE_API, Verdict.NOT_THE_API),
        (301, Verdict.NOT_THE_API, Verdict.NOT_THE_API, Verdict.NOT_THE_API),
        (410, Verdict.NOT_THE_API, Verdict.NOT_THE_API, Verdict.NOT_THE_API),
    ],
)
def test_a_status_means_what_was_asked_for_when_an_answer_comes(
    status: int, token: Verdict, catalogs: Verdict, catalog: Verdict
) -> None:
    asked = (Asked.TOKEN, Asked.CATALOGS, Asked.CATALOG)
    assert [verdict(status, what) for what in asked] == [token, catalogs, catalog]
