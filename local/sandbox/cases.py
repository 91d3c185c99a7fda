"""Every case that mapping must handle, as fields to set in a sample run or course.

All dates are relative to `now`, so that a current, upcoming or ended run stays so at any time.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain

from local.sandbox.catalogs import Course
from local.sandbox.sample import NEVER, Run, at, between, filler, make_image, make_run, make_seat, moment


def run_cases(now: datetime) -> Iterator[Run]:
    """Yield the fields of a run for every rule of the field table and every edge case, one at a time."""
    return chain(seat_cases(), workload_cases(now), date_cases(now), other_cases())


def seat_cases() -> Iterator[Run]:
    """Each track alone, several of them, currencies, prices."""
    for track in ("verified", "audit", "professional", "no-id-professional", "credit", "honor"):
        yield {"seats": [make_seat(track, "0.00" if track in ("audit", "honor") else "199.00")]}
    for track in (
        "executive-education",
        "unpaid-executive-education",
        "masters",
        "unpaid-bootcamp",
        "paid-bootcamp",
    ):
        yield {"seats": [make_seat(track, "2900.00")], "type": None}
    yield {"seats": [make_seat("verified", "49.00"), make_seat("professional", "600.00")]}
    yield {"seats": [make_seat("professional", "600.00", "GBP"), make_seat("no-id-professional", "450.00")]}
    yield {
        "seats": [make_seat("credit", "300.00", credit_provider="asu", credit_hours=3), make_seat("verified")]
    }
    yield {
        "seats": [
            make_seat(price="135.00", currency="EUR"),
            make_seat(price="149.00"),
            make_seat(price="99.00"),
        ]
    }
    yield {"seats": [make_seat(price="9.00"), make_seat(price="10.00")]}
    yield {"seats": [make_seat(price="135.00", currency="EUR"), make_seat("audit", "0.00")]}
    yield {"seats": [make_seat(price="120.00", currency=None)]}
    yield {"seats": [make_seat(price=149)]}
    yield {"seats": [make_seat(price=49.5)]}
    yield {"seats": [make_seat(price="0.00")]}
    yield {"seats": [make_seat(price="free")]}
    yield {"seats": [make_seat(price=None), make_seat(price="75.00")]}
    yield {"seats": [make_seat(price="NaN"), make_seat("audit", "0.00")]}
    past, ahead = "2020-01-01T00:00:00Z", "2999-12-31T23:59:59Z"
    yield {
        "seats": [make_seat(upgrade_deadline=past), make_seat("audit", "0.00")]
    }  # it can no longer be bought
    yield {"seats": [make_seat(upgrade_deadline=ahead), make_seat("audit", "0.00")]}
    yield {"seats": [make_seat(upgrade_deadline=past, upgrade_deadline_override=ahead)]}
    yield {"seats": [make_seat(upgrade_deadline=ahead, upgrade_deadline_override=past)]}
    for run_type in ("verified", "audit", "professional", "credit", "honor", "executive-education", "", None):
        yield {"seats": [], "type": run_type}
    yield {"seats": None, "type": "verified"}


def workload_cases(now: datetime) -> Iterator[Run]:
    """Effort, weeks and pacing."""
    yield {"min_effort": 8, "max_effort": 4}
    for effort in (None, 0, "4", 4.0, 4.5, -1, "many", 2**31):
        yield {"min_effort": effort}
        yield {"max_effort": effort}
    yield {"min_effort": None, "max_effort": None}
    yield {"min_effort": 0, "max_effort": 0}
    yield {"min_effort": 1, "max_effort": 1, "weeks_to_complete": 4}  # less than one credit
    for pacing in ("instructor_paced", "self_paced"):
        for weeks in (0, None, 52):
            yield {"weeks_to_complete": weeks, "pacing_type": pacing, **between(now, -10, 40)}
    yield {"weeks_to_complete": "6"}
    yield {"weeks_to_complete": None, **between(now, -10, 3700)}  # longer than ten years
    yield {"weeks_to_complete": None, **between(now, 60, 60)}  # ends as it starts
    yield {"weeks_to_complete": None, "start": None}
    for odd_pacing in (None, "cohort_paced", ""):
        yield {"pacing_type": odd_pacing}


def date_cases(now: datetime) -> Iterator[Run]:
    """Yield every date format, and runs before, during and after their dates."""
    yield between(now, -40, 40)
    yield between(now, 20, 90)
    yield between(now, -400, -300)  # ended
    yield {**between(now, -400, -1), "availability": "Current"}  # edX's own value lags behind
    yield {"start": None, "end": None}
    yield {"start": None, "end": at(now, 100)}
    yield {"start": at(now, -30), "end": None}
    yield {"start": at(now, -30), "end": NEVER, "pacing_type": "self_paced"}
    yield {"start": f"{moment(now, 15):%Y-%m-%dT%H:%M:%S}.593570Z"}
    yield {"start": f"{moment(now, 15):%Y-%m-%dT%H:%M:%S}+08:00"}
    yield {"start": f"{moment(now, 15):%Y-%m-%dT%H:%M:%S}"}  # no offset: UTC
    yield {"start": f"{moment(now, 15):%Y-%m-%d}", "end": f"{moment(now, 75):%Y-%m-%d}"}
    yield {"start": f"{moment(now, 15):%Y-%m-%dT%H:%M}Z"}
    yield {"start": "", "end": ""}
    yield {"enrollment_start": at(now, -60), "enrollment_end": at(now, 30)}
    yield {"enrollment_start": f"{moment(now, -60):%Y-%m-%dT%H:%M:%S}.000001-05:30", "enrollment_end": None}
    yield {"start": "1999-12-31T23:59:59Z", "end": "9999-12-31T23:59:59Z"}


def other_cases() -> Iterator[Run]:
    """Status, languages, addresses and shapes."""
    for status in ("unpublished", "reviewed", "archived", None):
        yield {"status": status}
    yield {"hidden": True}
    yield {"is_enrollable": False, "is_marketable": False}
    yield {"availability": "Actuel", "level_type": "Débutant", "content_language": "fr"}
    yield {
        "availability": "Próximamente",
        "level_type": "Introductorio",
        "title": "Introducción a la programación",
    }
    yield {"enrollment_url": None}
    yield {"enrollment_url": ""}
    yield {"enrollment_url": "javascript:alert(1)"}
    yield {
        "enrollment_url": "https://courses.edx.org/enterprise/sample/course/enroll/?catalog=1&utm_medium=enterprise"
    }
    yield {"marketing_url": None}
    yield {"marketing_url": ""}
    yield {"marketing_url": "ftp://www.edx.org/course/sample"}
    yield {"marketing_url": "http://www.edx.org/course/éducation?q=a b"}
    yield {"image": [make_image("array")]}
    yield {"image": None}
    yield {"course_uuid": None, "uuid": None}
    yield {"a_key_of_tomorrow": {"deep": [1, 2, 3]}, "title": "Größe 量子力学 🎓"}


def course_cases() -> Iterator[Course]:
    """Yield the fields to set in a course, one case at a time."""
    yield {"uuid": None}
    yield {"uuid": "not-a-uuid"}
    yield {"uuid": ""}
    yield {"runs": [], "course_run_keys": []}
    yield {"marketing_url": None}
    yield {"marketing_url": "javascript:void(0)"}
    yield {"image": None}
    yield {"image": [make_image("array")]}
    yield {
        "course_type": "executive-education-2u",
        "additional_metadata": {"external_url": "https://example.org/"},
    }
    yield {"level_type": "Fortgeschritten", "title": "Einführung in die Robotik"}
    yield {"full_description": filler("a very long one", 30_000)}
    yield {"title": None, "short_description": None, "subjects": [], "owners": []}


def both_cases() -> Iterator[tuple[Run, Course]]:
    """Yield the fields to set in a run and in its course together."""
    yield {"course_uuid": None}, {"uuid": None}
    yield {"course_uuid": "odd"}, {"uuid": "odd"}
    yield {"marketing_url": None}, {"marketing_url": None}
    yield {"marketing_url": "mailto:info@edx.org"}, {"marketing_url": "javascript:void(0)"}


def rejected_runs() -> list[object]:
    """Return records that cannot be mapped; each must be rejected without affecting others."""
    return [
        make_run("course-v1:NUSx+REJECTx+BADDATE", start="next Tuesday"),
        make_run("course-v1:NUSx+REJECTx+YEAR0", end="0000-00-00T00:00:00Z"),
        make_run("course-v1:NUSx+REJECTx+" + "X" * 250),
        make_run("course-v1:NUSx+REJECTx+\u0007BELL"),
        make_run() | {"key": None},
        make_run() | {"key": 6001},
        "not an object",
    ]
