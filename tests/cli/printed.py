"""Reads the output of commands and what they stored."""

import json
import subprocess
from typing import Any

from azure.data.tables import TableServiceClient

from local.azurite import Azurite


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON that a command printed on standard output, and nothing else."""
    return json.loads(done.stdout)


def everything_stored(azurite: Azurite, tables_prefix: str) -> list[Any]:
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        return [
            (table.name, dict(entity), entity.metadata["etag"])
            for table in service.list_tables()
            if table.name.startswith(tables_prefix)
            for entity in service.get_table_client(table.name).list_entities()
        ]
