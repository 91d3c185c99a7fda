#!/bin/sh
# Copies the function key to Key Vault for API Management, creating one if needed, and tests that the app answers.
# azd runs it after deploying the code, because an app without code may have no keys yet.
# To change the key, run infra/rotate-function-key.sh.
set -eu
here=$(dirname "$0")
. "$here/lib.sh"
. "$here/function-key.sh"

copy_key() {
    read_vault_key || return 1
    read_app_keys || return 1
    if [ "$in_vault" = "$gateway1" ] || [ "$in_vault" = "$gateway2" ]; then
        return 0 # a secret cannot be empty, so this is one of the app's keys
    fi
    if [ -z "$gateway1$gateway2" ]; then
        make_app_key gateway1 || return 1
        read_app_keys || return 1
    fi
    write_vault_key "${gateway1:-$gateway2}" || return 1
    is_first=yes
}

is_first=
echo "Copying the function key to Key Vault for API Management ..."
retry copy_key
retry refresh_gateway
"$here/smoke-test.sh"
if [ "$is_first" ]; then
    retry "$here/../start-sync.sh" # otherwise there would be no data until the timer fires
fi
echo "Done. Call $COURSE_RUNS_URL"
