#!/bin/sh
# Creates the app registration for administrators' logins in the tenant that az is logged in to, or completes one of the
# same name, and prints the azd commands to set its values. You need the role Application Developer.
#     infra/entra-app.sh "edX connector for LumiNUS" [OBJECT-ID...]
# Each object id (of a user, a group or a program's service principal) gets the role LumiNUS.Admin; that needs
# Cloud Application Administrator.
set -eu

if [ $# -eq 0 ]; then
    echo "Usage: infra/entra-app.sh NAME [OBJECT-ID...]" >&2
    exit 2
fi
name=$1
shift
case $name in
    *[\'\"\\]*)
        echo "The name must not contain quotes or backslashes. Choose another name." >&2
        exit 2
        ;;
esac

# Our own ids, the same in every tenant, so that a second run finds them.
role_id=6f0a1a4e-2f0b-4c57-9d6e-0c7c5f3f1d21
scope_id=b1d0c6de-54a8-4e37-8f5e-6a1f0b7a9c42
# The id of the Azure CLI, published by Microsoft: https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in
azure_cli=04b07795-8ddb-461a-bbee-02f9e1bf7b46

graph() {
    method=$1
    path=$2
    shift 2
    az rest --method "$method" --url "https://graph.microsoft.com/v1.0/$path" \
        --headers Content-Type=application/json "$@"
}

# first VALUE...: prints the first one.
first() {
    echo "${1:-}"
}

echo "Looking for the app registration \"$name\" ..."
tenant=$(az account show --query tenantId --output tsv)
found=$(az ad app list --filter "displayName eq '$name'" --query "[].appId" --output tsv)
# shellcheck disable=SC2086 # one id a line
app_id=$(first $found)
if [ -z "$app_id" ]; then
    echo "Creating it ..."
    app_id=$(az ad app create --display-name "$name" --sign-in-audience AzureADMyOrg \
        --requested-access-token-version 2 --query appId --output tsv --app-roles "[{
            \"id\": \"$role_id\", \"value\": \"LumiNUS.Admin\", \"isEnabled\": true,
            \"displayName\": \"LumiNUS administrator\", \"description\": \"May read the catalogue of edX course runs\",
            \"allowedMemberTypes\": [\"User\", \"Application\"]}]")
fi

# Version 2 gives tokens the issuer …/v2.0 and the app's id as audience. The scope is what a client asks for.
scopes="\"requestedAccessTokenVersion\": 2, \"oauth2PermissionScopes\": [{
    \"id\": \"$scope_id\", \"value\": \"user_impersonation\", \"type\": \"User\", \"isEnabled\": true,
    \"adminConsentDisplayName\": \"Read the catalogue of edX course runs\",
    \"adminConsentDescription\": \"Read the catalogue of edX course runs as the user who is logged in\"}]"
graph PATCH "applications(appId='$app_id')" --body "{\"identifierUris\": [\"api://$app_id\"], \"api\": {$scopes}}"
# A separate call, because it refers to the scope. With it, `az account get-access-token` gets a token without asking for consent.
graph PATCH "applications(appId='$app_id')" --body "{\"api\": {$scopes,
    \"preAuthorizedApplications\": [{\"appId\": \"$azure_cli\", \"delegatedPermissionIds\": [\"$scope_id\"]}]}}"

found=$(az ad sp list --filter "appId eq '$app_id'" --query "[].id" --output tsv)
# shellcheck disable=SC2086 # one id a line
service_principal=$(first $found)
if [ -z "$service_principal" ]; then
    service_principal=$(az ad sp create --id "$app_id" --query id --output tsv)
fi

for principal in "$@"; do
    assigned=$(graph GET "servicePrincipals/$service_principal/appRoleAssignedTo?\$top=999" --output tsv \
        --query "value[?principalId=='$principal' && appRoleId=='$role_id'].id")
    if [ -z "$assigned" ]; then
        echo "Giving $principal the role LumiNUS.Admin ..."
        graph POST "servicePrincipals/$service_principal/appRoleAssignedTo" --output none --body "{
            \"principalId\": \"$principal\", \"resourceId\": \"$service_principal\", \"appRoleId\": \"$role_id\"}"
    fi
done

login=https://login.microsoftonline.com/$tenant
cat <<EOF
Done. Now run these commands:

azd env set ADMIN_JWT_ISSUER $login/v2.0
azd env set ADMIN_JWT_AUDIENCE $app_id
azd env set ADMIN_JWKS_URL $login/discovery/v2.0/keys
azd env set ADMIN_OPENID_CONFIG_URL $login/v2.0/.well-known/openid-configuration
EOF
