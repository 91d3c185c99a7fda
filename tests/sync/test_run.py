"""The report and the result of one sync, from its identity, its progress and its failure; no I/O."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.attempts import Attempts, FinishedSync
from shared.domain.comparison import Comparison
from shared.domain.course_run import MappedRun, Rejection, course_run_id, stored_json
from shared.domain.published import WITHDRAWN, digest
from shared.domain.sync_report import SyncReport
from shared.errors import ConnectorError, EdxThrottled, EdxUnavailable, Failure
from shared.sync.run import Origin, Progress, StillThrottled, SyncInProgress, stopped_sync_report
from tests.mapped_runs import make_mapped

STARTED = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDED = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
RETRY_AT = datetime(2026, 3, 1, 13, tzinfo=UTC)
MOMENT = "2026-03-01T12:00:00Z"
AWAY = EdxUnavailable("edX is away", RETRY_AT)
THROTTLED = EdxThrottled("edX's rate limit is used up", RETRY_AT)


def begun(trigger: str = "timer", **fields: Any) -> SyncInProgress:
    return SyncInProgress(7, Origin(trigger, "0a1b"), STARTED, "sync-1", **fields)


def digest_of(mapped: MappedRun) -> bytes:
    return digest(mapped, stored_json(mapped.run))


def compared(*records: MappedRun | Rejection, known: dict[str, bytes] | None = None) -> Comparison:
    comparison = Comparison(known or {}, MOMENT)
    comparison.begin_pull()
    for record in records:
        comparison.compare(record)
    return comparison


def test_report_has_only_the_identity_and_the_error_when_the_sync_fails_before_its_progress() -> None:
    assert begun().report(ENDED, AWAY) == SyncReport(
        sync_id="sync-1", catalog_id=7, trigger="timer", invocation_id="0a1b", started=STARTED, ended=ENDED,
        outcome="failed", error="edX is away",
    )  # fmt: skip


def test_report_counts_what_the_sync_found() -> None:
    same, changed, created, restored = (make_mapped(key) for key in ("a/1/1", "b/1/1", "c/1/1", "d/1/1"))
    other = make_mapped("e/1/1")
    comparison = compared(
        same,
        changed,
        created,
        other,
        restored,
        Rejection("f/1/1", "start", "no date"),
        known={
            course_run_id("a/1/1"): digest_of(same),
            course_run_id("b/1/1"): b"before",
            course_run_id("d/1/1"): WITHDRAWN,
            course_run_id("e/1/1"): digest_of(other),
        },
    )
    progress = Progress(comparison, courses=6, withdrawn=2, unpublished=3, ended_early=4)
    run = begun(waited_s=1.5, edx_requests=9, warnings=["careful"], progress=progress)
    assert run.report(ENDED, None) == SyncReport(
        sync_id="sync-1", catalog_id=7, trigger="timer", invocation_id="0a1b", started=STARTED, ended=ENDED,
        outcome="ok", courses=6, runs=5, created=1, changed=1, restored=1, unchanged=2, withdrawn=2,
        unpublished=3, ended_early=4, rejected=1, rejections=(Rejection("f/1/1", "start", "no date"),),
        warnings=("careful",), waited_s=1.5, edx_requests=9,
    )  # fmt: skip


def test_report_names_the_first_50_rejections_and_counts_all() -> None:
    rejections = [Rejection(f"NUSx/{number}/1", "start", "no date") for number in range(51)]
    report = begun(progress=Progress(compared(*rejections))).report(ENDED, None)
    assert (report.rejected, report.rejections) == (51, tuple(rejections[:50]))


def test_report_names_the_20_most_common_unknown_tracks() -> None:
    tracks = ["rare", *(f"track {number}" for number in range(20) for _ in range(2))]
    runs = [
        make_mapped(f"NUSx/{number}/1")._replace(unknown_track=track) for number, track in enumerate(tracks)
    ]
    report = begun(progress=Progress(compared(*runs))).report(ENDED, None)
    assert report.unknown_tracks == {f"track {number}": 2 for number in range(20)}


@pytest.mark.parametrize(
    ("incomplete", "failure", "outcome"),
    [
        (None, None, "ok"),
        ("edX sent no count", None, "incomplete"),
        (None, AWAY, "failed"),
        ("edX sent no count", AWAY, "failed"),
    ],
)
def test_outcome_is_the_worst_of_the_sync(
    incomplete: str | None, failure: ConnectorError | None, outcome: str
) -> None:
    report = begun(progress=Progress(compared(), incomplete=incomplete)).report(ENDED, failure)
    assert (report.outcome, report.incomplete) == (outcome, incomplete)
    assert (report.courses, report.withdrawn, report.unpublished, report.ended_early) == (0, 0, 0, 0)
    assert report.error == ("edX is away" if failure else None)


@pytest.mark.parametrize(("failure", "until"), [(None, None), (AWAY, None), (THROTTLED, RETRY_AT)])
def test_report_has_the_end_of_the_rate_limit_only_when_edx_throttled_the_sync(
    failure: ConnectorError | None, until: datetime | None
) -> None:
    assert begun().report(ENDED, failure).throttled_until == until


def test_result_has_the_failure_and_the_attempts_when_the_sync_fails() -> None:
    attempts = Attempts(attempted_at=STARTED, failures=1)
    failure = Failure("EdxUnavailable", "edX is away", RETRY_AT)
    assert begun().finished(attempts, ENDED, AWAY) == FinishedSync(
        "sync-1", failure, Attempts(attempted_at=STARTED, failures=2, failed_at=ENDED, failure=failure)
    )


def test_result_has_no_failure_when_the_sync_succeeds() -> None:
    assert begun().finished(Attempts(attempted_at=STARTED, failures=1), ENDED) == FinishedSync(
        "sync-1", None, Attempts(attempted_at=STARTED, succeeded_at=ENDED)
    )


@pytest.mark.parametrize(
    ("error", "trigger", "is_anothers", "is_reported"),
    [
        (AWAY, "http", False, True),
        (AWAY, "http", True, False),
        (THROTTLED, "http", False, True),
        (StillThrottled("edX's rate limit is used up", RETRY_AT), "http", False, False),
        (StillThrottled("edX's rate limit is used up", RETRY_AT), "timer", False, True),
        (StillThrottled("edX's rate limit is used up", RETRY_AT), "timer", True, False),
    ],
)
def test_failure_has_no_report_when_it_is_another_syncs_or_a_request_meets_a_known_rate_limit(
    error: ConnectorError, trigger: str, *, is_anothers: bool, is_reported: bool
) -> None:
    assert begun(trigger, is_anothers=is_anothers).needs_report(error) is is_reported


def test_progress_is_an_error_before_the_sync_has_begun() -> None:
    with pytest.raises(RuntimeError, match=r"^the sync has not begun$"):
        _ = begun().begun_progress


@pytest.mark.parametrize(
    ("holder", "named", "attempted_at", "started"),
    [("host/7", "host/7", STARTED, STARTED), ("", "unknown process", None, ENDED)],
)
def test_report_of_a_sync_whose_process_stopped_names_the_process(
    holder: str, named: str, attempted_at: datetime | None, started: datetime
) -> None:
    assert stopped_sync_report("dead", 7, holder, attempted_at, ENDED) == SyncReport(
        sync_id="dead", catalog_id=7, trigger="unknown", invocation_id="", started=started, ended=ENDED,
        outcome="failed", error=f"The process that ran this sync stopped before the sync ended ({named})",
    )  # fmt: skip
