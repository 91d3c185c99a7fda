"""Interrupted syncs: the process is killed, told to end or suspended, or the caller's time runs out.

Many catalogs are synced at once, and the proxy in front of storage holds a different request of each. When
all are held, the syncs are interrupted; afterwards each held request is dropped or takes effect.
"""

import random
import signal
import time
from concurrent.futures import Future
from typing import NamedTuple

import pytest
import requests

from local.host import Host
from local.host.process import HostProcess
from local.sandbox.catalogs import Catalog
from tests.faults.promise import assert_reached, assert_says, assert_shows, plain_course, runs_of
from tests.faults.stage import Stage, wait_until
from tests.table_proxy import Gate, TableProxy

LAST_OF_A_SYNC = "find old reports"
REQUESTS_AT_LEAST = 10
"""Storage requests that are held in one process; with fewer, a test would leave some out."""


@pytest.fixture
def settings(stage: Stage) -> dict[str, str]:
    return stage.settings


@pytest.fixture(scope="module")
def hosts(healthy: HostProcess, proxied: HostProcess) -> tuple[HostProcess, HostProcess]:
    return healthy, proxied


class Held(NamedTuple):
    """A sync that waits for a held storage request: its catalog, the request, and the caller's call."""

    shelf: Catalog
    kind: str
    gate: Gate
    call: "Future[requests.Response]"


def requests_of_a_sync(stage: Stage, proxy: TableProxy, host: HostProcess, shelf: Catalog) -> list[str]:
    """Return the kinds of storage requests that a sync makes, without those of the caller."""
    proxy.requests.clear()
    stage.ask(host, shelf)
    wait_until(lambda: LAST_OF_A_SYNC in proxy.kinds(shelf.id))
    kinds = proxy.kinds(shelf.id)
    return kinds[1 : kinds.index(LAST_OF_A_SYNC) + 1]


def hold_requests(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess], host: HostProcess, *, first: int
) -> list[Held]:
    """Start syncs of many catalogs, new and known ones, and hold a different storage request of each.

    Every second request, from `first` on, is held: with all of them at once, some would be held for more than
    ten seconds and be repeated. `hosts` are a healthy one and one that reaches storage through the proxy.
    """
    healthy, proxied = hosts
    stage.warm(host)
    new, known = stage.new_shelf(), stage.synced_shelf(healthy)
    shelves = []
    for kinds, is_new in (
        (requests_of_a_sync(stage, proxy, proxied, new), True),
        (requests_of_a_sync(stage, proxy, proxied, known), False),
    ):
        for position, kind in list(enumerate(kinds, 1))[first::2]:
            shelf = stage.new_shelf() if is_new else stage.synced_shelf(healthy)
            shelves.append((shelf, position, kind))
    held = []
    for shelf, position, kind in shelves:
        gate = Gate()
        proxy.on(gate, catalog=shelf.id, after=position, times=1)
        held.append(Held(shelf, kind, gate, stage.begin_to_ask(host, shelf)))
    for each in held:
        assert each.gate.reached.wait(60), each.kind
    assert len(held) >= REQUESTS_AT_LEAST
    return held


def assert_recovers(stage: Stage, reader: HostProcess, host: Host, shelves: list[Catalog]) -> None:
    """Change catalogs and assert that a host stores the new state and a reader gets complete states only."""
    with stage.watched(reader, shelves):
        stage.change_all(shelves)
        stage.assert_recovers(host, shelves)


@pytest.mark.parametrize("first", [0, 1])
def test_a_new_process_reaches_what_edx_shows_when_one_was_killed_at_any_request(
    stage: Stage,
    proxy: TableProxy,
    hosts: tuple[HostProcess, HostProcess],
    host_without_pauses: Host,
    first: int,
) -> None:
    with stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as killed:
        held = hold_requests(stage, proxy, hosts, killed, first=first)
        killed.kill()
    for number, each in enumerate(held):
        each.gate.open(drop=number % 2 == 0)
        assert each.call.exception(), each.kind
    assert_recovers(stage, hosts[0], host_without_pauses, [each.shelf for each in held])


def cut_syncs(stage: Stage, shelves: list[Catalog], delay_s: float) -> int:
    """Kill a process some time after its first page request; return how many syncs were interrupted."""
    with stage.host() as killed:
        stage.warm(killed)
        stage.edx.forget_requests()
        calls = [stage.begin_to_ask(killed, shelf) for shelf in shelves]
        wait_until(lambda: stage.edx.requests_to("/courses/"))
        time.sleep(delay_s)
        killed.kill()
        interrupted = sum(call.exception() is not None for call in calls)
    # Shown when a test fails.
    print(f"killed {delay_s:.3f} s after a page request; interrupted: {interrupted}")  # noqa: T201
    return interrupted


@pytest.mark.parametrize("_repetition", range(2))
def test_a_new_process_reaches_what_edx_shows_when_one_was_killed_at_any_moment(
    stage: Stage, healthy: HostProcess, host_without_pauses: Host, _repetition: int
) -> None:
    shelves = [stage.new_shelf() for _ in range(4)]
    began = time.monotonic()
    stage.assert_recovers(healthy, shelves)
    took_s = time.monotonic() - began
    for longest_s in (took_s / 2, took_s / 4, 0):  # at 0, no sync can have ended
        stage.change_all(shelves)
        if cut_syncs(stage, shelves, random.uniform(0, longest_s)):  # noqa: S311 - no secret
            break
    else:
        pytest.fail("no sync was interrupted")
    assert_recovers(stage, healthy, host_without_pauses, shelves)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_new_process_reaches_what_edx_shows_when_one_was_told_to_end_during_the_pull(
    stage: Stage, healthy: HostProcess, host_without_pauses: Host, number: signal.Signals
) -> None:
    shelf = stage.synced_shelf(healthy)
    with stage.host() as ended:
        call, page = stage.begin_held_sync(ended, shelf)
        ended.child.stop(number)
    page.set()
    assert call.exception() or call.result().status_code == 500
    assert_recovers(stage, healthy, host_without_pauses, [shelf])


def test_a_dead_lease_is_taken_over_within_a_minute_when_every_call_waits_for_five_seconds(
    stage: Stage, healthy: HostProcess
) -> None:
    shelf = stage.synced_shelf(healthy)
    with stage.host() as killed:
        _, page = stage.begin_held_sync(killed, shelf)
        killed.kill()
    page.set()
    with stage.host(SYNC_TIME_BUDGET_SECONDS="5") as host:
        stage.warm(host)
        began = time.monotonic()
        answers = [stage.ask(host, shelf)]
        while answers[-1].status_code != 200 and time.monotonic() - began < 90:
            answers.append(stage.ask(host, shelf))
        took_s = time.monotonic() - began
        began = time.monotonic()
        stage.ask(host, shelf)
        healthy_s = time.monotonic() - began
    for answered in answers[:-1]:
        assert_says(answered, 500, r"did not end within \d+ s", "is intact")
    assert len(answers) > 2
    assert_reached(answers[-1], stage.stored, shelf)
    assert took_s < 60 + healthy_s


@pytest.mark.parametrize("written", [1, 2])
def test_history_and_reports_tell_what_a_sync_did_when_it_was_killed_between_batches(
    stage: Stage, proxy: TableProxy, healthy: HostProcess, host_without_pauses: Host, written: int
) -> None:
    shelf = stage.new_shelf()
    for weeks in (4, 5):  # the second sync changes every run, in three batches
        shelf.replace(plain_course(shelf.id, number, weeks_to_complete=weeks) for number in range(250))
        stage.change(shelf)
        if weeks == 4:
            assert_reached(stage.ask(healthy, shelf), stage.stored, shelf)
    gate = Gate()
    proxy.on(gate, catalog=shelf.id, kind="write runs", after=written, times=1)
    with stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as killed:
        stage.begin_to_ask(killed, shelf)
        assert gate.reached.wait(60)
        killed.kill()
    gate.open(drop=True)
    assert_recovers(stage, healthy, host_without_pauses, [shelf])

    dead, *_ = [report for report in stage.stored.reports(shelf.id) if report["outcome"] == "failed"]
    assert "The process that ran this sync stopped before the sync ended" in dead["error"]
    entries = stage.admin.get(
        f"{healthy.url}/ExternalLinks/edXCourseruns/changes",
        params={"catalogId": str(shelf.id), "limit": "1000"},
        timeout=60,
    ).json()
    # The changes from the state before the killed sync to the state after the next one.
    before, now = ({run["courserunKey"]: run for run in stage.states[shelf.id][at]} for at in (1, -1))
    told = {entry["courserunKey"]: entry["kind"] for entry in entries if "courserunKey" in entry}
    assert len(told) == len(entries) - 1  # the first sync is one entry
    assert told == {
        **dict.fromkeys(now.keys() - before.keys(), "added"),
        **dict.fromkeys(before.keys() - now.keys(), "removed"),
        **{key: "changed" for key in now.keys() & before.keys() if now[key] != before[key]},
    }


def test_no_newer_state_is_overwritten_when_a_process_continues_that_was_suspended_at_any_request(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess], host_without_pauses: Host
) -> None:
    healthy, _ = hosts
    with stage.host(TABLES_CONNECTION_STRING=proxy.connection_string) as suspended:
        held = hold_requests(stage, proxy, hosts, suspended, first=0)
        shelves = [each.shelf for each in held]
        suspended.child.send_signal(signal.SIGSTOP)
        with stage.watched(healthy, shelves):
            stage.change_all(shelves)
            stage.assert_recovers(host_without_pauses, shelves)
            for each in held:
                each.gate.open()  # the requests of the suspended process take effect now
            time.sleep(0.5)
            suspended.child.send_signal(signal.SIGCONT)
            answers = [each.call.result() for each in held]
    for shelf, answered in zip(shelves, answers, strict=True):
        if answered.status_code == 200:
            assert_shows(answered, runs_of(shelf))
        else:
            assert_says(
                answered, 500, "another process now syncs this catalog|Table Storage at ", "is intact"
            )
        assert_reached(stage.ask(healthy, shelf, "only-if-cached"), stage.stored, shelf)
    assert {answered.status_code for answered in answers} == {200, 500}
    stage.change(shelves[0])
    stage.assert_recovers(healthy, shelves[:1])


def test_nothing_is_lost_and_the_next_sync_is_complete_when_the_time_runs_out_at_any_request(
    stage: Stage, proxy: TableProxy, hosts: tuple[HostProcess, HostProcess]
) -> None:
    healthy, _ = hosts
    hurried = {"TABLES_CONNECTION_STRING": proxy.connection_string, "SYNC_TIME_BUDGET_SECONDS": "3"}
    with stage.host(**hurried) as host:
        held = hold_requests(stage, proxy, hosts, host, first=0)
        shelves = [each.shelf for each in held]
        with stage.watched(healthy, shelves):
            for each in held:
                assert_says(each.call.result(), 500, r"did not end within \d+ s", "ask again later")
                each.gate.open()
            # The syncs continue without their callers, and succeed or fail.
            for shelf in shelves:
                stage.last_report(shelf, len(stage.states[shelf.id]))  # one report per state that was pulled
            stage.change_all(shelves)
            stage.assert_recovers(healthy, shelves)
