#!/bin/sh
# Starts the timer's sync in the deployed app, in the background: the host answers before the sync begins.
set -eu
. "$(dirname "$0")/hooks/lib.sh"

from_azd AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME FUNCTION_APP_URL || {
    echo "The azd environment is not deployed or not refreshed. Run: azd env refresh" >&2
    exit 1
}
key=$(az functionapp keys list --resource-group "$AZURE_RESOURCE_GROUP" --name "$AZURE_FUNCTION_APP_NAME" \
    --query masterKey --output tsv)
# The key goes by standard input: an argument could be read in the process list.
printf 'x-functions-key: %s\n' "$key" |
    curl --silent --show-error --fail --max-time 60 --header @- --header 'Content-Type: application/json' \
        --data '{}' "$FUNCTION_APP_URL/admin/functions/sync_course_runs"
echo "Started. In a few minutes the workbook 'edX connector' shows the result."
