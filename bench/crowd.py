"""Measures twenty callers when a run begins, so that bodies are rendered again; no host, edX or storage.

python -m bench.crowd 100000          one catalog with this many runs
python -m bench.crowd 20000 20000     two that have half of their runs in common
"""

import asyncio
import gzip
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.deadline import Deadline
from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import CourseRun, course_run_id, stored_json
from shared.domain.published import Body, Head, ServedRun, checksum, render
from shared.domain.query import Freshness, Question
from shared.serving.answering import Answering, Reader
from shared.serving.editions import Editions
from shared.serving.flights import Flights
from shared.serving.refreshing import Refresher
from shared.settings import SyncSettings
from shared.sync.run import Origin

CALLERS = 20
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGINS = "2026-03-01T12:00:10Z"


def make_run(number: int) -> ServedRun:
    """Make a run of typical size; one in a thousand begins at the boundary."""
    key = f"course-v1:NUSx+{number:06d}x+1T2026"
    run = CourseRun(
        id=course_run_id(key),
        courserun_key=key,
        uuid=course_run_id(f"NUSx+{number:06d}x"),
        start_date=BEGINS if number % 1_000 == 0 else "2026-01-12T15:00:00Z",
        end_date=f"2027-{number % 12 + 1:02d}-01T00:00:00Z",
        enrollment_start="2025-10-01T00:00:00Z",
        min_effort=number % 9,
        max_effort=number % 9 + 4,
        pacing_type="self-paced",
        weeks_to_complete=number % 20 + 1,
        marketing_url=f"https://www.edx.org/course/nusx-{number:06d}x-introduction-to-something",
        enrollment_url=f"https://courses.edx.org/course_modes/choose/course-v1%3ANUSx%2B{number:06d}x/",
        price=f"{number % 300}.00",
        type="verified",
        modular_credit=number % 5,
    )
    return ServedRun(key, run.start_date, run.end_date, stored_json(run))


class Store:
    """The published states of the catalogs, in memory, packed as in storage."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.heads: dict[int, Head] = {}
        self.bodies: dict[int, Body] = {}
        first = 0
        for catalog_id, size in enumerate(sizes, 1):
            body = render(map(make_run, range(first, first + size)), NOW)
            self.bodies[catalog_id] = body
            self.heads[catalog_id] = Head(
                generation="one",
                body_checksum=checksum(body.packed),
                tag=body.tag,
                holds_until=body.holds_until,
                runs=body.runs,
                synced_at=NOW,
            )
            first += size // 2

    def head(self, catalog_id: int) -> Head:
        return self.heads[catalog_id]

    def body(self, catalog_id: int, _head: Head) -> bytes:
        return bytes(self.bodies[catalog_id].packed)


class Catalogs:
    """The list of catalogs."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = tuple(ids)

    def known(self) -> CatalogList:
        return CatalogList(self._ids, NOW)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(sizes: Sequence[int]) -> None:
    """Ask once, move the clock past the boundary, ask twenty times at once; print CPU seconds and memory."""
    store: Any = Store(sizes)
    catalogs: Any = Catalogs(list(store.heads))
    syncs: Any = None  # nothing is synced here
    moment = [NOW]
    editions = Editions(store, flights=Flights(), now=lambda: moment[0])
    refresher = Refresher(
        store, catalogs, syncs, SyncSettings(), pool=ThreadPoolExecutor(16), now=lambda: moment[0]
    )
    answering = Answering(refresher, editions, SyncSettings(), now=lambda: moment[0])
    question = Question(freshness=Freshness(only_if_cached=True))

    async def ask(number: int, *, takes_gzip: bool = True) -> list[Any]:
        reader = Reader(takes_gzip=takes_gzip)
        asked = (
            answering.answer(question, reader, Origin("bench"), Deadline.after(200)) for _ in range(number)
        )
        return await asyncio.gather(*asked)

    print(f"{sizes} runs, {CALLERS} callers; before the first request: {peak_mb():.0f} MB at most")
    for what, number, takes_gzip in [
        ("first caller", 1, True),
        ("crowd at the boundary", CALLERS, True),
        ("crowd, not compressed", CALLERS, False),
    ]:
        cpu_s, began_s = time.process_time(), time.monotonic()
        if number > 1 and takes_gzip:
            moment[0] = NOW + timedelta(seconds=10)
        answers = asyncio.run(ask(number, takes_gzip=takes_gzip))
        took_s = time.monotonic() - began_s
        assert len({each.tag for each in answers}) == 1
        cpu_s = time.process_time() - cpu_s
        print(
            f"{what:24} {cpu_s:6.2f} CPU s {took_s:6.2f} s, peak so far {peak_mb():4.0f} MB, "
            f"{len(answers[0].body) / 2**20:.1f} MiB an answer"
        )
        if takes_gzip:
            assert gzip.decompress(answers[0].body)[:1] == b"["


if __name__ == "__main__":
    measure([int(size) for size in sys.argv[1:]] or [100_000])
