"""Maps edX's course runs to the contract: the rules for each field, one function each.

Pure. Every run becomes a `MappedRun` or a `Rejection`; no value in edX's answer makes it raise.
`course_run.availability` is calculated later, for each answer.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

from shared.domain.course_run import (
    INT32_MAX,
    CourseRun,
    MappedRun,
    Rejection,
    course_run_id,
    course_uuid,
    is_uuid,
    rfc3339,
)
from shared.edx.models import EdxCourse, EdxCourseRun, EdxSeat
from shared.edx.values import (
    Unmappable,
    key_problem,
    read_address,
    read_amount,
    read_date,
    read_key,
    read_whole_number,
    shown,
    storable,
)
from shared.settings import MappingSettings

_WEEK = timedelta(weeks=1)
_TEN_YEARS = timedelta(days=3652)

TRACK_MAX_CHARACTERS = 64
"""Characters of an unknown track that the report shows."""

_PACING: dict[str, Literal["self-paced", "instructor-paced"]] = {
    "instructor_paced": "instructor-paced",
    "self_paced": "self-paced",
}

_Track = Literal["professional", "verified", "audit"]
_TRACKS: dict[str, _Track] = {
    "professional": "professional",
    "no-id-professional": "professional",
    "professional education": "professional",  # the name in edX's published documentation
    "verified": "verified",
    "credit": "verified",
    "audit": "audit",
    "honor": "audit",
}
_BEST_FIRST: tuple[_Track, ...] = ("professional", "verified", "audit")
_PROFESSIONAL_SEATS = {seat for seat, track in _TRACKS.items() if track == "professional"}
_PAID_SEATS = {"verified", *_PROFESSIONAL_SEATS}


def map_course(course: object, rules: MappingSettings, now: datetime) -> Iterator[MappedRun | Rejection]:
    """Map every run of a course, in edX's order.

    Args:
        course: an `EdxCourse`, or any other value that edX sent instead of one.
        rules: the enrolment template and the hours of a modular credit.
        now: the time of the pull (aware); seats that can no longer be bought then are ignored.
    """
    if not isinstance(course, EdxCourse):
        yield Rejection("", "course", f"{shown(course)} is not a course object")
        return
    runs = [] if course.course_runs is None else course.course_runs
    if not isinstance(runs, list):
        reason = f"{shown(runs)} is not a list of course runs (course {shown(course.key)})"
        yield Rejection("", "course_runs", reason)
        return
    for run in runs:
        if not isinstance(run, EdxCourseRun):
            reason = f"{shown(run)} is not a course run object (course {shown(course.key)})"
            yield Rejection("", "course_runs", reason)
            continue
        run_key = ""
        try:
            run_key = read_key(run.key)
            yield _map_run(run, run_key, course, rules, now)
        except Unmappable as problem:
            yield Rejection(run_key, problem.field, problem.reason, _is_unpublished(run.status))


def _map_run(
    run: EdxCourseRun, run_key: str, course: EdxCourse, rules: MappingSettings, now: datetime
) -> MappedRun:
    start, end = read_date(run.start, "start"), read_date(run.end, "end")
    enrollment_start = read_date(run.enrollment_start, "enrollment_start")
    enrollment_end = read_date(run.enrollment_end, "enrollment_end")
    efforts = [read_whole_number(run.min_effort), read_whole_number(run.max_effort)]
    weeks_sent = read_whole_number(run.weeks_to_complete) or None
    pacing = _PACING.get(run.pacing_type) if isinstance(run.pacing_type, str) else None
    weeks = weeks_sent
    if weeks is None and pacing == "instructor-paced":
        weeks = _weeks_between(start, end)
    seats = [seat for seat in run.seats if isinstance(seat, EdxSeat)] if isinstance(run.seats, list) else []
    open_seats = [seat for seat in seats if not _is_over(seat, now)]
    tracks = [seat.type for seat in open_seats] if seats else [run.type]
    track = _best_track(tracks)
    credit = _modular_credit(weeks_sent, efforts, rules.modular_credit_hours)
    return MappedRun(
        run=CourseRun(
            id=course_run_id(run_key),
            courserun_key=run_key,
            uuid=_course_uuid(course, run),
            start_date=start and rfc3339(start),
            end_date=end and rfc3339(end),
            enrollment_start=enrollment_start and rfc3339(enrollment_start),
            enrollment_end=enrollment_end and rfc3339(enrollment_end),
            min_effort=efforts[0],
            max_effort=efforts[1],
            pacing_type=pacing,
            weeks_to_complete=weeks,
            marketing_url=storable(
                read_address(run.marketing_url) or read_address(course.marketing_url), "marketing_url"
            ),
            enrollment_url=storable(_enrollment_url(run, run_key, rules), "enrollment_url"),
            price=storable(_price(open_seats), "price"),
            type=track,
            modular_credit=credit,
        ),
        # An empty status means null, which edX does not send.
        is_published=run.status in (None, "", "published"),
        unknown_track=None if track else _first_track(tracks),
        course_key=_course_key(course),
        proposed_credit=credit,
    )


def _is_unpublished(status: object) -> bool:
    """Tell whether a readable status says that the run is not published; null and "" do not."""
    return isinstance(status, str) and status not in {"", "published"}


def _course_key(course: EdxCourse) -> str | None:
    return course.key if isinstance(course.key, str) and not key_problem(course.key) else None


def _course_uuid(course: EdxCourse, run: EdxCourseRun) -> str | None:
    for sent in (course.uuid, run.course_uuid):
        if isinstance(sent, str) and is_uuid(sent):
            return sent
    key = _course_key(course)
    return key and course_uuid(key)


def _weeks_between(start: datetime | None, end: datetime | None) -> int | None:
    """Return the weeks from start to end, rounded up; None for ten years or more."""
    if start is None or end is None or not timedelta(0) < end - start < _TEN_YEARS:
        return None
    return -((start - end) // _WEEK)


def _modular_credit(weeks: int | None, efforts: Iterable[int | None], hours_a_credit: int) -> int | None:
    """Return weeks times mean effort in whole hours, divided by the hours per credit, rounded down.

    One division does both roundings: ⌊⌊hours⌋ / n⌋ = ⌊hours / n⌋ for a whole n.
    """
    known = [effort for effort in efforts if effort is not None]
    if weeks is None or not any(known):
        return None
    credit = weeks * sum(known) // (len(known) * hours_a_credit)
    return credit if credit <= INT32_MAX else None


def _enrollment_url(run: EdxCourseRun, run_key: str, rules: MappingSettings) -> str | None:
    if run.enrollment_url is None or run.enrollment_url == "":
        return rules.enrollment_url.replace("{key}", quote(run_key, safe=""))
    return read_address(run.enrollment_url)


def _is_over(seat: EdxSeat, now: datetime) -> bool:
    """Tell whether a verified or professional seat can no longer be bought; other seats do not expire."""
    if not isinstance(seat.type, str) or seat.type not in _PAID_SEATS:
        return False
    for sent in (seat.upgrade_deadline_override, seat.upgrade_deadline):
        with suppress(Unmappable):
            deadline = read_date(sent, "upgrade_deadline")
            if deadline:
                return deadline < now
    return False


def _price(seats: Iterable[EdxSeat]) -> str | None:
    """Return the lowest price in USD of the verified seats, otherwise of the professional seats."""
    verified, professional = [], []
    for seat in seats:
        if not isinstance(seat.type, str) or not _in_usd(seat.currency):
            continue
        if seat.type == "verified":
            verified.append(seat.price)
        elif seat.type in _PROFESSIONAL_SEATS:
            professional.append(seat.price)
    return _lowest(verified) or _lowest(professional)


def _in_usd(currency: object) -> bool:
    """Tell whether a seat is sold in USD, which is also edX's default for a seat without a currency."""
    return currency is None or (isinstance(currency, str) and currency.upper() in {"USD", ""})


def _lowest(prices: Iterable[object]) -> str | None:
    amounts = [amount for price in prices if (amount := read_amount(price))]
    return min(amounts, key=lambda amount: amount[0])[1] if amounts else None


def _best_track(tracks: Iterable[object]) -> _Track | None:
    known = {_TRACKS.get(track) for track in tracks if isinstance(track, str)}
    return next((track for track in _BEST_FIRST if track in known), None)


def _first_track(tracks: Iterable[object]) -> str | None:
    """Return the first track that edX names, shortened for the report."""
    named = next((track for track in tracks if isinstance(track, str) and track), None)
    return named and named[:TRACK_MAX_CHARACTERS].encode(errors="replace").decode()
