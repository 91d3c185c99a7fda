"""Reading, rendering, merging and unpacking are done once for concurrent callers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from shared.deadline import Deadline
from shared.domain.published import Head, render, unpack
from shared.errors import StorageError, SyncUnfinished
from shared.serving.editions import Edition
from shared.storage.store import StateDamaged
from tests.mapped_runs import make_served
from tests.serving.fakes import NOW, House

BEGINS = "2026-03-01T12:00:10Z"
SOON = 5.0


def soon() -> Deadline:
    return Deadline.after(SOON)


def crowd(ask: Callable[[], Awaitable[Any]], number: int = 20) -> list[Any]:
    async def together() -> list[Any]:
        return await asyncio.gather(*(ask() for _ in range(number)))

    return asyncio.run(together())


def edition(house: House) -> Edition:
    return asyncio.run(house.editions.of(1, house.store.heads.get(1), soon()))


def test_concurrent_callers_share_one_reading_and_one_rendering_when_a_run_begins() -> None:
    house = House()
    house.flights.work_lasts_s = 0.2
    house.store.publish(1, [make_served("a", start_date=BEGINS)])
    first = crowd(lambda: house.editions.of(1, house.store.heads[1], soon()))
    assert {each.body.tag for each in first} == {house.store.heads[1].tag}
    assert house.store.reads == ["body 1"]
    house.clock.pass_s(10)
    later = crowd(lambda: house.editions.of(1, house.store.heads[1], soon()))
    assert house.flights.started == [("edition", 1, "one")] * 2
    assert all(each.body is later[0].body for each in later)  # rendered once
    assert json.loads(unpack(later[0].body.packed))[0]["availability"] == "Current"
    assert house.store.reads == ["body 1"]  # rendered from what is in memory


def test_concurrent_callers_share_one_merge_and_one_unpacking() -> None:
    house = House([1, 2])
    house.flights.work_lasts_s = 0.2
    both = [Edition(at, "one", NOW, render([make_served("a"), make_served(f"b{at}")], NOW)) for at in (1, 2)]
    bodies = crowd(lambda: house.editions.merged(both, soon()))
    texts = crowd(lambda: house.editions.unpacked(bodies[0], soon()))
    merged, unpacked = ("merged", tuple(each.body.tag for each in both)), ("unpacked", bodies[0].tag)
    assert house.flights.started == [merged, unpacked]
    assert [run["courserunKey"] for run in json.loads(texts[0])] == ["a", "b1", "b2"]
    assert all(body is bodies[0] for body in bodies)
    assert all(text is texts[0] for text in texts)  # the same bytes in memory, not twenty copies
    assert asyncio.run(house.editions.merged(both, soon())) is bodies[0]
    assert house.flights.started == [merged, unpacked]
    assert unpack(asyncio.run(house.editions.merged(both[1:], soon())).packed) == unpack(both[1].body.packed)


def test_body_is_read_again_when_the_generation_has_changed() -> None:
    house = House()
    house.store.publish(1, [make_served("a")])
    edition(house)
    house.store.publish(1, [make_served("b")], generation="two")
    assert b'"b"' in unpack(edition(house).body.packed)


def test_reader_continues_with_the_next_generation_when_its_own_is_removed() -> None:
    house = House()
    house.store.publish(1, [make_served("a")])
    old = house.store.heads[1]
    house.store.publish(1, [make_served("b")], generation="two", at=NOW + timedelta(seconds=7))
    del house.store.bodies[1, "one"]
    found = asyncio.run(house.editions.of(1, old, soon()))
    assert (found.generation, b'"b"' in unpack(found.body.packed)) == ("two", True)
    assert found.synced_at == NOW + timedelta(seconds=7)


def test_reader_gives_up_after_three_tries_when_each_generation_is_removed_before_it_is_read() -> None:
    house, generations = House(), iter("abcdef")
    house.store.publish(1, [make_served("a")])

    def publish_another() -> None:
        house.store.bodies.clear()
        house.store.heads[1] = replace(house.store.heads[1], generation=next(generations))

    house.store.before_body = publish_another
    with pytest.raises(StateDamaged) as damaged:
        edition(house)
    assert damaged.value.message == (
        "The published state of catalog 1 changes faster than it can be read; ask again later"
    )
    assert house.store.reads.count("body 1") == 3


def test_reading_fails_as_unfinished_when_the_published_state_is_removed_meanwhile() -> None:
    house = House()
    house.store.publish(1, [make_served("a")])
    head = house.store.heads.pop(1)
    house.store.bodies.clear()
    with pytest.raises(SyncUnfinished):
        asyncio.run(house.editions.of(1, head, soon()))


def test_state_is_damaged_when_the_newest_generation_cannot_be_read() -> None:
    house = House()
    house.store.publish(1, [make_served("a")])
    house.store.bodies.clear()
    with pytest.raises(StateDamaged):
        edition(house)


@pytest.mark.parametrize("heads", [{}, {1: Head(writing="5d2f")}])
def test_reading_fails_when_no_sync_has_finished(heads: dict[int, Head]) -> None:
    house = House()
    house.store.heads = heads
    with pytest.raises(SyncUnfinished, match=r"^No sync of catalog 1 has finished yet; ask again later$"):
        edition(house)


def test_reader_waits_no_longer_than_its_deadline_when_storage_hangs() -> None:
    house, may_end = House(), Event()
    house.store.publish(1, [make_served("a")])

    def hang() -> None:
        may_end.wait(SOON)

    house.store.before_body = hang
    with pytest.raises(StorageError, match=r"^Table Storage could not be read within 1 s$"):
        asyncio.run(house.editions.of(1, house.store.heads[1], Deadline.after(0.1)))
    may_end.set()


def test_time_of_the_last_sync_is_shown_when_it_changed_nothing() -> None:
    house = House()
    house.store.publish(1, [make_served("a")])
    edition(house)
    house.clock.pass_s(5)
    house.store.publish(1, [make_served("a")], at=house.clock.now())
    assert edition(house).synced_at == house.clock.now()
    assert house.store.reads == ["body 1"]
