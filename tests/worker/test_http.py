"""The HTTP functions on the worker: wrong settings and many callers; the contract is in tests/contract."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from shared.version import __version__
from tests.attacks import PATH, honest_headers
from tests.contract.example import COURSE
from tests.worker.harness import Answer, FunctionsWorker, StartWorker


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Catalog(7, "Ours", [COURSE])]) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def healthy(sandbox: Sandbox) -> Iterator[None]:
    sandbox.forget_requests()
    yield
    sandbox.latency_s = 0


def get(worker: FunctionsWorker, sandbox: Sandbox, query: str = "", **headers: str) -> Answer:
    """Send a GET as an administrator; an underscore in a header's name stands for a hyphen."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return worker.http(f"{PATH}?{query}", {**honest_headers(sandbox), **more})


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
