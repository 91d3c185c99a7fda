"""Callers, processes and timers that sync a catalog at the same time, each with its own deadline."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.host.process import HostProcess
from local.sandbox.faults import trickle
from shared.deadline import Deadline
from shared.errors import CatalogsFailed
from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import connect
from tests.faults.promise import assert_reached, assert_says
from tests.faults.stage import Stage, wait_until
from tests.table_proxy import TableProxy


@pytest.fixture
def hurried(stage: Stage) -> Iterator[HostProcess]:
    """A process whose callers wait for two seconds."""
    with stage.host(SYNC_TIME_BUDGET_SECONDS="2") as host:
        stage.warm(host)
        yield host


def test_other_callers_get_their_answer_when_the_one_that_started_the_sync_has_a_short_deadline(
    stage: Stage, proxy: TableProxy, proxied: HostProcess, hurried: HostProcess
) -> None:
    shelf = stage.synced_shelf(proxied)
    first = stage.begin_held_sync(hurried, shelf)
    proxy.requests.clear()
    patient = [stage.begin_to_ask(host, shelf) for host in (proxied, proxied)]
    wait_until(lambda: Counter(proxy.kinds(shelf.id)) >= Counter({"read head": 2, "read lease": 1}))
    says = r"did not end within \d+ s and continues"
    assert_says(first.call.result(), 500, f"Catalog {shelf.id}", says)
    assert not any(call.done() for call in patient)
    first.page.set()
    for call in patient:
        assert_reached(call.result(), stage.stored, shelf)
    assert stage.pulls_of(shelf) == 1
    stage.last_report(shelf)
    assert [report["outcome"] for report in stage.stored.reports(shelf.id)] == ["ok", "ok"]


def test_all_other_catalogs_are_synced_in_four_timer_runs_when_one_catalog_never_ends(
    stage: Stage, healthy: HostProcess
) -> None:
    trickling, *others = [stage.synced_shelf(healthy) for _ in range(3)]
    ids = ",".join(str(shelf.id) for shelf in (trickling, *others))
    rounds = connect(Outbox(), {**stage.settings, "EDX_CATALOG_IDS": ids}).rounds

    def run_timer(time_s: float) -> None:
        asyncio.run(rounds.sync_all(Origin("timer"), Deadline.after(time_s), lambda _line: None))

    run_timer(60)  # opens the connections
    stage.edx.on(f"/catalogs/{trickling.id}/courses/", trickle("body", 0.2))
    stage.change(trickling)
    for _ in range(4):
        stage.change_all(others)
        with pytest.raises(CatalogsFailed, match=f"Catalog {trickling.id} .* continues") as failed:
            run_timer(7.5)
        assert failed.value.failures.keys() == {trickling.id}
        for shelf in others:
            assert_reached(stage.ask(healthy, shelf, "only-if-cached"), stage.stored, shelf)
    assert stage.ask(healthy, trickling, "only-if-cached").json() == stage.states[trickling.id][1]


def test_the_caller_is_told_to_ask_again_when_its_time_runs_out_while_another_process_syncs(
    stage: Stage, healthy: HostProcess, hurried: HostProcess
) -> None:
    shelf = stage.synced_shelf(healthy)
    running = stage.begin_held_sync(healthy, shelf)
    answered = stage.ask(hurried, shelf)
    assert not running.call.done()
    running.page.set()
    assert_says(answered, 500, f"Catalog {shelf.id}", r"did not end within \d+ s", "is intact")
    assert_reached(running.call.result(), stage.stored, shelf)
    assert stage.pulls_of(shelf) == 1


def test_one_pull_serves_both_when_two_processes_are_asked_at_once(
    stage: Stage, healthy: HostProcess
) -> None:
    with stage.host() as other:
        shelf = stage.synced_shelf(healthy)
        calls = [stage.begin_to_ask(host, shelf) for host in (healthy, other, healthy, other)]
        answers = [call.result() for call in calls]
    for answered in answers:
        assert_reached(answered, stage.stored, shelf)
    assert len({answered.headers["ETag"] for answered in answers}) == 1
    assert stage.pulls_of(shelf) == 1
    stage.last_report(shelf)
    assert len(stage.stored.reports(shelf.id)) == 2


def test_no_two_pulls_of_a_catalog_overlap_when_the_timer_fires_twice_at_once_and_past_due(
    stage: Stage, healthy: HostProcess
) -> None:
    shelves = [stage.synced_shelf(healthy) for _ in range(2)]
    catalogs = {"EDX_CATALOG_IDS": ",".join(str(shelf.id) for shelf in shelves)}
    with stage.host(**catalogs) as one, stage.host(**catalogs) as other, ThreadPoolExecutor() as threads:
        stage.edx.forget_requests()
        fired = [
            threads.submit(host.fire, "sync_course_runs", past_due=past_due)
            for host, past_due in ((one, False), (one, True), (other, True))
        ]
        for each in fired:
            each.result()
        assert "The timer is past due" in one.log
        answers = stage.ask_all(one, shelves)
    for shelf, answered in zip(shelves, answers, strict=True):
        assert_reached(answered, stage.stored, shelf)
        # A call that comes too late to share a sync may start the next one, after the first has ended.
        pulls = stage.pulls_of(shelf)
        stage.last_report(shelf, number=1 + pulls)
        assert pulls == len(stage.stored.reports(shelf.id)) - 1
