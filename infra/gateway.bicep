// API Management: the only public way to call the function. docs/api-management.md explains the policy.

@description('Region of the service.')
param location string

@description('Tags of the service.')
param tags object

@description('Makes names unique and the same at every deployment.')
@minLength(13)
@maxLength(13)
param resourceToken string

@description('The Application Insights component to report to.')
param applicationInsightsName string

@description('The Log Analytics workspace that takes the log of requests.')
param workspaceName string

@description('The Key Vault that holds the function key.')
param keyVaultName string

@description('Where the function app answers, without a slash at the end.')
param functionAppUrl string

@description('Tier of the service.')
@allowed([
  'BasicV2'
  'StandardV2'
  'Developer'
])
param skuName string

@description('E-mail address that the service shows as the publisher\'s.')
param publisherEmail string

@description('Organisation that the service shows as the publisher.')
param publisherName string

@description('Origins of the browser clients, separated by commas.')
param corsOrigins string

@description('For how many seconds after a sync a request is answered from storage.')
param syncFreshForSeconds int

@description('The exact `iss` of administrators\' tokens.')
param adminJwtIssuer string

@description('The `aud` of administrators\' tokens.')
param adminJwtAudience string

@description('Where the issuer\'s OpenID Connect metadata is.')
param adminOpenIdConfigUrl string

@description('The claim of the token that holds the caller\'s roles.')
param adminRoleClaim string

@description('The role that makes a caller an administrator.')
param adminRole string

// Ids of Azure's built-in roles, the same in every tenant.
var roles = {
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
}

// The named values that the policy uses as {{name}}; function-key is separate, because it comes from the vault.
var namedValues = [
  {
    name: 'admin-jwt-issuer'
    value: adminJwtIssuer
  }
  {
    name: 'admin-jwt-audience'
    value: adminJwtAudience
  }
  {
    name: 'admin-openid-config-url'
    value: adminOpenIdConfigUrl
  }
  {
    // This and the next value are percent-encoded, so that no character in them can break the policy's XML.
    name: 'admin-role-claim'
    value: uriComponent(adminRoleClaim)
  }
  {
    name: 'admin-role'
    value: uriComponent(adminRole)
  }
  {
    name: 'function-app-url'
    value: functionAppUrl
  }
  {
    name: 'sync-fresh-for-seconds'
    value: string(syncFreshForSeconds)
  }
]

// A browser sends an origin without a slash at its end. The policy file is complete and well formed;
// only its single origin is replaced by the list, and empty entries are removed.
var trimmedOrigins = [for origin in split(corsOrigins, ','): trim(origin)]
var bareOrigins = [for origin in trimmedOrigins: endsWith(origin, '/') ? substring(origin, 0, length(origin) - 1) : origin]
var origins = join(bareOrigins, '</origin><origin>')
var policyWithOrigins = replace(loadTextContent('api-policy.xml'), 'https://cors-origins.invalid', origins)
var policyXml = replace(policyWithOrigins, '<origin></origin>', '')

// Otherwise a subscription key in a URL would be readable in the logs.
var maskedRequest = {
  dataMasking: {
    queryParams: [
      {
        value: 'subscription-key'
        mode: 'Mask'
      }
    ]
  }
}

resource keyVault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: keyVaultName
}

// The vault has the current function key, so that any machine can deploy at any time:
// infra/hooks/postdeploy.sh writes the key, and a deployment creates the placeholder only when there is no secret.
// The named value below cannot be created before the secret exists, and the policy cannot be created before the named value.
@onlyIfNotExists()
resource functionKeyInVault 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  // checkov:skip=CKV_AZURE_41: An expiry date would stop every call on that day; docs/operations.md describes how to rotate the key.
  parent: keyVault
  name: 'function-key'
  properties: {
    value: 'set-by-the-postdeploy-hook'
    contentType: 'The key with which API Management calls the function app'
  }
}

// Created before the service, which takes minutes to create, so that the roles are effective when the service starts.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-apim-${resourceToken}'
  location: location
  tags: tags
}

resource functionKeyRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(functionKeyInVault.id, identity.id, roles.keyVaultSecretsUser)
  scope: functionKeyInVault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource telemetryRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(applicationInsights.id, identity.id, roles.monitoringMetricsPublisher)
  scope: applicationInsights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.monitoringMetricsPublisher)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource service 'Microsoft.ApiManagement/service@2024-05-01' = {
  // checkov:skip=CKV_AZURE_107: The backend is called over the internet and accepts only calls with its key.
  // checkov:skip=CKV_AZURE_174: The gateway is public on purpose; a private one needs a tier with private endpoints.
  name: 'apim-${resourceToken}'
  location: location
  tags: tags
  sku: {
    name: skuName
    capacity: 1
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    publisherEmail: publisherEmail
    publisherName: publisherName
  }
  dependsOn: [
    functionKeyRole
    telemetryRole
  ]
}

resource namedValue 'Microsoft.ApiManagement/service/namedValues@2024-05-01' = [for item in namedValues: {
  parent: service
  name: item.name
  properties: {
    displayName: item.name
    value: item.value
  }
}]

// Refers to the secret without a version: API Management reads the newest, by itself every four hours and at once
// when infra/hooks/postdeploy.sh asks it to.
resource functionKey 'Microsoft.ApiManagement/service/namedValues@2024-05-01' = {
  parent: service
  name: 'function-key'
  properties: {
    displayName: 'function-key'
    secret: true
    keyVault: {
      secretIdentifier: '${keyVault.properties.vaultUri}secrets/${functionKeyInVault.name}'
      identityClientId: identity.properties.clientId
    }
  }
}

resource api 'Microsoft.ApiManagement/service/apis@2024-05-01' = {
  parent: service
  name: 'edx-contents'
  properties: {
    displayName: 'edX Contents API'
    // No API path, because it would come before the operations' paths, which are the documented ones.
    path: ''
    protocols: [
      'https'
    ]
    format: 'openapi+json'
    value: loadTextContent('../openapi.json')
    subscriptionRequired: true
    subscriptionKeyParameterNames: {
      header: 'Ocp-Apim-Subscription-Key'
      query: 'subscription-key'
    }
  }
}

resource apiPolicy 'Microsoft.ApiManagement/service/apis/policies@2024-05-01' = {
  parent: api
  name: 'policy'
  properties: {
    format: 'xml'
    value: policyXml
  }
  dependsOn: [
    namedValue
    functionKey
  ]
}

resource product 'Microsoft.ApiManagement/service/products@2024-05-01' = {
  parent: service
  name: 'edx-course-runs'
  properties: {
    displayName: 'edX course runs'
    description: 'The catalogue of edX course runs, for LumiNUS administrators.'
    subscriptionRequired: true
    approvalRequired: true
    state: 'published'
  }
}

resource productApi 'Microsoft.ApiManagement/service/products/apis@2024-05-01' = {
  parent: product
  name: api.name
}

resource subscription 'Microsoft.ApiManagement/service/subscriptions@2024-05-01' = {
  parent: service
  name: 'luminus'
  properties: {
    displayName: 'LumiNUS'
    scope: '/products/${product.name}'
    state: 'active'
  }
}

resource logger 'Microsoft.ApiManagement/service/loggers@2024-05-01' = {
  parent: service
  name: 'application-insights'
  properties: {
    loggerType: 'applicationInsights'
    resourceId: applicationInsights.id
    credentials: {
      connectionString: applicationInsights.properties.ConnectionString
      identityClientId: identity.properties.clientId
    }
  }
}

// Requests and failures with the trace id that the function logs too; no headers and no bodies, so no keys or tokens.
resource diagnostic 'Microsoft.ApiManagement/service/diagnostics@2024-05-01' = {
  parent: service
  name: 'applicationinsights'
  properties: {
    loggerId: logger.id
    alwaysLog: 'allErrors'
    httpCorrelationProtocol: 'W3C'
    verbosity: 'information'
    sampling: {
      samplingType: 'fixed'
      percentage: 100
    }
    frontend: {
      request: maskedRequest
    }
    backend: {
      request: maskedRequest
    }
  }
}

// The log of requests in the workspace: both the function's answer and the gateway's answer to the caller.
resource azureMonitor 'Microsoft.ApiManagement/service/loggers@2024-05-01' = {
  parent: service
  name: 'azuremonitor'
  properties: {
    loggerType: 'azureMonitor'
    isBuffered: true
  }
}

resource azureMonitorDiagnostic 'Microsoft.ApiManagement/service/diagnostics@2024-05-01' = {
  parent: service
  name: 'azuremonitor'
  properties: {
    loggerId: azureMonitor.id
    verbosity: 'information'
    sampling: {
      samplingType: 'fixed'
      percentage: 100
    }
    frontend: {
      request: maskedRequest
    }
    backend: {
      request: maskedRequest
    }
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource gatewayLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: service
  properties: {
    workspaceId: workspace.id
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      {
        category: 'GatewayLogs'
        enabled: true
      }
    ]
  }
  dependsOn: [
    azureMonitorDiagnostic
  ]
}

output serviceName string = service.name
output gatewayUrl string = service.properties.gatewayUrl
