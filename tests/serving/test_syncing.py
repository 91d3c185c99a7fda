"""Shared syncs: each caller waits until its own deadline, and a sync continues when callers leave."""

import asyncio
import logging
import time
from datetime import timedelta
from threading import Timer

import pytest

from shared.deadline import Deadline
from shared.domain.attempts import Attempts
from shared.errors import ConnectorError, EdxUnavailable, NotFound, StorageError, SyncUnfinished
from shared.sync.run import Origin
from shared.sync.sync import BackingOff
from tests.serving.fakes import NOW, House, Sync

HTTP = Origin("http")
REMEMBERED = EdxUnavailable("edX is away", NOW + timedelta(minutes=1))


async def sync(house: House, seconds: float = 5, *, is_eager: bool = True) -> ConnectorError | None:
    try:
        await house.syncs.sync(1, HTTP, Deadline.after(seconds), is_eager=is_eager)
    except ConnectorError as error:
        return error
    return None


def test_sync_continues_and_others_get_its_result_when_the_time_of_one_caller_ends() -> None:
    house, slow = House(), Sync(may_end=False)
    house.syncer.syncs[1] = [slow]

    async def callers() -> tuple[ConnectorError | None, ConnectorError | None]:
        patient = asyncio.create_task(sync(house))
        hurried = await sync(house, 0.1)
        assert not patient.done()
        slow.may_end.set()
        return hurried, await patient

    hurried, patient = asyncio.run(callers())
    assert isinstance(hurried, SyncUnfinished)
    assert hurried.message == "the sync did not end within 1 s and continues; ask again later"
    assert patient is None
    assert house.syncer.begun == [(1, True)]


def test_caller_waits_until_its_own_deadline_when_it_joins_a_running_sync() -> None:
    house, slow = House(), Sync(may_end=False)
    house.syncer.syncs[1] = [slow]

    async def callers() -> tuple[float, ConnectorError | None]:
        await sync(house, 0.2)
        began = time.monotonic()
        late = await sync(house, 0.4)
        slow.may_end.set()
        return time.monotonic() - began, late

    waited_s, late = asyncio.run(callers())
    assert 0.35 < waited_s < 2
    assert isinstance(late, SyncUnfinished)
    assert len(house.syncer.begun) == 1


def test_no_sync_begins_when_no_time_is_left() -> None:
    house = House()
    unfinished = asyncio.run(sync(house, 0))
    assert isinstance(unfinished, SyncUnfinished)
    assert unfinished.message == "no time was left to start a sync of it; ask again later"
    assert house.syncer.begun == []


def test_log_lines_are_logged_in_the_task_that_waits_and_kept_when_it_has_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    house, slow = House(), Sync(may_end=False)

    def sync_and_say() -> None:
        house.outbox.say(logging.INFO, "begun")
        slow()
        house.outbox.say(logging.ERROR, "ended")

    house.syncer.syncs[1] = [sync_and_say]

    async def callers() -> list[str]:
        await sync(house, 0.2)
        seen = list(caplog.messages)
        slow.may_end.set()
        await asyncio.sleep(0.2)
        assert caplog.messages == seen
        house.outbox.flush()
        return seen

    assert asyncio.run(callers()) == ["begun"]
    assert caplog.messages == ["begun", "ended"]


def test_remembered_failure_is_raised_when_the_caller_is_not_eager() -> None:
    house = House()
    house.syncer.syncs[1] = [Sync(BackingOff(REMEMBERED))]
    assert asyncio.run(sync(house, is_eager=False)) is REMEMBERED
    assert house.syncer.begun == [(1, False)]


def test_eager_caller_starts_its_own_sync_when_the_shared_one_backed_off() -> None:
    house, backing_off = House(), Sync(BackingOff(REMEMBERED), may_end=False)
    house.syncer.syncs[1] = [backing_off, Sync()]

    async def callers() -> list[ConnectorError | None]:
        reserved = asyncio.create_task(sync(house, is_eager=False))
        await asyncio.to_thread(backing_off.has_begun.wait, 5)
        eager = asyncio.create_task(sync(house))
        await asyncio.sleep(0.1)
        backing_off.may_end.set()
        return [await reserved, await eager]

    assert asyncio.run(callers()) == [REMEMBERED, None]
    assert house.syncer.begun == [(1, False), (1, True)]


def test_eager_caller_gets_the_remembered_failure_when_no_time_is_left_to_try_again() -> None:
    house, time_s = House(), 0.0

    def back_off() -> None:
        nonlocal time_s
        time_s = 5
        raise BackingOff(REMEMBERED)

    house.syncer.syncs[1] = [back_off]
    with pytest.raises(EdxUnavailable) as failed:
        asyncio.run(house.syncs.sync(1, HTTP, Deadline(5, lambda: time_s), is_eager=True))
    assert failed.value is REMEMBERED
    assert len(house.syncer.begun) == 1


# Several catalogs


def in_turn(
    house: House, ids: list[int], seconds: float = 5, *, waits_to_the_end: bool = False
) -> dict[int, ConnectorError]:
    return asyncio.run(
        house.syncs.sync_in_turn(
            ids, HTTP, Deadline.after(seconds), is_eager=True, waits_to_the_end=waits_to_the_end
        )
    )


def test_catalog_with_the_oldest_last_attempt_is_synced_first() -> None:
    house = House([1, 2, 3, 4])
    house.store.attempts = {
        1: Attempts(attempted_at=NOW, succeeded_at=NOW),
        2: Attempts(attempted_at=NOW - timedelta(hours=1)),
        4: Attempts(attempted_at=NOW - timedelta(minutes=1), succeeded_at=NOW - timedelta(days=9)),
    }
    assert in_turn(house, [1, 2, 3, 4]) == {}
    assert [catalog_id for catalog_id, _ in house.syncer.begun] == [3, 2, 4, 1]


def test_catalogs_are_synced_in_the_order_of_their_ids_when_none_was_tried_before() -> None:
    house = House([1, 2, 3])
    assert in_turn(house, [3, 1, 2]) == {}
    assert [catalog_id for catalog_id, _ in house.syncer.begun] == [1, 2, 3]


def test_other_catalogs_get_their_share_of_the_time_when_one_sync_does_not_end() -> None:
    house, endless = House([1, 2, 3]), Sync(may_end=False)
    house.syncer.syncs = {1: [endless], 2: [Sync()], 3: [Sync(NotFound("the catalog is not found"))]}
    began = time.monotonic()
    failures = in_turn(house, [1, 2, 3], 3)
    assert 0.9 < time.monotonic() - began < 2
    assert {catalog_id: error.message for catalog_id, error in failures.items()} == {
        1: "the sync did not end within 1 s and continues; ask again later",
        3: "the catalog is not found",
    }
    assert [catalog_id for catalog_id, _ in house.syncer.begun] == [1, 2, 3]
    endless.may_end.set()


def test_catalog_is_synced_when_its_slow_sync_has_ended_before_the_others() -> None:
    house, slow = House([1, 2]), Sync(may_end=False)

    def other() -> None:
        slow.may_end.set()
        time.sleep(0.2)

    house.syncer.syncs = {1: [slow], 2: [other]}
    assert in_turn(house, [1, 2], 1) == {}


def test_request_waits_again_for_a_running_sync_when_the_others_have_ended() -> None:
    house, slow = House([1, 2]), Sync(may_end=False)

    def other() -> None:
        Timer(0.3, slow.may_end.set).start()

    house.syncer.syncs = {1: [slow], 2: [other]}
    assert in_turn(house, [1, 2], 2, waits_to_the_end=True) == {}


@pytest.mark.parametrize("failure", [REMEMBERED, BackingOff(REMEMBERED)])
def test_failure_of_a_slow_sync_is_returned_when_it_ends_after_its_share_of_the_time(
    failure: BaseException,
) -> None:
    house, slow = House([1, 2]), Sync(failure, may_end=False)
    house.syncer.syncs = {1: [slow], 2: [slow.may_end.set]}
    assert in_turn(house, [1, 2], 0.6, waits_to_the_end=True) == {1: REMEMBERED}


def test_error_has_the_time_of_all_catalogs_when_a_sync_does_not_end_although_it_was_waited_for_again() -> (
    None
):
    house, endless = House([1, 2]), Sync(may_end=False)
    house.syncer.syncs[1] = [endless]
    failures = in_turn(house, [1, 2], 1.1, waits_to_the_end=True)
    endless.may_end.set()
    assert {catalog_id: error.message for catalog_id, error in failures.items()} == {
        1: "the sync did not end within 2 s and continues; ask again later"
    }


def test_attempts_are_not_read_when_there_is_only_one_catalog() -> None:
    house = House()
    assert in_turn(house, [1]) == {}
    assert house.store.reads == []


def test_catalogs_are_synced_in_order_of_their_ids_when_the_attempts_cannot_be_read() -> None:
    house = House([2, 1])
    house.store.failure = StorageError("Table Storage failed (503)")
    assert in_turn(house, [2, 1]) == {}
    assert [catalog_id for catalog_id, _ in house.syncer.begun] == [1, 2]
