"""The edX sandbox behaves, and misbehaves, as edX does: asked over real HTTP."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import jwt
import pytest
import requests

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.content import sample_catalogs, sample_courses
from local.sandbox.faults import (
    EDX,
    answer,
    broken_gzip,
    cut,
    edit,
    envelope,
    huge,
    no_results,
    redirect,
    refuse,
    repeat,
    reset,
    slow,
    stuck,
    throttle,
    trickle,
    without,
)
from local.sandbox.http import Exchange, Reply
from local.sandbox.large import large_catalog
from local.sandbox.sample import make_course, make_run
from local.sandbox.tokens import SigningKey

NOW = datetime(2026, 3, 1, tzinfo=UTC)
COURSES = "catalog/v1/catalogs/1/courses/"
FOREIGN = "https://discovery.edx.org/api/v1/catalogs/1/courses/"


class Caller:
    """A plain caller of the sandbox, with a token."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"JWT {self.token()['access_token']}"
        sandbox.forget_requests()

    def token(self, **fields: str) -> dict[str, object]:
        form = {
            "grant_type": "client_credentials",
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
            "token_type": "jwt",
        }
        address = self.sandbox.settings()["EDX_TOKEN_URL"]
        token: dict[str, object] = self.session.post(address, data=form | fields, timeout=5).json()
        return token

    def get(self, path: str = COURSES, **headers: str) -> requests.Response:
        return self.session.get(self.sandbox.url + path, headers=headers, timeout=5, allow_redirects=False)

    def control(self, path: str, **sent: object) -> requests.Response:
        return self.session.post(f"{self.sandbox.url}sandbox/{path}", json=sent, timeout=5)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(1, "Ours", [make_course(f"NUSx+{number}x") for number in range(45)], archived=7)


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Sandbox]:
    others = [Catalog(3, "Theirs", viewers=["somebody-else"]), Catalog(12, "Empty")]
    with Sandbox([catalog, *others]) as sandbox:
        yield sandbox


@pytest.fixture
def edx(sandbox: Sandbox) -> Iterator[Caller]:
    caller = Caller(sandbox)
    with caller.session:
        yield caller


def keys(page: requests.Response) -> list[str]:
    return [course["key"] for course in page.json()["results"]]


# What the real server does.


def test_token_is_given_when_the_credentials_are_right(edx: Caller) -> None:
    token = edx.token()
    assert (token["token_type"], token["expires_in"]) == ("JWT", 180)


def test_token_is_refused_when_the_secret_is_wrong(edx: Caller) -> None:
    assert edx.token(client_secret="guess") == {"error": "invalid_client"}
    assert edx.sandbox.requests[-1].status == 401


def test_catalogs_list_only_ours_when_others_exist(edx: Caller) -> None:
    page = edx.get("catalog/v1/catalogs/").json()
    assert page["count"] == 2
    assert page["results"][0] == {
        "id": 1,
        "name": "Ours",
        "query": "*:*",
        "courses_count": 52,
        "viewers": ["sandbox-user"],
    }
    assert edx.get("catalog/v1/catalogs/1/").json() == page["results"][0]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("catalog/v1/catalogs/3/", 403, "You do not have permission to perform this action."),
        ("catalog/v1/catalogs/3/courses/", 403, "You do not have permission to perform this action."),
        ("catalog/v1/catalogs/99/courses/", 404, "No Catalog matches the given query."),
        ("catalog/v1/nothing/", 404, "Not found."),
    ],
)
def test_error_has_edx_s_words_when_a_catalog_is_not_ours(
    edx: Caller, path: str, status: int, detail: str
) -> None:
    response = edx.get(path)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


def test_path_is_redirected_when_its_last_slash_is_missing(edx: Caller) -> None:
    response = edx.get("catalog/v1/catalogs/1/courses?limit=5")
    assert (response.status_code, response.headers["Location"]) == (301, f"/{COURSES}?limit=5")


def test_pages_are_walked_by_limit_and_offset_when_page_size_is_ignored(edx: Caller) -> None:
    first = edx.get(f"{COURSES}?page_size=3")
    assert (first.json()["count"], len(keys(first)), first.json()["previous"]) == (45, 20, None)
    assert first.json()["next"] == f"{FOREIGN}?page_size=3&limit=20&offset=20"
    last = edx.get(f"{COURSES}?limit=20&offset=40")
    assert keys(last) == ["NUSx+40x", "NUSx+41x", "NUSx+42x", "NUSx+43x", "NUSx+44x"]
    assert (last.json()["next"], last.json()["previous"]) == (None, f"{FOREIGN}?limit=20&offset=20")


def test_page_is_as_large_as_asked_or_empty_when_the_offset_is_past_the_end(edx: Caller) -> None:
    assert len(keys(edx.get(f"{COURSES}?limit=1000"))) == 45
    past = edx.get(f"{COURSES}?limit=20&offset=100")
    assert (past.status_code, past.json()["results"], past.json()["next"]) == (200, [], None)


def test_pages_are_numbered_when_the_query_has_a_page(edx: Caller) -> None:
    page = edx.get(f"{COURSES}?page=2&page_size=10")
    assert keys(page)[0] == "NUSx+10x"
    assert page.json()["next"] == f"{FOREIGN}?page=3&page_size=10"


def test_body_is_compressed_when_the_caller_accepts_it(edx: Caller) -> None:
    plain = edx.get(**{"Accept-Encoding": "identity"})
    packed = edx.get(**{"Accept-Encoding": "gzip"})
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert plain.content == packed.content
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 2


def test_token_stops_working_when_it_expires(edx: Caller) -> None:
    edx.sandbox.expire_tokens()
    response = edx.get()
    assert (response.status_code, response.json()) == (401, {"detail": "Token has expired."})


def test_token_is_dead_on_arrival_when_it_is_valid_for_no_time(edx: Caller) -> None:
    edx.sandbox.token_valid_s = 0
    token = edx.token()
    assert token["expires_in"] == 180
    assert edx.get(Authorization=f"JWT {token['access_token']}").json() == {"detail": "Token has expired."}


@pytest.mark.parametrize("authorization", ["", "JWT made-up", "Bearer made-up"])
def test_call_is_refused_when_it_has_no_good_token(edx: Caller, authorization: str) -> None:
    response = edx.get(Authorization=authorization)
    assert response.status_code == 401
    assert list(response.json()) == ["detail"]


# Its log.


def test_log_tells_what_was_asked_when_requests_came_in(edx: Caller) -> None:
    edx.get(f"{COURSES}?limit=5&offset=10")
    (request,) = edx.sandbox.requests
    assert (request.method, request.path, request.status) == ("GET", f"/{COURSES}", 200)
    assert (request.query, request.scheme) == ({"limit": "5", "offset": "10"}, "JWT")
    assert request.token not in repr(request)
    assert edx.sandbox.requests_to("/jwks") == []


def test_most_in_flight_is_counted_when_callers_overlap(edx: Caller) -> None:
    edx.sandbox.latency_s = 0.2
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: edx.get(), range(4)))
    assert edx.sandbox.max_in_flight == 4


def test_one_is_in_flight_when_calls_follow_each_other(edx: Caller) -> None:
    for _ in range(50):
        edx.get(f"{COURSES}?limit=1")
    assert edx.sandbox.max_in_flight == 1


# Changing catalogues.


def test_pages_show_the_change_when_a_catalog_changes(edx: Caller, catalog: Catalog) -> None:
    edx.get()
    catalog.remove("NUSx+0x")
    catalog.add(make_course("NUSx+newx"), at=0)
    catalog.add_run("NUSx+1x", make_run("course-v1:NUSx+1x+again"))
    catalog.alter_run("course-v1:NUSx+2x+1T2026", min_effort=7)
    catalog.remove_run("course-v1:NUSx+3x+1T2026")
    catalog.alter("NUSx+4x", lambda course: course.update(title="Anew"))
    shown = {course["key"]: course for course in edx.get(f"{COURSES}?limit=100").json()["results"]}
    assert next(iter(shown)) == "NUSx+newx"
    assert "NUSx+0x" not in shown
    assert [run["key"] for run in shown["NUSx+1x"]["course_runs"]][1] == "course-v1:NUSx+1x+again"
    assert shown["NUSx+2x"]["course_runs"][0]["min_effort"] == 7
    assert shown["NUSx+3x"]["course_runs"] == []
    assert shown["NUSx+4x"]["title"] == "Anew"
    assert list(shown.values()) == catalog.courses


def test_change_is_an_error_when_nothing_has_that_key(catalog: Catalog) -> None:
    with pytest.raises(KeyError):
        catalog.remove("NUSx+unknown")
    with pytest.raises(KeyError):
        catalog.alter_run("course-v1:NUSx+unknown+R", min_effort=1)


# Faults.


def test_rule_acts_after_some_and_only_so_often_when_told(edx: Caller) -> None:
    rule = edx.sandbox.on("/courses/", answer(503), after=1, times=2)
    assert [edx.get().status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert rule.fired == 2


def test_rules_queue_up_when_they_match_the_same_page(edx: Caller) -> None:
    edx.sandbox.on("/courses/", answer(500), offset=20, times=1)
    edx.sandbox.on("/courses/", answer(502), offset=20, times=1)
    pages = [f"{COURSES}?limit=20&offset={offset}" for offset in (0, 20, 20, 20)]
    assert [edx.get(page).status_code for page in pages] == [200, 500, 502, 200]


def test_any_function_is_an_action_when_it_has_the_shape(edx: Caller, catalog: Catalog) -> None:
    def shrink(_exchange: Exchange, reply: Reply) -> Reply:
        catalog.remove("NUSx+0x")
        return reply

    edx.sandbox.on("/courses/", shrink, times=1)
    assert [edx.get().json()["count"] for _ in range(2)] == [45, 44]


@pytest.mark.parametrize(
    ("retry_after", "header", "detail"),
    [
        (3592, "3592", "Request was throttled. Expected available in 3592 seconds."),
        (None, None, "Request was throttled."),
        ("soon", "soon", "Request was throttled."),
    ],
)
def test_throttling_says_when_to_return_as_told(
    edx: Caller, retry_after: float | str | None, header: str | None, detail: str
) -> None:
    edx.sandbox.on(EDX, throttle(retry_after))
    response = edx.get()
    assert (response.status_code, response.headers.get("Retry-After")) == (429, header)
    assert response.json() == {"detail": detail}
    assert edx.token() == {"detail": detail}


def test_throttling_names_a_moment_when_told_as_a_date(edx: Caller) -> None:
    edx.sandbox.on(EDX, throttle(60, as_date=True))
    moment = parsedate_to_datetime(edx.get().headers["Retry-After"])
    assert 55 < (moment - datetime.now(UTC)).total_seconds() <= 60


def test_answer_is_anything_when_told(edx: Caller) -> None:
    edx.sandbox.on("/courses/", answer(200, "<html>", content_type="text/html"), times=1)
    edx.sandbox.on("/courses/", answer(200, {"error": "odd"}), times=1)
    edx.sandbox.on("/courses/", answer(200, [1, 2]), times=1)
    edx.sandbox.on("/courses/", redirect("http://169.254.169.254/"), times=1)
    edx.sandbox.on("/access_token", without("access_token"), times=1)
    assert edx.get().text == "<html>"
    assert edx.get().json() == {"error": "odd"}
    assert edx.get().json() == [1, 2]
    moved = edx.get()
    assert (moved.status_code, moved.headers["Location"]) == (302, "http://169.254.169.254/")
    assert "access_token" not in edx.token()


def test_envelope_lies_when_told(edx: Caller) -> None:
    edx.sandbox.on("/courses/", envelope(next="file:///etc/passwd", count=-1), times=1)
    edx.sandbox.on("/courses/", edit(lambda page: page.update(count=f"{page['count']}")), times=1)
    edx.sandbox.on("/courses/", no_results(), times=1)
    edx.sandbox.on("/courses/", repeat(0), offset=20, times=1)
    edx.sandbox.on("/courses/", stuck(), offset=20)
    odd = edx.get().json()
    assert (odd["next"], odd["count"], len(odd["results"])) == ("file:///etc/passwd", -1, 20)
    assert edx.get().json()["count"] == "45"
    assert edx.get().json() == {"count": 0, "next": None, "previous": None, "results": []}
    repeated = edx.get(f"{COURSES}?limit=20&offset=20")
    assert (keys(repeated)[0], repeated.json()["next"]) == ("NUSx+0x", f"{FOREIGN}?limit=20&offset=40")
    assert edx.get(f"{COURSES}?limit=20&offset=20").json()["next"] == f"{FOREIGN}?limit=20&offset=20"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (reset("before"), requests.ConnectionError),
        (reset("headers"), requests.ConnectionError),
        (reset("body"), (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
        (cut(), requests.exceptions.ChunkedEncodingError),
        (broken_gzip(), requests.exceptions.ContentDecodingError),
    ],
    ids=["reset before", "reset in headers", "reset in body", "cut", "broken gzip"],
)
def test_exchange_breaks_once_when_told(
    edx: Caller, action: object, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    edx.sandbox.on("/courses/", action, times=1)  # type: ignore[arg-type]
    with pytest.raises(error):
        edx.get()
    assert edx.get().status_code == 200


def test_gzip_ends_half_way_when_told(edx: Caller) -> None:
    edx.sandbox.on("/courses/", broken_gzip(truncated=True), times=1)
    with pytest.raises(requests.JSONDecodeError):
        edx.get().json()


def test_connections_are_refused_for_a_while_when_told(edx: Caller) -> None:
    edx.sandbox.on("/courses/", refuse(0.4), times=1)
    with pytest.raises(requests.ConnectionError):
        edx.get()
    time.sleep(0.2)
    with pytest.raises(requests.ConnectionError, match="refused"):
        edx.get()
    time.sleep(0.6)
    assert edx.get().status_code == 200


def test_connections_are_refused_meanwhile_when_it_is_unreachable(edx: Caller) -> None:
    with edx.sandbox.unreachable(), pytest.raises(requests.ConnectionError):
        edx.get()
    assert edx.get().status_code == 200


@pytest.mark.parametrize("where", ["headers", "body"])
def test_bytes_trickle_when_told(edx: Caller, where: str) -> None:
    edx.sandbox.on("/catalogs/", trickle(where, byte_every_s=0.001), times=1)  # type: ignore[arg-type]
    began = time.monotonic()
    assert edx.get("catalog/v1/catalogs/").json()["count"] == 2
    assert time.monotonic() - began > 0.1


def test_body_is_huge_when_told(edx: Caller) -> None:
    edx.sandbox.on("/courses/", huge(3), times=1)
    response = edx.get()
    assert len(response.content) > 3 * 2**20
    assert response.json()["count"] == 45


def test_answer_is_late_when_told(edx: Caller) -> None:
    edx.sandbox.on("/courses/", slow(0.2), times=1)
    assert edx.get().elapsed.total_seconds() > 0.2


def test_sandbox_stops_at_once_when_a_caller_is_being_trickled_to(catalog: Catalog) -> None:
    with Sandbox([catalog]) as sandbox, ThreadPoolExecutor(1) as pool:
        edx = Caller(sandbox)
        sandbox.on("/courses/", trickle("body", byte_every_s=60))
        pending = pool.submit(edx.get)
        while not sandbox.requests:
            time.sleep(0.01)
        sandbox.__exit__(None, None, None)
        assert isinstance(pending.exception(timeout=3), requests.RequestException)
        edx.session.close()


# Controls for other processes.


def test_knobs_turn_over_http_when_asked(edx: Caller) -> None:
    rule = {
        "path": "/courses/",
        "action": "throttle",
        "with": {"retry_after": "soon"},
        "times": 1,
        "offset": 0,
    }
    shown = edx.control("knobs", latency_s=0.01, expires_in=7, rules=[rule]).json()
    assert (shown["latency_s"], shown["expires_in"]) == (0.01, 7)
    assert edx.token()["expires_in"] == 7
    assert [edx.get().headers.get("Retry-After") for _ in range(2)] == ["soon", None]
    edx.control("catalogs/1", remove=["NUSx+0x"], alter_runs={"course-v1:NUSx+1x+1T2026": {"min_effort": 9}})
    assert edx.get().json()["results"][0]["course_runs"][0]["min_effort"] == 9
    log = edx.session.get(f"{edx.sandbox.url}sandbox/requests", timeout=5).json()
    assert [request["status"] for request in log["requests"]] == [200, 429, 200, 200]
    refused = edx.control("knobs", latency=1)
    assert (refused.status_code, refused.json()) == (400, {"detail": "No such knob: latency"})


def test_sandbox_runs_alone_when_started_as_a_module() -> None:
    command = [sys.executable, "-m", "local.sandbox", "--courses", "30", "--latency-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own module
        try:
            assert process.stdout
            url = process.stdout.readline().removeprefix("edX sandbox at ").strip()
            settings = dict(process.stdout.readline().strip().split("=", 1) for _ in range(7))
            assert settings["EDX_API_URL"] == f"{url}catalog/v1/"
            assert settings["EDX_CLIENT_SECRET"] == "sandbox-secret"
            token = requests.post(f"{url}mint", data={"sub": "me"}, timeout=5).text.strip()
            assert jwt.decode(token, options={"verify_signature": False})["sub"] == "me"
        finally:
            process.terminate()


# Tokens of administrators.


def verified(sandbox: Sandbox, token: str) -> dict[str, object]:
    key = jwt.PyJWKClient(f"{sandbox.url}jwks").get_signing_key_from_jwt(token)
    claims: dict[str, object] = jwt.decode(
        token, key, algorithms=["RS256"], issuer=sandbox.url, audience="luminus-edx-connector"
    )
    return claims


def test_minted_token_verifies_against_the_jwks_when_nothing_is_overridden(sandbox: Sandbox) -> None:
    claims = verified(sandbox, sandbox.mint())
    assert (claims["sub"], claims["roles"]) == ("local-admin", ["LumiNUS.Admin"])
    sandbox.rotate_key()
    assert verified(sandbox, sandbox.mint(sub="other", roles=None)).keys().isdisjoint({"roles"})


@pytest.mark.parametrize(
    "forgery",
    [
        {"exp": 1},
        {"iss": "https://example.org/"},
        {"aud": "other"},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"kid": "unknown"}},
        {"key": SigningKey("same-kid"), "header": {"kid": None}},
    ],
    ids="+".join,
)
def test_forged_token_does_not_verify_when_minted_so(sandbox: Sandbox, forgery: dict[str, object]) -> None:
    with pytest.raises(jwt.PyJWTError):
        verified(sandbox, sandbox.mint(**forgery))  # type: ignore[arg-type]


# The sample.


def test_sample_holds_enough_of_everything_when_made() -> None:
    courses = sample_courses(NOW)
    runs = [run for course in courses for run in course["course_runs"]]
    objects = [run for run in runs if isinstance(run, dict)]
    sizes = [len(json.dumps(course)) for course in courses]
    assert len(courses) >= 120
    assert len(runs) >= 200
    assert min(sizes) > 4_000
    assert max(sizes) < 50_000
    assert len({course["key"] for course in courses}) == len(courses)
    assert len([run for run in objects if str(run["key"]).startswith("course-v1:")]) > 80
    assert len([run for run in objects if "/" in str(run["key"])]) > 80
    assert {type(run["min_effort"]) for run in objects} == {int, float, str, type(None)}
    assert {type(run["image"]) for run in objects} == {dict, list, type(None)}
    assert [] in [course["course_runs"] for course in courses]
    assert courses == sample_courses(NOW)


def test_sample_catalogs_share_runs_when_made() -> None:
    ours, partner, theirs = sample_catalogs(NOW)
    assert (len(ours), len(partner)) == (len(ours.courses), 30)
    shared = {course["key"] for course in ours.courses} & {course["key"] for course in partner.courses}
    assert len(shared) == 24
    assert theirs.viewers == ["somebody-else"]


def test_large_catalogue_is_quick_to_make_and_change_when_it_is_large() -> None:
    began = time.monotonic()
    catalog = large_catalog(60_000, NOW)
    catalog.remove("LoadX+000007")
    catalog.alter_run("course-v1:LoadX+000009+2", min_effort=9)
    assert time.monotonic() - began < 30
    assert len(catalog) == 59_999
    with Sandbox([catalog]) as sandbox:
        edx = Caller(sandbox)
        page = edx.get(f"{COURSES}?limit=100").json()
        edx.session.close()
    assert page["count"] == 59_999
    assert page["results"][8]["course_runs"][1]["min_effort"] == 9
    assert sum(len(course["course_runs"]) for course in page["results"][:6]) == 9
    assert 8_000 < len(json.dumps(page["results"])) / 100 < 10_000
