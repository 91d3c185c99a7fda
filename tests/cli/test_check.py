"""`check`: every part that cannot work fails, and the message names the right one."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from local.sandbox import Sandbox
from local.sandbox.faults import answer
from shared.storage.tables import Tables
from tests.cli.running import Cli, run_here
from tests.table_proxy import TableProxy
from tests.table_proxy import answer as refuse

ADVICE = "correct EDX_CATALOG_IDS, or ask edX for access"
WELL = [
    "✓ settings of access: 1 subscription key",
    "✓ other settings: complete",
    "✓ schedule: the timer fires at least every 366 d",
    "✓ storage: tables with the prefix PREFIX can be read and written",
    "✓ edX: accepts our credentials, and lists 2 catalogs",
    "✓ catalogs: all catalogs that edX lists will be synced: 7, 8",
    "✓ JWKS: 1 key that can sign RS256",
]


def lines(cli: Cli, **settings: str) -> list[str]:
    return cli("check", **settings).stdout.splitlines()


def test_each_part_is_checked_once_and_passes(cli: Cli, sandbox: Sandbox, tables_prefix: str) -> None:
    done = cli("check")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [line.replace("PREFIX", tables_prefix) for line in WELL]
    paths = [request.path.partition("?")[0] for request in sandbox.requests]
    assert sorted(paths) == ["/catalog/v1/catalogs/", "/jwks", "/oauth2/v1/access_token"]


def test_edx_and_jwks_fail_the_check_when_they_refuse_us(cli: Cli, sandbox: Sandbox) -> None:
    refused = cli("check", EDX_CLIENT_SECRET="hunter2", ADMIN_JWKS_URL=f"{sandbox.url}nothing")
    assert (refused.returncode, refused.stderr) == (1, "")
    edx, catalogs, jwks = refused.stdout.splitlines()[4:]
    assert edx.startswith("✗ edX: edX refused our credentials: ")
    assert edx.endswith("; check EDX_CLIENT_ID and EDX_CLIENT_SECRET, and that edX has approved the account")
    assert catalogs == "- catalogs: not tried, because edX must work first"
    assert jwks.startswith("✗ JWKS: The JWKS at 127.0.0.1:")
    assert jwks.endswith("; check ADMIN_JWKS_URL, and that it can be reached from here")
    assert "hunter2" not in refused.stdout


def test_addresses_of_edx_are_named_when_its_answers_are_not_understood(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.on("/catalogs/", answer(200, "nonsense"))
    done = cli("check")
    assert done.returncode == 1
    edx, catalogs = done.stdout.splitlines()[4:6]
    assert edx.startswith("✗ edX: edX ")
    assert edx.endswith("; check EDX_API_URL and EDX_TOKEN_URL, and that edX can be reached from here")
    assert catalogs == "- catalogs: not tried, because edX must work first"


def test_storage_is_blamed_when_the_rate_limit_of_edx_cannot_be_read(
    settings: dict[str, str], tables: Tables, proxy: TableProxy, sandbox: Sandbox
) -> None:
    tables.account.try_out()
    proxy.on(refuse(403, "AuthorizationFailure"), kind="read throttling")
    done = run_here({**settings, "TABLES_CONNECTION_STRING": proxy.connection_string}, "check")
    assert done.returncode == 1
    storage, edx = done.stdout.splitlines()[3:5]
    assert storage.startswith("✓ storage: ")
    assert edx.startswith("✗ edX: Table Storage at 127.0.0.1:")
    assert edx.endswith(", and that this machine's clock is right")
    assert [request.path for request in sandbox.requests] == ["/jwks"]


def test_all_missing_settings_and_the_example_file_are_named_when_no_setting_exists(
    cli: Cli, tables_prefix: str
) -> None:
    done = cli(
        "check",
        **dict.fromkeys(["ADMIN_JWT_ISSUER", "ADMIN_JWT_AUDIENCE", "EDX_CLIENT_ID", "SYNC_SCHEDULE"], ""),
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines() == [
        (
            "✗ settings of access: The setting ADMIN_JWT_ISSUER is missing: expected the exact `iss` of "
            "administrators' tokens, without a placeholder such as {tenantid}. The setting "
            "ADMIN_JWT_AUDIENCE is missing: expected the `aud` of administrators' tokens"
        ),
        "✗ other settings: The setting EDX_CLIENT_ID is missing: expected the id of our edX API client",
        (
            "✗ schedule: The setting SYNC_SCHEDULE is missing: expected an NCRONTAB schedule in UTC, such as "
            "0 7 * * * * (seven minutes past each hour)"
        ),
        f"✓ storage: tables with the prefix {tables_prefix} can be read and written",
        "- edX: not tried, because its settings are not complete",
        "- catalogs: not tried, because edX must work first",
        "- JWKS: not tried, because the settings of access are not complete",
        (
            "local.settings.example.json in the repository has an example of each setting: copy it to "
            "local.settings.json, or set them in the environment."
        ),
    ]


@pytest.mark.parametrize(
    ("wrong", "failed"),
    [
        ({"SYNC_SCHEDULE": "@hourly"}, "schedule: The setting SYNC_SCHEDULE is malformed: "),
        ({"SYNC_SCHEDULE": "0 0 0 30 2 *"}, "schedule: SYNC_SCHEDULE matches no date; correct it"),
        ({"EDX_PAGE_SIZE": "0"}, "other settings: The setting EDX_PAGE_SIZE is malformed: "),
        ({"MODULAR_CREDIT_HOURS": "0"}, "other settings: The setting MODULAR_CREDIT_HOURS is malformed: "),
        (
            {"SYNC_FRESH_FOR_SECONDS": "x"},
            "other settings: The setting SYNC_FRESH_FOR_SECONDS is malformed: ",
        ),
        (
            {"TABLES_CONNECTION_STRING": "", "TABLES_ENDPOINT": "http://127.0.0.1:10002/a"},
            "other settings: The setting TABLES_ENDPOINT is malformed: ",
        ),
        (
            {"ADMIN_JWT_ISSUER": "https://login.example/{tenantid}/v2.0"},
            "settings of access: The setting ADMIN_JWT_ISSUER is malformed: ",
        ),
    ],
)
def test_exit_code_is_3_when_a_setting_can_never_work(cli: Cli, wrong: dict[str, str], failed: str) -> None:
    done = cli("check", **wrong)
    assert done.returncode == 3
    (shown,) = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert shown.startswith(f"✗ {failed}")


def test_jwks_fails_when_no_key_in_it_can_sign(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.on("/jwks", answer(200, {"keys": [{"kty": "EC", "kid": "a"}]}))
    done = cli("check")
    assert done.returncode == 1
    assert "has no key that may sign RS256 tokens" in done.stdout.splitlines()[6]


def test_only_storage_fails_the_check_when_it_is_down(cli: Cli, sandbox: Sandbox) -> None:
    done = cli(
        "check",
        TABLES_CONNECTION_STRING=(
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;TableEndpoint=http://127.0.0.1:9/a;"
        ),
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[3:] == [
        "✗ storage: Table Storage at 127.0.0.1:9 refused the connection: is Azurite running?",
        "- edX: not tried: its rate limit is remembered in storage, which must work first",
        "- catalogs: not tried, because edX must work first",
        "✓ JWKS: 1 key that can sign RS256",
    ]
    assert [request.path for request in sandbox.requests] == ["/jwks"]


def test_check_says_that_the_settings_are_correct_when_edx_throttles_us(cli: Cli, tables: Tables) -> None:
    tables.account.remember_throttled(datetime.now(UTC) + timedelta(hours=1))
    done = cli("check")
    assert done.returncode == 1
    shown = done.stdout.splitlines()[4]
    assert shown.startswith("✗ edX: edX's rate limit is used up until 20")
    assert shown.endswith("Z; the settings are correct: wait until then")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("7", "✓ catalogs: edX shows us all of EDX_CATALOG_IDS: 7"),
        ("7,999", "✗ catalogs: edX does not show us 999 of EDX_CATALOG_IDS (it lists 7, 8); " + ADVICE),
    ],
)
def test_configured_catalogs_are_compared_with_what_edx_lists(cli: Cli, ids: str, expected: str) -> None:
    assert lines(cli, EDX_CATALOG_IDS=ids)[5] == expected


def test_catalog_of_another_user_fails_when_it_is_configured(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.on("/catalogs/7/", answer(403, {"detail": "You do not have permission to perform this action."}))
    del sandbox.catalogs[7]
    done = cli("check", EDX_CATALOG_IDS="7,8")
    assert (done.returncode, "edX does not show us 7 of EDX_CATALOG_IDS (it lists 8)" in done.stdout) == (
        1,
        True,
    )


def test_catalog_may_be_missing_from_the_list_when_edx_shows_it_to_us(cli: Cli, sandbox: Sandbox) -> None:
    listed = {"count": 1, "next": None, "results": [{"id": 8, "name": "Empty", "courses_count": 0}]}
    sandbox.on("/catalogs/$|/catalogs/[?]", answer(200, listed))
    done = cli("check", EDX_CATALOG_IDS="7,8")
    assert (done.returncode, done.stdout.splitlines()[5]) == (
        0,
        "✓ catalogs: edX shows us all of EDX_CATALOG_IDS: 7, 8",
    )
    asked = [request.path for request in sandbox.requests if re.search("/catalogs/[0-9]", request.path)]
    assert asked == ["/catalog/v1/catalogs/7/"]


def test_catalogs_fail_when_edx_lists_none(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.catalogs.clear()
    done = cli("check")
    assert done.returncode == 1
    assert done.stdout.splitlines()[5] == (
        "✗ catalogs: edX lists no catalog for our credentials; ask edX to give them access to one"
    )


def test_json_output_has_every_finding(cli: Cli) -> None:
    done = cli("check", "--json", TABLES_CONNECTION_STRING="")
    assert done.returncode == 3
    found = json.loads(done.stdout)
    untried = "not tried, because its settings are not complete"
    assert found == [
        {"check": "settings of access", "ok": True, "result": "1 subscription key"},
        {
            "check": "other settings",
            "ok": False,
            "result": (
                "The setting TABLES_CONNECTION_STRING is missing: expected it or, for managed identity, "
                "TABLES_ENDPOINT"
            ),
        },
        {"check": "schedule", "ok": True, "result": "the timer fires at least every 366 d"},
        {"check": "storage", "ok": False, "result": untried},
        {
            "check": "edX",
            "ok": False,
            "result": "not tried: its rate limit is remembered in storage, which must work first",
        },
        {"check": "catalogs", "ok": False, "result": "not tried, because edX must work first"},
        {"check": "JWKS", "ok": True, "result": "1 key that can sign RS256"},
    ]
