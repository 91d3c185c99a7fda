"""No attack gets more than its status, reaches edX or storage, or leaves a secret anywhere."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from local.sandbox import Sandbox
from tests.attacks import ATTACKS, INJECTED_RUN_KEYS, KEY, PATH, Attack, honest_headers
from tests.worker.harness import FunctionsWorker, StartWorker

STORAGE_KEY = "bm8ga2V5IG9mIGFueSBhY2NvdW50"


@pytest.fixture(scope="module")
def guarded(sandbox: Sandbox, start_worker: StartWorker) -> Iterator[FunctionsWorker]:
    """The app with its storage at the sandbox too, whose log then shows all that the app reaches for."""
    storage = f"AccountName=attacked;AccountKey={STORAGE_KEY};TableEndpoint={sandbox.url}attacked;"
    with start_worker(TABLES_CONNECTION_STRING=storage, EDX_CATALOG_IDS="1") as worker:
        yield worker


@pytest.fixture(scope="module")
def synced(start_worker: StartWorker) -> Iterator[FunctionsWorker]:
    with start_worker() as worker:
        worker.timer("sync_course_runs")
        yield worker


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nothing_is_reached_or_told_when_attacked(
    attack: Attack, guarded: FunctionsWorker, sandbox: Sandbox
) -> None:
    sandbox.forget_requests()
    headers = attack.sent_headers(sandbox)

    answer = guarded.http(attack.target, headers, method=attack.method)

    assert answer.status == attack.status
    assert {request.path for request in sandbox.requests} <= {"/jwks"}
    if attack.method == "GET":
        assert isinstance(answer.json(), str)
    told = f"{guarded.log}{answer.headers}{answer.body.decode()}"
    sent = [headers.get("Ocp-Apim-Subscription-Key", ""), *headers.get("Authorization", "").split()]
    parts = [part for text in sent for part in text.split(".") if len(part) > len("Bearer")]
    for secret in (KEY, STORAGE_KEY, sandbox.client_secret, *parts):
        assert secret not in told
    assert "\nforged log line" not in told


def test_storage_is_reached_when_the_request_is_honest(guarded: FunctionsWorker, sandbox: Sandbox) -> None:
    sandbox.forget_requests()
    answer = guarded.http(PATH, honest_headers(sandbox))
    assert answer.status == 500
    assert sandbox.requests_to("^/attacked")


@pytest.mark.parametrize("run_key", INJECTED_RUN_KEYS)
def test_no_run_is_found_when_its_key_is_an_injection(
    run_key: str, synced: FunctionsWorker, sandbox: Sandbox
) -> None:
    sandbox.forget_requests()
    answer = synced.http(f"{PATH}?courserunKey={quote(run_key, safe='')}", honest_headers(sandbox))
    assert answer.status == 404
    assert answer.json() == "The course run is not found"
    assert {request.path for request in sandbox.requests} <= {"/jwks"}
