// Logs and traces in one workspace, for alerts.bicep and workbook.bicep.

@description('Region of the resources.')
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique and the same at every deployment.')
@minLength(13)
@maxLength(13)
param resourceToken string

@description('Logs that the workspace takes a day, in GB.')
param logDailyCapGb int

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${resourceToken}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    // The same retention as that of the sync reports in Table Storage.
    retentionInDays: 90
    workspaceCapping: {
      dailyQuotaGb: logDailyCapGb
    }
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

output applicationInsightsName string = applicationInsights.name
output workspaceName string = workspace.name
output workspaceCustomerId string = workspace.properties.customerId
