import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.edx.models import (
    CatalogsPage,
    CoursesPage,
    Cursor,
    EdxCatalog,
    EdxCourse,
    EdxCourseRun,
    EdxSeat,
    TokenAnswer,
    parse,
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
