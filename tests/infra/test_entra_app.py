"""infra/entra-app.sh with a simulated Microsoft Entra ID."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "entra-app.sh"
NAME = "edX connector for LumiNUS"
ROLE_ID = "6f0a1a4e-2f0b-4c57-9d6e-0c7c5f3f1d21"

# Keeps what was made; `failing` is the number of the call that fails.
AZ = """#!/bin/sh
echo "$*" | tr '\\n' ' ' >> calls
echo >> calls
if [ "$(grep -c . calls)" = "$(cat failing)" ]; then echo "az failed" >&2; exit 1; fi
case "$*" in
    "account show "*) echo the-tenant ;;
    "ad app list "*) cat app ;;
    "ad app create "*) echo the-app | tee app ;;
    "ad sp list "*) cat sp ;;
    "ad sp create "*) echo the-sp | tee sp ;;
    "rest --method PATCH "*"/applications(appId='the-app') "*) ;;
    "rest --method GET "*/servicePrincipals/the-sp/appRoleAssignedTo*) cat assigned ;;
    "rest --method POST "*/servicePrincipals/the-sp/appRoleAssignedTo*) echo assignment > assigned ;;
    *) echo "unknown call: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def entra(tmp_path: Path) -> Path:
    (tmp_path / "az").write_text(AZ)
    (tmp_path / "az").chmod(0o755)
    for name in ("app", "sp", "assigned", "calls", "failing"):
        (tmp_path / name).write_text("")
    return tmp_path


def run(entra: Path, *arguments: str, failing: int = 0) -> subprocess.CompletedProcess[str]:
    (entra / "failing").write_text(str(failing))
    (entra / "calls").write_text("")
    return subprocess.run(  # noqa: S603 - our own script
        [str(SCRIPT), *arguments],
        cwd=entra,
        env={"PATH": f"{entra}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_registration_gets_v2_tokens_the_role_and_the_azure_cli_when_there_is_none(entra: Path) -> None:
    finished = run(entra, NAME, "an-administrator")

    assert finished.returncode == 0
    calls = (entra / "calls").read_text()
    roles = json.loads(re.search(r"--app-roles (\[.*?}])", calls)[1])  # type: ignore[index]
    assert [(role["value"], role["id"], role["allowedMemberTypes"]) for role in roles] == [
        ("LumiNUS.Admin", ROLE_ID, ["User", "Application"])
    ]
    exposed, authorized, assigned = (
        json.loads(body) for body in re.findall(r"--body ({.*}) *$", calls, re.MULTILINE)
    )
    assert exposed["identifierUris"] == ["api://the-app"]
    assert exposed["api"]["requestedAccessTokenVersion"] == 2
    (client,) = authorized["api"]["preAuthorizedApplications"]
    assert client["delegatedPermissionIds"] == [exposed["api"]["oauth2PermissionScopes"][0]["id"]]
    assert assigned == {"principalId": "an-administrator", "resourceId": "the-sp", "appRoleId": ROLE_ID}
    assert finished.stdout.endswith(
        "azd env set ADMIN_JWT_ISSUER https://login.microsoftonline.com/the-tenant/v2.0\n"
        "azd env set ADMIN_JWT_AUDIENCE the-app\n"
        "azd env set ADMIN_JWKS_URL https://login.microsoftonline.com/the-tenant/discovery/v2.0/keys\n"
        "azd env set ADMIN_OPENID_CONFIG_URL"
        " https://login.microsoftonline.com/the-tenant/v2.0/.well-known/openid-configuration\n"
    )


def test_nothing_is_created_twice_when_the_script_runs_again(entra: Path) -> None:
    run(entra, NAME, "an-administrator")
    assert run(entra, NAME, "an-administrator").returncode == 0
    calls = (entra / "calls").read_text()
    assert " create " not in calls
    assert "POST" not in calls


@pytest.mark.parametrize("number", range(1, 9))
def test_script_stops_and_the_next_run_finishes_when_az_fails_at_any_call(entra: Path, number: int) -> None:
    failed = run(entra, NAME, "an-administrator", failing=number)
    assert failed.returncode != 0
    assert "azd env set" not in failed.stdout
    assert run(entra, NAME, "an-administrator").returncode == 0
    assert (entra / "assigned").read_text() == "assignment\n"


@pytest.mark.parametrize("arguments", [[], ["it's"], ['a"b']])
def test_script_says_what_is_wrong_when_the_name_cannot_be_used(entra: Path, arguments: list[str]) -> None:
    assert run(entra, *arguments).returncode == 2
    assert (entra / "calls").read_text() == ""
