// The function app and the resources that it uses with its identity: storage, Key Vault, Application Insights.

@description('Region of the resources, with availability zones.')
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique and the same at every deployment.')
@minLength(13)
@maxLength(13)
param resourceToken string

@description('The Application Insights component to report to.')
param applicationInsightsName string

@description('The Log Analytics workspace that takes the logs of the vault and of storage.')
param workspaceName string

@description('Object id of the user or group that deploys and operates. Empty: none.')
param operatorPrincipalId string

@description('The id of our edX API client.')
param edxClientId string

@description('The secret of our edX API client.')
@secure()
param edxClientSecret string

@description('edX catalog ids, separated by commas. Empty: every catalog that edX lists.')
param edxCatalogIds string

@description('Hours of work for one Modular Credit.')
param modularCreditHours int

@description('When the timer syncs: NCRONTAB, six fields, UTC.')
param syncSchedule string

@description('For how many seconds after a sync a request is answered from storage.')
param syncFreshForSeconds int

@description('Largest percentage of a catalog\'s answer that a sync may remove. Above it, the sync removes nothing and fails.')
param syncMaxWithdrawPercent int

@description('How many seconds a caller waits for a sync.')
param syncTimeBudgetSeconds int

@description('How many seconds old an answer may be when a sync fails.')
param syncStaleIfErrorSeconds int

@description('The exact `iss` of administrators\' tokens.')
param adminJwtIssuer string

@description('The `aud` of administrators\' tokens.')
param adminJwtAudience string

@description('Where the issuer\'s signing keys (JWKS) are.')
param adminJwksUrl string

@description('The claim of the token that holds the caller\'s roles.')
param adminRoleClaim string

@description('The role that makes a caller an administrator.')
param adminRole string

var deploymentContainerName = 'app-package'

// Callers who wait for a running sync use no thread, so one instance can serve many of them.
var httpConcurrency = 16

// Ids of Azure's built-in roles, the same in every tenant.
var roles = {
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

// The app's identity is created before the app, so that its roles exist when the app first starts.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${resourceToken}'
  location: location
  tags: tags
}

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  // checkov:skip=CKV_AZURE_35: The app is in no virtual network and has no fixed addresses that could be allowed.
  // checkov:skip=CKV_AZURE_59: The same. Shared keys are disabled, so access needs a role.
  // checkov:skip=CKV_AZURE_206: Three zones; docs/backup.md describes how to copy the data that edX does not have.
  // checkov:skip=CKV_AZURE_43: The check cannot see that the token is 13 lower-case letters and digits.
  name: 'st${resourceToken}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: 'Standard_ZRS'
  }
  properties: {
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: 'Allow'
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      deleteRetentionPolicy: {
        enabled: true
        days: 7
      }
    }

    resource deployments 'containers' = {
      name: deploymentContainerName
      properties: {
        publicAccess: 'None'
      }
    }
  }

  resource tables 'tableServices' = {
    name: 'default'
    properties: {}
  }
}

resource keyVault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  // checkov:skip=CKV_AZURE_109: The app is in no virtual network and has no fixed addresses that could be allowed.
  // checkov:skip=CKV_AZURE_189: The same. Reading a secret needs a role.
  name: 'kv-${resourceToken}'
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: 'Allow'
    }
  }

  resource edxClientSecretInVault 'secrets' = {
    // checkov:skip=CKV_AZURE_41: edX gives no expiry date; a date of ours that is too early would stop the syncs.
    name: 'edx-client-secret'
    properties: {
      value: edxClientSecret
      contentType: 'EDX_CLIENT_SECRET'
    }
  }
}

// Written by infra/hooks/postprovision.sh: API Management creates the keys, and they change without a deployment.
var subscriptionKeysSecretName = 'apim-subscription-keys'

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

// The host keeps its locks, its keys and the timer's schedule in blobs; deployments are a blob too.
resource blobRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, identity.id, roles.storageBlobDataOwner)
  scope: storage
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataOwner)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource tableRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, identity.id, roles.storageTableDataContributor)
  scope: storage
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageTableDataContributor)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource secretRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(keyVault.id, identity.id, roles.keyVaultSecretsUser)
  scope: keyVault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
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

// The operator may be a person or a pipeline, so the type of these two principals is left to Azure.
resource operatorSecretRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  name: guid(keyVault.id, operatorPrincipalId, roles.keyVaultSecretsOfficer)
  scope: keyVault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsOfficer)
    principalId: operatorPrincipalId
  }
}

resource operatorTableRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  name: guid(storage.id, operatorPrincipalId, roles.storageTableDataContributor)
  scope: storage
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageTableDataContributor)
    principalId: operatorPrincipalId
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  // checkov:skip=CKV_AZURE_225: Zone redundancy would keep instances running all day; a timer can wait until another zone takes over.
  name: 'plan-${resourceToken}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true // Linux
  }
}

resource functionApp 'Microsoft.Web/sites@2024-11-01' = {
  // checkov:skip=CKV_AZURE_222: API Management has no fixed address that could be allowed; calls need the function key.
  // checkov:skip=CKV_AZURE_17: API Management sends the function key instead of a certificate.
  // checkov:skip=CKV_AZURE_212: Flex Consumption scales from zero; there is no number of workers to set.
  // checkov:skip=CKV_AZURE_213: Flex Consumption has no health check path.
  // checkov:skip=CKV_AZURE_78: Flex Consumption has no FTP and accepts no ftpsState; FTP passwords are disabled below.
  name: 'func-${resourceToken}'
  location: location
  tags: union(tags, { 'azd-service-name': 'connector' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    siteConfig: {
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      appSettings: [
        // The connector's own settings (shared/settings.py).
        { name: 'EDX_API_URL', value: 'https://api.edx.org/catalog/v1/' }
        { name: 'EDX_TOKEN_URL', value: 'https://api.edx.org/oauth2/v1/access_token' }
        { name: 'EDX_CLIENT_ID', value: edxClientId }
        { name: 'EDX_CLIENT_SECRET', value: '@Microsoft.KeyVault(SecretUri=${keyVault::edxClientSecretInVault.properties.secretUri})' }
        { name: 'EDX_CATALOG_IDS', value: edxCatalogIds }
        { name: 'EDX_PAGE_SIZE', value: '100' }
        { name: 'EDX_CONCURRENCY', value: '4' }
        { name: 'EDX_ENROLLMENT_URL', value: 'https://courses.edx.org/course_modes/choose/{key}/' }
        { name: 'MODULAR_CREDIT_HOURS', value: string(modularCreditHours) }
        { name: 'SYNC_SCHEDULE', value: syncSchedule }
        { name: 'SYNC_FRESH_FOR_SECONDS', value: string(syncFreshForSeconds) }
        { name: 'SYNC_MAX_WITHDRAW_PERCENT', value: string(syncMaxWithdrawPercent) }
        { name: 'SYNC_STALE_IF_ERROR_SECONDS', value: string(syncStaleIfErrorSeconds) }
        { name: 'SYNC_TIME_BUDGET_SECONDS', value: string(syncTimeBudgetSeconds) }
        { name: 'TABLES_ENDPOINT', value: storage.properties.primaryEndpoints.table }
        { name: 'TABLES_PREFIX', value: 'EdX' }
        { name: 'APIM_SUBSCRIPTION_KEYS', value: '@Microsoft.KeyVault(SecretUri=${keyVault.properties.vaultUri}secrets/${subscriptionKeysSecretName})' }
        { name: 'ADMIN_JWT_ISSUER', value: adminJwtIssuer }
        { name: 'ADMIN_JWT_AUDIENCE', value: adminJwtAudience }
        { name: 'ADMIN_JWKS_URL', value: adminJwksUrl }
        { name: 'ADMIN_ROLE_CLAIM', value: adminRoleClaim }
        { name: 'ADMIN_ROLE', value: adminRole }

        // Settings of the platform. FUNCTIONS_WORKER_RUNTIME is absent because Flex Consumption refuses it.
        { name: 'AzureWebJobsStorage__accountName', value: storage.name }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        { name: 'AzureWebJobsStorage__clientId', value: identity.properties.clientId }
        // Without this, the host answers `/` with its own page.
        { name: 'AzureWebJobsDisableHomepage', value: 'true' }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: applicationInsights.properties.ConnectionString }
        { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${identity.properties.clientId};Authorization=AAD' }
        // Which identity azure-identity uses for the tables.
        { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
        { name: 'PYTHON_THREADPOOL_THREAD_COUNT', value: string(httpConcurrency) }
      ]
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: 40
        triggers: {
          http: {
            // The platform's default for Python is 1: every waiting caller would keep an instance busy.
            perInstanceConcurrency: httpConcurrency
          }
        }
      }
    }
  }
  dependsOn: [
    storage::blobs::deployments
    blobRole
    tableRole
    secretRole
    telemetryRole
  ]
}

// Deployments sign in with Entra ID; user name and password are turned off for both ways of publishing.
resource ftpCredentials 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: functionApp
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource scmCredentials 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: functionApp
  name: 'scm'
  properties: {
    allow: false
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

// Who read or wrote a secret.
resource vaultLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: keyVault
  properties: {
    workspaceId: workspace.id
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      {
        category: 'AuditEvent'
        enabled: true
      }
    ]
  }
}

// Who wrote or deleted entities. Reads are not logged: they would be most of the cost of the logs.
resource tableLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: storage::tables
  properties: {
    workspaceId: workspace.id
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

// Only deletions of blobs, because the host renews its locks in blobs all day.
resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: storage::blobs
  properties: {
    workspaceId: workspace.id
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

output functionAppName string = functionApp.name
output functionAppUrl string = 'https://${functionApp.properties.defaultHostName}'
output keyVaultName string = keyVault.name
output tablesEndpoint string = storage.properties.primaryEndpoints.table
