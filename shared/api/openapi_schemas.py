"""The schemas of the OpenAPI document, with an example each: course runs, changes and messages."""

from typing import Any

from shared.domain.course_run import CourseRun

_EXAMPLE: dict[str, Any] = {
    "id": "83eb7785-71e3-553f-8561-1b57d929abb0",
    "courserunKey": "course-v1:NUSx+A1x+1T2026",
    "uuid": "11111111-1111-4111-8111-111111111111",
    "startDate": "2026-01-12T15:00:00Z",
    "endDate": "2026-12-31T00:00:00Z",
    "enrollmentStart": "2025-10-01T00:00:00Z",
    "enrollmentEnd": "2026-11-30T00:00:00Z",
    "minEffort": 6,
    "maxEffort": 9,
    "pacingType": "self-paced",
    "weeksToComplete": 8,
    "availability": "Current",
    "marketingUrl": "https://www.edx.org/course/a1x",
    "enrollmentUrl": "https://courses.edx.org/course_modes/choose/course-v1%3ANUSx%2BA1x%2B1T2026/",
    "price": "199.00",
    "type": "verified",
    "modularCredit": 2,
}
_OF_THE_RUN = {name: _EXAMPLE[name] for name in ("courserunKey", "id")}
_EXAMPLE_CHANGES: list[dict[str, Any]] = [
    {
        "at": "2026-11-24T12:07:03Z",
        "catalogId": 1,
        **_OF_THE_RUN,
        "kind": "changed",
        "fields": {"price": {"before": "150.00", "after": "99.00"}, "modularCredit": {"after": 2}},
    },
    {
        "at": "2026-11-23T12:07:02Z",
        "catalogId": 1,
        **_OF_THE_RUN,
        "kind": "removed",
        "reason": "unpublished",
    },
    {"at": "2026-11-01T12:07:05Z", "catalogId": 1, "kind": "first-sync", "runs": 225},
]


def schemas() -> dict[str, Any]:
    """Return every schema by name; client generators use the name for a class."""
    return {
        "CourseRuns": _array("CourseRun", "Course runs, sorted by courserunKey.", [_EXAMPLE]),
        "CourseRun": _course_run(),
        "Changes": _array("Change", "Changes, newest first.", _EXAMPLE_CHANGES),
        "Change": _change(),
        "FieldChange": _field_change(),
        "Message": {
            "type": "string",
            "description": "What failed, in a sentence.",
            "example": "catalogId must be a whole number above 0",
        },
    }


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _array(item: str, description: str, example: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "array", "description": description, "items": ref(item), "example": example}


def _course_run() -> dict[str, Any]:
    """Return the schema of a course run: an unknown value is left out, never null."""
    schema = CourseRun.model_json_schema(by_alias=True)
    properties = {}
    for name, described in schema["properties"].items():
        known = [kind for kind in described.pop("anyOf", []) if kind != {"type": "null"}]
        described.pop("default", None)
        described.pop("title", None)
        properties[name] = {**(known[0] if known else {}), **described}
        properties[name].pop("enum", None)
        properties[name].pop("const", None)
    return {
        "type": "object",
        "description": "A course run; a field whose value is unknown is left out.",
        "properties": properties,
        "required": [*schema["required"], "availability"],
        "additionalProperties": False,
        "example": _EXAMPLE,
    }


def _change() -> dict[str, Any]:
    """Return the schema of an entry of the history, as `Entry.as_json` writes it."""
    return {
        "type": "object",
        "description": "A change of one course run in one catalog, or the first sync of a catalog.",
        "properties": {
            "at": {"type": "string", "format": "date-time", "description": "The end of the sync."},
            "catalogId": {"type": "integer", "format": "int32", "description": "The edX catalog."},
            "courserunKey": {"type": "string", "description": "Absent from a first-sync."},
            "id": {"type": "string", "format": "uuid", "description": "Absent from a first-sync."},
            "kind": {
                "type": "string",
                "description": "One of added, changed, restored, removed, first-sync",
            },
            "reason": {
                "type": "string",
                "description": "Why it was removed: missing (edX no longer shows it), unpublished, or ended "
                "(edX moved its end into the past)",
            },
            "fields": {
                "type": "object",
                "description": "What changed, by field of CourseRun; with kind changed only.",
                "additionalProperties": ref("FieldChange"),
            },
            "note": {"type": "string", "description": "The note of the approval that set modularCredit."},
            "runs": {
                "type": "integer",
                "format": "int32",
                "description": "The number of course runs that a first-sync found.",
            },
        },
        "required": ["at", "catalogId", "kind"],
        "additionalProperties": False,
        "example": _EXAMPLE_CHANGES[0],
    }


def _field_change() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "The value before and after, of the field's type; absent if unknown.",
        "properties": {
            "before": {"description": "The value before the change."},
            "after": {"description": "The value after the change."},
        },
        "additionalProperties": False,
        "example": {"before": "150.00", "after": "99.00"},
    }
