"""The scripts that azd and operators run, with a simulated Azure."""

import pytest

from tests.infra.azure import SUBSCRIPTION, Azure

HOOKS = ["hooks/postprovision.sh", "hooks/postdeploy.sh"]
SCRIPTS = [*HOOKS, "rotate-function-key.sh", "start-sync.sh"]


def with_keys(azure: Azure, gateway1: str, gateway2: str, vault: str) -> None:
    azure.write("gateway1", gateway1)
    azure.write("gateway2", gateway2)
    azure.write("vault-key", vault)


def test_keys_of_every_page_of_subscriptions_reach_the_vault_when_provisioned(azure: Azure) -> None:
    assert azure.run("hooks/postprovision.sh").returncode == 0
    assert azure.read("subscription-keys") == "key-1,key-2,key-3,key-4"
    assert "/config/configreferences/appsettings/refresh?api-version=2022-03-01" in azure.calls()[-1]


def test_function_key_is_made_and_reaches_the_gateway_when_there_is_none(azure: Azure) -> None:
    assert azure.run("hooks/postdeploy.sh").returncode == 0
    made = azure.read("gateway1").strip()
    assert made.startswith("new-key-")
    assert azure.read("vault-key") == azure.read("gateway-key") == made


def test_function_key_of_the_app_replaces_that_of_a_deleted_app_in_the_vault(azure: Azure) -> None:
    with_keys(azure, "", "key-of-this-app\n", "key-of-the-app-before")
    assert azure.run("hooks/postdeploy.sh").returncode == 0
    assert azure.read("vault-key") == azure.read("gateway-key") == "key-of-this-app"


def test_function_key_stays_the_same_when_the_app_knows_it(azure: Azure) -> None:
    with_keys(azure, "one\n", "two\n", "two")
    assert azure.run("hooks/postdeploy.sh").returncode == 0
    assert azure.read("gateway-key") == "two"
    assert not [call for call in azure.calls() if " set " in call]


def test_first_sync_is_started_only_when_the_app_is_new(azure: Azure) -> None:
    azure.run("hooks/postdeploy.sh")
    assert "/admin/functions/sync_course_runs" in azure.calls("curl")[-1]
    azure.run("hooks/postdeploy.sh")
    assert not [call for call in azure.calls("curl") if "/admin/" in call]


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_succeeds_when_azure_fails_at_one_call(azure: Azure, hook: str, number: int) -> None:
    assert azure.run(hook, failing=str(number)).returncode == 0
    assert "sleep 15" in azure.calls("sleep") or len(azure.calls()) < number
    if hook == "hooks/postdeploy.sh":
        assert azure.read("gateway-key") == azure.read("gateway1").strip() != ""
    else:
        assert azure.read("subscription-keys") == "key-1,key-2,key-3,key-4"


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_gives_up_and_says_so_when_azure_keeps_failing(azure: Azure, hook: str) -> None:
    finished = azure.run(hook, failing="all")
    assert finished.returncode == 1
    assert "failed 20 times" in finished.stderr
    assert azure.calls("sleep") == ["sleep 15"] * 19


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_call_names_the_subscription_of_the_environment(azure: Azure, script: str) -> None:
    with_keys(azure, "one\n", "", "one")
    assert azure.run(script).returncode == 0
    assert azure.calls()
    for call in azure.calls():
        assert call.endswith(f" --subscription {SUBSCRIPTION}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_key_is_shown_when_a_script_runs(azure: Azure, script: str) -> None:
    with_keys(azure, "one-key\n", "", "one-key")
    finished = azure.run(script, environment={"SMOKE_TEST_TOKEN": "a-login-key"})
    assert finished.returncode == 0
    shown = azure.read("calls").replace("--key-name", "").replace("--key-type", "")
    shown += finished.stdout + finished.stderr
    for secret in ("key-1", "key-2", "key-3", "key-4", "one-key", "new-key", "the-master-key", "a-login-key"):
        assert secret not in shown


def test_smoke_test_calls_as_an_administrator_without_edx_when_there_is_a_token(azure: Azure) -> None:
    finished = azure.run("hooks/smoke-test.sh", environment={"SMOKE_TEST_TOKEN": "a-token"})
    assert finished.returncode == 0
    assert azure.calls("curl")[-1].endswith("/ExternalLinks/edXCourseruns/changes?limit=1")
    assert azure.read("headers") == "Ocp-Apim-Subscription-Key: key-1\nAuthorization: Bearer a-token\n"


def test_deployment_fails_when_the_smoke_test_gets_no_answer(azure: Azure) -> None:
    azure.write("status", "401\n")
    finished = azure.run("hooks/postdeploy.sh", environment={"SMOKE_TEST_TOKEN": "a-token"})
    assert finished.returncode == 1
    assert "An administrator's call was answered with 401 instead of 200." in finished.stderr


@pytest.mark.parametrize(("old", "new"), [("gateway1", "gateway2"), ("gateway2", "gateway1")])
def test_both_keys_are_valid_until_the_gateway_uses_the_new_one_when_it_is_rotated(
    azure: Azure, old: str, new: str
) -> None:
    azure.write(old, "key-in-use\n")
    azure.write("vault-key", "key-in-use")
    assert azure.run("rotate-function-key.sh").returncode == 0
    assert azure.read("gateway-key") == azure.read("vault-key") == azure.read(new).strip()
    assert azure.read(old) == ""
    calls = azure.read("calls")
    assert calls.index("refreshSecret") < calls.index("sleep 300") < calls.index("functionapp keys delete")


@pytest.mark.parametrize("number", range(1, 8))
def test_gateway_keeps_a_valid_key_when_rotating_fails_at_any_call(azure: Azure, number: int) -> None:
    with_keys(azure, "one\n", "", "one")
    azure.write("gateway-key", "one")
    finished = azure.run("rotate-function-key.sh", failing=str(number))
    valid = {azure.read("gateway1").strip(), azure.read("gateway2").strip()} - {""}
    assert azure.read("gateway-key") in valid
    assert (finished.returncode == 0) is (len(azure.calls()) < number)


def test_key_is_not_rotated_when_the_vault_has_no_key_of_the_app(azure: Azure) -> None:
    with_keys(azure, "one\n", "two\n", "other")
    finished = azure.run("rotate-function-key.sh")
    assert finished.returncode == 1
    assert "azd hooks run postdeploy" in finished.stderr
    assert not [call for call in azure.calls() if "keys set" in call or "keys delete" in call]


@pytest.mark.parametrize("script", ["rotate-function-key.sh", "start-sync.sh"])
def test_nothing_is_called_when_the_azd_environment_is_not_deployed(azure: Azure, script: str) -> None:
    azure.write("azd-env", "AZURE_ENV_NAME=test\n")
    finished = azure.run(script)
    assert finished.returncode == 1
    assert "azd env refresh" in finished.stderr
    assert azure.calls() == []


def provision_from_elsewhere(azure: Azure, **state: str) -> tuple[int, str]:
    """Run the check before provisioning in an environment that was never deployed or refreshed."""
    azure.write("azd-env", f"AZURE_ENV_NAME=test\nAZURE_SUBSCRIPTION_ID={SUBSCRIPTION}\n")
    for name, text in state.items():
        azure.write(name.replace("_", "-"), text)
    finished = azure.run("hooks/preprovision.sh")
    return finished.returncode, finished.stderr


def test_provisioning_is_refused_when_this_machine_does_not_know_what_is_deployed(azure: Azure) -> None:
    code, said = provision_from_elsewhere(azure)
    assert code == 1
    assert "azd env refresh" in said


@pytest.mark.parametrize("state", [{"group_exists": "false\n"}, {"deployments": "0\n"}])
def test_provisioning_continues_when_nothing_is_deployed(azure: Azure, state: dict[str, str]) -> None:
    assert provision_from_elsewhere(azure, **state) == (0, "")


def test_provisioning_continues_without_a_question_when_this_machine_knows_what_is_deployed(
    azure: Azure,
) -> None:
    assert azure.run("hooks/preprovision.sh", failing="all").returncode == 0


@pytest.mark.parametrize("failing", ["1", "2", "all"])
def test_provisioning_is_refused_when_azure_does_not_say_whether_the_app_is_deployed(
    azure: Azure, failing: str
) -> None:
    azure.write("azd-env", f"AZURE_ENV_NAME=test\nAZURE_SUBSCRIPTION_ID={SUBSCRIPTION}\n")
    assert azure.run("hooks/preprovision.sh", failing=failing).returncode == 1


def test_provisioning_is_refused_when_no_subscription_is_set(azure: Azure) -> None:
    azure.write("azd-env", "AZURE_ENV_NAME=test\n")
    finished = azure.run("hooks/preprovision.sh")
    assert finished.returncode == 1
    assert "azd env set AZURE_SUBSCRIPTION_ID" in finished.stderr
