"""Builds the connector from its settings, once in a process: the one place that knows all the parts.

The access check has settings of its own and is built first: nobody learns of another setting that is
missing before the request has passed it.
"""

from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar

from shared.api.access import Access, SigningKeys
from shared.edx.client import EdxClient
from shared.serving.answering import Catalogue
from shared.settings import ConnectorSettings, access_settings, connector_settings
from shared.storage.tables import Tables, open_tables
from shared.sync.sync import Syncer

T = TypeVar("T")


class Once(Generic[T]):
    """Calls a function once and keeps what it returns; unlike `functools.cache` also when threads race."""

    _lock = RLock()  # one for all: what is built builds others

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: list[T] = []

    def __call__(self) -> T:
        with self._lock:
            if not self._built:
                self._built.append(self._build())
            return self._built[0]

    def cache_clear(self) -> None:
        """Forget what was returned, so that a test can begin anew."""
        self._built.clear()


@Once
def access() -> Access:
    """Return the access check. Raises ConfigurationError when a setting of its own is missing."""
    settings = access_settings()
    return Access(settings, SigningKeys(settings.jwks_url))


@Once
def settings() -> ConnectorSettings:
    """Return all other settings. Raises ConfigurationError when one is missing."""
    return connector_settings()


@Once
def tables() -> Tables:
    """Return what is stored."""
    return open_tables(settings().storage, settings().edx.client_id)


@Once
def edx() -> EdxClient:
    """Return the edX client."""
    return EdxClient(settings().edx)


@Once
def syncer() -> Syncer:
    """Return the use case of syncing one catalog."""
    return Syncer(tables(), edx(), settings())


@Once
def catalogue() -> Catalogue:
    """Return the use cases behind the triggers."""
    return Catalogue(tables(), syncer(), settings())
