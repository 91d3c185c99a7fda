#!/bin/sh
# Prints the deployed app's settings, secrets included, as shell commands, so that the command line on this machine
# works with the app's settings on the app's data:
#     eval "$(infra/operator-env.sh || echo false)"
# If any value is missing, the printed commands set all settings to empty and end with `false`: the `eval` fails, and
# no later command uses the sandbox or settings of an earlier `eval` in the same shell.
set -eu

# All settings of shared/settings.py, and the required ones.
names="EDX_API_URL EDX_TOKEN_URL EDX_CLIENT_ID EDX_CLIENT_SECRET EDX_CATALOG_IDS EDX_PAGE_SIZE EDX_CONCURRENCY
EDX_ENROLLMENT_URL MODULAR_CREDIT_HOURS SYNC_SCHEDULE SYNC_FRESH_FOR_SECONDS SYNC_STALE_IF_ERROR_SECONDS
SYNC_MAX_WITHDRAW_PERCENT SYNC_TIME_BUDGET_SECONDS TABLES_CONNECTION_STRING TABLES_ENDPOINT TABLES_PREFIX
APIM_SUBSCRIPTION_KEYS ADMIN_JWT_ISSUER ADMIN_JWT_AUDIENCE ADMIN_JWKS_URL ADMIN_ROLE_CLAIM ADMIN_ROLE"
required="EDX_CLIENT_ID EDX_CLIENT_SECRET SYNC_SCHEDULE TABLES_ENDPOINT APIM_SUBSCRIPTION_KEYS ADMIN_JWT_ISSUER
ADMIN_JWT_AUDIENCE ADMIN_JWKS_URL"

commands=
print_commands() {
    if [ -z "$commands" ]; then
        for name in $names; do
            echo "export $name="
        done
        echo false
    else
        printf '%s' "$commands"
    fi
}
trap print_commands EXIT
trap 'exit 1' HUP INT TERM

fail() {
    echo "operator-env.sh: $1" >&2
    exit 1
}

. "$(dirname "$0")/hooks/lib.sh"

tab=$(printf '\t')
return=$(printf '\r')

# setting NAME: sets `value` to the app's value of the setting; empty when the app has none.
setting() {
    value=
    while IFS= read -r line; do
        case $line in
            "$1$tab"*) value=${line#*"$tab"} value=${value%"$return"} ;;
        esac
    done <<EOF
$settings
EOF
}

from_azd AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME AZURE_KEY_VAULT_NAME ||
    fail "the azd environment does not know the deployed app. Select one (azd env select) and run: azd env refresh"
settings=$(az functionapp config appsettings list --resource-group "$AZURE_RESOURCE_GROUP" \
    --name "$AZURE_FUNCTION_APP_NAME" --query "[].[name, value]" --output tsv) ||
    fail "az cannot read the settings of $AZURE_FUNCTION_APP_NAME. Run az login; you need the role Website Contributor on it"

collected=
for name in $names; do
    setting "$name"
    case $value in
        @Microsoft.KeyVault*)
            secret=${value##*/secrets/}
            secret=${secret%%[/)]*}
            value=$(az keyvault secret show --vault-name "$AZURE_KEY_VAULT_NAME" --name "$secret" \
                --query value --output tsv) ||
                fail "az cannot read the secret $secret of $AZURE_KEY_VAULT_NAME. You need the role Key Vault Secrets User on it"
            value=${value%"$return"}
            ;;
    esac
    case " $(echo "$required" | tr '\n' ' ') " in
        *" $name "*) [ -n "$value" ] || fail "the app has no value for $name. Set it as in docs/deploying.md and run: azd provision" ;;
    esac
    quoted=$(printf '%s' "$value" | sed "s/'/'\\\\''/g")
    collected="${collected}export $name='$quoted'
"
done
commands=$collected
