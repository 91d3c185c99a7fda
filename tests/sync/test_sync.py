"""The sync of one catalog, with the sandbox, real tables and a fake clock."""

import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Event, Timer
from typing import Any

import pytest
from azure.data.tables import TableClient, UpdateMode

from local.azurite import Azurite
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import Action, answer, envelope, no_results, repeat, slow, throttle, without
from shared.deadline import Deadline
from shared.domain.attempts import FinishedSync
from shared.domain.comparison import UNREADABLE
from shared.domain.course_run import course_run_id
from shared.domain.credits import Approval
from shared.domain.published import Head, unpack
from shared.domain.sync_report import SyncReport
from shared.edx.client import EdxClient
from shared.errors import (
    EdxProtocolError,
    EdxRefused,
    EdxThrottled,
    EdxUnavailable,
    Failure,
    MassLoss,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.settings import StorageSettings, connector_settings
from shared.storage.lease import LeaseLost, Leases, LeaseState
from shared.storage.table import Table
from shared.storage.tables import Tables, open_tables
from shared.storage.writer import CatalogWriter
from shared.sync.pull import Puller
from shared.sync.run import Origin, SyncInProgress
from shared.sync.sessions import Sessions
from shared.sync.state import StoredState
from shared.sync.sync import BackingOff, Syncer
from tests.builders import make_course, make_run
from tests.clock import Clock
from tests.table_proxy import TableProxy, refuse_in_batch
from tests.table_proxy import answer as busy

ONE_OCLOCK = datetime(2026, 3, 1, 13, tzinfo=UTC)
COURSES = "/catalogs/1/courses/"
CLIENT_ID = "sandbox-client"


@pytest.fixture
def catalog() -> Catalog:
    """Five courses of one run each; pages hold two."""
    return Catalog(1, "Ours", [make_course(key=f"NUSx+{number}x") for number in range(5)])


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Sandbox]:
    with Sandbox([catalog, Catalog(12, "Empty")]) as sandbox:
        yield sandbox


@pytest.fixture
def make_syncer(proxied_tables: Tables, settings: dict[str, str], clock: Clock) -> Callable[..., Syncer]:
    def make(lifetime_s: float = 60, **more_settings: str) -> Syncer:
        ours = connector_settings({**settings, "EDX_PAGE_SIZE": "2", **more_settings})
        edx = EdxClient(ours.edx, clock=clock.monotonic, now=clock.now, sleep=clock.sleep, random=lambda: 0.0)
        return Syncer(proxied_tables, edx, ours, now=clock.now, sleep=clock.sleep, lifetime_s=lifetime_s)

    return make


@pytest.fixture
def syncer(make_syncer: Callable[..., Syncer]) -> Syncer:
    return make_syncer()


@pytest.fixture
def after_a_dead_sync(
    storage: StorageSettings, settings: dict[str, str], clock: Clock
) -> Callable[..., Syncer]:
    """Makes a syncer that finds the lease of a sync whose process stopped; all its pauses are skipped."""

    def make(lifetime_s: float = 60) -> Syncer:
        tables = open_tables(storage, CLIENT_ID, now=clock.now, clock=clock.monotonic, sleep=clock.sleep)
        begin(tables, "dead")
        ours = connector_settings(settings)
        edx = EdxClient(ours.edx, clock=clock.monotonic, now=clock.now, sleep=clock.sleep)
        return Syncer(
            tables,
            edx,
            ours,
            now=clock.now,
            clock=clock.monotonic,
            sleep=clock.sleep,
            lifetime_s=lifetime_s,
        )

    return make


def sync(syncer: Syncer, catalog_id: int = 1, **options: Any) -> SyncReport:
    report = syncer.sync(catalog_id, Origin("operator", "0a1b"), **options)
    assert report
    return report


def counts(report: SyncReport) -> dict[str, int]:
    """Return the counts of a report that are not 0."""
    names = (
        "created",
        "changed",
        "restored",
        "unchanged",
        "withdrawn",
        "unpublished",
        "ended_early",
        "rejected",
    )
    return {name: value for name in names if (value := getattr(report, name))}


def head_of(tables: Tables, catalog_id: int = 1) -> Head:
    head = tables.catalogs.head(catalog_id)
    assert head
    return head


def body(tables: Tables, catalog_id: int = 1) -> bytes:
    return unpack(tables.catalogs.body(catalog_id, head_of(tables, catalog_id)))


def served(tables: Tables) -> list[str]:
    """Return the number of each course whose run is served, sorted by run key."""
    return [re.sub(r".*\+(\w+)x\+.*", r"\1", run["courserunKey"]) for run in json.loads(body(tables))]


def run_key(number: object) -> str:
    return f"course-v1:NUSx+{number}x+2T2026"


def take_out(catalog: Catalog, key: str) -> dict[str, Any]:
    """Remove a course from the catalog and return it."""
    (course,) = [each for each in catalog.courses if each["key"] == key]
    catalog.remove(key)
    return course


def run_ids(proxy: TableProxy) -> list[str]:
    """Return the course runs that were read or written one by one."""
    return [key for key in proxy.entities() if re.fullmatch("[0-9a-f]{8}-[0-9a-f-]{27}", key)]


def take_over(table: Table, clock: Clock) -> None:
    """Take over the lease of catalog 1, as another process does after it has expired."""
    leases = Leases(table, clock=clock.monotonic, sleep=clock.sleep, now=clock.now)
    taken = leases.acquire(
        "1",
        "heir",
        Deadline.after(60, clock.monotonic),
        admit=lambda _attempts: None,
        on_wait=lambda _holder: None,
        begins_attempt=True,
    )
    assert not isinstance(taken, FinishedSync)


def changes(tables: Tables, clock: Clock) -> list[dict[str, Any]]:
    """Return the history of catalog 1, newest sync first, without its times."""
    del clock
    shown = [
        entry.as_json("", 1) for published in tables.history.pages(1, None) for entry in published.entries
    ]
    return [{name: value for name, value in entry.items() if name not in {"at", "id"}} for entry in shown]


# What a sync stores and publishes


def test_first_sync_stores_and_publishes_everything(syncer: Syncer, tables: Tables, clock: Clock) -> None:
    report = sync(syncer)
    assert (report.outcome, report.courses, report.runs) == ("ok", 5, 5)
    assert counts(report) == {"created": 5}
    assert report.edx_requests == 3  # a token and two pages
    assert served(tables) == ["0", "1", "2", "3", "4"]
    assert {stored.withdrawn_at for stored in tables.catalogs.runs(1)} == {None}
    assert head_of(tables).synced_at == clock.now()
    assert tables.reports.newest() == [report]


def test_second_sync_writes_no_course_run_when_nothing_changed(
    syncer: Syncer, tables: Tables, proxy: TableProxy, clock: Clock
) -> None:
    sync(syncer)
    before = head_of(tables)
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
    after = head_of(tables)
    assert (after.generation, after.tag) == (before.generation, before.tag)
    assert after.synced_at == clock.now()


def test_preview_reads_no_course_run_when_all_are_new(syncer: Syncer, proxy: TableProxy) -> None:
    preview = syncer.preview(1)
    assert [change.kind for _, change in preview.changes] == ["created"] * 5
    assert run_ids(proxy) == []


def test_only_changed_runs_are_written_and_a_preview_shows_them_before(
    syncer: Syncer, tables: Tables, catalog: Catalog, proxy: TableProxy
) -> None:
    sync(syncer)
    before = head_of(tables)
    catalog.alter_run(run_key(1), end="2027-01-01T00:00:00Z")
    catalog.remove("NUSx+2x")
    catalog.add(make_course(key="NUSx+5x"))
    proxy.requests.clear()
    preview = syncer.preview(1)
    assert {request.method for request in proxy.requests} == {"GET"}
    assert set(run_ids(proxy)) == {course_run_id(run_key(number)) for number in (1, 2)}
    assert [(change.kind, stored is None) for stored, change in preview.changes] == [
        ("changed", False), ("created", True),
    ]  # fmt: skip
    assert [stored.mapped.run.courserun_key for stored in preview.gone if stored.mapped] == [run_key(2)]
    assert preview.stopped is None
    assert head_of(tables) == before
    proxy.requests.clear()
    report = sync(syncer)
    assert counts(report) == {"created": 1, "changed": 1, "unchanged": 3, "withdrawn": 1}
    assert set(run_ids(proxy)) == {course_run_id(run_key(number)) for number in (1, 2, 5)}
    assert served(tables) == ["0", "1", "3", "4", "5"]
    assert b'"endDate":"2027-01-01T00:00:00Z"' in body(tables)


def test_preview_shows_what_callers_would_lose_and_that_the_guard_would_stop_the_sync(
    syncer: Syncer, tables: Tables, catalog: Catalog, proxy: TableProxy, clock: Clock
) -> None:
    twenty(catalog)
    sync(syncer)
    for number in range(10, 20):
        catalog.alter_run(run_key(number), status="unpublished")
    catalog.alter_run(run_key(20), end="2020-01-01T00:00:00Z")
    catalog.remove("NUSx+21x")
    clock.pass_s(60)
    proxy.requests.clear()
    seen: list[tuple[int, int | None]] = []
    preview = syncer.preview(1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (19, 19)
    assert [query for query in proxy.queries() if "CourseRuns" in query] == []
    assert {
        reason: sorted(stored.mapped.run.courserun_key for stored in runs if stored.mapped)
        for reason, runs in preview.lost.items()
    } == {
        "missing": [run_key(21)],
        "unpublished": sorted(run_key(number) for number in range(10, 20)),
        "ended": [run_key(20)],
    }
    assert preview.changes == []  # the guard would keep them
    assert [stored.mapped.run.courserun_key for stored in preview.gone if stored.mapped] == [run_key(21)]
    assert preview.stopped
    assert preview.stopped.message.startswith("callers would lose 12 of 20, ")
    report = preview.report
    assert (report.catalog_id, report.trigger, report.outcome, report.runs) == (1, "preview", "ok", 8)
    assert (report.started, report.ended) == (clock.now(), clock.now())
    assert len(tables.reports.newest()) == 1


def test_preview_shows_delayed_changes_when_the_guard_would_allow_the_loss(
    syncer: Syncer, catalog: Catalog
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(2), status="unpublished")
    preview = syncer.preview(1)
    ((stored, change),) = preview.changes
    assert (change.kind, change.run_id) == ("changed", course_run_id(run_key(2)))
    assert stored
    assert stored.run_id == change.run_id
    assert preview.stopped is None


def test_preview_waits_for_the_end_of_the_rate_limit(syncer: Syncer, tables: Tables, clock: Clock) -> None:
    tables.account.remember_throttled(clock.now() + timedelta(seconds=40))
    syncer.preview(1)
    assert clock.slept == [40]


def test_withdrawn_run_stays_in_storage_and_keeps_its_id_when_it_returns(
    syncer: Syncer, tables: Tables, catalog: Catalog, clock: Clock
) -> None:
    sync(syncer)
    before = tables.catalogs.run(1, course_run_id(run_key(2)))
    assert before
    course = take_out(catalog, "NUSx+2x")
    sync(syncer)
    assert tables.catalogs.run(1, course_run_id(run_key(2))) == before._replace(
        withdrawn_at=clock.now().isoformat()
    )
    assert counts(sync(syncer)) == {"unchanged": 4}
    catalog.add(course)
    assert counts(sync(syncer)) == {"restored": 1, "unchanged": 4}
    assert tables.catalogs.run(1, course_run_id(run_key(2))) == before
    assert served(tables) == ["0", "1", "2", "3", "4"]


def test_run_keeps_its_stored_values_when_its_record_is_rejected(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(2), start="soon", end="2027-01-01T00:00:00Z")
    catalog.alter_run(run_key(3), end="2028-01-01T00:00:00Z")
    catalog.remove("NUSx+4x")
    before = tables.catalogs.run(1, course_run_id(run_key(2)))
    report = sync(syncer)
    assert counts(report) == {"changed": 1, "unchanged": 2, "withdrawn": 1, "rejected": 1}
    assert [each.run_key for each in report.rejections] == [run_key(2)]
    assert (report.outcome, tables.catalogs.run(1, course_run_id(run_key(2)))) == ("ok", before)
    assert served(tables) == ["0", "1", "2", "3"]  # the last run is missing; the rejected run is not
    assert b"2027" not in body(tables)


def test_rejected_run_is_marked_when_nothing_else_changed(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(2), start="soon")
    assert counts(sync(syncer)) == {"unchanged": 4, "rejected": 1}
    digests = tables.catalogs.digests(1, head_of(tables))
    assert [key for key in range(5) if digests[course_run_id(run_key(key))] == UNREADABLE] == [2]


def test_run_is_rejected_and_written_by_the_next_sync_when_storage_refuses_it(
    syncer: Syncer, tables: Tables, proxy: TableProxy
) -> None:
    proxy.on(refuse_in_batch(0), kind="write runs", times=1)
    report = sync(syncer)
    assert counts(report) == {"created": 4, "rejected": 1}
    assert [(each.run_key, each.field) for each in report.rejections] == [(run_key(0), "entity")]
    assert served(tables) == ["1", "2", "3", "4"]
    assert counts(sync(syncer)) == {"created": 1, "unchanged": 4}
    assert served(tables) == ["0", "1", "2", "3", "4"]


def test_run_is_stored_and_not_served_when_edx_no_longer_publishes_it(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(2), status="unpublished", hidden=False)
    catalog.alter_run(run_key(3), hidden=True)
    assert counts(sync(syncer)) == {"changed": 1, "unchanged": 4, "unpublished": 1}
    assert served(tables) == ["0", "1", "3", "4"]
    stored = tables.catalogs.run(1, course_run_id(run_key(2)))
    assert stored
    assert stored.withdrawn_at is None


def test_first_record_of_a_run_is_used_when_it_is_in_several_courses(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    catalog.add(make_course(make_run(key=run_key(0), end="2027-01-01T00:00:00Z"), key="NUSx+5x"))
    assert counts(sync(syncer)) == {"created": 5}
    assert b"2027" not in body(tables)


def test_body_is_rendered_again_when_a_run_has_begun_or_ended(
    syncer: Syncer, tables: Tables, catalog: Catalog, proxy: TableProxy, clock: Clock
) -> None:
    catalog.alter_run(run_key(2), start="2026-03-01T12:00:10Z", end="2026-03-01T12:00:20Z")
    sync(syncer)
    assert b'"Upcoming"' in body(tables)
    proxy.requests.clear()
    for seconds, expected in ((10, ["0", "1", "2", "3", "4"]), (10, ["0", "1", "3", "4"])):
        clock.pass_s(seconds)
        assert counts(sync(syncer)) == {"unchanged": 5}
        assert served(tables) == expected
        assert b'"Upcoming"' not in body(tables)
    assert run_ids(proxy) == []


def test_empty_catalog_is_an_empty_array_when_it_never_had_runs(syncer: Syncer, tables: Tables) -> None:
    for _ in range(2):
        report = sync(syncer, 12)
        assert (report.outcome, report.runs) == ("ok", 0)
        assert body(tables, 12) == b"[]"


# Incomplete pulls


INCOMPLETE: list[tuple[int | None, Action, str]] = [
    (None, envelope(count=7), "edX returned 4 courses but counts 7"),
    (None, without("count"), "edX sent no count"),
    (None, envelope(count="4"), "edX sent no count"),
    (2, repeat(0), "the pages do not overlap between positions 1 and 2"),
    (
        2,
        envelope(results=[], next=f"https://discovery.edx.org{COURSES}?limit=2&offset=4"),
        "the page at offset 2 was empty",
    ),
]


@pytest.mark.parametrize(("offset", "fault", "problem"), INCOMPLETE)
def test_nothing_is_withdrawn_when_both_pulls_are_incomplete(  # noqa: PLR0917 - fixtures
    syncer: Syncer,
    tables: Tables,
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
    assert served(tables) == ["0", "1", "2", "3", "4"]
    assert len([each for each in sandbox.requests_to(COURSES) if each.offset == 0]) == 2
    rule.times = 0
    assert counts(sync(syncer))["withdrawn"] == 1
    assert served(tables) == ["1", "2", "3", "4"]
    assert b"2027" in body(tables)


def test_received_runs_are_published_and_the_sync_succeeds_when_the_pull_is_incomplete(
    syncer: Syncer, tables: Tables, catalog: Catalog, sandbox: Sandbox, clock: Clock
) -> None:
    sync(syncer)
    clock.pass_s(60)
    catalog.remove("NUSx+0x")
    catalog.add(make_course(key="NUSx+5x"))
    catalog.alter_run(run_key(1), end="2027-01-01T00:00:00Z")
    sandbox.on(COURSES, without("count"))
    report = sync(syncer)
    assert (report.outcome, counts(report)) == ("incomplete", {"created": 1, "changed": 1, "unchanged": 3})
    assert served(tables) == ["0", "1", "2", "3", "4", "5"]
    assert b"2027" in body(tables)
    assert head_of(tables).synced_at == clock.now()


def test_pull_is_not_repeated_when_another_would_be_incomplete_for_the_same_reason(
    syncer: Syncer, tables: Tables, catalog: Catalog, sandbox: Sandbox
) -> None:
    sync(syncer)
    catalog.remove("NUSx+0x")
    catalog.unrenderable = {"NUSx+4x"}
    sandbox.forget_requests()
    report = sync(syncer)
    assert (report.outcome, report.incomplete) == (
        "incomplete",
        "edX could not render the course at position 3",
    )
    assert len([each for each in sandbox.requests_to(COURSES) if each.offset == 0]) == 1
    assert served(tables) == ["0", "1", "2", "3", "4"]


def test_second_pull_is_used_when_it_is_complete(
    syncer: Syncer, tables: Tables, catalog: Catalog, sandbox: Sandbox
) -> None:
    sync(syncer)
    catalog.remove("NUSx+0x")
    sandbox.on(COURSES, envelope(count=7), times=1)
    report = sync(syncer)
    assert (report.outcome, report.incomplete, report.courses) == ("ok", None, 4)
    assert counts(report) == {"unchanged": 4, "withdrawn": 1}
    assert served(tables) == ["1", "2", "3", "4"]


def test_run_is_withdrawn_when_only_the_first_of_two_pulls_returned_it(
    syncer: Syncer, tables: Tables, catalog: Catalog, sandbox: Sandbox
) -> None:
    sync(syncer)
    catalog.add(make_course(key="NUSx+5x"))

    def going(_exchange: object, reply: Any) -> Any:
        catalog.remove("NUSx+5x")
        return reply

    sandbox.on(COURSES, without("count"), offset=0, times=1)
    sandbox.on(COURSES, going, offset=4, times=1)
    report = sync(syncer)
    assert (report.outcome, counts(report)) == ("ok", {"unchanged": 5, "withdrawn": 1})
    assert served(tables) == ["0", "1", "2", "3", "4"]
    stored = tables.catalogs.run(1, course_run_id(run_key(5)))
    assert stored
    assert stored.withdrawn_at


def test_no_run_is_withdrawn_until_an_operator_allows_it_when_there_are_new_records_without_a_key(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    catalog.add(make_course(make_run(key=run_key(5)), {"start": None}, key="NUSx+5x"))
    assert sync(syncer).outcome == "ok"
    catalog.remove("NUSx+0x")  # the record without a key was there before: it cannot be this run
    assert counts(sync(syncer)) == {"unchanged": 5, "withdrawn": 1, "rejected": 1}
    catalog.remove("NUSx+1x")
    catalog.add(make_course({"start": None}, key="NUSx+6x"))
    for _ in range(2):
        report = sync(syncer)
        assert (report.outcome, report.withdrawn) == ("incomplete", 0)
        assert "1 new records without a readable key" in (report.incomplete or "")
        assert served(tables) == ["1", "2", "3", "4", "5"]
    assert sync(syncer, allow_withdrawals=True).withdrawn == 1
    assert served(tables) == ["2", "3", "4", "5"]


# Failures


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answer(200, '{"results": 7}'), EdxProtocolError),
        (answer(403), EdxUnavailable),
    ],
)
def test_published_state_is_unchanged_when_a_page_fails(  # noqa: PLR0917 - fixtures
    syncer: Syncer,
    tables: Tables,
    catalog: Catalog,
    sandbox: Sandbox,
    clock: Clock,
    fault: Action,
    error: type[Exception],
) -> None:
    many = make_course(*(make_run(key=f"course-v1:NUSx+7x+{number}") for number in range(120)), key="NUSx+7x")
    catalog.add(many, at=0)
    sync(syncer)
    head, before = head_of(tables), body(tables)
    catalog.alter("NUSx+7x", lambda course: [run.update(end=None) for run in course["course_runs"]])
    catalog.remove("NUSx+0x")
    rule = sandbox.on(COURSES, fault, offset=2)
    clock.pass_s(1)  # reports are sorted by time
    with pytest.raises(error):
        sync(syncer)
    assert body(tables) == before
    assert head_of(tables).synced_at == head.synced_at
    assert {stored.withdrawn_at for stored in tables.catalogs.runs(1)} == {None}
    (report, _) = tables.reports.newest()
    assert (report.outcome, report.withdrawn) == ("failed", 0)
    assert report.error
    # A batch of changes had been written; the next sync finds them and publishes.
    rule.times = 0
    assert counts(sync(syncer)) == {"changed": 22, "unchanged": 102, "withdrawn": 1}
    assert b"3000" not in body(tables).partition(b"NUSx+7x")[2].partition(b"NUSx+1x")[0]
    assert len(served(tables)) == 124


def test_empty_pull_is_a_failure_when_runs_are_stored(
    syncer: Syncer, tables: Tables, sandbox: Sandbox
) -> None:
    sync(syncer)
    before = head_of(tables)
    sandbox.on(COURSES, no_results())
    with pytest.raises(EdxProtocolError, match="no courses although 5 runs are stored"):
        sync(syncer)
    assert head_of(tables) == before
    assert {stored.withdrawn_at for stored in tables.catalogs.runs(1)} == {None}


@pytest.mark.parametrize(("fault", "count"), [(without("count"), "no count"), (envelope(count=3), "count 3")])
def test_empty_pull_is_a_failure_when_edx_does_not_say_that_the_catalog_is_empty(
    syncer: Syncer, tables: Tables, sandbox: Sandbox, fault: Action, count: str
) -> None:
    sandbox.on("/catalogs/12/courses/", fault)
    sentence = f"edX returned no courses ({count}) and did not say that the catalog is empty"
    with pytest.raises(EdxProtocolError, match=f"^{re.escape(sentence)}$"):
        sync(syncer, 12)
    assert tables.catalogs.head(12) is None


def test_sync_fails_at_the_end_of_its_lifetime_when_edx_is_slow(
    syncer: Syncer, make_syncer: Callable[..., Syncer], tables: Tables, sandbox: Sandbox
) -> None:
    sync(syncer)
    before = head_of(tables)
    sandbox.on(COURSES, slow(30), offset=2)
    with pytest.raises(EdxUnavailable):
        sync(make_syncer(lifetime_s=0.5))
    assert head_of(tables) == before
    assert tables.reports.newest()[0].seconds < 5


def test_report_is_stored_in_one_try_when_storage_has_failed_the_sync(
    syncer: Syncer, proxy: TableProxy
) -> None:
    proxy.on(busy(503), kind="create lease|write report")
    with pytest.raises(StorageError, match="HTTP 503"):
        sync(syncer)
    kinds = [request.kind for request in proxy.requests]
    assert (kinds.count("create lease"), kinds.count("write report")) == (6, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_lease_is_released_and_the_report_written_when_a_sync_is_stopped(
    syncer: Syncer,
    make_syncer: Callable[..., Syncer],
    tables: Tables,
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
) -> None:
    def stop(_done: int, _total: int | None) -> None:
        raise error("secret text")

    expected = SyncError if error is ValueError else error
    with pytest.raises(expected) as stopped:
        sync(syncer, on_progress=stop)
    assert ("secret" in str(stopped.value)) == (expected is error)
    (report,) = tables.reports.newest()
    sentence = f"the sync stopped unexpectedly ({error.__name__})"
    assert (report.outcome, report.error) == ("failed", sentence)
    if expected is SyncError:
        assert str(stopped.value) == sentence
        assert stopped.value.__suppress_context__
    places = [each for each in caplog.records if each.message.startswith("Unexpected ")]
    assert [each.levelno for each in places] == ([logging.ERROR] if expected is SyncError else [])
    assert sync(make_syncer(lifetime_s=10)).outcome == "ok"  # too short to take over a lease that is held


def test_sync_stops_and_publishes_nothing_when_its_lease_is_taken_over(
    syncer: Syncer, tables: Tables, catalog: Catalog, table: Table, clock: Clock
) -> None:
    sync(syncer)
    before = head_of(tables)
    catalog.remove("NUSx+0x")
    catalog.add(make_course(key="NUSx+5x"))

    def lose(_done: int, _total: int | None) -> None:
        if table.get("1", "lease")["owner"] != "heir":  # type: ignore[index]
            take_over(table, clock)

    with pytest.raises(LeaseLost):
        sync(syncer, on_progress=lose)
    assert head_of(tables) == before
    assert tables.catalogs.run(1, course_run_id(run_key(5))) is None
    assert {stored.withdrawn_at for stored in tables.catalogs.runs(1)} == {None}


def test_no_page_is_requested_when_the_lease_is_lost_before_the_pull(
    syncer: Syncer, tables: Tables, settings: dict[str, str], sandbox: Sandbox, clock: Clock
) -> None:
    puller = Puller(tables.credits, syncer.sessions, connector_settings(settings), clock.now)
    run = SyncInProgress(1, Origin("http"), clock.now())
    run.lose_lease()
    state = StoredState(tables.catalogs, 1, rebuild=False)
    with pytest.raises(EdxUnavailable):
        puller.pull(run, state, Deadline.after(60), lambda _: None, lambda *_: None, allow_withdrawals=False)
    assert sandbox.requests_to(COURSES) == []


def test_no_further_page_is_requested_when_the_lease_is_lost_during_the_pull(
    tables: Tables, settings: dict[str, str], sandbox: Sandbox, clock: Clock
) -> None:
    ours = connector_settings({**settings, "EDX_PAGE_SIZE": "1", "EDX_CONCURRENCY": "1"})
    edx = EdxClient(ours.edx, clock=clock.monotonic, now=clock.now, sleep=clock.sleep)
    sessions = Sessions(edx, tables.account, lambda *_line: None, now=clock.now, sleep=clock.sleep)
    run = SyncInProgress(1, Origin("http"), clock.now())
    gate = Event()

    def hold(_exchange: object, reply: Any) -> Any:
        assert gate.wait(10)
        return reply

    def lose(_done: int, _total: int | None) -> None:
        run.lose_lease()
        gate.set()

    sandbox.on(COURSES, hold, offset=1)
    state = StoredState(tables.catalogs, 1, rebuild=False)
    deadline = Deadline.after(60, clock.monotonic)
    with pytest.raises(EdxUnavailable, match="cancelled"):
        Puller(tables.credits, sessions, ours, clock.now).pull(
            run, state, deadline, lambda _: None, lose, allow_withdrawals=False
        )
    assert {each.offset for each in sandbox.requests_to(COURSES)} <= {0, 1}


def test_report_is_stored_in_several_tries_when_the_lease_was_lost(
    syncer: Syncer, table: Table, tables: Tables, proxy: TableProxy, clock: Clock
) -> None:
    proxy.on(busy(503), kind="write report", times=1)
    with pytest.raises(LeaseLost):
        sync(syncer, on_progress=lambda done, _total: take_over(table, clock) if done < 5 else None)
    assert [report.outcome for report in tables.reports.newest()] == ["failed"]


def test_sync_has_its_whole_time_when_it_has_waited_for_another(
    after_a_dead_sync: Callable[..., Syncer], clock: Clock
) -> None:
    syncer = after_a_dead_sync(lifetime_s=40)

    def pass_time(_done: int, _total: int | None) -> None:
        clock.pass_s(20)  # with the wait of 30 s, more than the time of one sync

    assert sync(syncer, on_progress=pass_time).outcome == "ok"


def test_progress_has_the_count_of_edx_as_the_total(syncer: Syncer) -> None:
    seen: list[tuple[int, int | None]] = []
    sync(syncer, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 5), (5, 5)]


# The guard against mass loss


def twenty(catalog: Catalog, **fields: Any) -> None:
    """Serve twenty courses with one run each, with these fields of the run."""
    catalog.replace(
        [make_course(make_run(key=run_key(n), **fields), key=f"NUSx+{n}x") for n in range(10, 30)]
    )


@pytest.mark.parametrize(
    ("taken_away", "reason"),
    [
        ({"status": "unpublished"}, "no longer published"),
        ({"end": "2020-01-01T00:00:00Z"}, "ended by a date that edX moved into the past"),
        ({"start": "TBD"}, "with a record that cannot be read any more"),
        ({"start": "TBD", "status": "archived"}, "no longer published"),
    ],
)
def test_sync_is_stopped_when_callers_would_lose_too_much_for_any_reason(
    syncer: Syncer, tables: Tables, catalog: Catalog, taken_away: dict[str, str], reason: str
) -> None:
    twenty(catalog)
    sync(syncer)
    before, rows = body(tables), list(tables.catalogs.runs(1))
    twenty(catalog, **taken_away)
    for _ in range(2):  # it stays stopped
        with pytest.raises(MassLoss, match=f"lose 20 of 20, {reason};"):
            sync(syncer)
    assert (body(tables), list(tables.catalogs.runs(1))) == (before, rows)
    assert sync(syncer, rebuild=True, allow_withdrawals=True).outcome == "ok"
    assert len(served(tables)) == (20 if "read any more" in reason else 0)
    assert sync(syncer).outcome == "ok"


def test_small_loss_is_counted_separately_from_withdrawals(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    twenty(catalog)
    sync(syncer)
    catalog.alter_run(run_key(10), status="unpublished")
    catalog.alter_run(run_key(11), end="2020-01-01T00:00:00Z")
    catalog.alter_run(run_key(12), start="TBD", status="unpublished")
    catalog.remove("NUSx+13x")
    report = sync(syncer)
    assert counts(report) == {
        "changed": 3, "unchanged": 16, "unpublished": 2, "ended_early": 1, "withdrawn": 1, "rejected": 1,
    }  # fmt: skip
    assert served(tables) == [f"{number}" for number in range(14, 30)]
    unpublished = tables.catalogs.run(1, course_run_id(run_key(12)))
    assert unpublished
    assert unpublished.mapped
    assert not unpublished.mapped.is_published
    assert counts(sync(syncer)) == {"unchanged": 18, "rejected": 1}


def test_new_records_without_a_key_are_doubtful_again_after_a_sync_that_the_guard_stopped(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    twenty(catalog)
    sync(syncer)
    twenty(catalog, status="unpublished")
    catalog.add(make_course({"start": None}, key="NUSx+9x"), make_course(key="NUSx+30x"))
    with pytest.raises(MassLoss):
        sync(syncer)
    assert head_of(tables).unidentified == 0
    twenty(catalog)
    catalog.remove("NUSx+10x")
    catalog.add(make_course({"start": None}, key="NUSx+9x"), make_course(key="NUSx+30x"))
    report = sync(syncer)
    assert (report.outcome, report.withdrawn) == ("incomplete", 0)
    assert head_of(tables).unidentified == 0


def test_limit_of_the_guard_is_the_setting(make_syncer: Callable[..., Syncer], catalog: Catalog) -> None:
    twenty(catalog)
    sync(make_syncer())
    catalog.remove(*(f"NUSx+{number}x" for number in range(10, 22)))
    with pytest.raises(MassLoss, match="SYNC_MAX_WITHDRAW_PERCENT allows 59 %"):
        sync(make_syncer(SYNC_MAX_WITHDRAW_PERCENT="59"))
    assert sync(make_syncer(SYNC_MAX_WITHDRAW_PERCENT="60")).withdrawn == 12


def test_guard_stops_the_same_loss_again_when_stopped_syncs_have_added_runs(
    syncer: Syncer, tables: Tables, catalog: Catalog
) -> None:
    twenty(catalog)
    sync(syncer)
    catalog.remove(*(f"NUSx+{number}x" for number in range(10, 21)))
    for added in range(30, 130, 50):
        catalog.add(*(make_course(key=f"NUSx+{number}x") for number in range(added, added + 50)))
        with pytest.raises(MassLoss, match="lose 11 of 20"):
            sync(syncer)
    with pytest.raises(MassLoss, match="lose 11 of 20"):
        sync(syncer, rebuild=True)
    assert len(served(tables)) == 120


def test_empty_catalog_is_allowed_by_the_operator_only_when_edx_says_that_it_is_empty(
    syncer: Syncer, tables: Tables, catalog: Catalog, sandbox: Sandbox
) -> None:
    sync(syncer)
    rule = sandbox.on(COURSES, envelope(results=[], count=5, next=None))
    with pytest.raises(EdxProtocolError, match="no courses although 5 runs are stored"):
        sync(syncer, allow_withdrawals=True)
    rule.times = 0
    catalog.replace([])
    with pytest.raises(
        EdxProtocolError, match="no courses although 5 runs are stored; nothing was withdrawn"
    ):
        sync(syncer)
    assert len(served(tables)) == 5
    assert sync(syncer, allow_withdrawals=True).withdrawn == 5
    assert sync(syncer).outcome == "ok"
    assert served(tables) == []


def test_new_and_changed_runs_are_published_and_the_sync_fails_when_the_guard_stops_it(
    syncer: Syncer, tables: Tables, catalog: Catalog, clock: Clock
) -> None:
    catalog.replace([make_course(key=f"NUSx+{number}x") for number in range(10, 30)])
    sync(syncer)
    first = clock.now()
    clock.pass_s(60)
    catalog.remove(*(f"NUSx+{number}x" for number in range(10, 21)))
    catalog.add(make_course(key="NUSx+30x"))
    catalog.alter_run(run_key(21), end="2027-01-01T00:00:00Z")
    with pytest.raises(MassLoss, match="python -m shared sync --catalog 1 --allow-withdrawals"):
        sync(syncer)
    assert served(tables) == [f"{number}" for number in range(10, 31)]
    assert b"2027" in body(tables)
    assert head_of(tables).synced_at == first
    (report, _) = tables.reports.newest()
    assert (report.outcome, counts(report)) == ("failed", {"created": 1, "changed": 1, "unchanged": 8})
    with pytest.raises(MassLoss):  # it stays stopped, also with nothing new
        sync(syncer)
    assert head_of(tables).synced_at == first
    assert counts(sync(syncer, allow_withdrawals=True)) == {"unchanged": 10, "withdrawn": 11}
    assert served(tables) == [f"{number}" for number in range(21, 31)]
    assert head_of(tables).synced_at == clock.now()


# Damage and rebuilding


def test_rebuild_restores_rows_that_were_edited_by_hand(
    syncer: Syncer, tables: Tables, runs_client: TableClient
) -> None:
    sync(syncer)
    before = {stored.run_id: stored for stored in tables.catalogs.runs(1)}
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
    stored = {each.run_id: each for each in tables.catalogs.runs(1) if each.mapped}
    assert stored == before
    assert served(tables) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("row", ["digests-0000", "body-0000", None])
def test_published_state_is_rebuilt_when_it_is_damaged(
    syncer: Syncer, tables: Tables, runs_client: TableClient, catalog: Catalog, row: str | None
) -> None:
    sync(syncer)
    generation = head_of(tables).generation
    runs_client.delete_entity("1", f"published-{generation}-{row}" if row else "published")
    # Renders the body again, from the stored runs if the previous body cannot be read.
    catalog.alter_run(run_key(1), start="soon")
    catalog.alter_run(run_key(2), end="2027-01-01T00:00:00Z")
    assert counts(sync(syncer)) == {"changed": 1, "unchanged": 3, "rejected": 1}
    assert served(tables) == ["0", "1", "2", "3", "4"]


def test_published_state_is_rebuilt_when_it_is_damaged_and_no_run_changed(
    syncer: Syncer, tables: Tables, runs_client: TableClient
) -> None:
    sync(syncer)
    runs_client.delete_entity("1", f"published-{head_of(tables).generation}-digests-0000")
    assert counts(sync(syncer)) == {"unchanged": 5}
    assert len(tables.catalogs.digests(1, head_of(tables))) == 5


# One sync of a catalog at a time


@pytest.mark.parametrize(
    ("outcome", "error", "retry_at"),
    [
        (FinishedSync("other"), None, None),
        (
            FinishedSync(
                "other",
                Failure("EdxThrottled", "the rate limit is used up", datetime(2026, 3, 1, 13, tzinfo=UTC)),
            ),
            EdxThrottled,
            ONE_OCLOCK,
        ),
        (FinishedSync("other", Failure("NotFound", "the catalog is not found")), NotFound, None),
        (
            FinishedSync("other", Failure("EdxRefused", "edX does not accept our credentials")),
            EdxRefused,
            None,
        ),
    ],
)
def test_result_of_a_sync_is_waited_for_and_used_when_another_process_runs_it(  # noqa: PLR0917 - fixtures
    syncer: Syncer,
    tables: Tables,
    sandbox: Sandbox,
    outcome: FinishedSync,
    error: type[SyncError] | None,
    retry_at: datetime | None,
) -> None:
    other = begin(tables, "other")
    ending = Timer(0.2, other.release, [outcome])
    ending.start()
    if error is None:
        assert syncer.sync(1, Origin("http")) is None
    else:
        with pytest.raises(error, match=outcome.failure.message if outcome.failure else "") as raised:
            syncer.sync(1, Origin("http"))
        assert raised.value.retry_at == retry_at
    ending.join()
    assert sandbox.requests == []
    assert tables.reports.newest() == []


def begin(tables: Tables, sync_id: str) -> CatalogWriter:
    writer = tables.catalogs.acquire(
        1,
        sync_id,
        Deadline.after(1),
        admit=lambda _attempts: None,
        on_wait=lambda _holder: None,
        begins_attempt=True,
    )
    assert isinstance(writer, CatalogWriter)
    return writer


@pytest.mark.parametrize("option", ["rebuild", "allow_withdrawals"])
def test_operator_gets_a_new_sync_after_the_running_one_when_an_option_requires_it(
    syncer: Syncer, tables: Tables, option: str
) -> None:
    ending = Timer(0.2, begin(tables, "other").release, [FinishedSync("other")])
    ending.start()
    report = sync(syncer, **{option: True})
    ending.join()
    assert counts(report) == {"created": 5}


@pytest.mark.parametrize(
    "failure",
    [
        Failure("LeaseLost", "another process now syncs this catalog, and this one stopped"),
        Failure("KeyboardInterrupt", "the sync stopped unexpectedly (KeyboardInterrupt)"),
        Failure("SyncError", "the sync stopped unexpectedly (ValueError)"),
    ],
)
def test_sync_is_tried_when_the_other_sync_lost_its_lease_or_was_stopped(
    syncer: Syncer, tables: Tables, failure: Failure
) -> None:
    ending = Timer(0.2, begin(tables, "other").release, [FinishedSync("other", failure)])
    ending.start()
    report = sync(syncer)
    ending.join()
    assert counts(report) == {"created": 5}


def test_sync_whose_process_stopped_is_reported_when_its_lease_is_taken_over(
    after_a_dead_sync: Callable[..., Syncer], tables: Tables, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shared.sync.sync")
    syncer = after_a_dead_sync()
    began = clock.now()
    waited_for: list[LeaseState] = []
    report = sync(syncer, on_wait=waited_for.append)
    assert [holder.sync_id for holder in waited_for] == ["dead"]
    assert (report.outcome, 30 <= report.waited_s <= 40) == ("ok", True)
    (dead,) = [each for each in tables.reports.newest() if each.sync_id == "dead"]
    assert (dead.outcome, dead.started, dead.waited_s) == ("failed", began, 0)
    assert dead.error == (
        f"The process that ran this sync stopped before the sync ended ({socket.gethostname()}/{os.getpid()})"
    )
    logged = [(each.levelno, json.loads(each.message)["sync_id"]) for each in caplog.records]
    assert logged == [(logging.ERROR, "dead"), (logging.INFO, report.sync_id)]


def test_no_sync_is_reported_when_another_does_not_end_in_time(
    after_a_dead_sync: Callable[..., Syncer], tables: Tables, clock: Clock
) -> None:
    with pytest.raises(SyncUnfinished, match="did not end within 20 s"):
        sync(after_a_dead_sync(lifetime_s=20))
    assert sum(clock.slept) == pytest.approx(20)
    assert tables.reports.newest() == []


def test_sync_whose_process_stopped_is_reported_when_a_repair_takes_over_its_lease(
    after_a_dead_sync: Callable[..., Syncer], tables: Tables
) -> None:
    syncer = after_a_dead_sync()
    assert not syncer.republish(1)
    assert [each.sync_id for each in tables.reports.newest()] == ["dead"]


# Remembered attempts


def test_no_sync_begins_for_a_caller_that_is_not_eager_when_the_last_two_failed(
    syncer: Syncer, tables: Tables, sandbox: Sandbox, clock: Clock
) -> None:
    rule = sandbox.on(COURSES, answer(200, '{"results": 1}'))
    for _ in range(2):
        with pytest.raises(EdxProtocolError) as failed:
            sync(syncer, is_eager=False)
    ended = clock.now()
    sandbox.forget_requests()
    with pytest.raises(BackingOff) as backing_off:
        sync(syncer, is_eager=False)
    assert isinstance(backing_off.value.failure, EdxProtocolError)
    assert backing_off.value.failure.message == backing_off.value.message == failed.value.message
    assert backing_off.value.failure.retry_at == ended + timedelta(minutes=1)
    assert backing_off.value.retry_at == ended + timedelta(minutes=1)
    assert sandbox.requests == []
    assert len(tables.reports.newest()) == 2
    rule.times = 0
    assert sync(syncer).outcome == "ok"  # an eager caller tries
    assert sync(syncer, is_eager=False).outcome == "ok"


# Throttling


def test_edx_is_not_called_when_its_rate_limit_has_not_ended(
    make_syncer: Callable[..., Syncer], tables: Tables, sandbox: Sandbox, clock: Clock
) -> None:
    sandbox.on(COURSES, throttle(3592), offset=2, times=1)
    until = clock.now() + timedelta(seconds=3592)
    with pytest.raises(EdxThrottled) as throttled:
        sync(make_syncer())
    assert throttled.value.retry_at == until
    assert tables.account.throttled_until() == until
    assert tables.reports.newest()[0].throttled_until == until
    sandbox.forget_requests()
    for catalog_id in (1, 12):
        with pytest.raises(EdxThrottled, match="2026-03-01T12:59:52Z") as throttled:
            make_syncer().sync(catalog_id, Origin("http"))  # as another process
        assert throttled.value.retry_at == until
    assert sandbox.requests == []
    assert len(tables.reports.newest()) == 1  # requests may come often, and the first sync has a report
    with pytest.raises(EdxThrottled):
        make_syncer().sync(1, Origin("timer"))
    assert {report.trigger for report in tables.reports.newest()} == {"timer", "operator"}
    clock.pass_s(3592)
    assert counts(sync(make_syncer())) == {"created": 5}


def test_sync_waits_for_the_end_of_a_stored_throttling_within_a_minute(
    syncer: Syncer, tables: Tables, clock: Clock
) -> None:
    tables.account.remember_throttled(clock.now() + timedelta(seconds=40))
    sync(syncer)
    assert clock.slept == [40]


# The log, the history


def test_sync_logs_one_line_of_json(syncer: Syncer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "shared.sync.sync"):
        report = sync(syncer)
    (record,) = [each for each in caplog.records if each.name == "shared.sync.sync"]
    assert record.levelno == logging.INFO
    line = json.loads(record.message)
    assert (line["event"], line["sync_id"], line["invocation_id"]) == ("sync", report.sync_id, "0a1b")
    assert (line["catalog"], line["created"], line["outcome"]) == (1, 5, "ok")


def test_failed_sync_is_logged_as_an_error(
    syncer: Syncer, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.on(COURSES, answer(200, "[]"))
    with caplog.at_level(logging.INFO, "shared.sync.sync"), pytest.raises(EdxProtocolError):
        sync(syncer)
    (record,) = [each for each in caplog.records if each.name == "shared.sync.sync"]
    assert (record.levelno, json.loads(record.message)["outcome"]) == (logging.ERROR, "failed")


def test_malformed_approval_is_a_warning_in_the_report(
    syncer: Syncer, tables: Tables, azurite: Azurite, storage: StorageSettings, clock: Clock
) -> None:
    tables.credits.set([Approval(run_key(1), 2, "", "ada@nus.edu.sg", clock.now())])
    with TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}Credits") as client:
        (entity,) = client.list_entities()
        client.update_entity({**entity, "credit": "two"}, UpdateMode.MERGE)
    assert sync(syncer).warnings == (
        f"The approved credit of {run_key(1)} is ignored: it is not a whole number of 0 or more",
    )


def test_history_has_the_changes_that_callers_see(
    syncer: Syncer, tables: Tables, catalog: Catalog, clock: Clock
) -> None:
    sync(syncer)
    assert changes(tables, clock) == [{"catalogId": 1, "kind": "first-sync", "runs": 5}]
    sync(syncer)
    assert len(changes(tables, clock)) == 1
    clock.pass_s(60)
    catalog.alter_run(run_key(1), max_effort=20)
    gone = take_out(catalog, "NUSx+2x")
    catalog.alter_run(run_key(3), status="unpublished")
    catalog.add(make_course(key="NUSx+5x"))
    sync(syncer)
    before, after = 4, 5  # weeks times mean effort, in units of 30 hours
    assert changes(tables, clock)[:4] == [
        {
            "catalogId": 1,
            "courserunKey": run_key(1),
            "kind": "changed",
            "fields": {
                "maxEffort": {"before": 16, "after": 20},
                "modularCredit": {"before": before, "after": after},
            },
        },
        {"catalogId": 1, "courserunKey": run_key(2), "kind": "removed", "reason": "missing"},
        {"catalogId": 1, "courserunKey": run_key(3), "kind": "removed", "reason": "unpublished"},
        {"catalogId": 1, "courserunKey": run_key(5), "kind": "added"},
    ]
    clock.pass_s(60)
    catalog.add(gone)
    catalog.alter_run(run_key(3), status="published")
    sync(syncer)
    assert changes(tables, clock)[:2] == [
        {"catalogId": 1, "courserunKey": run_key(2), "kind": "restored"},
        {"catalogId": 1, "courserunKey": run_key(3), "kind": "restored"},
    ]


def test_history_has_the_changes_of_the_killed_sync_when_it_had_written_runs(
    syncer: Syncer, tables: Tables, catalog: Catalog, clock: Clock
) -> None:
    sync(syncer)
    catalog.alter_run(run_key(1), min_effort=15)
    catalog.add(make_course(key="NUSx+5x"))

    def kill(done: int, _total: int | None) -> None:
        if done == 6:
            raise KeyboardInterrupt

    # With one run per batch, runs are written at once; here the test flushes a full batch.
    clock.pass_s(60)
    with pytest.raises(KeyboardInterrupt):
        sync(syncer, on_progress=kill)
    writer = begin(tables, "killed")
    for stored in tables.catalogs.runs(1):
        if stored.mapped and stored.mapped.run.courserun_key == run_key(1):
            run = stored.mapped.run.model_copy(update={"min_effort": 15})
            writer.put(stored.mapped._replace(run=run), 100)
    writer.flush()
    writer.release(FinishedSync("killed", Failure("KeyboardInterrupt", "stopped")))
    sync(syncer)
    assert [(entry["courserunKey"], entry["kind"]) for entry in changes(tables, clock)[:2]] == [
        (run_key(1), "changed"), (run_key(5), "added"),
    ]  # fmt: skip


def test_history_says_restored_when_a_killed_sync_had_already_written_the_returned_run(
    syncer: Syncer, tables: Tables, catalog: Catalog, clock: Clock
) -> None:
    sync(syncer)
    stored = tables.catalogs.run(1, course_run_id(run_key(2)))
    assert stored
    assert stored.mapped
    course = take_out(catalog, "NUSx+2x")
    sync(syncer)
    catalog.add(course)
    writer = begin(tables, "killed")
    writer.put(stored.mapped, 100)
    writer.flush()
    writer.release(FinishedSync("killed", Failure("KeyboardInterrupt", "stopped")))
    clock.pass_s(60)
    sync(syncer)
    assert changes(tables, clock)[0] == {"catalogId": 1, "courserunKey": run_key(2), "kind": "restored"}


def test_approved_credit_is_served_and_its_note_is_in_the_history(
    syncer: Syncer, tables: Tables, clock: Clock
) -> None:
    sync(syncer)
    clock.pass_s(60)
    tables.credits.set(
        [
            Approval(run_key(1), 2, "Board, 3 March", "ada@nus.edu.sg", clock.now()),
            Approval("NUSx+2x", 0, "No credit", "ada@nus.edu.sg", clock.now()),
        ]
    )
    assert counts(sync(syncer)) == {"changed": 2, "unchanged": 3}
    assert [run["modularCredit"] for run in json.loads(body(tables))] == [4, 2, 0, 4, 4]
    assert [
        (entry["courserunKey"], entry["fields"], entry["note"]) for entry in changes(tables, clock)[:2]
    ] == [
        (run_key(1), {"modularCredit": {"before": 4, "after": 2}}, "Board, 3 March"),
        (run_key(2), {"modularCredit": {"before": 4, "after": 0}}, "No credit"),
    ]
    stored = tables.catalogs.run(1, course_run_id(run_key(2)))
    assert stored
    assert stored.mapped
    assert (stored.mapped.course_key, stored.mapped.proposed_credit) == ("NUSx+2x", 4)
    tables.credits.remove(run_key(1))
    sync(syncer)
    assert [run["modularCredit"] for run in json.loads(body(tables))] == [4, 4, 0, 4, 4]
