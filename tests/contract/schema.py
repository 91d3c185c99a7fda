"""The documented schema of a course run as a validator that checks formats too, for every suite to use."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker

_SCHEMA = json.loads((Path(__file__).parent / "course_run.schema.json").read_text(encoding="utf-8"))

_FORMATS = FormatChecker(formats=("date-time", "uuid"))


def _is_int32(value: object) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


_FORMATS.checks("int32")(_is_int32)


CONTRACT = Draft202012Validator(_SCHEMA, format_checker=_FORMATS)
"""`CONTRACT.validate(course_run)` raises when an object does not follow the contract."""
