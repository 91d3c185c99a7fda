// E-mail alerts for problems that need a person; docs/operations.md says what to do for each.

@description('Region of the rules.')
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique and the same at every deployment.')
@minLength(13)
@maxLength(13)
param resourceToken string

@description('The Application Insights component that takes the results of the availability test.')
param applicationInsightsName string

@description('The Log Analytics workspace that the rules query.')
param workspaceName string

@description('Where the function app answers, without a slash at the end.')
param functionAppUrl string

@description('Who gets the alerts by e-mail.')
param alertEmail string

@description('Age of a catalog\'s last good sync, in hours, at which an alert is raised.')
param alertHoursWithoutSync int

// Twice the frequency below, because log lines arrive some minutes late.
var recent = 'PT30M'
var withoutSync = 'PT${alertHoursWithoutSync}H'

var ofEachCatalog = [
  {
    name: 'catalog'
    operator: 'Include'
    values: [
      '*'
    ]
  }
]

// Each query returns one row per problem.
var rules = [
  {
    name: 'no-successful-sync'
    displayName: 'No successful edX sync in ${alertHoursWithoutSync} h'
    description: 'A catalog is too old, or (catalog "timer") the timer does not run.'
    severity: 1
    query: replace(loadTextContent('queries/old-catalogs.kql'), 'let max_age = 4h;', 'let max_age = ${alertHoursWithoutSync}h;')
    evaluationFrequency: 'PT30M'
    windowSize: withoutSync
    dimensions: ofEachCatalog
  }
  {
    name: 'sync-failed'
    displayName: 'edX sync failed'
    description: 'A sync of an edX catalog failed. What was stored before is intact.'
    severity: 2
    query: loadTextContent('queries/failed-syncs.kql')
    evaluationFrequency: 'PT15M'
    windowSize: recent
    dimensions: []
  }
  {
    name: 'catalog-left-edx'
    displayName: 'edX no longer lists a catalog'
    description: 'edX no longer lists one of our catalogs. Ask edX: we may have lost the permission for it.'
    severity: 3
    query: loadTextContent('queries/left-catalogs.kql')
    evaluationFrequency: 'PT1H'
    windowSize: withoutSync
    dimensions: ofEachCatalog
  }
  {
    name: 'jwks-unreachable'
    displayName: 'The signing keys of logins cannot be fetched'
    description: 'The function cannot reach ADMIN_JWKS_URL. Logins with keys that it knows still work.'
    severity: 2
    query: loadTextContent('queries/unreachable-jwks.kql')
    evaluationFrequency: 'PT15M'
    windowSize: recent
    dimensions: []
  }
  {
    name: 'gateway-5xx'
    displayName: 'The gateway answered with 5xx'
    description: 'The gateway answered callers with a 5xx status.'
    severity: 2
    query: loadTextContent('queries/gateway-failures.kql')
    evaluationFrequency: 'PT15M'
    windowSize: recent
    dimensions: []
  }
  {
    name: 'gateway-refused'
    displayName: 'The function app refuses the gateway'
    description: 'The function app answered 401 to the gateway: the function key or the subscription keys in Key Vault are wrong.'
    severity: 1
    query: loadTextContent('queries/refused-gateway.kql')
    evaluationFrequency: 'PT15M'
    windowSize: recent
    dimensions: []
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource onCall 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${resourceToken}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'edx-sync'
    emailReceivers: [
      {
        name: 'on call'
        emailAddress: alertEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for item in rules: {
  name: 'alert-${item.name}-${resourceToken}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: item.displayName
    description: '${item.description} See docs/operations.md.'
    enabled: true
    severity: item.severity
    scopes: [
      workspace.id
    ]
    evaluationFrequency: item.evaluationFrequency
    windowSize: item.windowSize
    autoMitigate: true
    // A new workspace does not have the tables yet. Each query works without them: the platform disables a rule
    // whose query fails for a week.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: item.query
          timeAggregation: 'Count'
          dimensions: item.dimensions
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        onCall.id
      ]
    }
  }
}]

resource availabilityTest 'Microsoft.Insights/webtests@2022-06-15' = {
  name: 'health-${resourceToken}'
  location: location
  tags: union(tags, { 'hidden-link:${applicationInsights.id}': 'Resource' })
  kind: 'standard'
  properties: {
    SyntheticMonitorId: 'health-${resourceToken}'
    Name: 'edX connector /health'
    Enabled: true
    Kind: 'standard'
    // Each test has a cost and starts an instance, so there are only three places and a test every ten minutes.
    Frequency: 600
    Timeout: 60
    RetryEnabled: true
    Locations: [
      { Id: 'apac-sg-sin-azr' } // Southeast Asia
      { Id: 'apac-hk-hkn-azr' } // East Asia
      { Id: 'emea-nl-ams-azr' } // West Europe
    ]
    Request: {
      RequestUrl: '${functionAppUrl}/health'
      HttpVerb: 'GET'
      ParseDependentRequests: false
    }
    ValidationRules: {
      ExpectedHttpStatusCode: 200
      SSLCheck: true
      SSLCertRemainingLifetimeCheck: 7
    }
  }
}

resource unavailable 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'alert-unavailable-${resourceToken}'
  location: 'global'
  tags: tags
  properties: {
    description: 'The function app does not answer /health at two of three places. See docs/operations.md.'
    enabled: true
    severity: 1
    scopes: [
      availabilityTest.id
      applicationInsights.id
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: availabilityTest.id
      componentId: applicationInsights.id
      failedLocationCount: 2
    }
    actions: [
      {
        actionGroupId: onCall.id
      }
    ]
  }
}
