"""Shared fixtures: one Azurite for all tests; an edX sandbox, tables, a host and a clock for each test."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import requests
from azure.data.tables import TableClient
from pydantic import SecretStr

from local.azurite import Azurite
from local.host.process import HostProcess
from local.sandbox import Sandbox
from shared.settings import StorageSettings
from shared.storage.store import CatalogStore
from shared.storage.table import Table
from shared.storage.tables import Tables, open_tables
from tests.clock import Clock
from tests.table_proxy import TableProxy

SUBSCRIPTION_KEY = "test-subscription-key"


def settings_of(edx: Sandbox, connection_string: str, tables_prefix: str) -> dict[str, str]:
    """Return all settings of the functions; the timer fires once a year, so that only tests fire it."""
    return {
        **edx.settings(),
        "TABLES_CONNECTION_STRING": connection_string,
        "TABLES_PREFIX": tables_prefix,
        "APIM_SUBSCRIPTION_KEYS": SUBSCRIPTION_KEY,
        "SYNC_SCHEDULE": "0 0 0 1 1 *",
    }


@contextmanager
def administrator(edx: Sandbox) -> Iterator[requests.Session]:
    """Open a session that sends the subscription key and a valid token."""
    with requests.Session() as session:
        session.trust_env = False  # a .netrc would replace the token
        session.headers["Ocp-Apim-Subscription-Key"] = SUBSCRIPTION_KEY
        session.headers["Authorization"] = f"Bearer {edx.mint()}"
        yield session


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Table Storage for all tests; each uses its own table prefix."""
    with Azurite() as azurite:
        yield azurite


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def tables_prefix() -> str:
    return f"T{uuid4().hex}"


@pytest.fixture
def settings(sandbox: Sandbox, azurite: Azurite, tables_prefix: str) -> dict[str, str]:
    return settings_of(sandbox, azurite.connection_string, tables_prefix)


@pytest.fixture
def host(settings: dict[str, str]) -> Iterator[HostProcess]:
    """The functions over HTTP, in their own process."""
    with HostProcess(settings) as host:
        yield host


@pytest.fixture
def admin(sandbox: Sandbox) -> Iterator[requests.Session]:
    with administrator(sandbox) as session:
        yield session


# Tables of a test's own on the one Azurite, directly and through a proxy that counts and breaks requests


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(azurite: Azurite, tables_prefix: str) -> StorageSettings:
    return StorageSettings(connection_string=SecretStr(azurite.connection_string), prefix=tables_prefix)


@pytest.fixture
def tables(storage: StorageSettings, clock: Clock) -> Tables:
    return open_tables(storage, "sandbox-client", now=clock.now)


@pytest.fixture
def store(tables: Tables) -> CatalogStore:
    return tables.catalogs


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[TableProxy]:
    with TableProxy(azurite.connection_string) as proxy:
        yield proxy


@pytest.fixture
def proxied_tables(proxy: TableProxy, tables_prefix: str, clock: Clock) -> Tables:
    """The same tables through the proxy."""
    settings = StorageSettings(connection_string=SecretStr(proxy.connection_string), prefix=tables_prefix)
    return open_tables(settings, "sandbox-client", now=clock.now)


@pytest.fixture
def runs_client(azurite: Azurite, tables_prefix: str) -> TableClient:
    """The table of course runs through the SDK, for changes that the connector does not make."""
    return TableClient.from_connection_string(azurite.connection_string, f"{tables_prefix}CourseRuns")


@pytest.fixture
def table(runs_client: TableClient, clock: Clock) -> Table:
    return Table(runs_client, clock=clock.monotonic, sleep=clock.sleep, jitter=lambda: 1.0, now=clock.now)


@pytest.fixture
def proxied_table(proxy: TableProxy, tables_prefix: str, clock: Clock) -> Table:
    """The same table through the proxy."""
    client = TableClient.from_connection_string(
        proxy.connection_string, f"{tables_prefix}CourseRuns", retry_total=0
    )
    return Table(client, clock=clock.monotonic, sleep=clock.sleep, jitter=lambda: 1.0, now=clock.now)
