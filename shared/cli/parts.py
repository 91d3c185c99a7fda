"""What the commands work with, built from the settings when a command first needs it."""

from functools import cache

from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import Connector, connect

OPERATOR = Origin("operator")
"""Who a sync from the command line is reported for."""


@cache
def connector() -> Connector:
    """Return the connector. Its lines for the log are dropped: commands print what matters themselves.

    Raises:
        ConfigurationError: a setting is missing or malformed.
    """
    return connect(Outbox())


def known_catalogs(only: int | None = None) -> list[int]:
    """Return the one catalog that was asked for, or all of ours that are known, without asking edX."""
    if only is not None:
        return [only]
    known = connector().catalogs.known()
    return list(known.catalog_ids) if known else []
