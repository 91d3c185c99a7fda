"""Many clients call at once while edX changes and syncs run: answers are asserted, times only printed."""

import hashlib
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import pytest
import requests

from local.host.process import HostProcess
from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog, StoredCourse
from local.sandbox.http import Exchange, Reply
from tests.faults.promise import (
    NEVER,
    Stored,
    ask,
    assert_reached,
    assert_shows,
    body_of,
    plain_course,
    runs_of,
)

RUNS = 5000
PAGE = 100
CLIENTS = 50
LOAD_S = 8.0
PATIENCE_S = 60.0
"""How much longer the load lasts at most on a busy machine."""
WAYS = ("no-cache", "max-age=1", "max-age=0", "only-if-cached", "only-if-cached", "")
"""The Cache-Control headers that clients send; without one, data of the last 15 minutes is fresh."""


class Call(NamedTuple):
    """A call of a client: its request, the answer and the time it took.

    `state_before` and `state_after` are the states that edX showed when it began and when it ended.
    """

    way: str
    status: int
    tag: str
    sha: str  # of the body; empty for a 304
    seconds: float
    state_before: int
    state_after: int
    age_s: int


@cache
def course(number: int, weeks: int) -> StoredCourse:
    made = plain_course(1, number, end=NEVER, weeks_to_complete=weeks)
    return StoredCourse(made["key"], json.dumps(made).encode())


def shelf_at(state: int) -> Catalog:
    """Return the catalog in a state; after the state before, a course left, one joined and 20 changed."""
    numbers = range(state, state + RUNS)
    return Catalog(1, "Load", [course(number, 4 + (0 if number % 250 else state)) for number in numbers])


class Changing:
    """An edX that changes at the first page of each pull, so that no pull mixes two states."""

    def __init__(self, edx: Sandbox) -> None:
        self.state = 0
        self._edx = edx
        edx.catalogs = {1: shelf_at(0)}
        edx.on("/catalogs/1/courses/", self._next, offset=0, after=1)

    def _next(self, exchange: Exchange, _reply: Reply) -> Reply:
        following = shelf_at(self.state + 1)
        self._edx.catalogs[1] = following
        self.state += 1
        return Reply(following.page(exchange.request))


@pytest.fixture
def hosts(sandbox: Sandbox, settings: dict[str, str]) -> Iterator[tuple[HostProcess, HostProcess]]:
    """Two processes with one storage, as on the platform."""
    sandbox.catalogs = {1: shelf_at(0)}
    settings |= {"EDX_CATALOG_IDS": "1", "EDX_PAGE_SIZE": str(PAGE)}
    with HostProcess(settings) as one, HostProcess(settings) as other:
        yield one, other


class Client:
    """One of many callers; `bodies` collects the first body of each ETag that any of them received."""

    def __init__(
        self, number: int, url: str, admin: requests.Session, changing: Changing, bodies: dict[str, bytes]
    ) -> None:
        self._bodies = bodies
        self._url = f"{url}/ExternalLinks/edXCourseruns"
        self._changing = changing
        self._random = random.Random(number)  # noqa: S311 - which call comes next is no secret
        self._session = requests.Session()
        self._session.trust_env = False  # a .netrc would replace the token
        self._session.headers.update(admin.headers)

    def run(self, until: float) -> list[Call]:
        """Keep calling until a time on the monotonic clock, or longer until edX has changed twice."""
        calls: list[Call] = []
        with self._session:
            while time.monotonic() < until + (0 if self._changing.state > 1 else PATIENCE_S):
                calls.append(self._call(calls[-1].tag if calls else ""))
        return calls

    def _call(self, known_tag: str) -> Call:
        way = self._random.choice(WAYS)
        headers = {"Accept-Encoding": self._random.choice(("gzip", "identity"))}
        if way:
            headers["Cache-Control"] = way
        if known_tag and self._random.random() < 0.5:
            headers["If-None-Match"] = known_tag
        before, began = self._changing.state, time.monotonic()
        answer = self._session.get(self._url, headers=headers, timeout=60)
        took_s = time.monotonic() - began
        tag = answer.headers.get("ETag", answer.text[:200])
        if answer.status_code == 200:
            compressed = answer.headers.get("Content-Encoding") == "gzip"
            assert compressed == (headers["Accept-Encoding"] == "gzip")
            self._bodies.setdefault(tag, answer.content)
        if answer.status_code == 304:
            assert answer.content == b""
            assert tag == headers["If-None-Match"]
        sha = hashlib.sha256(answer.content).hexdigest() if answer.content else ""
        age_s = int(answer.headers.get("Age", -1))
        return Call(way, answer.status_code, tag, sha, took_s, before, self._changing.state, age_s)


def states_by_tag(bodies: dict[str, bytes], states: int) -> dict[str, int]:
    """Return the state of each ETag, and assert that its body shows exactly that state."""
    by_tag = {}
    for tag, body in bodies.items():
        shown = json.loads(body)
        state = max(run["weeksToComplete"] for run in shown) - 4
        assert 0 <= state <= states
        assert shown == body_of(runs_of(shelf_at(state))), state
        by_tag[tag] = state
    assert len(set(by_tag.values())) == len(by_tag), "one state had two tags"
    return by_tag


def percentile_ms(seconds: list[float], percent: int) -> int:
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)])


def show(calls: list[Call], took_s: float, pulls: int) -> None:
    """Print the numbers for docs/reliability.md."""
    groups: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        groups["all"].append(call.seconds)
        groups[f"{call.way or 'default'}, {call.status}"].append(call.seconds)
    lines = [f"{len(calls)} calls in {took_s:.1f} s: {len(calls) / took_s:.0f} a second; {pulls} pulls"]
    for name, seconds in sorted(groups.items()):
        values = ", ".join(f"p{percent} {percentile_ms(seconds, percent)} ms" for percent in (50, 90, 99))
        lines.append(f"  {name}: {len(seconds)} calls, {values}, worst {1000 * max(seconds):.0f} ms")
    print("\n".join(["", *lines]))  # noqa: T201 - the numbers are for a reader; nothing is asserted of them


def assert_no_pull_twice(sandbox: Sandbox, pulls: int) -> None:
    """Assert that pulls did not overlap, and that each requested each page once."""
    offsets = [request.offset for request in sandbox.requests_to("/courses/")]
    assert len(offsets) == pulls * RUNS // PAGE
    for start in range(0, len(offsets), RUNS // PAGE):
        assert sorted(offsets[start : start + RUNS // PAGE]) == list(range(0, RUNS, PAGE))


def test_no_answer_is_wrong_or_mixed_when_50_clients_call_while_syncs_run(
    hosts: tuple[HostProcess, HostProcess], admin: requests.Session, sandbox: Sandbox, stored: Stored
) -> None:
    changing = Changing(sandbox)
    assert_shows(ask(hosts[0].url, admin), runs_of(shelf_at(0)))

    bodies: dict[str, bytes] = {}
    clients = [Client(number, hosts[number % 2].url, admin, changing, bodies) for number in range(CLIENTS)]
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        by_client = list(threads.map(lambda client: client.run(began + LOAD_S), clients))
    took_s = time.monotonic() - began
    calls = [call for calls in by_client for call in calls]
    show(calls, took_s, changing.state)

    assert Counter(call.status for call in calls).keys() == {200, 304}, [
        call for call in calls if call.status not in {200, 304}
    ][:3]
    # Two bodies with one ETag, or one body with two ETags, would be two pairs.
    pairs = {(call.tag, call.sha) for call in calls if call.sha}
    assert len(pairs) == len(bodies) == len({sha for _, sha in pairs})
    shown = states_by_tag(bodies, changing.state)
    for of_client in by_client:
        states = [shown[call.tag] for call in of_client]
        assert states == sorted(states), "a client saw an older state after a newer one"
    for call in calls:
        assert shown[call.tag] <= call.state_after
        assert call.age_s >= 0
        if call.way in {"no-cache", "max-age=0"}:
            assert shown[call.tag] >= call.state_before, "a forced answer is older than its question"
    assert len(shown) > 2, "edX changed under load"
    assert_no_pull_twice(sandbox, changing.state + 1)
    for host in hosts:
        assert "Unexpected" not in host.log
    assert_reached(ask(hosts[0].url, admin), stored, shelf_at(changing.state))
