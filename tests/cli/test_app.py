"""What all commands share: exit codes, settings, the version."""

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.azurite import Azurite
from local.sandbox import Sandbox
from shared.storage.tables import Tables
from tests.cli.running import Cli

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_version_is_that_of_the_project(cli: Cli) -> None:
    done = cli("--version")
    assert (done.returncode, done.stdout) == (0, f"{PROJECT['version']}\n")


def test_help_recommends_check_first(cli: Cli) -> None:
    commands = re.findall(r"^. ([a-z]+) +[A-Z]", cli("--help").stdout, re.MULTILINE)
    assert commands == [
        "check", "status", "sync", "runs", "show", "changes", "history", "catalogs", "credits",
    ]  # fmt: skip


def test_one_warning_is_printed_when_a_setting_is_unknown(cli: Cli) -> None:
    done = cli("runs", "--json", EDX_API_ULR="https://edx.example/")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert done.stderr == "Warning: EDX_API_ULR is not a setting; did you mean EDX_API_URL?\n"


def test_settings_file_is_named_with_line_and_column_when_it_is_not_json(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "local.settings.json").write_text('{"Values": {"A": "secret"')
    done = cli("check")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "Error: The setting file local.settings.json is malformed: it is not JSON at line 1, column 26\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("sync", "--catalog", "0"),
        ("sync", "--dry-run", "--rebuild"),
        ("runs", "--csv", "--json"),
        ("changes", "--csv", "--json"),
        ("credits", "list", "--csv", "--json"),
        ("delete",),
    ],
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK meets a refusal with a deprecated call
def test_exit_code_is_1_with_one_sentence_when_storage_refuses_the_credentials(
    cli: Cli, azurite: Azurite, tables: Tables
) -> None:
    tables.account.remember_throttled(datetime(2026, 3, 1, tzinfo=UTC))
    wrong = re.sub("AccountKey=[^;]*", "AccountKey=d3Jvbmc=", azurite.connection_string)
    done = cli("catalogs", TABLES_CONNECTION_STRING=wrong)
    assert done.returncode == 1
    assert re.match(r"Error: Table Storage at 127\.0\.0\.1:\d+ refused our credentials \(", done.stderr)
    assert "d3Jvbmc" not in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_file_is_read_and_the_environment_has_priority(
    cli: Cli, settings: dict[str, str], tmp_path: Path, tables: Tables
) -> None:
    values = {"EDX_CLIENT_SECRET": settings["EDX_CLIENT_SECRET"], "EDX_CATALOG_IDS": "999"}
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": values}), encoding="utf-8")
    assert cli("sync", EDX_CLIENT_SECRET="", EDX_CATALOG_IDS="8").returncode == 0
    assert [report.catalog_id for report in tables.reports.newest()] == [8]
