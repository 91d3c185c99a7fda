"""The commands that only read: `runs`, `show`, `changes`, `history` and `catalogs`."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from azure.data.tables import TableClient

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer
from shared.domain.changes import Entry
from shared.domain.sync_report import SyncReport
from shared.storage.tables import Tables
from tests.builders import make_seat
from tests.cli.conftest import ODD_KEY
from tests.cli.printed import printed
from tests.cli.running import Cli
from tests.storage.syncs import publish

OLD, HIDDEN, OTHER = "course-v1:NUSx+A1x+old", "course-v1:NUSx+A1x+hidden", "course-v1:NUSx+A2x+2T2026"


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def make_report(**overrides: Any) -> SyncReport:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    values: dict[str, Any] = {"catalog_id": 7, "trigger": "timer", "invocation_id": "", "outcome": "ok"}
    return SyncReport(**(values | {"sync_id": "a", "started": at, "ended": at} | overrides))


def test_catalogs_are_listed(cli: Cli) -> None:
    assert printed(cli("catalogs", "--json")) == [
        {"id": 7, "name": "[bold]Ours", "courses_count": 9},
        {"id": 8, "name": "Empty", "courses_count": 0},
    ]
    shown = cli("catalogs")
    assert shown.returncode == 0
    assert rows(shown.stdout) == [["id", "name", "courses"], ["7", "[bold]Ours", "9"], ["8", "Empty", "0"]]
    assert shown.stderr == "courses: as edX counts them, archived ones too\n"


def test_catalogs_says_whom_to_ask_when_edx_lists_none(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.catalogs.clear()
    done = cli("catalogs")
    assert (done.returncode, done.stderr) == (
        0,
        "edX lists no catalog for our credentials; ask edX for access to one\n",
    )


def test_one_catalog_is_requested_by_its_id(cli: Cli, sandbox: Sandbox) -> None:
    assert printed(cli("catalogs", "--catalog", "8", "--json")) == [
        {"id": 8, "name": "Empty", "courses_count": 0}
    ]
    assert [request.path for request in sandbox.requests][-1] == "/catalog/v1/catalogs/8/"
    unknown = cli("catalogs", "--catalog", "9")
    assert (unknown.returncode, unknown.stderr.startswith("Error: the catalog is not found")) == (1, True)


def test_runs_are_shown_one_per_line_with_weeks_and_effort(cli: Cli) -> None:
    cli("sync", "--catalog", "7")
    shown = cli("runs", "--catalog", "7")
    assert shown.returncode == 0
    assert rows(shown.stdout)[0] == [
        "catalog", "courserunKey", "state", "start", "end", "price", "type", "weeks", "effort", "MC",
    ]  # fmt: skip
    rest = ["2026-01-12", "3000-01-01", "150.00", "verified", "9", "14-16", "4"]
    assert rows(shown.stdout)[1:] == [
        ["7", ODD_KEY, "Current", *rest],
        ["7", HIDDEN, "unpublished", *rest],
        ["7", OLD, "ended", "2026-01-12", "2001-01-01", "150.00", "verified", "9", "14-16", "4"],
        ["7", OTHER, "Current", *rest],
    ]
    assert shown.stderr == "4 course runs\n"
    exported = list(csv.DictReader(io.StringIO(cli("runs", "--catalog", "7", "--csv").stdout)))
    assert [(run["catalog"], run["courserunKey"], run["state"], run["withdrawnAt"]) for run in exported] == [
        ("7", ODD_KEY, "Current", ""),
        ("7", HIDDEN, "unpublished", ""),
        ("7", OLD, "ended", ""),
        ("7", OTHER, "Current", ""),
    ]


def test_withdrawn_run_is_shown_with_its_day(cli: Cli, catalog: Catalog) -> None:
    cli("sync", "--catalog", "7")
    catalog.remove("NUSx+A2x")
    cli("sync", "--catalog", "7")
    (_, row) = rows(cli("runs", "--catalog", "7", "--withdrawn").stdout)
    assert row[1] == OTHER
    assert re.fullmatch(r"withdrawn \d{4}-\d\d-\d\d", row[2])


def test_stored_run_that_cannot_be_read_is_left_out(cli: Cli, runs_client: TableClient) -> None:
    cli("sync", "--catalog", "7")
    runs_client.upsert_entity({"PartitionKey": "7", "RowKey": str(uuid4()), "courserunKey": "damaged"})
    assert len(printed(cli("runs", "--catalog", "7", "--json"))) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--key", "a2X"], [OTHER]),
        (["--state", "Unpublished"], [HIDDEN]),
        (["--state", "ended", "--key", "nusx+a1"], [OLD]),
        (["--type", "audit"], []),
        (["--type", "verified", "--key", "a2x"], [OTHER]),
        (["--withdrawn"], []),
    ],
)
def test_runs_are_filtered_by_key_state_and_type(cli: Cli, options: list[str], expected: list[str]) -> None:
    cli("sync", "--catalog", "7")
    found = printed(cli("runs", "--catalog", "7", *options, "--json"))
    assert [run["courserunKey"] for run in found] == expected


def test_runs_show_the_requested_fields(cli: Cli) -> None:
    cli("sync", "--catalog", "7")
    cli("credits", "set", "NUSx+A2x", "3", "--note", "Senate")
    fields = "courserunKey,modularcredit, proposedCredit,approvedCredit,approvalNote"
    shown = cli("runs", "--catalog", "7", "--key", "A2x", "--fields", fields)
    assert rows(shown.stdout) == [
        ["courserunKey", "modularCredit", "proposedCredit", "approvedCredit", "approvalNote"],
        [OTHER, "4", "4", "3", "Senate"],
    ]
    text = cli("runs", "--catalog", "7", "--key", "A2x", "--fields", fields, "--csv").stdout
    assert list(csv.DictReader(io.StringIO(text))) == [
        {
            "courserunKey": OTHER,
            "modularCredit": "4",
            "proposedCredit": "4",
            "approvedCredit": "3",
            "approvalNote": "Senate",
        }
    ]


def test_runs_show_what_is_stored_besides_the_contract(cli: Cli) -> None:
    cli("sync", "--catalog", "7")
    names = "catalog,state,listed,withdrawnAt,courseKey,proposedCredit,approvedCredit,approvalNote"
    (run,) = printed(cli("runs", "--catalog", "7", "--key", "hidden", "--fields", names, "--json"))
    assert run == {
        "catalog": 7, "state": "unpublished", "listed": False, "withdrawnAt": None, "courseKey": "NUSx+A1x",
        "proposedCredit": 4, "approvedCredit": None, "approvalNote": None,
    }  # fmt: skip


def test_one_run_is_shown_with_the_reason_for_its_credit_and_its_changes(cli: Cli, catalog: Catalog) -> None:
    cli("sync", "--catalog", "7", EDX_CATALOG_IDS="7")
    catalog.alter_run(ODD_KEY, seats=[make_seat(price="99.00")], end="2999-01-01T00:00:00Z")
    cli("sync", "--catalog", "7")
    cli("credits", "set", "NUSx+A1x", "2", "--note", "Senate 3/26", "--by", "ann")
    found = printed(cli("show", ODD_KEY, "--json", EDX_CATALOG_IDS="7"))
    (run,) = found
    assert (run["catalog"], run["state"], run["modularCredit"], run["approvedCredit"]) == (7, "Current", 4, 2)
    assert run["creditReason"].startswith("2 approved for the course NUSx+A1x by ann on 20")
    assert run["creditReason"].endswith(
        " (Senate 3/26), which takes effect with the next sync. The formula proposes "
        "4 = 9 weeks x 15 hours a week / 30 hours a credit, rounded down"
    )
    assert [change["kind"] for change in run["changes"]] == ["changed"]
    shown = cli("show", ODD_KEY, EDX_CATALOG_IDS="7").stdout.splitlines()
    assert shown[0] == f"{ODD_KEY} in catalog 7"
    assert "  price            99.00" in shown
    (credit,) = [line for line in shown if " modular credit" in line or "approved for the course" in line]
    assert credit == f"  modularCredit    4 ({run['creditReason']})"
    assert (
        cli("show", OTHER, EDX_CATALOG_IDS="7").stdout.splitlines()[-1] == "  No change in the last 90 days."
    )
    unknown = cli("show", "course-v1:NUSx+A1x+none", EDX_CATALOG_IDS="7")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        "Error: None of our catalogs has a course run with the key course-v1:NUSx+A1x+none\n"
    )


def test_changes_are_shown_field_by_field_newest_first(cli: Cli, catalog: Catalog) -> None:
    cli("sync", "--catalog", "7")
    catalog.alter_run(OTHER, seats=[make_seat(price="99.00")], min_effort=2, max_effort=2)
    cli("credits", "set", OTHER, "5", "--note", "Senate")
    cli("sync", "--catalog", "7")
    catalog.remove("NUSx+A2x")
    cli("sync", "--catalog", "7")
    found = rows(cli("changes", "--catalog", "7").stdout)
    assert found[0] == ["at", "catalog", "courserunKey", "kind", "field", "before", "after", "why"]
    assert [row[1:] for row in found[1:]] == [
        ["7", OTHER, "removed", "", "", "", "missing"],
        ["7", OTHER, "changed", "maxEffort", "16", "2", ""],
        ["7", OTHER, "changed", "minEffort", "14", "2", ""],
        ["7", OTHER, "changed", "modularCredit", "4", "5", "Senate"],
        ["7", OTHER, "changed", "price", "150.00", "99.00", ""],
        ["7", "", "first-sync", "", "", "", "2 course runs"],
    ]
    kinds = [change["kind"] for change in printed(cli("changes", "--catalog", "7", "--json"))]
    assert kinds == ["removed", "changed", "first-sync"]
    assert printed(cli("changes", "--catalog", "7", "--key", "none", "--json")) == []
    assert printed(cli("changes", "--catalog", "7", "--since", "2999-01-01", "--json")) == []
    assert len(cli("changes", "--catalog", "7", "--since", "2d", "--csv").stdout.splitlines()) == 7


def test_changes_of_several_catalogs_are_newest_first(cli: Cli, tables: Tables) -> None:
    now = datetime.now(UTC)
    for catalog_id, hours in ((7, 4), (8, 3), (7, 2), (8, 1)):
        ended = Entry(kind="removed", courserun_key=f"{hours} h", id=str(uuid4()), reason="ended")
        at = now - timedelta(hours=hours)
        publish(tables.catalogs, at=at, changes=[ended], catalog_id=catalog_id)
    found = printed(cli("changes", "--json", EDX_CATALOG_IDS="7,8"))
    assert [(each["catalogId"], each["courserunKey"]) for each in found] == [
        (8, "1 h"), (7, "2 h"), (8, "3 h"), (7, "4 h"),
    ]  # fmt: skip


def test_past_syncs_are_shown_newest_first(cli: Cli, sandbox: Sandbox, tables: Tables) -> None:
    tables.reports.add(make_report(sync_id="old"))
    cli("sync")
    sandbox.on("/7/courses/", answer(200, "nonsense"))
    cli("sync", "--catalog", "7")
    reports = printed(cli("history", "--json"))
    assert [(each["catalog_id"], each["outcome"], each["created"]) for each in reports] == [
        (7, "failed", 0), (8, "ok", 0), (7, "ok", 4), (7, "ok", 0),
    ]  # fmt: skip
    assert len(printed(cli("history", "-n", "1", "--json"))) == 1
    assert [each["outcome"] for each in printed(cli("history", "--failed", "--json"))] == ["failed"]
    assert len(printed(cli("history", "--since", "1h", "--json"))) == 3
    shown = rows(cli("history", "--catalog", "7", "--failed").stdout)
    assert shown[0][:4] == ["ended (UTC)", "catalog", "by", "seconds"]
    assert shown[1][1:3] == ["7", "operator"]
    assert "incomplete or invalid JSON" in shown[1][-1]
    assert len(shown) == 2


def test_last_20_syncs_are_shown_unless_another_number_is_given(cli: Cli, tables: Tables) -> None:
    first = datetime(2026, 10, 1, tzinfo=UTC)
    tables.reports.add(make_report(sync_id="first", started=first, ended=first, outcome="failed"))
    for number in range(21):
        tables.reports.add(make_report(sync_id=str(number)))
    assert len(printed(cli("history", "--json"))) == 20
    assert len(printed(cli("history", "-n", "21", "--json"))) == 21
    assert [each["sync_id"] for each in printed(cli("history", "--failed", "--json"))] == ["first"]


def test_past_sync_is_shown_with_all_that_it_did(cli: Cli, tables: Tables) -> None:
    numbers = {
        "courses": 1, "runs": 2, "created": 3, "changed": 4, "restored": 5, "withdrawn": 6, "unpublished": 7,
        "ended_early": 8, "rejected": 9,
    }  # fmt: skip
    ended = datetime(2026, 11, 1, 0, 0, 10, tzinfo=UTC)
    waits = {"waited_s": 1.0, "incomplete": "edX sent no count", "warnings": ("one", "two")}
    assert cli("history").stderr == "No sync was found.\n"
    tables.reports.add(make_report(ended=ended, **waits, **numbers))
    done = cli("history")
    _, row = rows(done.stdout)
    assert done.stderr == ""
    assert row == [
        "2026-11-01 00:00:10", "7", "timer", "9.0", "1.0", "ok", "1", "2", "3", "4", "5", "6", "7", "8", "9",
        "edX sent no count. one. two",
    ]  # fmt: skip
    tables.reports.add(make_report(sync_id="b", ended=ended, waited_s=0.9))
    assert {row[4] for row in rows(cli("history").stdout)[1:]} == {"1.0", "0.0"}
