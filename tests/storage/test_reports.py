"""Reports of syncs on Azurite."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.data.tables import TableClient, UpdateMode

from local.azurite import Azurite
from shared.domain.course_run import Rejection
from shared.domain.sync_report import SyncReport
from shared.errors import StorageError
from shared.settings import StorageSettings
from shared.storage.tables import Tables
from tests.storage.syncs import NOW
from tests.table_proxy import TableProxy, answer, forged_page, lose_answer


def make_report(number: int = 0, **fields: Any) -> SyncReport:
    ended = fields.get("ended", NOW + timedelta(minutes=number))
    values: dict[str, Any] = {
        "sync_id": f"s{number}",
        "catalog_id": 1,
        "trigger": "timer",
        "invocation_id": "",
        "started": ended - timedelta(seconds=5),
        "ended": ended,
        "outcome": "ok",
    }
    return SyncReport(**values | fields)


def test_report_is_the_same_when_read_back(tables: Tables) -> None:
    report = make_report(
        invocation_id="0a1b", outcome="failed", courses=1, runs=2, created=3, changed=4, unchanged=5,
        withdrawn=6, restored=7, rejected=8, unpublished=10, ended_early=11, waited_s=1.25,
        rejections=(Rejection("a", "start", "'é' is not a date"), Rejection("", "key", "no key")),
        unknown_tracks={"masters": 2}, incomplete="the count changed", warnings=("catalog 9 has left",),
        edx_requests=9, throttled_until=NOW, error="edX is away",
    )  # fmt: skip
    tables.reports.add(report)
    assert tables.reports.newest() == [report]


def test_storage_is_asked_once_when_the_report_is_to_be_stored_in_one_try(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    proxy.on(answer(503), kind="write report")
    with pytest.raises(StorageError):
        proxied_tables.reports.add(make_report(), in_one_try=True)
    assert [request.kind for request in proxy.requests] == ["write report"]


def test_reports_are_newest_first_and_not_more_than_requested(tables: Tables) -> None:
    for number in (1, 3, 2, 0):
        tables.reports.add(make_report(number, catalog_id=1 + number % 2))
    assert [report.sync_id for report in tables.reports.newest()] == ["s3", "s2", "s1", "s0"]
    assert [report.sync_id for report in tables.reports.newest(limit=2)] == ["s3", "s2"]
    assert [report.sync_id for report in tables.reports.newest(2)] == ["s3", "s1"]
    assert [report.sync_id for report in tables.reports.newest(2, limit=1)] == ["s3"]


def test_reports_older_than_90_days_are_deleted_when_a_new_one_is_added(tables: Tables) -> None:
    limit = timedelta(days=90)
    second = timedelta(seconds=1)
    for number, (age, catalog_id) in enumerate(
        [(limit + 2 * second, 1), (limit + second, 1), (limit - second, 1), (limit + second, 2)], 1
    ):
        tables.reports.add(make_report(number, ended=NOW - age, catalog_id=catalog_id))
    assert len(tables.reports.newest()) == 4
    tables.reports.add(make_report())
    assert [report.sync_id for report in tables.reports.newest(1)] == ["s0", "s3"]
    assert [report.sync_id for report in tables.reports.newest(2)] == ["s4"]


def test_only_the_keys_of_old_reports_are_read(proxied_tables: Tables, proxy: TableProxy) -> None:
    proxied_tables.reports.add(make_report())
    (query,) = proxy.queries()
    assert parse_qs(urlsplit(query).query)["$select"] == ["PartitionKey,RowKey"]


def test_no_further_page_is_read_when_there_are_enough_reports_of_a_catalog(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    for number in range(2):
        proxied_tables.reports.add(make_report(number))
    proxy.on(forged_page, kind="find old reports")
    assert [report.sync_id for report in proxied_tables.reports.newest(1, limit=2)] == ["s1", "s0"]


def test_report_is_stored_when_the_answer_to_the_deletion_of_old_ones_is_lost(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    tables = proxied_tables
    tables.reports.add(make_report(1, ended=NOW - timedelta(days=100)))
    proxy.on(lose_answer, kind="remove reports", times=1)
    tables.reports.add(make_report())
    assert [report.sync_id for report in tables.reports.newest()] == ["s0"]


def test_report_is_cut_to_the_limit_of_a_property(tables: Tables) -> None:
    rejections = [Rejection(f"course-v1:{number}{'é' * 200}", "start", "x" * 80) for number in range(50)]
    tracks = {f"{number}{'x' * 1000}": number for number in range(50)}
    tables.reports.add(make_report(error="é" * 50_000, rejections=rejections, unknown_tracks=tracks))
    (report,) = tables.reports.newest()
    assert report.error == "é" * 30_000
    assert list(report.rejections) == rejections[:12]  # half of them would be too long, and a quarter fits
    assert list(report.unknown_tracks.items()) == list(tracks.items())[:25]


def test_report_is_not_cut_when_it_just_fits_a_property(tables: Tables) -> None:
    warnings = ("x" * 14_996, "y" * 14_996)  # with quotes, comma, space and brackets 30,000 characters
    tables.reports.add(make_report(1, warnings=warnings))
    tables.reports.add(make_report(2, warnings=(*warnings[:1], warnings[1] + "y")))
    assert [report.warnings for report in tables.reports.newest()] == [warnings[:1], warnings]


@pytest.mark.parametrize(
    "odd",
    [{"ended": "yesterday"}, {"ended": 7}, {"started": ""}, {"rejections": "{"}, {"rejections": "[1]"},
     {"unknown_tracks": 7}],
)  # fmt: skip
def test_report_is_ignored_when_its_format_is_unknown(
    tables: Tables, azurite: Azurite, storage: StorageSettings, odd: dict[str, object]
) -> None:
    tables.reports.add(make_report(1))
    tables.reports.add(make_report(2))
    client = TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}SyncReports")
    (second, _) = client.list_entities()
    client.update_entity({**second, **odd}, UpdateMode.MERGE)
    for reports in (tables.reports.newest(), tables.reports.newest(1)):
        assert [report.sync_id for report in reports] == ["s1"]


def test_all_old_reports_are_deleted_when_they_do_not_fit_one_batch(
    tables: Tables, azurite: Azurite, storage: StorageSettings
) -> None:
    client = TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}SyncReports")
    tables.reports.add(make_report(1))
    for start in (0, 100):
        client.submit_transaction(
            [
                ("upsert", {"PartitionKey": "1", "RowKey": f"99{number:012d}-old"})
                for number in range(start, start + 75)
            ]
        )
    tables.reports.add(make_report(2))
    assert len(list(client.list_entities())) == 2
