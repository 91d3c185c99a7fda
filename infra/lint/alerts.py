"""Runs the queries of the alerts on sample logs, in DuckDB: each must find the problem and nothing else.

`make lint-infra` runs it. A case is what was logged and the rows that the query must give.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb_kql

QUERIES = Path(__file__).parents[1] / "queries"
NOW = datetime.now(UTC).replace(tzinfo=None)

Row = tuple[Any, ...]

COLUMNS = {
    "AppTraces": "TimeGenerated TIMESTAMP, Message VARCHAR",
    "AppRequests": "TimeGenerated TIMESTAMP, Name VARCHAR, Success BOOLEAN",
    "ApiManagementGatewayLogs": "TimeGenerated TIMESTAMP, ResponseCode INTEGER, BackendResponseCode INTEGER,"
    " LastErrorSource VARCHAR, LastErrorReason VARCHAR, CorrelationId VARCHAR, ApimSubscriptionId VARCHAR",
}


class Case(NamedTuple):
    """What was logged, by table, and the first column of what the query must find."""

    query: str
    situation: str
    found: Sequence[str]
    logged: dict[str, list[Row]] | None = None


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def catalogs(hours: float, *entries: tuple[int, float | None] | tuple[int, float | None, bool]) -> Row:
    """Return the timer's line: catalogs with the age of their last good sync, and whether edX lists them."""
    listed = [
        {
            "catalog": catalog,
            "succeeded": None if age is None else f"{ago(age):%Y-%m-%dT%H:%M:%SZ}",
            "left_list": bool(left),
        }
        for catalog, age, *left_list in entries
        for left in [left_list[0] if left_list else False]
    ]
    return ago(hours), json.dumps({"event": "catalogs", "trigger": "timer", "catalogs": listed})


def sync(hours: float, catalog: int, outcome: str) -> Row:
    return ago(hours), json.dumps({"event": "sync", "catalog": catalog, "outcome": outcome, "error": "edX"})


def timer(hours: float, *, succeeded: bool) -> Row:
    return ago(hours), "sync_course_runs", succeeded


def call(status: int, by_the_function: int | None) -> Row:
    return ago(0.1), status, by_the_function, None, None, f"call-{status}-{by_the_function}", "luminus"


def cases() -> Iterator[Case]:
    for query in ("failed-syncs", "left-catalogs", "unreachable-jwks", "gateway-failures", "refused-gateway"):
        yield Case(query, "the workspace is new and has no tables", [])
    old = "old-catalogs"
    yield Case(old, "the workspace is new and has no tables", ["timer"])
    healthy = catalogs(0.5, (1, 0.6), (2, 0.6))
    yield Case(old, "all is well", [], {"AppTraces": [healthy]})
    one_old = catalogs(0.5, (1, 0.6), (2, 9))
    yield Case(old, "one catalog is old and another one is not", ["2"], {"AppTraces": [one_old]})
    yield Case(old, "a catalog was never synced", ["2"], {"AppTraces": [catalogs(0.5, (1, 0.6), (2, None))]})
    yield Case(old, "a caller has synced it since", [], {"AppTraces": [one_old, sync(0.2, 2, "incomplete")]})
    yield Case(old, "a caller's sync failed", ["2"], {"AppTraces": [one_old, sync(0.2, 2, "failed")]})
    both = {"AppTraces": [one_old], "AppRequests": [timer(0.2, succeeded=True)]}
    yield Case(old, "the timer has succeeded since, but its line is lost", [], both)
    yield Case(old, "edX no longer lists it", [], {"AppTraces": [catalogs(0.5, (1, 0.6), (2, 9, True))]})
    yield Case(old, "lines are lost, the timer succeeds", [], {"AppRequests": [timer(0.5, succeeded=True)]})
    yield Case(
        old, "lines are lost, the timer fails", ["timer"], {"AppRequests": [timer(0.5, succeeded=False)]}
    )
    yield Case(
        old, "only callers sync, the timer does not run", ["timer"], {"AppTraces": [sync(0.2, 1, "ok")]}
    )
    left = {"AppTraces": [catalogs(2, (1, 2)), catalogs(0.5, (1, 0.6), (2, 9, True))]}
    yield Case("left-catalogs", "edX no longer lists one", ["2"], left)
    yield Case("left-catalogs", "all are listed", [], {"AppTraces": [healthy]})
    failed = {"AppTraces": [sync(0.1, 3, "failed"), sync(0.1, 1, "ok")]}
    yield Case("failed-syncs", "a sync failed", ["catalog 3: edX"], failed)
    requests = {"AppRequests": [timer(0.1, succeeded=False), timer(0.2, succeeded=True)]}
    yield Case("failed-syncs", "the timer failed", ["an invocation of the timer failed"], requests)
    jwks = {"AppTraces": [(ago(0.1), '{"event": "jwks", "error": "timed out"}'), healthy]}
    yield Case("unreachable-jwks", "the keys cannot be fetched", ["timed out"], jwks)
    calls = {
        "ApiManagementGatewayLogs": [
            call(200, 200),
            call(500, 500),
            call(500, None),
            call(401, None),
            call(401, 401),
        ]
    }
    yield Case("gateway-failures", "callers got 500", ["500", "500"], calls)
    yield Case("refused-gateway", "the function refuses the gateway", ["luminus"], calls)


def run(case: Case) -> list[str]:
    """Return the first column of each row that is not a time."""
    connection = duckdb_kql.connect()
    for table, rows in (case.logged or {}).items():
        connection.execute(f"CREATE TABLE {table} ({COLUMNS[table]})")
        marks = ", ".join("?" for _ in rows[0])
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - our own text
    found = duckdb_kql.query(connection, (QUERIES / f"{case.query}.kql").read_text()).fetchall()
    return [str(next(value for value in row if not isinstance(value, datetime))) for row in found]


def main() -> None:
    """Run every case; the exit code is 1 when one finds something else."""
    faults = count = 0
    for case in cases():
        count += 1
        found = run(case)
        if sorted(found) != sorted(case.found):
            faults += 1
            print(f"{case.query}.kql, when {case.situation}: found {found}, not {list(case.found)}")
    print(f"{count} cases of alerts, {faults} failed.")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
