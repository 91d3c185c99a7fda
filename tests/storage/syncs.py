"""Helpers to begin, write and end syncs in storage tests."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.course_run import MappedRun, stored_json
from shared.domain.published import Body, Head, render
from shared.storage.lease import Lease, Leases, LeaseState
from shared.storage.store import CatalogStore
from shared.storage.table import Table
from shared.storage.writer import CatalogWriter
from tests.clock import Clock
from tests.mapped_runs import make_served

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE_RUN = render([make_served()], NOW)
_GENERATIONS = count()


def admit_all(_attempts: Attempts) -> None:
    pass


def say_nothing(_state: LeaseState) -> None:
    pass


def begin(
    store: CatalogStore,
    catalog_id: int = 1,
    sync_id: str | None = None,
    *,
    deadline: Deadline | None = None,
    begins_attempt: bool = True,
) -> CatalogWriter:
    """Begin a sync of a catalog whose lease is free."""
    writer = store.acquire(
        catalog_id,
        sync_id or f"sync{next(_GENERATIONS)}",
        deadline or Deadline.after(0),
        admit=admit_all,
        on_wait=say_nothing,
        begins_attempt=begins_attempt,
    )
    assert isinstance(writer, CatalogWriter)
    return writer


def put(writer: CatalogWriter, *runs: MappedRun) -> None:
    for mapped in runs:
        writer.put(mapped, len(stored_json(mapped.run)))
    writer.flush()


def store_runs(store: CatalogStore, *runs: MappedRun, catalog_id: int = 1) -> None:
    writer = begin(store, catalog_id)
    put(writer, *runs)
    writer.release(FinishedSync("done"))


def publish(store: CatalogStore, body: Body = ONE_RUN, *, catalog_id: int = 1, **details: Any) -> Head:
    """Publish a state as a successful sync, unless details say otherwise, and end the sync."""
    writer = begin(store, catalog_id)
    plain: dict[str, Any] = {
        "digests": {},
        "at": NOW,
        "synced_at": NOW,
        "unidentified": 0,
        "is_success": True,
        "finished": FinishedSync("done"),
    }
    writer.publish(store.head(catalog_id), body, **plain | details)
    head = store.head(catalog_id)
    assert head
    return head


def wait_for_lease(
    table: Table,
    clock: Clock,
    sync_id: str,
    wait_s: float = 200,
    *,
    leases: Leases | None = None,
    sleep: Callable[[float], None] | None = None,
    admit: Callable[[Attempts], None] = admit_all,
    on_wait: Callable[[LeaseState], None] = say_nothing,
    begins_attempt: bool = True,
) -> Lease | FinishedSync:
    """Wait for the lease of catalog 1: as a new process, or as one that has used these `leases`."""
    leases = leases or Leases(
        table, clock=clock.monotonic, sleep=sleep or clock.sleep, now=clock.now, holder="host/1"
    )
    return leases.acquire(
        "1",
        sync_id,
        Deadline.after(wait_s, clock.monotonic),
        admit=admit,
        on_wait=on_wait,
        begins_attempt=begins_attempt,
    )


def take(table: Table, clock: Clock, sync_id: str, wait_s: float = 200, **details: Any) -> Lease:
    held = wait_for_lease(table, clock, sync_id, wait_s, **details)
    assert isinstance(held, Lease)
    return held
