"""edX's rate limit: when it is used up, no process calls edX until the time that edX named."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import requests
from azure.data.tables import TableClient

from local.azurite import Azurite
from local.host.process import FunctionFailed, HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import Action, throttle
from local.sandbox.http import Exchange, Reply
from shared.serving.outbox import Outbox
from shared.wiring import connect
from tests.command_line import run_command_line
from tests.faults import promise
from tests.faults.conftest import AskHere
from tests.faults.stage import wait_until

_PAGES = "/courses/$"
_LATE_S = 120  # between edX's answer and an assertion: processes start, and many calls are made
_UNTIL = r"rate limit.* is used up until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def shelves(sandbox: Sandbox) -> list[Catalog]:
    """Two catalogs, the only ones at edX."""
    shelves = [promise.make_shelf(11), promise.make_shelf(12)]
    sandbox.catalogs = {shelf.id: shelf for shelf in shelves}
    return shelves


@pytest.fixture
def settings(settings: dict[str, str], shelves: list[Catalog]) -> dict[str, str]:
    ids = ",".join(str(shelf.id) for shelf in shelves)
    return {**settings, "EDX_CATALOG_IDS": ids, "EDX_PAGE_SIZE": "5"}


def _ahead_s(moment: str) -> float:
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()


def _assert_throttled(answer: requests.Response, for_s: float) -> None:
    promise.assert_says(answer, 500, _UNTIL, "stored before is intact")
    assert for_s - _LATE_S < int(answer.headers["Retry-After"]) <= for_s


def test_no_process_calls_edx_and_stored_data_is_served_when_edx_has_throttled_one(
    sandbox: Sandbox,
    settings: dict[str, str],
    shelves: list[Catalog],
    admin: requests.Session,
    stored: promise.Stored,
) -> None:
    with HostProcess(settings) as other, HostProcess(settings) as host:
        promise.assert_shows(promise.ask(host.url, admin), promise.runs_of(*shelves))
        before, served = [stored.runs(shelf.id) for shelf in shelves], promise.runs_of(*shelves)
        for shelf in shelves:
            promise.change(shelf)
        sandbox.on(_PAGES, throttle(3600))

        _assert_throttled(promise.ask(host.url, admin, 11), 3600)
        report = stored.reports(11)[0]
        assert report["outcome"] == "failed"
        assert 3600 - _LATE_S < _ahead_s(report["throttled_until"]) <= 3600

        sandbox.rules.clear()
        sandbox.forget_requests()
        with HostProcess(settings) as restarted:
            for each in (host, other, restarted):
                _assert_throttled(promise.ask(each.url, admin, 11), 3600)
                _assert_throttled(promise.ask(each.url, admin, 12), 3600)
                _assert_throttled(promise.ask(each.url, admin), 3600)
                for allowed in ("only-if-cached", "max-age=600", "no-cache, stale-if-error=600"):
                    promise.assert_shows(promise.ask(each.url, admin, cache_control=allowed), served)
            with pytest.raises(FunctionFailed, match=_UNTIL):
                restarted.fire("sync_course_runs")
            promise.assert_discreet([other.log, host.log, restarted.log])
        operator = run_command_line(settings, "sync", "--catalog", "12", "--json")
        assert operator.returncode == 1
        assert "used up until" in json.loads(operator.stdout)[0]["error"]
        assert 3600 - _LATE_S < _ahead_s(stored.reports(12)[0]["throttled_until"]) <= 3600
        for shelf, runs in zip(shelves, before, strict=True):
            promise.assert_kept(runs, stored, shelf)
        assert [request.path for request in sandbox.requests if request.path != "/jwks"] == []


@pytest.mark.parametrize(
    ("announced", "for_s"),
    [
        pytest.param(throttle(3600), 3600, id="an hour"),
        pytest.param(throttle(3600, as_date=True), 3600, id="an HTTP date"),
        pytest.param(throttle(None), 900, id="nothing"),
        pytest.param(throttle("soon"), 900, id="no number"),
        pytest.param(throttle(0), 900, id="0"),
        pytest.param(throttle(864_000), 86_400, id="ten days"),
    ],
)
def test_the_wait_is_what_edx_asks_for_within_limits_when_it_throttles(
    sandbox: Sandbox,
    ask_here: AskHere,
    stored: promise.Stored,
    announced: Action,
    for_s: int,
) -> None:
    sandbox.on(_PAGES, announced)

    _assert_throttled(ask_here(11), for_s)

    assert for_s - _LATE_S < _ahead_s(stored.reports(11)[0]["throttled_until"]) <= for_s
    sandbox.forget_requests()
    _assert_throttled(ask_here(12), for_s)
    assert sandbox.requests_to("^/catalog/|^/oauth2/") == []


def test_edx_is_not_called_again_when_it_has_throttled_the_list_of_catalogs(
    sandbox: Sandbox, settings: dict[str, str], shelves: list[Catalog], admin: requests.Session
) -> None:
    with HostProcess({**settings, "EDX_CATALOG_IDS": ""}) as host:
        promise.assert_shows(promise.ask(host.url, admin), promise.runs_of(*shelves))
        sandbox.on("/catalogs/$", throttle(3600))
        _assert_throttled(promise.ask(host.url, admin), 3600)
        sandbox.forget_requests()

        _assert_throttled(promise.ask(host.url, admin), 3600)
        _assert_throttled(promise.ask(host.url, admin, 12), 3600)
        promise.assert_shows(
            promise.ask(host.url, admin, cache_control="no-cache, stale-if-error=60"),
            promise.runs_of(*shelves),
        )

        assert sandbox.requests_to("^/catalog/|^/oauth2/") == []


def _refuse_one_of_four_pages(sandbox: Sandbox, shelf: Catalog, refusal: Action) -> None:
    """Refuse the page at 5 when four pages are requested at once; the others come one second later."""
    sandbox.catalogs[shelf.id] = shelf
    refused = Event()

    def refuse(exchange: Exchange, reply: Reply) -> Reply | None:
        wait_until(lambda: len(sandbox.requests_to(_PAGES)) == 1 + 4)
        refused.set()
        return refusal(exchange, reply)

    def answer_later(exchange: Exchange, reply: Reply) -> Reply:
        assert refused.wait(60)
        exchange.wait(1)
        return reply

    sandbox.on(_PAGES, refuse, offset=5, times=1)
    sandbox.on(_PAGES, answer_later, after=1, times=3)


def _refused_at(sandbox: Sandbox) -> float:
    (refused_at,) = [request.ended for request in sandbox.requests if request.status == 429]
    assert refused_at
    return refused_at


def test_the_sync_waits_and_continues_when_the_throttling_ends_within_a_minute(
    sandbox: Sandbox, ask_here: AskHere, stored: promise.Stored
) -> None:
    large = promise.make_shelf(11, 60)
    _refuse_one_of_four_pages(sandbox, large, throttle(2))

    answered = ask_here(11)

    promise.assert_reached(answered, stored, large)
    refused_at = _refused_at(sandbox)
    later = [request for request in sandbox.requests_to(_PAGES) if request.started > refused_at]
    assert 5 in {request.offset for request in later}
    assert min(request.started for request in later) > refused_at + 1.95


def test_no_page_is_requested_after_a_429_when_pages_are_requested_in_parallel(
    sandbox: Sandbox, ask_here: AskHere, stored: promise.Stored
) -> None:
    _refuse_one_of_four_pages(sandbox, promise.make_shelf(11, 100), throttle(3600))

    _assert_throttled(ask_here(11), 3600)

    refused_at = _refused_at(sandbox)
    assert not [request for request in sandbox.requests if request.started > refused_at]
    assert len(sandbox.requests_to(_PAGES)) == 1 + 4
    assert sandbox.max_in_flight == 4
    assert stored.reports(11)[0]["outcome"] == "failed"


@pytest.mark.parametrize("other_s", [pytest.param(30, id="30 s before"), pytest.param(600, id="600 s after")])
def test_the_longest_throttling_is_kept_when_parallel_pages_get_different_ones(
    sandbox: Sandbox, settings: dict[str, str], ask_here: AskHere, admin: requests.Session, other_s: int
) -> None:
    account = connect(Outbox(), settings).tables.account
    is_first = other_s == 30  # a sync waits for the end of 30 s, and ends when it is told to wait for longer

    def throttle_when_the_other_is_stored(seconds: int) -> Action:
        def act(exchange: Exchange, reply: Reply) -> Reply | None:
            wait_until(lambda: account.throttled_until() is not None)
            return throttle(seconds)(exchange, reply)

        return act

    first, second = (5, 10) if is_first else (10, 5)
    sandbox.on(_PAGES, throttle(30 if is_first else 3600), offset=first)
    sandbox.on(_PAGES, throttle_when_the_other_is_stored(3600 if is_first else 600), offset=second)
    promise.assert_says(ask_here(11), 500, _UNTIL)
    assert {request.offset for request in sandbox.requests_to(_PAGES)} == {0, 5, 10}
    with HostProcess(settings) as restarted:
        _assert_throttled(promise.ask(restarted.url, admin, 11), 3600)


def test_the_longest_throttling_is_kept_when_two_processes_get_different_ones(
    sandbox: Sandbox, settings: dict[str, str], admin: requests.Session
) -> None:
    is_stored = Event()

    def throttle_later(exchange: Exchange, reply: Reply) -> Reply | None:
        assert is_stored.wait(60)
        return throttle(600)(exchange, reply)

    sandbox.on("/catalogs/11/", throttle(3600))
    sandbox.on("/catalogs/12/", throttle_later)
    with HostProcess(settings) as host, HostProcess(settings) as other, ThreadPoolExecutor() as threads:
        later = threads.submit(promise.ask, other.url, admin, 12)
        wait_until(lambda: sandbox.requests_to("/catalogs/12/"))
        _assert_throttled(promise.ask(host.url, admin, 11), 3600)
        is_stored.set()
        promise.assert_says(later.result(), 500, _UNTIL)
    with HostProcess(settings) as restarted:
        _assert_throttled(promise.ask(restarted.url, admin, 12), 3600)


def test_a_503_is_not_remembered_when_it_has_a_retry_after(
    sandbox: Sandbox, ask_here: AskHere, shelves: list[Catalog], stored: promise.Stored
) -> None:
    sandbox.on(_PAGES, throttle(3600, status=503))

    answered = ask_here(11)

    promise.assert_says(answered, 500, "edX is unavailable: .* answered 503")
    assert 3600 - _LATE_S < int(answered.headers["Retry-After"]) <= 3600
    assert "throttled_until" not in stored.reports(11)[0]
    sandbox.rules.clear()
    promise.assert_reached(ask_here(11), stored, shelves[0])


def test_a_stored_throttling_is_ignored_when_it_ends_more_than_a_day_ahead(  # noqa: PLR0917 - fixtures
    azurite: Azurite,
    tables_prefix: str,
    ask_here: AskHere,
    settings: dict[str, str],
    shelves: list[Catalog],
    stored: promise.Stored,
) -> None:
    connect(Outbox(), settings).tables.account.remember_throttled(datetime.now(UTC) + timedelta(hours=1))
    with TableClient.from_connection_string(azurite.connection_string, f"{tables_prefix}Accounts") as table:
        (row,) = [row for row in table.list_entities() if row["RowKey"] == "throttled"]
        _assert_throttled(ask_here(11), 3600)
        table.upsert_entity({**row, "until": (datetime.now(UTC) + timedelta(days=30)).isoformat()})

    promise.assert_reached(ask_here(11), stored, shelves[0])
