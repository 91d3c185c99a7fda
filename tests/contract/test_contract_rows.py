"""Each row of the HTTP contract: on the replacement host and on the worker, with a sandbox edX and tables."""

import gzip
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer, slow, throttle
from local.sandbox.tokens import SigningKey
from tests.attacks import KEY as SUBSCRIPTION_KEY
from tests.builders import make_course, make_run
from tests.contract.callers import Caller, Start
from tests.contract.example import COURSE, ENDED_KEY, KEY, SERVED
from tests.contract.schema import CONTRACT
from tests.worker.harness import Answer

OLD_STYLE = "NUSx/A2x/2T2026"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    catalogs = [
        Catalog(7, "Ours", [COURSE]),
        Catalog(8, "Our second catalog", [make_course(make_run(key=OLD_STYLE, start=None), key="NUSx+A2x")]),
        Catalog(9, "Catalog of another user", [make_course(key="NUSx+A3x")], viewers=["somebody-else"]),
    ]
    with Sandbox(catalogs) as sandbox:
        yield sandbox


def error(response: Answer) -> str:
    """Return the message of an error, whose body is a JSON string, as documented."""
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["Cache-Control"] == "no-store"
    message = response.json()
    assert isinstance(message, str)
    assert message
    return message


# 200


def test_catalogue_is_an_array_that_matches_the_schema_exactly(caller: Caller) -> None:
    response = caller.get()
    assert response.status == 200
    runs = response.json()
    assert [run["courserunKey"] for run in runs] == [OLD_STYLE, KEY]  # sorted, the ended one left out
    assert runs[1] == SERVED
    for run in runs:
        CONTRACT.validate(run)
        assert None not in run.values()
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.headers["ETag"].startswith('W/"')
    assert int(response.headers["Age"]) >= 0
    assert re.fullmatch(
        r"luminus-edx-connector; (hit|fwd=(miss|stale|request)); ttl=\d+", response.headers["Cache-Status"]
    )
    assert "Retry-After" not in response.headers


def test_stored_catalogue_is_served_without_edx_when_it_is_fresh(caller: Caller, sandbox: Sandbox) -> None:
    before = caller.get()
    sandbox.forget_requests()
    assert caller.get().body == before.body
    assert sandbox.requests_to("/catalog/") == []


def test_catalogue_is_synced_when_the_request_says_no_cache(caller: Caller, sandbox: Sandbox) -> None:
    caller.get(Cache_Control="no-cache")
    assert len(sandbox.requests_to("/7/courses/")) == len(sandbox.requests_to("/8/courses/")) == 1


def test_gzip_body_has_the_same_json(caller: Caller) -> None:
    plain, packed = caller.get(), caller.get(Accept_Encoding="br;q=1, gzip;q=0.5")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["ETag"] == plain.headers["ETag"]


def test_unknown_parameters_a_body_and_empty_parameters_are_ignored(caller: Caller) -> None:
    response = caller.get("catalogId=&courserunKey=&x=1&x=2&catalog=0", body=b'{"catalogId": 9}')
    assert [run["courserunKey"] for run in response.json()] == [OLD_STYLE, KEY]


def test_run_has_only_the_fields_that_are_known(caller: Caller, sandbox: Sandbox) -> None:
    unknown = (
        "start", "end", "enrollment_start", "enrollment_end", "pacing_type", "weeks_to_complete",
        "min_effort", "max_effort", "marketing_url", "enrollment_url", "type",
    )  # fmt: skip
    run = make_run(key="NUSx/A5x/2T2026", seats=[], **dict.fromkeys(unknown))
    sandbox.catalogs[8].add(
        make_course(run, key="NUSx+A5x", uuid="22222222-2222-4222-8222-222222222222", marketing_url=None)
    )
    response = caller.get("courserunKey=NUSx/A5x/2T2026", Cache_Control="no-cache")
    sandbox.catalogs[8].remove("NUSx+A5x")
    assert response.json() == {
        "id": "45fe2d95-5738-5ecb-863e-db770c4539dc",
        "courserunKey": "NUSx/A5x/2T2026",
        "uuid": "22222222-2222-4222-8222-222222222222",
        "availability": "Upcoming",
        "enrollmentUrl": "https://courses.edx.org/course_modes/choose/NUSx%2FA5x%2F2T2026/",
    }
    caller.get(Cache_Control="no-cache")


# catalogId


def test_only_one_catalog_is_answered_when_it_is_named(caller: Caller) -> None:
    assert caller.keys("catalogId=7") == [KEY]
    assert caller.keys("catalogId=8") == [OLD_STYLE]


@pytest.mark.parametrize(
    "query",
    ["catalogId=0", "catalogId=abc", "catalogId=-1", "catalogId=07", "catalogId=7.0", "catalogId=+7",
     "catalogId=7&catalogId=7", "catalogId=7&catalogId=", "catalogid=7",
     "CATALOGID=7"],
)  # fmt: skip
def test_answer_is_400_when_the_catalog_id_is_malformed(caller: Caller, sandbox: Sandbox, query: str) -> None:
    response = caller.get(query, Cache_Control="no-cache")
    assert response.status == 400
    assert "catalogId" in error(response)
    assert sandbox.requests_to("/catalog/") == []


@pytest.mark.parametrize("catalog_id", [9, 999, "9" * 100, "9" * 5000])
def test_answer_is_404_when_the_catalog_is_not_ours(caller: Caller, catalog_id: object) -> None:
    response = caller.get(f"catalogId={catalog_id}", Cache_Control="no-cache")
    assert (response.status, error(response)) == (404, "the catalog is not found")


@pytest.mark.parametrize("status", [404, 403])
def test_answer_is_404_when_edx_answers_404_or_403_for_the_catalog(
    caller: Caller, sandbox: Sandbox, status: int
) -> None:
    caller.get()
    sandbox.on("/7/courses/", answer(status))
    response = caller.get("catalogId=7", Cache_Control="no-cache, stale-if-error=600")
    assert (response.status, error(response)) == (404, "the catalog is not found")


# courserunKey


@pytest.mark.parametrize(
    "query", [KEY, "course-v1%3ANUSx%2BA1x%2B1T2026", "course-v1:NUSx%20A1x%201T2026", f"{KEY}&catalogId=7"]
)
def test_answer_is_an_object_instead_of_an_array_when_a_run_key_is_given(caller: Caller, query: str) -> None:
    response = caller.get(f"courserunKey={query}")
    assert response.json() == SERVED
    assert response.body in caller.get().body
    assert response.headers["ETag"] != caller.get().headers["ETag"]


def test_one_run_is_found_when_its_key_is_of_the_old_style(caller: Caller) -> None:
    assert caller.get("courserunKey=NUSx/A2x/2T2026").json()["availability"] == "Upcoming"
    assert caller.get("courserunKey=NUSx%2FA2x%2F2T2026").json()["courserunKey"] == OLD_STYLE


@pytest.mark.parametrize(
    "query",
    ["courserunKey=unknown", f"courserunKey={ENDED_KEY}", f"courserunKey={KEY}&catalogId=8",
     f"courserunKey={KEY.lower()}", f"courserunKey={'x' * 255}"],
)  # fmt: skip
def test_answer_is_404_when_the_run_is_unknown_ended_or_in_another_catalog(
    caller: Caller, query: str
) -> None:
    response = caller.get(query, If_None_Match="*")
    assert (response.status, error(response)) == (404, "the course run is not found")


def test_answer_is_404_when_the_run_is_withdrawn(caller: Caller, sandbox: Sandbox) -> None:
    before = caller.get(f"courserunKey={KEY}").json()
    courses = sandbox.catalogs[7].courses
    sandbox.catalogs[7].replace([make_course(key="NUSx+A4x")])
    try:
        response = caller.get(f"courserunKey={KEY}", Cache_Control="max-age=0")
        assert (response.status, error(response)) == (404, "the course run is not found")
    finally:
        sandbox.catalogs[7].replace(courses)
    assert caller.get(f"courserunKey={KEY}", Cache_Control="max-age=0").json() == before


@pytest.mark.parametrize(
    "query",
    ["courserunKey=a%00b", "courserunKey=a%0Ab", "courserunKey=a%C2%85b", f"courserunKey={'x' * 256}",
     f"courserunKey={KEY}&courserunKey={KEY}"],
)  # fmt: skip
def test_answer_is_400_when_the_run_key_is_malformed(caller: Caller, query: str) -> None:
    response = caller.get(query)
    assert response.status == 400
    assert "courserunKey" in error(response)


# 304


@pytest.mark.parametrize("query", ["", "catalogId=7", f"courserunKey={KEY}"])
def test_answer_is_304_when_the_caller_has_the_json(caller: Caller, query: str) -> None:
    tag = caller.get(query).headers["ETag"]
    for condition in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        response = caller.get(query, If_None_Match=condition)
        assert (response.status, response.body) == (304, b"")
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["ETag"] == tag
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Vary"] == "Accept-Encoding"
        assert int(response.headers["Age"]) >= 0


@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": 'W/"other"'},
        {"If_Modified_Since": "Fri, 31 Dec 2999 23:59:59 GMT"},
        {"If_Match": '"x"'},
    ],
)
def test_answer_is_200_when_the_condition_does_not_match_or_is_malformed(
    caller: Caller, headers: dict[str, Any]
) -> None:
    assert caller.get(**headers).status == 200


def test_tag_changes_exactly_when_the_json_does(caller: Caller, sandbox: Sandbox) -> None:
    tag = caller.get().headers["ETag"]
    assert caller.get(Cache_Control="no-cache").headers["ETag"] == tag
    sandbox.catalogs[8].alter_run(OLD_STYLE, min_effort=1)
    changed = caller.get(Cache_Control="no-cache", If_None_Match=tag)
    sandbox.catalogs[8].alter_run(OLD_STYLE, min_effort=14)
    assert changed.status == 200
    assert changed.headers["ETag"] != tag
    assert caller.get(Cache_Control="no-cache").headers["ETag"] == tag


# 401, 403 and the order of the checks


def forged(sandbox: Sandbox) -> str:
    return f"Bearer {sandbox.mint(key=SigningKey(sandbox.signing_key.key_id))}"


def expired(sandbox: Sandbox) -> str:
    return f"Bearer {sandbox.mint(lifetime_s=-3600)}"


def without_role(sandbox: Sandbox) -> str:
    return f"Bearer {sandbox.mint(roles=['Student'])}"


@pytest.mark.parametrize(
    "key", [None, "", "wrong", SUBSCRIPTION_KEY.upper(), f"another-key,{SUBSCRIPTION_KEY}"]
)
def test_answer_is_401_before_any_other_check_when_the_subscription_key_is_wrong(
    caller: Caller, sandbox: Sandbox, key: str | None
) -> None:
    response = caller.get("catalogId=x", Ocp_Apim_Subscription_Key=key, Authorization=forged(sandbox))
    assert response.status == 401
    assert "WWW-Authenticate" not in response.headers
    assert "subscription" in error(response)
    assert sandbox.requests == []


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer x.y.z", "Basic eDp5", forged, expired])
def test_answer_is_401_before_parameters_are_read_when_the_token_is_not_valid(
    caller: Caller, sandbox: Sandbox, token: Any
) -> None:
    sent = token(sandbox) if callable(token) else token
    response = caller.get("catalogId=x", Authorization=sent)
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    error(response)
    assert sandbox.requests_to("/catalog/") == []


def test_answer_is_403_before_parameters_are_read_when_the_role_is_missing(
    caller: Caller, sandbox: Sandbox
) -> None:
    response = caller.get("catalogId=x", Authorization=without_role(sandbox))
    assert (response.status, error(response)) == (
        403,
        "Login user not authorized to perform this action",
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_answer_is_the_404_of_the_host_when_the_method_is_not_get(caller: Caller, method: str) -> None:
    assert caller.get(method=method).status == 404


# 500


def test_answer_is_500_or_stored_data_as_the_request_says_when_edx_fails(
    caller: Caller, sandbox: Sandbox
) -> None:
    before = caller.get()
    sandbox.on("/7/courses/", answer(200, "<html>secret page</html>"))
    response = caller.get(Cache_Control="no-cache")
    assert response.status == 500
    message = error(response)
    assert message.startswith("Catalog 7 could not be synced: ")
    assert message.endswith("What was stored before is intact.")
    assert not any(text in message for text in ("Traceback", "secret", sandbox.url))
    assert "Retry-After" not in response.headers
    assert caller.get(Cache_Control="no-cache, stale-if-error=600").body == before.body
    assert caller.get(Cache_Control="only-if-cached").body == before.body
    stale = caller.get(Cache_Control="no-cache, stale-if-error=600", If_None_Match=before.headers["ETag"])
    assert stale.status == 304


def test_stored_catalogue_is_served_as_stale_by_default_when_edx_fails(
    caller: Caller, sandbox: Sandbox
) -> None:
    before = caller.get(Cache_Control="no-cache")
    sandbox.on("/7/courses/", answer(200, "<html>secret page</html>"))
    stale = caller.get(Cache_Control="max-age=0")
    assert (stale.status, stale.body) == (200, before.body)
    held = caller.get(Cache_Control="max-age=0", If_None_Match=before.headers["ETag"])
    assert held.status == 304
    for each in (stale, held):
        assert re.fullmatch(
            r"luminus-edx-connector; hit; ttl=-\d+; detail=edx-unavailable", each.headers["Cache-Status"]
        )
    assert caller.get(Cache_Control="max-age=0, stale-if-error=0").status == 500


def test_answer_is_500_with_retry_after_when_the_first_sync_has_not_finished(
    start: Start, sandbox: Sandbox
) -> None:
    with start() as caller:
        sandbox.forget_requests()
        never = caller.get(Cache_Control="only-if-cached")
        assert sandbox.requests_to("/(catalog|oauth2)/") == []
        sandbox.on("/8/courses/", throttle(3592))
        throttled = caller.get()
        sandbox.rules.clear()
        sandbox.forget_requests()
        remembered = caller.get(Cache_Control="no-cache")
        partial = caller.get(Cache_Control="only-if-cached")
        stored = caller.get("catalogId=7", Cache_Control="only-if-cached")
    assert (never.status, error(never)) == (500, "Nothing has been synced yet; ask again later")
    assert throttled.status == remembered.status == 500
    assert "Catalog 8" in error(throttled)
    assert 3580 <= int(throttled.headers["Retry-After"]) <= 3592
    assert 3570 <= int(remembered.headers["Retry-After"]) <= int(throttled.headers["Retry-After"])
    assert sandbox.requests_to("/(catalog|oauth2)/") == []
    assert partial.status == 500
    assert "Retry-After" not in partial.headers
    assert [run["courserunKey"] for run in stored.json()] == [KEY]


# Time, and concurrent callers


def test_availability_and_age_follow_the_clock_without_a_sync(caller: Caller, sandbox: Sandbox) -> None:
    begins = (datetime.now(UTC) + timedelta(seconds=4)).replace(microsecond=0)
    sandbox.catalogs[8].alter_run(OLD_STYLE, start=begins.isoformat())
    upcoming = caller.get("catalogId=8", Cache_Control="no-cache")
    sandbox.forget_requests()
    while datetime.now(UTC) < begins:
        time.sleep(0.05)
    current = caller.get("catalogId=8", Cache_Control="max-age=600", If_None_Match=upcoming.headers["ETag"])
    sandbox.catalogs[8].alter_run(OLD_STYLE, start=None)
    caller.get(Cache_Control="no-cache")
    assert [run["availability"] for run in upcoming.json()] == ["Upcoming"]
    assert [run["availability"] for run in current.json()] == ["Current"]
    assert upcoming.headers["Age"] == "0"
    assert 1 <= int(current.headers["Age"]) <= 5


def test_callers_share_one_pull_when_they_call_at_the_same_time(caller: Caller, sandbox: Sandbox) -> None:
    sandbox.on("/7/courses/", slow(1), times=1)
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(lambda _: caller.get("catalogId=7", Cache_Control="no-cache"), range(12)))
    assert {each.status for each in answers} == {200}
    assert len({each.body for each in answers}) == 1
    assert json.loads(answers[0].body) == [SERVED]
    assert len(sandbox.requests_to("/7/courses/")) == 1


# The history


def changes(caller: Caller, query: str = "", **headers: Any) -> Answer:
    return caller.get(query, path="/changes", **headers)


def test_history_shows_what_changed_newest_first_and_never_calls_edx(start: Start, sandbox: Sandbox) -> None:
    sandbox.catalogs[8].alter_run(OLD_STYLE, min_effort=14)
    with start() as caller:
        assert changes(caller).json() == []
        caller.get(Cache_Control="no-cache")
        sandbox.catalogs[8].alter_run(OLD_STYLE, min_effort=1)
        caller.get(Cache_Control="no-cache")
        sandbox.catalogs[8].alter_run(OLD_STYLE, min_effort=4)
        caller.get(Cache_Control="no-cache")
        sandbox.catalogs[8].alter_run(OLD_STYLE, min_effort=14)
        sandbox.forget_requests()
        every = changes(caller)
        first = changes(caller, "limit=1&catalogId=8")
        link = re.fullmatch(r'<\?(catalogId=8&limit=1&cursor=[\w-]+)>; rel="next"', first.headers["Link"])
        assert link
        following = changes(caller, link[1])
        one_run = changes(caller, f"courserunKey={OLD_STYLE}&since=2026-01-01")
        never = changes(caller, "courserunKey=never-was")
        assert sandbox.requests_to("/catalog/") == []
    kinds = [(each["catalogId"], each["kind"]) for each in every.json()]
    assert kinds[:2] == [(8, "changed"), (8, "changed")]
    assert sorted(kinds[2:]) == [(7, "first-sync"), (8, "first-sync")]
    newest, older = every.json()[:2]
    assert newest["courserunKey"] == OLD_STYLE
    assert newest["fields"] == {
        "minEffort": {"before": 1, "after": 4},
        "modularCredit": {"before": 2, "after": 3},
    }
    assert older["fields"] == {
        "minEffort": {"before": 14, "after": 1},
        "modularCredit": {"before": 4, "after": 2},
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", newest["at"])
    assert every.headers["Content-Type"] == "application/json"
    assert "Link" not in every.headers
    assert first.json() == [newest]
    assert following.json() == [older]
    assert one_run.json() == [newest, older]
    assert (never.status, never.json()) == (200, [])


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "limit=0", "limit=1001", "cursor=x", "catalogId=0", "limit=1&limit=1",
     "Since=2026-01-01", "courserunKey=%00"],
)  # fmt: skip
def test_history_answers_400_when_a_parameter_is_malformed(caller: Caller, query: str) -> None:
    response = changes(caller, query)
    assert response.status == 400
    error(response)


def test_history_requests_are_checked_in_the_same_order(caller: Caller, sandbox: Sandbox) -> None:
    no_key = changes(caller, "limit=0", Ocp_Apim_Subscription_Key=None)
    no_token = changes(caller, "limit=0", Authorization=None)
    no_role = changes(caller, "limit=0", Authorization=without_role(sandbox))
    assert [each.status for each in (no_key, no_token, no_role)] == [401, 401, 403]
    assert "WWW-Authenticate" not in no_key.headers
    assert no_token.headers["WWW-Authenticate"] == "Bearer"
    not_ours = changes(caller, "catalogId=999")
    assert (not_ours.status, error(not_ours)) == (404, "the catalog is not found")
