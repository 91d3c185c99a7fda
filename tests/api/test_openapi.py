"""openapi.json: it is what the models say, and what the functions do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.azurite import Azurite
from local.host.process import HostProcess
from local.sandbox import Sandbox
from shared.api.openapi import document
from tests.conftest import administrator, settings_of

_FILE = Path(__file__).parents[2] / "openapi.json"
_CONTRACT = Path(__file__).with_name("course_run.schema.json")
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_path(_FILE)


def test_openapi_file_is_current() -> None:
    assert json.loads(_FILE.read_text()) == document(), "run: python -m shared.api.openapi > openapi.json"


def test_document_has_the_documented_fields() -> None:
    documented = json.loads(_CONTRACT.read_text())["properties"]
    described = document()["components"]["schemas"]["CourseRun"]["properties"]

    assert {name: (field["type"], field.get("format")) for name, field in described.items()} == {
        name: (field["type"], field.get("format")) for name, field in documented.items()
    }


@pytest.fixture(scope="module")
def served(azurite: Azurite) -> Iterator[tuple[str, dict[str, str]]]:
    with (
        Sandbox() as sandbox,
        HostProcess(settings_of(sandbox, azurite.connection_string, "OpenApi")) as host,
        administrator(sandbox) as admin,
    ):
        admin.get(f"{host.url}/ExternalLinks/edXCourseruns", timeout=60).raise_for_status()
        proofs = ("Ocp-Apim-Subscription-Key", "Authorization")
        yield host.url, {name: str(admin.headers[name]) for name in proofs}


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_what_the_document_promises_when_requests_are_generated(
    case: schemathesis.Case[Any], served: tuple[str, dict[str, str]]
) -> None:
    url, headers = served
    sent = [str(value) for value in (case.headers or {}).values()]
    assume(all(value.isascii() and value.isprintable() for value in sent))  # else the host refuses, not we

    response = case.call(base_url=url, headers=headers)

    case.validate_response(response, checks=_CHECKS)
