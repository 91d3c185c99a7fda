"""Opens the tables of the connector."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from azure.core.credentials import AccessToken
from azure.data.tables import TableServiceClient

from shared.settings import StorageSettings
from shared.storage.account import Account
from shared.storage.credits import Credits
from shared.storage.failures import TokenMissing
from shared.storage.history import History
from shared.storage.lease import Leases
from shared.storage.reports import Reports
from shared.storage.store import CatalogStore
from shared.storage.table import Table


class Tables(NamedTuple):
    """The stores, one per kind of data."""

    catalogs: CatalogStore
    reports: Reports
    account: Account
    history: History
    credits: Credits


def open_tables(
    settings: StorageSettings,
    client_id: str,
    credential: object | None = None,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Tables:
    """Open the tables that the settings name; no request is sent before the first call.

    Args:
        settings: the storage account and the table prefix.
        client_id: the edX client id, under which the account state is stored.
        credential: for an endpoint; the app's managed identity by default.
        now: the time of day.
        clock: monotonic seconds.
        sleep: waits that many seconds, between retries and lease polls.
    """
    service = _service(settings, credential)

    def table(name: str) -> Table:
        client = service.get_table_client(f"{settings.prefix}{name}")
        return Table(client, clock=clock, sleep=sleep, now=now)

    runs = table("CourseRuns")
    return Tables(
        catalogs=CatalogStore(runs, Leases(runs, clock=clock, sleep=sleep, now=now)),
        reports=Reports(table("SyncReports")),
        account=Account(table("Accounts"), client_id, now=now),
        history=History(runs, now=now),
        credits=Credits(table("Credits")),
    )


def _service(settings: StorageSettings, credential: object | None) -> TableServiceClient:
    options: dict[str, Any] = {
        "retry_total": 0,  # see table.py
        "use_env_settings": False,  # a .netrc would replace the signature
    }
    if settings.connection_string:
        return TableServiceClient.from_connection_string(
            settings.connection_string.get_secret_value(), **options
        )
    endpoint = settings.endpoint or ""
    if credential is None:
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - slow, and local runs never need it

        credential = DefaultAzureCredential()
    if hasattr(credential, "get_token"):
        credential = _Identity(credential)
    return TableServiceClient(endpoint, credential=credential, **options)  # type: ignore[arg-type]


class _Identity:
    """A credential that raises TokenMissing, so that its failures differ from those of Table Storage."""

    def __init__(self, credential: Any) -> None:
        self._credential = credential

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        try:
            token: AccessToken = self._credential.get_token(*scopes, **options)
        except Exception as error:  # noqa: BLE001 - each kind of identity raises its own types
            raise TokenMissing(type(error).__name__) from None
        return token
