"""The round of the timer: syncs all our catalogs, even fresh ones, and logs the state of each in one line."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from datetime import datetime
from typing import Any

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import rfc3339
from shared.errors import ConnectorError, SyncError
from shared.serving.flights import in_pool
from shared.serving.freshness import age_s
from shared.serving.refreshing import combined
from shared.serving.syncing import SharedSyncs
from shared.storage.store import CatalogStore
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin

ROUND_S = 540.0
"""The time limit of a round; shorter than the functionTimeout of host.json, ten minutes."""

LISTING_S = 120.0
"""The longest wait for edX's list of catalogs; after that, the known list is used."""

READING_S = 30.0
"""The longest wait for storage when the log line of a round is built."""


class Rounds:
    """Syncs all our catalogs, one round per call."""

    def __init__(
        self,
        store: CatalogStore,
        catalogs: OurCatalogs,
        syncs: SharedSyncs,
        *,
        pool: Executor,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._catalogs = catalogs
        self._syncs = syncs
        self._pool = pool
        self._now = now

    async def sync_all(self, origin: Origin, deadline: Deadline, log: Callable[[str], None]) -> None:
        """Sync all our catalogs; `log` is called with the line on the state of each, also after a failure.

        Raises:
            ConnectorError: the list or one or more catalogs failed; the other catalogs were synced.
        """
        ours: CatalogList | None = None
        failure: ConnectorError | None = None
        try:
            ours, failure = await self._list(origin, deadline)
            failures = await self._syncs.sync_in_turn(ours.catalog_ids, origin, deadline, is_eager=True)
            if failures:
                failure = combined(failures, asked_for=None)
        except ConnectorError as error:
            failure = error
        log(await self._line(origin, ours, failure))
        if failure:
            raise failure

    async def _list(self, origin: Origin, deadline: Deadline) -> tuple[CatalogList, ConnectorError | None]:
        """Return the catalogs to sync, and the error if edX could not list them now."""
        failure: ConnectorError | None = None
        try:
            ours: CatalogList | None = await self._syncs.list_catalogs(
                origin, deadline.within(LISTING_S), is_eager=True
            )
        except ConnectorError as error:
            failure = error
            ours = await in_pool(self._pool, deadline.within(READING_S), self._catalogs.known)
        if ours is None or not ours.catalog_ids:
            raise failure or SyncError(
                "There is no catalog to sync: EDX_CATALOG_IDS is empty and edX lists none for this client "
                "id; ask edX for access to one"
            )
        return ours, failure

    async def _line(self, origin: Origin, ours: CatalogList | None, failure: ConnectorError | None) -> str:
        """Return one line of JSON for Application Insights; works without storage, too."""
        left = set(ours.left) if ours else set()
        ids = sorted({*ours.catalog_ids, *left}) if ours else []
        try:
            standing = await in_pool(self._pool, Deadline.after(READING_S), self._standing, ids)
        except ConnectorError as error:
            standing = [{"catalog": catalog_id, "error": error.message} for catalog_id in ids]
        for entry in standing:
            entry["left_list"] = entry["catalog"] in left
        line = {
            "event": "catalogs",
            "trigger": origin.trigger,
            "catalogs": standing,
            "error": failure.message if failure else None,
        }
        return json.dumps(line, ensure_ascii=False)

    def _standing(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        return [self._standing_of(catalog_id) for catalog_id in ids]

    def _standing_of(self, catalog_id: int) -> dict[str, Any]:
        head, lease = self._store.head(catalog_id), self._store.lease(catalog_id)
        attempts = lease.attempts if lease else None
        succeeded = head.synced_at if head else None
        return {
            "catalog": catalog_id,
            "succeeded": rfc3339(succeeded) if succeeded else None,
            "age_s": age_s(succeeded, self._now()) if succeeded else None,
            "failures": attempts.failures if attempts else 0,
            "failed": rfc3339(attempts.failed_at) if attempts and attempts.failed_at else None,
            "error": attempts.failure.message if attempts and attempts.failure else None,
        }
