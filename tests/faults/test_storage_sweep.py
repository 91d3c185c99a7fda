"""Faults of storage at each request of a sync, and tables that another program has changed.

The syncing host skips the pauses between tries and the wait for a dead lease, because these tests would
otherwise wait hundreds of times. Everything else is as in production.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import requests
from azure.data.tables import EdmType, EntityProperty, TableClient, TableServiceClient, UpdateMode

from local.azurite import Azurite
from local.host import Host
from local.host.process import HostProcess
from local.sandbox.catalogs import Catalog
from local.sandbox.http import Exchange as SandboxExchange
from local.sandbox.http import Reply
from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.query import Question
from shared.errors import ConnectorError
from shared.serving.answering import Reader
from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import connect
from tests.faults.promise import (
    Stored,
    ask,
    assert_discreet,
    assert_kept,
    assert_nothing_lost,
    assert_reached,
    assert_says,
    assert_shows,
    entities_of,
    runs_of,
)
from tests.faults.stage import Stage
from tests.table_proxy import (
    Exchange,
    Fault,
    TableProxy,
    answer,
    lose_answer,
    refuse_in_batch,
)

REQUESTS_AT_LEAST = 15
"""Storage requests of one call that syncs a changed catalog; with fewer, a test would leave some out."""


@pytest.fixture
def settings(stage: Stage, proxy: TableProxy) -> dict[str, str]:
    return {**stage.settings, "TABLES_CONNECTION_STRING": proxy.connection_string}


@pytest.fixture
def table(stage: Stage) -> TableClient:
    """The table of course runs, for changes that another program makes."""
    service = TableServiceClient.from_connection_string(stage.settings["TABLES_CONNECTION_STRING"])
    return service.get_table_client(f"{stage.settings['TABLES_PREFIX']}CourseRuns")


class Scene:
    """A catalog that one host syncs many times through the proxy, and that another process reads."""

    def __init__(self, stage: Stage, host: Host, proxy: TableProxy, reader: HostProcess) -> None:
        self.stage = stage
        self.proxy = proxy
        self.shelf = stage.new_shelf()
        self._host = host
        self._reader = reader
        self.assert_recovers()

    def sync(self) -> requests.Response:
        return ask(self._host.url, self.stage.admin, self.shelf.id)

    def read(self) -> requests.Response:
        return ask(self._reader.url, self.stage.admin, self.shelf.id, "only-if-cached")

    def assert_a_new_process_reads(self, says: str) -> None:
        """Assert that a process that has read nothing before returns what edX shows, or a known error."""
        answering = connect(Outbox(), self.stage.settings).answering
        question = Question(self.shelf.id, None, parse_freshness("only-if-cached"))
        asked = answering.answer(question, Reader(takes_gzip=False), Origin("http"), Deadline.after(60))
        failed = None
        try:
            body = asyncio.run(asked).body
        except ConnectorError as error:
            failed = error
        if failed:
            assert re.search(says, failed.message), failed.message
        else:
            assert json.loads(body or b"") == self.stage.states[self.shelf.id][-1]

    def requests_of_a_sync(self) -> int:
        """Count the storage requests of a call that syncs the changed catalog when old parts are stored."""
        for _ in range(2):
            self.stage.change(self.shelf)
            self.proxy.requests.clear()
            self.assert_recovers()
        assert len(self.proxy.requests) >= REQUESTS_AT_LEAST
        return len(self.proxy.requests)

    def assert_recovers(self) -> None:
        """Assert that the next sync stores what edX shows, and that both processes then return it."""
        self.proxy.rules.clear()
        assert_reached(self.sync(), self.stage.stored, self.shelf)
        assert_shows(self.read(), runs_of(self.shelf))

    def assert_one_state_is_read(self) -> None:
        """Assert that a reader gets what edX shows or what it showed before, and no mixture."""
        assert self.read().json() in self.stage.states[self.shelf.id][-2:]

    def watched(self, fault: Fault) -> Fault:
        """Return a fault that reads the catalog before and after the given fault."""

        def act(exchange: Exchange) -> None:
            looks.append(self.read().json())
            fault(exchange)
            looks.append(self.read().json())

        looks = self.looks = []
        return act

    looks: list[Any]


@pytest.fixture
def scene(stage: Stage, host_without_pauses: Host, proxy: TableProxy, healthy: HostProcess) -> Scene:
    return Scene(stage, host_without_pauses, proxy, healthy)


def in_batches(fault: Fault) -> Fault:
    """Apply a fault to batches only."""

    def act(exchange: Exchange) -> None:
        if exchange.request.is_batch:
            fault(exchange)
        else:
            exchange.send(*exchange.forward())

    return act


@pytest.mark.parametrize(
    "fault",
    [lose_answer, in_batches(refuse_in_batch(0, "ServerBusy", 503))],
    ids=["lost answer", "busy in the batch"],
)
def test_the_sync_succeeds_when_any_one_request_fails_once(scene: Scene, fault: Fault) -> None:
    for position in range(scene.requests_of_a_sync()):
        scene.stage.change(scene.shelf)
        rule = scene.proxy.on(scene.watched(fault), after=position, times=1)
        assert_reached(scene.sync(), scene.stage.stored, scene.shelf)
        assert rule.fired
        assert len(scene.looks) >= 2
        assert all(look in scene.stage.states[scene.shelf.id][-2:] for look in scene.looks)
        scene.proxy.rules.clear()


def test_the_next_sync_recovers_when_all_answers_are_lost_from_any_request_on(scene: Scene) -> None:
    failures = 0
    for position in range(scene.requests_of_a_sync()):
        before = scene.stage.stored.runs(scene.shelf.id)
        scene.stage.change(scene.shelf)
        scene.proxy.on(lose_answer, after=position)
        answered = scene.sync()
        if answered.status_code == 200:  # nothing but the report was left to do
            assert_shows(answered, runs_of(scene.shelf))
        else:
            failures += 1
            assert_says(answered, 500, "Table Storage at ")
            assert_nothing_lost(before, scene.stage.stored.runs(scene.shelf.id), scene.shelf)
            scene.assert_one_state_is_read()
        scene.assert_recovers()
    assert failures >= REQUESTS_AT_LEAST - 2


def test_the_sync_succeeds_when_any_request_takes_effect_after_it_was_repeated(scene: Scene) -> None:
    def take_effect_late(exchange: Exchange) -> None:
        Timer(0.2, exchange.forward).start()  # the connection is cut at once

    for position in range(0, scene.requests_of_a_sync(), 2):
        scene.stage.change(scene.shelf)
        rule = scene.proxy.on(take_effect_late, after=position, times=1)
        assert_reached(scene.sync(), scene.stage.stored, scene.shelf)
        assert rule.fired
    time.sleep(0.4)
    scene.assert_recovers()


Harm = Callable[[TableClient, Catalog], None]


def delete_table(table: TableClient, _shelf: Catalog) -> None:
    table.delete_table()


def delete_lease(table: TableClient, shelf: Catalog) -> None:
    table.delete_entity(str(shelf.id), "lease")


@pytest.mark.parametrize("harm", [delete_table, delete_lease])
def test_the_next_sync_recovers_when_the_table_or_the_lease_is_deleted_before_any_request(
    scene: Scene, table: TableClient, harm: Harm
) -> None:
    failures = 0
    for position in range(0, scene.requests_of_a_sync(), 2):
        scene.stage.change(scene.shelf)

        def act(exchange: Exchange) -> None:
            harm(table, scene.shelf)
            exchange.send(*exchange.forward())

        scene.proxy.on(act, after=position, times=1)
        answered = scene.sync()
        if answered.status_code == 200:
            assert_shows(answered, runs_of(scene.shelf))
        else:
            failures += 1
            assert_says(answered, 500, "Catalog .*\\.|has finished yet")
        scene.assert_recovers()
    assert failures


# Changes by another program


def row(shelf: Catalog, row_key: str, **properties: object) -> dict[str, Any]:
    return {"PartitionKey": str(shelf.id), "RowKey": row_key, **properties}


def parts(table: TableClient, shelf: Catalog, kind: str) -> list[dict[str, Any]]:
    rows = table.query_entities(
        "PartitionKey eq @catalog and RowKey gt 'published-'", parameters={"catalog": str(shelf.id)}
    )
    return [dict(each) for each in rows if f"-{kind}-" in each["RowKey"]]


def merge(row_key: str, **properties: object) -> Harm:
    return lambda table, shelf: _ignore(table.upsert_entity(row(shelf, row_key, **properties)))


def put(row_key: str, **properties: object) -> Harm:
    return lambda table, shelf: _ignore(
        table.upsert_entity(row(shelf, row_key, **properties), mode=UpdateMode.REPLACE)
    )


def _ignore(_value: object) -> None:
    pass


def alter_parts(kind: str, change: Callable[[bytes], object]) -> Harm:
    def act(table: TableClient, shelf: Catalog) -> None:
        for part in parts(table, shelf, kind):
            table.upsert_entity(part | {"data00": change(part["data00"])}, mode=UpdateMode.REPLACE)

    return act


def delete_parts(kind: str) -> Harm:
    def act(table: TableClient, shelf: Catalog) -> None:
        for part in parts(table, shelf, kind):
            table.delete_entity(part["PartitionKey"], part["RowKey"])

    return act


def swap_parts(table: TableClient, shelf: Catalog) -> None:
    """Swap the data of the body and of the digests."""
    for body, digests in zip(parts(table, shelf, "body"), parts(table, shelf, "digests"), strict=True):
        table.upsert_entity(body | {"data00": digests["data00"]}, mode=UpdateMode.REPLACE)
        table.upsert_entity(digests | {"data00": body["data00"]}, mode=UpdateMode.REPLACE)


HARMS: dict[str, Harm] = {
    "lease: owner is a number": merge("lease", owner=5),
    "lease: held by nobody": merge("lease", owner="gone", sequence="many"),
    "lease: largest number": merge("lease", sequence=2**31 - 1),
    "lease: 64 bits": merge("lease", sequence=EntityProperty(2**40, EdmType.INT64)),
    "lease: nothing in it": put("lease"),
    "lease: more in it": merge("lease", finished=3.5, error=True, more="x" * 30_000, data=b"\0"),
    "head: nothing in it": put("published"),
    "head: of another format": merge("published", format=2),
    "head: numbers are texts": merge("published", body_parts="1", digest_parts="1"),
    "head: generation is a number": merge("published", generation=1),
    "head: unknown generation": merge("published", generation="it's/gone"),
    "head: time is none": merge("published", synced_at="yesterday"),
    "head: time without offset": merge("published", synced_at="2026-01-01T00:00:00"),
    "head: time far ahead": merge("published", synced_at="9999-12-31T23:59:59+00:00"),
    "head: more parts than there are": merge("published", body_parts=2**31 - 1),
    "head: fewer than none": merge("published", body_parts=-1, digest_parts=-1),
    "head: wrong checksums": merge("published", body_checksum="0", digest_checksum="0"),
    "head: somebody writes": merge("published", writing="somebody"),
    "head: gone": lambda table, shelf: table.delete_entity(str(shelf.id), "published"),
    "body: gone": delete_parts("body"),
    "body: cut short": alter_parts("body", lambda data: data[:-9]),
    "body: one bit wrong": alter_parts("body", lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:]),
    "body: a text": alter_parts("body", lambda _data: "[]"),
    "digests: gone": delete_parts("digests"),
    "digests: cut short": alter_parts("digests", lambda data: data[:-9]),
    "digests: empty": alter_parts("digests", lambda _data: b""),
    "digests: a number": alter_parts("digests", lambda _data: 7),
    "parts: swapped": swap_parts,
    "row: of no run": put("0", listed=True),
    "row: with a key like a run's": put("ABCDEFAB-CDEF-4BCD-8BCD-ABCDEFABCDEF", listed="yes"),
}


UNREADABLE = "of catalog .* has finished yet|Catalog .* could not be synced"


@pytest.mark.parametrize("group", sorted({name.split(":")[0] for name in HARMS}))
def test_the_next_sync_recovers_when_another_program_has_changed_the_tables(
    scene: Scene, table: TableClient, group: str
) -> None:
    for name, harm in HARMS.items():
        if not name.startswith(group):
            continue
        reads_anew = () if group in {"lease", "row"} else ((True, False),)
        for is_new, changed in (*reads_anew, (False, False), (False, True)):
            before = scene.stage.stored.runs(scene.shelf.id)
            harm(table, scene.shelf)
            if is_new:  # it cannot answer with a body in memory
                scene.assert_a_new_process_reads(UNREADABLE)
            elif (answered := scene.read()).status_code == 200:
                assert_shows(answered, runs_of(scene.shelf))
            else:
                assert_says(answered, 500, UNREADABLE)
            assert_kept(before, scene.stage.stored, scene.shelf)
            if changed:
                scene.stage.change(scene.shelf)
            scene.assert_recovers()


CHANGED: list[dict[str, object]] = [
    {"listed": None},
    {"listed": "true"},
    {"listed": 1},
    {"minEffort": "4"},
    {"minEffort": EntityProperty(4, EdmType.INT64)},
    {"price": 150.0},
    {"startDate": datetime(2020, 1, 6, tzinfo=UTC)},
    {"courserunKey": "course-v1:another+run+R1"},
    {"courserunKey": None},
    {"type": "nonsense"},
    {"withdrawnAt": False},
    {"withdrawnAt": datetime(2020, 1, 6, tzinfo=UTC)},
]
"""Properties that another program changed, one per run; None for one that it removed."""


@pytest.mark.parametrize("noticed", [True, False], ids=["with damaged digests", "by a rebuild"])
def test_changed_course_runs_are_written_again_when_the_digests_are_not_used(
    scene: Scene, table: TableClient, *, noticed: bool
) -> None:
    shelf = scene.shelf
    for run_id, changed in zip(runs_of(shelf), CHANGED, strict=True):
        entity = {**table.get_entity(str(shelf.id), run_id), **changed}
        kept = {name: value for name, value in entity.items() if value is not None}
        table.upsert_entity(kept, mode=UpdateMode.REPLACE)
    if noticed:
        delete_parts("digests")(table, shelf)
    else:
        assert_shows(scene.read(), runs_of(shelf))
        assert_shows(scene.sync(), runs_of(shelf))
        connector = connect(Outbox(), scene.stage.settings)
        connector.syncer.sync(shelf.id, Origin("operator"), rebuild=True)
    scene.assert_recovers()


# Refusals


def test_the_other_runs_are_written_when_storage_refuses_one(scene: Scene) -> None:
    before = scene.stage.stored.runs(scene.shelf.id)
    scene.stage.change(scene.shelf)
    scene.proxy.on(refuse_in_batch(1), kind="write runs", times=1)
    assert scene.sync().status_code == 200
    now = scene.stage.stored.runs(scene.shelf.id)
    (refused,) = (identity for identity, run in entities_of(scene.shelf).items() if now.get(identity) != run)
    assert now.get(refused) == before.get(refused)
    report = scene.stage.stored.reports(scene.shelf.id)[0]
    assert (report["outcome"], report["rejected"]) == ("ok", 1)
    assert "PropertyValueTooLarge" in report["rejections"]
    scene.assert_recovers()


@pytest.mark.parametrize(
    "code", ["AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo"]
)
@pytest.mark.parametrize("position", [0, 2, 7])
def test_the_error_names_the_setting_when_storage_refuses_our_credentials(
    scene: Scene, caplog: pytest.LogCaptureFixture, code: str, position: int
) -> None:
    caplog.set_level(logging.INFO)
    scene.stage.change(scene.shelf)
    before = scene.stage.stored.runs(scene.shelf.id)
    scene.proxy.on(answer(403, code), after=position)
    assert_says(scene.sync(), 500, "refused our credentials", "TABLES_CONNECTION_STRING")
    assert_kept(before, scene.stage.stored, scene.shelf)
    assert caplog.messages
    assert_discreet(caplog.messages)
    scene.assert_recovers()


# Table Storage stopped and started again


def test_the_next_sync_recovers_when_table_storage_is_stopped_and_started_again(
    stage: Stage, settings: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with Azurite(location=tmp_path) as azurite:
        settings["TABLES_CONNECTION_STRING"] = azurite.connection_string
        stored = Stored(azurite.connection_string, settings["TABLES_PREFIX"])
        host: Host = request.getfixturevalue("host_without_pauses")
        shelf = stage.new_shelf()
        page = f"/catalogs/{shelf.id}/courses/"
        assert_reached(ask(host.url, stage.admin, shelf.id), stored, shelf)
        before = stored.runs(shelf.id)
        stage.change(shelf)

        azurite.stop()  # before a sync, for longer than its tries
        assert_says(ask(host.url, stage.admin, shelf.id), 500, "Table Storage at ")
        assert_says(ask(host.url, stage.admin, shelf.id, "only-if-cached"), 500, "Table Storage at ")
        azurite.start()
        assert stored.runs(shelf.id) == before
        assert_reached(ask(host.url, stage.admin, shelf.id), stored, shelf)

        def stop(_exchange: SandboxExchange, reply: Reply) -> Reply:
            azurite.stop()
            return reply

        stage.change(shelf)  # during the pull, for longer than its tries
        before = stored.runs(shelf.id)
        stage.edx.on(page, stop, offset=5, times=1)
        assert_says(ask(host.url, stage.admin, shelf.id), 500, "Table Storage at ")
        azurite.start()
        assert_kept(before, stored, shelf)
        assert_reached(ask(host.url, stage.admin, shelf.id), stored, shelf)
