"""The timer function on the worker: its syncs, and the failed invocation after a failed sync."""

from collections.abc import Iterator

import pytest

from local.sandbox import Sandbox
from tests.attacks import PATH, honest_headers
from tests.worker.harness import FunctionsWorker, InvocationFailed, StartWorker

ONLY_STORED = {"Cache-Control": "only-if-cached"}


@pytest.fixture
def worker(start_worker: StartWorker) -> Iterator[FunctionsWorker]:
    with start_worker() as worker:
        yield worker


def test_catalogue_is_stored_when_the_timer_fires(worker: FunctionsWorker, sandbox: Sandbox) -> None:
    worker.timer("sync_course_runs")
    stored = worker.http(PATH, {**honest_headers(sandbox), **ONLY_STORED})
    assert stored.status == 200
    assert len(stored.json()) > 100


def test_timer_syncs_and_logs_a_warning_when_it_is_past_due(
    worker: FunctionsWorker, sandbox: Sandbox
) -> None:
    worker.timer("sync_course_runs")
    sandbox.forget_requests()
    worker.timer("sync_course_runs", past_due=True)
    assert sandbox.requests_to("/catalogs/1/courses/")
    assert "past due" in worker.log


def test_invocation_fails_without_a_secret_in_the_log_when_edx_refuses_us(
    worker: FunctionsWorker, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = sandbox.client_secret
    monkeypatch.setattr(sandbox, "client_secret", "rotated")
    with pytest.raises(InvocationFailed, match="edX") as failure:
        worker.timer("sync_course_runs")
    assert secret not in f"{failure.value}{worker.log}"


def test_invocation_fails_and_names_the_setting_when_one_is_missing(start_worker: StartWorker) -> None:
    with (
        start_worker(EDX_CLIENT_SECRET="") as worker,
        pytest.raises(InvocationFailed, match="EDX_CLIENT_SECRET"),
    ):
        worker.timer("sync_course_runs")
