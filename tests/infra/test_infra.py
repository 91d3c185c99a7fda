"""What the Bicep, the gateway's policy, the docs and the code say of the same things agrees."""

import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pycep import BicepParser

from shared.domain.sync_report import SyncReport
from shared.settings import (
    SETTING_NAMES,
    AccessSettings,
    EdxSettings,
    MappingSettings,
    StorageSettings,
    SyncSettings,
)

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"

NOT_DEPLOYED = {
    "TABLES_CONNECTION_STRING",  # the app's managed identity reaches the tables: there is no key to leak
}
PLATFORM = {  # the host's, the worker's and the SDKs', not read by our code
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AZURE_CLIENT_ID",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
LOCAL_PLATFORM = {"AzureWebJobsStorage", "FUNCTIONS_WORKER_RUNTIME", "PYTHON_THREADPOOL_THREAD_COUNT"}


def bicep(name: str) -> Any:
    return BicepParser().parse(file_path=INFRA / f"{name}.bicep")


def app_settings() -> dict[str, Any]:
    site = bicep("app")["resources"]["functionApp"]["config"]["properties"]["siteConfig"]
    return {setting["name"]: setting["value"] for setting in site["appSettings"]}


def defaults_in_code() -> dict[str, str]:
    groups = (AccessSettings, EdxSettings, MappingSettings, StorageSettings, SyncSettings)
    fields = [field for group in groups for field in group.model_fields.values()]
    return {str(field.alias): str(field.default) for field in fields if field.default}


def parameter_file() -> dict[str, tuple[str, str | None]]:
    """Return, by Bicep parameter, the azd variable that sets it and its default."""
    parameters = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    found = {
        name: re.fullmatch(r"\$\{(\w+)(?:=(.+))?}", entry["value"]) for name, entry in parameters.items()
    }
    return {name: (match[1], match[2]) for name, match in found.items() if match}


def policy() -> ET.Element:
    return ET.parse(INFRA / "api-policy.xml").getroot()  # noqa: S314 - our own file


def sync_log_line() -> dict[str, Any]:
    report = SyncReport(
        sync_id="", catalog_id=1, trigger="timer", invocation_id="", outcome="ok",
        started=datetime(2026, 1, 1, tzinfo=UTC), ended=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    fields: dict[str, Any] = json.loads(report.log_line())
    return fields


def test_bicep_sets_every_setting_when_the_app_is_deployed() -> None:
    assert set(app_settings()) == (set(SETTING_NAMES) - NOT_DEPLOYED) | PLATFORM


def test_local_example_has_every_setting_when_copied() -> None:
    values = json.loads((ROOT / "local.settings.example.json").read_text())["Values"]
    assert set(values) == set(SETTING_NAMES) | LOCAL_PLATFORM


def test_readme_tables_name_every_setting_when_read() -> None:
    first_cells = re.findall(r"^\|([^|]+)\|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", " ".join(first_cells)))
    assert named == set(SETTING_NAMES)


def test_bicep_spells_out_the_defaults_of_the_code_when_it_sets_a_constant() -> None:
    names = (
        "EDX_API_URL",
        "EDX_TOKEN_URL",
        "EDX_PAGE_SIZE",
        "EDX_CONCURRENCY",
        "EDX_ENROLLMENT_URL",
        "TABLES_PREFIX",
    )
    in_bicep, in_code = app_settings(), defaults_in_code()
    assert [in_bicep[name] for name in names] == [in_code[name] for name in names]


def test_parameters_have_one_default_when_several_places_state_it() -> None:
    parameters = bicep("main")["parameters"]
    in_code = defaults_in_code()
    assert set(parameter_file()) == set(parameters)
    for name, (variable, default) in parameter_file().items():
        in_bicep = parameters[name]["default"]
        assert str(in_bicep if in_bicep not in (None, "") else None).lower() == str(default).lower(), name
        assert default in (None, in_code.get(variable, default)), name


def test_every_module_parameter_is_passed_when_main_uses_a_module() -> None:
    modules = bicep("main")["modules"]
    assert set(modules) == {"monitoring", "app", "gateway"}
    for name, module in modules.items():
        assert set(module["config"]["params"]) == set(bicep(name)["parameters"]), name


def test_deployed_python_is_the_one_we_develop_on_when_versions_are_compared() -> None:
    runtime = bicep("app")["resources"]["functionApp"]["config"]["properties"]["functionAppConfig"]["runtime"]
    assert runtime == {"name": "python", "version": (ROOT / ".python-version").read_text().strip()}


def test_policy_uses_the_named_values_that_are_deployed_when_it_is_read() -> None:
    text = (INFRA / "api-policy.xml").read_text()
    deployed = {item["name"] for item in bicep("gateway")["variables"]["namedValues"]["value"]}
    assert set(re.findall(r"\{\{(.*?)}}", text)) == deployed | {"function-key"}


def test_policy_checks_in_order_when_a_request_comes_in() -> None:
    steps = [step.tag for step in policy().iterfind("inbound/*")]
    assert steps == ["base", "cors", "validate-jwt", "choose", "set-header"]
    assert [step.tag for step in policy()] == ["inbound", "backend", "outbound", "on-error"]


def test_policy_answers_403_as_documented_when_the_role_is_missing() -> None:
    answer = policy().find("inbound/choose/when/return-response")
    assert answer is not None
    assert answer.find("set-status[@code='403']") is not None
    assert json.loads(answer.findtext("set-body", "")) == "Login user not authorized to perform this action"


def test_policy_adds_the_function_key_and_keeps_the_callers_proofs_when_it_forwards() -> None:
    headers = {header.get("name") for header in policy().iterfind("inbound/set-header")}
    assert headers == {"x-functions-key"}
    assert policy().findtext("inbound/set-header/value") == "{{function-key}}"


def test_policy_has_one_origin_to_replace_when_bicep_fills_in_the_list() -> None:
    origins = [origin.text for origin in policy().iter("origin")]
    assert origins == ["https://cors-origins.invalid"]
    assert "'https://cors-origins.invalid', origins)" in (INFRA / "gateway.bicep").read_text()


def test_gateway_serves_the_documented_path_once_when_api_and_operation_paths_are_joined() -> None:
    api = bicep("gateway")["resources"]["api"]["config"]["properties"]
    operations = json.loads((ROOT / "openapi.json").read_text())["paths"]
    assert api["path"] == ""
    assert "/ExternalLinks/edXCourseruns" in operations
    assert json.loads((ROOT / "host.json").read_text())["extensions"]["http"]["routePrefix"] == ""


@pytest.mark.parametrize("path", ["infra/monitoring.bicep", "docs/operations.md"])
def test_queries_read_fields_that_the_log_line_has_when_they_parse_it(path: str) -> None:
    fields = set(re.findall(r"\bsync\.(\w+)", (ROOT / path).read_text()))
    assert {"event", "outcome"} <= fields <= set(sync_log_line())


@pytest.mark.parametrize("path", ["docs/operations.md", "docs/api-management.md"])
def test_docs_name_settings_and_variables_that_exist_when_they_name_any(path: str) -> None:
    outputs = set(bicep("main")["outputs"])
    variables = {variable for variable, _ in parameter_file().values()}
    known = set(SETTING_NAMES) | PLATFORM | LOCAL_PLATFORM | outputs | variables | {"AZURE_SUBSCRIPTION_ID"}
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", (ROOT / path).read_text()))
    assert named
    assert named <= known
