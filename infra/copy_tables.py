"""Copy the connector's tables to a file and back: see docs/backup.md.

    .venv/bin/python infra/copy_tables.py save FILE
    .venv/bin/python infra/copy_tables.py restore FILE [--replace]

It works on the storage that the environment names (infra/operator-env.sh). The file is gzip, one entity of
JSON a line; a value without a JSON type is an object with the type and the text of the value.
"""

import argparse
import gzip
import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import EdmType, EntityProperty, TableClient, TableServiceClient, UpdateMode
from azure.identity import DefaultAzureCredential

sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.errors import ConfigurationError
from shared.settings import StorageSettings, connector_settings

TABLES = ("CourseRuns", "SyncReports", "Accounts", "Credits")
FORMAT = "edx-connector-tables-1"
WORKERS = 16

Entity = dict[str, Any]


class CopyFailed(Exception):
    """The copy was not made or not restored; the message says why."""


def main() -> None:
    """Run a command; the exit code is 0 only when all of it succeeded."""
    parser = argparse.ArgumentParser(description="Copy the connector's tables to a file and back.")
    parser.add_argument("command", choices=("save", "restore"))
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--replace",
        action="store_true",
        help="also restore to tables with entities, and delete entities that are not in the file",
    )
    arguments = parser.parse_args()
    try:
        storage = connector_settings(os.environ).storage
        with ExitStack() as stack:
            service = open_service(storage, stack)
            if arguments.command == "save":
                counts = save(service, storage.prefix, arguments.file)
            else:
                counts = restore(service, storage.prefix, arguments.file, replace=arguments.replace)
    except (CopyFailed, ConfigurationError, AzureError, OSError, ValueError) as error:
        sys.exit(f"Failed: {error}")
    for table, count in counts.items():
        print(f"{storage.prefix}{table}: {count} entities")


def open_service(storage: StorageSettings, stack: ExitStack) -> TableServiceClient:
    """Open Table Storage by connection string or by the identity of the logged-in user."""
    if storage.connection_string is not None:
        text = storage.connection_string.get_secret_value()
        return stack.enter_context(TableServiceClient.from_connection_string(text))
    credential = stack.enter_context(DefaultAzureCredential())
    return stack.enter_context(TableServiceClient(str(storage.endpoint), credential=credential))


def save(service: TableServiceClient, prefix: str, file: Path) -> dict[str, int]:
    """Write every entity of our tables to a new file, and return how many by table; a missing table has none.

    Raises:
        FileExistsError: the file exists.
    """
    counts = dict.fromkeys(TABLES, 0)
    with gzip.open(file, "xt", encoding="utf-8") as lines:
        lines.write(json.dumps({"format": FORMAT, "prefix": prefix}) + "\n")
        for table in TABLES:
            for entity in _entities(service.get_table_client(prefix + table)):
                counts[table] += 1
                values = {name: _to_json(value) for name, value in entity.items()}
                lines.write(json.dumps({"table": table, "entity": values}, ensure_ascii=False) + "\n")
        lines.write(json.dumps({"counts": counts}) + "\n")
    return counts


def restore(service: TableServiceClient, prefix: str, file: Path, *, replace: bool) -> dict[str, int]:
    """Write the entities of a complete file to our tables, and return how many by table.

    Nothing is written when the file is truncated or, without `replace`, when a table has entities. With
    `replace`, entities that are not in the file are deleted.
    """
    saved = _read(file)
    clients = {table: service.get_table_client(prefix + table) for table in TABLES}
    if not replace and (full := [name for name, client in clients.items() if _keys(client)]):
        raise CopyFailed(
            f"{', '.join(prefix + name for name in full)} contain entities: use --replace to replace them"
        )
    for table, client in clients.items():
        with suppress(ResourceExistsError):
            client.create_table()
        with ThreadPoolExecutor(WORKERS) as workers:
            _all(workers, client.upsert_entity, saved[table], mode=UpdateMode.REPLACE)
            kept = {(entity["PartitionKey"], entity["RowKey"]) for entity in saved[table]}
            extra = [{"PartitionKey": p, "RowKey": r} for p, r in _keys(client) - kept]
            _all(workers, client.delete_entity, extra)
    return {table: len(entities) for table, entities in saved.items()}


def _all(workers: ThreadPoolExecutor, operation: Any, entities: Iterable[Entity], **options: Any) -> None:
    for _ in workers.map(lambda entity: operation(entity, **options), entities):
        pass  # a failed one raises here


def _entities(client: TableClient) -> Iterator[Mapping[str, Any]]:
    try:
        yield from client.list_entities()
    except ResourceNotFoundError:
        return


def _keys(client: TableClient) -> set[tuple[str, str]]:
    try:
        found = client.list_entities(select=["PartitionKey", "RowKey"])
        return {(entity["PartitionKey"], entity["RowKey"]) for entity in found}
    except ResourceNotFoundError:
        return set()


def _read(file: Path) -> dict[str, list[Entity]]:
    saved: dict[str, list[Entity]] = {table: [] for table in TABLES}
    counts = None
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        if json.loads(next(lines, "{}")).get("format") != FORMAT:
            raise CopyFailed(f"{file} is not a copy of the tables")
        for line in lines:
            found = json.loads(line)
            counts = found.get("counts")
            if counts is None:
                values = {name: _from_json(value) for name, value in found["entity"].items()}
                saved[found["table"]].append(values)
    if counts != {table: len(entities) for table, entities in saved.items()}:
        raise CopyFailed(f"{file} is truncated")
    return saved


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"edm": "Edm.Binary", "text": b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"edm": "Edm.DateTime", "text": value.isoformat()}
    if isinstance(value, EntityProperty | tuple):  # Edm.Int64
        return {"edm": EdmType(value[1]).value, "text": str(value[0])}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return {"edm": "Edm.Guid", "text": str(value)}


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    text = value["text"]
    match value["edm"]:
        case "Edm.Binary":
            return b64decode(text)
        case "Edm.DateTime":
            return datetime.fromisoformat(text)
        case "Edm.Int64":
            return EntityProperty(int(text), EdmType.INT64)
        case _:
            return EntityProperty(text, EdmType(value["edm"]))


if __name__ == "__main__":
    main()
