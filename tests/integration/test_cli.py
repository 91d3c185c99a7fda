"""The operator's command line as an operator runs it: a process of its own, a real sandbox, real tables."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from local.azurite import Azurite
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer
from shared.storage.tables import Tables
from tests.builders import make_course, make_run
from tests.command_line import run_command_line

ODD_KEY = "NUSx/[red]A1x[/]/1"  # could be taken for markup


@pytest.fixture
def catalog() -> Catalog:
    runs = [
        make_run(key=ODD_KEY),
        make_run(key="course-v1:NUSx+A1x+old", end="2001-01-01T00:00:00Z"),
        make_run(key="course-v1:NUSx+A1x+hidden", status="unpublished"),
        make_run(key="course-v1:NUSx+A1x+bad", start="soon"),
    ]
    return Catalog(7, "[bold]Ours", [make_course(*runs, key="NUSx+A1x"), make_course(key="NUSx+A2x")])


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Sandbox]:
    with Sandbox([catalog, Catalog(8, "Empty", archived=0)]) as sandbox:
        yield sandbox


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(settings: dict[str, str], tmp_path: Path) -> Cli:
    """Run a command in an empty folder; keyword arguments are settings, an empty one is left out."""

    def run(*arguments: str, **more_settings: str) -> subprocess.CompletedProcess[str]:
        given = {"COLUMNS": "250", "PYTHONWARNINGS": "error", **settings, **more_settings}
        ours = {name: value for name, value in given.items() if value}
        return run_command_line(ours, *arguments, folder=tmp_path)

    return run


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON that a command printed on standard output, and nothing else."""
    return json.loads(done.stdout)


def everything_stored(azurite: Azurite, tables_prefix: str) -> list[Any]:
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        return [
            (table.name, dict(entity), entity.metadata["etag"])
            for table in service.list_tables()
            if table.name.startswith(tables_prefix)
            for entity in service.get_table_client(table.name).list_entities()
        ]


def test_catalogs_are_listed(cli: Cli) -> None:
    assert printed(cli("catalogs", "--json")) == [
        {"id": 7, "name": "[bold]Ours", "courses_count": 9},
        {"id": 8, "name": "Empty", "courses_count": 0},
    ]
    shown = cli("catalogs")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split() for line in shown.stdout.splitlines()[:3]] == [
        ["id", "name", "courses"],
        ["7", "[bold]Ours", "9"],
        ["8", "Empty", "0"],
    ]


def test_what_a_sync_did_can_be_seen(cli: Cli) -> None:
    done = cli("sync")
    assert done.returncode == 0
    assert "Catalog 7: ok in " in done.stdout
    assert (
        "2 courses, 4 runs: 4 new, 0 changed, 0 restored, 0 unchanged; 0 withdrawn, 1 rejected" in done.stdout
    )
    assert "rejected course-v1:NUSx+A1x+bad, start: 'soon' is no date" in done.stdout

    shown = cli("runs", "--catalog", "7")
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert lines[-1] == "4 course runs"
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["7", ODD_KEY, "Current"],
        ["7", "course-v1:NUSx+A1x+hidden", "not"],
        ["7", "course-v1:NUSx+A1x+old", "ended"],
        ["7", "course-v1:NUSx+A2x+2T2026", "Current"],
    ]

    reports = printed(cli("history", "--json"))
    assert {(report["catalog_id"], report["outcome"], report["created"]) for report in reports} == {
        (7, "ok", 4), (8, "ok", 0),
    }  # fmt: skip
    assert len(printed(cli("history", "-n", "1", "--json"))) == 1
    history = cli("history", "--catalog", "7").stdout.splitlines()
    assert history[0].split()[:4] == ["ended", "(UTC)", "catalog", "by"]
    assert history[1].split()[2:4] == ["7", "operator"]
    assert len(history) == 2


def test_dry_run_shows_each_difference_and_writes_nothing(
    cli: Cli, catalog: Catalog, azurite: Azurite, tables_prefix: str
) -> None:
    assert cli("sync", "--dry-run").returncode == 0
    assert everything_stored(azurite, tables_prefix) == []
    cli("sync", "--catalog", "7")
    before = everything_stored(azurite, tables_prefix)
    catalog.alter_run(ODD_KEY, end="2999-01-01T00:00:00Z", weeks_to_complete=None)
    catalog.remove("NUSx+A2x")
    catalog.add(make_course(key="NUSx+A3x"))

    shown = cli("sync", "--catalog", "7", "--dry-run").stdout
    assert f"changed {ODD_KEY}\n  endDate: 3000-01-01T00:00:00Z → 2999-01-01T00:00:00Z\n" in shown
    assert "  modularCredit: 4 → none\n" in shown
    assert "created course-v1:NUSx+A3x+2T2026\n" in shown
    assert "withdrawn course-v1:NUSx+A2x+2T2026\n" in shown
    assert "2 runs would be written, 1 withdrawn; 2 are unchanged. Nothing was written." in shown

    (preview,) = printed(cli("sync", "--catalog", "7", "--dry-run", "--json"))
    changes = {change["courserunKey"]: change for change in preview["changes"]}
    assert changes[ODD_KEY]["kind"] == "changed"
    assert changes[ODD_KEY]["fields"]["endDate"] == {
        "before": "3000-01-01T00:00:00Z",
        "after": "2999-01-01T00:00:00Z",
    }
    assert preview["withdrawn"] == ["course-v1:NUSx+A2x+2T2026"]
    assert preview["stopped"] is None
    assert everything_stored(azurite, tables_prefix) == before


def test_guard_is_passed_when_the_operator_says_so(cli: Cli, catalog: Catalog) -> None:
    catalog.replace([make_course(key=f"NUSx+{number}x") for number in range(12)])
    assert printed(cli("sync", "--catalog", "7", "--json"))[0]["created"] == 12
    catalog.replace([make_course(key="NUSx+0x")])
    previewed = cli("sync", "--catalog", "7", "--dry-run")
    assert (previewed.returncode, "The guard would stop the withdrawals" in previewed.stdout) == (0, True)
    stopped = cli("sync", "--catalog", "7")
    assert stopped.returncode == 1
    assert "11 of 12 open runs" in stopped.stderr
    assert printed(cli("runs", "--catalog", "7", "--withdrawn", "--json")) == []
    allowed = cli("sync", "--catalog", "7", "--allow-withdrawals", "--json")
    assert (allowed.returncode, printed(allowed)[0]["withdrawn"]) == (0, 11)
    withdrawn = printed(cli("runs", "--withdrawn", "--json", EDX_CATALOG_IDS="7"))
    assert len(withdrawn) == 11
    assert all(run["withdrawnAt"] and run["catalog"] == 7 for run in withdrawn)


def test_rebuild_finds_what_the_published_state_does_not_know(
    cli: Cli, azurite: Azurite, tables_prefix: str
) -> None:
    cli("sync", "--catalog", "7")
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        runs = service.get_table_client(f"{tables_prefix}CourseRuns")
        runs.delete_entity("7", next(iter(runs.list_entities()))["RowKey"])
    assert printed(cli("sync", "--catalog", "7", "--json"))[0]["created"] == 0
    assert printed(cli("sync", "--catalog", "7", "--rebuild", "--json"))[0]["created"] == 1


def test_exit_code_is_1_and_others_are_synced_when_a_catalog_fails(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.on("/7/courses/", answer(200, "nonsense"))
    done = cli("sync", "--json")
    assert done.returncode == 1
    assert [result["outcome"] for result in printed(done)] == ["failed", "ok"]
    assert "not JSON" in printed(done)[0]["error"]
    assert "Catalog 7 failed: " in done.stderr
    assert "Traceback" not in done.stderr
    unknown = cli("sync", "--catalog", "999")
    assert (unknown.returncode, "the catalog is not found" in unknown.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [("sync", "--catalog", "0"), ("sync", "--dry-run", "--rebuild"), ("delete",)],
)
def test_exit_code_is_2_when_the_command_is_wrong(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert "Usage: python -m shared" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [("EDX_CLIENT_SECRET", ""), ("EDX_API_URL", "ftp://hunter2"), ("TABLES_CONNECTION_STRING", "hunter2")],
)
def test_exit_code_is_3_and_the_setting_is_named_without_its_value_when_one_is_wrong(
    cli: Cli, sandbox: Sandbox, setting: str, value: str
) -> None:
    done = cli("runs", **{setting: value})
    assert (done.returncode, done.stdout) == (3, "")
    assert setting in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert sandbox.requests == []


def test_exit_code_is_1_with_one_sentence_when_storage_refuses_us(
    cli: Cli, azurite: Azurite, tables: Tables
) -> None:
    tables.account.remember_throttled(datetime(2026, 3, 1, tzinfo=UTC))
    wrong = re.sub("AccountKey=[^;]*", "AccountKey=d3Jvbmc=", azurite.connection_string)
    # The SDK meets a refusal with a deprecated call of its own.
    done = cli("catalogs", TABLES_CONNECTION_STRING=wrong, PYTHONWARNINGS="")
    assert done.returncode == 1
    assert re.match(r"Error: Table Storage at 127\.0\.0\.1:\d+ refused our credentials \(", done.stderr)
    assert "d3Jvbmc" not in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tries_everything_when_all_is_well(cli: Cli) -> None:
    done = cli("check")
    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "✓ settings of access", "✓ other settings", "✓ storage", "✓ edX", "✓ JWKS",
    ]  # fmt: skip


def test_check_says_what_to_do_when_something_is_wrong(cli: Cli, sandbox: Sandbox) -> None:
    refused = cli("check", EDX_CLIENT_SECRET="hunter2", ADMIN_JWKS_URL=f"{sandbox.url}nothing")
    assert refused.returncode == 1
    lines = refused.stdout.splitlines()
    assert [line[0] for line in lines] == ["✓", "✓", "✓", "✗", "✗"]
    assert "EDX_CLIENT_ID" in lines[3]
    assert "ADMIN_JWKS_URL" in lines[4]
    assert "hunter2" not in refused.stdout + refused.stderr
    missing = cli("check", ADMIN_JWT_ISSUER="")
    assert missing.returncode == 3
    assert [line[0] for line in missing.stdout.splitlines()] == ["✗", "✓", "✓", "✓", "✗"]
    assert "ADMIN_JWT_ISSUER" in missing.stdout


def test_check_tells_programs_what_it_found(cli: Cli) -> None:
    done = cli("check", "--json", TABLES_CONNECTION_STRING="")
    assert done.returncode == 3
    found = json.loads(done.stdout)
    assert {each["check"]: each["ok"] for each in found} == {
        "settings of access": True,
        "other settings": False,
        "storage": False,
        "edX": False,
        "JWKS": True,
    }
    assert found[1]["result"].startswith("The setting TABLES_CONNECTION_STRING is missing")


def test_settings_file_is_read_and_the_environment_wins(
    cli: Cli, settings: dict[str, str], tmp_path: Path, tables: Tables
) -> None:
    values = {"EDX_CLIENT_SECRET": settings["EDX_CLIENT_SECRET"], "EDX_CATALOG_IDS": "999"}
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": values}), encoding="utf-8")
    assert cli("sync", EDX_CLIENT_SECRET="", EDX_CATALOG_IDS="8").returncode == 0
    assert [report.catalog_id for report in tables.reports.newest()] == [8]
