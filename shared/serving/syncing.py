"""Syncs that callers share: each is begun once in this process, and each caller waits its own time.

A sync belongs to itself. It runs in a thread of its own with a lifetime of its own, goes on when those who
wait for it leave, and says what it has to say through the outbox.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.errors import ConnectorError, SyncUnfinished
from shared.serving.flights import Flights, in_pool, wait
from shared.serving.outbox import Outbox
from shared.storage.store import CatalogStore
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin
from shared.sync.sync import BackingOff, Syncer

_NEVER = datetime.min.replace(tzinfo=UTC)


class _StillRunning(SyncUnfinished):
    """A caller's time has passed; `running` goes on."""

    def __init__(self, waited_s: float, running: Future[Any]) -> None:
        super().__init__(f"it did not end within {ceil(waited_s)} s; it goes on, ask again later")
        self.running = running


class SharedSyncs:
    """Begins syncs and waits for them. Every wait ends by logging what was said meanwhile."""

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
        """Ask edX which catalogs are ours; errors as for `sync`."""
        listed: CatalogList = await self._share(
            "list-catalogs", partial(self._catalogs.ask, origin), deadline, is_eager=is_eager
        )
        return listed

    async def sync(self, catalog_id: int, origin: Origin, deadline: Deadline, *, is_eager: bool) -> None:
        """Sync a catalog, or wait for the sync that is under way.

        Args:
            catalog_id: the catalog.
            origin: for the report of a sync that begins now.
            deadline: until when to wait.
            is_eager: try also when the last attempts failed.

        Raises:
            ConnectorError: why it failed; SyncUnfinished when the deadline passed first.
        """
        await self._share(
            f"sync-{catalog_id}",
            partial(self._syncer.sync, catalog_id, origin),
            deadline,
            is_eager=is_eager,
        )

    async def republish(self, catalog_id: int, deadline: Deadline) -> bool:
        """Rebuild a damaged published state from what is stored; False when only a sync can."""
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
        """Sync several catalogs, the one first whose last attempt is the longest ago.

        Each gets the time left divided by the catalogs left. One that does not end within that goes on by
        itself while the next begins.

        Args:
            ids: the catalogs.
            origin: for the reports.
            deadline: until when to wait.
            is_eager: try also when the last attempts failed.
            waits_to_the_end: after the others, wait once more for those that go on.

        Returns:
            What stopped those that were not synced; SyncUnfinished when it goes on.
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
            raise SyncUnfinished("no time was left for it; ask again")
        while True:
            running = self._flights.join(key, partial(begin, is_eager=is_eager))
            try:
                return await self._wait(running, deadline)
            except BackingOff as error:
                # An eager caller who joined one that was not: that one has ended, so the next try is ours.
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
