"""A damaged published state is rebuilt from the stored runs, or by a sync."""

import asyncio
import json

import pytest

from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.published import unpack
from shared.domain.query import Question
from shared.errors import CatalogsFailed, EdxUnavailable
from shared.serving.answering import Answering, Reader
from shared.serving.refreshing import Refresher
from shared.settings import SyncSettings
from shared.storage.store import StateDamaged
from shared.sync.run import Origin
from tests.mapped_runs import make_served
from tests.serving.fakes import House, Sync


@pytest.fixture
def house() -> House:
    """A catalog whose published body is missing."""
    house = House()
    house.store.publish(1, [make_served("a")])
    house.store.bodies.clear()
    return house


def ask(house: House, cache_control: str = "") -> list[str]:
    """Return the run keys in the answer."""
    _, catalogs, store = house.parts
    settings = SyncSettings()
    now = house.clock.now
    refresher = Refresher(store, catalogs, house.syncs, settings, pool=house.pool, now=now)
    answering = Answering(refresher, house.editions, settings, now=now)
    question = Question(None, None, parse_freshness(cache_control))
    answer = asyncio.run(answering.answer(question, Reader(), Origin("http"), Deadline.after(5)))
    assert answer.body
    return [run["courserunKey"] for run in json.loads(unpack(answer.body))]


def publish_again(house: House) -> None:
    house.store.publish(1, [make_served("a"), make_served("b")], generation="two")


def test_every_catalog_is_repaired_when_several_are_damaged() -> None:
    house = House([1, 2])
    states = {1: [make_served("a")], 2: [make_served("b")]}
    for catalog_id, runs in states.items():
        house.store.publish(catalog_id, runs)
    house.store.bodies.clear()
    repairs = iter(states.items())
    house.syncer.rebuild = lambda: house.store.publish(*next(repairs), generation="two")  # type: ignore[assignment]
    assert ask(house) == ["a", "b"]


def test_no_sync_starts_when_the_body_can_be_rebuilt_from_stored_runs(house: House) -> None:
    house.syncer.rebuild = lambda: publish_again(house)
    assert ask(house) == ["a", "b"]
    assert house.syncer.begun == []
    assert house.store.reads.count("body 1") == 2  # the damaged one and the new one


def test_catalog_is_synced_at_once_when_the_body_cannot_be_rebuilt_from_stored_runs(house: House) -> None:
    house.syncer.rebuilds = False
    house.syncer.syncs[1] = [lambda: publish_again(house)]
    assert ask(house) == ["a", "b"]
    assert house.syncer.begun == [(1, False)]  # requests without a directive respect the back-off


def test_edx_is_not_called_when_the_request_says_only_if_cached_and_the_body_cannot_be_rebuilt(
    house: House,
) -> None:
    house.syncer.rebuilds = False
    with pytest.raises(StateDamaged, match=r"^The published state of catalog 1 is incomplete$"):
        ask(house, "only-if-cached")
    assert house.syncer.begun == []


def test_body_is_rebuilt_only_once_when_that_fails_and_the_request_says_only_if_cached() -> None:
    house = House([1, 2])
    for catalog_id in (1, 2):
        house.store.publish(catalog_id, [make_served("a")])
    house.store.bodies.clear()
    house.syncer.rebuilds = False
    with pytest.raises(StateDamaged):
        ask(house, "only-if-cached")
    assert house.flights.started.count("republish-1") == 1


def test_error_names_the_catalog_when_the_sync_that_should_repair_it_fails(house: House) -> None:
    house.syncer.rebuilds = False
    house.syncer.syncs[1] = [Sync(EdxUnavailable("edX is away"))]
    with pytest.raises(CatalogsFailed) as failed:
        ask(house, "max-age=86400")
    assert failed.value.message == (
        "Catalog 1 could not be synced: edX is away. What was stored before is intact."
    )
    assert house.syncer.begun == [(1, True)]


def test_error_names_the_damage_when_the_state_is_still_damaged_after_it_was_rebuilt(house: House) -> None:
    with pytest.raises(StateDamaged) as damaged:
        ask(house)
    assert damaged.value.message == "The published state of catalog 1 is incomplete"
