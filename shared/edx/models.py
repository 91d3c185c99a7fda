"""edX's records as pydantic models, and how JSON becomes them.

Only the fields that we use are read, as they were sent; whether a value makes sense is mapping's to judge. So
whatever stands in a field, in a run's place or in a course's, it spoils at most its own record.
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
    return text.encode(errors="replace").decode()  # a lone surrogate can be neither printed nor stored


# In the unions below junk stays what it is, one value, and fails neither its page nor its course.
_JUNK_STAYS = Field(union_mode="left_to_right")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class EdxSeat(_Record):
    """A way to take a course run: its track, its price, and until when it can be bought."""

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


_READ_FIELDS = {
    name
    for model in (EdxSeat, EdxCourseRun, EdxCourse, CoursesPage, EdxCatalog, CatalogsPage, TokenAnswer)
    for name in model.model_fields
}


class NotJson(Exception):
    """A body that is no whole JSON: another page than edX's, or a part of one."""


def parse(model: type[_Model], body: bytes, what: str) -> _Model:
    """Read an answer straight from its bytes.

    pydantic's reader is fast and builds only what the models name, but it refuses the whole body for one
    number of more than 4,300 digits, one lone surrogate or one byte that is no UTF-8, wherever it stands.
    Then a slower reader takes it, in which such a number is infinite and such a text is no Unicode.

    Args:
        model: what the answer should be.
        body: the decoded bytes.
        what: names the answer in the error.

    Raises:
        NotJson: the body is no whole JSON.
        EdxProtocolError: it is JSON of another shape.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        value = _lenient_json(body)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    text = ": ".join([*map(str, problem["loc"]), problem["msg"]])
    raise EdxProtocolError(f"edX's answer to {what} is not what its API promises: {text}")


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
