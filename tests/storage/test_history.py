"""The history on Azurite: changes become visible together with the published state, or never."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.data.tables import TableClient, UpdateMode

from shared.domain.attempts import FinishedSync
from shared.domain.changes import Entry
from shared.storage.history import History, Published, change_rows
from shared.storage.store import CatalogStore
from shared.storage.table import Table, replacing
from shared.storage.tables import Tables
from tests.clock import Clock
from tests.storage.syncs import NOW, ONE_RUN, begin, publish, take
from tests.table_proxy import TableProxy, answer

DAY = timedelta(days=1)
KEY = "course-v1:NUSx+A1x+1T2026"
CHANGED = Entry(
    kind="changed",
    courserun_key=KEY,
    id="6a0c0d5e-64a5-5d3b-a1b6-c4ac1c4d4b0f",
    fields={"price": {"before": "150.00", "after": "99.00"}, "modularCredit": {"after": 2}},
    note="Déjà approved",
)
REMOVED = Entry(kind="removed", courserun_key=KEY, id="6a0c0d5e-64a5-5d3b-a1b6-c4ac1c4d4b0f", reason="ended")


@pytest.fixture
def history(tables: Tables) -> History:
    return tables.history


def entry(number: int) -> Entry:
    return Entry(kind="added", courserun_key=f"NUSx/{number}/1", id=f"id-{number}")


def row_keys(client: TableClient) -> list[str]:
    return [str(entity["RowKey"]) for entity in client.list_entities() if "changes" in str(entity["RowKey"])]


def moments(pages: Iterator[Published]) -> list[datetime]:
    return [published.at for published in pages]


def test_note_that_is_not_unicode_does_not_stop_the_sync(store: CatalogStore, history: History) -> None:
    publish(store, at=NOW, changes=[replace(CHANGED, note="caf\udce9")])
    (published,) = history.pages(1)
    assert published.entries[0].note == "caf?"


def test_entries_are_read_as_they_were_published(store: CatalogStore, history: History) -> None:
    first = Entry(kind="first-sync", runs=225)
    head = publish(store, at=NOW, changes=[first])
    second = publish(store, at=NOW + DAY, changes=[CHANGED, REMOVED])
    assert list(history.pages(1)) == [
        Published(NOW + DAY, second.generation, (CHANGED, REMOVED)),
        Published(NOW, head.generation, (first,)),
    ]
    assert list(history.pages(12)) == []


def test_row_has_the_documented_form() -> None:
    row, parts = change_rows("1", NOW, "g1", [Entry(kind="first-sync", runs=5), CHANGED, REMOVED])
    assert row
    assert parts == []
    text = zlib.decompress(row.pop("data00"))
    assert row.pop("checksum")
    assert row == {
        "PartitionKey": "1",
        "RowKey": "changes-98227633600000-g1",
        "at": "2026-03-01T12:00:00+00:00",
        "generation": "g1",
    }
    run = f'"key":"{KEY}","id":"6a0c0d5e-64a5-5d3b-a1b6-c4ac1c4d4b0f"'
    fields = '{"price":{"before":"150.00","after":"99.00"},"modularCredit":{"after":2}}'
    assert text.decode() == (
        '[{"kind":"first-sync","runs":5},'
        f'{{"kind":"changed",{run},"fields":{fields},"note":"Déjà approved"}},'
        f'{{"kind":"removed",{run},"reason":"ended"}}]'
    )


def test_only_the_keys_of_rows_that_may_be_removed_are_read(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    publish(proxied_tables.catalogs)
    kinds = [request.kind for request in proxy.requests if request.is_query]
    assert kinds == ["find parts", "find old changes"]
    selected = [parse_qs(urlsplit(query).query)["$select"] for query in proxy.queries()]
    assert selected == [["PartitionKey,RowKey"]] * 2


def test_no_entry_is_stored_when_a_sync_changed_nothing(
    store: CatalogStore, history: History, runs_client: TableClient
) -> None:
    publish(store, changes=[])
    assert list(history.pages(1)) == []
    assert row_keys(runs_client) == []


def test_entries_are_newest_first_and_not_older_than_requested(
    store: CatalogStore, history: History, clock: Clock
) -> None:
    for days in (0, 2, 1, 3):
        publish(store, at=NOW + days * DAY, changes=[entry(days)])
    clock.pass_s(4 * 86_400)
    every = [NOW + days * DAY for days in (3, 2, 1, 0)]
    assert moments(history.pages(1)) == every
    assert moments(history.pages(1, NOW + DAY)) == every[:3]
    assert moments(history.pages(1, NOW + DAY + timedelta(microseconds=1))) == every[:2]
    assert moments(history.pages(1, None, NOW + 2 * DAY)) == every[1:]
    assert moments(history.pages(1, None, NOW + 2 * DAY - timedelta(microseconds=1))) == every[2:]
    assert moments(history.pages(1, NOW + DAY, NOW + 2 * DAY)) == every[1:3]
    assert moments(history.pages(1, NOW + 9 * DAY)) == []


def test_entries_are_shown_for_90_days_and_removed_by_the_next_change(
    store: CatalogStore, history: History, runs_client: TableClient, clock: Clock
) -> None:
    publish(store, at=NOW, changes=incompressible_entries())
    publish(store, at=NOW + DAY, changes=[CHANGED])
    clock.pass_s(90 * 86_400)
    assert moments(history.pages(1)) == [NOW + DAY, NOW]
    clock.pass_s(1)
    assert moments(history.pages(1)) == [NOW + DAY]
    assert moments(history.pages(1, NOW)) == [NOW + DAY]
    assert len(row_keys(runs_client)) > 3  # two rows, and the parts of the first
    publish(store, at=clock.now(), changes=[REMOVED])
    assert moments(history.pages(1)) == [clock.now(), NOW + DAY]
    assert len(row_keys(runs_client)) == 2


def test_small_change_is_written_in_the_batch_that_replaces_the_head(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    writer = begin(proxied_tables.catalogs)
    proxy.requests.clear()
    writer.publish(
        None, ONE_RUN, {}, at=NOW, synced_at=NOW, unidentified=0, is_success=True, changes=[CHANGED],
        finished=FinishedSync("done"),
    )  # fmt: skip
    # At 1,772,366,400,000 ms after the epoch.
    assert [key.partition("-sync")[0] for key in proxy.requests[-1].row_keys] == [
        "published", "changes-98227633600000", "lease",
    ]  # fmt: skip


def incompressible_entries() -> list[Entry]:
    """Entries with keys that do not compress well, so that they do not fit an entity."""
    keys = (blake2b(b"%d" % number, digest_size=20).hexdigest() for number in range(40_000))
    return [Entry(kind="added", courserun_key=key, id="x") for key in keys]


def test_large_change_is_visible_only_after_the_head_was_replaced(
    proxied_tables: Tables, proxy: TableProxy, history: History, runs_client: TableClient
) -> None:
    many = incompressible_entries()
    writer = begin(proxied_tables.catalogs)
    rule = proxy.on(answer(400, "InvalidInput"), kind="write head")
    details: dict[str, Any] = {
        "at": NOW, "synced_at": NOW, "unidentified": 0, "is_success": True, "changes": many,
    }  # fmt: skip
    with pytest.raises(Exception, match="InvalidInput"):
        writer.publish(None, ONE_RUN, {}, **details)
    assert rule.fired
    assert row_keys(runs_client)
    assert list(history.pages(1)) == []
    proxy.rules.clear()
    writer.publish(None, ONE_RUN, {}, **details)
    (published,) = history.pages(1)
    assert published.entries == tuple(many)


def test_only_the_requested_pages_are_read(table: Table, proxied_tables: Tables, proxy: TableProxy) -> None:
    for number in range(45):
        row, _ = change_rows("1", NOW - timedelta(minutes=number), f"g{number}", [entry(number)])
        assert row
        table.put(row)
    table.commit([replacing({"PartitionKey": "1", "RowKey": f"a{number:02}"}) for number in range(20)])
    pages = proxied_tables.history.pages(1)
    for number in range(20):
        assert next(pages).entries == (entry(number),)
    assert len(proxy.queries()) == 1
    assert len(list(pages)) == 25
    assert len(proxy.queries()) == 3


@pytest.mark.parametrize(
    "odd",
    [
        {"at": "yesterday"}, {"generation": 7}, {"checksum": ""}, {"data00": b"x"}, {"data00": "text"},
        {"parts": 2}, {"parts": "many"},
    ],
)  # fmt: skip
def test_row_is_ignored_when_its_format_is_unknown(
    store: CatalogStore, history: History, runs_client: TableClient, odd: dict[str, object]
) -> None:
    publish(store, at=NOW, changes=[CHANGED])
    publish(store, at=NOW + DAY, changes=[REMOVED])
    newest = row_keys(runs_client)[0]
    runs_client.update_entity({"PartitionKey": "1", "RowKey": newest, **odd}, UpdateMode.MERGE)
    assert moments(history.pages(1)) == [NOW]


def test_history_rows_are_not_course_runs_and_stay_when_old_parts_are_removed(
    store: CatalogStore, history: History
) -> None:
    for number in range(4):
        publish(store, at=NOW + number * DAY, changes=[entry(number)])
    assert list(store.runs(1)) == []
    assert len(list(history.pages(1))) == 4


def test_no_history_entry_is_left_when_the_writer_has_lost_its_lease(
    store: CatalogStore, history: History, table: Table, clock: Clock
) -> None:
    writer = begin(store)
    take(table, clock, "heir")
    with pytest.raises(Exception, match="another process now syncs"):
        writer.publish(
            None, ONE_RUN, {}, at=NOW, synced_at=NOW, unidentified=0, is_success=True, changes=[CHANGED]
        )
    assert list(history.pages(1)) == []


@pytest.mark.parametrize("odd", [{"kind": "renamed"}, {"kind": "removed", "reason": "moved"}])
def test_row_is_ignored_when_it_has_a_kind_or_reason_that_this_version_does_not_know(
    table: Table, history: History, odd: dict[str, Any]
) -> None:
    row, _ = change_rows("1", NOW, "g1", [Entry(**odd, courserun_key=KEY, id="x")])
    assert row
    table.put(row)
    assert list(history.pages(1)) == []
