"""Builds the connector from its parts; a caller can pass its own part instead of each default.

The access check has its own settings and is built separately: a caller that fails it must not learn that
another setting is missing.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from shared.api.access import Access
from shared.api.signing_keys import SigningKeys
from shared.edx.client import EdxClient
from shared.serving.answering import Answering
from shared.serving.editions import Editions
from shared.serving.flights import Flights
from shared.serving.history import ChangesReader
from shared.serving.outbox import Outbox
from shared.serving.refreshing import Refresher
from shared.serving.rounds import Rounds
from shared.serving.syncing import SharedSyncs
from shared.settings import ConnectorSettings, access_settings, connector_settings, setting_warnings
from shared.storage.tables import Tables, open_tables
from shared.sync.catalogs import OurCatalogs
from shared.sync.sync import Syncer

REQUEST_THREADS = 16
"""Threads for the blocking steps of requests, one for each concurrent request. It equals httpConcurrency in
infra/app.bicep (a test compares them)."""


class Connector(NamedTuple):
    """The parts behind the triggers and the command line."""

    settings: ConnectorSettings
    tables: Tables
    edx: EdxClient
    catalogs: OurCatalogs
    syncer: Syncer
    answering: Answering
    changes: ChangesReader
    rounds: Rounds


def connect_access(outbox: Outbox, environment: Mapping[str, str] = os.environ) -> Access:
    """Return the access check.

    Raises:
        ConfigurationError: a setting of its own is missing or malformed.
    """
    settings = access_settings(environment)
    return Access(settings, SigningKeys(settings.jwks_url, say=outbox.say))


def connect(
    outbox: Outbox,
    environment: Mapping[str, str] = os.environ,
    *,
    tables: Tables | None = None,
    edx: EdxClient | None = None,
    pool: Executor | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Connector:
    """Return the connector without the access check.

    Args:
        outbox: receives the log lines of syncs.
        environment: contains the settings.
        tables: by default the tables that the settings name.
        edx: by default a client of the API that the settings name.
        pool: runs the blocking steps of requests; by default a pool of `REQUEST_THREADS` threads.
        now: returns the time (aware, UTC).
        clock: returns monotonic seconds.
        sleep: waits for a number of seconds.

    Raises:
        ConfigurationError: a setting is missing or malformed.
    """
    settings = connector_settings(environment)
    for warning in setting_warnings(environment):
        outbox.say(logging.WARNING, warning)
    tables = tables or open_tables(settings.storage, settings.edx.client_id)
    edx = edx or EdxClient(settings.edx, clock=clock, now=now)
    pool = pool or ThreadPoolExecutor(REQUEST_THREADS, thread_name_prefix="request")
    flights = Flights()
    store = tables.catalogs
    syncer = Syncer(tables, edx, settings, say=outbox.say, now=now, clock=clock, sleep=sleep)
    catalogs = OurCatalogs(
        settings.edx.catalog_ids,
        tables.account,
        tables.reports,
        syncer.sessions,
        outbox.say,
        now=now,
        clock=clock,
    )
    syncs = SharedSyncs(syncer, catalogs, store, flights=flights, pool=pool, outbox=outbox)
    refresher = Refresher(store, catalogs, syncs, settings.sync, pool=pool, now=now)
    editions = Editions(store, flights=flights, now=now)
    return Connector(
        settings,
        tables,
        edx,
        catalogs,
        syncer,
        Answering(refresher, editions, settings.sync, now=now),
        ChangesReader(tables.history, catalogs, pool=pool),
        Rounds(store, catalogs, syncs, pool=pool, now=now),
    )
