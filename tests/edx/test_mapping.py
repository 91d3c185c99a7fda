from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.course_run import CourseRun, MappedRun, Rejection
from shared.edx.mapping import map_course
from shared.edx.models import EdxCourse
from shared.settings import MappingSettings
from tests.builders import make_course, make_run, make_seat

RULES = MappingSettings()
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEY = "course-v1:MITx+6.00.1x+2T2026"
HALF_A_CHARACTER = "\ud83d"


def results(course: object) -> list[MappedRun | Rejection]:
    return list(map_course(course, RULES, NOW))


def only_run_of(course: dict[str, Any], rules: MappingSettings = RULES) -> MappedRun:
    (result,) = map_course(EdxCourse.model_validate(course), rules, NOW)
    assert isinstance(result, MappedRun), result
    return result


def mapped(**run: Any) -> CourseRun:
    return only_run_of(make_course(make_run(**run))).run


def rejected(**run: Any) -> Rejection:
    (result,) = results(EdxCourse.model_validate(make_course(make_run(**run))))
    assert isinstance(result, Rejection), result
    return result


# The key, and the ids computed from it


def test_a_run_keeps_its_id_when_its_other_fields_change() -> None:
    other = only_run_of(make_course(make_run(title="Renamed", start=None), key="MITx+other")).run
    assert mapped().id == other.id == "87846107-6901-5831-8e19-e646fbf6845c"
    assert mapped().courserun_key == KEY


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "the course run has no key"),
        ("", "'' is an empty key"),
        (7, "a number is not a key"),
        (True, "a boolean is not a key"),
        (["course-v1:A+B+C"], "a list is not a key"),
        ({"key": "course-v1:A+B+C"}, "an object is not a key"),
        ("course-v1:A+B+C\n", r"'course-v1:A+B+C\n' contains a control character or a lone surrogate"),
        ("a\x00b", r"'a\x00b' contains a control character or a lone surrogate"),
        ("a\x85b", r"'a\x85b' contains a control character or a lone surrogate"),
        (HALF_A_CHARACTER, r"'\ud83d' contains a control character or a lone surrogate"),
        ("k" * 256, f"'{'k' * 60}'… is longer than 255 characters"),
        # An escape has several characters, so that the text is cut once more.
        ("\0" * 60, "'" + r"\x00" * 19 + r"\x0 contains a control character or a lone surrogate"),
    ],
)
def test_a_run_is_rejected_when_its_key_is_invalid(key: object, reason: str) -> None:
    assert rejected(key=key) == Rejection("", "key", reason)


@pytest.mark.parametrize("key", ["k" * 255, "DelftX/CTB3300WCx/2T2014", "課程-v1:🎓+é+2026", "a?b#c\\d%e"])
def test_a_run_is_mapped_when_its_key_is_unusual_text(key: str) -> None:
    assert mapped(key=key).courserun_key == key


COURSE_UUID = "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11"
RUN_COURSE_UUID = "5D0C7E1A-0B1C-4C9F-8E8E-1C2D3E4F5A6B"


@pytest.mark.parametrize(
    ("course_uuid", "run_course_uuid", "course_key", "expected"),
    [
        (COURSE_UUID, RUN_COURSE_UUID, "MITx+6.00.1x", COURSE_UUID),
        (None, RUN_COURSE_UUID, "MITx+6.00.1x", RUN_COURSE_UUID),
        ("2f0f1b0c", RUN_COURSE_UUID, "MITx+6.00.1x", RUN_COURSE_UUID),
        (7, RUN_COURSE_UUID, None, RUN_COURSE_UUID),
        (None, None, "MITx+6.00.1x", "1fa3dd26-5083-5035-ab5f-c2804a417af8"),
        (None, "no uuid", "MITx+6.00.1x", "1fa3dd26-5083-5035-ab5f-c2804a417af8"),
        (None, None, None, None),
        (None, None, "", None),
        (None, None, 7, None),
        (None, None, HALF_A_CHARACTER, None),
    ],
)
def test_uuid_is_taken_from_the_course_then_the_run_then_computed_from_the_course_key(
    course_uuid: object, run_course_uuid: object, course_key: object, expected: str | None
) -> None:
    course = make_course(make_run(course_uuid=run_course_uuid), uuid=course_uuid, key=course_key)
    assert only_run_of(course).run.uuid == expected


# Dates


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (None, None),
        ("", None),
        ("2026-06-01T15:00:00Z", "2026-06-01T15:00:00Z"),
        ("2026-06-01t15:00:00z", "2026-06-01T15:00:00Z"),
        ("2026-06-01 15:00:00", "2026-06-01T15:00:00Z"),
        ("2026-06-01T15:00", "2026-06-01T15:00:00Z"),
        ("2026-06-01", "2026-06-01T00:00:00Z"),
        ("2026-06-01T15:00:00.9Z", "2026-06-01T15:00:00Z"),
        ("2026-06-01T15:00:59.999999Z", "2026-06-01T15:00:59Z"),
        ("2026-06-01T15:00:59.99999999999999999999+00:00", "2026-06-01T15:00:59Z"),
        ("2026-06-01T15:00:00+08:00", "2026-06-01T07:00:00Z"),
        ("2026-01-01T00:30:00+0530", "2025-12-31T19:00:00Z"),
        ("2026-12-31T23:30:00-01:00", "2027-01-01T00:30:00Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("2017-01-01T08:59:60.5+09:00", "2016-12-31T23:59:59Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("3000-01-01T00:00:00Z", "3000-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z"),
    ],
)
@pytest.mark.parametrize(
    ("edx_field", "field"),
    [
        ("start", "start_date"),
        ("end", "end_date"),
        ("enrollment_start", "enrollment_start"),
        ("enrollment_end", "enrollment_end"),
    ],
)
def test_a_date_is_written_in_utc_and_whole_seconds(
    edx_field: str, field: str, sent: str | None, expected: str | None
) -> None:
    assert getattr(mapped(**{edx_field: sent}), field) == expected


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("tomorrow", "'tomorrow'"),
        ("x" * 60, f"'{'x' * 60}'"),
        ("x" * 61, f"'{'x' * 60}'…"),
        ("2026-02-29T00:00:00Z", "'2026-02-29T00:00:00Z'"),
        ("2026-13-01", "'2026-13-01'"),
        ("2026-W01-1", "'2026-W01-1'"),
        ("20260101", "'20260101'"),
        ("2026-01-01T24:00:00Z", "'2026-01-01T24:00:00Z'"),
        ("2026-01-01T00:00:61Z", "'2026-01-01T00:00:61Z'"),
        ("2026-01-01T00:60:00Z", "'2026-01-01T00:60:00Z'"),
        ("2026-01-01T00:00:00+24:00", "'2026-01-01T00:00:00+24:00'"),
        ("2026-01-01T00:00:00+00:60", "'2026-01-01T00:00:00+00:60'"),
        ("2026-01-01T00:00:00 Z", "'2026-01-01T00:00:00 Z'"),
        (" 2026-01-01", "' 2026-01-01'"),
        ("2026-01-01\n", r"'2026-01-01\n'"),
        ("२०२६-०१-०१", "'२०२६-०१-०१'"),
        ("0000-01-01", "'0000-01-01'"),
        ("10000-01-01", "'10000-01-01'"),
        ("0001-01-01T00:00:00+00:01", "'0001-01-01T00:00:00+00:01'"),
        ("9999-12-31T23:59:59-00:01", "'9999-12-31T23:59:59-00:01'"),
        (1767225600, "a number"),
        (False, "a boolean"),
        ([], "a list"),
        ({}, "an object"),
    ],
)
@pytest.mark.parametrize("field", ["start", "end", "enrollment_start", "enrollment_end"])
def test_a_run_is_rejected_when_a_date_is_invalid(field: str, sent: object, shown: str) -> None:
    assert rejected(**{field: sent}) == Rejection(KEY, field, f"{shown} is not a date")


# Effort, pacing, weeks, credit

WHOLE_NUMBERS = [(4, 4), (4.0, 4), ("4", 4), ("004", 4), (2**31 - 1, 2**31 - 1)]
NOT_WHOLE_NUMBERS: list[object] = [
    None,
    "",
    4.5,
    "4.5",
    "4.0",
    " 4",
    "+4",
    "٤",
    "4h",
    -1,
    "-1",
    True,
    float("nan"),
    float("inf"),
    1e300,
    2**31,
    "2147483648",
    "9" * 5000,
    10**4000,
    [],
    {},
]


@pytest.mark.parametrize(("sent", "expected"), [*WHOLE_NUMBERS, (0, 0), (0.0, 0), ("0", 0)])
def test_efforts_are_kept_when_they_are_whole_numbers(sent: object, expected: int) -> None:
    assert mapped(min_effort=sent).min_effort == expected
    assert mapped(max_effort=sent).max_effort == expected


@pytest.mark.parametrize("sent", NOT_WHOLE_NUMBERS)
def test_efforts_are_left_out_when_they_are_not_whole_numbers(sent: object) -> None:
    assert mapped(min_effort=sent).min_effort is None
    assert mapped(max_effort=sent).max_effort is None


def test_efforts_are_kept_as_sent_when_the_minimum_exceeds_the_maximum() -> None:
    run = mapped(min_effort=7, max_effort=5)
    assert (run.min_effort, run.max_effort) == (7, 5)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("instructor_paced", "instructor-paced"),
        ("self_paced", "self-paced"),
        ("self-paced", None),
        ("Instructor_paced", None),
        ("", None),
        (None, None),
        (["self_paced"], None),
        ({}, None),
    ],
)
def test_pacing_type_is_one_of_the_two_or_left_out(sent: object, expected: str | None) -> None:
    assert mapped(pacing_type=sent).pacing_type == expected


@pytest.mark.parametrize(("sent", "expected"), WHOLE_NUMBERS)
@pytest.mark.parametrize("pacing_type", ["instructor_paced", "self_paced", None])
def test_weeks_are_as_sent_when_one_or_more(pacing_type: str | None, sent: object, expected: int) -> None:
    assert mapped(weeks_to_complete=sent, pacing_type=pacing_type).weeks_to_complete == expected


@pytest.mark.parametrize("sent", [*NOT_WHOLE_NUMBERS, 0, 0.0, "0"])
def test_weeks_are_computed_from_dates_only_when_the_run_is_instructor_paced(sent: object) -> None:
    dates = {"start": "2026-06-01T00:00:00Z", "end": "2026-06-22T00:00:00Z", "weeks_to_complete": sent}
    assert mapped(**dates, pacing_type="instructor_paced").weeks_to_complete == 3
    assert mapped(**dates, pacing_type="self_paced").weeks_to_complete is None
    assert mapped(**dates, pacing_type=None).weeks_to_complete is None


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-06-01", "2026-06-08T00:00:01Z", 2),
        ("2026-06-01", "2026-06-08T00:00:00.000001Z", 2),
        ("2026-06-01", "2026-06-08", 1),
        ("2026-06-01T00:00:00+08:00", "2026-06-08T00:00:00Z", 2),
        ("2026-06-01", "2026-06-01T00:00:01Z", 1),
        ("2026-06-01", "2026-06-01", None),
        ("2026-06-01", "2026-05-31", None),
        ("2026-01-01", "2035-12-31T23:59:59Z", 522),
        ("2026-01-01", "2036-01-01", None),
        ("2026-01-01", "3000-01-01", None),
        (None, "2026-06-08", None),
        ("2026-06-01", None, None),
    ],
)
def test_weeks_from_dates_are_rounded_up_when_the_run_takes_less_than_ten_years(
    start: str | None, end: str | None, expected: int | None
) -> None:
    assert mapped(weeks_to_complete=None, start=start, end=end).weeks_to_complete == expected


@pytest.mark.parametrize(
    ("weeks", "min_effort", "max_effort", "expected"),
    [
        (9, 14, 16, 4),
        (12, 10, 10, 4),
        (4, 7, 8, 1),
        (59, 0, 1, 0),
        (60, 0, 1, 1),
        (1, 1, 1, 0),
        (10, 3, None, 1),
        (10, None, 3, 1),
        (10, 4.5, 3, 1),
        (4, 0, 15, 1),
        (10, 0, 0, None),
        (10, 0, None, None),
        (10, None, None, None),
        (None, 5, 5, None),
        (0, 5, 5, None),
        (2**31 - 1, 30, 30, 2**31 - 1),
        (2**31 - 1, 31, 31, None),
    ],
)
def test_modular_credit_is_the_workload_in_credits_rounded_down(
    weeks: object, min_effort: object, max_effort: object, expected: int | None
) -> None:
    run = mapped(weeks_to_complete=weeks, min_effort=min_effort, max_effort=max_effort)
    assert run.modular_credit == expected


def test_modular_credit_is_left_out_when_the_weeks_come_from_dates() -> None:
    run = mapped(weeks_to_complete=None, start="2026-06-01", end="2026-08-24")
    assert (run.weeks_to_complete, run.modular_credit) == (12, None)


def test_modular_credit_follows_the_setting() -> None:
    rules = RULES.model_copy(update={"modular_credit_hours": 45})
    assert only_run_of(make_course(), rules).run.modular_credit == 3


# Addresses

RUN_URL = "https://www.edx.org/course/run"
COURSE_URL = "https://www.edx.org/course/course"


@pytest.mark.parametrize(
    ("run_url", "course_url", "expected"),
    [
        (RUN_URL, COURSE_URL, RUN_URL),
        ("HTTP://localhost:8000/?a=b%20c#d", COURSE_URL, "HTTP://localhost:8000/?a=b%20c#d"),
        (" \r\n\u00a0https://www.edx.org/x\t ", COURSE_URL, "https://www.edx.org/x"),
        ("https://www.edx.org/course/a b", COURSE_URL, COURSE_URL),
        ("https://www.edx.org/slug?utm_medium=enterprise\n        &utm_source=x", COURSE_URL, COURSE_URL),
        ("https://www.edx.org/a\u2003b", COURSE_URL, COURSE_URL),
        ("https://www.edx.org/a b", "https://www.edx.org/c d", None),
        ("https://user@[2001:db8::1]/", COURSE_URL, "https://user@[2001:db8::1]/"),
        (None, COURSE_URL, COURSE_URL),
        ("", COURSE_URL, COURSE_URL),
        ("ftp://www.edx.org/course", COURSE_URL, COURSE_URL),
        ("javascript:alert(1)//https://www.edx.org", COURSE_URL, COURSE_URL),
        ("www.edx.org/course", COURSE_URL, COURSE_URL),
        ("//www.edx.org/course", COURSE_URL, COURSE_URL),
        ("https:www.edx.org", COURSE_URL, COURSE_URL),
        ("https://", COURSE_URL, COURSE_URL),
        ("https:///course", COURSE_URL, COURSE_URL),
        ("https://user@/course", COURSE_URL, COURSE_URL),
        ("https://:443/course", COURSE_URL, COURSE_URL),
        ("ht\ntps://www.edx.org", COURSE_URL, COURSE_URL),
        (7, COURSE_URL, COURSE_URL),
        (None, None, None),
        (None, "mailto:x@edx.org", None),
    ],
)
def test_marketing_url_is_the_runs_or_the_courses_when_it_is_http(
    run_url: object, course_url: object, expected: str | None
) -> None:
    course = make_course(make_run(marketing_url=run_url), marketing_url=course_url)
    assert only_run_of(course).run.marketing_url == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            "https://courses.edx.org/enterprise/1/enroll/?catalog=2",
            "https://courses.edx.org/enterprise/1/enroll/?catalog=2",
        ),
        (" https://courses.edx.org/enroll/\n", "https://courses.edx.org/enroll/"),
        ("https://courses.edx.org/\n        enterprise/5/enroll/", None),
        ("https://courses.edx.org/en roll/", None),
        ("ftp://courses.edx.org/enroll", None),
        ("/enroll", None),
        (7, None),
        (False, None),
        ({}, None),
        (None, "https://courses.edx.org/course_modes/choose/course-v1%3AMITx%2B6.00.1x%2B2T2026/"),
        ("", "https://courses.edx.org/course_modes/choose/course-v1%3AMITx%2B6.00.1x%2B2T2026/"),
    ],
)
def test_enrollment_url_is_as_sent_or_from_the_template(sent: object, expected: str | None) -> None:
    assert mapped(enrollment_url=sent).enrollment_url == expected


def test_every_special_character_of_the_key_is_encoded_in_the_enrollment_url() -> None:
    rules = RULES.model_copy(update={"enrollment_url": "https://example.org/{key}?again={key}"})
    run = only_run_of(make_course(make_run(key="A/é{key}~")), rules).run
    assert run.enrollment_url == "https://example.org/A%2F%C3%A9%7Bkey%7D~?again=A%2F%C3%A9%7Bkey%7D~"


# Price and type


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("150.00", "150.00"),
        ("150", "150"),
        ("0.00", "0.00"),
        ("0150.000", "0150.000"),
        (150, "150.00"),
        (149.5, "149.50"),
        (0.125, "0.13"),
        (1.005, "1.01"),
        (0, "0.00"),
        (-0.0, "0.00"),
        (5e-324, "0.00"),
        (1e22, "10000000000000000000000.00"),
        ("free", None),
        ("", None),
        (None, None),
        ("$150.00", None),
        ("150,00", None),
        ("1e3", None),
        ("-1.00", None),
        ("+1.00", None),
        (" 1.00", None),
        ("1.00\n", None),
        ("1.", None),
        (".5", None),
        ("४.५६", None),
        ("NaN", None),
        ("Infinity", None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ([], None),
        ({}, None),
    ],
)
def test_price_is_as_sent_when_it_is_a_number(price: object, expected: str | None) -> None:
    assert mapped(seats=[make_seat(price=price)]).price == expected


VERIFIED = make_seat(type="verified", price="100.00")
PROFESSIONAL = make_seat(type="professional", price="900.00")
NO_ID = make_seat(type="no-id-professional", price="800.00")


@pytest.mark.parametrize(
    ("seats", "expected"),
    [
        ([PROFESSIONAL, VERIFIED], "100.00"),
        ([PROFESSIONAL | {"price": "50.00"}, VERIFIED], "100.00"),
        ([PROFESSIONAL, NO_ID], "800.00"),
        ([make_seat(type="professional education", price="700.00")], "700.00"),
        ([PROFESSIONAL, VERIFIED | {"currency": "EUR"}], "900.00"),
        ([PROFESSIONAL, VERIFIED | {"price": "free"}], "900.00"),
        ([VERIFIED, VERIFIED | {"price": "99.00"}, VERIFIED | {"price": 99.0}], "99.00"),
        ([VERIFIED, VERIFIED | {"price": "1000"}, VERIFIED | {"price": "free"}], "100.00"),
        ([VERIFIED, VERIFIED | {"price": 99.5}], "99.50"),
        ([VERIFIED | {"price": "0.00"}, VERIFIED], "0.00"),
        ([VERIFIED, VERIFIED | {"price": "1.00", "currency": "SGD"}], "100.00"),
        ([VERIFIED | {"currency": None}], "100.00"),
        ([VERIFIED | {"currency": ""}], "100.00"),
        ([{"type": "verified", "price": "100.00"}], "100.00"),
        ([VERIFIED | {"currency": "usd"}], "100.00"),
        ([VERIFIED | {"currency": 7}], None),
        ([make_seat(type="credit", price="300.00"), make_seat(type="audit", price="0.00")], None),
        ([VERIFIED | {"type": ["verified"]}, None, 7, "verified", []], None),
        ([], None),
        (None, None),
        ({"type": "verified"}, None),
    ],
)
def test_price_is_the_lowest_verified_in_usd_or_the_lowest_professional(
    seats: object, expected: str | None
) -> None:
    assert mapped(seats=seats).price == expected


def seats_of(*types: object) -> list[dict[str, Any]]:
    return [make_seat(type=type_) for type_ in types]


@pytest.mark.parametrize(
    ("seats", "run_type", "expected", "unknown_track"),
    [
        (seats_of("audit", "verified", "professional"), None, "professional", None),
        (seats_of("audit", "no-id-professional"), None, "professional", None),
        (seats_of("professional education"), None, "professional", None),
        (seats_of("honor", "credit", "audit"), None, "verified", None),
        (seats_of("audit", "verified"), "professional", "verified", None),
        (seats_of("honor"), None, "audit", None),
        (seats_of("audit", "masters"), None, "audit", None),
        (seats_of("paid-executive-education", "masters"), "verified", None, "paid-executive-education"),
        (seats_of(None, "", 7, "paid-bootcamp"), None, None, "paid-bootcamp"),
        (seats_of(None), "verified", None, None),
        (seats_of("x" * 100), None, None, "x" * 64),
        (seats_of("a" + HALF_A_CHARACTER), None, None, "a?"),
        ([], "professional", "professional", None),
        (None, "no-id-professional", "professional", None),
        (None, "credit", "verified", None),
        (None, "honor", "audit", None),
        (None, "masters", None, "masters"),
        (None, None, None, None),
        (None, ["audit"], None, None),
        ([None, 7, "verified"], "audit", "audit", None),
        ("verified", "audit", "audit", None),
        ({"type": "verified"}, "audit", "audit", None),
    ],
)
def test_type_is_the_best_of_the_seats_or_the_runs_own(
    seats: object, run_type: object, expected: str | None, unknown_track: str | None
) -> None:
    result = only_run_of(make_course(make_run(seats=seats, type=run_type)))
    assert (result.run.type, result.unknown_track) == (expected, unknown_track)


# Published and rejected runs


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("published", True),
        (None, True),
        ("", True),
        ("unpublished", False),
        ("reviewed", False),
        ("Published", False),
        (7, False),
        (["published"], False),
        ({}, False),
    ],
)
def test_a_run_is_published_unless_its_status_says_otherwise(status: object, *, expected: bool) -> None:
    assert only_run_of(make_course(make_run(status=status))).is_published is expected


def test_a_run_is_published_when_it_is_hidden() -> None:
    assert only_run_of(make_course(make_run(hidden=True))).is_published is True


def test_availability_is_not_mapped() -> None:
    assert mapped(availability="Archived").availability is None


# Seats that can no longer be bought

PAST, AHEAD = "2026-02-28T23:59:59Z", "2026-03-01T12:00:00Z"  # NOW itself is not past


@pytest.mark.parametrize(
    ("deadlines", "price", "track"),
    [
        ({"upgrade_deadline": PAST}, None, "audit"),
        ({"upgrade_deadline": AHEAD}, "99.00", "verified"),
        ({"upgrade_deadline": None}, "99.00", "verified"),
        ({"upgrade_deadline": ""}, "99.00", "verified"),
        ({}, "99.00", "verified"),
        ({"upgrade_deadline": "2026-03-01"}, None, "audit"),
        ({"upgrade_deadline": "2026-03-01T13:59:59+02:00"}, None, "audit"),
        ({"upgrade_deadline": "TBD"}, "99.00", "verified"),
        ({"upgrade_deadline": 7}, "99.00", "verified"),
        ({"upgrade_deadline": PAST, "upgrade_deadline_override": AHEAD}, "99.00", "verified"),
        ({"upgrade_deadline": AHEAD, "upgrade_deadline_override": PAST}, None, "audit"),
        ({"upgrade_deadline": PAST, "upgrade_deadline_override": None}, None, "audit"),
        ({"upgrade_deadline": PAST, "upgrade_deadline_override": ""}, None, "audit"),
        ({"upgrade_deadline": PAST, "upgrade_deadline_override": "TBD"}, None, "audit"),
        ({"upgrade_deadline": AHEAD, "upgrade_deadline_override": "TBD"}, "99.00", "verified"),
    ],
)
def test_a_verified_seat_is_used_until_it_can_no_longer_be_bought(
    deadlines: dict[str, object], price: str | None, track: str
) -> None:
    seats = [make_seat(type="audit", price="0.00"), make_seat(price="99.00", **deadlines)]
    run = mapped(seats=seats, type="verified")
    assert (run.price, run.type) == (price, track)


@pytest.mark.parametrize("seat_type", ["professional", "no-id-professional"])
def test_a_professional_seat_is_used_until_it_can_no_longer_be_bought(seat_type: str) -> None:
    over = make_seat(type=seat_type, price="900.00", upgrade_deadline=PAST)
    assert (mapped(seats=[over], type="professional").price, mapped(seats=[over]).type) == (None, None)
    run = mapped(seats=[over, make_seat(price="99.00")])
    assert (run.price, run.type) == ("99.00", "verified")
    open_seat = make_seat(type=seat_type, price="900.00", upgrade_deadline=AHEAD)
    assert mapped(seats=[open_seat, make_seat(price="99.00", upgrade_deadline=PAST)]).price == "900.00"


@pytest.mark.parametrize("seat_type", ["audit", "honor", "credit"])
def test_other_seats_have_no_deadline(seat_type: str) -> None:
    track = "verified" if seat_type == "credit" else "audit"
    assert mapped(seats=[make_seat(type=seat_type, upgrade_deadline=PAST)]).type == track


def test_price_is_the_lowest_that_can_be_bought_when_other_seats_have_expired() -> None:
    over = make_seat(price="49.00", upgrade_deadline=PAST)
    assert mapped(seats=[over, make_seat(price="99.00"), make_seat(price="120.00")]).price == "99.00"


def test_the_runs_own_type_is_not_used_when_it_has_expired_seats() -> None:
    assert (
        only_run_of(
            make_course(make_run(type="verified", seats=[make_seat(upgrade_deadline=PAST)]))
        ).unknown_track
        is None
    )
    assert mapped(type="verified", seats=[make_seat(upgrade_deadline=PAST)]).type is None


# Values that are stored with the run and are not in the contract


@pytest.mark.parametrize(
    ("key", "kept"),
    [("MITx+6.00.1x", "MITx+6.00.1x"), (None, None), ("", None), (7, None), ("a\n", None), ("k" * 256, None)],
)
def test_the_courses_key_is_kept_when_it_is_a_usable_text(key: object, kept: str | None) -> None:
    assert only_run_of(make_course(make_run(), key=key)).course_key == kept


def test_the_credit_is_proposed_by_the_formula() -> None:
    result = only_run_of(make_course())
    assert (result.proposed_credit, result.run.modular_credit) == (4, 4)
    result = only_run_of(make_course(make_run(weeks_to_complete=None)))
    assert (result.proposed_credit, result.run.modular_credit) == (None, None)


@pytest.mark.parametrize(
    ("status", "is_unpublished"),
    [
        ("unpublished", True),
        ("reviewed", True),
        ("Published", True),
        ("published", False),
        ("", False),
        (None, False),
        (7, False),
        (["unpublished"], False),
    ],
)
def test_a_rejected_run_is_known_to_be_unpublished_when_its_status_can_be_read(
    status: object, *, is_unpublished: bool
) -> None:
    assert rejected(status=status, enrollment_end="TBD") == Rejection(
        KEY, "enrollment_end", "'TBD' is not a date", is_unpublished
    )
    assert rejected(status=status, key=7).is_unpublished is is_unpublished


LONG = "https://www.edx.org/" + "x" * (32_768 - 20)


@pytest.mark.parametrize(
    ("field", "longest", "shown"),
    [
        ("marketing_url", LONG, f"'https://www.edx.org/{'x' * 40}'…"),
        ("enrollment_url", LONG, f"'https://www.edx.org/{'x' * 40}'…"),
        # The character is two UTF-16 units.
        ("marketing_url", LONG[:-2] + "🎓", f"'https://www.edx.org/{'x' * 40}'…"),
    ],
)
def test_a_run_is_rejected_when_a_url_is_too_long_to_store(field: str, longest: str, shown: str) -> None:
    assert getattr(mapped(**{field: longest}), field) == longest
    reason = f"{shown} is longer than 32768 UTF-16 units"
    assert rejected(**{field: longest + "x"}) == Rejection(KEY, field, reason)


def test_a_run_is_rejected_when_its_price_is_too_long_to_store() -> None:
    reason = f"'{'1' * 60}'… is longer than 32768 UTF-16 units"
    assert rejected(seats=[make_seat(price="1" * 32_769)]) == Rejection(KEY, "price", reason)
    assert rejected(seats=[make_seat(price=10**40_000)]).field == "price"


def test_a_run_is_mapped_when_a_text_that_is_not_stored_is_too_long() -> None:
    assert mapped(marketing_url="ftp://" + "x" * 40_000, pacing_type="x" * 40_000).courserun_key == KEY


@pytest.mark.parametrize("field", ["marketing_url", "enrollment_url"])
def test_a_run_is_rejected_when_a_url_is_not_valid_unicode(field: str) -> None:
    reason = r"'https://www.edx.org/\ud83d' is not valid Unicode"
    sent = "https://www.edx.org/" + HALF_A_CHARACTER
    assert rejected(**{field: sent}) == Rejection(KEY, field, reason)


def test_every_run_of_a_course_is_mapped_or_rejected_alone_in_order() -> None:
    course = make_course(make_run(start="soon"), None, make_run(key="B"), "A", [], make_run(key=None))
    assert [
        (result.run.courserun_key if isinstance(result, MappedRun) else result)
        for result in results(EdxCourse.model_validate(course))
    ] == [
        Rejection(KEY, "start", "'soon' is not a date"),
        Rejection("", "course_runs", "null is not a course run object (course 'MITx+6.00.1x')"),
        "B",
        Rejection("", "course_runs", "'A' is not a course run object (course 'MITx+6.00.1x')"),
        Rejection("", "course_runs", "a list is not a course run object (course 'MITx+6.00.1x')"),
        Rejection("", "key", "the course run has no key"),
    ]


@pytest.mark.parametrize("course_runs", [None, []])
def test_nothing_is_mapped_when_a_course_has_no_runs(course_runs: object) -> None:
    assert results(EdxCourse.model_validate(make_course(course_runs=course_runs))) == []


@pytest.mark.parametrize(
    ("course_runs", "shown"), [("all", "'all'"), (7, "a number"), (True, "a boolean"), ({}, "an object")]
)
def test_a_course_is_rejected_when_its_runs_are_not_a_list(course_runs: object, shown: str) -> None:
    reason = f"{shown} is not a list of course runs (course 'MITx+6.00.1x')"
    course = EdxCourse.model_validate(make_course(course_runs=course_runs))
    assert results(course) == [Rejection("", "course_runs", reason)]


@pytest.mark.parametrize(
    ("course", "shown"),
    [
        (None, "null"),
        (7, "a number"),
        (True, "a boolean"),
        ("course", "'course'"),
        ([], "a list"),
        ({"key": "MITx+6.00.1x"}, "an object"),
    ],
)
def test_a_course_is_rejected_when_it_is_not_an_object(course: object, shown: str) -> None:
    assert results(course) == [Rejection("", "course", f"{shown} is not a course object")]
