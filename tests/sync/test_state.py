"""The stored state when a sync begins, from the published state or from the course runs."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from azure.data.tables import TableClient, UpdateMode

from shared.domain.comparison import UNPUBLISHED, UNREADABLE, Change
from shared.domain.course_run import MappedRun, course_run_id, stored_json
from shared.domain.published import WITHDRAWN, Body, Head, digest, render
from shared.storage.store import CatalogStore
from shared.storage.tables import Tables
from shared.sync.state import StoredState
from tests.mapped_runs import make_mapped, make_served
from tests.storage.syncs import NOW, begin, publish, store_runs
from tests.table_proxy import TableProxy

END = "2027-06-30T00:00:00Z"
A, B, C, D = (course_run_id(key) for key in "abcd")


def run(key: str, **fields: Any) -> MappedRun:
    return make_mapped(key, end_date=END, **fields)


def body_of(*keys: str) -> Body:
    return render([make_served(key, end_date=END) for key in keys], NOW)


def digest_of(mapped: MappedRun) -> bytes:
    return digest(mapped, stored_json(mapped.run))


def test_guard_counts_the_stored_runs_when_the_head_is_missing(
    store: CatalogStore, runs_client: TableClient
) -> None:
    store_runs(store, run("a"), run("b"), run("c", is_published=False))
    runs_client.delete_entity("1", "published")
    state = StoredState(store, 1, rebuild=False)
    assert state.counted == {A: END, B: END}
    assert state.digests == {
        A: digest_of(run("a")), B: digest_of(run("b")), C: digest_of(run("c", is_published=False)),
    }  # fmt: skip
    assert (state.head, state.is_rebuilt, state.was_never_published) == (None, True, False)


def test_catalog_was_never_published_when_nothing_is_stored_of_it(store: CatalogStore) -> None:
    state = StoredState(store, 1, rebuild=False)
    assert (state.counted, state.digests, state.was_never_published) == ({}, {}, True)


def test_nothing_is_published_when_the_first_sync_was_killed(store: CatalogStore) -> None:
    writer = begin(store, sync_id="killed")
    writer.put(run("a"), 100)
    writer.flush()
    state = StoredState(store, 1, rebuild=False)
    assert (list(state.digests), state.was_never_published) == ([A], True)


def test_catalog_counts_as_published_when_its_published_state_is_empty(store: CatalogStore) -> None:
    publish(store, body_of())
    state = StoredState(store, 1, rebuild=False)
    assert (state.counted, state.digests, state.was_never_published) == ({}, {}, False)


def test_catalog_counts_as_published_when_its_head_has_an_unknown_format(
    store: CatalogStore, runs_client: TableClient
) -> None:
    store_runs(store, run("a"))
    head = {"PartitionKey": "1", "RowKey": "published", "format": 99}
    runs_client.update_entity(head, UpdateMode.REPLACE)
    state = StoredState(store, 1, rebuild=False)
    assert (list(state.digests), state.was_never_published) == ([A], False)


def test_guard_counts_what_callers_saw_when_runs_were_written_and_not_published(store: CatalogStore) -> None:
    publish(store, body_of("a"), digests={A: digest_of(run("a"))})
    store_runs(store, run("a"), run("b"))
    state = StoredState(store, 1, rebuild=True)
    assert state.counted == {A: END}
    assert set(state.kept) == {A, B}


def test_guard_counts_the_published_body_when_the_last_successful_body_is_damaged(
    store: CatalogStore, runs_client: TableClient
) -> None:
    counted = publish(store, body_of("a"))
    publish(store, body_of("a", "b"), is_success=False)
    assert StoredState(store, 1, rebuild=False).counted == {A: END}
    runs_client.delete_entity("1", f"published-{counted.generation}-body-0000")
    assert StoredState(store, 1, rebuild=False).counted == {A: END, B: END}


def test_marks_are_kept_when_digests_are_computed_from_the_rows(store: CatalogStore) -> None:
    publish(
        store, body_of("a"), digests={A: UNREADABLE, B: UNPUBLISHED, C: UNPUBLISHED, D: UNPUBLISHED}
    )  # the last one has no row
    store_runs(store, run("a"), run("b", is_published=False), run("c", is_published=False))
    writer = begin(store)
    writer.withdraw([C], NOW)
    writer.release(writer.previous)
    assert StoredState(store, 1, rebuild=True).digests == {A: UNREADABLE, B: UNPUBLISHED, C: WITHDRAWN}


def test_mark_is_dropped_when_the_row_contradicts_it(store: CatalogStore) -> None:
    publish(store, body_of("a"), digests={A: UNPUBLISHED, B: UNREADABLE})
    store_runs(store, run("a"), run("b", is_published=False))
    assert StoredState(store, 1, rebuild=True).digests == {
        A: digest_of(run("a")), B: digest_of(run("b", is_published=False)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "key", "is_read"),
    [
        ("changed", "b", True),
        ("changed", "a", False),
        ("restored", "b", False),
        ("changed", "c", False),  # its row is missing
    ],
)
def test_stored_row_is_read_when_a_changed_run_is_not_in_the_body(
    store: CatalogStore, kind: Any, key: str, *, is_read: bool
) -> None:
    store_runs(store, run("a"), run("b"))
    publish(store, body_of("a"))
    state = StoredState(store, 1, rebuild=False)
    state.note_row_before(Change(kind, run(key, price="1.00"), 100))
    assert state.rows_before == ({B: make_served("b", end_date=END)} if is_read else {})


def test_bodies_are_read_at_their_first_use_and_once(proxied_tables: Tables, proxy: TableProxy) -> None:
    publish(proxied_tables.catalogs, body_of("a"))
    publish(proxied_tables.catalogs, body_of("a", "b"), is_success=False)
    proxy.requests.clear()
    state = StoredState(proxied_tables.catalogs, 1, rebuild=False)
    assert [request.kind for request in proxy.requests] == ["read head"]
    for _ in range(2):
        assert (set(state.body or ()), set(state.kept), set(state.counted)) == ({A, B}, {A, B}, {A})
    assert [request.kind for request in proxy.requests] == ["read head", "read body", "read body"]


def test_other_catalogs_are_not_delayed_when_the_read_of_one_is_slow(
    store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, body_of("a"))
    one, other = StoredState(store, 1, rebuild=False), StoredState(store, 1, rebuild=False)
    read, reading, other_is_read = store.body, Event(), Event()

    def slow(catalog_id: int, head: Head) -> bytes:
        if not reading.is_set():
            reading.set()
            assert other_is_read.wait(10)
        return read(catalog_id, head)

    monkeypatch.setattr(store, "body", slow)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(lambda: one.body)
        assert reading.wait(10)
        assert other.body is not None
        other_is_read.set()
        assert first.result() == other.body
