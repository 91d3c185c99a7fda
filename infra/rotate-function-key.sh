#!/bin/sh
# Replaces the key with which API Management calls the function app. No call fails during this: the app accepts both
# keys until the gateway uses the new one.
set -eu
here=$(dirname "$0")
. "$here/hooks/lib.sh"
. "$here/hooks/function-key.sh"

from_azd AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME AZURE_KEY_VAULT_NAME \
    AZURE_API_MANAGEMENT_NAME || {
    echo "The azd environment is not deployed or not refreshed. Run: azd env refresh" >&2
    exit 1
}
read_vault_key
read_app_keys
case $in_vault in
    "$gateway1") old=gateway1 new=gateway2 ;;
    "$gateway2") old=gateway2 new=gateway1 ;;
    *)
        echo "The key in the vault is not one of the app's keys. Run: azd hooks run postdeploy" >&2
        exit 1
        ;;
esac

echo "Creating the key $new ..."
make_app_key "$new"
read_app_keys
if [ "$new" = gateway1 ]; then key=$gateway1; else key=$gateway2; fi
[ -n "$key" ]
write_vault_key "$key"
refresh_gateway
echo "Waiting five minutes until every part of the gateway uses the new key ..."
sleep 300
echo "Deleting the key $old ..."
function_keys delete --key-type functionKeys --key-name "$old" --output none
echo "Done."
