"""No attack gets more than its status, reaches edX or storage, or puts a secret into a log."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from local.sandbox import Sandbox
from tests.attacks import (
    ATTACKS,
    INJECTED_RUN_KEYS,
    PATH,
    PATHS,
    Attack,
    guarded_settings,
    honest_headers,
    secrets,
)
from tests.worker.harness import FunctionsWorker, StartWorker


@pytest.fixture(scope="module")
def guarded(sandbox: Sandbox, start_worker: StartWorker) -> Iterator[FunctionsWorker]:
    with start_worker(**guarded_settings(sandbox)) as worker:
        yield worker


@pytest.fixture(scope="module")
def synced(start_worker: StartWorker) -> Iterator[FunctionsWorker]:
    with start_worker() as worker:
        worker.timer("sync_course_runs")
        yield worker


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_edx_and_storage_are_not_reached_and_no_secret_is_shown_when_attacked(
    attack: Attack, path: str, guarded: FunctionsWorker, sandbox: Sandbox
) -> None:
    sandbox.forget_requests()
    headers = attack.sent_headers(sandbox)

    answer = guarded.http(attack.target(path), headers, method=attack.method)

    assert answer.status == attack.status
    assert {request.path for request in sandbox.requests} <= {"/jwks"}
    if attack.method == "GET":
        assert isinstance(answer.json(), str)
    told = f"{guarded.log}{answer.headers}{answer.body.decode()}"
    for secret in secrets(sandbox, headers):
        assert secret not in told
    assert "\nforged log line" not in told


def test_storage_is_reached_when_the_request_is_valid(guarded: FunctionsWorker, sandbox: Sandbox) -> None:
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
    assert answer.json() == "the course run is not found"
    assert {request.path for request in sandbox.requests} <= {"/jwks"}
