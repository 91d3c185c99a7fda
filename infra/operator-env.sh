#!/bin/sh
# Prints the deployed app's settings, secrets included, as shell commands, so that the command line on this
# machine works with the app's settings on the app's data:
#     eval "$(infra/operator-env.sh)"
set -eu

eval "$(azd env get-values)"
settings=$(az functionapp config appsettings list --resource-group "$AZURE_RESOURCE_GROUP" \
    --name "$AZURE_FUNCTION_APP_NAME" --query "[].[name, value]" --output tsv)

echo "$settings" | while IFS="$(printf '\t')" read -r name value; do
    case $name in
        EDX_* | MODULAR_* | SYNC_* | TABLES_* | APIM_* | ADMIN_*) ;;
        *) continue ;; # the platform's
    esac
    case $value in
        @Microsoft.KeyVault*)
            secret=${value##*/secrets/}
            value=$(az keyvault secret show --vault-name "$AZURE_KEY_VAULT_NAME" --name "${secret%%[/)]*}" \
                --query value --output tsv </dev/null)
            ;;
    esac
    printf "export %s='%s'\n" "$name" "$(printf '%s' "$value" | sed "s/'/'\\\\''/g")"
done
# A local.settings.json fills in what is not set; the sandbox's connection string must not come from there.
echo "export TABLES_CONNECTION_STRING="
