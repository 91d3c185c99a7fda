"""Answers to requests: freshness, several catalogs, shared pulls, damaged states; with a fake clock."""

import asyncio
import gzip
import json
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

import pytest
from azure.data.tables import TableClient

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer, slow, throttle
from local.sandbox.http import Exchange, Reply
from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.published import unpack
from shared.domain.query import Question
from shared.edx.client import EdxClient
from shared.errors import (
    CatalogsFailed,
    ConnectorError,
    NotFound,
    StorageError,
    SyncError,
    SyncUnfinished,
)
from shared.serving.answering import Answer, Reader
from shared.serving.outbox import Outbox
from shared.settings import connector_settings
from shared.storage.store import CatalogStore
from shared.storage.tables import Tables
from shared.sync.run import Origin
from shared.wiring import Connector, connect
from tests.builders import make_course, make_run
from tests.clock import Clock
from tests.table_proxy import TableProxy, delay
from tests.table_proxy import answer as refusal

ONE = "course-v1:NUSx+ONE+1"
TWO = "course-v1:NUSx+TWO+1"
SHARED = "course-v1:NUSx+SHARED+1"


@pytest.fixture
def one() -> Catalog:
    return Catalog(
        1, "One", [make_course(make_run(key=ONE), key="NUSx+ONE"), shared_course("2026-11-11T00:00:00Z")]
    )


@pytest.fixture
def two() -> Catalog:
    return Catalog(
        2, "Two", [make_course(make_run(key=TWO), key="NUSx+TWO"), shared_course("2026-12-22T00:00:00Z")]
    )


def shared_course(end: str) -> dict[str, Any]:
    return make_course(make_run(key=SHARED, end=end), key="NUSx+SHARED")


@pytest.fixture
def sandbox(one: Catalog, two: Catalog) -> Iterator[Sandbox]:
    with Sandbox([one, two]) as sandbox:
        yield sandbox


Connect = Callable[..., Connector]


@pytest.fixture
def connected(proxied_tables: Tables, settings: dict[str, str], clock: Clock) -> Connect:
    """Build connectors as if each had its own process; by default stale data is never returned."""

    def build(catalog_ids: str = "1,2", **more_settings: str) -> Connector:
        environment = {
            **settings, "SYNC_STALE_IF_ERROR_SECONDS": "0", "EDX_CATALOG_IDS": catalog_ids, **more_settings,
        }  # fmt: skip
        edx = EdxClient(
            connector_settings(environment).edx,
            clock=clock.monotonic, now=clock.now, sleep=clock.sleep, random=lambda: 0.0,
        )  # fmt: skip
        return connect(
            Outbox(), environment, tables=proxied_tables, edx=edx, now=clock.now, clock=clock.monotonic,
            sleep=clock.sleep,
        )  # fmt: skip

    return build


@pytest.fixture
def connector(connected: Connect) -> Connector:
    return connected()


def asking(
    connector: Connector,
    cache_control: str = "",
    *,
    catalog: int | None = None,
    key: str | None = None,
    has: Callable[[str], bool] = lambda _tag: False,
    takes_gzip: bool = True,
) -> Coroutine[Any, Any, Answer]:
    question = Question(catalog, key, parse_freshness(cache_control))
    reader = Reader(has, takes_gzip)
    return connector.answering.answer(question, reader, Origin("http"), Deadline.after(60))


def ask(connector: Connector, cache_control: str = "", **question: Any) -> Answer:
    return asyncio.run(asking(connector, cache_control, **question))


def fire_timer(connector: Connector, invocation_id: str = "") -> None:
    asyncio.run(
        connector.rounds.sync_all(Origin("timer", invocation_id), Deadline.after(60), lambda _line: None)
    )


def text(answered: Answer) -> bytes:
    assert answered.body is not None
    return unpack(answered.body) if answered.is_gzip else answered.body


def content(answered: Answer) -> Any:
    return json.loads(text(answered))


def same(answered: Answer, before: Answer) -> bool:
    """Tell whether two answers have the same JSON of the same sync."""
    return (answered.tag, answered.age_s, answered.body) == (before.tag, before.age_s, before.body)


def ends(answered: Answer) -> dict[str, str]:
    """Return the day on which each run ends."""
    return {run["courserunKey"]: run["endDate"][:10] for run in content(answered)}


def pulls(sandbox: Sandbox) -> list[str]:
    return [request.path.split("/")[4] for request in sandbox.requests_to("/courses/")]


# Freshness


def test_every_catalog_is_synced_when_nothing_is_stored(connector: Connector, sandbox: Sandbox) -> None:
    assert ends(ask(connector)) == {ONE: "3000-01-01", SHARED: "2026-11-11", TWO: "3000-01-01"}
    assert pulls(sandbox) == ["1", "2"]


@pytest.mark.parametrize(
    ("cache_control", "age_s", "synced"),
    [
        ("", 899, False),
        ("", 900, True),
        ("max-age=60", 59.9, False),
        ("max-age=60", 60, True),
        ("max-age=86400", 5000, False),
        ("max-age=0", 0, True),
        ("no-cache", 0, True),
        ("no-cache, max-age=60", 0, True),
        ("only-if-cached", 10_000_000, False),
        ("no-cache, only-if-cached, max-age=0", 60, False),
    ],
)
def test_catalog_is_synced_when_it_is_older_than_the_request_allows(
    connector: Connector, sandbox: Sandbox, clock: Clock, cache_control: str, age_s: float, *, synced: bool
) -> None:
    ask(connector, catalog=1)
    clock.pass_s(age_s)
    sandbox.forget_requests()
    answered = ask(connector, cache_control, catalog=1)
    assert pulls(sandbox) == (["1"] if synced else [])
    assert answered.age_s == (0 if synced else int(age_s))


def test_catalog_is_synced_when_its_sync_is_far_in_the_future(
    connector: Connector, sandbox: Sandbox, clock: Clock
) -> None:
    ask(connector, catalog=1)
    sandbox.forget_requests()
    clock.pass_s(-100)
    assert ask(connector, catalog=1).age_s == 0
    assert pulls(sandbox) == []
    clock.pass_s(-1000)
    ask(connector, catalog=1)
    assert pulls(sandbox) == ["1"]


@pytest.mark.parametrize("catalog_ids", ["1,2", ""])
def test_edx_is_not_called_when_the_request_says_only_if_cached(
    connected: Connect, sandbox: Sandbox, catalog_ids: str
) -> None:
    with pytest.raises(SyncUnfinished):
        ask(connected(catalog_ids), "only-if-cached")
    assert sandbox.requests == []


def test_partial_array_is_never_served_when_a_catalog_has_not_been_synced(connector: Connector) -> None:
    ask(connector, catalog=1)
    with pytest.raises(SyncUnfinished, match="catalog 2"):
        ask(connector, "only-if-cached")


@pytest.mark.parametrize(
    ("cache_control", "served"),
    [
        ("max-age=0, stale-if-error=100", True),
        ("max-age=0, stale-if-error=99", False),
        ("no-cache, stale-if-error=100", True),
        ("no-cache", False),
        ("stale-if-error=3600, max-age=60", True),
    ],
)
def test_stored_answer_is_served_when_the_sync_fails_and_the_request_allows_its_age(
    connector: Connector, sandbox: Sandbox, clock: Clock, cache_control: str, *, served: bool
) -> None:
    before = ask(connector)
    clock.pass_s(100)
    sandbox.on("/courses/", answer(503))
    if served:
        assert same(ask(connector, cache_control), before._replace(age_s=100))
    else:
        with pytest.raises(SyncError, match="What was stored before is intact"):
            ask(connector, cache_control)


def test_stale_data_is_not_served_when_edx_no_longer_has_the_catalog(
    connector: Connector, sandbox: Sandbox
) -> None:
    ask(connector)
    sandbox.on("/courses/", answer(404))
    with pytest.raises(NotFound):
        ask(connector, "max-age=0, stale-if-error=100", catalog=1)


def test_stored_answer_is_served_by_default_when_the_sync_fails(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    connector = connected("1", SYNC_STALE_IF_ERROR_SECONDS="86400")
    before = ask(connector)
    clock.pass_s(1_000)
    sandbox.on("/courses/", answer(400))
    stale = ask(connector)
    assert same(stale, before._replace(age_s=1_000))
    assert stale.cache_status == "hit; ttl=-100; detail=edx-protocol-error"
    assert ask(connector, "max-age=60").cache_status == "hit; ttl=-940; detail=edx-protocol-error"
    held = ask(connector, "max-age=60", has=before.tag.__eq__)
    assert (held.body, held.age_s) == (None, 1_000)
    for never in ("no-cache", "stale-if-error=0", "stale-if-error=999"):
        with pytest.raises(SyncError, match="Catalog 1 could not be synced"):
            ask(connector, never)
    clock.pass_s(86_400 - 1_000 + 0.5)
    with pytest.raises(SyncError):
        ask(connector, "max-age=60")


def test_stored_answer_is_served_by_default_when_the_sync_does_not_end_in_time(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    before = ask(connected("1"))
    connector = connected("1", SYNC_STALE_IF_ERROR_SECONDS="86400", SYNC_TIME_BUDGET_SECONDS="1")
    clock.pass_s(1_000)
    sandbox.on("/courses/", slow(2))
    stale = ask(connector)
    assert same(stale, before._replace(age_s=1_000))
    assert stale.cache_status == "hit; ttl=-100; detail=sync-unfinished"
    while (later := ask(connector, "only-if-cached")).age_s:  # the sync continues
        sleep(0.1)
    assert later.cache_status == "hit; ttl=900"


def test_hidden_catalog_stays_not_found_when_the_failure_is_remembered(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    connector = connected("1", SYNC_STALE_IF_ERROR_SECONDS="86400")
    ask(connector)
    sandbox.on("/courses/", answer(404))
    clock.pass_s(1_000)
    for _ in range(4):
        with pytest.raises(NotFound, match=r"^the catalog is not found"):
            ask(connector)
    assert len(pulls(sandbox)) == 3  # the first, and two before it is remembered


def test_catalog_is_pulled_twice_and_then_only_for_eager_requests_when_its_syncs_fail(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    connector = connected("1", SYNC_STALE_IF_ERROR_SECONDS="86400")
    ask(connector)
    clock.pass_s(1_000)
    sandbox.forget_requests()
    sandbox.on("/courses/", answer(400))
    answers = [ask(connector) for _ in range(12)]
    assert pulls(sandbox) == ["1", "1"]
    assert [each.retry_at for each in answers[:2]] == [None, None]
    assert {each.retry_at for each in answers[2:]} == {clock.now() + timedelta(minutes=1)}
    assert {each.cache_status for each in answers} == {"hit; ttl=-100; detail=edx-protocol-error"}
    with pytest.raises(SyncError, match=r"Catalog 1 could not be synced: .*400") as failure:
        ask(connector, "stale-if-error=0")
    assert failure.value.retry_at == clock.now() + timedelta(minutes=1)
    assert len(pulls(sandbox)) == 2
    sandbox.rules.clear()
    assert ask(connector, "no-cache").cache_status == "fwd=stale; ttl=0"
    assert ask(connector).cache_status == "hit; ttl=900"


def test_error_is_raised_within_the_deadline_when_storage_hangs(
    connected: Connect, proxy: TableProxy
) -> None:
    connector = connected("1", SYNC_TIME_BUDGET_SECONDS="1")
    proxy.on(delay(30))
    began = monotonic()
    with pytest.raises(StorageError, match=r"^Table Storage could not be read within 5 s\. What was stored"):
        ask(connector)
    assert monotonic() - began < 6


def test_age_is_that_of_the_oldest_sync_shown(connector: Connector, clock: Clock) -> None:
    ask(connector)
    clock.pass_s(50)
    ask(connector, "no-cache", catalog=2)
    clock.pass_s(7.9)
    assert ask(connector).age_s == 57
    assert ask(connector, catalog=2).age_s == 7
    assert ask(connector, key=TWO).age_s == 7


# Several catalogs


def test_run_is_from_the_catalog_synced_last_then_the_lowest_id_when_two_have_it(
    connector: Connector, clock: Clock
) -> None:
    assert ends(ask(connector))[SHARED] == "2026-11-11"  # both synced at the same moment
    clock.pass_s(1)
    assert ends(ask(connector, "no-cache", catalog=2))[SHARED] == "2026-12-22"
    assert ends(ask(connector))[SHARED] == "2026-12-22"
    assert content(ask(connector, key=SHARED))["endDate"] == "2026-12-22T00:00:00Z"
    clock.pass_s(1)
    ask(connector, "no-cache", catalog=1)
    assert ends(ask(connector))[SHARED] == "2026-11-11"


def test_answer_is_one_array_sorted_by_key_when_it_covers_several_catalogs(connector: Connector) -> None:
    keys = [run["courserunKey"] for run in content(ask(connector))]
    assert keys == [ONE, SHARED, TWO]


def test_tag_is_unchanged_when_the_json_is_unchanged(
    connected: Connect, one: Catalog, two: Catalog, clock: Clock
) -> None:
    one.alter_run(SHARED, end="2026-12-22T00:00:00Z")
    connector = connected()
    first = ask(connector)
    clock.pass_s(5)
    assert same(ask(connector, "no-cache"), first)  # synced again
    clock.pass_s(5)
    ask(connector, "no-cache", catalog=2)  # the shared run comes from the other catalog now
    assert ask(connector).tag == first.tag
    assert ask(connected()).tag == first.tag  # another process
    two.alter_run(TWO, end="2027-01-01T00:00:00Z")
    assert ask(connector, "no-cache").tag != first.tag


def test_catalog_leaves_the_answer_and_keeps_its_runs_when_it_is_no_longer_ours(
    connected: Connect, store: CatalogStore, sandbox: Sandbox, clock: Clock
) -> None:
    connector = connected("")
    assert TWO in ends(ask(connector))
    sandbox.catalogs[2].viewers = ["somebody-else"]
    clock.pass_s(900)
    assert ends(ask(connector)) == {ONE: "3000-01-01", SHARED: "2026-11-11"}
    with pytest.raises(NotFound, match=r"^the catalog is not found$"):
        ask(connector, "only-if-cached", catalog=2)
    assert {stored.withdrawn_at for stored in store.runs(2)} == {None}
    assert len(list(store.runs(2))) == 2
    assert ends(ask(connected("1"))) == {ONE: "3000-01-01", SHARED: "2026-11-11"}


def test_answer_is_an_empty_array_when_edx_lists_no_catalog(connected: Connect, sandbox: Sandbox) -> None:
    sandbox.catalogs.clear()
    assert content(ask(connected(""))) == []


def test_other_catalogs_are_synced_and_the_answer_is_the_failure_when_one_catalog_fails(
    connector: Connector, store: CatalogStore, sandbox: Sandbox
) -> None:
    sandbox.on("/1/courses/", answer(500))
    with pytest.raises(
        SyncError, match=r"^Catalog 1 could not be synced: .*\. What was stored before is int"
    ):
        ask(connector)
    assert len(list(store.runs(2))) == 2
    assert len(content(ask(connector, "only-if-cached", catalog=2))) == 2


def test_failure_has_a_retry_time_when_one_of_several_catalogs_was_throttled(
    connector: Connector, sandbox: Sandbox, clock: Clock
) -> None:
    sandbox.on("/1/courses/", answer(404))
    sandbox.on("/2/courses/", throttle(3592))
    with pytest.raises(SyncError, match=r"Catalog 1 .* Catalog 2 ") as failure:
        ask(connector)
    assert failure.value.retry_at == clock.now() + timedelta(seconds=3592)


@pytest.mark.parametrize(("gone", "error"), [("/courses/", NotFound), ("/1/courses/", SyncError)])
def test_catalog_is_not_found_only_when_every_failure_says_so(
    connector: Connector, sandbox: Sandbox, gone: str, error: type[ConnectorError]
) -> None:
    sandbox.on(gone, answer(404))
    sandbox.on("/courses/", answer(500))
    with pytest.raises(error) as failure:
        ask(connector)
    assert isinstance(failure.value, NotFound) == (error is NotFound)


def test_catalog_is_not_found_when_it_is_not_configured(connector: Connector, sandbox: Sandbox) -> None:
    with pytest.raises(NotFound, match=r"^the catalog is not found$"):
        ask(connector, "no-cache", catalog=3)
    assert sandbox.requests == []


def test_list_of_catalogs_is_fetched_again_when_it_is_stale_and_lacks_the_catalog(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    connector = connected("")
    ask(connector)
    sandbox.catalogs[3] = Catalog(3, "New", [make_course(key="NUSx+THREE")])
    with pytest.raises(NotFound):
        ask(connector, catalog=3)
    assert len(ends(ask(connector, "no-cache", catalog=3))) == 1
    clock.pass_s(900)
    assert len(ends(ask(connector))) == 4


def test_known_catalogs_are_used_when_their_list_cannot_be_fetched_and_the_request_allows_it(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    connector = connected("")
    before = ask(connector)
    clock.pass_s(1000)
    sandbox.on("/catalogs/$", answer(500))
    with pytest.raises(SyncError, match="list of catalogs could not be fetched"):
        ask(connector)
    assert ask(connector, "stale-if-error=1000").tag == before.tag


def test_known_catalogs_are_returned_stale_when_their_list_takes_all_the_time_of_the_request(
    connected: Connect, sandbox: Sandbox, clock: Clock
) -> None:
    before = ask(connected(""))
    clock.pass_s(1000)
    sandbox.on("/catalogs/$", slow(3))
    stale = ask(connected("", SYNC_TIME_BUDGET_SECONDS="1"), "stale-if-error=2000")
    assert (stale.tag, stale.age_s) == (before.tag, 1000)


def test_storage_is_named_when_it_cannot_keep_the_list_of_catalogs(
    connected: Connect, proxy: TableProxy
) -> None:
    proxy.on(refusal(403, "AuthorizationFailure"), kind="write catalogs")
    with pytest.raises(StorageError, match=r"^Table Storage at \S+ refused our credentials"):
        ask(connected(""))


# One run


def test_one_run_has_the_same_bytes_as_in_the_array(connector: Connector) -> None:
    array = ask(connector)
    for key, line in zip([ONE, SHARED, TWO], text(array)[1:-1].split(b",\n"), strict=True):
        one = ask(connector, key=key)
        assert one.body == gzip.compress(line, mtime=0)  # the same bytes at any time
        assert text(one) == text(ask(connector, key=key, takes_gzip=False)) == line
        assert ask(connector, key=key, has=one.tag.__eq__).body is None


def test_run_is_found_by_its_key_or_with_plus_signs_instead_of_spaces(
    connector: Connector, one: Catalog
) -> None:
    both = [make_run(key="a b+c", min_effort=1), make_run(key="a+b+c", min_effort=2)]
    one.add(make_course(*both, key="NUSx+SPACES"))
    assert content(ask(connector, key="a b+c"))["minEffort"] == 1
    assert content(ask(connector, key="a+b+c"))["minEffort"] == 2
    assert content(ask(connector, key=ONE.replace("+", " ")))["courserunKey"] == ONE
    with pytest.raises(NotFound):
        ask(connector, key="a b c d")


def test_tag_of_one_run_changes_only_with_that_run(connector: Connector, one: Catalog) -> None:
    tags = {key: ask(connector, key=key).tag for key in (ONE, SHARED)}
    one.alter_run(ONE, end="2027-01-01T00:00:00Z")
    assert ask(connector, "no-cache", key=ONE).tag != tags[ONE]
    assert ask(connector, key=SHARED).tag == tags[SHARED]


def test_run_is_not_found_when_it_is_unknown_ended_withdrawn_or_in_another_catalog(
    connector: Connector, one: Catalog
) -> None:
    one.add(
        make_course(make_run(key="old", end="2026-03-01T12:00:00Z"), key="NUSx+OLD"),
        make_course(key="NUSx+W"),
    )
    ask(connector)
    one.remove("NUSx+W")
    ask(connector, "no-cache")
    for question in (
        {"key": "unknown"},
        {"key": "old"},
        {"key": "course-v1:NUSx+W+2T2026"},
        {"key": ONE.upper()},
        {"key": TWO, "catalog": 1},
    ):
        with pytest.raises(NotFound, match=r"^the course run is not found$"):
            ask(connector, **question)


# Time


def test_answer_follows_the_clock_without_a_sync(
    connected: Connect, one: Catalog, sandbox: Sandbox, proxy: TableProxy, clock: Clock
) -> None:
    one.alter_run(ONE, start="2026-03-01T12:00:10Z", end="2026-03-01T12:00:20Z")
    connector = connected("1")
    first = ask(connector)
    sandbox.forget_requests()
    proxy.requests.clear()
    tags = [first.tag]
    for seconds, availability in ((9.9, "Upcoming"), (0.1, "Current"), (9.9, "Current"), (0.1, None)):
        clock.pass_s(seconds)
        for each in (connector, connected("1")):  # with and without a memory
            assert {run["courserunKey"]: run["availability"] for run in content(ask(each))}.get(
                ONE
            ) == availability
            tags.append(ask(each, has=lambda tag: tag == tags[-1]).tag)
    assert tags[1:] == [*tags[:1] * 2, *tags[3:4] * 4, *tags[7:8] * 2]
    assert len(set(tags)) == 3
    assert sandbox.requests == []
    assert {request.method for request in proxy.requests} == {"GET"}


# Cost


@pytest.mark.parametrize("catalog_ids", ["1", ""])
def test_answer_reads_only_single_rows_when_the_caller_has_it(
    connected: Connect, proxy: TableProxy, sandbox: Sandbox, catalog_ids: str
) -> None:
    sandbox.catalogs.pop(2)
    first = ask(connected(catalog_ids))
    proxy.requests.clear()
    again = ask(connected(catalog_ids), has=first.tag.__eq__)
    assert same(again, first._replace(body=None))
    assert proxy.entities() == (["published"] if catalog_ids else ["catalogs", "published"])
    assert {request.method for request in proxy.requests} == {"GET"}
    assert proxy.queries() == []


def test_body_is_read_once_when_nothing_changed(connector: Connector, proxy: TableProxy) -> None:
    ask(connector)
    ask(connector)
    proxy.requests.clear()
    ask(connector)
    assert proxy.entities() == ["published", "published"]


# Concurrent callers


def test_callers_share_one_pull_when_they_call_at_the_same_time(
    connector: Connector, sandbox: Sandbox
) -> None:
    sandbox.on("/courses/", slow(0.2))

    async def together() -> list[Answer]:
        return await asyncio.gather(*(asking(connector, "no-cache") for _ in range(10)))

    answers = asyncio.run(together())
    assert len(set(answers)) == 1
    assert pulls(sandbox) == ["1", "2"]


def test_processes_share_one_pull_when_they_are_called_at_the_same_time(
    connected: Connect, sandbox: Sandbox
) -> None:
    sandbox.on("/courses/", slow(0.7))
    processes = [connected("1"), connected("1")]
    with ThreadPoolExecutor(2) as callers:
        first, second = callers.map(lambda process: ask(process, "no-cache"), processes)
    assert first == second
    assert pulls(sandbox) == ["1"]


def test_callers_share_one_failure_when_they_call_at_the_same_time(
    connector: Connector, sandbox: Sandbox
) -> None:
    def fail_later(exchange: Exchange, reply: Reply) -> Reply | None:
        exchange.wait(0.2)
        return answer(400)(exchange, reply)  # not retried: one request per pull

    sandbox.on("/courses/", fail_later)

    async def together() -> list[Answer | BaseException]:
        asked = (asking(connector, "no-cache", catalog=1) for _ in range(3))
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(each) for each in asyncio.run(together())] == [CatalogsFailed] * 3
    assert pulls(sandbox) == ["1"]


def test_caller_waits_no_longer_than_its_own_budget_when_the_timer_syncs(
    connected: Connect, sandbox: Sandbox
) -> None:
    sandbox.on("/courses/", slow(2))
    connector = connected("1", SYNC_TIME_BUDGET_SECONDS="1")
    with ThreadPoolExecutor(1) as timer:
        syncing = timer.submit(fire_timer, connector)
        sleep(0.2)
        with pytest.raises(SyncError, match="the sync did not end within 1 s and continues; ask again later"):
            ask(connector)
        syncing.result()
    assert len(content(ask(connector))) == 2
    assert pulls(sandbox) == ["1"]


def test_sync_continues_when_its_only_caller_has_left(connected: Connect, sandbox: Sandbox) -> None:
    sandbox.on("/courses/", slow(2))
    with pytest.raises(
        CatalogsFailed, match="the sync did not end within 1 s and continues; ask again later"
    ):
        ask(connected("1", SYNC_TIME_BUDGET_SECONDS="1"))
    assert len(content(ask(connected("1"), "max-age=60"))) == 2
    assert pulls(sandbox) == ["1"]


# Damage


@pytest.mark.parametrize("row", ["body-0000", "digests-0000"])
def test_answer_is_rebuilt_from_stored_runs_when_the_published_state_is_damaged(
    connected: Connect, store: CatalogStore, runs_client: TableClient, sandbox: Sandbox, row: str
) -> None:
    before = ask(connected("1"))
    head = store.head(1)
    assert head
    sandbox.forget_requests()
    runs_client.delete_entity("1", f"published-{head.generation}-{row}")
    assert same(ask(connected("1"), "only-if-cached"), before)
    assert same(ask(connected("1")), before)
    assert sandbox.requests == []  # what is stored is enough
    assert same(ask(connected("1"), "no-cache"), before)


def test_reader_continues_with_the_next_generation_when_its_own_is_removed(
    connected: Connect, one: Catalog, sandbox: Sandbox
) -> None:
    connector, other = connected("1"), connected("1")
    first = ask(other)

    def meanwhile(tag: str) -> bool:
        # Between reading head and parts: publish two generations, so that the first one's parts are removed.
        if tag == first.tag:
            with ThreadPoolExecutor(1) as elsewhere:
                for day in ("01", "02"):
                    one.alter_run(ONE, end=f"2027-01-{day}T00:00:00Z")
                    elsewhere.submit(ask, other, "no-cache").result()
        return False

    assert ends(ask(connector, has=meanwhile))[ONE] == "2027-01-02"
    assert pulls(sandbox) == ["1", "1", "1"]  # the first, and the two elsewhere


# The timer


def test_timer_syncs_every_catalog_even_when_it_is_fresh(
    connected: Connect, sandbox: Sandbox, tables: Tables
) -> None:
    connector = connected("")
    for _ in range(2):
        fire_timer(connector, "0a1b")
    assert pulls(sandbox) == ["1", "2", "1", "2"]
    assert {(report.trigger, report.invocation_id, report.outcome) for report in tables.reports.newest()} == {
        ("timer", "0a1b", "ok")
    }


def test_timer_syncs_the_others_and_fails_when_one_catalog_fails(
    connector: Connector, sandbox: Sandbox, tables: Tables
) -> None:
    sandbox.on("/1/courses/", answer(500))
    with pytest.raises(SyncError, match="Catalog 1 could not be synced"):
        fire_timer(connector)
    assert sorted((report.catalog_id, report.outcome) for report in tables.reports.newest()) == [
        (1, "failed"), (2, "ok"),
    ]  # fmt: skip
