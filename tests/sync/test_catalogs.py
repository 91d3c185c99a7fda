"""Which catalogs are ours: the configured ones, or those that edX lists."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer
from shared.domain.attempts import Attempts
from shared.domain.catalog_list import CatalogList
from shared.edx.client import EdxClient
from shared.errors import EdxProtocolError, Failure, SyncError
from shared.settings import connector_settings
from shared.storage.tables import Tables
from shared.sync.catalogs import OurCatalogs
from shared.sync.run import Origin, StillThrottled
from shared.sync.sessions import Sessions
from shared.sync.sync import BackingOff
from tests.clock import Clock
from tests.table_proxy import TableProxy
from tests.table_proxy import answer as refused

HTTP = Origin("http", "0a1b")

Make = Callable[..., OurCatalogs]
Said = list[tuple[int, str]]
"""The lines that were logged, with their levels."""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Catalog(12, "Second"), Catalog(1, "First"), Catalog(3, "Third")]) as sandbox:
        yield sandbox


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def make_ours(proxied_tables: Tables, settings: dict[str, str], clock: Clock, said: Said) -> Make:
    tables = proxied_tables

    def make(*configured: int, **limits: Any) -> OurCatalogs:
        def say(level: int, line: str) -> None:
            said.append((level, line))

        edx = EdxClient(
            connector_settings(settings).edx,
            clock=clock.monotonic,
            now=clock.now,
            sleep=clock.sleep,
            random=lambda: 0.0,
        )
        sessions = Sessions(edx, tables.account, say, now=clock.now, sleep=clock.sleep)
        return OurCatalogs(configured, tables.account, tables.reports, sessions, say, now=clock.now, **limits)

    return make


def test_list_of_edx_is_sorted_and_remembered(
    make_ours: Make, sandbox: Sandbox, tables: Tables, clock: Clock, said: Said
) -> None:
    ours = make_ours()
    assert not ours.are_configured
    assert ours.known() is None
    expected = CatalogList((1, 3, 12), clock.now())
    assert ours.ask(HTTP) == expected
    assert tables.account.attempts() == Attempts(attempted_at=clock.now(), succeeded_at=clock.now())
    assert tables.reports.newest() == []
    assert said == []
    sandbox.forget_requests()
    assert make_ours().known() == expected
    assert sandbox.requests == []


def test_edx_is_never_asked_when_catalogs_are_configured(
    make_ours: Make, sandbox: Sandbox, clock: Clock
) -> None:
    ours = make_ours(7, 9)
    assert ours.are_configured
    assert ours.known() == ours.ask(HTTP) == CatalogList((7, 9), clock.now())
    assert sandbox.requests == []


def test_known_list_stays_and_the_failure_is_reported_when_edx_lists_too_few(
    make_ours: Make, sandbox: Sandbox, tables: Tables, clock: Clock, said: Said
) -> None:
    ours = make_ours()
    ours.ask(HTTP)
    listed_at = clock.now()
    clock.pass_s(60)
    del sandbox.catalogs[1], sandbox.catalogs[3]
    with pytest.raises(EdxProtocolError, match="left out 2 of the 3") as failed:
        ours.ask(HTTP)
    known = ours.known()
    assert known
    assert known.catalog_ids == (1, 3, 12)
    (report,) = tables.reports.newest()
    assert (report.catalog_id, report.outcome, report.trigger, report.edx_requests) == (
        0,
        "failed",
        "http",
        1,
    )
    assert said == [(logging.ERROR, report.log_line())]
    assert tables.account.attempts() == Attempts(
        attempted_at=clock.now(),
        succeeded_at=listed_at,
        failures=1,
        failed_at=clock.now(),
        failure=Failure.of(failed.value),
    )


def test_failure_is_raised_with_warnings_in_the_log_when_storage_cannot_note_it(
    make_ours: Make, sandbox: Sandbox, proxy: TableProxy, said: Said
) -> None:
    sandbox.on("/catalogs/", answer(200, "[]"))
    proxy.on(refused(403, "AuthorizationFailure"), kind="write report|mark catalogs")
    with pytest.raises(EdxProtocolError):
        make_ours().ask(HTTP)
    report, _, attempts = said
    assert [level for level, _ in said] == [logging.WARNING, logging.ERROR, logging.WARNING]
    assert report[1].startswith("Could not store the report: Table Storage at 127.0.0.1:")
    assert attempts[1].startswith("Could not remember the failed attempt: Table Storage at 127.0.0.1:")


def test_unexpected_error_is_reported_by_its_class(tables: Tables, clock: Clock, said: Said) -> None:
    class Broken:
        def wait_for_rate_limit(self, _deadline: object) -> None:
            raise ValueError(f"{2**30}")

    sessions: Any = Broken()
    ours = OurCatalogs(
        (), tables.account, tables.reports, sessions, lambda *line: said.append(line), now=clock.now
    )
    sentence = "listing the catalogs stopped unexpectedly (ValueError)"
    with pytest.raises(SyncError) as failed:
        ours.ask(HTTP)
    assert (failed.value.message, failed.value.__suppress_context__) == (sentence, True)
    (report,) = tables.reports.newest()
    assert (report.catalog_id, report.error) == (0, sentence)
    assert tables.account.attempts().failures == 1
    assert [level for level, _ in said] == [logging.ERROR, logging.ERROR]
    assert said[0][1].startswith("Unexpected ValueError\n")
    assert not any("1073741824" in line for _, line in said)


def test_edx_is_not_asked_for_its_list_when_its_rate_limit_lasts_for_long(
    make_ours: Make, sandbox: Sandbox, tables: Tables, clock: Clock
) -> None:
    tables.account.remember_throttled(clock.now() + timedelta(hours=1))
    with pytest.raises(StillThrottled, match=r"^edX's rate limit is used up until 2026-03-01T13:00:00Z$"):
        make_ours().ask(HTTP)
    assert sandbox.requests == []
    assert tables.reports.newest() == []
    assert tables.account.attempts() == Attempts()
    with pytest.raises(StillThrottled):
        make_ours().ask(Origin("timer"))
    assert [report.trigger for report in tables.reports.newest()] == ["timer"]


def test_rate_limit_is_not_waited_for_when_it_is_longer_than_the_time_to_list(
    make_ours: Make, tables: Tables, clock: Clock
) -> None:
    tables.account.remember_throttled(clock.now() + timedelta(seconds=40))
    with pytest.raises(StillThrottled):
        make_ours(clock=clock.monotonic, lifetime_s=39).ask(HTTP)
    assert clock.slept == []
    assert make_ours(clock=clock.monotonic, lifetime_s=41).ask(HTTP).catalog_ids == (1, 3, 12)
    assert clock.slept == [40]


def test_log_and_history_have_a_warning_when_edx_no_longer_lists_one_catalog(
    make_ours: Make, sandbox: Sandbox, tables: Tables, said: Said
) -> None:
    ours = make_ours()
    ours.ask(HTTP)
    del sandbox.catalogs[3]
    for _ in range(2):
        listed = ours.ask(HTTP)
        assert (listed.catalog_ids, listed.left) == ((1, 12), (3,))
    (report,) = tables.reports.newest()
    sentence = (
        "edX no longer lists catalog 3: its runs left the answer and stay in storage; if this is a mistake, "
        "ask edX for access to it"
    )
    assert list(report.warnings) == [sentence]
    assert (report.catalog_id, report.outcome, report.trigger) == (0, "ok", "http")
    assert said == [(logging.WARNING, report.log_line())]


def test_caller_that_is_not_eager_gets_the_remembered_failure_when_the_list_failed_twice(
    make_ours: Make, sandbox: Sandbox, clock: Clock
) -> None:
    rule = sandbox.on("/catalogs/", answer(200, "[]"))
    ours = make_ours()
    for _ in range(2):
        with pytest.raises(EdxProtocolError):
            ours.ask(HTTP, is_eager=False)
    failed_at = clock.now()
    sandbox.forget_requests()
    with pytest.raises(BackingOff) as backing_off:
        ours.ask(HTTP, is_eager=False)
    assert backing_off.value.failure.retry_at == failed_at + timedelta(minutes=1)
    assert sandbox.requests == []
    rule.times = 0
    assert ours.ask(HTTP).catalog_ids == (1, 3, 12)
