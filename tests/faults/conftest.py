"""Fixtures of the fault tests; promise.py checks the outcome of a fault."""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from azure.data.tables import TableClient

from local.azurite import Azurite
from local.host import Host
from local.host.process import HostProcess
from local.sandbox import Sandbox
from shared.settings import connector_settings
from shared.storage.lease import Leases
from shared.storage.store import CatalogStore
from shared.storage.table import Table
from shared.storage.tables import open_tables
from shared.wiring import connect
from tests.clock import SkippingClock, nap
from tests.conftest import administrator
from tests.faults.promise import Stored, ask
from tests.faults.stage import Stage
from tests.table_proxy import TableProxy

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    """The settings, without stale answers: callers see that a sync failed."""
    return {**settings, "SYNC_STALE_IF_ERROR_SECONDS": "0"}


@pytest.fixture
def stored(azurite: Azurite, tables_prefix: str) -> Stored:
    """The tables of the test's own `settings`, read directly."""
    return Stored(azurite.connection_string, tables_prefix)


@pytest.fixture(scope="module")
def edx() -> Iterator[Sandbox]:
    """An edX without catalogs, shared by a module whose tests each add a catalog and its faults."""
    with Sandbox([]) as edx:
        yield edx


@pytest.fixture(scope="module")
def shared_admin(edx: Sandbox) -> Iterator[requests.Session]:
    """An administrator of the host that calls `edx`."""
    with administrator(edx) as session:
        yield session


@pytest.fixture
def host_here(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The functions over HTTP in this process, newly loaded; this is faster than to start a process."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with Host(_REPOSITORY) as host:
        yield host


AskHere = Callable[..., requests.Response]


@pytest.fixture
def ask_here(host_here: Host, admin: requests.Session) -> AskHere:
    """Asks `host_here` for the course runs, like `promise.ask`."""
    return partial(ask, host_here.url, admin)


@pytest.fixture
def host_without_pauses(host_here: Host, settings: dict[str, str]) -> Host:
    """`host_here` without pauses between tries of a storage request and without the wait for a dead lease."""
    ours = connector_settings(settings)
    tables = open_tables(ours.storage, ours.edx.client_id, sleep=nap)
    tables = tables._replace(catalogs=_catalogs_without_waits(settings))
    function_app: Any = importlib.import_module("function_app")  # the one that the host has loaded
    function_app.process = function_app.Process(lambda outbox: connect(outbox, settings, tables=tables))
    return host_here


def _catalogs_without_waits(settings: dict[str, str]) -> CatalogStore:
    """Open the catalogs; only leases skip time, because that must not use up the time of other requests."""
    client = TableClient.from_connection_string(
        settings["TABLES_CONNECTION_STRING"], f"{settings['TABLES_PREFIX']}CourseRuns", retry_total=0
    )
    runs, clock = Table(client, sleep=nap), SkippingClock()
    return CatalogStore(runs, Leases(runs, clock=clock.monotonic, sleep=clock.sleep))


@pytest.fixture(scope="module")
def stage(azurite: Azurite, edx: Sandbox, shared_admin: requests.Session) -> Stage:
    return Stage(edx, shared_admin, azurite.connection_string, f"T{uuid4().hex}")


@pytest.fixture(scope="module")
def proxy(azurite: Azurite) -> Iterator[TableProxy]:
    with TableProxy(azurite.connection_string) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied(stage: Stage, proxy: TableProxy) -> Iterator[HostProcess]:
    """A process that reaches storage through the proxy."""
    with stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as host:
        yield host


@pytest.fixture(scope="module")
def healthy(stage: Stage) -> Iterator[HostProcess]:
    """A process without faults, which reaches storage without the proxy."""
    with stage.host() as host:
        yield host
