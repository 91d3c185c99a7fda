"""Faults of Table Storage, over HTTP, during the sync of a changed catalog: nothing is lost."""

import asyncio
import random
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import NamedTuple

import pytest
import requests
from azure.data.tables import TableClient, UpdateMode

from local.azurite import Azurite
from local.host import Host
from local.host.process import HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.query import Question
from shared.errors import ConnectorError
from shared.serving.answering import Reader
from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import connect
from tests.faults.promise import (
    Runs,
    ask,
    assert_nothing_lost,
    assert_reached,
    assert_says,
    assert_shows,
    make_shelf,
    runs_of,
)
from tests.faults.stage import Stage
from tests.table_proxy import (
    Exchange,
    Fault,
    Rule,
    TableProxy,
    answer,
    cut_body,
    cut_head,
    delay,
    drop,
    halve_body,
    lose_answer,
    refuse_in_batch,
)

_REPOSITORY = Path(__file__).parents[2]


def instead(head: bytes, body: bytes) -> Fault:
    """Let the request take effect, and send an answer that is not from Table Storage."""

    def act(exchange: Exchange) -> None:
        exchange.forward()
        exchange.send(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (head, len(body)), body)

    return act


FAULTS: dict[str, Fault] = {
    "connection dropped": drop,
    "answer lost": lose_answer,
    "headers cut": cut_head,
    "body cut": cut_body,
    "half of the body": halve_body,
    "slow": delay(0.5),
    "429": answer(429, "TooManyRequests"),
    "429 with Retry-After": answer(429, "TooManyRequests", retry_after=1),
    "500": answer(500, "InternalError"),
    "502 with HTML": instead(b"502 Bad Gateway\r\nContent-Type: text/html", b"<h1>Oops</h1>"),
    "503 with Retry-After": answer(503, retry_after=1),
    "503 with an invalid Retry-After": answer(503, retry_after="soon"),
    "504": answer(504, "OperationTimedOut"),
}
FIRST_TO_FAIL = (0, 1)

LASTING: dict[str, tuple[Fault, str]] = {
    "answers lost": (lose_answer, "Table Storage at "),
    "busy": (answer(503), r"Table Storage at \S+ failed \(HTTP 503, ServerBusy\)"),
    "forbidden": (answer(403, "AuthorizationPermissionMismatch"), "refused our credentials.*role assignment"),
    "another server answers": (
        instead(b"200 OK\r\nContent-Type: text/html", b"<h1>Hi</h1>"),
        "sent an answer that cannot be read",
    ),
}
KINDS = (
    "read lease",
    "take or renew lease",
    "read head",
    "read digests",
    "write runs",
    "mark runs",
    "write body",
    "write digests",
    "find parts",
    "write head",
    "release lease",
    ".* reports?",
)
SUCCEEDS_WITHOUT = ("release lease", ".* reports?")
"""A sync succeeds without these requests: the batch that writes the head also releases the lease."""


class Outcome(NamedTuple):
    """A sync during a fault: its catalog, the rule, the answer, and what was stored before and after."""

    shelf: Catalog
    rule: Rule
    answered: requests.Response
    before: Runs
    after: Runs


class Scenario(NamedTuple):
    """A fault and the storage requests that it applies to."""

    fault: Fault
    kind: str | None = None
    every: int = 1
    after: int = 0


def sync_with_faults(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess], scenarios: Iterable[Scenario]
) -> list[Outcome]:
    """Sync a changed catalog for each scenario, in parallel, because pauses between tries take seconds."""
    healthy, host = hosts
    begun = []
    for fault, kind, every, after in scenarios:
        shelf = stage.synced_shelf(healthy)
        before = stage.stored.runs(shelf.id)
        rule = proxy.on(fault, catalog=shelf.id, kind=kind, every=every, after=after)
        begun.append((shelf, rule, stage.begin_to_ask(host, shelf), before))
    with stage.watched(healthy, [shelf for shelf, *_ in begun]):
        return [
            Outcome(shelf, rule, call.result(), before, stage.stored.runs(shelf.id))
            for shelf, rule, call, before in begun
        ]


@pytest.fixture(scope="module")
def hosts(healthy: HostProcess, proxied: HostProcess) -> tuple[HostProcess, HostProcess]:
    return healthy, proxied


@pytest.fixture(scope="module")
def passing(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess]
) -> dict[tuple[str, int], Outcome]:
    cases = [(name, first) for name in FAULTS for first in FIRST_TO_FAIL]
    scenarios = [Scenario(FAULTS[name], every=2, after=first) for name, first in cases]
    return dict(zip(cases, sync_with_faults(stage, proxy, hosts, scenarios), strict=True))


@pytest.mark.parametrize("first", FIRST_TO_FAIL)
@pytest.mark.parametrize("name", FAULTS)
def test_the_sync_is_complete_when_storage_fails_every_other_time(
    passing: dict[tuple[str, int], Outcome], stage: Stage, name: str, first: int
) -> None:
    outcome = passing[name, first]
    assert outcome.rule.fired >= 6
    assert_reached(outcome.answered, stage.stored, outcome.shelf)
    assert len(stage.stored.reports(outcome.shelf.id)) == 2


@pytest.fixture(scope="module")
def lasting(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess]
) -> Iterator[dict[tuple[str, str], Outcome]]:
    """Faults at every try; at the end the next syncs, in parallel, because they wait for leases to expire."""
    cases = [(name, kind) for name in LASTING for kind in KINDS]
    outcomes = sync_with_faults(
        stage, proxy, hosts, [Scenario(LASTING[name][0], kind) for name, kind in cases]
    )
    yield dict(zip(cases, outcomes, strict=True))
    proxy.rules.clear()
    for outcome in outcomes:
        stage.change(outcome.shelf)
    stage.assert_recovers(hosts[0], [outcome.shelf for outcome in outcomes])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LASTING)
def test_nothing_is_lost_and_the_error_is_named_when_storage_fails_at_every_try(
    lasting: dict[tuple[str, str], Outcome], name: str, kind: str
) -> None:
    outcome = lasting[name, kind]
    assert bool(outcome.rule.fired) is (kind != "release lease")
    if kind in SUCCEEDS_WITHOUT:
        assert_shows(outcome.answered, runs_of(outcome.shelf))
    else:
        assert_says(outcome.answered, 500, LASTING[name][1], "What was stored before is intact")
    assert_nothing_lost(outcome.before, outcome.after, outcome.shelf)


def test_answers_are_complete_and_nothing_is_lost_when_storage_fails_at_random(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess]
) -> None:
    def at_random(exchange: Exchange) -> None:
        chosen = random.choice(list(FAULTS.values()))  # noqa: S311 - no secret
        # Three of four requests pass.
        chosen(exchange) if random.random() < 0.25 else exchange.send(*exchange.forward())  # noqa: S311

    for outcome in sync_with_faults(stage, proxy, hosts, [Scenario(at_random)] * 12):
        if outcome.answered.status_code == 200:
            assert_reached(outcome.answered, stage.stored, outcome.shelf)
        else:
            assert_says(outcome.answered, 500, "Table Storage", "What was stored before is intact")
            assert_nothing_lost(outcome.before, outcome.after, outcome.shelf)
        outcome.rule.times = outcome.rule.fired
        stage.assert_recovers(hosts[1], [outcome.shelf])


# Invalid answers without end


def find_nothing_and_write_nothing(exchange: Exchange) -> None:
    """Answer reads with 404, and every write as if the table were being deleted."""
    is_read = exchange.request.method == "GET"
    (answer(404, "ResourceNotFound") if is_read else answer(409, "TableBeingDeleted"))(exchange)


def refuse_every_batch(exchange: Exchange) -> None:
    """Refuse every batch as if another process had changed an entity."""
    if exchange.request.is_batch:
        refuse_in_batch(0, "UpdateConditionNotSatisfied", 412)(exchange)
    else:
        exchange.send(*exchange.forward())


def repeat_the_continuation(exchange: Exchange) -> None:
    """Answer each query with the same continuation token."""
    head, body = exchange.forward()
    if exchange.request.is_query:
        more = b"x-ms-continuation-NextPartitionKey: 1\r\nx-ms-continuation-NextRowKey: 1\r\n"
        head = head.removesuffix(b"\r\n") + more + b"\r\n"
    exchange.send(head, body)


INVALID: dict[str, tuple[Fault, str]] = {
    "404 to reads, 409 to writes": (find_nothing_and_write_nothing, r"failed \(HTTP 409"),
    "412 to every batch": (refuse_every_batch, "refused every write of the lease"),
    "the same continuation token": (repeat_the_continuation, "the same page again and again"),
}
WAIT_S = 4
REQUESTS_AT_MOST = 60


class Called(NamedTuple):
    """A call while storage sends invalid answers: the error, the time it took, and its storage requests."""

    shelf: Catalog
    error: ConnectorError
    took_s: float
    requests: list[str]


class EndOfSync(Outbox):
    """Notices the end of a sync, which writes a line then."""

    def __init__(self) -> None:
        super().__init__()
        self.has_come = Event()

    def say(self, level: int, line: str) -> None:
        super().say(level, line)
        if '"event": "sync"' in line:
            self.has_come.set()


def ask_while_answers_are_invalid(stage: Stage, shelf: Catalog, fault: Fault) -> Called:
    outbox = EndOfSync()
    question = Question(None, None, parse_freshness("no-cache"))
    with TableProxy(stage.settings["TABLES_CONNECTION_STRING"]) as proxy:
        settings = {
            **stage.settings,
            "TABLES_CONNECTION_STRING": proxy.connection_string,
            "EDX_CATALOG_IDS": str(shelf.id),
            "SYNC_TIME_BUDGET_SECONDS": str(WAIT_S),
        }
        answering = connect(outbox, settings).answering
        proxy.on(fault)
        began = time.monotonic()
        with pytest.raises(ConnectorError) as failed:
            asyncio.run(answering.answer(question, Reader(), Origin("http"), Deadline.after(60)))
        took_s = time.monotonic() - began
        assert outbox.has_come.wait(60)
        return Called(shelf, failed.value, took_s, [request.kind for request in proxy.requests])


@pytest.fixture(scope="module")
def invalid(stage: Stage, healthy: HostProcess) -> Iterator[dict[str, Called]]:
    """A call for each kind of invalid answer, in parallel; at the end the next syncs recover."""
    shelves = [stage.synced_shelf(healthy) for _ in INVALID]
    with ThreadPoolExecutor(len(INVALID)) as threads:
        faults = [fault for fault, _ in INVALID.values()]
        called = threads.map(ask_while_answers_are_invalid, [stage] * len(faults), shelves, faults)
        yield dict(zip(INVALID, called, strict=True))
    stage.assert_recovers(healthy, shelves)


@pytest.mark.parametrize("name", INVALID)
def test_a_call_ends_in_time_after_few_requests_when_storage_keeps_sending_invalid_answers(
    invalid: dict[str, Called], name: str
) -> None:
    called = invalid[name]
    assert called.took_s < WAIT_S + 5
    assert len(called.requests) <= REQUESTS_AT_MOST, called.requests
    still_running = f"did not end within {WAIT_S} s and continues"
    assert re.search(f"(Table Storage at .* {INVALID[name][1]}|{still_running})", called.error.message)
    assert "What was stored before is intact" in called.error.message


# Rows that another program has changed


@pytest.fixture
def shelf_here(sandbox: Sandbox) -> Catalog:
    """The one catalog that edX lists for `host_here`."""
    shelf = make_shelf(1)
    sandbox.catalogs = {1: shelf}
    return shelf


def properties_of(table: TableClient, row_key: str) -> dict[str, object]:
    return next(dict(row) for row in table.query_entities(f"RowKey eq '{row_key}'"))


def test_no_answer_is_wrong_when_the_head_lacks_a_property(
    shelf_here: Catalog, host_here: Host, admin: requests.Session, azurite: Azurite, tables_prefix: str
) -> None:
    complete = ask(host_here.url, admin)
    table = TableClient.from_connection_string(azurite.connection_string, f"{tables_prefix}CourseRuns")
    head = properties_of(table, "published")
    for name in head.keys() - {"PartitionKey", "RowKey"}:
        table.upsert_entity({n: v for n, v in head.items() if n != name}, mode=UpdateMode.REPLACE)
        with Host(_REPOSITORY) as new:  # the body is not in the memory of a new process
            cached = ask(new.url, admin, cache_control="only-if-cached")
        if cached.status_code == 200:
            assert (cached.content, cached.headers["ETag"]) == (complete.content, complete.headers["ETag"]), (
                name
            )
        else:
            assert_says(cached, 500, "No sync of catalog 1 has finished yet|catalog 1 is")
        assert_shows(ask(host_here.url, admin), runs_of(shelf_here))
        assert ask(host_here.url, admin).headers["ETag"] == complete.headers["ETag"]
    table.close()


@pytest.mark.parametrize("ids", [None, "all", "9" * 5000])
def test_no_catalog_is_missing_from_the_answer_when_the_stored_list_of_catalogs_is_invalid(  # noqa: PLR0917 - fixtures
    shelf_here: Catalog,
    host_here: Host,
    admin: requests.Session,
    azurite: Azurite,
    tables_prefix: str,
    ids: object,
) -> None:
    assert_shows(ask(host_here.url, admin), runs_of(shelf_here))
    with TableClient.from_connection_string(azurite.connection_string, f"{tables_prefix}Accounts") as table:
        row = properties_of(table, "catalogs")
        del row["catalogIds"]
        table.upsert_entity(row if ids is None else row | {"catalogIds": ids}, mode=UpdateMode.REPLACE)
    assert_shows(ask(host_here.url, admin, cache_control="max-age=600"), runs_of(shelf_here))
