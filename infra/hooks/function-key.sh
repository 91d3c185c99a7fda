# shellcheck shell=sh disable=SC2034
# Sourced after lib.sh (hence unused variables): the function key, which the app creates, Key Vault stores and
# API Management reads there.
# It is a host key, so that it is valid for every function. It has one of two names, so that two keys are valid during a
# rotation. It is passed from command to command by pipe, because an argument could be read in the process list.

function_keys() {
    command=$1
    shift
    az functionapp keys "$command" --resource-group "$AZURE_RESOURCE_GROUP" --name "$AZURE_FUNCTION_APP_NAME" "$@"
}

# Sets `gateway1` and `gateway2` to the app's keys of these names; empty when a key does not exist.
read_app_keys() {
    both=$(function_keys list --output tsv \
        --query "join(',', [functionKeys.gateway1 || '', functionKeys.gateway2 || ''])") || return 1
    gateway1=${both%,*}
    gateway2=${both#*,}
}

# Sets `in_vault` to the key that API Management uses.
read_vault_key() {
    in_vault=$(az keyvault secret show --vault-name "$AZURE_KEY_VAULT_NAME" --name function-key \
        --query value --output tsv)
}

# make_app_key NAME: gives the app a new key of that name, in place of any old one.
make_app_key() {
    function_keys set --key-type functionKeys --key-name "$1" --output none
}

# write_vault_key KEY
write_vault_key() {
    printf '%s' "$1" | az keyvault secret set --vault-name "$AZURE_KEY_VAULT_NAME" --name function-key \
        --value @- --output none
}

# Without this, API Management would read the new secret up to four hours later.
refresh_gateway() {
    az rest --method post --output none --url \
        "$(url_of "Microsoft.ApiManagement/service/$AZURE_API_MANAGEMENT_NAME")/namedValues/function-key/refreshSecret?api-version=2024-05-01"
}
