"""The sync lease on Azurite: one holder at a time, however it ended and whatever answers were lost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from time import sleep

import pytest
from azure.data.tables import TableClient

from shared.deadline import Deadline
from shared.domain.attempts import FinishedSync
from shared.errors import Failure, StorageError, SyncUnfinished
from shared.storage.failures import EntityRefused
from shared.storage.lease import Lease, LeaseLost, Leases
from shared.storage.table import Table, replacing
from tests.clock import Clock
from tests.storage.syncs import admit_all, say_nothing, take, wait_for_lease
from tests.table_proxy import TableProxy, lose_answer

ONE_OCLOCK = datetime(2026, 3, 1, 13, tzinfo=UTC)
RUN = {"PartitionKey": "1", "RowKey": "a"}


def wait_while(
    table: Table, clock: Clock, meanwhile: Callable[[int], object], wait_s: float = 200
) -> Lease | FinishedSync:
    """Wait for the lease as another sync; `meanwhile` is called with each poll's number."""
    polls = 0

    def pause(seconds: float) -> None:
        nonlocal polls
        clock.pass_s(seconds)
        meanwhile(polls)
        polls += 1

    return wait_for_lease(table, clock, "waiter", wait_s, sleep=pause)


def stored(table: Table) -> dict[str, object]:
    entity = table.get("1", "lease")
    assert entity
    return dict(entity)


def test_lease_is_taken_at_once_when_nobody_holds_it(table: Table, clock: Clock) -> None:
    lease = take(table, clock, "first")
    assert stored(table)["owner"] == "first"
    lease.commit([replacing(RUN)], FinishedSync("first"))
    assert stored(table)["owner"] == ""
    take(table, clock, "second").commit([])
    assert clock.slept == []
    assert table.get("1", "a")


def test_only_one_gets_the_lease_when_many_want_it_at_once(table: Table, runs_client: TableClient) -> None:
    def race(number: int) -> bool:
        try:
            deadline = Deadline.after(0)
            leases = Leases(Table(runs_client))
            held = leases.acquire(
                "1", f"sync-{number}", deadline, admit=admit_all, on_wait=say_nothing, begins_attempt=True
            )
            return isinstance(held, Lease)
        except SyncUnfinished:
            return False

    with ThreadPoolExecutor(8) as racers:
        assert sum(racers.map(race, range(8))) == 1
    table.put({**stored(table), "owner": ""})
    with ThreadPoolExecutor(8) as racers:
        assert sum(racers.map(race, range(8, 16))) == 1


def test_lease_is_taken_over_when_it_has_been_silent_for_30_seconds(table: Table, clock: Clock) -> None:
    take(table, clock, "dead")
    take(table, clock, "heir")
    assert 30 <= sum(clock.slept) < 32
    assert stored(table)["owner"] == "heir"


def test_lease_is_not_taken_over_when_its_holder_gives_signs_of_life(table: Table, clock: Clock) -> None:
    holder = take(table, clock, "holder")

    renewed_at = clock.monotonic()

    def renew(_poll: int) -> None:
        nonlocal renewed_at
        if clock.monotonic() - renewed_at >= 27:
            holder.commit([])
            renewed_at = clock.monotonic()

    with pytest.raises(SyncUnfinished):
        wait_while(table, clock, renew, wait_s=90)
    holder.commit([replacing(RUN)])


def test_waiter_gives_up_when_its_own_time_is_over(table: Table, clock: Clock) -> None:
    take(table, clock, "holder")
    with pytest.raises(SyncUnfinished, match="another sync of it did not end within 5 s"):
        take(table, clock, "waiter", wait_s=5)
    assert sum(clock.slept) == 5
    assert stored(table)["owner"] == "holder"


def test_stopped_holder_writes_nothing_when_it_wakes_up(table: Table, clock: Clock) -> None:
    sleeper = take(table, clock, "sleeper")
    heir = take(table, clock, "heir")
    for finished in (None, FinishedSync("sleeper")):
        with pytest.raises(LeaseLost):
            sleeper.commit([replacing(RUN)], finished)
    assert table.get("1", "a") is None
    heir.commit([], FinishedSync("heir"))
    with pytest.raises(LeaseLost):
        sleeper.commit([replacing(RUN)])
    assert table.get("1", "a") is None
    assert stored(table)["finished"] == "heir"


def test_holder_writes_nothing_when_the_lease_is_deleted(
    table: Table, clock: Clock, runs_client: TableClient
) -> None:
    lease = take(table, clock, "holder")
    runs_client.delete_entity("1", "lease")
    with pytest.raises(StorageError):
        lease.commit([replacing(RUN)])
    assert table.get("1", "a") is None


@pytest.mark.parametrize(
    "outcome",
    [
        FinishedSync("holder"),
        FinishedSync(
            "holder", Failure("EdxThrottled", "edX is throttled", datetime(2026, 3, 1, 13, tzinfo=UTC))
        ),
        FinishedSync("holder", Failure("NotFound", "the catalog is not found")),
    ],
)
def test_waiter_returns_how_the_sync_that_it_waited_for_ended(
    table: Table, clock: Clock, outcome: FinishedSync
) -> None:
    take(table, clock, "earlier").commit([], FinishedSync("earlier"))
    holder = take(table, clock, "holder")

    def end(poll: int) -> None:
        if poll == 3:
            holder.commit([], outcome)

    assert wait_while(table, clock, end) == outcome


def test_waiter_returns_that_outcome_when_the_next_sync_holds_the_lease_already(
    table: Table, clock: Clock
) -> None:
    holder = take(table, clock, "holder")

    def meanwhile(poll: int) -> None:
        if poll == 0:
            holder.commit([], FinishedSync("holder", Failure("SyncError", "no luck")))
            take(table, clock, "next")

    ended = wait_while(table, clock, meanwhile)
    assert isinstance(ended, FinishedSync)
    assert (ended.sync_id, ended.failure) == ("holder", Failure("SyncError", "no luck"))
    assert stored(table)["owner"] == "next"


def test_outcome_of_an_earlier_sync_is_nobodys_when_its_lease_is_free(table: Table, clock: Clock) -> None:
    take(table, clock, "earlier").commit([], FinishedSync("earlier", Failure("SyncError", "no luck")))
    assert isinstance(wait_while(table, clock, lambda _poll: None), Lease)
    assert clock.moment.second == 0


def test_sequence_is_never_used_twice(table: Table, clock: Clock) -> None:
    seen = []
    for sync_id in ("one", "two"):
        lease = take(table, clock, sync_id)
        seen.append(stored(table)["sequence"])
        for _ in range(2):
            lease.commit([])
            seen.append(stored(table)["sequence"])
        with pytest.raises(EntityRefused):
            lease.commit([replacing({**RUN, "text": "x" * 40_000})])
        lease.commit([], FinishedSync(sync_id))
        seen.append(stored(table)["sequence"])
    assert seen == [1, 2, 3, 5, 6, 7, 8, 10]


def test_lease_is_renewed_while_the_block_runs_and_not_when_it_has_been_let_go(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.lease.RENEW_EVERY_S", 0.01)
    lease = take(table, clock, "holder")
    with lease.kept_alive(lambda: None):
        while stored(table)["sequence"] != 3:
            sleep(0.005)
        lease.commit([replacing(RUN)])  # side by side with the renewals
        lease.commit([], FinishedSync("holder"))
        let_go = stored(table)
        sleep(0.1)
        assert stored(table) == let_go
        with pytest.raises(LeaseLost, match="released"):
            lease.commit([])
    assert stored(table) == let_go


# Lost answers


@contextmanager
def all_answers_lost(proxy: TableProxy) -> Iterator[None]:
    proxy.on(lose_answer)
    yield
    proxy.rules.clear()


def test_lease_is_held_when_the_answer_to_its_making_was_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    proxied_table.put(RUN)
    proxy.on(lose_answer, kind="create lease", times=1)
    take(proxied_table, clock, "holder").commit([])
    assert sum(clock.slept) < 1  # it knew its own lease at once


def test_lease_is_held_when_the_answer_to_its_taking_was_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    take(proxied_table, clock, "earlier").commit([], FinishedSync("earlier"))
    proxy.on(lose_answer, kind="take or renew lease", times=1)
    take(proxied_table, clock, "holder").commit([])
    assert sum(clock.slept) < 1  # it knew its own lease at once


@pytest.mark.parametrize("finished", [None, FinishedSync("holder", Failure("SyncError", "no luck"))])
def test_write_has_succeeded_when_only_its_answer_was_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock, finished: FinishedSync | None
) -> None:
    lease = take(proxied_table, clock, "holder")
    proxy.on(lose_answer, kind="write runs", times=1)
    lease.commit([replacing(RUN)], finished)
    assert proxied_table.get("1", "a")
    assert stored(proxied_table)["owner"] == ("" if finished else "holder")
    if not finished:
        lease.commit([replacing({**RUN, "x": 1})])


def test_holder_goes_on_when_a_write_took_effect_that_counted_as_failed(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    with all_answers_lost(proxy), pytest.raises(StorageError):
        lease.commit([replacing(RUN)])
    lease.commit([replacing({**RUN, "x": 2})])
    entity = proxied_table.get("1", "a")
    assert entity
    assert entity["x"] == 2


def test_holder_that_let_go_unawares_leaves_the_next_one_alone(
    proxied_table: Table, proxy: TableProxy, table: Table, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    with all_answers_lost(proxy), pytest.raises(StorageError):
        lease.commit([], FinishedSync("holder"))
    following = take(table, clock, "next")
    with pytest.raises(LeaseLost):  # a renewal that had to wait its turn
        lease.commit([])
    lease.commit([], FinishedSync("holder", Failure("StorageError", "Table Storage failed")))
    following.commit([replacing(RUN)])
    assert stored(table)["owner"] == "next"


@pytest.mark.parametrize("sequence", [2**31 - 1, -(2**31), True, 0.5, "7", None])
def test_lease_is_taken_and_used_when_another_hand_wrote_nonsense(
    table: Table, clock: Clock, sequence: object
) -> None:
    table.put({"PartitionKey": "1", "RowKey": "lease", "owner": "", "sequence": sequence, "finished": 7})
    lease = take(table, clock, "holder")
    lease.commit([replacing(RUN)])
    lease.commit([], FinishedSync("holder"))
    assert stored(table)["finished"] == "holder"


def test_holder_goes_on_when_the_answer_to_its_second_attempt_was_lost_too(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    with all_answers_lost(proxy), pytest.raises(StorageError):
        lease.commit([])
    rule = proxy.on(lose_answer, kind="write runs", after=1, times=1)
    lease.commit([replacing(RUN)])
    assert (rule.seen, rule.fired) == (3, 1)
    assert proxied_table.get("1", "a")
    lease.commit([replacing({**RUN, "x": 2})])
