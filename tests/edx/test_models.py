import json
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.course_run import MappedRun
from shared.edx.mapping import map_course
from shared.edx.models import (
    CatalogsPage,
    CoursesPage,
    EdxCatalog,
    EdxCourse,
    EdxCourseRun,
    EdxSeat,
    NotJson,
    TokenAnswer,
    parse,
)
from shared.errors import EdxProtocolError
from shared.settings import MappingSettings
from tests.edx.whole_answer import full_course, full_page, full_run

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_known_fields_of_a_page_are_read_and_others_ignored() -> None:
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


def test_invalid_value_is_kept_when_it_is_sent_instead_of_a_record() -> None:
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
        b"[]",
        b"null",
        b'{"detail": "Not found."}',
        b'{"count": 1, "results": null}',
        b'{"count": 1, "results": {}}',
        rb'{"detail": "\ud800"}',
    ],
)
def test_a_page_is_a_protocol_error_when_it_is_json_of_another_structure(body: bytes) -> None:
    with pytest.raises(EdxProtocolError, match="edX's answer to catalogs/ does not match its API"):
        parse(CoursesPage, body, "catalogs/")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"count": 1}', "results: Field required"),
        (rb'{"count": "\ud800"}', "results: Field required"),
        (b"[]", "Input should be an object"),
    ],
)
def test_the_error_names_the_field_when_the_structure_is_another(body: bytes, problem: str) -> None:
    with pytest.raises(EdxProtocolError) as caught:
        parse(CoursesPage, body, "catalogs/7/courses/")
    assert caught.value.message == (f"edX's answer to catalogs/7/courses/ does not match its API: {problem}")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"results": [', b"\xff\xfe", b"[" * 200_000, b"{} {}"])
def test_a_page_is_not_json_when_it_is_incomplete(body: bytes) -> None:
    with pytest.raises(NotJson) as caught:
        parse(CoursesPage, body, "catalogs/")
    assert caught.value.__context__ is None


# Complete answers in the structure of the real server


def test_the_fields_that_we_use_are_read_from_a_complete_answer() -> None:
    assert (len(full_course()), len(full_run())) == (53, 56)
    page = parse(CoursesPage, full_page(2, 40), "catalogs/7/courses/")
    assert (page.count, page.next, len(page.results)) == (2, None, 2)
    assert page.results[0] == EdxCourse(
        key="SampleX+CS.0x",
        uuid="5c1d2e3f-4a5b-4c6d-8e7f-901234567890",
        marketing_url="https://www.example.org/course/algorithms?utm_source=our-user",
        course_runs=[
            EdxCourseRun(
                key="course-v1:SampleX+CS.1x+1T2026",
                course_uuid="5c1d2e3f-4a5b-4c6d-8e7f-901234567890",
                start="2026-02-01T15:00:00Z",
                end="2026-08-01T23:59:59.500000Z",
                enrollment_end="2026-07-20T23:59:59Z",
                min_effort=4,
                max_effort=6,
                weeks_to_complete=8,
                pacing_type="self_paced",
                marketing_url="https://www.example.org/course/algorithms?utm_source=our-user&utm_medium=affiliate",
                status="published",
                type="verified",
                seats=[
                    EdxSeat(
                        type="verified",
                        price="149.00",
                        currency="USD",
                        upgrade_deadline="2026-07-01T23:59:59Z",
                    ),
                    EdxSeat(type="audit", price="0.00", currency="USD"),
                ],
            )
        ],
    )


def spoiled(field: bytes, value: bytes) -> bytes:
    """Return a page of three courses; in the second course, one field has another value."""
    first, second, third = (json.dumps(full_course(key=f"c{n}")).encode() for n in range(3))
    i = second.index(b'"%s": ' % field) + len(field) + 4
    j = min(k for k in (second.find(b", ", i), second.find(b"}", i)) if k > 0)
    return b'{"count": 3, "results": [%s, %s, %s]}' % (first, second[:i] + value + second[j:], third)


ODD_VALUES = [
    b"9" * 5000,
    b"-" + b"9" * 5000,
    b"9" * 5000 + b".5",
    b"1e999",
    b"[" * 300 + b"]" * 300,
    rb'"\ud800"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"NaN",
    b"-Infinity",
]


@pytest.mark.parametrize("field", [b"in_year_value", b"enrollment_count", b"min_effort", b"price", b"uuid"])
@pytest.mark.parametrize("value", ODD_VALUES)
def test_other_records_are_read_when_a_value_cannot_be_read(field: bytes, value: bytes) -> None:
    plain = parse(CoursesPage, spoiled(field, b"1"), "x")
    page = parse(CoursesPage, spoiled(field, value), "x")
    assert page.count == 3
    assert [course.key for course in page.results if isinstance(course, EdxCourse)] == ["c0", "c1", "c2"]
    assert (page.results[0], page.results[2]) == (plain.results[0], plain.results[2])


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_record_is_read_when_an_unreadable_value_is_in_a_field_that_we_do_not_use(value: bytes) -> None:
    page = parse(CoursesPage, spoiled(b"in_year_value", value), "x")
    assert page.results[1] == parse(CoursesPage, spoiled(b"in_year_value", b"1"), "x").results[1]


@pytest.mark.parametrize(
    ("digits", "min_effort"), [(b"5", 5), (b"999999999999", None), (b"9" * 4300, None), (b"9" * 5000, None)]
)
def test_an_effort_is_left_out_and_its_run_mapped_when_it_has_too_many_digits(
    digits: bytes, min_effort: int | None
) -> None:
    page = parse(CoursesPage, spoiled(b"min_effort", digits), "x")
    (mapped,) = map_course(page.results[1], MappingSettings(), datetime(2026, 3, 1, tzinfo=UTC))
    assert isinstance(mapped, MappedRun)
    assert mapped.run.min_effort == min_effort


@pytest.mark.parametrize(("digits", "most_kb"), [(b"1", 1_000), (b"9" * 5000, 6_000)])
def test_only_the_fields_that_we_use_are_built_when_a_page_has_4_mb(digits: bytes, most_kb: int) -> None:
    body = full_page(100, 40).replace(b'"in_year_value": null', b'"in_year_value": ' + digits, 1)
    assert 3_900_000 < len(body) < 4_100_000
    parse(CoursesPage, body, "x")
    tracemalloc.start()
    try:
        page = parse(CoursesPage, body, "x")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(page.results) == 100
    assert kept < 1_000_000
    assert peak < most_kb * 1000  # the slower reader needs the whole text once


@given(JSON)
def test_parse_raises_only_known_errors_for_any_body(value: object) -> None:
    try:
        page = parse(CoursesPage, json.dumps(value).encode(), "x")
    except EdxProtocolError:
        assert not (isinstance(value, dict) and isinstance(value.get("results"), list))
    else:
        assert isinstance(value, dict)
        assert len(page.results) == len(value["results"])


@given(JSON)
def test_a_page_of_courses_is_read_when_results_has_any_value(value: object) -> None:
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
def test_an_entry_is_not_a_catalog_when_its_id_is_not_a_whole_number_above_0(catalog_id: object) -> None:
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
        ("1e999", 60),
        ("1e300", 86_400),
        ("9" * 400, 86_400),
    ],
)
def test_a_tokens_lifetime_is_a_minute_when_edx_does_not_say(expires_in: str, lifetime_s: float) -> None:
    answer = parse(TokenAnswer, b'{"access_token": "a.b.c", "expires_in": %s}' % expires_in.encode(), "x")
    assert answer.lifetime_s == lifetime_s
    assert "a.b.c" not in repr(answer)


@pytest.mark.parametrize("token", ['""', "7", "null", '"a b"', r'"a\r\nX: y"', '"é"', r'"a\n"'])
def test_a_token_is_a_protocol_error_when_it_cannot_be_sent_in_a_header(token: str) -> None:
    with pytest.raises(EdxProtocolError, match="access_token"):
        parse(TokenAnswer, b'{"access_token": %s}' % token.encode(), "the token endpoint")
