"""Course runs, published states and reports on Azurite: reading back, and detection of damage."""

import os
from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import uuid4

import pytest
from azure.data.tables import TableClient, UpdateMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.attempts import FinishedSync
from shared.domain.course_run import MappedRun, StoredRun, course_run_id
from shared.domain.published import Body, Head, checksum, render
from shared.storage.lease import LeaseLost
from shared.storage.store import CatalogStore, StateDamaged
from shared.storage.table import Table
from shared.storage.tables import Tables
from tests.clock import Clock
from tests.mapped_runs import KEY, OLD_STYLE_KEY, make_mapped, mapped_runs
from tests.storage.syncs import NOW, ONE_RUN, begin, publish, put, store_runs, take
from tests.table_proxy import TableProxy


def all_runs(store: CatalogStore, catalog_id: int = 1) -> dict[str, StoredRun]:
    return {stored.run_id: stored for stored in store.runs(catalog_id)}


# Course runs


def test_nothing_is_stored_when_there_are_no_tables(store: CatalogStore, tables: Tables) -> None:
    assert list(store.runs(1)) == []
    assert store.run(1, course_run_id(KEY)) is None
    assert store.head(1) is None
    assert store.lease(1) is None
    assert tables.reports.newest() == []
    assert tables.account.throttled_until() is None
    assert tables.account.catalog_list() is None
    assert list(tables.history.pages(1)) == []
    assert tables.credits.all().malformed == ()


CATALOG_IDS = count(1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(mapped_runs(), min_size=1, max_size=10, unique_by=lambda mapped: mapped.run.id))
def test_course_runs_are_the_same_when_read_back(store: CatalogStore, runs: list[MappedRun]) -> None:
    catalog_id = next(CATALOG_IDS)
    store_runs(store, *runs, catalog_id=catalog_id)
    stored = all_runs(store, catalog_id)
    assert {run_id: each.mapped for run_id, each in stored.items()} == {each.run.id: each for each in runs}
    assert store.run(catalog_id, runs[0].run.id) == stored[runs[0].run.id]


def test_entity_has_the_documented_keys_and_text_dates(store: CatalogStore, runs_client: TableClient) -> None:
    store_runs(
        store, make_mapped(OLD_STYLE_KEY, start_date="0999-01-01T00:00:00Z", min_effort=4), catalog_id=31
    )
    assert dict(runs_client.get_entity("31", "cd3699dd-ff6b-5890-a54b-d353c77cf569")) == {
        "PartitionKey": "31",
        "RowKey": "cd3699dd-ff6b-5890-a54b-d353c77cf569",
        "courserunKey": "DelftX/CTB3300WCx/2T2014",
        "startDate": "0999-01-01T00:00:00Z",
        "minEffort": 4,
        "listed": True,
    }


def test_value_is_removed_when_a_run_is_written_without_it(store: CatalogStore) -> None:
    store_runs(store, make_mapped(price="1.00", type="verified"))
    store_runs(store, make_mapped(type="audit"))
    assert store.run(1, course_run_id(KEY)) == StoredRun(course_run_id(KEY), make_mapped(type="audit"), None)


def test_withdrawn_run_keeps_its_other_properties_and_is_no_longer_withdrawn_when_it_returns(
    store: CatalogStore,
) -> None:
    mapped = make_mapped(price="1.00", is_published=False)
    store_runs(store, mapped)
    writer = begin(store)
    writer.withdraw([mapped.run.id], NOW)
    writer.release(FinishedSync("done"))
    run_id = mapped.run.id
    assert store.run(1, mapped.run.id) == StoredRun(run_id, mapped, "2026-03-01T12:00:00+00:00")
    store_runs(store, mapped)
    assert store.run(1, mapped.run.id) == StoredRun(run_id, mapped, None)


def test_run_is_stored_twice_when_it_is_in_two_catalogs(store: CatalogStore) -> None:
    store_runs(store, make_mapped(price="1.00"), make_mapped(OLD_STYLE_KEY), catalog_id=1)
    store_runs(store, make_mapped(price="2.00"), catalog_id=10)
    assert len(all_runs(store, 1)) == 2
    (other,) = all_runs(store, 10).values()
    assert other.mapped == make_mapped(price="2.00")


def test_all_runs_are_written_when_they_fill_several_batches(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    store = proxied_tables.catalogs
    runs = [make_mapped(f"NUSx/{number}/1") for number in range(250)]
    store_runs(store, *runs)
    assert {each.mapped.run.id for each in store.runs(1) if each.mapped} == {each.run.id for each in runs}
    batches = [len(request.row_keys) for request in proxy.requests if request.row_keys.count("lease")]
    # Taking the lease, three batches of runs, releasing it. The first also marks the head.
    assert batches[-5:] == [1, 100, 100, 54, 1]


def test_batches_of_long_texts_stay_within_the_limit_of_storage(store: CatalogStore) -> None:
    address = "https://www.edx.org/" + "é" * 32_000  # the SDK writes 6 bytes for each of them
    runs = [make_mapped(f"NUSx/{number}/1", marketing_url=address) for number in range(60)]
    writer = begin(store)
    put(writer, *runs)
    assert writer.refused == []
    assert len(all_runs(store)) == 60


def test_other_runs_are_written_when_storage_refuses_some(store: CatalogStore) -> None:
    addresses = ["https://x/" + "x" * (33_000 if number in {0, 4} else 1) for number in range(5)]
    runs = [make_mapped(f"NUSx/{number}/1", marketing_url=url) for number, url in enumerate(addresses)]
    writer = begin(store)
    put(writer, *runs)
    assert writer.refused == [(runs[0], "PropertyValueTooLarge"), (runs[4], "PropertyValueTooLarge")]
    assert all_runs(store).keys() == {each.run.id for each in runs[1:4]}


def test_last_version_is_written_when_a_run_is_put_twice(proxied_tables: Tables, proxy: TableProxy) -> None:
    store = proxied_tables.catalogs
    writer = begin(store)
    put(writer, make_mapped(price="1.00"), make_mapped(OLD_STYLE_KEY), make_mapped(price="2.00"))
    # Azurite accepts a row twice in a batch, Azure does not.
    batches = [request.row_keys for request in proxy.requests]
    assert max(row_keys.count(course_run_id(KEY)) for row_keys in batches) == 1
    stored = store.run(1, course_run_id(KEY))
    assert stored
    assert stored.mapped == make_mapped(price="2.00")


@pytest.mark.parametrize(
    "odd",
    [{"minEffort": "4"}, {"startDate": "2026"}, {"listed": "yes"}, {"courserunKey": "another"},
     {"courserunKey": 1}, {"pacingType": "self_paced"}, {"minEffort": 1.5}],
)  # fmt: skip
def test_run_is_unreadable_when_its_properties_are_malformed(
    store: CatalogStore, runs_client: TableClient, odd: dict[str, object]
) -> None:
    store_runs(store, make_mapped(min_effort=4))
    runs_client.update_entity({"PartitionKey": "1", "RowKey": course_run_id(KEY), **odd}, UpdateMode.MERGE)
    runs_client.create_entity({"PartitionKey": "1", "RowKey": "0-no-uuid"})
    assert list(store.runs(1)) == [StoredRun(course_run_id(KEY), None, None)]


def test_unknown_properties_are_ignored(store: CatalogStore, runs_client: TableClient) -> None:
    store_runs(store, make_mapped())
    runs_client.update_entity(
        {"PartitionKey": "1", "RowKey": course_run_id(KEY), "note": "seen"}, UpdateMode.MERGE
    )
    (stored,) = store.runs(1)
    assert stored.mapped == make_mapped()


# Published states


def test_published_state_is_read_as_it_was_written(store: CatalogStore) -> None:
    digests = {str(uuid4()): os.urandom(16) for _ in range(3)}
    head = publish(store, digests=digests, unidentified=2)
    assert replace(head, generation="", body_checksum="", digest_checksum="") == Head(
        body_parts=1,
        digest_parts=1,
        tag=ONE_RUN.tag,
        holds_until="9999-12-31T23:59:59Z",
        runs=1,
        synced_at=NOW,
        unidentified=2,
        counted_runs=1,
    )
    assert store.body(1, head) == ONE_RUN.packed
    assert store.digests(1, head) == digests


@pytest.mark.parametrize("length", [0, 1, 640 * 1024, 640 * 1024 + 1, 2 * 640 * 1024 + 70_000])
def test_body_is_read_as_it_was_written_when_it_needs_several_parts(store: CatalogStore, length: int) -> None:
    packed = os.urandom(length)
    head = publish(store, Body(packed, checksum(packed), "9999-12-31T23:59:59Z", 1))
    assert head.body_parts == -(-length // (640 * 1024))
    assert store.body(1, head) == packed


def test_digests_are_read_as_they_were_written_when_they_need_several_parts(store: CatalogStore) -> None:
    digests = {str(uuid4()): os.urandom(16) for _ in range(21_000)}  # 656 KiB
    head = publish(store, digests=digests)
    assert head.digest_parts == 2
    assert store.digests(1, head) == digests


def test_previous_generation_stays_and_older_ones_are_removed(
    store: CatalogStore, runs_client: TableClient
) -> None:
    digests = {str(uuid4()): b"d" * 16}
    heads = [publish(store, digests=digests) for _ in range(3)]
    orphans = [
        {"PartitionKey": "1", "RowKey": f"published-crashed-body-{number:04}"} for number in range(100)
    ]
    runs_client.submit_transaction([("create", orphan) for orphan in orphans])
    heads.append(publish(store, digests=digests))
    assert store.body(1, heads[2]) == store.body(1, heads[3]) == ONE_RUN.packed
    for head in heads[:2]:
        with pytest.raises(StateDamaged, match="catalog 1 is incomplete"):
            store.body(1, head)
    assert {each["RowKey"] for each in runs_client.list_entities()} == {
        "lease", "published",
        *(f"published-{head.generation}-{kind}-0000" for head in heads[2:] for kind in ("body", "digests")),
    }  # fmt: skip


@pytest.mark.parametrize(
    "altered", [{"data00": b"other"}, {"data00": "text"}, {"data01": b"more"}, {"data00": 7}, None]
)
@pytest.mark.parametrize("kind", ["body", "digests"])
def test_state_is_damaged_when_a_part_is_missing_or_altered(
    store: CatalogStore, runs_client: TableClient, kind: str, altered: dict[str, object] | None
) -> None:
    head = publish(store, digests={str(uuid4()): b"d" * 16})
    read = store.body if kind == "body" else store.digests
    key = {"PartitionKey": "1", "RowKey": f"published-{head.generation}-{kind}-0000"}
    if altered is None:
        runs_client.delete_entity("1", key["RowKey"])
    else:
        runs_client.update_entity({**key, **altered}, UpdateMode.MERGE)
    problem = "incomplete" if altered is None else "damaged"
    with pytest.raises(
        StateDamaged,
        match=f"^The published state of catalog 1 is {problem}; the next sync rebuilds it$",
    ) as damaged:
        read(1, head)
    assert damaged.value.catalog_id == 1


@pytest.mark.parametrize(
    ("altered", "writing"),
    [
        ({"format": 2}, "unknown"),
        ({"format": "1"}, "unknown"),
        ({"body_parts": "1"}, "unknown"),
        ({"tag": 7}, "unknown"),
        ({"runs": 1.5}, "unknown"),
        ({"runs": None}, "unknown"),
        ({"counted_runs": None}, "unknown"),
        ({"generation": ""}, ""),
        ({"generation": "", "writing": "s1"}, "s1"),
        ({"generation": None, "writing": None}, "unknown"),
        ({"generation": "a/b"}, "unknown"),
        ({"generation": 7}, "unknown"),
    ],
)
def test_head_is_treated_as_never_published_when_its_format_is_unknown(
    store: CatalogStore, runs_client: TableClient, altered: dict[str, object], writing: str
) -> None:
    publish(store)
    entity = runs_client.get_entity("1", "published") | altered
    runs_client.update_entity(
        {name: value for name, value in entity.items() if value is not None}, UpdateMode.REPLACE
    )
    assert store.head(1) == Head(writing=writing)


@pytest.mark.parametrize("synced_at", ["yesterday", "2026-03-01T12:00:00", "", 7])
def test_time_of_a_head_is_unknown_when_it_is_malformed(
    store: CatalogStore, runs_client: TableClient, synced_at: object
) -> None:
    publish(store)
    runs_client.update_entity(
        {"PartitionKey": "1", "RowKey": "published", "synced_at": synced_at}, UpdateMode.MERGE
    )
    head = store.head(1)
    assert head
    assert head.synced_at is None


def test_head_names_the_sync_that_writes_until_it_publishes(store: CatalogStore) -> None:
    before = publish(store)
    writer = begin(store)
    put(writer, make_mapped())
    marked = store.head(1)
    assert marked
    assert marked.writing.startswith("sync")
    assert replace(marked, writing="") == before
    writer.publish(before, ONE_RUN, {}, at=NOW, synced_at=NOW, unidentified=0, is_success=True)
    after = store.head(1)
    assert after
    assert after.writing == ""


def test_confirming_changes_only_the_time_and_releases_the_lease(store: CatalogStore) -> None:
    before = publish(store)
    later = NOW + timedelta(hours=1)
    begin(store).confirm(before, later, 3, FinishedSync("done"))
    assert store.head(1) == replace(before, synced_at=later, unidentified=3)
    assert store.body(1, before) == ONE_RUN.packed
    begin(store)


def test_nothing_is_changed_when_the_writer_has_lost_its_lease(
    store: CatalogStore, table: Table, clock: Clock
) -> None:
    before = publish(store)
    store_runs(store, make_mapped())
    marked = store.head(1)
    assert marked
    writer = begin(store)
    take(table, clock, "heir", 60)
    run_id = course_run_id(KEY)
    with pytest.raises(LeaseLost):
        put(writer, make_mapped(price="2.00"))
    with pytest.raises(LeaseLost):
        writer.withdraw([run_id], NOW)
    with pytest.raises(LeaseLost):
        writer.publish(before, render([], NOW), {}, at=NOW, synced_at=NOW, unidentified=0, is_success=True)
    with pytest.raises(LeaseLost):
        writer.confirm(before, NOW, 9, FinishedSync("done"))
    assert list(store.runs(1)) == [StoredRun(run_id, make_mapped(), None)]
    assert store.head(1) == marked
    assert store.body(1, before) == ONE_RUN.packed
