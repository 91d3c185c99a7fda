"""A damaged published state is rebuilt from the stored course runs; no sync, no edX."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables import TableClient, UpdateMode

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.changes import Entry
from shared.domain.comparison import UNREADABLE
from shared.domain.course_run import stored_json
from shared.domain.published import digest, render
from shared.errors import Failure
from shared.settings import StorageSettings
from shared.storage.store import CatalogStore
from shared.storage.tables import Tables, open_tables
from shared.storage.writer import CatalogWriter
from shared.sync.repair import republish
from shared.sync.run import Origin, SyncInProgress
from tests.clock import Clock
from tests.mapped_runs import make_mapped, make_served
from tests.storage.syncs import NOW, begin, publish, put, store_runs

LATER = NOW + timedelta(hours=1)
FAILURE = Failure("EdxUnavailable", "edX is away")
FINISHED = FinishedSync("before", FAILURE, Attempts(NOW, NOW, 1, NOW, FAILURE))
A, B = make_mapped("a"), make_mapped("b")
BODY = render([make_served("a"), make_served("b")], LATER)


@pytest.fixture
def repaired(store: CatalogStore) -> Callable[..., bool]:
    """Repairs catalog 1 an hour after its last sync."""

    def repair(begin: Callable[..., None] = lambda _run, _writer: None) -> bool:
        run = SyncInProgress(1, Origin("repair"), LATER, "repair1")
        return republish(
            store, run, Deadline.after(0), begin=begin, now=lambda: LATER, say=lambda *_line: None
        )

    return repair


def damage(client: TableClient, generation: str) -> None:
    client.delete_entity("1", f"published-{generation}-body-0000")


def published(store: CatalogStore, **details: Any) -> str:
    """Store two runs, publish one of them, and return the generation."""
    store_runs(store, A, B)
    head = publish(store, finished=FINISHED, unidentified=2, **details)
    return head.generation


def test_body_and_digests_are_rebuilt_with_the_time_of_the_last_sync(
    store: CatalogStore, tables: Tables, runs_client: TableClient, repaired: Callable[..., bool]
) -> None:
    damage(runs_client, published(store, changes=[Entry(kind="first-sync", runs=1)]))
    lease = store.lease(1)
    assert repaired()
    head = store.head(1)
    assert head
    assert (head.generation, head.tag, head.runs) == ("repair1", BODY.tag, 2)
    assert (head.synced_at, head.unidentified, head.writing) == (NOW, 2, "")
    assert (head.counted_runs, head.counted_generation) == (2, "")
    assert store.body(1, head) == BODY.packed
    assert store.digests(1, head) == {each.run.id: digest(each, stored_json(each.run)) for each in (A, B)}
    assert len(list(tables.history.pages(1))) == 1
    assert store.lease(1) == lease  # with the last result and the attempts


def test_body_of_the_last_successful_sync_stays_when_the_state_of_a_stopped_sync_is_repaired(
    store: CatalogStore, runs_client: TableClient, repaired: Callable[..., bool]
) -> None:
    counted = published(store)
    damage(runs_client, publish(store, is_success=False).generation)
    assert repaired()
    head = store.head(1)
    assert head
    assert (head.runs, head.counted_runs, head.counted_generation) == (2, 1, counted)


def test_row_that_cannot_be_read_is_not_served_and_is_written_by_the_next_sync(
    store: CatalogStore, runs_client: TableClient, repaired: Callable[..., bool]
) -> None:
    damage(runs_client, published(store))
    runs_client.update_entity({"PartitionKey": "1", "RowKey": A.run.id, "listed": "yes"}, UpdateMode.MERGE)
    assert repaired()
    head = store.head(1)
    assert head
    assert head.runs == 1
    assert store.digests(1, head)[A.run.id] == UNREADABLE


def test_nothing_is_rebuilt_when_a_sync_stopped_while_it_wrote_runs(
    store: CatalogStore, repaired: Callable[..., bool]
) -> None:
    published(store)
    writer = begin(store)
    put(writer, make_mapped("b", price="2.00"))
    writer.release(FINISHED)
    head, lease = store.head(1), store.lease(1)
    assert not repaired()
    assert (store.head(1), store.lease(1)) == (head, lease)


@pytest.mark.parametrize("odd", [{"synced_at": ""}, {"format": 99}, None])
def test_nothing_is_rebuilt_when_the_time_of_the_last_sync_is_unknown(
    store: CatalogStore,
    runs_client: TableClient,
    repaired: Callable[..., bool],
    odd: dict[str, object] | None,
) -> None:
    published(store)
    if odd is None:
        runs_client.delete_entity("1", "published")
    else:
        runs_client.update_entity({"PartitionKey": "1", "RowKey": "published", **odd}, UpdateMode.MERGE)
    lease = store.lease(1)
    assert not repaired()
    assert store.lease(1) == lease


def test_beginning_is_told_the_repair_and_its_writer(
    store: CatalogStore, repaired: Callable[..., bool], clock: Clock
) -> None:
    published(store)
    clock.pass_s(3600)
    told: list[tuple[SyncInProgress, CatalogWriter]] = []
    assert repaired(lambda *begun: told.append(begun))
    ((run, writer),) = told
    assert (run.sync_id, writer.previous) == ("repair1", FINISHED)
    assert writer.attempts == FINISHED.attempts  # a repair is no attempt to sync


def test_repair_is_done_when_a_sync_that_was_running_has_ended(
    store: CatalogStore, storage: StorageSettings
) -> None:
    other = begin(store)
    waiting = open_tables(
        storage, "sandbox-client", sleep=lambda _seconds: other.release(FinishedSync("other"))
    )
    begun: list[object] = []
    run = SyncInProgress(1, Origin("repair"), LATER, "repair1")
    assert republish(
        waiting.catalogs,
        run,
        Deadline.after(60),
        begin=lambda *writer: begun.append(writer),
        now=lambda: LATER,
        say=lambda *_line: None,
    )
    assert begun == []
