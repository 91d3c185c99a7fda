#!/bin/sh
# Tells the function which subscription keys to accept: both keys of every active subscription of the product.
# azd runs it after provisioning; after regenerating a key run `azd hooks run postprovision`.
# Keys go from command to command by pipe: an argument could be read in the process list.
set -eu
. "$(dirname "$0")/retry.sh"

group="/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP/providers"
service="$group/Microsoft.ApiManagement/service/$AZURE_API_MANAGEMENT_NAME"
function_app="$group/Microsoft.Web/sites/$AZURE_FUNCTION_APP_NAME"

read_keys() {
    names=$(az rest --method get --url "$service/products/edx-course-runs/subscriptions?api-version=2024-05-01" \
        --query "value[?properties.state=='active'].name" --output tsv) || return 1
    keys=
    for name in $names; do
        pair=$(az rest --method post --url "$service/subscriptions/$name/listSecrets?api-version=2024-05-01" \
            --query "join(',', [primaryKey, secondaryKey])" --output tsv) || return 1
        keys="${keys:+$keys,}$pair"
    done
    [ -n "$keys" ]
}

write_keys() {
    printf '%s' "$keys" | az keyvault secret set --vault-name "$AZURE_KEY_VAULT_NAME" \
        --name apim-subscription-keys --content-type APIM_SUBSCRIPTION_KEYS --value @- --output none
}

# Without this the app would see the new secret within 24 hours only.
refresh_references() {
    az rest --method post --output none \
        --url "$function_app/config/configreferences/appsettings/refresh?api-version=2022-03-01"
}

echo "Copying the subscription keys of API Management to Key Vault ..."
retry read_keys
retry write_keys
retry refresh_references
echo "Done."
