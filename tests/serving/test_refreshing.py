"""When the list of catalogs and the catalogs are fetched for a request, and what it gets when that fails."""

import asyncio
from datetime import timedelta
from threading import Timer

import pytest

from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.domain.query import Question
from shared.errors import (
    ConnectorError,
    EdxThrottled,
    EdxUnavailable,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.serving.answering import Answer, Answering, Reader
from shared.serving.refreshing import Refresher, combined
from shared.settings import SyncSettings
from shared.sync.run import Origin
from tests.mapped_runs import make_served
from tests.serving.fakes import NOW, House, Sync

LATER = NOW + timedelta(hours=1)
AWAY = EdxUnavailable("edX is away", NOW + timedelta(minutes=1))
THROTTLED = EdxThrottled("the rate limit of edX is used up", LATER)


@pytest.fixture
def house() -> House:
    """Two catalogs, synced and listed now."""
    house = House([1, 2])
    house.store.publish(1, [make_served("a")])
    house.store.publish(2, [make_served("b")])
    return house


def ask(house: House, cache_control: str = "", catalog: int | None = None, *, seconds: float = 5) -> Answer:
    _, catalogs, store = house.parts
    settings, now = SyncSettings(fresh_for_s=900, stale_if_error_s=86_400), house.clock.now
    refresher = Refresher(store, catalogs, house.syncs, settings, pool=house.pool, now=now)
    answering = Answering(refresher, house.editions, settings, now=now)
    question = Question(catalog, None, parse_freshness(cache_control))
    return asyncio.run(answering.answer(question, Reader(), Origin("http"), Deadline.after(seconds)))


def failure(house: House, cache_control: str = "", catalog: int | None = None) -> ConnectorError:
    with pytest.raises(ConnectorError) as failed:
        ask(house, cache_control, catalog)
    return failed.value


# The list of catalogs


@pytest.mark.parametrize(
    ("age_s", "cache_control", "catalog", "asked"),
    [
        (899, "", None, []),
        (900, "", None, [False]),
        (900, "", 1, []),
        (0, "no-cache", None, [True]),
        (0, "no-cache", 1, []),
        (60, "max-age=60", None, [True]),
        (10**7, "only-if-cached", None, []),
    ],
)
def test_list_of_catalogs_is_fetched_when_it_is_too_old_and_the_request_needs_it(
    house: House, age_s: int, cache_control: str, catalog: int | None, asked: list[bool]
) -> None:
    house.catalogs.list = CatalogList((1, 2), NOW - timedelta(seconds=age_s))
    ask(house, cache_control, catalog)
    assert house.catalogs.asked == asked


@pytest.mark.parametrize(
    ("age_s", "cache_control", "asked"),
    [(899, "", []), (900, "", [False]), (0, "no-cache", [True]), (10**7, "only-if-cached", [])],
)
def test_catalog_that_the_list_lacks_is_not_found_and_the_list_is_fetched_when_it_is_too_old(
    house: House, age_s: int, cache_control: str, asked: list[bool]
) -> None:
    house.catalogs.list = CatalogList((1, 2), NOW - timedelta(seconds=age_s))
    assert isinstance(failure(house, cache_control, 9), NotFound)
    assert house.catalogs.asked == asked


def test_list_of_catalogs_is_not_fetched_when_none_is_known_and_the_request_says_only_if_cached(
    house: House,
) -> None:
    house.catalogs.list = None
    unfinished = failure(house, "only-if-cached", 1)
    assert isinstance(unfinished, SyncUnfinished)
    assert unfinished.message == "Nothing has been synced yet; ask again later"
    assert house.catalogs.asked == []


def test_answer_says_why_it_is_stale_when_the_list_of_catalogs_cannot_be_fetched(house: House) -> None:
    house.catalogs.list = CatalogList((1, 2), NOW - timedelta(seconds=900))
    house.catalogs.failure = AWAY
    answered = ask(house)
    assert (answered.cache_status, answered.retry_at) == (
        "hit; ttl=-1; detail=edx-unavailable",
        AWAY.retry_at,
    )


@pytest.mark.parametrize(
    ("age_s", "catalog"),
    [(900, 9), (86_401, None), (None, None), (None, 1)],  # edX may have added catalog 9 since
)
def test_request_fails_when_the_list_cannot_be_fetched_and_the_known_one_is_no_replacement(
    house: House, age_s: int | None, catalog: int | None
) -> None:
    house.catalogs.list = None if age_s is None else CatalogList((1, 2), NOW - timedelta(seconds=age_s))
    house.catalogs.failure = AWAY
    failed = failure(house, "", catalog)
    assert type(failed) is SyncError
    assert failed.message == (
        "The list of catalogs could not be fetched from edX: edX is away. What was stored before is intact."
    )
    assert failed.retry_at == AWAY.retry_at


def test_storage_is_named_when_it_cannot_keep_the_list_of_catalogs(house: House) -> None:
    house.catalogs.list = None
    house.catalogs.failure = StorageError("Table Storage failed (503)")
    failed = failure(house)
    assert isinstance(failed, StorageError)
    assert failed.message == "Table Storage failed (503). What was stored before is intact."


# The catalogs


@pytest.mark.parametrize(
    ("cache_control", "begun"),
    [("", [(1, False)]), ("max-age=900", [(1, True)]), ("max-age=901", []), ("only-if-cached", [])],
)
def test_only_the_catalogs_that_are_too_old_are_synced_and_eagerly_when_the_request_has_a_limit(
    house: House, cache_control: str, begun: list[tuple[int, bool]]
) -> None:
    house.store.publish(1, [make_served("a")], at=NOW - timedelta(seconds=900))
    ask(house, cache_control)
    assert house.syncer.begun == begun


def test_request_fails_when_its_only_catalog_has_not_been_synced_and_it_says_only_if_cached() -> None:
    unfinished = failure(House(), "only-if-cached")
    assert isinstance(unfinished, SyncUnfinished)
    assert unfinished.message == "No sync of catalog 1 has finished yet; ask again later"


def test_answer_has_the_first_reason_and_the_latest_retry_time_when_several_syncs_fail(house: House) -> None:
    house.clock.pass_s(1_000)
    house.syncer.syncs = {1: [Sync(THROTTLED)], 2: [Sync(AWAY)]}
    answered = ask(house, "max-age=60")
    assert (answered.cache_status, answered.retry_at) == ("hit; ttl=-940; detail=edx-throttled", LATER)


def test_request_fails_when_only_one_of_the_stored_catalogs_may_replace_its_failure(house: House) -> None:
    house.store.publish(2, [make_served("b")], at=NOW - timedelta(seconds=86_401))
    house.store.publish(1, [make_served("a")], at=NOW - timedelta(seconds=900))
    house.syncer.syncs = {1: [Sync(THROTTLED)], 2: [Sync(AWAY)]}
    failed = failure(house)
    assert failed.message == "Catalog 2 could not be synced: edX is away. What was stored before is intact."


def test_request_waits_again_for_a_running_sync_when_the_others_have_ended(house: House) -> None:
    house.clock.pass_s(1_000)
    slow = Sync(may_end=False)
    house.syncer.syncs = {1: [slow], 2: [lambda: Timer(0.1, slow.may_end.set).start()]}
    assert ask(house, "stale-if-error=0", seconds=1).cache_status == "fwd=stale; ttl=-100"


@pytest.mark.parametrize(
    ("failures", "asked_for", "message"),
    [
        ({7: NotFound("hidden")}, 7, "the catalog is not found"),
        ({1: NotFound("hidden"), 7: NotFound("hidden")}, None, "the catalog is not found: 1, 7"),
        (
            {1: NotFound("hidden"), 7: AWAY},
            None,
            (
                "Catalog 1 could not be synced: hidden. Catalog 7 could not be synced: edX is away. "
                "What was stored before is intact."
            ),
        ),
    ],
)
def test_message_names_the_catalogs_that_failed(
    failures: dict[int, ConnectorError], asked_for: int | None, message: str
) -> None:
    assert combined(failures, asked_for).message == message
