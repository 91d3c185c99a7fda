"""Table Storage stops and starts again: before a sync, during its requests, and with lost writes.

Azurite keeps its data on disk here. It is stopped cleanly, because a killed one loses data that Azure keeps.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from threading import Thread

import pytest

from local.azurite import Azurite
from local.host.process import HostProcess
from local.sandbox.catalogs import Catalog
from tests.faults.promise import assert_reached, assert_says
from tests.faults.stage import Stage
from tests.table_proxy import Exchange, Fault, Gate, TableProxy

KINDS = (
    "take or renew lease",
    "write runs",
    "mark runs",
    "write body",
    "find parts",
    "write head",
)


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("azurite")


@pytest.fixture(scope="module")
def azurite(location: Path) -> Iterator[Azurite]:
    """The storage of the stage, which these tests stop."""
    with Azurite(location=location) as azurite:
        yield azurite


def before(_exchange: Exchange) -> None:
    """Do not let the request take effect."""


def during(exchange: Exchange) -> None:
    def forward() -> None:
        with suppress(OSError, HTTPException):
            exchange.forward()

    Thread(target=forward).start()


def after(exchange: Exchange) -> None:
    exchange.forward()


@pytest.mark.parametrize("kind", ["write runs", "write head"])
@pytest.mark.parametrize("moment", [before, during, after])
def test_the_sync_is_complete_when_storage_restarts_during_a_write(  # noqa: PLR0917 - fixtures
    azurite: Azurite, stage: Stage, proxy: TableProxy, proxied: HostProcess, moment: Fault, kind: str
) -> None:
    shelf = stage.synced_shelf(proxied)

    def restart(exchange: Exchange) -> None:
        moment(exchange)
        azurite.restart()

    rule = proxy.on(restart, catalog=shelf.id, kind=kind, times=1)

    assert_reached(stage.ask(proxied, shelf), stage.stored, shelf)
    assert rule.fired == 1


def time_of_syncs(stage: Stage, host: HostProcess, shelves: list[Catalog]) -> float:
    """Sync catalogs at once, and return how many seconds that took."""
    began = time.monotonic()
    answers = stage.ask_all(host, shelves)
    took_s = time.monotonic() - began
    for shelf, answered in zip(shelves, answers, strict=True):
        assert_reached(answered, stage.stored, shelf)
    return took_s


def test_nothing_is_lost_and_the_next_sync_is_complete_when_storage_stops_at_any_write(
    azurite: Azurite, stage: Stage, proxy: TableProxy, proxied: HostProcess
) -> None:
    held = []
    for kind in KINDS:
        shelf, gate = stage.synced_shelf(proxied), Gate()
        proxy.on(gate, catalog=shelf.id, kind=kind, times=1)
        held.append((shelf, gate, stage.begin_to_ask(proxied, shelf)))
    for _, gate, _ in held:
        assert gate.reached.wait(30)
    azurite.stop()
    for _, gate, _ in held:
        gate.open(drop=True)
    for _, _, call in held:
        assert_says(call.result(), 500, "Table Storage at ", "What was stored before is intact")
    answered = stage.ask(proxied, held[0][0], "only-if-cached")
    assert_says(answered, 500, "Table Storage at ", "What was stored before is intact")
    azurite.start()
    for shelf, *_ in held:
        assert stage.ask(proxied, shelf, "only-if-cached").json() == stage.states[shelf.id][0]
    shelves = [shelf for shelf, *_ in held]
    took_s = time_of_syncs(stage, proxied, shelves)
    stage.change_all(shelves)
    healthy_s = time_of_syncs(stage, proxied, shelves)
    assert took_s < 60 + healthy_s


def test_the_next_sync_is_complete_when_storage_has_lost_its_last_writes(
    azurite: Azurite, location: Path, tmp_path: Path, stage: Stage, proxied: HostProcess
) -> None:
    shelf = stage.synced_shelf(proxied)
    stage.last_report(shelf, number=1)
    earlier = stage.stored.runs(shelf.id)
    azurite.stop()
    shutil.copytree(location, tmp_path / "copy")
    azurite.start()
    stage.assert_recovers(proxied, [shelf])
    later = stage.stored.runs(shelf.id)
    azurite.kill()
    shutil.rmtree(location)
    shutil.copytree(tmp_path / "copy", location)
    azurite.start()
    assert stage.stored.runs(shelf.id) == earlier != later
    stage.assert_recovers(proxied, [shelf])


def test_answers_are_the_same_when_storage_restarts_between_syncs(
    azurite: Azurite, stage: Stage, proxied: HostProcess
) -> None:
    shelf = stage.synced_shelf(proxied)
    stage.assert_recovers(proxied, [shelf])
    before = stage.ask(proxied, shelf, "only-if-cached")
    azurite.restart()
    after = stage.ask(proxied, shelf, "only-if-cached")
    assert (after.content, after.headers["ETag"]) == (before.content, before.headers["ETag"])
    with stage.host() as new:
        assert stage.ask(new, shelf, "only-if-cached").content == before.content
