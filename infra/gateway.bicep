// API Management: the one way in. docs/api-management.md explains the policy.

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

@description('Where the function app answers, without a slash at the end.')
param functionAppUrl string

@description('Tier of the service.')
@allowed([
  'BasicV2'
  'StandardV2'
  'Developer'
  'Consumption'
])
param skuName string

@description('E-mail address that the service shows as the publisher\'s.')
param publisherEmail string

@description('Organisation that the service shows as the publisher.')
param publisherName string

@description('Origins of the browser clients, separated by commas.')
param corsOrigins string

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

@description('Whether the named value function-key has its value; only infra/hooks/postdeploy.sh gives it one.')
param holdsFunctionKey bool

var isConsumption = skuName == 'Consumption'

var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

// What the policy calls {{name}}.
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
    name: 'admin-role-claim'
    value: adminRoleClaim
  }
  {
    name: 'admin-role'
    value: adminRole
  }
  {
    // The longest that the tier (30 s) or the function app's front end (230 s) lets a request last.
    name: 'backend-timeout-seconds'
    value: isConsumption ? '30' : '230'
  }
]

// The policy file is whole and well formed as it stands; only its one origin gives way to the list.
var origins = join(split(replace(corsOrigins, ' ', ''), ','), '</origin><origin>')
var policyXml = replace(loadTextContent('api-policy.xml'), 'https://cors-origins.invalid', origins)

resource service 'Microsoft.ApiManagement/service@2024-05-01' = {
  // checkov:skip=CKV_AZURE_107: The backend is reached over the internet and admits only who has its key.
  // checkov:skip=CKV_AZURE_174: It is the public way in; the private one needs a tier with private endpoints.
  name: 'apim-${resourceToken}'
  location: location
  tags: tags
  sku: {
    name: skuName
    capacity: isConsumption ? 0 : 1
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    publisherEmail: publisherEmail
    publisherName: publisherName
  }
}

resource namedValue 'Microsoft.ApiManagement/service/namedValues@2024-05-01' = [for item in namedValues: {
  parent: service
  name: item.name
  properties: {
    displayName: item.name
    value: item.value
  }
}]

// A placeholder, because the policy cannot be stored before every name in it exists. Left out once the hook
// has put the real key there, so that another deployment does not undo that.
resource functionKey 'Microsoft.ApiManagement/service/namedValues@2024-05-01' = if (!holdsFunctionKey) {
  parent: service
  name: 'function-key'
  properties: {
    displayName: 'function-key'
    secret: true
    value: 'set-by-the-postdeploy-hook'
  }
}

resource api 'Microsoft.ApiManagement/service/apis@2024-05-01' = {
  parent: service
  name: 'edx-contents'
  properties: {
    displayName: 'edX Contents API'
    // The operation's path is the documented one already: an API path would come before it.
    path: ''
    protocols: [
      'https'
    ]
    format: 'openapi+json'
    value: loadTextContent('../openapi.json')
    serviceUrl: functionAppUrl
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

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource telemetryRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(applicationInsights.id, service.id, monitoringMetricsPublisher)
  scope: applicationInsights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
    principalId: service.identity.principalId
    principalType: 'ServicePrincipal'
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
      identityClientId: 'SystemAssigned'
    }
  }
  dependsOn: [
    telemetryRole
  ]
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
  }
}

output serviceName string = service.name
output courseRunsUrl string = '${service.properties.gatewayUrl}/ExternalLinks/edXCourseruns'
