"""The parts that the commands use, built from the settings when a command first needs them."""

from functools import cache

from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import Connector, connect

OPERATOR = Origin("operator")
"""The origin in the reports of syncs from the command line."""


@cache
def connector() -> Connector:
    """Return the connector. Its log lines are dropped, because each command prints its own messages.

    Raises:
        ConfigurationError: a setting is missing or malformed.
    """
    return connect(Outbox())


def known_catalogs(only: int | None = None) -> list[int]:
    """Return `only`, or all known catalogs, without asking edX."""
    if only is not None:
        return [only]
    known = connector().catalogs.known()
    return list(known.catalog_ids) if known else []
