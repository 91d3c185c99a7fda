"""Tables of a test's own on the one Azurite, directly and through a proxy that counts and loses answers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.data.tables import TableClient
from pydantic import SecretStr

from local.azurite import Azurite
from shared.settings import StorageSettings
from shared.storage.store import TableStore
from shared.storage.table import Table
from tests.table_proxy import TableProxy


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_s(seconds)

    def pass_s(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(azurite: Azurite, tables_prefix: str) -> StorageSettings:
    return StorageSettings(connection_string=SecretStr(azurite.connection_string), prefix=tables_prefix)


@pytest.fixture
def store(storage: StorageSettings) -> TableStore:
    return TableStore(storage)


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[TableProxy]:
    with TableProxy(azurite.connection_string) as proxy:
        yield proxy


@pytest.fixture
def proxied_store(proxy: TableProxy, tables_prefix: str) -> TableStore:
    """The same tables through the proxy."""
    return TableStore(
        StorageSettings(connection_string=SecretStr(proxy.connection_string), prefix=tables_prefix)
    )


@pytest.fixture
def runs_client(azurite: Azurite, tables_prefix: str) -> TableClient:
    """The table of course runs as the SDK sees it, for hands other than ours."""
    return TableClient.from_connection_string(azurite.connection_string, f"{tables_prefix}CourseRuns")


@pytest.fixture
def table(runs_client: TableClient, clock: Clock) -> Table:
    return Table(runs_client, sleep=clock.sleep, jitter=lambda: 1.0)


@pytest.fixture
def proxied_table(proxy: TableProxy, tables_prefix: str, clock: Clock) -> Table:
    """The same table through the proxy."""
    client = TableClient.from_connection_string(
        proxy.connection_string, f"{tables_prefix}CourseRuns", retry_total=0
    )
    return Table(client, sleep=clock.sleep, jitter=lambda: 1.0)
