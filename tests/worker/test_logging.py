"""Every log line belongs to a running invocation, by the rules of every kind of worker."""

from collections.abc import Iterator
from time import monotonic, sleep

import pytest

from local.sandbox import Sandbox
from local.sandbox.faults import answer
from tests.attacks import PATH, honest_headers
from tests.worker.harness import FunctionsWorker, InvocationFailed, Record, StartWorker

KINDS = ("task", "thread", "latest")


@pytest.fixture(autouse=True)
def healthy(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.rules.clear()
    sandbox.latency_s = 0


def events(worker: FunctionsWorker, name: str) -> list[Record]:
    return [record for record in worker.records if record.event.get("event") == name]


def assert_all_arrive(worker: FunctionsWorker) -> None:
    lost = [(record.message, kind) for record in worker.records for kind in KINDS if not record.arrives[kind]]
    assert lost == []


@pytest.mark.parametrize("kind", KINDS)
def test_lines_of_a_sync_belong_to_the_request_that_waits_for_it(
    kind: str, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with start_worker() as worker:
        answered = worker.http(PATH, honest_headers(sandbox))
        syncs = events(worker, "sync")
        assert_all_arrive(worker)
    assert answered.status == 200
    assert sorted(record.event["catalog"] for record in syncs) == [1, 2]
    assert {record.invocations[kind] for record in syncs} == {answered.invocation_id}
    assert {record.level for record in syncs} == {"INFO"}


def test_log_lines_of_a_sync_are_logged_when_it_fails(start_worker: StartWorker, sandbox: Sandbox) -> None:
    sandbox.on("/courses/", answer(400))
    with start_worker() as worker:
        failed = worker.http(PATH, honest_headers(sandbox))
        syncs = events(worker, "sync")
        assert_all_arrive(worker)
    assert failed.status == 500
    assert [(record.level, record.event["outcome"]) for record in syncs] == [("ERROR", "failed")] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_log_lines_belong_to_the_next_invocation_when_a_sync_outlives_its_callers(
    kind: str, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    sandbox.latency_s = 1
    with start_worker(SYNC_TIME_BUDGET_SECONDS="1", EDX_CATALOG_IDS="1") as worker:
        left = worker.http(PATH, honest_headers(sandbox))
        before = events(worker, "sync")
        deadline_s = monotonic() + 30
        while worker.http(PATH, {**honest_headers(sandbox), "Cache-Control": "only-if-cached"}).status != 200:
            assert monotonic() < deadline_s
            sleep(0.2)
        sleep(1)  # a sync writes its report last, after it has published
        next_one = worker.http("/health")
        syncs = events(worker, "sync")
        assert_all_arrive(worker)
    assert left.status == 500
    assert "continues; ask again later" in left.json()
    assert before == []
    assert len(syncs) == 1
    assert syncs[0].arrives[kind]
    assert syncs[0].invocations[kind] != left.invocation_id
    assert next_one.status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_timer_logs_its_syncs_and_one_line_per_invocation(
    kind: str, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    del sandbox
    with start_worker() as worker:
        worker.timer("sync_course_runs")
        syncs, runs = events(worker, "sync"), events(worker, "catalogs")
        assert_all_arrive(worker)
    assert [record.event["catalog"] for record in syncs] == [1, 2]
    (run,) = runs
    assert [(each["catalog"], each["failures"], each["left_list"]) for each in run.event["catalogs"]] == [
        (1, 0, False), (2, 0, False),
    ]  # fmt: skip
    assert len({record.invocations[kind] for record in [*syncs, run]}) == 1


def test_timer_logs_its_line_when_it_fails(start_worker: StartWorker, sandbox: Sandbox) -> None:
    sandbox.on("/1/courses/", answer(400))
    with start_worker() as worker:
        with pytest.raises(InvocationFailed, match="Catalog 1 could not be synced"):
            worker.timer("sync_course_runs")
        (run,) = events(worker, "catalogs")
        assert_all_arrive(worker)
    assert [(each["catalog"], each["failures"]) for each in run.event["catalogs"]] == [(1, 1), (2, 0)]
    assert run.event["catalogs"][0]["succeeded"] is None
    assert run.event["catalogs"][1]["succeeded"] is not None


def test_log_line_is_written_when_the_jwks_cannot_be_fetched(
    start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with start_worker(ADMIN_JWKS_URL="http://127.0.0.1:9/jwks?secret=x") as worker:
        assert worker.http(PATH, honest_headers(sandbox)).status == 500
        (line,) = events(worker, "jwks")
        assert_all_arrive(worker)
        assert "secret=x" not in worker.log
    assert line.level == "WARNING"
    assert line.event["error"] == "The JWKS at 127.0.0.1:9 cannot be reached: connection refused"
