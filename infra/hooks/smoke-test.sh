#!/bin/sh
# Tests a deployment from outside: the app runs; the gateway refuses a call without a key; and, when SMOKE_TEST_TOKEN is
# the token of an administrator's login, gateway, function and storage work together. It never calls edX.
# postdeploy.sh runs it with the variables of azd.
set -eu
here=$(dirname "$0")
. "$here/lib.sh"

# status_of URL: prints the HTTP status of a GET; request headers come on standard input, so that no key or token
# is in the process list.
status_of() {
    curl --silent --show-error --max-time 60 --output /dev/null --write-out '%{http_code}' --header @- "$1"
}

app_runs() {
    [ "$(status_of "$FUNCTION_APP_URL/health" </dev/null)" = 200 ]
}

gateway_refuses_calls_without_a_key() {
    [ "$(status_of "$COURSE_RUNS_URL" </dev/null)" = 401 ]
}

administrator_is_answered() {
    key=$(az rest --method post --output tsv --query primaryKey --url \
        "$(url_of "Microsoft.ApiManagement/service/$AZURE_API_MANAGEMENT_NAME")/subscriptions/luminus/listSecrets?api-version=2024-05-01") || return 1
    status=$(printf 'Ocp-Apim-Subscription-Key: %s\nAuthorization: Bearer %s\n' "$key" "$SMOKE_TEST_TOKEN" |
        status_of "$COURSE_RUNS_URL/changes?limit=1") || return 1
    if [ "$status" != 200 ]; then
        echo "An administrator's call was answered with $status instead of 200. See docs/api-management.md." >&2
        return 1
    fi
}

echo "Testing the deployment ..."
retry app_runs
retry gateway_refuses_calls_without_a_key
if [ -n "${SMOKE_TEST_TOKEN:-}" ]; then
    retry administrator_is_answered
else
    echo "SMOKE_TEST_TOKEN is not set, so no administrator's call was tested."
fi
