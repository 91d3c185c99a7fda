"""CourseRun: the contract that we serve (LumiNUS "edX Contents API").

Owns the field names, types and descriptions, the id scheme, and `availability`, which depends on the time of
the answer. edx/mapping.py converts edX's values.
"""

import re
from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

INT32_MAX = 2**31 - 1

RUN_KEY_MAX = 255
"""Characters; the longest course run key that the edX server itself takes."""

Int32 = Annotated[int, Field(ge=-(2**31), le=INT32_MAX, json_schema_extra={"format": "int32"})]
"""A whole number in the range of the contract's `format: int32`."""

DateTime = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", json_schema_extra={"format": "date-time"})
]
"""RFC 3339, UTC, whole seconds, `Z`. Texts in this format sort in the order of time."""

Uuid = Annotated[str, Field(json_schema_extra={"format": "uuid"})]

Availability = Literal["Current", "Upcoming"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


class CourseRun(BaseModel):
    """A course run as LumiNUS documents it; an unknown value is None here and left out of JSON."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    id: Uuid = Field(description="Identifies the course run in LumiNUS; the same run always has the same id")
    courserun_key: str = Field(description="An identifier for the course run")
    uuid: Uuid | None = Field(None, description="Course unique identifier")
    start_date: DateTime | None = Field(None, description="The start time of the course run.")
    end_date: DateTime | None = Field(None, description="The end date of the course run.")
    enrollment_start: DateTime | None = Field(
        None,
        description="The first date and time when this course run is open for learners to enroll. "
        "Learners cannot enroll before this date and time.",
    )
    enrollment_end: DateTime | None = Field(
        None,
        description="The last date and time when this course run is open for learners to enroll. "
        "Learners cannot enroll after this date and time.",
    )
    min_effort: Int32 | None = Field(
        None, description="The minimum number of estimated hours of effort per week."
    )
    max_effort: Int32 | None = Field(
        None, description="The maximum number of estimated hours of effort per week."
    )
    pacing_type: Literal["self-paced", "instructor-paced"] | None = Field(
        None, description="The pacing of the course. May be self-paced or instructor-paced."
    )
    weeks_to_complete: Int32 | None = Field(
        None, description="The number of weeks required to complete the content item."
    )
    # Calculated for each answer, never stored: see `availability`.
    availability: Availability | None = Field(None, description="One of Current, Upcoming")
    marketing_url: str | None = Field(None, description="The URL for the course About page.")
    enrollment_url: str | None = Field(None, description="The URL for the enrollment page.")
    price: str | None = Field(None, description="Price for verified track.")
    type: Literal["audit", "verified", "professional"] | None = Field(
        None, description="Type of track. Audit, verified, professional."
    )
    modular_credit: Int32 | None = Field(None, description="Modular Credit (MC) Equivalents")


class MappedRun(NamedTuple):
    """A mapped run: the contract object and what is stored beside it.

    `is_published` is False when edX sends a `status` other than `published`; the run is stored, not served.
    `unknown_track` is an edX track without a contract type (executive education …), for the report.
    `course_key` is the key of the edX course. `proposed_credit` is the result of the formula, also when a
    different number of modular credits was approved.
    """

    run: CourseRun
    is_published: bool
    unknown_track: str | None = None
    course_key: str | None = None
    proposed_credit: int | None = None


class StoredRun(NamedTuple):
    """A course run as stored; `mapped` is None when its properties cannot be read as a course run."""

    run_id: str
    mapped: MappedRun | None
    withdrawn_at: str | None


class Rejection(NamedTuple):
    """An edX record that cannot be mapped. It is reported and skipped; the sync continues.

    `is_unpublished` is True when the record has a readable `status` other than `published`: the run is no
    longer served, and the rest of its stored version stays.
    """

    run_key: str  # "" when the record has no readable key
    field: str
    reason: str
    is_unpublished: bool = False


def course_run_id(courserun_key: str) -> str:
    """Return the id of a run: UUIDv5 in the URL namespace of its edX course address."""
    return str(uuid5(NAMESPACE_URL, f"https://courses.edx.org/courses/{courserun_key}"))


def course_uuid(course_key: str) -> str:
    """Return the id of a course that edX sent without an id: UUIDv5 as in `course_run_id`."""
    return str(uuid5(NAMESPACE_URL, f"https://courses.edx.org/courses/{course_key}"))


def is_uuid(value: object) -> bool:
    """Tell whether a value is a UUID in the text form of the contract."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def rfc3339(moment: datetime) -> str:
    """Format an aware UTC time as the contract's `date-time`; fractions of a second are cut off."""
    return f"{moment.isoformat()[:19]}Z"


def availability(start_date: str | None, end_date: str | None, now: str) -> Availability | None:
    """Return whether a run is current or upcoming at `now`; None when it has ended (`end_date` <= `now`).

    All three are texts in the contract's `date-time` format.
    """
    if end_date is not None and end_date <= now:
        return None
    return "Upcoming" if start_date is None or start_date > now else "Current"


def stored_json(run: CourseRun) -> bytes:
    """Serialize a run for storage: contract names, unknown values left out, no availability.

    The same run always gives the same bytes, so that they can be compared and hashed.
    """
    return _COURSE_RUN.dump_json(run, by_alias=True, exclude_none=True, exclude={"availability"})


_COURSE_RUN = TypeAdapter(CourseRun)
