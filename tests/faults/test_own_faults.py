"""Faults of our own: processes killed, stopped and woken, beside one another, out of time, with odd clocks.

A sync is broken at every one of its storage requests: the proxy in front of storage holds one request of each
catalog, the process is hit when all are held, and the held ones are lost or take effect afterwards.
"""

import asyncio
import json
import logging
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from local.host.process import HostProcess
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import slow, trickle
from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.query import Question
from shared.errors import CatalogsFailed
from shared.serving.answering import Answering, Reader
from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import connect
from tests.faults.promise import assert_reached, assert_says, assert_shows, plain_course, runs_of
from tests.faults.stage import Stage, wait_until
from tests.table_proxy import Gate, TableProxy

LAST_OF_A_SYNC = "find old reports"


class Held(NamedTuple):
    """A sync that waits in the middle: its catalog, the request that is held, and the caller's call."""

    shelf: Catalog
    kind: str
    gate: Gate
    call: "Future[requests.Response]"


def requests_of_a_sync(stage: Stage, proxy: TableProxy, host: HostProcess, shelf: Catalog) -> list[str]:
    """Return the kinds of storage requests that a sync makes of a catalog, the caller's own ones left out."""
    proxy.requests.clear()
    stage.ask(host, shelf)
    kinds = proxy.kinds(shelf.id)
    return kinds[1 : kinds.index(LAST_OF_A_SYNC) + 1]


def hold_requests(
    stage: Stage, proxy: TableProxy, healthy: HostProcess, host: HostProcess, *, first: int
) -> list[Held]:
    """Begin many syncs, first ones and later ones, and hold each at another of its storage requests.

    Every second request, from `first` on: held for more than ten seconds, a request would be sent again.
    """
    new, known = stage.new_shelf(), stage.synced_shelf(healthy)
    shelves = []
    for kinds, is_first in (
        (requests_of_a_sync(stage, proxy, host, new), True),
        (requests_of_a_sync(stage, proxy, host, known), False),
    ):
        for position, kind in list(enumerate(kinds, 1))[first::2]:
            shelf = stage.new_shelf() if is_first else stage.synced_shelf(healthy)
            shelves.append((shelf, position, kind))
    held = []
    for shelf, position, kind in shelves:
        gate = Gate()
        proxy.on(gate, catalog=shelf.id, after=position, times=1)
        held.append(Held(shelf, kind, gate, stage.begin_to_ask(host, shelf)))
    for each in held:
        assert each.gate.reached.wait(60), each.kind
    return held


def large_shelf(stage: Stage, healthy: HostProcess) -> Catalog:
    """Show one more catalog, let it be synced, and change every run of it: three batches to write."""
    shelf = stage.new_shelf()
    for weeks in (4, 5):
        shelf.replace(plain_course(shelf.id, number, weeks_to_complete=weeks) for number in range(250))
        stage.change(shelf)
        if weeks == 4:
            assert_reached(stage.ask(healthy, shelf), stage.stored, shelf)
    return shelf


def hold_between_batches(
    stage: Stage, proxy: TableProxy, shelves: list[Catalog], host: HostProcess
) -> list[Held]:
    """Begin syncs of large catalogs, and hold them at another batch of runs each but the first."""
    held = []
    for batches, shelf in enumerate(shelves, 1):
        gate = Gate()
        proxy.on(gate, catalog=shelf.id, kind="write runs", after=batches, times=1)
        held.append(Held(shelf, "write runs", gate, stage.begin_to_ask(host, shelf)))
    for each in held:
        assert each.gate.reached.wait(60), each.kind
    return held


class ShortCalls(NamedTuple):
    """Calls of a few seconds for a catalog whose sync was killed: their answers, and the time until a 200."""

    shelf: Catalog
    answers: list[requests.Response]
    took_s: float


class Hit(NamedTuple):
    """Syncs whose process was hit, and how healthy ones of the same catalogs were answered afterwards."""

    killed: list[Held]
    killed_anywhere: list[Catalog]
    told_to_end: list[Catalog]
    stopped: list[Held]
    answers: dict[int, requests.Response]
    healed_within_s: float
    short_calls: ShortCalls


@pytest.fixture(scope="module")
def hit(stage: Stage, proxy: TableProxy, healthy: HostProcess) -> Iterator[Hit]:
    """Processes killed at every request and at random, one stopped at every request; then healing at once.

    At once, because each catalog has to wait until the lease of its dead or silent holder has run out.
    """
    proxied = {"TABLES_CONNECTION_STRING": proxy.connection_string}
    killed_anywhere = [stage.synced_shelf(healthy) for _ in range(8)]
    for catalogs in (killed_anywhere[:4], killed_anywhere[4:]):
        kill_at_random(stage, catalogs)
    told_to_end = end_in_mid_pull(stage, healthy)
    large = [large_shelf(stage, healthy) for _ in range(2)]
    # A process is hit as soon as its requests are held: after ten seconds it would repeat them.
    to_kill: list[Held] = []
    for hold in (
        partial(hold_requests, stage, proxy, healthy, first=0),
        partial(hold_requests, stage, proxy, healthy, first=1),
        partial(hold_between_batches, stage, proxy, large),
    ):
        with stage.host(**proxied) as killed:
            held_now = hold(killed)
            killed.kill()
            for number, held in enumerate(held_now):
                held.gate.open(drop=number % 2 == 0)
        to_kill += held_now
    asked_briefly = to_kill.pop().shelf
    with stage.host(**proxied) as stopped, stage.host(SYNC_TIME_BUDGET_SECONDS="5") as brief:
        to_stop = hold_requests(stage, proxy, healthy, stopped, first=0)
        stopped.child.send_signal(signal.SIGSTOP)
        hit = [held.shelf for held in (*to_kill, *to_stop)] + killed_anywhere + told_to_end
        with stage.watched(healthy, hit):
            for shelf in hit:
                stage.change(shelf)
            began = time.monotonic()
            with ThreadPoolExecutor(1) as thread:
                short_calls = thread.submit(call_briefly, stage, brief, asked_briefly)
                answers = stage.ask_all(healthy, hit)
                healed_within_s = time.monotonic() - began
            for held in to_stop:
                held.gate.open()  # what the stopped process had sent arrives now
            time.sleep(0.5)
            stopped.child.send_signal(signal.SIGCONT)
            for held in to_stop:
                held.call.result()
        by_catalog = dict(zip((shelf.id for shelf in hit), answers, strict=True))
        yield Hit(
            to_kill, killed_anywhere, told_to_end, to_stop, by_catalog, healed_within_s, short_calls.result()
        )


def call_briefly(stage: Stage, brief: HostProcess, shelf: Catalog) -> ShortCalls:
    began = time.monotonic()
    answers = [stage.ask(brief, shelf)]
    while answers[-1].status_code != 200 and time.monotonic() - began < 90:
        answers.append(stage.ask(brief, shelf))
    return ShortCalls(shelf, answers, time.monotonic() - began)


def kill_at_random(stage: Stage, shelves: list[Catalog]) -> None:
    with stage.host() as host:
        calls = [stage.begin_to_ask(host, shelf) for shelf in shelves]
        moment_s = random.uniform(0, 1)  # noqa: S311 - no secret
        logging.getLogger(__name__).info("Killed after %s s", moment_s)  # shown when a test fails
        time.sleep(moment_s)
        host.kill()
        for call in calls:
            call.exception()


def end_in_mid_pull(stage: Stage, healthy: HostProcess) -> list[Catalog]:
    """Tell two processes to end, as Ctrl-C and the platform do, while they wait for a page of edX's."""
    shelves = [stage.synced_shelf(healthy) for _ in range(2)]
    with stage.host() as one, stage.host() as other:
        held = [
            stage.edx.on(f"/catalogs/{shelf.id}/courses/", slow(20), offset=5, times=1) for shelf in shelves
        ]
        calls = [stage.begin_to_ask(host, shelf) for host, shelf in zip((one, other), shelves, strict=True)]
        wait_until(lambda: all(rule.fired for rule in held))
        one.child.send_signal(signal.SIGINT)
        other.child.send_signal(signal.SIGTERM)
        for host in (one, other):
            host.child.wait(10)
        for call in calls:
            assert call.exception() or call.result().status_code == 500
    return shelves


def test_a_new_process_reaches_what_edx_shows_within_a_minute_when_one_was_killed_at_any_request(
    hit: Hit, stage: Stage
) -> None:
    assert len(hit.killed) > 20
    for held in hit.killed:
        assert held.call.exception(), held.kind
        assert_reached(hit.answers[held.shelf.id], stage.stored, held.shelf)
    assert hit.healed_within_s < 60


def test_a_dead_lease_is_taken_over_within_a_minute_when_every_call_waits_for_five_seconds(
    hit: Hit, stage: Stage
) -> None:
    shelf, answers, took_s = hit.short_calls
    for answered in answers[:-1]:
        assert_says(answered, 500, "did not end within 5 s", "is intact")
    assert len(answers) > 2
    assert_reached(answers[-1], stage.stored, shelf)
    assert took_s < 60


def test_history_and_reports_tell_what_a_sync_did_when_it_was_killed_between_batches(
    hit: Hit, stage: Stage, healthy: HostProcess
) -> None:
    shelf = hit.short_calls.shelf
    dead, *_ = [report for report in stage.stored.reports(shelf.id) if report["outcome"] == "failed"]
    assert "The process that ran this sync stopped before the sync ended" in dead["error"]
    entries = stage.admin.get(
        f"{healthy.url}/ExternalLinks/edXCourseruns/changes",
        params={"catalogId": str(shelf.id), "limit": "1000"},
        timeout=60,
    ).json()
    before, now = ({run["courserunKey"]: run for run in state} for state in stage.states[shelf.id][-2:])
    told = {entry["courserunKey"]: entry["kind"] for entry in entries if "courserunKey" in entry}
    assert len(told) == len(entries) - 1  # the first sync is one entry
    assert told == {
        **dict.fromkeys(now.keys() - before.keys(), "added"),
        **dict.fromkeys(before.keys() - now.keys(), "removed"),
        **{key: "changed" for key in now.keys() & before.keys() if now[key] != before[key]},
    }


def test_a_new_process_reaches_what_edx_shows_when_one_was_killed_at_any_moment(
    hit: Hit, stage: Stage
) -> None:
    for shelf in hit.killed_anywhere:
        assert_reached(hit.answers[shelf.id], stage.stored, shelf)


def test_a_new_process_reaches_what_edx_shows_when_one_was_told_to_end_in_mid_pull(
    hit: Hit, stage: Stage
) -> None:
    for shelf in hit.told_to_end:
        assert_reached(hit.answers[shelf.id], stage.stored, shelf)


def test_nothing_newer_is_written_over_when_a_process_wakes_up_that_was_stopped_at_any_request(
    hit: Hit, stage: Stage, healthy: HostProcess
) -> None:
    for held in hit.stopped:
        shelf, answered = held.shelf, held.call.result()
        assert_shows(hit.answers[shelf.id], runs_of(shelf))
        if answered.status_code != 200:
            assert_says(answered, 500, "another process has taken over|Table Storage at ", "is intact")
        else:
            assert_shows(answered, runs_of(shelf))
        assert_reached(stage.ask(healthy, shelf, "only-if-cached"), stage.stored, shelf)
    assert {held.call.result().status_code for held in hit.stopped} == {200, 500}
    stage.change(hit.stopped[0].shelf)
    stage.assert_heals(healthy, [hit.stopped[0].shelf])


def test_nothing_is_lost_and_the_next_sync_is_whole_when_the_time_runs_out_at_any_request(
    stage: Stage, proxy: TableProxy, healthy: HostProcess
) -> None:
    hurried = {"TABLES_CONNECTION_STRING": proxy.connection_string, "SYNC_TIME_BUDGET_SECONDS": "2"}
    with stage.host(**hurried) as host:
        held = hold_requests(stage, proxy, healthy, host, first=0)
        shelves = [each.shelf for each in held]
        with stage.watched(healthy, shelves):
            for each in held:
                assert_says(each.call.result(), 500, "did not end within 2 s", "ask again later")
                each.gate.open()
            # The syncs go on by themselves, to one end or the other.
            for shelf in shelves:
                stage.last_report(shelf, len(stage.states[shelf.id]))  # one of each state that was pulled
            for shelf in shelves:
                stage.change(shelf)
            stage.assert_heals(healthy, shelves)


def test_a_caller_in_a_hurry_harms_nobody_when_others_wait_for_the_sync_that_it_began(
    stage: Stage, healthy: HostProcess
) -> None:
    shelf = stage.synced_shelf(healthy)
    held = stage.edx.on(f"/catalogs/{shelf.id}/courses/", slow(4), offset=5, times=1)
    with stage.host(SYNC_TIME_BUDGET_SECONDS="1") as hurried:
        in_a_hurry = stage.begin_to_ask(hurried, shelf)
        wait_until(lambda: held.fired)
        patient = [stage.begin_to_ask(host, shelf) for host in (healthy, healthy)]
        assert_says(in_a_hurry.result(), 500, f"Catalog {shelf.id}", "did not end within 1 s and continues")
        for call in patient:
            assert_reached(call.result(), stage.stored, shelf)
    assert pulls(stage, shelf) == 1
    assert [report["outcome"] for report in stage.stored.reports(shelf.id)] == ["ok", "ok"]


def test_no_catalog_starves_over_four_timer_runs_when_the_answers_of_another_trickle(
    stage: Stage, healthy: HostProcess
) -> None:
    trickling, *others = [stage.synced_shelf(healthy) for _ in range(3)]
    stage.edx.on(f"/catalogs/{trickling.id}/courses/", trickle("body", 0.2))
    ids = ",".join(str(shelf.id) for shelf in (trickling, *others))
    rounds = connect(Outbox(), {**stage.settings, "EDX_CATALOG_IDS": ids}).rounds
    for _ in range(4):
        for shelf in others:
            stage.change(shelf)
        with pytest.raises(CatalogsFailed, match=f"Catalog {trickling.id} .* continues") as failed:
            asyncio.run(rounds.sync_all(Origin("timer"), Deadline.after(6), lambda _line: None))
        assert failed.value.failures.keys() == {trickling.id}
        for shelf in others:
            assert_reached(stage.ask(healthy, shelf, "only-if-cached"), stage.stored, shelf)
    assert stage.ask(healthy, trickling, "only-if-cached").json() == stage.states[trickling.id][0]


def test_a_caller_is_told_to_come_back_when_the_time_runs_out_while_another_process_syncs(
    stage: Stage, healthy: HostProcess
) -> None:
    shelf = stage.synced_shelf(healthy)
    held = stage.edx.on(f"/catalogs/{shelf.id}/courses/", slow(4), offset=5, times=1)
    with stage.host(SYNC_TIME_BUDGET_SECONDS="1") as hurried:
        running = stage.begin_to_ask(healthy, shelf)
        wait_until(lambda: held.fired)
        answered = stage.ask(hurried, shelf)
    assert not running.done()
    assert_says(answered, 500, f"Catalog {shelf.id}", "did not end within 1 s", "is intact")
    assert_reached(running.result(), stage.stored, shelf)
    assert pulls(stage, shelf) == 1


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
    assert pulls(stage, shelf) == 1
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
        # One that came too late to share a sync may begin the next one, but not before the first has ended.
        assert pulls(stage, shelf) == len(stage.stored.reports(shelf.id)) - 1


def pulls(stage: Stage, shelf: Catalog) -> int:
    """Return how often a catalog of three pages was pulled; no two pulls overlapped."""
    pages = stage.edx.requests_to(f"/catalogs/{shelf.id}/courses/")
    offsets = [page.offset for page in pages]
    whole = [sorted(offsets[at : at + 3]) for at in range(0, len(offsets), 3)]
    assert whole == [[0, 5, 10]] * len(whole)
    return len(whole)


SHIFTED_CLOCK = """
import datetime, time

_real, _time, _shift_s = datetime.datetime, time.time, {shift_s}

class _Kind(type(_real)):  # who asks whether a moment is one means the real class
    def __instancecheck__(cls, value):
        return isinstance(value, _real) if cls is _Shifted else type.__instancecheck__(cls, value)

class _Shifted(_real, metaclass=_Kind):
    def __new__(cls, *args, **kwargs):
        return _real.__new__(_real if cls is _Shifted else cls, *args, **kwargs)

    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + datetime.timedelta(seconds=_shift_s)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

datetime.datetime = _Shifted
time.time = lambda: _time() + _shift_s
"""


def test_answers_stay_true_when_the_clocks_of_two_processes_differ_by_14_minutes(
    stage: Stage, healthy: HostProcess, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(shift_s=-14 * 60))
    # A token from long ago, so that the slow one believes that it is valid already.
    stage.admin.headers["Authorization"] = f"Bearer {stage.edx.mint(nbf=0, iat=0)}"
    with stage.host(PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}") as slow:
        shelf = stage.synced_shelf(healthy)
        with stage.watched(healthy, [shelf]), stage.watched(slow, [shelf]):
            for host, other, age_s in ((slow, healthy, 14 * 60), (healthy, slow, 0)) * 2:
                stage.change(shelf)
                assert_reached(stage.ask(host, shelf), stage.stored, shelf)
                cached = stage.ask(other, shelf, "only-if-cached")
                assert_shows(cached, runs_of(shelf))
                assert age_s <= int(cached.headers["Age"]) < age_s + 10
                # As the other cannot tell how old it is, it does not take it for fresh.
                stage.change(shelf)
                assert_reached(stage.ask(other, shelf, "max-age=600"), stage.stored, shelf)


def test_freshness_is_off_by_no_more_than_the_clocks_when_one_is_ahead_and_one_behind(
    stage: Stage, healthy: HostProcess
) -> None:
    shelf = stage.synced_shelf(healthy)
    catalogues = [at_clock(stage, shelf, shift) for shift in (TEN_MINUTES, -TEN_MINUTES)]
    for _ in range(2):
        for syncing, other in (catalogues, catalogues[::-1]):
            stage.change(shelf)
            tag, age_s, body = ask_here(syncing, "no-cache")
            assert body == stage.states[shelf.id][-1]
            assert 0 <= age_s <= 2
            # The other believes it 20 minutes from now, in the past or in the future: too far to be fresh.
            other_tag, age_s, body = ask_here(other, "only-if-cached")
            assert (other_tag, body) == (tag, stage.states[shelf.id][-1])
            assert 0 <= age_s <= 2 * TEN_MINUTES.total_seconds() + 10
            stage.edx.forget_requests()
            ask_here(syncing, "max-age=60")
            assert pulls(stage, shelf) == 0
            ask_here(other, "max-age=600")
            assert pulls(stage, shelf) == 1
    assert_shows(stage.ask(healthy, shelf), runs_of(shelf))


TEN_MINUTES = timedelta(minutes=10)


def at_clock(stage: Stage, shelf: Catalog, shift: timedelta) -> Answering:
    """Make the connector of a process whose clock goes wrong by so much."""
    settings = {**stage.settings, "EDX_CATALOG_IDS": str(shelf.id)}
    return connect(Outbox(), settings, now=lambda: datetime.now(UTC) + shift).answering


def ask_here(answering: Answering, cache_control: str) -> tuple[str, int, Any]:
    """Ask a connector in this process, and return tag, age in seconds and body."""
    question = Question(None, None, parse_freshness(cache_control))
    answer = asyncio.run(
        answering.answer(question, Reader(takes_gzip=False), Origin("http"), Deadline.after(60))
    )
    assert answer.body is not None
    return answer.tag, answer.age_s, json.loads(answer.body)
