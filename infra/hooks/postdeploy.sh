#!/bin/sh
# Gives API Management the function key `apim`, making one if there is none. azd runs it after deploying the
# code, because a Flex Consumption app without code has no keys. To change the key, see docs/operations.md.
# The key goes from command to command by pipe: an argument could be read in the process list.
set -eu
. "$(dirname "$0")/retry.sh"

function_keys() {
    command=$1
    shift
    az functionapp function keys "$command" --resource-group "$AZURE_RESOURCE_GROUP" \
        --name "$AZURE_FUNCTION_APP_NAME" --function-name course_runs "$@"
}

read_key() {
    key=$(function_keys list --query apim --output tsv) || return 1
    if [ -z "$key" ]; then
        function_keys set --key-name apim --output none || return 1
        key=$(function_keys list --query apim --output tsv) || return 1
    fi
    [ -n "$key" ]
}

write_key() {
    printf '%s' "$key" | az apim nv update --resource-group "$AZURE_RESOURCE_GROUP" \
        --service-name "$AZURE_API_MANAGEMENT_NAME" --named-value-id function-key --value @- --output none
}

echo "Giving API Management the function key ..."
retry read_key
retry write_key
# From now on provisioning leaves the named value alone.
azd env set GATEWAY_HAS_FUNCTION_KEY true
echo "Done. Call $COURSE_RUNS_URL"
