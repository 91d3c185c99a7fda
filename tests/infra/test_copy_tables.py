"""Backup and restore of the tables, on Azurite."""

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from azure.data.tables import EdmType, EntityProperty, TableServiceClient

from local.azurite import Azurite
from local.sandbox import Sandbox

SCRIPT = Path(__file__).parents[2] / "infra" / "copy_tables.py"

ODD = {
    "PartitionKey": "1",
    "RowKey": "published-7-body-0000",
    "text": "it's “odd”\n\\",
    "data": bytes(range(256)) * 200,
    "small": 7,
    "large": EntityProperty(2**40, EdmType.INT64),
    "share": 0.25,
    "flag": True,
    "at": datetime(2026, 11, 28, 7, 0, 0, 123456, tzinfo=UTC),
    "id": UUID("83eb7785-71e3-553f-8561-1b57d929abb0"),
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "CourseRuns": [
        ODD,
        {
            "PartitionKey": "1",
            "RowKey": "83eb7785-71e3-553f-8561-1b57d929abb0",
            "withdrawnAt": "2026-01-01T00:00:00Z",
        },
        {"PartitionKey": "1", "RowKey": "changes-2026", "before": "150.00"},
    ],
    "SyncReports": [{"PartitionKey": "1", "RowKey": "000", "outcome": "ok"}],
    "Accounts": [{"PartitionKey": "abc", "RowKey": "catalogs", "ids": "1,2"}],
    "Credits": [{"PartitionKey": "credits", "RowKey": "NUSx%2BA1x", "credit": 2, "note": "Board 12"}],
}


@pytest.fixture
def service(azurite: Azurite) -> Iterator[TableServiceClient]:
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        yield service


@pytest.fixture
def environment(azurite: Azurite, sandbox: Sandbox, tables_prefix: str) -> dict[str, str]:
    return {
        **os.environ,
        **sandbox.settings(),
        "TABLES_CONNECTION_STRING": azurite.connection_string,
        "TABLES_PREFIX": tables_prefix,
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(
    service: TableServiceClient, environment: dict[str, str], tables_prefix: str, tmp_path: Path
) -> Path:
    """Fill the tables and return a copy of them."""
    for table, rows in ROWS.items():
        client = service.create_table(tables_prefix + table)
        for row in rows:
            client.create_entity(row)
    copy = tmp_path / "copy.gz"
    assert run(environment, "save", str(copy)).returncode == 0
    return copy


def stored(service: TableServiceClient, prefix: str) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [dict(entity) for entity in service.get_table_client(prefix + table).list_entities()]
        for table in ROWS
    }


def test_every_entity_is_restored_with_its_types_when_the_tables_are_missing(
    service: TableServiceClient, environment: dict[str, str], tables_prefix: str, copy: Path
) -> None:
    elsewhere = environment | {"TABLES_PREFIX": f"{tables_prefix}b"}
    restored = run(elsewhere, "restore", str(copy))

    assert restored.returncode == 0
    assert f"{tables_prefix}bCourseRuns: 3 entities" in restored.stdout
    assert stored(service, f"{tables_prefix}b") == stored(service, tables_prefix)


def test_tables_have_exactly_the_entities_of_the_copy_when_they_are_replaced(
    service: TableServiceClient, environment: dict[str, str], tables_prefix: str, copy: Path
) -> None:
    before = stored(service, tables_prefix)
    runs = service.get_table_client(f"{tables_prefix}CourseRuns")
    runs.upsert_entity({"PartitionKey": "1", "RowKey": "changes-2026", "before": "changed since"})
    runs.upsert_entity({"PartitionKey": "9", "RowKey": "new-since"})

    refused = run(environment, "restore", str(copy))
    assert refused.returncode == 1
    assert "--replace" in refused.stderr
    assert run(environment, "restore", str(copy), "--replace").returncode == 0
    assert stored(service, tables_prefix) == before


def test_nothing_is_restored_when_the_copy_is_truncated(
    service: TableServiceClient, environment: dict[str, str], tables_prefix: str, copy: Path
) -> None:
    lines = gzip.decompress(copy.read_bytes()).splitlines(keepends=True)
    copy.write_bytes(gzip.compress(b"".join(lines[:-2])))

    refused = run(environment, "restore", str(copy), "--replace")

    assert refused.returncode == 1
    assert "is truncated" in refused.stderr
    assert len(stored(service, tables_prefix)["Credits"]) == 1


def test_a_copy_is_not_overwritten_when_the_file_exists(environment: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.gz"
    copy.write_bytes(b"older copy")
    assert run(environment, "save", str(copy)).returncode == 1
    assert copy.read_bytes() == b"older copy"
