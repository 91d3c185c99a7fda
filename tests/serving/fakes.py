"""State-based fakes of storage, syncs and the list of catalogs for `serving`."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.catalog_list import CatalogList
from shared.domain.published import Body, Head, ServedRun, checksum, render
from shared.errors import ConnectorError
from shared.serving.editions import Editions
from shared.serving.flights import Flights
from shared.serving.outbox import Outbox
from shared.serving.syncing import SharedSyncs
from shared.storage.history import Published
from shared.storage.lease import LeaseState
from shared.storage.store import StateDamaged
from shared.sync.run import Origin

T = TypeVar("T")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOON_S = 10.0


class Store:
    """A CatalogStore in memory; `reads` names each read."""

    def __init__(self) -> None:
        self.heads: dict[int, Head] = {}
        self.bodies: dict[tuple[int, str], bytes] = {}
        self.attempts: dict[int, Attempts] = {}
        self.reads: list[str] = []
        self.failure: ConnectorError | None = None
        self.before_body: Callable[[], None] = lambda: None

    def publish(
        self,
        catalog_id: int,
        runs: Iterable[ServedRun],
        *,
        at: datetime = NOW,
        generation: str = "one",
        rendered_at: datetime | None = None,
    ) -> Body:
        body = render(runs, rendered_at or at)
        self.bodies[catalog_id, generation] = body.packed
        self.heads[catalog_id] = Head(
            generation=generation,
            body_checksum=checksum(body.packed),
            tag=body.tag,
            holds_until=body.holds_until,
            runs=body.runs,
            synced_at=at,
        )
        return body

    def head(self, catalog_id: int) -> Head | None:
        self._read(f"head {catalog_id}")
        return self.heads.get(catalog_id)

    def body(self, catalog_id: int, head: Head) -> bytes:
        self._read(f"body {catalog_id}")
        self.before_body()
        if (catalog_id, head.generation) not in self.bodies:
            raise StateDamaged(catalog_id, "is incomplete")
        return self.bodies[catalog_id, head.generation]

    def lease(self, catalog_id: int) -> LeaseState | None:
        self._read(f"lease {catalog_id}")
        if catalog_id not in self.attempts:
            return None
        return LeaseState("", "", FinishedSync("", None, self.attempts[catalog_id]))

    def _read(self, what: str) -> None:
        self.reads.append(what)
        if self.failure:
            raise self.failure


class Sync:
    """A fake sync of one catalog: it waits until `may_end` is set, then fails or succeeds."""

    def __init__(self, failure: BaseException | None = None, *, may_end: bool = True) -> None:
        self.failure = failure
        self.may_end = threading.Event()
        self.has_begun = threading.Event()
        if may_end:
            self.may_end.set()

    def __call__(self) -> None:
        self.has_begun.set()
        assert self.may_end.wait(SOON_S)
        if self.failure:
            raise self.failure


class Syncer:
    """A Syncer whose syncs follow `syncs` in order, repeating the last one; `begun` lists them."""

    def __init__(self) -> None:
        self.syncs: dict[int, list[Callable[[], None]]] = {}
        self.begun: list[tuple[int, bool]] = []
        self.rebuilds = True
        self.rebuild: Callable[[], None] = lambda: None

    def sync(self, catalog_id: int, _origin: Origin, *, is_eager: bool = True) -> None:
        self.begun.append((catalog_id, is_eager))
        waiting = self.syncs.get(catalog_id, [])
        if waiting:
            (waiting.pop(0) if len(waiting) > 1 else waiting[0])()

    def republish(self, _catalog_id: int) -> bool:
        if self.rebuilds:
            self.rebuild()
        return self.rebuilds


class Catalogs:
    """An OurCatalogs that knows a list, and whose edX lists another one or fails."""

    def __init__(self, *ids: int, listed_at: datetime = NOW) -> None:
        self.list: CatalogList | None = CatalogList(ids, listed_at)
        self.failure: Exception | None = None
        self.asked: list[bool] = []
        self.new: CatalogList | None = None

    def known(self) -> CatalogList | None:
        return self.list

    def ask(self, _origin: Origin, *, is_eager: bool = True) -> CatalogList:
        self.asked.append(is_eager)
        if self.failure:
            raise self.failure
        self.list = self.new or self.list
        assert self.list
        return self.list


class History:
    """A History in memory; `read` counts the entries that were read."""

    def __init__(self) -> None:
        self.failure: ConnectorError | None = None
        self.published: dict[int, list[Published]] = {}
        self.read = 0

    def pages(
        self, catalog_id: int, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Published]:
        if self.failure:
            raise self.failure
        for each in sorted(
            self.published.get(catalog_id, []), key=lambda each: (-each.at.timestamp(), each.generation)
        ):
            if (since is None or each.at >= since) and (until is None or each.at <= until):
                self.read += 1
                yield each


class CountedFlights(Flights):
    """Flights whose work takes `work_lasts_s` longer, so that callers share it; `started` lists its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Hashable] = []
        self.work_lasts_s = 0.0

    def join(self, key: Hashable, work: Callable[[], T]) -> Future[T]:
        def counted() -> T:
            self.started.append(key)
            time.sleep(self.work_lasts_s)
            return work()

        return super().join(key, counted)


class Clock:
    """An aware UTC clock that only the test moves."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def pass_s(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class House:
    """Everything that `serving` needs, in memory, and its parts as `wiring` puts them together."""

    def __init__(self, ids: Sequence[int] = (1,)) -> None:
        self.store = Store()
        self.syncer = Syncer()
        self.catalogs = Catalogs(*ids)
        self.history = History()
        self.clock = Clock()
        self.outbox = Outbox()
        self.pool = ThreadPoolExecutor(4)
        self.flights = CountedFlights()
        parts: Any = (self.syncer, self.catalogs, self.store)  # they have the methods, not the types
        self.syncs = SharedSyncs(*parts, flights=self.flights, pool=self.pool, outbox=self.outbox)
        self.editions = Editions(parts[2], flights=self.flights, now=self.clock.now)
        self.parts = parts
