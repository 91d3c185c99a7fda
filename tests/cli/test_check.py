"""`check`: every part that cannot work fails, and the message names the right one."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from local.sandbox import Sandbox
from local.sandbox.faults import answer
from shared.storage.tables import Tables
from tests.cli.running import Cli

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
    assert refused.returncode == 1
    shown = refused.stdout.splitlines()
    assert [line[0] for line in shown] == ["✓", "✓", "✓", "✓", "✗", "-", "✗"]
    assert shown[4].endswith(
        "; check EDX_CLIENT_ID and EDX_CLIENT_SECRET, and that edX has approved the account"
    )
    assert shown[6].endswith("; check ADMIN_JWKS_URL, and that it can be reached from here")
    assert "hunter2" not in refused.stdout + refused.stderr


def test_all_missing_settings_and_the_example_file_are_named_when_no_setting_exists(cli: Cli) -> None:
    done = cli(
        "check",
        **dict.fromkeys(["ADMIN_JWT_ISSUER", "ADMIN_JWT_AUDIENCE", "EDX_CLIENT_ID", "SYNC_SCHEDULE"], ""),
    )
    assert done.returncode == 3
    shown = done.stdout.splitlines()
    assert [line[0] for line in shown[:-1]] == ["✗", "✗", "✗", "✓", "-", "-", "-"]
    for name, line in (
        ("ADMIN_JWT_ISSUER", shown[0]),
        ("ADMIN_JWT_AUDIENCE", shown[0]),
        ("EDX_CLIENT_ID", shown[1]),
        ("SYNC_SCHEDULE", shown[2]),
    ):
        assert f"The setting {name} is missing: expected " in line
    assert ". The setting ADMIN_JWT_AUDIENCE is missing: " in shown[0]
    assert shown[-1] == (
        "local.settings.example.json in the repository has an example of each setting: copy it to "
        "local.settings.json, or set them in the environment."
    )


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"SYNC_SCHEDULE": "@hourly"}, "schedule"),
        ({"SYNC_SCHEDULE": "0 0 0 30 2 *"}, "schedule"),
        ({"TABLES_CONNECTION_STRING": "", "TABLES_ENDPOINT": "http://127.0.0.1:10002/a"}, "other settings"),
        ({"ADMIN_JWT_ISSUER": "https://login.example/{tenantid}/v2.0"}, "settings of access"),
    ],
)
def test_exit_code_is_3_when_a_setting_can_never_work(cli: Cli, wrong: dict[str, str], part: str) -> None:
    done = cli("check", **wrong)
    assert done.returncode == 3
    assert [line for line in done.stdout.splitlines() if line.startswith("✗")] == [
        line for line in done.stdout.splitlines() if line.startswith(f"✗ {part}: ")
    ]


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
    assert [line[0] for line in done.stdout.splitlines()] == ["✓", "✓", "✓", "✗", "-", "-", "✓"]
    assert "is Azurite running?" in done.stdout
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
    assert {each["check"]: each["ok"] for each in found} == {
        "settings of access": True,
        "other settings": False,
        "schedule": True,
        "storage": False,
        "edX": False,
        "catalogs": False,
        "JWKS": True,
    }
    assert found[1]["result"].startswith("The setting TABLES_CONNECTION_STRING is missing")
