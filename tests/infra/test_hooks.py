"""The scripts of infra/: the real ones, with an `az` and an `azd` on the PATH that play Azure."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

INFRA = Path(__file__).parents[2] / "infra"

# Plays the calls that the hooks make. The first `failures` calls fail, as a new app's do.
AZ = """#!/bin/sh
echo "az $*" >> calls
if [ "$(cat failures)" -gt 0 ]; then echo $(($(cat failures) - 1)) > failures; exit 1; fi
case "$*" in
    *products/edx-course-runs/subscriptions*) printf 'luminus\\nreports\\n' ;;
    *subscriptions/luminus/listSecrets*) echo 'key-1,key-2' ;;
    *subscriptions/reports/listSecrets*) echo 'key-3,key-4' ;;
    "keyvault secret set "*" --value @- "*) cat > vault ;;
    "keyvault secret show "*" --name edx-client-secret "*) echo "it's \\$HOME" ;;
    "functionapp config appsettings list "*) cat app-settings ;;
    "functionapp function keys list "*) cat function-key ;;
    "functionapp function keys set "*) echo 'function-key-1' > function-key ;;
    "apim nv update "*" --value @- "*) cat > named-value ;;
    "rest --method post "*"/config/configreferences/appsettings/refresh?"*) ;;
    *) exit 1 ;;
esac
"""


class Azure(NamedTuple):
    folder: Path

    def run(self, script: str, *, failures: int = 0) -> subprocess.CompletedProcess[str]:
        (self.folder / "failures").write_text(str(failures))
        environment = {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000000",
            "AZURE_RESOURCE_GROUP": "rg-test",
            "AZURE_API_MANAGEMENT_NAME": "apim-test",
            "AZURE_FUNCTION_APP_NAME": "func-test",
            "AZURE_KEY_VAULT_NAME": "kv-test",
            "COURSE_RUNS_URL": "https://apim-test.azure-api.net/ExternalLinks/edXCourseruns",
        }
        return subprocess.run(  # noqa: S603 - our own script
            [str(INFRA / script)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def azure(tmp_path: Path) -> Azure:
    for name, script in {
        "az": AZ,
        "azd": '#!/bin/sh\necho "azd $*" >> calls\n',
        "sleep": '#!/bin/sh\necho "sleep $*" >> calls\n',
    }.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "function-key").write_text("")
    return Azure(tmp_path)


def test_keys_of_every_subscription_reach_the_vault_when_provisioned(azure: Azure) -> None:
    assert azure.run("hooks/postprovision.sh").returncode == 0
    assert azure.read("vault") == "key-1,key-2,key-3,key-4"
    assert azure.read("calls").splitlines()[-1].endswith("/refresh?api-version=2022-03-01")


def test_function_key_is_made_and_reaches_the_gateway_when_there_is_none(azure: Azure) -> None:
    assert azure.run("hooks/postdeploy.sh").returncode == 0
    assert azure.read("named-value") == "function-key-1"
    assert "azd env set GATEWAY_HAS_FUNCTION_KEY true" in azure.read("calls")


def test_function_key_stays_the_same_when_there_is_one(azure: Azure) -> None:
    (azure.folder / "function-key").write_text("function-key-0\n")
    assert azure.run("hooks/postdeploy.sh").returncode == 0
    assert azure.read("named-value") == "function-key-0"
    assert "keys set" not in azure.read("calls")


@pytest.mark.parametrize("hook", ["hooks/postprovision.sh", "hooks/postdeploy.sh"])
def test_hook_succeeds_when_azure_fails_at_first(azure: Azure, hook: str) -> None:
    assert azure.run(hook, failures=3).returncode == 0
    assert azure.read("calls").count("sleep 15\n") == 3


@pytest.mark.parametrize("hook", ["hooks/postprovision.sh", "hooks/postdeploy.sh"])
def test_hook_gives_up_and_says_so_when_azure_keeps_failing(azure: Azure, hook: str) -> None:
    finished = azure.run(hook, failures=1000)
    assert finished.returncode == 1
    assert "after 20 attempts" in finished.stderr
    assert azure.read("calls").count("sleep 15\n") == 19
    assert "azd env set" not in azure.read("calls")


@pytest.mark.parametrize("hook", ["hooks/postprovision.sh", "hooks/postdeploy.sh"])
def test_no_key_is_shown_when_a_hook_runs(azure: Azure, hook: str) -> None:
    finished = azure.run(hook)
    assert finished.returncode == 0
    shown = azure.read("calls") + finished.stdout + finished.stderr
    assert not re.search(r"key-\d", shown)


def test_operator_gets_our_settings_whole_when_the_app_has_references_and_the_platforms_own(
    azure: Azure, tmp_path: Path
) -> None:
    (tmp_path / "app-settings").write_text(
        "SYNC_SCHEDULE\t0 0 * * * *\n"
        "EDX_CATALOG_IDS\t\n"
        "EDX_CLIENT_SECRET\t@Microsoft.KeyVault(SecretUri=https://kv-test.vault.azure.net/secrets/edx-client-secret)\n"
        "AZURE_CLIENT_ID\t00000000-0000-0000-0000-000000000000\n"
    )
    printed = azure.run("operator-env.sh").stdout
    show = 'eval "$1"; printf "%s|" "$SYNC_SCHEDULE" "$EDX_CATALOG_IDS" "$EDX_CLIENT_SECRET"'
    shown = subprocess.run(["sh", "-c", show, "sh", printed], capture_output=True, text=True, check=True)  # noqa: S603, S607 - our own text, any sh
    assert shown.stdout == "0 0 * * * *||it's $HOME|"
    assert "export TABLES_CONNECTION_STRING=\n" in printed
    assert "AZURE_CLIENT_ID" not in printed
