"""Returns the current body of a catalog, or of several merged ones; concurrent callers share the work.

A body is valid until a run begins or ends; then it is rendered again, once for all callers. The bodies of the
last answers stay in memory, packed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from shared.deadline import Deadline
from shared.domain.course_run import rfc3339
from shared.domain.published import Body, Head, merge, render_again, unpack
from shared.errors import SyncUnfinished
from shared.serving.flights import Flights, wait_for_storage
from shared.storage.store import CatalogStore, StateDamaged

_READS = 3  # tries; when a sync publishes during a read, the new head is read, then its parts


class Edition(NamedTuple):
    """The current body of a catalog and the end of its last sync."""

    catalog_id: int
    generation: str
    synced_at: datetime
    body: Body


class Editions:
    """Makes editions. Every method may raise StorageError, also at the deadline."""

    def __init__(self, store: CatalogStore, *, flights: Flights, now: Callable[[], datetime]) -> None:
        self._store = store
        self._flights = flights
        self._now = now
        self._known: dict[int, Edition] = {}
        self._merged: tuple[tuple[str, ...], Body] | None = None

    async def of(self, catalog_id: int, head: Head | None, deadline: Deadline) -> Edition:
        """Return the current body of a catalog, for its head or a newer one.

        Raises:
            SyncUnfinished: no sync of it has finished yet.
            StateDamaged: the published state is incomplete or damaged.
        """
        head, synced_at = _finished(catalog_id, head)
        while True:
            known = self._known.get(catalog_id)
            if known and known.generation == head.generation and self._holds(known.body):
                return known._replace(synced_at=synced_at)
            begun = partial(self._edition, catalog_id, head)
            made = await wait_for_storage(
                self._flights.join(("edition", catalog_id, head.generation), begun), deadline
            )
            if self._holds(made.body):
                return made._replace(synced_at=synced_at) if made.generation == head.generation else made

    async def merged(self, editions: Sequence[Edition], deadline: Deadline) -> Body:
        """Return the runs of several catalogs as one body; the first edition that has a run is used."""
        tags = tuple(edition.body.tag for edition in editions)
        if self._merged and self._merged[0] == tags:
            return self._merged[1]
        bodies = [edition.body.packed for edition in editions]
        return await wait_for_storage(
            self._flights.join(("merged", tags), partial(self._merge, tags, bodies)), deadline
        )

    async def unpacked(self, body: Body, deadline: Deadline) -> bytes:
        """Return the JSON of a body; concurrent callers share the bytes."""
        return await wait_for_storage(
            self._flights.join(("unpacked", body.tag), partial(unpack, body.packed)), deadline
        )

    def _holds(self, body: Body) -> bool:
        return rfc3339(self._now()) < body.holds_until

    def _edition(self, catalog_id: int, newest: Head | None) -> Edition:
        for _ in range(_READS):
            head, synced_at = _finished(catalog_id, newest)
            known = self._known.get(catalog_id)
            if known and known.generation == head.generation:
                body = known.body
            else:
                try:
                    packed = self._store.body(catalog_id, head)
                except StateDamaged:
                    newest = self._store.head(catalog_id)
                    if newest and newest.generation == head.generation:
                        raise
                    continue
                body = Body(packed, head.tag, head.holds_until, head.runs)
            now = self._now()
            if rfc3339(now) >= body.holds_until:  # a run has begun or ended since it was rendered
                body = render_again(body.packed, now)
            edition = Edition(catalog_id, head.generation, synced_at, body)
            self._known[catalog_id] = edition
            return edition
        raise StateDamaged(catalog_id, "changes faster than it can be read; ask again later")

    def _merge(self, tags: tuple[str, ...], bodies: Sequence[bytes]) -> Body:
        body = merge(bodies)
        self._merged = (tags, body)
        return body


def _finished(catalog_id: int, head: Head | None) -> tuple[Head, datetime]:
    """Return the head and the end of its last successful sync."""
    if head is None or head.synced_at is None:
        raise SyncUnfinished(f"No sync of catalog {catalog_id} has finished yet; ask again later")
    return head, head.synced_at
