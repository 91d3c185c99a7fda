"""What the commands work with, built from the settings when a command first needs it."""

from functools import cache

from shared.edx.client import EdxClient
from shared.settings import ConnectorSettings, connector_settings
from shared.storage.tables import Tables, open_tables
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin
from shared.sync.sync import Syncer

OPERATOR = Origin("operator")
"""Who a sync from the command line is reported for."""


@cache
def settings() -> ConnectorSettings:
    """Return the settings. Raises ConfigurationError when one is missing or malformed."""
    return connector_settings()


@cache
def tables() -> Tables:
    """Return the tables."""
    return open_tables(settings().storage, settings().edx.client_id)


@cache
def syncer() -> Syncer:
    """Return what syncs one catalog. Its lines for the log are dropped: commands print what matters."""
    return Syncer(tables(), EdxClient(settings().edx), settings(), say=_drop)


@cache
def our_catalogs() -> OurCatalogs:
    """Return what tells which catalogs are ours."""
    return OurCatalogs(
        settings().edx.catalog_ids, tables().account, tables().reports, syncer().sessions, _drop
    )


def known_catalogs(only: int | None = None) -> list[int]:
    """Return the one catalog that was asked for, or all of ours that are known, without asking edX."""
    if only is not None:
        return [only]
    known = our_catalogs().known()
    return list(known.catalog_ids) if known else []


def _drop(_level: int, _line: str) -> None:
    pass
