"""The HTTP function on the worker: one happy and the unhappy paths of every row of the contract."""

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import answer, throttle
from shared.version import __version__
from tests.attacks import PATH, honest_headers
from tests.builders import make_course, make_run
from tests.contract.example import COURSE, SERVED
from tests.worker.harness import Answer, FunctionsWorker, StartWorker

UNKNOWN = make_run(
    key="NUSx/A2x/2T2026",
    start=None,
    end=None,
    enrollment_start=None,
    enrollment_end=None,
    pacing_type=None,
    weeks_to_complete=None,
    min_effort=None,
    max_effort=None,
    marketing_url=None,
    enrollment_url=None,
    seats=[],
    type=None,
)
UNKNOWN_SERVED = {
    "id": "219626d0-a428-5083-be33-0beb7f9bc42f",
    "courserunKey": "NUSx/A2x/2T2026",
    "uuid": "22222222-2222-4222-8222-222222222222",
    "availability": "Upcoming",
    "enrollmentUrl": "https://courses.edx.org/course_modes/choose/NUSx%2FA2x%2F2T2026/",
}


def catalogs() -> list[Catalog]:
    return [
        Catalog(
            7,
            "Ours",
            [
                COURSE,
                make_course(
                    UNKNOWN, key="NUSx+A2x", uuid="22222222-2222-4222-8222-222222222222", marketing_url=None
                ),
            ],
        ),
        Catalog(9, "Somebody else's", viewers=["somebody-else"]),
    ]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(catalogs()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def worker(start_worker: StartWorker) -> Iterator[FunctionsWorker]:
    with start_worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def first(worker: FunctionsWorker, sandbox: Sandbox) -> Answer:
    """The answer to the first call of all, which syncs."""
    return worker.http(PATH, honest_headers(sandbox))


@pytest.fixture(autouse=True)
def healthy(sandbox: Sandbox) -> Iterator[None]:
    sandbox.forget_requests()
    yield
    sandbox.rules.clear()
    sandbox.latency_s = 0


def get(worker: FunctionsWorker, sandbox: Sandbox, query: str = "", **headers: str) -> Answer:
    """Ask as an administrator; an underscore in a header's name stands for a hyphen."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return worker.http(f"{PATH}?{query}", {**honest_headers(sandbox), **more})


def test_runs_are_answered_when_nothing_was_stored(first: Answer) -> None:
    assert first.status == 200
    assert first.json() == [UNKNOWN_SERVED, SERVED]


def test_headers_describe_the_answer_when_it_is_200(first: Answer) -> None:
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Vary"] == "Accept-Encoding"
    assert 0 <= int(first.headers["Age"]) < 60
    assert first.headers["ETag"].startswith('W/"')
    assert "Content-Encoding" not in first.headers


def test_same_bytes_come_from_storage_when_the_catalog_is_fresh(
    worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    again = get(worker, sandbox)
    assert (again.status, again.body, again.headers["ETag"]) == (200, first.body, first.headers["ETag"])
    assert not sandbox.requests_to("^/catalog/")


def test_body_is_the_stored_gzip_when_the_caller_accepts_it(
    worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    packed = get(worker, sandbox, Accept_Encoding="gzip, deflate")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == first.body
    assert packed.headers["ETag"] == first.headers["ETag"]


def test_answer_is_304_when_the_etag_matches(
    worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    unchanged = get(worker, sandbox, If_None_Match=first.headers["ETag"])
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.headers["ETag"] == first.headers["ETag"]
    assert unchanged.headers["Cache-Control"] == "private, no-cache"
    assert unchanged.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "query",
    ["courserunKey=course-v1%3ANUSx%2BA1x%2B1T2026", "courserunKey=course-v1:NUSx+A1x+1T2026&catalogId=7"],
)
def test_answer_is_an_object_instead_of_an_array_when_a_run_key_is_given(
    query: str, worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    assert first.status == 200
    one = get(worker, sandbox, query)
    assert (one.status, one.json()) == (200, SERVED)


def test_request_body_and_unknown_or_empty_parameters_are_ignored(
    worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    target = f"{PATH}?limit=1&catalogId=&courserunKey="
    answered = worker.http(target, honest_headers(sandbox), body=b'{"catalogId": 9}')
    assert (answered.status, answered.body) == (200, first.body)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("catalogId=8", "the catalog is not found"),
        ("catalogId=9", "the catalog is not found"),
        ("courserunKey=course-v1:NUSx+A9x+1T2026", "the course run is not found"),
        ("courserunKey=course-v1:NUSx+A1x+1T2001", "the course run is not found"),
    ],
)
def test_answer_is_404_when_what_is_named_does_not_exist(
    query: str, message: str, worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    assert first.status == 200
    missing = get(worker, sandbox, query)
    assert (missing.status, missing.json()) == (404, message)
    assert missing.headers["Content-Type"] == "application/json"


def test_answer_is_400_when_a_parameter_is_malformed(worker: FunctionsWorker, sandbox: Sandbox) -> None:
    malformed = get(worker, sandbox, "catalogId=seven")
    assert malformed.status == 400
    assert "catalogId" in malformed.json()


def test_answer_is_401_when_the_key_or_the_token_is_missing(
    worker: FunctionsWorker, sandbox: Sandbox
) -> None:
    key_only = {"Ocp-Apim-Subscription-Key": honest_headers(sandbox)["Ocp-Apim-Subscription-Key"]}
    without_token, without_key = worker.http(PATH, key_only), worker.http(PATH)
    assert (without_token.status, without_token.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert without_key.status == 401
    assert "WWW-Authenticate" not in without_key.headers


def test_answer_is_403_when_the_role_is_missing(worker: FunctionsWorker, sandbox: Sandbox) -> None:
    forbidden = get(worker, sandbox, Authorization=f"Bearer {sandbox.mint(roles=['Student'])}")
    assert (forbidden.status, forbidden.json()) == (403, "Login user not authorized to perform this action")


def test_answer_is_500_and_storage_is_unchanged_when_edx_sends_invalid_data(
    worker: FunctionsWorker, sandbox: Sandbox, first: Answer
) -> None:
    sandbox.on("/courses/", answer(200, "<html>Maintenance</html>"))
    failed = get(worker, sandbox, Cache_Control="no-cache")
    assert failed.status == 500
    assert "edX" in failed.json()
    assert "Traceback" not in failed.json()
    assert get(worker, sandbox, Cache_Control="only-if-cached").body == first.body
    assert get(worker, sandbox, Cache_Control="no-cache, stale-if-error=600").body == first.body


def test_answer_is_500_when_nothing_is_stored_and_the_request_says_only_if_cached(
    start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with start_worker() as worker:
        assert get(worker, sandbox, Cache_Control="only-if-cached").status == 500
    assert not sandbox.requests_to("^/catalog/")


def test_answer_has_retry_after_when_edx_throttles(start_worker: StartWorker, sandbox: Sandbox) -> None:
    sandbox.on("/courses/", throttle(3592))
    with start_worker() as worker:
        throttled = get(worker, sandbox)
    assert throttled.status == 500
    assert 3500 < int(throttled.headers["Retry-After"]) <= 3592


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("APIM_SUBSCRIPTION_KEYS", " , "),
        ("EDX_CLIENT_SECRET", ""),
        ("EDX_API_URL", "http://user:hunter2@edx.example/"),
    ],
)
def test_answer_is_500_and_names_the_setting_when_one_is_wrong(
    setting: str, value: str, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with start_worker(**{setting: value}) as worker:
        failed = get(worker, sandbox)
        assert failed.status == 500
        assert setting in failed.json()
        assert "hunter2" not in failed.json() + worker.log


def test_caller_and_parameters_are_checked_first_when_another_setting_is_missing(
    start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with start_worker(EDX_CLIENT_SECRET="") as worker:
        assert worker.http(PATH).status == 401
        assert get(worker, sandbox, Authorization=f"Bearer {sandbox.mint(roles=[])}").status == 403
        assert get(worker, sandbox, "catalogId=x").status == 400


def test_answer_is_500_when_the_signing_keys_cannot_be_fetched(
    start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with start_worker(ADMIN_JWKS_URL="http://127.0.0.1:9/jwks") as worker:
        assert get(worker, sandbox).status == 500


def test_health_answers_when_more_callers_wait_for_a_sync_than_there_are_threads(
    start_worker: StartWorker, sandbox: Sandbox
) -> None:
    sandbox.latency_s = 1
    with start_worker(PYTHON_THREADPOOL_THREAD_COUNT="2") as worker, ThreadPoolExecutor(40) as callers:
        waiting = [callers.submit(get, worker, sandbox) for _ in range(40)]
        while not sandbox.requests_to("/catalogs/"):
            sleep(0.01)
        health = worker.http("/health")
        assert not any(caller.done() for caller in waiting)
        assert health.status == 200
        assert health.json() == {"status": "healthy", "version": __version__}
        assert {caller.result().status for caller in waiting} == {200}
    assert len(sandbox.requests_to("/catalogs/7/courses/")) == 1


def test_health_returns_the_version(start_worker: StartWorker) -> None:
    with start_worker() as worker:
        health = worker.http("/health")
    assert health.json() == {"status": "healthy", "version": __version__}
