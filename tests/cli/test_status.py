"""`status`: one line per catalog, and an exit code for cron."""

import time
from datetime import UTC, datetime, timedelta

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer
from shared.domain.attempts import Attempts
from shared.domain.catalog_list import CatalogList
from shared.settings import StorageSettings
from shared.storage.tables import Tables, open_tables
from tests.cli.printed import printed
from tests.cli.running import Cli
from tests.mapped_runs import make_mapped
from tests.storage.syncs import NOW, begin, publish, store_runs


def test_each_catalog_has_a_line_and_the_exit_code_is_0_when_none_is_late(cli: Cli) -> None:
    cli("sync")
    done = cli("status")
    assert done.returncode == 0
    header, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert header == [
        "catalog", "state", "last good sync", "age", "failures", "last failure", "throttled until",
        "syncing now", "for", "error",
    ]  # fmt: skip
    assert [line[:2] for line in lines] == [["7", "ok"], ["8", "ok"]]


def test_exit_code_is_1_when_a_catalog_is_older_than_the_limit(cli: Cli) -> None:
    cli("sync")
    assert cli("status", "--max-age", "1h", SYNC_SCHEDULE="").returncode == 0
    time.sleep(2)
    late = cli("status", "--max-age", "1s")
    assert late.returncode == 1
    assert [line.split("\t")[:2] for line in late.stdout.splitlines()[1:]] == [["7", "late"], ["8", "late"]]
    assert late.stderr == "2 catalogs are older than 1 s\n"


def test_exit_code_is_1_when_nothing_was_ever_synced(cli: Cli) -> None:
    nothing = cli("status")
    assert (nothing.returncode, nothing.stderr) == (
        1,
        "No catalog is known yet: run `python -m shared sync`.\n",
    )
    configured = cli("status", EDX_CATALOG_IDS="7")
    assert configured.returncode == 1
    assert configured.stdout.splitlines()[1].split("\t")[:2] == ["7", "never synced"]


def test_limit_is_twice_the_longest_gap_of_the_schedule(cli: Cli) -> None:
    cli("sync", "--catalog", "7")
    assert cli("status", EDX_CATALOG_IDS="7", SYNC_SCHEDULE="0 7 * * * *").returncode == 0
    missing = cli("status", EDX_CATALOG_IDS="7", SYNC_SCHEDULE="")
    assert (missing.returncode, "SYNC_SCHEDULE is missing" in missing.stderr) == (3, True)


def test_failures_and_throttling_are_shown(cli: Cli, sandbox: Sandbox, tables: Tables) -> None:
    cli("sync", "--catalog", "7")
    sandbox.on("/7/courses/", answer(200, "nonsense"))
    cli("sync", "--catalog", "7")
    until = datetime.now(UTC) + timedelta(hours=1)
    tables.account.remember_throttled(until)
    (found,) = printed(cli("status", "--json", EDX_CATALOG_IDS="7"))
    assert (found["failures"], found["late"], found["left_list"]) == (1, False, False)
    assert "incomplete or invalid JSON" in found["error"]
    assert found["throttled_until"] == f"{until:%Y-%m-%dT%H:%M:%SZ}"
    assert (found["holder"], found["held_s"]) == (None, None)


def test_status_names_a_catalog_when_edx_no_longer_lists_it(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.catalogs[9] = Catalog(9, "Third")
    cli("sync")
    del sandbox.catalogs[9]
    cli("sync")
    found = {each["catalog"]: each["left_list"] for each in printed(cli("status", "--json"))}
    assert found == {7: False, 8: False, 9: True}
    assert "9\tleft edX's list\t" in cli("status").stdout


def test_catalog_that_left_before_its_first_sync_had_ended_has_no_last_sync(cli: Cli, tables: Tables) -> None:
    store_runs(tables.catalogs, make_mapped(), catalog_id=9)
    assert tables.catalogs.head(9)
    tables.account.remember_catalogs(CatalogList((7,), NOW, left=(9, 10)), Attempts())
    _, begun, never_begun = printed(cli("status", "--json"))
    assert (begun["catalog"], begun["left_list"], begun["succeeded"], begun["late"]) == (9, True, None, False)
    assert (never_begun["catalog"], never_begun["succeeded"]) == (10, None)


def test_ages_are_0_when_the_clock_of_another_process_is_ahead(
    cli: Cli, storage: StorageSettings, tables: Tables
) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    publish(tables.catalogs, synced_at=ahead, catalog_id=7)
    begin(open_tables(storage, "sandbox-client", now=lambda: ahead).catalogs, 7)
    (found,) = printed(cli("status", "--json", EDX_CATALOG_IDS="7"))
    assert (found["age_s"], found["held_s"]) == (0, 0)
