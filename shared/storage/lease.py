"""The sync lease: one sync of a catalog at a time, across processes and machines.

The lease is an entity in the catalog's partition. Every batch that a sync writes also updates the lease,
bound to its etag, so that a sync that has lost the lease cannot write. The entity also stores the result of
the last sync, for callers that waited for it, and the attempts.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from azure.data.tables import TableEntity

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.errors import EdxThrottled, StorageError, SyncUnfinished
from shared.storage.entities import (
    Entity,
    attempts_from,
    attempts_properties,
    failure_from,
    failure_properties,
)
from shared.storage.failures import ConditionFailed
from shared.storage.table import Operation, Table, replacing_unchanged

LEASE_S = 30.0
"""A lease expires when it is not renewed for this long, by the monotonic clock of the waiting process."""
RENEW_EVERY_S = 8.0
POLL_S = 0.5
POLL_MAX_S = 2.0  # storage charges per request
ROW_KEY = "lease"
_SEQUENCE_MAX = 2**30  # far below the int32 limit of a number property
_LOST = "another process now syncs this catalog, and this one stopped writing"


class LeaseLost(StorageError):
    """Another process has taken over the sync of this catalog; this one may not write any more."""


class LeaseState(NamedTuple):
    """The running sync of a catalog (`sync_id` is "" when there is none), the last result, and the attempts.

    `holder` is "<host name>/<process id>" of the process that syncs; "" when an old version syncs.
    """

    holder: str
    sync_id: str
    finished: FinishedSync

    @property
    def attempts(self) -> Attempts:
        """The attempts to sync this catalog."""
        return self.finished.attempts


NOBODY = LeaseState("", "", FinishedSync())


class Lease:
    """A lease that is held. Use `Leases.acquire`."""

    def __init__(self, table: Table, entity: Entity, etag: str, before: LeaseState) -> None:
        self._table = table
        self._entity = entity
        self._etag = etag
        self._sequence: int = entity["sequence"]
        self.before = before
        """The lease before it was taken: free, or held by a sync whose process had stopped."""
        self.attempts = attempts_from(entity)
        """The attempts, with this one if `begins_attempt` was set."""
        self._lock = threading.Lock()  # shared by the sync's thread and the renewing thread

    def commit(self, operations: Sequence[Operation], finished: FinishedSync | None = None) -> None:
        """Write a batch of at most 99 operations while holding the lease; with `finished`, also release it.

        Raises:
            LeaseLost: another process holds the lease now, or the lease row was deleted; nothing was written.
            EntityRefused: storage refuses one of the entities; nothing of the batch was written.
        """
        with self._lock:
            # Never used twice, even when this write fails: it may still take effect later.
            self._sequence += 1
            if not self._entity["owner"]:
                raise LeaseLost("the lease has been released")
            entity = {**self._entity, "sequence": self._sequence}
            if finished:
                entity |= {"owner": "", **_ended(finished)}
            try:
                self._etag = self._table.commit([*operations, replacing_unchanged(entity, self._etag)])
            except ConditionFailed:
                self._etag = self._settle(operations, entity)
            self._entity = entity

    def _settle(self, operations: Sequence[Operation], entity: Entity) -> str:
        """Find out why an etag was refused: an own write whose answer was lost, or a lost lease."""
        patience = self._table.patience()
        while (stored := self._table.get(entity["PartitionKey"], ROW_KEY)) is not None:
            if stored.get("sequence") == self._sequence and _same_sync(stored, entity):
                return _etag(stored)
            if stored.get("finished") == self._entity["owner"] and not entity["owner"]:
                return _etag(stored)  # our release was written; another process may hold the lease by now
            if stored.get("owner") != self._entity["owner"]:
                break
            # An earlier write of ours took effect; write again, bound to the new etag.
            with suppress(ConditionFailed):
                return self._table.commit([*operations, replacing_unchanged(entity, _etag(stored))])
            if not patience.pause():
                raise self._table.failed("refused every write because of an outdated etag")
        raise LeaseLost(_LOST)

    @contextmanager
    def kept_alive(self, on_lost: Callable[[], None], every_s: float = RENEW_EVERY_S) -> Iterator[None]:
        """Renew the lease every few seconds during the block; call `on_lost` once if the lease is lost."""
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(every_s):
                try:
                    self.commit([])
                except LeaseLost:
                    if self._entity["owner"]:  # otherwise it has been released
                        on_lost()
                    return
                except StorageError:
                    continue  # the sync's next write reports the problem

        thread = threading.Thread(target=renew, name=f"lease-{self._entity['PartitionKey']}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Leases:
    """Acquires leases, and remembers between calls when each lease of another process changed. Thread-safe.

    A lease can be taken over when it has not changed for `LEASE_S` by our own clock. No time is read from
    storage, because clocks differ between machines.
    """

    def __init__(
        self,
        table: Table,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        holder: str = "",
    ) -> None:
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._now = now
        self._holder = holder or f"{socket.gethostname()}/{os.getpid()}"
        self._seen: dict[str, tuple[str, float]] = {}  # partition key → etag, and when it was first seen

    def state(self, partition_key: str) -> LeaseState | None:
        """Return the state of a lease; None when there has been none yet."""
        stored = self._table.get(partition_key, ROW_KEY)
        return _state(stored) if stored is not None else None

    def acquire(
        self,
        partition_key: str,
        sync_id: str,
        deadline: Deadline,
        *,
        admit: Callable[[Attempts], None],
        on_wait: Callable[[LeaseState], None],
        begins_attempt: bool,
    ) -> Lease | FinishedSync:
        """Take the lease, or wait for the sync that holds it and return its result.

        Args:
            partition_key: names the lease.
            sync_id: the sync that wants the lease.
            deadline: the end of the wait for another sync.
            admit: called before the lease is taken; when it raises, nothing is written.
            on_wait: called once when another sync is waited for.
            begins_attempt: whether taking the lease counts as the beginning of an attempt.

        Raises:
            SyncUnfinished: the other sync has not ended at the deadline.
        """
        patience = None
        began = self._clock()
        waits_for: str | None = None  # the sync that had finished last when the wait began
        before = NOBODY
        while True:
            stored = self._table.get(partition_key, ROW_KEY)
            state = _state(stored) if stored is not None else NOBODY
            if stored is not None and state.sync_id == sync_id:  # our own write, whose answer was lost
                return Lease(self._table, dict(stored), _etag(stored), before)
            if waits_for is not None and state.finished.sync_id != waits_for:
                return state.finished
            if stored is not None and state.sync_id and not self._is_dead(stored):
                patience = None
                if waits_for is None:
                    waits_for = state.finished.sync_id
                    on_wait(state)
                waited_s = self._clock() - began
                if deadline.has_passed:
                    raise SyncUnfinished(
                        f"another sync of this catalog did not end within {waited_s:.0f} s; ask again later"
                    )
                self._sleep(min(max(POLL_S, min(waited_s / 10, POLL_MAX_S)), deadline.left_s()))
                continue
            admit(state.attempts)
            before = state
            lease = self._take(partition_key, stored, state, sync_id, begins_attempt=begins_attempt)
            if lease:
                return lease
            patience = patience or self._table.patience()
            if not patience.pause():
                raise self._table.failed("refused every write of the lease because of an outdated etag")

    def _is_dead(self, stored: TableEntity) -> bool:
        """Tell whether a lease was not renewed for `LEASE_S`."""
        etag, now = _etag(stored), self._clock()
        seen_etag, since = self._seen.get(stored["PartitionKey"], ("", now))
        if seen_etag != etag:
            since = now
        self._seen[stored["PartitionKey"]] = (etag, since)
        return now - since >= LEASE_S

    def _take(
        self,
        partition_key: str,
        stored: TableEntity | None,
        state: LeaseState,
        sync_id: str,
        *,
        begins_attempt: bool,
    ) -> Lease | None:
        entity: Entity = dict(stored) if stored is not None else _new(partition_key)
        sequence = entity.get("sequence")
        entity |= {
            "owner": sync_id,
            "sequence": sequence + 1 if isinstance(sequence, int) and sequence < _SEQUENCE_MAX else 1,
            "finished": state.finished.sync_id,
            "holder": self._holder,
            "holderSyncId": sync_id,
            **_remembered(
                state.finished.sync_id,
                state.attempts.begun(self._now()) if begins_attempt else state.attempts,
            ),
        }
        if stored is None:
            etag = self._table.insert(entity)
            return Lease(self._table, entity, etag, state) if etag else None
        with suppress(ConditionFailed):
            etag = self._table.commit([replacing_unchanged(entity, _etag(stored))])
            return Lease(self._table, entity, etag, state)
        return None


def _new(partition_key: str) -> Entity:
    return {"PartitionKey": partition_key, "RowKey": ROW_KEY, **failure_properties(None)}


def _ended(finished: FinishedSync) -> Entity:
    return {
        "finished": finished.sync_id,
        **failure_properties(finished.failure),
        **_remembered(finished.sync_id, finished.attempts),
    }


def _remembered(sync_id: str, attempts: Attempts) -> Entity:
    """Return attempts as properties, with the id of the last finished sync that they include."""
    return {"attemptsUpTo": sync_id, **attempts_properties(attempts)}


def _state(stored: TableEntity) -> LeaseState:
    owner = stored.get("owner")
    sync_id = str(owner) if owner else ""
    holder = str(stored.get("holder", "")) if stored.get("holderSyncId") == sync_id else ""
    finished = FinishedSync(str(stored.get("finished", "")), failure_from(stored), _attempts(stored))
    return LeaseState(holder if sync_id else "", sync_id, finished)


def _attempts(stored: TableEntity) -> Attempts:
    """Return the attempts, with the last sync by version 0.1 added: it does not write these properties."""
    known = attempts_from(stored)
    finished = str(stored.get("finished", ""))
    if stored.get("attemptsUpTo", "") == finished:
        return known
    failure = failure_from(stored)
    written_at = None if stored.get("owner") else stored.metadata.get("timestamp")  # the end of that sync
    at = written_at if isinstance(written_at, datetime) else None
    if failure is None:
        return replace(known, succeeded_at=at or known.succeeded_at, failures=0)
    if isinstance(failure.error(), EdxThrottled):
        return known
    return replace(known, failures=known.failures + 1, failed_at=at or known.failed_at, failure=failure)


def _same_sync(stored: Entity, entity: Entity) -> bool:
    return (stored.get("owner"), stored.get("finished")) == (entity["owner"], entity["finished"])


def _etag(stored: TableEntity) -> str:
    return str(stored.metadata["etag"])
