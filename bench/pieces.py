"""The measured pieces, each in its own process: `python -m bench.pieces NAME` prints the measured times.

Floors do only a part of the work; rivals do a complete first sync in another way. All pieces read
the same sandbox and write to the same Azurite, each to its own table. Imports and settings are not measured.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import requests
from azure.data.tables import TableClient, UpdateMode

from bench.app import App
from shared.deadline import Deadline
from shared.domain.course_run import MappedRun
from shared.edx.client import EdxClient
from shared.edx.mapping import map_course
from shared.edx.models import CoursesPage
from shared.settings import ConnectorSettings, connector_settings

CATALOG = "1"
BATCH = 100
REPEATS = 15
BUDGET_S = 540.0
Entity = dict[str, Any]


class Took(NamedTuple):
    """The elapsed seconds and the CPU seconds of a piece."""

    seconds: float
    cpu_s: float


def timed(work: Callable[[], object]) -> Took:
    began, cpu_began = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - began, time.process_time() - cpu_began)


# The connector


def sync() -> dict[str, Took]:
    """Fire the timer function once, with the present content of storage."""
    app = App()
    return {"sync": timed(app.sync)}


def answers() -> dict[str, Took]:
    """Call a warm instance, and read the published state directly; medians of several calls in turn."""
    app = App()
    table = _table("CourseRuns")
    tag = app.ask().headers["ETag"]
    taken: dict[str, list[Took]] = {"read": [], "answer": [], "plain": [], "304": []}
    for _ in range(REPEATS):
        taken["read"].append(timed(lambda: _read_published(table)))
        taken["answer"].append(timed(app.ask))
        taken["plain"].append(timed(lambda: app.ask(accept_encoding="identity")))
        taken["304"].append(timed(lambda: app.ask(if_none_match=tag)))
    return {name: Took(*map(statistics.median, zip(*each, strict=True))) for name, each in taken.items()}


# Floors


def pull() -> dict[str, Took]:
    """Pull, parse and map, with our own client and mapping; nothing is compared or stored."""
    settings = connector_settings()
    return {"pull": timed(lambda: sum(1 for _ in _pulled(settings)))}


def write() -> dict[str, Took]:
    """Write ready entities with the SDK in batches of 100."""
    entities = [_entity(mapped) for mapped in _pulled(connector_settings())]
    table = _new_table("Floor")
    return {"write": timed(lambda: _write(table, entities))}


def _read_published(table: TableClient) -> None:
    head = table.get_entity(CATALOG, "published")
    for part in range(head["body_parts"]):
        table.get_entity(CATALOG, f"published-{head['generation']}-body-{part:04d}")


# Rivals


def quick_script() -> dict[str, Took]:
    """Do what a simple script does: pages of 20, one after another, one upsert per run."""
    settings = connector_settings()
    table = _new_table("Quick")

    def run() -> None:
        for page in _pages_in_turn(settings, page_size=20):
            for entity in page:
                table.upsert_entity(entity, mode=UpdateMode.REPLACE)

    return {"quick script": timed(run)}


def sequential() -> dict[str, Took]:
    """Pull pages of 100, one after the other, then write batches of 100."""
    settings = connector_settings()
    table = _new_table("Sequential")

    def run() -> None:
        _write(table, [entity for page in _pages_in_turn(settings, page_size=100) for entity in page])

    return {"sequential": timed(run)}


def dlt() -> dict[str, Took]:
    """Use dlt, with a destination that takes batches."""
    from bench.with_dlt import pipeline  # noqa: PLC0415 - the tests run without dlt

    settings = connector_settings()
    table = _new_table("Dlt")
    with pipeline(lambda entities: _write(table, entities)) as run:
        return {"dlt": timed(lambda: run(_pages_in_turn(settings, page_size=100)))}


# What they share


def _pulled(settings: ConnectorSettings) -> Iterator[MappedRun]:
    with EdxClient(settings.edx).session(Deadline.after(BUDGET_S)) as edx:
        for courses in edx.courses(int(CATALOG)):
            yield from _mapped(courses, settings)


def _pages_in_turn(settings: ConnectorSettings, page_size: int) -> Iterator[list[Entity]]:
    with requests.Session() as http:
        http.trust_env = False
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.edx.client_id,
            "client_secret": settings.edx.client_secret.get_secret_value(),
            "token_type": "jwt",
        }
        token = http.post(settings.edx.token_url, form, timeout=30).json()["access_token"]
        http.headers["Authorization"] = f"JWT {token}"
        url = f"{settings.edx.api_url}catalogs/{CATALOG}/courses/"
        offset = 0
        while True:
            answer = http.get(url, params={"limit": page_size, "offset": offset}, timeout=30)
            answer.raise_for_status()
            page = CoursesPage.model_validate_json(answer.content)
            yield [_entity(mapped) for mapped in _mapped(page.results, settings)]
            if not page.next:
                return
            offset += page_size


def _mapped(courses: Iterable[object], settings: ConnectorSettings) -> Iterator[MappedRun]:
    for course in courses:
        for mapped in map_course(course, settings.mapping, datetime.now(UTC)):
            assert isinstance(mapped, MappedRun)
            yield mapped


def _entity(mapped: MappedRun) -> Entity:
    values = mapped.run.model_dump(by_alias=True, exclude_none=True)
    return {"PartitionKey": CATALOG, "RowKey": values.pop("id"), **values, "listed": mapped.is_published}


def _table(name: str) -> TableClient:
    storage = connector_settings().storage
    assert storage.connection_string
    return TableClient.from_connection_string(
        storage.connection_string.get_secret_value(), f"{storage.prefix}{name}"
    )


def _new_table(name: str) -> TableClient:
    table = _table(name)
    table.create_table()
    return table


def _write(table: TableClient, entities: Sequence[Entity]) -> None:
    for start in range(0, len(entities), BATCH):
        batch = entities[start : start + BATCH]
        table.submit_transaction([("upsert", entity, {"mode": UpdateMode.REPLACE}) for entity in batch])


PIECES = {piece.__name__: piece for piece in (sync, answers, pull, write, quick_script, sequential, dlt)}

if __name__ == "__main__":
    took = PIECES[sys.argv[1]]()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"took": took, "peak_mb": peak_mb}))
