// What is seen in operation: logs and traces in one workspace, and an e-mail when syncing stops working.

@description('Region of the resources.')
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique and the same at every deployment.')
@minLength(13)
@maxLength(13)
param resourceToken string

@description('Who is told when a sync failed or none succeeded for too long.')
param alertEmail string

@description('Hours without a successful sync after which an alert is raised.')
param alertHoursWithoutSync int

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${resourceToken}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    // As long as the reports of past syncs are kept in Table Storage.
    retentionInDays: 90
    features: {
      disableLocalAuth: true
    }
  }
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${resourceToken}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    IngestionMode: 'LogAnalytics'
    // Only identities with the role Monitoring Metrics Publisher send telemetry; the connection string is no secret.
    DisableLocalAuth: true
  }
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

// Each sync logs one line, and that line is JSON (shared/sync_report.py).
var syncs = '''
AppTraces
| where Message startswith "{"
| extend sync = parse_json(Message)
| where tostring(sync.event) == "sync"
'''

resource syncFailed 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'alert-sync-failed-${resourceToken}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'edX sync failed'
    description: 'A sync of an edX catalog failed. What was stored before is intact. See docs/operations.md.'
    enabled: true
    severity: 2
    scopes: [
      workspace.id
    ]
    evaluationFrequency: 'PT15M'
    // Twice the frequency, because log lines arrive some minutes late.
    windowSize: 'PT30M'
    autoMitigate: true
    // A new workspace does not know the columns of AppTraces before the first line has arrived.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          // The second half sees a timer that fails before there is a sync to log, for want of a setting say.
          query: '${syncs}| where tostring(sync.outcome) == "failed" | union (AppRequests | where Name == "sync_course_runs" and Success == false)'
          timeAggregation: 'Count'
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
}

resource noSuccessfulSync 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'alert-no-successful-sync-${resourceToken}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'No successful edX sync in ${alertHoursWithoutSync} h'
    description: 'No edX catalog has been synced for too long: the catalogue is growing old. See docs/operations.md.'
    enabled: true
    severity: 1
    scopes: [
      workspace.id
    ]
    evaluationFrequency: 'PT30M'
    windowSize: 'PT${alertHoursWithoutSync}H'
    autoMitigate: true
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          // `summarize` without `by` gives a row even when nothing was logged, so silence is noticed too.
          query: '${syncs}| summarize successful = countif(tostring(sync.outcome) in ("ok", "incomplete")) | where successful == 0'
          timeAggregation: 'Count'
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
}

output applicationInsightsName string = applicationInsights.name
output workspaceCustomerId string = workspace.properties.customerId
