"""Builders of edX's JSON records: a default record with the fields that a test sets.

The default run has begun and does not end, by the real clock and by the clock of a test.
"""

from typing import Any


def make_seat(**overrides: Any) -> dict[str, Any]:
    return {"type": "verified", "price": "150.00", "currency": "USD"} | overrides


def make_run(**overrides: Any) -> dict[str, Any]:
    return {
        "key": "course-v1:MITx+6.00.1x+2T2026",
        "course_uuid": "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
        "uuid": "a64c2f5e-87d4-4b0e-b5d3-0e8f6a9c1d22",
        "title": "Introduction to Computer Science and Programming Using Python",
        "start": "2026-01-12T15:00:00Z",
        "end": "3000-01-01T00:00:00Z",
        "enrollment_start": "2025-10-01T00:00:00Z",
        "enrollment_end": "2999-12-15T23:59:59Z",
        "min_effort": 14,
        "max_effort": 16,
        "weeks_to_complete": 9,
        "pacing_type": "instructor_paced",
        "marketing_url": "https://www.edx.org/course/introduction-to-computer-science-mitx-6-00-1x",
        "enrollment_url": None,
        "status": "published",
        "type": "verified",
        "hidden": False,
        "availability": "Upcoming",
        "seats": [make_seat(), make_seat(type="audit", price="0.00")],
    } | overrides


MAKE_RUN_SERVED = {
    "uuid": "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
    "startDate": "2026-01-12T15:00:00Z",
    "endDate": "3000-01-01T00:00:00Z",
    "enrollmentStart": "2025-10-01T00:00:00Z",
    "enrollmentEnd": "2999-12-15T23:59:59Z",
    "minEffort": 14,
    "maxEffort": 16,
    "pacingType": "instructor-paced",
    "weeksToComplete": 9,
    "marketingUrl": "https://www.edx.org/course/introduction-to-computer-science-mitx-6-00-1x",
    "enrollmentUrl": "https://courses.edx.org/course_modes/choose/course-v1%3AMITx%2B6.00.1x%2B2T2026/",
    "price": "150.00",
    "type": "verified",
    "modularCredit": 4,
}
"""What the contract shows of `make_run()`, except its `id` and `courserunKey`."""


def make_course(*runs: object, **overrides: Any) -> dict[str, Any]:
    """Build a course of these runs; when none is given, of one plain run whose key follows the course's."""
    key = overrides.get("key", "MITx+6.00.1x")
    return {
        "key": key,
        "uuid": "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
        "title": "Introduction to Computer Science and Programming Using Python",
        "image": {"src": "https://prod-discovery.edx-cdn.org/media/course/image/6001x.jpg"},
        "marketing_url": "https://www.edx.org/course/mitx-6-00-1x",
        "course_runs": list(runs) or [make_run(key=f"course-v1:{key}+2T2026")],
    } | overrides
