"""Stores the state of our edX account: rate limit, list of catalogs, and attempts to list them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from shared.domain.attempts import Attempts
from shared.domain.catalog_id import CATALOG_ID_MAX, parse_catalog_id
from shared.domain.catalog_list import CatalogList
from shared.storage.entities import Entity, attempts_from, attempts_properties, moment_from
from shared.storage.failures import ConditionFailed
from shared.storage.table import Table, merging, replacing_unchanged

THROTTLED_AT_MOST = timedelta(hours=24)
"""The longest rate limit of edX; a later end comes from a wrong clock and is ignored."""


class Account:
    """The account of one client id. Thread-safe; every method does I/O and may raise StorageError."""

    def __init__(
        self, table: Table, client_id: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._table = table
        # A hash, because a key may not contain every character that an id may.
        self._partition_key = sha256(client_id.encode()).hexdigest()
        self._now = now

    def try_out(self) -> None:
        """Write and read an unused row, to check the access to storage."""
        key = self._key("check")
        self._table.put(key)
        self._table.get(key["PartitionKey"], key["RowKey"])

    def throttled_until(self) -> datetime | None:
        """Return the end of the stored rate limit; None when there is none."""
        return self._plausible(self._row("throttled"))

    def remember_throttled(self, until: datetime) -> None:
        """Store the end of a rate limit, unless a later end is already stored."""
        until = min(until, self._now() + THROTTLED_AT_MOST)
        entity = self._key("throttled") | {"until": until.isoformat()}
        patience = self._table.patience()
        while True:
            stored = self._table.get(self._partition_key, "throttled")
            known = self._plausible(stored)
            if known is not None and known >= until:
                return
            # Bound to the etag that was read: an earlier end must not replace a later one of another process.
            with suppress(ConditionFailed):
                if stored is not None:
                    self._table.commit([replacing_unchanged(entity, str(stored.metadata["etag"]))])
                    return
                if self._table.insert(entity):
                    return
            if not patience.pause():
                raise self._table.failed("did not accept the end of edX's rate limit: every write conflicted")

    def _plausible(self, stored: Mapping[str, object] | None) -> datetime | None:
        until = moment_from(stored.get("until")) if stored is not None else None
        return until if until and until <= self._now() + THROTTLED_AT_MOST else None

    def catalog_list(self) -> CatalogList | None:
        """Return the last list of catalogs from edX; None when no list can be read."""
        entity = self._row("catalogs")
        ids, listed_at = _ids(entity.get("catalogIds")), moment_from(entity.get("listedAt"))
        # An incomplete list would remove the other catalogs from the answer.
        if ids is None or listed_at is None:
            return None
        return CatalogList(ids, listed_at, _ids(entity.get("left")) or ())

    def remember_catalogs(self, catalogs: CatalogList, attempts: Attempts) -> None:
        """Store the list of catalogs, and the successful attempt to get it."""
        self._table.put(
            self._key("catalogs")
            | {
                "catalogIds": ",".join(map(str, catalogs.catalog_ids)),
                "listedAt": catalogs.listed_at.isoformat(),
                "left": ",".join(map(str, catalogs.left)),
            }
            | attempts_properties(attempts)
        )

    def attempts(self) -> Attempts:
        """Return the stored attempts to list the catalogs."""
        return attempts_from(self._row("catalogs"))

    def remember_attempts(self, attempts: Attempts) -> None:
        """Store the attempts to list the catalogs; the stored list stays unchanged."""
        self._table.commit([merging(self._key("catalogs") | attempts_properties(attempts))])

    def _row(self, row_key: str) -> Entity:
        return self._table.get(self._partition_key, row_key) or {}

    def _key(self, row_key: str) -> Entity:
        return {"PartitionKey": self._partition_key, "RowKey": row_key}


def _ids(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, str):
        return None
    ids = [parse_catalog_id(each) for each in value.split(",")] if value else []
    known = tuple(each for each in ids if each is not None and each <= CATALOG_ID_MAX)
    return known if len(known) == len(ids) else None
