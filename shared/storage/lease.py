"""The sync lease: one sync of a catalog at a time, across processes and machines.

The lease is an entity in the catalog's own partition and rides in every batch that a sync writes, bound to
its etag: whoever lost it cannot write. It also keeps how the last sync ended, for those who waited for it.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from azure.data.tables import TableEntity

from shared.domain.attempts import FinishedSync
from shared.errors import StorageError, SyncUnfinished
from shared.storage.entities import Entity, failure_from, failure_properties
from shared.storage.table import ConditionFailed, EntityRefused, Operation, Table, replacing_unchanged

LEASE_S = 30.0
"""How long a lease holds without a sign of life, by the waiters' own monotonic clocks."""
RENEW_EVERY_S = 8.0
POLL_S = 0.5
ROW_KEY = "lease"
_SEQUENCE_MAX = 2**30  # a number property ends at 2**31, where only another hand can have brought it
_LOST = "another process has taken over this sync, and this one stopped writing"


class LeaseLost(StorageError):
    """Another process has taken over the sync of this catalog; this one may not write any more."""


class Lease:
    """A lease that is held. Use `acquire`."""

    def __init__(self, table: Table, entity: Entity, etag: str) -> None:
        self._table = table
        self._entity = entity
        self._etag = etag
        self._sequence: int = entity["sequence"]
        self.previous = _finished(entity)
        """How the sync before this one ended."""
        self._lock = threading.Lock()  # the sync's thread and the one that renews take turns

    def commit(self, operations: Sequence[Operation], finished: FinishedSync | None = None) -> None:
        """Write a batch of at most 99 operations as the holder, and with `finished` let the lease go.

        Raises:
            LeaseLost: another process holds the lease now; nothing of the batch was written.
            EntityRefused: storage refuses one of the entities; nothing of the batch was written.
        """
        with self._lock:
            # Never used twice, also when this write fails: what became of it may come to light later.
            self._sequence += 1
            if not self._entity["owner"]:
                raise LeaseLost("the lease has been let go")
            entity = {**self._entity, "sequence": self._sequence}
            if finished:
                entity |= {
                    "owner": "",
                    "finished": finished.sync_id,
                    **failure_properties(finished.failure),
                }
            try:
                self._etag = self._table.commit([*operations, replacing_unchanged(entity, self._etag)])
            except ConditionFailed:
                self._etag = self._settle(operations, entity)
            except EntityRefused as refusal:
                if refusal.index < len(operations):
                    raise
                raise LeaseLost(_LOST) from None  # what was refused is the lease: it is there no more
            self._entity = entity

    def _settle(self, operations: Sequence[Operation], entity: Entity) -> str:
        """Find out what a refused etag means: our own write whose answer was lost, or a lost lease."""
        while (stored := self._table.get(entity["PartitionKey"], ROW_KEY)) is not None:
            if stored.get("sequence") == self._sequence and _same_sync(stored, entity):
                return _etag(stored)
            if stored.get("finished") == self._entity["owner"] and not entity["owner"]:
                return _etag(stored)  # we had let go already, and somebody may have taken the lease since
            if stored.get("owner") != self._entity["owner"]:
                break
            # An earlier write of ours. The answer to this one can be lost, too.
            with suppress(ConditionFailed):
                return self._table.commit([*operations, replacing_unchanged(entity, _etag(stored))])
        raise LeaseLost(_LOST)

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew the lease every few seconds while the block runs."""
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(RENEW_EVERY_S):
                # What went wrong shows at the sync's next write; a renewal has nobody to tell.
                with suppress(StorageError):
                    self.commit([])

        thread = threading.Thread(target=renew, name=f"lease-{self._entity['PartitionKey']}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def acquire(
    table: Table,
    partition_key: str,
    sync_id: str,
    wait_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Lease | FinishedSync:
    """Take the lease, or wait for the sync that holds it and return how that ended.

    A holder that died is succeeded once its lease has stood unchanged for `LEASE_S` by our own clock:
    clocks differ between machines, so no time is read from storage.

    Raises:
        SyncUnfinished: after `wait_s` seconds the lease is still held and renewed.
    """
    deadline = monotonic() + wait_s
    finished_before: str | None = None
    seen_etag, seen_at = "", 0.0
    while True:
        stored = table.get(partition_key, ROW_KEY)
        if stored is None:
            entity = _taken({"PartitionKey": partition_key, "RowKey": ROW_KEY, "sequence": 0}, sync_id)
            etag = table.insert(entity)
            if etag:
                return Lease(table, entity, etag)
            continue
        if stored.get("owner") == sync_id:  # our own write, whose answer was lost
            return Lease(table, dict(stored), _etag(stored))
        if finished_before is not None and str(stored.get("finished", "")) != finished_before:
            return _finished(stored)
        if _etag(stored) != seen_etag:
            seen_etag, seen_at = _etag(stored), monotonic()
        if not stored.get("owner") or monotonic() - seen_at >= LEASE_S:
            entity = _taken(dict(stored), sync_id)
            with suppress(ConditionFailed):
                return Lease(table, entity, table.commit([replacing_unchanged(entity, seen_etag)]))
            continue
        finished_before = str(stored.get("finished", ""))
        if monotonic() >= deadline:
            raise SyncUnfinished(f"another sync of it has been running for more than {wait_s:.0f} s")
        sleep(POLL_S)


def _taken(entity: Entity, sync_id: str) -> Entity:
    sequence = entity.get("sequence")
    return {
        **entity,
        "owner": sync_id,
        "sequence": sequence + 1 if isinstance(sequence, int) and sequence < _SEQUENCE_MAX else 1,
        "finished": str(entity.get("finished", "")),
    }


def _finished(stored: Entity) -> FinishedSync:
    return FinishedSync(str(stored.get("finished", "")), failure_from(stored))


def _same_sync(stored: Entity, entity: Entity) -> bool:
    return (stored.get("owner"), stored.get("finished")) == (entity["owner"], entity["finished"])


def _etag(stored: TableEntity) -> str:
    return str(stored.metadata["etag"])
