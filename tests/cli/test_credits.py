"""`credits`: approvals, set one by one or from a file, and their effect."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from azure.data.tables import TableClient

from local.azurite import Azurite
from local.sandbox.catalogs import Catalog
from shared.domain.course_run import course_run_id
from shared.domain.credits import Approval
from shared.storage.tables import Tables
from tests.builders import make_course
from tests.cli.printed import printed
from tests.cli.running import Cli, run_here

OTHER = "course-v1:NUSx+A2x+2T2026"


@pytest.fixture
def credits_client(azurite: Azurite, tables_prefix: str) -> TableClient:
    """The table of approvals through the SDK, for changes that the connector does not make."""
    return TableClient.from_connection_string(azurite.connection_string, f"{tables_prefix}Credits")


def credit(cli: Cli) -> int:
    (run,) = printed(cli("runs", "--catalog", "7", "--key", OTHER, "--json"))
    value: int = run["modularCredit"]
    return value


def test_approval_applies_at_once_with_sync_and_the_formula_again_after_its_removal(cli: Cli) -> None:
    cli("sync")
    assert credit(cli) == 4
    done = cli("credits", "set", OTHER, "2", "--note", "Senate", "--by", "ann", "--sync")
    assert (done.returncode, done.stderr) == (0, "")
    approved, synced, *_ = done.stdout.splitlines()
    assert approved == f"2 modular credits approved for {OTHER}."
    assert synced.startswith("Catalog 7: ok in ")
    assert credit(cli) == 2
    (change,) = [
        change for change in printed(cli("changes", "--json")) if change.get("courserunKey") == OTHER
    ]
    assert change["fields"] == {"modularCredit": {"before": 4, "after": 2}}
    assert change["note"] == "Senate"
    removed = cli("credits", "remove", OTHER, "--sync")
    assert removed.stdout.splitlines()[0] == f"The approval for {OTHER} is removed."
    assert credit(cli) == 4
    cli("credits", "set", OTHER, "2", EDX_CATALOG_IDS="7")
    unsynced = cli("credits", "remove", OTHER, EDX_CATALOG_IDS="7")
    assert unsynced.stdout.splitlines() == [
        f"The approval for {OTHER} is removed.",
        "It takes effect with the next sync.",
    ]
    again = cli("credits", "remove", OTHER)
    assert (again.returncode, again.stderr) == (1, f"Error: no credit is approved for {OTHER}\n")


def test_approval_of_a_course_applies_to_its_runs_with_the_next_sync(cli: Cli) -> None:
    cli("sync", EDX_CATALOG_IDS="7")
    done = cli("credits", "set", "NUSx+A2x", "1", EDX_CATALOG_IDS="7")
    assert done.stdout.splitlines() == [
        "1 modular credit approved for NUSx+A2x.",
        "It takes effect with the next sync.",
    ]
    assert credit(cli) == 4
    cli("sync", "--catalog", "7")
    assert credit(cli) == 1


def test_approval_is_stored_with_a_warning_when_no_catalog_has_the_key(cli: Cli) -> None:
    done = cli("credits", "set", "NUSx+Z9x", "0")
    assert (done.returncode, done.stdout) == (0, "0 modular credits approved for NUSx+Z9x.\n")
    assert done.stderr == "Warning: no catalog has a run or a course with the key NUSx+Z9x yet\n"
    (listed,) = printed(cli("credits", "list", "--json"))
    assert (listed["key"], listed["credit"], listed["note"]) == ("NUSx+Z9x", 0, "")


def test_approvals_are_those_of_the_user_of_this_machine_when_nobody_is_named(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "credits.csv"
    file.write_text("key,credit\nA,1\n")
    cli("credits", "import", str(file), LOGNAME="ann")
    cli("credits", "set", "B", "2", LOGNAME="bob")
    file.write_text("key,credit\nC,1\n")
    cli("credits", "import", str(file), "--by", "cleo", LOGNAME="ann")
    cli("credits", "set", "D", "2", "--by", "dan", LOGNAME="bob")
    listed = printed(cli("credits", "list", "--json"))
    assert [f"{each['key']} {each['by']}" for each in listed] == ["A ann", "B bob", "C cleo", "D dan"]


@pytest.mark.parametrize("arguments", [["NUSx+Z9x", "-1"], ["NUSx+Z9x", "1.5"], ["", "1"], ["a\nb", "1"]])
def test_exit_code_is_2_when_key_or_credit_is_invalid(cli: Cli, arguments: list[str]) -> None:
    assert cli("credits", "set", "--", *arguments).returncode == 2
    assert printed(cli("credits", "list", "--json")) == []


def test_import_stores_nothing_and_names_every_bad_line_when_one_is_bad(cli: Cli, tmp_path: object) -> None:
    file = f"{tmp_path}/credits.csv"
    with open(file, "w", encoding="utf-8") as opened:  # noqa: PTH123
        opened.write(f"key,credit,note\n{OTHER},2,ok\n,1,\nA,many,\n{OTHER},3,\nB,4,too,many\n")
    done = cli("credits", "import", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "Line 3: the key is empty",
        "Line 4: the credit of A is 'many': expected a whole number of 0 or more",
        f"Line 5: {OTHER} is already in line 2",
        "Line 6: it has more values than there are columns; put a text with a comma in quotation marks",
        f"Error: 4 problems in {file}; nothing was stored",
    ]
    assert printed(cli("credits", "list", "--json")) == []


def test_import_restores_approvals_from_the_csv_of_list(cli: Cli, tmp_path: object) -> None:
    cli("credits", "set", OTHER, "2", "--note", '=1+1, "quoted"', "--by", "ann")
    cli("credits", "set", "NUSx+é", "0")
    backup = cli("credits", "list", "--csv").stdout
    before = printed(cli("credits", "list", "--json"))
    for each in before:
        cli("credits", "remove", each["key"])
    file = f"{tmp_path}/backup.csv"
    with open(file, "w", encoding="utf-8") as opened:  # noqa: PTH123
        opened.write(backup)
    done = cli("credits", "import", file, "--by", "bob", EDX_CATALOG_IDS="7")
    assert done.stdout == "2 approvals stored.\n"
    assert done.stderr.splitlines() == [
        "Warning: no catalog has a run or a course with the key NUSx+é yet",
        f"Warning: no catalog has a run or a course with the key {OTHER} yet",
    ]
    assert printed(cli("credits", "list", "--json")) == before
    assert [each["by"] for each in before if each["key"] == OTHER] == ["ann"]


def test_approvals_are_listed_by_key(cli: Cli, tables: Tables, credits_client: TableClient) -> None:
    tables.credits.set(
        [Approval(key, 0, f"why {key}", "ann", datetime(2026, 3, 1, tzinfo=UTC)) for key in ("c", "a", "b")]
    )
    damaged = {"PartitionKey": "credits", "RowKey": "odd", "key": "x"}
    credits_client.upsert_entity(damaged)
    warning = "Warning: The approved credit of x is ignored: row 'odd' belongs to another key\n"
    expected = [["key", "credit", "note", "by", "at"]]
    expected += [[key, "0", f"why {key}", "ann", "2026-03-01T00:00:00Z"] for key in "abc"]
    table = cli("credits", "list")
    assert [line.split("\t") for line in table.stdout.splitlines()] == expected
    assert table.stderr == f"3 approvals\n{warning}"
    as_csv = cli("credits", "list", "--csv")
    assert [line.split(",") for line in as_csv.stdout.splitlines()] == expected
    as_json = cli("credits", "list", "--json")
    assert printed(as_json)[0] == {
        "key": "a", "credit": 0, "note": "why a", "by": "ann", "at": "2026-03-01T00:00:00Z",
    }  # fmt: skip
    assert (as_csv.stderr, as_json.stderr) == (warning, warning)


def test_credit_of_0_is_listed_on_a_terminal(settings: dict[str, str], tables: Tables) -> None:
    tables.credits.set([Approval("a", 0, "", "ann", datetime(2026, 3, 1, tzinfo=UTC))])
    shown = run_here(settings, "credits", "list", columns=80).stdout.splitlines()
    assert shown[1].split() == ["a", "0", "ann", "2026-03-01T00:00:00Z"]


@pytest.mark.parametrize("number", [9, 10, 11])
def test_ten_unknown_keys_are_named_and_others_are_counted(cli: Cli, tmp_path: Path, number: int) -> None:
    file = tmp_path / "credits.csv"
    file.write_text("key,credit\n" + "".join(f"K{each:02},1\n" for each in reversed(range(number))))
    done = cli("credits", "import", str(file), "--sync")
    assert done.stdout == f"{number} approvals stored.\n"
    named = [f"Warning: no catalog has a run or a course with the key K{each:02} yet" for each in range(10)]
    others = ["Warning: 1 other keys are in no catalog yet"] if number == 11 else []
    assert done.stderr.splitlines() == [*named[:number], *others]


def test_only_catalogs_that_have_the_key_are_synced_as_usual(
    cli: Cli, catalog: Catalog, tables: Tables, runs_client: TableClient
) -> None:
    catalog.replace([make_course(key=f"NUSx+{number}x") for number in range(12)])
    cli("sync")
    runs_client.delete_entity("7", course_run_id("course-v1:NUSx+1x+2T2026"))
    runs_client.upsert_entity({"PartitionKey": "7", "RowKey": str(uuid4()), "courserunKey": "damaged"})
    done = cli("credits", "set", "NUSx+0x", "2", "--sync")
    assert (done.returncode, done.stderr) == (0, "")
    (_, synced) = done.stdout.splitlines()
    assert synced.startswith("Catalog 7: ok in ")
    assert ": 0 new, 1 changed, " in synced  # it does not rebuild
    catalog.replace([make_course(key="NUSx+0x")])
    stopped = cli("credits", "set", "NUSx+0x", "3", "--sync")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("Catalog 7 failed: ")  # it does not allow every withdrawal
    assert len(tables.reports.newest(8)) == 1


def test_note_is_refused_when_it_has_bytes_that_are_not_utf8(cli: Cli) -> None:
    refused = cli("credits", "set", OTHER, "2", "--note", "caf\udce9", "--by", "ann")
    assert refused.returncode != 0
    assert "UTF-8" in refused.stderr
    assert cli("credits", "list", "--json").stdout.strip() == "[]"
