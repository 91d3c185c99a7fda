"""infra/operator-env.sh: its output goes through `eval` of real shells, as an operator's does."""

import json
import shlex
import subprocess
from typing import NamedTuple

import pytest

from shared.settings import SETTING_NAMES
from tests.infra.azure import INFRA, SUBSCRIPTION, Azure
from tests.infra.setting_fields import SETTING_FIELDS

SHELLS = ["sh", "bash"]

APP_SETTINGS = {
    "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
    "EDX_API_URL": "https://api.edx.org/catalog/v1/",
    "EDX_CLIENT_ID": 'o\'clock \\n "$HOME" `id` %s ',
    "EDX_CLIENT_SECRET": "@Microsoft.KeyVault(SecretUri=https://kv-test.vault.azure.net/secrets/edx-client-secret)",
    "EDX_CATALOG_IDS": "",
    "SYNC_SCHEDULE": "0 7 * * * *",
    "TABLES_ENDPOINT": "https://st.table.core.windows.net/",
    "APIM_SUBSCRIPTION_KEYS": "@Microsoft.KeyVault(SecretUri=https://kv-test.vault.azure.net/secrets/apim-subscription-keys)",
    "ADMIN_JWT_ISSUER": "https://login.microsoftonline.com/tenant/v2.0",
    "ADMIN_JWT_AUDIENCE": "11111111-1111-1111-1111-111111111111",
    "ADMIN_JWKS_URL": "https://login.microsoftonline.com/tenant/discovery/v2.0/keys",
    "ADMIN_ROLE": "NUS\\admin",
}

# What an earlier `eval` for another system, or a developer, has left in the shell.
LEFTOVERS = {"TABLES_CONNECTION_STRING": "of-the-sandbox", "EDX_CLIENT_SECRET": "of-the-sandbox"}

EVAL = """
eval "$(infra/operator-env.sh)"
status=$?
python3 -c 'import json, os, sys; print(json.dumps([int(sys.argv[1]), dict(os.environ)]))' $status
"""


class Evaluated(NamedTuple):
    status: int
    environment: dict[str, str]
    said: str


def evaluate(azure: Azure, shell: str = "sh", failing: str = "", **changes: str | None) -> Evaluated:
    """Eval the script's output in a shell, with the app's settings changed, or left out when None."""
    settings = {name: value for name, value in (APP_SETTINGS | changes).items() if value is not None}
    azure.write("app-settings", "".join(f"{name}\t{value}\n" for name, value in settings.items()))
    azure.write("failing", failing)
    azure.write("calls", "")
    azure.write("azd-env", azure.read("azd-env"))
    text = EVAL.replace("infra/operator-env.sh", shlex.quote(str(INFRA / "operator-env.sh")))
    finished = subprocess.run(  # noqa: S603 - our own text, in any sh and bash
        [shell, "-c", text],
        cwd=azure.folder,
        env={**azure.path(), **LEFTOVERS},
        capture_output=True,
        text=True,
        check=True,
    )
    status, environment = json.loads(finished.stdout)
    return Evaluated(status, environment, finished.stderr)


def assert_works_on_nothing(evaluated: Evaluated) -> None:
    assert evaluated.status != 0
    assert {name: evaluated.environment[name] for name in SETTING_NAMES} == dict.fromkeys(SETTING_NAMES, "")
    assert "operator-env.sh: " in evaluated.said


@pytest.mark.parametrize("shell", SHELLS)
def test_values_with_special_characters_of_shells_are_unchanged(azure: Azure, shell: str) -> None:
    evaluated = evaluate(azure, shell)
    assert evaluated.status == 0
    expected = {
        "EDX_CLIENT_ID": 'o\'clock \\n "$HOME" `id` %s ',
        "EDX_CLIENT_SECRET": 'it\'s \\n "$HOME" `id` %s',
        "APIM_SUBSCRIPTION_KEYS": "key-1,key-2",
        "SYNC_SCHEDULE": "0 7 * * * *",
        "ADMIN_ROLE": "NUS\\admin",
        "EDX_CATALOG_IDS": "",
        "TABLES_CONNECTION_STRING": "",  # otherwise the value in local.settings.json would be used
        "EDX_TOKEN_URL": "",
    }
    assert {name: evaluated.environment[name] for name in expected} == expected
    assert "AZURE_CLIENT_ID" not in evaluated.environment


def test_every_call_names_the_subscription_of_the_environment(azure: Azure) -> None:
    evaluate(azure)
    assert len(azure.calls()) == 3
    for call in azure.calls():
        assert call.endswith(f" --subscription {SUBSCRIPTION}")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("failing", ["1", "2", "3", "all"])
def test_no_setting_is_exported_when_az_fails_at_any_call(azure: Azure, shell: str, failing: str) -> None:
    assert_works_on_nothing(evaluate(azure, shell, failing))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", [None, ""])
def test_no_setting_is_exported_when_the_app_lacks_a_value(
    azure: Azure, shell: str, value: str | None
) -> None:
    evaluated = evaluate(azure, shell, TABLES_ENDPOINT=value)
    assert_works_on_nothing(evaluated)
    assert "TABLES_ENDPOINT" in evaluated.said


def test_no_setting_is_exported_when_the_secret_is_empty(azure: Azure) -> None:
    azure.write("edx-secret", "\n")
    assert_works_on_nothing(evaluate(azure))


@pytest.mark.parametrize("known", ["", "AZURE_ENV_NAME=test\n"])
def test_no_setting_is_exported_when_the_azd_environment_is_not_deployed(azure: Azure, known: str) -> None:
    azure.write("azd-env", known)
    evaluated = evaluate(azure)
    assert_works_on_nothing(evaluated)
    assert "azd env refresh" in evaluated.said


def test_no_secret_is_shown_when_something_is_missing(azure: Azure) -> None:
    assert "it's" not in evaluate(azure, ADMIN_JWKS_URL=None).said


def words(name: str) -> set[str]:
    """Return the words of a quoted list in the script."""
    text = (INFRA / "operator-env.sh").read_text()
    return set(text.split(f'{name}="', 1)[1].split('"', 1)[0].split())


def test_script_knows_every_setting_and_which_have_no_default() -> None:
    without_default = {field.alias for field in SETTING_FIELDS if field.is_required()}
    assert words("names") == set(SETTING_NAMES)
    # The host resolves the schedule; of the two ways to storage a deployed app has the endpoint.
    assert words("required") == without_default | {"SYNC_SCHEDULE", "TABLES_ENDPOINT"}
