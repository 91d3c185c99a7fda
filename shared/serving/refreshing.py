"""Brings the catalogs that a request asks about up to date, as it wishes, and repairs what cannot be read.

What a failed sync leaves is stored data, which may be answered instead: see `freshness`.
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
    """What bringing the catalogs of one request up to date came to.

    Attributes:
        limits: what the request takes.
        heads: of each catalog that it asks about, as they are now.
        forwards: why each catalog that was synced needed it.
        replaced: failures instead of which what is stored is answered.
    """

    limits: Limits
    heads: dict[int, Head | None] = field(default_factory=dict)
    forwards: list[Forward] = field(default_factory=list)
    replaced: list[ConnectorError] = field(default_factory=list)


class Refresher:
    """Brings catalogs up to date; its methods run in one event loop."""

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

    async def bring(
        self, question: Question, origin: Origin, deadline: Deadline, reading: Deadline
    ) -> UpToDate:
        """Sync what is too old for a request.

        Args:
            question: what it asks for.
            origin: for the report of a sync that it starts.
            deadline: until when it waits for syncs.
            reading: until when it waits for storage.

        Raises:
            ConnectorError: a sync failed, and what is stored does not replace it.
        """
        state = UpToDate(Limits.of(question.freshness, self._settings))
        ids = await self._ours(question, origin, state, deadline, reading)
        state.heads = await in_pool(self._pool, reading, self._heads, ids)
        await self._refresh(question, origin, state, deadline, reading)
        return state

    async def mend(
        self,
        question: Question,
        damaged: StateDamaged,
        origin: Origin,
        deadline: Deadline,
        reading: Deadline,
    ) -> Head | None:
        """Have a damaged published state rebuilt, from what is stored or else by a sync; return its head."""
        catalog_id = damaged.catalog_id
        try:
            if not await self._syncs.republish(catalog_id, deadline):
                if question.freshness.only_if_cached:
                    raise damaged
                await self._syncs.sync(catalog_id, origin, deadline, is_eager=True)
        except ConnectorError as error:
            raise combined({catalog_id: error}, question.catalog_id) from None
        return await in_pool(self._pool, reading, self._store.head, catalog_id)

    async def _ours(
        self,
        question: Question,
        origin: Origin,
        state: UpToDate,
        deadline: Deadline,
        reading: Deadline,
    ) -> Sequence[int]:
        """Return the catalogs that a question is about."""
        wanted, limits = question.catalog_id, state.limits
        known = await in_pool(self._pool, reading, self._catalogs.known)
        if known is None and limits.only_if_cached:
            raise SyncUnfinished("Nothing has been synced yet")
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
                origin, deadline, is_eager=not question.freshness.is_unspoken
            )
        except ConnectorError as error:
            # The known list cannot tell whether a catalog that it lacks is ours by now.
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
                f"The list of catalogs could not be had from edX: {error.message}. {INTACT}", error.retry_at
            ) from error

    async def _refresh(
        self,
        question: Question,
        origin: Origin,
        state: UpToDate,
        deadline: Deadline,
        reading: Deadline,
    ) -> None:
        """Sync the catalogs that are too old for the request, and read their heads again."""
        limits, now = state.limits, self._now()
        if limits.only_if_cached:
            return
        before = {catalog_id: _synced_at(head) for catalog_id, head in state.heads.items()}
        stale = [each for each, at in before.items() if at is None or not limits.is_fresh(at, now)]
        if not stale:
            return
        failures = await self._syncs.sync_in_turn(
            stale, origin, deadline, is_eager=not question.freshness.is_unspoken, waits_to_the_end=True
        )
        state.heads |= await in_pool(self._pool, reading, self._heads, stale)
        state.forwards = [limits.forward(before[each], now) for each in stale if each not in failures]
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
    """Return the one error for all catalogs that failed: not found only when every one of them is."""
    if all(isinstance(error, NotFound) for error in failures.values()):
        named = "" if asked_for else f": {', '.join(map(str, failures))}"
        return NotFound(CATALOG_NOT_FOUND + named)
    sentences = [
        f"Catalog {catalog_id} could not be synced: {error.message}."
        for catalog_id, error in failures.items()
    ]
    return CatalogsFailed(" ".join([*sentences, INTACT]), failures)
