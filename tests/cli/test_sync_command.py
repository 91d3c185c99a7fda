"""`sync`: its effect, its output and its exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from azure.data.tables import TableClient, TableServiceClient, UpdateMode

from local.azurite import Azurite
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer, slow
from shared.cli.sync import _waiting, sync_catalogs
from shared.domain.attempts import FinishedSync
from shared.domain.course_run import Rejection, course_run_id
from shared.domain.sync_report import SyncReport
from shared.storage.lease import LeaseState
from tests.builders import make_course, make_run
from tests.cli.conftest import ODD_KEY
from tests.cli.printed import everything_stored, printed
from tests.cli.running import Cli

REPOSITORY = Path(__file__).parents[2]


def test_totals_and_rejections_are_shown(cli: Cli) -> None:
    done = cli("sync", "--catalog", "7")
    assert done.returncode == 0
    first, *rest = done.stdout.splitlines()
    assert re.fullmatch(
        r"Catalog 7: ok in \d\d?\.\d s\. 2 courses, 4 runs: 4 new, 0 changed, 0 restored, 0 unchanged; "
        "0 withdrawn, 1 rejected",
        first,
    )
    assert rest == ["  rejected course-v1:NUSx+A1x+bad, start: 'soon' is not a date"]
    assert done.stderr == ""


FULL = SyncReport(
    sync_id="a", catalog_id=7, trigger="operator", invocation_id="", outcome="incomplete",
    started=datetime(2026, 3, 1, 12, tzinfo=UTC), ended=datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC),
    courses=1, runs=16, created=2, changed=3, restored=4, unchanged=5, withdrawn=6, unpublished=7,
    ended_early=8, rejected=9, incomplete="edX sent no count", warnings=("edX no longer lists catalog 9",),
    rejections=(Rejection("", "key", "it is missing"),), waited_s=1.0,
)  # fmt: skip


def test_everything_that_a_report_has_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sync_catalogs([7], lambda _catalog_id, _bar: FULL)
    assert capsys.readouterr().out.splitlines() == [
        (
            "Catalog 7: incomplete in 9.0 s, after waiting 1.0 s. 1 course, 16 runs: 2 new, 3 changed, "
            "4 restored, 5 unchanged; 6 withdrawn, 7 unpublished, 8 ended early, 9 rejected"
        ),
        "  The pull was incomplete, so nothing was withdrawn: edX sent no count",
        "  Warning: edX no longer lists catalog 9",
        "  rejected (no key), key: it is missing",
    ]


def test_rejections_have_their_parts_by_name_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    sync_catalogs([7], lambda _catalog_id, _bar: FULL, as_json=True)
    (report,) = json.loads(capsys.readouterr().out)
    assert report["rejections"] == [
        {"run_key": "", "field": "key", "reason": "it is missing", "is_unpublished": False}
    ]


def test_time_to_get_the_lease_is_not_shown_as_a_wait(capsys: pytest.CaptureFixture[str]) -> None:
    sync_catalogs([7], lambda _catalog_id, _bar: replace(FULL, waited_s=0.9))
    assert capsys.readouterr().out.startswith("Catalog 7: incomplete in 9.1 s. 1 course, ")


def test_sync_of_another_process_counts_as_ours(capsys: pytest.CaptureFixture[str]) -> None:
    sync_catalogs([7], lambda _catalog_id, _bar: None)
    assert capsys.readouterr().out == "Catalog 7: another process was syncing it and has finished\n"
    sync_catalogs([7], lambda _catalog_id, _bar: None, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"catalog": 7, "outcome": "ok", "by": "another process"}]


def test_catalogs_are_known_after_a_sync_when_none_are_configured(cli: Cli) -> None:
    assert printed(cli("runs", "--json")) == []
    assert cli("sync").returncode == 0
    assert {run["catalog"] for run in printed(cli("runs", "--json"))} == {7}
    assert len(printed(cli("runs", "--json"))) == 4
    assert [each["catalog"] for each in printed(cli("status", "--json"))] == [7, 8]


def test_exit_code_is_1_with_a_sentence_when_edx_lists_no_catalog(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.catalogs.clear()
    done = cli("sync")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: edX lists no catalog for our credentials, so there is nothing to sync; ask edX for access to "
        "one\n"
    )


def test_totals_are_printed_first_and_nothing_is_written_when_it_is_a_dry_run(
    cli: Cli, catalog: Catalog, azurite: Azurite, tables_prefix: str
) -> None:
    assert cli("sync", "--catalog", "7", "--dry-run").returncode == 0
    assert everything_stored(azurite, tables_prefix) == []
    cli("sync", "--catalog", "7")
    before = everything_stored(azurite, tables_prefix)
    catalog.alter_run(ODD_KEY, end="2999-01-01T00:00:00Z", weeks_to_complete=None)
    catalog.remove("NUSx+A2x")
    catalog.add(make_course(key="NUSx+A3x"))

    assert cli("sync", "--catalog", "7", "--dry-run").stdout.splitlines() == [
        (
            "Catalog 7: 2 runs would be written (1 created, 1 changed), 1 withdrawn; 2 are unchanged. "
            "Nothing was written."
        ),
        "Callers would lose 1 run no longer shown by edX.",
        f"changed {ODD_KEY}",
        "  endDate: 3000-01-01T00:00:00Z → 2999-01-01T00:00:00Z",
        "  modularCredit: 4 → none",
        "  weeksToComplete: 9 → none",
        "created course-v1:NUSx+A3x+2T2026: 2026-01-12 to 3000-01-01, 150.00 USD, verified, 4 MC",
        "withdrawn course-v1:NUSx+A2x+2T2026",
        "  rejected course-v1:NUSx+A1x+bad, start: 'soon' is not a date",
    ]

    (preview,) = printed(cli("sync", "--catalog", "7", "--dry-run", "--json"))
    changes = {change["courserunKey"]: change for change in preview.pop("changes")}
    assert changes.keys() == {ODD_KEY, "course-v1:NUSx+A3x+2T2026"}
    assert changes[ODD_KEY] == {
        "kind": "changed",
        "courserunKey": ODD_KEY,
        "fields": {
            "endDate": {"before": "3000-01-01T00:00:00Z", "after": "2999-01-01T00:00:00Z"},
            "modularCredit": {"before": 4, "after": None},
            "weeksToComplete": {"before": 9, "after": None},
        },
    }
    assert preview == {
        "catalog": 7,
        "outcome": "preview",
        "totals": {
            "created": 1, "changed": 1, "restored": 0, "unchanged": 2, "withdrawn": 1, "rejected": 1,
        },
        "withdrawn": ["course-v1:NUSx+A2x+2T2026"],
        "lost": {"missing": ["course-v1:NUSx+A2x+2T2026"]},
        "incomplete": None,
        "stopped": None,
    }  # fmt: skip
    assert everything_stored(azurite, tables_prefix) == before


def test_new_run_is_previewed_with_what_is_known_of_it(cli: Cli, catalog: Catalog) -> None:
    plain = make_run(key="plain", start=None, end=None, seats=[], type=None, weeks_to_complete=None)
    hidden = make_run(key="hidden", status="unpublished", end=None, weeks_to_complete=None)
    catalog.replace([make_course(plain, hidden)])
    assert cli("sync", "--catalog", "7", "--dry-run").stdout.splitlines()[1:] == [
        "created plain",
        "created hidden: 2026-01-12, 150.00 USD, verified, not published",
    ]
    (preview,) = printed(cli("sync", "--catalog", "7", "--dry-run", "--json"))
    assert preview["changes"][0] == {
        "kind": "created",
        "courserunKey": "plain",
        "fields": {
            name: {"before": None, "after": after}
            for name, after in {
                "id": course_run_id("plain"),
                "courserunKey": "plain",
                "uuid": "2f0f1b0c-3a58-4d0e-9d2b-6a6d5a1f7c11",
                "enrollmentStart": "2025-10-01T00:00:00Z",
                "enrollmentEnd": "2999-12-15T23:59:59Z",
                "minEffort": 14,
                "maxEffort": 16,
                "pacingType": "instructor-paced",
                "marketingUrl": ("https://www.edx.org/course/introduction-to-computer-science-mitx-6-00-1x"),
                "enrollmentUrl": "https://courses.edx.org/course_modes/choose/plain/",
                "listed": True,
            }.items()
        },
    }


def test_preview_says_what_a_sync_would_do_to_each_stored_run(
    cli: Cli, catalog: Catalog, runs_client: TableClient
) -> None:
    keys = ("same", "hidden", "gone", "damaged", "damaged and gone")
    catalog.replace([make_course(make_run(key=key), key=key) for key in keys])
    cli("sync", "--catalog", "7")
    for key in keys[3:]:
        damaged = {"PartitionKey": "7", "RowKey": course_run_id(key), "courserunKey": key}
        runs_client.upsert_entity(damaged, UpdateMode.REPLACE)
    catalog.remove("gone")
    catalog.remove("damaged and gone")
    catalog.alter_run("hidden", status="unpublished")
    catalog.alter_run("damaged", status="unpublished")
    previewed = cli("sync", "--catalog", "7", "--dry-run", SYNC_MAX_WITHDRAW_PERCENT="100")
    *shown, first_gone, second_gone = previewed.stdout.splitlines()
    assert {first_gone, second_gone} == {
        "withdrawn gone",
        f"withdrawn {course_run_id('damaged and gone')}",
    }
    assert shown[:7] == [
        ("Catalog 7: 2 runs would be written (2 changed), 2 withdrawn; 1 is unchanged. Nothing was written."),
        "Callers would lose 2 runs no longer shown by edX.",
        "Callers would lose 2 runs no longer published.",
        "changed hidden",
        "  listed: True → False",
        "changed damaged",
        "  courserunKey: none → damaged",
    ]
    assert "  weeksToComplete: none → 9" in shown[7:]


def test_withdrawals_above_the_limit_are_allowed_when_the_option_is_given(cli: Cli, catalog: Catalog) -> None:
    catalog.replace([make_course(key=f"NUSx+{number}x") for number in range(12)])
    assert printed(cli("sync", "--catalog", "7", "--json"))[0]["created"] == 12
    catalog.replace([make_course(key="NUSx+0x")])
    previewed = cli("sync", "--catalog", "7", "--dry-run")
    assert (previewed.returncode, "The guard would stop the sync: " in previewed.stdout) == (0, True)
    assert "Callers would lose 11 runs no longer shown by edX." in previewed.stdout
    stopped = cli("sync", "--catalog", "7")
    assert stopped.returncode == 1
    assert "callers would lose 11 of 12" in stopped.stderr
    assert printed(cli("runs", "--catalog", "7", "--withdrawn", "--json")) == []
    allowed = cli("sync", "--catalog", "7", "--allow-withdrawals", "--json")
    assert (allowed.returncode, printed(allowed)[0]["withdrawn"]) == (0, 11)
    withdrawn = printed(cli("runs", "--withdrawn", "--json", EDX_CATALOG_IDS="7"))
    assert len(withdrawn) == 11
    assert all(run["withdrawnAt"] and run["catalog"] == 7 for run in withdrawn)


def test_rebuild_finds_differences_between_stored_runs_and_the_published_state(
    cli: Cli, azurite: Azurite, tables_prefix: str
) -> None:
    cli("sync", "--catalog", "7")
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        runs = service.get_table_client(f"{tables_prefix}CourseRuns")
        runs.delete_entity("7", course_run_id(ODD_KEY))
    assert printed(cli("sync", "--catalog", "7", "--json"))[0]["created"] == 0
    assert printed(cli("sync", "--catalog", "7", "--rebuild", "--json"))[0]["created"] == 1


def test_exit_code_is_1_and_others_are_synced_when_a_catalog_fails(cli: Cli, sandbox: Sandbox) -> None:
    sandbox.on("/7/courses/", answer(200, "nonsense"))
    done = cli("sync", "--json")
    assert done.returncode == 1
    failed, synced = printed(done)
    assert "incomplete or invalid JSON" in failed["error"]
    assert failed == {"catalog": 7, "outcome": "failed", "error": failed["error"]}
    assert (synced["catalog_id"], synced["outcome"]) == (8, "ok")
    assert done.stderr == f"Catalog 7 failed: {failed['error']}\n"
    unknown = cli("sync", "--catalog", "999")
    assert (unknown.returncode, "the catalog is not found" in unknown.stderr) == (1, True)


def start(settings: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - the command is ours
        [sys.executable, "-m", "shared", *arguments],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_courses(sandbox: Sandbox) -> None:
    for _ in range(600):
        if any("/courses/" in request.path for request in sandbox.requests):
            return
        time.sleep(0.05)
    pytest.fail("the sync never asked for courses")


def test_message_says_what_is_intact_when_the_operator_interrupts(
    settings: dict[str, str], cli: Cli, sandbox: Sandbox
) -> None:
    cli("sync", "--catalog", "7")
    sandbox.requests.clear()
    sandbox.on("/7/courses/", slow(30))
    process = start(settings, "sync", "--catalog", "7")
    wait_for_courses(sandbox)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == (
        "Interrupted in catalog 7. Callers get the state of the last finished sync. Run the command again: "
        "runs that were already written are not written again.\n"
    )
    assert len(printed(cli("runs", "--json", "--catalog", "7"))) == 4


def test_a_sync_says_that_it_waits_for_another_and_shows_the_waiting_time_separately(
    settings: dict[str, str], cli: Cli, sandbox: Sandbox
) -> None:
    sandbox.on("/7/courses/", slow(6), times=1)
    first = start(settings, "sync", "--catalog", "7")
    wait_for_courses(sandbox)
    (now,) = printed(cli("status", "--json", EDX_CATALOG_IDS="7"))
    assert now["holder"].endswith(f"/{first.pid}")
    assert 0 <= now["held_s"] < 60
    second = cli("sync", "--catalog", "7", "--rebuild", "--json")  # its own, after the first
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert second.returncode == 0
    assert second.stderr.startswith("Catalog 7: waiting for the sync of ")
    assert f"/{first.pid}, which began at " in second.stderr
    (report,) = json.loads(second.stdout)
    assert report["waited_s"] >= 1
    assert report["seconds"] < report["waited_s"] + 5


def test_the_sync_that_is_waited_for_is_named_without_its_process_when_an_old_version_runs_it() -> None:
    by_old_version = LeaseState("", "5d2f", FinishedSync())
    assert _waiting(7, by_old_version) == "Catalog 7: waiting for the sync of another process"
