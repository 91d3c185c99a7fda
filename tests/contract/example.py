"""One course run with every field of the contract: as edX sends it, and as it is served."""

from tests.builders import make_course, make_run, make_seat

KEY = "course-v1:NUSx+A1x+1T2026"
RUN = make_run(
    key=KEY, start="2001-01-01T08:00:00.123456+08:00", end="2999-12-31T00:00:00Z",
    enrollment_start="2000-12-01T00:00:00Z", enrollment_end="2999-06-30T00:00:00Z",
    pacing_type="self_paced", weeks_to_complete=8, min_effort=6, max_effort=9,
    marketing_url="https://www.edx.org/course/a1x", enrollment_url=None,
    seats=[make_seat(type="audit", price="0.00"), make_seat(price="199.00")],
)  # fmt: skip
ENDED_KEY = "course-v1:NUSx+A1x+1T2001"
ENDED_RUN = make_run(key=ENDED_KEY, start="2001-01-01T00:00:00Z", end="2001-12-31T00:00:00Z")
COURSE = make_course(RUN, ENDED_RUN, key="NUSx+A1x", uuid="11111111-1111-4111-8111-111111111111")
"""The example run, and an ended run, which is not served."""

SERVED = {
    "id": "83eb7785-71e3-553f-8561-1b57d929abb0",
    "courserunKey": "course-v1:NUSx+A1x+1T2026",
    "uuid": "11111111-1111-4111-8111-111111111111",
    "startDate": "2001-01-01T00:00:00Z",
    "endDate": "2999-12-31T00:00:00Z",
    "enrollmentStart": "2000-12-01T00:00:00Z",
    "enrollmentEnd": "2999-06-30T00:00:00Z",
    "minEffort": 6,
    "maxEffort": 9,
    "pacingType": "self-paced",
    "weeksToComplete": 8,
    "availability": "Current",
    "marketingUrl": "https://www.edx.org/course/a1x",
    "enrollmentUrl": "https://courses.edx.org/course_modes/choose/course-v1%3ANUSx%2BA1x%2B1T2026/",
    "price": "199.00",
    "type": "verified",
    "modularCredit": 2,
}
