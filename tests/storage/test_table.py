"""One table on Azurite: it is created when missing, and operations are retried."""

import re
from collections.abc import Callable
from itertools import count

import pytest
from azure.data.tables import TableClient

from local.azurite import Azurite
from shared.errors import StorageError
from shared.storage.failures import ConditionFailed, EntityRefused
from shared.storage.table import (
    Operation,
    Patience,
    Table,
    deleting,
    merging,
    replacing,
    replacing_unchanged,
)
from tests.clock import Clock
from tests.table_proxy import Exchange, TableProxy, answer, forged_page, lose_answer, refuse_in_batch

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


def test_property_is_removed_when_an_entity_is_replaced_and_stays_when_it_is_merged(table: Table) -> None:
    table.put({**A, "x": 1, "y": 1})
    table.commit([merging({**A, "y": 2})])
    merged = table.get("1", "a")
    table.commit([replacing({**A, "y": 3})])
    replaced = table.get("1", "a")
    table.put({**A, "z": 4})
    assert merged == {**A, "x": 1, "y": 2}
    assert replaced == {**A, "y": 3}
    assert table.get("1", "a") == {**A, "z": 4}


def test_keys_with_quotes_are_read_and_written(table: Table) -> None:
    table.put({"PartitionKey": "o'clock", "RowKey": "it's"})
    assert table.get("o'clock", "it's")
    assert [each["RowKey"] for each in table.query("PartitionKey eq @p", {"p": "o'clock"})] == ["it's"]


def test_query_returns_all_in_order_without_pauses_when_there_are_several_pages(
    table: Table, clock: Clock
) -> None:
    keys = [f"{number:04}" for number in range(1001)]
    for start in range(0, 1001, 100):
        table.commit([replacing({"PartitionKey": "1", "RowKey": key}) for key in keys[start : start + 100]])
    assert rows(table) == keys
    assert clock.slept == []


def test_requests_to_storage_are_not_logged(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    table.put(A)
    assert caplog.messages == []


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
        etag = table.commit([deleting(B), replacing_unchanged({**A, "x": number}, etag)])


def test_refusal_has_the_position_of_the_entity_when_a_batch_is_refused(table: Table) -> None:
    table.put(A)
    too_long = {**B, "text": "x" * 40_000}
    with pytest.raises(EntityRefused) as refusal:
        table.commit([replacing(A), replacing(too_long)])
    assert (refusal.value.index, refusal.value.code) == (1, "PropertyValueTooLarge")


def test_storage_error_is_raised_when_a_row_to_delete_does_not_exist(table: Table) -> None:
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
    with pytest.raises(
        StorageError, match=r"^Table Storage at 127\.0\.0\.1:\d+ failed \(HTTP 503, ServerBusy\)$"
    ) as failure:
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


@pytest.mark.filterwarnings("ignore:Testing an element:DeprecationWarning")  # a bug in the SDK
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


# Invalid answers of storage


def test_query_that_finds_nothing_ends_without_a_pause(table: Table, clock: Clock) -> None:
    table.put(A)
    assert list(table.query("PartitionKey eq @p", {"p": "2"})) == []
    assert clock.slept == []


def test_query_fails_when_storage_repeats_a_continuation_token(
    proxied_table: Table, proxy: TableProxy
) -> None:
    proxied_table.put(A)
    proxy.on(forged_page, kind="read runs")
    with pytest.raises(StorageError, match="answered a query with the same page again and again"):
        rows(proxied_table)
    assert len(proxy.queries()) == 2


def page(exchange: Exchange, keys: list[str], token: str) -> None:
    """Send a page with these row keys; with a token, the query goes on."""
    entities = ",".join(f'{{"PartitionKey":"1","RowKey":"{key}"}}' for key in keys)
    body = f'{{"value":[{entities}]}}'.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if token:
        head += f"x-ms-continuation-NextPartitionKey: 1\r\nx-ms-continuation-NextRowKey: {token}\r\n"
    exchange.send(f"{head}\r\n".encode(), body)


def test_query_fails_when_storage_repeats_a_page_with_another_token(
    proxied_table: Table, proxy: TableProxy
) -> None:
    numbers = count()
    proxy.on(lambda exchange: page(exchange, ["a", "b"], f"{next(numbers)}"))
    with pytest.raises(StorageError, match="answered a query with the same page again and again"):
        rows(proxied_table)
    assert len(proxy.queries()) == 2


def test_query_returns_all_when_there_is_an_empty_page_before_every_other(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    numbers = count(1)

    def next_page(exchange: Exchange) -> None:
        number = next(numbers)
        page(exchange, [] if number % 2 else [f"{number:02}"], f"{number}" if number < 20 else "")

    proxy.on(next_page)
    assert rows(proxied_table) == [f"{number:02}" for number in range(2, 21, 2)]
    assert clock.slept == [0.25] * 10


def test_query_fails_when_storage_sends_only_empty_pages(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    numbers = count()
    proxy.on(lambda exchange: page(exchange, [], f"{next(numbers)}"))
    with pytest.raises(StorageError, match="same page again and again"):
        rows(proxied_table)
    assert len(proxy.queries()) <= 20
    assert clock.slept


@pytest.mark.parametrize(
    "act",
    [
        lambda table: table.insert(A),
        lambda table: table.put(A),
        lambda table: table.commit([replacing(A)]),
    ],
    ids=["insert", "put", "commit"],
)
def test_write_ends_within_15_seconds_when_the_table_is_being_deleted(
    proxied_table: Table, proxy: TableProxy, clock: Clock, act: Callable[[Table], object]
) -> None:
    proxy.on(answer(404, "TableNotFound"), kind="read.*")
    proxy.on(answer(409, "TableBeingDeleted"))
    with pytest.raises(StorageError, match=r"failed \(HTTP 409, "):
        act(proxied_table)
    assert sum(clock.slept) <= 15
    assert len(proxy.requests) <= 20


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[]", "cannot be read"),
        (b"null", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"PartitionKey":"1","RowKey":"b","odata.etag":"e"}', "cannot be read"),
        (b'{"PartitionKey":"1","RowKey":"a"}', "cannot be read"),
        (b'{"PartitionKey":"1","RowKey":"a","odata.etag":""}', "cannot be read"),
        (b'{"PartitionKey":"1","RowKey":"a","odata.etag":7}', "cannot be read"),
        (b'{"PartitionKey":"2","RowKey":"a","odata.etag":"e"}', "cannot be read"),
        (b"<html>", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_reading_fails_when_the_answer_is_not_the_entity(
    proxied_table: Table, proxy: TableProxy, clock: Clock, body: bytes, problem: str
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    proxy.on(lambda exchange: exchange.send(head.encode(), body))
    with pytest.raises(StorageError, match=problem):
        proxied_table.get("1", "a")
    assert sum(clock.slept) <= 15


@pytest.mark.parametrize("entity", ["7", "{}", '{"PartitionKey":1,"RowKey":"a"}', '{"PartitionKey":"1"}'])
def test_query_fails_when_an_entity_has_no_key(proxied_table: Table, proxy: TableProxy, entity: str) -> None:
    body = f'{{"value":[{entity}]}}'.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    proxy.on(lambda exchange: exchange.send(head.encode(), body))
    with pytest.raises(StorageError, match="cannot be read"):
        rows(proxied_table)


@pytest.mark.parametrize("status", [200, 202])
def test_batch_fails_when_its_answer_has_no_results(
    proxied_table: Table, proxy: TableProxy, status: int
) -> None:
    proxied_table.put(A)
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Length: 7\r\n\r\n"
    proxy.on(lambda exchange: exchange.send(head.encode(), b"--b--\r\n"))
    with pytest.raises(StorageError, match="cannot be read"):
        proxied_table.commit([replacing(A)])


def without_first_result(exchange: Exchange) -> None:
    """Leave the result of the first operation out of the answer to a batch."""
    head, body = exchange.forward()
    boundary = re.search(rb"boundary=(changeset\w+)", body)
    assert boundary
    mark = b"--" + boundary[1]
    start, _, *rest = body.split(mark)
    body = mark.join([start, *rest])
    exchange.send(re.sub(rb"(?i)(content-length: )\d+", b"\\g<1>%d" % len(body), head), body)


def test_batch_fails_when_its_answer_has_fewer_results_than_operations(
    proxied_table: Table, proxy: TableProxy
) -> None:
    proxied_table.put(A)
    rule = proxy.on(without_first_result, kind="write runs")
    with pytest.raises(StorageError, match="cannot be read"):
        proxied_table.commit([replacing(A), replacing(B)])
    assert rule.fired


@pytest.mark.parametrize("named", ["2:No.", "7:No.", "No.", "-1:No.", "0x0:No."])
def test_index_is_none_when_storage_names_no_operation_of_the_batch(
    proxied_table: Table, proxy: TableProxy, named: str
) -> None:
    proxied_table.put(A)

    def refuse(exchange: Exchange) -> None:
        refuse_in_batch(0)(exchange)
        exchange.sent = exchange.sent.replace(b"0:No.", named.encode().ljust(5))

    proxy.on(refuse)
    with pytest.raises(EntityRefused) as refusal:
        proxied_table.commit([replacing(A), replacing(B)])
    assert refusal.value.index is None


def test_404_is_not_a_refusal_when_the_batch_deletes_nothing(proxied_table: Table, proxy: TableProxy) -> None:
    proxied_table.put(A)
    proxy.on(refuse_in_batch(0, "ResourceNotFound", 404), kind="write runs")
    with pytest.raises(StorageError, match="HTTP 404, ResourceNotFound") as failure:
        proxied_table.commit([replacing(A)])
    assert not isinstance(failure.value, EntityRefused)


@pytest.mark.parametrize(
    ("operations", "named", "kind"),
    [
        ([replacing(A), deleting(B)], b"1:No.", EntityRefused),
        ([replacing(A), deleting(B)], b"No.", EntityRefused),
        ([replacing(A), deleting(B)], b"0:No.", StorageError),
        ([deleting(B), replacing_unchanged(A, "e")], b"1:No.", ConditionFailed),
        ([deleting(B), replacing_unchanged(A, "e")], b"No.", EntityRefused),
        ([replacing(B), replacing_unchanged(A, "e")], b"No.", ConditionFailed),
    ],
)
def test_404_is_about_the_named_operation_or_else_about_one_that_needs_its_entity(
    proxied_table: Table,
    proxy: TableProxy,
    operations: list[Operation],
    named: bytes,
    kind: type[StorageError],
) -> None:
    proxied_table.put(A)

    def refuse(exchange: Exchange) -> None:
        refuse_in_batch(0, "ResourceNotFound", 404)(exchange)
        exchange.sent = exchange.sent.replace(b"0:No.", named.ljust(5))

    proxy.on(refuse, kind="(write|remove) runs")
    with pytest.raises(StorageError, match=r"refused the request \(HTTP 404, ResourceNotFound\)") as failure:
        proxied_table.commit(operations)
    assert type(failure.value) is kind


def test_condition_fails_when_the_guarded_entity_does_not_exist(table: Table) -> None:
    etag = table.insert(A)
    assert etag
    table.commit([deleting(A)])
    with pytest.raises(ConditionFailed):
        table.commit([replacing(B), replacing_unchanged(A, etag)])
    assert rows(table) == []


# Retry-After and the bound on tries


@pytest.mark.parametrize(("jitter", "first_s"), [(0.0, 0.125), (0.5, 0.1875), (1.0, 0.25)])
def test_step_has_six_tries_with_pauses_that_double(clock: Clock, jitter: float, first_s: float) -> None:
    patience = Patience(clock.monotonic, clock.sleep, lambda: jitter)
    while patience.pause():
        pass
    assert clock.slept == [first_s * doubled for doubled in (1, 2, 4, 8, 16)]


def test_timeouts_of_a_try_are_the_rest_of_the_step_and_at_least_a_second(clock: Clock) -> None:
    patience = Patience(clock.monotonic, clock.sleep, lambda: 1.0)
    seen = []
    for passed_s in (0, 6, 5, 3, 2):
        clock.pass_s(passed_s)
        seen.append(tuple(patience.timeouts().values()))
    assert seen == [(5, 10), (5, 9), (4, 4), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("retry_after", "slept"),
    [
        ("3", [3, 3, 3, 3, 4]),
        ("5", [5, 5, 5]),
        ("3600", [5, 5, 5]),
        ("9" * 400, [5, 5, 5]),
        ("0", [0.25, 0.5, 1, 2, 4]),
        ("soon", [0.25, 0.5, 1, 2, 4]),
        ("-1", [0.25, 0.5, 1, 2, 4]),
    ],
)
def test_pauses_are_as_long_as_storage_asks_and_end_within_15_seconds(
    proxied_table: Table, proxy: TableProxy, clock: Clock, retry_after: str, slept: list[float]
) -> None:
    proxy.on(answer(503, retry_after=retry_after))
    with pytest.raises(StorageError, match="HTTP 503"):
        proxied_table.get("1", "a")
    assert clock.slept == slept[: len(clock.slept)]
    assert sum(clock.slept) <= 15
    assert len(clock.slept) >= 3
    assert len(proxy.requests) == len(clock.slept) + 1
