"""The sync lease on Azurite: one holder at a time, also after crashes and lost answers."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from time import sleep

import pytest
from azure.data.tables import TableClient

from shared.deadline import Deadline
from shared.domain.attempts import Attempts, FinishedSync
from shared.errors import Failure, StorageError, SyncUnfinished
from shared.storage.failures import EntityRefused
from shared.storage.lease import Lease, LeaseLost, Leases, LeaseState
from shared.storage.table import Operation, Table, replacing
from tests.clock import Clock
from tests.storage.syncs import admit_all, say_nothing, take, wait_for_lease
from tests.table_proxy import TableProxy, answer, delay, lose_answer, refuse_in_batch

ONE_OCLOCK = datetime(2026, 3, 1, 13, tzinfo=UTC)
RUN = {"PartitionKey": "1", "RowKey": "a"}
OFTEN_S = 0.01  # how often a lease is renewed here


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


def test_lease_is_taken_at_once_when_it_is_free(table: Table, clock: Clock) -> None:
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


def test_lease_is_taken_over_when_it_was_not_renewed_for_30_seconds(table: Table, clock: Clock) -> None:
    take(table, clock, "dead")
    take(table, clock, "heir")
    assert 30 <= sum(clock.slept) < 32
    assert stored(table)["owner"] == "heir"


def test_lease_is_not_taken_over_when_its_holder_renews_it(table: Table, clock: Clock) -> None:
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


def test_waiting_ends_at_the_deadline_when_the_other_sync_does_not_end(table: Table, clock: Clock) -> None:
    take(table, clock, "holder")
    with pytest.raises(
        SyncUnfinished, match="another sync of this catalog did not end within 5 s; ask again later"
    ):
        take(table, clock, "waiter", wait_s=5)
    assert sum(clock.slept) == 5
    assert stored(table)["owner"] == "holder"


def test_suspended_holder_writes_nothing_when_it_continues_after_a_takeover(
    table: Table, clock: Clock
) -> None:
    sleeper = take(table, clock, "sleeper")
    heir = take(table, clock, "heir")
    for finished in (None, FinishedSync("sleeper")):
        with pytest.raises(
            LeaseLost, match=r"^another process now syncs this catalog, and this one stopped writing$"
        ):
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
def test_waiting_returns_the_result_of_the_other_sync(
    table: Table, clock: Clock, outcome: FinishedSync
) -> None:
    take(table, clock, "earlier").commit([], FinishedSync("earlier"))
    holder = take(table, clock, "holder")

    def end(poll: int) -> None:
        if poll == 3:
            holder.commit([], outcome)

    assert wait_while(table, clock, end) == outcome


def test_waiting_returns_the_result_of_the_other_sync_when_a_third_one_has_begun(
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


def test_result_of_an_earlier_sync_is_not_returned_when_the_lease_is_free(table: Table, clock: Clock) -> None:
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


def test_lease_is_renewed_during_the_block_and_not_after_its_release(table: Table, clock: Clock) -> None:
    lease = take(table, clock, "holder")
    with lease.kept_alive(lambda: None, OFTEN_S):
        while stored(table)["sequence"] != 3:
            sleep(0.005)
        lease.commit([replacing(RUN)])  # side by side with the renewals
        lease.commit([], FinishedSync("holder"))
        let_go = stored(table)
        sleep(0.1)
        assert stored(table) == let_go
        with pytest.raises(LeaseLost, match=r"^the lease has been released$"):
            lease.commit([])
    assert stored(table) == let_go


def renewing() -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease-1"]


def test_renewal_ends_with_the_block_when_the_lease_is_still_held(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    rule = proxy.on(delay(0.1), kind="take or renew lease")
    with lease.kept_alive(lambda: None, OFTEN_S):
        (thread,) = renewing()
        assert thread.daemon  # a process that has nothing else to do can end
        while not rule.seen:
            sleep(0.005)
    assert renewing() == []
    assert stored(proxied_table)["owner"] == "holder"


# Lost answers


def test_lease_is_held_when_the_answer_to_its_creation_is_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    proxied_table.put(RUN)
    proxy.on(lose_answer, kind="create lease", times=1)
    take(proxied_table, clock, "holder").commit([])
    assert sum(clock.slept) < 1  # it recognised its own lease at the first read


def test_lease_is_held_when_the_answer_to_the_write_that_takes_it_is_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    take(proxied_table, clock, "earlier").commit([], FinishedSync("earlier"))
    proxy.on(lose_answer, kind="take or renew lease", times=1)
    take(proxied_table, clock, "holder").commit([])
    assert sum(clock.slept) < 1  # it recognised its own lease at the first read


@pytest.mark.parametrize("finished", [None, FinishedSync("holder", Failure("SyncError", "no luck"))])
def test_write_succeeds_when_only_its_answer_is_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock, finished: FinishedSync | None
) -> None:
    lease = take(proxied_table, clock, "holder")
    proxy.on(lose_answer, kind="write runs", times=1)
    lease.commit([replacing(RUN)], finished)
    assert proxied_table.get("1", "a")
    assert stored(proxied_table)["owner"] == ("" if finished else "holder")
    if not finished:
        lease.commit([replacing({**RUN, "x": 1})])


def fail_unawares(
    lease: Lease, proxy: TableProxy, operations: list[Operation], finished: FinishedSync | None = None
) -> None:
    """Write while every request takes effect and every answer is lost."""
    proxy.on(lose_answer)
    with pytest.raises(StorageError):
        lease.commit(operations, finished)
    proxy.rules.clear()


def test_holder_continues_when_a_failed_write_takes_effect_later(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    fail_unawares(lease, proxy, [replacing(RUN)])
    lease.commit([replacing({**RUN, "x": 2})])
    entity = proxied_table.get("1", "a")
    assert entity
    assert entity["x"] == 2


def test_next_holder_is_not_disturbed_when_the_answer_to_a_release_is_lost(
    proxied_table: Table, proxy: TableProxy, table: Table, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    fail_unawares(lease, proxy, [], FinishedSync("holder"))
    following = take(table, clock, "next")
    with pytest.raises(LeaseLost):  # a renewal that had to wait for the lock
        lease.commit([])
    lease.commit([], FinishedSync("holder", Failure("StorageError", "Table Storage failed")))
    following.commit([replacing(RUN)])
    assert stored(table)["owner"] == "next"


@pytest.mark.parametrize("sequence", [2**31 - 1, -(2**31), True, 0.5, "7", None])
def test_lease_is_taken_and_used_when_its_properties_are_malformed(
    table: Table, clock: Clock, sequence: object
) -> None:
    table.put({"PartitionKey": "1", "RowKey": "lease", "owner": "", "sequence": sequence, "finished": 7})
    lease = take(table, clock, "holder")
    lease.commit([replacing(RUN)])
    lease.commit([], FinishedSync("holder"))
    assert stored(table)["finished"] == "holder"


def test_holder_continues_when_the_answer_to_its_second_try_is_also_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    fail_unawares(lease, proxy, [])
    rule = proxy.on(lose_answer, kind="write runs", after=1, times=1)
    lease.commit([replacing(RUN)])
    assert (rule.seen, rule.fired) == (3, 1)
    assert proxied_table.get("1", "a")
    lease.commit([replacing({**RUN, "x": 2})])


# What a process remembers of a lease


def leases_of(table: Table, clock: Clock) -> Leases:
    return Leases(table, clock=clock.monotonic, sleep=clock.sleep, now=clock.now, holder="other/2")


def test_expired_lease_is_taken_over_when_every_call_waits_for_less_than_30_seconds(
    table: Table, clock: Clock
) -> None:
    take(table, clock, "dead")
    leases = leases_of(table, clock)
    for number in range(2):
        with pytest.raises(SyncUnfinished):
            take(table, clock, f"caller{number}", wait_s=14, leases=leases)
    lease = take(table, clock, "heir", wait_s=14, leases=leases)
    assert sum(clock.slept) < 60
    assert lease.before.sync_id == "dead"


def test_expired_lease_is_taken_over_at_once_when_it_was_seen_long_ago(table: Table, clock: Clock) -> None:
    take(table, clock, "dead")
    leases = leases_of(table, clock)
    with pytest.raises(SyncUnfinished):
        take(table, clock, "caller", wait_s=0, leases=leases)
    clock.pass_s(29)
    with pytest.raises(SyncUnfinished):
        take(table, clock, "caller", wait_s=0, leases=leases)
    clock.pass_s(1)
    take(table, clock, "heir", wait_s=0, leases=leases)
    assert clock.slept == []


def test_renewed_lease_is_not_taken_over_when_it_was_seen_long_ago(table: Table, clock: Clock) -> None:
    holder = take(table, clock, "holder")
    leases = leases_of(table, clock)
    for _ in range(4):
        with pytest.raises(SyncUnfinished):
            take(table, clock, "caller", wait_s=0, leases=leases)
        clock.pass_s(20)
        holder.commit([])
    holder.commit([replacing(RUN)])


# The holder, and notices about it


def test_lease_names_its_holder_until_it_is_released(table: Table, clock: Clock) -> None:
    leases = leases_of(table, clock)
    assert leases.state("1") is None
    lease = take(table, clock, "first", leases=leases)
    assert leases.state("1") == LeaseState(
        "other/2", "first", FinishedSync(attempts=Attempts(attempted_at=clock.now()))
    )
    lease.commit([], FinishedSync("first"))
    assert leases.state("1") == LeaseState("", "", FinishedSync("first"))


def test_holder_is_host_name_and_process_id(table: Table) -> None:
    leases = Leases(table)
    leases.acquire("1", "sync", Deadline.after(0), admit=admit_all, on_wait=say_nothing, begins_attempt=True)
    assert stored(table)["holder"] == f"{socket.gethostname()}/{os.getpid()}"


def test_holder_is_unknown_when_an_old_version_holds_the_lease(table: Table, clock: Clock) -> None:
    take(table, clock, "new").commit([], FinishedSync("new"))
    table.put({**stored(table), "owner": "old", "sequence": 9})
    state = leases_of(table, clock).state("1")
    assert state
    assert (state.holder, state.sync_id) == ("", "old")


def test_holder_is_reported_once_to_a_waiting_caller(table: Table, clock: Clock) -> None:
    holder = take(table, clock, "holder")
    told: list[LeaseState] = []

    def pause(seconds: float) -> None:
        clock.pass_s(seconds)
        if clock.now() > ONE_OCLOCK - timedelta(minutes=59, seconds=55):
            holder.commit([], FinishedSync("holder"))

    ended = wait_for_lease(table, clock, "waiter", sleep=pause, on_wait=told.append)
    assert ended == FinishedSync("holder")
    assert [(state.holder, state.sync_id) for state in told] == [("host/1", "holder")]


def test_nothing_is_written_when_the_sync_is_not_admitted(table: Table, clock: Clock) -> None:
    seen: list[Attempts] = []

    def refuse(attempts: Attempts) -> None:
        seen.append(attempts)
        raise SyncUnfinished("backing off")

    for before in (None, Attempts(failures=2)):
        if before:
            take(table, clock, "first").commit([], FinishedSync("first", attempts=before))
        lease = table.get("1", "lease")
        with pytest.raises(SyncUnfinished, match="backing off"):
            wait_for_lease(table, clock, "second", admit=refuse)
        assert table.get("1", "lease") == lease
    assert seen == [Attempts(), Attempts(failures=2)]


def test_admission_is_not_checked_while_waiting_for_another_sync(table: Table, clock: Clock) -> None:
    take(table, clock, "holder")
    seen: list[Attempts] = []
    with pytest.raises(SyncUnfinished):
        wait_for_lease(table, clock, "waiter", 5, admit=seen.append)
    assert seen == []


def test_the_new_holder_knows_the_earlier_sync_when_its_process_stopped(table: Table, clock: Clock) -> None:
    first = take(table, clock, "first", wait_s=0)
    assert first.before == LeaseState("", "", FinishedSync())
    heir = take(table, clock, "heir")
    assert (heir.before.holder, heir.before.sync_id) == ("host/1", "first")
    assert heir.before.attempts.attempted_at == ONE_OCLOCK - timedelta(hours=1)


# Attempts

FAILED = Failure("EdxUnavailable", "edX is away", ONE_OCLOCK)


def test_attempts_are_written_together_with_the_lease(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    proxied_table.put(RUN)
    proxy.requests.clear()
    first = take(proxied_table, clock, "first")
    began = clock.now()
    assert first.attempts == Attempts(attempted_at=began)
    clock.pass_s(60)
    ended = first.attempts.ended(clock.now(), FAILED.error())
    first.commit([], FinishedSync("first", FAILED, ended))
    assert [request.kind for request in proxy.requests] == [
        "read lease", "create lease", "release lease",
    ]  # fmt: skip
    second = take(proxied_table, clock, "second")
    assert second.before.attempts == Attempts(
        attempted_at=began, failures=1, failed_at=clock.now(), failure=FAILED
    )
    assert second.attempts.attempted_at == clock.now()
    assert second.attempts.failures == 1


def test_attempts_are_unchanged_when_a_rebuild_takes_and_releases_the_lease(
    table: Table, clock: Clock
) -> None:
    attempts = Attempts(ONE_OCLOCK, ONE_OCLOCK, 3, ONE_OCLOCK, FAILED)
    take(table, clock, "first").commit([], FinishedSync("first", FAILED, attempts))
    before = stored(table)
    lease = take(table, clock, "rebuild", begins_attempt=False)
    assert lease.attempts == attempts
    lease.commit([], lease.before.finished)
    after = stored(table)
    changed = {"sequence", "holderSyncId"}
    assert {name: value for name, value in after.items() if name not in changed} == {
        name: value for name, value in before.items() if name not in changed
    }


@pytest.mark.parametrize(("error_class", "failures"), [("", 0), ("SyncError", 3), ("EdxThrottled", 2)])
def test_attempts_include_the_last_sync_when_the_previous_version_ran_it(
    table: Table, clock: Clock, error_class: str, failures: int
) -> None:
    attempts = Attempts(ONE_OCLOCK, None, 2, ONE_OCLOCK, FAILED)
    take(table, clock, "new").commit([], FinishedSync("new", FAILED, attempts))
    message = "no luck" if error_class else ""
    ended = {
        "finished": "old",
        "error": message,
        "errorClass": error_class,
        "retryAt": ONE_OCLOCK.isoformat(),
    }
    table.put({**stored(table), "sequence": 9, **ended})
    entity = table.get("1", "lease")
    assert entity
    written_at = entity.metadata["timestamp"]
    state = leases_of(table, clock).state("1")
    assert state
    assert state.attempts.failures == failures
    assert state.attempts.succeeded_at == (written_at if error_class == "" else None)
    assert state.attempts.failed_at == (written_at if failures == 3 else ONE_OCLOCK)
    assert state.attempts.failure == (
        Failure("SyncError", "no luck", ONE_OCLOCK) if failures == 3 else FAILED
    )


@pytest.mark.parametrize("error_class", ["", "SyncError"])
def test_end_of_the_last_sync_is_not_the_last_write_when_the_previous_version_syncs_again(
    table: Table, clock: Clock, error_class: str
) -> None:
    attempts = Attempts(ONE_OCLOCK, ONE_OCLOCK, 2, ONE_OCLOCK, FAILED)
    take(table, clock, "new").commit([], FinishedSync("new", FAILED, attempts))
    ended = {"finished": "old", "error": "no luck" if error_class else "", "errorClass": error_class}
    table.put({**stored(table), "sequence": 9, "owner": "older", **ended})
    state = leases_of(table, clock).state("1")
    assert state
    assert state.attempts.failures == (3 if error_class else 0)
    assert (state.attempts.succeeded_at, state.attempts.failed_at) == (ONE_OCLOCK, ONE_OCLOCK)


# Losing it


def test_lost_lease_is_reported_once_when_another_process_has_taken_it(table: Table, clock: Clock) -> None:
    lease = take(table, clock, "sleeper")
    take(table, clock, "heir")
    lost: list[str] = []
    told = Event()

    def on_lost() -> None:
        lost.append("lost")
        told.set()

    with lease.kept_alive(on_lost, OFTEN_S):
        assert told.wait(20)
        sleep(0.1)
    assert lost == ["lost"]


def test_lost_lease_is_reported_when_its_row_is_deleted_during_a_sync(
    table: Table, clock: Clock, runs_client: TableClient
) -> None:
    lease = take(table, clock, "holder")
    lost = Event()
    with lease.kept_alive(lost.set, OFTEN_S):
        runs_client.delete_entity("1", "lease")
        assert lost.wait(20)
    with pytest.raises(LeaseLost):
        lease.commit([replacing(RUN)], FinishedSync("holder"))
    assert table.get("1", "lease") is None


def test_no_lost_lease_is_reported_when_it_is_released_or_storage_fails_for_a_while(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    lease = take(proxied_table, clock, "holder")
    lost: list[str] = []
    rule = proxy.on(answer(501), kind="take or renew lease", times=2)
    with lease.kept_alive(lambda: lost.append("lost"), OFTEN_S):
        while rule.fired < 2:
            sleep(0.01)
        lease.commit([], FinishedSync("holder"))
        sleep(0.1)
    assert lost == []


# Invalid answers of storage


@pytest.fixture
def bounded(proxy: TableProxy, clock: Clock) -> Iterator[None]:
    """Check that the block ends within 15 seconds and 20 requests."""
    proxy.requests.clear()
    yield
    assert sum(clock.slept) <= 15
    assert len(proxy.requests) <= 20


@pytest.mark.usefixtures("bounded")
def test_taking_fails_when_storage_finds_no_lease_but_says_that_it_exists(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    proxy.on(answer(404, "ResourceNotFound"), kind="read.*")
    proxy.on(answer(409, "TableBeingDeleted"))
    with pytest.raises(StorageError, match="HTTP 409"):
        take(proxied_table, clock, "sync")


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("refused", "problem"),
    [
        ("take or renew lease", "refused every write of the lease because of an outdated etag"),
        ("write runs", "refused every write because of an outdated etag"),
    ],
)
def test_taking_and_writing_fail_when_storage_refuses_every_batch_as_outdated(
    proxied_table: Table, proxy: TableProxy, clock: Clock, refused: str, problem: str
) -> None:
    take(proxied_table, clock, "first").commit([], FinishedSync("first"))
    proxy.on(refuse_in_batch(0, "UpdateConditionNotSatisfied", 412), kind=refused)
    with pytest.raises(StorageError, match=rf" {problem}$"):
        take(proxied_table, clock, "second").commit([replacing(RUN)])


def test_pauses_between_lease_polls_grow_when_waiting_for_long(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    take(proxied_table, clock, "dead")
    proxy.requests.clear()
    take(proxied_table, clock, "heir")
    assert len(proxy.requests) <= 35
    assert clock.slept[:11] == [0.5] * 11
    assert clock.slept[11:13] == pytest.approx([0.55, 0.605])  # a tenth of the time since the wait began
    assert max(clock.slept) == 2.0


def test_previous_sync_is_known_when_the_answer_to_taking_the_lease_is_lost(
    proxied_table: Table, proxy: TableProxy, clock: Clock
) -> None:
    attempts = Attempts(ONE_OCLOCK, None, 2, ONE_OCLOCK, FAILED)
    take(proxied_table, clock, "first").commit([], FinishedSync("first", FAILED, attempts))
    proxy.on(lose_answer, kind="take or renew lease", times=1)
    lease = take(proxied_table, clock, "second")
    assert lease.before.finished == FinishedSync("first", FAILED, attempts)
    assert lease.before.sync_id == ""
    assert lease.attempts.attempted_at == ONE_OCLOCK - timedelta(hours=1)


def test_one_waits_for_the_other_when_two_take_over_an_expired_lease_at_once(
    table: Table, clock: Clock
) -> None:
    take(table, clock, "dead")
    heirs: list[Lease] = []

    def let_another_be_faster(_attempts: Attempts) -> None:
        if not heirs:
            heirs.append(take(table, clock, "faster", leases=other))

    def pause(seconds: float) -> None:
        clock.pass_s(seconds)
        if heirs:
            heirs[0].commit([], FinishedSync("faster"))

    other = leases_of(table, clock)
    with pytest.raises(SyncUnfinished):
        take(table, clock, "faster", wait_s=0, leases=other)
    ended = wait_for_lease(table, clock, "slower", sleep=pause, admit=let_another_be_faster)
    assert ended == FinishedSync("faster", attempts=Attempts())
