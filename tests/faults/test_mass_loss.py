"""The guard against mass loss: callers lose many runs at once only when an operator allows it."""

import json
import re
import shlex
from collections.abc import Callable

import pytest
import requests

from local.host.process import FunctionFailed, HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import envelope
from tests.command_line import run_command_line
from tests.faults import promise
from tests.faults.conftest import AskHere


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    return {**settings, "EDX_PAGE_SIZE": "20"}


@pytest.fixture
def shelf(sandbox: Sandbox) -> Catalog:
    """60 runs, of which 40 are listed and have not ended."""
    shelf = promise.make_shelf(7, 60)
    sandbox.catalogs = {7: shelf}
    return shelf


@pytest.fixture
def synced_shelf(shelf: Catalog, ask_here: AskHere, stored: promise.Stored) -> Catalog:
    """The catalog after its first sync."""
    promise.assert_reached(ask_here(), stored, shelf)
    return shelf


def _remove(shelf: Catalog, number: int) -> None:
    keys = [course["key"] for course in shelf.courses if course["course_runs"][0]["end"] == promise.NEVER]
    shelf.remove(*keys[:number])


def test_nothing_is_withdrawn_until_an_operator_allows_it_when_callers_would_lose_too_many_runs(
    settings: dict[str, str], shelf: Catalog, admin: requests.Session, stored: promise.Stored
) -> None:
    with HostProcess(settings) as host:
        promise.assert_reached(promise.ask(host.url, admin), stored, shelf)
        before, served = stored.runs(7), promise.runs_of(shelf)
        _remove(shelf, 11)
        shelf.add(promise.plain_course(7, 901))
        shelf.alter_run(shelf.courses[-2]["course_runs"][0]["key"], weeks_to_complete=50)

        sentence = promise.assert_says(
            promise.ask(host.url, admin),
            500,
            "Catalog 7 could not be synced",
            "callers would lose 11 of 40, no longer shown by edX; SYNC_MAX_WITHDRAW_PERCENT allows 20 %",
            "nothing was taken away",
        )

        promise.assert_kept(before, stored, shelf)
        assert len(stored.runs(7)) == 61
        partly = served | promise.runs_of(shelf)  # new, changed and missing runs are all served
        promise.assert_shows(promise.ask(host.url, admin, cache_control="only-if-cached"), partly)
        report = stored.reports(7)[0]
        assert (report["outcome"], report["created"], report["changed"]) == ("failed", 1, 1)
        assert report["withdrawn"] == 0
        assert report["error"] in sentence
        promise.assert_shows(
            promise.ask(host.url, admin, cache_control="no-cache, stale-if-error=60"), partly
        )
        with pytest.raises(FunctionFailed, match="callers would lose 11 of 40"):
            host.fire("sync_course_runs")
        promise.assert_kept(before, stored, shelf)

        command = re.search("python -m shared (.* --allow-withdrawals)", sentence)
        assert command
        operator = run_command_line(settings, *shlex.split(command[1]), "--json")

        assert operator.returncode == 0, operator.stderr
        assert json.loads(operator.stdout)[0]["withdrawn"] == 11
        promise.assert_reached(promise.ask(host.url, admin), stored, shelf)
        assert len(stored.runs(7)) == 61

        _remove(shelf, 11)  # it was allowed once only
        promise.assert_says(promise.ask(host.url, admin), 500, "callers would lose 11 of 30")
        promise.assert_discreet([host.log, operator.stdout, operator.stderr])


def _take_away(shelf: Catalog, **fields: object) -> None:
    for course in shelf.courses:
        shelf.alter_run(course["course_runs"][0]["key"], **fields)


def _open_runs(stored: promise.Stored) -> promise.Runs:
    """Return the stored runs that callers see; ended runs cannot be lost."""
    return {identity: run for identity, run in stored.runs(7).items() if run["endDate"] != promise.ENDED}


WAYS: dict[str, tuple[Callable[[Sandbox, Catalog], object], str]] = {
    "missing": (lambda _, shelf: shelf.remove(*shelf.keys[3:]), "38 of 40, no longer shown by edX;"),
    "unpublished": (
        lambda _, shelf: _take_away(shelf, status="unpublished"),
        "40 of 40, no longer published;",
    ),
    "ended": (
        lambda _, shelf: _take_away(shelf, end=promise.ENDED),
        "40 of 40, ended by a date that edX moved into the past;",
    ),
    "unmappable": (
        lambda _, shelf: _take_away(shelf, start="TBD"),
        "40 of 40, with a record that cannot be read any more;",
    ),
    "empty with count 0": (
        lambda _, shelf: shelf.replace([]),
        "edX returned no courses although 60 runs are stored; nothing was withdrawn",
    ),
    "empty although there is more": (
        lambda sandbox, _: sandbox.on("/courses/", envelope(results=[])),
        "edX sent 3 empty pages in a row",
    ),
}
"""How edX can empty a catalog. The list of catalogs has its test in test_edx_faults.py."""


@pytest.mark.parametrize("way", WAYS)
def test_callers_lose_nothing_when_edx_empties_a_catalog(
    sandbox: Sandbox, ask_here: AskHere, synced_shelf: Catalog, stored: promise.Stored, way: str
) -> None:
    courses = synced_shelf.courses
    before, served = _open_runs(stored), ask_here(cache_control="only-if-cached").content
    take_away, says = WAYS[way]
    take_away(sandbox, synced_shelf)

    for _ in range(2):  # each sync is stopped
        promise.assert_says(ask_here(), 500, "Catalog 7 could not be synced", says)

    assert ask_here(cache_control="only-if-cached").content == served
    assert _open_runs(stored) == before
    sandbox.rules.clear()
    synced_shelf.replace(courses)
    promise.assert_reached(ask_here(), stored, synced_shelf)


def test_no_run_is_counted_twice_by_the_guard_when_runs_leave_come_back_and_leave_again(
    ask_here: AskHere, synced_shelf: Catalog, stored: promise.Stored
) -> None:
    courses = synced_shelf.courses
    _remove(synced_shelf, 8)
    promise.assert_reached(ask_here(), stored, synced_shelf)
    synced_shelf.replace(courses)
    promise.assert_reached(ask_here(), stored, synced_shelf)
    assert stored.reports(7)[0]["restored"] == 8
    _remove(synced_shelf, 8)

    promise.assert_reached(ask_here(), stored, synced_shelf)

    _remove(synced_shelf, 11)
    promise.assert_says(ask_here(), 500, "callers would lose 11 of 32")


def test_the_next_sync_is_complete_when_the_missing_runs_come_back(
    ask_here: AskHere, synced_shelf: Catalog, stored: promise.Stored
) -> None:
    courses = synced_shelf.courses
    _remove(synced_shelf, 30)
    promise.assert_says(ask_here(), 500, "callers would lose 30 of 40")

    synced_shelf.replace(courses)

    promise.assert_reached(ask_here(), stored, synced_shelf)
    assert all("withdrawnAt" not in run for run in stored.runs(7).values())


def test_every_sync_is_stopped_by_the_guard_when_a_larger_catalog_replaced_the_old_one(
    ask_here: AskHere,
    settings: dict[str, str],
    synced_shelf: Catalog,
    stored: promise.Stored,
) -> None:
    synced_shelf.replace(promise.plain_course(7, number) for number in range(100, 160))

    for _ in range(3):
        promise.assert_says(ask_here(), 500, "callers would lose 40 of 40")

    assert not [run for run in stored.runs(7).values() if "withdrawnAt" in run]
    operator = run_command_line(settings, "sync", "--catalog", "7", "--allow-withdrawals")
    assert operator.returncode == 0, operator.stderr
    promise.assert_reached(ask_here(), stored, synced_shelf)
    _remove(synced_shelf, 8)
    promise.assert_reached(ask_here(), stored, synced_shelf)
