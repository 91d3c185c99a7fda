"""An edX and a storage with many catalogs, for tests of faults that last several syncs.

While a fault lasts, a reader keeps asking a healthy process for what is stored: each answer must be exactly
one of the states that edX showed, and never older than the answer before.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter

from local.host import Host
from local.host.process import HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import Action
from local.sandbox.http import Exchange, Reply
from tests.conftest import settings_of
from tests.faults.promise import (
    Stored,
    ask,
    assert_discreet,
    assert_reached,
    body_of,
    change,
    make_shelf,
    runs_of,
)

CATALOGS = range(1, 400)
CALLERS_AT_ONCE = 128
HELD_AT_MOST_S = 25.0
"""The longest wait of a held page, after which edX answers: the connector repeats a request after 30 s."""


class HeldSync(NamedTuple):
    """A sync that waits for a page which edX sends when `page` is set, and the caller's call."""

    call: "Future[requests.Response]"
    page: Event


class Stage:
    """Catalogs of one edX in one storage, and the calls to the connector.

    Args:
        edx: shows the catalogs.
        admin: the session of the caller.
        connection_string: the storage.
        prefix: the table prefix.
    """

    def __init__(self, edx: Sandbox, admin: requests.Session, connection_string: str, prefix: str) -> None:
        self.edx = edx
        self.admin = admin
        admin.mount("http://", HTTPAdapter(pool_maxsize=CALLERS_AT_ONCE))
        self.stored = Stored(connection_string, prefix)
        self.settings = {
            **settings_of(edx, connection_string, prefix),
            "EDX_CATALOG_IDS": ",".join(map(str, CATALOGS)),
            "EDX_PAGE_SIZE": "5",
            "SYNC_STALE_IF_ERROR_SECONDS": "0",  # otherwise callers would get stale data
        }
        self.states: dict[int, list[Any]] = defaultdict(list)
        """Catalog → the bodies of the states that edX showed, in order."""
        self._ids = iter(CATALOGS)
        self._hosts: list[HostProcess] = []
        self._callers = ThreadPoolExecutor(CALLERS_AT_ONCE)

    @contextmanager
    def host(self, **settings: str) -> Iterator[HostProcess]:
        """Run a connector, and assert that its log has no secret and no unexpected error."""
        with HostProcess({**self.settings, **settings}) as host:
            self._hosts.append(host)
            yield host
        assert_discreet([host.log])
        assert "Unexpected" not in host.log, host.log

    def new_shelf(self, courses: int = 12) -> Catalog:
        """Show one more catalog."""
        shelf = make_shelf(next(self._ids), courses)
        self.edx.catalogs[shelf.id] = shelf
        self._note(shelf)
        return shelf

    def change(self, shelf: Catalog) -> None:
        """Show a catalog changed in every way."""
        change(shelf)
        self._note(shelf)

    def change_all(self, shelves: Iterable[Catalog]) -> None:
        """Show several catalogs changed in every way."""
        for shelf in shelves:
            self.change(shelf)

    def synced_shelf(self, host: HostProcess) -> Catalog:
        """Show one more catalog, sync it, then change it; edX forgets the requests so far."""
        shelf = self.new_shelf()
        assert_reached(self.ask(host, shelf), self.stored, shelf)
        self.change(shelf)
        self.edx.forget_requests()
        return shelf

    def last_report(self, shelf: Catalog, number: int = 2) -> dict[str, Any]:
        """Wait for this number of reports, and return the newest.

        A sync adds its report before its callers get their answer, but it may outlast a caller, or run in
        another process.
        """
        wait_until(lambda: len(self.stored.reports(shelf.id)) >= number)
        return self.stored.reports(shelf.id)[0]

    def log_line(self, sync_id: str) -> str:
        """Return what a host logged about a sync."""

        def lines() -> list[str]:
            return [line for host in self._hosts for line in host.child.lines if sync_id in line]

        wait_until(lines)
        return lines()[0]

    def pulls_of(self, shelf: Catalog) -> int:
        """Return how often a catalog of three pages was pulled, and assert that no two pulls overlapped."""
        offsets = [page.offset for page in self.edx.requests_to(f"/catalogs/{shelf.id}/courses/")]
        pulls = [sorted(offsets[at : at + 3]) for at in range(0, len(offsets), 3)]
        assert pulls == [[0, 5, 10]] * len(pulls)
        return len(pulls)

    def _note(self, shelf: Catalog) -> None:
        self.states[shelf.id].append(body_of(runs_of(shelf)))

    def ask(
        self, host: Host | HostProcess, shelf: Catalog, cache_control: str = "no-cache"
    ) -> requests.Response:
        """Ask for a catalog; by default it is synced first."""
        return ask(host.url, self.admin, shelf.id, cache_control)

    def begin_to_ask(self, host: Host | HostProcess, shelf: Catalog) -> "Future[requests.Response]":
        """Ask for a sync of a catalog, in a thread."""
        return self._callers.submit(self.ask, host, shelf)

    def begin_held_sync(self, host: Host | HostProcess, shelf: Catalog) -> HeldSync:
        """Ask for a sync, and return when it waits for its second page, which edX holds."""
        event = Event()
        page = self.edx.on(f"/catalogs/{shelf.id}/courses/", held_until(event), offset=5, times=1)
        call = self.begin_to_ask(host, shelf)
        wait_until(lambda: page.fired)
        return HeldSync(call, event)

    def warm(self, host: Host | HostProcess) -> None:
        """Let a process load what its first request needs, so that the next one is not slower than others."""
        self.ask(host, Catalog(next(self._ids), "Never synced"), "only-if-cached")

    def ask_all(self, host: Host | HostProcess, shelves: Iterable[Catalog]) -> list[requests.Response]:
        """Ask for a sync of each catalog, all at once."""
        return [call.result() for call in [self.begin_to_ask(host, shelf) for shelf in shelves]]

    def assert_recovers(self, host: Host | HostProcess, shelves: Iterable[Catalog]) -> None:
        """Assert that one sync of each catalog stores and returns exactly what edX shows."""
        shelves = list(shelves)
        for shelf, answered in zip(shelves, self.ask_all(host, shelves), strict=True):
            assert_reached(answered, self.stored, shelf)

    @contextmanager
    def watched(self, host: HostProcess, shelves: Iterable[Catalog]) -> Iterator[None]:
        """Read catalogs through a host during the block, and assert that each answer is a state of edX's."""
        stop = Event()
        faults: list[str] = []
        seen = dict.fromkeys((shelf.id for shelf in shelves), -1)
        looks = Counter[int]()

        def watch() -> None:
            while True:
                for catalog_id in seen:
                    self._look(host, catalog_id, seen, faults)
                    looks[catalog_id] += 1
                    stop.wait(0.1)  # a reader without pauses would slow down what it watches
                if stop.is_set():
                    return

        reader = Thread(target=watch, daemon=True)
        reader.start()
        try:
            yield
        finally:
            stop.set()
            reader.join()
        assert not faults, faults[:3]
        assert looks.keys() == seen.keys()

    def _look(self, host: HostProcess, catalog_id: int, seen: dict[int, int], faults: list[str]) -> None:
        answered = ask(host.url, self.admin, catalog_id, "only-if-cached")
        if answered.status_code != 200:
            if seen[catalog_id] >= 0 or "has finished yet" not in answered.text:
                faults.append(f"Catalog {catalog_id}: {answered.status_code} {answered.text}")
            return
        shown = answered.json()
        states = self.states[catalog_id]
        for number in range(max(seen[catalog_id], 0), len(states)):
            if shown == states[number]:
                seen[catalog_id] = number
                return
        faults.append(f"Catalog {catalog_id} after state {seen[catalog_id]}: {answered.text[:2000]}")


def held_until(event: Event) -> Action:
    """Answer normally, but only when an event is set."""

    def act(exchange: Exchange, reply: Reply) -> Reply:
        deadline = time.monotonic() + HELD_AT_MOST_S
        while not event.is_set() and time.monotonic() < deadline and not exchange.wait(0.02):
            pass
        return reply

    return act


def wait_until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait until a condition is true; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s:g} s"
        time.sleep(0.02)
