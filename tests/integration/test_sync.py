"""The sync of one catalog: a real sandbox, real tables, and a clock of the test's own."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Timer
from typing import Any

import pytest
from azure.data.tables import TableClient, UpdateMode

from local.sample_catalogue import make_course, make_run
from local.sandbox import Sandbox
from local.sandbox_catalogs import Catalog
from local.sandbox_faults import Action, answer, envelope, no_results, repeat, reset, slow, throttle, without
from shared.domain.course_run import course_run_id
from shared.domain.published import unpack
from shared.domain.sync_report import SyncReport
from shared.edx.client import EdxClient
from shared.errors import (
    EdxProtocolError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    MassLoss,
    NotFound,
    SyncError,
)
from shared.settings import connector_settings
from shared.storage.entities import Head
from shared.storage.lease import FinishedSync, LeaseLost, acquire
from shared.storage.store import CatalogWriter, TableStore
from shared.storage.table import Table
from shared.sync.sync import Caller, Syncer
from tests.integration.conftest import Clock
from tests.integration.tables_proxy import TablesProxy

COURSES = "/catalogs/1/courses/"
CLIENT_ID = "sandbox-client"


@pytest.fixture
def catalog() -> Catalog:
    """Five courses of one run each; pages hold two."""
    return Catalog(1, "Ours", [make_course(f"NUSx+{number}x") for number in range(5)])


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Sandbox]:
    with Sandbox([catalog, Catalog(12, "Empty")]) as sandbox:
        yield sandbox


@pytest.fixture
def make_syncer(proxied_store: TableStore, settings: dict[str, str], clock: Clock) -> Callable[..., Syncer]:
    def make(**more_settings: str) -> Syncer:
        ours = connector_settings({**settings, "EDX_PAGE_SIZE": "2", **more_settings})
        edx = EdxClient(ours.edx, clock=clock.monotonic, now=clock.now, sleep=clock.sleep, random=lambda: 0.0)
        return Syncer(proxied_store, edx, ours, now=clock.now, sleep=clock.sleep)

    return make


@pytest.fixture
def syncer(make_syncer: Callable[..., Syncer]) -> Syncer:
    return make_syncer()


def sync(syncer: Syncer, catalog_id: int = 1, budget_s: float = 60, **options: Any) -> SyncReport:
    report = syncer.sync(catalog_id, budget_s, Caller("operator", "0a1b"), **options)
    assert report
    return report


def counts(report: SyncReport) -> dict[str, int]:
    """Return the counts of a report that are not 0."""
    names = ("created", "changed", "restored", "unchanged", "withdrawn", "rejected")
    return {name: value for name in names if (value := getattr(report, name))}


def head_of(store: TableStore, catalog_id: int = 1) -> Head:
    head = store.head(catalog_id)
    assert head
    return head


def body(store: TableStore, catalog_id: int = 1) -> bytes:
    return unpack(store.body(catalog_id, head_of(store, catalog_id)))


def served(store: TableStore) -> list[str]:
    """Return the number of each course whose run is served, sorted by run key."""
    return [re.sub(r".*\+(\w+)x\+.*", r"\1", run["courserunKey"]) for run in json.loads(body(store))]


def run_key(number: object) -> str:
    return f"course-v1:NUSx+{number}x+1T2026"


def run_ids(proxy: TablesProxy) -> list[str]:
    """Return the course runs that were read or written one by one."""
    return [key for key in proxy.entities() if re.fullmatch("[0-9a-f]{8}-[0-9a-f-]{27}", key)]


# What a sync stores and publishes


def test_first_sync_stores_and_publishes_everything(syncer: Syncer, store: TableStore, clock: Clock) -> None:
    report = sync(syncer)
    assert (report.outcome, report.courses, report.runs) == ("ok", 5, 5)
    assert counts(report) == {"created": 5}
    assert report.edx_requests == 3  # a token and two pages, which share a course
    assert served(store) == ["0", "1", "2", "3", "4"]
    assert {stored.withdrawn_at for stored in store.runs(1)} == {None}
    assert head_of(store).synced_at == clock.now()
    assert store.reports() == [report]


def test_second_sync_touches_no_course_run_when_nothing_changed(
    syncer: Syncer, store: TableStore, proxy: TablesProxy, clock: Clock
) -> None:
    sync(syncer)
    before = head_of(store)
    clock.pass_s(3600)
    proxy.requests.clear()
    report = sync(syncer)
    touched = set(proxy.entities())
    assert counts(report) == {"unchanged": 5}
    assert run_ids(proxy) == []
    assert touched - {"throttled"} == {
        "lease", "published", f"published-{before.generation}-digests-0000",
        *(key for key in touched if key.endswith(report.sync_id)),
    }  # fmt: skip
    assert [query for query in proxy.queries() if "CourseRuns" in query] == []
    after = head_of(store)
    assert (after.generation, after.tag) == (before.generation, before.tag)
    assert after.synced_at == clock.now()


def test_only_what_differs_is_written(
    syncer: Syncer, store: TableStore, catalog: Catalog, proxy: TablesProxy
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(1), end="2027-01-01T00:00:00Z")
    catalog.remove("NUSx+2x")
    catalog.add(make_course("NUSx+5x"))
    proxy.requests.clear()
    report = sync(syncer)
    assert counts(report) == {"created": 1, "changed": 1, "unchanged": 3, "withdrawn": 1}
    assert set(run_ids(proxy)) == {course_run_id(run_key(number)) for number in (1, 2, 5)}
    assert served(store) == ["0", "1", "3", "4", "5"]
    assert b'"endDate":"2027-01-01T00:00:00Z"' in body(store)


def test_withdrawn_run_stays_in_storage_and_comes_back_under_its_id(
    syncer: Syncer, store: TableStore, catalog: Catalog, clock: Clock
) -> None:
    sync(syncer)
    (course,) = [course for course in catalog.courses if course["key"] == "NUSx+2x"]
    before = store.run(1, course_run_id(run_key(2)))
    assert before
    catalog.remove("NUSx+2x")
    sync(syncer)
    assert store.run(1, course_run_id(run_key(2))) == before._replace(withdrawn_at=clock.now().isoformat())
    assert counts(sync(syncer)) == {"unchanged": 4}
    catalog.add(course)
    assert counts(sync(syncer)) == {"restored": 1, "unchanged": 4}
    assert store.run(1, course_run_id(run_key(2))) == before
    assert served(store) == ["0", "1", "2", "3", "4"]


def test_rejected_run_stays_as_it_was(syncer: Syncer, store: TableStore, catalog: Catalog) -> None:
    sync(syncer)
    catalog.alter_run(run_key(2), start="soon", end="2027-01-01T00:00:00Z")
    catalog.alter_run(run_key(3), end="2028-01-01T00:00:00Z")
    before = store.run(1, course_run_id(run_key(2)))
    report = sync(syncer)
    assert counts(report) == {"changed": 1, "unchanged": 3, "rejected": 1}
    assert [each.run_key for each in report.rejections] == [run_key(2)]
    assert (report.outcome, store.run(1, course_run_id(run_key(2)))) == ("ok", before)
    assert served(store) == ["0", "1", "2", "3", "4"]
    assert b"2027" not in body(store)


def test_run_that_edx_unlists_is_stored_and_not_served(
    syncer: Syncer, store: TableStore, catalog: Catalog
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(2), status="unpublished", hidden=False)
    catalog.alter_run(run_key(3), hidden=True)
    assert counts(sync(syncer)) == {"changed": 2 - 1, "unchanged": 4}
    assert served(store) == ["0", "1", "3", "4"]
    stored = store.run(1, course_run_id(run_key(2)))
    assert stored
    assert stored.withdrawn_at is None


def test_first_of_a_run_counts_when_it_is_in_several_courses(
    syncer: Syncer, store: TableStore, catalog: Catalog
) -> None:
    catalog.add(make_course("NUSx+5x", [make_run(run_key(0), end="2027-01-01T00:00:00Z")]))
    assert counts(sync(syncer)) == {"created": 5}
    assert b"2027" not in body(store)


def test_body_is_rendered_anew_when_a_run_has_begun_or_ended_since(
    syncer: Syncer, store: TableStore, catalog: Catalog, proxy: TablesProxy, clock: Clock
) -> None:
    catalog.alter_run(run_key(2), start="2026-03-01T12:00:10Z", end="2026-03-01T12:00:20Z")
    sync(syncer)
    assert b'"Upcoming"' in body(store)
    proxy.requests.clear()
    for seconds, expected in ((10, ["0", "1", "2", "3", "4"]), (10, ["0", "1", "3", "4"])):
        clock.pass_s(seconds)
        assert counts(sync(syncer)) == {"unchanged": 5}
        assert served(store) == expected
        assert b'"Upcoming"' not in body(store)
    assert run_ids(proxy) == []


def test_empty_catalog_is_an_empty_array_when_it_always_was(syncer: Syncer, store: TableStore) -> None:
    for _ in range(2):
        report = sync(syncer, 12)
        assert (report.outcome, report.runs) == ("ok", 0)
        assert body(store, 12) == b"[]"


# Pulls that are not whole


INCOMPLETE: list[tuple[int | None, Action, str]] = [
    (None, envelope(count=7), "4 course records came of a count of 7"),
    (2, envelope(count=5), "the count changed from 4 to 5"),
    (None, without("count"), "edX sent no count"),
    (None, envelope(count="4"), "edX sent no count"),
    (2, repeat(0), "the pages do not overlap between positions 1 and 2"),
    (
        2,
        envelope(results=[], next=f"https://discovery.edx.org{COURSES}?limit=2&offset=4"),
        "an empty page came at offset 2",
    ),
]


@pytest.mark.parametrize(("offset", "fault", "problem"), INCOMPLETE)
def test_nothing_is_withdrawn_when_no_pull_is_whole(  # noqa: PLR0917 - fixtures
    syncer: Syncer,
    store: TableStore,
    catalog: Catalog,
    sandbox: Sandbox,
    offset: int | None,
    fault: Action,
    problem: str,
) -> None:
    sync(syncer)
    catalog.remove("NUSx+0x")
    catalog.alter_run(run_key(3), end="2027-01-01T00:00:00Z")
    rule = sandbox.on(COURSES, fault, offset=offset)
    sandbox.forget_requests()
    report = sync(syncer)
    assert (report.outcome, report.withdrawn) == ("incomplete", 0)
    assert problem in (report.incomplete or "")
    assert served(store) == ["0", "1", "2", "3", "4"]
    assert len([each for each in sandbox.requests_to(COURSES) if each.offset == 0]) == 2
    rule.times = 0
    assert counts(sync(syncer))["withdrawn"] == 1
    assert served(store) == ["1", "2", "3", "4"]
    assert b"2027" in body(store)


def test_incomplete_sync_publishes_what_came_and_counts_as_synced(
    syncer: Syncer, store: TableStore, catalog: Catalog, sandbox: Sandbox, clock: Clock
) -> None:
    sync(syncer)
    clock.pass_s(60)
    catalog.remove("NUSx+0x")
    catalog.add(make_course("NUSx+5x"))
    catalog.alter_run(run_key(1), end="2027-01-01T00:00:00Z")
    sandbox.on(COURSES, without("count"))
    report = sync(syncer)
    assert (report.outcome, counts(report)) == ("incomplete", {"created": 1, "changed": 1, "unchanged": 3})
    assert served(store) == ["0", "1", "2", "3", "4", "5"]
    assert b"2027" in body(store)
    assert head_of(store).synced_at == clock.now()


def test_second_pull_counts_when_it_is_whole(
    syncer: Syncer, store: TableStore, catalog: Catalog, sandbox: Sandbox
) -> None:
    sync(syncer)
    catalog.remove("NUSx+0x")
    sandbox.on(COURSES, envelope(count=7), times=1)
    report = sync(syncer)
    assert (report.outcome, report.incomplete, report.courses) == ("ok", None, 4)
    assert counts(report) == {"unchanged": 4, "withdrawn": 1}
    assert served(store) == ["1", "2", "3", "4"]


def test_run_that_came_and_went_between_two_pulls_is_withdrawn(
    syncer: Syncer, store: TableStore, catalog: Catalog, sandbox: Sandbox
) -> None:
    sync(syncer)
    catalog.add(make_course("NUSx+5x"))

    def going(_exchange: object, reply: Any) -> Any:
        catalog.remove("NUSx+5x")
        return reply

    sandbox.on(COURSES, without("count"), offset=0, times=1)
    sandbox.on(COURSES, going, offset=4, times=1)
    report = sync(syncer)
    assert (report.outcome, counts(report)) == ("ok", {"unchanged": 5, "withdrawn": 1})
    assert served(store) == ["0", "1", "2", "3", "4"]
    stored = store.run(1, course_run_id(run_key(5)))
    assert stored
    assert stored.withdrawn_at


def test_records_without_a_key_withhold_withdrawals_until_it_is_clear_what_they_are(
    syncer: Syncer, store: TableStore, catalog: Catalog
) -> None:
    catalog.add(make_course("NUSx+5x", [make_run(run_key(5)), {"start": None}]))
    assert sync(syncer).outcome == "ok"
    catalog.remove("NUSx+0x")  # the record without a key was there before: it cannot be this run
    assert counts(sync(syncer)) == {"unchanged": 5, "withdrawn": 1, "rejected": 1}
    catalog.remove("NUSx+1x")
    catalog.add(make_course("NUSx+6x", [{"start": None}]))
    for _ in range(2):
        report = sync(syncer)
        assert (report.outcome, report.withdrawn) == ("incomplete", 0)
        assert "1 new records without a readable key" in (report.incomplete or "")
        assert served(store) == ["1", "2", "3", "4", "5"]
    assert sync(syncer, allow_withdrawals=True).withdrawn == 1
    assert served(store) == ["2", "3", "4", "5"]


# Failures


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (reset("before"), EdxUnavailable),
        (answer(200, "<html>"), EdxUnavailable),
        (answer(200, "[]"), EdxProtocolError),
        (answer(403), EdxUnavailable),
    ],
)
def test_published_state_stays_as_it_was_when_a_page_fails(  # noqa: PLR0917 - fixtures
    syncer: Syncer,
    store: TableStore,
    catalog: Catalog,
    sandbox: Sandbox,
    clock: Clock,
    fault: Action,
    error: type[Exception],
) -> None:
    many = make_course("NUSx+7x", [make_run(f"course-v1:NUSx+7x+{number}") for number in range(120)])
    catalog.add(many, at=0)
    sync(syncer)
    head, before = head_of(store), body(store)
    catalog.alter("NUSx+7x", lambda course: [run.update(end=None) for run in course["course_runs"]])
    catalog.remove("NUSx+0x")
    rule = sandbox.on(COURSES, fault, offset=2)
    clock.pass_s(1)  # reports are sorted by time
    with pytest.raises(error):
        sync(syncer)
    assert body(store) == before
    assert head_of(store).synced_at == head.synced_at
    assert {stored.withdrawn_at for stored in store.runs(1)} == {None}
    (report, _) = store.reports()
    assert (report.outcome, report.withdrawn) == ("failed", 0)
    assert report.error
    # A batch of changes had been written; the next sync finds them and publishes.
    rule.times = 0
    assert counts(sync(syncer)) == {"changed": 21, "unchanged": 103, "withdrawn": 1}
    assert b"3000" not in body(store).partition(b"NUSx+7x")[2].partition(b"NUSx+1x")[0]
    assert len(served(store)) == 124


def test_empty_pull_is_a_failure_when_runs_are_stored(
    syncer: Syncer, store: TableStore, sandbox: Sandbox
) -> None:
    sync(syncer)
    before = head_of(store)
    sandbox.on(COURSES, no_results())
    with pytest.raises(EdxProtocolError, match="no courses at all"):
        sync(syncer, allow_withdrawals=True)
    assert head_of(store) == before
    assert {stored.withdrawn_at for stored in store.runs(1)} == {None}


def test_sync_ends_within_its_time_budget(syncer: Syncer, store: TableStore, sandbox: Sandbox) -> None:
    sync(syncer)
    before = head_of(store)
    sandbox.on(COURSES, slow(30), offset=2)
    with pytest.raises(EdxUnavailable):
        sync(syncer, budget_s=0.5)
    assert head_of(store) == before
    assert store.reports()[0].seconds < 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_lease_is_let_go_and_the_report_written_when_a_sync_is_stopped(
    syncer: Syncer, store: TableStore, error: type[BaseException]
) -> None:
    def stop(_done: int, _total: int | None) -> None:
        raise error("secret text")

    expected = SyncError if error is ValueError else error
    with pytest.raises(expected) as stopped:
        sync(syncer, on_progress=stop)
    assert ("secret" in str(stopped.value)) == (expected is error)
    (report,) = store.reports()
    assert (report.outcome, report.error) == ("failed", f"the sync was stopped by {error.__name__}")
    assert sync(syncer, budget_s=10).outcome == "ok"  # too short to take over a lease that is held


def test_sync_stops_and_publishes_nothing_when_its_lease_is_taken_over(
    syncer: Syncer, store: TableStore, catalog: Catalog, table: Table, clock: Clock
) -> None:
    sync(syncer)
    before = head_of(store)
    catalog.remove("NUSx+0x")
    catalog.add(make_course("NUSx+5x"))

    def lose(_done: int, _total: int | None) -> None:
        if table.get("1", "lease")["owner"] != "heir":  # type: ignore[index]
            acquire(table, "1", "heir", 60, sleep=clock.sleep, monotonic=clock.monotonic)

    with pytest.raises(LeaseLost):
        sync(syncer, on_progress=lose)
    assert head_of(store) == before
    assert store.run(1, course_run_id(run_key(5))) is None
    assert {stored.withdrawn_at for stored in store.runs(1)} == {None}


def test_progress_knows_the_total(syncer: Syncer) -> None:
    seen: list[tuple[int, int | None]] = []
    sync(syncer, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 5), (5, 5)]


# The guard against mass loss


@pytest.mark.parametrize(
    ("stored", "leaving", "ended", "percent", "stopped"),
    [
        (12, 10, 0, 20, False),  # ten are never suspicious
        (12, 11, 0, 20, True),
        (55, 11, 0, 20, False),  # 20 % exactly
        (54, 11, 0, 20, True),
        (54, 11, 1, 20, False),  # an ended run is no loss: ten open ones are left
        (60, 13, 1, 20, True),  # 12 of 59 open runs
        (12, 11, 0, 100, False),
        (400, 11, 0, 0, True),
    ],
)
def test_withdrawal_is_stopped_when_it_is_suspiciously_large(  # noqa: PLR0917 - fixtures
    make_syncer: Callable[..., Syncer],
    store: TableStore,
    catalog: Catalog,
    clock: Clock,
    stored: int,
    leaving: int,
    ended: int,
    percent: int,
    stopped: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    def course(numbers: range) -> dict[str, Any]:
        return make_course(
            "NUSx+7x",
            [
                make_run(
                    f"course-v1:NUSx+7x+{number:03}",
                    end="2026-03-01T12:00:30Z" if number < ended else None,
                )
                for number in numbers
            ],
        )

    syncer = make_syncer(SYNC_MAX_WITHDRAW_PERCENT=f"{percent}")
    catalog.replace([course(range(stored))])
    sync(syncer)
    catalog.replace([course(range(leaving, stored))])
    clock.pass_s(60)
    if not stopped:
        assert sync(syncer).withdrawn == leaving
        return
    with pytest.raises(MassLoss, match=rf"{leaving - ended} of {stored - ended} open runs"):
        sync(syncer)
    assert head_of(store).runs == stored - ended
    assert {each.withdrawn_at for each in store.runs(1)} == {None}


def test_guarded_sync_publishes_what_is_new_and_changed_and_does_not_count_as_synced(
    syncer: Syncer, store: TableStore, catalog: Catalog, clock: Clock
) -> None:
    catalog.replace([make_course(f"NUSx+{number}x") for number in range(10, 30)])
    sync(syncer)
    first = clock.now()
    clock.pass_s(60)
    catalog.remove(*(f"NUSx+{number}x" for number in range(10, 21)))
    catalog.add(make_course("NUSx+30x"))
    catalog.alter_run(run_key(21), end="2027-01-01T00:00:00Z")
    with pytest.raises(MassLoss, match="python -m shared sync --catalog 1 --allow-withdrawals"):
        sync(syncer)
    assert served(store) == [f"{number}" for number in range(10, 31)]
    assert b"2027" in body(store)
    assert head_of(store).synced_at == first
    (report, _) = store.reports()
    assert (report.outcome, counts(report)) == ("failed", {"created": 1, "changed": 1, "unchanged": 8})
    with pytest.raises(MassLoss):  # it stays stopped, also with nothing new
        sync(syncer)
    assert head_of(store).synced_at == first
    assert counts(sync(syncer, allow_withdrawals=True)) == {"unchanged": 10, "withdrawn": 11}
    assert served(store) == [f"{number}" for number in range(21, 31)]
    assert head_of(store).synced_at == clock.now()


# Damage and rebuilding


def test_rebuild_restores_what_another_hand_altered(
    syncer: Syncer, store: TableStore, runs_client: TableClient
) -> None:
    sync(syncer)
    before = {stored.run_id: stored for stored in store.runs(1)}
    keys = [course_run_id(run_key(number)) for number in range(4)]
    key = {"PartitionKey": "1"}
    runs_client.update_entity({**key, "RowKey": keys[0], "price": "0.01"}, UpdateMode.MERGE)
    runs_client.update_entity({**key, "RowKey": keys[1], "minEffort": "four"}, UpdateMode.MERGE)
    runs_client.update_entity({**key, "RowKey": keys[2], "withdrawnAt": "2026"}, UpdateMode.MERGE)
    runs_client.delete_entity("1", keys[3])
    runs_client.create_entity({**key, "RowKey": course_run_id("stray")})
    assert counts(sync(syncer)) == {"unchanged": 5}  # the published state is trusted
    report = sync(syncer, rebuild=True)
    assert counts(report) == {"created": 1, "changed": 2, "restored": 1, "unchanged": 1, "withdrawn": 1}
    stored = {each.run_id: each for each in store.runs(1) if each.mapped}
    assert stored == before
    assert served(store) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("row", ["digests-0000", "body-0000", None])
def test_published_state_is_made_anew_when_it_is_damaged(
    syncer: Syncer, store: TableStore, runs_client: TableClient, catalog: Catalog, row: str | None
) -> None:
    sync(syncer)
    generation = head_of(store).generation
    runs_client.delete_entity("1", f"published-{generation}-{row}" if row else "published")
    # Renders the body anew, from the runs where the body before cannot be read.
    catalog.alter_run(run_key(1), start="soon")
    catalog.alter_run(run_key(2), end="2027-01-01T00:00:00Z")
    assert counts(sync(syncer)) == {"changed": 1, "unchanged": 3, "rejected": 1}
    assert served(store) == ["0", "1", "2", "3", "4"]


# One at a time


@pytest.mark.parametrize(
    ("outcome", "error", "retry_at"),
    [
        (FinishedSync("other"), None, None),
        (
            FinishedSync("other", "the rate limit is used up", "EdxThrottled", "2026-03-01T13:00:00+00:00"),
            EdxThrottled,
            datetime(2026, 3, 1, 13, tzinfo=UTC),
        ),
        (FinishedSync("other", "the catalog is not found", "NotFound"), NotFound, None),
        (FinishedSync("other", "edX does not accept our credentials", "EdxRefused"), EdxRefused, None),
    ],
)
def test_sync_that_runs_elsewhere_is_waited_for_and_its_end_adopted(  # noqa: PLR0917 - fixtures
    syncer: Syncer,
    store: TableStore,
    sandbox: Sandbox,
    outcome: FinishedSync,
    error: type[SyncError] | None,
    retry_at: datetime | None,
) -> None:
    other = store.acquire(1, "other", 0)
    assert isinstance(other, CatalogWriter)
    ending = Timer(0.2, other.release, [outcome])
    ending.start()
    if error is None:
        assert syncer.sync(1, 60, Caller("http")) is None
    else:
        with pytest.raises(error, match=outcome.error) as raised:
            syncer.sync(1, 60, Caller("http"))
        assert getattr(raised.value, "retry_at", None) == retry_at
    ending.join()
    assert sandbox.requests == []
    assert store.reports() == []


# Throttling


def test_edx_is_left_alone_until_its_rate_limit_is_over(
    make_syncer: Callable[..., Syncer], store: TableStore, sandbox: Sandbox, clock: Clock
) -> None:
    sandbox.on(COURSES, throttle(3592), offset=2, times=1)
    until = clock.now() + timedelta(seconds=3592)
    with pytest.raises(EdxThrottled) as throttled:
        sync(make_syncer())
    assert throttled.value.retry_at == until
    assert store.throttled_until(CLIENT_ID) == until
    assert store.reports()[0].throttled_until == until
    sandbox.forget_requests()
    for catalog_id in (1, 12):
        with pytest.raises(EdxThrottled, match="2026-03-01T12:59:52Z") as throttled:
            sync(make_syncer(), catalog_id)  # another process: it knows from storage alone
        assert throttled.value.retry_at == until
    assert sandbox.requests == []
    clock.pass_s(3592)
    assert counts(sync(make_syncer())) == {"created": 5}


def test_remembered_throttling_is_waited_for_when_it_fits_the_time_budget(
    syncer: Syncer, store: TableStore, clock: Clock
) -> None:
    store.remember_throttled(CLIENT_ID, clock.now() + timedelta(seconds=40))
    sync(syncer)
    assert clock.slept == [40]


def test_remembered_throttling_counts_for_24_hours_at_most(
    syncer: Syncer, store: TableStore, clock: Clock
) -> None:
    store.remember_throttled(CLIENT_ID, clock.now() + timedelta(days=400))
    with pytest.raises(EdxThrottled) as throttled:
        sync(syncer)
    assert throttled.value.retry_at == clock.now() + timedelta(hours=24)


# The list of catalogs, the preview, the log


def test_list_of_catalogs_is_sorted_and_remembered(syncer: Syncer, store: TableStore, clock: Clock) -> None:
    listed = syncer.list_catalogs(60, Caller("http"))
    assert (listed.catalog_ids, listed.listed_at) == ((1, 12), clock.now())
    assert store.catalog_list(CLIENT_ID) == listed


def test_preview_tells_what_a_sync_would_do_and_writes_nothing(
    syncer: Syncer, store: TableStore, catalog: Catalog, proxy: TablesProxy
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(1), end="2027-01-01T00:00:00Z")
    catalog.remove("NUSx+2x")
    catalog.add(make_course("NUSx+5x"))
    proxy.requests.clear()
    preview = syncer.preview(1, 60)
    assert {request.method for request in proxy.requests} == {"GET"}
    assert [(change.kind, stored is None) for stored, change in preview.changes] == [
        ("changed", False), ("created", True),
    ]  # fmt: skip
    assert [stored.mapped.run.courserun_key for stored in preview.gone if stored.mapped] == [run_key(2)]
    assert preview.stopped is None
    assert store.head(1) == head_of(store)


def test_sync_logs_one_line_of_json(syncer: Syncer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "shared.sync.sync"):
        report = sync(syncer)
    (line,) = [json.loads(record.message) for record in caplog.records if record.name == "shared.sync.sync"]
    assert (line["event"], line["sync_id"], line["invocation_id"]) == ("sync", report.sync_id, "0a1b")
    assert (line["catalog"], line["created"], line["outcome"]) == (1, 5, "ok")
