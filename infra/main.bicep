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

@description('Object id of whoever deploys and operates; may write secrets and work on the tables. Empty: nobody.')
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

@description('When the timer syncs: NCRONTAB, six fields, UTC.')
@minLength(11)
param syncSchedule string = '0 0 * * * *'

@description('For how many seconds after a sync a request is answered from storage.')
@minValue(0)
param syncFreshForSeconds int = 900

@description('A sync that would withdraw more than this share of a catalog withdraws nothing and fails.')
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

@description('Tier of API Management. Consumption ends a request after 30 s, so a sync inside one gets 20 s.')
@allowed([
  'BasicV2'
  'StandardV2'
  'Developer'
  'Consumption'
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

@description('Who is told when a sync failed or none succeeded for too long.')
@minLength(1)
param alertEmail string

@description('Hours without a successful sync after which an alert is raised.')
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

@description('Whether API Management holds the function key already (infra/hooks/postdeploy.sh says so).')
param gatewayHasFunctionKey bool = false

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
    alertEmail: alertEmail
    alertHoursWithoutSync: alertHoursWithoutSync
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
    operatorPrincipalId: operatorPrincipalId
    edxClientId: edxClientId
    edxClientSecret: edxClientSecret
    edxCatalogIds: edxCatalogIds
    modularCreditHours: modularCreditHours
    syncSchedule: syncSchedule
    syncFreshForSeconds: syncFreshForSeconds
    syncMaxWithdrawPercent: syncMaxWithdrawPercent
    // The rest of the gateway's 30 s is for starting a cold instance and for the answer.
    syncTimeBudgetSeconds: apimSku == 'Consumption' ? 20 : 200
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
    functionAppUrl: app.outputs.functionAppUrl
    skuName: apimSku
    publisherEmail: apimPublisherEmail
    publisherName: apimPublisherName
    corsOrigins: corsOrigins
    adminJwtIssuer: adminJwtIssuer
    adminJwtAudience: adminJwtAudience
    adminOpenIdConfigUrl: adminOpenIdConfigUrl
    adminRoleClaim: adminRoleClaim
    adminRole: adminRole
    holdsFunctionKey: gatewayHasFunctionKey
  }
}

// azd keeps outputs in the environment, where the hooks and `azd env get-values` find them.
output AZURE_RESOURCE_GROUP string = rg.name
output AZURE_FUNCTION_APP_NAME string = app.outputs.functionAppName
output AZURE_KEY_VAULT_NAME string = app.outputs.keyVaultName
output AZURE_API_MANAGEMENT_NAME string = gateway.outputs.serviceName
output AZURE_LOG_ANALYTICS_WORKSPACE_ID string = monitoring.outputs.workspaceCustomerId
output TABLES_ENDPOINT string = app.outputs.tablesEndpoint
output COURSE_RUNS_URL string = gateway.outputs.courseRunsUrl
