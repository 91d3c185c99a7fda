#!/bin/sh
# Tells the function which subscription keys to accept: both keys of every active subscription of the product.
# azd runs it after provisioning; after regenerating a key run `azd hooks run postprovision`.
# Keys are passed from command to command by pipe, because an argument could be read in the process list.
set -eu
. "$(dirname "$0")/lib.sh"

service=$(url_of "Microsoft.ApiManagement/service/$AZURE_API_MANAGEMENT_NAME")
function_app=$(url_of "Microsoft.Web/sites/$AZURE_FUNCTION_APP_NAME")

read_keys() {
    keys=
    page="$service/products/edx-course-runs/subscriptions?api-version=2024-05-01"
    while [ -n "$page" ]; do
        # The first line is the address of the next page, empty on the last one; then one name a line.
        lines=$(az rest --method get --url "$page" --output tsv \
            --query "[[nextLink || ''], value[?properties.state=='active'].name][]") || return 1
        page=
        first=yes
        while read -r line; do
            if [ "$first" ]; then
                first=
                page=$line
            else
                add_keys_of "$line" || return 1
            fi
        done <<EOF
$lines
EOF
    done
    [ -n "$keys" ]
}

add_keys_of() {
    pair=$(az rest --method post --url "$service/subscriptions/$1/listSecrets?api-version=2024-05-01" \
        --query "join(',', [primaryKey, secondaryKey])" --output tsv </dev/null) || return 1
    keys="${keys:+$keys,}$pair"
}

write_keys() {
    printf '%s' "$keys" | az keyvault secret set --vault-name "$AZURE_KEY_VAULT_NAME" \
        --name apim-subscription-keys --content-type APIM_SUBSCRIPTION_KEYS --value @- --output none
}

# Without this, the app would read a new secret up to 24 hours later.
refresh_references() {
    az rest --method post --output none \
        --url "$function_app/config/configreferences/appsettings/refresh?api-version=2022-03-01"
}

echo "Copying the subscription keys of API Management to Key Vault ..."
retry read_keys
retry write_keys
retry refresh_references
echo "Done."
