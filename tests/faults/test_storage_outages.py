"""Table Storage gone for a while, and back: before a sync, in the midst of its requests, and with losses.

Azurite keeps its data on disk here, and is stopped the clean way: killed, it would lose what Azure keeps.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from threading import Thread
from uuid import uuid4

import pytest
import requests

from local.azurite import Azurite
from local.host.process import HostProcess
from local.sandbox import Sandbox
from tests.faults.promise import assert_reached, assert_says
from tests.faults.stage import Stage
from tests.table_proxy import Exchange, Fault, Gate, TableProxy

KINDS = (
    "take or renew lease",
    "mark head",
    "write runs",
    "mark runs",
    "write body",
    "find parts",
    "write head",
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(location=tmp_path_factory.mktemp("azurite")) as storage:
        yield storage


@pytest.fixture(scope="module")
def proxy(storage: Azurite) -> Iterator[TableProxy]:
    with TableProxy(storage.connection_string) as proxy:
        yield proxy


class FleetingStage(Stage):
    """A stage whose storage comes and goes."""

    def __init__(self, edx: Sandbox, admin: requests.Session, storage: Azurite) -> None:
        super().__init__(edx, admin, storage.connection_string, f"T{uuid4().hex}")
        self.storage = storage


@pytest.fixture(scope="module")
def stage(storage: Azurite, edx: Sandbox, shared_admin: requests.Session) -> FleetingStage:
    return FleetingStage(edx, shared_admin, storage)


@pytest.fixture(scope="module")
def host(stage: FleetingStage, proxy: TableProxy) -> Iterator[HostProcess]:
    with stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as host:
        yield host


def before(_exchange: Exchange) -> None:
    """Let storage go before it has done what it was asked for."""


def during(exchange: Exchange) -> None:
    def forward() -> None:
        with suppress(OSError, HTTPException):
            exchange.forward()

    Thread(target=forward).start()


def after(exchange: Exchange) -> None:
    exchange.forward()


@pytest.mark.parametrize("kind", ["write runs", "write head"])
@pytest.mark.parametrize("moment", [before, during, after])
def test_the_sync_is_whole_when_storage_is_away_for_a_moment(
    stage: FleetingStage, proxy: TableProxy, host: HostProcess, moment: Fault, kind: str
) -> None:
    shelf = stage.synced_shelf(host)

    def restart(exchange: Exchange) -> None:
        moment(exchange)
        stage.storage.restart()

    rule = proxy.on(restart, catalog=shelf.id, kind=kind, times=1)

    assert_reached(stage.ask(host, shelf), stage.stored, shelf)
    assert rule.fired == 1


def test_nothing_is_lost_and_the_next_sync_is_whole_when_storage_goes_away_at_any_write(
    stage: FleetingStage, proxy: TableProxy, host: HostProcess
) -> None:
    held = []
    for kind in KINDS:
        shelf, gate = stage.synced_shelf(host), Gate()
        proxy.on(gate, catalog=shelf.id, kind=kind, times=1)
        held.append((shelf, gate, stage.begin_to_ask(host, shelf)))
    for _, gate, _ in held:
        assert gate.reached.wait(30)
    stage.storage.stop()
    for _, gate, _ in held:
        gate.open(drop=True)
    for _, _, call in held:
        assert_says(call.result(), 500, "Table Storage failed", "What was stored before is intact")
    answered = stage.ask(host, held[0][0], "only-if-cached")
    assert_says(answered, 500, "Table Storage failed", "What was stored before is intact")
    stage.storage.start()
    for shelf, *_ in held:
        assert stage.ask(host, shelf, "only-if-cached").json() == stage.states[shelf.id][0]
    began = time.monotonic()
    stage.assert_heals(host, [shelf for shelf, *_ in held])
    assert time.monotonic() - began < 60


def test_the_next_sync_is_whole_when_storage_comes_back_without_its_last_writes(
    stage: FleetingStage, host: HostProcess
) -> None:
    shelf = stage.synced_shelf(host)
    stage.assert_heals(host, [shelf])
    stage.storage.kill()
    stage.storage.start()
    stage.assert_heals(host, [shelf])


def test_answers_are_the_same_when_storage_was_away_between_syncs(
    stage: FleetingStage, host: HostProcess
) -> None:
    shelf = stage.synced_shelf(host)
    stage.assert_heals(host, [shelf])
    before = stage.ask(host, shelf, "only-if-cached")
    stage.storage.restart()
    after = stage.ask(host, shelf, "only-if-cached")
    assert (after.content, after.headers["ETag"]) == (before.content, before.headers["ETag"])
    with stage.host() as new:
        assert stage.ask(new, shelf, "only-if-cached").content == before.content
