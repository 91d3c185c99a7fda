"""The answers behind the triggers: freshness, several catalogs, shared pulls, damage; by our own clock."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import sleep
from typing import Any

import pytest
from azure.data.tables import TableClient

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer, slow, throttle
from local.sandbox.http import Exchange, Reply
from shared.api.contract import parse_freshness
from shared.domain.published import unpack
from shared.domain.query import Question
from shared.edx.client import EdxClient
from shared.errors import (
    ConnectorError,
    EdxUnavailable,
    NotFound,
    SyncError,
    SyncUnfinished,
)
from shared.serving.answering import Answer, Catalogue
from shared.settings import connector_settings
from shared.storage.store import CatalogStore
from shared.storage.tables import Tables
from shared.sync.sync import Caller, Syncer
from tests.builders import make_course, make_run
from tests.clock import Clock
from tests.table_proxy import TableProxy

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


MakeCatalogue = Callable[..., Catalogue]


@pytest.fixture
def make_catalogue(proxied_tables: Tables, settings: dict[str, str], clock: Clock) -> MakeCatalogue:
    def make(catalog_ids: str = "1,2", **more_settings: str) -> Catalogue:
        ours = connector_settings({**settings, "EDX_CATALOG_IDS": catalog_ids, **more_settings})
        edx = EdxClient(ours.edx, clock=clock.monotonic, now=clock.now, sleep=clock.sleep, random=lambda: 0.0)
        syncer = Syncer(proxied_tables, edx, ours, now=clock.now, sleep=clock.sleep)
        return Catalogue(proxied_tables, syncer, ours, now=clock.now)

    return make


@pytest.fixture
def catalogue(make_catalogue: MakeCatalogue) -> Catalogue:
    return make_catalogue()


def asking(
    catalogue: Catalogue,
    cache_control: str = "",
    *,
    catalog: int | None = None,
    key: str | None = None,
    has: Callable[[str], bool] = lambda _tag: False,
) -> Coroutine[Any, Any, Answer]:
    question = Question(catalog, key, parse_freshness(cache_control))
    return catalogue.answer(question, has, Caller("http"), lambda: None)


def ask(catalogue: Catalogue, cache_control: str = "", **question: Any) -> Answer:
    return asyncio.run(asking(catalogue, cache_control, **question))


def content(answered: Answer) -> Any:
    assert answered.packed is not None
    return json.loads(unpack(answered.packed))


def ends(answered: Answer) -> dict[str, str]:
    """Return the day on which each run ends."""
    return {run["courserunKey"]: run["endDate"][:10] for run in content(answered)}


def pulls(sandbox: Sandbox) -> list[str]:
    return [request.path.split("/")[4] for request in sandbox.requests_to("/courses/")]


# Freshness


def test_every_catalog_is_synced_when_nothing_is_stored(catalogue: Catalogue, sandbox: Sandbox) -> None:
    assert ends(ask(catalogue)) == {ONE: "3000-01-01", SHARED: "2026-11-11", TWO: "3000-01-01"}
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
    catalogue: Catalogue, sandbox: Sandbox, clock: Clock, cache_control: str, age_s: float, *, synced: bool
) -> None:
    ask(catalogue, catalog=1)
    clock.pass_s(age_s)
    sandbox.forget_requests()
    answered = ask(catalogue, cache_control, catalog=1)
    assert pulls(sandbox) == (["1"] if synced else [])
    assert answered.age_s == (0 if synced else int(age_s))


def test_catalog_is_synced_when_its_sync_is_far_in_the_future(
    catalogue: Catalogue, sandbox: Sandbox, clock: Clock
) -> None:
    ask(catalogue, catalog=1)
    sandbox.forget_requests()
    clock.pass_s(-100)
    assert ask(catalogue, catalog=1).age_s == 0
    assert pulls(sandbox) == []
    clock.pass_s(-1000)
    ask(catalogue, catalog=1)
    assert pulls(sandbox) == ["1"]


@pytest.mark.parametrize("catalog_ids", ["1,2", ""])
def test_edx_is_not_asked_when_only_what_is_stored_is_wanted(
    make_catalogue: MakeCatalogue, sandbox: Sandbox, catalog_ids: str
) -> None:
    with pytest.raises(SyncUnfinished):
        ask(make_catalogue(catalog_ids), "only-if-cached")
    assert sandbox.requests == []


def test_partial_array_is_never_served_when_a_catalog_has_not_been_synced(catalogue: Catalogue) -> None:
    ask(catalogue, catalog=1)
    with pytest.raises(SyncUnfinished, match="catalog 2"):
        ask(catalogue, "only-if-cached")


@pytest.mark.parametrize(
    ("cache_control", "served"),
    [
        ("no-cache, stale-if-error=100", True),
        ("no-cache, stale-if-error=99", False),
        ("no-cache", False),
        ("stale-if-error=3600, max-age=60", True),
    ],
)
def test_stored_answer_is_served_when_the_sync_fails_and_the_request_allows_its_age(
    catalogue: Catalogue, sandbox: Sandbox, clock: Clock, cache_control: str, *, served: bool
) -> None:
    before = ask(catalogue)
    clock.pass_s(100)
    sandbox.on("/courses/", answer(503))
    if served:
        assert ask(catalogue, cache_control) == before._replace(age_s=100)
    else:
        with pytest.raises(SyncError, match="What was stored before is intact"):
            ask(catalogue, cache_control)


def test_catalog_that_is_gone_is_not_served_stale(catalogue: Catalogue, sandbox: Sandbox) -> None:
    ask(catalogue)
    sandbox.on("/courses/", answer(404))
    with pytest.raises(NotFound):
        ask(catalogue, "no-cache, stale-if-error=100", catalog=1)


def test_age_is_that_of_the_oldest_sync_shown(catalogue: Catalogue, clock: Clock) -> None:
    ask(catalogue)
    clock.pass_s(50)
    ask(catalogue, "no-cache", catalog=2)
    clock.pass_s(7.9)
    assert ask(catalogue).age_s == 57
    assert ask(catalogue, catalog=2).age_s == 7
    assert ask(catalogue, key=TWO).age_s == 7


# Several catalogs


def test_run_in_two_catalogs_is_from_the_one_synced_last_then_the_lowest_id(
    catalogue: Catalogue, clock: Clock
) -> None:
    assert ends(ask(catalogue))[SHARED] == "2026-11-11"  # both synced at the same moment
    clock.pass_s(1)
    assert ends(ask(catalogue, "no-cache", catalog=2))[SHARED] == "2026-12-22"
    assert ends(ask(catalogue))[SHARED] == "2026-12-22"
    assert content(ask(catalogue, key=SHARED))["endDate"] == "2026-12-22T00:00:00Z"
    clock.pass_s(1)
    ask(catalogue, "no-cache", catalog=1)
    assert ends(ask(catalogue))[SHARED] == "2026-11-11"


def test_answer_is_one_array_sorted_by_key_when_it_covers_several_catalogs(catalogue: Catalogue) -> None:
    keys = [run["courserunKey"] for run in content(ask(catalogue))]
    assert keys == [ONE, SHARED, TWO]


def test_tag_stays_when_the_json_does(
    make_catalogue: MakeCatalogue, one: Catalog, two: Catalog, clock: Clock
) -> None:
    one.alter_run(SHARED, end="2026-12-22T00:00:00Z")
    catalogue = make_catalogue()
    first = ask(catalogue)
    clock.pass_s(5)
    assert ask(catalogue, "no-cache") == first  # synced again
    clock.pass_s(5)
    ask(catalogue, "no-cache", catalog=2)  # the shared run comes from the other catalog now
    assert ask(catalogue).tag == first.tag
    assert ask(make_catalogue()).tag == first.tag  # another process
    two.alter_run(TWO, end="2027-01-01T00:00:00Z")
    assert ask(catalogue, "no-cache").tag != first.tag


def test_catalog_leaves_the_answer_and_keeps_its_runs_when_it_is_no_longer_ours(
    make_catalogue: MakeCatalogue, store: CatalogStore, sandbox: Sandbox, clock: Clock
) -> None:
    catalogue = make_catalogue("")
    assert TWO in ends(ask(catalogue))
    sandbox.catalogs[2].viewers = ["somebody-else"]
    clock.pass_s(900)
    assert ends(ask(catalogue)) == {ONE: "3000-01-01", SHARED: "2026-11-11"}
    with pytest.raises(NotFound, match=r"^the catalog is not found$"):
        ask(catalogue, "only-if-cached", catalog=2)
    assert {stored.withdrawn_at for stored in store.runs(2)} == {None}
    assert len(list(store.runs(2))) == 2
    assert ends(ask(make_catalogue("1"))) == {ONE: "3000-01-01", SHARED: "2026-11-11"}


def test_answer_is_an_empty_array_when_edx_lists_no_catalog(
    make_catalogue: MakeCatalogue, sandbox: Sandbox
) -> None:
    sandbox.catalogs.clear()
    assert content(ask(make_catalogue(""))) == []


def test_others_are_synced_and_the_answer_is_the_failure_when_one_catalog_fails(
    catalogue: Catalogue, store: CatalogStore, sandbox: Sandbox
) -> None:
    sandbox.on("/1/courses/", answer(500))
    with pytest.raises(
        SyncError, match=r"^Catalog 1 could not be synced: .*\. What was stored before is int"
    ):
        ask(catalogue)
    assert len(list(store.runs(2))) == 2
    assert len(content(ask(catalogue, "only-if-cached", catalog=2))) == 2


def test_failure_says_when_to_come_back_when_one_of_several_was_throttled(
    catalogue: Catalogue, sandbox: Sandbox, clock: Clock
) -> None:
    sandbox.on("/1/courses/", answer(404))
    sandbox.on("/2/courses/", throttle(3592))
    with pytest.raises(EdxUnavailable, match=r"Catalog 1 .* Catalog 2 ") as failure:
        ask(catalogue)
    assert failure.value.retry_at == clock.now() + timedelta(seconds=3592)


@pytest.mark.parametrize(("gone", "error"), [("/courses/", NotFound), ("/1/courses/", SyncError)])
def test_catalog_is_not_found_only_when_every_failure_says_so(
    catalogue: Catalogue, sandbox: Sandbox, gone: str, error: type[ConnectorError]
) -> None:
    sandbox.on(gone, answer(404))
    sandbox.on("/courses/", answer(500))
    with pytest.raises(error) as failure:
        ask(catalogue)
    assert isinstance(failure.value, NotFound) == (error is NotFound)


def test_catalog_is_not_found_when_it_is_not_configured(catalogue: Catalogue, sandbox: Sandbox) -> None:
    with pytest.raises(NotFound, match=r"^the catalog is not found$"):
        ask(catalogue, "no-cache", catalog=3)
    assert sandbox.requests == []


def test_list_of_catalogs_is_asked_for_again_when_it_is_stale_and_lacks_the_catalog(
    make_catalogue: MakeCatalogue, sandbox: Sandbox, clock: Clock
) -> None:
    catalogue = make_catalogue("")
    ask(catalogue)
    sandbox.catalogs[3] = Catalog(3, "New", [make_course(key="NUSx+THREE")])
    with pytest.raises(NotFound):
        ask(catalogue, catalog=3)
    assert len(ends(ask(catalogue, "no-cache", catalog=3))) == 1
    clock.pass_s(900)
    assert len(ends(ask(catalogue))) == 4


def test_known_catalogs_are_used_when_their_list_cannot_be_had_and_the_request_allows_it(
    make_catalogue: MakeCatalogue, sandbox: Sandbox, clock: Clock
) -> None:
    catalogue = make_catalogue("")
    before = ask(catalogue)
    clock.pass_s(1000)
    sandbox.on("/catalogs/$", answer(500))
    with pytest.raises(EdxUnavailable, match="list of catalogs could not be had"):
        ask(catalogue)
    assert ask(catalogue, "stale-if-error=1000").tag == before.tag


# One run


def test_one_run_is_bit_for_bit_as_in_the_array(catalogue: Catalogue) -> None:
    array = ask(catalogue)
    assert array.packed
    for key, line in zip([ONE, SHARED, TWO], unpack(array.packed)[1:-1].split(b",\n"), strict=True):
        one = ask(catalogue, key=key)
        assert one.packed
        assert unpack(one.packed) == line
        assert ask(catalogue, key=key, has=one.tag.__eq__).packed is None


def test_tag_of_one_run_changes_when_that_run_does(catalogue: Catalogue, one: Catalog) -> None:
    tags = {key: ask(catalogue, key=key).tag for key in (ONE, SHARED)}
    one.alter_run(ONE, end="2027-01-01T00:00:00Z")
    assert ask(catalogue, "no-cache", key=ONE).tag != tags[ONE]
    assert ask(catalogue, key=SHARED).tag == tags[SHARED]


def test_run_is_not_found_when_it_is_unknown_ended_withdrawn_or_elsewhere(
    catalogue: Catalogue, one: Catalog
) -> None:
    one.add(
        make_course(make_run(key="old", end="2026-03-01T12:00:00Z"), key="NUSx+OLD"),
        make_course(key="NUSx+W"),
    )
    ask(catalogue)
    one.remove("NUSx+W")
    ask(catalogue, "no-cache")
    for question in (
        {"key": "unknown"},
        {"key": "old"},
        {"key": "course-v1:NUSx+W+2T2026"},
        {"key": ONE.upper()},
        {"key": TWO, "catalog": 1},
    ):
        with pytest.raises(NotFound, match=r"^the course run is not found$"):
            ask(catalogue, **question)


# Time


def test_answer_follows_the_clock_without_a_sync(
    make_catalogue: MakeCatalogue, one: Catalog, sandbox: Sandbox, proxy: TableProxy, clock: Clock
) -> None:
    one.alter_run(ONE, start="2026-03-01T12:00:10Z", end="2026-03-01T12:00:20Z")
    catalogue = make_catalogue("1")
    first = ask(catalogue)
    sandbox.forget_requests()
    proxy.requests.clear()
    tags = [first.tag]
    for seconds, availability in ((9.9, "Upcoming"), (0.1, "Current"), (9.9, "Current"), (0.1, None)):
        clock.pass_s(seconds)
        for each in (catalogue, make_catalogue("1")):  # with and without a memory
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
def test_answer_costs_only_reads_of_single_rows_when_the_caller_has_it(
    make_catalogue: MakeCatalogue, proxy: TableProxy, sandbox: Sandbox, catalog_ids: str
) -> None:
    sandbox.catalogs.pop(2)
    first = ask(make_catalogue(catalog_ids))
    proxy.requests.clear()
    again = ask(make_catalogue(catalog_ids), has=first.tag.__eq__)
    assert again == first._replace(packed=None)
    assert proxy.entities() == (["published"] if catalog_ids else ["catalogs", "published"])
    assert {request.method for request in proxy.requests} == {"GET"}
    assert proxy.queries() == []


def test_body_is_read_once_when_nothing_changed(catalogue: Catalogue, proxy: TableProxy) -> None:
    ask(catalogue)
    ask(catalogue)
    proxy.requests.clear()
    ask(catalogue)
    assert proxy.entities() == ["published", "published"]


# Callers who come together


def test_callers_share_one_pull_when_they_come_together(catalogue: Catalogue, sandbox: Sandbox) -> None:
    sandbox.on("/courses/", slow(0.2))

    async def together() -> list[Answer]:
        return await asyncio.gather(*(asking(catalogue, "no-cache") for _ in range(10)))

    answers = asyncio.run(together())
    assert len(set(answers)) == 1
    assert pulls(sandbox) == ["1", "2"]


def test_processes_share_one_pull_when_they_come_together(
    make_catalogue: MakeCatalogue, sandbox: Sandbox
) -> None:
    sandbox.on("/courses/", slow(0.7))
    processes = [make_catalogue("1"), make_catalogue("1")]
    with ThreadPoolExecutor(2) as callers:
        first, second = callers.map(lambda process: ask(process, "no-cache"), processes)
    assert first == second
    assert pulls(sandbox) == ["1"]


def test_failure_is_shared_when_callers_come_together(catalogue: Catalogue, sandbox: Sandbox) -> None:
    def fail_later(exchange: Exchange, reply: Reply) -> Reply | None:
        exchange.wait(0.2)
        return answer(400)(exchange, reply)  # no further try heals it: one request a pull

    sandbox.on("/courses/", fail_later)

    async def together() -> list[Answer | BaseException]:
        asked = (asking(catalogue, "no-cache", catalog=1) for _ in range(3))
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(each) for each in asyncio.run(together())] == [SyncError] * 3
    assert pulls(sandbox) == ["1"]


def test_caller_waits_no_longer_than_its_own_budget_when_the_timer_syncs(
    make_catalogue: MakeCatalogue, sandbox: Sandbox
) -> None:
    sandbox.on("/courses/", slow(2))
    catalogue = make_catalogue("1", SYNC_TIME_BUDGET_SECONDS="1")
    with ThreadPoolExecutor(1) as timer:
        syncing = timer.submit(catalogue.sync_all, Caller("timer"), lambda: None)
        sleep(0.2)
        with pytest.raises(SyncError, match="did not end within 1 s; it goes on, ask again later"):
            ask(catalogue)
        syncing.result()
    assert len(content(ask(catalogue))) == 2
    assert pulls(sandbox) == ["1"]


# Damage


@pytest.mark.parametrize("row", ["body-0000", "digests-0000"])
def test_answer_is_healed_from_what_is_stored_when_the_published_state_is_damaged(
    make_catalogue: MakeCatalogue, store: CatalogStore, runs_client: TableClient, sandbox: Sandbox, row: str
) -> None:
    before = ask(make_catalogue("1"))
    head = store.head(1)
    assert head
    sandbox.forget_requests()
    runs_client.delete_entity("1", f"published-{head.generation}-{row}")
    assert ask(make_catalogue("1"), "only-if-cached") == before
    assert ask(make_catalogue("1")) == before
    assert sandbox.requests == []  # what is stored is enough
    assert ask(make_catalogue("1"), "no-cache") == before


def test_reader_goes_on_with_the_next_generation_when_its_own_is_removed(
    make_catalogue: MakeCatalogue, one: Catalog, sandbox: Sandbox
) -> None:
    catalogue, other = make_catalogue("1"), make_catalogue("1")
    first = ask(other)

    def meanwhile(tag: str) -> bool:
        # Between the head and the parts: two generations on, so that the first one's parts are gone.
        if tag == first.tag:
            with ThreadPoolExecutor(1) as elsewhere:
                for day in ("01", "02"):
                    one.alter_run(ONE, end=f"2027-01-{day}T00:00:00Z")
                    elsewhere.submit(ask, other, "no-cache").result()
        return False

    assert ends(ask(catalogue, has=meanwhile))[ONE] == "2027-01-02"
    assert pulls(sandbox) == ["1", "1", "1"]  # the first, and the two elsewhere


# The timer


def test_timer_syncs_every_catalog_however_fresh(
    make_catalogue: MakeCatalogue, sandbox: Sandbox, tables: Tables
) -> None:
    catalogue = make_catalogue("")
    for _ in range(2):
        catalogue.sync_all(Caller("timer", "0a1b"), lambda: None)
    assert pulls(sandbox) == ["1", "2", "1", "2"]
    assert {(report.trigger, report.invocation_id, report.outcome) for report in tables.reports.newest()} == {
        ("timer", "0a1b", "ok")
    }


def test_timer_syncs_the_others_and_fails_when_one_catalog_does(
    catalogue: Catalogue, sandbox: Sandbox, tables: Tables
) -> None:
    sandbox.on("/1/courses/", answer(500))
    with pytest.raises(SyncError, match="Catalog 1 could not be synced"):
        catalogue.sync_all(Caller("timer"), lambda: None)
    assert sorted((report.catalog_id, report.outcome) for report in tables.reports.newest()) == [
        (1, "failed"), (2, "ok"),
    ]  # fmt: skip
