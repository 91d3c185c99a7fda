// Parses every KQL query of infra/queries/ and the docs with Microsoft's language service; exits with 1 on an error.
// The tables are those of a Log Analytics workspace, with the columns that the queries may use
// (https://learn.microsoft.com/azure/azure-monitor/reference/tables/).

require('@kusto/language-service-next/bridge.js');
require('@kusto/language-service-next/Kusto.Language.Bridge.js');
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.join(__dirname, '..', '..');

const OF_APPLICATION_INSIGHTS =
  'TimeGenerated: datetime, Type: string, OperationId: string, OperationName: string, ParentId: string, ' +
  'AppRoleName: string, AppRoleInstance: string, Properties: dynamic, _ResourceId: string';

const TABLES = {
  AppTraces: `(${OF_APPLICATION_INSIGHTS}, Message: string, SeverityLevel: int)`,
  AppRequests: `(${OF_APPLICATION_INSIGHTS}, Name: string, Url: string, Success: bool, ResultCode: string, DurationMs: real)`,
  AppExceptions:
    `(${OF_APPLICATION_INSIGHTS}, ExceptionType: string, OuterMessage: string, InnermostMessage: string, SeverityLevel: int)`,
  ApiManagementGatewayLogs:
    '(TimeGenerated: datetime, ApimSubscriptionId: string, OperationId: string, Method: string, Url: string, ' +
    'ResponseCode: int, ResponseSize: int, BackendResponseCode: int, TotalTime: long, BackendTime: long, ' +
    'LastErrorSource: string, LastErrorReason: string, LastErrorMessage: string, CorrelationId: string)',
  AZKVAuditLogs:
    '(TimeGenerated: datetime, OperationName: string, Identity: dynamic, CallerIpAddress: string, ' +
    'ResultType: string, ResultDescription: string, HttpStatusCode: int, RequestUri: string, Id: string)',
  StorageTableLogs:
    '(TimeGenerated: datetime, OperationName: string, AuthenticationType: string, RequesterObjectId: string, ' +
    'CallerIpAddress: string, StatusCode: string, StatusText: string, Uri: string)',
};

function filesBelow(folder, extension) {
  return fs
    .readdirSync(path.join(ROOT, folder), { recursive: true })
    .filter((name) => name.endsWith(extension))
    .map((name) => path.join(folder, name));
}

function queries() {
  const found = filesBelow('infra/queries', '.kql').map((name) => [name, fs.readFileSync(path.join(ROOT, name), 'utf8')]);
  for (const name of ['README.md', ...filesBelow('docs', '.md')]) {
    const text = fs.readFileSync(path.join(ROOT, name), 'utf8');
    for (const [, query] of text.matchAll(/^```kusto\n(.*?)^```/gms)) {
      found.push([name, query]);
    }
  }
  return found;
}

const { KustoCode, GlobalState, Symbols } = Kusto.Language;
const tables = Object.entries(TABLES).map(([name, schema]) => Symbols.TableSymbol.From(schema).WithName(name));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor('workspace', tables));

let faults = 0;
let count = 0;
for (const [name, query] of queries()) {
  count += 1;
  for (const fault of Bridge.toArray(KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics())) {
    faults += 1;
    const line = query.slice(0, fault.Start).split('\n').length;
    console.log(`${name}, line ${line} of the query: ${fault.Severity} ${fault.Code}: ${fault.Message}`);
  }
}
console.log(`${count} KQL queries, ${faults} faults.`);
process.exit(faults || !count ? 1 : 0);
