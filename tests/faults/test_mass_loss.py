"""The guard against mass loss: callers lose suspiciously many runs only when an operator says so."""

import json
import re
import shlex
from collections.abc import Callable

import pytest
import requests

from local.host import Host
from local.host.process import FunctionFailed, HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import envelope
from tests.command_line import run_command_line
from tests.faults.promise import (
    ENDED,
    NEVER,
    Runs,
    Stored,
    ask,
    assert_discreet,
    assert_kept,
    assert_reached,
    assert_says,
    assert_shows,
    make_shelf,
    plain_course,
    runs_of,
)


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    return {**settings, "EDX_PAGE_SIZE": "20"}


@pytest.fixture
def shelf(sandbox: Sandbox) -> Catalog:
    """60 runs, of which 40 are listed and have not ended."""
    shelf = make_shelf(7, 60)
    sandbox.catalogs = {7: shelf}
    return shelf


def _remove(shelf: Catalog, number: int) -> None:
    keys = [course["key"] for course in shelf.courses if course["course_runs"][0]["end"] == NEVER]
    shelf.remove(*keys[:number])


def test_nothing_is_withdrawn_until_an_operator_says_so_when_too_much_is_gone(
    settings: dict[str, str], shelf: Catalog, admin: requests.Session, stored: Stored
) -> None:
    with HostProcess(settings) as host:
        assert_reached(ask(host.url, admin), stored, shelf)
        before, served = stored.runs(7), runs_of(shelf)
        _remove(shelf, 11)
        shelf.add(plain_course(7, 901))
        shelf.alter_run(shelf.courses[-2]["course_runs"][0]["key"], weeks_to_complete=50)

        sentence = assert_says(
            ask(host.url, admin),
            500,
            "Catalog 7 could not be synced",
            "callers would lose 11 of 40, no longer shown by edX; SYNC_MAX_WITHDRAW_PERCENT allows 20 %",
            "nothing was taken away",
        )

        assert_kept(before, stored, shelf)
        assert len(stored.runs(7)) == 61
        partly = served | runs_of(shelf)  # what is new and changed is served; so is what is gone
        assert_shows(ask(host.url, admin, cache_control="only-if-cached"), partly)
        report = stored.reports(7)[0]
        assert (report["outcome"], report["created"], report["changed"]) == ("failed", 1, 1)
        assert report["withdrawn"] == 0
        assert report["error"] in sentence
        assert_shows(ask(host.url, admin, cache_control="no-cache, stale-if-error=60"), partly)
        with pytest.raises(FunctionFailed, match="callers would lose 11 of 40"):
            host.fire("sync_course_runs")
        assert_kept(before, stored, shelf)

        command = re.search("python -m shared (.* --allow-withdrawals)", sentence)
        assert command
        operator = run_command_line(settings, *shlex.split(command[1]), "--json")

        assert operator.returncode == 0, operator.stderr
        assert json.loads(operator.stdout)[0]["withdrawn"] == 11
        assert_reached(ask(host.url, admin), stored, shelf)
        assert len(stored.runs(7)) == 61

        _remove(shelf, 11)  # it was let pass once
        assert_says(ask(host.url, admin), 500, "callers would lose 11 of 30")
        assert_discreet([host.log, operator.stdout, operator.stderr])


def _take_away(shelf: Catalog, **fields: object) -> None:
    for course in shelf.courses:
        shelf.alter_run(course["course_runs"][0]["key"], **fields)


def _open_runs(stored: Stored) -> Runs:
    """Return the stored runs that callers see; of the others nothing can be lost."""
    return {identity: run for identity, run in stored.runs(7).items() if run["endDate"] != ENDED}


WAYS: dict[str, tuple[Callable[[Sandbox, Catalog], object], str]] = {
    "missing": (lambda _, shelf: shelf.remove(*shelf.keys[3:]), "38 of 40, no longer shown by edX;"),
    "unpublished": (
        lambda _, shelf: _take_away(shelf, status="unpublished"),
        "40 of 40, no longer published;",
    ),
    "ended": (
        lambda _, shelf: _take_away(shelf, end=ENDED),
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
def test_callers_lose_nothing_when_edx_empties_a_catalog(  # noqa: PLR0917 - fixtures
    sandbox: Sandbox, host_here: Host, shelf: Catalog, admin: requests.Session, stored: Stored, way: str
) -> None:
    courses = shelf.courses
    assert_reached(ask(host_here.url, admin), stored, shelf)
    before, served = _open_runs(stored), ask(host_here.url, admin, cache_control="only-if-cached").content
    take_away, says = WAYS[way]
    take_away(sandbox, shelf)

    for _ in range(2):  # it stays so
        assert_says(ask(host_here.url, admin), 500, "Catalog 7 could not be synced", says)

    assert ask(host_here.url, admin, cache_control="only-if-cached").content == served
    assert _open_runs(stored) == before
    sandbox.rules.clear()
    shelf.replace(courses)
    assert_reached(ask(host_here.url, admin), stored, shelf)


def test_the_guard_counts_nothing_twice_when_runs_left_and_came_back(
    host_here: Host, shelf: Catalog, admin: requests.Session, stored: Stored
) -> None:
    courses = shelf.courses
    assert_reached(ask(host_here.url, admin), stored, shelf)
    _remove(shelf, 8)
    assert_reached(ask(host_here.url, admin), stored, shelf)
    shelf.replace(courses)
    assert_reached(ask(host_here.url, admin), stored, shelf)
    assert stored.reports(7)[0]["restored"] == 8
    _remove(shelf, 8)

    assert_reached(ask(host_here.url, admin), stored, shelf)

    _remove(shelf, 11)
    assert_says(ask(host_here.url, admin), 500, "callers would lose 11 of 32")


def test_the_next_sync_is_whole_when_what_was_gone_comes_back(
    host_here: Host, shelf: Catalog, admin: requests.Session, stored: Stored
) -> None:
    courses = shelf.courses
    assert_reached(ask(host_here.url, admin), stored, shelf)
    _remove(shelf, 30)
    assert_says(ask(host_here.url, admin), 500, "callers would lose 30 of 40")

    shelf.replace(courses)

    assert_reached(ask(host_here.url, admin), stored, shelf)
    assert all("withdrawnAt" not in run for run in stored.runs(7).values())


def test_the_guard_holds_at_every_try_when_the_catalog_was_replaced_by_a_larger_one(
    host_here: Host,
    settings: dict[str, str],
    shelf: Catalog,
    admin: requests.Session,
    stored: Stored,
) -> None:
    assert_reached(ask(host_here.url, admin), stored, shelf)
    shelf.replace(plain_course(7, number) for number in range(100, 160))

    for _ in range(3):
        assert_says(ask(host_here.url, admin), 500, "callers would lose 40 of 40")

    assert not [run for run in stored.runs(7).values() if "withdrawnAt" in run]
    operator = run_command_line(settings, "sync", "--catalog", "7", "--allow-withdrawals")
    assert operator.returncode == 0, operator.stderr
    assert_reached(ask(host_here.url, admin), stored, shelf)
    _remove(shelf, 8)
    assert_reached(ask(host_here.url, admin), stored, shelf)
