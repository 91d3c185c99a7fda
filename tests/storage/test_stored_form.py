"""What version 0.1 stored is read, and what is stored now is what version 0.1 can read.

Both forms are written down here as they are, entity by entity, and not made by the code.
"""

import gzip
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any
from uuid import UUID

import pytest
from azure.data.tables import TableClient, TableServiceClient

from local.azurite import Azurite
from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.catalog_list import CatalogList
from shared.domain.changes import Entry
from shared.domain.course_run import MappedRun, Rejection
from shared.errors import Failure
from shared.settings import StorageSettings
from shared.storage.lease import LeaseState
from shared.storage.tables import Tables
from tests.mapped_runs import KEY, make_mapped
from tests.storage.syncs import NOW, ONE_RUN, begin, publish, store_runs

RUN_ID = "cd3699dd-ff6b-5890-a54b-d353c77cf569"
BODY = gzip.compress(b'[{"id":"cd3699dd-ff6b-5890-a54b-d353c77cf569"}]', mtime=0)
DIGESTS = UUID(RUN_ID).bytes + b"d" * 16
ACCOUNT = sha256(b"sandbox-client").hexdigest()

RUN: dict[str, Any] = {
    "PartitionKey": "1",
    "RowKey": RUN_ID,
    "courserunKey": "DelftX/CTB3300WCx/2T2014",
    "uuid": "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
    "startDate": "2026-06-01T15:00:00Z",
    "minEffort": 4,
    "pacingType": "self-paced",
    "weeksToComplete": 9,
    "price": "150.00",
    "type": "verified",
    "modularCredit": 1,
    "listed": True,
    "withdrawnAt": "2026-02-01T12:00:00+00:00",
}
LEASE: dict[str, Any] = {
    "PartitionKey": "1",
    "RowKey": "lease",
    "owner": "",
    "sequence": 17,
    "finished": "5a7c",
    "error": "edX is away",
    "errorClass": "EdxThrottled",
    "retryAt": "2026-03-01T13:00:00+00:00",
}
HEAD: dict[str, Any] = {
    "PartitionKey": "1",
    "RowKey": "published",
    "format": 1,
    "generation": "5a7c",
    "body_parts": 1,
    "body_checksum": blake2b(BODY, digest_size=16).hexdigest(),
    "digest_parts": 1,
    "digest_checksum": blake2b(DIGESTS, digest_size=16).hexdigest(),
    "tag": "00ff",
    "holds_until": "9999-12-31T23:59:59Z",
    "runs": 1,
    "synced_at": "2026-03-01T11:00:00+00:00",
    "writing": "",
    "unidentified": 2,
    "counted_runs": 3,
}
PARTS: list[dict[str, Any]] = [
    {"PartitionKey": "1", "RowKey": "published-5a7c-body-0000", "data00": BODY},
    {"PartitionKey": "1", "RowKey": "published-5a7c-digests-0000", "data00": DIGESTS},
]
REPORT: dict[str, Any] = {
    "PartitionKey": "1",
    "RowKey": "98227637200000-5a7c",
    "sync_id": "5a7c",
    "catalog_id": 1,
    "trigger": "timer",
    "invocation_id": "0a1b",
    "started": "2026-03-01T10:59:00+00:00",
    "ended": "2026-03-01T11:00:00+00:00",
    "outcome": "incomplete",
    "courses": 5, "runs": 4, "created": 3, "changed": 2, "unchanged": 1,
    "withdrawn": 6, "restored": 7, "rejected": 1,
    "rejections": '[["NUSx/1/1", "start", "no date"]]',
    "unknown_tracks": '{"masters": 2}',
    "incomplete": "the count changed",
    "edx_requests": 9,
}  # fmt: skip
ACCOUNTS: list[dict[str, Any]] = [
    {"PartitionKey": ACCOUNT, "RowKey": "throttled", "until": "2026-03-01T13:00:00+00:00"},
    {
        "PartitionKey": ACCOUNT,
        "RowKey": "catalogs",
        "catalogIds": "1,12",
        "listedAt": "2026-03-01T11:00:00+00:00",
    },
]


@pytest.fixture
def stored_before(azurite: Azurite, storage: StorageSettings) -> None:
    """Tables as version 0.1 left them."""
    service = TableServiceClient.from_connection_string(azurite.connection_string)
    for name, entities in {
        "CourseRuns": [RUN, LEASE, HEAD, *PARTS],
        "SyncReports": [REPORT],
        "Accounts": ACCOUNTS,
    }.items():
        client = service.create_table(f"{storage.prefix}{name}")
        for entity in entities:
            client.create_entity(entity)


@pytest.mark.usefixtures("stored_before")
def test_what_version_0_1_stored_is_read(tables: Tables) -> None:
    store = tables.catalogs
    (run,) = store.runs(1)
    assert run.withdrawn_at == "2026-02-01T12:00:00+00:00"
    assert run.mapped == make_mapped(
        "DelftX/CTB3300WCx/2T2014",
        uuid="2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
        start_date="2026-06-01T15:00:00Z",
        min_effort=4,
        pacing_type="self-paced",
        weeks_to_complete=9,
        price="150.00",
        type="verified",
        modular_credit=1,
    )
    head = store.head(1)
    assert head
    assert (head.generation, head.synced_at) == ("5a7c", datetime(2026, 3, 1, 11, tzinfo=UTC))
    assert (head.unidentified, head.counted_runs, head.counted_generation) == (2, 3, "")
    assert store.body(1, head) == store.counted_body(1, head) == BODY
    assert store.digests(1, head) == {RUN_ID: b"d" * 16}
    one_oclock = datetime(2026, 3, 1, 13, tzinfo=UTC)
    throttled = Failure("EdxThrottled", "edX is away", one_oclock)
    assert store.lease(1) == LeaseState("", "", FinishedSync("5a7c", throttled))
    (report,) = tables.reports.newest(1)
    assert (report.outcome, report.withdrawn, report.unknown_tracks) == ("incomplete", 6, {"masters": 2})
    assert report.rejections == (Rejection("NUSx/1/1", "start", "no date"),)
    assert tables.account.throttled_until() == one_oclock
    assert tables.account.catalog_list() == CatalogList((1, 12), datetime(2026, 3, 1, 11, tzinfo=UTC))
    assert tables.account.attempts() == Attempts()


@pytest.mark.usefixtures("stored_before")
def test_sync_continues_from_what_version_0_1_stored(tables: Tables) -> None:
    store = tables.catalogs
    head = publish(store, ONE_RUN, is_success=False)
    assert (head.counted_generation, head.counted_runs) == ("5a7c", 3)
    assert store.counted_body(1, head) == BODY


# The other way about: what version 0.1 requires of what it reads


def test_version_0_1_reads_the_head_of_a_sync_that_the_guard_stopped(
    tables: Tables, runs_client: TableClient
) -> None:
    publish(tables.catalogs)
    publish(tables.catalogs, is_success=False, changes=[Entry(kind="first-sync", runs=1)])
    entity = runs_client.get_entity("1", "published")
    kinds: dict[str, type] = {
        "generation": str, "body_parts": int, "body_checksum": str, "digest_parts": int,
        "digest_checksum": str, "tag": str, "holds_until": str, "runs": int, "writing": str,
        "unidentified": int, "counted_runs": int,
    }  # fmt: skip
    assert entity["format"] == 1
    assert {name: type(entity[name]) for name in kinds} == kinds
    assert datetime.fromisoformat(entity["synced_at"]).tzinfo
    assert entity["generation"].isalnum()
    rows = [str(each["RowKey"]) for each in runs_client.query_entities("RowKey lt 'g'")]
    # It takes what a UUID is no name of for another hand's, so that these are no course runs.
    assert rows
    assert all(row.startswith("changes-") for row in rows)


def test_version_0_1_reads_course_runs_and_ignores_newer_properties(
    tables: Tables, runs_client: TableClient
) -> None:
    mapped: MappedRun = make_mapped(price="1.00")._replace(course_key="NUSx+A1x", proposed_credit=2)
    store_runs(tables.catalogs, mapped)
    entity = dict(runs_client.get_entity("1", mapped.run.id))
    # It reads the contract's names and `listed`, and passes over others.
    known = {name: value for name, value in entity.items() if name not in {"courseKey", "proposedCredit"}}
    assert known == {
        "PartitionKey": "1",
        "RowKey": mapped.run.id,
        "courserunKey": KEY,
        "price": "1.00",
        "listed": True,
    }


def test_version_0_1_takes_and_ends_a_sync_after_ours(tables: Tables, runs_client: TableClient) -> None:
    store = tables.catalogs
    failure = Failure("EdxUnavailable", "edX is away")
    begin(store, sync_id="ours").release(
        FinishedSync("ours", failure, Attempts(attempted_at=NOW, failures=2, failed_at=NOW, failure=failure))
    )
    lease = dict(runs_client.get_entity("1", "lease"))
    required = {"owner": "", "finished": "ours", "error": "edX is away", "errorClass": "EdxUnavailable"}
    assert {name: lease[name] for name in required} == required
    assert lease["retryAt"] == ""
    assert type(lease["sequence"]) is int
    # It keeps the properties that it does not know, and sets its own.
    runs_client.update_entity(
        {**lease, "owner": "", "sequence": 9, "finished": "theirs", "error": "", "errorClass": ""}
    )
    state = store.lease(1)
    assert state
    assert state.finished.sync_id == "theirs"
    assert state.finished.failure is None
    assert (state.attempts.failures, state.attempts.attempted_at) == (0, NOW)
    assert state.attempts.succeeded_at is not None


def test_version_0_1_reads_the_account(tables: Tables, azurite: Azurite, storage: StorageSettings) -> None:
    client = TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}Accounts")
    tables.account.remember_attempts(Attempts(failures=1))
    # No list is what it makes of a row without these two.
    assert not {"catalogIds", "listedAt"} & client.get_entity(ACCOUNT, "catalogs").keys()
    tables.account.remember_catalogs(CatalogList((1, 12), NOW, (7,)), Attempts())
    entity = client.get_entity(ACCOUNT, "catalogs")
    assert (entity["catalogIds"], entity["listedAt"]) == ("1,12", "2026-03-01T12:00:00+00:00")
