"""Course runs, published states and reports on Azurite: what is written is read, and damage is noticed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from azure.data.tables import TableClient, UpdateMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.azurite import Azurite
from shared.domain.attempts import FinishedSync
from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import MappedRun, Rejection, StoredRun, course_run_id, stored_json
from shared.domain.published import Body, Head, checksum, render
from shared.domain.sync_report import SyncReport
from shared.settings import StorageSettings
from shared.storage.lease import LeaseLost, acquire
from shared.storage.store import CatalogWriter, StateDamaged, TableStore
from shared.storage.table import Table
from tests.integration.conftest import Clock
from tests.mapped_runs import KEY, OLD_STYLE_KEY, make_mapped, make_served, mapped_runs
from tests.table_proxy import TableProxy, lose_answer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE_RUN = render([make_served()], NOW)
GENERATIONS = count()


def begin(store: TableStore, catalog_id: int = 1) -> CatalogWriter:
    writer = store.acquire(catalog_id, f"sync{next(GENERATIONS)}", 0)
    assert isinstance(writer, CatalogWriter)
    return writer


def put(writer: CatalogWriter, *runs: MappedRun) -> None:
    for mapped in runs:
        writer.put(mapped, len(stored_json(mapped.run)))
    writer.flush()


def store_runs(store: TableStore, *runs: MappedRun, catalog_id: int = 1) -> None:
    writer = begin(store, catalog_id)
    put(writer, *runs)
    writer.release(FinishedSync("done"))


def publish(
    store: TableStore,
    body: Body = ONE_RUN,
    digests: dict[bytes, bytes] | None = None,
    unidentified: int = 0,
) -> Head:
    writer = begin(store)
    writer.publish(
        store.head(1),
        body,
        digests or {},
        synced_at=NOW,
        unidentified=unidentified,
        finished=FinishedSync("done"),
    )
    head = store.head(1)
    assert head
    return head


def all_runs(store: TableStore, catalog_id: int = 1) -> dict[str, StoredRun]:
    return {str(UUID(bytes=stored.run_id)): stored for stored in store.runs(catalog_id)}


# Course runs


def test_nothing_is_stored_when_there_are_no_tables(store: TableStore) -> None:
    assert list(store.runs(1)) == []
    assert store.run(1, course_run_id(KEY)) is None
    assert store.head(1) is None
    assert store.reports() == []
    assert store.throttled_until("client") is None
    assert store.catalog_list("client") is None


CATALOG_IDS = count(1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(mapped_runs(), min_size=1, max_size=10, unique_by=lambda mapped: mapped.run.id))
def test_course_runs_are_the_same_when_read_back(store: TableStore, runs: list[MappedRun]) -> None:
    catalog_id = next(CATALOG_IDS)
    store_runs(store, *runs, catalog_id=catalog_id)
    stored = all_runs(store, catalog_id)
    assert {run_id: each.mapped for run_id, each in stored.items()} == {each.run.id: each for each in runs}
    assert store.run(catalog_id, runs[0].run.id) == stored[runs[0].run.id]


def test_entity_has_the_documented_keys_and_text_dates(store: TableStore, runs_client: TableClient) -> None:
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


def test_value_is_gone_when_a_run_is_written_without_it(store: TableStore) -> None:
    store_runs(store, make_mapped(price="1.00", type="verified"))
    store_runs(store, make_mapped(type="audit"))
    assert store.run(1, course_run_id(KEY)) == StoredRun(
        UUID(course_run_id(KEY)).bytes, make_mapped(type="audit"), None
    )


def test_withdrawn_run_keeps_all_else_and_is_as_new_when_it_comes_back(store: TableStore) -> None:
    mapped = make_mapped(price="1.00", listed=False)
    store_runs(store, mapped)
    writer = begin(store)
    writer.withdraw([UUID(mapped.run.id).bytes], NOW)
    writer.release(FinishedSync("done"))
    run_id = UUID(mapped.run.id).bytes
    assert store.run(1, mapped.run.id) == StoredRun(run_id, mapped, "2026-03-01T12:00:00+00:00")
    store_runs(store, mapped)
    assert store.run(1, mapped.run.id) == StoredRun(run_id, mapped, None)


def test_same_run_is_kept_twice_when_it_is_in_two_catalogs(store: TableStore) -> None:
    store_runs(store, make_mapped(price="1.00"), make_mapped(OLD_STYLE_KEY), catalog_id=1)
    store_runs(store, make_mapped(price="2.00"), catalog_id=10)
    assert len(all_runs(store, 1)) == 2
    (other,) = all_runs(store, 10).values()
    assert other.mapped == make_mapped(price="2.00")


def test_all_runs_are_written_when_they_fill_several_batches(
    proxied_store: TableStore, proxy: TableProxy
) -> None:
    store = proxied_store
    runs = [make_mapped(f"NUSx/{number}/1") for number in range(250)]
    store_runs(store, *runs)
    assert {each.mapped.run.id for each in store.runs(1) if each.mapped} == {each.run.id for each in runs}
    batches = [len(request.row_keys) for request in proxy.requests if request.row_keys.count("lease")]
    # The mark in the head, three batches of runs, letting go; each with the lease.
    assert batches[-5:] == [2, 100, 100, 53, 1]


def test_long_texts_fill_batches_that_storage_takes(store: TableStore) -> None:
    address = "https://www.edx.org/" + "é" * 32_000  # the SDK writes 6 bytes for each of them
    runs = [make_mapped(f"NUSx/{number}/1", marketing_url=address) for number in range(60)]
    writer = begin(store)
    put(writer, *runs)
    assert writer.refused == []
    assert len(all_runs(store)) == 60


def test_others_are_written_when_storage_refuses_some(store: TableStore) -> None:
    addresses = ["https://x/" + "x" * (33_000 if number in {0, 4} else 1) for number in range(5)]
    runs = [make_mapped(f"NUSx/{number}/1", marketing_url=url) for number, url in enumerate(addresses)]
    writer = begin(store)
    put(writer, *runs)
    assert writer.refused == [(runs[0], "PropertyValueTooLarge"), (runs[4], "PropertyValueTooLarge")]
    assert all_runs(store).keys() == {each.run.id for each in runs[1:4]}


def test_last_version_is_written_when_a_run_is_put_twice(
    proxied_store: TableStore, proxy: TableProxy
) -> None:
    store = proxied_store
    writer = begin(store)
    put(writer, make_mapped(price="1.00"), make_mapped(OLD_STYLE_KEY), make_mapped(price="2.00"))
    # Azurite takes a row twice in a batch, Azure does not.
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
def test_run_counts_as_unreadable_when_another_hand_wrote_nonsense(
    store: TableStore, runs_client: TableClient, odd: dict[str, object]
) -> None:
    store_runs(store, make_mapped(min_effort=4))
    runs_client.update_entity({"PartitionKey": "1", "RowKey": course_run_id(KEY), **odd}, UpdateMode.MERGE)
    runs_client.create_entity({"PartitionKey": "1", "RowKey": "0-no-uuid"})
    assert list(store.runs(1)) == [StoredRun(UUID(course_run_id(KEY)).bytes, None, None)]


def test_properties_of_another_hand_are_passed_over(store: TableStore, runs_client: TableClient) -> None:
    store_runs(store, make_mapped())
    runs_client.update_entity(
        {"PartitionKey": "1", "RowKey": course_run_id(KEY), "note": "seen"}, UpdateMode.MERGE
    )
    (stored,) = store.runs(1)
    assert stored.mapped == make_mapped()


# Published states


def test_published_state_is_read_as_it_was_written(store: TableStore) -> None:
    digests = {os.urandom(16): os.urandom(16) for _ in range(3)}
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
def test_body_is_read_as_it_was_written_when_it_needs_several_parts(store: TableStore, length: int) -> None:
    packed = os.urandom(length)
    head = publish(store, Body(packed, checksum(packed), "9999-12-31T23:59:59Z", 1))
    assert head.body_parts == -(-length // (640 * 1024))
    assert store.body(1, head) == packed


def test_digests_are_read_as_they_were_written_when_they_need_several_parts(store: TableStore) -> None:
    digests = {os.urandom(16): os.urandom(16) for _ in range(21_000)}  # 656 KiB
    head = publish(store, digests=digests)
    assert head.digest_parts == 2
    assert store.digests(1, head) == digests


def test_previous_generation_stays_and_older_ones_go(store: TableStore, runs_client: TableClient) -> None:
    heads = [publish(store) for _ in range(3)]
    orphan = {"PartitionKey": "1", "RowKey": "published-crashed-body-0000", "data00": b""}
    runs_client.create_entity(orphan)
    heads.append(publish(store))
    assert store.body(1, heads[2]) == store.body(1, heads[3]) == ONE_RUN.packed
    for head in heads[:2]:
        with pytest.raises(StateDamaged, match="catalog 1 is not whole"):
            store.body(1, head)
    assert "published-crashed-body-0000" not in [each["RowKey"] for each in runs_client.list_entities()]


@pytest.mark.parametrize("kind", ["body", "digests"])
def test_damage_is_noticed_when_a_part_is_missing_or_altered(
    store: TableStore, runs_client: TableClient, kind: str
) -> None:
    head = publish(store, digests={b"i" * 16: b"d" * 16})
    read = store.body if kind == "body" else store.digests
    key = {"PartitionKey": "1", "RowKey": f"published-{head.generation}-{kind}-0000"}
    for altered in ({"data00": b"other"}, {"data00": "text"}, {"data01": b"more"}, {"data00": 7}):
        runs_client.update_entity({**key, **altered}, UpdateMode.MERGE)
        with pytest.raises(StateDamaged):
            read(1, head)
    runs_client.delete_entity("1", key["RowKey"])
    with pytest.raises(StateDamaged):
        read(1, head)


@pytest.mark.parametrize(
    ("altered", "writing"),
    [
        ({"format": 2}, "unknown"),
        ({"format": "1"}, "unknown"),
        ({"body_parts": "1"}, "unknown"),
        ({"tag": 7}, "unknown"),
        ({"runs": 1.5}, "unknown"),
        ({"generation": ""}, "unknown"),
        ({"generation": "", "writing": "s1"}, "s1"),
    ],
)
def test_head_counts_as_never_published_when_another_hand_or_version_wrote_it(
    store: TableStore, runs_client: TableClient, altered: dict[str, object], writing: str
) -> None:
    publish(store)
    runs_client.update_entity({"PartitionKey": "1", "RowKey": "published", **altered}, UpdateMode.MERGE)
    head = store.head(1)
    assert head
    assert (head.generation, head.synced_at) == ("", None)
    assert head.writing in {writing, ""}  # an empty one is as good: there is no generation
    assert not head.generation


@pytest.mark.parametrize("synced_at", ["yesterday", "2026-03-01T12:00:00", "", 7])
def test_moment_of_a_head_counts_as_unknown_when_it_is_none(
    store: TableStore, runs_client: TableClient, synced_at: object
) -> None:
    publish(store)
    runs_client.update_entity(
        {"PartitionKey": "1", "RowKey": "published", "synced_at": synced_at}, UpdateMode.MERGE
    )
    head = store.head(1)
    assert head
    assert head.synced_at is None


def test_head_names_the_sync_that_writes_until_it_publishes(store: TableStore) -> None:
    before = publish(store)
    writer = begin(store)
    put(writer, make_mapped())
    marked = store.head(1)
    assert marked
    assert marked.writing
    assert replace(marked, writing="") == before
    writer.publish(before, ONE_RUN, {}, synced_at=NOW, unidentified=0)
    after = store.head(1)
    assert after
    assert after.writing == ""


def test_confirming_changes_the_time_alone_and_lets_the_lease_go(store: TableStore) -> None:
    before = publish(store)
    later = NOW + timedelta(hours=1)
    begin(store).confirm(before, later, 3, FinishedSync("done"))
    assert store.head(1) == replace(before, synced_at=later, unidentified=3)
    assert store.body(1, before) == ONE_RUN.packed
    begin(store)


def test_writer_that_lost_its_lease_changes_nothing(store: TableStore, table: Table, clock: Clock) -> None:
    before = publish(store)
    store_runs(store, make_mapped())
    marked = store.head(1)
    assert marked
    writer = begin(store)
    acquire(table, "1", "heir", 60, sleep=clock.sleep, monotonic=clock.monotonic)
    run_id = UUID(course_run_id(KEY)).bytes
    with pytest.raises(LeaseLost):
        put(writer, make_mapped(price="2.00"))
    with pytest.raises(LeaseLost):
        writer.withdraw([run_id], NOW)
    with pytest.raises(LeaseLost):
        writer.publish(before, render([], NOW), {}, synced_at=NOW, unidentified=0)
    with pytest.raises(LeaseLost):
        writer.confirm(before, NOW, 9, FinishedSync("done"))
    assert list(store.runs(1)) == [StoredRun(run_id, make_mapped(), None)]
    assert store.head(1) == marked
    assert store.body(1, before) == ONE_RUN.packed


# Reports


def make_report(number: int = 0, **fields: Any) -> SyncReport:
    ended = fields.get("ended", NOW + timedelta(minutes=number))
    values: dict[str, Any] = {
        "sync_id": f"s{number}",
        "catalog_id": 1,
        "trigger": "timer",
        "invocation_id": "",
        "started": ended - timedelta(seconds=5),
        "ended": ended,
        "outcome": "ok",
    }
    return SyncReport(**values | fields)


def test_report_is_the_same_when_read_back(store: TableStore) -> None:
    report = make_report(
        invocation_id="0a1b",
        outcome="failed",
        courses=1,
        runs=2,
        created=3,
        changed=4,
        unchanged=5,
        withdrawn=6,
        restored=7,
        rejected=8,
        rejections=(Rejection("a", "start", "'é' is no date"), Rejection("", "key", "no key")),
        unknown_tracks={"masters": 2},
        incomplete="the count changed",
        edx_requests=9,
        throttled_until=NOW,
        error="edX is away",
    )
    store.add_report(report)
    assert store.reports() == [report]


def test_reports_come_newest_first_and_no_more_than_asked_for(store: TableStore) -> None:
    for number in (1, 3, 2, 0):
        store.add_report(make_report(number, catalog_id=1 + number % 2))
    assert [report.sync_id for report in store.reports()] == ["s3", "s2", "s1", "s0"]
    assert [report.sync_id for report in store.reports(limit=2)] == ["s3", "s2"]
    assert [report.sync_id for report in store.reports(2)] == ["s3", "s1"]
    assert [report.sync_id for report in store.reports(2, limit=1)] == ["s3"]


def test_reports_older_than_90_days_go_when_their_catalog_gets_a_new_one(store: TableStore) -> None:
    day = timedelta(days=1)
    for age, catalog_id in ((92, 1), (91, 1), (89, 1), (91, 2)):
        store.add_report(make_report(age, ended=NOW - age * day, catalog_id=catalog_id))
    assert len(store.reports()) == 4
    store.add_report(make_report())
    assert [report.sync_id for report in store.reports(1)] == ["s0", "s89"]
    assert [report.sync_id for report in store.reports(2)] == ["s91"]


def test_report_is_stored_when_the_answer_to_a_clean_up_was_lost(
    proxied_store: TableStore, proxy: TableProxy
) -> None:
    store = proxied_store
    store.add_report(make_report(1, ended=NOW - timedelta(days=100)))
    proxy.on(lose_answer, kind="remove reports", times=1)
    store.add_report(make_report())
    assert [report.sync_id for report in store.reports()] == ["s0"]


def test_report_is_cut_to_what_storage_takes(store: TableStore) -> None:
    rejections = [Rejection(f"course-v1:{number}{'é' * 200}", "start", "x" * 80) for number in range(50)]
    store.add_report(make_report(error="é" * 50_000, rejections=rejections))
    (report,) = store.reports()
    assert report.error == "é" * 30_000
    assert list(report.rejections) == rejections[: len(report.rejections)]
    assert len(report.rejections) >= 12


@pytest.mark.parametrize(
    "odd",
    [{"ended": "yesterday"}, {"ended": 7}, {"started": ""}, {"rejections": "{"}, {"rejections": "[1]"},
     {"unknown_tracks": 7}],
)  # fmt: skip
def test_report_is_passed_over_when_another_hand_wrote_it(
    store: TableStore, azurite: Azurite, storage: StorageSettings, odd: dict[str, object]
) -> None:
    store.add_report(make_report(1))
    store.add_report(make_report(2))
    client = TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}SyncReports")
    (second, _) = client.list_entities()
    client.update_entity({**second, **odd}, UpdateMode.MERGE)
    for reports in (store.reports(), store.reports(1)):
        assert [report.sync_id for report in reports] == ["s1"]


# The edX account


def test_throttling_is_remembered_for_each_client_id(store: TableStore) -> None:
    store.remember_throttled("a/b#c", NOW)
    assert store.throttled_until("a/b#c") == NOW
    assert store.throttled_until("other") is None
    store.remember_throttled("a/b#c", NOW + timedelta(hours=1))
    assert store.throttled_until("a/b#c") == NOW + timedelta(hours=1)


@pytest.mark.parametrize("ids", [(), (7,), (1, 31, 2**31 - 1)])
def test_list_of_catalogs_is_remembered(store: TableStore, ids: tuple[int, ...]) -> None:
    store.remember_catalogs("client", CatalogList(ids, NOW))
    assert store.catalog_list("client") == CatalogList(ids, NOW)


@pytest.fixture
def accounts(azurite: Azurite, storage: StorageSettings) -> Iterator[TableClient]:
    with TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}Accounts") as client:
        yield client


@pytest.mark.parametrize("nonsense", ["soon", "2026-03-01T12:00:00", 7, ""])
def test_account_is_as_new_when_another_hand_wrote_nonsense(
    store: TableStore, accounts: TableClient, nonsense: object
) -> None:
    store.remember_throttled("client", NOW)
    store.remember_catalogs("client", CatalogList((1,), NOW))
    for entity in list(accounts.list_entities()):
        accounts.update_entity({**entity, "until": nonsense, "listedAt": nonsense}, UpdateMode.MERGE)
    assert store.throttled_until("client") is None
    assert store.catalog_list("client") is None


def test_trying_out_leaves_what_is_remembered(store: TableStore) -> None:
    store.remember_throttled("client", NOW)
    store.try_out("client")
    assert store.throttled_until("client") == NOW
