import errno
import json
import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import ConfigurationError
from shared.setting_values import is_loopback
from shared.settings import (
    SETTING_NAMES,
    AccessSettings,
    EdxSettings,
    MappingSettings,
    StorageSettings,
    TimerSettings,
    access_settings,
    connector_settings,
    load,
    problems_of,
    setting_warnings,
    unknown_settings,
)
from shared.settings_file import with_settings_file

EXAMPLE = Path(__file__).parents[2] / "local.settings.example.json"
ACCOUNT_KEY = "c2VjcmV0LWFjY291bnQta2V5"
AZURITE = (
    f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={ACCOUNT_KEY};"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)
CONNECTOR = {"EDX_CLIENT_ID": "id", "EDX_CLIENT_SECRET": "s3cr3t", "TABLES_CONNECTION_STRING": AZURITE}
ACCESS = {
    "APIM_SUBSCRIPTION_KEYS": "first-key",
    "ADMIN_JWT_ISSUER": "https://login.example/",
    "ADMIN_JWT_AUDIENCE": "connector",
    "ADMIN_JWKS_URL": "https://login.example/keys?p=policy",
}


TIMER = {"SYNC_SCHEDULE": "0 7 * * * *"}


def load_all(environment: dict[str, str]) -> None:
    connector_settings(CONNECTOR | environment)
    access_settings(ACCESS | environment)
    load(TimerSettings, TIMER | environment)


def fault(environment: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_all(environment)
    return caught.value


def test_defaults_are_the_documented_ones_when_only_required_settings_are_given() -> None:
    settings = connector_settings(CONNECTOR)
    assert settings.model_dump(exclude={"edx": {"client_secret"}, "storage": {"connection_string"}}) == {
        "edx": {
            "api_url": "https://api.edx.org/catalog/v1/",
            "token_url": "https://api.edx.org/oauth2/v1/access_token",
            "client_id": "id",
            "catalog_ids": (),
            "page_size": 100,
            "concurrency": 4,
        },
        "mapping": {
            "enrollment_url": "https://courses.edx.org/course_modes/choose/{key}/",
            "modular_credit_hours": 30,
        },
        "storage": {"endpoint": None, "prefix": "EdX"},
        "sync": {
            "fresh_for_s": 900,
            "max_withdraw_percent": 20,
            "stale_if_error_s": 86400,
            "time_budget_s": 200,
        },
    }
    assert settings.edx.client_secret.get_secret_value() == "s3cr3t"
    access = access_settings(ACCESS)
    assert (access.role_claim, access.role) == ("roles", "LumiNUS.Admin")


@pytest.mark.parametrize("name", [*CONNECTOR, *ACCESS, *TIMER])
@pytest.mark.parametrize("absent", ["", "  \t"])
def test_error_names_the_setting_when_a_required_one_is_empty(name: str, absent: str) -> None:
    error = fault({name: absent})
    assert error.setting == name
    assert error.message.startswith(f"The setting {name} is missing: expected ")


def test_error_names_the_first_setting_when_all_are_missing() -> None:
    with pytest.raises(
        ConfigurationError, match="The setting EDX_CLIENT_ID is missing: expected the id of our"
    ):
        connector_settings({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDX_API_URL", "http://api.edx.org/catalog/v1/"),
        ("EDX_API_URL", "https://user:pa55@api.edx.org/"),
        ("EDX_API_URL", "https://api.edx.org/?a=b"),
        ("EDX_API_URL", "https://api.edx.org/#a"),
        ("EDX_API_URL", "https://api.edx.org:99999/"),
        ("EDX_API_URL", "https://api.edx.org /"),
        ("EDX_API_URL", "ftp://api.edx.org/"),
        ("EDX_API_URL", "file:///etc/passwd"),
        ("EDX_API_URL", "api.edx.org/catalog/v1/"),
        ("EDX_API_URL", "https://"),
        ("EDX_TOKEN_URL", "http://localhost.example/token"),
        ("EDX_TOKEN_URL", "http://127.0.0.1.example/token"),
        ("EDX_TOKEN_URL", "http://127.0.0.1\\@api.example/token"),
        ("EDX_TOKEN_URL", "http://127.0.0.1@api.example/token"),
        ("EDX_TOKEN_URL", "http://0.0.0.0/token"),
        ("ADMIN_JWKS_URL", "http://169.254.169.254/keys"),
        ("TABLES_CONNECTION_STRING", "AccountName=a"),
        ("TABLES_CONNECTION_STRING", f"AccountKey={ACCOUNT_KEY}"),
        ("TABLES_CONNECTION_STRING", f"AccountKey={ACCOUNT_KEY};TableEndpoint=https://tables.example/a"),
        ("TABLES_ENDPOINT", "http://127.0.0.1:10002/acc"),  # the token of an identity is sent over https only
        ("TABLES_CONNECTION_STRING", "AccountName=a;AccountKey=not*base64"),
        ("TABLES_CONNECTION_STRING", "AccountName=a;AccountKey=YQ*=="),
        ("TABLES_CONNECTION_STRING", f"AccountName=a;AccountKey={ACCOUNT_KEY};=b"),
        ("TABLES_CONNECTION_STRING", f"AccountName=a;AccountKey={ACCOUNT_KEY};accountname=b"),
        ("TABLES_CONNECTION_STRING", f"AccountName=a;AccountKey={ACCOUNT_KEY};EndpointSuffix"),
        ("TABLES_CONNECTION_STRING", "SharedAccessSignature=sv=2026&sig=x"),
        ("TABLES_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={ACCOUNT_KEY}"),
        (
            "TABLES_CONNECTION_STRING",
            f"AccountName=a;AccountKey={ACCOUNT_KEY};TableEndpoint=http://tables.example/a",
        ),
        ("TABLES_CONNECTION_STRING", "nonsense"),
        ("TABLES_PREFIX", "1EdX"),
        ("TABLES_PREFIX", "EdX_"),
        ("TABLES_PREFIX", "E" * 53),
        ("EDX_ENROLLMENT_URL", "https://courses.edx.org/choose/"),
        ("EDX_ENROLLMENT_URL", "https://courses.edx.org/{key}/{other}/"),
        ("EDX_ENROLLMENT_URL", "https://courses.edx.org/{{key}}/"),
        ("EDX_ENROLLMENT_URL", "https://courses.edx.org/{key}/{"),
        ("EDX_ENROLLMENT_URL", "https://courses.edx.org/{key}/}"),
        ("EDX_ENROLLMENT_URL", "http://courses.edx.org/{key}/"),
        ("EDX_ENROLLMENT_URL", "https://{key}/"),
        ("EDX_CATALOG_IDS", "1,a"),
        ("EDX_CATALOG_IDS", "0"),
        ("EDX_CATALOG_IDS", "1,02"),
        ("EDX_CATALOG_IDS", "-1"),
        ("EDX_CATALOG_IDS", "1 2"),
        ("EDX_CATALOG_IDS", "٣"),
        ("EDX_PAGE_SIZE", "0"),
        ("EDX_PAGE_SIZE", "501"),
        ("EDX_PAGE_SIZE", "4.0"),
        ("EDX_PAGE_SIZE", "1_0"),
        ("EDX_PAGE_SIZE", "+4"),
        ("EDX_CONCURRENCY", "0"),
        ("EDX_CONCURRENCY", "33"),
        ("MODULAR_CREDIT_HOURS", "0"),
        ("MODULAR_CREDIT_HOURS", "many"),
        ("SYNC_FRESH_FOR_SECONDS", "-1"),
        ("SYNC_MAX_WITHDRAW_PERCENT", "-1"),
        ("SYNC_MAX_WITHDRAW_PERCENT", "101"),
        ("SYNC_TIME_BUDGET_SECONDS", "0"),
        ("SYNC_TIME_BUDGET_SECONDS", "1m"),
        ("SYNC_STALE_IF_ERROR_SECONDS", "-1"),
        ("SYNC_SCHEDULE", "@hourly"),
        ("SYNC_SCHEDULE", "0 0 * * * * *"),
        ("SYNC_SCHEDULE", "0 0 0 * * 7"),
        ("SYNC_SCHEDULE", "hunter2"),
        ("TABLES_ENDPOINT", "http://127.0.0.1:10002/devstoreaccount1"),
        ("ADMIN_JWT_ISSUER", "https://login.example/{tenantid}/v2.0"),
        ("ADMIN_JWT_ISSUER", "https://login.example/{"),
        ("ADMIN_JWT_ISSUER", "https://login.example/}"),
        ("APIM_SUBSCRIPTION_KEYS", " , ,"),
    ],
)
def test_error_names_the_setting_and_hides_the_value_when_it_is_malformed(name: str, value: str) -> None:
    error = fault({name: value})
    assert error.setting == name
    assert error.message.startswith(f"The setting {name} is malformed: expected ")
    assert error.__cause__ is None
    assert error.__context__ is None  # pydantic's own error contains the values
    if len(value) > 3:
        assert value not in repr(error)
    assert "pa55" not in repr(error)
    assert ACCOUNT_KEY not in repr(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLES_PREFIX", "E" * 52),
        ("EDX_PAGE_SIZE", "1"),
        ("EDX_PAGE_SIZE", "500"),
        ("EDX_CONCURRENCY", "1"),
        ("EDX_CONCURRENCY", "32"),
        ("MODULAR_CREDIT_HOURS", "1"),
        ("SYNC_FRESH_FOR_SECONDS", "0"),
        ("SYNC_MAX_WITHDRAW_PERCENT", "0"),
        ("SYNC_MAX_WITHDRAW_PERCENT", "100"),
        ("SYNC_STALE_IF_ERROR_SECONDS", "0"),
        ("SYNC_TIME_BUDGET_SECONDS", "1"),
    ],
)
def test_setting_is_accepted_when_it_is_at_its_limit(name: str, value: str) -> None:
    load_all({name: value})


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8400/catalog/v1/",
        "http://127.0.0.1:8400/catalog/v1/",
        "http://127.9.9.9/catalog/v1/",
        "http://[::1]:8400/catalog/v1/",
    ],
)
def test_plain_http_is_accepted_when_the_host_is_loopback(url: str) -> None:
    assert connector_settings(CONNECTOR | {"EDX_API_URL": url}).edx.api_url == url
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url", ["https://api.edx.org/", "http://128.0.0.1/", "http://[::2]/", "http://localhost.example/", "x"]
)
def test_a_run_is_real_when_the_host_is_not_loopback(url: str) -> None:
    assert not is_loopback(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDX_TOKEN_URL", "https://edx.example/token"),
        ("EDX_ENROLLMENT_URL", "https://edx.example/{key}/enroll"),
        ("ADMIN_JWT_ISSUER", "https://login.example/v2.0"),
        ("ADMIN_JWKS_URL", "http://127.0.0.1:8400/jwks"),
        ("ADMIN_ROLE", "Editor"),
        ("ADMIN_ROLE_CLAIM", "groups"),
        ("SYNC_SCHEDULE", "0 0 7 * * *"),
    ],
)
def test_text_is_used_as_it_is_when_it_is_valid(name: str, value: str) -> None:
    environment = {**CONNECTOR, **ACCESS, **TIMER, name: f" {value} "}
    groups = (EdxSettings, MappingSettings, AccessSettings, TimerSettings)
    assert value in [each for group in groups for each in load(group, environment).model_dump().values()]


def test_settings_cannot_be_changed_or_misspelt_and_an_error_hides_the_value() -> None:
    storage = StorageSettings(endpoint="https://account.table.core.windows.net")
    with pytest.raises(ValidationError):
        storage.prefix = "Other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra_forbidden") as misspelt:
        StorageSettings(endpoint="https://account.table.core.windows.net", prefx="hunter2")  # type: ignore[call-arg]
    assert "hunter2" not in str(misspelt.value)


def test_api_url_ends_with_a_slash_when_the_setting_does_not() -> None:
    settings = connector_settings(CONNECTOR | {"EDX_API_URL": "https://api.edx.org/catalog/v1"})
    assert settings.edx.api_url == "https://api.edx.org/catalog/v1/"


def test_catalog_ids_keep_their_order_when_some_are_repeated_or_empty() -> None:
    settings = connector_settings(CONNECTOR | {"EDX_CATALOG_IDS": " 30, 4,,30 ,100,"})
    assert settings.edx.catalog_ids == (30, 4, 100)


def test_subscription_keys_are_trimmed_when_the_setting_has_spaces_and_empty_entries() -> None:
    keys = access_settings(ACCESS | {"APIM_SUBSCRIPTION_KEYS": " one ,, Two,"}).subscription_keys
    assert [key.get_secret_value() for key in keys] == ["one", "Two"]


@pytest.mark.parametrize(
    "connection_string",
    [
        "UseDevelopmentStorage=true",
        AZURITE,
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net",
        f"AccountName=a;AccountKey={ACCOUNT_KEY}",
        "TableEndpoint=https://a.table.core.windows.net/;SharedAccessSignature=sv=2026&sig=x",
    ],
)
def test_connection_string_is_unchanged_when_it_is_usable(connection_string: str) -> None:
    storage = connector_settings(CONNECTOR | {"TABLES_CONNECTION_STRING": connection_string}).storage
    assert storage.connection_string
    assert storage.connection_string.get_secret_value() == connection_string


def test_connection_string_is_not_needed_when_there_is_an_endpoint() -> None:
    endpoint = "https://account.table.core.windows.net"
    storage = connector_settings(
        CONNECTOR | {"TABLES_CONNECTION_STRING": "", "TABLES_ENDPOINT": endpoint}
    ).storage
    assert (storage.connection_string, storage.endpoint) == (None, endpoint)


@pytest.mark.parametrize(
    ("endpoint", "connection_string"), [("", ""), ("https://account.table.core.windows.net", AZURITE)]
)
def test_error_names_both_storage_settings_when_none_or_both_are_set(
    endpoint: str, connection_string: str
) -> None:
    error = fault({"TABLES_ENDPOINT": endpoint, "TABLES_CONNECTION_STRING": connection_string})
    assert "TABLES_ENDPOINT" in error.message
    assert "TABLES_CONNECTION_STRING" in error.message
    assert ACCOUNT_KEY not in repr(error)


def test_repr_shows_no_secret_when_settings_are_printed() -> None:
    text = repr(connector_settings(CONNECTOR)) + repr(access_settings(ACCESS))
    assert "id" in text
    for secret in ("s3cr3t", ACCOUNT_KEY, "first-key"):
        assert secret not in text


def test_local_example_is_valid_and_contains_every_setting() -> None:
    example = json.loads(EXAMPLE.read_text())
    values = example["Values"]
    host_only = {
        "FUNCTIONS_WORKER_RUNTIME",
        "AzureWebJobsStorage",
        "AzureWebJobsDisableHomepage",
        "PYTHON_THREADPOOL_THREAD_COUNT",
    }
    assert set(values) == {*SETTING_NAMES, *host_only}
    settings = connector_settings(values)
    assert is_loopback(settings.edx.api_url)
    assert settings.storage.endpoint is None
    assert access_settings(values).jwks_url == "http://127.0.0.1:8400/jwks"


def test_the_environment_has_priority_when_the_settings_file_sets_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text('{"IsEncrypted": false, "Values": {"A": "file", "B": "file"}}')

    assert with_settings_file(file, {"A": "environment"}) == {"A": "environment", "B": "file"}
    assert with_settings_file(tmp_path / "missing.json", {"A": "environment"}) == {"A": "environment"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"Values": {\n  "A": "secret"\n  "B": 1}}', "is malformed: it is not JSON at line 3, column 3"),
        ("{", "is malformed: it is not JSON at line 1, column 2"),
        ("[]", "is malformed: expected JSON with an object named Values"),
        ("{}", "is malformed: expected JSON with an object named Values"),
        ('{"Values": "secret"}', "is malformed: expected JSON with an object named Values"),
        ('{"Values": {"A": {"B": "secret"}, "C": []}}', "is malformed: expected text as the value of A"),
        (
            '{"IsEncrypted": true, "Values": {"A": "secret"}}',
            (
                "is encrypted (IsEncrypted), which is not supported: decrypt it with `func settings "
                'decrypt`, or set "IsEncrypted": false and put in the plain values'
            ),
        ),
    ],
)
def test_settings_file_is_named_with_the_problem_when_it_cannot_be_used(
    tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        with_settings_file(file, {})
    assert caught.value.message == f"The setting file {file} {problem}"
    assert caught.value.__context__ is None  # the context of the JSON error contains the whole file


def test_settings_file_is_named_when_it_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_bytes(b'{"Values": {"A": "\xff"}}')

    with pytest.raises(ConfigurationError) as caught:
        with_settings_file(file, {})
    assert caught.value.message == f"The setting file {file} is malformed: expected UTF-8 text"


def test_settings_file_is_named_with_the_reason_when_it_cannot_be_read() -> None:
    file = Path("/proc/self/mem")  # a file whose first byte cannot be read
    if not file.is_file():
        pytest.skip("no /proc on this machine")
    with pytest.raises(ConfigurationError) as caught:
        with_settings_file(file, {})
    assert caught.value.message == f"The setting file {file} cannot be read: {os.strerror(errno.EIO)}"


def test_setting_is_absent_when_it_is_null_in_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text('{"Values": {"ADMIN_ROLE": null, "APIM_SUBSCRIPTION_KEYS": null, "A": 4, "B": true}}')

    values = with_settings_file(file, {})

    assert values == {"A": "4", "B": "true"}
    with pytest.raises(ConfigurationError, match="APIM_SUBSCRIPTION_KEYS is missing"):
        access_settings({**ACCESS, "APIM_SUBSCRIPTION_KEYS": ""} | values)


def test_settings_file_is_not_used_for_a_name_when_the_environment_sets_it_to_an_empty_value(
    tmp_path: Path,
) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text(json.dumps({"Values": {"TABLES_CONNECTION_STRING": AZURITE}}))

    settings = with_settings_file(file, CONNECTOR | {"TABLES_CONNECTION_STRING": ""})

    with pytest.raises(ConfigurationError, match="TABLES_CONNECTION_STRING is missing"):
        connector_settings(settings)


@pytest.mark.parametrize(
    "reference",
    [
        "@Microsoft.KeyVault(SecretUri=https://vault.example/secrets/apim-subscription-keys)",
        "@microsoft.keyvault(VaultName=vault;SecretName=keys)",
        " @MICROSOFT.KEYVAULT(SecretUri=https://vault.example/secrets/keys) ",
    ],
)
@pytest.mark.parametrize("name", ["APIM_SUBSCRIPTION_KEYS", "EDX_CLIENT_SECRET", "ADMIN_ROLE"])
def test_setting_is_missing_when_its_key_vault_reference_could_not_be_resolved(
    name: str, reference: str
) -> None:
    error = fault({name: reference})

    assert error.message.startswith(
        f"The setting {name} is missing: its Key Vault reference could not be resolved; expected "
    )
    assert "vault.example" not in error.message


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_error_says_what_is_expected_in_one_sentence_whatever_the_setting(name: str) -> None:
    message = fault({name: "@Microsoft.KeyVault(a)"}).message
    assert re.fullmatch(
        rf"The setting {name} is missing: its Key Vault reference could not be resolved; "
        r"expected (?!None)([a-zAN].*[a-z0-9)}])",
        message,
    )


def test_key_vault_reference_is_not_used_as_a_key_when_it_is_in_a_list() -> None:
    environment = ACCESS | {
        "APIM_SUBSCRIPTION_KEYS": "one, @microsoft.KeyVault(SecretUri=https://v.example/s)"
    }

    assert [key.get_secret_value() for key in access_settings(environment).subscription_keys] == ["one"]
    assert setting_warnings(environment) == [
        (
            "APIM_SUBSCRIPTION_KEYS has an entry that is a Key Vault reference, which is ignored: "
            "the platform resolves a reference only when it is the whole value"
        )
    ]


def test_time_budget_is_reduced_to_220_with_a_warning_when_it_is_longer() -> None:
    environment = CONNECTOR | {"SYNC_TIME_BUDGET_SECONDS": "540"}

    assert connector_settings(environment).sync.time_budget_s == 220
    assert setting_warnings(environment) == [
        ("SYNC_TIME_BUDGET_SECONDS is more than 220, so 220 is used: the platform ends a request after 230 s")
    ]
    assert connector_settings(CONNECTOR | {"SYNC_TIME_BUDGET_SECONDS": "220"}).sync.time_budget_s == 220
    assert setting_warnings(CONNECTOR | {"SYNC_TIME_BUDGET_SECONDS": "220"}) == []


def test_unknown_settings_are_named_with_the_nearest_known_one() -> None:
    environment = {
        **CONNECTOR,
        "EDX_API_ULR": "https://edx.example/",
        "tables_prefix": "X",
        "SYNC_EVERYTHING_TWICE": "1",
        "EDX_OLD": "",
        "PATH": "/bin",
        "EDXCLIENT": "1",
    }

    assert unknown_settings(environment) == [
        "EDX_API_ULR is not a setting; did you mean EDX_API_URL?",
        "SYNC_EVERYTHING_TWICE is not a setting",
        "tables_prefix is not a setting; did you mean TABLES_PREFIX?",
    ]
    assert unknown_settings(dict.fromkeys(SETTING_NAMES, "1")) == []


def test_every_problem_is_named_when_several_settings_of_a_group_are_wrong() -> None:
    problems = problems_of(AccessSettings, {"ADMIN_JWKS_URL": "hunter2", "ADMIN_JWT_AUDIENCE": "a"})

    assert [(problem.setting, problem.message.split()[4]) for problem in problems] == [
        ("APIM_SUBSCRIPTION_KEYS", "missing:"),
        ("ADMIN_JWT_ISSUER", "missing:"),
        ("ADMIN_JWKS_URL", "malformed:"),
    ]
    assert problems_of(AccessSettings, ACCESS) == []
    assert [problem.setting for problem in problems_of(StorageSettings, {})] == ["TABLES_CONNECTION_STRING"]
