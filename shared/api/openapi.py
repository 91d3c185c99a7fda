"""The OpenAPI document of the contract: `python -m shared.api.openapi > openapi.json` generates it.

API Management imports the file; a test compares it with what is generated here.
"""

import json
import sys
from typing import Any

from shared.domain.course_run import RUN_KEY_MAX, CourseRun

_JSON = "application/json"
_HEADER_TEXT = {"type": "string", "pattern": "^[ -~]*$"}


def document() -> dict[str, Any]:
    """Return the document, in OpenAPI 3.0, which every API Management tier imports."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "edX Contents API",
            "version": "1.0.0",
            "description": "The internal catalogue of edX course runs. Only LumiNUS admin can call this API.",
        },
        "paths": {"/ExternalLinks/edXCourseruns": {"get": _operation()}},
        "components": {
            "schemas": {"CourseRun": _course_run(), "Message": {"type": "string"}},
            "securitySchemes": {
                "subscription": {"type": "apiKey", "in": "header", "name": "Ocp-Apim-Subscription-Key"},
                "administrator": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
        "security": [{"subscription": [], "administrator": []}],
    }


def _operation() -> dict[str, Any]:
    return {
        "operationId": "syncCourseRuns",
        "summary": "Sync course runs",
        "description": "Brings the stored catalogue up to date as Cache-Control wishes, and returns it.",
        "parameters": [
            _parameter(
                "query",
                "catalogId",
                {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
                "Only this edX catalog.",
            ),
            _parameter(
                "query",
                "courserunKey",
                {"type": "string", "minLength": 1, "maxLength": RUN_KEY_MAX},
                "That one course run, as a bare object.",
            ),
            _parameter(
                "header",
                "Cache-Control",
                _HEADER_TEXT,
                "Freshness by RFC 9111 and RFC 5861: max-age, no-cache, only-if-cached, stale-if-error.",
            ),
            _parameter("header", "If-None-Match", _HEADER_TEXT, "The ETag of an earlier answer."),
        ],
        "responses": {
            "200": {
                "description": "Course runs sorted by courserunKey, or the one that was asked for.",
                "headers": _answer_headers(),
                "content": {
                    _JSON: {
                        "schema": {
                            "oneOf": [
                                {"type": "array", "items": {"$ref": "#/components/schemas/CourseRun"}},
                                {"$ref": "#/components/schemas/CourseRun"},
                            ]
                        }
                    }
                },
            },
            "304": {"description": "If-None-Match matches the ETag.", "headers": _answer_headers()},
            "400": _failure("A malformed parameter"),
            "401": _failure(
                "No or wrong subscription key; no, expired or forged token",
                {"WWW-Authenticate": _header("string", "Bearer, when it is the token.")},
            ),
            "403": _failure("Login user not authorized to perform this action"),
            "404": _failure("the catalog is not found, or the course run is not found"),
            "500": _failure(
                "Anything else; the message says what failed and what is still intact",
                {"Retry-After": _header("integer", "Seconds; when edX's rate limit is the cause.")},
            ),
        },
    }


def _parameter(place: str, name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"in": place, "name": name, "required": False, "schema": schema, "description": description}


def _header(kind: str, description: str) -> dict[str, Any]:
    return {"schema": {"type": kind}, "description": description}


def _answer_headers() -> dict[str, Any]:
    return {
        "ETag": _header("string", "Weak; changes if and only if the JSON does."),
        "Age": _header("integer", "Seconds since the end of the oldest sync that the body shows."),
        "Cache-Control": _header("string", "private, no-cache"),
        "Vary": _header("string", "Accept-Encoding"),
    }


def _failure(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Message"}}},
    }
    return answer | ({"headers": headers} if headers else {})


def _course_run() -> dict[str, Any]:
    """Return the schema of a course run: an unknown value is left out, never null."""
    schema = CourseRun.model_json_schema(by_alias=True)
    properties = {}
    for name, described in schema["properties"].items():
        known = [kind for kind in described.pop("anyOf", []) if kind != {"type": "null"}]
        described.pop("default", None)
        described.pop("title", None)
        properties[name] = {**(known[0] if known else {}), **described}
    return {
        "type": "object",
        "description": "A course run; a field whose value is unknown is left out.",
        "properties": properties,
        "required": [*schema["required"], "availability"],
        "additionalProperties": False,
    }


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
