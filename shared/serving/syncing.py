"""Syncs that callers share: each runs once in this process, and each caller waits until its own deadline.

A sync runs in its own thread with its own time limit. It continues when its callers leave, and writes its log
lines to the outbox.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.errors import ConnectorError, StorageError, SyncUnfinished
from shared.serving.flights import Flights, in_pool, wait
from shared.serving.outbox import Outbox
from shared.storage.store import CatalogStore
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin
from shared.sync.sync import BackingOff, Syncer

_NEVER = datetime.min.replace(tzinfo=UTC)


class _StillRunning(SyncUnfinished):
    """The deadline of a caller has passed; the sync (`running`) continues."""

    def __init__(self, waited_s: float, running: Future[Any]) -> None:
        super().__init__(f"the sync did not end within {ceil(waited_s)} s and continues; ask again later")
        self.running = running


class SharedSyncs:
    """Starts syncs and waits for them; after each wait, the new lines in the outbox are logged."""

    def __init__(
        self,
        syncer: Syncer,
        catalogs: OurCatalogs,
        store: CatalogStore,
        *,
        flights: Flights,
        pool: Executor,
        outbox: Outbox,
    ) -> None:
        self._syncer = syncer
        self._catalogs = catalogs
        self._store = store
        self._flights = flights
        self._pool = pool
        self._outbox = outbox

    async def list_catalogs(self, origin: Origin, deadline: Deadline, *, is_eager: bool) -> CatalogList:
        """Ask edX for the list of our catalogs; errors as for `sync`."""
        listed: CatalogList = await self._share(
            "list-catalogs", partial(self._catalogs.ask, origin), deadline, is_eager=is_eager
        )
        return listed

    async def sync(self, catalog_id: int, origin: Origin, deadline: Deadline, *, is_eager: bool) -> None:
        """Sync a catalog, or wait for the sync that is running.

        Args:
            catalog_id: the catalog.
            origin: for the report of a sync that starts now.
            deadline: the end of the wait.
            is_eager: try even when the last attempts failed.

        Raises:
            ConnectorError: the sync failed; SyncUnfinished when the deadline has passed.
        """
        await self._share(
            f"sync-{catalog_id}",
            partial(self._syncer.sync, catalog_id, origin),
            deadline,
            is_eager=is_eager,
        )

    async def republish(self, catalog_id: int, deadline: Deadline) -> bool:
        """Rebuild a damaged published state from the stored runs; return False when only a sync can do it."""
        running = self._flights.join(f"republish-{catalog_id}", partial(self._syncer.republish, catalog_id))
        is_rebuilt: bool = await self._wait(running, deadline)
        return is_rebuilt

    async def sync_in_turn(
        self,
        ids: Iterable[int],
        origin: Origin,
        deadline: Deadline,
        *,
        is_eager: bool,
        waits_to_the_end: bool = False,
    ) -> dict[int, ConnectorError]:
        """Sync several catalogs one after another, beginning with the one whose last attempt is oldest.

        Each catalog gets the remaining time divided by the number of remaining catalogs. A sync that takes
        longer continues while the next one starts.

        Args:
            ids: the catalogs.
            origin: for the reports.
            deadline: the end of the wait.
            is_eager: try even when the last attempts failed.
            waits_to_the_end: at the end, wait for the syncs that still run.

        Returns:
            The error of each catalog that was not synced; SyncUnfinished while its sync still runs.
        """
        total_s = deadline.left_s()
        in_order = await self._by_last_attempt(ids, deadline)
        failures: dict[int, ConnectorError] = {}
        for at, catalog_id in enumerate(in_order):
            share = deadline.within(deadline.left_s() / (len(in_order) - at))
            try:
                await self.sync(catalog_id, origin, share, is_eager=is_eager)
            except ConnectorError as error:
                failures[catalog_id] = error
        for catalog_id, failure in list(failures.items()):
            if isinstance(failure, _StillRunning) and (waits_to_the_end or failure.running.done()):
                del failures[catalog_id]
                try:
                    await self._wait(failure.running, deadline)
                except _StillRunning:
                    failures[catalog_id] = _StillRunning(total_s, failure.running)
                except BackingOff as error:
                    failures[catalog_id] = error.failure
                except ConnectorError as error:
                    failures[catalog_id] = error
        return failures

    async def _by_last_attempt(self, ids: Iterable[int], deadline: Deadline) -> list[int]:
        in_order = sorted(ids)
        if len(in_order) > 1:
            with suppress(StorageError):  # the order is not worth a failure; each sync reads its own lease
                attempted = await in_pool(self._pool, deadline, self._attempted_at, in_order)
                in_order.sort(key=lambda catalog_id: attempted[catalog_id])
        return in_order

    def _attempted_at(self, ids: Iterable[int]) -> dict[int, datetime]:
        leases = {catalog_id: self._store.lease(catalog_id) for catalog_id in ids}
        return {
            catalog_id: (lease.attempts.attempted_at if lease else None) or _NEVER
            for catalog_id, lease in leases.items()
        }

    async def _share(self, key: str, begin: Callable[..., Any], deadline: Deadline, *, is_eager: bool) -> Any:
        if deadline.has_passed:
            raise SyncUnfinished("no time was left to start a sync of it; ask again later")
        while True:
            running = self._flights.join(key, partial(begin, is_eager=is_eager))
            try:
                return await self._wait(running, deadline)
            except BackingOff as error:
                # The shared attempt was not eager and has ended, so this eager caller tries again.
                if not is_eager or deadline.has_passed:
                    raise error.failure from None

    async def _wait(self, running: Future[Any], deadline: Deadline) -> Any:
        waited_s = deadline.left_s()
        try:
            return await wait(running, deadline)
        except TimeoutError:
            raise _StillRunning(waited_s, running) from None
        finally:
            self._outbox.flush()
