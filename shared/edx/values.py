"""Reads the values of a record: keys, dates, whole numbers, amounts, addresses. What they mean is mapping's.

Pure and total: a reader returns None for what is no such value, or raises `Unmappable` where the run that
holds it cannot be mapped.
"""

import re
from datetime import UTC, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_UP, Context, Decimal

from shared.domain.course_run import INT32_MAX, RUN_KEY_MAX

TEXT_MAX_UTF16_UNITS = 32 * 1024
"""What a text property of Table Storage holds: 64 KiB of UTF-16."""

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
_WHITE_SPACE = re.compile(r"\s")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}")
_AMOUNT = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CENT = Decimal("0.01")
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_UP)


class Unmappable(Exception):
    """This run is rejected; caught in `mapping.map_course`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def read_key(value: object) -> str:
    """Read the key of a course run."""
    if not isinstance(value, str):
        reason = "the course run has no key" if value is None else f"{shown(value)} is no key"
        raise Unmappable("key", reason)
    if problem := key_problem(value):
        raise Unmappable("key", f"{shown(value)} {problem}")
    return value


def key_problem(key: str) -> str | None:
    """Say what makes a text unusable as the key of a run or course, None when nothing does."""
    if not key:
        return "is an empty key"
    if len(key) > RUN_KEY_MAX:
        return f"is longer than {RUN_KEY_MAX} characters"
    if _UNUSABLE_IN_KEY.search(key):
        return "holds a control character or half a character"
    return None


def read_date(value: object, field: str) -> datetime | None:
    """Read a date as UTC, to the microsecond; null and empty text are no date.

    A leap second (`:60`) is read as the second before it, which `datetime` can hold.
    """
    if value is None or value == "":
        return None
    written = _DATE.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        raise Unmappable(field, f"{shown(value)} is no date")
    text = written[0].upper()
    if written["leap_second"]:
        text = f"{text[:17]}59{text[19:]}"
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no such day, or a year outside 1 to 9999
        raise Unmappable(field, f"{shown(value)} is no date") from None


def read_whole_number(value: object) -> int | None:
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


def read_address(value: object) -> str | None:
    """Read an http or https URL; white space at its ends is cut off, inside it makes the URL unusable."""
    text = value.strip() if isinstance(value, str) else ""
    return text if _WEB_ADDRESS.match(text) and not _WHITE_SPACE.search(text) else None


def read_amount(price: object) -> tuple[Decimal, str] | None:
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


def storable(text: str | None, field: str) -> str | None:
    """Return a text that Table Storage can hold."""
    if text is None or (text.isascii() and len(text) <= TEXT_MAX_UTF16_UNITS):
        return text
    try:
        utf16 = text.encode("utf-16-le")
    except UnicodeEncodeError:
        raise Unmappable(field, f"{shown(text)} is no Unicode text") from None
    if len(utf16) > 2 * TEXT_MAX_UTF16_UNITS:
        raise Unmappable(field, f"{shown(text)} is longer than {TEXT_MAX_UTF16_UNITS} UTF-16 units")
    return text


def shown(value: object) -> str:
    """Name a value in a reason: text by its beginning, anything else by its kind in JSON."""
    match value:
        case None:
            return "null"
        case str():
            text = repr(value[:SHOWN_MAX_CHARACTERS])[: SHOWN_MAX_CHARACTERS + 20]
            return text if len(value) <= SHOWN_MAX_CHARACTERS else f"{text}…"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
