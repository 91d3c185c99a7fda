"""Writes of a sync on Azurite: refused runs, marks, and the body of the last successful sync."""

from dataclasses import replace

import pytest
from azure.data.tables import TableClient, UpdateMode

from shared.deadline import Deadline
from shared.domain.attempts import FinishedSync
from shared.domain.course_run import MappedRun, StoredRun, course_run_id
from shared.domain.published import render
from shared.errors import StorageError
from shared.storage.store import CatalogStore, StateDamaged
from shared.storage.table import Table
from shared.storage.tables import Tables
from tests.clock import Clock
from tests.mapped_runs import KEY, OLD_STYLE_KEY, make_mapped, make_served
from tests.storage.syncs import NOW, ONE_RUN, begin, publish, put, store_runs, take
from tests.table_proxy import Exchange, TableProxy, refuse_in_batch


def refuse_unnamed(*guilty: MappedRun) -> object:
    """Refuse every batch that contains one of these runs, without naming it."""

    def act(exchange: Exchange) -> None:
        if any(mapped.run.id in exchange.request.body for mapped in guilty):
            refuse_in_batch(0, "InvalidInput")(exchange)
            exchange.sent = exchange.sent.replace(b"0:No.", b"No.  ")
        else:
            exchange.send(*exchange.forward())

    return act


def test_batch_holds_at_most_a_mebibyte_and_100_operations(proxied_tables: Tables, proxy: TableProxy) -> None:
    writer = begin(proxied_tables.catalogs)
    runs = [make_mapped(f"NUSx/{number}/1") for number in range(100)]

    def batches(*sizes: int) -> int:
        proxy.requests.clear()
        for mapped, size in zip(runs, sizes, strict=False):
            writer.put(mapped, size)
        writer.flush()
        return proxy.kinds(1).count("write runs")

    assert batches(*[1] * 98) == 1  # with the head, which the first batch marks, and the lease
    assert batches(2**19, 2**19) == 1
    assert batches(2**19, 2**19 + 1) == 2
    assert batches(2**21) == 1
    assert batches(2**20, 1, 2**20) == 3
    assert batches(*[1] * 99) == 1
    assert batches(*[1] * 100) == 2
    fresh = begin(proxied_tables.catalogs, 2)
    proxy.requests.clear()
    fresh.put(runs[0], 2**19)
    fresh.put(runs[1], 2**19)
    fresh.put(runs[2], 1)
    assert [len(request.row_keys) for request in proxy.requests] == [4]  # two runs, the head and the lease


def test_no_more_runs_are_written_when_the_time_of_the_sync_has_run_out(
    store: CatalogStore, clock: Clock
) -> None:
    writer = begin(store)
    writer.deadline = Deadline.after(10, clock.monotonic)
    put(writer, make_mapped("NUSx/1/1"))
    clock.pass_s(10)
    with pytest.raises(
        StorageError,
        match=r"^Table Storage was too slow: the sync's time ran out before all runs were written$",
    ):
        put(writer, make_mapped("NUSx/2/1"))
    assert [stored.mapped for stored in store.runs(1)] == [make_mapped("NUSx/1/1")]


# Refusals


def test_batch_is_halved_until_the_refused_run_is_found_when_storage_does_not_name_it(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    runs = [make_mapped(f"NUSx/{number}/1") for number in range(98)]
    guilty = [runs[13], runs[60]]
    proxy.on(refuse_unnamed(*guilty), kind="write runs")  # type: ignore[arg-type]
    writer = begin(proxied_tables.catalogs)
    proxy.requests.clear()
    put(writer, *runs)
    assert writer.refused == [(runs[13], "InvalidInput"), (runs[60], "InvalidInput")]
    assert {each.mapped for each in proxied_tables.catalogs.runs(1)} == set(runs) - set(guilty)
    assert len(proxy.requests) <= 30


@pytest.mark.parametrize(("index", "tries"), [(0, 20), (98, 1)])
def test_sync_fails_when_storage_refuses_every_run_or_the_head(
    proxied_tables: Tables, proxy: TableProxy, index: int, tries: int
) -> None:
    writer = begin(proxied_tables.catalogs)
    proxy.requests.clear()
    proxy.on(refuse_in_batch(index, "InvalidInput"), kind="write runs")
    problem = r"refused the request \(HTTP 400, InvalidInput\)"
    with pytest.raises(StorageError, match=problem + (" for 20 course runs in a row$" if tries > 1 else "$")):
        put(writer, *[make_mapped(f"NUSx/{number}/1") for number in range(98)])
    assert len(proxy.requests) == tries


def test_sync_goes_on_when_storage_refuses_many_runs_that_are_not_in_a_row(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    writer = begin(proxied_tables.catalogs)
    proxy.on(refuse_in_batch(0), kind="write runs", every=2)
    for number in range(20):
        put(writer, make_mapped(f"NUSx/{number}/1"), make_mapped(f"NUSx/{number}/2"))
    assert [mapped.run.courserun_key for mapped, _ in writer.refused] == [f"NUSx/{n}/1" for n in range(20)]
    proxy.rules.clear()
    proxy.on(refuse_in_batch(0), kind="write runs")
    proxy.requests.clear()
    with pytest.raises(StorageError, match=r"for 20 course runs in a row$"):
        put(writer, *[make_mapped(f"NUSx/{number}/3") for number in range(21)])
    assert len(proxy.requests) == 20


def test_right_run_is_refused_when_the_batch_also_contains_the_head(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    runs = [make_mapped(f"NUSx/{number}/1") for number in range(3)]
    proxy.on(refuse_in_batch(1), kind="write runs", times=1)
    writer = begin(proxied_tables.catalogs)
    put(writer, *runs)
    assert writer.refused == [(runs[1], "PropertyValueTooLarge")]
    head = proxied_tables.catalogs.head(1)
    assert head
    assert head.writing


# Marks


def test_other_properties_stay_when_a_run_is_withdrawn_or_marked_unpublished(store: CatalogStore) -> None:
    mapped, other = make_mapped(price="1.00"), make_mapped(OLD_STYLE_KEY)
    store_runs(store, mapped, other)
    writer = begin(store)
    writer.mark_unpublished([mapped.run.id])
    writer.withdraw([other.run.id], NOW)
    writer.release(FinishedSync("done"))
    assert store.run(1, mapped.run.id) == StoredRun(mapped.run.id, mapped._replace(is_published=False), None)
    assert store.run(1, other.run.id) == StoredRun(other.run.id, other, "2026-03-01T12:00:00+00:00")


def test_marks_are_written_in_several_batches_of_which_the_first_contains_the_head(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    store = proxied_tables.catalogs
    ids = [course_run_id(f"NUSx/{number}/1") for number in range(200)]
    writer = begin(store)
    proxy.requests.clear()
    writer.withdraw(ids, NOW)
    assert [len(request.row_keys) for request in proxy.requests] == [100, 100, 4]
    assert ["published" in request.row_keys for request in proxy.requests] == [True, False, False]
    head = store.head(1)
    assert head
    assert head.writing


def test_course_key_and_proposed_credit_are_read_back(store: CatalogStore, runs_client: TableClient) -> None:
    mapped = make_mapped(modular_credit=2)._replace(course_key="NUSx+A1x", proposed_credit=0)
    store_runs(store, mapped)
    entity = runs_client.get_entity("1", course_run_id(KEY))
    assert (entity["courseKey"], entity["proposedCredit"], entity["modularCredit"]) == ("NUSx+A1x", 0, 2)
    stored = store.run(1, course_run_id(KEY))
    assert stored
    assert stored.mapped == mapped
    runs_client.update_entity({**entity, "courseKey": 7, "proposedCredit": "2"}, UpdateMode.MERGE)
    stored = store.run(1, course_run_id(KEY))
    assert stored
    assert stored.mapped == make_mapped(modular_credit=2)


# The body that the guard compares with


def test_body_of_the_last_successful_sync_stays_when_the_guard_stops_later_syncs(store: CatalogStore) -> None:
    two = render([make_served(), make_served(OLD_STYLE_KEY)], NOW)
    counted = publish(store, two)
    assert store.counted_body(1, counted) == two.packed
    for _ in range(4):
        head = publish(store, ONE_RUN, is_success=False)
        assert (head.runs, head.counted_runs, head.counted_generation) == (1, 2, counted.generation)
        assert store.body(1, head) == ONE_RUN.packed
        assert store.counted_body(1, head) == two.packed
    head = publish(store, ONE_RUN)
    assert (head.runs, head.counted_runs, head.counted_generation) == (1, 1, "")
    assert store.counted_body(1, head) == ONE_RUN.packed
    with pytest.raises(StateDamaged):
        store.body(1, counted)


def test_confirmed_body_is_that_of_a_successful_sync(store: CatalogStore) -> None:
    publish(store, render([make_served(), make_served(OLD_STYLE_KEY)], NOW))
    head = publish(store, ONE_RUN, is_success=False)
    assert head.counted_body_parts == 1
    begin(store).confirm(head, NOW, 0, FinishedSync("done"))
    confirmed = store.head(1)
    assert confirmed == replace(
        head, counted_runs=1, counted_generation="", counted_body_parts=0, counted_body_checksum=""
    )
    assert store.counted_body(1, confirmed) == ONE_RUN.packed


def test_state_is_damaged_when_the_body_of_the_last_successful_sync_is_missing(
    store: CatalogStore, runs_client: TableClient
) -> None:
    counted = publish(store)
    head = publish(store, is_success=False)
    runs_client.delete_entity("1", f"published-{counted.generation}-body-0000")
    with pytest.raises(StateDamaged):
        store.counted_body(1, head)
    assert store.body(1, head) == ONE_RUN.packed


# The previous sync, and a sync whose process stopped


def test_writer_knows_the_previous_sync_and_the_one_whose_process_stopped(
    store: CatalogStore, table: Table, clock: Clock
) -> None:
    begin(store, sync_id="first").release(FinishedSync("first"))
    second = begin(store, sync_id="second")
    assert second.previous == FinishedSync("first")
    assert second.took_over is None
    heir = take(table, clock, "heir")
    assert heir.before.sync_id == "second"
    state = store.lease(1)
    assert state
    assert (state.holder, state.sync_id) == ("host/1", "heir")
