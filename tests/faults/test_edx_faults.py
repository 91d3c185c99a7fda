"""Faults of edX during the pull of a changed catalog: nothing is lost, and the next sync recovers."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from socket import SHUT_RDWR, create_server
from threading import Event, Thread
from typing import Any, NamedTuple, cast

import pytest
import requests

from local.host import Host
from local.host.process import FunctionFailed, HostProcess
from local.sandbox import TOKEN_PATH, Sandbox, faults
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import MIB, Action
from local.sandbox.http import Exchange, Reply, text_reply
from shared.errors import ConnectorError
from tests.faults.promise import (
    Runs,
    Stored,
    ask,
    assert_discreet,
    assert_kept,
    assert_reached,
    assert_says,
    assert_shows,
    change,
    contract_of,
    entities_of,
    make_shelf,
    plain_course,
    run_id,
    runs_of,
)
from tests.faults.stage import Stage, held_until

SECOND_PAGE = "second page"  # of three; of the changed catalog
FIRST_PAGE = "first page"
EVERY_PAGE = "every page"
LAST_PAGE = "last page"
TOKEN = "token"
OFFSETS = {FIRST_PAGE: 0, SECOND_PAGE: 5, LAST_PAGE: 10}

HURRIED_S = 2


class Fault(NamedTuple):
    """What edX does instead of its normal answer, where, and the pattern of the expected error."""

    name: str
    action: Action
    says: str = ""
    where: str = SECOND_PAGE


def _faults(*cases: Fault) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", cases, ids=lambda fault: f"{fault.where}: {fault.name}")


@pytest.fixture(scope="module")
def patient(stage: Stage) -> Iterator[HostProcess]:
    with stage.host(SYNC_TIME_BUDGET_SECONDS="60") as host:
        yield host


@pytest.fixture(scope="module")
def hurried(stage: Stage) -> Iterator[HostProcess]:
    with stage.host(SYNC_TIME_BUDGET_SECONDS=str(HURRIED_S)) as host:
        yield host


def break_down(edx: Sandbox, shelf: Catalog, fault: Fault, times: int | None = None) -> None:
    if fault.where == TOKEN:
        edx.expire_tokens()
        edx.on(TOKEN_PATH, fault.action, times=times)
    else:
        edx.on(f"/catalogs/{shelf.id}/courses/", fault.action, offset=OFFSETS.get(fault.where), times=times)


@pytest.fixture(autouse=True)
def healthy_afterwards(edx: Sandbox) -> Iterator[None]:
    edx.forget_requests()
    yield
    edx.rules.clear()
    edx.expires_in, edx.token_valid_s = 180, None


def _raw(head: str, body: bytes | None = None) -> Action:
    """Send these headers and this body (the normal body when None), then close the connection."""

    def act(exchange: Exchange, reply: Reply) -> None:
        sent = reply.body.raw() if body is None else body
        exchange.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode() + sent)

    return act


def _rewritten(rewrite: Callable[[bytes], bytes]) -> Action:
    """Answer the normal JSON with its bytes rewritten."""
    return lambda _exchange, reply: text_reply(rewrite(reply.body.raw()), 200, "application/json")


def _chunked(exchange: Exchange, reply: Reply) -> None:
    body = reply.body.raw()
    chunks = [b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])]
    _raw("Transfer-Encoding: chunked", b"".join([*chunks, b"0\r\nX-Trailer: 1\r\n\r\n"]))(exchange, reply)


def _page(change: Callable[[dict[str, Any], list[Any]], object]) -> Action:
    """Change a page in place; `change` gets the page and its courses."""
    return faults.edit(lambda page: change(page, cast(list[Any], page["results"])))


def _from(offset: int, action: Action) -> Action:
    """Apply an action to the pages from an offset on."""

    def act(exchange: Exchange, reply: Reply) -> Reply | None:
        return action(exchange, reply) if exchange.request.offset >= offset else reply

    return act


# Faults for which a retry helps


LOGIN_PAGE = faults.answer(200, "<html>Sign in</html>", content_type="text/html")

TRANSIENT = (
    *(Fault(f"status {n}", faults.answer(n), f"answered {n}", EVERY_PAGE) for n in (408, 500, 503)),
    Fault("500 with HTML", faults.answer(500, "<h1>Server Error</h1>"), "answered 500", EVERY_PAGE),
    Fault("403 of a firewall", faults.gateway(403), "answered 403 in a form that is not edX's"),
    Fault(
        "404 of an API gateway", faults.gateway(404, as_json=True), "answered 404 in a form that is not edX's"
    ),
    Fault("403 of a firewall", faults.gateway(403), "answered 403 in a form that is not edX's", EVERY_PAGE),
    Fault("reset before the answer", faults.reset("before"), "dropped the connection"),
    Fault("reset in the headers", faults.reset("headers"), "dropped the connection|sent a broken body"),
    Fault("reset in the body", faults.reset("body"), "dropped the connection|sent a broken body"),
    Fault("body cut short", faults.cut(), "sent a broken body"),
    Fault(
        "body that ends early after a brace", faults.short(), "sent a broken body: incomplete or invalid JSON"
    ),
    Fault("login page with 200", LOGIN_PAGE, "sent a broken body: incomplete or invalid JSON"),
    Fault("nothing with 200", faults.answer(200, ""), "sent a broken body: it is empty"),
    Fault("nested 100,000 deep", faults.answer(200, "[" * 100_000 + "]" * 100_000), "sent a broken body"),
    Fault("gzip that breaks", faults.broken_gzip(), "sent a broken body"),
    Fault("gzip that ends early", faults.broken_gzip(truncated=True), "sent a broken body"),
    Fault("an encoding not asked for", _raw("Content-Encoding: br", b"\x0b\x02"), "sent a broken body"),
    Fault("chunk without a size", _raw("Transfer-Encoding: chunked", b"zz\r\n{"), "sent a broken body"),
    Fault("chunks that end early", _raw("Transfer-Encoding: chunked", b"9\r\n{"), "sent a broken body"),
    Fault("no HTTP", lambda exchange, _: exchange.write(b"220 mail.example ESMTP\r\n"), "the connection"),
)
TRANSIENT_TOKENS = (
    Fault("status 500", faults.answer(500), "token endpoint answered 500", TOKEN),
    Fault("reset", faults.reset("before"), "token endpoint dropped the connection", TOKEN),
    Fault("login page with 200", LOGIN_PAGE, "token endpoint sent a broken body", TOKEN),
)


@_faults(*TRANSIENT, *TRANSIENT_TOKENS, Fault("503 with a short Retry-After", faults.throttle(1, status=503)))
def test_the_sync_is_complete_when_edx_fails_once(stage: Stage, patient: HostProcess, fault: Fault) -> None:
    shelf = stage.new_shelf()
    break_down(stage.edx, shelf, fault, times=1)

    answered = stage.ask(patient, shelf)

    assert stage.edx.rules[0].fired == 1
    assert_reached(answered, stage.stored, shelf)


# Faults for which a retry does not help


def _page_faults(says: str, actions: dict[str, Action]) -> tuple[Fault, ...]:
    return tuple(Fault(name, action, says) for name, action in actions.items())


FATAL = (
    *TRANSIENT_TOKENS,
    Fault("503 with a long Retry-After", faults.throttle(3600, status=503), "unavailable.* answered 503"),
    Fault(
        "404 after a successful page",
        faults.answer(404),
        "answered 404 for .*, although it had sent earlier pages",
    ),
    *(
        Fault(f"status {n}", faults.answer(n, ""), f"edX answered {n} .* does not document")
        for n in (204, 304, 418)
    ),
    *_page_faults(
        "does not match its API",
        {
            "a list": faults.answer(200, []),
            "null": faults.answer(200, "null"),
            "error object": faults.answer(200, {"detail": "Internal error"}),
            "results null": faults.envelope(results=None),
        },
    ),
    *_page_faults(
        "more than 32 MiB", {"gzip bomb": faults.huge(64), "body far too large": _raw("", b" " * 33 * MIB)}
    ),
    *_page_faults(
        "does not advance|usable cursor|no text",
        {
            "stuck cursor": faults.stuck(),
            "next without a cursor": faults.envelope(next="https://discovery.edx.org/api/v1/"),
            "next a number": faults.envelope(next=10),
            "next with an endless number": faults.envelope(next=f"?offset={'9' * 5000}"),
        },
    ),
    Fault(
        "no courses", faults.no_results(), "edX returned no courses although 12 runs are stored", FIRST_PAGE
    ),
    Fault("no courses on any page", faults.envelope(results=[]), "empty pages in a row", EVERY_PAGE),
    Fault("status 401", faults.answer(401), "refused our credentials.*EDX_CLIENT_ID", TOKEN),
    Fault(
        "no access_token",
        faults.without("access_token"),
        "answer to the token endpoint does not match its API",
        TOKEN,
    ),
    Fault("status 404", faults.answer(404), "answered 404", TOKEN),
    Fault("gzip bomb", faults.huge(33), "more than 32 MiB", TOKEN),
)
"""One of each kind; tests/edx/test_answers.py and test_models.py have all answers of each kind."""


class Broken(NamedTuple):
    """A sync with a fault: its catalog, what was stored and served before, and the answer."""

    shelf: Catalog
    before: Runs
    served: object
    answered: requests.Response


def _break_a_sync(stage: Stage, patient: HostProcess, fault: Fault) -> Broken:
    shelf = stage.synced_shelf(patient)
    before, served = stage.stored.runs(shelf.id), _served(stage, patient, shelf)
    break_down(stage.edx, shelf, fault)
    return Broken(shelf, before, served, stage.ask(patient, shelf))


def _assert_promise(stage: Stage, patient: HostProcess, broken: Broken, says: str) -> None:
    _assert_failed(stage, broken.shelf, broken.answered, says)
    assert_kept(broken.before, stage.stored, broken.shelf)
    assert _served(stage, patient, broken.shelf) == broken.served
    _assert_recovers(stage, patient, broken.shelf)


@pytest.fixture(scope="module")
def persisting(stage: Stage, patient: HostProcess) -> dict[Fault, Broken]:
    """The faults of TRANSIENT at every try, in parallel, because the pauses between tries take seconds."""
    with ThreadPoolExecutor(len(TRANSIENT)) as threads:
        broken = threads.map(lambda fault: _break_a_sync(stage, patient, fault), TRANSIENT)
        return dict(zip(TRANSIENT, broken, strict=True))


@_faults(*TRANSIENT)
def test_nothing_is_lost_and_the_next_sync_is_complete_when_edx_fails_at_every_try(
    stage: Stage, patient: HostProcess, persisting: dict[Fault, Broken], fault: Fault
) -> None:
    _assert_promise(stage, patient, persisting[fault], fault.says)


@_faults(*FATAL)
def test_nothing_is_lost_and_the_next_sync_is_complete_when_a_retry_would_not_help(
    stage: Stage, patient: HostProcess, fault: Fault
) -> None:
    _assert_promise(stage, patient, _break_a_sync(stage, patient, fault), fault.says)


@pytest.mark.parametrize("where", [SECOND_PAGE, TOKEN])
def test_the_caller_is_told_that_the_sync_continues_when_edx_is_slower_than_the_caller_waits(
    stage: Stage, patient: HostProcess, hurried: HostProcess, where: str
) -> None:
    shelf = stage.synced_shelf(patient)
    before, served = stage.stored.runs(shelf.id), _served(stage, patient, shelf)
    _served(stage, hurried, shelf)  # the first request of a process is slower
    ends = Event()
    break_down(stage.edx, shelf, Fault("held", held_until(ends), where=where), times=1)

    began = time.monotonic()
    answered = stage.ask(hurried, shelf)

    assert HURRIED_S - 0.5 < time.monotonic() - began < HURRIED_S + 10
    says = r"did not end within \d+ s and continues; ask again later"
    assert_says(answered, 500, f"Catalog {shelf.id} could not be synced", says, "stored before is intact")
    assert len(stage.stored.reports(shelf.id)) == 1
    assert_kept(before, stage.stored, shelf)
    assert _served(stage, patient, shelf) == served
    ends.set()
    assert stage.last_report(shelf)["outcome"] == "ok"
    assert_reached(stage.ask(hurried, shelf, "only-if-cached"), stage.stored, shelf)


def test_nothing_is_lost_when_edx_cannot_be_reached(stage: Stage, patient: HostProcess) -> None:
    shelf = stage.synced_shelf(patient)
    before, served = stage.stored.runs(shelf.id), _served(stage, patient, shelf)

    with stage.edx.unreachable():
        answered = stage.ask(patient, shelf)

    _assert_promise(
        stage, patient, Broken(shelf, before, served, answered), "unavailable: .* cannot be reached"
    )


@pytest.mark.parametrize("status", [403, 404])
def test_the_catalog_is_not_found_and_keeps_its_runs_when_edx_hides_it(
    stage: Stage, patient: HostProcess, status: int
) -> None:
    shelf = stage.synced_shelf(patient)
    before = stage.stored.runs(shelf.id)
    break_down(stage.edx, shelf, Fault("hidden", faults.answer(status), where=EVERY_PAGE))

    answered = stage.ask(patient, shelf, "no-cache, stale-if-error=3600")

    assert assert_says(answered, 404) == "the catalog is not found"
    assert stage.last_report(shelf)["outcome"] == "failed"
    assert stage.stored.runs(shelf.id) == before
    _assert_recovers(stage, patient, shelf)


# Addresses in edX's answers


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[object]]]:
    """A server that is not edX: its address, and the addresses of its callers."""
    callers: list[object] = []

    def listen() -> None:
        with suppress(OSError):  # it has been closed
            while True:
                connection, caller = listener.accept()
                callers.append(caller)
                connection.close()

    with create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=listen, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", callers
        listener.shutdown(SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("where", [SECOND_PAGE, TOKEN])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_other_server_is_called_when_edx_redirects(
    stage: Stage, patient: HostProcess, elsewhere: tuple[str, list[object]], status: int, where: str
) -> None:
    shelf = stage.synced_shelf(patient)
    before = stage.stored.runs(shelf.id)
    address, callers = elsewhere
    location = f"http://{address}/catalog/v1/catalogs/{shelf.id}/courses/?limit=5&offset=5"
    break_down(stage.edx, shelf, Fault("redirect", faults.redirect(location, status), where=where))

    answered = stage.ask(patient, shelf)

    _assert_failed(stage, shelf, answered, f"answered {status} .* does not document")
    assert_kept(before, stage.stored, shelf)
    _assert_recovers(stage, patient, shelf)
    assert callers == []


@pytest.mark.parametrize(
    "link",
    [
        "http://{elsewhere}/?limit=5&offset=5",
        "https://{elsewhere}/catalog/v1/catalogs/1/courses/?limit=5&offset=5",
        "//{elsewhere}/?limit=5&offset=5",
        "http://sandbox-client:secret@{elsewhere}/?limit=5&offset=5",
        "file:///etc/passwd?limit=5&offset=5",
        "http://169.254.169.254/latest/meta-data/?limit=5&offset=5",
        "gopher://[::1]/?limit=5&offset=5",
        "/catalog/v1/catalogs/999/courses/?limit=5&offset=5",
        "?limit=5&offset=5#@{elsewhere}",
    ],
)
def test_pages_are_requested_from_edx_api_url_when_next_names_another_host(
    stage: Stage, patient: HostProcess, elsewhere: tuple[str, list[object]], link: str
) -> None:
    shelf = stage.new_shelf()
    address, callers = elsewhere
    break_down(
        stage.edx,
        shelf,
        Fault("next", faults.envelope(next=link.format(elsewhere=address)), where=FIRST_PAGE),
    )

    answered = stage.ask(patient, shelf)

    assert_reached(answered, stage.stored, shelf)
    called = {request.path for request in stage.edx.requests_to("^/catalog/")}
    assert called == {f"/catalog/v1/catalogs/{shelf.id}/courses/"}
    assert callers == []


# Tokens that expire


def _expiring(edx: Sandbox) -> Action:
    """Make all tokens expire just before the answer."""

    def act(exchange: Exchange, _reply: Reply) -> Reply:
        edx.expire_tokens()
        return exchange.answer(exchange.request)

    return act


def test_the_sync_is_complete_when_the_token_expires_during_the_pull(
    stage: Stage, patient: HostProcess
) -> None:
    shelf = stage.synced_shelf(patient)
    break_down(stage.edx, shelf, Fault("expired", _expiring(stage.edx)), times=1)

    assert_reached(stage.ask(patient, shelf), stage.stored, shelf)

    assert len(stage.edx.requests_to(TOKEN_PATH)) == 1


def test_the_sync_fails_when_the_new_token_expires_at_once(stage: Stage, patient: HostProcess) -> None:
    shelf = stage.synced_shelf(patient)
    before = stage.stored.runs(shelf.id)
    break_down(stage.edx, shelf, Fault("expired", _expiring(stage.edx)), times=2)

    answered = stage.ask(patient, shelf)

    _assert_failed(stage, shelf, answered, "edX refused us: .* answered 401 to a valid token")
    assert len(stage.edx.requests_to(TOKEN_PATH)) <= 2  # the last page may also have had an expired token
    assert_kept(before, stage.stored, shelf)
    _assert_recovers(stage, patient, shelf)


@pytest.mark.parametrize("expires_in", [0, -1, 1, 2.5, 1e300, 10**400, "180", "soon", None, [], True])
def test_the_sync_is_complete_when_the_token_has_an_unusual_lifetime(
    stage: Stage, patient: HostProcess, expires_in: object
) -> None:
    stage.edx.expire_tokens()
    stage.edx.expires_in, stage.edx.token_valid_s = expires_in, 180
    shelf = stage.new_shelf()

    assert_reached(stage.ask(patient, shelf), stage.stored, shelf)


# Unusual answers that are valid


HARMLESS = (
    Fault("byte order mark", _rewritten(lambda body: b"\xef\xbb\xbf" + body)),
    Fault("white space around", _rewritten(lambda body: b"\r\n \t" + body + b"\n" * 100)),
    Fault("another content type", _rewritten(lambda body: body), where=EVERY_PAGE),
    Fault("chunked", _chunked),
    Fault("no length, the end closes", _raw("Connection: close")),
    Fault("large but compressed", faults.huge(20)),
    Fault("duplicate names", _rewritten(lambda body: b'{"results": null, "count": -1, ' + body[1:])),
    Fault("103 before the answer", faults.early_hints()),
    Fault("not UTF-8", _rewritten(lambda body: b'{"aside": "\xe9", ' + body[1:])),
    Fault("number of 5,000 digits", _rewritten(lambda body: b'{"aside": ' + b"9" * 5000 + b", " + body[1:])),
    Fault("next missing before the end", faults.envelope(next=None), where=FIRST_PAGE),
    Fault("last course of a page left out", _page(lambda _, courses: courses.pop())),
    Fault("NaN", faults.edit(lambda page: page.update(took=float("nan"), score=float("-inf")))),
    Fault("lone surrogate", _page(lambda _, courses: courses[0].update(full_description="\ud800 \udfff"))),
    Fault("NUL in a text", _page(lambda _, courses: courses[0].update(full_description="a\0b"))),
    Fault("nested 300 deep", faults.edit(lambda page: page.update(aside=json.loads("[" * 300 + "]" * 300)))),
    Fault("junk in unused fields", _page(lambda _, courses: courses[0].update(image=[], owners=7))),
    Fault("next empty at the end", faults.envelope(next=""), where=LAST_PAGE),
    Fault("previous is nonsense", faults.envelope(previous={"file": "///etc/passwd"}), where=EVERY_PAGE),
    Fault("slow for a moment", faults.slow(0.5), where=EVERY_PAGE),
    Fault("token slow for a moment", faults.slow(0.5), where=TOKEN),
)


@_faults(*HARMLESS)
def test_the_sync_is_complete_when_an_answer_is_unusual_but_valid(
    stage: Stage, patient: HostProcess, fault: Fault
) -> None:
    shelf = stage.new_shelf()
    break_down(stage.edx, shelf, fault)

    answered = stage.ask(patient, shelf)

    assert stage.edx.rules[0].fired >= 1
    assert_reached(answered, stage.stored, shelf)
    assert stage.last_report(shelf, number=1)["outcome"] == "ok"


# Incomplete pulls


INCOMPLETE = (
    Fault(
        "count changes", _from(10, faults.envelope(count=13)), "the count changed from 12 to 13", EVERY_PAGE
    ),
    Fault("count too high", faults.envelope(count=13), "edX returned 12 courses but counts 13", EVERY_PAGE),
    Fault("count too low", faults.envelope(count=4), "edX returned 12 courses but counts 4", EVERY_PAGE),
    Fault("count of a quintillion", faults.envelope(count=10**18), "edX returned 12 courses", EVERY_PAGE),
    Fault("count below 0", faults.envelope(count=-12), "no count", EVERY_PAGE),
    Fault("no count", faults.without("count"), "no count", EVERY_PAGE),
    Fault("repeated page", faults.repeat(0), "the pages do not overlap between positions 4 and 5"),
    Fault("one course twice", _page(lambda _, courses: courses.append(courses[0])), "do not overlap"),
    Fault("empty page", faults.envelope(results=[]), "the page at offset 5 was empty"),
    Fault("empty first page", faults.envelope(results=[]), "the page at offset 0 was empty", FIRST_PAGE),
    Fault("broken search", faults.no_results(), "edX returned 6 courses but counts 12"),
    Fault("first course left out", _page(lambda _, courses: courses.pop(0)), "do not overlap"),
    Fault("an additional null", _page(lambda _, courses: courses.insert(0, None)), "do not overlap"),
    Fault(
        "course is a text", _page(lambda _, courses: courses.__setitem__(1, "x")), "without a readable key"
    ),
    Fault("no key", _page(lambda _, courses: courses[1]["course_runs"][0].pop("key")), "a readable key"),
)


@_faults(*INCOMPLETE)
def test_received_runs_are_stored_and_nothing_is_withdrawn_when_the_pull_is_incomplete(
    stage: Stage, patient: HostProcess, fault: Fault
) -> None:
    shelf = stage.synced_shelf(patient)
    before = stage.stored.runs(shelf.id)
    break_down(stage.edx, shelf, fault)

    answered = stage.ask(patient, shelf)

    assert_kept(before, stage.stored, shelf)
    stored = stage.stored.runs(shelf.id)
    news = list(entities_of(shelf).items())
    assert any(stored.get(identity) == run for identity, run in (news[0], news[-1]))
    assert_shows(answered, {run_id: contract_of(run) for run_id, run in stored.items()})
    report = stage.last_report(shelf)
    assert (report["outcome"], report["withdrawn"]) == ("incomplete", 0)
    assert re.search(fault.says, report["incomplete"]), report["incomplete"]
    # Two pulls of three pages, one more page each to check the count, and pages requested in advance.
    assert len(stage.edx.requests_to("/courses/")) <= 2 * (3 + 1 + 2 * 4)
    _assert_recovers(stage, patient, shelf)


def test_all_other_courses_are_synced_and_the_position_is_named_when_edx_cannot_render_one(
    stage: Stage, patient: HostProcess
) -> None:
    shelf = stage.synced_shelf(patient)
    before = stage.stored.runs(shelf.id)
    (broken,) = [course for course in shelf.courses if course["key"] == shelf.keys[7]]
    shelf.unrenderable = [broken["key"]]

    answered = stage.ask(patient, shelf)

    report = stage.last_report(shelf)
    assert (report["outcome"], report["withdrawn"]) == ("incomplete", 0)
    assert report["incomplete"] == "edX could not render the course at position 7"
    assert_kept(before, stage.stored, shelf)
    stored = stage.stored.runs(shelf.id)
    assert entities_of(shelf).items() <= stored.items()
    assert_shows(answered, {identity: contract_of(run) for identity, run in stored.items()})
    assert len(stage.edx.requests_to("/courses/")) <= 3 + 3 + 20  # pages, further tries, halves
    shelf.unrenderable = ()
    _assert_recovers(stage, patient, shelf)


def test_no_remaining_course_loses_its_runs_when_courses_leave_and_join_during_the_pull(
    stage: Stage, patient: HostProcess
) -> None:
    shelf = stage.synced_shelf(patient)
    stage.assert_recovers(patient, [shelf])
    before = stage.stored.runs(shelf.id)

    def swap(_exchange: Exchange, reply: Reply) -> Reply:
        number = int(shelf.keys[-1].rpartition(".")[2])
        shelf.remove(*shelf.keys[:2])
        shelf.add(plain_course(shelf.id, number + 1), plain_course(shelf.id, number + 2))
        return reply

    stage.edx.on(f"/catalogs/{shelf.id}/courses/", swap, offset=0, times=2)

    answered = stage.ask(patient, shelf)

    report = stage.last_report(shelf, number=3)
    assert (report["outcome"], report["withdrawn"]) == ("incomplete", 0)
    assert "the pages do not overlap between positions 4 and 5" in report["incomplete"]
    after = stage.stored.runs(shelf.id)
    assert {identity: after[identity] for identity in before} == before
    kept = {identity: contract_of(run) for identity, run in after.items() if "withdrawnAt" not in run}
    assert_shows(answered, kept)
    _assert_recovers(stage, patient, shelf)


def test_the_price_is_removed_when_the_seat_can_no_longer_be_bought(
    stage: Stage, patient: HostProcess
) -> None:
    shelf = stage.synced_shelf(patient)
    run_key = shelf.courses[0]["course_runs"][0]["key"]
    shelf.expire_seats(run_key)

    answered = stage.ask(patient, shelf)

    (shown,) = [run for run in answered.json() if run["courserunKey"] == run_key]
    assert "price" not in shown
    assert stage.last_report(shelf)["outcome"] == "ok"


@pytest.mark.parametrize(
    "fields",
    [{"start": "next spring"}, {"marketing_url": "https://www.edx.org/" + "x" * 40_000}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_rejected_run_keeps_its_stored_value_when_it_cannot_be_mapped(
    stage: Stage, patient: HostProcess, fields: dict[str, object]
) -> None:
    shelf = stage.synced_shelf(patient)
    rejected = shelf.courses[5]["course_runs"][0]["key"]
    before = stage.stored.runs(shelf.id)[run_id(rejected)]
    shelf.alter_run(rejected, weeks_to_complete=30, **fields)

    answered = stage.ask(patient, shelf)

    report = stage.last_report(shelf)
    assert (report["outcome"], report["rejected"], report["withdrawn"]) == ("ok", 1, 1)
    assert rejected in report["rejections"]
    assert stage.stored.runs(shelf.id)[run_id(rejected)] == before
    assert_shows(answered, runs_of(shelf) | {run_id(rejected): contract_of(before)})
    shelf.alter_run(rejected, **(plain_course(shelf.id, 6)["course_runs"][0]))
    _assert_recovers(stage, patient, shelf)


def test_the_answer_is_an_empty_array_when_a_catalog_has_never_had_courses(
    stage: Stage, patient: HostProcess
) -> None:
    shelf = stage.new_shelf(courses=0)

    assert stage.ask(patient, shelf).json() == []

    assert stage.stored.runs(shelf.id) == {}


# Several catalogs


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (
            faults.throttle(600, status=503),
            500,
            "Catalog 12 could not be synced: .* answered 503.* is intact",
        ),
        (
            faults.answer(200, []),
            500,
            "Catalog 12 could not be synced: .* does not match its API.* is intact",
        ),
        (faults.answer(404), 404, "^the catalog is not found: 12$"),
    ],
)
def test_the_other_catalogs_are_synced_when_one_of_three_fails(  # noqa: PLR0917 - fixtures
    sandbox: Sandbox,
    settings: dict[str, str],
    admin: requests.Session,
    stored: Stored,
    fault: Action,
    status: int,
    says: str,
) -> None:
    shelves = [make_shelf(catalog_id) for catalog_id in (11, 12, 13)]
    sandbox.catalogs = {shelf.id: shelf for shelf in shelves}
    with HostProcess({**settings, "EDX_CATALOG_IDS": "11,12,13", "EDX_PAGE_SIZE": "5"}) as host:
        assert_shows(ask(host.url, admin), runs_of(*shelves))
        for shelf in shelves:
            change(shelf)
        before = stored.runs(12)
        sandbox.on("/catalogs/12/courses/", fault)

        answered = ask(host.url, admin)

        assert_says(answered, status, says)
        assert not re.search("Catalog 1[13]", answered.text)
        assert_kept(before, stored, shelves[1])
        for shelf in (shelves[0], shelves[2]):
            assert_reached(ask(host.url, admin, shelf.id, "only-if-cached"), stored, shelf)
        with pytest.raises(
            FunctionFailed, match=r"Catalog 12 could not be synced|the catalog is not found: 12$"
        ):
            host.fire("sync_course_runs")
        assert [stored.reports(shelf.id)[0]["outcome"] for shelf in shelves] == ["ok", "failed", "ok"]

        sandbox.rules.clear()
        assert_shows(ask(host.url, admin), runs_of(*shelves))
        for shelf in shelves:
            assert_reached(ask(host.url, admin, shelf.id, "only-if-cached"), stored, shelf)
        assert_discreet(host.child.lines)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.answer(403), "edX refused us"),
        (faults.throttle(600, status=503), "unavailable"),
        (faults.answer(200, "<html>"), "sent a broken body: incomplete or invalid JSON"),
        (faults.gateway(403), "answered 403 in a form that is not edX's"),
        (faults.no_results(), r"left out 2 of the 2 that it listed before \(11, 12\); the known list stays"),
        (faults.envelope(count=3), "2 usable catalogs but counts 3"),
        (faults.stuck(), "does not advance"),
    ],
)
def test_no_catalog_leaves_the_answer_when_the_list_of_catalogs_fails(  # noqa: PLR0917 - fixtures
    sandbox: Sandbox,
    host_here: Host,
    admin: requests.Session,
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
    fault: Action,
    says: str,
) -> None:
    caplog.set_level(logging.INFO)
    shelves = [make_shelf(11, 3), make_shelf(12, 3)]
    sandbox.catalogs = {shelf.id: shelf for shelf in shelves}
    assert_shows(ask(host_here.url, admin), runs_of(*shelves))
    before = {shelf.id: stored.runs(shelf.id) for shelf in shelves}
    sandbox.on("/catalogs/$", fault)

    answered = ask(host_here.url, admin)

    assert_says(answered, 500, "The list of catalogs could not be fetched from edX", says, "intact")
    assert_shows(ask(host_here.url, admin, cache_control="no-cache, stale-if-error=60"), runs_of(*shelves))
    assert_shows(ask(host_here.url, admin, cache_control="only-if-cached"), runs_of(*shelves))
    assert {shelf.id: stored.runs(shelf.id) for shelf in shelves} == before

    change(shelves[0])
    with pytest.raises(ConnectorError, match=says):
        host_here.fire("sync_course_runs")  # syncs the known catalogs, then fails
    assert_reached(ask(host_here.url, admin, 11, "only-if-cached"), stored, shelves[0])
    assert stored.runs(12) == before[12]

    sandbox.rules.clear()
    assert_shows(ask(host_here.url, admin), runs_of(*shelves))
    assert caplog.messages
    assert_discreet([caplog.text])


def test_a_catalog_leaves_the_answer_and_keeps_its_runs_when_edx_no_longer_lists_it(
    sandbox: Sandbox, host_here: Host, admin: requests.Session, stored: Stored
) -> None:
    shelves = [make_shelf(11, 3), make_shelf(12, 3)]
    sandbox.catalogs = {shelf.id: shelf for shelf in shelves}
    assert_shows(ask(host_here.url, admin), runs_of(*shelves))
    before = stored.runs(12)

    del sandbox.catalogs[12]

    assert_shows(ask(host_here.url, admin), runs_of(shelves[0]))
    assert assert_says(ask(host_here.url, admin, 12), 404) == "the catalog is not found"
    assert stored.runs(12) == before
    sandbox.catalogs[12] = shelves[1]
    assert_shows(ask(host_here.url, admin), runs_of(*shelves))


def _served(stage: Stage, host: HostProcess, shelf: Catalog) -> Any:
    return stage.ask(host, shelf, "only-if-cached").json()


def _assert_failed(stage: Stage, shelf: Catalog, answered: requests.Response, says: str) -> None:
    """Assert that the answer, the report and the log say what failed."""
    assert_says(answered, 500, f"Catalog {shelf.id} could not be synced", says, "stored before is intact")
    report = stage.last_report(shelf)
    assert report["outcome"] == "failed"
    assert re.search(says, report["error"])
    assert_discreet([report["error"]])
    assert re.search(says, stage.log_line(report["sync_id"]))


def _assert_recovers(stage: Stage, patient: HostProcess, shelf: Catalog) -> None:
    """Assert that the next sync without the fault stores and returns exactly what edX shows."""
    stage.edx.rules.clear()
    stage.assert_recovers(patient, [shelf])
