"""Generates the OpenAPI document of the contract: `python -m shared.api.openapi > openapi.json`.

API Management imports the file; a test checks that it is up to date.
"""

import json
import sys
from typing import Any

from shared.api.contract import CHANGES_LIMIT_DEFAULT, CHANGES_LIMIT_MAX
from shared.api.openapi_schemas import ref, schemas
from shared.domain.catalog_id import CATALOG_ID_MAX
from shared.domain.course_run import RUN_KEY_MAX

_JSON = "application/json"
_TAG = "Course runs"
_HEADER_TEXT = {"type": "string", "pattern": "^[ -~]*$"}


def document() -> dict[str, Any]:
    """Return the document, in OpenAPI 3.0, which every API Management tier imports.

    Its structure suits client generators: arrays are named schemas; no property is an `enum` (the published
    contract has none, and a new value must not break the parsing of a whole list); and of the two forms of an
    answer the array comes first, because some generators use only the first.
    """
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "edX Contents API",
            "version": "1.1.0",
            "description": "The internal catalogue of edX course runs. Only LumiNUS admin can call this API.",
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
        },
        "servers": [
            {
                "url": "https://gateway.example.com",
                "description": "Replace it with the gateway of your API Management service.",
            }
        ],
        "tags": [{"name": _TAG, "description": "The catalogue, and what changed in it."}],
        "paths": {
            "/ExternalLinks/edXCourseruns": {"get": _course_runs()},
            "/ExternalLinks/edXCourseruns/changes": {"get": _changes()},
        },
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "subscription": {"type": "apiKey", "in": "header", "name": "Ocp-Apim-Subscription-Key"},
                "administrator": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
        "security": [{"subscription": [], "administrator": []}],
    }


def _course_runs() -> dict[str, Any]:
    return {
        "operationId": "syncCourseRuns",
        "tags": [_TAG],
        "summary": "Sync course runs",
        "description": "Returns the stored catalogue, after a sync if it is older than Cache-Control allows. "
        "If the sync fails, stale data is returned up to the allowed age; see Age and Cache-Status.",
        "parameters": [
            _CATALOG_ID,
            _courserun_key("Only this course run, as an object instead of an array."),
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
                "content": {_JSON: {"schema": {"oneOf": [ref("CourseRuns"), ref("CourseRun")]}}},
            },
            "304": {"description": "If-None-Match matches the ETag.", "headers": _answer_headers()},
            **_failures("the catalog is not found, or the course run is not found"),
        },
    }


def _changes() -> dict[str, Any]:
    return {
        "operationId": "listCourseRunChanges",
        "tags": [_TAG],
        "summary": "List what changed",
        "description": "The changes in the answer over the last 90 days. Never calls edX.",
        "parameters": [
            _parameter(
                "query",
                "since",
                {"type": "string", "example": "2026-11-24T12:00:00Z"},
                "Only changes since this time (RFC 3339) or this date (such as 2026-11-24, UTC).",
            ),
            _CATALOG_ID,
            _courserun_key("Only changes of this course run."),
            _parameter(
                "query",
                "limit",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": CHANGES_LIMIT_MAX,
                    "default": CHANGES_LIMIT_DEFAULT,
                },
                "The maximum number of changes in the answer.",
            ),
            _parameter(
                "query",
                "cursor",
                {"type": "string"},
                "Where the page begins; taken from the Link header of an earlier answer.",
            ),
        ],
        "responses": {
            "200": {
                "description": "Changes, newest first; an empty array when there are none.",
                "headers": {
                    "Cache-Control": _header("string", "private, no-cache"),
                    "Link": _header(
                        "string",
                        'The next page of changes (RFC 8288, rel="next"), if there is one.',
                    ),
                },
                "content": {_JSON: {"schema": ref("Changes")}},
            },
            **_failures("the catalog is not found"),
        },
    }


def _failures(not_found: str) -> dict[str, Any]:
    return {
        "400": _failure("A malformed parameter"),
        "401": _failure(
            "No or wrong subscription key; no, expired or forged token",
            {"WWW-Authenticate": _header("string", "Bearer, if the token is missing or wrong.")},
        ),
        "403": _failure("Login user not authorized to perform this action"),
        "404": _failure(not_found, {"Retry-After": _RETRY_AFTER}),
        "500": _failure(
            "Anything else; the message says what failed and what is still intact",
            {"Retry-After": _RETRY_AFTER},
        ),
    }


def _parameter(place: str, name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"in": place, "name": name, "required": False, "schema": schema, "description": description}


def _header(kind: str, description: str) -> dict[str, Any]:
    return {"schema": {"type": kind}, "description": description}


_CATALOG_ID = _parameter(
    "query",
    "catalogId",
    {"type": "integer", "minimum": 1, "maximum": CATALOG_ID_MAX},
    "Only this edX catalog.",
)
_RETRY_AFTER = _header("integer", "Seconds until a retry makes sense; absent if unknown.")


def _courserun_key(description: str) -> dict[str, Any]:
    schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": RUN_KEY_MAX,
        "example": "course-v1:NUSx+A1x+1T2026",
    }
    return _parameter("query", "courserunKey", schema, description)


def _answer_headers() -> dict[str, Any]:
    return {
        "ETag": _header("string", "Weak; changes if and only if the JSON does."),
        "Age": _header("integer", "Seconds since the end of the oldest sync in the answer."),
        "Cache-Control": _header("string", "private, no-cache"),
        "Cache-Status": _header(
            "string",
            "RFC 9211: luminus-edx-connector with hit or fwd, and ttl. If ttl is below 0, the answer is "
            "stale, and detail says why.",
        ),
        "Retry-After": _RETRY_AFTER,
        "Vary": _header("string", "Accept-Encoding"),
    }


def _failure(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {_JSON: {"schema": ref("Message")}},
    }
    return answer | ({"headers": headers} if headers else {})


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
