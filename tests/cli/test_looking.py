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
from shared.domain.attempts import Attempts
from shared.domain.catalog_list import CatalogList
from shared.domain.changes import Entry
from shared.domain.course_run import Rejection, course_run_id, rfc3339
from shared.domain.sync_report import SyncReport
from shared.storage.tables import Tables
from tests.builders import MAKE_RUN_SERVED, make_seat
from tests.cli.conftest import ODD_KEY
from tests.cli.printed import printed
from tests.cli.running import Cli, run_here
from tests.mapped_runs import make_mapped
from tests.storage.syncs import NOW, publish, store_runs

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


def test_catalogs_are_sorted_by_their_ids(cli: Cli, sandbox: Sandbox) -> None:
    listed = [{"id": catalog_id, "name": "", "courses_count": 1} for catalog_id in (8, 70, 9)]
    sandbox.on("/catalogs/", answer(200, {"count": 3, "next": None, "results": listed}))
    assert [each["id"] for each in printed(cli("catalogs", "--json"))] == [8, 9, 70]


def test_edx_is_not_asked_for_catalogs_before_its_rate_limit_ends(
    cli: Cli, sandbox: Sandbox, tables: Tables
) -> None:
    tables.account.remember_throttled(datetime.now(UTC) + timedelta(hours=1))
    done = cli("catalogs")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: edX's rate limit is used up until ")
    assert sandbox.requests == []


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


def test_runs_have_all_fields_in_csv_and_json(cli: Cli) -> None:
    cli("sync", "--catalog", "7")
    cli("credits", "set", OTHER, "3", "--note", "Senate")
    stored = {
        "id": course_run_id(OTHER),
        "courserunKey": OTHER,
        **MAKE_RUN_SERVED,
        "enrollmentUrl": "https://courses.edx.org/course_modes/choose/course-v1%3ANUSx%2BA2x%2B2T2026/",
    }
    in_json = cli("runs", "--catalog", "7", "--key", "A2x", "--json")
    assert printed(in_json) == [
        {
            "catalog": 7,
            **stored,
            "listed": True,
            "withdrawnAt": None,
            "state": "Current",
            "courseKey": "NUSx+A2x",
            "proposedCredit": 4,
            "approvedCredit": 3,
            "approvalNote": "Senate",
        }
    ]
    in_csv = cli("runs", "--catalog", "7", "--key", "A2x", "--csv")
    assert list(csv.reader(io.StringIO(in_csv.stdout))) == [
        ["catalog", "state", *stored, "withdrawnAt"],
        ["7", "Current", *map(str, stored.values()), ""],
    ]
    assert (in_json.stderr, in_csv.stderr) == ("", "")


def test_runs_are_sorted_by_catalog_and_key(cli: Cli, tables: Tables) -> None:
    for catalog_id, keys in ((8, "ab"), (7, "ec")):
        store_runs(tables.catalogs, *(make_mapped(key) for key in keys), catalog_id=catalog_id)
    shown = rows(cli("runs", EDX_CATALOG_IDS="8,7").stdout)
    assert [row[:2] for row in shown[1:]] == [["7", "c"], ["7", "e"], ["8", "a"], ["8", "b"]]


def test_run_has_empty_cells_for_what_is_not_known(cli: Cli, tables: Tables) -> None:
    efforts: list[dict[str, Any]] = [
        {},
        {"min_effort": 2},
        {"max_effort": 3},
        {"min_effort": 4, "max_effort": 4},
        {"min_effort": 0, "max_effort": 5},
    ]
    plain = [make_mapped(str(number), **effort) for number, effort in enumerate(efforts)]
    store_runs(tables.catalogs, *plain, catalog_id=7)
    shown = rows(cli("runs", "--catalog", "7").stdout)[1:]
    assert shown[0] == ["7", "0", "Upcoming", "", "", "", "", "", "", ""]
    assert [row[8] for row in shown] == ["", "2", "3", "4", "0-5"]


def test_credit_of_0_is_shown_and_long_tables_are_below_the_key_on_a_terminal(
    settings: dict[str, str], tables: Tables
) -> None:
    key = f"course-v1:NUSx+{'A' * 60}+2T2026"  # longer than a line, and not broken
    store_runs(tables.catalogs, make_mapped(key, modular_credit=0), catalog_id=7)

    def shown(*arguments: str) -> list[list[str]]:
        done = run_here(settings, *arguments, "--catalog", "7", columns=70)
        return [line.split() for line in re.sub("\x1b\\[[0-9]*m", "", done.stdout).splitlines()]

    assert shown("runs") == [
        ["courserunKey"], ["catalog", "state", "MC"], [key], ["7", "Upcoming", "0"], ["1", "course", "run"],
    ]  # fmt: skip
    fields = "catalog,courserunKey,modularCredit"
    assert shown("runs", "--fields", fields) == [
        ["courserunKey"], ["catalog", "modularCredit"], [key], ["7", "0"], ["1", "course", "run"],
    ]  # fmt: skip
    removed = Entry(kind="removed", courserun_key=key, id=str(uuid4()), reason="ended")
    at = datetime.now(UTC)
    publish(tables.catalogs, at=at, changes=[removed], catalog_id=7)
    assert shown("changes")[:-1] == [
        ["courserunKey"], ["at", "catalog", "kind"], [key], [rfc3339(at), "7", "removed"], ["ended"],
    ]  # fmt: skip


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
    at = run["changes"][0]["at"]
    assert cli("show", ODD_KEY, EDX_CATALOG_IDS="7").stdout.splitlines() == [
        f"{ODD_KEY} in catalog 7",
        f"  id               {course_run_id(ODD_KEY)}",
        f"  courserunKey     {ODD_KEY}",
        "  uuid             2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
        "  startDate        2026-01-12T15:00:00Z",
        "  endDate          2999-01-01T00:00:00Z",
        "  enrollmentStart  2025-10-01T00:00:00Z",
        "  enrollmentEnd    2999-12-15T23:59:59Z",
        "  minEffort        14",
        "  maxEffort        16",
        "  pacingType       instructor-paced",
        "  weeksToComplete  9",
        "  marketingUrl     https://www.edx.org/course/introduction-to-computer-science-mitx-6-00-1x",
        ("  enrollmentUrl    https://courses.edx.org/course_modes/choose/NUSx%2F%5Bred%5DA1x%5B%2F%5D%2F1/"),
        "  price            99.00",
        "  type             verified",
        "  state            Current",
        "  courseKey        NUSx+A1x",
        f"  modularCredit    4 ({run['creditReason']})",
        "Changes of the last 90 days:",
        "at\tcatalog\tcourserunKey\tkind\tfield\tbefore\tafter\twhy",
        f"{at}\t7\t{ODD_KEY}\tchanged\tendDate\t3000-01-01T00:00:00Z\t2999-01-01T00:00:00Z\t",
        f"{at}\t7\t{ODD_KEY}\tchanged\tprice\t150.00\t99.00\t",
    ]
    unknown = cli("show", "course-v1:NUSx+A1x+none", EDX_CATALOG_IDS="7")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        "Error: None of our catalogs has a course run with the key course-v1:NUSx+A1x+none\n"
    )


def test_run_is_shown_in_every_catalog_that_has_or_had_it(
    cli: Cli, tables: Tables, runs_client: TableClient
) -> None:
    for catalog_id in (9, 8):
        store_runs(tables.catalogs, make_mapped("plain"), catalog_id=catalog_id)
    damaged = {"PartitionKey": "7", "RowKey": course_run_id("plain"), "courserunKey": "plain"}
    runs_client.upsert_entity(damaged)
    tables.account.remember_catalogs(CatalogList((9, 7), NOW, left=(8, 10)), Attempts())
    lines = [
        f"  id             {course_run_id('plain')}",
        "  courserunKey   plain",
        "  state          Upcoming",
        "  modularCredit  none (by formula: none, because edX does not say how many weeks the run takes)",
        "  No change in the last 90 days.",
    ]
    assert cli("show", "plain").stdout.splitlines() == [
        "plain in catalog 8",
        *lines,
        "plain in catalog 9",
        *lines,
    ]


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
    exported = list(csv.reader(io.StringIO(cli("changes", "--catalog", "7", "--csv").stdout)))
    assert exported == found


def test_changes_of_the_last_7_days_are_shown_unless_another_time_is_given(cli: Cli, tables: Tables) -> None:
    now = datetime.now(UTC)
    for hours in (7 * 24 + 1, 7 * 24 - 1, 1):
        entry = Entry(kind="restored", courserun_key=f"{hours} h", id=str(uuid4()))
        publish(tables.catalogs, at=now - timedelta(hours=hours), changes=[entry], catalog_id=7)
    week = cli("changes", "--catalog", "7")
    assert [row[2] for row in rows(week.stdout)[1:]] == ["1 h", "167 h"]
    assert re.fullmatch(r"2 changes since 20[0-9T:-]{17}Z\n", week.stderr)
    all_of_them = cli("changes", "--catalog", "7", "--since", "2026-01-01")
    assert len(rows(all_of_them.stdout)) == 4
    assert all_of_them.stderr == "3 changes since 2026-01-01T00:00:00Z\n"
    one = cli("changes", "--catalog", "7", "--key", "1 h", "--json")
    assert ([each["courserunKey"] for each in printed(one)], one.stderr) == (["1 h"], "")


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
    assert shown[1][1:3] == ["7", "operator"]
    assert "incomplete or invalid JSON" in shown[1][-1]
    assert len(shown) == 2


def test_last_20_syncs_are_shown_unless_another_number_is_given(cli: Cli, tables: Tables) -> None:
    first = datetime(2026, 10, 1, tzinfo=UTC)
    for sync_id, at in (("first", first), ("second", first + timedelta(days=1))):
        tables.reports.add(make_report(sync_id=sync_id, started=at, ended=at, outcome="failed"))
    for number in range(21):
        tables.reports.add(make_report(sync_id=str(number)))
    assert len(printed(cli("history", "--json"))) == 20
    assert len(printed(cli("history", "-n", "21", "--json"))) == 21
    failed = printed(cli("history", "--failed", "--json"))
    assert [each["sync_id"] for each in failed] == ["second", "first"]
    assert printed(cli("history", "--failed", "-n", "1", "--json")) == failed[:1]


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
    heading, row = rows(done.stdout)
    assert done.stderr == ""
    assert heading == [
        "ended (UTC)", "catalog", "by", "seconds", "waited", "outcome", "courses", "runs", "new", "changed",
        "restored", "withdrawn", "unpublished", "ended early", "rejected", "why",
    ]  # fmt: skip
    assert row == [
        "2026-11-01 00:00:10", "7", "timer", "9.0", "1.0", "ok", "1", "2", "3", "4", "5", "6", "7", "8", "9",
        "edX sent no count. one. two",
    ]  # fmt: skip
    tables.reports.add(make_report(sync_id="b", ended=ended, waited_s=0.9))
    assert {row[4] for row in rows(cli("history").stdout)[1:]} == {"1.0", "0.0"}


def test_failed_listing_of_the_catalogs_is_shown_with_its_reason(cli: Cli, tables: Tables) -> None:
    tables.reports.add(make_report(catalog_id=0, outcome="failed", error="edX is down", incomplete="other"))
    (_, row) = rows(cli("history").stdout)
    assert (row[1], row[5], row[-1]) == ("all", "failed", "edX is down")


def test_syncs_that_ended_at_the_given_time_or_later_are_shown(cli: Cli, tables: Tables) -> None:
    tables.reports.add(make_report())
    assert len(printed(cli("history", "--since", "2026-11-01T00:00:00Z", "--json"))) == 1
    assert printed(cli("history", "--since", "2026-11-01T00:00:01Z", "--json")) == []


def test_past_sync_has_every_value_in_json(cli: Cli, tables: Tables) -> None:
    started = datetime(2026, 10, 31, 23, 59, 50, tzinfo=UTC)
    rejected = Rejection("key", "start", "it is odd")
    tables.reports.add(make_report(started=started, rejections=(rejected,), waited_s=1.5))
    assert printed(cli("history", "--json")) == [
        {
            "sync_id": "a",
            "catalog_id": 7,
            "trigger": "timer",
            "invocation_id": "",
            "started": "2026-10-31T23:59:50+00:00",
            "ended": "2026-11-01T00:00:00+00:00",
            "outcome": "ok",
            **dict.fromkeys(["courses", "runs", "created", "changed", "unchanged", "withdrawn"], 0),
            **dict.fromkeys(["unpublished", "ended_early", "restored", "rejected", "edx_requests"], 0),
            "rejections": [
                {"run_key": "key", "field": "start", "reason": "it is odd", "is_unpublished": False}
            ],
            "unknown_tracks": {},
            "incomplete": None,
            "warnings": [],
            "waited_s": 1.5,
            "throttled_until": None,
            "error": None,
            "seconds": 8.5,
        }
    ]
