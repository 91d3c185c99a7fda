"""NCRONTAB schedules as the timer of Azure Functions reads them: checks a schedule and finds the next time.

The timer extension reads five fields or six (seconds first) with the library NCrontab, in UTC. From
NCrontab's CrontabSchedule.cs, CrontabField.cs and CrontabFieldImpl.cs: a field is numbers, `*`, ranges,
lists, steps and English names of months and days; there is no `?`, `L`, `W`, `#` or `@hourly`, and Sunday is
0, never 7. A date must match both the day of the month and the day of the week.

A TimeSpan ("01:00:00"), which the extension also accepts, works on an App Service plan only
(https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer), so it is refused here.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

_DAY_S = 86_400
_SEARCHED_DAYS = 41 * 366
"""How far ahead the next time is searched. The rarest dates, such as a Sunday on February 29, are at most
40 years apart (28, or 40 across a century without a leap day)."""


@dataclass(frozen=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()


_SECOND = _Field("second", 0, 59)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, _WEEKDAYS),
)


@dataclass(frozen=True)
class Schedule:
    """The values that each field allows, in ascending order; Sunday is 0."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    def is_due_on(self, day: date) -> bool:
        """Tell whether the schedule is due at any time on a day."""
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def first_time(self, not_before: time = time.min) -> time | None:
        """Return the first due time of a day at or after `not_before`; None when there is none."""
        for hour in self.hours:
            for minute in self.minutes if hour >= not_before.hour else ():
                for second in self.seconds if (hour, minute) >= (not_before.hour, not_before.minute) else ():
                    if (moment := time(hour, minute, second)) >= not_before:
                        return moment
        return None


def parse(text: str) -> Schedule:
    """Read a schedule.

    Raises:
        ValueError: Azure Functions would not accept it; the message names the field and its valid values.
    """
    parts = [part for part in text.split(" ") if part]
    fields = {5: _FIELDS, 6: (_SECOND, *_FIELDS)}.get(len(parts))
    if fields is None:
        raise ValueError(
            "expected five fields (minute, hour, day of the month, month, day of the week) or six "
            f"(the second first), separated by spaces, not {len(parts)}"
        )
    values = [_allowed(field, part) for field, part in zip(fields, parts, strict=True)]
    return Schedule(*([(0,)] if len(values) == len(_FIELDS) else []), *values)


def next_occurrence(schedule: str, after: datetime) -> datetime | None:
    """Return the first time after `after` (UTC) at which a schedule is due; None when it is never due.

    Raises:
        ValueError: the schedule is malformed.
    """
    due = parse(schedule)
    earliest = after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    for day in _days(earliest.date(), _SEARCHED_DAYS):
        if due.is_due_on(day):
            not_before = earliest.time() if day == earliest.date() else time.min
            if moment := due.first_time(not_before):
                return datetime.combine(day, moment, UTC)
    return None


def longest_gap_s(schedule: str) -> float:
    """Return the longest time between two occurrences, in seconds; infinite when it is never due.

    The years 2000 to 2055 are searched: in them, each date falls on each day of the week at least twice.

    Raises:
        ValueError: the schedule is malformed.
    """
    due = parse(schedule)
    first_s, last_s = (
        due.hours[index] * 3600 + due.minutes[index] * 60 + due.seconds[index] for index in (0, -1)
    )
    days = [day for day in _days(date(2000, 1, 1), 56 * 366) if due.is_due_on(day)]
    if not days:
        return math.inf
    minute_s = due.minutes[0] * 60 + due.seconds[0] - due.minutes[-1] * 60 - due.seconds[-1]
    gaps = (
        *(later - earlier for earlier, later in pairwise(due.seconds)),
        *(
            (later - earlier) * 60 + due.seconds[0] - due.seconds[-1]
            for earlier, later in pairwise(due.minutes)
        ),
        *((later - earlier) * 3600 + minute_s for earlier, later in pairwise(due.hours)),
        *((later - earlier).days * _DAY_S + first_s - last_s for earlier, later in pairwise(days)),
    )
    return max(gaps)


def _days(first: date, count: int) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range(min(count, (date.max - first).days + 1)))


def _allowed(field: _Field, text: str) -> tuple[int, ...]:
    """Parse a field; return the values that it allows."""
    values: set[int] = set()
    for part in text.split(","):
        start, slash, step_text = part.partition("/")
        if slash and not re.fullmatch(r"[+-]?[0-9]{1,9}", step_text):
            raise ValueError(f"{_expected(field)}, not {part!r}")
        step = max(int(step_text), 1) if slash else 1  # NCrontab reads a step below 1 as 1
        if start == "*":
            first, last = field.lowest, field.highest
        elif "-" in start:
            first, last = sorted(_value(field, end) for end in start.split("-", 1))  # in either order
        else:
            first = _value(field, start)
            last = field.highest if slash else first
        values.update(range(first, last + 1, step))
    return tuple(sorted(values))


def _value(field: _Field, text: str) -> int:
    """Return the value of a number or a name; a name may be shortened to its first letters."""
    if re.fullmatch("[0-9]{1,9}", text):
        if field.lowest <= int(text) <= field.highest:
            return int(text)
    elif text:
        for number, name in enumerate(field.names, field.lowest):
            if name.startswith(text.lower()):
                return number
    raise ValueError(f"{_expected(field)}, not {text!r}")


def _expected(field: _Field) -> str:
    names = f" or {field.names[0][:3]} to {field.names[-1][:3]}" if field.names else ""
    numbers = f"numbers from {field.lowest} to {field.highest}"
    return f"expected in the field {field.name} {numbers}{names}, with * , - /"
