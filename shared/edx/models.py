"""edX's records as pydantic models, and the parser for them.

Only the fields that we use are read, without a check of their values: mapping.py does that. So an invalid
value in a field, a run or a course affects at most its own record.
"""

import json
import math
from typing import Annotated, TypeVar

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
_Model = TypeVar("_Model", bound=BaseModel)


def _or(default: object) -> WrapValidator:
    def read(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            return default

    return WrapValidator(read)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()  # a lone surrogate cannot be printed or stored


# The unions below accept any value, so that an invalid one does not make its course or its page fail.
_JUNK_STAYS = Field(union_mode="left_to_right")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class EdxSeat(_Record):
    """A way to take a course run: the track, the price, and the last date to buy it."""

    type: object = None
    price: object = None
    currency: object = None
    upgrade_deadline: object = None
    upgrade_deadline_override: object = None


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
    """A catalog; `courses_count` includes archived courses, so that it differs from a page's `count`."""

    id: Annotated[int, Field(strict=True, ge=1, le=CATALOG_ID_MAX)]
    name: Annotated[str, AfterValidator(_printable), _or("")] = ""
    courses_count: Annotated[int | None, _or(None)] = None


class CatalogsPage(_Record):
    """A page of the list of our catalogs."""

    count: object = None
    next: object = None
    results: list[Annotated[EdxCatalog | object, _JUNK_STAYS]]


class TokenAnswer(_Record):
    """The answer of the token endpoint."""

    access_token: Annotated[str, Field(pattern=r"^[!-~]+$", repr=False)]  # it is sent in a header
    expires_in: object = None

    @property
    def lifetime_s(self) -> float:
        """The lifetime of the token in seconds, at most a day; 60 when edX sends no usable value."""
        known = type(self.expires_in) in {int, float} and 0 < self.expires_in < math.inf  # type: ignore[operator]
        return float(min(self.expires_in, _DAY_S)) if known else 60.0  # type: ignore[call-overload]


_READ_FIELDS = {
    name
    for model in (EdxSeat, EdxCourseRun, EdxCourse, CoursesPage, EdxCatalog, CatalogsPage, TokenAnswer)
    for name in model.model_fields
}


class NotJson(Exception):
    """The body is incomplete or invalid JSON."""


def parse(model: type[_Model], body: bytes, what: str) -> _Model:
    """Parse an answer from its bytes.

    pydantic's parser is fast and builds only what the models name, but it refuses the whole body for one
    number of more than 4,300 digits, one lone surrogate or one invalid UTF-8 byte anywhere in it. Then a
    slower parser is used, which reads such a number as infinity and keeps such a text for mapping to reject.

    Args:
        model: the expected type.
        body: the decoded bytes.
        what: the name of the request, for the error message.

    Raises:
        NotJson: the body is incomplete or invalid JSON.
        EdxProtocolError: the JSON does not have the expected structure.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors()[0]
    if problem["type"] == "json_invalid":
        value = _lenient_json(body)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            problem = error.errors()[0]
    text = ": ".join([*map(str, problem["loc"]), problem["msg"]])
    raise EdxProtocolError(f"edX's answer to {what} does not match its API: {text}")


def _lenient_json(body: bytes) -> object:
    try:
        return json.loads(
            body.decode("utf-8-sig", "surrogateescape"), parse_int=_number, object_pairs_hook=_fields_read
        )
    except (ValueError, RecursionError):
        pass
    raise NotJson


def _number(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return float(digits)  # infinite


def _fields_read(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in pairs if name in _READ_FIELDS}
