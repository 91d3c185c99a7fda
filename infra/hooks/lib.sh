# shellcheck shell=sh
# Sourced by the scripts of this folder and of the one above.

# Git Bash would turn an argument such as /subscriptions/… into a path of Windows.
export MSYS_NO_PATHCONV=1

# az ARGUMENT...: calls the Azure CLI for the subscription of the azd environment, whatever `az account set` chose.
az() {
    command az "$@" --subscription "$AZURE_SUBSCRIPTION_ID"
}

# from_azd NAME...: sets each variable to its value in the azd environment. azd itself does so for its hooks, not for
# scripts that a person starts, whose shell may have the values of another environment.
from_azd() {
    for variable in "$@"; do
        value=$(azd env get-value "$variable") || return 1
        [ -n "$value" ] || return 1
        eval "$variable=\$value"
    done
}

# retry COMMAND [ARGUMENT...]: runs it until it succeeds, at most 20 times, 15 seconds apart. New roles and
# new apps take minutes until Azure knows them everywhere.
retry() {
    attempt=1
    until "$@"; do
        if [ "$attempt" -ge 20 ]; then
            echo "$1 failed $attempt times. Correct the error above and run the script again." >&2
            return 1
        fi
        attempt=$((attempt + 1))
        sleep 15
    done
}

# The URL of a resource in our resource group, for `az rest`.
url_of() {
    echo "/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/$AZURE_RESOURCE_GROUP/providers/$1"
}
