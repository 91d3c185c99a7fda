"""From edX's course runs to the contract's: the field rules, one function each.

Pure and total: whatever stood in edX's answer, every run comes out as a `MappedRun` or a `Rejection`, and
nothing is raised. What depends on the moment of answering is left to `course_run.availability`.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from typing import Literal
from urllib.parse import quote

from shared.domain.course_run import (
    INT32_MAX,
    RUN_KEY_MAX,
    CourseRun,
    MappedRun,
    Rejection,
    course_run_id,
    course_uuid,
    is_uuid,
    rfc3339,
)
from shared.edx.models import EdxCourse, EdxCourseRun, EdxSeat
from shared.settings import MappingSettings

TEXT_MAX_UTF16_UNITS = 32 * 1024
"""What a text property of Table Storage holds: 64 KiB of UTF-16."""

TRACK_MAX_CHARACTERS = 64
"""As much of an unknown track as the report shows."""

SHOWN_MAX_CHARACTERS = 60
"""As much of a value as the reason of a rejection shows."""

_UNUSABLE_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs, which are no Unicode text."""

_DATE = re.compile(
    r"\d{4}-\d\d-\d\d"
    r"(?:[T ](?:[01]\d|2[0-3]):[0-5]\d"
    r"(?::(?:[0-5]\d|(?P<leap_second>60))(?:[.,]\d+)?)?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?",
    re.ASCII | re.IGNORECASE,
)
"""RFC 3339 and its near relatives in ISO 8601; `datetime.fromisoformat` alone takes week dates and more."""

_WEB_ADDRESS = re.compile(r"https?://(?:[^\s/?#@]*@)?+[^\s/?#@:]", re.ASCII | re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}")
_AMOUNT = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CENT = Decimal("0.01")
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_UP)

_WEEK = timedelta(weeks=1)
_TEN_YEARS = timedelta(days=3652)

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


class _Unmappable(Exception):
    """This run is rejected; caught in `map_course`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def map_course(course: object, rules: MappingSettings) -> Iterator[MappedRun | Rejection]:
    """Map every run of a course, in edX's order.

    Args:
        course: an `EdxCourse`, or whatever stood in its place.
        rules: the enrolment template and the hours of a modular credit.
    """
    if not isinstance(course, EdxCourse):
        yield Rejection("", "course", f"{_shown(course)} is no course object")
        return
    runs = [] if course.course_runs is None else course.course_runs
    if not isinstance(runs, list):
        reason = f"{_shown(runs)} is no list of course runs (course {_shown(course.key)})"
        yield Rejection("", "course_runs", reason)
        return
    for run in runs:
        if not isinstance(run, EdxCourseRun):
            reason = f"{_shown(run)} is no course run object (course {_shown(course.key)})"
            yield Rejection("", "course_runs", reason)
            continue
        run_key = ""
        try:
            run_key = _key(run.key)
            yield _map_run(run, run_key, course, rules)
        except _Unmappable as problem:
            yield Rejection(run_key, problem.field, problem.reason)


def _map_run(run: EdxCourseRun, run_key: str, course: EdxCourse, rules: MappingSettings) -> MappedRun:
    start, end = _moment(run.start, "start"), _moment(run.end, "end")
    enrollment_start = _moment(run.enrollment_start, "enrollment_start")
    enrollment_end = _moment(run.enrollment_end, "enrollment_end")
    efforts = [_whole_number(run.min_effort), _whole_number(run.max_effort)]
    weeks_sent = _whole_number(run.weeks_to_complete) or None
    pacing = _PACING.get(run.pacing_type) if isinstance(run.pacing_type, str) else None
    weeks = weeks_sent
    if weeks is None and pacing == "instructor-paced":
        weeks = _weeks_between(start, end)
    seats = [seat for seat in run.seats if isinstance(seat, EdxSeat)] if isinstance(run.seats, list) else []
    tracks = [seat.type for seat in seats] if seats else [run.type]
    track = _best_track(tracks)
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
            marketing_url=_storable(
                _web_address(run.marketing_url) or _web_address(course.marketing_url), "marketing_url"
            ),
            enrollment_url=_storable(_enrollment_url(run, run_key, rules), "enrollment_url"),
            price=_storable(_price(seats), "price"),
            type=track,
            modular_credit=_modular_credit(weeks_sent, efforts, rules.modular_credit_hours),
        ),
        # An empty status is null, and null is not sent.
        listed=run.status in (None, "", "published"),
        unknown_track=None if track else _first_track(tracks),
    )


def _key(value: object) -> str:
    if not isinstance(value, str):
        reason = "the course run has no key" if value is None else f"{_shown(value)} is no key"
        raise _Unmappable("key", reason)
    if problem := _key_problem(value):
        raise _Unmappable("key", f"{_shown(value)} {problem}")
    return value


def _key_problem(key: str) -> str | None:
    if not key:
        return "is an empty key"
    if len(key) > RUN_KEY_MAX:
        return f"is longer than {RUN_KEY_MAX} characters"
    if _UNUSABLE_IN_KEY.search(key):
        return "holds a control character or half a character"
    return None


def _course_uuid(course: EdxCourse, run: EdxCourseRun) -> str | None:
    for sent in (course.uuid, run.course_uuid):
        if isinstance(sent, str) and is_uuid(sent):
            return sent
    if isinstance(course.key, str) and not _key_problem(course.key):
        return course_uuid(course.key)
    return None


def _moment(value: object, field: str) -> datetime | None:
    """Read a date as UTC, to the microsecond; null and empty text are no date.

    A leap second (`:60`) is read as the second before it, which `datetime` can hold.
    """
    if value is None or value == "":
        return None
    written = _DATE.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        raise _Unmappable(field, f"{_shown(value)} is no date")
    text = written[0].upper()
    if written["leap_second"]:
        text = f"{text[:17]}59{text[19:]}"
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no such day, or a year outside 1 to 9999
        raise _Unmappable(field, f"{_shown(value)} is no date") from None


def _whole_number(value: object) -> int | None:
    """Read a whole number of 0 or more that fits the contract's int32: 4, 4.0 and "4", never true."""
    match value:
        case bool():
            return None
        case int():
            number = value
        case float() if value.is_integer():
            number = int(value)
        case str() if _WHOLE_NUMBER.fullmatch(value):
            number = int(value)
        case _:
            return None
    return number if 0 <= number <= INT32_MAX else None


def _weeks_between(start: datetime | None, end: datetime | None) -> int | None:
    """Return the weeks from start to end, rounded up; ten years and more are no length of a course."""
    if start is None or end is None or not timedelta(0) < end - start < _TEN_YEARS:
        return None
    return -((start - end) // _WEEK)


def _modular_credit(weeks: int | None, efforts: Iterable[int | None], hours_a_credit: int) -> int | None:
    """Return weeks times mean effort in whole hours, divided by the hours of a credit, rounded down.

    One division does both cuts: ⌊⌊hours⌋ / n⌋ = ⌊hours / n⌋ for a whole n.
    """
    known = [effort for effort in efforts if effort is not None]
    if weeks is None or not any(known):
        return None
    credit = weeks * sum(known) // (len(known) * hours_a_credit)
    return credit if credit <= INT32_MAX else None


def _web_address(value: object) -> str | None:
    return value if isinstance(value, str) and _WEB_ADDRESS.match(value) else None


def _enrollment_url(run: EdxCourseRun, run_key: str, rules: MappingSettings) -> str | None:
    if run.enrollment_url is None or run.enrollment_url == "":
        return rules.enrollment_url.replace("{key}", quote(run_key, safe=""))
    return _web_address(run.enrollment_url)


def _price(seats: Iterable[EdxSeat]) -> str | None:
    """Return the lowest price in USD of the verified seats, else of the professional ones."""
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
    """Tell whether a seat is sold in USD: edX says so of every seat that does not name a currency."""
    return currency is None or (isinstance(currency, str) and currency.upper() in {"USD", ""})


def _lowest(prices: Iterable[object]) -> str | None:
    amounts = [amount for price in prices if (amount := _amount(price))]
    return min(amounts, key=lambda amount: amount[0])[1] if amounts else None


def _amount(price: object) -> tuple[Decimal, str] | None:
    """Read a price as its value and its text: text as sent, a JSON number with two decimals."""
    match price:
        case str() if _AMOUNT.fullmatch(price):
            return Decimal(price), price
        case bool():
            return None
        case int() | float() if 0 <= price < float("inf"):
            value = abs(Decimal(price if isinstance(price, int) else repr(price)))
            return value, f"{value.quantize(_CENT, context=_EXACT):f}"
        case _:
            return None


def _best_track(tracks: Iterable[object]) -> _Track | None:
    known = {_TRACKS.get(track) for track in tracks if isinstance(track, str)}
    return next((track for track in _BEST_FIRST if track in known), None)


def _first_track(tracks: Iterable[object]) -> str | None:
    """Return the first track that edX names, fit for a report."""
    named = next((track for track in tracks if isinstance(track, str) and track), None)
    return named and named[:TRACK_MAX_CHARACTERS].encode(errors="replace").decode()


def _storable(text: str | None, field: str) -> str | None:
    if text is None or (text.isascii() and len(text) <= TEXT_MAX_UTF16_UNITS):
        return text
    try:
        utf16 = text.encode("utf-16-le")
    except UnicodeEncodeError:
        raise _Unmappable(field, f"{_shown(text)} is no Unicode text") from None
    if len(utf16) > 2 * TEXT_MAX_UTF16_UNITS:
        raise _Unmappable(field, f"{_shown(text)} is longer than {TEXT_MAX_UTF16_UNITS} UTF-16 units")
    return text


def _shown(value: object) -> str:
    """Name a value in a reason: text by its beginning, anything else by its kind in JSON."""
    match value:
        case None:
            return "null"
        case str():
            shown = repr(value[:SHOWN_MAX_CHARACTERS])[: SHOWN_MAX_CHARACTERS + 20]
            return shown if len(value) <= SHOWN_MAX_CHARACTERS else f"{shown}…"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
