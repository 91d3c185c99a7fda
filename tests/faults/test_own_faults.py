"""Faults of our own: processes killed, stopped and woken, beside one another, out of time, with odd clocks.

A sync is broken at every one of its storage requests: the proxy in front of storage holds one request of each
catalog, the process is hit when all are held, and the held ones are lost or take effect afterwards.
"""

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import NamedTuple
from uuid import uuid4

import pytest
import requests

from local.azurite import Azurite
from local.host_process import HostProcess
from local.sandbox import Sandbox
from local.sandbox_catalogs import Catalog
from tests.faults.promise import assert_reached, assert_says, assert_shows, runs_of
from tests.faults.stage import Stage
from tests.faults.table_proxy import Gate, TableProxy

LAST_OF_A_SYNC = "find old reports"


@pytest.fixture(scope="module")
def stage(azurite: Azurite, edx: Sandbox, shared_admin: requests.Session) -> Stage:
    return Stage(edx, shared_admin, azurite.connection_string, f"T{uuid4().hex}")


@pytest.fixture(scope="module")
def proxy(azurite: Azurite) -> Iterator[TableProxy]:
    with TableProxy(azurite.connection_string) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def healthy(stage: Stage) -> Iterator[HostProcess]:
    """A process that nothing happens to."""
    with stage.host() as host:
        yield host


class Held(NamedTuple):
    """A sync that waits in the middle: its catalog, the request that is held, and the caller's call."""

    shelf: Catalog
    kind: str
    gate: Gate
    call: "Future[requests.Response]"


def requests_of_a_sync(stage: Stage, proxy: TableProxy, host: HostProcess, shelf: Catalog) -> list[str]:
    """Return the kinds of storage requests that a sync makes of a catalog, the caller's own ones left out."""
    proxy.requests.clear()
    stage.ask(host, shelf)
    kinds = proxy.kinds(shelf.id)
    return kinds[1 : kinds.index(LAST_OF_A_SYNC) + 1]


def hold_every_request(stage: Stage, proxy: TableProxy, healthy: HostProcess, host: HostProcess) -> list[Held]:
    """Begin many syncs, first ones and later ones, and hold each at another of its storage requests."""
    first, later = stage.new_shelf(), stage.synced_shelf(healthy)
    shelves = []
    for kinds, is_first in (
        (requests_of_a_sync(stage, proxy, host, first), True),
        (requests_of_a_sync(stage, proxy, host, later), False),
    ):
        for position, kind in enumerate(kinds, 1):
            shelf = stage.new_shelf() if is_first else stage.synced_shelf(healthy)
            shelves.append((shelf, position, kind))
    held = []
    for shelf, position, kind in shelves:
        gate = Gate()
        proxy.on(gate, catalog=shelf.id, after=position, times=1)
        held.append(Held(shelf, kind, gate, stage.begin_to_ask(host, shelf)))
    for each in held:
        assert each.gate.reached.wait(60), each.kind
    return held


def test_x(stage: Stage, proxy: TableProxy, healthy: HostProcess) -> None:
    with (
        stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as killed,
        stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as stopped,
    ):
        t0 = time.monotonic()
        to_kill = hold_every_request(stage, proxy, healthy, killed)
        to_stop = hold_every_request(stage, proxy, healthy, stopped)
        print("held", time.monotonic() - t0, [h.kind for h in to_kill])
        killed.kill()
        stopped.child.send_signal(signal.SIGSTOP)
        for n, each in enumerate(to_kill):
            each.gate.open(drop=bool(n % 2))
        shelves = [each.shelf for each in (*to_kill, *to_stop)]
        with stage.watched(healthy, shelves):
            for shelf in shelves:
                stage.change(shelf)
            t = time.monotonic()
            stage.assert_heals(healthy, shelves)
            print("healed", time.monotonic() - t)
            for each in to_stop:
                each.gate.open()
            stopped.child.send_signal(signal.SIGCONT)
            for each in to_stop:
                a = each.call.result()
                print(each.kind, a.status_code, a.text[:150])
            for each in to_stop:
                assert_reached(stage.ask(healthy, each.shelf, "only-if-cached"), stage.stored, each.shelf)
