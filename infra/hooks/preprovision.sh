#!/bin/sh
# Stops a deployment from a machine that does not know the deployed settings: each setting with a default would
# silently be reset to it. azd runs it before provisioning.
set -eu
. "$(dirname "$0")/lib.sh"

if [ -n "${AZURE_FUNCTION_APP_NAME:-}" ]; then
    exit 0 # this environment has deployed or was refreshed, so it has the settings
fi
if [ -z "${AZURE_SUBSCRIPTION_ID:-}" ]; then
    echo "The azd environment names no subscription. Run: azd env set AZURE_SUBSCRIPTION_ID <id>" >&2
    exit 1
fi
if [ "$(az group exists --name "rg-$AZURE_ENV_NAME")" = false ]; then
    exit 0 # the first deployment, or the first after `azd down`
fi
# Checks whether the newest finished deployment of this name has outputs; a failed one has no settings to reset.
deployed=$(az deployment sub list --output tsv --query "sort_by([?tags.\"azd-env-name\" == '$AZURE_ENV_NAME' \
&& properties.provisioningState == 'Succeeded'], &properties.timestamp)[-1:].properties.outputs | [?@] | length(@)") || {
    echo "az cannot read whether $AZURE_ENV_NAME is deployed. Log in to this subscription: az login" >&2
    exit 1
}
if [ "$deployed" != 0 ]; then
    echo "$AZURE_ENV_NAME is deployed, but this machine does not have its settings. Run: azd env refresh" >&2
    exit 1
fi
