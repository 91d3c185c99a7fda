"""Large catalogues for load tests: each course is made from a template when it is requested."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from json import dumps

from local.sandbox.catalogs import Catalog, StoredCourse
from local.sandbox.sample import at, filler, make_course, make_run, make_seat


def large_catalog(courses: int, now: datetime | None = None) -> Catalog:
    """Return a catalog with this many courses, for load tests."""
    return Catalog(1, "Large", large_catalogue(courses, now))


def large_catalogue(courses: int, now: datetime | None = None) -> list[StoredCourse]:
    """Return a number of courses of about 9 kB, with one and two runs alternately, current or upcoming.

    A course is built from a template when it is requested, so that a large catalogue needs little memory.
    The keys are `LoadX+000000` and so on, the runs' `course-v1:LoadX+000000+1` and `+2`.
    """
    today = (now or datetime.now(UTC)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [at(today, day).encode() for day in range(-180, 180)]
    templates = _large_template(1), _large_template(2)
    return [
        StoredCourse(f"LoadX+{number:06}", partial(_large_course, templates[number % 2], starts, number))
        for number in range(courses)
    ]


def _large_course(template: bytes, starts: Sequence[bytes], number: int) -> bytes:
    return template % {
        b"number": number,
        b"start": starts[number % len(starts)],
        b"weeks": number % 12 + 1,
        b"effort": number % 5 + 2,
        b"price": number % 300 + 49,
    }


def _large_template(runs: int) -> bytes:
    """Return a course as a bytes template; placeholders for numbers have no quotes."""
    key = "LoadX+<number>"
    text = {"full_description": filler("load", 300)}
    made = [
        make_run(
            f"course-v1:{key}+{run}",
            **text,
            uuid=f"0000000{run}-0000-4000-8000-<hex>",
            course_uuid="00000000-0000-4000-8000-<hex>",
            seats=[make_seat(price="<price>.00"), make_seat("audit", "0.00")],
            start="<start>",
            weeks_to_complete="<weeks>",
            min_effort="<effort>",
            max_effort="<effort>",
        )
        for run in range(1, runs + 1)
    ]
    course = make_course(key, made, **text, uuid="00000000-0000-4000-8000-<hex>")
    template = dumps(course).replace("%", "%%")
    for mark, directive in {
        '"<weeks>"': "%(weeks)d",
        '"<effort>"': "%(effort)d",
        "<number>": "%(number)06d",
        "<hex>": "%(number)012x",
        "<price>": "%(price)d",
        "<start>": "%(start)b",
    }.items():
        template = template.replace(mark, directive)
    return template.encode()
