"""Syncs the catalogs of a request that are not fresh enough, and repairs damaged published states.

After a failed sync, stored data may be returned instead: see `freshness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.domain.published import Head
from shared.domain.query import Question
from shared.errors import (
    CatalogsFailed,
    ConnectorError,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.serving.flights import in_pool
from shared.serving.freshness import Forward, Limits
from shared.serving.syncing import SharedSyncs
from shared.settings import SyncSettings
from shared.storage.store import CatalogStore, StateDamaged
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin

INTACT = "What was stored before is intact."
CATALOG_NOT_FOUND = "the catalog is not found"


@dataclass
class UpToDate:
    """The state of the catalogs of a request after the syncs.

    Attributes:
        limits: the age limits of the request.
        heads: the current head of each requested catalog.
        forwards: why each catalog that was too old needed a sync.
        replaced: the errors of syncs instead of which stored data is returned.
    """

    limits: Limits
    heads: dict[int, Head | None] = field(default_factory=dict)
    forwards: list[Forward] = field(default_factory=list)
    replaced: list[ConnectorError] = field(default_factory=list)


class Refresher:
    """Syncs catalogs for requests; its methods run in one event loop."""

    def __init__(
        self,
        store: CatalogStore,
        catalogs: OurCatalogs,
        syncs: SharedSyncs,
        settings: SyncSettings,
        *,
        pool: Executor,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._catalogs = catalogs
        self._syncs = syncs
        self._settings = settings
        self._pool = pool
        self._now = now

    async def refresh(
        self, question: Question, origin: Origin, deadline: Deadline, reading: Deadline
    ) -> UpToDate:
        """Sync the catalogs that are too old for a request.

        Args:
            question: the request.
            origin: for the report of a sync that the request starts.
            deadline: the end of the wait for syncs.
            reading: the end of the wait for storage.

        Raises:
            ConnectorError: a sync failed, and stored data may not be returned instead.
        """
        state = UpToDate(Limits.of(question.freshness, self._settings))
        ids = await self._ours(question, origin, state, deadline, reading)
        state.heads = await in_pool(self._pool, reading, self._heads, ids)
        await self._sync_stale(question, origin, state, deadline, reading)
        return state

    async def repair(
        self,
        question: Question,
        damaged: StateDamaged,
        origin: Origin,
        deadline: Deadline,
        reading: Deadline,
    ) -> Head | None:
        """Rebuild a damaged published state from the stored runs, or by a sync; return its new head."""
        catalog_id, may_sync = damaged.catalog_id, not question.freshness.only_if_cached
        try:
            is_rebuilt = await self._syncs.republish(catalog_id, deadline)
            if not is_rebuilt and may_sync:
                await self._syncs.sync(
                    catalog_id, origin, deadline, is_eager=question.freshness.has_directive
                )
        except ConnectorError as error:
            raise combined({catalog_id: error}, question.catalog_id) from None
        if not is_rebuilt and not may_sync:
            raise damaged
        return await in_pool(self._pool, reading, self._store.head, catalog_id)

    async def _ours(
        self,
        question: Question,
        origin: Origin,
        state: UpToDate,
        deadline: Deadline,
        reading: Deadline,
    ) -> Sequence[int]:
        """Return the catalogs that a request is about."""
        wanted, limits = question.catalog_id, state.limits
        known = await in_pool(self._pool, reading, self._catalogs.known)
        if known is None and limits.only_if_cached:
            raise SyncUnfinished("Nothing has been synced yet; ask again later")
        is_in_it = known is not None and wanted is not None and wanted in known.catalog_ids
        if known is None or not (is_in_it or limits.is_fresh(known.listed_at, self._now())):
            known = await self._listed_anew(question, origin, known, state, deadline)
        if wanted is None:
            return known.catalog_ids
        if wanted not in known.catalog_ids:
            raise NotFound(CATALOG_NOT_FOUND)
        return (wanted,)

    async def _listed_anew(
        self,
        question: Question,
        origin: Origin,
        known: CatalogList | None,
        state: UpToDate,
        deadline: Deadline,
    ) -> CatalogList:
        try:
            return await self._syncs.list_catalogs(
                origin, deadline, is_eager=question.freshness.has_directive
            )
        except ConnectorError as error:
            # A catalog that the known list lacks may have been added at edX since.
            if (
                known is not None
                and question.catalog_id is None
                and state.limits.may_replace(error, known.listed_at, self._now())
            ):
                state.replaced.append(error)
                return known
            if isinstance(error, StorageError):
                raise  # storage is to blame, not edX
            raise SyncError(
                f"The list of catalogs could not be fetched from edX: {error.message}. {INTACT}",
                error.retry_at,
            ) from error

    async def _sync_stale(
        self,
        question: Question,
        origin: Origin,
        state: UpToDate,
        deadline: Deadline,
        reading: Deadline,
    ) -> None:
        """Sync the catalogs that are too old for the request, and read their new heads."""
        limits, now = state.limits, self._now()
        if limits.only_if_cached:
            return
        before = {catalog_id: _synced_at(head) for catalog_id, head in state.heads.items()}
        stale = [each for each, at in before.items() if at is None or not limits.is_fresh(at, now)]
        if not stale:
            return
        failures = await self._syncs.sync_in_turn(
            stale, origin, deadline, is_eager=question.freshness.has_directive, waits_to_the_end=True
        )
        state.heads |= await in_pool(self._pool, reading, self._heads, stale)
        state.forwards = [limits.forward(before[each], now) for each in stale]
        for catalog_id, error in list(failures.items()):
            if limits.may_replace(error, _synced_at(state.heads[catalog_id]), self._now()):
                state.replaced.append(failures.pop(catalog_id))
        if failures:
            raise combined(failures, question.catalog_id)

    def _heads(self, ids: Iterable[int]) -> dict[int, Head | None]:
        return {catalog_id: self._store.head(catalog_id) for catalog_id in ids}


def _synced_at(head: Head | None) -> datetime | None:
    return head.synced_at if head else None


def combined(failures: Mapping[int, ConnectorError], asked_for: int | None) -> ConnectorError:
    """Combine the errors of several catalogs into one; it is NotFound only if all of them are."""
    if all(isinstance(error, NotFound) for error in failures.values()):
        named = "" if asked_for else f": {', '.join(map(str, failures))}"
        return NotFound(CATALOG_NOT_FOUND + named)
    sentences = [
        f"Catalog {catalog_id} could not be synced: {error.message}."
        for catalog_id, error in failures.items()
    ]
    return CatalogsFailed(" ".join([*sentences, INTACT]), failures)
