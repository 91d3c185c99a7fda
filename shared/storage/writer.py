"""Writes one catalog while holding its lease: course runs, the published state and the history."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.changes import Entry
from shared.domain.course_run import MappedRun
from shared.domain.published import Body, Head, checksum, pack_digests
from shared.errors import StorageError
from shared.storage.entities import HEAD_KEY, Entity, head_properties, run_entity
from shared.storage.failures import EntityRefused
from shared.storage.history import change_rows, old_change_rows
from shared.storage.lease import Lease, LeaseState
from shared.storage.parts import part_key, part_properties, parts_of
from shared.storage.table import OPERATIONS_PER_BATCH, Operation, Table, deleting, merging, replacing

# Bytes of UTF-8 JSON. The SDK's escapes can triple them; a batch may have 4 MiB with all headers.
BATCH_BYTES = 2**20
_ROWS_PER_BATCH = OPERATIONS_PER_BATCH - 1  # the lease is one of the operations
_PARTS_FILTER = "PartitionKey eq @catalog and RowKey gt 'published-' and RowKey lt 'published.'"
REFUSALS_MAX = 20
"""Refused runs in a row that mean a storage fault: mapping removes everything that storage refuses."""


class CatalogWriter:
    """Writes to one catalog while holding its lease; every write may raise LeaseLost."""

    def __init__(self, table: Table, catalog_id: int, sync_id: str, lease: Lease) -> None:
        self._table = table
        self._catalog = str(catalog_id)
        self._sync_id = sync_id
        self._lease = lease
        self._pending: dict[str, MappedRun] = {}  # by id: a batch may have a row only once
        self._pending_bytes = 0
        self._marked = False
        self._refusals = 0  # since the last batch that was written
        self.deadline: Deadline | None = None
        """The end of the sync; after it, no more course runs are written."""
        self.refused: list[tuple[MappedRun, str]] = []
        """Course runs whose content storage refused, each with the reason; the others were written."""

    @property
    def attempts(self) -> Attempts:
        """The attempts, including this one; its result goes into `FinishedSync`."""
        return self._lease.attempts

    @property
    def previous(self) -> FinishedSync:
        """The result of the previous sync; release with it to leave no trace of this sync."""
        return self._lease.before.finished

    @property
    def took_over(self) -> LeaseState | None:
        """The sync whose process stopped without releasing the lease, if there was one."""
        return self._lease.before if self._lease.before.sync_id else None

    def kept_alive(self, on_lost: Callable[[], None]) -> AbstractContextManager[None]:
        """Renew the lease while a block runs; call `on_lost` once when another process has taken it."""
        return self._lease.kept_alive(on_lost)

    def put(self, mapped: MappedRun, size: int) -> None:
        """Add a course run to the next batch, and write full batches; `size` is that of its JSON in bytes."""
        if self._pending and self._pending_bytes + size > BATCH_BYTES:
            self.flush()
        self._pending[mapped.run.id] = mapped
        self._pending_bytes += size
        if len(self._pending) == self._room():
            self.flush()

    def flush(self) -> None:
        """Write the runs that `put` has not written yet."""
        pending = list(self._pending.values())
        self._pending, self._pending_bytes = {}, 0
        if pending:
            self._put(pending)

    def _put(self, runs: list[MappedRun]) -> None:
        """Write runs; add each refused run to `refused` and write the others."""
        while runs:
            try:
                self._write([replacing(run_entity(self._catalog, mapped)) for mapped in runs])
            except EntityRefused as refusal:
                self._refusals += 1
                if self._refusals == REFUSALS_MAX:
                    raise StorageError(f"{refusal.message} for {REFUSALS_MAX} course runs in a row") from None
                if refusal.index is None and len(runs) > 1:
                    half = len(runs) // 2
                    self._put(runs[:half])
                    runs = runs[half:]
                    continue
                guilty = refusal.index or 0
                if guilty >= len(runs):
                    raise
                self.refused.append((runs[guilty], refusal.code))
                runs = runs[:guilty] + runs[guilty + 1 :]
            else:
                return

    def withdraw(self, run_ids: Iterable[str], at: datetime) -> None:
        """Mark course runs as withdrawn; their other properties stay."""
        self._merge(run_ids, {"withdrawnAt": at.isoformat()})

    def mark_unpublished(self, run_ids: Iterable[str]) -> None:
        """Mark course runs as no longer published by edX; their other properties stay."""
        self._merge(run_ids, {"listed": False})

    def _merge(self, run_ids: Iterable[str], properties: Entity) -> None:
        marks = [merging({**self._key(run_id), **properties}) for run_id in run_ids]
        while marks:
            room = self._room()
            self._write(marks[:room])
            marks = marks[room:]

    def _room(self) -> int:
        """Return the number of course runs that fit the next batch."""
        return _ROWS_PER_BATCH if self._marked else _ROWS_PER_BATCH - 1

    def _write(self, operations: Sequence[Operation]) -> None:
        """Write course runs; the first batch also marks the digests as out of date in the head."""
        if self.deadline and self.deadline.has_passed:
            raise StorageError(
                "Table Storage was too slow: the sync's time ran out before all runs were written"
            )
        mark = merging({**self._key(HEAD_KEY), "writing": self._sync_id})
        self._lease.commit(operations if self._marked else [*operations, mark])
        self._marked = True
        self._refusals = 0

    def publish(
        self,
        previous: Head | None,
        body: Body,
        digests: Mapping[str, bytes],
        *,
        at: datetime,
        synced_at: datetime | None,
        unidentified: int,
        is_success: bool,
        changes: Sequence[Entry] = (),
        finished: FinishedSync | None = None,
    ) -> None:
        """Publish a new state; its head is replaced last.

        The previous generation stays for requests that are reading it; older ones are removed.

        Args:
            previous: the head that is replaced.
            body: the new answer.
            digests: run id → digest of all stored runs.
            at: now, for the history.
            synced_at: the end of the last successful sync.
            unidentified: the known number of edX records without a readable key.
            is_success: False when the guard stopped the sync; the last successful body is then kept, too.
            changes: the history entries.
            finished: the result; if given, the lease is released in the same batch.
        """
        packed_digests = pack_digests(digests)
        body_parts = _write_parts(self._lease, self._catalog, self._sync_id, "body", body.packed)
        digest_parts = _write_parts(self._lease, self._catalog, self._sync_id, "digests", packed_digests)
        head = Head(
            generation=self._sync_id,
            body_parts=body_parts,
            body_checksum=checksum(body.packed),
            digest_parts=digest_parts,
            digest_checksum=checksum(packed_digests),
            tag=body.tag,
            holds_until=body.holds_until,
            runs=body.runs,
            synced_at=synced_at,
            unidentified=unidentified,
            counted_runs=body.runs,
        )
        if not is_success and previous:
            head = _with_guard_body_of(head, previous)
        row, parts = change_rows(self._catalog, at, self._sync_id, changes)
        for part in parts:
            self._lease.commit([replacing(part)])
        _delete(self._lease, _old_parts(self._table, self._catalog, head, previous))
        _delete(self._lease, [dict(row) for row in old_change_rows(self._table, self._catalog, at)])
        self._swap(head, finished, [replacing(row)] if row else [])

    def confirm(self, head: Head, synced_at: datetime, unidentified: int, finished: FinishedSync) -> None:
        """Record that a sync ended without changes to the published state, and release the lease."""
        confirmed = dataclasses.replace(
            head,
            synced_at=synced_at,
            unidentified=unidentified,
            counted_runs=head.runs,
            counted_generation="",
            counted_body_parts=0,
            counted_body_checksum="",
        )
        self._swap(confirmed, finished, [])

    def release(self, finished: FinishedSync) -> None:
        """Release the lease without publishing anything."""
        self._lease.commit([], finished)

    def _swap(self, head: Head, finished: FinishedSync | None, rows: list[Operation]) -> None:
        self._lease.commit([replacing(self._key(HEAD_KEY) | head_properties(head)), *rows], finished)

    def _key(self, row_key: str) -> Entity:
        return {"PartitionKey": self._catalog, "RowKey": row_key}


def _with_guard_body_of(head: Head, previous: Head) -> Head:
    """Return the head with the guard's body of the previous head: that of the last successful sync."""
    if previous.counted_generation:
        return dataclasses.replace(
            head,
            counted_runs=previous.counted_runs,
            counted_generation=previous.counted_generation,
            counted_body_parts=previous.counted_body_parts,
            counted_body_checksum=previous.counted_body_checksum,
        )
    return dataclasses.replace(
        head,
        counted_runs=previous.counted_runs,
        counted_generation=previous.generation,
        counted_body_parts=previous.body_parts,
        counted_body_checksum=previous.body_checksum,
    )


def _write_parts(lease: Lease, catalog: str, generation: str, kind: str, data: bytes) -> int:
    """Write data in parts; return how many there are."""
    parts = parts_of(data)
    for number, part in enumerate(parts):
        key = {"PartitionKey": catalog, "RowKey": part_key(generation, kind, number)}
        lease.commit([replacing(key | part_properties(part))])
    return len(parts)


def _old_parts(table: Table, catalog: str, head: Head, previous: Head | None) -> list[Entity]:
    """Return the keys of the parts that are not used by the new or the previous head."""
    kept = {head.generation, previous.generation if previous else ""}
    rows = table.query(_PARTS_FILTER, {"catalog": catalog}, select=["PartitionKey", "RowKey"])
    counted = f"published-{head.counted_generation}-body-"
    return [
        dict(row)
        for row in rows
        if row["RowKey"].split("-")[1] not in kept and not row["RowKey"].startswith(counted)
    ]


def _delete(lease: Lease, rows: list[Entity]) -> None:
    for start in range(0, len(rows), _ROWS_PER_BATCH):
        with suppress(EntityRefused):  # the rows have already been deleted
            lease.commit([deleting(row) for row in rows[start : start + _ROWS_PER_BATCH]])
