"""Reads the values of a record for mapping.py: keys, dates, whole numbers, prices, URLs.

Pure. For an invalid value a reader returns None, or raises `Unmappable` if the run must be rejected.
"""

import re
from datetime import UTC, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_UP, Context, Decimal

from shared.domain.course_run import INT32_MAX, RUN_KEY_MAX

TEXT_MAX_UTF16_UNITS = 32 * 1024
"""The maximum length of a text property of Table Storage: 64 KiB of UTF-16."""

SHOWN_MAX_CHARACTERS = 60
"""Characters of a value that the reason of a rejection shows."""

_UNUSABLE_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates, which are not valid Unicode."""

_DATE = re.compile(
    r"\d{4}-\d\d-\d\d"
    r"(?:[T ](?:[01]\d|2[0-3]):[0-5]\d"
    r"(?::(?:[0-5]\d|(?P<leap_second>60))(?:[.,]\d+)?)?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?",
    re.ASCII | re.IGNORECASE,
)
"""RFC 3339 and similar forms of ISO 8601; `datetime.fromisoformat` alone would accept week dates and more."""

_WEB_ADDRESS = re.compile(r"https?://(?:[^\s/?#@]*@)?+[^\s/?#@:]", re.ASCII | re.IGNORECASE)
_WHITE_SPACE = re.compile(r"\s")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}")
_AMOUNT = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CENT = Decimal("0.01")
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, rounding=ROUND_HALF_UP)


class Unmappable(Exception):
    """The run is rejected; caught in `mapping.map_course`."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason


def read_key(value: object) -> str:
    """Read the key of a course run."""
    if not isinstance(value, str):
        reason = "the course run has no key" if value is None else f"{shown(value)} is not a key"
        raise Unmappable("key", reason)
    if problem := key_problem(value):
        raise Unmappable("key", f"{shown(value)} {problem}")
    return value


def key_problem(key: str) -> str | None:
    """Return what is wrong with the key of a run or course; None when it is valid."""
    if not key:
        return "is an empty key"
    if len(key) > RUN_KEY_MAX:
        return f"is longer than {RUN_KEY_MAX} characters"
    if _UNUSABLE_IN_KEY.search(key):
        return "contains a control character or a lone surrogate"
    return None


def read_date(value: object, field: str) -> datetime | None:
    """Read a date as UTC, to the microsecond; return None for null and empty text.

    A leap second (`:60`) is read as the second before it, because `datetime` has none.
    """
    if value is None or value == "":
        return None
    written = _DATE.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        raise Unmappable(field, f"{shown(value)} is not a date")
    text = written[0].upper()
    if written["leap_second"]:
        text = f"{text[:17]}59{text[19:]}"
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no such day, or a year outside 1 to 9999
        raise Unmappable(field, f"{shown(value)} is not a date") from None


def read_whole_number(value: object) -> int | None:
    """Read a whole number of 0 or more that fits int32: 4, 4.0 and "4", but not true."""
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
    """Read an http or https URL; surrounding white space is removed, other white space makes it invalid."""
    text = value.strip() if isinstance(value, str) else ""
    return text if _WEB_ADDRESS.match(text) and not _WHITE_SPACE.search(text) else None


def read_amount(price: object) -> tuple[Decimal, str] | None:
    """Read a price as value and text; text stays as sent, a JSON number gets two decimals."""
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
    """Return a text if Table Storage can store it."""
    if text is None or (text.isascii() and len(text) <= TEXT_MAX_UTF16_UNITS):
        return text
    try:
        utf16 = text.encode("utf-16-le")
    except UnicodeEncodeError:
        raise Unmappable(field, f"{shown(text)} is not valid Unicode") from None
    if len(utf16) > 2 * TEXT_MAX_UTF16_UNITS:
        raise Unmappable(field, f"{shown(text)} is longer than {TEXT_MAX_UTF16_UNITS} UTF-16 units")
    return text


def shown(value: object) -> str:
    """Describe a value in a message: the beginning of a text, the JSON type of anything else."""
    match value:
        case None:
            return "null"
        case str():
            text = repr(value[:SHOWN_MAX_CHARACTERS])[: SHOWN_MAX_CHARACTERS + 20]
            return text if len(value) <= SHOWN_MAX_CHARACTERS else f"{text}…"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
