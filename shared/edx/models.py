"""What edX sends: its records as pydantic models, and what an answer, a `next` or a Retry-After means.

Pure. Only the fields that we use are read; whether their values make sense is mapping's to judge.
"""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Annotated, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from shared.domain.catalog_id import CATALOG_ID_MAX
from shared.errors import EdxProtocolError

_DAY_S = 24 * 60 * 60
MAX_RETRY_AFTER_S = _DAY_S
"""The longest time to wait that is believed, whatever Retry-After says."""

_WHOLE_NUMBER = re.compile("[0-9]{1,15}")
_Model = TypeVar("_Model", bound=BaseModel)


def _or(default: object) -> WrapValidator:
    def read(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            return default

    return WrapValidator(read)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()  # a lone surrogate can be neither printed nor stored


# In the unions below junk stays what it is, one value, and fails neither its page nor its course.
_JUNK_STAYS = Field(union_mode="left_to_right")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class EdxSeat(_Record):
    """A way to take a course run: its track and price."""

    type: object = None
    price: object = None
    currency: object = None


class EdxCourseRun(_Record):
    """One presentation of a course."""

    key: object = None
    course_uuid: object = None
    start: object = None
    end: object = None
    enrollment_start: object = None
    enrollment_end: object = None
    min_effort: object = None
    max_effort: object = None
    weeks_to_complete: object = None
    pacing_type: object = None
    marketing_url: object = None
    enrollment_url: object = None
    status: object = None
    type: object = None
    seats: Annotated[list[Annotated[EdxSeat | object, _JUNK_STAYS]] | object, _JUNK_STAYS] = None


class EdxCourse(_Record):
    """A course of a catalog, with its runs."""

    key: object = None
    uuid: object = None
    marketing_url: object = None
    course_runs: Annotated[list[Annotated[EdxCourseRun | object, _JUNK_STAYS]] | object, _JUNK_STAYS] = None


class CoursesPage(_Record):
    """A page of a catalog's courses."""

    count: object = None
    next: object = None
    results: list[Annotated[EdxCourse | object, _JUNK_STAYS]]


class EdxCatalog(_Record):
    """A catalog; `courses_count` counts archived courses too, so it never equals a page's `count`."""

    id: Annotated[int, Field(strict=True, ge=1, le=CATALOG_ID_MAX)]
    name: Annotated[str, AfterValidator(_printable), _or("")] = ""
    courses_count: Annotated[int | None, _or(None)] = None


class CatalogsPage(_Record):
    """A page of the list of our catalogs."""

    count: object = None
    next: object = None
    results: list[Annotated[EdxCatalog | object, _JUNK_STAYS]]


class TokenAnswer(_Record):
    """What the token endpoint answers."""

    access_token: Annotated[str, Field(pattern=r"^[!-~]+$", repr=False)]  # it has to stand in a header
    expires_in: object = None

    @property
    def lifetime_s(self) -> float:
        """How long the token is good, in seconds, at most a day; 60 when edX did not say or said nonsense."""
        known = type(self.expires_in) in {int, float} and 0 < self.expires_in < math.inf  # type: ignore[operator]
        return float(min(self.expires_in, _DAY_S)) if known else 60.0  # type: ignore[call-overload]


def parse(model: type[_Model], body: bytes, what: str) -> _Model:
    """Read an answer straight from its bytes.

    Args:
        model: what the answer should be.
        body: the decoded bytes.
        what: names the answer in the error.

    Raises:
        EdxProtocolError: not JSON, or JSON of another shape.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problem = _first_problem(error)
    if problem.type == "json_invalid":
        # Python's own reader takes what pydantic's does not: a lone surrogate, written as \ud800.
        try:
            return model.model_validate(json.loads(body))
        except ValidationError as error:
            problem = _first_problem(error)
        except (ValueError, RecursionError):
            problem = _Problem("json_invalid", "it is not JSON")
    raise EdxProtocolError(f"edX's answer to {what} is not what its API promises: {problem.text}")


class _Problem(NamedTuple):
    type: str
    text: str


def _first_problem(error: ValidationError) -> _Problem:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return _Problem(first["type"], ": ".join([*map(str, first["loc"]), first["msg"]]))


def looks_cut_short(body: bytes, content_length: str | None) -> bool:
    """Tell a body that broke off from one that is no JSON.

    Two breaks go unseen below us: headers that end early (no length, no body) and gzip without its end.
    """
    if not body:
        return content_length is None
    return body.lstrip().startswith(b"{") and not body.rstrip().endswith(b"}")


def usable_count(count: object) -> int | None:
    """Return `count` when it is a whole number of 0 or more; anything else counts as absent."""
    return count if type(count) is int and count >= 0 else None


def readable_key(course: object) -> str | None:
    """Return the key that tells a course from others; None for junk and for a course without one."""
    return course.key or None if isinstance(course, EdxCourse) and isinstance(course.key, str) else None


class Cursor(NamedTuple):
    """A place in a paginated list: `position` is an offset or a page number, `size` how many a page."""

    style: Literal["offset", "page"]
    position: int
    size: int | None

    @property
    def query(self) -> dict[str, str]:
        """The query that asks for the page at this place."""
        size_name = {"offset": "limit", "page": "page_size"}[self.style]
        query = {} if self.size is None else {size_name: str(self.size)}
        return {**query, self.style: str(self.position)}

    def up_to(self, count: int, first_page_length: int) -> Iterator["Cursor"]:
        """Plan the pages up to `count`, when this is the cursor in the first page's `next`.

        Empty when the stride is not certain: such a list is walked by its `next` alone.
        """
        if self.style == "page":
            size = max(self.size or 0, first_page_length, 1)  # too few pages rather than one past the end
            positions = range(self.position, -(-count // size) + 1)
        elif self.size in {None, self.position}:
            positions = range(self.position, count, self.position)
        else:
            return iter(())
        return (self._replace(position=position) for position in positions)


def next_cursor(link: object, after: Cursor) -> Cursor | None:
    """Take the cursor out of a page's `next`, and nothing else: its scheme, host and path do not count.

    Returns:
        None at the end of the list (`next` is null or "").

    Raises:
        EdxProtocolError: `next` holds no usable cursor, or one that does not advance.
    """
    if link is None or link == "":
        return None
    if not isinstance(link, str):
        raise EdxProtocolError("edX sent a `next` that is no text")
    query = parse_qs(link.partition("?")[2].partition("#")[0], keep_blank_values=True)
    styles: tuple[tuple[Literal["offset", "page"], str], ...] = (("offset", "limit"), ("page", "page_size"))
    for style, size_name in styles:
        if style in query:
            position = _whole_number(query[style])
            size = _whole_number(query[size_name]) if size_name in query else None
            if position is None or (size_name in query and not size):
                break
            # The first request is by offset, also where the server then counts in pages.
            begun = 1 if style == "page" and after.position == 0 else after.position
            if (style != after.style and after.position != 0) or position <= begun:
                raise EdxProtocolError(f"edX sent a `next` that does not advance (from {style} {begun})")
            return Cursor(style, position, size)
    raise EdxProtocolError("edX sent a `next` without a usable cursor")


def _whole_number(values: list[str]) -> int | None:
    return int(values[0]) if len(values) == 1 and _WHOLE_NUMBER.fullmatch(values[0]) else None


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After (seconds or an HTTP date) asks to wait, at most 24 h.

    Returns:
        None when it is absent, nonsense, 0, negative or in the past.
    """
    text = (header or "").strip()
    if re.fullmatch("[0-9]+", text):
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(seconds, MAX_RETRY_AFTER_S) if seconds > 0 else None


class Asked(Enum):
    """What a request was for; the same status means different things."""

    TOKEN = auto()
    CATALOGS = auto()
    CATALOG = auto()


class Verdict(Enum):
    """What an answer's status means."""

    OK = auto()
    RETRY = auto()
    THROTTLED = auto()
    REFUSED = auto()
    NOT_FOUND = auto()
    NOT_THE_API = auto()


def verdict(status: int, asked: Asked) -> Verdict:
    """Decide what a status means; 0 stands for no whole answer, 401 is one that a new token did not heal."""
    refusals = {Asked.TOKEN: {400, 401, 403}, Asked.CATALOGS: {401, 403}, Asked.CATALOG: {401}}
    if status == 200:  # noqa: PLR2004 - HTTP statuses are known by their numbers
        return Verdict.OK
    if status == 429:  # noqa: PLR2004
        return Verdict.THROTTLED
    if status == 0 or status >= 500:  # noqa: PLR2004
        return Verdict.RETRY
    if status in refusals[asked]:
        return Verdict.REFUSED
    if asked is Asked.CATALOG and status in {403, 404}:
        return Verdict.NOT_FOUND
    return Verdict.NOT_THE_API
