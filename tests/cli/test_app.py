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


def test_help_begins_with_the_first_command_to_use_and_ends_with_the_exit_codes(cli: Cli) -> None:
    first, *_, last = paragraphs(cli("--help", COLUMNS="250").stdout)
    assert first.startswith("Operate the LumiNUS edX connector; begin with check. ")
    assert last == (
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a setting is missing or malformed, 130 interrupted."
    )


def paragraphs(shown: str) -> list[str]:
    """Return the texts of a help outside its boxes, without the usage."""
    outside = [line for line in shown.splitlines() if line[:1] not in {"│", "╭", "╰"}]
    texts = [" ".join(text.split()) for text in re.split(r"\n[ \n]*\n", "\n".join(outside))]
    return [text for text in texts if text and not text.startswith("Usage: ")]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "--version --help check status sync runs show changes history catalogs credits"),
        ("check", "--json --help"),
        ("status", "--max-age DURATION --json --help"),
        ("sync", "--catalog --dry-run --allow-withdrawals --rebuild --json --help"),
        ("runs", "--catalog --key --type --state --withdrawn --fields NAMES --csv --json --help"),
        ("show", "KEY --json --help"),
        ("changes", "--since WHEN --catalog --key --csv --json --help"),
        ("history", "-n --catalog --failed --since WHEN --json --help"),
        ("catalogs", "--catalog --json --help"),
        ("credits", "--help set remove import list"),
        ("credits set", "KEY CREDIT --note --by --sync --help"),
        ("credits remove", "KEY --sync --help"),
        ("credits import", "FILE.csv --by --sync --help"),
        ("credits list", "--csv --json --help"),
    ],
)
def test_help_explains_the_command_and_each_of_its_options_in_sentences(
    cli: Cli, command: str, expected: str
) -> None:
    shown = cli(*command.split(), "--help", COLUMNS="250").stdout
    rows = [re.split(r"  +", line.strip("│* ")) for line in shown.splitlines() if line.startswith("│")]
    names = [" ".join([name, *(kind for kind in kinds if kind.isupper())]) for name, *kinds, _ in rows]
    assert " ".join(names) == expected
    explained = [re.sub(r" \[(required|default: [0-9]+)\]$", "", row[-1]) for row in rows]
    texts = [*paragraphs(shown), *explained]
    assert len(texts) > len(rows)
    assert [text for text in texts if not re.fullmatch(r"[A-Z].*\.", text)] == []


def test_help_is_shown_when_the_command_is_missing(cli: Cli) -> None:
    for group in ([], ["credits"]):
        done = cli(*group)
        assert (done.returncode, done.stdout.rstrip()) == (2, cli(*group, "--help").stdout.rstrip())


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


DRY_RUN_ALONE = (
    "Invalid value: --dry-run cannot be used together with --allow-withdrawals or --rebuild: it writes "
    "nothing"
)
BOTH = "Invalid value: --csv and --json cannot be used together"
NO_FIELD = (
    "is not a field: expected some of id, courserunKey, uuid, startDate, endDate, enrollmentStart, "
    "enrollmentEnd, minEffort, maxEffort, pacingType, weeksToComplete, marketingUrl, enrollmentUrl, price, "
    "type, modularCredit, catalog, state, listed, withdrawnAt, courseKey, proposedCredit, approvedCredit, "
    "approvalNote"
)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("sync --catalog 0", "Invalid value for '--catalog'"),
        ("sync --dry-run --rebuild", DRY_RUN_ALONE),
        ("sync --dry-run --allow-withdrawals", DRY_RUN_ALONE),
        ("runs --csv --json", BOTH),
        ("runs --fields colour,key,price", f"Invalid value for '--fields': colour, key {NO_FIELD}"),
        ("runs --fields ,", f"Invalid value for '--fields': nothing {NO_FIELD}"),
        ("changes --csv --json", BOTH),
        ("changes --since yesterday", "Invalid value for '--since': 'yesterday' is not a time"),
        ("status --max-age soon", "Invalid value for '--max-age': 'soon' is not a duration"),
        ("history -n 0", "Invalid value for '-n'"),
        ("credits list --csv --json", BOTH),
        ("credits set A 2147483648", "Invalid value for 'CREDIT'"),
        ("credits import missing.csv", "Invalid value for 'FILE.csv': "),
        ("credits import .", "Invalid value for 'FILE.csv': "),
        ("delete", "No such command 'delete'."),
    ],
)
def test_exit_code_is_2_with_the_reason_when_the_usage_is_wrong(
    cli: Cli, arguments: str, problem: str
) -> None:
    done = cli(*arguments.split(), COLUMNS="500")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().startswith("Usage: python -m shared")
    assert f"│ {problem}" in done.stderr


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
