// The whole service in one resource group: monitoring, the function app with what it needs, the gateway.
// `azd up` deploys it with the values of main.parameters.json.
targetScope = 'subscription'

@description('Name of the azd environment; the resource group and, hashed, every resource is named after it.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Region of every resource: one with availability zones, Flex Consumption and the API Management tier.')
@minLength(1)
@metadata({
  azd: {
    type: 'location'
  }
})
param location string

@description('Object id of the user or group that deploys and operates; may write secrets and tables. Empty: none.')
param operatorPrincipalId string = ''

@description('The id of our edX API client.')
@minLength(1)
param edxClientId string

@description('The secret of our edX API client; kept in Key Vault.')
@secure()
param edxClientSecret string

@description('edX catalog ids, separated by commas. Empty: every catalog that edX lists for the client.')
param edxCatalogIds string = ''

@description('Hours of work for one Modular Credit.')
@minValue(1)
param modularCreditHours int = 30

@description('When the timer syncs: NCRONTAB, six fields, UTC. Off the full hour, when edX\'s catalogs move most.')
@minLength(11)
param syncSchedule string = '0 7 * * * *'

@description('For how many seconds after a sync a request is answered from storage.')
@minValue(0)
param syncFreshForSeconds int = 900

@description('How many seconds old an answer may be when a sync fails. 0: never return old data.')
@minValue(0)
param syncStaleIfErrorSeconds int = 86400

@description('How many seconds a caller waits for a sync. The platform ends a request after 230.')
@minValue(1)
@maxValue(220)
param syncTimeBudgetSeconds int = 200

@description('Largest percentage of a catalog\'s answer that a sync may remove. Above it, the sync removes nothing and fails.')
@minValue(0)
@maxValue(100)
param syncMaxWithdrawPercent int = 20

@description('The exact `iss` of administrators\' tokens.')
@minLength(1)
param adminJwtIssuer string

@description('The `aud` of administrators\' tokens.')
@minLength(1)
param adminJwtAudience string

@description('Where the function gets the issuer\'s signing keys (JWKS).')
@minLength(1)
param adminJwksUrl string

@description('Where the gateway gets the issuer\'s OpenID Connect metadata, which names the same JWKS.')
@minLength(1)
param adminOpenIdConfigUrl string

@description('The claim of the token that holds the caller\'s roles.')
@minLength(1)
param adminRoleClaim string = 'roles'

@description('The role that makes a caller an administrator.')
@minLength(1)
param adminRole string = 'LumiNUS.Admin'

@description('Tier of API Management: BasicV2 and Developer for trials, StandardV2 for production.')
@allowed([
  'BasicV2'
  'StandardV2'
  'Developer'
])
param apimSku string = 'BasicV2'

@description('E-mail address that API Management shows as the publisher\'s and sends notices to.')
@minLength(1)
param apimPublisherEmail string

@description('Organisation that API Management shows as the publisher.')
@minLength(1)
param apimPublisherName string = 'LumiNUS'

@description('Origins of the browser clients, separated by commas.')
@minLength(1)
param corsOrigins string = 'https://luminus.nus.edu.sg'

@description('Who gets the alerts by e-mail.')
@minLength(1)
param alertEmail string

@description('Age of a catalog\'s last good sync, in hours, at which an alert is raised. Longer than the schedule\'s gaps.')
@allowed([
  1
  2
  3
  4
  5
  6
  24
  48
])
param alertHoursWithoutSync int = 4

@description('Logs that the workspace takes a day, in GB. Above that nothing is logged, and alerts do not work.')
@minValue(1)
param logDailyCapGb int = 1

var resourceToken = uniqueString(subscription().id, environmentName, location)
var tags = {
  'azd-env-name': environmentName
}

resource rg 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module monitoring 'monitoring.bicep' = {
  name: 'monitoring'
  scope: rg
  params: {
    location: location
    tags: tags
    resourceToken: resourceToken
    logDailyCapGb: logDailyCapGb
  }
}

module app 'app.bicep' = {
  name: 'app'
  scope: rg
  params: {
    location: location
    tags: tags
    resourceToken: resourceToken
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    workspaceName: monitoring.outputs.workspaceName
    operatorPrincipalId: operatorPrincipalId
    edxClientId: edxClientId
    edxClientSecret: edxClientSecret
    edxCatalogIds: edxCatalogIds
    modularCreditHours: modularCreditHours
    syncSchedule: syncSchedule
    syncFreshForSeconds: syncFreshForSeconds
    syncStaleIfErrorSeconds: syncStaleIfErrorSeconds
    syncTimeBudgetSeconds: syncTimeBudgetSeconds
    syncMaxWithdrawPercent: syncMaxWithdrawPercent
    adminJwtIssuer: adminJwtIssuer
    adminJwtAudience: adminJwtAudience
    adminJwksUrl: adminJwksUrl
    adminRoleClaim: adminRoleClaim
    adminRole: adminRole
  }
}

module gateway 'gateway.bicep' = {
  name: 'gateway'
  scope: rg
  params: {
    location: location
    tags: tags
    resourceToken: resourceToken
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    workspaceName: monitoring.outputs.workspaceName
    keyVaultName: app.outputs.keyVaultName
    functionAppUrl: app.outputs.functionAppUrl
    skuName: apimSku
    publisherEmail: apimPublisherEmail
    publisherName: apimPublisherName
    corsOrigins: corsOrigins
    syncFreshForSeconds: syncFreshForSeconds
    adminJwtIssuer: adminJwtIssuer
    adminJwtAudience: adminJwtAudience
    adminOpenIdConfigUrl: adminOpenIdConfigUrl
    adminRoleClaim: adminRoleClaim
    adminRole: adminRole
  }
}

module alerts 'alerts.bicep' = {
  name: 'alerts'
  scope: rg
  params: {
    location: location
    tags: tags
    resourceToken: resourceToken
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    workspaceName: monitoring.outputs.workspaceName
    functionAppUrl: app.outputs.functionAppUrl
    alertEmail: alertEmail
    alertHoursWithoutSync: alertHoursWithoutSync
  }
}

module workbook 'workbook.bicep' = {
  name: 'workbook'
  scope: rg
  params: {
    location: location
    tags: tags
    workspaceName: monitoring.outputs.workspaceName
  }
}

// azd keeps outputs in the environment, where the hooks and `azd env get-value` find them.
output AZURE_RESOURCE_GROUP string = rg.name
output AZURE_FUNCTION_APP_NAME string = app.outputs.functionAppName
output AZURE_KEY_VAULT_NAME string = app.outputs.keyVaultName
output AZURE_API_MANAGEMENT_NAME string = gateway.outputs.serviceName
output AZURE_LOG_ANALYTICS_WORKSPACE_ID string = monitoring.outputs.workspaceCustomerId
output TABLES_ENDPOINT string = app.outputs.tablesEndpoint
output FUNCTION_APP_URL string = app.outputs.functionAppUrl
output COURSE_RUNS_URL string = '${gateway.outputs.gatewayUrl}/ExternalLinks/edXCourseruns'

// The deployed settings, under the names that main.parameters.json reads: `azd env refresh` copies them to a machine
// that has never deployed, so that its next deployment does not reset them. The secret is a reference to the vault,
// which azd resolves: from the first deployment on, the vault has the current secret.
output EDX_CLIENT_ID string = edxClientId
output EDX_CLIENT_SECRET string = 'akvs://${subscription().subscriptionId}/${app.outputs.keyVaultName}/edx-client-secret'
output EDX_CATALOG_IDS string = edxCatalogIds
output MODULAR_CREDIT_HOURS string = string(modularCreditHours)
output SYNC_SCHEDULE string = syncSchedule
output SYNC_FRESH_FOR_SECONDS string = string(syncFreshForSeconds)
output SYNC_STALE_IF_ERROR_SECONDS string = string(syncStaleIfErrorSeconds)
output SYNC_TIME_BUDGET_SECONDS string = string(syncTimeBudgetSeconds)
output SYNC_MAX_WITHDRAW_PERCENT string = string(syncMaxWithdrawPercent)
output ADMIN_JWT_ISSUER string = adminJwtIssuer
output ADMIN_JWT_AUDIENCE string = adminJwtAudience
output ADMIN_JWKS_URL string = adminJwksUrl
output ADMIN_OPENID_CONFIG_URL string = adminOpenIdConfigUrl
output ADMIN_ROLE_CLAIM string = adminRoleClaim
output ADMIN_ROLE string = adminRole
output APIM_SKU string = apimSku
output APIM_PUBLISHER_EMAIL string = apimPublisherEmail
output APIM_PUBLISHER_NAME string = apimPublisherName
output CORS_ORIGINS string = corsOrigins
output ALERT_EMAIL string = alertEmail
output ALERT_HOURS_WITHOUT_SYNC string = string(alertHoursWithoutSync)
output LOG_DAILY_CAP_GB string = string(logDailyCapGb)
