"""Simulates Azure for the scripts of infra/: an `az`, an `azd`, a `curl` and a `sleep` for the PATH.

Each call adds a line to the file `calls`. The state is files in one folder that tests can set and read.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

INFRA = Path(__file__).parents[2] / "infra"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"

# Fails at the calls whose numbers are in the file `failing`, and at any that does not name our subscription.
AZ = f"""#!/bin/sh
echo "az $*" >> calls
number=$(grep -c '^az ' calls)
case " $(cat failing) " in *" $number "*|*" all "*) echo "az: call $number fails" >&2; exit 1 ;; esac
case "$*" in *" --subscription {SUBSCRIPTION}") ;; *) echo "az: wrong subscription: $*" >&2; exit 1 ;; esac
case "$*" in
    "group exists --name rg-test "*) cat group-exists ;;
    "deployment sub list "*) cat deployments ;;
    *"--url next-page "*) printf '\\nreports\\n' ;;
    *products/edx-course-runs/subscriptions*) printf 'next-page\\nluminus\\n' ;;
    *subscriptions/luminus/listSecrets*primaryKey,*) echo 'key-1,key-2' ;;
    *subscriptions/reports/listSecrets*) echo 'key-3,key-4' ;;
    *"--query primaryKey "*subscriptions/luminus/listSecrets*) echo 'key-1' ;;
    "keyvault secret set "*" --name apim-subscription-keys "*" --value @- "*) cat > subscription-keys ;;
    "keyvault secret set "*" --name function-key "*"--value @- "*) cat > vault-key ;;
    "keyvault secret show "*" --name function-key "*) cat vault-key ;;
    "keyvault secret show "*" --name edx-client-secret "*) cat edx-secret ;;
    "keyvault secret show "*" --name apim-subscription-keys "*) echo 'key-1,key-2' ;;
    "functionapp config appsettings list "*) cat app-settings ;;
    "functionapp keys list "*masterKey*) echo 'the-master-key' ;;
    "functionapp keys list "*) echo "$(cat gateway1),$(cat gateway2)" ;;
    "functionapp keys set "*" --key-name gateway1 "*) echo "new-key-$number" > gateway1 ;;
    "functionapp keys set "*" --key-name gateway2 "*) echo "new-key-$number" > gateway2 ;;
    "functionapp keys delete "*" --key-name gateway1 "*) : > gateway1 ;;
    "functionapp keys delete "*" --key-name gateway2 "*) : > gateway2 ;;
    "rest --method post "*/namedValues/function-key/refreshSecret?*) cp vault-key gateway-key ;;
    "rest --method post "*/config/configreferences/appsettings/refresh?*) ;;
    *) echo "az: unknown call: $*" >&2; exit 1 ;;
esac
"""

AZD = """#!/bin/sh
echo "azd $*" >> calls
case "$*" in "env get-value "*) grep "^$3=" azd-env | cut -d= -f2- ;; *) exit 1 ;; esac
"""

# Answers with the status in the file `status`; the header lines of each call go to the file `headers`.
CURL = """#!/bin/sh
echo "curl $*" >> calls
cat >> headers
case "$*" in
    */health) echo 200 ;;
    */changes*) cat status ;;
    *) echo 401 ;;
esac
"""


class Azure(NamedTuple):
    """The folder that holds the commands and their state."""

    folder: Path

    def run(
        self, script: str, *, failing: str = "", environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of infra/ as azd runs a hook, with the calls to `az` that fail by number."""
        self.write("failing", failing)
        self.write("calls", "")
        return subprocess.run(  # noqa: S603 - our own script
            [str(INFRA / script)],
            cwd=self.folder,
            env={**self.path(), **self.variables(), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def path(self) -> dict[str, str]:
        """The environment that finds the commands."""
        return {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"}

    def variables(self) -> dict[str, str]:
        """The environment that azd passes to its hooks."""
        lines = self.read("azd-env").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def read(self, name: str) -> str:
        """Return the text of a state file; empty when the file does not exist."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def write(self, name: str, text: str) -> None:
        """Write a state file."""
        (self.folder / name).write_text(text)

    def calls(self, command: str = "az") -> list[str]:
        """Return the calls of a command in the last run."""
        return [line for line in self.read("calls").splitlines() if line.startswith(f"{command} ")]


def make_azure(folder: Path) -> Azure:
    """Return an Azure with a deployed app, no function key, and special characters in the edX secret."""
    azure = Azure(folder)
    for name, script in {
        "az": AZ,
        "azd": AZD,
        "curl": CURL,
        "sleep": '#!/bin/sh\necho "sleep $*" >> calls\n',
    }.items():
        azure.write(name, script)
        (folder / name).chmod(0o755)
    azure.write(
        "azd-env",
        "AZURE_ENV_NAME=test\n"
        f"AZURE_SUBSCRIPTION_ID={SUBSCRIPTION}\n"
        "AZURE_RESOURCE_GROUP=rg-test\n"
        "AZURE_API_MANAGEMENT_NAME=apim-test\n"
        "AZURE_FUNCTION_APP_NAME=func-test\n"
        "AZURE_KEY_VAULT_NAME=kv-test\n"
        "FUNCTION_APP_URL=https://func-test.azurewebsites.net\n"
        "COURSE_RUNS_URL=https://apim-test.azure-api.net/ExternalLinks/edXCourseruns\n",
    )
    for name, text in {
        "failing": "",
        "group-exists": "true\n",
        "deployments": "1\n",
        "vault-key": "set-by-the-postdeploy-hook",
        "gateway1": "",
        "gateway2": "",
        "status": "200\n",
        "edx-secret": 'it\'s \\n "$HOME" `id` %s\n',
    }.items():
        azure.write(name, text)
    return azure
