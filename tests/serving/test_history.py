"""Pages of the history: newest first across catalogs, each entry on one page, read lazily."""

import asyncio
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.domain.changes import Entry
from shared.domain.query import ChangesQuestion
from shared.errors import BadRequest, NotFound, StorageError
from shared.serving.history import READING_S, ChangesReader, Page
from shared.storage.history import Published
from tests.serving.fakes import NOW, House

ID = "b037c108-f9dc-5703-9a17-0dc39c70d2d2"


def entry(key: str, **fields: Any) -> Entry:
    return Entry(**{"kind": "added", "courserun_key": key, "id": ID, **fields})


def published(minutes: float, *keys: str, generation: str = "g") -> Published:
    """Return the history row of a sync that published this many minutes ago."""
    return Published(NOW - timedelta(minutes=minutes), generation, tuple(map(entry, keys)))


def house_of(histories: dict[int, list[Published]]) -> House:
    house = House(sorted(histories) or [1])
    house.history.published = histories
    return house


def read(house: House, *, deadline: Deadline | None = None, **question: Any) -> Page:
    history: Any = house.history
    reader = ChangesReader(history, house.parts[1], pool=house.pool)
    return asyncio.run(reader.read(ChangesQuestion(**question), deadline or Deadline.after(10)))


def keys(page: Page) -> list[str]:
    return [each["courserunKey"] for each in page.entries]


def pages(house: House, **question: Any) -> list[list[str]]:
    """Follow the cursors to the end."""
    found, page = [], read(house, **question)
    found.append(keys(page))
    while page.cursor:
        page = read(house, **question, cursor=page.cursor)
        found.append(keys(page))
    return found


def test_entries_are_as_documented_and_newest_first() -> None:
    house = House([1])
    change = {"price": {"before": "150.00", "after": "99.00"}, "modularCredit": {"after": 2}}
    house.history.published = {
        1: [
            Published(NOW - timedelta(days=2), "a", (Entry(kind="first-sync", runs=225),)),
            Published(
                datetime(2026, 2, 28, 12, 7, 3, 999_999, tzinfo=UTC),
                "b",
                (
                    entry("A", kind="changed", fields=change, note="decided on 1 March"),
                    entry("B", kind="removed", reason="missing"),
                ),
            ),
        ]
    }
    assert read(house) == Page(
        [
            {
                "at": "2026-02-28T12:07:03Z", "catalogId": 1, "courserunKey": "A", "id": ID,
                "kind": "changed", "fields": change, "note": "decided on 1 March",
            },
            {
                "at": "2026-02-28T12:07:03Z", "catalogId": 1, "courserunKey": "B", "id": ID,
                "kind": "removed", "reason": "missing",
            },
            {"at": "2026-02-27T12:00:00Z", "catalogId": 1, "kind": "first-sync", "runs": 225},
        ],
        None,
    )  # fmt: skip


def test_entries_of_several_catalogs_are_one_list_by_time_then_by_catalog() -> None:
    house = house_of({2: [published(1, "c"), published(3, "e")], 1: [published(1, "b"), published(2, "d")]})
    assert keys(read(house)) == ["b", "c", "d", "e"]
    assert keys(read(house, catalog_id=2)) == ["c", "e"]
    assert read(house, since=NOW - timedelta(minutes=2)).entries[-1]["courserunKey"] == "d"


def test_run_is_found_by_its_key_and_by_its_key_with_spaces_for_plus_signs() -> None:
    house = house_of({1: [published(1, "course-v1:A+B+C", "other"), published(2, "course-v1:A+B+C")]})
    for key in ("course-v1:A+B+C", "course-v1:A B C"):
        assert keys(read(house, courserun_key=key)) == ["course-v1:A+B+C"] * 2
    assert read(house, courserun_key="never was") == Page([], None)


def test_catalog_is_not_found_when_it_is_not_ours() -> None:
    with pytest.raises(NotFound, match=r"^the catalog is not found$"):
        read(house_of({1: []}), catalog_id=2)


def test_history_is_empty_when_no_catalog_is_known() -> None:
    house = House()
    house.catalogs.list = None
    assert read(house) == Page([], None)
    assert house.catalogs.asked == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_pages_have_every_entry_once_and_the_last_one_has_no_next(limit: int) -> None:
    house = house_of(
        {
            1: [published(1, "a", "b", "c"), published(2, "f"), published(2, "x", generation="h")],
            2: [published(1, "d", "e"), published(9, "g")],
        }
    )
    found = pages(house, limit=limit)
    assert sorted(key for page in found for key in page) == ["a", "b", "c", "d", "e", "f", "g", "x"]
    assert [key for page in found for key in page][:5] == ["a", "b", "c", "d", "e"]
    assert {len(page) for page in found[:-1]} <= {limit}
    assert found[-1] != []


def test_next_page_begins_where_the_last_one_ended_when_a_sync_has_published_between_them() -> None:
    house = house_of({1: [published(1, "a", "b", "c")]})
    page = read(house, limit=2)
    house.history.published[1].append(published(0, "new"))
    assert keys(read(house, limit=2, cursor=page.cursor)) == ["c"]


@pytest.mark.parametrize("length", range(1, 13))
def test_next_page_is_found_when_the_cursor_has_any_length(length: int) -> None:
    house = house_of({1: [published(1, "a", "b", generation="g" * length)]})
    assert pages(house, limit=1) == [["a"], ["b"]]


@pytest.mark.parametrize("begins", [0, 998_000, 999_000])
@pytest.mark.parametrize("later", [5, 999])
def test_no_entry_is_lost_when_two_catalogs_have_published_in_the_same_millisecond(
    begins: int, later: int
) -> None:
    first = NOW + timedelta(microseconds=begins)
    house = house_of({1: [Published(first, "g", (entry("a"),))]})
    house.history.published[2] = [Published(first + timedelta(microseconds=later), "g", (entry("b"),))]
    house.catalogs.list = CatalogList((1, 2), NOW)
    assert pages(house, limit=1) == [["a"], ["b"]]


def test_no_entry_is_lost_when_a_catalog_has_published_twice_in_two_milliseconds() -> None:
    house = house_of(
        {
            1: [
                Published(NOW + timedelta(milliseconds=at), generation, (entry(f"{at}"),))
                for at, generation in enumerate("abcd")
            ]
        }
    )
    assert pages(house, limit=1) == [["3"], ["2"], ["1"], ["0"]]


def test_page_has_no_next_when_only_other_runs_follow() -> None:
    house = house_of({1: [published(1, "a"), published(2, "b"), published(3, "b")]})
    assert read(house, courserun_key="a", limit=1).cursor is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5), st.integers(1, 3)), max_size=8),
    st.integers(1, 5),
)
def test_no_entry_is_lost_or_shown_twice(syncs: list[tuple[int, int, int]], limit: int) -> None:
    histories: dict[int, list[Published]] = {1: [], 2: [], 3: []}
    every = []
    for number, (catalog_id, minutes, entries) in enumerate(syncs):
        names = [f"{number}-{each}" for each in range(entries)]
        histories[catalog_id].append(published(minutes, *names, generation=f"g{number}"))
        every += names
    house = house_of(histories)
    shown = [key for page in pages(house, limit=limit) for key in page]
    assert sorted(shown) == sorted(every)


def test_only_as_many_entries_are_read_as_a_page_needs() -> None:
    house = house_of({1: [published(minutes, f"a{minutes}") for minutes in range(1, 2_000)]})
    assert keys(read(house, limit=3)) == ["a1", "a2", "a3"]
    assert house.history.read == 4


def test_page_ends_early_and_the_next_continues_when_reading_takes_too_long() -> None:
    times_s = count(step=READING_S)
    house = house_of({1: [published(1, "a"), published(2, "b"), published(3, "wanted")]})
    page = read(house, deadline=Deadline(10 * READING_S, lambda: next(times_s)), courserun_key="wanted")
    assert page.entries == []
    assert page.cursor
    assert [key for each in pages(house, courserun_key="wanted") for key in each] == ["wanted"]


@pytest.mark.parametrize(
    "cursor",
    ["x", "!!", "é", "a" * 300, "MQ", urlsafe_b64encode(b"2026-13-01T00:00:00+00:00|1|g|0").decode(),
     urlsafe_b64encode(b"2026-01-01T00:00:00+00:00|1|' or 1 eq 1|0").decode(),
     urlsafe_b64encode(b"0001-01-01T00:00:00+14:00|1|g|0").decode()],
)  # fmt: skip
def test_cursor_is_refused_when_it_is_malformed(cursor: str) -> None:
    with pytest.raises(BadRequest, match=r"^cursor must be taken from the Link header of an earlier answer$"):
        read(house_of({1: []}), cursor=cursor)


def test_storage_is_named_when_the_history_cannot_be_read() -> None:
    house = house_of({1: []})
    house.history.failure = StorageError("Table Storage failed (503)")
    with pytest.raises(StorageError, match="503"):
        read(house)
