"""One table on Azurite: created when missing, every operation repeated until it is done or hopeless."""

import re

import pytest
from azure.data.tables import TableClient

from local.azurite import Azurite
from shared.errors import StorageError
from shared.storage.failures import ConditionFailed, EntityRefused
from shared.storage.table import (
    Table,
    deleting,
    merging,
    replacing,
    replacing_unchanged,
)
from tests.clock import Clock
from tests.table_proxy import TableProxy, answer, lose_answer

A = {"PartitionKey": "1", "RowKey": "a"}
B = {"PartitionKey": "1", "RowKey": "b"}


def rows(table: Table) -> list[str]:
    return [entity["RowKey"] for entity in table.query("PartitionKey eq @p", {"p": "1"})]


def test_reading_finds_nothing_when_the_table_is_missing(table: Table) -> None:
    assert table.get("1", "a") is None
    assert rows(table) == []


def test_table_is_created_when_the_first_entity_is_inserted(table: Table) -> None:
    assert table.insert(A)
    assert rows(table) == ["a"]


def test_table_is_created_when_the_first_entity_is_put(table: Table) -> None:
    table.put(A)
    assert rows(table) == ["a"]


def test_table_is_created_when_the_first_batch_is_written(table: Table) -> None:
    table.commit([replacing(A), merging(B)])
    assert rows(table) == ["a", "b"]


def test_table_is_created_again_when_it_was_deleted(table: Table, runs_client: TableClient) -> None:
    table.put(A)
    runs_client.delete_table()
    table.commit([replacing(B)])
    assert rows(table) == ["b"]


def test_insert_tells_when_the_entity_exists(table: Table) -> None:
    assert table.insert({**A, "x": 1})
    assert table.insert({**A, "x": 2}) is None
    stored = table.get("1", "a")
    assert stored
    assert stored["x"] == 1


def test_property_is_gone_when_an_entity_is_replaced_and_stays_when_it_is_merged(table: Table) -> None:
    table.put({**A, "x": 1, "y": 1})
    table.commit([merging({**A, "y": 2})])
    merged = table.get("1", "a")
    table.commit([replacing({**A, "y": 3})])
    replaced = table.get("1", "a")
    assert merged == {**A, "x": 1, "y": 2}
    assert replaced == {**A, "y": 3}


def test_keys_with_quotes_are_read_and_written(table: Table) -> None:
    table.put({"PartitionKey": "o'clock", "RowKey": "it's"})
    assert table.get("o'clock", "it's")
    assert [each["RowKey"] for each in table.query("PartitionKey eq @p", {"p": "o'clock"})] == ["it's"]


def test_query_returns_all_in_order_when_there_are_several_pages(table: Table) -> None:
    keys = [f"{number:04}" for number in range(1001)]
    for start in range(0, 1001, 100):
        table.commit([replacing({"PartitionKey": "1", "RowKey": key}) for key in keys[start : start + 100]])
    assert rows(table) == keys


def test_batch_writes_nothing_when_its_guard_has_changed(table: Table) -> None:
    etag = table.insert(A)
    assert etag
    table.put({**A, "x": 2})
    with pytest.raises(ConditionFailed):
        table.commit([replacing(B), replacing_unchanged({**A, "x": 3}, etag)])
    assert rows(table) == ["a"]


def test_etag_of_the_guard_is_returned_when_a_batch_is_written(table: Table) -> None:
    etag = table.insert(A)
    for number in range(3):
        assert etag
        etag = table.commit([replacing(B), replacing_unchanged({**A, "x": number}, etag)])


def test_refused_entity_is_named_by_its_place_when_a_batch_holds_one(table: Table) -> None:
    table.put(A)
    too_long = {**B, "text": "x" * 40_000}
    with pytest.raises(EntityRefused) as refusal:
        table.commit([replacing(A), replacing(too_long)])
    assert (refusal.value.index, refusal.value.code) == (1, "PropertyValueTooLarge")


def test_error_is_ours_when_a_row_to_delete_is_gone_already(table: Table) -> None:
    table.put(A)
    with pytest.raises(EntityRefused) as refusal:
        table.commit([replacing(A), deleting(B)])
    assert refusal.value.index == 1


# Faults


def test_every_operation_is_repeated_when_storage_is_busy(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    proxied_table.put(A)
    proxy.on(answer(503), times=2)
    proxied_table.commit([replacing(B)])
    proxy.on(answer(503), times=1)
    assert proxied_table.get("1", "a")
    proxy.on(answer(503), times=1)
    assert rows(proxied_table) == ["a", "b"]
    assert clock.slept == [0.25, 0.5, 0.25, 0.25]


def test_operation_fails_with_a_plain_sentence_when_storage_stays_busy(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    proxy.on(answer(503))
    with pytest.raises(StorageError, match=r"^Table Storage failed \(HTTP 503, .*\)$") as failure:
        proxied_table.get("1", "a")
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert failure.value.__cause__ is None
    assert "devstoreaccount1" not in str(failure.value)


def test_batch_is_repeated_when_its_answer_was_lost(proxied_table: Table, proxy: TableProxy) -> None:
    proxied_table.put(A)
    proxy.on(lose_answer, kind="write runs", times=1)
    proxied_table.commit([replacing(B)])
    assert rows(proxied_table) == ["a", "b"]
    assert sum(request.is_batch for request in proxy.requests) == 2


@pytest.mark.filterwarnings("ignore:Testing an element:DeprecationWarning")  # the SDK's own slip
def test_credentials_are_named_when_storage_refuses_them(
    table: Table, azurite: Azurite, clock: Clock
) -> None:
    table.put(A)
    wrong_key = re.sub("AccountKey=[^;]*", "AccountKey=d3Jvbmc=", azurite.connection_string)
    client = TableClient.from_connection_string(wrong_key, "Any", retry_total=0)
    with pytest.raises(StorageError, match="TABLES_CONNECTION_STRING") as failure:
        Table(client, sleep=clock.sleep).get("1", "a")
    assert clock.slept == []
    assert "d3Jvbmc" not in str(failure.value)
