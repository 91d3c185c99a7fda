"""NCRONTAB schedules: what Azure Functions accepts, when they are due, and their longest gap."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.ncrontab import longest_gap_s, next_occurrence, parse

NEW_YEAR = datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("0 0 * * * *", "2026-01-01T01:00:00+00:00"),
        ("0 7 * * * *", "2026-01-01T00:07:00+00:00"),
        ("7 * * * *", "2026-01-01T00:07:00+00:00"),  # five fields: no seconds
        ("  0  7 * * * * ", "2026-01-01T00:07:00+00:00"),
        ("* * * * * *", "2026-01-01T00:00:01+00:00"),
        ("*/2 * * * * *", "2026-01-01T00:00:02+00:00"),
        ("*/5 * * * *", "2026-01-01T00:05:00+00:00"),
        ("0 10/25 * * * *", "2026-01-01T00:10:00+00:00"),
        ("0 30 9 * * 1-5", "2026-01-01T09:30:00+00:00"),
        ("0 0 0 * * 5-1", "2026-01-02T00:00:00+00:00"),  # a range backwards is the same range
        ("0 0 0 * * 6,0", "2026-01-03T00:00:00+00:00"),
        ("0 0 0 * * SUN", "2026-01-04T00:00:00+00:00"),
        ("0 0 0 * * t", "2026-01-06T00:00:00+00:00"),  # the first name with these letters: Tuesday
        ("0 0 0 1 july-AUG *", "2026-07-01T00:00:00+00:00"),
        ("0 0 0 13 * 5", "2026-02-13T00:00:00+00:00"),  # only on a Friday the 13th: both fields must match
        ("0 0 0 31 4,5 *", "2026-05-31T00:00:00+00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("0 0 0 29 2 0", "2032-02-29T00:00:00+00:00"),
        ("*/0 */-7 * * * *", "2026-01-01T00:00:01+00:00"),  # NCrontab reads such a step as 1
    ],
)
def test_next_occurrence_is_the_first_time_that_matches_every_field(schedule: str, expected: str) -> None:
    moment = next_occurrence(schedule, NEW_YEAR)
    assert moment is not None
    assert moment.isoformat() == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2026-01-01T01:07:00+00:00", "2026-01-01T02:07:00+00:00"),  # the given time itself is never returned
        ("2026-01-01T01:06:59+00:00", "2026-01-01T01:07:00+00:00"),
        ("2026-01-01T23:59:59+00:00", "2026-01-02T00:07:00+00:00"),
        ("2026-12-31T23:30:00+00:00", "2027-01-01T00:07:00+00:00"),
        ("2026-01-01T08:30:00+08:00", "2026-01-01T01:07:00+00:00"),  # computed in UTC
    ],
)
def test_next_occurrence_is_after_the_given_time(after: str, expected: str) -> None:
    moment = next_occurrence("0 7 * * * *", datetime.fromisoformat(after))
    assert moment is not None
    assert moment.isoformat() == expected


def test_next_occurrence_equals_the_result_of_a_search_through_all_times() -> None:
    schedule = "5,50-58/4 3-50/47 */7 1/2 * 1,4"
    due = [
        moment
        for minute in range(3 * 24 * 60)
        for second in range(60)
        if (moment := datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute, seconds=second))
        and second in (5, 50, 54, 58)
        and moment.minute in (3, 50)
        and moment.hour in (0, 7, 14, 21)
        and moment.day % 2 == 1
        and moment.isoweekday() in (1, 4)
    ]
    before = [datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), *due[:-1]]

    assert len(due) == 32
    assert [next_occurrence(schedule, moment) for moment in before] == due


@pytest.mark.parametrize("schedule", ["0 0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_schedule_is_accepted_and_never_due_when_no_date_matches(schedule: str) -> None:
    assert next_occurrence(schedule, NEW_YEAR) is None
    assert longest_gap_s(schedule) == math.inf


def test_search_for_an_occurrence_ends_at_the_year_9999() -> None:
    last_day = datetime(9999, 12, 31, tzinfo=UTC)
    assert next_occurrence("0 0 0 1 1 *", datetime(9999, 6, 1, tzinfo=UTC)) is None
    assert next_occurrence("0 0 0 31 12 *", datetime(9999, 6, 1, tzinfo=UTC)) == last_day
    assert next_occurrence("0 0 0 31 12 *", last_day) is None


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "@hourly",
        "0 0 * * *  * *",  # seven fields
        "* * * *",
        "01:00:00",  # a TimeSpan, which works on an App Service plan only
        "1.00:00:00",
        "0 0 0 L * *",
        "0 0 0 15W * *",
        "0 0 0 ? * *",
        "0 0 0 * * 1#2",
        "0 0 0 * * 7",
        "0 0 0 * * 5-7",
        "0 0 0 * * noday",
        "0 0 0 * 13 *",
        "0 0 0 * 0 *",
        "0 0 0 0 * *",
        "0 0 0 32 * *",
        "0 0 24 * * *",
        "0 60 * * * *",
        "60 * * * * *",
        "0 MON * * * *",
        "0 -5 * * * *",
        "0 *-5 * * * *",
        "0 1-2-3 * * * *",
        "0 1, * * * *",
        "0 ,1 * * * *",
        "0 1,,2 * * * *",
        "0 5/ * * * *",
        "0 /5 * * * *",
        "0 */2/3 * * * *",
        "0 */x * * * *",
        "0 */99999999999 * * * *",
        "0 +5 * * * *",
        "0 1.5 * * * *",
        "0 ٣ * * * *",
        "0\t0\t*\t*\t*\t*",
        "H * * * *",
    ],
)
def test_schedule_is_refused_when_azure_functions_does_not_accept_it(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        parse(schedule)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("0 0 0 * * 7", "day of the week numbers from 0 to 6 or sun to sat, .*, not '7'"),
        ("60 * * * * *", "second numbers from 0 to 59, .*, not '60'"),
        ("0 61 * * * *", "minute numbers from 0 to 59, .*, not '61'"),
        ("0 0 24 * * *", "hour numbers from 0 to 23, .*, not '24'"),
        ("0 0 0 0 * *", "day of the month numbers from 1 to 31, .*, not '0'"),
        ("0 0 0 * 13 *", "month numbers from 1 to 12 or jan to dec, with [*] , - /, not '13'"),
        ("@daily", "five fields .* or six .*, not 1"),
    ],
)
def test_the_error_names_the_field_and_its_valid_values(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(schedule)


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("* * * * * *", 1),
        ("0,7 * * * * *", 53),
        ("*/7 * * * * *", 7),
        ("0 7 * * * *", 3600),
        ("0,30 * * * *", 1800),
        ("5,20 * * * *", 45 * 60),
        ("0 0 6,18 * * *", 12 * 3600),
        ("0 0 8-17 * * *", 15 * 3600),
        ("0 */15 8-17 * * 1-5", 2 * 86_400 + (24 - 17 + 8) * 3600 - 45 * 60),
        ("0 0 0 1 * *", 31 * 86_400),
        ("0 0 0 1 1 *", 366 * 86_400),
        ("0 0 0 29 2 *", (4 * 365 + 1) * 86_400),
        ("0 0 0 29 2 4", (28 * 365 + 7) * 86_400),
        ("10,20 5,50 * * * *", 45 * 60 - 10),
        ("10,20 5,50 1,22 * * *", 21 * 3600 - 45 * 60 - 10),
        ("10,20 5,50 1,3 * * *", 22 * 3600 - 45 * 60 - 10),
    ],
)
def test_the_longest_gap_lies_between_two_neighbouring_occurrences(schedule: str, seconds: int) -> None:
    assert longest_gap_s(schedule) == seconds


def test_next_occurrence_is_computed_in_utc_when_the_time_has_another_zone() -> None:
    singapore = timezone(timedelta(hours=8))
    assert next_occurrence("0 0 0 * * *", datetime(2026, 1, 1, 7, tzinfo=singapore)) == datetime(
        2026, 1, 1, tzinfo=UTC
    )
