"""Bicep, docs and code agree with each other."""

import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pycep import BicepParser

from shared.settings import SETTING_NAMES
from tests.infra.setting_fields import SETTING_FIELDS

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"

NOT_DEPLOYED = {
    "TABLES_CONNECTION_STRING",  # the app uses the tables with its managed identity, without a key
}
PLATFORM = {  # settings of the host, the worker and the SDKs, which our code does not read
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AZURE_CLIENT_ID",
    "AzureWebJobsDisableHomepage",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
LOCAL_PLATFORM = {
    "AzureWebJobsDisableHomepage",
    "AzureWebJobsStorage",
    "FUNCTIONS_WORKER_RUNTIME",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
OF_AZD = {"AZURE_ENV_NAME", "AZURE_LOCATION", "AZURE_PRINCIPAL_ID", "AZURE_SUBSCRIPTION_ID"}
DOCS = ["operations.md", "deploying.md", "entra.md", "backup.md", "api-management.md"]

# The fields of the other two lines that the app logs as JSON.
TIMER_LINE = {"event", "trigger", "catalogs"}
OF_A_CATALOG = {"catalog", "succeeded", "age_s", "failures", "failed", "error", "left_list"}
JWKS_LINE = {"event", "error"}


def bicep(name: str) -> Any:
    return BicepParser().parse(file_path=INFRA / f"{name}.bicep")


def app_settings() -> dict[str, Any]:
    site = bicep("app")["resources"]["functionApp"]["config"]["properties"]["siteConfig"]
    return {setting["name"]: setting["value"] for setting in site["appSettings"]}


def defaults_in_code() -> dict[str, str]:
    return {str(field.alias): str(field.default) for field in SETTING_FIELDS if field.default}


def parameter_file() -> dict[str, tuple[str, str | None]]:
    """Return, by Bicep parameter, the azd variable that sets it and its default."""
    parameters = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    found = {
        name: re.fullmatch(r"\$\{(\w+)(?:=(.+))?}", entry["value"]) for name, entry in parameters.items()
    }
    return {name: (match[1], match[2]) for name, match in found.items() if match}


def sync_log_fields() -> set[str]:
    """Return the fields of a sync's log line, from sync_report.py in any folder of shared/."""
    path = next((ROOT / "shared").glob("**/sync_report.py")).relative_to(ROOT)
    report = import_module(".".join(path.with_suffix("").parts)).SyncReport
    return ({*report.__dataclass_fields__} - {"catalog_id", "rejections"}) | {"event", "catalog", "seconds"}


def queries() -> Iterator[tuple[str, str]]:
    for path in sorted((INFRA / "queries").glob("*.kql")):
        yield path.name, path.read_text()
    for path in sorted((ROOT / "docs").glob("**/*.md")):
        for query in re.findall(r"^```kusto\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            yield path.name, query


def test_bicep_sets_every_setting_of_a_deployed_app() -> None:
    assert set(app_settings()) == (set(SETTING_NAMES) - NOT_DEPLOYED) | PLATFORM


def test_local_example_has_every_setting() -> None:
    values = json.loads((ROOT / "local.settings.example.json").read_text())["Values"]
    assert set(values) == set(SETTING_NAMES) | LOCAL_PLATFORM


def test_readme_table_names_every_setting() -> None:
    first_cells = re.findall(r"^\|([^|]+)\|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", " ".join(first_cells)))
    assert named == set(SETTING_NAMES)


def test_constants_in_bicep_equal_the_defaults_of_the_code() -> None:
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


def test_every_variable_comes_back_as_an_output_when_another_machine_refreshes() -> None:
    outputs = bicep("main")["outputs"]
    variables = {variable: name for name, (variable, _) in parameter_file().items()}
    assert set(variables) - set(outputs) == {"AZURE_ENV_NAME", "AZURE_LOCATION", "AZURE_PRINCIPAL_ID"}
    text = (INFRA / "main.bicep").read_text()
    for variable, parameter in variables.items():
        if variable not in OF_AZD | {"EDX_CLIENT_SECRET"}:
            given = re.search(rf"^output {variable} string = (?:string\()?(\w+)\)?$", text, re.MULTILINE)
            assert given, variable
            assert given[1] == parameter


def test_secret_comes_back_as_a_reference_to_the_vault_when_another_machine_refreshes() -> None:
    text = (INFRA / "main.bicep").read_text()
    reference = "'akvs://${subscription().subscriptionId}/${app.outputs.keyVaultName}/edx-client-secret'"
    assert f"output EDX_CLIENT_SECRET string = {reference}\n" in text
    assert (
        bicep("app")["resources"]["keyVault__edxClientSecretInVault"]["config"]["name"] == "edx-client-secret"
    )


def test_every_module_parameter_is_passed_when_main_uses_a_module() -> None:
    modules = bicep("main")["modules"]
    assert set(modules) == {path.stem for path in INFRA.glob("*.bicep")} - {"main"}
    for name, module in modules.items():
        assert set(module["config"]["params"]) == set(bicep(name)["parameters"]), name


def test_deployed_python_is_the_version_of_development() -> None:
    runtime = bicep("app")["resources"]["functionApp"]["config"]["properties"]["functionAppConfig"]["runtime"]
    assert runtime == {"name": "python", "version": (ROOT / ".python-version").read_text().strip()}


def test_the_function_key_in_the_vault_is_kept_when_the_app_is_deployed_again() -> None:
    resources = bicep("gateway")["resources"]
    assert [decorator["type"] for decorator in resources["functionKeyInVault"]["decorators"]] == [
        "onlyIfNotExists"
    ]
    assert "value" not in resources["functionKey"]["config"]["properties"]
    assert "keyVault" in resources["functionKey"]["config"]["properties"]


def test_azd_is_new_enough_for_the_decorator_that_the_gateway_uses() -> None:
    text = (ROOT / "azure.yaml").read_text()
    required = re.search(r"^requiredVersions:\n(?:  #.*\n)*  azd: '>= 1\.(\d+)\.0'$", text, re.MULTILINE)
    assert required
    assert int(required[1]) >= 20  # Bicep 0.38, says its changelog


def test_hooks_are_scripts_that_can_run_when_azd_calls_them() -> None:
    hooks = re.findall(r"^    run: (infra/\S+)$", (ROOT / "azure.yaml").read_text(), re.MULTILINE)
    assert hooks == [f"infra/hooks/{name}.sh" for name in ("preprovision", "postprovision", "postdeploy")]
    for hook in hooks:
        assert os.access(ROOT / hook, os.X_OK)


def test_gateway_serves_the_documented_paths_once_when_api_and_operation_paths_are_joined() -> None:
    api = bicep("gateway")["resources"]["api"]["config"]["properties"]
    operations = json.loads((ROOT / "openapi.json").read_text())["paths"]
    assert api["path"] == ""
    assert "/ExternalLinks/edXCourseruns" in operations
    assert json.loads((ROOT / "host.json").read_text())["extensions"]["http"]["routePrefix"] == ""


def test_host_needs_no_extension_bundle_when_there_are_only_http_and_a_timer() -> None:
    host = json.loads((ROOT / "host.json").read_text())
    assert "extensionBundle" not in host
    # A category of Python's logging does nothing here: the worker's lines are all Function.<name>.User.
    assert host["logging"]["logLevel"] == {"Function": "Information", "Microsoft.AspNetCore": "Warning"}


@pytest.mark.parametrize(("name", "query"), list(queries()))
def test_queries_read_fields_that_the_log_lines_have(name: str, query: str) -> None:
    assert set(re.findall(r"\bsync\.(\w+)", query)) <= sync_log_fields(), name
    assert set(re.findall(r"\bentry\.(\w+)", query)) <= OF_A_CATALOG, name
    assert set(re.findall(r"\bline\.(\w+)", query)) <= sync_log_fields() | TIMER_LINE | JWKS_LINE, name


@pytest.mark.parametrize(("name", "query"), list(queries()))
def test_queries_work_when_no_line_has_ever_been_logged(name: str, query: str) -> None:
    # Every table is in a fuzzy union with an empty one, so that the query works without it.
    tables = r"\b(?:App[A-Z]\w+|ApiManagementGatewayLogs|AZKVAuditLogs|StorageTableLogs)\b"
    code = re.sub(r"//.*", "", query)
    unions = re.findall(
        rf"union isfuzzy=true\n +\(datatable\([^)]*\) \[\]\),\n((?: +\(?{tables}.*\n| +\|.*\n)+)", code
    )
    assert unions, name
    assert len(re.findall(tables, code)) == len(re.findall(tables, "".join(unions))), name


def test_every_rule_queries_a_file_when_it_watches_the_logs() -> None:
    text = (INFRA / "alerts.bicep").read_text() + (INFRA / "workbook.bicep").read_text()
    loaded = set(re.findall(r"loadTextContent\('queries/([\w-]+\.kql)'\)", text))
    for_people = {"one-invocation.kql"}
    assert loaded == {path.name for path in (INFRA / "queries").glob("*.kql")} - for_people
    assert "let max_age = 4h;" in (INFRA / "queries" / "old-catalogs.kql").read_text()
    assert "'let max_age = 4h;', 'let max_age = ${alertHoursWithoutSync}h;'" in text


@pytest.mark.parametrize("path", DOCS)
def test_docs_name_settings_and_variables_that_exist_when_they_name_any(path: str) -> None:
    outputs = set(bicep("main")["outputs"])
    variables = {variable for variable, _ in parameter_file().values()}
    known = set(SETTING_NAMES) | PLATFORM | LOCAL_PLATFORM | outputs | variables | OF_AZD
    known |= {"SMOKE_TEST_TOKEN", "AZURE_TENANT_ID", "FUNCTIONS_HOST_URL", "MSYS_NO_PATHCONV"}
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", (ROOT / "docs" / path).read_text()))
    assert named
    assert named <= known


@pytest.mark.parametrize("path", DOCS)
def test_docs_name_scripts_and_queries_that_exist_when_they_name_any(path: str) -> None:
    for name in re.findall(
        r"\binfra/[\w./-]+\.(?:sh|kql|bicep|xml|json|py)\b", (ROOT / "docs" / path).read_text()
    ):
        assert (ROOT / name).is_file(), name
