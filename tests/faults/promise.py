"""What must be true after every fault: compares storage and answers with what edX shows.

The field rules are repeated here for the plain records of `make_shelf`, so that a mistake in the connector's
mapping is found.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import requests
from azure.data.tables import TableServiceClient

from local.sandbox.catalogs import Catalog
from tests.builders import make_course, make_run, make_seat
from tests.contract.schema import CONTRACT

Runs = dict[str, dict[str, Any]]
"""Run id → the properties of that course run."""

BEGUN, AHEAD, ENDED, NEVER = (
    "2020-01-06T00:00:00Z",
    "2090-01-02T08:30:00Z",
    "2021-06-30T23:59:59Z",
    "2095-12-31T00:00:00Z",
)

_NOT_IN_THE_CONTRACT = {"listed", "withdrawnAt", "courseKey", "proposedCredit"}

_SECRETS = re.compile(
    "sandbox-secret"
    "|sandbox-[0-9a-f]{16}"  # an edX token
    "|eyJ[A-Za-z0-9_-]{8}"  # a JWT
    "|test-subscription-key"
    "|Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq"  # Azurite's account key
    "|SharedKey"
)
_STACK_TRACE = re.compile(r'Traceback|File "|line \d+, in | object at 0x')


# What edX shows


def make_shelf(catalog_id: int, courses: int = 12) -> Catalog:
    """Make a catalog of plain courses with one run each: begun, ahead and ended in turn."""
    return Catalog(catalog_id, f"Shelf {catalog_id}", [plain_course(catalog_id, n) for n in range(courses)])


def plain_course(catalog_id: int, number: int, **fields: Any) -> dict[str, Any]:
    """Make a course with one run that differs from all others; `fields` replace fields of the run."""
    name = f"SHx+C{catalog_id}.{number:03d}"
    start, end = ((BEGUN, NEVER), (AHEAD, NEVER), (BEGUN, ENDED))[number % 3]
    run = make_run(
        key=f"course-v1:{name}+R1",
        start=start,
        end=end,
        min_effort=2 + number % 3,
        max_effort=6 + number % 3,
        weeks_to_complete=4 + number,
        marketing_url=f"https://www.edx.org/course/{catalog_id}-{number}",
        seats=[make_seat(price=f"{100 + number}.00")],
    )
    uuid = f"00000000-0000-4000-8000-{catalog_id:06d}{number:06d}"
    return make_course(run | fields, key=name, uuid=uuid)


def change(catalog: Catalog) -> None:
    """Change a catalog in every way: change its first and last run, remove a course, add one with two runs.

    It can be repeated: each call uses the number after that of the last course.
    """
    first, gone, last = (catalog.courses[position]["key"] for position in (0, 1, -1))
    number = int(last.rpartition(".")[2]) + 1
    catalog.alter_run(f"course-v1:{first}+R1", weeks_to_complete=number)
    catalog.alter_run(f"course-v1:{last}+R1", marketing_url=f"https://www.edx.org/course/{number}")
    catalog.remove(gone)
    new = plain_course(catalog.id, number)
    catalog.add(new)
    catalog.add_run(new["key"], new["course_runs"][0] | {"key": f"course-v1:{new['key']}+R2"})


def runs_of(*catalogs: Catalog) -> Runs:
    """Return the contract's fields, except availability, of all runs in catalogs, including ended ones."""
    return {
        run_id(run["key"]): _contract_run(course, run)
        for catalog in catalogs
        for course in catalog.courses
        for run in course["course_runs"]
    }


def entities_of(*catalogs: Catalog) -> Runs:
    """Return the expected entity of every run that catalogs show."""
    runs = runs_of(*catalogs)
    return {
        run_id(run["key"]): {
            **runs[run_id(run["key"])],
            "listed": True,
            "courseKey": course["key"],
            "proposedCredit": runs[run_id(run["key"])]["modularCredit"],
        }
        for catalog in catalogs
        for course in catalog.courses
        for run in course["course_runs"]
    }


def contract_of(entity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contract's fields of a course-run entity."""
    return {name: value for name, value in entity.items() if name not in _NOT_IN_THE_CONTRACT}


def run_id(run_key: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"https://courses.edx.org/courses/{run_key}"))


def _contract_run(course: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    hours = run["weeks_to_complete"] * (run["min_effort"] + run["max_effort"]) / 2
    return {
        "courserunKey": run["key"],
        "uuid": course["uuid"],
        "startDate": run["start"],
        "endDate": run["end"],
        "enrollmentStart": run["enrollment_start"],
        "enrollmentEnd": run["enrollment_end"],
        "minEffort": run["min_effort"],
        "maxEffort": run["max_effort"],
        "pacingType": "instructor-paced",
        "weeksToComplete": run["weeks_to_complete"],
        "marketingUrl": run["marketing_url"],
        "enrollmentUrl": f"https://courses.edx.org/course_modes/choose/{quote(run['key'], safe='')}/",
        "price": run["seats"][0]["price"],
        "type": "verified",
        "modularCredit": int(hours // 30),
    }


def body_of(runs: Runs) -> list[dict[str, Any]]:
    """Return the expected answer for these runs: ordered by key, without ended ones."""
    shown = [
        {"id": identity, **run, "availability": "Current" if run["startDate"] == BEGUN else "Upcoming"}
        for identity, run in runs.items()
        if run["endDate"] != ENDED
    ]
    return sorted(shown, key=lambda run: str(run["courserunKey"]))


# What is stored


class Stored:
    """The tables of one connector, read without its code."""

    def __init__(self, connection_string: str, prefix: str) -> None:
        self._service = TableServiceClient.from_connection_string(connection_string)
        self._prefix = prefix

    def runs(self, catalog_id: int) -> Runs:
        """Return the course-run entities of a catalog, including withdrawn ones."""
        table = self._service.get_table_client(f"{self._prefix}CourseRuns")
        rows = table.query_entities("PartitionKey eq @catalog", parameters={"catalog": str(catalog_id)})
        entities = {row["RowKey"]: dict(row) for row in rows if re.fullmatch("[0-9a-f-]{36}", row["RowKey"])}
        for entity in entities.values():
            del entity["PartitionKey"], entity["RowKey"]
        return entities

    def reports(self, catalog_id: int) -> list[dict[str, Any]]:
        """Return the reports of the syncs of a catalog, newest first."""
        table = self._service.get_table_client(f"{self._prefix}SyncReports")
        rows = table.query_entities("PartitionKey eq @catalog", parameters={"catalog": str(catalog_id)})
        return [dict(row) for row in rows]


# The promise


def ask(
    host_url: str,
    admin: requests.Session,
    catalog_id: int | None = None,
    cache_control: str = "no-cache",
) -> requests.Response:
    """Ask for the course runs as an administrator; by default they are synced first."""
    return admin.get(
        f"{host_url}/ExternalLinks/edXCourseruns",
        params={} if catalog_id is None else {"catalogId": str(catalog_id)},
        headers={"Cache-Control": cache_control},
        timeout=120,  # long enough for sixty syncs at once on a busy machine
    )


def assert_shows(answer: requests.Response, runs: Runs) -> None:
    """Assert that an answer has exactly these runs and matches the contract."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body == body_of(runs)
    for run in body:
        CONTRACT.validate(run)


def assert_reached(answer: requests.Response, stored: Stored, catalog: Catalog) -> None:
    """Assert that the answer and the storage of a catalog are exactly what edX shows now.

    A run that edX no longer shows is still stored, marked as withdrawn and otherwise valid.
    """
    assert_shows(answer, runs_of(catalog))
    entities = stored.runs(catalog.id)
    listed = {identity: run for identity, run in entities.items() if "withdrawnAt" not in run}
    assert listed == entities_of(catalog)
    for withdrawn in entities.keys() - listed.keys():
        _assert_valid(withdrawn, entities[withdrawn])
        assert datetime.fromisoformat(entities[withdrawn]["withdrawnAt"]) <= datetime.now(UTC)


def assert_kept(before: Runs, stored: Stored, catalog: Catalog) -> None:
    """Assert that each run is stored as before or as edX shows it now, and that none was withdrawn."""
    now = stored.runs(catalog.id)
    assert_nothing_lost(before, now, catalog)
    for identity, run in before.items():
        assert now[identity].get("withdrawnAt") in {None, run.get("withdrawnAt")}


def assert_nothing_lost(before: Runs, now: Runs, catalog: Catalog) -> None:
    """Assert that each run is stored as before or as edX shows it now.

    A run that edX no longer shows may be marked as withdrawn.
    """
    shown = entities_of(catalog)
    for identity, run in before.items():
        marked = run | {"withdrawnAt": now[identity].get("withdrawnAt")}
        assert now[identity] in (run, shown.get(identity, marked))
    for identity in now.keys() - before.keys():
        assert now[identity] == shown[identity]


def assert_says(answer: requests.Response, status: int, *patterns: str) -> str:
    """Assert that an error is one JSON string that matches each pattern and has no secret."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    sentence = answer.json()
    assert isinstance(sentence, str)
    assert 0 < len(sentence) < 500
    assert "\n" not in sentence
    for pattern in patterns:
        assert re.search(pattern, sentence), sentence
    assert_discreet([sentence, *answer.headers.values()])
    return sentence


def assert_discreet(told: Iterable[str]) -> None:
    """Assert that no text has a secret, a token or a stack trace."""
    for text in told:
        assert not (found := _SECRETS.search(text)), found and text[max(0, found.start() - 200) :][:400]
        assert not (found := _STACK_TRACE.search(text)), found and text[found.start() :][:2000]


def _assert_valid(identity: str, entity: Mapping[str, Any]) -> None:
    CONTRACT.validate({"id": identity, **contract_of(entity)})
    assert identity == run_id(entity["courserunKey"])
