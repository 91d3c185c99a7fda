// The workbook "edX connector": what an operator looks at first.

@description('Region of the workbook.')
param location string

@description('Tags of the workbook.')
param tags object

@description('The Log Analytics workspace that it reads.')
param workspaceName string

var oneDay = 86400000
var oneWeek = 604800000
var thirtyDays = 2592000000

var charts = [
  {
    title: 'Age of each catalog'
    query: loadTextContent('queries/catalog-ages.kql')
    milliseconds: oneWeek
    visualization: 'table'
  }
  {
    title: 'Requests to edX per hour, compared with the limit of 200'
    query: loadTextContent('queries/edx-requests.kql')
    milliseconds: oneWeek
    visualization: 'timechart'
  }
  {
    title: 'Changed course runs per day'
    query: loadTextContent('queries/changed-runs.kql')
    milliseconds: thirtyDays
    visualization: 'timechart'
  }
  {
    title: 'Answers of the gateway in the last day'
    query: loadTextContent('queries/gateway-answers.kql')
    milliseconds: oneDay
    visualization: 'table'
  }
  {
    title: 'Syncs of the last day'
    query: loadTextContent('queries/syncs.kql')
    milliseconds: oneDay
    visualization: 'table'
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

var items = [for chart in charts: {
  type: 3
  name: chart.title
  content: {
    version: 'KqlItem/1.0'
    query: chart.query
    size: 0
    title: chart.title
    timeContext: {
      durationMs: chart.milliseconds
    }
    queryType: 0
    resourceType: 'microsoft.operationalinsights/workspaces'
    crossComponentResources: [
      workspace.id
    ]
    visualization: chart.visualization
  }
}]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  // A workbook's name must be a GUID.
  name: guid(resourceGroup().id, 'edx-connector')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'edX connector'
    category: 'workbook'
    sourceId: workspace.id
    serializedData: string({
      version: 'Notebook/1.0'
      items: items
      fallbackResourceIds: [
        workspace.id
      ]
    })
  }
}
