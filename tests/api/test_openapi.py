"""openapi.json matches the models and the answers of the functions."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
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
from shared.domain.changes import Entry
from tests.conftest import administrator, settings_of
from tests.contract.schema import CONTRACT

_FILE = Path(__file__).parents[2] / "openapi.json"
_CONTRACT = Path(__file__).parents[1] / "contract" / "course_run.schema.json"
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

pytest_plugins = "schemathesis.pytest.plugin"  # gives the tests of `schema` their `case`
schema = schemathesis.openapi.from_path(_FILE)


def test_openapi_file_is_current() -> None:
    assert json.loads(_FILE.read_text()) == document(), "run: python -m shared.api.openapi > openapi.json"


def test_openapi_file_is_what_the_command_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "shared.api.openapi"], cwd=_FILE.parent, stdout=PIPE, text=True, check=True
    )
    assert printed.stdout == _FILE.read_text()


def test_document_has_the_documented_fields() -> None:
    documented = json.loads(_CONTRACT.read_text())["properties"]
    described = document()["components"]["schemas"]["CourseRun"]["properties"]

    assert {name: (field["type"], field.get("format")) for name, field in described.items()} == {
        name: (field["type"], field.get("format")) for name, field in documented.items()
    }


# What client generators read


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Return every object of a document."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(each)


def test_no_schema_has_an_enum_because_strict_readers_refuse_new_values() -> None:
    assert [node for node in nodes(document()) if "enum" in node or "const" in node] == []


def test_arrays_are_named_schemas_and_the_first_form_of_an_answer() -> None:
    described = document()
    schemas, paths = described["components"]["schemas"], described["paths"]
    assert schemas["CourseRuns"]["items"] == {"$ref": "#/components/schemas/CourseRun"}
    assert schemas["Changes"]["items"] == {"$ref": "#/components/schemas/Change"}
    course_runs = paths["/ExternalLinks/edXCourseruns"]["get"]["responses"]["200"]
    assert course_runs["content"]["application/json"]["schema"] == {
        "oneOf": [{"$ref": "#/components/schemas/CourseRuns"}, {"$ref": "#/components/schemas/CourseRun"}]
    }


def test_operations_have_names_and_tags_and_the_document_has_a_server_and_a_licence() -> None:
    described = document()
    operations = [path["get"] for path in described["paths"].values()]
    assert [each["operationId"] for each in operations] == ["syncCourseRuns", "listCourseRunChanges"]
    assert {tag for each in operations for tag in each["tags"]} == {tag["name"] for tag in described["tags"]}
    assert described["info"]["license"]["name"] == "MIT"
    assert described["servers"][0]["url"].startswith("https://")


def test_examples_follow_their_schemas() -> None:
    schemas = document()["components"]["schemas"]
    for run in [schemas["CourseRun"]["example"], *schemas["CourseRuns"]["example"]]:
        CONTRACT.validate(run)
    for change in schemas["Changes"]["example"]:
        assert change.keys() <= schemas["Change"]["properties"].keys()
        assert set(schemas["Change"]["required"]) <= change.keys()


@pytest.mark.parametrize(
    "entry",
    [
        Entry(kind="first-sync", runs=225),
        Entry(kind="removed", courserun_key="a", id="b", reason="missing"),
        Entry(kind="changed", courserun_key="a", id="b", fields={"price": {"after": "1.00"}}, note="decided"),
    ],
    ids=lambda entry: entry.kind,
)
def test_every_property_of_an_entry_is_described(entry: Entry) -> None:
    described = document()["components"]["schemas"]["Change"]
    shown = entry.as_json("2026-11-24T12:07:03Z", 1)
    assert shown.keys() <= described["properties"].keys()
    assert set(described["required"]) <= shown.keys()


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
def test_answers_to_generated_requests_match_the_document(
    case: schemathesis.Case[Any], served: tuple[str, dict[str, str]]
) -> None:
    url, headers = served
    sent = [str(value) for value in (case.headers or {}).values()]
    assume(
        all(value.isascii() and value.isprintable() for value in sent)
    )  # otherwise the host refuses the request before our function

    response = case.call(base_url=url, headers=headers)

    case.validate_response(response, checks=_CHECKS)
