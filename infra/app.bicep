// The function app and what it reaches by its identity: storage, Key Vault, Application Insights.

@description('Region of the resources.')
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique and the same at every deployment.')
param resourceToken string

@description('The Application Insights component to report to.')
param applicationInsightsName string

@description('Object id of whoever deploys and operates. Empty: nobody.')
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

@description('A sync that would withdraw more than this share of a catalog withdraws nothing and fails.')
param syncMaxWithdrawPercent int

@description('How many seconds a sync inside an HTTP request may take.')
param syncTimeBudgetSeconds int

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

// Callers who wait for a running sync hold no thread, so one instance can take many of them.
var httpConcurrency = 16

// Ids of Azure's built-in roles, the same in every tenant.
var roles = {
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

// The app's own identity is made before the app, so that its roles are there when the app first starts.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${resourceToken}'
  location: location
  tags: tags
}

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' = {
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
      // The app is in no virtual network, and a Flex Consumption app has no fixed addresses to allow.
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
}

resource keyVault 'Microsoft.KeyVault/vaults@2024-11-01' = {
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
    name: 'edx-client-secret'
    properties: {
      value: edxClientSecret
      contentType: 'EDX_CLIENT_SECRET'
    }
  }
}

// Written by infra/hooks/postprovision.sh: the keys are API Management's, and change without a deployment.
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
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
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
            // The platform's own number for Python is 1: every waiting caller would keep an instance busy.
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

  // Deployments sign in with Entra ID; user name and password are turned off for both ways of publishing.
  resource ftpCredentials 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scmCredentials 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: {
      // The connector's own settings (shared/settings.py).
      EDX_API_URL: 'https://api.edx.org/catalog/v1/'
      EDX_TOKEN_URL: 'https://api.edx.org/oauth2/v1/access_token'
      EDX_CLIENT_ID: edxClientId
      EDX_CLIENT_SECRET: '@Microsoft.KeyVault(SecretUri=${keyVault.properties.vaultUri}secrets/${keyVault::edxClientSecretInVault.name})'
      EDX_CATALOG_IDS: edxCatalogIds
      EDX_PAGE_SIZE: '100'
      EDX_CONCURRENCY: '4'
      EDX_ENROLLMENT_URL: 'https://courses.edx.org/course_modes/choose/{key}/'
      MODULAR_CREDIT_HOURS: string(modularCreditHours)
      SYNC_SCHEDULE: syncSchedule
      SYNC_FRESH_FOR_SECONDS: string(syncFreshForSeconds)
      SYNC_MAX_WITHDRAW_PERCENT: string(syncMaxWithdrawPercent)
      SYNC_TIME_BUDGET_SECONDS: string(syncTimeBudgetSeconds)
      TABLES_ENDPOINT: storage.properties.primaryEndpoints.table
      TABLES_PREFIX: 'EdX'
      APIM_SUBSCRIPTION_KEYS: '@Microsoft.KeyVault(SecretUri=${keyVault.properties.vaultUri}secrets/${subscriptionKeysSecretName})'
      ADMIN_JWT_ISSUER: adminJwtIssuer
      ADMIN_JWT_AUDIENCE: adminJwtAudience
      ADMIN_JWKS_URL: adminJwksUrl
      ADMIN_ROLE_CLAIM: adminRoleClaim
      ADMIN_ROLE: adminRole

      // The platform's. FUNCTIONS_WORKER_RUNTIME is not among them: Flex Consumption refuses it.
      AzureWebJobsStorage__accountName: storage.name
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.properties.clientId
      APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsights.properties.ConnectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
      // Which identity azure-identity uses for the tables.
      AZURE_CLIENT_ID: identity.properties.clientId
      PYTHON_THREADPOOL_THREAD_COUNT: string(httpConcurrency)
    }
  }
}

output functionAppName string = functionApp.name
output functionAppUrl string = 'https://${functionApp.properties.defaultHostName}'
output keyVaultName string = keyVault.name
output tablesEndpoint string = storage.properties.primaryEndpoints.table
