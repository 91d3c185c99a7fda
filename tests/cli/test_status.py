"""`status`: one line per catalog, and an exit code for cron."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.data.tables import TableClient

from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.catalog_list import CatalogList
from shared.domain.course_run import rfc3339
from shared.errors import Failure
from shared.settings import StorageSettings
from shared.storage.tables import Tables, open_tables
from tests.cli.printed import printed
from tests.cli.running import Cli, Ran
from tests.mapped_runs import make_mapped
from tests.storage.syncs import NOW, begin, publish, store_runs

FAILURE = Failure("EdxProtocolError", "edX sent nonsense")
NOTHING: dict[str, Any] = {
    "succeeded": None, "age_s": None, "late": False, "failures": 0, "failed": None, "error": None,
    "throttled_until": None, "holder": None, "held_s": None, "left_list": False,
}  # fmt: skip


def rows(done: Ran) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def test_each_catalog_has_a_line_and_the_exit_code_is_0_when_none_is_late(cli: Cli, tables: Tables) -> None:
    at = ago(95)
    publish(tables.catalogs, synced_at=at, catalog_id=7)
    tables.account.remember_throttled(ago(60))
    done = cli("status", EDX_CATALOG_IDS="7")
    assert (done.returncode, done.stderr) == (0, "")
    header, line = rows(done)
    assert header == [
        "catalog", "state", "last good sync", "age", "failures", "last failure", "throttled until",
        "syncing now", "for", "error",
    ]  # fmt: skip
    assert re.fullmatch("(1 min [345]|2 min).*", line.pop(3))
    assert line == ["7", "ok", rfc3339(at), "0", "", "", "", "", ""]


def test_exit_code_is_1_when_a_catalog_is_older_than_the_limit(cli: Cli, tables: Tables) -> None:
    for catalog_id, seconds in ((7, 7290), (8, 7110)):
        publish(tables.catalogs, synced_at=ago(seconds), catalog_id=catalog_id)
    assert cli("status", "--max-age", "3h", SYNC_SCHEDULE="", EDX_CATALOG_IDS="7,8").returncode == 0
    late = cli("status", "--max-age", "1m", EDX_CATALOG_IDS="7,8")
    assert (late.returncode, late.stderr) == (1, "2 catalogs are older than 1 min\n")
    assert [row[:2] for row in rows(late)[1:]] == [["7", "late"], ["8", "late"]]


def test_limit_is_twice_the_longest_gap_of_the_schedule(cli: Cli, tables: Tables) -> None:
    for catalog_id, seconds in ((7, 7290), (8, 7110)):
        publish(tables.catalogs, synced_at=ago(seconds), catalog_id=catalog_id)
    done = cli("status", EDX_CATALOG_IDS="7,8", SYNC_SCHEDULE="0 7 * * * *")
    assert (done.returncode, done.stderr) == (1, "1 catalog is older than 2 h\n")
    assert [[row[1], row[3]] for row in rows(done)[1:]] == [["late", "2 h 1 min"], ["ok", "1 h 58 min"]]
    missing = cli("status", EDX_CATALOG_IDS="7", SYNC_SCHEDULE="")
    assert (missing.returncode, "SYNC_SCHEDULE is missing" in missing.stderr) == (3, True)


def test_exit_code_is_1_when_nothing_was_ever_synced(cli: Cli, tables: Tables) -> None:
    advice = "No catalog is known yet: run `python -m shared sync`.\n"
    nothing = cli("status")
    assert (nothing.returncode, nothing.stderr) == (1, advice)
    tables.account.remember_catalogs(CatalogList((), NOW), Attempts())
    empty = cli("status", "--json")
    assert (empty.returncode, empty.stdout, empty.stderr) == (1, "[]\n", advice)
    configured = cli("status", EDX_CATALOG_IDS="7")
    assert (configured.returncode, configured.stderr) == (1, "1 catalog is older than 732 d\n")
    assert rows(configured)[1] == ["7", "never synced", "", "", "0", "", "", "", "", ""]
    assert printed(cli("status", "--json", EDX_CATALOG_IDS="7")) == [{"catalog": 7, **NOTHING, "late": True}]


def test_failures_throttling_and_a_running_sync_are_shown(
    cli: Cli, storage: StorageSettings, tables: Tables, runs_client: TableClient
) -> None:
    at, until = ago(300), ago(-3600)
    attempts = Attempts(failures=2, failed_at=NOW, failure=FAILURE)
    publish(tables.catalogs, synced_at=at, catalog_id=7, finished=FinishedSync("done", FAILURE, attempts))
    begin(open_tables(storage, "sandbox-client", now=lambda: ago(95)).catalogs, 7)
    tables.account.remember_throttled(until)
    (found,) = printed(cli("status", "--json", EDX_CATALOG_IDS="7"))
    assert 300 <= found.pop("age_s") < 360
    assert 95 <= found.pop("held_s") < 155
    assert re.fullmatch(r".+/\d+", found["holder"])
    assert found == {
        "catalog": 7,
        "succeeded": rfc3339(at),
        "late": False,
        "failures": 2,
        "failed": "2026-03-01T12:00:00Z",
        "error": "edX sent nonsense",
        "throttled_until": rfc3339(until),
        "holder": found["holder"],
        "left_list": False,
    }
    row = rows(cli("status", EDX_CATALOG_IDS="7"))[1]
    assert re.fullmatch("(1 min [345]|2 min).*", row.pop(8))
    assert [*row[:3], *row[4:]] == [
        "7", "ok", rfc3339(at), "2", "2026-03-01T12:00:00Z", rfc3339(until), found["holder"],
        "edX sent nonsense",
    ]  # fmt: skip

    by_old_version = {"PartitionKey": "7", "RowKey": "lease", "holder": "", "attemptedAt": ""}
    runs_client.update_entity(by_old_version)
    (found,) = printed(cli("status", "--json", EDX_CATALOG_IDS="7"))
    assert (found["holder"], found["held_s"]) == ("another process", None)
    assert rows(cli("status", EDX_CATALOG_IDS="7"))[1][7:9] == ["another process", ""]


def test_last_failure_has_no_reason_in_the_table_when_a_sync_has_succeeded_since(
    cli: Cli, tables: Tables
) -> None:
    attempts = Attempts(succeeded_at=ago(0), failed_at=NOW, failure=FAILURE)
    publish(tables.catalogs, synced_at=ago(0), catalog_id=7, finished=FinishedSync("done", None, attempts))
    _, row = rows(cli("status", EDX_CATALOG_IDS="7"))
    assert row[4:] == ["0", "2026-03-01T12:00:00Z", "", "", "", ""]
    (found,) = printed(cli("status", "--json", EDX_CATALOG_IDS="7"))
    assert (found["failures"], found["error"]) == (0, "edX sent nonsense")


@pytest.mark.parametrize(
    ("attempts", "is_shown"),
    [
        (Attempts(failures=1, failed_at=NOW, failure=FAILURE), True),
        (Attempts(failures=0, failed_at=NOW, failure=FAILURE), False),
        (Attempts(failures=1, failed_at=NOW), False),
    ],
)
def test_failure_to_list_the_catalogs_is_shown_until_it_succeeds(
    cli: Cli, tables: Tables, attempts: Attempts, *, is_shown: bool
) -> None:
    publish(tables.catalogs, synced_at=ago(0), catalog_id=7)
    tables.account.remember_catalogs(CatalogList((7,), NOW), attempts)
    done = cli("status")
    sentence = "edX's list of catalogs could not be fetched: edX sent nonsense\n"
    assert (done.returncode, done.stderr) == (0, sentence if is_shown else "")


def test_catalog_is_never_late_when_edx_no_longer_lists_it(cli: Cli, tables: Tables) -> None:
    publish(tables.catalogs, synced_at=ago(0), catalog_id=7)
    publish(tables.catalogs, synced_at=NOW, catalog_id=9)
    store_runs(tables.catalogs, make_mapped(), catalog_id=10)  # its first sync did not end
    assert tables.catalogs.head(10)
    tables.account.remember_catalogs(CatalogList((7,), NOW, left=(9, 10, 11)), Attempts())
    done = cli("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    gone = {**NOTHING, "left_list": True}
    assert printed(done)[1:] == [
        {"catalog": 9, **gone, "succeeded": "2026-03-01T12:00:00Z"},
        {"catalog": 10, **gone},
        {"catalog": 11, **gone},
    ]
    assert rows(cli("status"))[2] == [
        "9", "left edX's list", "2026-03-01T12:00:00Z", "", "0", "", "", "", "", "",
    ]  # fmt: skip


def test_ages_are_0_when_the_clock_of_another_process_is_ahead(
    cli: Cli, storage: StorageSettings, tables: Tables
) -> None:
    ahead = ago(-3600)
    publish(tables.catalogs, synced_at=ahead, catalog_id=7)
    begin(open_tables(storage, "sandbox-client", now=lambda: ahead).catalogs, 7)
    done = cli("status", "--json", "--max-age", "0", EDX_CATALOG_IDS="7")
    (found,) = printed(done)
    assert (found["age_s"], found["held_s"], found["late"], done.returncode) == (0, 0, False, 0)
