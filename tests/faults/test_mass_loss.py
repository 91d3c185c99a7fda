"""The guard against mass loss: suspiciously many runs are withdrawn only when an operator says so."""

import json
import re
import shlex

import pytest
import requests

from local.host import Host
from local.host.process import FunctionFailed, HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from tests.command_line import run_command_line
from tests.faults.promise import (
    ENDED,
    NEVER,
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
def settings(settings: dict[str, str], percent: str) -> dict[str, str]:
    return {**settings, "SYNC_MAX_WITHDRAW_PERCENT": percent}


@pytest.fixture
def percent() -> str:
    """The default, unless a test has others."""
    return ""


@pytest.fixture
def shelf(sandbox: Sandbox) -> Catalog:
    """60 runs, of which 40 are listed and have not ended."""
    shelf = make_shelf(7, 60)
    sandbox.catalogs = {7: shelf}
    return shelf


def _remove(shelf: Catalog, number: int, end: str = NEVER) -> None:
    keys = [course["key"] for course in shelf.courses if course["course_runs"][0]["end"] == end]
    shelf.remove(*keys[:number])


@pytest.mark.parametrize("percent", ["", "0", "26", "27"])
def test_nothing_is_withdrawn_until_an_operator_says_so_when_too_much_is_gone(
    settings: dict[str, str],
    shelf: Catalog,
    admin: requests.Session,
    stored: Stored,
    percent: str,
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
            f"11 of 40 open runs, more than the {percent or 20} %",
            "None was withdrawn",
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
        with pytest.raises(FunctionFailed, match="11 of 40 open runs"):
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
        assert_says(ask(host.url, admin), 500, "11 of 30 open runs")
        assert_discreet([host.log, operator.stdout, operator.stderr])


@pytest.mark.parametrize(
    ("percent", "runs", "open_gone", "ended_gone"),
    [
        pytest.param("20", 60, 10, 0, id="no more than ten"),
        pytest.param("20", 30, 10, 0, id="no more than ten of twenty"),
        pytest.param("20", 90, 12, 0, id="exactly the percentage"),
        pytest.param("20", 60, 0, 20, id="only ended ones"),
        pytest.param("20", 60, 8, 20, id="mostly ended ones"),
        pytest.param("0", 60, 10, 20, id="ten, at 0 percent"),
        pytest.param("50", 60, 20, 0, id="exactly half"),
        pytest.param("100", 60, 39, 20, id="all but one"),
    ],
)
def test_runs_that_are_gone_are_withdrawn_when_they_are_few_enough(  # noqa: PLR0917 - fixtures
    sandbox: Sandbox,
    host_here: Host,
    admin: requests.Session,
    stored: Stored,
    runs: int,
    open_gone: int,
    ended_gone: int,
) -> None:
    shelf = make_shelf(7, runs)
    sandbox.catalogs = {7: shelf}
    assert_reached(ask(host_here.url, admin), stored, shelf)
    _remove(shelf, open_gone)
    _remove(shelf, ended_gone, ENDED)

    assert_reached(ask(host_here.url, admin), stored, shelf)

    assert stored.reports(7)[0]["withdrawn"] == open_gone + ended_gone


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
    assert_says(ask(host_here.url, admin), 500, "11 of 32 open runs")


def test_the_next_sync_is_whole_when_what_was_gone_comes_back(
    host_here: Host, shelf: Catalog, admin: requests.Session, stored: Stored
) -> None:
    courses = shelf.courses
    assert_reached(ask(host_here.url, admin), stored, shelf)
    _remove(shelf, 30)
    assert_says(ask(host_here.url, admin), 500, "30 of 40 open runs")

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
    shelf.replace(plain_course(7, number) for number in range(100, 400))

    for _ in range(3):
        assert_says(ask(host_here.url, admin), 500, "40 of 40 open runs")

    assert not [run for run in stored.runs(7).values() if "withdrawnAt" in run]
    operator = run_command_line(settings, "sync", "--catalog", "7", "--allow-withdrawals")
    assert operator.returncode == 0, operator.stderr
    assert_reached(ask(host_here.url, admin), stored, shelf)
    _remove(shelf, 40)
    assert_reached(ask(host_here.url, admin), stored, shelf)
