"""Builds the connector from its settings, once in a process: the one place that knows all the parts.

The access check has settings of its own and is built first: nobody learns of another setting that is
missing before the request has passed it.
"""

from functools import cache

from shared.access import Access, SigningKeys
from shared.catalogue import Catalogue
from shared.edx_client import EdxClient
from shared.settings import ConnectorSettings, StorageSettings, access_settings, connector_settings
from shared.sync import Syncer
from shared.table_store import TableStore


@cache
def access() -> Access:
    """Return the access check. Raises ConfigurationError when a setting of its own is missing."""
    settings = access_settings()
    return Access(settings, SigningKeys(settings.jwks_url))


@cache
def settings() -> ConnectorSettings:
    """Return all other settings. Raises ConfigurationError when one is missing."""
    return connector_settings()


@cache
def store() -> TableStore:
    """Return the tables."""
    return table_store(settings().storage)


@cache
def edx() -> EdxClient:
    """Return the edX client."""
    return EdxClient(settings().edx)


@cache
def syncer() -> Syncer:
    """Return the use case of syncing one catalog."""
    return Syncer(store(), edx(), settings())


@cache
def catalogue() -> Catalogue:
    """Return the use cases behind the triggers."""
    return Catalogue(store(), syncer(), settings())


def table_store(storage: StorageSettings) -> TableStore:
    """Return the tables that settings name; managed identity is imported only where it is used."""
    if storage.connection_string:
        return TableStore(storage)
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - slow, and local runs have no need of it

    return TableStore(storage, DefaultAzureCredential())
