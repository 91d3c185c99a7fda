"""Reads the stored data of a catalog, and acquires the writer for it (writer.py).

<prefix>CourseRuns    PartitionKey = catalog id
                      RowKey = run id (UUID)              a course run
                               lease                      who syncs this catalog, see lease.py
                               published                  head of the published state
                               published-<generation>-…   its parts
                               changes-…                  the history, see history.py
<prefix>SyncReports   PartitionKey = catalog id, RowKey = newest first
<prefix>Accounts      PartitionKey = digest of the edX client id, RowKey = throttled | catalogs
<prefix>Credits       PartitionKey = credits, RowKey = UUID made of the key that is approved
"""

from collections.abc import Callable, Iterator

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.course_run import StoredRun, is_uuid
from shared.domain.published import Head, checksum, unpack_digests
from shared.errors import StorageError
from shared.storage.entities import HEAD_KEY, head_from, stored_run
from shared.storage.lease import Leases, LeaseState
from shared.storage.parts import part_data, part_key
from shared.storage.table import Table
from shared.storage.writer import CatalogWriter

# Run ids are hexadecimal. Of the other row keys, only those of the history begin with a letter up to f.
_RUNS_FILTER = "PartitionKey eq @catalog and (RowKey lt 'cg' or (RowKey ge 'd' and RowKey lt 'g'))"


class StateDamaged(StorageError):
    """A published state is incomplete or damaged; the next sync rebuilds it from the stored runs."""

    def __init__(self, catalog_id: int, problem: str) -> None:
        super().__init__(f"The published state of catalog {catalog_id} {problem}")
        self.catalog_id = catalog_id


class CatalogStore:
    """The stored data of all catalogs. Thread-safe; every method does I/O and may raise StorageError."""

    def __init__(self, table: Table, leases: Leases) -> None:
        self._table = table
        self._leases = leases

    def head(self, catalog_id: int) -> Head | None:
        """Return the head of a catalog's published state; None when it does not exist."""
        entity = self._table.get(str(catalog_id), HEAD_KEY)
        return head_from(entity) if entity is not None else None

    def body(self, catalog_id: int, head: Head) -> bytes:
        """Return the packed body that a head names.

        Raises:
            StateDamaged: parts are missing (a newer generation may have replaced them) or damaged.
        """
        return self._parts(catalog_id, head.generation, "body", head.body_parts, head.body_checksum)

    def counted_body(self, catalog_id: int, head: Head) -> bytes:
        """Return the packed body of the last successful sync.

        Raises:
            StateDamaged: as for `body`.
        """
        if not head.counted_generation:
            return self.body(catalog_id, head)
        return self._parts(
            catalog_id, head.counted_generation, "body", head.counted_body_parts, head.counted_body_checksum
        )

    def digests(self, catalog_id: int, head: Head) -> dict[str, bytes]:
        """Return run id → digest of every stored run in the head's generation.

        Raises:
            StateDamaged: as for `body`.
        """
        return unpack_digests(
            self._parts(catalog_id, head.generation, "digests", head.digest_parts, head.digest_checksum)
        )

    def _parts(self, catalog_id: int, generation: str, kind: str, count: int, expected: str) -> bytes:
        parts: list[bytes] = []
        for number in range(count):
            entity = self._table.get(str(catalog_id), part_key(generation, kind, number))
            if entity is None:
                raise StateDamaged(catalog_id, "is incomplete; the next sync rebuilds it")
            parts.append(part_data(entity))
        data = b"".join(parts)
        if checksum(data) != expected:
            raise StateDamaged(catalog_id, "is damaged; the next sync rebuilds it")
        return data

    def runs(self, catalog_id: int) -> Iterator[StoredRun]:
        """Read every stored course run of a catalog, withdrawn ones too."""
        for entity in self._table.query(_RUNS_FILTER, {"catalog": str(catalog_id)}):
            if is_uuid(entity["RowKey"]):  # other rows are not course runs
                yield stored_run(entity)

    def run(self, catalog_id: int, run_id: str) -> StoredRun | None:
        """Read one stored course run."""
        entity = self._table.get(str(catalog_id), run_id)
        return stored_run(entity) if entity is not None else None

    def lease(self, catalog_id: int) -> LeaseState | None:
        """Return the state of a catalog's lease; None when no sync of it has begun yet."""
        return self._leases.state(str(catalog_id))

    def acquire(
        self,
        catalog_id: int,
        sync_id: str,
        deadline: Deadline,
        *,
        admit: Callable[[Attempts], None],
        on_wait: Callable[[LeaseState], None],
        begins_attempt: bool,
    ) -> CatalogWriter | FinishedSync:
        """Acquire the writer of a catalog, or wait for the running sync; see `Leases.acquire`."""
        held = self._leases.acquire(
            str(catalog_id),
            sync_id,
            deadline,
            admit=admit,
            on_wait=on_wait,
            begins_attempt=begins_attempt,
        )
        return (
            held if isinstance(held, FinishedSync) else CatalogWriter(self._table, catalog_id, sync_id, held)
        )
